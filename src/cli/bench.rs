//! `sedet bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use burn::tensor::Device;
use serde::Serialize;

use super::hints::{advise, usage_with_hint};
use super::model::ModelArgs;
use super::progress::{Unit, with_bar_of};
use super::{print_out, quoted, status, whole_number_within};
use sedet_core::backbones::zoo::{self, ZooError};
use sedet_core::bench::{BatchSize, BenchError, Repeats, Timed, Times, inference, macs, training};
use sedet_core::classification::classifier::ClassifierConfig;
use sedet_core::detection::faster_rcnn::{FasterRcnnConfig, Preset};
use sedet_core::model::{ModelError, ModelSpec, Network, NetworkConfig, Task};
use sedet_core::weights::load::LoadedWeights;
use sedet_core::weights::named::NamedWeights;
use sedet_data::boxes::ImageSize;
use sedet_data::loading::transforms::preprocess::Preprocess;
use sedet_data::text::count;
use sedet_nn::kernels::bf16::ComputePrecision;

const EXAMPLES: &str = "\
Examples:
  sedet bench se-resnet50
  sedet bench se-resnet50-fpn --size 800x1088
  sedet bench --checkpoint runs/shapes --train --batch-size 4
  sedet bench resnet50 --threads 1 --json";

/// The end of the name of a detector.
const DETECTOR_SUFFIX: &str = "-fpn";
/// COCO's classes, for a detector with random weights.
const DETECTOR_CLASSES: usize = 80;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BenchArgs {
    /// Network with random weights: a classifier from `sedet models`, or with the suffix -fpn, the Faster R-CNN
    /// with that backbone
    #[arg(conflicts_with = "checkpoint", value_name = "MODEL")]
    name: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Height and width of the input in pixels, or the side of a square [default: the model's, for an image
    /// of 480x640]
    #[arg(long, value_name = "HxW", value_parser = size)]
    size: Option<[usize; 2]>,
    /// Images per batch
    #[arg(long, visible_alias = "batch", value_name = "N", default_value_t = 1,
        value_parser = whole_number_within(1..=4096_u16))]
    batch_size: u16,
    /// Measure training steps instead of inference
    #[arg(long)]
    train: bool,
    /// Number of timed runs, after two warm-up runs [default: as many as fit into 10 s, at least 5]
    #[arg(long, value_name = "N", value_parser = whole_number_within(1..=1_000_000_u32))]
    iterations: Option<u32>,
}

/// Parses height and width, or the side of a square.
fn size(text: &str) -> Result<[usize; 2], String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=16_384).contains(side));
    let (height, width) = text.split_once(['x', 'X']).unwrap_or((text, text));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err("expected height and width from 1 to 16384, such as 800x1088".to_string()),
    }
}

/// A measurement with its subject.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    task: &'static str,
    work: &'static str,
    device: String,
    precision: String,
    threads: usize,
    batch_size: usize,
    height: usize,
    width: usize,
    runs: usize,
    median_ms: f64,
    min_ms: f64,
    images_per_second: f64,
    /// The largest memory of the process; none where the system does not report it.
    peak_bytes: Option<u64>,
    /// Multiply-adds for one image; none for training steps.
    macs: Option<u64>,
    gflop_per_second: Option<f64>,
}

pub(super) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    args.model
        .third_party
        .need("--checkpoint", args.model.checkpoint.is_some())?;
    let device = args.model.device.resolve()?;
    let precision = args.model.precision.resolve(&device)?;
    let subject = Subject::of(&args)?;
    let input = BatchSize {
        images: args.batch_size.into(),
        size: args
            .size
            .unwrap_or_else(|| usual_size(&subject.spec.preprocess)),
    };
    let repeats = Repeats {
        timed: match args.iterations {
            Some(number) => Timed::Exactly(number as usize),
            None => Repeats::default().timed,
        },
        ..Repeats::default()
    };
    let work = if args.train {
        "training step"
    } else {
        "inference"
    };
    let (name, task) = (subject.name.clone(), subject.spec.task());
    let [height, width] = input.size;
    status!(
        "measuring {name}: {work} in {precision}, {} of {height}x{width}, {}",
        count(input.images, "image"),
        device.name
    );
    let (times, macs) = if args.train {
        let autodiff = device.device.clone().autodiff();
        let network = subject.network(&autodiff, None)?;
        let times = with_bar_of(Unit::Runs, "measuring", |progress| {
            training(network, input, (&autodiff, precision), repeats, progress)
        })?;
        (times.map_err(advised)?, None)
    } else {
        let network = subject.network(&device.device, Some(precision))?;
        let times = with_bar_of(Unit::Runs, "measuring", |progress| {
            inference(&network, input, &device.device, repeats, progress)
        })?;
        let times = times.map_err(advised)?;
        let macs = macs(&network, input, &device.device)?;
        (times, Some(macs))
    };
    let on = (device.name, precision);
    let report = Report::new(name, task, work, on, input, &times, macs);
    print_out(&if args.model.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.text()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn advised(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::NotEnoughMemory { .. } => {
            advise(error, "choose a smaller --batch-size or --size")
        }
        error => error.into(),
    }
}

/// The model to measure.
struct Subject {
    name: String,
    spec: ModelSpec,
    /// None for random weights.
    weights: Option<(LoadedWeights, PathBuf)>,
}

