//! The twelve COCO metrics from two files.

use std::time::Instant;

use sedet::eval::{GroundTruth, evaluate, read_results};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::measure::{median, timed};

/// Reads both files and evaluates them, as `sedet eval --results F --annotations F` does.
pub fn evaluations(arguments: &Arguments) -> anyhow::Result<Value> {
    let (annotations, results) = (arguments.annotations()?, arguments.results()?);
    let mut numbers = Vec::new();
    let mut reading = Vec::new();
    let mut found = timed(arguments, |index| {
        let start = Instant::now();
        let truth = GroundTruth::from_file(annotations)?;
        let rows = read_results(results)?;
        if index >= arguments.warmup {
            reading.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let named = evaluate(&truth, &rows)?.metrics.named();
        numbers = named.map(|(_, value)| value).to_vec();
        Ok(())
    })?;
    reading.sort_by(f64::total_cmp);
    found["reading_ms"] = json!(median(&reading));
    found["numbers"] = json!(numbers);
    Ok(found)
}
