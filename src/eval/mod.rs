//! Measuring a detector: COCO metrics, and sentences that explain an AP of zero.
//!
//! - [`ground_truth`]: the annotations to measure against, from a COCO file or built in memory.
//! - [`results`]: detections as COCO results rows; reading and writing them.
//! - [`coco`]: the twelve COCO numbers, the class table and the precision-recall curves.
//! - [`table`]: the same numbers for people and for machines.
//! - [`top_k`]: accuracy of a classifier.
//! - [`mod@diagnose`]: why AP is zero, with the numbers that show it.

pub mod coco;
pub mod diagnose;
mod error;
pub mod ground_truth;
mod image_ids;
mod lenient;
pub mod results;
pub mod table;
pub mod top_k;

pub use coco::{ClassMetrics, CocoEvaluation, CocoMetrics, PrecisionRecall, evaluate};
pub use diagnose::{Cause, Finding, diagnose};
pub use error::EvalError;
pub use ground_truth::{GroundTruth, GtAnnotation, GtCategory, GtImage};
pub use results::{NamedResultRow, ResultRow, read_results, write_results};
