//! The `sedet` command: one file per subcommand.
//!
//! Results go to stdout, logs to stderr. Exit codes: 0 success, 1 failure, 2 wrong usage.

mod ablate;
mod bench;
mod completions;
mod config;
mod console;
mod data;
mod doctor;
#[cfg(test)]
mod documentation;
mod environment;
mod eval;
mod excite;
mod explain;
mod hints;
mod inputs;
mod launch;
mod man;
mod model;
mod models;
mod named;
mod predict;
mod progress;
mod ranks;
mod report;
mod terminal;
mod train;
mod version;
#[cfg(feature = "viewer")]
mod view;
mod weights;

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

use console::{Verbosity, debug, problem, status};
use ranks::ranks;
use sedet_data::system_errors::plain;

use sedet_core::device::{DeviceChoice, WorkingDevice, resolve};
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::directory::create_directory;
use sedet_data::images::OnBadImage;
use sedet_data::text::{count, printable};
use sedet_nn::kernels::vectorized::InstructionSet;

/// Train, evaluate and inspect Faster R-CNN with Squeeze-and-Excitation backbones
#[derive(Debug, Parser)]
#[command(
    name = "sedet",
    version = version::SHORT,
    long_version = version::LONG,
    arg_required_else_help = true,
    after_help = EXAMPLES,
    after_long_help = long_footer()
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sedet train --dataset shapes
  sedet predict --checkpoint runs/shapes photo.jpg --output detections/
  sedet help train

`sedet --help` also lists the environment variables";

/// Returns the end of the long help: examples and environment variables.
fn long_footer() -> String {
    let examples = EXAMPLES
        .rsplit_once("\n\n")
        .map_or(EXAMPLES, |(first, _)| first);
    format!(
        "{examples}\n\nEnvironment variables:\n{}",
        environment::table(terminal::DEFAULT_WIDTH)
    )
}

/// Options of every subcommand.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArgs {
    /// Print errors and warnings only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print timings, and the elapsed time on each line
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Number of CPU threads for computation [default: one per core]
    #[arg(long, global = true, value_name = "N", value_parser = whole_number_within(1..=1024_u16))]
    threads: Option<u16>,
}

impl GlobalArgs {
    fn apply(&self) -> anyhow::Result<()> {
        console::set_verbosity(match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        });
        if let Some(threads) = self.threads {
            // All kernels run in rayon's global pool.
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads.into())
                .build_global()
                .context("cannot start the threads")?;
        }
        let instructions = InstructionSet::in_use().map_err(hints::usage)?;
        debug!(
            "sedet {}, {}, {instructions} instructions",
            version::SHORT,
            count(rayon::current_num_threads(), "thread")
        );
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a detector or a classifier
    Train(train::TrainArgs),
    /// Train variants with several seeds each and compare them
    Ablate(ablate::AblateArgs),
    /// Evaluate a checkpoint or a COCO results file
    Eval(eval::EvalArgs),
    /// Measure SE gates over a dataset or for one image
    Excite(excite::ExciteArgs),
    /// Explain a detection or a class: activation maps and effects of SE gates
    Explain(explain::ExplainArgs),
    /// Open the viewer: images, detections, errors, SE gates, training curves
    #[cfg(feature = "viewer")]
    View(view::ViewArgs),
    /// Run detection or classification on images
    Predict(predict::PredictArgs),
    /// List, download, inspect, import and export weights
    Weights(weights::WeightsArgs),
    /// Download, check, convert, split and inspect datasets
    Data(data::DataArgs),
    /// List models with parameters and multiply-accumulate operations (MACs), or the layers of one
    Models(models::ModelsArgs),
    /// List the keys of recipes, or print a recipe as a file to start from
    Config(config::ConfigArgs),
    /// Measure latency, throughput and memory of a model on this machine
    Bench(bench::BenchArgs),
    /// Check devices and the installation
    Doctor(doctor::DoctorArgs),
    /// Print the completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

/// Options of every subcommand that runs a model.
#[derive(Debug, Clone, clap::Args)]
struct DeviceArgs {
    /// Device: auto, cpu, wgpu, cuda or cuda:N [default: auto]
    #[arg(long, help_heading = "Device")]
    device: Option<DeviceChoice>,
}

impl DeviceArgs {
    /// Returns whether the option is given.
    fn is_given(&self) -> bool {
        self.device.is_some()
    }

    fn resolve(&self) -> anyhow::Result<WorkingDevice> {
        Self::open(self.device.unwrap_or_default())
    }

    fn open(choice: DeviceChoice) -> anyhow::Result<WorkingDevice> {
        Ok(resolve(choice)?)
    }
}

