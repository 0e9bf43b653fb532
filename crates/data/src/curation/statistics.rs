//! Statistics of a dataset: classes, and sizes, shapes and numbers of boxes.

use serde::Serialize;

use crate::annotations::AnnotationStore;

/// COCO's area limit of small objects, in square pixels.
pub(crate) const SMALL_BELOW: f32 = 32.0 * 32.0;
/// COCO's area limit of large objects, in square pixels.
pub(crate) const LARGE_FROM: f32 = 96.0 * 96.0;

/// Statistics of a split. Crowd regions are counted separately and excluded from all other numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// Number of images.
    pub images: usize,
    /// Number of boxes without crowd regions.
    pub boxes: usize,
    /// Number of crowd regions.
    pub crowd_regions: usize,
    /// Number of images with neither boxes nor crowd regions.
    pub empty_images: usize,
    /// Counts of each class, in the order of the ids.
    pub classes: Vec<ClassCount>,
    /// Objects by COCO's size ranges of `area`.
    pub sizes: SizeCount,
    /// Images by number of boxes.
    pub boxes_per_image: Histogram,
    /// Boxes by the square root of width times height, in pixels of the image.
    pub box_sides: Histogram,
    /// Boxes by width over height.
    pub box_aspects: Histogram,
    /// Boxes by the share of the image area.
    pub box_shares: Histogram,
    /// Images by the longer side in pixels.
    pub image_sides: Histogram,
}

/// Counts of a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// The original id.
    pub id: u64,
    /// The name.
    pub name: String,
    /// Number of boxes.
    pub boxes: usize,
    /// Number of images with at least one box.
    pub images: usize,
    /// Number of crowd regions.
    pub crowd_regions: usize,
}

/// Numbers of objects in COCO's size ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SizeCount {
    /// Area below 32x32 pixels.
    pub small: usize,
    /// Area from 32x32 to below 96x96 pixels.
    pub medium: usize,
    /// Area of 96x96 pixels and more.
    pub large: usize,
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Lower limit of each bin; the last bin is open.
    pub from: Vec<f64>,
    /// Number of values in each bin.
    pub counts: Vec<usize>,
}

impl Histogram {
    fn new(from: &[f64]) -> Self {
        Self {
            from: from.to_vec(),
            counts: vec![0; from.len()],
        }
    }

    fn add(&mut self, value: f64) {
        let bin = self.from.partition_point(|from| *from <= value);
        self.counts[bin.saturating_sub(1)] += 1;
    }

    /// Returns the labels of the bins: `8-16`, `512+`; for integers `3`, `5-8`.
    pub fn labels(&self, whole: bool) -> Vec<String> {
        let number = |value: f64| {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let bins = self.from.iter().enumerate();
        bins.map(|(at, from)| match self.from.get(at + 1) {
            None => format!("{}+", number(*from)),
            Some(next) if whole && next - from == 1.0 => number(*from),
            Some(next) if whole => format!("{}-{}", number(*from), number(next - 1.0)),
            Some(next) => format!("{}-{}", number(*from), number(*next)),
        })
        .collect()
    }
}

impl Statistics {
    /// Computes the statistics of a split.
    pub fn of(store: &AnnotationStore) -> Self {
        let classes = store.categories().iter().map(|category| ClassCount {
            id: category.id,
            name: category.name.clone(),
            boxes: 0,
            images: 0,
            crowd_regions: 0,
        });
        let mut counted = Self {
            images: store.image_count(),
            boxes: 0,
            crowd_regions: 0,
            empty_images: 0,
            classes: classes.collect(),
            sizes: SizeCount::default(),
            boxes_per_image: Histogram::new(&[
                0.0, 1.0, 2.0, 3.0, 5.0, 9.0, 17.0, 33.0, 65.0, 129.0,
            ]),
            box_sides: Histogram::new(&[
                0.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0,
                512.0, 768.0,
            ]),
            box_aspects: Histogram::new(&[
                0.0, 0.125, 0.2, 0.333, 0.5, 0.667, 0.8, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0,
            ]),
            box_shares: Histogram::new(&[
                0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
            ]),
            image_sides: Histogram::new(&[
                0.0, 128.0, 256.0, 384.0, 512.0, 640.0, 800.0, 1024.0, 1333.0, 2048.0, 4096.0,
            ]),
        };
        for index in 0..store.image_count() {
            counted.add_image(store, index);
        }
        counted
    }

