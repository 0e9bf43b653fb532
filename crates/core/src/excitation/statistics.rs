//! Statistics of gates that need no memory for the images they are of.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::ExcitationError;
use super::blocks::SeBlock;
use sedet_nn::nn::recording::RecordedUnit;
use sedet_nn::nn::se::Gate;

/// Bins of a channel's histogram.
pub const BINS: usize = 50;

/// The end of the histogram of ReLU gates, which have no largest value.
const RELU_END: f32 = 4.0;

/// So many images with the smallest, and as many with the largest gates are kept of each channel.
pub const EXTREME_IMAGES: usize = 5;

/// So many channels with the smallest gates are listed.
const WEAKEST: usize = 10;

/// Smallest and largest value of a gate, and of its histogram. ReLU gates beyond it count in the
/// last bin.
pub fn gate_range(gate: Gate) -> [f32; 2] {
    match gate {
        Gate::Sigmoid => [0.0, 1.0],
        Gate::Tanh => [-1.0, 1.0],
        Gate::Relu => [0.0, RELU_END],
    }
}

/// From where on a channel counts as remarkable. All are of the absolute value, which plays a part
/// for tanh gates alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// A dead channel's gate is at most this for every image.
    pub dead: f32,
    /// A saturated channel's gate is at least this for every image, and of one sign. Gates that
    /// have an upper end only: ReLU's never saturate.
    pub saturated: f32,
    /// The standard deviation over images of a channel of low variance is below this.
    pub low_std: f32,
    /// The mean gate of a weak channel, a candidate for pruning, is below this.
    pub weak: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            dead: 0.01,
            saturated: 0.99,
            low_std: 0.01,
            weak: 0.1,
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The network as its checkpoint describes it.
    pub network: serde_json::Value,
    /// The dataset, as a person named it.
    pub dataset: String,
    /// Its split.
    pub split: String,
    /// How many of its images.
    pub images: u64,
    /// The dataset's classes by label.
    pub classes: Vec<String>,
}

/// Count, mean, standard deviation and extremes of rows of equal length, one row at a time (Welford 1962).
#[derive(Debug, Clone)]
struct Moments {
    count: u32,
    mean: Vec<f64>,
    /// Sum of the squared distances from the mean.
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

/// Of each channel over images; zeros where there were none.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStatistics {
    /// `[channels]`.
    pub mean: Vec<f32>,
    /// `[channels]`; of the population (divided by the number of images).
    pub std: Vec<f32>,
    /// `[channels]`.
    pub minimum: Vec<f32>,
    /// `[channels]`.
    pub maximum: Vec<f32>,
}

impl ChannelStatistics {
    fn zeros(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self {
            mean: zeros.clone(),
            std: zeros.clone(),
            minimum: zeros.clone(),
            maximum: zeros,
        }
    }
}

/// An image that gates are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenImage {
    /// Its position in the split.
    pub position: u32,
    /// The labels of its classes, each once; those that are not among the classes are passed over.
    pub classes: Vec<usize>,
}

/// The images at one end of the gates of each channel so far, the outermost first; of equal gates
/// the first image.
#[derive(Debug, Clone)]
struct Extremes {
    /// Which of two gates lies further out.
    is_further: fn(f32, f32) -> bool,
    /// At most [`EXTREME_IMAGES`] of each channel, with their gates.
    channels: Vec<Vec<(f32, u32)>>,
}

impl Extremes {
    fn new(channels: usize, is_further: fn(f32, f32) -> bool) -> Self {
        Self {
            is_further,
            channels: vec![Vec::with_capacity(EXTREME_IMAGES); channels],
        }
    }

