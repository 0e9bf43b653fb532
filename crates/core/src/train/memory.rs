//! Estimate of the memory of a training step before the first step, because a process that is
//! killed by the system later gives no explanation.
//!
//! The estimate was compared with the measured peak of twelve runs of `sedet train` (ResNet-18,
//! ResNet-50 and SE-ResNet-50; 256 and 512 pixels squared; 2 and 4 images; trained and frozen norms;
//! with and without recomputing; AdamW with EMA weights): it was 0.93 to 1.18 of the peak. In three runs
//! of `coco-torchvision-v2` (ResNet-18 and ResNet-50; 320 and 512 pixels squared; 1, 2 and 4 images) it
//! was 1.0 to 1.2 of the peak.

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::backbones::summary::{LayerKind, LayerSummary, Summary, TooSmall};
use crate::classification::classifier::ClassifierConfig;
use crate::config::training::EngineConfig;
use crate::config::training::OptimizerConfig;
use crate::detection::faster_rcnn::FasterRcnn;
use crate::memory::SPARE;
use sedet_nn::nn::norm::{NormConfig, NormKind};

/// A training step that needs more memory than is available.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "a training step needs about {:.1} GB of memory and {:.1} GB are free{}",
    *need as f64 / 1e9, *free as f64 / 1e9,
    if *processes > 1 { format!(" for each of {processes} processes") } else { String::new() }
)]
pub struct NotEnoughMemory {
    /// Estimated memory in bytes.
    pub need: u64,
    /// Available memory in bytes, for each process.
    pub free: u64,
    /// The processes of this run on this machine.
    pub processes: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// The inputs of the network.
    pub inputs: StepInputs,
}

/// The inputs of a training step, on whose size its memory depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepInputs {
    /// Images resized for a detector.
    Detector {
        /// Largest short side in pixels.
        min_size: usize,
        /// Largest long side in pixels.
        max_size: usize,
        /// Whether memory can be saved by recomputing feature maps in the backward pass: it is off, and
        /// no norm is in training mode.
        can_recompute: bool,
    },
    /// Square images for a classifier.
    Classifier {
        /// Side in pixels.
        size: usize,
    },
}

/// The memory of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepMemory {
    /// Bytes of all parameters.
    pub weights: u64,
    /// Bytes per image that the forward pass keeps for the backward pass.
    pub kept_of_image: u64,
    /// Images in a batch.
    pub images: usize,
    /// The inputs of the network.
    pub inputs: StepInputs,
}

/// The program itself, its data and threads.
const BASE: u64 = 60 << 20;

/// Factor for the gradients of feature maps in the backward pass.
const GRADIENTS: f64 = 1.1;

/// Tolerance: a run is refused only if the estimate divided by this exceeds the available memory.
const DOUBT: f64 = 1.2;

impl StepMemory {
    /// Estimates the memory of a detector with inputs of at most this height and width.
    ///
    /// # Errors
    /// Inputs of this size are too small for the network.
    pub(crate) fn of_detector(
        model: &FasterRcnn,
        weights: u64,
        recompute: bool,
        size: [usize; 2],
        images: usize,
    ) -> Result<Self, TooSmall> {
        let config = model.config();
        let has_trained_norms = config.backbone.norm().kind == NormKind::Batch;
        let parts = model.backbone.layers_of_parts(size)?;
        let trained = parts.iter().skip(config.backbone.frozen_stages());
        let kept_of_parts = trained.clone().map(|layers| {
            let bytes = layers.iter().map(|layer| kept(layer, has_trained_norms));
            bytes.sum::<u64>()
        });
        let backbone = if recompute {
            // The outputs of all parts, and all layers of one part at a time.
            let outputs = trained.filter_map(|layers| layers.last());
            let outputs = outputs.map(|layer| 4 * layer.activations()).sum::<u64>();
            outputs + kept_of_parts.max().unwrap_or(0)
        } else {
            kept_of_parts.sum()
        };
        // P2 to P6 have a third more pixels than P2 alone; the top-down sums have the same size.
        let level = (size[0] / 4 * (size[1] / 4) * 4 / 3 * config.fpn.channels * 4) as u64;
        // A trained norm also keeps its input.
        let maps = |norm: Option<NormConfig>| match norm {
            Some(norm) if norm.kind == NormKind::Batch => 2,
            _ => 1,
        };
        let further = config.rpn.convolutions.saturating_sub(1) as u64;
        let pyramid = level * (2 * maps(config.fpn.norm) + further);
        let side = config.roi_heads.pooler.output_size;
        let sampled = config.roi_heads.sampler.batch_size_per_image;
        let pooled = |channels: usize| (sampled * side * side * channels * 4) as u64;
        let head = &config.roi_heads.box_head;
        let convolutions = head.convolutions.iter().map(|channels| pooled(*channels));
        let box_head = convolutions.sum::<u64>() * maps(head.norm);
        Ok(Self {
            weights,
            kept_of_image: backbone + pyramid + pooled(config.fpn.channels) + box_head,
            images,
            inputs: StepInputs::Detector {
                min_size: size[0],
                max_size: size[1],
                can_recompute: !recompute && !has_trained_norms,
            },
        })
    }

