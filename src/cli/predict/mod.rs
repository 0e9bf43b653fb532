//! `sedet predict`.

mod classification;
mod detection;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

pub(super) use detection::{SCORE, drawn};

use super::DeviceArgs;
use super::weights::ForeignArgs;
use crate::data::decode::{PICTURE_EXTENSIONS, has_picture_extension};
use crate::talk::say;

#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// A trained network: a sedet checkpoint, or a file from torchvision, timm, detectron2, ...
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    checkpoint: PathBuf,
    /// Pictures, folders of pictures, or patterns such as 'photos/*.jpg'
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Folder for predictions.json and, from a detector, the annotated pictures
    #[arg(long)]
    output: Option<PathBuf>,
    /// Of a detector: the format of the annotated pictures; in an SVG boxes and labels stay such
    /// [default: png]
    #[arg(long, value_enum, value_name = "FORMAT", requires = "output")]
    pictures: Option<PictureFormat>,
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

/// What annotated pictures are written as.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum PictureFormat {
    #[default]
    Png,
    Jpg,
    Svg,
}

impl PictureFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
            Self::Svg => "svg",
        }
    }
}

pub(super) fn run(args: PredictArgs) -> anyhow::Result<ExitCode> {
    let files = find_pictures(&args.inputs)?;
    let device = args.device.resolve()?;
    let weights = args.foreign.load(&args.checkpoint)?;
    if let Some(output) = &args.output {
        std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    }
    let failed = match weights.metadata["task"] == "classification" {
        true => classification::run(&args, weights, &files, &device.device)?,
        false => detection::run(&args, weights, &files, &device.device)?,
    };
    if failed > 0 {
        say!("{failed} of {} files could not be read", files.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Files as they are, folders by their pictures, patterns by what they match; sorted, each once.
fn find_pictures(inputs: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let before = files.len();
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| input.clone())?;
            for entry in entries {
                let entry = entry.with_context(|| input.clone())?.path();
                if has_picture_extension(&entry) {
                    files.push(entry);
                }
            }
            if files.len() == before {
                bail!(
                    "{input}: no picture in this folder ({})",
                    PICTURE_EXTENSIONS.join(", ")
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
            bail!("{input}: no such file or folder");
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
