//! Measuring: COCO metrics of a detector, and sentences that explain an AP of zero; accuracy of a
//! classifier.
//!
//! - [`ground_truth`]: the annotations to measure against, from a COCO file or built in memory.
//! - [`results`]: detections as COCO results rows; reading and writing them.
//! - [`coco`]: the twelve COCO numbers, the class table and the precision-recall curves.
//! - [`table`]: the same numbers for people and for machines.
//! - [`classification`]: accuracy, confusion and calibration of a classifier.
//! - [`confusion`]: what a detector confuses with what, and every box with its verdict.
//! - [`matching`]: what became of each box of one image, and how wrong boxes are wrong.
//! - [`mod@diagnose`]: why AP is zero, with the numbers that show it.

pub mod classification;
pub mod coco;
pub mod confusion;
pub mod diagnose;
mod error;
pub mod ground_truth;
mod image_ids;
mod json;
pub mod matching;
pub mod results;
pub mod table;

pub use coco::{ClassMetrics, CocoEvaluation, CocoMetrics, PrecisionRecall, evaluate};
pub use diagnose::{Cause, Diagnostic, diagnose};
pub use error::EvalError;
pub use ground_truth::{GroundTruth, GtAnnotation, GtCategory, GtImage};
pub use matching::{
    ErrorType, FoundBox, ImageMatches, MatchCounts, TruthBox, Verdict, match_image,
};
pub use results::{NamedResultRow, ResultRow, read_results, write_results};
