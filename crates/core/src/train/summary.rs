//! What a run is about to do, as a block of lines at its start.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::config::training::{EngineConfig, OptimizerConfig};
use crate::spec::Task;
use crate::weights::parameters::ModulePath;
use sedet_data::text::{count, printable};

/// The facts of a run that the user should see before it takes time.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// The task of the model.
    pub task: Task,
    /// The dataset.
    pub dataset: DatasetFacts,
    /// The recipe and why it was chosen.
    pub recipe: RecipeFacts,
    /// The network.
    pub model: ModelFacts,
    /// The sizes of inputs, in words.
    pub input: String,
    /// The anchors of a detector, in words.
    pub anchors: Option<String>,
    /// Images per batch.
    pub batch_size: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
    /// The settings of the training loop.
    pub training: EngineConfig,
    /// The name of the device.
    pub device: String,
    /// Number of processes that train together.
    pub ranks: usize,
    /// Estimated memory of a step in bytes, and the free memory where it is known.
    pub memory: Option<(u64, Option<u64>)>,
    /// The directory of the run.
    pub run: PathBuf,
}

/// The dataset of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFacts {
    /// The name as the user gave it.
    pub name: String,
    /// Number of training images.
    pub train_images: usize,
    /// Number of boxes in the training images; none for a classification dataset.
    pub train_boxes: Option<usize>,
    /// Number of validation images.
    pub val_images: usize,
    /// Names of the classes.
    pub classes: Vec<String>,
}

/// The recipe of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipeFacts {
    /// Its name or file.
    pub name: String,
    /// Why it was chosen.
    pub reason: String,
    /// The recipe's learning rate, where it was scaled to the batch size.
    pub scaled_from: Option<ScaledFrom>,
}

/// The scaling of the recipe's learning rate to the batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaledFrom {
    /// The learning rate of the recipe.
    pub learning_rate: f64,
    /// The images per step that it refers to.
    pub batch_size: usize,
}

/// The network of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// The origin of its weights, in words.
    pub weights: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Number of parameters that are trained.
    pub trainable: usize,
}

/// Characters of the labels of the block.
pub const LABEL: usize = 11;

/// Characters of the list of classes.
const CLASSES: usize = 60;

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .rows()
            .into_iter()
            .map(|(label, text)| format!("{label:<LABEL$}{text}"))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl RunSummary {
    /// Returns the labels and values of the block.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let DatasetFacts {
            train_images,
            train_boxes,
            val_images,
            classes,
            ..
        } = &self.dataset;
        let boxes = match train_boxes {
            Some(boxes) => format!(" ({})", count(*boxes, "box")),
            None => String::new(),
        };
        let images = format!(
            "{}{boxes}, {}",
            count(*train_images, "training image"),
            count(*val_images, "validation image")
        );
        let ModelFacts {
            name,
            parameters,
            trainable,
            ..
        } = &self.model;
        let model = format!(
            "{name}, {} parameters ({} trainable, {} frozen)",
            millions(*parameters),
            millions(*trainable),
            millions(parameters.saturating_sub(*trainable)),
        );
        let mut rows = vec![
            ("task", self.task.to_string()),
            ("dataset", printable(&self.dataset.name).into_owned()),
            ("images", images),
            (
                "classes",
                format!("{}: {}", classes.len(), first_names(classes)),
            ),
            (
                "recipe",
                format!("{}, {}", self.recipe.name, self.recipe.reason),
            ),
            ("model", model),
            ("weights", self.model.weights.clone()),
            ("input", self.input.clone()),
        ];
        rows.extend(self.anchors.clone().map(|anchors| ("anchors", anchors)));
        rows.push(("training", self.schedule()));
        rows.push(("optimizer", self.optimizer()));
        let precision = self.training.precision.or_f32();
        rows.push(("device", format!("{}, {precision}", self.device)));
        if self.ranks > 1 {
            rows.push(("ranks", format!("{}, each on such a device", self.ranks)));
        }
        if let Some((need, free)) = self.memory {
            let free = match free {
                Some(free) => format!(" ({} free)", gigabytes(free)),
                None => String::new(),
            };
            rows.push(("memory", format!("about {}{free}", gigabytes(need))));
        }
        rows.push(("run", self.run.display().to_string()));
        rows
    }

    fn schedule(&self) -> String {
        let EngineConfig {
            epochs,
            accumulate,
            max_iterations,
            max_minutes,
            ..
        } = &self.training;
        let mut text = format!(
            "batch {}, {} of {}",
            self.batch_size,
            count(*epochs, "epoch"),
            count(self.steps_per_epoch, "step")
        );
        if *accumulate > 1 {
            text += &format!(", {accumulate} batches per step");
        }
        if let Some(steps) = max_iterations {
            text += &format!(", at most {}", count(*steps, "step"));
        }
        if let Some(minutes) = max_minutes {
            text += &format!(", at most {minutes} min");
        }
        text
    }

    fn optimizer(&self) -> String {
        let name = match self.training.optimizer {
            OptimizerConfig::Sgd { .. } => "SGD",
            OptimizerConfig::Adamw { .. } => "AdamW",
        };
        let scaled = match self.recipe.scaled_from {
            Some(from) => format!(
                " ({} scaled from batch {} to batch {})",
                from.learning_rate,
                from.batch_size,
                self.batch_size * self.training.accumulate
            ),
            None => String::new(),
        };
        format!(
            "{name}, learning rate {}{scaled}",
            short(self.training.learning_rate)
        )
    }
}

