//! Messages on stderr.

use std::fmt::Arguments;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sedet_data::system_errors::plain;

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

/// Whether nothing is printed: another process prints for this one.
static IS_MUTED: AtomicBool = AtomicBool::new(false);

/// Prints nothing from now on.
#[cfg(feature = "mpi")]
pub(in crate::cli) fn mute() {
    IS_MUTED.store(true, Ordering::Relaxed);
}

/// Prints again.
#[cfg(feature = "mpi")]
pub(in crate::cli) fn unmute() {
    IS_MUTED.store(false, Ordering::Relaxed);
}

/// Prints also where nothing is printed otherwise.
pub(in crate::cli) fn even_if_muted(print: impl FnOnce()) {
    let before = IS_MUTED.swap(false, Ordering::Relaxed);
    print();
    IS_MUTED.store(before, Ordering::Relaxed);
}

fn is_muted() -> bool {
    IS_MUTED.load(Ordering::Relaxed)
}

fn console() -> (Verbosity, Instant) {
    *CONSOLE.get_or_init(|| (Verbosity::Normal, Instant::now()))
}

/// Returns whether status lines and progress are printed.
pub(in crate::cli) fn shows_status() -> bool {
    console().0 >= Verbosity::Normal && !is_muted()
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
    if verbosity < least || is_muted() {
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
