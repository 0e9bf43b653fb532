//! The check of a list of datasets that are trained on together.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{CheckArgs, Checked, checked, find};
use crate::cli::hints::usage_with_hint;
use crate::cli::terminal::{hanging, width};
use crate::cli::{print_out, status};
use sedet_data::curation::check::{CheckedSplit, Severity};
use sedet_data::datasets::registry::DatasetName;
use sedet_data::text::count;

/// Checks each dataset of a list, and whether training can join them.
pub(super) fn check(
    args: &CheckArgs,
    dataset: &DatasetName,
    paths: &[PathBuf],
) -> anyhow::Result<ExitCode> {
    let for_one = [
        ("--fix", args.fix.is_some()),
        ("--image-dir", args.image_dir.is_some()),
        ("--split", args.split.is_some()),
    ];
    if let Some((option, _)) = for_one.into_iter().find(|(_, is_given)| *is_given) {
        return Err(usage_with_hint(
            format!("{option} applies to one dataset, not to a list"),
            format!("omit {option}, or check each dataset on its own"),
        ));
    }
    let mut parts = Vec::new();
    for path in paths {
        let part = CheckArgs {
            dataset: path.display().to_string(),
            ..args.clone()
        };
        let target = find(&part)?;
        parts.push((part, target));
    }
    let found = parts.iter().map(|(part, target)| checked(part, target));
    let mut all_found: Vec<Checked> = found.collect::<Result<_, _>>()?;
    let (mut reports, mut errors, mut warnings) = (Vec::new(), 0, 0);
    for (at, (part, target)) in parts.iter().enumerate() {
        let (before, rest) = all_found.split_at_mut(at);
        let Some((found, after)) = rest.split_first_mut() else {
            break;
        };
        let others = before.iter().chain(&*after);
        let others: Vec<&CheckedSplit> = others.flat_map(|other| &other.splits).collect();
        found.compare(&others);
        errors += found.diagnostics.count(Severity::Error);
        warnings += found.diagnostics.count(Severity::Warning);
        let report = found.report(part, target, None);
        if args.json {
            reports.push(report.json());
        } else {
            print_out(&format!("{}:\n{}", part.dataset, report.text()))?;
        }
    }
    // Where a part has errors, training refuses it for them.
    let together = (errors == 0).then(|| Together::of(dataset));
    let is_clean = together.as_ref().is_some_and(|found| found.error.is_none());
    if args.json {
        let report = json!({
            "dataset": args.dataset,
            "errors": errors,
            "warnings": warnings,
            "parts": reports,
            "together": together.map(Together::json),
        });
        print_out(&serde_json::to_string_pretty(&report)?)?;
    } else {
        let total = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
        let text = match &together {
            Some(together) => together.text(),
            None => format!("{total}: correct each dataset first"),
        };
        print_out(&hanging("together: ", &text, width()))?;
    }
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What training reads of a list.
struct Together {
    /// Why it cannot be trained on.
    error: Option<String>,
    /// The numbers of images of train and val.
    images: [usize; 2],
    notes: Vec<String>,
}

impl Together {
    fn of(dataset: &DatasetName) -> Self {
        status!("reading the datasets as training does");
        match dataset.open(None) {
            Err(error) => Self {
                error: Some(error.to_string()),
                images: [0; 2],
                notes: Vec::new(),
            },
            Ok((train, val)) => {
                // Those of a list name their split.
                let notes = [&train, &val].map(|opened| opened.dataset.notes());
                Self {
                    error: None,
                    images: [&train, &val].map(|opened| opened.dataset.len()),
                    notes: notes.concat(),
                }
            }
        }
    }

    fn json(self) -> Value {
        json!({
            "error": self.error,
            "train_images": self.images[0],
            "val_images": self.images[1],
            "notes": self.notes,
        })
    }

    fn text(&self) -> String {
        if let Some(error) = &self.error {
            return format!("not ready for training: {error}");
        }
        let [train, val] = self.images;
        let mut text = format!(
            "{}, {}: ready for training",
            count(train, "train image"),
            count(val, "val image")
        );
        for note in &self.notes {
            text += &format!("; {note}");
        }
        text
    }
}