    /// Estimates the memory of a classifier, whose norms are all trained.
    ///
    /// # Errors
    /// Inputs of this size are too small for the network.
    pub(crate) fn of_classifier(
        model: &ClassifierConfig,
        size: usize,
        images: usize,
    ) -> Result<Self, TooSmall> {
        let summary: Summary = model.summary([size; 2])?;
        Ok(Self {
            weights: 4 * summary.parameters(),
            kept_of_image: summary.layers.iter().map(|layer| kept(layer, true)).sum(),
            images,
            inputs: StepInputs::Classifier { size },
        })
    }

    /// Returns the total in bytes, with optimizer state and EMA weights: the larger of a step and of
    /// writing a checkpoint, which is done from copies; plus what the allocator keeps for reuse.
    pub fn bytes(&self, config: &EngineConfig) -> u64 {
        let states = match config.optimizer {
            OptimizerConfig::Sgd { momentum: 0.0, .. } => 0,
            OptimizerConfig::Sgd { .. } => 1,
            OptimizerConfig::Adamw { .. } => 2,
        };
        let saved = 1 + states + u64::from(config.ema_decay.is_some());
        let kept = self.kept_of_image as f64 * self.images as f64 * GRADIENTS;
        let gradient = 1;
        let step = self.weights * (saved + gradient) + kept as u64;
        let checkpoint = self.weights * (saved + saved);
        let in_use = step.max(checkpoint);
        BASE + in_use + in_use / SPARE as u64
    }

    /// Compares the estimate with the available memory, if the system reports it.
    ///
    /// # Errors
    /// The available memory is far from enough.
    pub fn check(&self, config: &EngineConfig, processes: usize) -> Result<(), NotEnoughMemory> {
        match free_memory() {
            Some(free) => self.check_against(config, free, processes),
            None => Ok(()),
        }
    }

    fn check_against(
        &self,
        config: &EngineConfig,
        free: u64,
        processes: usize,
    ) -> Result<(), NotEnoughMemory> {
        let need = self.bytes(config);
        let free = free / processes as u64;
        if !config.check_memory || need as f64 <= free as f64 * DOUBT {
            return Ok(());
        }
        Err(NotEnoughMemory {
            need,
            free,
            processes,
            batch_size: self.images,
            inputs: self.inputs,
        })
    }
}

/// Returns the bytes that a layer keeps. Frozen norms are part of their convolution, and so are SE
/// units after them.
fn kept(layer: &LayerSummary, has_trained_norms: bool) -> u64 {
    match layer.kind {
        LayerKind::Norm | LayerKind::Se if !has_trained_norms => 0,
        _ => 4 * layer.activations(),
    }
}

/// Returns the bytes that this process can still allocate: of the machine, or of the control group of
/// its container or scheduler if that has less.
pub(crate) fn free_memory() -> Option<u64> {
    let memory = MemoryRefreshKind::nothing().with_ram().with_swap();
    let mut system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    let machine = system.available_memory() + system.free_swap();
    if machine == 0 {
        return None;
    }
    let own = Pid::from_u32(std::process::id());
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[own]),
        false,
        ProcessRefreshKind::nothing(),
    );
    let group = system
        .process(own)
        .and_then(|process| process.cgroup_limits());
    Some(match group {
        Some(limits) if limits.total_memory > 0 => {
            machine.min(limits.free_memory + limits.free_swap)
        }
        _ => machine,
    })
}

#[cfg(test)]
mod tests {
    use burn::module::Module as _;
    use burn::tensor::Device;

