//! `sedet view`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::console::problem;
use super::hints::{advise, usage, usage_with_hint};
use super::model::PrecisionArgs;
use super::named::path_or_named;
use super::progress::{Meter, Unit};
use super::train::check_data_dir_of_run;
use super::{DeviceArgs, check_data_dir, number, print_out, status};
use sedet_core::device::Execution;
use sedet_core::weights::load::check_weights;
use sedet_core::weights::named::NamedWeights;
use sedet_data::annotations::layout::Split;
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::text::printable;
use sedet_viewer::headless::{PageExport, export, pages};
use sedet_viewer::state::{Settings, TaskProgress};
use sedet_viewer::{Content, Opening, RendererChoice, RendererError};

const EXAMPLES: &str = "\
Examples:
  sedet view
  sedet view runs/shapes
  sedet view --dataset photos/ --checkpoint best.safetensors
  sedet view runs/shapes --export figures/ --page data";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ViewArgs {
    /// Run, checkpoint, image, directory, dataset, results or excitation file to open [default: the shipped
    /// detector on generated scenes]
    path: Option<String>,
    /// Dataset to show: a name or a directory (see `sedet train --help`)
    #[arg(long)]
    dataset: Option<String>,
    /// Directory of the named datasets [default: $SEDET_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Split to show: train, val or test [default: val]
    #[arg(long)]
    split: Option<Split>,
    /// Checkpoint, run, or name of published weights to run on the images
    #[arg(long, visible_alias = "weights", value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Second checkpoint, for comparison
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Detections of the dataset in COCO results format
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Graphics API: auto, opengl or, if built with it, wgpu (Vulkan, Metal, DirectX)
    #[arg(long, default_value_t, value_parser = renderer)]
    renderer: RendererChoice,
    #[command(flatten)]
    export: ExportArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Export without a window")]
struct ExportArgs {
    /// Write the exports of a page to this directory and print their paths; no display is required
    #[arg(long, value_name = "DIR", conflicts_with = "renderer")]
    export: Option<PathBuf>,
    /// Page: image, grid, gates, data, errors, training or model [default: image]
    #[arg(long, requires = "export")]
    page: Option<String>,
    /// Image that the page shows, by name or the end of its path [default: the first]
    #[arg(long, value_name = "NAME", requires = "export")]
    image: Option<String>,
    /// Scale of PNG files, 1 to 4 [default: that of the image; 1 for figures]
    #[arg(long, value_name = "N", requires = "export", value_parser = clap::value_parser!(u32).range(1..=4))]
    scale: Option<u32>,
    /// Minimum score of the boxes
    #[arg(long, requires = "export", value_parser = number::<f32>, allow_negative_numbers = true)]
    score: Option<f32>,
    /// IoU at which a box matches an annotation
    #[arg(long, requires = "export", value_parser = number::<f32>, allow_negative_numbers = true)]
    iou: Option<f32>,
}

impl ExportArgs {
    /// Returns what is exported; `None` if a window opens.
    fn wanted(self) -> anyhow::Result<Option<PageExport>> {
        let Some(directory) = self.export else {
            return Ok(None);
        };
        let mut settings = Settings {
            export_directory: directory,
            export_scale: self.scale,
            ..Settings::default()
        };
        let thresholds = [
            ("--score", self.score, &mut settings.filter.score),
            ("--iou", self.iou, &mut settings.filter.iou),
        ];
        for (option, given, threshold) in thresholds {
            let Some(value) = given else { continue };
            if !(0.0..=1.0).contains(&value) {
                return Err(usage(format!(
                    "{option} {value}: a value from 0 to 1 is required"
                )));
            }
            *threshold = value;
        }
        let page = self.page.unwrap_or_else(|| "image".to_owned());
        if !pages().any(|known| known.eq_ignore_ascii_case(&page)) {
            let known: Vec<String> = pages().collect();
            return Err(usage_with_hint(
                format!("--page {page}: there is no such page"),
                format!("pages are {}", known.join(", ")),
            ));
        }
        Ok(Some(PageExport {
            page,
            image: self.image,
            settings,
            corrections: sedet_viewer::corrections_file(),
        }))
    }
}

/// Parses the name of a renderer.
fn renderer(name: &str) -> Result<RendererChoice, String> {
    name.parse().map_err(|error| match error {
        RendererError::NotCompiledIn { name } => {
            format!("{error}: build with '--features {name}'")
        }
        RendererError::Unknown { .. } => error.to_string(),
    })
}

/// Environment variables that name an X11 or Wayland display.
#[cfg(all(unix, not(target_os = "macos")))]
const DISPLAYS: [&str; 3] = ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"];

