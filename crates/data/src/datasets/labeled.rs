//! Images with one class each, for classifiers.

use std::fmt;

use image::RgbImage;

use crate::DataError;
use crate::annotations::Fingerprint;
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

    /// Adds notes for the user.
    pub fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
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
