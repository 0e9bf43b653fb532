//! The `sedet` command: a thin layer over the library.

// See `cli::console` for why.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

mod cli;

use std::process::ExitCode;

use sedet::memory::KeepLarge;

#[global_allocator]
static ALLOCATOR: KeepLarge = KeepLarge::new();

fn main() -> ExitCode {
    cli::main()
}
