//! `sedet view`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;

use super::DeviceArgs;
use super::eval::parse_split;
use sedet_data::annotations::layout::Split;
use sedet_viewer::{Opening, RendererChoice};

#[derive(Debug, clap::Args)]
pub(super) struct ViewArgs {
    /// A training run, checkpoint, image, directory, dataset, results or excitation file
    /// [default: the shipped detector on generated scenes]
    path: Option<String>,
    /// The dataset to show: a name or a directory, as for train and eval
    #[arg(long)]
    dataset: Option<String>,
    /// Directory that holds the named datasets [default: $SEDET_DATA]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Which split of the dataset: train, val or test [default: val]
    #[arg(long, value_parser = parse_split)]
    split: Option<Split>,
    /// The network to use on the images
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// A second network to compare with
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Detections in COCO's results format, of the dataset
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Graphics API: auto, opengl or, if built with it, wgpu (Vulkan, Metal, DirectX)
    #[arg(long, default_value_t)]
    renderer: RendererChoice,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The variables that name a display where windows are X11's or Wayland's.
#[cfg(all(unix, not(target_os = "macos")))]
const DISPLAYS: [&str; 3] = ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"];

pub(super) fn run(args: ViewArgs) -> anyhow::Result<ExitCode> {
    #[cfg(all(unix, not(target_os = "macos")))]
    if DISPLAYS.iter().all(|name| std::env::var_os(name).is_none()) {
        anyhow::bail!(
            "there is no display to open a window on (DISPLAY and WAYLAND_DISPLAY are not set); \
             sedet predict, eval and excite make the same figures without one"
        );
    }
    let device = args.device.resolve()?;
    let opening = Opening {
        what: args.path,
        dataset: args.dataset,
        split: args.split,
        data_dir: args.data_dir,
        checkpoint: args.checkpoint,
        compare: args.compare,
        results: args.results,
    };
    sedet_viewer::run(opening, device.device, args.renderer)
        .map_err(|error| anyhow!("the window can't be opened: {error}"))?;
    Ok(ExitCode::SUCCESS)
}
