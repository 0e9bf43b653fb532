//! Accuracy of a classifier.

use serde::Serialize;

/// How often the right class is first, or among the first five.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopK {
    images: usize,
    first: usize,
    among_five: usize,
}

/// The shares of [`TopK`], in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    /// Number of pictures.
    pub images: usize,
    /// The best score is the right class's.
    pub top1: f64,
    /// The right class is among the best five.
    pub top5: f64,
}

impl TopK {
    /// Count one picture: the scores of all classes, and the right one. Of equal scores the first
    /// class counts as better, as in an argmax.
    pub fn add(&mut self, scores: &[f32], label: usize) {
        let right = scores[label];
        let better = scores
            .iter()
            .enumerate()
            .filter(|&(class, &score)| score > right || (score == right && class < label))
            .count();
        self.images += 1;
        // A score that is no number is never right.
        self.first += usize::from(better == 0 && right.is_finite());
        self.among_five += usize::from(better < 5 && right.is_finite());
    }

    /// The shares so far.
    pub fn accuracy(&self) -> Accuracy {
        let percent = |count: usize| 100.0 * count as f64 / self.images.max(1) as f64;
        Accuracy {
            images: self.images,
            top1: percent(self.first),
            top5: percent(self.among_five),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_class_counts_by_its_rank() {
        let mut counts = TopK::default();
        let scores = [0.1, 0.9, 0.3, 0.2, 0.4, 0.5, 0.6];
        counts.add(&scores, 1);
        counts.add(&scores, 4);
        counts.add(&scores, 0);
        let accuracy = counts.accuracy();
        assert_eq!(accuracy.images, 3);
        assert!((accuracy.top1 - 100.0 / 3.0).abs() < 1e-9);
        assert!((accuracy.top5 - 200.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn of_equal_scores_the_first_wins_and_nan_never() {
        let mut counts = TopK::default();
        counts.add(&[1.0, 1.0], 1);
        counts.add(&[f32::NAN, 1.0], 0);
        assert_eq!(counts.accuracy().top1, 0.0);
    }
}
