//! Errors of the evaluation.

use std::path::PathBuf;

use crate::DataError;

/// A usual problem of a results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultsProblem {
    /// The rows are on lines of their own, not in a list.
    Lines,
    /// Ids are strings.
    StringIds,
}

/// An error in the files or rows given to the evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The annotation file can't be read, or has an entry that the metrics can't use.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The lists of an annotation file can't be used.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The annotation file.
        path: PathBuf,
        /// The reason.
        source: Box<Self>,
    },
    /// The file can't be opened or read.
    #[error("{}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        reason: std::io::Error,
    },
    /// The file can't be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        reason: std::io::Error,
    },
    /// The file does not have the expected content.
    #[error("{} is not {expected}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The expected content, with the article: "a COCO results file".
        expected: &'static str,
        /// The problem and its position in the file.
        reason: String,
        /// The problem, if it is a usual one.
        problem: Option<ResultsProblem>,
    },
    /// The ground truth contradicts itself or contains nothing to evaluate against.
    #[error("the ground truth cannot be used: {0}")]
    GroundTruth(String),
    /// A result row can't be evaluated.
    #[error("result row {row} (the first is 0) has {reason}")]
    Row {
        /// Position in the list, from zero.
        row: usize,
        /// The problem.
        reason: String,
    },
    /// Result rows refer to images that the ground truth does not have. This is an error in
    /// pycocotools, too: such results belong to another dataset or split.
    #[error(
        "{rows} of {total} result rows refer to images that the ground truth does not have \
         (first: row {first_row} with image_id {first_id}); {comparison}"
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
        /// How the two sets of ids differ and what that indicates.
        comparison: String,
    },
    /// The evaluation engine refused the input although it passed the validation of this crate.
    #[error("the evaluation engine refused the input: {0}")]
    Engine(String),
}