/// Formats a learning rate with at most four significant digits.
fn short(rate: f64) -> String {
    let digits = 3 - rate.abs().log10().floor() as i32;
    let text = format!("{rate:.*}", digits.clamp(0, 12) as usize);
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        None => text,
    }
}

fn millions(parameters: usize) -> String {
    match parameters {
        0..100_000 => parameters.to_string(),
        _ => format!("{:.2} M", parameters as f64 / 1e6),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Returns as many names as fit into a line.
fn first_names(names: &[String]) -> String {
    let mut line = String::new();
    for (index, name) in names.iter().enumerate() {
        let name = printable(name);
        if index > 0 && line.len() + name.len() > CLASSES {
            return line + ", ...";
        }
        if index > 0 {
            line += ", ";
        }
        line += &name;
    }
    line
}

/// Returns the number of parameters, without running statistics, and of those that receive gradients.
/// `frozen` layers receive none; they are given by the beginnings of their tensors' names.
pub(super) fn count_parameters(model: &impl Module, frozen: &BTreeSet<String>) -> (usize, usize) {
    let mut counter = ParameterCount {
        path: ModulePath::default(),
        frozen,
        all: 0,
        trainable: 0,
    };
    model.visit(&mut counter);
    (counter.all, counter.trainable)
}

struct ParameterCount<'a> {
    path: ModulePath,
    frozen: &'a BTreeSet<String>,
    all: usize,
    trainable: usize,
}

impl ModuleVisitor for ParameterCount<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let name = self.path.name();
        if name.contains("running_") {
            return;
        }
        let values = tensor.shape().num_elements();
        self.all += values;
        let is_frozen = name
            .match_indices('.')
            .any(|(end, _)| self.frozen.contains(&name[..end]));
        if tensor.is_require_grad() && !is_frozen {
            self.trainable += values;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::{DetectionConfig, Recipe as _};

    fn summary() -> RunSummary {
        let config = DetectionConfig::load("coco-torchvision", &[]).unwrap();
        RunSummary {
            task: Task::Detection,
            dataset: DatasetFacts {
                name: "cells".into(),
                train_images: 1,
                train_boxes: Some(2),
                val_images: 3,
                classes: vec!["a\nb".into()],
            },
            recipe: RecipeFacts {
                name: "small".into(),
                reason: "the default for own images".into(),
                scaled_from: Some(ScaledFrom {
                    learning_rate: 0.02,
                    batch_size: 16,
                }),
            },
            model: ModelFacts {
                name: "se-resnet18 FPN".into(),
                weights: "none, trained from scratch".into(),
                parameters: 1_300_000,
                trainable: 1_300_000,
            },
            input: "320 px".into(),
            anchors: None,
            batch_size: 2,
            steps_per_epoch: 1,
            training: EngineConfig {
                learning_rate: 0.0025,
                ..config.train
            },
            device: "cpu (2 threads)".into(),
            ranks: 1,
            memory: Some((800_000_000, Some(5_100_000_000))),
            run: "runs/cells".into(),
        }
    }

    #[test]
    fn the_block_has_correct_plurals_and_printable_names() {
        let text = summary().to_string();
        for line in [
            "task       detection",
            "dataset    cells",
            "images     1 training image (2 boxes), 3 validation images",
            "classes    1: a\\nb",
            "recipe     small, the default for own images",
            "model      se-resnet18 FPN, 1.30 M parameters (1.30 M trainable, 0 frozen)",
            "training   batch 2, 26 epochs of 1 step",
            "optimizer  SGD, learning rate 0.0025 (0.02 scaled from batch 16 to batch 2)",
            "memory     about 0.8 GB (5.1 GB free)",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nnot in\n{text}"
            );
        }
    }

    #[test]
    fn a_long_list_of_classes_is_cut_at_a_name() {
        let names: Vec<String> = (0..80).map(|n| format!("class{n}")).collect();
        let line = first_names(&names);
        assert!(line.len() < 70 && line.ends_with("class7, ..."), "{line}");
        assert_eq!(first_names(&names[..2]), "class0, class1");
    }

    #[test]
    fn learning_rates_are_short() {
        let shown = [0.02, 0.00015, 1.0, 0.123456, 3.5e-7].map(short);
        assert_eq!(shown, ["0.02", "0.00015", "1", "0.1235", "0.00000035"]);
    }

    #[test]
    fn frozen_layers_and_norms_are_not_trainable() {
        let device = Device::flex().autodiff();
        let config = DetectionConfig::load("coco-torchvision", &[]).unwrap();
        let count = |pretrained: bool, frozen: &[&str]| {
            let model = config.detector(3, pretrained).unwrap().init(&device);
            let frozen = frozen.iter().map(|name| name.to_string()).collect();
            count_parameters(&model, &frozen)
        };
        let (all, trained) = count(false, &[]);
        assert!(all > 40_000_000 && trained == all, "{all} {trained}");
        let (_, frozen_norms) = count(true, &[]);
        assert!(frozen_norms < all);
        // The stem is a convolution of 7x7 with 64 channels.
        let (_, without_stem) = count(true, &["backbone.conv1"]);
        assert_eq!(frozen_norms - without_stem, 64 * 3 * 7 * 7);
    }
}