    use super::*;
    use crate::backbones::zoo::backbone;
    use crate::config::{DetectionConfig, Recipe as _};
    use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};

    fn config(settings: &[&str]) -> EngineConfig {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let recipe = DetectionConfig::load("coco-torchvision", &settings).unwrap();
        recipe.train
    }

    fn megabytes(name: &str, frozen: Option<usize>, side: usize, images: usize) -> f64 {
        megabytes_of(Preset::Torchvision, name, frozen, side, images)
    }

    fn megabytes_of(
        preset: Preset,
        name: &str,
        frozen: Option<usize>,
        side: usize,
        images: usize,
    ) -> f64 {
        let mut net = backbone(name).unwrap();
        let common = net.common_mut();
        common.norm.kind = match frozen {
            Some(_) => NormKind::Frozen,
            None => NormKind::Batch,
        };
        *common.frozen_stages = frozen.unwrap_or(0);
        let model = FasterRcnnConfig::new(preset, net, 90).init(&Device::flex());
        let weights = 4 * model.num_params() as u64;
        let step = StepMemory::of_detector(&model, weights, false, [side; 2], images).unwrap();
        step.bytes(&config(&[])) as f64 / 1e6
    }

    /// Peaks measured with `benches/compare` (docs/speed.md, there in 2^20 bytes).
    #[test]
    fn the_estimate_is_near_the_measured_peak() {
        for (name, side, measured) in [
            ("resnet50", 512, 891.0),
            ("resnet50", 800, 1253.0),
            ("se-resnet50", 512, 923.0),
            ("se-resnet50", 800, 1352.0),
        ] {
            let ratio = megabytes(name, Some(2), side, 1) / measured;
            assert!((0.8..1.2).contains(&ratio), "{name} {side}: {ratio}");
        }
        let (frozen, trained) = (
            megabytes("resnet50", Some(0), 512, 2),
            megabytes("resnet50", None, 512, 2),
        );
        assert!(trained > frozen + 400.0, "{frozen} {trained}");
    }

    /// Peaks of `sedet train --config coco-torchvision-v2` with `input.min_size` and `max_size` of this
    /// side, square images and no scale jitter.
    #[test]
    fn the_estimate_is_near_the_measured_peak_of_torchvision_v2() {
        for (name, side, images, measured) in [
            ("resnet18", 320, 4, 2232.9),
            ("resnet50", 320, 1, 1232.8),
            ("resnet50", 512, 2, 2461.9),
        ] {
            let estimate = megabytes_of(Preset::TorchvisionV2, name, None, side, images);
            let ratio = estimate / measured;
            assert!(
                (0.9..1.25).contains(&ratio),
                "{name} {side}: {estimate}, {ratio}"
            );
        }
    }

    #[test]
    fn a_step_that_is_too_large_is_refused_with_the_settings_it_depends_on() {
        let inputs = StepInputs::Classifier { size: 224 };
        let step = StepMemory {
            weights: 100 << 20,
            kept_of_image: 1 << 30,
            images: 16,
            inputs,
        };
        let gigabytes = |n: u64| n << 30;
        assert_eq!(step.check_against(&config(&[]), gigabytes(24), 1), Ok(()));
        let refused = step
            .check_against(&config(&[]), gigabytes(24), 4)
            .unwrap_err();
        assert!(
            refused
                .to_string()
                .ends_with("6.4 GB are free for each of 4 processes")
        );
        let refused = step
            .check_against(&config(&[]), gigabytes(8), 1)
            .unwrap_err();
        assert_eq!((refused.batch_size, refused.inputs), (16, inputs));
        let message = refused.to_string();
        for part in ["about 24.1", "8.6 GB are free"] {
            assert!(message.contains(part), "{message}");
        }
        let unchecked = config(&["train.check_memory=false"]);
        assert_eq!(step.check_against(&unchecked, gigabytes(8), 1), Ok(()));
    }

    #[test]
    fn feature_maps_can_be_recomputed_where_no_norm_is_trained_and_they_are_not_yet() {
        let mut net = backbone("resnet18").unwrap();
        for (kind, recompute, expected) in [
            (NormKind::Frozen, false, true),
            (NormKind::Frozen, true, false),
            (NormKind::Batch, false, false),
        ] {
            net.common_mut().norm.kind = kind;
            let config = FasterRcnnConfig::new(Preset::Torchvision, net.clone(), 2);
            let model = config.init(&Device::flex());
            let step = StepMemory::of_detector(&model, 0, recompute, [128, 160], 1).unwrap();
            let inputs = StepInputs::Detector {
                min_size: 128,
                max_size: 160,
                can_recompute: expected,
            };
            assert_eq!(step.inputs, inputs, "{kind:?} {recompute}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_available_memory_is_plausible() {
        let free = free_memory().unwrap();
        assert!(free > 1 << 24 && free < 1 << 50, "{free}");
    }
}
