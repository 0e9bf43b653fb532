//! `sedet data shapes`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::hints::advise;
use crate::cli::progress::{Meter, Unit};
use crate::cli::{status, whole_number};
use sedet_data::shapes::{ShapesConfig, write_dataset};
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet data shapes --output scenes/
  sedet data shapes --output scenes/ --train-images 50 --val-images 10";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShapesArgs {
    /// Output directory
    #[arg(long)]
    output: PathBuf,
    /// Number of training scenes
    #[arg(
        long,
        default_value_t = ShapesConfig::default().train_images,
        value_parser = whole_number::<usize>
    )]
    train_images: usize,
    /// Number of validation scenes
    #[arg(
        long,
        default_value_t = ShapesConfig::default().val_images,
        value_parser = whole_number::<usize>
    )]
    val_images: usize,
    /// Longer side of an image in pixels
    #[arg(
        long,
        default_value_t = ShapesConfig::default().long_side,
        value_parser = whole_number::<u32>
    )]
    long_side: u32,
    /// Random seed
    #[arg(
        long,
        default_value_t = ShapesConfig::default().seed,
        value_parser = whole_number::<u64>
    )]
    seed: u64,
}

pub(super) fn run(args: &ShapesArgs) -> anyhow::Result<ExitCode> {
    let config = ShapesConfig {
        seed: args.seed,
        train_images: args.train_images,
        val_images: args.val_images,
        long_side: args.long_side,
    };
    // Files of an earlier dataset would stay beside the new annotations.
    let is_empty = |mut entries: std::fs::ReadDir| entries.next().is_none();
    if args.output.exists() && !std::fs::read_dir(&args.output).is_ok_and(is_empty) {
        return Err(advise(
            format!(
                "{}: exists and is not an empty directory",
                args.output.display()
            ),
            "choose another --output",
        ));
    }
    let meter = Meter::new("generating scenes", Unit::Images);
    write_dataset(&config, &args.output, &mut |done, all| {
        meter.show(done as u64, Some(all as u64));
    })?;
    drop(meter);
    status!(
        "wrote {} to {}",
        count(args.train_images + args.val_images, "scene"),
        args.output.display()
    );
    Ok(ExitCode::SUCCESS)
}
