//! Progress reports of a training run.

use std::fmt;
use std::path::PathBuf;

use super::progress::{EpochEvaluation, EpochReport, StepReport};
use super::summary::RunSummary;
use crate::detection::anchor_fit::{Unreached, WANTED_RECALL};
use crate::weights::groups::describe;
use crate::weights::import::ImportReport;
use sedet_data::text::{count, duration, printable};

/// Receives the progress of a training run; the library itself prints nothing.
pub trait Observer {
    /// Is called after every optimizer step.
    fn step(&mut self, report: &StepReport<'_>);
    /// Is called before an evaluation.
    fn evaluating(&mut self, epoch: usize);
    /// Is called during an evaluation with the numbers of finished and of all images.
    fn evaluated_images(&mut self, _done: usize, _all: usize) {}
    /// Is called after an evaluation.
    fn evaluated(&mut self, epoch: usize, evaluation: &EpochEvaluation, is_best: bool);
    /// Is called once for every epoch, after its evaluation if there is one.
    fn epoch(&mut self, _report: &EpochReport<'_>) {}
    /// Receives everything else that the user should know.
    fn notice(&mut self, notice: &Notice);
}

/// A fact about a run, for the user. [`Display`](fmt::Display) formats it as text, on one or more
/// lines.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The dataset is being opened, which takes time for large ones.
    Opening {
        /// The name as the user gave it.
        dataset: String,
    },
    /// The run is about to begin or to continue.
    Summary(Box<RunSummary>),
    /// The recipe asks for bf16, which this CPU does not multiply.
    ComputesInF32,
    /// The estimate of the time that the run takes, after the first steps.
    ExpectedTime {
        /// Seconds per step.
        step: f64,
        /// Seconds of training that are left.
        remaining: f64,
        /// Steps that are left.
        steps: usize,
    },
    /// An interrupted run continues.
    Resuming {
        /// The directory of the run.
        run: PathBuf,
    },
    /// The run continues with a dataset at another path, whose contents cannot be compared with those
    /// that it began with: earlier versions stored no fingerprint.
    UnverifiedDataset {
        /// The dataset.
        dataset: String,
    },
    /// A warning about the dataset.
    DatasetNote(String),
    /// Annotations that are not used in training.
    IgnoredAnnotations {
        /// Crowd annotations.
        crowds: usize,
        /// Boxes with a side below one pixel.
        degenerate: usize,
        /// Boxes outside of their images.
        outside: usize,
        /// Boxes with coordinates that are not finite or implausible, or with a negative side.
        invalid: usize,
    },
    /// The anchors match too few of the boxes.
    LowAnchorRecall {
        /// Share of the boxes with an anchor of at least IoU 0.5, from 0 to 1.
        recall: f64,
        /// What most of the other boxes have in common.
        cause: Option<Unreached>,
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
    /// The weights are of a model with as many classes, but other names.
    OtherClassNames {
        /// The names that only one of the two has.
        difference: String,
    },
    /// The weights are of a model with the same classes in another order.
    ReorderedClasses,
    /// Tensors of the given weights that have another shape in the network, besides prediction layers of other classes.
    OtherShapes {
        /// Their names.
        tensors: Vec<String>,
        /// The recipe of the run, by name or file.
        recipe: String,
        /// The recipe that keeps the shapes of the weights, if it is another one.
        keeping: Option<&'static str>,
    },
    /// Tensors that the given weights do not provide.
    RandomlyInitialized(Vec<String>),
    /// SE units that the given weights do not have start as identity.
    GraftedUnits {
        /// The number of units.
        units: usize,
        /// Whether the weights have the rest of the backbone, so that its outputs are the same as without the
        /// units.
        keeps_outputs: bool,
    },
    /// Tensors of the given weights that the network does not have.
    UnusedWeights(Vec<String>),
    /// A setting does not have the effect that its name suggests.
    SettingWarning(String),
    /// All epochs of a resumed run are done, so that only the final evaluation is left.
    AlreadyTrained {
        /// The directory of the run.
        run: PathBuf,
        /// The number of epochs that are done.
        epochs: usize,
        /// The number of epochs that it was to have: fewer if a later session lowered it.
        configured: usize,
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
            Self::Opening { dataset } => write!(f, "opening {}", printable(dataset)),
            Self::Summary(summary) => write!(f, "{summary}"),
            Self::ComputesInF32 => f.write_str(
                "computing in f32: bf16 needs a CPU with AVX512-BF16 instructions",
            ),
            Self::ExpectedTime {
                step,
                remaining,
                steps,
            } => write!(
                f,
                "expected time: {} for {} ({step:.2} s each), plus evaluations",
                duration(*remaining),
                count(*steps, "more step")
            ),
            Self::Resuming { run } => write!(f, "resuming {}", run.display()),
            Self::UnverifiedDataset { dataset } => write!(
                f,
                "warning: {}: cannot be compared with the data that this run began with",
                printable(dataset)
            ),
            Self::DatasetNote(note) => write!(f, "note: {note}"),
            Self::IgnoredAnnotations {
                crowds,
                degenerate,
                outside,
                invalid,
            } => {
                write!(
                    f,
                    "ignored in training: {}, {} with a side of at most 1 px",
                    count(*crowds, "crowd annotation"),
                    count(*degenerate, "box")
                )?;
                if *outside > 0 {
                    write!(f, ", {} outside the image", count(*outside, "box"))?;
                }
                if *invalid > 0 {
                    let boxes = count(*invalid, "box");
                    write!(
                        f,
                        ", {boxes} with invalid coordinates (NaN, negative sides or above 1,000,000 px)"
                    )?;
                }
                Ok(())
            }
            Self::LowAnchorRecall { recall, cause } => {
                write!(
                    f,
                    "warning: anchor recall {:.1} % at IoU 0.5, below {:.0} %",
                    100.0 * recall,
                    100.0 * WANTED_RECALL
                )?;
                match cause {
                    Some(cause) => write!(f, ": {cause}"),
                    None => Ok(()),
                }
            }
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
            Self::OtherClassNames { difference } => write!(
                f,
                "weights: the classes of the checkpoint have other names than those of the dataset \
                 ({difference}): reinitializing the prediction layers"
            ),
            Self::ReorderedClasses => f.write_str(
                "weights: the checkpoint has the classes in another order: reordering the prediction \
                 layers by name",
            ),
            Self::OtherShapes {
                tensors,
                recipe,
                keeping,
            } => {
                write!(
                    f,
                    "warning: weights: not used, because the network has other sizes there: {}",
                    describe(tensors)
                )?;
                match keeping {
                    Some(keeping) => write!(
                        f,
                        "; these sizes are those of the recipe {}; the recipe {keeping} keeps those of the weights",
                        printable(recipe)
                    ),
                    None => Ok(()),
                }
            }
            Self::RandomlyInitialized(names) => {
                write!(f, "weights: randomly initialized: {}", describe(names))
            }
            Self::GraftedUnits {
                units,
                keeps_outputs,
            } => {
                let units = count(*units, "SE unit");
                write!(
                    f,
                    "weights: {units} not in the checkpoint: start as identity"
                )?;
                if *keeps_outputs {
                    f.write_str(", so that the backbone computes the same as without them")?;
                }
                Ok(())
            }
            Self::UnusedWeights(names) => {
                write!(
                    f,
                    "weights: not in this network, skipped: {}",
                    describe(names)
                )
            }
            Self::SettingWarning(warning) => write!(f, "warning: {warning}"),
            Self::AlreadyTrained {
                run,
                epochs,
                configured,
            } => {
                match epochs {
                    1 => write!(f, "{}: its only epoch is done", run.display())?,
                    _ => write!(f, "{}: all {epochs} epochs are done", run.display())?,
                }
                if epochs > configured {
                    write!(f, " (train.epochs is {configured})")?;
                }
                Ok(())
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

impl Notice {
    /// Returns what a list shows below the notice, one line each.
    pub fn details(&self) -> &[String] {
        match self {
            Self::SkippedInTraining { reasons, .. } | Self::SkippedInEvaluation { reasons } => {
                reasons
            }
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tensors_are_listed_by_the_part_of_the_network() {
        let names = |count: usize| -> Vec<String> {
            (0..count)
                .map(|block| format!("backbone.layer1.{block}.se.fc1.weight"))
                .collect()
        };
        assert_eq!(
            Notice::RandomlyInitialized(names(64)).to_string(),
            "weights: randomly initialized: SE units: 64 tensors"
        );
        let grafted = |keeps_outputs| {
            let notice = Notice::GraftedUnits {
                units: 16,
                keeps_outputs,
            };
            notice.to_string()
        };
        let start = "weights: 16 SE units not in the checkpoint: start as identity";
        assert_eq!(grafted(false), start);
        assert_eq!(
            grafted(true),
            format!("{start}, so that the backbone computes the same as without them")
        );
        assert_eq!(
            Notice::UnusedWeights(names(1)).to_string(),
            "weights: not in this network, skipped: backbone.layer1.0.se.fc1.weight"
        );
    }

    #[test]
    fn weights_that_the_sizes_of_a_recipe_exclude_are_named_with_the_recipe_that_keeps_them() {
        let notice = |keeping| Notice::OtherShapes {
            tensors: vec!["fpn.inner_blocks.0.weight".into()],
            recipe: "small".into(),
            keeping,
        };
        let text = "warning: weights: not used, because the network has other sizes there: \
                    fpn.inner_blocks.0.weight";
        assert_eq!(notice(None).to_string(), text);
        assert_eq!(
            notice(Some("fine-tune")).to_string(),
            format!(
                "{text}; these sizes are those of the recipe small; the recipe fine-tune keeps those of the \
                 weights"
            )
        );
    }

    #[test]
    fn the_expected_time_names_the_steps_that_are_left() {
        let notice = Notice::ExpectedTime {
            step: 0.5,
            remaining: 0.5 * 1500.0,
            steps: 1500,
        };
        assert_eq!(
            notice.to_string(),
            "expected time: 12 min 30 s for 1500 more steps (0.50 s each), plus evaluations"
        );
    }

    #[test]
    fn a_run_with_a_lowered_number_of_epochs_has_those_that_were_trained() {
        let notice = |epochs, configured| {
            let notice = Notice::AlreadyTrained {
                run: "runs/a".into(),
                epochs,
                configured,
            };
            notice.to_string()
        };
        assert_eq!(notice(1, 1), "runs/a: its only epoch is done");
        assert_eq!(notice(2, 2), "runs/a: all 2 epochs are done");
        assert_eq!(
            notice(5, 2),
            "runs/a: all 5 epochs are done (train.epochs is 2)"
        );
    }

    #[test]
    fn ignored_boxes_are_counted_as_what_they_are() {
        let notice = |outside, invalid| {
            let notice = Notice::IgnoredAnnotations {
                crowds: 1,
                degenerate: 2,
                outside,
                invalid,
            };
            notice.to_string()
        };
        let usual = "ignored in training: 1 crowd annotation, 2 boxes with a side of at most 1 px";
        assert_eq!(notice(0, 0), usual);
        assert_eq!(
            notice(3, 1),
            format!(
                "{usual}, 3 boxes outside the image, 1 box with invalid coordinates (NaN, negative sides or \
                 above 1,000,000 px)"
            )
        );
    }

    #[test]
    fn a_low_anchor_recall_is_explained() {
        let notice = Notice::LowAnchorRecall {
            recall: 0.82,
            cause: Some(Unreached::Tiny { share: 0.9 }),
        };
        let text = notice.to_string();
        assert!(
            text.starts_with(
                "warning: anchor recall 82.0 % at IoU 0.5, below 97 %: 90 % of the other boxes"
            ),
            "{text}"
        );
    }
}
