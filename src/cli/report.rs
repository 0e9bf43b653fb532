//! Messages that several subcommands share.

use std::ops::ControlFlow;
use std::path::Path;

use indicatif::ProgressBar;

use super::{status, stop_on_ctrl_c};
use sedet_core::train::engine::goes_on;
use sedet_data::text::count;

/// The number of skipped images that are listed on the console; a file lists all of them.
const SKIPPED_SHOWN: usize = 10;

/// Lists the images that were skipped because they can't be read. `all_in` is a file that has the
/// whole list.
pub(super) fn report_skipped(what: &str, reasons: &[String], all_in: Option<&Path>) {
    if reasons.is_empty() {
        return;
    }
    status!("{what}: {}", count(reasons.len(), "unreadable image"));
    for reason in reasons.iter().take(SKIPPED_SHOWN) {
        status!("  {reason}");
    }
    match (reasons.len().saturating_sub(SKIPPED_SHOWN), all_in) {
        (0, _) => {}
        (_, Some(path)) => status!("  ... (all are listed in {})", path.display()),
        (more, None) => status!("  ... and {more} more"),
    }
}

/// Runs work with a progress bar. The work gets a callback that takes the numbers of finished and of
/// all images, and ends the work after Ctrl-C.
pub(super) fn with_bar<T>(
    work: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> T,
) -> anyhow::Result<T> {
    let stop = stop_on_ctrl_c()?;
    let bar = ProgressBar::no_length();
    let result = work(&mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        goes_on(&stop)
    });
    bar.finish_and_clear();
    Ok(result)
}
