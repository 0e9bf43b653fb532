//! The classes of annotations, networks and results files in one table.

use super::{Compare, ErrorWall, NetworkInfo, Pane, ViewerState};
use sedet_data::annotations::Category;
use sedet_data::classes::positions_by_name;

/// What is said of a network with other classes than the dataset has.
const FOREIGN: &str = "knows none of the classes of";

/// A class as the viewer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownClass {
    /// The name.
    pub name: String,
    /// The category id of the dataset, if it has one.
    pub id: Option<u64>,
}

/// The classes of everything that is open. Indices never change, so they identify a class throughout the
/// viewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassTable {
    classes: Vec<ShownClass>,
}

impl ClassTable {
    /// Creates the table of a detection dataset.
    pub(crate) fn of_categories(categories: &[Category]) -> Self {
        let mut table = Self::default();
        table.merge(categories);
        table
    }

    /// Creates a table of classes without ids.
    pub(crate) fn of_names(names: &[String]) -> Self {
        let class = |name: &String| ShownClass {
            name: name.clone(),
            id: None,
        };
        Self {
            classes: names.iter().map(class).collect(),
        }
    }

    /// Returns the number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Returns whether there are no classes.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Returns the name of a class.
    pub fn name(&self, class: usize) -> &str {
        self.classes.get(class).map_or("?", |class| &class.name)
    }

    /// Returns the category id of a class.
    pub fn id(&self, class: usize) -> Option<u64> {
        self.classes.get(class).and_then(|class| class.id)
    }

    /// Iterates over the classes by index.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ShownClass> {
        self.classes.iter()
    }

    /// Returns the indices of the classes of a network; unknown classes are appended. Classes are compared
    /// by name as in an evaluation, since third-party networks may number them differently.
    pub fn merge(&mut self, categories: &[Category]) -> Vec<usize> {
        let classes = categories.iter().map(|category| ShownClass {
            name: category.name.clone(),
            id: Some(category.id),
        });
        self.merge_after(0, classes.collect())
    }

    /// Returns the indices of classes without ids as [`merge`](Self::merge) does. The first `taken` classes of the table
    /// are known to be others, however similar their names are.
    pub(crate) fn merge_names(&mut self, names: &[&str], taken: usize) -> Vec<usize> {
        let classes = names.iter().map(|name| ShownClass {
            name: (*name).to_owned(),
            id: None,
        });
        self.merge_after(taken, classes.collect())
    }

    fn merge_after(&mut self, taken: usize, classes: Vec<ShownClass>) -> Vec<usize> {
        let names = |classes: &[ShownClass]| -> Vec<String> {
            classes.iter().map(|class| class.name.clone()).collect()
        };
        let known = names(self.classes.get(taken..).unwrap_or_default());
        let known_at = positions_by_name(&names(&classes), &known);
        let index = |(found, class): (Option<usize>, ShownClass)| match found {
            Some(at) => taken + at,
            None => {
                self.classes.push(class);
                self.classes.len() - 1
            }
        };
        known_at.into_iter().zip(classes).map(index).collect()
    }

    /// Returns the index of the class with this id; an unknown one is appended as `category ID`.
    pub fn by_id(&mut self, id: u64) -> usize {
        let found = self.classes.iter().position(|class| class.id == Some(id));
        found.unwrap_or_else(|| {
            self.classes.push(ShownClass {
                name: format!("category {id}"),
                id: Some(id),
            });
            self.classes.len() - 1
        })
    }
}

impl ViewerState {
    /// Returns why no detection of a network can be right: none of its classes is one of the dataset.
    pub fn foreign_classes(&self, network: Pane) -> Option<String> {
        let collection = self.collection.as_deref()?;
        let dataset = collection.store()?.categories();
        let detector = self.networks[network.index()].as_ref();
        let detector = detector.filter(|network| network.is_detector)?;
        let (first, known) = (detector.categories.first()?, dataset.first()?);
        let names = |categories: &[Category]| -> Vec<String> {
            let names = categories.iter().map(|category| category.name.clone());
            names.collect()
        };
        let found = positions_by_name(&names(&detector.categories), &names(dataset));
        if found.iter().any(Option::is_some) {
            return None;
        }
        Some(format!(
            "{} {FOREIGN} {}: {} and others, not {} and others; every detection counts as wrong and \
             every object as missed",
            detector.title,
            collection.title(),
            first.name,
            known.name,
        ))
    }

    /// Notes that the classes of a network that is shown are not those of the dataset. What was noted of networks or
    /// datasets before is no longer true.
    pub(super) fn note_foreign_classes(&mut self) {
        let is_other = |text: &str| !text.contains(FOREIGN);
        self.notices.retain(|notice| is_other(&notice.text));
        for network in [Pane::First, Pane::Second] {
            let is_shown = network == Pane::First || self.compare == Compare::Network;
            if is_shown && let Some(text) = self.foreign_classes(network) {
                self.notify(text);
            }
        }
    }

    /// Takes the classes of a network into the table. Those that only the network before it had are removed where no
    /// boxes of another source have their numbers.
    pub(super) fn forget_classes(&mut self, pane: Pane, network: &NetworkInfo) {
        if pane == Pane::First && self.networks[1].is_none() && !self.from_results {
            let collection = self.collection.as_ref();
            let mut classes = collection.map_or_else(ClassTable::default, |c| c.classes());
            classes.merge(&network.categories);
            if classes != self.classes {
                self.classes = classes;
                self.settings.filter.hidden_classes.clear();
                self.query.class = None;
                self.errors = ErrorWall::default();
                self.kept_results.clear();
            }
        }
        self.classes.merge(&network.categories);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(id: u64, name: &str) -> Category {
        Category {
            id,
            name: name.into(),
        }
    }

    #[test]
    fn classes_of_a_network_are_found_by_name_and_unknown_ones_appended() {
        let mut table = ClassTable::of_categories(&[category(3, "cat"), category(7, "dog")]);
        let indices = table.merge(&[category(1, "Dog"), category(2, "cow"), category(3, "cat")]);
        assert_eq!(indices, [1, 2, 0]);
        assert_eq!((table.len(), table.name(2)), (3, "cow"));
        assert_eq!(table.by_id(7), 1);
        let mut labeled = ClassTable::of_names(&["dog".to_owned()]);
        assert_eq!(labeled.merge_names(&["Dog", "cow"], 1), [1, 2]);
        assert_eq!(labeled.merge_names(&["cow", "dog"], 0), [2, 0]);
        assert_eq!(table.by_id(90), 3);
        assert_eq!(table.name(3), "category 90");
    }
}
