//! Images with one class each, for classifiers.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use image::RgbImage;

use crate::DataError;
use crate::annotations::Fingerprint;
use crate::annotations::image_files::first_few;
use crate::images::ImageSource;

/// One split of a classification dataset.
pub struct LabeledDataset {
    class_names: Vec<String>,
    labels: Vec<u32>,
    source: Box<dyn ImageSource>,
    notes: Vec<String>,
}

impl fmt::Debug for LabeledDataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabeledDataset")
            .field("classes", &self.class_names.len())
            .field("images", &self.labels.len())
            .finish_non_exhaustive()
    }
}

impl LabeledDataset {
    /// Combines labels with the source of their images. `labels` are indices of `class_names`, one for each image
    /// of the source.
    ///
    /// # Errors
    /// A label has no class, or there are no images; `origin` names the dataset in the message.
    pub fn new(
        origin: &str,
        class_names: Vec<String>,
        labels: Vec<u32>,
        source: impl ImageSource + 'static,
    ) -> Result<Self, DataError> {
        let wrong = |problem: String| DataError::Labels {
            origin: origin.to_owned(),
            problem,
            remedy: None,
        };
        if labels.is_empty() {
            return Err(wrong("it has no images".to_owned()));
        }
        let classes = class_names.len();
        if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(wrong(format!(
                "{} has the label {}, but there are {classes} classes (0 to {})",
                source.describe(index),
                labels[index],
                classes.saturating_sub(1)
            )));
        }
        Ok(Self {
            class_names,
            labels,
            source: Box::new(source),
            notes: Vec::new(),
        })
    }

    /// Joins datasets with equal class names, whatever their order; the labels are those of the first. Names of the
    /// datasets are for errors and notes.
    ///
    /// # Errors
    /// There are no datasets, their class names differ, or a class name appears twice, so that classes of another
    /// order cannot be assigned.
    pub fn join(parts: Vec<(String, Self)>) -> Result<Self, DataError> {
        let Some((first_name, first)) = parts.first() else {
            return Err(DataError::labels(Path::new(""), "no datasets to join"));
        };
        let class_names = first.class_names.clone();
        let (mut labels, mut ends, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for (name, part) in &parts {
            let own = labels_of_classes((first_name, &class_names), (name, &part.class_names))?;
            labels.extend(part.labels.iter().map(|label| own[*label as usize]));
            ends.push(labels.len());
            notes.extend(part.notes.iter().map(|note| format!("{name}: {note}")));
        }
        let origin = parts.iter().map(|(name, _)| name.as_str());
        let origin = origin.collect::<Vec<_>>().join(", ");
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        let joined = Self::new(&origin, class_names, labels, JoinedImages { parts, ends })?;
        Ok(joined.with_notes(notes))
    }

    /// Adds notes for the user.
    pub(crate) fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// Returns notes for the user about how the images were found, one line each: the source of val
    /// if it has no directory, classes without images. Usually empty.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the class names by label.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns the number of images; at least one.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns false; see [`Self::new`].
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the class of an image, an index of the class names.
    ///
    /// # Panics
    /// The position is out of range.
    pub fn label(&self, index: usize) -> usize {
        self.labels[index] as usize
    }

    /// Returns a hash of the class names and of all labels in order. The hash changes when an image
    /// is added, removed or relabeled.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fingerprint::default();
        self.class_names.iter().for_each(|name| hash.text(name));
        self.labels.iter().for_each(|&l| hash.number(u64::from(l)));
        hash.finish()
    }

    /// Returns the number of images of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.class_names.len()];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// Returns the pixels of an image.
    ///
    /// # Errors
    /// The image can't be read; the error names it.
    pub fn load_image(&self, index: usize) -> Result<RgbImage, DataError> {
        if index >= self.len() {
            return Err(DataError::NoSuchImage {
                index,
                count: self.len(),
            });
        }
        self.source.load(index)
    }

    /// Returns the path or description of an image, for messages.
    pub fn describe(&self, index: usize) -> String {
        self.source.describe(index)
    }
}