    fn add(&mut self, row: &[f32], position: u32) {
        for (kept, &gate) in self.channels.iter_mut().zip(row) {
            let is_before = |&(other, at): &(f32, u32)| {
                (self.is_further)(other, gate) || (other == gate && at < position)
            };
            let place = kept.partition_point(is_before);
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

/// The gates of one unit so far.
#[derive(Debug, Clone)]
struct Accumulator {
    block: SeBlock,
    range: [f32; 2],
    all: Moments,
    /// `[channels, BINS]`.
    histogram: Vec<u32>,
    lowest: Extremes,
    highest: Extremes,
    /// By label; none before the first image of a class.
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
    fn add(&mut self, gates: &[f32], pictures: &[SeenImage]) -> Result<(), ExcitationError> {
        let (channels, name) = (self.block.channels, &self.block.name);
        if gates.len() != channels * pictures.len() {
            return Err(ExcitationError::Shape {
                block: name.clone(),
                expected: channels * pictures.len(),
                found: gates.len(),
            });
        }
        if !gates.iter().all(|gate| gate.is_finite()) {
            return Err(ExcitationError::NotFinite {
                block: name.clone(),
            });
        }
        for (row, image) in gates.chunks(channels.max(1)).zip(pictures) {
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
    // A negative number becomes 0.
    let place = ((gate - start) / (end - start) * BINS as f32) as usize;
    place.min(BINS - 1)
}

/// Gathers the gates of a network, batch by batch. What it needs grows with channels and classes
/// and not with images: about 24 bytes for each channel and class that has an image, and 80 for
/// the outermost images of each channel.
#[derive(Debug, Clone)]
pub struct Collector {
    gate: Gate,
    images: u64,
    units: Vec<Accumulator>,
}

impl Collector {
    /// For the units of a network with this kind of gate, and images of so many classes.
    ///
    /// # Errors
    /// [`ExcitationError::NoUnits`].
    pub fn new(blocks: Vec<SeBlock>, gate: Gate, classes: usize) -> Result<Self, ExcitationError> {
        if blocks.is_empty() {
            return Err(ExcitationError::NoUnits);
        }
        let unit = |block| Accumulator::new(block, gate_range(gate), classes);
        Ok(Self {
            gate,
            images: 0,
            units: blocks.into_iter().map(unit).collect(),
        })
    }

    /// How many images it has seen.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// What every unit did in one forward pass with these images.
    ///
    /// # Errors
    /// The recording is of another network, or a gate is not finite. The collector is then of no
    /// further use.
    pub fn add(
        &mut self,
        recorded: Vec<RecordedUnit>,
        images: &[SeenImage],
    ) -> Result<(), ExcitationError> {
        let gates = recorded.into_iter().map(|unit| gate_rows(unit.gates));
        self.add_rows(&gates.collect::<Vec<_>>(), images)
    }

    /// The same with the gates of each unit as rows, `[images, channels]`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_rows(
        &mut self,
        gates: &[Vec<f32>],
        images: &[SeenImage],
    ) -> Result<(), ExcitationError> {
        if gates.len() != self.units.len() {
            return Err(ExcitationError::Units {
                expected: self.units.len(),
                recorded: gates.len(),
            });
        }
        for (unit, gates) in self.units.iter_mut().zip(gates) {
            unit.add(gates, images)?;
        }
        self.images += images.len() as u64;
        Ok(())
    }

    /// The statistics. `origin.images` is set to what was seen.
    pub fn finish(self, origin: Origin) -> Excitation {
        Excitation {
            origin: Origin {
                images: self.images,
                ..origin
            },
            gate: self.gate,
            thresholds: Thresholds::default(),
            blocks: self.units.into_iter().map(Accumulator::finish).collect(),
        }
    }
}

/// Gates `[batch, channels, height, width]` as rows of channels. A unit that does not squeeze has
/// one for each pixel; their mean stands for them.
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

/// What the SE units of a network did over a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Excitation {
    /// Of which network and images.
    pub origin: Origin,
    /// The kind of the gates.
    pub gate: Gate,
    /// What counts as dead and so on.
    pub thresholds: Thresholds,
    /// Of each unit, in the order of the forward pass; at least one.
    pub blocks: Vec<BlockStatistics>,
}

impl Excitation {
    /// How many images each class has: the same in every block.
    pub fn class_counts(&self) -> &[u32] {
        self.blocks.first().map_or(&[], |block| &block.class_count)
    }

    /// What is remarkable in each block.
    pub fn summaries(&self) -> Vec<BlockSummary> {
        let summary = |block: &BlockStatistics| block.summary(self.gate, &self.thresholds);
        self.blocks.iter().map(summary).collect()
    }

    /// A line for each channel of each block, with a heading: block, channel, mean, std, min, max,
    /// selectivity (empty where it means nothing).
    pub fn to_csv(&self) -> String {
        let head = [
            "block",
            "channel",
            "mean",
            "std",
            "min",
            "max",
            "selectivity",
        ];
        let mut rows = vec![head.map(String::from)];
        for block in &self.blocks {
            let (name, all) = (&block.block.name, &block.all);
            for (channel, selectivity) in block.selectivity().into_iter().enumerate() {
                let [mean, std, min, max] = [&all.mean, &all.std, &all.minimum, &all.maximum]
                    .map(|values| values[channel].to_string());
                let selectivity = selectivity.map(|s| s.to_string()).unwrap_or_default();
                let channel = channel.to_string();
                rows.push([name.clone(), channel, mean, std, min, max, selectivity]);
            }
        }
        sedet_data::csv::to_csv(rows)
    }
}

/// The gates of one unit over a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStatistics {
    /// Which unit.
    pub block: SeBlock,
    /// Over all images.
    pub all: ChannelStatistics,
    /// `[channels, BINS]`: images whose gate is in each of the equal parts of [`gate_range`].
    pub histogram: Vec<u32>,
    /// By channel: positions in the split of the images with the smallest gates, smallest first; of
    /// equal gates the first image. [`EXTREME_IMAGES`], or all where there are fewer.
    pub lowest: Vec<Vec<u32>>,
    /// The same with the largest gates, largest first.
    pub highest: Vec<Vec<u32>>,
    /// Images of each class.
    pub class_count: Vec<u32>,
    /// Over the images of each class.
    pub classes: Vec<ChannelStatistics>,
}

/// A channel and its mean gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeakChannel {
    /// Index.
    pub channel: usize,
    /// Over all images.
    pub mean: f32,
}

/// What is remarkable in a block.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockSummary {
    /// The unit's name.
    pub block: String,
    /// Its path in the checkpoint.
    pub path: String,
    /// Its channels.
    pub channels: usize,
    /// Mean over the channels of their means.
    pub mean: f64,
    /// Mean over the channels of their standard deviations over images.
    pub std: f64,
    /// Channels whose gate is always near 0.
    pub dead: usize,
    /// Channels whose gate is always near its upper end.
    pub saturated: usize,
    /// Channels whose gate hardly depends on the image.
    pub low_variance: usize,
    /// Mean over the channels of their class selectivity; none without two classes that have
    /// images, and for gates that can be negative.
    pub selectivity: Option<f64>,
    /// Share of the channels whose mean gate is below [`Thresholds::weak`].
    pub weak_share: f64,
    /// The channels with the smallest mean gates, smallest first: what pruning would take first.
    pub weakest: Vec<WeakChannel>,
}

