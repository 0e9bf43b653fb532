//! `sedet data`: one file per subcommand.

mod anchors;
mod check;
mod convert;
mod download;
mod shapes;
mod show;
mod split;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::status;
use super::terminal::{continued, width};
use sedet_data::datasets::registry::{AnyDatasetName, DatasetName};

#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Download a dataset from its public source
    Download(download::DownloadArgs),
    /// Write the generated scenes as images and COCO annotations
    Shapes(shapes::ShapesArgs),
    /// Validate a dataset before training
    Check(check::CheckArgs),
    /// Count classes, box sizes and box shapes
    Stats(stats::StatsArgs),
    /// Write augmented training images with their boxes
    Show(show::ShowArgs),
    /// Convert a dataset to another annotation format
    Convert(convert::ConvertArgs),
    /// Split a dataset into train, val and test, stratified by class
    Split(split::SplitArgs),
}

pub(super) fn run(args: DataArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        DataCommand::Download(args) => download::run(&args),
        DataCommand::Shapes(args) => shapes::run(&args),
        DataCommand::Check(args) => check::run(&args),
        DataCommand::Stats(args) => stats::run(&args),
        DataCommand::Show(args) => show::run(&args),
        DataCommand::Convert(args) => convert::run(&args),
        DataCommand::Split(args) => split::run(&args),
    }
}

/// Prints what was recognized behind the name of a dataset.
fn print_kind(name: &str, dataset: &DatasetName, data_dir: Option<&Path>) -> anyhow::Result<()> {
    let recognized = AnyDatasetName::Detection(dataset.clone()).recognize(data_dir)?;
    let line = format!("{name}: {}", recognized.kind());
    status!("{}", continued(&line, width()));
    Ok(())
}
