//! Metrics of a classifier: accuracy, the confusion matrix and calibration.

use serde::Serialize;

/// Number of bins of the reliability diagram, as in Guo et al. 2017.
const BINS: usize = 15;
/// The k of the top-k accuracy.
const SECOND_RANK: usize = TOP;
/// Number of classes that are listed of an image.
pub const TOP: usize = 5;

/// Counts over images, added one at a time; the memory depends on the number of classes only.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassificationScores {
    classes: usize,
    /// Number of images; `[label, predicted class]`.
    confusion: Vec<u32>,
    /// Images of each class whose scores are NaN; they count as wrong.
    without_scores: Vec<u32>,
    /// Images of each class whose label is among the five best classes.
    among_five: Vec<u32>,
    loss: f64,
    bins: [Bin; BINS],
}

/// Images of similar confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    images: usize,
    right: usize,
    confidence: f64,
}

/// Returns the position of the bin of a confidence.
fn bin_of(confidence: f64) -> usize {
    let bin = (confidence * BINS as f64).ceil() as usize;
    bin.clamp(1, BINS) - 1
}

/// The metrics of a classifier, from [`ClassificationScores`]. Shares are in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassificationEvaluation {
    /// Number of images.
    pub images: usize,
    /// Share of the images whose best score is that of the label.
    pub top1: f64,
    /// Share of the images whose label is among the best five.
    pub top5: f64,
    /// Mean cross entropy, in nats.
    pub loss: f64,
    /// Expected calibration error: the mean difference between the probability of the predicted class
    /// and its accuracy, over 15 bins of equal width (Guo et al. 2017, equation 3).
    pub calibration_error: f64,
    /// The classes by label.
    pub classes: Vec<ClassAccuracy>,
    /// The bins by confidence, without empty ones.
    pub reliability: Vec<ReliabilityBin>,
    /// Number of images; `[label][predicted class]`.
    #[serde(skip)]
    pub confusion: Vec<Vec<u32>>,
}

/// The accuracy of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassAccuracy {
    /// The name.
    pub name: String,
    /// Number of images.
    pub images: usize,
    /// Share of the images whose best score is that of the class.
    pub top1: f64,
    /// Share of the images that have the class among the best five.
    pub top5: f64,
    /// The class that is predicted instead most often, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confused_with: Option<ConfusedClass>,
}

/// A class that is predicted in place of the label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfusedClass {
    /// The name.
    pub name: String,
    /// Number of images.
    pub images: usize,
}

/// A bin of the reliability diagram: images whose predicted class has a probability in `(from, to]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// Lower bound.
    pub from: f64,
    /// Upper bound.
    pub to: f64,
    /// Number of images.
    pub images: usize,
    /// Mean probability of the predicted class.
    pub confidence: f64,
    /// Share of the images whose predicted class is the label.
    pub accuracy: f64,
}

impl ReliabilityBin {
    /// Returns whether images with this probability of the predicted class are in the bin.
    pub fn contains(&self, confidence: f64) -> bool {
        bin_of(self.from + 0.5 / BINS as f64) == bin_of(confidence)
    }
}

/// What the metrics need of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageScore {
    /// The label.
    pub label: usize,
    /// The class of the best score, the first on ties, as in an argmax; none if a score is NaN, which counts as wrong.
    pub predicted: Option<usize>,
    /// The number of classes with a better score than the label, of equal scores the first; none if a score is NaN.
    pub rank: Option<usize>,
    /// The cross entropy, in nats; NaN if a score is NaN.
    pub loss: f64,
    /// The probability of the predicted class.
    pub confidence: f64,
}

impl ImageScore {
    /// Scores an image by the logits of all classes and its label.
    ///
    /// # Panics
    /// The label is out of range.
    pub fn of(logits: &[f32], label: usize) -> Self {
        if logits.iter().any(|score| score.is_nan()) {
            return Self {
                label,
                predicted: None,
                rank: None,
                loss: f64::NAN,
                confidence: 0.0,
            };
        }
        let rank = |class: usize| {
            let own = logits[class];
            let better =
                |&(other, &score): &(usize, &f32)| score > own || (score == own && other < class);
            logits.iter().enumerate().filter(better).count()
        };
        let predicted = (1..logits.len()).fold(0, |best, class| {
            if logits[class] > logits[best] {
                class
            } else {
                best
            }
        });
        let highest = f64::from(logits[predicted]);
        let exp_sum: f64 = logits.iter().map(|&s| (f64::from(s) - highest).exp()).sum();
        Self {
            label,
            predicted: Some(predicted),
            rank: Some(rank(label)),
            loss: exp_sum.ln() + highest - f64::from(logits[label]),
            confidence: 1.0 / exp_sum,
        }
    }

