//! The recipes that are part of the binary.

use super::Task;
use sedet_data::datasets::registry::{DatasetName, LabeledName};

/// The name, task and TOML text of each recipe.
pub const RECIPES: [(&str, Task, &str); 21] = [
    (
        "shapes",
        Task::Detection,
        include_str!("../../configs/detection/shapes.toml"),
    ),
    (
        "blood-cells",
        Task::Detection,
        include_str!("../../configs/detection/blood-cells.toml"),
    ),
    (
        "coco-torchvision",
        Task::Detection,
        include_str!("../../configs/detection/coco-torchvision.toml"),
    ),
    (
        "coco-detectron2-1x",
        Task::Detection,
        include_str!("../../configs/detection/coco-detectron2-1x.toml"),
    ),
    (
        "coco-detectron2-3x",
        Task::Detection,
        include_str!("../../configs/detection/coco-detectron2-3x.toml"),
    ),
    (
        "coco-paper-2x",
        Task::Detection,
        include_str!("../../configs/detection/coco-paper-2x.toml"),
    ),
    (
        "coco-torchvision-v2",
        Task::Detection,
        include_str!("../../configs/detection/coco-torchvision-v2.toml"),
    ),
    (
        "small",
        Task::Detection,
        include_str!("../../configs/detection/small.toml"),
    ),
    (
        "fine-tune",
        Task::Detection,
        include_str!("../../configs/detection/fine-tune.toml"),
    ),
    (
        "imagenet-paper",
        Task::Classification,
        include_str!("../../configs/classification/imagenet-paper.toml"),
    ),
    (
        "imagenet-270",
        Task::Classification,
        include_str!("../../configs/classification/imagenet-270.toml"),
    ),
    (
        "imagenet-mobile",
        Task::Classification,
        include_str!("../../configs/classification/imagenet-mobile.toml"),
    ),
    (
        "imagenet-senet154",
        Task::Classification,
        include_str!("../../configs/classification/imagenet-senet154.toml"),
    ),
    (
        "places365",
        Task::Classification,
        include_str!("../../configs/classification/places365.toml"),
    ),
    (
        "cifar-resnet",
        Task::Classification,
        include_str!("../../configs/classification/cifar-resnet.toml"),
    ),
    (
        "cifar-wrn",
        Task::Classification,
        include_str!("../../configs/classification/cifar-wrn.toml"),
    ),
    (
        "cifar-short",
        Task::Classification,
        include_str!("../../configs/classification/cifar-short.toml"),
    ),
    (
        "images",
        Task::Classification,
        include_str!("../../configs/classification/images.toml"),
    ),
    (
        "imagenet-modern",
        Task::Classification,
        include_str!("../../configs/classification/imagenet-modern.toml"),
    ),
    (
        "cifar-shake-shake",
        Task::Classification,
        include_str!("../../configs/classification/cifar-shake-shake.toml"),
    ),
    (
        "cifar-shake-even",
        Task::Classification,
        include_str!("../../configs/classification/cifar-shake-even.toml"),
    ),
];

/// Returns the names of the recipes for a task.
pub fn names_for(task: Task) -> Vec<&'static str> {
    RECIPES
        .iter()
        .filter(|(_, of, _)| *of == task)
        .map(|(name, ..)| *name)
        .collect()
}

/// A recipe that was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenRecipe {
    /// The name of the recipe, or a TOML file.
    pub name: String,
    /// The reason in a few words.
    pub reason: &'static str,
}

impl ChosenRecipe {
    /// Returns the recipe that was asked for, or else the default one.
    pub fn new(requested: Option<&str>, default: (&'static str, &'static str)) -> Self {
        match requested {
            Some(name) => Self {
                name: name.to_string(),
                reason: "as requested",
            },
            None => Self {
                name: default.0.to_string(),
                reason: default.1,
            },
        }
    }
}

/// Returns the default recipe for a detection dataset without weights.
pub fn recipe_for(dataset: &DatasetName) -> &'static str {
    default_detection(dataset, None).0
}

/// Returns the default recipe for a detection dataset and the task of given weights, and the reason.
pub(crate) fn default_detection(
    dataset: &DatasetName,
    weights: Option<Task>,
) -> (&'static str, &'static str) {
    match dataset {
        // COCO's recipes are those of the published detectors, whatever they start from.
        DatasetName::Coco => ("coco-torchvision", "the default for coco"),
        _ if weights == Some(Task::Detection) => {
            ("fine-tune", "the default for the weights of a detector")
        }
        DatasetName::Shapes => ("shapes", "the default for shapes"),
        DatasetName::BloodCells => ("blood-cells", "the default for blood-cells"),
        DatasetName::Directory(_) | DatasetName::List(_) => ("small", "the default for own images"),
    }
}

/// Returns the default recipe for a classification dataset, and the reason.
pub(crate) fn default_classification(dataset: &LabeledName) -> (&'static str, &'static str) {
    match dataset {
        LabeledName::Cifar10 | LabeledName::Cifar100 | LabeledName::CifarDirectory(_) => {
            ("cifar-resnet", "the default for CIFAR")
        }
        LabeledName::ImageNet | LabeledName::ImageNetDirectory(_) => {
            ("imagenet-paper", "the default for ImageNet")
        }
        LabeledName::Places365
        | LabeledName::Places365Challenge
        | LabeledName::Places365Directory(_) => ("places365", "the default for Places365"),
        // Datasets of one kind have the recipe of that kind.
        LabeledName::List(parts) => {
            let mut recipes = parts.iter().map(default_classification);
            let first = recipes.next();
            let is_one = recipes.all(|recipe| Some(recipe) == first);
            first
                .filter(|_| is_one)
                .unwrap_or(("images", "the default for own images"))
        }
        LabeledName::ImageFolder(_) => ("images", "the default for own images"),
    }
}
