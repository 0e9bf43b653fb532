//! The `sedet` command: one file per subcommand.
//!
//! stdout carries data, stderr talk. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod ablate;
mod data;
mod doctor;
mod eval;
mod excite;
mod models;
mod predict;
mod train;
#[cfg(feature = "viewer")]
mod view;
mod weights;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

use sedet_core::device::{DeviceChoice, WorkingDevice, resolve};
use sedet_core::status;
use sedet_data::loading::OnBadImage;

/// Train, evaluate and look inside Faster R-CNN with Squeeze-and-Excitation backbones.
#[derive(Debug, Parser)]
#[command(name = "sedet", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train a detector or a classifier
    Train(train::TrainArgs),
    /// Train variants with several seeds each and compare them
    Ablate(ablate::AblateArgs),
    /// Measure a checkpoint, or anybody's COCO results file
    Eval(eval::EvalArgs),
    /// Measure what SE units do over a dataset, as in section 7.2 of the SENet paper
    Excite(excite::ExciteArgs),
    /// Open the window: images, boxes and their errors, gates, curves
    #[cfg(feature = "viewer")]
    View(view::ViewArgs),
    /// Find objects in images, or name what they show
    Predict(predict::PredictArgs),
    /// Take over, look into, or hand out weights files
    Weights(weights::WeightsArgs),
    /// Fetch or generate datasets
    Data(data::DataArgs),
    /// List the networks and what they cost, or the layers of one
    Models(models::ModelsArgs),
    /// Say what works on this machine
    Doctor(doctor::DoctorArgs),
}

/// Options of every subcommand that computes.
#[derive(Debug, Clone, clap::Args)]
struct DeviceArgs {
    /// Where to compute: auto, cpu, wgpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

impl DeviceArgs {
    fn resolve(&self) -> anyhow::Result<WorkingDevice> {
        Ok(resolve(self.device)?)
    }
}

/// The values of `--on-bad-image`.
fn on_bad_image() -> impl TypedValueParser<Value = OnBadImage> {
    PossibleValuesParser::new(["error", "skip"]).map(|value| match value.as_str() {
        "skip" => OnBadImage::Skip,
        _ => OnBadImage::Error,
    })
}

/// So many images that were left out are named; a file has the others.
const LEFT_OUT_SHOWN: usize = 10;

/// Name the images that were not used because they can't be read.
fn say_left_out(what: &str, reasons: &[&str], all_in: Option<&Path>) {
    if reasons.is_empty() {
        return;
    }
    let images = if reasons.len() == 1 {
        "image"
    } else {
        "images"
    };
    status!("{what}: {} {images} that can't be used", reasons.len());
    for reason in reasons.iter().take(LEFT_OUT_SHOWN) {
        status!("  {reason}");
    }
    match (reasons.len().saturating_sub(LEFT_OUT_SHOWN), all_in) {
        (0, _) => {}
        (_, Some(path)) => status!("  ... ({} has all)", path.display()),
        (more, None) => status!("  ... and {more} more"),
    }
}

/// Parse the arguments, do what they say, report an error as one line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Train(args) => train::run(args),
        Verb::Ablate(args) => ablate::run(args),
        Verb::Eval(args) => eval::run(args),
        Verb::Excite(args) => excite::run(args),
        #[cfg(feature = "viewer")]
        Verb::View(args) => view::run(args),
        Verb::Predict(args) => predict::run(args),
        Verb::Weights(args) => weights::run(args),
        Verb::Data(args) => data::run(args),
        Verb::Models(args) => models::run(args),
        Verb::Doctor(args) => doctor::run(args),
    };
    match done {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            status!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one line. The library's errors already name their causes; those are
/// not said twice.
fn message(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            _ if said.contains(&cause) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

/// `sedet ... | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends at once. One for the whole process, however many
/// runs it makes.
fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(stop) = STOP.get() {
        return Ok(stop.clone());
    }
    let stop = STOP.get_or_init(Arc::default).clone();
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        status!("stopping; press Ctrl-C again to stop at once");
    })
    .context("Ctrl-C cannot be caught")?;
    Ok(stop)
}

/// Print data on stdout.
fn print_out(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_whether_or_not_the_error_names_it() {
        let cause = || std::io::Error::other("disk on fire");
        let bare = anyhow::Error::new(cause()).context("a.json");
        assert_eq!(message(&bare), "a.json: disk on fire");
        let naming = anyhow::Error::new(cause()).context("a.json: disk on fire; call for help");
        assert_eq!(message(&naming), "a.json: disk on fire; call for help");
    }
}