/// Refuses a directory of named datasets for a dataset that is not in it: the option would have no effect.
fn check_data_dir(dataset: &str, data_dir: Option<&Path>) -> anyhow::Result<()> {
    let Some(directory) = data_dir else {
        return Ok(());
    };
    let dataset_name = printable(dataset);
    if dataset == GENERATED {
        return Err(hints::usage_with_hint(
            format!("--data-dir has no effect: {dataset_name} is generated, not read"),
            "omit --data-dir",
        ));
    }
    if AnyDatasetName::is_named(dataset) {
        return Ok(());
    }
    let inside = directory.join(dataset);
    if !Path::new(dataset).exists() && inside.exists() {
        return Err(hints::usage_with_hint(
            format!(
                "--data-dir is the directory of the named datasets, and {dataset_name} is not one of them"
            ),
            format!("give its path: {}", quoted(inside.display())),
        ));
    }
    // An unknown name is reported as one, with those that are known.
    AnyDatasetName::parse(dataset)?;
    Err(hints::usage_with_hint(
        format!("--data-dir has no effect: {dataset_name} is a path, not a named dataset"),
        "omit --data-dir",
    ))
}

/// Refuses a policy on unreadable images for the dataset that is generated: it has none.
fn check_on_bad_image(dataset: &str, on_bad_image: Option<OnBadImage>) -> anyhow::Result<()> {
    if dataset == GENERATED && on_bad_image.is_some() {
        return Err(hints::usage_with_hint(
            format!("--on-bad-image has no effect: {dataset} is generated, not read"),
            "omit --on-bad-image",
        ));
    }
    Ok(())
}

/// The named dataset that is generated, so that no directory contains it.
const GENERATED: &str = "shapes";

/// Parses the values of `--on-bad-image`.
fn on_bad_image() -> impl TypedValueParser<Value = OnBadImage> {
    PossibleValuesParser::new(["error", "skip"]).map(|value| match value.as_str() {
        "skip" => OnBadImage::Skip,
        _ => OnBadImage::Error,
    })
}

/// Parses the arguments, runs the subcommand and prints an error with its hint.
pub fn main() -> ExitCode {
    // Until all have ended.
    let _connection = match ranks::connect() {
        Ok(connection) => connection,
        Err(error) => return failed(&error),
    };
    let parsed = match ranks::conclude(ranks::check_same_command()) {
        Ok(()) => Cli::try_parse(),
        Err(error) => return failed(&error),
    };
    match parsed {
        Ok(cli) => run(cli),
        Err(error) => {
            // All ranks have the same arguments.
            if ranks().is_first() {
                let _ = error.print();
            }
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// Runs the subcommand. If one of several ranks fails, all do, and rank 0 prints the error.
fn run(cli: Cli) -> ExitCode {
    let one = match &cli.command {
        Command::Train(_) | Command::Ablate(_) | Command::Eval(_) | Command::Excite(_) => Ok(()),
        _ => ranks::need_one(),
    };
    let done = one
        .and_then(|()| cli.global.apply())
        .and_then(|()| match cli.command {
            Command::Train(args) => train::run(args),
            Command::Ablate(args) => ablate::run(args),
            Command::Eval(args) => eval::run(args),
            Command::Excite(args) => excite::run(args),
            Command::Explain(args) => explain::run(args),
            #[cfg(feature = "viewer")]
            Command::View(args) => view::run(args),
            Command::Predict(args) => predict::run(args),
            Command::Weights(args) => weights::run(args),
            Command::Data(args) => data::run(args),
            Command::Models(args) => models::run(args),
            Command::Config(args) => config::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args),
        });
    debug!("total: {:.3} s", console::elapsed().as_secs_f64());
    let done = ranks::conclude(done);
    match done {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Prints an error with its hint and returns its exit code.
fn failed(error: &anyhow::Error) -> ExitCode {
    problem!("error: {}", message(error));
    if let Some(hint) = hints::hint_for(error) {
        problem!("hint: {hint}");
    }
    hints::exit_code(error)
}

/// Formats the error and its causes in one line, without causes that an outer message already quotes.
fn message(error: &anyhow::Error) -> String {
    let joined = error.chain().fold(String::new(), |outer, cause| {
        let cause = cause.to_string();
        if outer.is_empty() {
            cause
        } else if outer.contains(&cause) {
            outer
        } else {
            format!("{outer}: {cause}")
        }
    });
    plain(&joined)
}

/// Quotes an argument of a command that is shown to be copied, if a shell would split or expand it.
fn quoted(argument: impl fmt::Display) -> String {
    let text = argument.to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+:,@%=\\".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Formats a directory as the name of a dataset in a command: a known name becomes a path.
fn dataset_argument(directory: &Path) -> String {
    let name = directory.display().to_string();
    if AnyDatasetName::is_named(&name) {
        format!("./{name}")
    } else {
        quoted(name)
    }
}

/// Returns whether a path ends as that of a JSON file, in any capitals.
fn has_json_extension(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|found| found.eq_ignore_ascii_case("json"))
}

/// Returns whether a path is a file that can be COCO annotations.
fn is_json_file(path: &Path) -> bool {
    path.is_file() && has_json_extension(path)
}

/// Parses the value of an option that is a whole number.
fn whole_number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| "expected a whole number".to_string())
}

/// Parses the value of an option that is a whole number within limits.
fn whole_number_within<N>(limits: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + fmt::Display + Clone,
{
    move |text| {
        let number = text.parse::<N>().ok();
        number
            .filter(|number| limits.contains(number))
            .ok_or_else(|| {
                let (least, most) = (limits.start(), limits.end());
                format!("expected a whole number from {least} to {most}")
            })
    }
}

/// Parses the value of an option that is a number.
fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "expected a number".to_string())
}

/// Creates the directory of an output.
fn output_directory(path: &Path) -> anyhow::Result<()> {
    create_directory(path).map_err(|error| {
        hints::advise(
            format!("{}: {error}", path.display()),
            "choose another --output",
        )
    })
}

/// Reports how many files of a directory were not written by this command, which wrote the files of these names.
///
/// They are not deleted, because the user may own them; without the line, they seem to be of this call.
fn report_other_files(directory: &Path, written: &HashSet<String>) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_other = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        is_file && !name.starts_with('.') && !written.contains(&name)
    };
    match entries.filter(is_other).count() {
        0 => {}
        1 => problem!(
            "note: 1 file in {} was not written by this command and remains",
            directory.display()
        ),
        others => problem!(
            "note: {others} files in {} were not written by this command and remain",
            directory.display()
        ),
    }
}

