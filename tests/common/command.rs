//! Runs the `sedet` binary.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the command without the environment's data directory.
pub fn sedet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sedet"))
        .args(arguments)
        .env_remove("SEDET_DATA")
        .output()
        .unwrap()
}

/// Asserts that the command fails with code 1 and that its error and hint contain all of `parts`.
pub fn fails_with(arguments: &[&str], parts: &[&str]) {
    exits_with(1, arguments, parts);
}

/// Asserts that the command is refused as wrong usage, with code 2, and that its error and hint contain all of
/// `parts`.
pub fn is_wrong_usage(arguments: &[&str], parts: &[&str]) {
    exits_with(2, arguments, parts);
}

fn exits_with(code: i32, arguments: &[&str], parts: &[&str]) {
    let output = sedet(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let error: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error:") || line.starts_with("hint:"))
        .collect();
    let error = error.join("\n");
    assert!(error.starts_with("error:"), "{arguments:?}: {stderr}");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    for part in parts {
        assert!(
            error.contains(part),
            "{arguments:?}: no '{part}' in: {stderr}"
        );
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Returns a path as an argument.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Asserts that the command succeeds and returns what it prints on stdout and stderr.
pub fn succeeds(arguments: &[&str]) -> (String, String) {
    let output = sedet(arguments);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}
