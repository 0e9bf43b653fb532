//! Streaming statistics of gates: memory grows with channels and classes, not with images.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::ExcitationError;
use super::blocks::SeBlock;
use super::statistics::{
    BINS, BlockStatistics, ChannelStatistics, EXTREME_IMAGES, Excitation, Origin, Thresholds,
    gate_range,
};
use sedet_nn::nn::se::GateFunction;

/// A measured image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenImage {
    /// The index in the split.
    pub position: u32,
    /// The labels of its classes, each once. Unknown labels are ignored.
    pub classes: Vec<usize>,
}

/// Count, mean, variance, minimum and maximum of rows of equal length, updated one row at a time
/// (Welford 1962).
#[derive(Debug, Clone)]
struct Moments {
    count: u32,
    mean: Vec<f64>,
    /// Sums of squared deviations from the mean.
    squares: Vec<f64>,
    minimum: Vec<f32>,
    maximum: Vec<f32>,
}

impl Moments {
    fn new(length: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.0; length],
            squares: vec![0.0; length],
            minimum: vec![f32::INFINITY; length],
            maximum: vec![f32::NEG_INFINITY; length],
        }
    }

    fn add(&mut self, row: &[f32]) {
        self.count += 1;
        let count = f64::from(self.count);
        for (channel, &value) in row.iter().enumerate() {
            let mean = &mut self.mean[channel];
            let before = f64::from(value) - *mean;
            *mean += before / count;
            self.squares[channel] += before * (f64::from(value) - *mean);
            self.minimum[channel] = self.minimum[channel].min(value);
            self.maximum[channel] = self.maximum[channel].max(value);
        }
    }

    fn finish(self) -> ChannelStatistics {
        if self.count == 0 {
            return ChannelStatistics::zeros(self.mean.len());
        }
        let count = f64::from(self.count);
        let std = self.squares.iter();
        ChannelStatistics {
            mean: self.mean.iter().map(|&mean| mean as f32).collect(),
            std: std.map(|sum| (sum / count).sqrt() as f32).collect(),
            minimum: self.minimum,
            maximum: self.maximum,
        }
    }
}

/// The images with the most extreme gates of each channel, the most extreme first. Of equal gates the first
/// image comes first.
#[derive(Debug, Clone)]
struct Extremes {
    /// Returns whether the first gate is more extreme.
    is_more_extreme: fn(f32, f32) -> bool,
    /// At most [`EXTREME_IMAGES`] gates of each channel with their images.
    channels: Vec<Vec<(f32, u32)>>,
}

impl Extremes {
    fn new(channels: usize, is_more_extreme: fn(f32, f32) -> bool) -> Self {
        Self {
            is_more_extreme,
            channels: vec![Vec::with_capacity(EXTREME_IMAGES); channels],
        }
    }

    fn add(&mut self, row: &[f32], position: u32) {
        for (kept, &gate) in self.channels.iter_mut().zip(row) {
            let precedes = |&(other, at): &(f32, u32)| {
                (self.is_more_extreme)(other, gate) || (other == gate && at < position)
            };
            let place = kept.partition_point(precedes);
            if place < EXTREME_IMAGES {
                kept.truncate(EXTREME_IMAGES - 1);
                kept.insert(place, (gate, position));
            }
        }
    }

    fn finish(self) -> Vec<Vec<u32>> {
        let channels = self.channels.into_iter();
        channels
            .map(|kept| kept.into_iter().map(|(_, position)| position).collect())
            .collect()
    }
}

/// The running statistics of one SE block.
#[derive(Debug, Clone)]
struct Accumulator {
    block: SeBlock,
    range: [f32; 2],
    all: Moments,
    /// `[channels, BINS]`.
    histogram: Vec<u32>,
    lowest: Extremes,
    highest: Extremes,
    /// By label; `None` before the first image of a class.
    classes: Vec<Option<Moments>>,
}

impl Accumulator {
    fn new(block: SeBlock, range: [f32; 2], classes: usize) -> Self {
        Self {
            range,
            all: Moments::new(block.channels),
            histogram: vec![0; block.channels * BINS],
            lowest: Extremes::new(block.channels, |gate, other| gate < other),
            highest: Extremes::new(block.channels, |gate, other| gate > other),
            classes: vec![None; classes],
            block,
        }
    }

