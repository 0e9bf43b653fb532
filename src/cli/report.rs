//! Messages that several subcommands share.

use std::path::Path;

use super::console::problem;
use super::terminal::{fitted, width};
use sedet_core::report::Evaluation;
use sedet_data::text::count;

/// The number of skipped images that are listed on the console; a file lists all of them.
const SKIPPED_SHOWN: usize = 10;

/// Lists the images that were skipped because they can't be read. `all_in` is a file that has the
/// whole list.
pub(super) fn report_skipped(what: &str, reasons: &[String], all_in: Option<&Path>) {
    if reasons.is_empty() {
        return;
    }
    problem!("{what}: {}", count(reasons.len(), "unreadable image"));
    for reason in reasons.iter().take(SKIPPED_SHOWN) {
        problem!("  {reason}");
    }
    match (reasons.len().saturating_sub(SKIPPED_SHOWN), all_in) {
        (0, _) => {}
        (_, Some(path)) => problem!("  ... (all are listed in {})", path.display()),
        (more, None) => problem!("  ... and {more} more"),
    }
}

/// Formats the metrics of an evaluation as tables that fit the terminal.
pub(super) fn metrics_text(evaluation: &Evaluation) -> String {
    match evaluation {
        Evaluation::Detection(found) => {
            let (rows, sides) = found.class_cells();
            format!(
                "{}{}",
                found.summary_table(),
                fitted(&rows, &sides, width())
            )
        }
        Evaluation::Classification(_) => evaluation.to_text(),
    }
}
