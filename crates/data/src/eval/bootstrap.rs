//! Bootstrap intervals: how far a metric depends on which images happen to be in the split.
//!
//! A sample draws as many images as the split has, with replacement (Efron 1979); an image that is drawn twice counts
//! twice, with its objects and its detections. The interval is that of the 2.5 and 97.5 percentiles of the samples,
//! interpolated as `numpy.quantile` does. `tests/oracle/bootstrap.py` evaluates such samples with pycocotools.
//!
//! (The engine has a function of that name, too. It removes repeated images from a sample, so its intervals are
//! not those of the bootstrap.)

use std::collections::HashMap;
use std::ops::ControlFlow;

use rand::RngExt as _;
use rayon::prelude::*;
use serde::Serialize;

use super::coco::{CocoMetrics, UNDEFINED, check_rows, metrics};
use super::error::EvalError;
use super::ground_truth::{GroundTruth, GtAnnotation, GtCategory, GtImage};
use super::results::ResultRow;
use super::table::{Side, aligned};
use crate::rng::stream;

/// Probability of the intervals.
const CONFIDENCE: f64 = 0.95;
/// Number of samples between two calls of the callback.
const BETWEEN_PROGRESS: usize = 16;
/// Separates the random numbers of this module from others of the same seed.
const PURPOSE: u64 = u64::from_le_bytes(*b"bootstrp");

/// Number of samples and seed of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BootstrapConfig {
    /// Number of samples.
    pub samples: usize,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl BootstrapConfig {
    /// The usual number of samples.
    pub const SAMPLES: usize = 1000;

    /// Draws the images of a sample: positions in the list of images, with replacement.
    fn draw(self, sample: usize, images: usize) -> Vec<usize> {
        let mut rng = stream([self.seed, sample as u64, images as u64, PURPOSE]);
        (0..images).map(|_| rng.random_range(0..images)).collect()
    }
}

/// A number and its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The number, from all images once.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

impl Interval {
    /// Returns the interval of a value from its samples; `None` without samples.
    fn of(value: f64, mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        Some(Self {
            value,
            low: quantile(&samples, tail)?,
            high: quantile(&samples, 1.0 - tail)?,
        })
    }
}

/// Returns a quantile of sorted numbers, as `numpy.quantile` does by default; `None` without numbers.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = sorted.len().checked_sub(1)? as f64 * share;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    Some(below + (above - below) * position.fract())
}

/// The difference of a metric between two detectors on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The metric of the other detector.
    pub other: f64,
    /// The metric less that of the other detector; both are evaluated on the same samples.
    pub difference: Interval,
    /// Share of the samples in which the metric is larger than that of the other detector.
    pub larger_in: f64,
}

/// The interval of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MetricInterval {
    /// The name: `AP`, `AP50`, ...
    pub metric: &'static str,
    /// The metric and its interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// The comparison, if there is another detector.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub against: Option<Difference>,
}

/// Bootstrap intervals of the metrics that are defined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bootstrap {
    /// The samples.
    #[serde(flatten)]
    pub config: BootstrapConfig,
    /// Number of images in each sample.
    pub images: usize,
    /// The metrics, in the usual order; without those that no image defines.
    pub metrics: Vec<MetricInterval>,
}

