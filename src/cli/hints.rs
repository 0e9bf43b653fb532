//! What to do about an error, in terms of the command line, and the exit code.
//!
//! The library's errors name no option and no subcommand, because the viewer and other programs show
//! them too. [`hint_for`] finds the error's type in its chain of causes and returns what the command
//! line can advise; [`main`](super::main) prints it on a line of its own after the error.
//!
//! To add a hint for an error of the library, write a function from that error type to
//! `Option<String>` and add it to [`RULES`]. For an error that is created in `cli`, use [`advise`], or
//! [`usage`] if an option or its value is wrong.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use super::{dataset_argument, is_json_file, quoted};
use sedet_core::backbones::summary::TooSmall;
use sedet_core::backbones::zoo::ZooError;
use sedet_core::config::ConfigError;
use sedet_core::device::{Backend, DeviceError};
use sedet_core::distributed::DistributedError;
use sedet_core::excitation::ExcitationError;
use sedet_core::excitation::selection::SelectionError;
use sedet_core::explanation::ExplanationError;
use sedet_core::model::{ModelError, Task};
use sedet_core::train::RunError;
use sedet_core::train::ablation::AblationError;
use sedet_core::train::engine::TrainError;
use sedet_core::train::memory::{NotEnoughMemory, StepInputs};
use sedet_core::train::run_dir::{RunDir, RunDirError};
use sedet_core::weights::checkpoint::CheckpointError;
use sedet_core::weights::export::ExportError;
use sedet_core::weights::import::ImportError;
use sedet_core::weights::load::LoadError;
use sedet_core::weights::named::{Attempt, AttemptFailure, NamedError, NamedWeights};
use sedet_core::weights::onnx::OnnxError;
use sedet_core::weights::third_party::{OtherContent, ThirdPartyError};
use sedet_data::annotations::AnnotationError;
use sedet_data::annotations::category_shift::CategoryShift;
use sedet_data::annotations::formats::is_dataset_file;
use sedet_data::annotations::layout::{CannotHoldOut, LayoutError, Split};
use sedet_data::box_conventions::{
    BoxConvention, BoxOrder, BoxUnit, ConventionMismatch, MismatchCause,
};
use sedet_data::curation::convert::ConvertError;
use sedet_data::datasets::download::DownloadError;
use sedet_data::datasets::registry::{AnyDatasetName, DATA_DIR_VARIABLE, RegistryError};
use sedet_data::datasets::sources::{FetchError, data_source};
use sedet_data::eval::{Cause, EvalError, ResultsProblem};
use sedet_data::images::decode::DecodeError;
use sedet_data::{ChangedMeanwhile, DataError, Remedy};

/// Returns the hint of the outermost error in the chain that has one.
pub(super) fn hint_for(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(hint_of)
}

