//! Evaluates a COCO results file, from any detector, against COCO annotations.
//!
//! ```console
//! $ cargo run --release --example evaluate_results -- instances_val2017.json detections.json
//! ```
//! Without arguments it uses two small files of the tests.

use std::error::Error;
use std::path::PathBuf;

use sedet::eval::diagnose;
use sedet::{GroundTruth, evaluate, read_results};

fn main() -> Result<(), Box<dyn Error>> {
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let annotations = arguments.next();
    let annotations = annotations.unwrap_or_else(|| fixtures.join("coco_eval_gt.json"));
    let results = arguments.next();
    let results = results.unwrap_or_else(|| fixtures.join("coco_eval_dt.json"));

    let ground_truth = GroundTruth::from_file(&annotations)?;
    let rows = read_results(&results)?;

    // The twelve metrics of pycocotools, and the same for each class.
    let evaluation = evaluate(&ground_truth, &rows)?;
    println!("{}", evaluation.summary_table());
    println!("{}", evaluation.class_table());

    // An AP near zero mostly has a cause such as shifted category ids or boxes as corners.
    if evaluation.is_near_zero() {
        for diagnostic in diagnose(&ground_truth, &rows) {
            println!("possible cause: {diagnostic}");
        }
    }
    Ok(())
}
