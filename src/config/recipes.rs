//! The recipes that are part of the binary.

use crate::data::registry::DatasetName;

/// Name and TOML text.
pub const RECIPES: [(&str, &str); 5] = [
    (
        "shapes",
        include_str!("../../configs/detection/shapes.toml"),
    ),
    (
        "blood-cells",
        include_str!("../../configs/detection/blood-cells.toml"),
    ),
    (
        "coco-torchvision",
        include_str!("../../configs/detection/coco-torchvision.toml"),
    ),
    (
        "coco-detectron2-1x",
        include_str!("../../configs/detection/coco-detectron2-1x.toml"),
    ),
    ("small", include_str!("../../configs/detection/small.toml")),
];

/// The recipe that a data set is trained with unless another is asked for.
pub fn recipe_for(dataset: &DatasetName) -> &'static str {
    match dataset {
        DatasetName::Shapes => "shapes",
        DatasetName::BloodCells => "blood-cells",
        DatasetName::Coco => "coco-torchvision",
        DatasetName::Folder(_) => "small",
    }
}
