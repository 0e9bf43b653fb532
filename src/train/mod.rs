//! The training loop and what it keeps.
//!
//! - [`engine`]: one loop for every task. - [`optimizer`], [`schedule`], [`ema`]: how weights move.
//! - [`parameters`]: a module as named tensors. - [`checkpoint`]: those in a file.
//! - [`run_dir`]: the folder of a run. - [`events`]: its logs. - [`progress`]: what a person sees.
//! - [`detection`]: the task of training a detector.

pub mod checkpoint;
pub mod ema;
pub mod engine;
pub mod events;
pub mod optimizer;
pub mod parameters;
pub mod progress;
pub mod run_dir;
pub mod schedule;
