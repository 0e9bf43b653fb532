//! What can go wrong when a detector is measured, one line each.

use std::path::PathBuf;

/// A mistake in the files or rows given to the evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The file is not what it should be; the reason names the place in it.
    #[error("{} is not {expected}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should have been, with the article: "a COCO results file".
        expected: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// The ground truth contradicts itself or holds nothing to measure against.
    #[error("the ground truth cannot be used: {0}")]
    GroundTruth(String),
    /// One result row cannot be evaluated.
    #[error("result row {row} (the first is 0) has {reason}")]
    Row {
        /// Position in the list, from zero.
        row: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Result rows name images that the ground truth does not have. pycocotools stops here too:
    /// such results belong to another dataset or split.
    #[error(
        "{rows} of {total} result rows name images that the ground truth does not have \
         (first: row {first_row} with image_id {first_id}); {hint}"
    )]
    UnknownImages {
        /// Rows with an unknown image.
        rows: usize,
        /// All rows.
        total: usize,
        /// Position of the first such row, from zero.
        first_row: usize,
        /// Its image id.
        first_id: u64,
        /// What the two id sets look like and what to do.
        hint: String,
    },
    /// The evaluation engine refused the input although it passed our own checks.
    #[error("the evaluation engine refused the input: {0}")]
    Engine(String),
}