/// Returns the hint of one error, without its causes.
///
/// Errors with `#[error(transparent)]` do not appear in the chain of their wrapper. A rule for such a
/// wrapper calls this function with the wrapped error.
fn hint_of(cause: &(dyn Error + 'static)) -> Option<String> {
    RULES.iter().find_map(|rule| rule(cause))
}

type Rule = fn(&(dyn Error + 'static)) -> Option<String>;

/// One rule for each error type that has a hint.
const RULES: &[Rule] = &[
    |cause| cause.downcast_ref().and_then(advised),
    |cause| cause.downcast_ref().and_then(run),
    |cause| cause.downcast_ref().and_then(run_directory),
    |cause| cause.downcast_ref().and_then(training),
    |cause| cause.downcast_ref().and_then(ablation),
    |cause| cause.downcast_ref().and_then(recipe),
    |cause| cause.downcast_ref().and_then(memory),
    |cause| cause.downcast_ref().and_then(model),
    |cause| cause.downcast_ref().and_then(weights),
    |cause| cause.downcast_ref().and_then(named_weights),
    |cause| cause.downcast_ref().and_then(weights_import),
    |cause| cause.downcast_ref().and_then(third_party_file),
    |cause| cause.downcast_ref().and_then(weights_export),
    |cause| cause.downcast_ref().and_then(onnx),
    |cause| cause.downcast_ref().and_then(device),
    |cause| cause.downcast_ref().and_then(dataset_hint),
    |cause| cause.downcast_ref().and_then(data_hint),
    |cause| cause.downcast_ref().and_then(image_kind_hint),
    |cause| cause.downcast_ref().and_then(convert_hint),
    |cause| cause.downcast_ref().and_then(fetch_hint),
    |cause| cause.downcast_ref().map(transfer_hint),
    |cause| cause.downcast_ref().and_then(ground_truth_hint),
    |cause| cause.downcast_ref().and_then(excitation),
    |cause| cause.downcast_ref().and_then(explanation),
];

fn advised(error: &Advised) -> Option<String> {
    error.hint.clone()
}

fn run(error: &RunError) -> Option<String> {
    match error {
        RunError::Config(inner) => hint_of(inner),
        RunError::Dataset(inner) => no_train_hint(inner).or_else(|| hint_of(inner)),
        RunError::Data(inner) => hint_of(inner),
        RunError::GroundTruth(inner) => hint_of(inner),
        RunError::RunDir(inner) => hint_of(inner),
        RunError::Weights(inner) => hint_of(inner),
        RunError::Memory(inner) => hint_of(inner),
        RunError::Evaluation(inner) => hint_of(inner),
        RunError::Training {
            can_be_resumed: true,
            is_saved: false,
            ..
        } => Some(
            "nothing was saved; run the same command again once the cause is removed".to_string(),
        ),
        // To resume at once would end in the same way.
        RunError::Training {
            source,
            run,
            is_saved: true,
            ..
        } if is_without_images(source.as_ref()) => Some(format!(
            "replace the images, then resume with: sedet train --resume {}",
            quoted(run.display())
        )),
        RunError::Training {
            source,
            dataset,
            run,
            can_be_resumed: true,
            is_saved: true,
            is_about_one_image,
        } => {
            // Where one size is wrong, others are usually too.
            let (check, skipped) = if is_about_size(source.as_ref()) {
                let dataset = quoted(dataset);
                let check = format!("`sedet data check {dataset}` lists all such images; ");
                (check, "such")
            } else {
                (String::new(), "unreadable")
            };
            let skip = if *is_about_one_image {
                format!(" (add --on-bad-image skip to skip {skipped} images)")
            } else {
                String::new()
            };
            Some(format!(
                "{check}progress saved; resume with: sedet train --resume {}{skip}",
                quoted(run.display())
            ))
        }
        RunError::DatasetChanged {
            dataset,
            checkpoint,
        } => Some(format!(
            "restore the data, or begin a new run from its weights: sedet train --dataset {} --weights {} \
             --output NEW",
            quoted(dataset),
            quoted(checkpoint.display())
        )),
        RunError::DatasetMoved { run, .. } => Some(format!(
            "give its new path: sedet train --resume {} --dataset PATH (--data-dir DIR for a named dataset)",
            quoted(run.display())
        )),
        RunError::SyncNorms { wanted, .. } => Some(format!(
            "start {wanted} processes: mpirun -n {wanted} sedet train ..., or omit train.sync_norms in a new run"
        )),
        RunError::SharedDevice { .. } => {
            Some("list a device for each process of a machine, such as --devices cuda:0,1".into())
        }
        RunError::Ranks(DistributedError::Different { .. }) => Some(
            "all processes need the same sedet, the same command and the same files".to_string(),
        ),
        RunError::PrecisionOfDevice { .. } => {
            Some("--device cpu, or --set train.precision=f32".to_string())
        }
        RunError::FewerEpochs { finished, .. } => Some(format!(
            "to train longer, give more than {finished}; without --epochs, the run continues as it was started, or is \
             evaluated if it is complete"
        )),
        RunError::OtherBackbone { wanted, .. } => {
            let plain = wanted.strip_prefix("se-").unwrap_or(wanted);
            Some(format!(
                "omit --backbone to train the network of the weights, or give weights of {plain}; \
                 --allow-unused loads the tensors that fit"
            ))
        }
        RunError::FrozenBackbone { .. } => Some(
            "omit --backbone to train the network of the weights, or train all layers with --config small \
             or --set model.norm=batch"
                .to_string(),
        ),
        RunError::NoBoxes { dataset, .. } => {
            let dataset = quoted(dataset);
            Some(format!("`sedet data check {dataset}` lists what was read"))
        }
        // The check reads datasets with boxes.
        RunError::NoUsableImage { kind: "", .. } => {
            Some("replace the images of this split".into())
        }
        RunError::NoUsableImage { dataset, split, .. } => {
            // Only the other split has images left to divide.
            let divided = *split == Split::Val && !AnyDatasetName::is_named(dataset);
            let dataset = quoted(dataset);
            let divide = if divided {
                format!(
                    ", or split the other images: sedet data split {dataset} --on-bad-image skip \
                     --output NEW"
                )
            } else {
                String::new()
            };
            Some(format!(
                "replace the images that `sedet data check {dataset}` lists{divide}"
            ))
        }
        _ => None,
    }
}

/// Returns whether training ended because no image could be used.
fn is_without_images(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(
        error.downcast_ref::<TrainError<ModelError>>(),
        Some(
            TrainError::NothingToLearnFrom { .. }
                | TrainError::Task(ModelError::NoUsableImage { .. })
        )
    )
}

/// Returns whether training ended because of an image of another size than that of its annotations.
fn is_about_size(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(TrainError::Task(ModelError::Data(
            DataError::SizeMismatch { .. }
        )))
    )
}

fn run_directory(error: &RunDirError) -> Option<String> {
    match error {
        RunDirError::Exists { path } => Some(format!(
            "continue it with --resume {}, or choose another --output",
            quoted(path.display())
        )),
        RunDirError::NotEmpty { .. } => {
            Some("choose another --output; nothing was changed".to_string())
        }
        RunDirError::NotARun { .. } => {
            Some("to begin a new run from these weights: --weights FILE".to_string())
        }
        // A directory with a run is the one that is resumed: there is no other --output to choose.
        RunDirError::Busy { path, .. } if RunDir::open(path).is_ok() => {
            Some("wait until it has ended".to_string())
        }
        RunDirError::Busy { .. } => {
            Some("wait until it has ended, or choose another --output".to_string())
        }
        RunDirError::NothingToResume { .. } => Some(TO_RESUME.to_string()),
        RunDirError::NotCreated { .. } => Some("choose another --output".to_string()),
        RunDirError::Io { source, .. } => match source.kind() {
            ErrorKind::NotFound => Some(TO_RESUME.to_string()),
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::PermissionDenied => {
                Some("choose another --output".to_string())
            }
            _ => None,
        },
    }
}

/// The hint for a run that is not there.
const TO_RESUME: &str =
    "give the directory of a run, such as runs/photos; without --resume a new run begins";

fn training(error: &TrainError<ModelError>) -> Option<String> {
    match error {
        TrainError::NonFinite { .. } => Some(
            "lower the learning rate (--lr) or clip gradients (--set train.clip_norm=10)"
                .to_string(),
        ),
        _ => None,
    }
}

fn ablation(error: &AblationError) -> Option<String> {
    match error {
        AblationError::NoSeeds => Some("list at least one, such as --seeds 0,1,2".to_string()),
        AblationError::Twice { .. } => Some("list each value and each seed once".to_string()),
        AblationError::OtherOptions { .. } => Some("choose another --output".to_string()),
        AblationError::NoRun { total, .. } => Some(format!("--run 1 to --run {total}")),
        AblationError::Dataset(inner) => hint_of(inner),
        AblationError::Recipe(inner) => run(inner),
        _ => None,
    }
}

fn recipe(error: &ConfigError) -> Option<String> {
    match error {
        ConfigError::Read { .. } => Some(
            "give the name of a recipe or a TOML file; `sedet config show small` prints one to start from"
                .to_string(),
        ),
        ConfigError::Text(inner) => data_hint(inner),
        _ => None,
    }
}

fn memory(error: &NotEnoughMemory) -> Option<String> {
    // A batch has at least one image.
    let batch = match error.batch_size {
        1 => String::new(),
        images => format!("loader.batch_size (now {images}) or "),
    };
    let (sizes, recompute) = match error.inputs {
        StepInputs::Classifier { size } => (format!("input.size (now {size})"), ""),
        StepInputs::Detector {
            min_size,
            max_size,
            can_recompute,
        } => (
            format!("input.min_size (now {min_size}) and input.max_size (now {max_size})"),
            if can_recompute {
                ", or set model.recompute=true, which takes less memory and more time"
            } else {
                ""
            },
        ),
    };
    Some(format!(
        "lower {batch}{sizes}, or use a smaller backbone{recompute}; to try anyway: --set \
         train.check_memory=false"
    ))
}

fn model(error: &ModelError) -> Option<String> {
    match error {
        ModelError::Untrained { path, .. } => Some(format!(
            "train it: sedet train --weights {} --dataset DATASET",
            quoted(path.display())
        )),
        ModelError::Load(inner) => hint_of(inner),
        ModelError::Data(inner) => hint_of(inner),
        ModelError::Evaluation(inner) => hint_of(inner),
        ModelError::NoUsableImage { .. } => Some(REPLACE_IMAGES.to_string()),
        ModelError::Explanation(inner) => hint_of(inner),
        ModelError::WrongTask { required, .. } => Some(match required {
            Task::Detection => {
                "a classifier needs classes: a directory with one subdirectory per class, \
                                or cifar10, cifar100, imagenet, places365"
                    .to_string()
            }
            Task::Classification => {
                "a detector needs boxes: a directory with annotations, or shapes, blood-cells, coco"
                    .to_string()
            }
        }),
        _ => None,
    }
}

fn weights(error: &LoadError) -> Option<String> {
    match error {
        LoadError::LayoutOfCheckpoint { .. } => Some(
            "omit --layout and --network; they apply to third-party checkpoints only".to_string(),
        ),
        LoadError::NotStrict { .. } => Some("omit --strict to load what matches".to_string()),
        LoadError::NoCheckpoint { .. } => Some(WEIGHTS.to_string()),
        LoadError::Checkpoint(CheckpointError::Read { source, .. }) => missing_weights(source),
        LoadError::Checkpoint(CheckpointError::Format { .. }) => Some(CUT_OFF.to_string()),
        LoadError::Checkpoint(CheckpointError::Damaged { .. }) => {
            Some("copy it again, or use another checkpoint".to_string())
        }
        LoadError::Checkpoint(_) => None,
        LoadError::Import(inner) => hint_of(inner),
        LoadError::Values { .. } => Some(BAD_VALUES.to_string()),
    }
}

/// Returns where weights come from if there is no such file.
fn missing_weights(source: &std::io::Error) -> Option<String> {
    (source.kind() == ErrorKind::NotFound).then(|| WEIGHTS.to_string())
}

/// The hint for weights that are not there.
const WEIGHTS: &str =
    "give a weights file, a run such as runs/photos, or a name from `sedet weights list`";

fn named_weights(error: &NamedError) -> Option<String> {
    match error {
        NamedError::NotDownloaded { weights } => Some(format!(
            "download it ({} MB, license {}): sedet weights download {}",
            weights.megabytes,
            weights.publisher.license(),
            weights.name
        )),
        NamedError::Changed { name, .. } => {
            Some(format!("download it again: sedet weights download {name}"))
        }
        NamedError::NotPublished { path, name, .. } => Some(format!(
            "replace it by the published file: sedet weights download {name}; or give its path, {}, to use it \
             as it is",
            quoted(path.display())
        )),
        NamedError::Unavailable {
            weights,
            mirror,
            attempts,
        } => Some(unavailable(weights, mirror.as_deref(), attempts)),
        NamedError::NoDirectory => Some(format!("set {DATA_DIR_VARIABLE} to a directory")),
        NamedError::Download(inner) => Some(transfer_hint(inner)),
        NamedError::File { .. } => None,
    }
}

/// Returns what to do about weights that no address has.
fn unavailable(weights: &NamedWeights, mirror: Option<&str>, attempts: &[Attempt]) -> String {
    let mut hints = Vec::new();
    let replaced = attempts.iter().find_map(|attempt| match &attempt.failure {
        AttemptFailure::Replaced { record, .. } => Some(record),
        _ => None,
    });
    if let Some(record) = replaced {
        hints.push(format!(
            "if its publisher replaced the file: remove {} and download it again",
            record.display()
        ));
    }
    if mirror.is_some() {
        hints.push(format!(
            "check the mirror, or download from the publisher: sedet weights download {}",
            weights.name
        ));
    } else if replaced.is_none() {
        hints.push(
            "try again later, or name a mirror with --mirror; the incomplete files were removed"
                .to_string(),
        );
    }
    hints.join("; ")
}

/// The hint for a file that is not whole.
const CUT_OFF: &str = "copy or download the file again";

/// The hint for weights that no network can compute with.
const BAD_VALUES: &str = "the training that wrote them diverged; use an earlier checkpoint";

fn weights_import(error: &ImportError) -> Option<String> {
    match error {
        ImportError::File(inner) => hint_of(inner),
        ImportError::Layout { .. } => Some(
            "`sedet weights inspect FILE` lists the tensors; --layout names the layout if it is not \
             detected"
                .to_string(),
        ),
        ImportError::Other { .. } => None,
        ImportError::Preprocessing { .. } => Some(
            "correct it; if the images are prepared as those of ImageNet usually are, move it away".to_string(),
        ),
        ImportError::Networks { networks, .. } => {
            let is_in_others = |part: &str, own: &String| {
                let mut others = networks.iter().filter(|network| *network != own);
                others.any(|other| other.split('.').any(|found| found == part))
            };
            let parts = networks.iter().filter_map(|network| {
                let mut parts = network.split('.');
                parts.find(|part| !part.contains(' ') && !is_in_others(part, network))
            });
            let options: Vec<String> = parts.map(|part| format!("--network {part}")).collect();
            (!options.is_empty())
                .then(|| format!("name the one to read: {}", options.join(" or ")))
        }
        ImportError::UnknownTensors { .. } => Some(
            "to use the rest as initial weights: --allow-unused reads the file without these tensors"
                .to_string(),
        ),
        ImportError::NegativeVariance { .. } | ImportError::NotFinite { .. } => {
            Some(BAD_VALUES.to_string())
        }
    }
}

fn third_party_file(error: &ThirdPartyError) -> Option<String> {
    match error {
        ThirdPartyError::PickledModel { .. } => Some(
            "write the state dict in Python: torch.save(model.state_dict(), \"weights.pth\")"
                .to_string(),
        ),
        ThirdPartyError::Program {
            kind: "TorchScript",
            ..
        } => Some(
            "write the state dict in Python: torch.save(torch.jit.load(\"FILE\").state_dict(), \
             \"weights.pth\")"
                .to_string(),
        ),
        ThirdPartyError::Read { source, .. } => missing_weights(source),
        ThirdPartyError::Unknown { .. } => Some(WEIGHTS.to_string()),
        ThirdPartyError::OtherContent { content, .. } => Some(
            match content {
                OtherContent::Onnx => {
                    "give the checkpoint that was exported: a run such as runs/photos, or the weights of its framework"
                }
                OtherContent::WebPage | OtherContent::Xml => {
                    "download the file itself, not the page about it; `sedet weights download NAME` downloads \
                     published weights"
                }
                OtherContent::GitLfsPointer => "fetch the file in its repository: git lfs pull",
                OtherContent::Nothing => CUT_OFF,
                OtherContent::Hdf5 => {
                    "convert it to safetensors or to a PyTorch state dict with the names of timm or torchvision"
                }
            }
            .to_string(),
        ),
        ThirdPartyError::Format { .. } => Some(CUT_OFF.to_string()),
        ThirdPartyError::Program { .. } => Some(
            "write the state dict in Python: torch.save(torch.export.load(\"FILE\").state_dict, \
             \"weights.pth\")"
                .to_string(),
        ),
        _ => None,
    }
}

fn weights_export(error: &ExportError) -> Option<String> {
    match error {
        ExportError::NoSuchNetwork { .. } => {
            Some("export with sedet's own tensor names: --format safetensors".to_string())
        }
        ExportError::Write(_) => None,
    }
}

fn onnx(error: &OnnxError) -> Option<String> {
    match error {
        OnnxError::TooLarge { .. } => {
            Some("store the weights in half the size: --precision f16".to_string())
        }
        _ => None,
    }
}

fn device(error: &DeviceError) -> Option<String> {
    let remedy = device_remedy(error)?;
    Some(format!("{remedy}, or use --device cpu"))
}

/// Returns what makes a device work, where that is known.
pub(super) fn device_remedy(error: &DeviceError) -> Option<String> {
    Some(match error {
        DeviceError::Unknown { .. } | DeviceError::NoSuchGpu { .. } => return None,
        DeviceError::NotCompiledIn { backend } => {
            format!("build sedet with 'cargo install --path . --features {backend}'")
        }
        DeviceError::Unavailable { backend, .. } => match backend {
            Backend::Cpu => return None,
            Backend::Wgpu => {
                "install the GPU's Vulkan driver (Debian: mesa-vulkan-drivers libvulkan1)".into()
            }
            Backend::Cuda => {
                "install NVIDIA's driver and the CUDA toolkit, and check that 'nvidia-smi' lists the GPU".into()
            }
        },
        DeviceError::Broken { .. } => "update its driver".into(),
    })
}

fn dataset_hint(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::NoDataDir { name } => {
            let hints = [
                local_directory(name),
                Some(format!("give --data-dir DIR or set {DATA_DIR_VARIABLE}")),
                download_hint(name, None),
            ];
            Some(hints.into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
        RegistryError::Data {
            name,
            data_dir,
            source,
        } => {
            let download = download_hint(name, data_dir.as_deref());
            let hints = match (data_hint(source), is_damaged(source)) {
                (Some(hint), true) => [Some(hint), download],
                (Some(hint), false) => [Some(hint), None],
                (None, _) => [local_directory(name), download],
            };
            let hints: Vec<String> = hints.into_iter().flatten().collect();
            (!hints.is_empty()).then(|| hints.join("; "))
        }
        RegistryError::NoSuchPath { suggestion, .. } => suggestion.is_empty().then(|| {
            "give an existing directory or annotation file; relative paths begin at the current directory".into()
        }),
        RegistryError::NoTestSplit => Some("use --split val".into()),
        RegistryError::TwiceInList { .. } => Some("name each dataset once".into()),
        RegistryError::EmptyInList { name } => {
            let parts = name
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            let parts: Vec<&str> = parts.collect();
            (!parts.is_empty()).then(|| format!("write {}", quoted(parts.join(","))))
        }
        _ => None,
    }
}

/// Returns whether a file of a dataset is not the one that its publisher offers.
fn is_damaged(error: &DataError) -> bool {
    let original = Some(Remedy::Original);
    matches!(error, DataError::Labels { remedy, .. } if *remedy == original)
}

/// Returns how to name a directory that has the name of a known dataset, if there is one.
fn local_directory(name: &str) -> Option<String> {
    let is_hidden = AnyDatasetName::is_named(name) && Path::new(name).is_dir();
    is_hidden.then(|| {
        format!(
            "'{name}' is the named dataset; for the directory of that name, give {}",
            dataset_argument(Path::new(name))
        )
    })
}

/// Returns how to download a named dataset into the data directory that was given.
fn download_hint(name: &str, data_dir: Option<&Path>) -> Option<String> {
    let option = match data_dir {
        Some(directory) => format!(" --data-dir {}", quoted(directory.display())),
        None => String::new(),
    };
    let command = format!("`sedet data download {name}{option}`");
    if name == "imagenet" {
        Some(format!("{command} prints how to get it"))
    } else if name == "blood-cells" || data_source(name).is_some() {
        Some(format!("{command} downloads it"))
    } else {
        None
    }
}

fn data_hint(error: &DataError) -> Option<String> {
    match error {
        DataError::Layout(error) => layout_hint(error),
        DataError::Decode(error) => decode_hint(error),
        DataError::ClassNamesDiffer { .. } => {
            Some("give the classes the same names in both".into())
        }
        DataError::SameClassName { .. } => {
            Some("give each class a name of its own, or merge the two under one id".into())
        }
        DataError::Labels { remedy, .. } => Some(labels_hint((*remedy)?).into()),
        DataError::Io { source, .. } if source.get_ref().is_some_and(|e| e.is::<ChangedMeanwhile>()) => {
            Some("run the command again".into())
        }
        DataError::ClassesDiffer { other, .. } => {
            Some(format!("give every class of {other} a directory in train"))
        }
        DataError::CategoriesDiffer { .. } => {
            Some("list the same ids and names in both".into())
        }
        DataError::NoValidationLabels { .. } => {
            Some("`sedet data download imagenet-val-list` downloads the labels".into())
        }
        // A file with one problem often has others.
        DataError::Annotations {
            source:
                AnnotationError::UnknownCategory {
                    shift: Some(shift), ..
                },
            ..
        } => Some(format!(
            "compare the classes of some boxes with their images; if they are those of their neighbors, {} every \
             `category_id`",
            match shift {
                CategoryShift::TooLow => "add 1 to",
                CategoryShift::TooHigh => "subtract 1 from",
            }
        )),
        DataError::Annotations {
            source: AnnotationError::ListMissing {
                list: "annotations",
            },
            ..
        } => Some(
            "move it away if its images were not annotated; if they have no objects, add an empty list of `annotations`"
                .into(),
        ),
        DataError::Annotations { path, .. } if is_json_file(path) => Some(format!(
            "`sedet data check {}` lists all problems of the file; with --fix FILE it writes a \
             corrected copy",
            quoted(path.display())
        )),
        DataError::Json { .. } => Some(
            "give a COCO JSON file, such as instances_val2017.json; if it is one, export or copy it again".into(),
        ),
        DataError::Contradiction { path, .. } => {
            let check = if is_dataset_file(path) { "" } else { LISTED_BY_CHECK };
            Some(contradiction_hint(path) + check)
        }
        DataError::SeveralFiles { .. } => Some(format!("{RENAME}{LISTED_BY_CHECK}")),
        DataError::BoxConvention { path, mismatch } => {
            Some(convention_hint(path, mismatch))
        }
        DataError::SizeMismatch { .. } => Some(image_hint(ErrorKind::InvalidData)),
        DataError::BoxesIgnoreExif { .. } => Some(
            "rotate these boxes as the EXIF orientation of their images does, or remove it from the images".into(),
        ),
        DataError::ExchangedSizes { path, .. } => Some(format!(
            "`sedet data check {} --fix FIXED.json` writes a copy in which they are right",
            quoted(path.display())
        )),
        DataError::NoUsableImage { .. } => Some(REPLACE_IMAGES.into()),
        DataError::Encoding { path, .. } => Some(format!(
            "save {} as UTF-8 (Windows Notepad: Save as, Encoding: UTF-8)",
            quoted(path.display())
        )),
        _ => None,
    }
}

/// The hint for a dataset of which no image can be used.
const REPLACE_IMAGES: &str =
    "replace the images; `sedet data check DATASET` lists the problem of each";
/// Returns what to do about a dataset whose files are not as expected.
fn labels_hint(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::ValSplit => "use --split val",
        Remedy::UnpackImages => "unpack the archive of the images there",
        Remedy::UnpackSynsets => {
            "unpack each archive nXXXXXXXX.tar into a directory of the same name"
        }
        Remedy::GivePath => {
            "to use other classes, give the path of the directory instead of the name imagenet"
        }
        Remedy::GiveName => {
            "give cifar10 or cifar100 as the dataset, and this directory as --data-dir"
        }
        Remedy::Original => "replace it by the original of its publisher",
        Remedy::RemoveFile => "remove or rename the file",
        Remedy::RenameFile => "rename the file",
        Remedy::ClassDirectories => "move each image into the directory of its class",
        Remedy::MoveAnnotations => {
            "move the files of annotations away if the directories are the classes"
        }
        Remedy::AddSplit => "add the directory, with a directory for each class in it",
        Remedy::RenameClass => "rename the directory if it is a class",
        Remedy::SplitsAroundClasses => {
            "put the directories of the classes into those of the splits: train/CLASS, val/CLASS"
        }
        Remedy::MoveClassesUp => {
            "move the directories of the classes up, so that images are SPLIT/CLASS/IMAGE"
        }
        Remedy::GiveDirectory => "give one such directory as the dataset",
        Remedy::LeaveTestOut => {
            "name no `test` in the description of the dataset, or label its images"
        }
        Remedy::NameSplits => {
            "write the directory before the name of each image (train/a.jpg), or one file for each split (train.json, val.json)"
        }
        Remedy::AddImages => "add images, or remove the empty directories",
        Remedy::UnpackClasses => "unpack the archives there, or remove the directories",
        Remedy::SaveAsJpeg => "save the images as JPEG or PNG, or remove the directories",
        Remedy::PutImages => {
            "put the images into these directories, or correct the paths in the description of the dataset"
        }
        Remedy::RemoveLinks => "remove links that lead in a circle",
        Remedy::GiveOneFile => "give one of them as the dataset",
    }
}

/// Returns what to do about an image that cannot be used.
fn image_hint(kind: ErrorKind) -> String {
    let file = match kind {
        ErrorKind::NotFound => "put the file there",
        // Annotations would still name a deleted one.
        _ => "replace the file",
    };
    format!(
        "{file}, or skip such images: `sedet train`, `eval`, `excite`, `data convert`, `data split`, \
         `data stats` and `data show` take --on-bad-image skip"
    )
}

/// Returns what to do about boxes in another convention than that of their format.
fn convention_hint(path: &Path, found: &ConventionMismatch) -> String {
    const IN_PIXELS: &str = "export the boxes in pixels: x and width times the width of the image, y and height times its height";
    let fix = format!(
        "`sedet data check {} --fix FIXED.json` writes a copy with [x, y, width, height]",
        quoted(path.display())
    );
    let is_coco = found.expected == BoxConvention::SIZES && is_json_file(path);
    match found.cause {
        MismatchCause::Unexplained => {
            "compare some boxes with their images: they may be those of other images, or of another size of the images; \
             export them again with these images"
                .to_owned()
        }
        MismatchCause::Unit(BoxUnit::Percentages) => {
            format!("{IN_PIXELS}, and all four divided by 100")
        }
        MismatchCause::Convention { alternative, .. }
            if is_coco
                && !found.is_transposed()
                && !alternative.is_some_and(BoxOrder::is_usual)
                && (found.order().is_some() || alternative.is_none()) =>
        {
            match found.order() {
                Some(_) => fix,
                None => format!("{fix} in pixels"),
            }
        }
        MismatchCause::Mixed { alternative, .. }
            if is_coco && !alternative.is_some_and(BoxOrder::is_usual) =>
        {
            fix
        }
        MismatchCause::Mixed { .. } => {
            format!("export the boxes again, all as {}", found.expected)
        }
        MismatchCause::Unit(_) => IN_PIXELS.to_owned(),
        MismatchCause::Convention { convention, .. } => match (found.expected, convention.order) {
            _ if convention.unit != found.expected.unit => IN_PIXELS.to_owned(),
            _ if found.is_transposed() && found.are_sizes_known && found.turned_images > 0 => {
                "rotate the boxes as the EXIF orientation of the images does, or export them again for the upright images"
                    .to_owned()
            }
            _ if found.is_transposed() && !found.are_sizes_known => {
                "compare width and height of an image in this file with the image: exchange them if they differ, else the numbers of the boxes"
                    .to_owned()
            }
            (BoxConvention::CORNERS, BoxOrder::Sizes) => {
                "export the boxes again, or add `xmin` and `ymin` to `xmax` and `ymax`, which hold width and height"
                    .to_owned()
            }
            (BoxConvention::CENTER_FRACTIONS, _) => {
                "write each line as `class cx cy width height`, in fractions of the image: the center of the box and its size"
                    .to_owned()
            }
            (expected, _) => format!("export the boxes again, as {expected} of the images"),
        },
    }
}

/// Returns what to do about an image of a dataset that cannot be decoded.
fn decode_hint(error: &DecodeError) -> Option<String> {
    image_kind_hint(error).or_else(|| {
        Some(image_hint(match error {
            DecodeError::Io { source, .. } => source.kind(),
            _ => ErrorKind::InvalidData,
        }))
    })
}

/// Returns what to do about an image of a kind that is not supported, in a dataset or on the command line.
fn image_kind_hint(error: &DecodeError) -> Option<String> {
    matches!(error, DecodeError::UnsupportedJpeg { .. }).then(|| {
        "convert such images with any image editor, or with ImageMagick: magick IN.jpg OUT.png"
            .to_owned()
    })
}

/// Whether other files have the same problem.
const LISTED_BY_CHECK: &str = "; `sedet data check DIR` lists all such files";

/// The hint for a name that several files fit.
const RENAME: &str = "rename or remove the files that are not meant, or write the exact name";

/// Returns what to do about a file that contradicts another.
fn contradiction_hint(path: &Path) -> String {
    if is_dataset_file(path) {
        let path = quoted(path.display());
        format!("correct or remove one of the two, or give {path} as the dataset if it is right")
    } else {
        "correct, rename or remove the wrong file".to_owned()
    }
}

/// Returns an error of `sedet data check`, whose hint does not recommend this command.
pub(super) fn of_check(error: anyhow::Error) -> anyhow::Error {
    let data = error.chain().find_map(|cause| {
        let wrapped = cause.downcast_ref::<RegistryError>();
        match wrapped {
            Some(RegistryError::Data { source, .. }) => Some(&**source),
            _ => cause.downcast_ref::<DataError>(),
        }
    });
    let (message, hint) = match data {
        Some(found @ DataError::Contradiction { path, .. }) => {
            (found.to_string(), contradiction_hint(path))
        }
        Some(found @ DataError::SeveralFiles { .. }) => (found.to_string(), RENAME.to_owned()),
        _ => return error,
    };
    advise(message, hint)
}

/// Returns the hint for the training on a dataset without train: none of its options chooses another split.
fn no_train_hint(error: &RegistryError) -> Option<String> {
    let RegistryError::Data { source, .. } = error else {
        return None;
    };
    let is_train = |error: &DataError| matches!(error, DataError::Layout(LayoutError::NoSplit { split, .. }) if *split == Split::Train);
    is_train(source).then(|| {
        "call what you train on train (train.json, train/); a tenth of it is held out where there is no val".into()
    })
}

fn layout_hint(error: &LayoutError) -> Option<String> {
    Some(match error {
        LayoutError::Ambiguous { root, found, .. } if let Some(copy) = corrected_copy(found) => {
            format!(
                "if {copy} is the corrected copy of `sedet data check --fix`, give it as the dataset: {}",
                dataset_argument(&root.join(copy))
            )
        }
        LayoutError::Ambiguous { found, .. } if found.ends_with(".txt") => {
            "keep the list that is meant, and move or rename the others".into()
        }
        LayoutError::Ambiguous { .. } => {
            "keep one of these files, give one of them as the dataset, or join several in a list: a.json,b.json".into()
        }
        LayoutError::UnreadFormat { instead, .. } => (*instead).to_owned(),
        LayoutError::Incomplete { remedy, .. } => (*remedy).to_owned(),
        LayoutError::Several { .. } => {
            "give one of them, or several, separated by commas (their class names must be equal)".into()
        }
        LayoutError::OneOfSeveral { dataset, .. } => {
            format!("give {dataset} as the dataset, or annotate the other images")
        }
        LayoutError::ClassesBelow { directories, .. } => {
            let first = directories.first()?;
            format!("for classification, give that directory: {}", dataset_argument(first))
        }
        LayoutError::CannotHoldOut {
            why: CannotHoldOut::BesideClasses { .. },
            ..
        } => "annotate more images, or move the annotations elsewhere to train a classifier".into(),
        LayoutError::CannotHoldOut { .. } => {
            "annotate more images, or join the dataset with validation images in a list: train.json,val.json".into()
        }
        LayoutError::NoDirectory { .. } => {
            "give an existing directory; relative paths begin at the current directory".into()
        }
        LayoutError::NoSplit { found, .. } => match found.first() {
            Some(found) => format!("use --split {found}, or add the annotations of the split"),
            None => "add the annotations of the split".into(),
        },
        LayoutError::NoImages { annotations }
            if annotations.extension().is_some_and(|extension| extension == "txt") =>
        {
            "add the names of the images to the list, or remove it".into()
        }
        LayoutError::NoImages { .. } => {
            "export the annotations again, with the images that they belong to".into()
        }
        LayoutError::NoImageFiles { is_renamed: false, .. } => {
            "put the images into one of these directories, or correct the names in the annotations".into()
        }
        LayoutError::NoImageFiles { .. } => {
            "rename the files, or correct the names in the annotations".into()
        }
        LayoutError::Unrecognized { found, .. } if found.is_empty() => {
            "give the directory that contains the annotations and the images, or for classification one \
             subdirectory per class"
                .into()
        }
        LayoutError::Unrecognized { .. } => {
            "put annotations in one of these formats beside the images, or for classification the images of each class \
             into a directory with its name"
                .into()
        }
        _ => return None,
    })
}

/// Returns the name of a file that is called as the corrected copies of our examples are, from a list of names.
fn corrected_copy(names: &str) -> Option<&str> {
    let mut names = names.split([',', ' ']);
    names.find(|name| {
        let name = Path::new(name).file_name().unwrap_or_default();
        name.to_string_lossy().to_lowercase().starts_with("fixed")
    })
}

fn fetch_hint(error: &FetchError) -> Option<String> {
    match error {
        FetchError::NoSpace { parts, .. } => {
            let disk = "free some space or choose another disk with --data-dir";
            Some(if parts.len() > 1 {
                format!(
                    "{disk}, or download fewer parts with --only ({})",
                    parts.join(", ")
                )
            } else {
                disk.into()
            })
        }
        FetchError::Archive { .. } => {
            Some("run the command again, without --mirror if it was given".into())
        }
        FetchError::OtherDataset { .. } => Some("choose another --data-dir".into()),
        FetchError::Occupied { .. } => Some("move or remove it, and run the command again".into()),
        FetchError::Disk { .. } => Some(DISK.into()),
        FetchError::Download(inner) => Some(transfer_hint(inner)),
        FetchError::UnknownPart { .. } => None,
    }
}

/// The hint for a file that could not be written.
const DISK: &str = "check free space and permissions, and run the command again";

/// Returns what to do about a file that could not be downloaded.
fn transfer_hint(error: &DownloadError) -> String {
    match error {
        DownloadError::Address { .. } => "write the address as https://HOST/PATH",
        DownloadError::NotFound { .. } => "check the address: the file may have moved",
        DownloadError::Refused { .. } => "check the address and your right to download the file",
        DownloadError::Network { .. } => {
            "check the network and run the command again; the download continues where possible"
        }
        DownloadError::TooLong { .. } => "check that the address is that of the file",
        DownloadError::Checksum { .. } => "run the command again to download the file again",
        DownloadError::Length { .. } => {
            "check that the address is that of the file, and run the command again"
        }
        DownloadError::Disk { .. } => DISK,
    }
    .to_owned()
}

fn ground_truth_hint(error: &EvalError) -> Option<String> {
    match error {
        EvalError::Data(error) => hint_of(error),
        EvalError::UnknownImages { .. } => Some(IMAGE_IDS.to_owned()),
        EvalError::Malformed {
            path,
            problem: Some(problem),
            ..
        } => Some(match problem {
            ResultsProblem::Lines => format!(
                "write one list: [ before the first row, a comma between two rows, ] at the end, as `jq -s . {} > \
                 results.json` does",
                quoted(path.display())
            ),
            ResultsProblem::StringIds => {
                "write ids as numbers, without quotes: those of the annotation file".to_owned()
            }
        }),
        _ => None,
    }
}

/// The hint for image ids that are not those of the annotations.
const IMAGE_IDS: &str = "write the image ids of the annotation file and no rows of other images, or give the \
                         annotation file of the results";

/// Returns what to do about a results file with a low average precision for this cause.
pub(super) fn cause_hint(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::ImageIds => Some(IMAGE_IDS),
        Cause::FewImages => Some(
            "to evaluate on a subset, give an annotation file with the images of the subset only",
        ),
        Cause::BoxFormat | Cause::NegativeSides | Cause::Normalized | Cause::Resized => {
            Some("write boxes as [x, y, width, height] in pixels of the original image")
        }
        Cause::FewDetections => Some(
            "write all detections, those of low scores, too: AP is measured over all scores (`sedet predict --score 0`)",
        ),
        Cause::CategoryIds => Some("write the category ids of the annotation file"),
        Cause::NoObjects
        | Cause::NoDetections
        | Cause::Classes
        | Cause::EqualScores
        | Cause::Detector => None,
    }
}

fn convert_hint(error: &ConvertError) -> Option<String> {
    match error {
        ConvertError::Exists { .. } | ConvertError::InInput { .. } => {
            Some("choose another --output".into())
        }
        ConvertError::Data(error) => data_hint(error),
        ConvertError::Image { source, .. } => Some(image_hint(source.kind())),
        ConvertError::SameName { .. } => Some("rename one of the images".into()),
        _ => None,
    }
}

fn excitation(error: &ExcitationError) -> Option<String> {
    (*error == ExcitationError::NoBlocks).then(|| {
        "use a network with SE blocks (names that start with `se` in `sedet models`)".to_owned()
    })
}

fn explanation(error: &ExplanationError) -> Option<String> {
    match error {
        ExplanationError::Reduced => Some("omit --precision".to_owned()),
        ExplanationError::OtherNetwork(_) => {
            Some("omit --gates, or measure this network: sedet excite --dataset DATASET".to_owned())
        }
        _ => None,
    }
}

/// Attaches a hint to an error that is created in `cli`.
pub(super) fn advise(error: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised {
        message: error.to_string(),
        hint: Some(hint.into()),
        is_usage: false,
    })
}

