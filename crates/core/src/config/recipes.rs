//! The recipes that are part of the binary.

use super::Task;
use sedet_data::datasets::registry::{DatasetName, LabeledName};

/// The name, task and TOML text of each recipe.
pub const RECIPES: [(&str, Task, &str); 17] = [
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
        "small",
        Task::Detection,
        include_str!("../../configs/detection/small.toml"),
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

/// Returns the default recipe for a detection dataset.
pub fn recipe_for(dataset: &DatasetName) -> &'static str {
    match dataset {
        DatasetName::Shapes => "shapes",
        DatasetName::BloodCells => "blood-cells",
        DatasetName::Coco => "coco-torchvision",
        DatasetName::Directory(_) => "small",
    }
}

/// Returns the default recipe for a classification dataset.
pub fn recipe_for_labeled(dataset: &LabeledName) -> &'static str {
    match dataset {
        LabeledName::Cifar10 | LabeledName::Cifar100 | LabeledName::CifarDirectory(_) => {
            "cifar-resnet"
        }
        LabeledName::ImageNet | LabeledName::ImageNetDirectory(_) => "imagenet-paper",
        LabeledName::Places365
        | LabeledName::Places365Challenge
        | LabeledName::Places365Directory(_) => "places365",
        LabeledName::ImageFolder(_) => "images",
    }
}
