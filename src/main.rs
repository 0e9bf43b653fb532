//! The `sedet` command: a thin skin over the library.

use std::process::ExitCode;

use sedet::memory::KeepLarge;

#[global_allocator]
static ALLOCATOR: KeepLarge = KeepLarge::new();

fn main() -> ExitCode {
    sedet::cli::main()
}
