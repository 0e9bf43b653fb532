//! `sedet data`: one file per subcommand.

mod anchors;
mod check;
mod convert;
mod download;
mod shapes;
mod show;
mod split;
mod stats;

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Debug, Subcommand)]
enum DataVerb {
    /// Fetch a dataset from its public source
    Download(download::DownloadArgs),
    /// Write the generated scenes as files in COCO's layout
    Shapes(shapes::ShapesArgs),
    /// Find what is wrong with a dataset before a training finds it
    Check(check::CheckArgs),
    /// Count classes, sizes and shapes of boxes
    Stats(stats::StatsArgs),
    /// Write training images with their boxes as the network sees them, augmented
    Show(show::ShowArgs),
    /// Write a dataset in another layout: COCO, Pascal VOC or YOLO
    Convert(convert::ConvertArgs),
    /// Divide annotations into train, val and test, each with its share of every class
    Split(split::SplitArgs),
}

pub(super) fn run(args: DataArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        DataVerb::Download(args) => download::run(&args),
        DataVerb::Shapes(args) => shapes::run(&args),
        DataVerb::Check(args) => check::run(&args),
        DataVerb::Stats(args) => stats::run(&args),
        DataVerb::Show(args) => show::run(&args),
        DataVerb::Convert(args) => convert::run(&args),
        DataVerb::Split(args) => split::run(&args),
    }
}
