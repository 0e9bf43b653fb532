//! `sedet data`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::blood_cells::{BASE_URL, download_blood_cells};
use crate::data::registry::DATA_DIR_VARIABLE;
use crate::data::shapes::{ShapesConfig, write_dataset};

#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Debug, Subcommand)]
enum DataVerb {
    /// Fetch a data set from its public source
    Download(DownloadArgs),
    /// Write the generated scenes as files in COCO's layout
    Shapes(ShapesArgs),
}

#[derive(Debug, clap::Args)]
struct DownloadArgs {
    /// Which data set
    #[arg(value_parser = ["blood-cells"])]
    name: String,
    /// Folder that holds the named data sets [default: $SEDET_DATA, else data/]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Another server with the same archive
    #[arg(long, default_value = BASE_URL)]
    mirror: String,
}

#[derive(Debug, clap::Args)]
struct ShapesArgs {
    /// Folder to write to
    #[arg(long)]
    output: PathBuf,
    /// Training scenes
    #[arg(long, default_value_t = ShapesConfig::default().train_images)]
    train_images: usize,
    /// Validation scenes
    #[arg(long, default_value_t = ShapesConfig::default().val_images)]
    val_images: usize,
    /// Longer side in pixels
    #[arg(long, default_value_t = ShapesConfig::default().long_side)]
    long_side: u32,
    /// Another seed gives other scenes
    #[arg(long, default_value_t = ShapesConfig::default().seed)]
    seed: u64,
}

pub(super) fn run(args: DataArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        DataVerb::Download(args) => download(&args),
        DataVerb::Shapes(args) => shapes(&args),
    }
}

fn download(args: &DownloadArgs) -> anyhow::Result<ExitCode> {
    let base = args
        .data_dir
        .clone()
        .or_else(|| std::env::var_os(DATA_DIR_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| "data".into());
    let directory = base.join(&args.name);
    std::fs::create_dir_all(&base).with_context(|| base.display().to_string())?;
    eprintln!("BCCD blood cells, MIT licence, (c) 2017 shenggan; about 8 MB");
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{bytes} of {total_bytes} {wide_bar}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let summary = download_blood_cells(&directory, &args.mirror, &mut |done, total| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let [train, val, test] = summary.images;
    eprintln!(
        "{}{}: {train} train, {val} val, {test} test pictures\nnext: sedet train --dataset blood-cells --data-dir {}",
        directory.display(),
        if summary.already_there {
            " (already there)"
        } else {
            ""
        },
        base.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn shapes(args: &ShapesArgs) -> anyhow::Result<ExitCode> {
    let config = ShapesConfig {
        seed: args.seed,
        train_images: args.train_images,
        val_images: args.val_images,
        long_side: args.long_side,
    };
    let bar = ProgressBar::new((args.train_images + args.val_images) as u64);
    write_dataset(&config, &args.output, &mut |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    eprintln!(
        "{} scenes in {}",
        args.train_images + args.val_images,
        args.output.display()
    );
    Ok(ExitCode::SUCCESS)
}