    /// Returns whether the label is among the five best classes.
    pub fn is_among_five(&self) -> bool {
        self.rank.is_some_and(|rank| rank < SECOND_RANK)
    }

    /// Returns whether the best score is that of the label.
    pub fn is_right(&self) -> bool {
        self.predicted == Some(self.label)
    }

    /// Returns the probability of the label.
    pub fn probability(&self) -> f64 {
        (-self.loss).exp()
    }
}

impl ClassificationScores {
    /// Creates counts of zero.
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            confusion: vec![0; classes * classes],
            without_scores: vec![0; classes],
            among_five: vec![0; classes],
            loss: 0.0,
            bins: [Bin::default(); BINS],
        }
    }

    /// Adds an image.
    ///
    /// # Panics
    /// A class is out of range.
    pub fn add(&mut self, image: &ImageScore) {
        let label = image.label;
        self.loss += image.loss;
        let Some(predicted) = image.predicted else {
            self.without_scores[label] += 1;
            return;
        };
        self.confusion[label * self.classes + predicted] += 1;
        self.among_five[label] += u32::from(image.is_among_five());
        let bin = &mut self.bins[bin_of(image.confidence)];
        bin.images += 1;
        bin.right += usize::from(predicted == label);
        bin.confidence += image.confidence;
    }

    /// Returns the number of images added.
    pub fn images(&self) -> usize {
        (0..self.classes).map(|class| self.images_of(class)).sum()
    }

    fn images_of(&self, class: usize) -> usize {
        let known: u32 = self.row(class).iter().sum();
        (known + self.without_scores[class]) as usize
    }

    fn row(&self, class: usize) -> &[u32] {
        &self.confusion[class * self.classes..(class + 1) * self.classes]
    }

    /// Computes the metrics of the images added; `class_names` are by label.
    pub fn evaluation(&self, class_names: &[String]) -> ClassificationEvaluation {
        let images = self.images();
        let name = |class: usize| class_names.get(class).cloned().unwrap_or_default();
        let right: usize = (0..self.classes).map(|c| self.row(c)[c] as usize).sum();
        let among_five: usize = self.among_five.iter().map(|&n| n as usize).sum();
        let classes = (0..self.classes)
            .map(|class| {
                let images = self.images_of(class);
                let wrong = self.row(class).iter().enumerate();
                let wrong = wrong.filter(|&(other, &n)| other != class && n > 0);
                // On ties, the first class.
                let most = wrong.max_by_key(|&(other, &n)| (n, std::cmp::Reverse(other)));
                ClassAccuracy {
                    name: name(class),
                    images,
                    top1: percent(self.row(class)[class] as usize, images),
                    top5: percent(self.among_five[class] as usize, images),
                    confused_with: most.map(|(other, &n)| ConfusedClass {
                        name: name(other),
                        images: n as usize,
                    }),
                }
            })
            .collect();
        let reliability: Vec<ReliabilityBin> = self.reliability().collect();
        let error: f64 = reliability
            .iter()
            .map(|bin| bin.images as f64 * (bin.confidence - bin.accuracy).abs())
            .sum();
        ClassificationEvaluation {
            images,
            top1: percent(right, images),
            top5: percent(among_five, images),
            loss: self.loss / images.max(1) as f64,
            calibration_error: 100.0 * error / images.max(1) as f64,
            classes,
            reliability,
            confusion: (0..self.classes).map(|c| self.row(c).to_vec()).collect(),
        }
    }

    fn reliability(&self) -> impl Iterator<Item = ReliabilityBin> {
        let bins = self.bins.iter().enumerate();
        bins.filter(|(_, bin)| bin.images > 0)
            .map(|(index, bin)| ReliabilityBin {
                from: index as f64 / BINS as f64,
                to: (index + 1) as f64 / BINS as f64,
                images: bin.images,
                confidence: bin.confidence / bin.images as f64,
                accuracy: bin.right as f64 / bin.images as f64,
            })
    }
}

