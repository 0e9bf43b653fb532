//! `sedet view`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;

use super::DeviceArgs;
use super::hints::advise;
use super::named::path_or_named;
use sedet_core::weights::named::NamedWeights;
use sedet_data::annotations::layout::Split;
use sedet_viewer::{Opening, RendererChoice};

const EXAMPLES: &str = "\
Examples:
  sedet view
  sedet view runs/shapes
  sedet view --dataset photos/ --checkpoint best.safetensors";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ViewArgs {
    /// Run, checkpoint, image, directory, dataset, results or excitation file to open
    /// [default: the shipped detector on generated scenes]
    path: Option<String>,
    /// Dataset to show: a name or a directory (see `sedet train --help`)
    #[arg(long)]
    dataset: Option<String>,
    /// Directory that holds the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Split to show: train, val or test [default: val]
    #[arg(long)]
    split: Option<Split>,
    /// Checkpoint, run, or name of published weights to use on the images
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Second checkpoint to compare with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Detections of the dataset in COCO results format
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Graphics API: auto, opengl or, if built with it, wgpu (Vulkan, Metal, DirectX)
    #[arg(long, default_value_t)]
    renderer: RendererChoice,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Environment variables that name an X11 or Wayland display.
#[cfg(all(unix, not(target_os = "macos")))]
const DISPLAYS: [&str; 3] = ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"];

pub(super) fn run(args: ViewArgs) -> anyhow::Result<ExitCode> {
    #[cfg(all(unix, not(target_os = "macos")))]
    if DISPLAYS.iter().all(|name| std::env::var_os(name).is_none()) {
        return Err(advise(
            "no display for the viewer's window (DISPLAY and WAYLAND_DISPLAY are not set)",
            "sedet predict, eval and excite write the same figures without a display",
        ));
    }
    let device = args.device.resolve()?;
    let named = |path: Option<PathBuf>| path.map(|path| path_or_named(&path)).transpose();
    // Other words can be names of datasets.
    let what = match args.path {
        Some(what) if NamedWeights::of_name(&what).is_ok() => {
            let path = path_or_named(Path::new(&what))?;
            Some(path.display().to_string())
        }
        what => what,
    };
    let opening = Opening {
        what,
        dataset: args.dataset,
        split: args.split,
        data_dir: args.data_dir,
        checkpoint: named(args.checkpoint)?,
        compare: named(args.compare)?,
        results: args.results,
    };
    sedet_viewer::run(opening, device.device, args.renderer)
        .map_err(|error| anyhow!("the viewer's window cannot be opened: {error}"))?;
    Ok(ExitCode::SUCCESS)
}
