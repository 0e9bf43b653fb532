//! `sedet data convert`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::cli::{print_out, stop_on_ctrl_c};
use sedet_core::status;
use sedet_core::train::engine::goes_on;
use sedet_data::curation::convert::{Images, Layout, ReadDataset, write_dataset};
use sedet_data::datasets::registry::DatasetName;

#[derive(Debug, clap::Args)]
pub(super) struct ConvertArgs {
    /// A directory in the layout of COCO, Pascal VOC or YOLO, which is recognized; or blood-cells
    source: String,
    /// Layout to write
    #[arg(long)]
    to: To,
    /// Directory to write to; it must not be there, or be empty
    #[arg(long)]
    output: PathBuf,
    /// What becomes of the images: copied, linked (no space needed, on one file system), or left
    /// where they are
    #[arg(long, default_value = "copy")]
    images: What,
    /// Directory that holds the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    Coco,
    Voc,
    Yolo,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Copy,
    Link,
    Leave,
}

pub(super) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let layout = match args.to {
        To::Coco => Layout::Coco,
        To::Voc => Layout::Voc,
        To::Yolo => Layout::Yolo,
    };
    let pictures = match args.images {
        What::Copy => Images::Copy,
        What::Link => Images::Link,
        What::Leave => Images::Leave,
    };
    let dataset = DatasetName::parse(&args.source)?;
    let Some(root) = dataset.directory(args.data_dir.as_deref())? else {
        anyhow::bail!(
            "the scenes of {} are generated when they are needed; write them with `sedet data shapes` first",
            args.source
        );
    };
    let read = ReadDataset::open(&root)?;
    if read.layout == layout {
        anyhow::bail!("{} is in the layout of {layout} already", root.display());
    }
    let bar = ProgressBar::no_length();
    let stop = stop_on_ctrl_c()?;
    let done = write_dataset(&read, layout, pictures, &args.output, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        goes_on(&stop)
    })?;
    bar.finish_and_clear();
    status!("{} -> {layout}", read.layout);
    for (what, how_often) in &done.lost {
        status!("not kept: {how_often} {what}");
    }
    for (split, images, boxes) in &done.splits {
        print_out(&format!("{split}: {images} images, {boxes} boxes"))?;
    }
    if pictures != Images::Leave {
        status!("next: sedet data check {}", args.output.display());
    }
    Ok(ExitCode::SUCCESS)
}
