//! The `sedet` command as a process: output, exit codes, faults, shipped checkpoints.
//!
//! One binary for many files, because linking each file separately takes longer than running it.

mod common;

mod cli;
mod cli_classification;
// Needs mpirun.
#[cfg(feature = "mpi")]
mod distributed;
mod eval_command;
mod faults;
mod licenses;
mod named_weights;
mod run_directories;
mod shipped;
mod soak;
