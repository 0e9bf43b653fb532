//! Progress reports of a training run.

use std::fmt;
use std::path::PathBuf;

use super::engine::{Evaluation, StepReport};
use crate::weights::import::ImportReport;
use sedet_data::text::count;

/// Receives the progress of a training run; the library itself prints nothing.
pub trait Observer {
    /// Is called after every optimizer step.
    fn step(&mut self, report: &StepReport<'_>);
    /// Is called before an evaluation.
    fn evaluating(&mut self, epoch: usize);
    /// Is called after an evaluation.
    fn evaluated(&mut self, epoch: usize, evaluation: &Evaluation, is_best: bool);
    /// Receives everything else that the user should know.
    fn notice(&mut self, notice: &Notice);
}

/// The scaling of the recipe's learning rate to the batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaledFrom {
    /// The learning rate of the recipe.
    pub learning_rate: f64,
    /// The images per step that it refers to.
    pub batch_size: usize,
}

/// A fact about a run, for the user. [`Display`](fmt::Display) formats it as text, on one or more
/// lines.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A new run was created.
    Created {
        /// The directory of the run.
        run: PathBuf,
        /// The recipe.
        recipe: String,
        /// The learning rate that is used.
        learning_rate: f64,
        /// Images per optimizer step.
        batch_size: usize,
        /// The recipe's learning rate, where it was scaled.
        scaled_from: Option<ScaledFrom>,
    },
    /// An interrupted run continues.
    Resuming {
        /// The directory of the run.
        run: PathBuf,
    },
    /// A detector is trained without pretrained weights.
    FromScratch,
    /// The dataset was opened.
    Dataset {
        /// The name as the user gave it.
        name: String,
        /// Number of training images.
        train_images: usize,
        /// Number of boxes in the training images; none for a classification dataset.
        boxes: Option<usize>,
        /// Number of validation images.
        val_images: usize,
        /// Names of the classes.
        classes: Vec<String>,
    },
    /// A warning about the dataset.
    DatasetNote(String),
    /// Annotations that are not used in training.
    IgnoredAnnotations {
        /// Crowd annotations.
        crowds: usize,
        /// Boxes with a side below one pixel.
        degenerate: usize,
    },
    /// The network was built.
    Network {
        /// Its name.
        name: String,
        /// Number of parameters.
        parameters: usize,
        /// The device.
        device: String,
    },
    /// A third-party weights file was read.
    Imported(ImportReport),
    /// Weights were copied into the network.
    WeightsLoaded {
        /// Number of tensors.
        tensors: usize,
    },
    /// The weights of a classifier initialize the backbone of a detector.
    ClassificationCheckpoint,
    /// The weights are of a model with other classes.
    OtherClasses {
        /// Number of classes of the checkpoint.
        checkpoint: usize,
        /// Number of classes of the dataset.
        dataset: usize,
    },
    /// The weights are of a model with as many classes, but other names or another order.
    OtherClassNames,
    /// Tensors that the given weights do not provide.
    RandomlyInitialized(Vec<String>),
    /// Tensors of the given weights that the network does not have.
    UnusedWeights(Vec<String>),
    /// A setting does not have the effect that its name suggests.
    SettingWarning(String),
    /// All epochs of a resumed run are done, so that only the final evaluation is left.
    AlreadyTrained {
        /// The directory of the run.
        run: PathBuf,
        /// The number of epochs.
        epochs: usize,
    },
    /// The last checkpoint is damaged; the run continues from the previous one.
    Recovered {
        /// The error of the last checkpoint.
        damage: String,
        /// The checkpoint that is used.
        from: PathBuf,
    },
    /// Images that were skipped in training.
    SkippedInTraining {
        /// The reasons, each with the name of the image; all sessions of the run.
        reasons: Vec<String>,
        /// The file that lists them.
        file: PathBuf,
    },
    /// Images that were skipped in the final evaluation.
    SkippedInEvaluation {
        /// The reasons, each with the name of the image.
        reasons: Vec<String>,
    },
    /// Training ended because the score stopped improving.
    StoppedEarly,
    /// Training ended because of its time limit.
    TimeLimit,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created {
                run,
                recipe,
                learning_rate,
                batch_size,
                scaled_from,
            } => {
                write!(
                    f,
                    "recipe {recipe} -> {}; learning rate {learning_rate:.4}",
                    run.display()
                )?;
                match scaled_from {
                    Some(from) => write!(
                        f,
                        " ({} scaled from batch {} to batch {batch_size})",
                        from.learning_rate, from.batch_size
                    ),
                    None => write!(f, " (batch {batch_size})"),
                }
            }
            Self::Resuming { run } => write!(f, "resuming {}", run.display()),
            Self::FromScratch => f.write_str(
                "training from scratch: all layers trainable, batch-norm statistics updated",
            ),
            Self::Dataset {
                name,
                train_images,
                boxes,
                val_images,
                classes,
            } => {
                write!(f, "{name}: {}", count(*train_images, "training image"))?;
                if let Some(boxes) = boxes {
                    write!(f, " ({})", count(*boxes, "box"))?;
                }
                write!(
                    f,
                    ", {}; {}: {}",
                    count(*val_images, "validation image"),
                    count(classes.len(), "class"),
                    first_names(classes)
                )
            }
            Self::DatasetNote(note) => write!(f, "note: {note}"),
            Self::IgnoredAnnotations { crowds, degenerate } => write!(
                f,
                "ignored in training: {}, {} below 1 px",
                count(*crowds, "crowd annotation"),
                count(*degenerate, "box")
            ),
            Self::Network {
                name,
                parameters,
                device,
            } => write!(
                f,
                "{name}, {:.2} M parameters, on {device}",
                *parameters as f64 / 1e6
            ),
            Self::Imported(report) => {
                let lines = report.lines().into_iter();
                let lines: Vec<String> = lines.map(|line| format!("weights: {line}")).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::WeightsLoaded { tensors } => {
                write!(f, "weights: {} loaded", count(*tensors, "tensor"))
            }
            Self::ClassificationCheckpoint => {
                f.write_str("weights: classification checkpoint: dropping the final layer")
            }
            Self::OtherClasses {
                checkpoint,
                dataset,
            } => write!(
                f,
                "weights: checkpoint has {}, dataset has {dataset}: reinitializing the prediction layers",
                count(*checkpoint, "class")
            ),
            Self::OtherClassNames => f.write_str(
                "weights: the classes of the checkpoint have other names or another order than \
                 those of the dataset: reinitializing the prediction layers",
            ),
            Self::RandomlyInitialized(names) => {
                write!(f, "weights: randomly initialized: {}", tensors(names))
            }
            Self::UnusedWeights(names) => {
                write!(
                    f,
                    "weights: not in this network, skipped: {}",
                    tensors(names)
                )
            }
            Self::SettingWarning(warning) => write!(f, "warning: {warning}"),
            Self::AlreadyTrained { run, epochs: 1 } => {
                write!(f, "{}: its only epoch is done", run.display())
            }
            Self::AlreadyTrained { run, epochs } => {
                write!(f, "{}: all {epochs} epochs are done", run.display())
            }
            Self::Recovered { damage, from } => {
                write!(f, "warning: {damage}; resuming from {}", from.display())
            }
            Self::SkippedInTraining { reasons, .. } => {
                write!(f, "skipped in training: {}", count(reasons.len(), "image"))
            }
            Self::SkippedInEvaluation { reasons } => write!(
                f,
                "skipped in evaluation: {}",
                count(reasons.len(), "image")
            ),
            Self::StoppedEarly => f.write_str("early stopping: the score no longer improves"),
            Self::TimeLimit => f.write_str("time limit reached (train.max_minutes)"),
        }
    }
}