impl ClassificationEvaluation {
    /// Formats the metrics as JSON; a loss of NaN is null.
    pub fn to_json(&self) -> String {
        // Numbers, strings and lists can always be serialized.
        format!("{:#}", serde_json::json!(self))
    }

    /// Returns the mean of the top-1 accuracy of the classes that have images, in percent; none without images. Unlike
    /// `top1`, it gives rare classes the weight of frequent ones.
    pub fn mean_class_top1(&self) -> Option<f64> {
        let known = self.classes.iter().filter(|class| class.images > 0);
        let (sum, count) = known.fold((0.0, 0), |(sum, count), class| {
            (sum + class.top1, count + 1)
        });
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Returns whether there are more than five classes: of fewer, each image has its class among the first five.
    pub fn has_top5(&self) -> bool {
        self.classes.len() > 5
    }

    /// Formats two lines: the accuracy, and the loss and calibration.
    pub fn summary(&self) -> String {
        let top5 = if self.has_top5() {
            format!(", top-5 {:.2} %", self.top5)
        } else {
            String::new()
        };
        format!(
            "{}: top-1 {:.2} %{top5}\nloss {:.4}, calibration error {:.2} %",
            crate::text::count(self.images, "image"),
            self.top1,
            self.loss,
            self.calibration_error
        )
    }

    /// Formats the confusion matrix as CSV, with a row for each label and a column for each
    /// predicted class.
    pub fn confusion_csv(&self) -> String {
        let names = self.classes.iter().map(|class| class.name.clone());
        let head = std::iter::once("class".to_string()).chain(names.clone());
        let mut rows: Vec<Vec<String>> = vec![head.collect()];
        rows.extend(names.zip(&self.confusion).map(|(name, counts)| {
            let counts = counts.iter().map(u32::to_string);
            std::iter::once(name).chain(counts).collect()
        }));
        crate::csv::to_csv(&rows)
    }
}

/// Returns the [`TOP`] best classes with their probabilities, best first; of equal logits the first class.
pub fn top_classes(logits: &[f32]) -> Vec<(usize, f32)> {
    let mut best: Vec<usize> = (0..logits.len()).collect();
    best.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    best.truncate(TOP);
    let highest = best.first().map_or(0.0, |&class| f64::from(logits[class]));
    let exp = |score: f32| (f64::from(score) - highest).exp();
    let sum: f64 = logits.iter().map(|&score| exp(score)).sum();
    let best = best.into_iter();
    best.map(|class| (class, (exp(logits[class]) / sum) as f32))
        .collect()
}

/// An image as the table of predictions lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictedImage {
    /// The name of the image.
    pub image: String,
    /// The true class, if it is known.
    pub truth: Option<String>,
    /// The most probable classes with their probabilities, best first.
    pub top: Vec<(String, f32)>,
}

/// Formats predictions as CSV: image, true class, and the [`TOP`] most probable classes with their probabilities. Cells
/// of what is not known are empty.
pub fn predictions_csv(images: impl IntoIterator<Item = PredictedImage>) -> String {
    let ranks = (1..=TOP).flat_map(|rank| [format!("class_{rank}"), format!("probability_{rank}")]);
    let head = ["image", "true_class"].map(str::to_owned);
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().chain(ranks).collect()];
    rows.extend(images.into_iter().map(|image| {
        let mut row = vec![image.image, image.truth.unwrap_or_default()];
        let top = image.top.into_iter().take(TOP);
        row.extend(top.flat_map(|(class, probability)| [class, probability.to_string()]));
        row.resize(2 + 2 * TOP, String::new());
        row
    }));
    crate::csv::to_csv(&rows)
}

