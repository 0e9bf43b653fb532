//! Time, memory and computation of a network on this machine, on synthetic inputs.
//!
//! Inputs are random, so that a measurement needs no data. Inference begins with the normalized batch and
//! ends with class scores or boxes; a training step begins there too and ends with updated parameters.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};

use crate::backbones::summary::{LayerSummary, TooSmall};
use crate::classification::classifier::Classifier;
use crate::classification::losses::{soft_cross_entropy, soft_targets};
use crate::config::training::OptimizerConfig;
use crate::detection::faster_rcnn::FasterRcnn;
use crate::detection::sampler::SampleOrder;
use crate::detection::{ImageBatch, Target};
use crate::memory::{forget_peak, peak_resident};
use crate::model::Network;
use crate::train::memory::free_memory;
use crate::train::optimizer::Optimizer;
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::kernels::bf16::{ComputePrecision, autocast};

/// The number of repetitions of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// Number of runs before the timing begins.
    pub warmup: usize,
    /// Number of timed runs; at least one is made.
    pub timed: Timed,
}

/// The number of timed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// Exactly this number.
    Exactly(usize),
    /// As many as fit into this time, and at least the number.
    For(Duration, usize),
}

impl Default for Repeats {
    /// Two untimed runs, then ten seconds, and at least five runs.
    fn default() -> Self {
        Self {
            warmup: 2,
            timed: Timed::For(Duration::from_secs(10), 5),
        }
    }
}

impl Timed {
    fn is_done(self, runs: usize, elapsed: Duration) -> bool {
        match self {
            Self::Exactly(number) => runs >= number.max(1),
            Self::For(time, least) => runs >= least.max(1) && elapsed >= time,
        }
    }

    /// Returns the expected number of timed runs, given how many runs took how much time so far.
    fn expected(self, runs: usize, elapsed: Duration) -> usize {
        match self {
            Self::Exactly(number) => number.max(1),
            Self::For(time, least) => {
                let run = elapsed.as_secs_f64() / runs.max(1) as f64;
                let fitting = if run > 0.0 {
                    (time.as_secs_f64() / run).ceil() as usize
                } else {
                    0
                };
                fitting.max(least).max(1)
            }
        }
    }
}

/// The times of a repeated step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// The time of each run, ascending; at least one.
    runs: Vec<Duration>,
    /// The largest memory of the process in bytes before the first run, where the system reports it.
    pub peak_before: Option<u64>,
    /// The largest memory of the process in bytes during the runs, where the system reports it.
    pub peak_during: Option<u64>,
}

impl Times {
    /// Repeats a step, which receives its number from 0.
    ///
    /// # Errors
    /// The first error of the step.
    pub fn of<E>(repeats: Repeats, step: impl FnMut(usize) -> Result<(), E>) -> Result<Self, E> {
        Self::reported(repeats, |_, _| Ok(()), step)
    }

