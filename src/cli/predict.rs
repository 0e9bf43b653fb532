//! `sedet predict`.

use std::collections::{BTreeSet, HashSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use image::RgbImage;
use serde::Serialize;

use super::hints::{advise, hint_for, usage, usage_with_hint};
use super::inputs::{InputImages, find_images};
use super::model::ModelArgs;
use super::named::USUAL_DETECTOR;
use super::progress::{Meter, Unit};
use super::{
    ImageFormat, is_broken_pipe, number, output_directory, print_out, problem, quoted,
    report_other_files, status, stop_on_ctrl_c, whole_number,
};
use sedet_core::model::{DEFAULT_TOP, Model, RankedClass, Task};
use sedet_core::render::{DrawnBox, save_boxes};
use sedet_core::report::{drawn_detections, unique_name, write_text};
use sedet_core::train::engine::goes_on;
use sedet_core::train::run_dir::RunDir;
use sedet_data::eval::confusion::DEFAULT_SCORE;
use sedet_data::eval::{NamedResultRow, ResultRow, write_results};
use sedet_data::loading::decode::decode_image;
use sedet_data::loading::prefetch::{PrefetchLimits, with_prefetch};
use sedet_data::text::count;

/// The results: COCO results of a detector, the classes of each image of a classifier.
const PREDICTIONS: &str = "predictions.json";
/// All images that a detector processed: the results list no image without detections.
const IMAGES: &str = "images.json";

const EXAMPLES: &str = "\
Examples:
  sedet predict photo.jpg --weights fasterrcnn-resnet50-fpn-coco
  sedet predict --checkpoint best.safetensors photo.jpg --output detections/
  sedet predict --checkpoint best.safetensors photos/ --recursive --json
  sedet predict --checkpoint best.safetensors @list.txt --score 0.7";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PredictArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Images, directories of images, patterns such as 'photos/*.jpg', @FILE for a list with one path
    /// per line, or - for a list on stdin
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Include images in subdirectories
    #[arg(long, short)]
    recursive: bool,
    /// Directory for predictions.json and, with a detector, images.json and the annotated images
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Detectors: format of the annotated images; SVG keeps boxes and labels as vector graphics
    /// [default: png]
    #[arg(long, value_enum, value_name = "FORMAT", requires = "output")]
    image_format: Option<ImageFormat>,
    /// Detectors: minimum score of reported detections [default: 0.5]
    #[arg(long, value_parser = number::<f32>, allow_negative_numbers = true)]
    score: Option<f32>,
    /// Classifiers: number of top classes to report [default: 5]
    #[arg(long, value_name = "K", value_parser = whole_number::<usize>)]
    top: Option<usize>,
}