impl Bootstrap {
    /// Computes the intervals of the twelve COCO metrics, and of their differences to a second list of results
    /// on the same images, if there is one.
    ///
    /// `progress` gets the numbers of finished and of all samples. If it breaks, the result is `None`.
    ///
    /// # Errors
    /// As [`evaluate`](super::evaluate).
    pub fn of_detections(
        ground_truth: &GroundTruth,
        results: &[ResultRow],
        against: Option<&[ResultRow]>,
        config: BootstrapConfig,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<Self>, EvalError> {
        let detectors: Vec<&[ResultRow]> = [Some(results), against].into_iter().flatten().collect();
        let images = by_image(ground_truth, &detectors)?;
        let categories = ground_truth.categories();
        let once: Vec<usize> = (0..images.len()).collect();
        let values = evaluate_sample(categories, &images, &once)?;
        let mut samples = Vec::with_capacity(config.samples);
        while samples.len() < config.samples {
            let next = samples.len()..config.samples.min(samples.len() + BETWEEN_PROGRESS);
            let found: Vec<Vec<CocoMetrics>> = next
                .into_par_iter()
                .map(|sample| {
                    evaluate_sample(categories, &images, &config.draw(sample, once.len()))
                })
                .collect::<Result<_, _>>()?;
            samples.extend(found);
            if progress(samples.len(), config.samples).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            config,
            images: once.len(),
            metrics: intervals(&values, &samples),
        }))
    }

    /// Computes the interval of a share of images, such as a classifier's accuracy, in percent.
    pub fn of_share(
        metric: &'static str,
        right: usize,
        images: usize,
        config: BootstrapConfig,
    ) -> Self {
        let percent = |right: usize| 100.0 * right as f64 / images.max(1) as f64;
        // Images differ in one property only, so those that have it may be the first ones.
        let samples = (0..config.samples)
            .into_par_iter()
            .map(|sample| {
                let drawn = config.draw(sample, images).into_iter();
                percent(drawn.filter(|&image| image < right).count())
            })
            .collect();
        let interval = Interval::of(percent(right), samples).filter(|_| images > 0);
        let metric = |interval| MetricInterval {
            metric,
            interval,
            against: None,
        };
        Self {
            config,
            images,
            metrics: interval.map(metric).into_iter().collect(),
        }
    }

    /// Formats the intervals as a table, with `digits` decimals.
    pub fn to_text(&self, digits: usize) -> String {
        let compared = self.metrics.iter().any(|metric| metric.against.is_some());
        let mut heading = vec!["metric", "value", "95 % interval"];
        if compared {
            heading.extend(["other", "difference", "95 % interval", "larger in"]);
        }
        let mut rows = vec![heading.iter().map(ToString::to_string).collect()];
        for MetricInterval {
            metric,
            interval,
            against,
        } in &self.metrics
        {
            let Interval { value, low, high } = interval;
            let mut cells = vec![
                metric.to_string(),
                format!("{value:.digits$}"),
                format!("{low:.digits$} to {high:.digits$}"),
            ];
            if let Some(against) = against {
                let Interval { value, low, high } = against.difference;
                cells.extend([
                    format!("{:.digits$}", against.other),
                    format!("{value:+.digits$}"),
                    format!("{low:+.digits$} to {high:+.digits$}"),
                    format!("{:.0} %", 100.0 * against.larger_in),
                ]);
            } else {
                cells.resize(heading.len(), "-".to_string());
            }
            rows.push(cells);
        }
        let sides: Vec<Side> = (0..heading.len())
            .map(|column| if column == 0 { Side::Left } else { Side::Right })
            .collect();
        format!(
            "bootstrap over {}: {}, seed {}\n{}",
            crate::text::count(self.images, "image"),
            crate::text::count(self.config.samples, "sample"),
            self.config.seed,
            aligned(&rows, &sides)
        )
    }
}

/// An image with what belongs to it.
struct ImageRows<'a> {
    image: &'a GtImage,
    objects: Vec<&'a GtAnnotation>,
    /// The result rows of known classes, of one or two detectors.
    detections: Vec<Vec<&'a ResultRow>>,
}

