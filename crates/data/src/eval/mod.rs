//! Evaluation: COCO metrics of a detector, explanations of an AP of zero, and accuracy of a
//! classifier.
//!
//! - [`ground_truth`]: the annotations to evaluate against, from a COCO file or a dataset.
//! - [`results`]: COCO results files.
//! - [`coco`]: the twelve COCO metrics, the class table and the precision-recall curves.
//! - [`table`]: the metrics as tables and JSON.
//! - [`bootstrap`]: intervals of metrics, and of the differences between two detectors.
//! - [`classification`]: accuracy, confusion matrix and calibration of a classifier.
//! - [`confusion`]: the confusion matrix of a detector, and the outcome of every box.
//! - [`matching`]: matching of detections and objects of one image, with error types.
//! - [`mod@diagnose`]: causes of an AP near zero, with the numbers that support them.

pub mod bootstrap;
pub mod classification;
pub mod coco;
pub mod confusion;
pub mod diagnose;
mod error;
pub mod ground_truth;
mod image_ids;
pub mod matching;
pub mod results;
pub mod table;

pub use bootstrap::{Bootstrap, BootstrapConfig};
pub use coco::{ClassMetrics, CocoEvaluation, CocoMetrics, PrecisionRecall, evaluate};
pub use diagnose::{Cause, Diagnosis, crossed_sizes, diagnose};
pub use error::{EvalError, ResultsProblem};
pub use ground_truth::{GroundTruth, GtAnnotation, GtCategory, GtImage};
pub use matching::{
    ErrorType, FoundBox, ImageMatches, MatchCounts, TruthBox, Verdict, match_image,
};
pub use results::{NamedResultRow, ResultRow, read_results, repeated_rows, write_results};