    /// `gates` is `[images, channels]`.
    fn add(&mut self, gates: &[f32], images: &[SeenImage]) -> Result<(), ExcitationError> {
        let (channels, name) = (self.block.channels, &self.block.name);
        if gates.len() != channels * images.len() {
            return Err(ExcitationError::Shape {
                block: name.clone(),
                expected: channels * images.len(),
                found: gates.len(),
            });
        }
        if !gates.iter().all(|gate| gate.is_finite()) {
            return Err(ExcitationError::NotFinite {
                block: name.clone(),
            });
        }
        for (row, image) in gates.chunks(channels.max(1)).zip(images) {
            self.all.add(row);
            self.lowest.add(row, image.position);
            self.highest.add(row, image.position);
            for (channel, &gate) in row.iter().enumerate() {
                self.histogram[channel * BINS + bin(gate, self.range)] += 1;
            }
            for &class in &image.classes {
                if let Some(moments) = self.classes.get_mut(class) {
                    moments
                        .get_or_insert_with(|| Moments::new(channels))
                        .add(row);
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> BlockStatistics {
        let channels = self.block.channels;
        let count = |moments: &Option<Moments>| moments.as_ref().map_or(0, |m| m.count);
        BlockStatistics {
            class_count: self.classes.iter().map(count).collect(),
            classes: self
                .classes
                .into_iter()
                .map(|moments| {
                    moments.map_or_else(|| ChannelStatistics::zeros(channels), Moments::finish)
                })
                .collect(),
            all: self.all.finish(),
            histogram: self.histogram,
            lowest: self.lowest.finish(),
            highest: self.highest.finish(),
            block: self.block,
        }
    }
}

fn bin(gate: f32, [start, end]: [f32; 2]) -> usize {
    // The cast saturates: negative numbers become 0.
    let place = ((gate - start) / (end - start) * BINS as f32) as usize;
    place.min(BINS - 1)
}

/// Collects the gates of a network, batch by batch.
///
/// Memory grows with channels and classes and not with images: about 24 bytes per channel and class that has
/// images, and 80 bytes per channel for the images with extreme gates.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    gate: GateFunction,
    images: u64,
    blocks: Vec<Accumulator>,
}

impl Collector {
    /// Creates a collector for the SE blocks and the gate function of a network, and this many classes.
    ///
    /// # Errors
    /// [`ExcitationError::NoBlocks`] if there are no blocks.
    pub fn new(
        blocks: Vec<SeBlock>,
        gate: impl Into<GateFunction>,
        classes: usize,
    ) -> Result<Self, ExcitationError> {
        if blocks.is_empty() {
            return Err(ExcitationError::NoBlocks);
        }
        let gate = gate.into();
        let accumulator = |block| Accumulator::new(block, gate_range(gate), classes);
        Ok(Self {
            gate,
            images: 0,
            blocks: blocks.into_iter().map(accumulator).collect(),
        })
    }

    /// Returns the number of collected images.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Adds the gates of these images in each block, `[images, channels]`.
    ///
    /// # Errors
    /// The gates are those of another network, or one is not finite. The collector is inconsistent afterwards.
    pub(crate) fn add_rows(
        &mut self,
        gates: &[Vec<f32>],
        images: &[SeenImage],
    ) -> Result<(), ExcitationError> {
        if gates.len() != self.blocks.len() {
            return Err(ExcitationError::Blocks {
                expected: self.blocks.len(),
                recorded: gates.len(),
            });
        }
        for (block, gates) in self.blocks.iter_mut().zip(gates) {
            block.add(gates, images)?;
        }
        self.images += images.len() as u64;
        Ok(())
    }

    /// Returns the statistics. `origin.images` is replaced by the number of collected images.
    pub fn finish(self, origin: Origin) -> Excitation {
        Excitation {
            origin: Origin {
                images: self.images,
                ..origin
            },
            gate: self.gate,
            thresholds: Thresholds::default(),
            blocks: self.blocks.into_iter().map(Accumulator::finish).collect(),
        }
    }
}

/// Converts gates `[batch, channels, height, width]` to `[batch, channels]`. A block without squeeze has a gate
/// per pixel, of which the mean is taken.
pub(crate) fn gate_rows(gates: Tensor<4>) -> Vec<f32> {
    let [batch, channels, height, width] = gates.dims();
    let rows = match [height, width] {
        [1, 1] => gates.into_data(),
        _ => gates
            .reshape([batch, channels, height * width])
            .mean_dim(2)
            .into_data(),
    };
    rows.iter::<f32>().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use sedet_nn::nn::se::{Gate, SeStart};

    pub(crate) fn block(name: &str, channels: usize) -> SeBlock {
        SeBlock {
            name: name.into(),
            path: format!("backbone.{name}.se"),
            channels,
            stage: None,
        }
    }

    pub(crate) fn origin(classes: usize) -> Origin {
        Origin {
            network: None,
            dataset: "pets".into(),
            split: "val".into(),
            images: 0,
            classes: (0..classes).map(|c| format!("class {c}")).collect(),
        }
    }

    /// Returns consecutive images with these classes.
    fn seen_images(classes: &[Vec<usize>]) -> Vec<SeenImage> {
        let images = classes.iter().zip(0..);
        images
            .map(|(classes, position)| SeenImage {
                position,
                classes: classes.clone(),
            })
            .collect()
    }

    /// Collects the gates `rows` of images with these classes, in batches of this size.
    pub(crate) fn gathered(
        gate: impl Into<GateFunction>,
        rows: &[Vec<f32>],
        classes: &[Vec<usize>],
        class_count: usize,
        batch: usize,
    ) -> Excitation {
        let blocks = vec![block("SE_2_1", rows[0].len())];
        let mut collector = Collector::new(blocks, gate, class_count).unwrap();
        let images = seen_images(classes);
        for (rows, images) in rows.chunks(batch).zip(images.chunks(batch)) {
            collector.add_rows(&[rows.concat()], images).unwrap();
        }
        assert_eq!(collector.images(), rows.len() as u64);
        collector.finish(origin(class_count))
    }

    /// Returns mean, population standard deviation, minimum and maximum of all values at once.
    fn directly(values: &[f32]) -> [f64; 4] {
        let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let minimum = values.iter().copied().fold(f64::INFINITY, f64::min);
        let maximum = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        [mean, variance.sqrt(), minimum, maximum]
    }

    fn assert_same(found: &ChannelStatistics, rows: &[&Vec<f32>]) {
        for channel in 0..found.mean.len() {
            let column: Vec<f32> = rows.iter().map(|row| row[channel]).collect();
            let found = [&found.mean, &found.std, &found.minimum, &found.maximum];
            for (found, expected) in found
                .map(|v| f64::from(v[channel]))
                .iter()
                .zip(directly(&column))
            {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn streamed_statistics_equal_direct_ones_for_any_batch_size(
            images in prop::collection::vec(
                (prop::collection::vec(0.0f32..=1.0, 3), prop::collection::btree_set(0usize..4, 0..3)),
                1..40,
            ),
            batch in 1usize..41,
        ) {
            let rows: Vec<Vec<f32>> = images.iter().map(|(row, _)| row.clone()).collect();
            let classes: Vec<Vec<usize>> =
                images.iter().map(|(_, set)| set.iter().copied().collect()).collect();
            let found = gathered(Gate::Sigmoid, &rows, &classes, 4, batch);
            prop_assert_eq!(&found, &gathered(Gate::Sigmoid, &rows, &classes, 4, 1));
            let block = &found.blocks[0];
            assert_same(&block.all, &rows.iter().collect::<Vec<_>>());
            prop_assert_eq!(block.histogram.iter().sum::<u32>() as usize, 3 * rows.len());
            for class in 0..4 {
                let members: Vec<&Vec<f32>> = rows.iter().zip(&classes)
                    .filter(|(_, c)| c.contains(&class)).map(|(row, _)| row).collect();
                prop_assert_eq!(block.class_count[class] as usize, members.len());
                if !members.is_empty() {
                    assert_same(&block.classes[class], &members);
                }
            }
        }
    }

    /// Returns the images sorted by gate: smallest first, or largest first for a negative sign.
    fn sorted(rows: &[Vec<f32>], channel: usize, sign: f32) -> Vec<u32> {
        let mut positions: Vec<u32> = (0..rows.len() as u32).collect();
        // The sort is stable: of equal gates the first image comes first.
        positions.sort_by(|&a, &b| {
            let [a, b] = [a, b].map(|position| sign * rows[position as usize][channel]);
            a.total_cmp(&b)
        });
        positions.truncate(EXTREME_IMAGES);
        positions
    }

    proptest! {
        #[test]
        fn the_images_with_extreme_gates_equal_those_of_sorting_all(
            // Few different values, so that many gates are equal.
            rows in prop::collection::vec(prop::collection::vec(1u8..6, 2), 1..40),
            batch in 1usize..41,
        ) {
            let rows: Vec<Vec<f32>> =
                rows.iter().map(|row| row.iter().map(|&v| f32::from(v) / 8.0).collect()).collect();
            let found = gathered(Gate::Sigmoid, &rows, &vec![vec![]; rows.len()], 0, batch);
            let block = &found.blocks[0];
            for channel in 0..2 {
                prop_assert_eq!(&block.lowest[channel], &sorted(&rows, channel, 1.0));
                prop_assert_eq!(&block.highest[channel], &sorted(&rows, channel, -1.0));
            }
        }
    }

    #[test]
    fn of_equal_gates_the_first_image_is_kept_in_any_order() {
        let mut collector = Collector::new(vec![block("SE_2_1", 1)], Gate::Sigmoid, 0).unwrap();
        let mut images = seen_images(&vec![vec![]; 9]);
        images.reverse();
        collector.add_rows(&[vec![0.5; 9]], &images).unwrap();
        let found = collector.finish(origin(0));
        assert_eq!(found.blocks[0].lowest, [[0, 1, 2, 3, 4]]);
        assert_eq!(found.blocks[0].highest, [[0, 1, 2, 3, 4]]);
    }

    #[test]
    fn a_histogram_covers_the_range_of_the_gate_and_clamps_larger_relu_gates() {
        let paper = GateFunction::from;
        let grafted = GateFunction {
            start: SeStart::Identity,
            ..GateFunction::default()
        };
        for (gate, value, expected) in [
            (paper(Gate::Sigmoid), 0.0, 0),
            (paper(Gate::Sigmoid), 1.0, BINS - 1),
            (grafted, 1.0, BINS / 2),
            (grafted, 2.0, BINS - 1),
            (paper(Gate::Tanh), -1.0, 0),
            (paper(Gate::Tanh), 0.01, BINS / 2),
            (paper(Gate::Relu), 1e9, BINS - 1),
        ] {
            let found = gathered(gate, &[vec![value]], &[vec![]], 0, 1);
            let filled = found.blocks[0].histogram.iter().position(|&n| n == 1);
            assert_eq!(filled, Some(expected), "{gate:?} {value}");
        }
    }

    #[test]
    fn a_recording_of_another_network_and_non_finite_gates_are_errors() {
        let mut collector = Collector::new(vec![block("SE_2_1", 2)], Gate::Sigmoid, 1).unwrap();
        let one = seen_images(&[vec![0]]);
        let message = |found: Result<(), ExcitationError>| found.unwrap_err().to_string();
        assert!(message(collector.add_rows(&[], &one)).contains("has 0 SE blocks, expected 1"));
        let short = collector.add_rows(&[vec![0.5]], &one);
        assert!(message(short).contains("1 gates, expected 2"));
        let broken = collector.add_rows(&[vec![0.5, f32::NAN]], &one);
        assert!(message(broken).starts_with("SE_2_1: a gate is not finite"));
        let plain = Collector::new(Vec::new(), Gate::Sigmoid, 1).unwrap_err();
        assert!(plain.to_string().contains("no SE blocks"));
    }
}
