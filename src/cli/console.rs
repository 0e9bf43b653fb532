//! Messages on stderr.

use std::fmt::Arguments;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The amount of messages, set once by `--quiet` and `--verbose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Verbosity {
    /// Errors and warnings.
    Quiet,
    /// Also status lines and progress.
    Normal,
    /// Also timings, and the time since the start before each line.
    Verbose,
}

/// The verbosity and the start of the process.
static CONSOLE: OnceLock<(Verbosity, Instant)> = OnceLock::new();

/// Sets the verbosity; only the first call has an effect.
pub(in crate::cli) fn set_verbosity(verbosity: Verbosity) {
    CONSOLE.get_or_init(|| (verbosity, Instant::now()));
}

fn console() -> (Verbosity, Instant) {
    *CONSOLE.get_or_init(|| (Verbosity::Normal, Instant::now()))
}

/// Returns whether status lines and progress are printed.
pub(in crate::cli) fn shows_status() -> bool {
    console().0 >= Verbosity::Normal
}

/// Returns the time since the start of the process.
pub(in crate::cli) fn elapsed() -> Duration {
    console().1.elapsed()
}

/// Prints a status line on stderr, unless `--quiet` is given.
///
/// In contrast to [`eprintln!`] a closed stderr is ignored: `eprintln!` panics there, and a training
/// run of days would end with the terminal that it was started from.
macro_rules! status {
    ($($words:tt)*) => {
        $crate::cli::console::line($crate::cli::console::Verbosity::Normal, format_args!($($words)*))
    };
}

/// Prints a line on stderr that `--quiet` does not suppress: an error, a warning or its hint.
macro_rules! problem {
    ($($words:tt)*) => {
        $crate::cli::console::line($crate::cli::console::Verbosity::Quiet, format_args!($($words)*))
    };
}

/// Prints a line on stderr if `--verbose` is given.
macro_rules! debug {
    ($($words:tt)*) => {
        $crate::cli::console::line($crate::cli::console::Verbosity::Verbose, format_args!($($words)*))
    };
}
pub(in crate::cli) use {debug, problem, status};

/// Prints a line if the verbosity is at least `least`. Implements [`status!`], [`problem!`] and [`debug!`].
pub(in crate::cli) fn line(least: Verbosity, words: Arguments<'_>) {
    let (verbosity, start) = console();
    if verbosity < least {
        return;
    }
    let words = plain(&words.to_string());
    let text = match verbosity {
        Verbosity::Verbose => format!("[{:8.3} s] {words}\n", start.elapsed().as_secs_f64()),
        Verbosity::Quiet | Verbosity::Normal => format!("{words}\n"),
    };
    // In one write, so that the lines of several threads don't mix.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Wordings of Linux, and plainer ones.
const PLAIN: [(&str, &str); 20] = [
    ("No such file or directory (os error 2)", "file not found"),
    ("cannot be read: file not found", "file not found"),
    (
        "not written: file not found",
        "not written: its directory does not exist",
    ),
    (
        "cannot create the directory: file not found",
        "cannot create the directory: a part of its path does not exist",
    ),
    (
        "Input/output error (os error 5)",
        "the disk reports an error",
    ),
    ("Cannot allocate memory (os error 12)", "not enough memory"),
    ("Permission denied (os error 13)", "permission denied"),
    ("Operation not permitted (os error 1)", "permission denied"),
    ("File exists (os error 17)", "it exists already"),
    (
        "Not a directory (os error 20)",
        "a part of the path is a file",
    ),
    ("Is a directory (os error 21)", "is a directory"),
    ("cannot be read: is a directory", "is a directory"),
    (
        "Too many open files (os error 24)",
        "too many open files (see `ulimit -n`)",
    ),
    (
        "File too large (os error 27)",
        "too large for the file system",
    ),
    (
        "No space left on device (os error 28)",
        "no space is left on the disk",
    ),
    (
        "Read-only file system (os error 30)",
        "the file system is read-only",
    ),
    ("File name too long (os error 36)", "the name is too long"),
    (
        "Too many levels of symbolic links (os error 40)",
        "symbolic links that lead in a circle",
    ),
    (
        "Stale file handle (os error 116)",
        "the network file system no longer has the file",
    ),
    (
        "Disk quota exceeded (os error 122)",
        "the disk quota is exceeded",
    ),
];

/// Replaces the operating system's wording of common causes, and removes its error numbers from others.
pub(in crate::cli) fn plain(message: &str) -> String {
    const NUMBER: &str = " (os error ";
    let mut plain = message.to_owned();
    for (wording, plainer) in PLAIN {
        if plain.contains(wording) {
            plain = plain.replace(wording, plainer);
        }
    }
    while let Some(start) = plain.find(NUMBER) {
        let digits = plain[start + NUMBER.len()..].find(')');
        let Some(digits) = digits else {
            break;
        };
        plain.replace_range(start..start + NUMBER.len() + digits + 1, "");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_the_operating_system_are_in_plain_words() {
        let missing = std::fs::read("no/such/file").unwrap_err();
        for (message, expected) in [
            (
                format!("a.pth: cannot be read: {missing}"),
                "a.pth: file not found",
            ),
            (
                format!("b/c.st: checkpoint not written: {missing}"),
                "b/c.st: checkpoint not written: its directory does not exist",
            ),
        ] {
            assert_eq!(plain(&message), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_message_has_an_error_number() {
        for number in 1..=133 {
            let error = std::io::Error::from_raw_os_error(number);
            let found = plain(&format!("a.json: {error}; and {error}"));
            assert!(!found.contains("os error"), "{found}");
            assert!(found.starts_with("a.json: "), "{found}");
        }
        let full = std::io::Error::from_raw_os_error(28);
        assert_eq!(
            plain(&format!("a.json: not written: {full}")),
            "a.json: not written: no space is left on the disk"
        );
    }
}