impl BlockStatistics {
    /// Means of the classes that have images, one row each.
    fn present(&self) -> Vec<&[f32]> {
        let classes = self.classes.iter().zip(&self.class_count);
        classes
            .filter(|(_, count)| **count > 0)
            .map(|(class, _)| class.mean.as_slice())
            .collect()
    }

    /// The mean of each channel over classes, all classes with images having the same weight:
    /// "all" in the paper's figure 6. Without any the mean over images.
    pub fn mean_of_classes(&self) -> Vec<f32> {
        let present = self.present();
        if present.is_empty() {
            return self.all.mean.clone();
        }
        let mean = |channel: usize| {
            let sum: f64 = present.iter().map(|row| f64::from(row[channel])).sum();
            (sum / present.len() as f64) as f32
        };
        (0..self.block.channels).map(mean).collect()
    }

    /// The class selectivity index of each channel (Morcos et al. 2018, "On the importance of
    /// single directions for generalization"): `(max - rest) / (max + rest)`, where `max` is the
    /// largest class mean and `rest` the mean of the other class means. 0: all classes alike, 1:
    /// open for one class only.
    ///
    /// None with less than two classes that have images, for a channel that is zero for all of
    /// them, and where a mean is negative: the index is defined for activations from 0 up.
    pub fn selectivity(&self) -> Vec<Option<f32>> {
        let present = self.present();
        let of_channel = |channel: usize| {
            let means = present.iter().map(|row| f64::from(row[channel]));
            let (mut sum, mut largest, mut smallest) = (0.0, f64::NEG_INFINITY, f64::INFINITY);
            for mean in means {
                sum += mean;
                largest = mean.max(largest);
                smallest = mean.min(smallest);
            }
            if present.len() < 2 || smallest < 0.0 || largest <= 0.0 {
                return None;
            }
            let rest = (sum - largest) / (present.len() - 1) as f64;
            Some(((largest - rest) / (largest + rest)) as f32)
        };
        (0..self.block.channels).map(of_channel).collect()
    }

    /// Whether a channel's gate is nearly 0 for every image.
    pub fn is_dead(&self, channel: usize, thresholds: &Thresholds) -> bool {
        let ChannelStatistics {
            minimum, maximum, ..
        } = &self.all;
        minimum[channel].abs().max(maximum[channel].abs()) <= thresholds.dead
    }

    /// Whether a channel's gate is at its end for every image; ReLU's has none.
    pub fn is_saturated(&self, channel: usize, gate: Gate, thresholds: &Thresholds) -> bool {
        let limit = thresholds.saturated;
        match gate {
            Gate::Relu => false,
            Gate::Sigmoid | Gate::Tanh => {
                self.all.minimum[channel] >= limit || self.all.maximum[channel] <= -limit
            }
        }
    }