    /// Repeats a step, which receives its number from 0. Before each run, outside of the timing, `report` receives
    /// the numbers of finished and of all expected runs, both with those that are not timed.
    ///
    /// # Errors
    /// The first error of the step or of `report`.
    fn reported<E>(
        repeats: Repeats,
        mut report: impl FnMut(usize, usize) -> Result<(), E>,
        mut step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<Self, E> {
        let Repeats { warmup, timed } = repeats;
        let peak_before = peak_resident();
        let forgot = forget_peak();
        let begun = Instant::now();
        for index in 0..warmup {
            report(index, warmup + timed.expected(index, begun.elapsed()))?;
            step(index)?;
        }
        let mut elapsed = Duration::ZERO;
        let mut runs = Vec::new();
        while !timed.is_done(runs.len(), elapsed) {
            let expected = match runs.len() {
                0 => timed.expected(warmup, begun.elapsed()),
                number => timed.expected(number, elapsed),
            };
            report(warmup + runs.len(), warmup + expected)?;
            let start = Instant::now();
            step(warmup + runs.len())?;
            let run = start.elapsed();
            elapsed += run;
            runs.push(run);
        }
        runs.sort();
        Ok(Self {
            runs,
            peak_before,
            peak_during: peak_resident().filter(|_| forgot),
        })
    }

    /// Returns the number of timed runs.
    pub fn count(&self) -> usize {
        self.runs.len()
    }

    /// Returns the middle time, or the mean of the two in the middle.
    pub fn median(&self) -> Duration {
        let upper = self.runs.len() / 2;
        match self.runs.len() % 2 {
            1 => self.runs[upper],
            _ => (self.runs[upper - 1] + self.runs[upper]) / 2,
        }
    }

    /// Returns the shortest time.
    pub fn least(&self) -> Duration {
        self.runs[0]
    }

    /// Returns the largest memory of the process in bytes, where the system reports it.
    pub fn peak(&self) -> Option<u64> {
        self.peak_before.max(self.peak_during)
    }
}

/// The reason why a measurement ended without a result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BenchError {
    /// The input is too small for the network.
    #[error("{0}")]
    TooSmall(#[from] TooSmall),
    /// The batch needs more memory than there is.
    #[error(
        "a batch of this size needs about {:.1} GB of memory and {:.1} GB are free",
        *need as f64 / 1e9, *free as f64 / 1e9
    )]
    NotEnoughMemory {
        /// Estimated memory in bytes.
        need: u64,
        /// Available memory in bytes.
        free: u64,
    },
    /// The loss of a training step is not finite.
    #[error("the loss is {0}, so the times of these steps are meaningless")]
    NotFinite(f32),
    /// The measurement was stopped on request.
    #[error("stopped before the measurement was complete")]
    Stopped,
}

/// The size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// Number of images.
    pub images: usize,
    /// Height and width of the input, in pixels.
    pub size: [usize; 2],
}

impl BatchSize {
    /// Returns a normalized batch of random pixels whose images have no padding. Equal sizes have equal
    /// pixels.
    fn pixels(self, device: &Device) -> Tensor<4> {
        device.seed(0);
        let [height, width] = self.size;
        let shape = [self.images, 3, height, width];
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    fn batch(self, pixels: Tensor<4>) -> ImageBatch {
        let [height, width] = self.size;
        ImageBatch {
            pixels,
            input_sizes: vec![ImageSize::new(height, width); self.images],
        }
    }
}

/// Receives the numbers of finished and of all expected runs, and decides whether the measurement goes on.
pub type RunProgress<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// Measures inference. `progress` is called before each run, outside of the timing.
///
/// # Errors
/// The input is too small, or `progress` ended the measurement.
pub fn inference(
    network: &Network,
    input: BatchSize,
    device: &Device,
    repeats: Repeats,
    progress: &mut RunProgress<'_>,
) -> Result<Times, BenchError> {
    check_memory(network, input, false)?;
    let pixels = input.pixels(device);
    Times::reported(repeats, stoppable(progress), |_| {
        let pixels = pixels.clone();
        match network {
            Network::Detector(network) => drop(network.detect(input.batch(pixels))),
            // Reading the scores waits for a device that computes in the background.
            Network::Classifier(network) => drop(network.forward(pixels).into_data()),
        }
        Ok(())
    })
}

/// Turns the end of a measurement into its error.
fn stoppable(progress: &mut RunProgress<'_>) -> impl FnMut(usize, usize) -> Result<(), BenchError> {
    move |done, all| match progress(done, all) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(BenchError::Stopped),
    }
}

