//! Time and memory of a repeated step, as JSON.

use anyhow::Context as _;
use sedet::bench::{Repeats, Timed, Times};
use sedet::memory::peak_resident;
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// Repeats a step, which receives its number, and returns its times and the peaks of memory while loading
/// and during the step.
pub fn timed(
    arguments: &Arguments,
    step: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    let repeats = Repeats {
        warmup: arguments.warmup,
        timed: Timed::Exactly(arguments.iterations),
    };
    let times = Times::of(repeats, step)?;
    let during = times.peak_during.context("the peak of memory")?;
    Ok(json!({
        "median_ms": times.median().as_secs_f64() * 1e3,
        "min_ms": times.least().as_secs_f64() * 1e3,
        "step_rss_mb": mebibytes(during),
        "peak_rss_mb": mebibytes(during.max(times.peak_before.unwrap_or(0))),
    }))
}

/// Returns the largest memory of the process in MiB.
pub fn peak_rss_mb() -> anyhow::Result<f64> {
    Ok(mebibytes(peak_resident().context("the peak of memory")?))
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Returns the median of sorted values, as Python's `statistics.median`.
pub fn median(sorted: &[f64]) -> f64 {
    let upper = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[upper],
        _ => (sorted[upper - 1] + sorted[upper]) / 2.0,
    }
}
