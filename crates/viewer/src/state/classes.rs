//! One list of classes for boxes from everywhere: annotations, networks, results files.

use sedet_data::annotations::Category;

/// A class as the window shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownClass {
    /// For people.
    pub name: String,
    /// The dataset's original id, where it has one.
    pub id: Option<u64>,
}

/// Every class that anything on show has. Positions never change, so that they can stand for the
/// class everywhere in the window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassTable {
    classes: Vec<ShownClass>,
}

impl ClassTable {
    /// The classes of a dataset with boxes.
    pub fn of_categories(categories: &[Category]) -> Self {
        let mut table = Self::default();
        table.take_in(categories);
        table
    }

    /// Classes that have names only.
    pub fn of_names(names: &[String]) -> Self {
        let class = |name: &String| ShownClass {
            name: name.clone(),
            id: None,
        };
        Self {
            classes: names.iter().map(class).collect(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// True before anything was opened.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The name of a class.
    pub fn name(&self, class: usize) -> &str {
        self.classes.get(class).map_or("?", |class| &class.name)
    }

    /// The original id of a class.
    pub fn id(&self, class: usize) -> Option<u64> {
        self.classes.get(class).and_then(|class| class.id)
    }

    /// All, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ShownClass> {
        self.classes.iter()
    }

    /// Where the classes of a network stand in the table; those it lacks are appended. Names decide,
    /// since networks from elsewhere may count from another number.
    pub fn take_in(&mut self, categories: &[Category]) -> Vec<usize> {
        let places = categories.iter().map(|category| {
            let known = self.classes.iter();
            let known = known.map(|class| class.name.to_lowercase());
            let name = category.name.to_lowercase();
            known.into_iter().position(|known| known == name)
        });
        let places: Vec<Option<usize>> = places.collect();
        let place = |(found, category): (Option<usize>, &Category)| {
            found.unwrap_or_else(|| {
                self.classes.push(ShownClass {
                    name: category.name.clone(),
                    id: Some(category.id),
                });
                self.classes.len() - 1
            })
        };
        places.into_iter().zip(categories).map(place).collect()
    }

    /// The class with this original id; appended under its number if there is none.
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
    fn classes_of_a_network_are_found_by_name_and_new_ones_appended() {
        let mut table = ClassTable::of_categories(&[category(3, "cat"), category(7, "dog")]);
        let places = table.take_in(&[category(1, "Dog"), category(2, "cow"), category(3, "cat")]);
        assert_eq!(places, [1, 2, 0]);
        assert_eq!((table.len(), table.name(2)), (3, "cow"));
        assert_eq!(table.by_id(7), 1);
        assert_eq!(table.by_id(90), 3);
        assert_eq!(table.name(3), "category 90");
    }
}
