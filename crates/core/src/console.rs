//! Words for a person, on stderr.

use std::fmt::Arguments;
use std::io::Write as _;

/// Say a line on stderr, as [`eprintln!`] but for one thing: where nobody listens any more (the
/// terminal was closed, the pipe is broken) the words are lost and the work goes on. `eprintln!`
/// panics there, and a training of days would end with an ssh connection.
#[macro_export]
macro_rules! status {
    ($($words:tt)*) => {
        $crate::console::line(format_args!($($words)*))
    };
}

/// What [`status!`] does.
pub fn line(words: Arguments<'_>) {
    // In one piece, so that lines of several threads don't mix.
    let _ = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}
