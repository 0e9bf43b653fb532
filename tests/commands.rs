//! The `sedet` command as a process: output, exit codes, faults, shipped checkpoints.
//!
//! One binary for many files: linking each by itself costs more than running them.

mod common;

mod cli;
mod cli_classification;
mod faults;
mod licenses;
mod shipped;
mod soak;