pub(super) fn run(args: PredictArgs) -> anyhow::Result<ExitCode> {
    let Some(checkpoint) = &args.model.checkpoint else {
        return Err(no_model(&args.inputs));
    };
    let InputImages {
        files,
        unsupported,
        repeated,
    } = find_images(&args.inputs, args.recursive)?;
    if repeated > 0 {
        let images = count(repeated, "image");
        status!("note: {images} named more than once: predicted once");
    }
    if let Some(images) = unsupported {
        problem!("warning: skipped {images}");
    }
    let (model, _) = args.model.load(checkpoint)?;
    check_options(&args, checkpoint, model.task())?;
    if let Some(output) = &args.output {
        output_directory(output)?;
        // No image that is read is an SVG.
        let format = args.image_format.unwrap_or_default();
        if model.task() == Task::Detection && !matches!(format, ImageFormat::Svg) {
            check_output(output, &files)?;
        }
    }
    let mut report: Box<dyn Report> = match model.task() {
        Task::Detection => Box::new(Detections::new(&args, &model)?),
        Task::Classification => Box::new(Classes::new(&args, &model)),
    };
    let (mut done, mut failed, mut hints) = (0, 0, BTreeSet::new());
    let stop = stop_on_ctrl_c()?;
    // The predictions themselves show the progress on a terminal.
    let is_silent = args.model.json || !std::io::stdout().is_terminal();
    let meter = is_silent.then(|| Meter::new("predicting", Unit::Images));
    let load = |index: usize| decode_image(&files[index]);
    with_prefetch(
        files.len(),
        PrefetchLimits::AHEAD_OF_NETWORK,
        load,
        |images| {
            for ((image_id, file), image) in (1..).zip(&files).zip(images) {
                if goes_on(&stop).is_break() {
                    break;
                }
                if let Some(meter) = &meter {
                    meter.show(image_id - 1, Some(files.len() as u64));
                }
                match image {
                    Ok(image) => {
                        report.add(image_id, file, image)?;
                        done += 1;
                    }
                    Err(error) => {
                        // One bad image does not cost the others their result.
                        problem!("error: {error}");
                        hints.extend(hint_for(&error.into()));
                        failed += 1;
                    }
                }
            }
            anyhow::Ok(())
        },
    )??;
    drop(meter);
    let written = report.finish()?;
    if let Some(output) = &args.output {
        report_written(output, model.task(), done, &written);
    }
    report_incomplete(files.len(), done, failed, &hints);
    Ok(if done == files.len() && written.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was written to the output directory.
#[derive(Debug, Default)]
struct Written {
    /// The names of all files.
    names: HashSet<String>,
    /// The number of annotated images that could not be written.
    failed: usize,
    /// The number of images without detections.
    empty: usize,
}

/// Prints which files were written.
fn report_written(output: &Path, task: Task, done: usize, written: &Written) {
    let images = count(done - written.failed, "image");
    match task {
        Task::Detection => {
            status!(
                "wrote {images}, predictions.json and images.json to {}",
                output.display()
            );
            if written.empty > 0 {
                status!(
                    "{} of {} without detections; images.json lists all",
                    written.empty,
                    count(done, "image")
                );
            }
        }
        Task::Classification => {
            status!("wrote predictions.json ({images}) to {}", output.display());
        }
    }
    report_other_files(output, &written.names);
}

/// Writes a file of results. If that is not possible, it is written to the directory of temporary files, so that what was
/// computed is not lost; the hint of the error names it.
fn write_or_rescue(
    output: &Path,
    name: &str,
    write: impl Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Err(error) = write(&output.join(name)) else {
        return Ok(());
    };
    let rescued = std::env::temp_dir().join(format!("sedet-{}-{name}", std::process::id()));
    match write(&rescued) {
        Ok(()) => Err(advise(
            error,
            format!(
                "the results are in {} instead: move them",
                rescued.display()
            ),
        )),
        Err(_) => Err(error),
    }
}

/// Prints which images have no result, if there are any: those that failed, with the hints of their errors, and those
/// after an interrupt.
fn report_incomplete(all: usize, done: usize, failed: usize, hints: &BTreeSet<String>) {
    if failed > 0 {
        problem!("{failed} of {} could not be read", count(all, "file"));
        for hint in hints {
            problem!("hint: {hint}");
        }
    }
    if done + failed < all {
        problem!(
            "interrupted after {} of {}; their results are kept",
            done + failed,
            count(all, "image")
        );
    }
}

/// Returns the error about a command without a model. The hint is a command that works.
fn no_model(inputs: &[String]) -> anyhow::Error {
    let (models, inputs): (Vec<&String>, Vec<&String>) =
        inputs.iter().partition(|input| is_model(input));
    let inputs: Vec<String> = inputs.into_iter().map(quoted).collect();
    if let Some(model) = models.first() {
        let images = match inputs.as_slice() {
            [] => "IMAGE".to_string(),
            inputs => inputs.join(" "),
        };
        return usage_with_hint(
            format!("{model}: a model among the images"),
            format!("sedet predict --checkpoint {} {images}", quoted(model)),
        );
    }
    usage_with_hint(
        "no model is given",
        format!(
            "for COCO's 80 classes: sedet predict {} --weights {USUAL_DETECTOR}; for a model of your own: \
             --checkpoint runs/NAME",
            inputs.join(" ")
        ),
    )
}

/// Returns whether an input is a weights file or a run rather than images.
fn is_model(input: &str) -> bool {
    let path = Path::new(input);
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let extension = extension.to_lowercase();
    ["safetensors", "pth", "pt", "npz", "onnx"].contains(&extension.as_str())
        || path.is_dir() && RunDir::is_run(path)
}

/// Refuses options of the other task and values out of range.
fn check_options(args: &PredictArgs, checkpoint: &Path, task: Task) -> anyhow::Result<()> {
    let (wrong, required) = match task {
        Task::Detection => (args.top.is_some().then_some("--top"), "classifier"),
        Task::Classification => {
            let score = args.score.is_some().then_some("--score");
            let format = args.image_format.is_some().then_some("--image-format");
            (score.or(format), "detector")
        }
    };
    if let Some(option) = wrong {
        return Err(usage_with_hint(
            format!(
                "{option} requires a {required}; {} is a {}",
                checkpoint.display(),
                task.model_name()
            ),
            format!("omit {option}"),
        ));
    }
    if args.top == Some(0) {
        return Err(usage("--top 0: at least 1 is required"));
    }
    match args.score {
        Some(score) if !(0.0..=1.0).contains(&score) => Err(usage(format!(
            "--score {score}: a value from 0 to 1 is required"
        ))),
        _ => Ok(()),
    }
}

/// Refuses an output directory whose images annotated ones would replace.
fn check_output(output: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    let output = output
        .canonicalize()
        .with_context(|| output.display().to_string())?;
    let is_within = |file: &&PathBuf| {
        let directory = file.parent().map(|directory| match directory {
            current if current.as_os_str().is_empty() => Path::new("."),
            other => other,
        });
        directory.is_some_and(|directory| directory.canonicalize().is_ok_and(|d| d == output))
    };
    match files.iter().find(is_within) {
        Some(file) => Err(usage_with_hint(
            format!(
                "--output: {} is in this directory, and annotated images could replace it",
                file.display()
            ),
            "choose another --output",
        )),
        None => Ok(()),
    }
}

/// Predictions on their way to the console and to files.
trait Report {
    /// Predicts and prints one image.
    fn add(&mut self, image_id: u64, file: &Path, image: RgbImage) -> anyhow::Result<()>;
    /// Writes what all images have in common.
    fn finish(&mut self) -> anyhow::Result<Written>;
}

/// An image that was processed, with or without detections.
#[derive(Debug, Serialize)]
struct PredictedImage {
    /// The id of its rows in `predictions.json`.
    image_id: u64,
    file_name: String,
    width: u32,
    height: u32,
    /// The number of its rows.
    detections: usize,
}

/// The boxes of a detector.
struct Detections<'a> {
    args: &'a PredictArgs,
    model: &'a Model,
    min_score: f32,
    rows: Vec<NamedResultRow>,
    images: Vec<PredictedImage>,
    /// Names of written images.
    names: HashSet<String>,
    /// The annotated images, with `--output`.
    annotated: Option<AnnotatedImages>,
}

impl<'a> Detections<'a> {
    fn new(args: &'a PredictArgs, model: &'a Model) -> anyhow::Result<Self> {
        if !args.model.json {
            let header = format!(
                "  {:<24} {:>6}  box in pixels (x, y, width, height)",
                "class", "score"
            );
            print_results(args, &header)?;
        }
        Ok(Self {
            args,
            model,
            min_score: args.score.unwrap_or(DEFAULT_SCORE),
            rows: Vec::new(),
            images: Vec::new(),
            names: HashSet::new(),
            annotated: match args.output {
                Some(_) => Some(AnnotatedImages::start()?),
                None => None,
            },
        })
    }
}

/// Prints results. With `--output` they are also written to a file, which does not depend on a reader of stdout.
fn print_results(args: &PredictArgs, text: &str) -> anyhow::Result<()> {
    match print_out(text) {
        Err(error) if args.output.is_some() && is_broken_pipe(&error) => Ok(()),
        printed => printed,
    }
}

impl Report for Detections<'_> {
    fn add(&mut self, image_id: u64, file: &Path, image: RgbImage) -> anyhow::Result<()> {
        let categories = &self.model.spec.categories;
        let mut found = self.model.detect(&image)?;
        found.retain(|d| d.score >= self.min_score);
        let file_name = file.display().to_string();
        if !self.args.model.json {
            print_results(self.args, &file_name)?;
        }
        for d in &found {
            let category = &categories[d.label];
            if !self.args.model.json {
                let [x, y, w, h] = d.box_in_image.to_xywh();
                let row = format!(
                    "  {:<24} {:>6.3}  {x:.1}, {y:.1}, {w:.1}, {h:.1}",
                    category.name, d.score
                );
                print_results(self.args, &row)?;
            }
            self.rows.push(NamedResultRow {
                row: ResultRow::new(image_id, category.id, d.box_in_image, d.score),
                file_name: Some(file_name.clone()),
                category_name: Some(category.name.clone()),
            });
        }
        if !self.args.model.json && found.is_empty() {
            let min_score = self.min_score;
            print_results(self.args, &format!("  no detections above {min_score}"))?;
        }
        self.images.push(PredictedImage {
            image_id,
            file_name,
            width: image.width(),
            height: image.height(),
            detections: found.len(),
        });
        if let (Some(output), Some(annotated)) = (&self.args.output, &mut self.annotated) {
            let format = self.args.image_format.unwrap_or_default();
            let name = unique_name(file, format.extension(), &mut self.names);
            annotated.write(Annotated {
                image,
                boxes: drawn_detections(&found, categories),
                path: output.join(name),
            })?;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<Written> {
        let mut written = Written {
            empty: self.images.iter().filter(|i| i.detections == 0).count(),
            ..Written::default()
        };
        if let Some(annotated) = &mut self.annotated {
            written.failed = annotated.finish()?;
        }
        if written.failed > 0 {
            let failed = count(written.failed, "annotated image");
            problem!("{failed} could not be written");
        }
        let files = match &self.args.output {
            Some(output) => self.write_files(output),
            None => Ok(()),
        };
        // Results that cannot be written to a file can still be printed.
        if self.args.model.json {
            print_results(self.args, &serde_json::to_string(&self.rows)?)?;
        }
        files?;
        written.names = std::mem::take(&mut self.names);
        written
            .names
            .extend([PREDICTIONS, IMAGES].map(str::to_owned));
        Ok(written)
    }
}

impl Detections<'_> {
    /// Writes the detections, and a list of all images that were processed.
    fn write_files(&self, output: &Path) -> anyhow::Result<()> {
        let predictions = write_or_rescue(output, PREDICTIONS, |path| {
            Ok(write_results(path, &self.rows)?)
        });
        let images = serde_json::to_string_pretty(&self.images)?;
        let images = write_or_rescue(output, IMAGES, |path| Ok(write_text(path, &images)?));
        predictions.and(images)
    }
}

/// An image with its boxes, to be drawn and written.
struct Annotated {
    image: RgbImage,
    boxes: Vec<DrawnBox>,
    path: PathBuf,
}

/// A thread that draws and writes images while the network computes the next one.
struct AnnotatedImages {
    /// None once no further image comes.
    queue: Option<SyncSender<Annotated>>,
    /// None once it has ended. Returns the number of images that could not be written.
    thread: Option<JoinHandle<usize>>,
}

impl AnnotatedImages {
    /// Images that wait at most: with more, a slow disk would let them fill the memory.
    const QUEUED: usize = 2;

    fn start() -> anyhow::Result<Self> {
        let (queue, waiting) = sync_channel::<Annotated>(Self::QUEUED);
        // An image that cannot be written does not cost the others their result.
        let write_all = move || {
            let mut failed = 0;
            for next in waiting {
                if let Err(error) = save_boxes(&next.image, &next.boxes, &next.path) {
                    if failed == 0 {
                        problem!("error: {error}; the prediction continues");
                    }
                    failed += 1;
                }
            }
            failed
        };
        let thread = thread::Builder::new().spawn(write_all);
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread.context("a thread cannot be started")?),
        })
    }

    /// Writes an image later.
    fn write(&mut self, annotated: Annotated) -> anyhow::Result<()> {
        let queue = self.queue.as_ref();
        match queue.map(|queue| queue.send(annotated)) {
            Some(Ok(())) => Ok(()),
            // Nobody receives: the thread has panicked.
            _ => self.finish().map(drop),
        }
    }

    /// Waits until all images are written; returns the number of those that could not be.
    fn finish(&mut self) -> anyhow::Result<usize> {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            Some(Ok(failed)) => Ok(failed),
            None => Ok(0),
        }
    }
}