impl Subject {
    fn of(args: &BenchArgs) -> anyhow::Result<Self> {
        match (&args.name, &args.model.checkpoint) {
            (_, Some(path)) => {
                let weights = args.model.third_party.load(path)?;
                Ok(Self {
                    name: path.display().to_string(),
                    spec: weights.spec.clone(),
                    weights: Some((weights, path.clone())),
                })
            }
            (Some(name), None) => Ok(Self {
                name: name.clone(),
                spec: published(name).map_err(|unknown| {
                    weights_as_network(name).unwrap_or_else(|| unknown.into())
                })?,
                weights: None,
            }),
            (None, None) => Err(usage_with_hint(
                "no model is given",
                "sedet bench se-resnet50, or --checkpoint FILE for a model of your own",
            )),
        }
    }

    /// Returns the network as predictions in a precision use it, or without one, as training begins with it on a
    /// device with autodiff.
    fn network(
        self,
        device: &Device,
        precision: Option<ComputePrecision>,
    ) -> anyhow::Result<Network> {
        let network = Network::init(&self.spec.network, device);
        let network = match precision {
            Some(_) => network.valid(),
            None => network,
        };
        let network = match self.weights {
            Some((weights, path)) if weights.spec.missing.is_empty() => network
                .with_weights(weights.weights)
                .map_err(|source| ModelError::Parameters { path, source })?,
            Some((weights, path)) => {
                status!(
                    "{}: random weights are measured, because {} missing",
                    path.display(),
                    match weights.spec.missing.len() {
                        1 => "1 tensor is".to_string(),
                        number => format!("{number} tensors are"),
                    }
                );
                network
            }
            None => network,
        };
        Ok(match precision {
            Some(precision) => network.folded(precision),
            None => network,
        })
    }
}

/// Returns the error about a name that is not that of a network, if it is that of weights.
fn weights_as_network(name: &str) -> Option<anyhow::Error> {
    let weights = if Path::new(name).exists() {
        quoted(name)
    } else {
        let known = NamedWeights::of_name(&name.to_lowercase()).ok()?;
        known.name.to_string()
    };
    Some(usage_with_hint(
        format!("{name}: weights, not the name of a network"),
        format!("sedet bench --checkpoint {weights}"),
    ))
}

/// Describes a published network by its name, such as `se-resnet50` or `se-resnet50-fpn`.
fn published(name: &str) -> Result<ModelSpec, ZooError> {
    let lower = name.to_lowercase();
    // The rest keeps its capitals, so that an error shows what was written.
    let detector = lower
        .strip_suffix(DETECTOR_SUFFIX)
        .and_then(|rest| name.get(..rest.len()));
    if let Some(backbone) = detector {
        let config = FasterRcnnConfig::new(
            Preset::Torchvision,
            zoo::backbone(backbone)?,
            DETECTOR_CLASSES,
        );
        let network = NetworkConfig::Detection(config);
        return Ok(ModelSpec::new(network, Preprocess::torchvision()));
    }
    let network = zoo::network(name)?;
    let side = network.input.size;
    let config = ClassifierConfig::new(network.backbone, network.num_classes);
    let preprocess = Preprocess {
        center_crop: Some(side),
        ..Preprocess::imagenet_eval()
    };
    Ok(ModelSpec::new(
        NetworkConfig::Classification(config),
        preprocess,
    ))
}

/// The image whose input is the usual size of a model: most of COCO's images have its sides.
const USUAL_IMAGE: ImageSize = ImageSize {
    height: 480,
    width: 640,
};

/// Returns height and width of the padded input for [`USUAL_IMAGE`].
fn usual_size(preprocess: &Preprocess) -> [usize; 2] {
    let input = preprocess.input_size(USUAL_IMAGE);
    [input.height, input.width].map(|side| side.next_multiple_of(preprocess.size_divisor.max(1)))
}

impl Report {
    fn new(
        model: String,
        task: Task,
        work: &'static str,
        (device, precision): (String, ComputePrecision),
        input: BatchSize,
        times: &Times,
        macs: Option<u64>,
    ) -> Self {
        let median = times.median().as_secs_f64();
        let images = input.images as f64;
        Self {
            model,
            task: match task {
                Task::Detection => "detection",
                Task::Classification => "classification",
            },
            work,
            device,
            precision: precision.to_string(),
            threads: rayon::current_num_threads(),
            batch_size: input.images,
            height: input.size[0],
            width: input.size[1],
            runs: times.count(),
            median_ms: milliseconds(times.median()),
            min_ms: milliseconds(times.least()),
            images_per_second: images / median,
            peak_bytes: times.peak(),
            macs,
            gflop_per_second: macs.map(|macs| 2e-9 * macs as f64 * images / median),
        }
    }

    fn text(&self) -> String {
        let mut rows = vec![
            (
                "latency",
                format!(
                    "{:.1} ms median, {:.1} ms minimum of {}",
                    self.median_ms,
                    self.min_ms,
                    count(self.runs, "run")
                ),
            ),
            (
                "throughput",
                format!("{:.2} images/s", self.images_per_second),
            ),
            (
                "peak memory",
                match self.peak_bytes {
                    Some(bytes) => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
                    None => "not reported by this system".to_string(),
                },
            ),
        ];
        if let (Some(macs), Some(speed)) = (self.macs, self.gflop_per_second) {
            rows.push((
                "computation",
                format!(
                    "{:.2} G multiply-adds per image, {speed:.0} GFLOP/s",
                    macs as f64 / 1e9
                ),
            ));
        }
        rows.into_iter()
            .map(|(name, value)| format!("{name:<12} {value}\n"))
            .collect()
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
