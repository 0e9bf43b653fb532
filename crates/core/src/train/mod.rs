//! The training loop and what it keeps.
//!
//! - [`engine`]: one loop for every task. - [`detection`], [`classification`]: what is trained.
//! - [`optimizer`], [`schedule`], [`ema`]: how weights move.
//! - [`memory`]: whether a step fits into memory.
//! - [`run_dir`]: the directory of a run. - [`events`]: its logs. - [`progress`]: what a person sees.

pub mod ablation;
pub mod classification;
pub mod detection;
pub mod ema;
pub mod engine;
pub mod events;
mod exact;
pub mod memory;
pub mod optimizer;
pub mod progress;
pub mod run_dir;
pub mod schedule;
