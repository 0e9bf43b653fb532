//! How much memory a training step needs, told before the first is made: whoever runs out of it
//! after ten minutes learns nothing from a process that the system killed.
//!
//! The estimate was held against the measured peak of twelve runs of `sedet train` (ResNet-18, ResNet-50
//! and SE-ResNet-50; 256 and 512 pixels squared; 2 and 4 images; live and frozen norms; with and without
//! recomputing; AdamW with an average): it was 0.93 to 1.18 of it.

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use super::engine::EngineConfig;
use super::optimizer::OptimizerConfig;
use crate::backbones::summary::{LayerKind, LayerSummary, Summary, TooSmall, Tracer};
use crate::classification::classifier::ClassifierConfig;
use crate::detection::faster_rcnn::FasterRcnn;
use crate::memory::SPARE;
use sedet_nn::nn::norm::NormKind;

/// A step that is larger than the memory that is free.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "a training step needs about {:.1} GB of memory and {:.1} GB are free: {advice}",
    *need as f64 / 1e9, *free as f64 / 1e9
)]
pub struct NotEnoughMemory {
    /// Bytes, estimated.
    pub need: u64,
    /// Bytes.
    pub free: u64,
    /// What to lower.
    pub advice: String,
}

/// What a step holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMemory {
    /// Bytes of all weights.
    pub weights: u64,
    /// Bytes that the forward pass keeps of an image for the backward pass.
    pub kept_of_image: u64,
    /// Images in a batch.
    pub images: usize,
}

/// The program itself, its data and threads.
const BASE: u64 = 60 << 20;

/// Gradients of maps on the way back, beside the maps.
const GRADIENTS: f64 = 1.1;

/// An estimate may be too high by so much before it forbids a run.
const DOUBT: f64 = 1.2;

impl StepMemory {
    /// Of a detector whose input has this height and width at most.
    ///
    /// # Errors
    /// Such an input is too small for the network.
    pub fn of_detector(
        model: &FasterRcnn,
        weights: u64,
        recompute: bool,
        size: [usize; 2],
        images: usize,
    ) -> Result<Self, TooSmall> {
        let config = model.config();
        let mut tracer = Tracer::new(size);
        model.backbone.trace(&mut tracer);
        let layers = tracer.finish()?.layers;
        let has_live_norms = config.backbone.norm.kind == NormKind::Batch;
        // Stem, then the stages.
        let mut stages = [0; 5];
        let mut outputs = [0; 5];
        for layer in &layers {
            let stage = stage_of(&layer.name);
            if stage >= config.backbone.frozen_stages {
                stages[stage] += kept(layer, has_live_norms);
                outputs[stage] = 4 * layer.activations();
            }
        }
        let backbone = match recompute {
            false => stages.iter().sum::<u64>(),
            // What stands between the stages, and one stage in full at a time.
            true => outputs.iter().sum::<u64>() + stages.iter().max().copied().unwrap_or(0),
        };
        // P2 to P6 have a third more pixels than P2 alone, with the sums on the way down.
        let pyramid = (size[0] / 4 * (size[1] / 4) * 4 / 3 * config.fpn.channels * 4 * 2) as u64;
        let side = config.roi_heads.pooler.output_size;
        let sampled = config.roi_heads.sampler.batch_size_per_image;
        let pooled = (sampled * side * side * config.fpn.channels * 4) as u64;
        Ok(Self {
            weights,
            kept_of_image: backbone + pyramid + pooled,
            images,
        })
    }

    /// Of a classifier; all its norms are live.
    ///
    /// # Errors
    /// The input is too small for the network.
    pub fn of_classifier(
        model: &ClassifierConfig,
        size: usize,
        images: usize,
    ) -> Result<Self, TooSmall> {
        let summary: Summary = model.summary([size; 2])?;
        Ok(Self {
            weights: 4 * summary.parameters(),
            kept_of_image: summary.layers.iter().map(|layer| kept(layer, true)).sum(),
            images,
        })
    }

