//! Messages on stderr.

use std::fmt::Arguments;
use std::io::Write as _;

/// Prints a line on stderr.
///
/// In contrast to [`eprintln!`] a closed stderr is ignored: `eprintln!` panics there, and a training
/// run of days would end with the terminal that it was started from.
macro_rules! status {
    ($($words:tt)*) => {
        $crate::cli::console::line(format_args!($($words)*))
    };
}
pub(in crate::cli) use status;

/// Implements [`status!`].
pub(in crate::cli) fn line(words: Arguments<'_>) {
    // In one write, so that the lines of several threads don't mix.
    let _ = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}
