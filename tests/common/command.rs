//! Running the command.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the command, without a data directory from the surroundings.
pub fn sedet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(arguments)
        .env_remove("SEDET_DATA")
        .output()
        .unwrap()
}

/// Fails with code 1 and one line that has all of `parts`.
pub fn fails_with(arguments: &[&str], parts: &[&str]) {
    let output = sedet(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error = stderr
        .lines()
        .find(|l| l.starts_with("error:"))
        .unwrap_or("");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    for part in parts {
        assert!(
            error.contains(part),
            "{arguments:?}: no '{part}' in: {stderr}"
        );
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// A path as an argument.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
