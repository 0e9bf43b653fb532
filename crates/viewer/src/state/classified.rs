//! The images that a classifier was run on: their most probable classes, and which of them are mistakes.

use std::sync::Arc;

use super::{ClassTable, Collection, NetworkInfo, Pane, Predictions, ShownImages, ViewerState};
use sedet_core::model::{ClassMatch, RankedClass};
use sedet_data::eval::classification::{
    ClassificationEvaluation, ClassificationScores, ImageScore, PredictedImage, predictions_csv,
    top_classes,
};
use sedet_data::eval::confusion::Confusion;

/// What is kept of an image: about 200 bytes, whatever the number of classes is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClassifiedImage {
    /// The five most probable classes of the class table with their probabilities, best first.
    pub top: Vec<(usize, f32)>,
    /// How the true class was ranked, if it is known. Classes are numbered in the order of an evaluation.
    pub score: Option<ImageScore>,
}

impl ClassifiedImage {
    /// Returns the predicted class; none if the scores are not numbers.
    pub fn predicted(&self) -> Option<usize> {
        if self.score.is_some_and(|score| score.predicted.is_none()) {
            return None;
        }
        self.top.first().map(|(class, _)| *class)
    }

    /// Returns whether the predicted class is the true one, if that is known.
    pub fn is_right(&self) -> Option<bool> {
        self.score.map(|score| score.is_right())
    }
}

/// The images that a classifier was run on.
pub type Classifications = Predictions<ClassifiedImage>;

impl Classifications {
    /// Stores the classes of images.
    pub(crate) fn set_classes(
        &mut self,
        images: impl IntoIterator<Item = (usize, ClassifiedImage)>,
    ) {
        self.store(images);
    }
}

/// The classes of a classifier among those of the viewer and of the open dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierClasses {
    /// The labels of the network in the order of an evaluation: first those of the dataset's classes.
    order: Vec<usize>,
    /// For each position in this order the class of the class table.
    shown: Vec<usize>,
    /// The names in this order.
    names: Vec<String>,
    /// Whether predicted and true classes can be compared: `None` where images have no label, otherwise an error where
    /// the dataset has other classes.
    comparable: Option<Result<(), String>>,
}

impl ClassifierClasses {
    /// Finds the classes of a network; those that the table lacks are appended to it.
    fn new(network: &NetworkInfo, collection: Option<&Collection>, table: &mut ClassTable) -> Self {
        let names = &network.class_names;
        let dataset = match collection.map(|collection| &collection.images) {
            Some(ShownImages::Labeled(dataset)) => Some(dataset.class_names()),
            Some(ShownImages::Boxes(_) | ShownImages::Files(_)) | None => None,
        };
        let matched =
            dataset.map(|dataset| ClassMatch::find(names, network.has_class_names, dataset));
        let (order, known) = match &matched {
            Some(Ok(matched)) => (matched.order(), matched.labels().len()),
            Some(Err(_)) | None => ((0..names.len()).collect(), 0),
        };
        let others: Vec<&str> = order
            .iter()
            .skip(known)
            .map(|&label| names[label].as_str())
            .collect();
        // The first classes of the table are those of the dataset.
        let shown: Vec<usize> = (0..known)
            .chain(table.merge_names(&others, known))
            .collect();
        Self {
            names: shown
                .iter()
                .map(|&class| table.name(class).to_owned())
                .collect(),
            order,
            shown,
            comparable: matched.map(|matched| matched.map(|_| ())),
        }
    }

    /// Returns what is kept of an image with these logits.
    pub(crate) fn image(&self, logits: &[f32], label: Option<usize>) -> ClassifiedImage {
        let score = |&label: &usize| logits.get(label).copied().unwrap_or(f32::NAN);
        let logits: Vec<f32> = self.order.iter().map(score).collect();
        let top = top_classes(&logits).into_iter();
        ClassifiedImage {
            top: top
                .map(|(at, probability)| (self.shown[at], probability))
                .collect(),
            score: label
                .filter(|_| self.compares())
                .map(|label| ImageScore::of(&logits, label)),
        }
    }

    /// Returns whether predicted and true classes can be compared.
    pub fn compares(&self) -> bool {
        matches!(self.comparable, Some(Ok(())))
    }