    fn add_image(&mut self, store: &AnnotationStore, index: usize) {
        let size = store.image(index).size;
        self.image_sides.add(size.width.max(size.height) as f64);
        let (mut boxes, mut seen) = (0, Vec::new());
        for annotation in store.annotations(index) {
            let class = &mut self.classes[annotation.class];
            if annotation.is_crowd {
                class.crowd_regions += 1;
                self.crowd_regions += 1;
                continue;
            }
            boxes += 1;
            class.boxes += 1;
            if !seen.contains(&annotation.class) {
                seen.push(annotation.class);
                class.images += 1;
            }
            match annotation.area {
                area if area < SMALL_BELOW => self.sizes.small += 1,
                area if area < LARGE_FROM => self.sizes.medium += 1,
                _ => self.sizes.large += 1,
            }
        }
        for xywh in boxes_without_crowds(store, index) {
            let [_, _, width, height] = xywh.map(f64::from);
            if width > 0.0 && height > 0.0 {
                let area = width * height;
                self.box_sides.add(area.sqrt());
                self.box_aspects.add(width / height);
                self.box_shares
                    .add(area / (size.width as f64 * size.height as f64));
            }
        }
        self.boxes += boxes;
        self.boxes_per_image.add(boxes as f64);
        self.empty_images += usize::from(store.annotations(index).len() == 0);
    }
}

fn boxes_without_crowds(
    store: &AnnotationStore,
    index: usize,
) -> impl Iterator<Item = [f32; 4]> + '_ {
    store
        .annotations(index)
        .zip(store.boxes_xywh(index))
        .filter(|(annotation, _)| !annotation.is_crowd)
        .map(|(_, xywh)| xywh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use crate::boxes::ImageSize;

    #[test]
    fn boxes_are_counted_by_class_size_and_shape_and_crowds_apart() {
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(7, "b");
        builder.add_category(3, "a");
        for id in 1..=3 {
            builder.add_image(id, "x.jpg", ImageSize::new(200, 400));
        }
        for (id, image_id, category_id, xywh, area, is_crowd) in [
            (1, 1, 3, [0.0, 0.0, 20.0, 10.0], None, false),
            (2, 1, 3, [0.0, 0.0, 100.0, 100.0], Some(1024.0), false),
            (3, 2, 7, [0.0, 0.0, 100.0, 200.0], None, false),
            (4, 2, 7, [0.0, 0.0, 100.0, 200.0], None, true),
        ] {
            builder.add_annotation(NewAnnotation {
                id,
                image_id,
                category_id,
                xywh,
                area,
                is_crowd,
            });
        }
        let counted = Statistics::of(&builder.build().unwrap());
        assert_eq!((counted.images, counted.boxes), (3, 3));
        assert_eq!((counted.crowd_regions, counted.empty_images), (1, 1));
        let classes: Vec<_> = counted
            .classes
            .iter()
            .map(|c| (c.id, c.boxes, c.images, c.crowd_regions))
            .collect();
        assert_eq!(classes, [(3, 2, 1, 0), (7, 1, 1, 1)]);
        let SizeCount {
            small,
            medium,
            large,
        } = counted.sizes;
        assert_eq!((small, medium, large), (1, 1, 1));
        let filled = |histogram: &Histogram, whole| -> Vec<(String, usize)> {
            let bins = histogram.labels(whole).into_iter();
            bins.zip(histogram.counts.clone())
                .filter(|(_, count)| *count > 0)
                .collect()
        };
        let named = |pairs: &[(&str, usize)]| -> Vec<(String, usize)> {
            pairs.iter().map(|(n, c)| (n.to_string(), *c)).collect()
        };
        assert_eq!(
            filled(&counted.boxes_per_image, true),
            named(&[("0", 1), ("1", 1), ("2", 1)])
        );
        assert_eq!(
            filled(&counted.box_aspects, false),
            named(&[("0.5-0.667", 1), ("0.8-1.25", 1), ("2-3", 1)])
        );
        assert_eq!(
            filled(&counted.box_sides, false),
            named(&[("8-16", 1), ("96-128", 1), ("128-192", 1)])
        );
        assert_eq!(counted.boxes_per_image.labels(true)[4], "5-8");
        assert_eq!(counted.boxes_per_image.labels(true).last().unwrap(), "129+");
    }
}
