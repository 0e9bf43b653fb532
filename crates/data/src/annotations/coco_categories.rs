//! The object classes of COCO, for networks whose files have no class names.

use crate::annotations::Category;

/// Ids and names of the 80 classes that COCO annotates.
const COCO: [(u64, &str); 80] = [
    (1, "person"),
    (2, "bicycle"),
    (3, "car"),
    (4, "motorcycle"),
    (5, "airplane"),
    (6, "bus"),
    (7, "train"),
    (8, "truck"),
    (9, "boat"),
    (10, "traffic light"),
    (11, "fire hydrant"),
    (13, "stop sign"),
    (14, "parking meter"),
    (15, "bench"),
    (16, "bird"),
    (17, "cat"),
    (18, "dog"),
    (19, "horse"),
    (20, "sheep"),
    (21, "cow"),
    (22, "elephant"),
    (23, "bear"),
    (24, "zebra"),
    (25, "giraffe"),
    (27, "backpack"),
    (28, "umbrella"),
    (31, "handbag"),
    (32, "tie"),
    (33, "suitcase"),
    (34, "frisbee"),
    (35, "skis"),
    (36, "snowboard"),
    (37, "sports ball"),
    (38, "kite"),
    (39, "baseball bat"),
    (40, "baseball glove"),
    (41, "skateboard"),
    (42, "surfboard"),
    (43, "tennis racket"),
    (44, "bottle"),
    (46, "wine glass"),
    (47, "cup"),
    (48, "fork"),
    (49, "knife"),
    (50, "spoon"),
    (51, "bowl"),
    (52, "banana"),
    (53, "apple"),
    (54, "sandwich"),
    (55, "orange"),
    (56, "broccoli"),
    (57, "carrot"),
    (58, "hot dog"),
    (59, "pizza"),
    (60, "donut"),
    (61, "cake"),
    (62, "chair"),
    (63, "couch"),
    (64, "potted plant"),
    (65, "bed"),
    (67, "dining table"),
    (70, "toilet"),
    (72, "tv"),
    (73, "laptop"),
    (74, "mouse"),
    (75, "remote"),
    (76, "keyboard"),
    (77, "cell phone"),
    (78, "microwave"),
    (79, "oven"),
    (80, "toaster"),
    (81, "sink"),
    (82, "refrigerator"),
    (84, "book"),
    (85, "clock"),
    (86, "vase"),
    (87, "scissors"),
    (88, "teddy bear"),
    (89, "hair drier"),
    (90, "toothbrush"),
];

/// Returns `count` classes for a network without class names: those of COCO for 80, those of COCO
/// including the gaps in its ids (`unused 12`) for torchvision's 90, else `class 1`, `class 2`, ...
pub fn categories_by_count(count: usize) -> Vec<Category> {
    let category = |id: u64, name: String| Category { id, name };
    match count {
        80 => COCO
            .iter()
            .map(|&(id, name)| category(id, name.into()))
            .collect(),
        90 => (1..=90)
            .map(|id| {
                let known = COCO.iter().find(|(known, _)| *known == id);
                let name = known.map_or_else(|| format!("unused {id}"), |(_, name)| (*name).into());
                category(id, name)
            })
            .collect(),
        _ => (1..=count as u64)
            .map(|id| category(id, format!("class {id}")))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_classes_are_those_of_coco_by_id_and_eighty_skip_the_gaps() {
        let ninety = categories_by_count(90);
        assert_eq!(ninety[16].name, "cat");
        assert_eq!(ninety[11].name, "unused 12");
        let eighty = categories_by_count(80);
        assert_eq!(
            (eighty[79].id, eighty[79].name.as_str()),
            (90, "toothbrush")
        );
        assert_eq!(eighty.iter().filter(|c| c.name == "cat").count(), 1);
        assert_eq!(categories_by_count(2)[1].name, "class 2");
    }
}
