//! The classes of a dataset among those of a model.

use std::fmt;

use super::{Model, ModelError};
use sedet_data::classes::{differing_names, positions_by_name};
use sedet_data::text::count;

/// The class of a model for each class of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMatch {
    labels: Vec<usize>,
    /// Number of classes of the model.
    known: usize,
    /// Whether the model has names of classes.
    is_named: bool,
    /// Whether some names differ in capitals or spaces.
    has_other_spellings: bool,
}

impl ClassMatch {
    /// Finds the classes of a dataset among the names of a model, as [`Model::match_classes`] does. `is_named`: whether
    /// the model has names of its own, and not only numbers.
    ///
    /// # Errors
    /// The dataset has a class that the model does not have; the text names the differences.
    pub fn find(model: &[String], is_named: bool, dataset: &[String]) -> Result<Self, String> {
        match match_names(model, true, dataset) {
            Err(_) if !is_named => match_names(model, false, dataset),
            by_name => by_name,
        }
    }

    /// Returns the label in the model of each class of the dataset; no two are equal.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Returns the class of the dataset for each label of the model, where there is one.
    pub fn classes(&self) -> Vec<Option<usize>> {
        let mut classes = vec![None; self.known];
        for (class, &label) in self.labels.iter().enumerate() {
            classes[label] = Some(class);
        }
        classes
    }

    /// Returns all labels of the model: first those of the dataset's classes in their order, then the others.
    pub fn order(&self) -> Vec<usize> {
        let classes = self.classes();
        let others = (0..self.known).filter(|&label| classes[label].is_none());
        self.labels.iter().copied().chain(others).collect()
    }

    /// Returns what the user should know about the assignment; none if both lists are equal.
    pub fn note(&self) -> Option<String> {
        let text = self.to_string();
        (!text.is_empty()).then_some(text)
    }
}

impl fmt::Display for ClassMatch {
    /// Formats what differs between the two lists; nothing if they are equal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_named {
            return write!(
                f,
                "the checkpoint has no class names: its {} have the order of the dataset",
                count(self.known, "class")
            );
        }
        let mut parts = Vec::new();
        if !self.labels.is_sorted() {
            parts.push("the dataset has another order".to_string());
        }
        if self.has_other_spellings {
            parts.push("some names differ in capitals or spaces".to_string());
        }
        if self.labels.len() < self.known {
            parts.push(format!(
                "the dataset has {} of the {} of the checkpoint",
                self.labels.len(),
                count(self.known, "class")
            ));
        }
        if parts.is_empty() {
            return Ok(());
        }
        write!(f, "classes are matched by name: {}", parts.join("; "))
    }
}

impl Model {
    /// Finds the classes of a dataset among those of the model, by their names. A dataset may have fewer. Without
    /// names in the model, a dataset with as many classes is taken to have them in the same order.
    ///
    /// # Errors
    /// The dataset has a class that the model does not have.
    pub fn match_classes(&self, dataset: &[String]) -> Result<ClassMatch, ModelError> {
        let names = self.spec.class_names();
        let matched = ClassMatch::find(&names, self.spec.has_class_names(), dataset);
        matched.map_err(|reason| ModelError::OtherClasses {
            path: self.path.clone(),
            reason,
        })
    }
}

/// Finds class names among those of a model, or describes the difference.
fn match_names(model: &[String], is_named: bool, dataset: &[String]) -> Result<ClassMatch, String> {
    let positions = if is_named {
        positions_by_name(dataset, model)
    } else if model.len() == dataset.len() {
        (0..model.len()).map(Some).collect()
    } else {
        return Err(format!(
            "{} without names in the checkpoint, {} in the dataset",
            count(model.len(), "class"),
            dataset.len()
        ));
    };
    let labels: Option<Vec<usize>> = positions.into_iter().collect();
    let Some(labels) = labels else {
        return Err(differing_names(
            ("the checkpoint", model),
            ("the dataset", dataset),
        ));
    };
    let mut names = labels.iter().zip(dataset);
    Ok(ClassMatch {
        has_other_spellings: is_named && names.any(|(&label, name)| model[label] != *name),
        known: model.len(),
        is_named,
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(model: &[&str], dataset: &[&str]) -> Result<ClassMatch, String> {
        let owned =
            |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
        match_names(&owned(model), true, &owned(dataset))
    }

    #[test]
    fn another_order_is_matched_by_name_and_said() {
        let found = matched(&["cat", "dog", "cow"], &["cow", "cat", "dog"]).unwrap();
        assert_eq!(found.labels(), [2, 0, 1]);
        assert_eq!(found.classes(), [Some(1), Some(2), Some(0)]);
        assert_eq!(
            found.note().as_deref(),
            Some("classes are matched by name: the dataset has another order")
        );
        assert_eq!(
            matched(&["cat", "dog"], &["cat", "dog"]).unwrap().note(),
            None
        );
    }

    #[test]
    fn a_dataset_may_have_fewer_classes() {
        let found = matched(&["cat", "dog", "cow"], &["cow", "Cat"]).unwrap();
        assert_eq!(
            (found.labels(), found.order()),
            (&[2, 0][..], vec![2, 0, 1])
        );
        assert_eq!(
            found.to_string(),
            "classes are matched by name: the dataset has another order; some names differ in capitals or \
             spaces; the dataset has 2 of the 3 classes of the checkpoint"
        );
    }

    #[test]
    fn other_names_are_named_on_both_sides() {
        assert_eq!(
            matched(&["cat", "dog"], &["dog", "cow"]).unwrap_err(),
            "only in the checkpoint: cat; only in the dataset: cow"
        );
    }

    #[test]
    fn a_model_without_names_is_matched_by_number() {
        let names: Vec<String> = ["cat", "dog"].map(String::from).to_vec();
        let placeholders: Vec<String> = ["class 0", "class 1"].map(String::from).to_vec();
        let found = match_names(&placeholders, false, &names).unwrap();
        assert_eq!(found.labels(), [0, 1]);
        assert_eq!(
            found.to_string(),
            "the checkpoint has no class names: its 2 classes have the order of the dataset"
        );
        assert!(match_names(&placeholders, false, &names[..1]).is_err());
    }
}