fn percent(count: usize, of: usize) -> f64 {
    100.0 * count as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("c{class}")).collect()
    }

    #[test]
    fn a_label_counts_by_its_rank() {
        let mut scores = ClassificationScores::new(7);
        let logits = [0.1, 0.9, 0.3, 0.2, 0.4, 0.5, 0.6];
        scores.add(&ImageScore::of(&logits, 1));
        scores.add(&ImageScore::of(&logits, 4));
        scores.add(&ImageScore::of(&logits, 0));
        let found = scores.evaluation(&names(7));
        assert_eq!(found.images, 3);
        assert!((found.top1 - 100.0 / 3.0).abs() < 1e-9);
        assert!((found.top5 - 200.0 / 3.0).abs() < 1e-9);
        assert_eq!(found.confusion[4][1], 1);
        let confused = found.classes[4].confused_with.as_ref();
        assert_eq!(confused.map(|c| c.name.as_str()), Some("c1"));
        assert_eq!(found.classes[1].confused_with, None);
    }

    #[test]
    fn top_5_is_shown_for_more_than_five_classes() {
        for (classes, shown) in [(5, false), (6, true)] {
            let mut scores = ClassificationScores::new(classes);
            scores.add(&ImageScore::of(&vec![0.5; classes], 0));
            let summary = scores.evaluation(&names(classes)).summary();
            assert_eq!(summary.contains("top-5"), shown, "{summary}");
            assert!(summary.starts_with("1 image: top-1 100.00 %"), "{summary}");
        }
    }

    #[test]
    fn rare_classes_have_the_weight_of_frequent_ones_in_the_mean_over_classes() {
        let mut scores = ClassificationScores::new(3);
        assert_eq!(scores.evaluation(&names(3)).mean_class_top1(), None);
        for label in [0, 0, 0, 1] {
            scores.add(&ImageScore::of(&[0.9, 0.1, 0.2], label));
        }
        let found = scores.evaluation(&names(3));
        assert_eq!(found.top1, 75.0);
        assert_eq!(found.mean_class_top1(), Some(50.0));
    }

    #[test]
    fn a_bin_contains_the_images_that_it_counts() {
        let mut scores = ClassificationScores::new(2);
        let images = [0.0, 0.3, 1.0, 1.1, 5.0, 40.0].map(|best| ImageScore::of(&[best, 0.0], 0));
        images.iter().for_each(|image| scores.add(image));
        for bin in scores.evaluation(&names(2)).reliability {
            let own = images.iter().filter(|image| bin.contains(image.confidence));
            assert_eq!(own.count(), bin.images, "{bin:?}");
        }
    }

    #[test]
    fn the_label_has_a_rank_and_a_probability() {
        let image = ImageScore::of(&[1.0, 3.0, 2.0], 2);
        assert_eq!((image.rank, image.is_right()), (Some(1), false));
        let sum: f64 = [1.0f64, 3.0, 2.0].map(f64::exp).iter().sum();
        assert!((image.probability() - 2.0f64.exp() / sum).abs() < 1e-12);
    }

    #[test]
    fn the_best_classes_have_the_probabilities_of_all_classes() {
        let top = top_classes(&[0.0, 2.0, 1.0, 2.0, -1.0, 0.5, 0.25]);
        let classes: Vec<usize> = top.iter().map(|(class, _)| *class).collect();
        assert_eq!(classes, [1, 3, 2, 5, 6]);
        let sum: f64 = [0.0f64, 2.0, 1.0, 2.0, -1.0, 0.5, 0.25]
            .map(f64::exp)
            .iter()
            .sum();
        assert!((f64::from(top[0].1) - 2.0f64.exp() / sum).abs() < 1e-7);
        assert_eq!(top[0].1, top[1].1);
    }

    #[test]
    fn predictions_have_the_same_columns_whatever_is_known() {
        let image = |image: &str, truth: Option<&str>, classes: usize| PredictedImage {
            image: image.to_owned(),
            truth: truth.map(str::to_owned),
            top: names(classes)
                .into_iter()
                .map(|name| (name, 0.25))
                .collect(),
        };
        let csv = predictions_csv([image("a,b.png", Some("c1"), 2), image("c.png", None, 7)]);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("image,true_class,class_1,probability_1,class_2,"));
        assert_eq!(lines[1], "\"a,b.png\",c1,c0,0.25,c1,0.25,,,,,,");
        assert_eq!(lines[2], "c.png,,c0,0.25,c1,0.25,c2,0.25,c3,0.25,c4,0.25");
    }

    #[test]
    fn of_equal_scores_the_first_is_predicted_and_nan_is_wrong() {
        let mut scores = ClassificationScores::new(2);
        scores.add(&ImageScore::of(&[1.0, 1.0], 1));
        scores.add(&ImageScore::of(&[f32::NAN, 1.0], 0));
        let found = scores.evaluation(&names(2));
        assert_eq!((found.images, found.top1), (2, 0.0));
        assert!(found.loss.is_nan(), "a loss of NaN must not be hidden");
        assert_eq!(found.classes[0].top5, 0.0);
    }
}