/// Returns the labels of a dataset's classes in another dataset, by name.
fn labels_of_classes(
    (first_name, first): (&str, &[String]),
    (name, own): (&str, &[String]),
) -> Result<Vec<u32>, DataError> {
    if first == own {
        return Ok((0..own.len() as u32).collect());
    }
    let labels: HashMap<&String, u32> = first.iter().zip(0..).collect();
    let own_names: HashSet<&String> = own.iter().collect();
    let only_here = own_names
        .iter()
        .filter(|class| !labels.contains_key(*class));
    let mut differences: Vec<String> = only_here
        .map(|class| format!("`{class}` only in {name}"))
        .collect();
    let only_first = labels.keys().filter(|class| !own_names.contains(*class));
    differences.extend(only_first.map(|class| format!("`{class}` only in {first_name}")));
    for (dataset, names, distinct) in [
        (first_name, first, labels.len()),
        (name, own, own_names.len()),
    ] {
        if distinct < names.len() {
            differences.push(format!("a class name appears twice in {dataset}"));
        }
    }
    if differences.is_empty() {
        return Ok(own
            .iter()
            .filter_map(|class| labels.get(class).copied())
            .collect());
    }
    differences.sort();
    Err(DataError::ClassNamesDiffer {
        first: first_name.into(),
        second: name.into(),
        difference: first_few(differences.iter().map(String::as_str)),
    })
}

/// The images of several datasets, one after the other.
struct JoinedImages {
    parts: Vec<LabeledDataset>,
    /// The end of each dataset in the joined one.
    ends: Vec<usize>,
}

impl JoinedImages {
    /// Returns the dataset of an image, and the position of the image in it.
    fn part(&self, index: usize) -> (&LabeledDataset, usize) {
        let at = self.ends.partition_point(|end| *end <= index);
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        (&self.parts[at], index - start)
    }
}

impl ImageSource for JoinedImages {
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let (part, index) = self.part(index);
        part.load_image(index)
    }

    fn describe(&self, index: usize) -> String {
        let (part, index) = self.part(index);
        part.describe(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gray;

    impl ImageSource for Gray {
        fn load(&self, _: usize) -> Result<RgbImage, DataError> {
            Ok(RgbImage::new(2, 2))
        }

        fn describe(&self, index: usize) -> String {
            format!("gray {index}")
        }
    }

    fn names() -> Vec<String> {
        vec!["cat".into(), "dog".into()]
    }

    #[test]
    fn images_are_counted_by_class() {
        let dataset = LabeledDataset::new("pets", names(), vec![1, 0, 1], Gray).unwrap();
        assert_eq!(dataset.class_counts(), [1, 2]);
        assert_eq!(dataset.label(1), 0);
        assert!(dataset.load_image(2).is_ok());
        let beyond = dataset.load_image(3).unwrap_err().to_string();
        assert_eq!(
            beyond,
            "image number 3 is out of range: the dataset has 3 images"
        );
    }

    #[test]
    fn joined_datasets_agree_by_class_names_in_any_order() {
        let named = |names: [&str; 2], labels| {
            let names = names.map(String::from).to_vec();
            LabeledDataset::new("x", names, labels, Gray).unwrap()
        };
        let part = |name: &str, names, labels| (name.to_owned(), named(names, labels));
        let joined = LabeledDataset::join(vec![
            part("a", ["cat", "dog"], vec![0, 1]),
            part("b", ["dog", "cat"], vec![0, 0, 1]),
        ])
        .unwrap();
        let labels: Vec<usize> = (0..joined.len()).map(|index| joined.label(index)).collect();
        assert_eq!(labels, [0, 1, 1, 1, 0]);
        assert_eq!(joined.class_names(), ["cat", "dog"]);
        let described: Vec<String> = (0..5).map(|index| joined.describe(index)).collect();
        assert_eq!(
            described,
            ["gray 0", "gray 1", "gray 0", "gray 1", "gray 2"]
        );
        assert!(joined.load_image(4).is_ok());
        for (names, expected) in [
            (["cat", "cow"], "`cow` only in b, `dog` only in a"),
            (
                ["dog", "dog"],
                "`cat` only in a, a class name appears twice in b",
            ),
        ] {
            let parts = vec![
                part("a", ["cat", "dog"], vec![0]),
                part("b", names, vec![1]),
            ];
            let message = LabeledDataset::join(parts).unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        }
        assert!(LabeledDataset::join(Vec::new()).is_err());
    }

    #[test]
    fn a_label_without_a_class_is_named_and_so_is_an_empty_dataset() {
        let message = |labels| {
            let made = LabeledDataset::new("pets", names(), labels, Gray);
            made.unwrap_err().to_string()
        };
        assert_eq!(
            message(vec![0, 2]),
            "pets: gray 1 has the label 2, but there are 2 classes (0 to 1)"
        );
        assert_eq!(message(vec![]), "pets: it has no images");
    }
}
