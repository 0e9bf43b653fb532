//! Time and memory of a repeated step.

use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::arguments::Arguments;

/// Repeats a step, which receives its number, and returns its times and the peaks of memory while loading
/// and during the step.
pub fn timed(
    arguments: &Arguments,
    mut step: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    let loading = peak_rss_mb()?;
    forget_peak()?;
    let mut times = Vec::with_capacity(arguments.iterations);
    for index in 0..arguments.warmup + arguments.iterations {
        let start = Instant::now();
        step(index)?;
        if index >= arguments.warmup {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let during = peak_rss_mb()?;
    times.sort_by(f64::total_cmp);
    Ok(json!({
        "median_ms": median(&times),
        "min_ms": times[0],
        "step_rss_mb": during,
        "peak_rss_mb": loading.max(during),
    }))
}

/// Returns the median of sorted values, as Python's `statistics.median`.
pub fn median(sorted: &[f64]) -> f64 {
    let upper = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[upper],
        _ => (sorted[upper - 1] + sorted[upper]) / 2.0,
    }
}

/// Returns the largest resident set since the process started or since [`forget_peak`], as Linux counts it.
pub fn peak_rss_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .context("/proc/self/status has no VmHWM")?;
    Ok(kib / 1024.0)
}

/// Resets the kernel's peak to the current size.
fn forget_peak() -> anyhow::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("/proc/self/clear_refs")
}