/// Number of tensors, or of groups of tensors, that a line lists.
const LISTED: usize = 8;

/// Lists a few tensors by name, and many by their number and the modules that they belong to.
fn tensors(names: &[String]) -> String {
    if names.len() <= LISTED {
        return names.join(", ");
    }
    let mut modules: Vec<(&str, usize)> = Vec::new();
    for name in names {
        let module = module_of(name);
        match modules.iter_mut().find(|(known, _)| *known == module) {
            Some((_, tensors)) => *tensors += 1,
            None => modules.push((module, 1)),
        }
    }
    let listed = modules.iter().take(LISTED);
    let listed: Vec<String> = listed
        .map(|(module, tensors)| format!("{module} ({tensors})"))
        .collect();
    let end = if modules.len() > LISTED { ", ..." } else { "" };
    format!(
        "{}: {}{end}",
        count(names.len(), "tensor"),
        listed.join(", ")
    )
}

/// Returns the first two parts of a tensor's name, such as `backbone.layer1`, without the name of the tensor
/// within its module.
fn module_of(name: &str) -> &str {
    let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
    let end = module.match_indices('.').nth(1).map(|(at, _)| at);
    &module[..end.unwrap_or(module.len())]
}

/// Returns the first names of a long list.
fn first_names(names: &[String]) -> String {
    if names.len() > 10 {
        format!("{}, ...", names[..8].join(", "))
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_is_summarized_with_correct_plurals_and_its_first_classes() {
        let dataset = |classes: usize| Notice::Dataset {
            name: "cells".into(),
            train_images: 1,
            boxes: Some(2),
            val_images: 3,
            classes: (0..classes).map(|n| format!("c{n}")).collect(),
        };
        assert_eq!(
            dataset(1).to_string(),
            "cells: 1 training image (2 boxes), 3 validation images; 1 class: c0"
        );
        let many = dataset(11).to_string();
        assert!(many.ends_with("11 classes: c0, c1, c2, c3, c4, c5, c6, c7, ..."));
    }

    #[test]
    fn many_tensors_are_listed_by_their_number_and_modules() {
        let few = Notice::RandomlyInitialized(vec!["head.weight".into(), "head.bias".into()]);
        assert_eq!(
            few.to_string(),
            "weights: randomly initialized: head.weight, head.bias"
        );
        let names = |modules: usize| -> Vec<String> {
            let blocks = (0..modules).flat_map(|m| {
                (0..6).map(move |block| format!("backbone.layer{m}.{block}.conv1.weight"))
            });
            blocks.chain(["head.weight".to_string()]).collect()
        };
        assert_eq!(
            Notice::UnusedWeights(names(2)).to_string(),
            "weights: not in this network, skipped: 13 tensors: backbone.layer0 (6), backbone.layer1 (6), \
             head (1)"
        );
        let many = Notice::RandomlyInitialized(names(20)).to_string();
        assert!(
            many.starts_with("weights: randomly initialized: 121 tensors: "),
            "{many}"
        );
        assert!(many.ends_with("backbone.layer7 (6), ..."), "{many}");
    }

    #[test]
    fn a_scaled_learning_rate_names_both_batch_sizes() {
        let notice = Notice::Created {
            run: "runs/a".into(),
            recipe: "coco-torchvision".into(),
            learning_rate: 0.0025,
            batch_size: 2,
            scaled_from: Some(ScaledFrom {
                learning_rate: 0.02,
                batch_size: 16,
            }),
        };
        assert_eq!(
            notice.to_string(),
            "recipe coco-torchvision -> runs/a; learning rate 0.0025 (0.02 scaled from batch 16 to \
             batch 2)"
        );
    }
}
