//! Training: runs, the loop, tasks and optimizers.
//!
//! - [`run`]: one run from start to end; [`ablation`]: a grid of runs.
//! - [`engine`]: the loop for every task; [`detection`], [`classification`]: the tasks.
//! - [`optimizer`], [`schedule`], [`ema`]: updates of the parameters.
//! - [`memory`]: the memory estimate of a training step.
//! - [`run_dir`]: the directory of a run; [`events`]: its logs; [`observer`]: progress and notices.

pub mod ablation;
pub mod classification;
pub mod detection;
pub mod ema;
pub mod engine;
pub mod events;
mod exact;
pub mod memory;
pub mod observer;
pub mod optimizer;
mod run;
pub mod run_dir;
pub mod schedule;

pub use run::{
    RecipeOptions, RunError, RunResult, Start, TrainReport, TrainRequest, run, training_loader,
};