    /// Whether a channel's gate hardly depends on the image.
    pub fn has_low_variance(&self, channel: usize, thresholds: &Thresholds) -> bool {
        self.all.std[channel] < thresholds.low_std
    }

    fn summary(&self, gate: Gate, thresholds: &Thresholds) -> BlockSummary {
        let ChannelStatistics { mean, std, .. } = &self.all;
        let channels = self.block.channels;
        let count = |is: &dyn Fn(usize) -> bool| (0..channels).filter(|&c| is(c)).count();
        let is_weak = |c: usize| mean[c].abs() < thresholds.weak;
        let mut weakest: Vec<WeakChannel> = mean
            .iter()
            .enumerate()
            .map(|(channel, &mean)| WeakChannel { channel, mean })
            .collect();
        weakest.sort_by(|a, b| a.mean.abs().total_cmp(&b.mean.abs()));
        weakest.truncate(WEAKEST);
        let selectivity: Option<Vec<f32>> = match gate {
            Gate::Tanh => None,
            Gate::Sigmoid | Gate::Relu => Some(self.selectivity().into_iter().flatten().collect()),
        };
        BlockSummary {
            block: self.block.name.clone(),
            path: self.block.path.clone(),
            channels,
            mean: mean_of(mean).unwrap_or_default(),
            std: mean_of(std).unwrap_or_default(),
            dead: count(&|c| self.is_dead(c, thresholds)),
            saturated: count(&|c| self.is_saturated(c, gate, thresholds)),
            low_variance: count(&|c| self.has_low_variance(c, thresholds)),
            selectivity: selectivity.and_then(|values| mean_of(&values)),
            weak_share: count(&is_weak) as f64 / channels.max(1) as f64,
            weakest,
        }
    }
}