/// Returns the error about options that do not fit together or a value that is out of range.
pub(super) fn usage(error: impl fmt::Display) -> anyhow::Error {
    anyhow::Error::new(Advised {
        message: error.to_string(),
        hint: None,
        is_usage: true,
    })
}

/// Returns an error as [`usage`] with a hint.
pub(super) fn usage_with_hint(error: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised {
        message: error.to_string(),
        hint: Some(hint.into()),
        is_usage: true,
    })
}

/// An error of the command line.
#[derive(Debug)]
struct Advised {
    message: String,
    hint: Option<String>,
    is_usage: bool,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Advised {}

/// The exit code of wrong usage, as that of clap.
const USAGE: u8 = 2;

/// Returns the exit code of an error: 2 if the command line is wrong (an unknown name or key, a value out of
/// range), else 1.
pub(super) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_usage) {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// Returns whether an error, without its causes, is about a wrong command line. As in [`hint_of`], the
/// errors inside of wrappers are inspected here.
fn is_usage(cause: &(dyn Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<Advised>() {
        return error.is_usage;
    }
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        return !matches!(error, ConfigError::Read { .. } | ConfigError::Text(_));
    }
    if let Some(error) = cause.downcast_ref::<RegistryError>() {
        return matches!(
            error,
            RegistryError::Unknown { .. }
                | RegistryError::NoDataDir { .. }
                | RegistryError::NoBoxes { .. }
                | RegistryError::NotInList { .. }
                | RegistryError::TwiceInList { .. }
                | RegistryError::EmptyInList { .. }
                | RegistryError::NoTestSplit
        );
    }
    if let Some(error) = cause.downcast_ref::<RunError>() {
        return match error {
            RunError::Config(inner) => is_usage(inner),
            RunError::Dataset(inner) => is_usage(inner),
            RunError::Weights(inner) => is_usage(inner),
            RunError::InputTooSmall { .. }
            | RunError::FewerEpochs { .. }
            | RunError::SyncNorms { .. }
            | RunError::PrecisionOfDevice { .. } => true,
            _ => false,
        };
    }
    if let Some(error) = cause.downcast_ref::<AblationError>() {
        return match error {
            AblationError::NoSeeds
            | AblationError::Twice { .. }
            | AblationError::Fixed { .. }
            | AblationError::NoRun { .. } => true,
            AblationError::Dataset(inner) => is_usage(inner),
            AblationError::Recipe(inner) => is_usage(inner.as_ref()),
            _ => false,
        };
    }
    if let Some(error) = cause.downcast_ref::<LoadError>() {
        return matches!(error, LoadError::LayoutOfCheckpoint { .. });
    }
    if let Some(error) = cause.downcast_ref::<FetchError>() {
        return matches!(error, FetchError::UnknownPart { .. });
    }
    if let Some(error) = cause.downcast_ref::<DeviceError>() {
        return matches!(
            error,
            DeviceError::NotCompiledIn { .. } | DeviceError::NoSuchGpu { .. }
        );
    }
    cause.is::<ZooError>() || cause.is::<SelectionError>() || cause.is::<TooSmall>()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use sedet_data::boxes::ImageSize;

    #[test]
    fn a_hint_is_found_below_any_context() {
        let error = Err::<(), _>(advise("out: not empty", "choose another --output"));
        let error = error.context("converting").context("a.json").unwrap_err();
        assert_eq!(hint_for(&error).as_deref(), Some("choose another --output"));
    }

    #[test]
    fn the_exit_code_tells_wrong_usage_from_a_failure() {
        let config = || ConfigError::Set("epochs".into());
        let unknown = || RegistryError::unknown("cocoo");
        for (error, is_wrong_usage) in [
            (usage("--top 0"), true),
            (
                usage_with_hint("--top 0", "give a number").context("a.json"),
                true,
            ),
            (advise("out: not empty", "choose another --output"), false),
            (anyhow::Error::new(config()), true),
            (RunError::from(config()).into(), true),
            (
                AblationError::Recipe(Box::new(config().into())).into(),
                true,
            ),
            (unknown().into(), true),
            (RunError::from(unknown()).into(), true),
            (RegistryError::unknown("no/such/path").into(), false),
            (
                DeviceError::NotCompiledIn {
                    backend: Backend::Cuda,
                }
                .into(),
                true,
            ),
            (
                DeviceError::Broken {
                    name: "wgpu".into(),
                    reason: "0 instead of 1".into(),
                }
                .into(),
                false,
            ),
            (anyhow::anyhow!("disk on fire"), false),
        ] {
            let found = exit_code(&error) == ExitCode::from(USAGE);
            assert_eq!(found, is_wrong_usage, "{error:#}");
        }
    }

    #[test]
    fn a_full_disk_is_answered_with_another_disk_or_fewer_parts() {
        let hint = |parts: &[&'static str]| {
            hint_for(&anyhow::Error::new(FetchError::NoSpace {
                directory: "data".into(),
                needed: 2,
                free: 1,
                parts: parts.to_vec(),
            }))
        };
        let disk = "free some space or choose another disk with --data-dir";
        assert_eq!(hint(&["val"]).as_deref(), Some(disk));
        assert_eq!(
            hint(&["train", "val"]),
            Some(format!(
                "{disk}, or download fewer parts with --only (train, val)"
            ))
        );
    }

    #[test]
    fn a_step_that_is_too_large_is_answered_with_what_can_be_lowered() {
        let hint = |batch_size, inputs| {
            let error = NotEnoughMemory {
                need: 2,
                free: 1,
                processes: 1,
                batch_size,
                inputs,
            };
            hint_for(&anyhow::Error::new(RunError::from(error))).unwrap()
        };
        let detector = |can_recompute| StepInputs::Detector {
            min_size: 800,
            max_size: 1333,
            can_recompute,
        };
        let anyway = "; to try anyway: --set train.check_memory=false";
        let sizes =
            "input.min_size (now 800) and input.max_size (now 1333), or use a smaller backbone";
        assert_eq!(
            hint(2, detector(false)),
            format!("lower loader.batch_size (now 2) or {sizes}{anyway}")
        );
        assert_eq!(
            hint(1, detector(true)),
            format!(
                "lower {sizes}, or set model.recompute=true, which takes less memory and more time{anyway}"
            )
        );
        assert_eq!(
            hint(16, StepInputs::Classifier { size: 224 }),
            format!(
                "lower loader.batch_size (now 16) or input.size (now 224), or use a smaller \
                 backbone{anyway}"
            )
        );
    }

    #[test]
    fn the_hint_of_a_wrapped_error_is_found() {
        let exists = RunDirError::Exists {
            path: "runs/a".into(),
        };
        let error = anyhow::Error::new(RunError::from(exists));
        assert_eq!(error.to_string(), "runs/a: already contains a run");
        let hint = hint_for(&error).unwrap();
        assert!(hint.contains("--resume runs/a"), "{hint}");
    }

    #[test]
    fn a_run_that_stopped_at_an_image_can_be_resumed_without_it() {
        let error = RunError::Training {
            source: "a.jpg: truncated".into(),
            dataset: "cells".into(),
            run: "runs/a".into(),
            can_be_resumed: true,
            is_saved: true,
            is_about_one_image: true,
        };
        let hint = hint_for(&error.into()).unwrap();
        assert_eq!(
            hint,
            "progress saved; resume with: sedet train --resume runs/a (add --on-bad-image skip to skip \
             unreadable images)"
        );
    }

    #[test]
    fn a_run_without_a_usable_image_is_not_resumed_before_they_are_replaced() {
        let error = RunError::Training {
            source: Box::new(TrainError::<ModelError>::NothingToLearnFrom {
                epoch: 1,
                first: None,
            }),
            dataset: "cells".into(),
            run: "runs/a".into(),
            can_be_resumed: true,
            is_saved: true,
            is_about_one_image: false,
        };
        assert_eq!(
            hint_for(&error.into()).as_deref(),
            Some("replace the images, then resume with: sedet train --resume runs/a")
        );
    }

    #[test]
    fn a_run_that_stopped_at_a_size_is_checked_first() {
        let size = |height| ImageSize::new(height, 40);
        let mismatch = DataError::SizeMismatch {
            image: "a.jpg".into(),
            decoded: size(30),
            annotated: size(60),
            cause: None,
        };
        let error = RunError::Training {
            source: Box::new(TrainError::Task(ModelError::Data(mismatch))),
            dataset: "my cells".into(),
            run: "runs/a".into(),
            can_be_resumed: true,
            is_saved: true,
            is_about_one_image: true,
        };
        let hint = hint_for(&error.into()).unwrap();
        assert_eq!(
            hint,
            "`sedet data check 'my cells'` lists all such images; progress saved; resume with: sedet train \
             --resume runs/a (add --on-bad-image skip to skip such images)"
        );
    }

    #[test]
    fn a_run_without_a_checkpoint_cannot_be_resumed() {
        let error = RunError::Training {
            source: "disk full".into(),
            dataset: "cells".into(),
            run: "runs/a".into(),
            can_be_resumed: true,
            is_saved: false,
            is_about_one_image: false,
        };
        assert_eq!(
            hint_for(&error.into()).as_deref(),
            Some("nothing was saved; run the same command again once the cause is removed")
        );
    }

    #[test]
    fn a_missing_dataset_is_downloaded_into_the_given_directory() {
        let error = |data_dir: Option<&str>| {
            anyhow::Error::new(RegistryError::Data {
                name: "cifar10".into(),
                data_dir: data_dir.map(Into::into),
                source: Box::new(DataError::Labels {
                    origin: "data".into(),
                    problem: "empty".into(),
                    remedy: None,
                }),
            })
        };
        for (data_dir, command) in [
            (None, "`sedet data download cifar10` downloads it"),
            (
                Some("/data"),
                "`sedet data download cifar10 --data-dir /data` downloads it",
            ),
        ] {
            assert_eq!(hint_for(&error(data_dir)).as_deref(), Some(command));
        }
    }

    #[test]
    fn a_damaged_file_of_a_named_dataset_is_replaced_or_downloaded() {
        let error = |name: &str, remedy| RegistryError::Data {
            name: name.into(),
            data_dir: None,
            source: Box::new(DataError::Labels {
                origin: "data".into(),
                problem: "truncated".into(),
                remedy: Some(remedy),
            }),
        };
        let original = "replace it by the original of its publisher";
        let downloaded = format!("{original}; `sedet data download cifar10` downloads it");
        for (error, expected) in [
            (error("cifar10", Remedy::Original), downloaded.as_str()),
            (error("photos/", Remedy::Original), original),
            (error("cifar10", Remedy::ValSplit), "use --split val"),
        ] {
            assert_eq!(hint_for(&error.into()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_failed_download_has_a_hint_wherever_it_happened() {
        let network = || DownloadError::Network {
            url: "https://a/b".into(),
            reason: "connection lost".into(),
        };
        for error in [
            anyhow::Error::from(network()),
            FetchError::from(network()).into(),
            NamedError::from(network()).into(),
        ] {
            let hint = hint_for(&error).unwrap();
            assert!(hint.starts_with("check the network"), "{hint}");
        }
    }

    #[test]
    fn annotations_that_changed_meanwhile_are_read_again() {
        let error = DataError::Io {
            path: "a.json".into(),
            source: ChangedMeanwhile.into(),
        };
        let message = "a.json: the annotations changed while they were read";
        assert_eq!(error.to_string(), message);
        let hint = hint_for(&ConvertError::Data(error).into());
        assert_eq!(hint.as_deref(), Some("run the command again"));
    }

    #[test]
    fn a_run_that_is_resumed_twice_has_no_other_output() {
        let dir = tempfile::tempdir().unwrap();
        let hint = || {
            let error = RunDirError::Busy {
                path: dir.path().into(),
                owner: String::new(),
            };
            hint_for(&error.into()).unwrap()
        };
        assert!(hint().contains("--output"));
        std::fs::create_dir(dir.path().join("checkpoints")).unwrap();
        std::fs::write(RunDir::at(dir.path()).last_checkpoint(), "").unwrap();
        assert_eq!(hint(), "wait until it has ended");
    }

    #[test]
    fn an_error_without_a_rule_has_no_hint() {
        assert_eq!(hint_for(&anyhow::anyhow!("disk on fire")), None);
    }
}
