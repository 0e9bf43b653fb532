//! What to do about an error, in terms of the command line.
//!
//! The library's errors name no option and no subcommand, because the viewer and other programs show
//! them too. [`hint_for`] finds the error's type in its chain of causes and returns what the command
//! line can advise; [`main`](super::main) prints it on a line of its own after the error.
//!
//! To add a hint for an error of the library, write a function from that error type to
//! `Option<String>` and add it to [`RULES`]. For an error that is created in `cli`, use [`advise`].

use std::error::Error;
use std::fmt;

use sedet_core::excitation::ExcitationError;

/// Returns the hint of the outermost error in the chain that has one.
pub(super) fn hint_for(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(hint_of)
}

/// Returns the hint of one error, without its causes.
///
/// Errors with `#[error(transparent)]` do not appear in the chain of their wrapper. A rule for such a
/// wrapper calls this function with the wrapped error.
fn hint_of(cause: &(dyn Error + 'static)) -> Option<String> {
    RULES.iter().find_map(|rule| rule(cause))
}

type Rule = fn(&(dyn Error + 'static)) -> Option<String>;

/// One rule for each error type that has a hint.
const RULES: &[Rule] = &[
    |cause| cause.downcast_ref().and_then(advised),
    |cause| cause.downcast_ref().and_then(excitation),
];

fn advised(error: &Advised) -> Option<String> {
    Some(error.hint.clone())
}

fn excitation(error: &ExcitationError) -> Option<String> {
    (*error == ExcitationError::NoBlocks).then(|| {
        "take a network with SE blocks: in the list of `sedet models` their names start with se"
            .to_owned()
    })
}

/// Attaches a hint to an error that is created in `cli`.
pub(super) fn advise(error: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised {
        message: error.to_string(),
        hint: hint.into(),
    })
}

/// An error of the command line with its hint.
#[derive(Debug)]
struct Advised {
    message: String,
    hint: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Advised {}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_hint_is_found_below_any_context() {
        let error = Err::<(), _>(advise("out: not empty", "choose another --output"));
        let error = error.context("converting").context("a.json").unwrap_err();
        assert_eq!(hint_for(&error).as_deref(), Some("choose another --output"));
    }

    #[test]
    fn an_error_without_a_rule_has_no_hint() {
        assert_eq!(hint_for(&anyhow::anyhow!("disk on fire")), None);
    }
}