fn mean_of(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().copied().map(f64::from).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

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
            network: serde_json::json!({"family": "resnet"}),
            dataset: "pets".into(),
            split: "val".into(),
            images: 0,
            classes: (0..classes).map(|c| format!("class {c}")).collect(),
        }
    }

    /// Images one after the other.
    fn seen_images(classes: &[Vec<usize>]) -> Vec<SeenImage> {
        let pictures = classes.iter().zip(0..);
        pictures
            .map(|(classes, position)| SeenImage {
                position,
                classes: classes.clone(),
            })
            .collect()
    }

    /// One block; `rows` are images of `classes`, fed in batches of this size.
    pub(crate) fn gathered(
        gate: Gate,
        rows: &[Vec<f32>],
        classes: &[Vec<usize>],
        class_count: usize,
        batch: usize,
    ) -> Excitation {
        let blocks = vec![block("SE_2_1", rows[0].len())];
        let mut collector = Collector::new(blocks, gate, class_count).unwrap();
        let pictures = seen_images(classes);
        for (rows, pictures) in rows.chunks(batch).zip(pictures.chunks(batch)) {
            collector.add_rows(&[rows.concat()], pictures).unwrap();
        }
        assert_eq!(collector.images(), rows.len() as u64);
        collector.finish(origin(class_count))
    }

    /// Mean, population standard deviation, minimum and maximum in one go.
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
        fn streamed_statistics_equal_those_in_one_go_whatever_the_batches(
            pictures in prop::collection::vec(
                (prop::collection::vec(0.0f32..=1.0, 3), prop::collection::btree_set(0usize..4, 0..3)),
                1..40,
            ),
            batch in 1usize..41,
        ) {
            let rows: Vec<Vec<f32>> = pictures.iter().map(|(row, _)| row.clone()).collect();
            let classes: Vec<Vec<usize>> =
                pictures.iter().map(|(_, set)| set.iter().copied().collect()).collect();
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

    /// Positions by gate, sorted all at once: smallest first, or largest.
    fn sorted(rows: &[Vec<f32>], channel: usize, sign: f32) -> Vec<u32> {
        let mut positions: Vec<u32> = (0..rows.len() as u32).collect();
        // Stable: of equals the first.
        positions.sort_by(|&a, &b| {
            let [a, b] = [a, b].map(|position| sign * rows[position as usize][channel]);
            a.total_cmp(&b)
        });
        positions.truncate(EXTREME_IMAGES);
        positions
    }

    proptest! {
        #[test]
        fn the_outermost_images_are_those_of_sorting_all_at_once(
            // Few values, so that many are equal.
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
    fn the_order_in_which_images_come_does_not_choose_between_equal_gates() {
        let mut collector = Collector::new(vec![block("SE_2_1", 1)], Gate::Sigmoid, 0).unwrap();
        let mut pictures = seen_images(&vec![vec![]; 9]);
        pictures.reverse();
        collector.add_rows(&[vec![0.5; 9]], &pictures).unwrap();
        let found = collector.finish(origin(0));
        assert_eq!(found.blocks[0].lowest, [[0, 1, 2, 3, 4]]);
        assert_eq!(found.blocks[0].highest, [[0, 1, 2, 3, 4]]);
    }

    fn summary(gate: Gate, rows: &[Vec<f32>], classes: &[Vec<usize>]) -> BlockSummary {
        let mut found = gathered(gate, rows, classes, 3, 2).summaries();
        found.remove(0)
    }

    #[test]
    fn selectivity_is_that_of_morcos_over_the_classes_that_have_images() {
        let rows = [
            vec![0.2, 0.5, 0.0],
            vec![0.8, 0.5, 0.0],
            vec![0.4, 0.5, 0.0],
        ];
        // The third class has no image; an image may have two classes or none.
        let classes = [vec![0], vec![1], vec![0]];
        let found = gathered(Gate::Sigmoid, &rows, &classes, 3, 3);
        let selectivity = found.blocks[0].selectivity();
        let expected = (0.8 - 0.3) / (0.8 + 0.3);
        assert!((selectivity[0].unwrap() - expected).abs() < 1e-6);
        assert_eq!(&selectivity[1..], [Some(0.0), None]);
        assert!((found.blocks[0].mean_of_classes()[0] - 0.55).abs() < 1e-6);
        let one_class = gathered(Gate::Sigmoid, &rows, &vec![vec![1]; 3], 3, 3);
        assert_eq!(one_class.blocks[0].selectivity(), [None; 3]);
        assert_eq!(summary(Gate::Tanh, &rows, &classes).selectivity, None);
        let csv = found.to_csv();
        assert_eq!(csv.lines().count(), 4);
        assert!(csv.ends_with("SE_2_1,2,0,0,0,0,\n"), "{csv}");
    }

    #[test]
    fn dead_saturated_quiet_and_weak_channels_are_counted() {
        let rows = [vec![0.001, 0.995, 0.3, 0.0], vec![0.009, 1.0, 0.5, 0.15]];
        let classes = [vec![0], vec![1]];
        let found = summary(Gate::Sigmoid, &rows, &classes);
        assert_eq!((found.dead, found.saturated, found.low_variance), (1, 1, 2));
        assert_eq!(found.weak_share, 0.5);
        let order: Vec<usize> = found.weakest.iter().map(|weak| weak.channel).collect();
        assert_eq!(order, [0, 3, 2, 1]);
        assert_eq!(summary(Gate::Relu, &rows, &classes).saturated, 0);
        let closed = [vec![-1.0], vec![-0.995]];
        assert_eq!(summary(Gate::Tanh, &closed, &classes).saturated, 1);
    }

    #[test]
    fn a_histogram_covers_the_gate_s_range_and_relu_s_last_bin_what_is_beyond() {
        for (gate, value, expected) in [
            (Gate::Sigmoid, 0.0, 0),
            (Gate::Sigmoid, 1.0, BINS - 1),
            (Gate::Tanh, -1.0, 0),
            (Gate::Tanh, 0.01, BINS / 2),
            (Gate::Relu, 1e9, BINS - 1),
        ] {
            let found = gathered(gate, &[vec![value]], &[vec![]], 0, 1);
            let filled = found.blocks[0].histogram.iter().position(|&n| n == 1);
            assert_eq!(filled, Some(expected), "{gate:?} {value}");
        }
    }

    #[test]
    fn a_wrong_recording_and_gates_that_are_no_numbers_are_errors() {
        let mut collector = Collector::new(vec![block("SE_2_1", 2)], Gate::Sigmoid, 1).unwrap();
        let one = seen_images(&[vec![0]]);
        let message = |found: Result<(), ExcitationError>| found.unwrap_err().to_string();
        assert!(message(collector.add_rows(&[], &one)).starts_with("0 SE units"));
        let short = collector.add_rows(&[vec![0.5]], &one);
        assert!(message(short).contains("gates of 1 values where 2"));
        let broken = collector.add_rows(&[vec![0.5, f32::NAN]], &one);
        assert!(message(broken).starts_with("SE_2_1: a gate is not finite"));
        let plain = Collector::new(Vec::new(), Gate::Sigmoid, 1).unwrap_err();
        assert!(plain.to_string().contains("no SE units"));
    }
}