    /// Returns why images with labels have no verdict.
    pub fn why_not_compared(&self) -> Option<&str> {
        self.comparable.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// Computes the metrics of the processed images, which are those of `sedet eval`; none without labels.
    pub(crate) fn evaluation(&self, images: &Classifications) -> Option<ClassificationEvaluation> {
        let mut scores = ClassificationScores::new(self.names.len());
        for score in images.iter().filter_map(|(_, image)| image.score.as_ref()) {
            scores.add(score);
        }
        (scores.images() > 0).then(|| scores.evaluation(&self.names))
    }

    /// Returns the class of the table at a position of the evaluation.
    pub(crate) fn shown(&self, position: usize) -> Option<usize> {
        self.shown.get(position).copied()
    }
}

/// The true class of an image as a network ranks it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrueClass<'a> {
    /// The name.
    pub name: &'a str,
    /// The label in the network.
    pub label: usize,
    /// The number of more probable classes.
    pub rank: usize,
    /// The probability.
    pub probability: f32,
}

/// An image with a wrong class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mistake {
    /// The index of the image.
    pub image: usize,
    /// The true class.
    pub truth: usize,
    /// The predicted class.
    pub predicted: usize,
    /// The probability of the predicted class.
    pub probability: f32,
}

/// Returns the mistakes of a classifier, the most confident first, of equal confidence in the order of the images.
pub fn mistakes(images: &Classifications) -> Vec<Mistake> {
    let wrong = images.iter().filter_map(|(image, classes)| {
        let score = classes.score.filter(|score| !score.is_right())?;
        Some(Mistake {
            image,
            truth: score.label,
            predicted: classes.predicted()?,
            probability: score.confidence as f32,
        })
    });
    let mut wrong: Vec<Mistake> = wrong.collect();
    wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    wrong
}

/// Counts right and wrong images, and the cells of the confusion matrix; none where no true class is known.
pub(crate) fn tally_classes(images: &Classifications, count: usize) -> Option<Confusion> {
    let all = Confusion::of_classes(count, |index| {
        let image = images.get(index)?;
        Some((image.score?.label, image.predicted()))
    });
    all.images.iter().any(Option::is_some).then_some(all)
}

impl ViewerState {
    /// Returns whether what is shown of a network are classes of whole images.
    pub fn is_classifier(&self, network: Pane) -> bool {
        let is_file = network == Pane::First && self.from_results;
        let known = self.networks[network.index()].as_ref();
        known.is_some_and(|known| !known.is_detector) && !is_file
    }

    /// Returns the number of images that a network has been run on, or that its results file is of.
    pub fn processed(&self, network: Pane) -> usize {
        if self.is_classifier(network) {
            self.classified[network.index()].image_count()
        } else {
            self.predictions[network.index()].image_count()
        }
    }

    /// Returns whether a network has been run on an image.
    pub(crate) fn is_processed(&self, network: Pane, image: usize) -> bool {
        if self.is_classifier(network) {
            self.classified[network.index()].get(image).is_some()
        } else {
            self.predictions[network.index()].get(image).is_some()
        }
    }

    /// Returns whether right and wrong images of a classifier can be told apart.
    pub fn judges_classes(&self, network: Pane) -> bool {
        let classes = self.classifiers[network.index()].as_ref();
        self.is_classifier(network) && classes.is_some_and(|classes| classes.compares())
    }

    /// Finds the classes of a classifier and discards what was computed with the previous ones.
    pub(crate) fn match_classifier(&mut self, network: Pane) {
        let at = network.index();
        let known = self.networks[at].as_ref().filter(|n| !n.is_detector);
        let title = known.map_or_else(String::new, |network| network.title.clone());
        self.classifiers[at] = known.map(|network| {
            let collection = self.collection.as_deref();
            let classes = ClassifierClasses::new(network, collection, &mut self.classes);
            Arc::new(classes)
        });
        self.classified[at] = Predictions::empty(title, self.image_count());
        self.mistakes[at] = Arc::default();
        self.accuracies[at] = None;
    }

    /// Stores the logits that a classifier computed for images.
    pub(crate) fn add_logits(&mut self, network: Pane, images: &[(usize, Vec<f32>)]) {
        let at = network.index();
        let (Some(classes), Some(collection)) = (&self.classifiers[at], &self.collection) else {
            return;
        };
        let images = images.iter().filter(|(index, _)| *index < collection.len());
        let images = images.map(|(index, logits)| {
            let label = collection.label(*index);
            (*index, classes.image(logits, label))
        });
        let images: Vec<_> = images.collect();
        self.classified[at].set_classes(images);
    }