/// Returns the multiply-adds of inference for one image. For a detector they depend on the number of
/// proposals in this input.
///
/// # Errors
/// The input is too small.
pub fn macs(network: &Network, input: BatchSize, device: &Device) -> Result<u64, BenchError> {
    let proposals = match network {
        Network::Classifier(_) => 0,
        Network::Detector(network) => {
            let one = BatchSize { images: 1, ..input };
            let proposals = network.proposals(one.batch(one.pixels(device)));
            proposals.iter().map(Vec::len).sum()
        }
    };
    Ok(macs_of_image(network, input.size, proposals)?)
}

fn macs_of_image(network: &Network, size: [usize; 2], proposals: usize) -> Result<u64, TooSmall> {
    match network {
        Network::Detector(network) => network.macs(size, proposals),
        Network::Classifier(network) => Ok(network.summary(size)?.macs()),
    }
}

/// Refuses a batch that would end the process: the system kills it, or the allocator aborts it.
///
/// Training keeps the outputs of all layers. Inference has a few feature maps at a time; the largest are counted four
/// times. Both are lower limits of what is used, so that no batch that fits is refused.
fn check_memory(network: &Network, input: BatchSize, is_training: bool) -> Result<(), BenchError> {
    let layers = match network {
        Network::Classifier(network) => network.summary(input.size)?.layers,
        Network::Detector(network) => network.backbone.layers_of_parts(input.size)?.concat(),
    };
    let outputs = layers.iter().map(LayerSummary::activations);
    let of_image = if is_training {
        outputs.sum::<u64>()
    } else {
        4 * outputs.max().unwrap_or(0)
    };
    let need = 4 * of_image.saturating_mul(input.images as u64);
    match free_memory() {
        Some(free) if need > free => Err(BenchError::NotEnoughMemory { need, free }),
        _ => Ok(()),
    }
}

/// Objects in each image of a training batch.
const OBJECTS: usize = 5;
/// Small enough that random weights do not diverge within a measurement.
const LEARNING_RATE: f64 = 1e-5;

/// Measures training steps: forward pass, losses, backward pass and an update by SGD with momentum.
/// `network` is on a device with autodiff, and is dropped at the end; `precision` is that of its multiplications. `progress` is called before each step, outside
/// of the timing.
///
/// # Errors
/// The input is too small, a loss that is not finite, or `progress` ended the measurement.
pub fn training(
    network: Network,
    input: BatchSize,
    (device, precision): (&Device, ComputePrecision),
    repeats: Repeats,
    progress: &mut RunProgress<'_>,
) -> Result<Times, BenchError> {
    check_memory(&network, input, true)?;
    let pixels = Tensor::from_inner(input.pixels(&device.clone().inner()));
    let labels = |count: usize, classes: usize| (0..count).map(move |number| number % classes);
    match network {
        Network::Detector(network) => {
            let targets: Vec<Target> = (0..input.images)
                .map(|_| Target {
                    boxes_in_input: spread_boxes(input.size),
                    labels: labels(OBJECTS, network.config().num_classes).collect(),
                })
                .collect();
            let losses = |network: &FasterRcnn, index: usize| {
                let batch = input.batch(pixels.clone());
                let mut order = SampleOrder::shuffled(index as u64);
                autocast(precision, || network.losses(batch, &targets, &mut order)).total()
            };
            steps(network, losses, repeats, progress)
        }
        Network::Classifier(network) => {
            let classes = network.num_classes();
            let labels: Vec<_> = labels(input.images, classes)
                .map(|label| (label, None))
                .collect();
            let targets = soft_targets(&labels, classes, 0.0, &device.clone().inner());
            let targets = Tensor::from_inner(targets);
            let losses = |network: &Classifier, _| {
                let logits = autocast(precision, || network.forward(pixels.clone()));
                soft_cross_entropy(logits, targets.clone())
            };
            steps(network, losses, repeats, progress)
        }
    }
}