impl Drop for AnnotatedImages {
    /// After an error elsewhere, which is the one that is reported, no file is left half written.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The top classes of a classifier.
struct Classes<'a> {
    args: &'a PredictArgs,
    model: &'a Model,
    images: Vec<Classified>,
}

/// The top classes of one image.
#[derive(Debug, Serialize)]
struct Classified {
    file_name: String,
    /// By descending probability.
    classes: Vec<RankedClass>,
}

impl<'a> Classes<'a> {
    fn new(args: &'a PredictArgs, model: &'a Model) -> Self {
        Self {
            args,
            model,
            images: Vec::new(),
        }
    }
}

impl Report for Classes<'_> {
    fn add(&mut self, _image_id: u64, file: &Path, image: RgbImage) -> anyhow::Result<()> {
        let top = self.args.top.unwrap_or(DEFAULT_TOP);
        let classes = self.model.classify(&image, top)?;
        if !self.args.model.json {
            print_results(self.args, &bars(file, &classes))?;
        }
        self.images.push(Classified {
            file_name: file.display().to_string(),
            classes,
        });
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<Written> {
        let json = serde_json::to_string_pretty(&self.images)?;
        if self.args.model.json {
            print_results(self.args, &json)?;
        }
        if let Some(output) = &self.args.output {
            write_or_rescue(output, PREDICTIONS, |path| Ok(write_text(path, &json)?))?;
        }
        Ok(Written {
            names: HashSet::from([PREDICTIONS.to_owned()]),
            ..Written::default()
        })
    }
}

/// Characters of a bar for a probability of 1.
const BAR: f32 = 30.0;

/// Formats the name of an image and one line with a bar per class.
fn bars(file: &Path, classes: &[RankedClass]) -> String {
    let width = classes.iter().map(|c| c.name.chars().count()).max();
    let width = width.unwrap_or(0);
    let rows = classes.iter().map(|class| {
        let bar = "█".repeat((class.probability * BAR).round() as usize);
        let percent = 100.0 * class.probability;
        let row = format!("  {:<width$}  {percent:>5.1} %  {bar}", class.name);
        row.trim_end().to_string()
    });
    let rows: Vec<String> = rows.collect();
    format!("{}\n{}", file.display(), rows.join("\n"))
}