    /// In all, with optimizer and average: the larger of a step and of a checkpoint, which is written from
    /// copies; and what the allocator keeps for the next.
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

    /// Compare with what is free, where the system says how much that is.
    ///
    /// # Errors
    /// Far from enough.
    pub fn check(
        &self,
        config: &EngineConfig,
        advice: impl FnOnce() -> String,
    ) -> Result<(), NotEnoughMemory> {
        match free_memory() {
            Some(free) => self.check_against(config, free, advice),
            None => Ok(()),
        }
    }

    fn check_against(
        &self,
        config: &EngineConfig,
        free: u64,
        advice: impl FnOnce() -> String,
    ) -> Result<(), NotEnoughMemory> {
        let need = self.bytes(config);
        if !config.check_memory || need as f64 <= free as f64 * DOUBT {
            return Ok(());
        }
        Err(NotEnoughMemory {
            need,
            free,
            advice: advice(),
        })
    }
}

/// 0 for the stem, else the number of the stage.
fn stage_of(name: &str) -> usize {
    let digit = name
        .strip_prefix("layer")
        .and_then(|rest| rest.chars().next());
    digit
        .and_then(|d| d.to_digit(10))
        .map_or(0, |d| d.min(4) as usize)
}

/// Bytes that a layer keeps. Frozen norms are a part of their convolution, and so are SE units behind them.
fn kept(layer: &LayerSummary, has_live_norms: bool) -> u64 {
    match layer.kind {
        LayerKind::Norm | LayerKind::Se if !has_live_norms => 0,
        _ => 4 * layer.activations(),
    }
}

/// Bytes that this process may still take: of the machine, or of the control group that a scheduler or
/// a container put it in, if that has less.
pub fn free_memory() -> Option<u64> {
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
        let mut net = backbone(name).unwrap();
        net.norm.kind = match frozen {
            Some(_) => NormKind::Frozen,
            None => NormKind::Batch,
        };
        net.frozen_stages = frozen.unwrap_or(0);
        let model = FasterRcnnConfig::new(Preset::Torchvision, net, 90).init(&Device::flex());
        let weights = 4 * model.num_params() as u64;
        let step = StepMemory::of_detector(&model, weights, false, [side; 2], images).unwrap();
        step.bytes(&config(&[])) as f64 / 1e6
    }

    /// Peaks of `benches/compare` (docs/speed.md, there in 2^20 bytes).
    #[test]
    fn the_estimate_is_near_the_measured_peak() {
        for (name, side, measured) in [
            ("resnet50", 512, 891.0),
            ("resnet50", 800, 1253.0),
            ("se-resnet50", 512, 923.0),
            ("se-resnet50", 800, 1352.0),
        ] {
            let share = megabytes(name, Some(2), side, 1) / measured;
            assert!((0.8..1.2).contains(&share), "{name} {side}: {share}");
        }
        let (frozen, live) = (
            megabytes("resnet50", Some(0), 512, 2),
            megabytes("resnet50", None, 512, 2),
        );
        assert!(live > frozen + 400.0, "{frozen} {live}");
    }

    #[test]
    fn a_step_that_is_too_large_is_refused_with_what_to_lower() {
        let step = StepMemory {
            weights: 100 << 20,
            kept_of_image: 1 << 30,
            images: 16,
        };
        let gigabytes = |n: u64| n << 30;
        let advice = || "lower loader.batch_size".to_string();
        assert_eq!(
            step.check_against(&config(&[]), gigabytes(24), advice),
            Ok(())
        );
        let refused = step.check_against(&config(&[]), gigabytes(8), advice);
        let message = refused.unwrap_err().to_string();
        for part in ["about 24.1", "8.6 GB are free", "loader.batch_size"] {
            assert!(message.contains(part), "{message}");
        }
        let unchecked = config(&["train.check_memory=false"]);
        assert_eq!(step.check_against(&unchecked, gigabytes(8), advice), Ok(()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some_memory_left() {
        let free = free_memory().unwrap();
        assert!(free > 1 << 24 && free < 1 << 50, "{free}");
    }
}
