//! The 1000 classes of ImageNet's classification challenge (ILSVRC 2012).

use std::sync::LazyLock;

/// One class: its synset in WordNet and the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageNetClass {
    /// WordNet's identifier, such as `n01440764`; directories of images are named so.
    pub wnid: &'static str,
    /// The words for it, separated by commas, such as `tench, Tinca tinca`. Unlike WordNet's lists
    /// no two are equal.
    pub name: &'static str,
}

static CLASSES: LazyLock<Vec<ImageNetClass>> = LazyLock::new(|| {
    include_str!("../../../../assets/imagenet-classes.txt")
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(wnid, name)| ImageNetClass { wnid, name })
        .collect()
});

/// All classes, sorted by synset: the order of labels in torchvision and timm, and so of the
/// outputs of networks with 1000 classes.
pub fn imagenet_classes() -> &'static [ImageNetClass] {
    &CLASSES
}

/// The label of a synset, an index of [`imagenet_classes`].
pub fn imagenet_label(wnid: &str) -> Option<usize> {
    CLASSES.binary_search_by_key(&wnid, |class| class.wnid).ok()
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
}
