//! The 1000 classes of ImageNet's classification challenge (ILSVRC 2012).

use std::sync::LazyLock;

/// One class of the challenge: a synset of WordNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageNetClass {
    /// The WordNet identifier, such as `n01440764`, which is also the name of the image directory.
    pub wnid: &'static str,
    /// The number from 1 to 1000 in the official development kit (`ILSVRC2012_ID` in `meta.mat`),
    /// which `ILSVRC2012_validation_ground_truth.txt` uses. It does not follow the order of the
    /// identifiers.
    pub devkit_id: u32,
    /// The synonyms, separated by commas, such as `tench, Tinca tinca`. Unlike in WordNet, they are
    /// unique.
    pub name: &'static str,
}

static CLASSES: LazyLock<Vec<ImageNetClass>> = LazyLock::new(|| {
    include_str!("../../assets/imagenet-classes.txt")
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            Some(ImageNetClass {
                wnid: fields.next()?,
                devkit_id: fields.next()?.parse().ok()?,
                name: fields.next()?,
            })
        })
        .collect()
});

/// Labels by development kit number; number 1 is at position 0.
static DEVKIT_LABELS: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let mut labels: Vec<usize> = (0..CLASSES.len()).collect();
    labels.sort_by_key(|&label| CLASSES[label].devkit_id);
    labels
});

/// Returns all classes sorted by synset: the label order of torchvision and timm, and so of the
/// outputs of models with 1000 classes.
pub fn imagenet_classes() -> &'static [ImageNetClass] {
    &CLASSES
}

/// Returns the label of a synset, an index of [`imagenet_classes`].
pub(crate) fn imagenet_label(wnid: &str) -> Option<usize> {
    CLASSES.binary_search_by_key(&wnid, |class| class.wnid).ok()
}

/// Returns the label of a number of the development kit, an index of [`imagenet_classes`].
pub(crate) fn devkit_label(devkit_id: u32) -> Option<usize> {
    let position = (devkit_id as usize).checked_sub(1)?;
    DEVKIT_LABELS.get(position).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn there_are_a_thousand_classes_in_order_and_each_has_a_name_of_its_own() {
        let classes = imagenet_classes();
        assert_eq!(classes.len(), 1000);
        assert!(classes.is_sorted_by(|a, b| a.wnid < b.wnid));
        let names: HashSet<&str> = classes.iter().map(|class| class.name).collect();
        assert_eq!(names.len(), 1000);
        assert_eq!(classes[0].name, "tench, Tinca tinca");
        assert_eq!(imagenet_label("n15075141"), Some(999));
        assert_eq!(imagenet_label("n00000000"), None);
    }

    #[test]
    fn every_number_of_the_development_kit_is_one_class() {
        let mut ids: Vec<u32> = imagenet_classes().iter().map(|c| c.devkit_id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=1000).collect::<Vec<_>>());
        // The kit's first class, its last, and those of the first and last validation images.
        for (id, wnid) in [
            (1, "n02119789"),
            (1000, "n03255030"),
            (490, "n01751748"),
            (186, "n02437616"),
        ] {
            assert_eq!(devkit_label(id), imagenet_label(wnid), "{id}");
        }
        assert_eq!((devkit_label(0), devkit_label(1001)), (None, None));
    }
}
