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

use sedet_data::DataError;
use sedet_data::annotations::layout::LayoutError;
use sedet_data::curation::convert::ConvertError;
use sedet_data::datasets::registry::{DATA_DIR_VARIABLE, RegistryError};
use sedet_data::datasets::sources::{FetchError, data_source};

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
    |cause| cause.downcast_ref().and_then(dataset_hint),
    |cause| cause.downcast_ref().and_then(data_hint),
    |cause| cause.downcast_ref().and_then(convert_hint),
    |cause| cause.downcast_ref().and_then(fetch_hint),
];

fn advised(error: &Advised) -> Option<String> {
    Some(error.hint.clone())
}

fn dataset_hint(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::NoDataDir { name } => {
            let option = format!("give --data-dir DIR or set {DATA_DIR_VARIABLE}");
            Some(match download_hint(name) {
                Some(download) => format!("{option}; {download}"),
                None => option,
            })
        }
        RegistryError::Data { name, source } => data_hint(source).or_else(|| download_hint(name)),
        RegistryError::NoTestSplit => Some("use --split val".into()),
        _ => None,
    }
}

fn download_hint(name: &str) -> Option<String> {
    if name == "imagenet" {
        Some("`sedet data download imagenet` prints how to get it".into())
    } else if name == "blood-cells" || data_source(name).is_some() {
        Some(format!("`sedet data download {name}` downloads it"))
    } else {
        None
    }
}

fn data_hint(error: &DataError) -> Option<String> {
    match error {
        DataError::Layout(LayoutError::Ambiguous { .. }) => Some("keep one of these files".into()),
        DataError::NoValidationLabels { .. } => {
            Some("`sedet data download imagenet-val-list` downloads the labels".into())
        }
        _ => None,
    }
}

fn fetch_hint(error: &FetchError) -> Option<String> {
    match error {
        FetchError::NoSpace { parts, .. } => {
            let disk = "free some space or choose another disk with --data-dir";
            Some(if parts.len() > 1 {
                format!(
                    "{disk}, or download fewer parts with --only ({})",
                    parts.join(", ")
                )
            } else {
                disk.into()
            })
        }
        _ => None,
    }
}

fn convert_hint(error: &ConvertError) -> Option<String> {
    match error {
        ConvertError::Exists { .. } => Some("choose another --output".into()),
        ConvertError::SameName { .. } => Some("rename one of the images".into()),
        _ => None,
    }
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
    fn a_full_disk_is_answered_with_another_disk_or_fewer_parts() {
        let hint = |parts: &[&'static str]| {
            hint_for(&anyhow::Error::new(FetchError::NoSpace {
                directory: "data".into(),
                needed: 2,
                free: 1,
                parts: parts.to_vec(),
            }))
        };
        let disk = "free some space or choose another disk with --data-dir";
        assert_eq!(hint(&["val"]).as_deref(), Some(disk));
        assert_eq!(
            hint(&["train", "val"]),
            Some(format!(
                "{disk}, or download fewer parts with --only (train, val)"
            ))
        );
    }

    #[test]
    fn an_error_without_a_rule_has_no_hint() {
        assert_eq!(hint_for(&anyhow::anyhow!("disk on fire")), None);
    }
}
