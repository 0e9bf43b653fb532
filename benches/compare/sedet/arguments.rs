//! The options of a measuring process.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use sedet::kernels::bf16::ComputePrecision;

/// Arguments of a measuring process; `main.rs` lists the kinds.
#[derive(Debug, Default)]
pub struct Arguments {
    /// The kind of task.
    pub kind: String,
    /// Name of the case, repeated in the answer.
    pub case: String,
    /// Untimed repetitions.
    pub warmup: usize,
    /// Timed repetitions.
    pub iterations: usize,
    /// Threads that prepare images.
    pub workers: usize,
    /// Output directory for the comparison.
    pub outputs: Option<PathBuf>,
    /// Scenes to write, their longer side in pixels, and their seed.
    pub images: usize,
    pub side: u32,
    pub seed: u64,
    /// Precision of inference.
    pub precision: ComputePrecision,
    weights: Option<PathBuf>,
    inputs: Option<PathBuf>,
    data: Option<PathBuf>,
    annotations: Option<PathBuf>,
    results: Option<PathBuf>,
}

impl Arguments {
    /// Parses `--option value` pairs; skips cargo's own `--bench`.
    ///
    /// # Errors
    /// An unknown option or value; the message names it.
    pub fn parse(given: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut parsed = Self {
            iterations: 1,
            workers: 1,
            ..Self::default()
        };
        let mut given = given.filter(|argument| argument != "--bench");
        while let Some(option) = given.next() {
            let value = given
                .next()
                .with_context(|| format!("{option}: no value"))?;
            match option.as_str() {
                "--kind" => parsed.kind = value,
                "--case" => parsed.case = value,
                "--warmup" => parsed.warmup = number(&option, &value)?,
                "--iterations" => parsed.iterations = number::<usize>(&option, &value)?.max(1),
                "--workers" => parsed.workers = number::<usize>(&option, &value)?.max(1),
                "--images" => parsed.images = number(&option, &value)?,
                "--side" => parsed.side = number(&option, &value)?,
                "--seed" => parsed.seed = number(&option, &value)?,
                "--precision" => parsed.precision = precision(&value)?,
                "--threads" => check_threads(number(&option, &value)?)?,
                "--weights" => parsed.weights = Some(value.into()),
                "--inputs" => parsed.inputs = Some(value.into()),
                "--outputs" => parsed.outputs = Some(value.into()),
                "--data" => parsed.data = Some(value.into()),
                "--annotations" => parsed.annotations = Some(value.into()),
                "--results" => parsed.results = Some(value.into()),
                _ => bail!("unknown option {option}"),
            }
        }
        Ok(parsed)
    }

    pub fn weights(&self) -> anyhow::Result<&Path> {
        required("--weights", self.weights.as_deref())
    }

    pub fn inputs(&self) -> anyhow::Result<&Path> {
        required("--inputs", self.inputs.as_deref())
    }

    pub fn data(&self) -> anyhow::Result<&Path> {
        required("--data", self.data.as_deref())
    }

    pub fn annotations(&self) -> anyhow::Result<&Path> {
        required("--annotations", self.annotations.as_deref())
    }

    pub fn results(&self) -> anyhow::Result<&Path> {
        required("--results", self.results.as_deref())
    }
}

/// Returns a precision that the CPU has: f32 under the name of bf16 would be a wrong comparison.
fn precision(name: &str) -> anyhow::Result<ComputePrecision> {
    match name {
        "f32" => Ok(ComputePrecision::F32),
        "bf16" if ComputePrecision::Bf16.is_available() => Ok(ComputePrecision::Bf16),
        "bf16" => bail!("this CPU has no AVX512-BF16"),
        _ => bail!("unknown precision {name}"),
    }
}

fn required<'a>(option: &str, value: Option<&'a Path>) -> anyhow::Result<&'a Path> {
    value.ok_or_else(|| anyhow!("this kind needs {option}"))
}

fn number<T: FromStr>(option: &str, value: &str) -> anyhow::Result<T> {
    let parsed = value.parse();
    parsed.map_err(|_| anyhow!("{option} '{value}': not a number"))
}

/// Checks the size of rayon's pool, which exists before it could be changed here.
fn check_threads(wanted: usize) -> anyhow::Result<()> {
    let have = rayon::current_num_threads();
    if have == wanted {
        Ok(())
    } else {
        bail!("{have} threads, not {wanted}: set RAYON_NUM_THREADS={wanted}")
    }
}