fn steps<M: Module>(
    network: M,
    loss: impl Fn(&M, usize) -> Tensor<1>,
    repeats: Repeats,
    progress: &mut RunProgress<'_>,
) -> Result<Times, BenchError> {
    let sgd = OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 1e-4,
        nesterov: false,
    };
    let mut optimizer = Optimizer::new(sgd, true);
    // Taken for the time of an update.
    let mut network = Some(network);
    Times::reported(repeats, stoppable(progress), |index| {
        let Some(current) = network.take() else {
            return Err(BenchError::Stopped);
        };
        let loss = loss(&current, index);
        let value: f32 = loss.clone().into_scalar();
        if !value.is_finite() {
            return Err(BenchError::NotFinite(value));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        network = Some(optimizer.step(current, gradients, LEARNING_RATE));
        Ok(())
    })
}

/// Returns boxes of several sizes, spread over the input.
fn spread_boxes([height, width]: [usize; 2]) -> Vec<BoxXyxy> {
    let (height, width) = (height as f32, width as f32);
    (0..OBJECTS)
        .map(|number| {
            // From a tenth to half of a side, from the upper left to the lower right.
            let share = number as f32 / (OBJECTS - 1) as f32;
            let side = 0.1 + 0.4 * share;
            let corner = (1.0 - side) * share;
            BoxXyxy::new(
                corner * width,
                corner * height,
                (corner + side) * width,
                (corner + side) * height,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::backbones::zoo;
    use crate::classification::classifier::ClassifierConfig;
    use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
    use crate::model::NetworkConfig;

    fn runs(number: usize) -> Repeats {
        Repeats {
            warmup: 1,
            timed: Timed::Exactly(number),
        }
    }

    fn to_the_end(_: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn for_inference(config: &NetworkConfig, device: &Device) -> Network {
        Network::init(config, device)
            .valid()
            .folded(ComputePrecision::F32)
    }

    fn small_detector() -> NetworkConfig {
        let mut backbone = zoo::backbone("se-resnet18").unwrap();
        *backbone.common_mut().width_multiplier = 0.25;
        NetworkConfig::Detection(FasterRcnnConfig::new(Preset::Torchvision, backbone, 3))
    }

    fn small_classifier() -> NetworkConfig {
        let network = zoo::network("se-resnet20").unwrap();
        NetworkConfig::Classification(ClassifierConfig::new(network.backbone, 10))
    }

    const SMALL: BatchSize = BatchSize {
        images: 2,
        size: [64, 96],
    };

    #[test]
    fn a_step_is_repeated_as_often_as_requested_and_the_median_is_that_of_the_times() {
        let mut indices = Vec::new();
        let times = Times::of(runs(4), |index| {
            indices.push(index);
            Ok::<_, Infallible>(())
        });
        let times = times.unwrap();
        assert_eq!((indices, times.count()), (vec![0, 1, 2, 3, 4], 4));
        let times = |milliseconds: &[u64]| Times {
            runs: milliseconds
                .iter()
                .copied()
                .map(Duration::from_millis)
                .collect(),
            peak_before: None,
            peak_during: None,
        };
        assert_eq!(times(&[1, 2, 9]).median(), Duration::from_millis(2));
        assert_eq!(times(&[1, 2, 4, 9]).median(), Duration::from_millis(3));
        assert_eq!(times(&[1, 2, 9]).least(), Duration::from_millis(1));
    }

    #[test]
    fn the_progress_counts_all_runs_and_is_not_timed() {
        let mut reports = Vec::new();
        let report = |done, all| {
            reports.push((done, all));
            std::thread::sleep(Duration::from_millis(20));
            Ok::<_, Infallible>(())
        };
        let times = Times::reported(runs(3), report, |_| Ok(())).unwrap();
        assert_eq!(reports, [(0, 4), (1, 4), (2, 4), (3, 4)]);
        assert!(times.least() < Duration::from_millis(20));
        let timed = Timed::For(Duration::from_secs(10), 5);
        for (runs, seconds, expected) in [(0, 0, 5), (1, 2, 5), (4, 4, 10), (2, 60, 5)] {
            let elapsed = Duration::from_secs(seconds);
            assert_eq!(timed.expected(runs, elapsed), expected);
        }
    }

    #[test]
    fn runs_go_on_until_both_the_time_and_the_least_number_are_reached() {
        let timed = Timed::For(Duration::from_secs(10), 5);
        for (runs, seconds, is_done) in [(4, 60, false), (5, 9, false), (5, 10, true)] {
            assert_eq!(timed.is_done(runs, Duration::from_secs(seconds)), is_done);
        }
        assert!(!Timed::Exactly(0).is_done(0, Duration::MAX));
    }

    #[test]
    fn both_tasks_are_measured_in_inference_and_training() {
        let device = Device::flex();
        for config in [small_detector(), small_classifier()] {
            let network = for_inference(&config, &device);
            let times = inference(&network, SMALL, &device, runs(2), &mut to_the_end).unwrap();
            assert_eq!(times.count(), 2);
            assert!(macs(&network, SMALL, &device).unwrap() > 0);
            let device = device.clone().autodiff();
            let network = Network::init(&config, &device);
            let times = training(
                network,
                SMALL,
                (&device, ComputePrecision::F32),
                runs(1),
                &mut to_the_end,
            )
            .unwrap();
            assert!(times.median() > Duration::ZERO);
        }
    }

    #[test]
    fn a_measurement_can_be_stopped_and_refuses_inputs_that_are_too_small() {
        let device = Device::flex();
        let network = for_inference(&small_detector(), &device);
        let mut in_the_second_run = |done, _| match done {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        let repeats = Repeats::default();
        let stopped = inference(&network, SMALL, &device, repeats, &mut in_the_second_run);
        assert_eq!(stopped, Err(BenchError::Stopped));
        let network = zoo::network("inception-resnet-v2").unwrap().backbone;
        let config = NetworkConfig::Classification(ClassifierConfig::new(network, 10));
        let tiny = BatchSize {
            images: 1,
            size: [16, 16],
        };
        let network = Network::init(&config, &device);
        let refused = inference(&network, tiny, &device, runs(1), &mut to_the_end);
        assert!(matches!(refused, Err(BenchError::TooSmall(_))));
        let large = BatchSize {
            images: 1 << 20,
            size: [4096, 4096],
        };
        let refused = inference(&network, large, &device, runs(1), &mut to_the_end);
        assert!(matches!(refused, Err(BenchError::NotEnoughMemory { .. })));
    }

    #[test]
    fn multiply_adds_of_a_detector_are_those_of_its_layers() {
        // torchvision's fasterrcnn_resnet50_fpn at 800x1088 with 1000 proposals: ResNet-50 without its
        // classifier scales with the pixels, and every other term is a product of sizes.
        let config =
            FasterRcnnConfig::new(Preset::Torchvision, zoo::backbone("resnet50").unwrap(), 90);
        let network = config.init(&Device::flex());
        let [height, width] = [800u64, 1088];
        let grids: Vec<u64> = [4, 8, 16, 32]
            .iter()
            .map(|s| (height / s) * (width / s))
            .collect();
        let inner: u64 = grids
            .iter()
            .zip([256, 512, 1024, 2048])
            .map(|(g, c)| g * c * 256)
            .sum();
        let layer: u64 = grids.iter().map(|g| g * 256 * 256 * 9).sum();
        let levels: u64 = grids.iter().sum::<u64>() + 13 * 17;
        let rpn = levels * (256 * 256 * 9 + 256 * 3 + 256 * 12);
        let head = 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 91 + 1024 * 91 * 4);
        let parts = network.backbone.layers_of_parts([800, 1088]).unwrap();
        let backbone: u64 = parts.iter().flatten().map(|layer| layer.macs).sum();
        let found = network.macs([800, 1088], 1000).unwrap();
        assert_eq!(found, backbone + inner + layer + rpn + head);
    }
}
