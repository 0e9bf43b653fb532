//! Messages that several subcommands share.

use std::ops::ControlFlow;
use std::path::Path;

use indicatif::ProgressBar;

use super::status;
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

/// Runs work over `images` images with a progress bar. The work gets a callback that takes the number
/// of finished images.
pub(super) fn with_bar<T>(
    images: usize,
    work: impl FnOnce(&mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> T,
) -> T {
    let bar = ProgressBar::new(images as u64);
    let result = work(&mut |done, _| {
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    result
}