/// Returns whether the reader of the output is gone, as in `sedet ... | head`, which is not a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// The format of annotated images.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum ImageFormat {
    #[default]
    Png,
    Jpg,
    Svg,
}

impl ImageFormat {
    /// Returns the extension of file names.
    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
            Self::Svg => "svg",
        }
    }
}

/// Time in which a repeated signal is that of the same event: `timeout`, cargo and shells send one to a process that
/// has received it with its process group already.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// What a signal to stop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopSignal {
    /// Stop at the next opportunity and save.
    Stop,
    /// Exit at once.
    Exit,
    /// Nothing.
    Repeated,
}

impl StopSignal {
    /// Returns the meaning of a signal at some time after the first one.
    fn after(first: Option<Duration>) -> Self {
        match first {
            None => Self::Stop,
            Some(time) if time < SAME_SIGNAL => Self::Repeated,
            Some(_) => Self::Exit,
        }
    }
}

/// Returns the flag that Ctrl-C and SIGTERM set; a second Ctrl-C exits at once. All runs of the process share it.
fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(stop) = STOP.get() {
        return Ok(stop.clone());
    }
    let stop = STOP.get_or_init(Arc::default).clone();
    let flag = stop.clone();
    let mut first: Option<Instant> = None;
    ctrlc::set_handler(
        move || match StopSignal::after(first.map(|first| first.elapsed())) {
            StopSignal::Stop => {
                first = Some(Instant::now());
                flag.store(true, Ordering::Relaxed);
                // A launcher also ends the other ranks with a signal when one has failed.
                if ranks::launcher_size().is_none() {
                    status!("stopping; press Ctrl-C again to stop at once");
                } else {
                    status!("stopping");
                }
            }
            StopSignal::Exit => std::process::exit(130),
            StopSignal::Repeated => {}
        },
    )
    .context("cannot handle Ctrl-C")?;
    Ok(stop)
}

/// Prints results on stdout.
fn print_out(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let mut write = || {
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    };
    write().context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_the_name_of_a_known_dataset_is_written_as_a_path() {
        for (directory, expected) in [
            ("coco", "./coco"),
            ("cifar10", "./cifar10"),
            ("out/coco", "out/coco"),
            ("cells", "cells"),
            ("my cells", "'my cells'"),
        ] {
            assert_eq!(dataset_argument(Path::new(directory)), expected);
        }
    }

    #[test]
    fn arguments_that_a_shell_would_split_are_quoted() {
        for (argument, expected) in [
            ("runs/cells", "runs/cells"),
            ("runs/größe_2,b", "runs/größe_2,b"),
            ("my photos/", "'my photos/'"),
            ("it's", "'it'\\''s'"),
            ("~/a", "'~/a'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(argument), expected);
        }
    }

    #[test]
    fn a_signal_that_is_passed_on_is_no_second_ctrl_c() {
        let after = |milliseconds| StopSignal::after(Some(Duration::from_millis(milliseconds)));
        assert_eq!(StopSignal::after(None), StopSignal::Stop);
        assert_eq!(after(0), StopSignal::Repeated);
        assert_eq!(after(499), StopSignal::Repeated);
        assert_eq!(after(500), StopSignal::Exit);
    }

    #[test]
    fn a_cause_appears_once_whether_or_not_the_error_quotes_it() {
        let cause = || std::io::Error::other("disk on fire");
        let bare = anyhow::Error::new(cause()).context("a.json");
        assert_eq!(message(&bare), "a.json: disk on fire");
        let naming = anyhow::Error::new(cause()).context("a.json: disk on fire; call for help");
        assert_eq!(message(&naming), "a.json: disk on fire; call for help");
        let missing = std::fs::read("no/such/file").unwrap_err();
        let context = format!("b/c.st: not written: {missing}");
        let quoting = anyhow::Error::new(missing).context(context);
        assert_eq!(
            message(&quoting),
            "b/c.st: not written: its directory does not exist"
        );
    }
}
