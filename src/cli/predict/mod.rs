//! `sedet predict`.

mod classification;
mod detection;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

pub(super) use detection::{SCORE, drawn};

use super::DeviceArgs;
use super::weights::ForeignArgs;
use sedet_core::model::{Model, Task};
use sedet_core::status;
use sedet_data::loading::decode::{IMAGE_EXTENSIONS, has_image_extension};

#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// A trained network: a sedet checkpoint, or a file from torchvision, timm, detectron2, ...
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    checkpoint: PathBuf,
    /// Images, directories of images, or patterns such as 'photos/*.jpg'
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Directory for predictions.json and, from a detector, the annotated images
    #[arg(long)]
    output: Option<PathBuf>,
    /// Of a detector: the format of the annotated images; in an SVG boxes and labels stay such
    /// [default: png]
    #[arg(long, value_enum, value_name = "FORMAT", requires = "output")]
    images: Option<ImageFormat>,
    /// Leave out detections below this score [default: 0.5]
    #[arg(long)]
    score: Option<f32>,
    /// Of a classifier: so many of the likeliest classes [default: 5]
    #[arg(long, value_name = "K")]
    top: Option<usize>,
    /// Print what is found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    foreign: ForeignArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What annotated images are written as.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum ImageFormat {
    #[default]
    Png,
    Jpg,
    Svg,
}

impl ImageFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
            Self::Svg => "svg",
        }
    }
}

pub(super) fn run(args: PredictArgs) -> anyhow::Result<ExitCode> {
    let files = find_images(&args.inputs)?;
    let device = args.device.resolve()?;
    let weights = args.foreign.load(&args.checkpoint)?;
    if let Some(output) = &args.output {
        std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    }
    let model = Model::from_weights(weights, &args.checkpoint, &device.device)?;
    let failed = match model.task() {
        Task::Classification => classification::run(&args, &model, &files)?,
        Task::Detection => detection::run(&args, &model, &files)?,
    };
    if failed > 0 {
        status!("{failed} of {} files could not be read", files.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Files as they are, directories by their images, patterns by what they match; sorted, each once.
fn find_images(inputs: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let before = files.len();
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| input.clone())?;
            for entry in entries {
                let entry = entry.with_context(|| input.clone())?.path();
                if has_image_extension(&entry) {
                    files.push(entry);
                }
            }
            if files.len() == before {
                bail!(
                    "{input}: no image in this directory ({})",
                    IMAGE_EXTENSIONS.join(", ")
                );
            }
        } else if path.exists() {
            files.push(path.to_path_buf());
        } else if input.contains(['*', '?', '[']) {
            for found in glob::glob(input).with_context(|| input.clone())? {
                files.push(found?);
            }
            if files.len() == before {
                bail!("{input}: no file matches");
            }
        } else {
            bail!("{input}: no such file or directory");
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
