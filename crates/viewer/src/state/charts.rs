//! Histograms of a dataset; each bar lists its images.

use super::collection::{Collection, ShownImages};
use sedet_data::csv::to_csv;

/// One bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChartBar {
    /// The class or bin.
    pub label: String,
    /// The count.
    pub count: usize,
    /// The indices of the counted images, each once, ascending.
    pub images: Vec<u32>,
}

impl ChartBar {
    fn named(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    fn add(&mut self, image: u32) {
        self.count += 1;
        if self.images.last() != Some(&image) {
            self.images.push(image);
        }
    }
}

/// A histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The title.
    pub title: &'static str,
    /// The unit of the counts.
    pub counts: &'static str,
    /// The bars, from left to right.
    pub bars: Vec<ChartBar>,
}

impl Chart {
    /// Returns labels and counts as CSV.
    pub fn to_csv(&self) -> String {
        let mut rows = vec![vec![self.title.to_owned(), self.counts.to_owned()]];
        let bars = self.bars.iter();
        rows.extend(bars.map(|bar| vec![bar.label.clone(), bar.count.to_string()]));
        to_csv(&rows)
    }
}

/// Upper limits of the bins of box sizes in pixels; 32 and 96 are the limits of COCO's area ranges.
const SIZE_BINS: [f32; 8] = [8.0, 16.0, 32.0, 64.0, 96.0, 192.0, 384.0, f32::INFINITY];
/// Upper limits of the bins of objects per image.
const COUNT_BINS: [usize; 8] = [0, 1, 2, 4, 8, 16, 32, usize::MAX];

/// Computes the histograms of classes, box sizes and objects per image. Image files without annotations
/// have none.
pub fn charts(collection: &Collection) -> Vec<Chart> {
    match &collection.images {
        ShownImages::Files(_) => Vec::new(),
        ShownImages::Labeled(dataset) => {
            let mut bars = class_bars(collection);
            for index in 0..dataset.len() {
                bars[dataset.label(index)].add(index as u32);
            }
            vec![Chart {
                title: "class",
                counts: "images",
                bars,
            }]
        }
        ShownImages::Boxes(dataset) => {
            let mut classes = class_bars(collection);
            let mut sizes = bins(SIZE_BINS.map(f64::from), "px");
            let mut counts = bins(COUNT_BINS.map(|c| c as f64), "objects");
            for index in 0..dataset.len() {
                let mut objects = 0;
                for annotation in dataset.store().annotations(index) {
                    if annotation.is_crowd {
                        continue;
                    }
                    objects += 1;
                    classes[annotation.class].add(index as u32);
                    let side = annotation.box_in_image.area().max(0.0).sqrt();
                    let bin = SIZE_BINS.iter().position(|&end| side < end);
                    sizes[bin.unwrap_or(SIZE_BINS.len() - 1)].add(index as u32);
                }
                let bin = COUNT_BINS.iter().position(|&end| objects <= end);
                counts[bin.unwrap_or(COUNT_BINS.len() - 1)].add(index as u32);
            }
            vec![
                Chart {
                    title: "class",
                    counts: "objects",
                    bars: classes,
                },
                Chart {
                    title: "box size (square root of area)",
                    counts: "objects",
                    bars: sizes,
                },
                Chart {
                    title: "objects per image",
                    counts: "images",
                    bars: counts,
                },
            ]
        }
    }
}

fn class_bars(collection: &Collection) -> Vec<ChartBar> {
    let classes = collection.classes();
    classes.iter().map(|c| ChartBar::named(&c.name)).collect()
}

fn bins<const N: usize>(ends: [f64; N], unit: &str) -> Vec<ChartBar> {
    let mut start = None;
    let name = |end: f64| {
        let label = match (start, end) {
            (None, 0.0) => "0".to_owned(),
            (None, end) => format!("under {end} {unit}"),
            (Some(start), end) if unit == "objects" && end - start == 1.0 => format!("{end}"),
            (Some(start), end) if end < 1e9 && unit == "objects" => {
                format!("{} to {end}", start + 1.0)
            }
            (Some(start), end) if end < 1e9 => format!("{start} to {end} {unit}"),
            (Some(start), _) => format!("over {start}"),
        };
        start = Some(end);
        ChartBar::named(label)
    };
    ends.map(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::two_images;

    #[test]
    fn bars_count_objects_and_list_their_images() {
        let charts = charts(&two_images());
        let bar = |chart: usize, label: &str| {
            let bars = &charts[chart].bars;
            let bar = bars.iter().find(|bar| bar.label == label);
            let bar = bar.unwrap_or_else(|| panic!("{label} in {bars:?}"));
            (bar.count, bar.images.clone())
        };
        assert_eq!(bar(0, "round"), (1, vec![0]));
        assert_eq!(bar(1, "8 to 16 px"), (2, vec![0]));
        assert_eq!(bar(2, "0"), (1, vec![1]));
        assert_eq!(bar(2, "2"), (1, vec![0]));
        let labels: Vec<&str> = charts[2].bars.iter().map(|b| b.label.as_str()).collect();
        assert_eq!(&labels[2..5], ["2", "3 to 4", "5 to 8"]);
        assert_eq!(labels[7], "over 32");
        assert!(charts[0].to_csv().contains("\"flat, long\",1\n"));
    }
}
