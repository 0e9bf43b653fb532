//! Training: runs, the loop, tasks and optimizers.
//!
//! - [`run`]: one run from start to end; [`ablation`]: a grid of runs.
//! - [`engine`]: the loop for every task; [`detection`], [`classification`]: the tasks.
//! - [`optimizer`], [`schedule`], [`ema`]: updates of the parameters.
//! - [`memory`]: the memory estimate of a training step; [`fit`]: the recipe for own images, fitted to them.
//! - [`run_dir`]: the directory of a run; [`events`]: its logs; [`observer`]: notices;
//!   [`progress`]: reports on steps and epochs; [`summary`]: the facts of a run at its start.

pub mod ablation;
mod batches;
pub mod classification;
pub mod detection;
pub mod ema;
pub mod engine;
pub mod events;
pub mod fit;
pub mod memory;
pub mod observer;
pub mod optimizer;
pub mod progress;
mod run;
pub mod run_dir;
mod run_log;
pub mod schedule;
pub mod summary;

pub use run::{
    RecipeOptions, RunError, RunResult, Start, TrainReport, TrainRequest, run, training_loader,
};