pub(super) fn run(args: ViewArgs) -> anyhow::Result<ExitCode> {
    check_paths(&args)?;
    let named = |path: Option<PathBuf>| path.map(|path| file_of(&path)).transpose();
    // Other words can be names of datasets.
    let what = match args.path {
        Some(what) if NamedWeights::of_name(&what).is_ok() => {
            Some(file_of(Path::new(&what))?.display().to_string())
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
    for checkpoint in opening.checkpoints() {
        check_weights(&checkpoint)?;
    }
    check_combination(&opening)?;
    let wanted = args.export.wanted()?;
    if wanted.is_none() {
        check_display()?;
    }
    let device = args.device.resolve()?;
    let execution = Execution {
        precision: args.precision.resolve(&device)?,
        device: device.device,
    };
    if let Some(wanted) = wanted {
        return export_page(opening, execution, &wanted);
    }
    sedet_viewer::run(opening, execution, args.renderer).map_err(|error| {
        let reason = without_source_location(&error.to_string());
        anyhow!("the viewer's window cannot be opened: {reason}")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the exports of a page, and prints their paths.
fn export_page(
    opening: Opening,
    execution: Execution,
    wanted: &PageExport,
) -> anyhow::Result<ExitCode> {
    let mut meter: Option<Meter> = None;
    let exported = export(opening, execution, wanted, &mut |progress| {
        let TaskProgress { label, done, total } = progress;
        let (done, total) = (*done as u64, *total as u64);
        let meter = meter.get_or_insert_with(|| Meter::new(label, Unit::Images));
        meter.begin(label, Unit::Images, done);
        meter.show(done, (total > 0).then_some(total));
    });
    drop(meter);
    let exported = exported?;
    for error in &exported.errors {
        problem!("warning: {error}");
    }
    for note in &exported.notes {
        status!("note: {note}");
    }
    let paths = exported.files.iter();
    let paths: String = paths.map(|path| format!("{}\n", path.display())).collect();
    print_out(&paths)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the file that an argument denotes. Without a display nothing is downloaded.
fn file_of(path: &Path) -> anyhow::Result<PathBuf> {
    let is_name = path
        .to_str()
        .is_some_and(|name| NamedWeights::of_name(name).is_ok());
    if is_name && !path.exists() {
        check_display()?;
    }
    path_or_named(path)
}

/// Checks that a window can open.
fn check_display() -> anyhow::Result<()> {
    #[cfg(all(unix, not(target_os = "macos")))]
    if DISPLAYS
        .iter()
        .all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty()))
    {
        return Err(advise(
            "no display for the viewer's window (DISPLAY and WAYLAND_DISPLAY are not set)",
            "without a display, add --export DIR to write the exports of a page; sedet predict, eval and excite \
             write similar files",
        ));
    }
    Ok(())
}

/// Checks what is named before a window opens.
fn check_paths(args: &ViewArgs) -> anyhow::Result<()> {
    let is_dataset = |path: &&String| NamedWeights::of_name(path).is_err();
    let paths = args.path.iter().filter(is_dataset).chain(&args.dataset);
    for name in paths.filter(|name| !Path::new(name).exists()) {
        AnyDatasetName::parse(name)?;
    }
    if let Some(results) = &args.results {
        std::fs::metadata(results).with_context(|| results.display().to_string())?;
    }
    Ok(())
}

/// Refuses options that would have no effect on what is opened.
fn check_combination(opening: &Opening) -> anyhow::Result<()> {
    let lacks = |option: &str, what: &str, form: &str| {
        usage_with_hint(format!("{option} requires {what}"), format!("add {form}"))
    };
    let lacks_dataset = |option| lacks(option, "a dataset", "--dataset DATASET");
    if opening.split.is_some() && !opening.opens_dataset() {
        return Err(lacks_dataset("--split"));
    }
    if opening.data_dir.is_some() && !opening.opens_dataset() {
        return Err(lacks_dataset("--data-dir"));
    }
    if opening.results.is_some() && !opening.opens_annotations() {
        return Err(lacks_dataset("--results"));
    }
    if opening.compare.is_some() && !opening.opens_model() {
        return Err(lacks(
            "--compare",
            "a model to compare with",
            "--checkpoint FILE",
        ));
    }
    let content = opening.content();
    check_replaced(opening, content.as_ref())?;
    let data_dir = opening.data_dir.as_deref();
    match (&opening.dataset, &content) {
        (Some(dataset), _) | (None, Some(Content::Dataset(dataset))) => {
            check_data_dir(dataset, data_dir)
        }
        (None, Some(Content::Run(run))) => {
            check_data_dir_of_run(run, data_dir, "if it has moved, add --dataset PATH")
        }
        (None, _) => Ok(()),
    }
}

/// Refuses an option whose content the path replaces.
fn check_replaced(opening: &Opening, content: Option<&Content>) -> anyhow::Result<()> {
    const EITHER: &str = "open one of them";
    let (option, is_given, hint) = match content {
        Some(Content::Dataset(_) | Content::Images) => {
            ("--dataset", opening.dataset.is_some(), EITHER)
        }
        Some(Content::Model) => (
            "--checkpoint",
            opening.checkpoint.is_some(),
            "to compare both: --compare FILE in place of --checkpoint FILE",
        ),
        Some(Content::Results) => ("--results", opening.results.is_some(), EITHER),
        Some(Content::Run(_) | Content::Excitation) | None => return Ok(()),
    };
    if !is_given {
        return Ok(());
    }
    let path = printable(opening.what.as_deref().unwrap_or_default());
    Err(usage_with_hint(
        format!("{option} has no effect: {path} is opened instead"),
        hint,
    ))
}

/// Returns the reason in a message of winit, which names the line in its source code:
/// `winit EventLoopError: os error at /.../mod.rs:765: no display`.
fn without_source_location(message: &str) -> String {
    let reason = message
        .split_once("os error at ")
        .and_then(|(_, rest)| rest.split_once(": "));
    reason.map_or(message, |(_, reason)| reason).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_why_no_window_opens_has_no_source_location() {
        let message = "winit EventLoopError: os error at /a/winit/src/mod.rs:765: no display";
        assert_eq!(without_source_location(message), "no display");
        assert_eq!(without_source_location("no OpenGL"), "no OpenGL");
    }
}
