//! `sedet ablate`.

mod jobs;

use std::path::PathBuf;
use std::process::ExitCode;

use super::console::even_if_muted;
use super::hints::usage_with_hint;
use super::launch::DeviceList;
use super::progress::ConsoleProgress;
use super::ranks::ranks;
use super::terminal::{fitted, width};
use super::train::RecipeArgs;
use super::{
    DeviceArgs, check_data_dir, hints, message, print_out, problem, status, stop_on_ctrl_c,
    whole_number, whole_number_within,
};
use jobs::Jobs;
use sedet_core::train::RunError;
use sedet_core::train::ablation::{
    self, AblationObserver, AblationReport, AblationRequest, Axis, RunPosition, Study,
};
use sedet_core::train::observer::Observer;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet ablate --dataset cifar10 --over se.reduction=2,4,8 --output runs/r
  sedet ablate --dataset shapes --over model.width=0.25,0.5 --output runs/width
  sedet ablate --dataset shapes --over se.reduction=8,16 --jobs 2 --output r";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AblateArgs {
    /// Dataset (see `sedet train --help`)
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Setting to vary, such as se.reduction=2,4,8 or model.backbone=resnet20,se-resnet20; repeat the option to
    /// form a grid
    #[arg(long, value_name = "KEY=A,B", required = true)]
    over: Vec<Axis>,
    /// Random seeds; every setting is trained with each of them
    #[arg(long, value_delimiter = ',', default_value = "0,1,2", value_parser = whole_number::<u64>)]
    seeds: Vec<u64>,
    /// Directory of all runs; finished runs in it are not trained again
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Print CSV instead of a table
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Train this run only, by its number from 1: a job array of a cluster trains a study with it
    #[arg(long, value_name = "N", conflicts_with_all = ["jobs", "devices"], value_parser = whole_number::<usize>)]
    run: Option<usize>,
    /// Set by --jobs for its processes: their end of the standard input is the end of the one that has started them
    #[arg(long, hide = true, requires = "run")]
    job: bool,
    /// Number of runs to train at the same time, each in a process with its part of the threads [default: 1, or one
    /// for each of --devices]
    #[arg(long, value_name = "N", help_heading = "Device", value_parser = whole_number_within(1..=1024_u16))]
    jobs: Option<u16>,
    /// Devices to train on at the same time, such as cuda:0,1,2,3
    #[arg(
        long,
        value_name = "LIST",
        help_heading = "Device",
        conflicts_with = "device"
    )]
    devices: Option<DeviceList>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

pub(super) fn run(args: AblateArgs) -> anyhow::Result<ExitCode> {
    check_data_dir(&args.dataset, args.recipe.data_dir.as_deref())?;
    let ranks = ranks();
    if let (Some(jobs), false) = (args.jobs, ranks.is_alone()) {
        return Err(usage_with_hint(
            format!(
                "--jobs {jobs} starts processes of its own, but {} were started",
                ranks.size()
            ),
            "omit --jobs: the runs are divided between the processes",
        ));
    }
    let own_device = args.recipe.device.device;
    let jobs = match args.run {
        None if ranks.is_alone() => Jobs::of(args.jobs, args.devices.as_ref(), own_device)?,
        _ => None,
    };
    let device = match &args.devices {
        // Each of the jobs has its own.
        Some(devices) if jobs.is_some() => devices.first(),
        Some(devices) => devices.of_this_process()?,
        None => own_device.unwrap_or_default(),
    };
    let stop = stop_on_ctrl_c()?;
    if args.job {
        jobs::stop_with_parent(stop.clone());
    }
    let request = AblationRequest {
        recipe: args.recipe.options()?,
        device: DeviceArgs::open(device)?,
        stop,
        dataset: args.dataset,
        axes: args.over,
        only: args.run,
        seeds: args.seeds,
        output: args.output,
        ranks,
    };
    let report = match jobs {
        Some(jobs) => jobs.train(
            &Study::open(&request)?,
            &request.stop,
            &mut Console { is_job: false },
        )?,
        None => ablation::run(&request, &mut Console { is_job: args.job })?,
    };
    let (table, failures) = match report {
        AblationReport::Finished { table, failures } => (table, failures),
        AblationReport::Interrupted => {
            problem!("interrupted; run the same command to continue");
            return Ok(ExitCode::FAILURE);
        }
    };
    if args.job {
        // The error was printed, and the table is that of the process which has started this one.
        return Ok(if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    if !request.ranks.is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    let text = match (args.json, args.csv) {
        (true, _) => table.to_json()?,
        (_, true) => table.to_csv(),
        _ => {
            let (rows, sides) = table.to_cells();
            fitted(&rows, &sides, width())
        }
    };
    print_out(&text)?;
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    problem!(
        "error: {} failed: {}",
        count(failures.len(), "run"),
        failures.join("; ")
    );
    Ok(ExitCode::FAILURE)
}

/// Prints the progress of an ablation study.
struct Console {
    /// Whether another process prints the name of the run.
    is_job: bool,
}

impl AblationObserver for Console {
    fn begin(&mut self, position: RunPosition) -> Box<dyn Observer> {
        if !self.is_job {
            status!("{position}");
        }
        Box::new(ConsoleProgress::default())
    }

    fn already_finished(&mut self, position: RunPosition) {
        status!("{position}: already finished");
    }

    fn failed(&mut self, _position: RunPosition, error: RunError) {
        let error = error.into();
        // Of another rank than 0, too: the others do not learn the reason.
        even_if_muted(|| {
            let rank = match ranks().rank() {
                0 => String::new(),
                rank => format!("rank {rank}: "),
            };
            problem!("error: {rank}{}", message(&error));
            if let Some(hint) = hints::hint_for(&error) {
                problem!("hint: {hint}");
            }
        });
    }
}