    /// Returns the classes of the image in a pane, once they have been computed.
    pub fn classes_of(&self, pane: Pane) -> Option<&Arc<ClassifiedImage>> {
        let network = self.network_of(pane);
        let index = self.image_of(pane);
        self.classified[network.index()]
            .get(index)
            .filter(|_| self.is_classifier(network))
    }

    /// Returns the most probable classes of a network as CSV, for all processed images.
    pub(crate) fn classes_csv(&self, network: Pane) -> String {
        let name = |class: usize| self.classes.name(class).to_owned();
        let images = self.classified[network.index()].iter();
        let rows = images.filter_map(|(index, image)| {
            let collection = self.collection.as_ref()?;
            Some(PredictedImage {
                image: collection.describe(index),
                truth: collection.label(index).map(name),
                top: image.top.iter().map(|&(c, p)| (name(c), p)).collect(),
            })
        });
        predictions_csv(rows)
    }

    /// Returns the true class of the image in a pane as a network ranks it; none without labels.
    pub fn true_class(&self, pane: Pane) -> Option<TrueClass<'_>> {
        let score = self.classes_of(pane)?.score?;
        let classes = self.classifiers[self.network_of(pane).index()].as_ref()?;
        Some(TrueClass {
            name: self.classes.name(score.label),
            label: *classes.order.get(score.label)?,
            rank: score.rank?,
            probability: score.probability() as f32,
        })
    }

    /// Returns the name that the dataset has for a class of a network, where their classes are compared.
    pub(crate) fn name_in_dataset(&self, pane: Pane, label: usize) -> Option<&str> {
        let classes = self.classifiers[self.network_of(pane).index()].as_ref();
        let classes = classes.filter(|classes| classes.compares())?;
        let class = classes.order.iter().position(|known| *known == label)?;
        Some(self.classes.name(class))
    }

    /// Returns whether a class that a network names is the true one of the image in a pane.
    pub(crate) fn is_true_class(&self, pane: Pane, class: &RankedClass) -> bool {
        let network = self.network_of(pane).index();
        let Some(classes) = self.classifiers[network].as_ref().filter(|c| c.compares()) else {
            return false;
        };
        let label = self.collection.as_ref();
        let label = label.and_then(|collection| collection.label(self.image_of(pane)));
        label.is_some_and(|label| classes.order.get(label) == Some(&class.label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(order: &[usize], comparable: bool) -> ClassifierClasses {
        ClassifierClasses {
            order: order.to_vec(),
            shown: (0..order.len()).collect(),
            names: order.iter().map(|label| format!("c{label}")).collect(),
            comparable: comparable.then_some(Ok(())),
        }
    }

    #[test]
    fn mistakes_are_listed_by_confidence_and_counted_as_in_an_evaluation() {
        // The dataset has the first class of the network last.
        let classes = classes(&[1, 2, 0], true);
        let logits = [
            [0.0, 5.0, 1.0],
            [9.0, 1.0, 0.0],
            [0.0, 0.0, 2.0],
            [3.0, 1.0, 1.0],
        ];
        let labels = [0, 0, 1, 1];
        let mut images = Classifications::empty("test", 5);
        let each = logits.iter().zip(labels).enumerate();
        images.set_classes(each.map(|(at, (row, label))| (at, classes.image(row, Some(label)))));
        let found = mistakes(&images);
        let listed: Vec<_> = found
            .iter()
            .map(|m| (m.image, m.truth, m.predicted))
            .collect();
        assert_eq!(listed, [(1, 0, 2), (3, 1, 2)]);
        assert!(found[0].probability > 0.99 && found[1].probability < 0.9);
        let evaluation = classes.evaluation(&images).unwrap();
        assert_eq!((evaluation.images, evaluation.top1), (4, 50.0));
        let tally = tally_classes(&images, 5).unwrap();
        assert_eq!((tally.total.correct, tally.total.wrong), (2, 2));
        assert_eq!(tally.cells[&(Some(0), Some(2))], (1, vec![1]));
        assert_eq!(tally.images[4], None);
    }

    #[test]
    fn without_labels_there_is_no_right_and_wrong() {
        let classes = classes(&[0, 1], false);
        let mut images = Classifications::empty("test", 1);
        images.set_classes([(0, classes.image(&[1.0, 0.0], None))]);
        assert_eq!(images.get(0).unwrap().is_right(), None);
        assert_eq!(images.get(0).unwrap().predicted(), Some(0));
        assert!(mistakes(&images).is_empty());
        assert_eq!(tally_classes(&images, 1), None);
        assert_eq!(classes.evaluation(&images), None);
    }
}
