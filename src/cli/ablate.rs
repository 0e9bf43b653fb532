//! `sedet ablate`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::progress::ConsoleProgress;
use super::terminal::{fitted, width};
use super::train::RecipeArgs;
use super::{
    check_data_dir, hints, message, print_out, problem, status, stop_on_ctrl_c, whole_number,
};
use sedet_core::train::RunError;
use sedet_core::train::ablation::{
    self, AblationObserver, AblationReport, AblationRequest, Axis, RunPosition,
};
use sedet_core::train::observer::Observer;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet ablate --dataset cifar10 --over se.reduction=2,4,8 --output runs/r
  sedet ablate --dataset shapes --over model.width=0.25,0.5 --output runs/width";

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
    #[command(flatten)]
    recipe: RecipeArgs,
}

pub(super) fn run(args: AblateArgs) -> anyhow::Result<ExitCode> {
    check_data_dir(&args.dataset, args.recipe.data_dir.as_deref())?;
    let request = AblationRequest {
        recipe: args.recipe.options()?,
        device: args.recipe.device.resolve()?,
        stop: stop_on_ctrl_c()?,
        dataset: args.dataset,
        axes: args.over,
        seeds: args.seeds,
        output: args.output,
    };
    let (table, failures) = match ablation::run(&request, &mut Console)? {
        AblationReport::Finished { table, failures } => (table, failures),
        AblationReport::Interrupted => {
            problem!("interrupted; run the same command to continue");
            return Ok(ExitCode::FAILURE);
        }
    };
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
struct Console;

impl AblationObserver for Console {
    fn begin(
        &mut self,
        RunPosition {
            number,
            total,
            name,
        }: RunPosition<'_>,
    ) -> Box<dyn Observer> {
        status!("[{number}/{total}] {name}");
        Box::new(ConsoleProgress::default())
    }

    fn already_finished(
        &mut self,
        RunPosition {
            number,
            total,
            name,
        }: RunPosition<'_>,
    ) {
        status!("[{number}/{total}] {name}: already finished");
    }

    fn failed(&mut self, _position: RunPosition<'_>, error: RunError) {
        let error = error.into();
        problem!("error: {}", message(&error));
        if let Some(hint) = hints::hint_for(&error) {
            problem!("hint: {hint}");
        }
    }
}