/// Returns the images by ascending id: the order decides ties between scores, and the engine sorts by id, too.
fn by_image<'a>(
    ground_truth: &'a GroundTruth,
    detectors: &[&'a [ResultRow]],
) -> Result<Vec<ImageRows<'a>>, EvalError> {
    let mut images: Vec<&GtImage> = ground_truth.images().iter().collect();
    images.sort_by_key(|image| image.id);
    let ids = images.iter().map(|image| image.id);
    let positions: HashMap<u64, usize> = ids.zip(0..).collect();
    let empty = |image| ImageRows {
        image,
        objects: Vec::new(),
        detections: vec![Vec::new(); detectors.len()],
    };
    let mut images: Vec<ImageRows<'_>> = images.into_iter().map(empty).collect();
    for object in ground_truth.annotations() {
        images[positions[&object.image_id]].objects.push(object);
    }
    for (detector, rows) in detectors.iter().enumerate() {
        check_rows(ground_truth, rows)?;
        let known = rows
            .iter()
            .filter(|row| ground_truth.category(row.category_id).is_some());
        for row in known {
            images[positions[&row.image_id]].detections[detector].push(row);
        }
    }
    Ok(images)
}

/// Evaluates the detectors on the images of a sample, which get new ids in the order of the sample.
fn evaluate_sample(
    categories: &[GtCategory],
    images: &[ImageRows<'_>],
    drawn: &[usize],
) -> Result<Vec<CocoMetrics>, EvalError> {
    let numbered = || drawn.iter().map(|&image| &images[image]).zip(1_u64..);
    let annotations = numbered()
        .flat_map(|(image, id)| image.objects.iter().map(move |object| (*object, id)))
        .zip(1..)
        .map(|((object, image_id), id)| GtAnnotation {
            id,
            image_id,
            ..object.clone()
        });
    let sample = GroundTruth::new(
        numbered()
            .map(|(image, id)| GtImage {
                id,
                ..image.image.clone()
            })
            .collect(),
        categories.to_vec(),
        annotations.collect(),
    )?;
    let detectors = images.first().map_or(0, |image| image.detections.len());
    (0..detectors)
        .map(|detector| {
            let rows: Vec<ResultRow> = numbered()
                .flat_map(|(image, image_id)| {
                    let rows = image.detections[detector].iter();
                    rows.map(move |row| ResultRow { image_id, ..**row })
                })
                .collect();
            metrics(&sample, &rows.iter().collect::<Vec<_>>())
        })
        .collect()
}

/// Returns the intervals of the metrics; `values` and each of `samples` have one or two detectors.
fn intervals(values: &[CocoMetrics], samples: &[Vec<CocoMetrics>]) -> Vec<MetricInterval> {
    let names = values[0].named();
    let one = |index: usize| {
        let (metric, value) = names[index];
        let of = |sample: &[CocoMetrics], side: usize| {
            let value = sample[side].named()[index].1;
            // A sample may lack, say, small objects.
            (value > UNDEFINED).then_some(value)
        };
        let first = samples.iter().filter_map(|sample| of(sample, 0));
        let interval = Interval::of(value, first.collect()).filter(|_| value > UNDEFINED)?;
        let against = values.get(1).and_then(|other| {
            let other = other.named()[index].1;
            let differences: Vec<f64> = samples
                .iter()
                .filter_map(|sample| Some(of(sample, 0)? - of(sample, 1)?))
                .collect();
            let larger = differences.iter().filter(|&&d| d > 0.0).count();
            let share = larger as f64 / differences.len().max(1) as f64;
            Some(Difference {
                other,
                difference: Interval::of(value - other, differences)?,
                larger_in: share,
            })
        });
        Some(MetricInterval {
            metric,
            interval,
            against,
        })
    };
    (0..names.len()).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::read_results;
    use std::path::{Path, PathBuf};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures")
            .join(name)
    }

    /// Returns the edge cases of the COCO metrics: ground truth, a list of results, and the list without every third
    /// row.
    fn edge_cases() -> (GroundTruth, Vec<ResultRow>, Vec<ResultRow>) {
        let ground_truth = GroundTruth::from_file(&fixture("coco_eval_gt.json")).unwrap();
        let results = read_results(&fixture("coco_eval_dt.json")).unwrap();
        let others = (0..results.len()).filter(|index| index % 3 != 0);
        let others = others.map(|index| results[index]).collect();
        (ground_truth, results, others)
    }

    #[test]
    fn samples_and_intervals_equal_pycocotools_and_numpy() {
        let text = std::fs::read_to_string(fixture("bootstrap.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let samples: Vec<Vec<usize>> = serde_json::from_value(expected["samples"].clone()).unwrap();
        let (ground_truth, results, others) = edge_cases();
        let images = by_image(&ground_truth, &[&results, &others]).unwrap();
        let evaluate =
            |drawn: &[usize]| evaluate_sample(ground_truth.categories(), &images, drawn).unwrap();
        let once: Vec<usize> = (0..images.len()).collect();
        let samples: Vec<_> = samples.iter().map(|drawn| evaluate(drawn)).collect();
        let found = intervals(&evaluate(&once), &samples);
        assert_eq!(found.len(), 12);
        for MetricInterval {
            metric,
            interval,
            against,
        } in found
        {
            let expected = &expected["metrics"][metric];
            let against = against.unwrap();
            for (got, wanted) in [
                (interval.value, &expected["value"]),
                (interval.low, &expected["interval"][0]),
                (interval.high, &expected["interval"][1]),
                (against.other, &expected["other"]),
                (against.difference.low, &expected["difference"][0]),
                (against.difference.high, &expected["difference"][1]),
                (against.larger_in, &expected["larger_in"]),
            ] {
                let wanted = wanted.as_f64().unwrap();
                assert!((got - wanted).abs() < 1e-9, "{metric}: {got}, not {wanted}");
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_intervals_and_the_value_is_that_of_the_evaluation() {
        let (ground_truth, results, _) = edge_cases();
        let intervals = |seed| {
            let config = BootstrapConfig { samples: 20, seed };
            let mut progress = |_, _| ControlFlow::Continue(());
            Bootstrap::of_detections(&ground_truth, &results, None, config, &mut progress)
                .unwrap()
                .unwrap()
                .metrics
        };
        assert_eq!(intervals(1), intervals(1));
        assert_ne!(intervals(1), intervals(2));
        let evaluation = crate::eval::evaluate(&ground_truth, &results).unwrap();
        for (found, (name, value)) in intervals(1).iter().zip(evaluation.metrics.named()) {
            assert_eq!(found.metric, name);
            assert!((found.interval.value - value).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn a_detector_compared_with_itself_does_not_differ() {
        let (ground_truth, results, _) = edge_cases();
        let config = BootstrapConfig {
            samples: 10,
            seed: 0,
        };
        let found = Bootstrap::of_detections(
            &ground_truth,
            &results,
            Some(&results),
            config,
            &mut |_, _| ControlFlow::Continue(()),
        );
        for metric in found.unwrap().unwrap().metrics {
            let Difference {
                difference,
                larger_in,
                ..
            } = metric.against.unwrap();
            assert_eq!(
                (difference.low, difference.high, larger_in),
                (0.0, 0.0, 0.0)
            );
        }
    }

    #[test]
    fn the_bootstrap_can_be_interrupted() {
        let (ground_truth, results, _) = edge_cases();
        let config = BootstrapConfig {
            samples: 50,
            seed: 0,
        };
        let mut stop = |_, _| ControlFlow::Break(());
        let found = Bootstrap::of_detections(&ground_truth, &results, None, config, &mut stop);
        assert_eq!(found.unwrap(), None);
    }

    #[test]
    fn the_interval_of_an_accuracy_has_the_width_of_a_binomial() {
        let config = BootstrapConfig {
            samples: 2000,
            seed: 0,
        };
        let found = Bootstrap::of_share("top1", 900, 1000, config);
        let Interval { value, low, high } = found.metrics[0].interval;
        assert_eq!(value, 90.0);
        // 1.96 standard deviations of a binomial distribution: 1.86 percent.
        for width in [value - low, high - value] {
            assert!((width - 1.86).abs() < 0.2, "{low} to {high}");
        }
        assert_eq!(Bootstrap::of_share("top1", 0, 0, config).metrics, []);
    }
}
