//! The `sedet` command: a thin skin over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sedet::cli::main()
}
