//! Gate statistics over a dataset.

use serde::{Deserialize, Serialize};

use super::blocks::SeBlock;
use crate::spec::NetworkConfig;
use sedet_nn::nn::se::GateFunction;

/// The number of histogram bins per channel.
pub const BINS: usize = 50;

/// The upper limit of the histogram of ReLU gates, which are unbounded.
const RELU_END: f32 = 4.0;

/// The number of images with the smallest gates, and with the largest gates, stored per channel.
pub const EXTREME_IMAGES: usize = 5;

/// The number of channels with the smallest gates in a summary.
const WEAKEST: usize = 10;

/// Returns the smallest and the largest value of a gate, which are the limits of its histogram. Larger ReLU
/// gates are counted in the last bin.
pub fn gate_range(gate: GateFunction) -> [f32; 2] {
    let (lowest, highest) = gate.limits();
    [lowest, highest.unwrap_or(RELU_END)]
}

/// The thresholds of [`ChannelFlags`] and of weak channels. They apply to absolute values, which differ from
/// the values for tanh gates only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// The gate of a dead channel is at most this for every image.
    pub dead: f32,
    /// The gate of a saturated channel is at least this share of its limit for every image, with the same sign.
    /// The limit is 1, and 2 for units that started as identity. ReLU gates have no upper limit and never
    /// saturate.
    pub saturated: f32,
    /// The standard deviation over images of a low-variance channel is below this.
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

impl Thresholds {
    fn saturation(&self, gate: GateFunction) -> Option<f32> {
        let (_, limit) = gate.limits();
        Some(self.saturated * limit?)
    }
}

/// The network and the images that were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The network; none if this version cannot build it, whose gates can be shown nevertheless.
    #[serde(with = "stored_network")]
    pub network: Option<NetworkConfig>,
    /// The dataset, as the user named it.
    pub dataset: String,
    /// The split.
    pub split: String,
    /// The number of measured images.
    pub images: u64,
    /// The class names of the dataset, by label.
    pub classes: Vec<String>,
}

/// The network of an excitation file: its configuration alone. The fields show the task.
mod stored_network {
    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::classification::classifier::ClassifierConfig;
    use crate::detection::faster_rcnn::FasterRcnnConfig;
    use crate::spec::NetworkConfig;

    pub(super) fn serialize<S: Serializer>(
        network: &Option<NetworkConfig>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match network {
            Some(NetworkConfig::Classification(config)) => config.serialize(serializer),
            Some(NetworkConfig::Detection(config)) => config.serialize(serializer),
            None => serializer.serialize_none(),
        }
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Detection(Box<FasterRcnnConfig>),
        Classification(Box<ClassifierConfig>),
        Unknown(IgnoredAny),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NetworkConfig>, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Detection(config) => Some(NetworkConfig::Detection(*config)),
            Stored::Classification(config) => Some(NetworkConfig::Classification(*config)),
            Stored::Unknown(_) => None,
        })
    }
}

/// Statistics of each channel over images; zeros if there were none. Each vector is `[channels]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStatistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Population standard deviation (divided by the number of images).
    pub std: Vec<f32>,
    /// Minimum.
    pub minimum: Vec<f32>,
    /// Maximum.
    pub maximum: Vec<f32>,
}

impl ChannelStatistics {
    pub(super) fn zeros(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self {
            mean: zeros.clone(),
            std: zeros.clone(),
            minimum: zeros.clone(),
            maximum: zeros,
        }
    }
}

/// The gate statistics of a network over a dataset (SENet paper, section 7.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Excitation {
    /// The network and the images.
    pub origin: Origin,
    /// The gate function.
    pub gate: GateFunction,
    /// The thresholds of flagged and weak channels.
    pub thresholds: Thresholds,
    /// The SE blocks in the order of the forward pass; at least one.
    pub blocks: Vec<BlockStatistics>,
}

impl Excitation {
    /// Returns the number of images of each class, which is the same in every block.
    pub fn class_counts(&self) -> &[u32] {
        self.blocks.first().map_or(&[], |block| &block.class_count)
    }

    /// Returns the flags of each channel of a block.
    ///
    /// # Panics
    /// If the block does not exist.
    pub fn channel_flags(&self, block: usize) -> Vec<ChannelFlags> {
        self.blocks[block].channel_flags(self.gate, &self.thresholds, self.has_std())
    }

    /// Returns whether the standard deviations over images mean something: those of one image are 0.
    pub fn has_std(&self) -> bool {
        self.origin.images > 1
    }

    /// Returns the gate from which a channel counts as saturated; none for ReLU gates.
    pub fn saturation(&self) -> Option<f32> {
        self.thresholds.saturation(self.gate)
    }

    /// Summarizes each block.
    pub fn summaries(&self) -> Vec<BlockSummary> {
        let has_std = self.has_std();
        let summary = |block: &BlockStatistics| block.summary(self.gate, &self.thresholds, has_std);
        self.blocks.iter().map(summary).collect()
    }

    /// Returns the statistics of each channel as CSV: block, channel, mean, std, min, max, selectivity. The
    /// last one is empty where it is undefined, and `std` for one image.
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
                let [mean, mut std, min, max] = [&all.mean, &all.std, &all.minimum, &all.maximum]
                    .map(|values| values[channel].to_string());
                if !self.has_std() {
                    std.clear();
                }
                let selectivity = selectivity.map(|s| s.to_string()).unwrap_or_default();
                let channel = channel.to_string();
                rows.push([name.clone(), channel, mean, std, min, max, selectivity]);
            }
        }
        sedet_data::csv::to_csv(rows)
    }
}

/// The gate statistics of one SE block over a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockStatistics {
    /// The block.
    pub block: SeBlock,
    /// Statistics over all images.
    pub all: ChannelStatistics,
    /// `[channels, BINS]`: the number of images in each of the equal bins of [`gate_range`].
    pub histogram: Vec<u32>,
    /// For each channel the indices in the split of the [`EXTREME_IMAGES`] images with the smallest gates,
    /// smallest first. Of equal gates the first image comes first.
    pub lowest: Vec<Vec<u32>>,
    /// For each channel the images with the largest gates, largest first.
    pub highest: Vec<Vec<u32>>,
    /// The number of images of each class.
    pub class_count: Vec<u32>,
    /// Statistics over the images of each class.
    pub classes: Vec<ChannelStatistics>,
}

/// The special cases that a channel belongs to; see [`Thresholds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelFlags {
    /// The gate is near 0 for every image.
    pub dead: bool,
    /// The gate is near its limit for every image.
    pub saturated: bool,
    /// The gate hardly depends on the image.
    pub low_variance: bool,
}

impl ChannelFlags {
    /// Returns the name of the most specific flag that is set: a dead or saturated channel usually has a low
    /// variance too.
    pub const fn name(self) -> Option<&'static str> {
        if self.dead {
            Some("dead")
        } else if self.saturated {
            Some("saturated")
        } else if self.low_variance {
            Some("low variance")
        } else {
            None
        }
    }
}

/// A channel with its mean gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeakChannel {
    /// The channel.
    pub channel: usize,
    /// Mean over all images.
    pub mean: f32,
}

/// The summary of a block.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockSummary {
    /// The name of the block.
    pub block: String,
    /// The module path in the checkpoint.
    pub path: String,
    /// The number of channels.
    pub channels: usize,
    /// Mean over the channels of their means.
    pub mean: f64,
    /// Mean over the channels of their standard deviations over images; `None` for one image.
    pub std: Option<f64>,
    /// The number of dead channels: see [`ChannelFlags`].
    pub dead: usize,
    /// The number of saturated channels.
    pub saturated: usize,
    /// The number of low-variance channels; `None` for one image.
    pub low_variance: Option<usize>,
    /// Mean over the channels of their class selectivity; `None` if fewer than two classes have images, and
    /// for gates that can be negative.
    pub selectivity: Option<f64>,
    /// Share of the channels whose mean gate is below [`Thresholds::weak`].
    pub weak_share: f64,
    /// The channels with the smallest mean gates, smallest first: the first candidates for pruning.
    pub weakest: Vec<WeakChannel>,
}

impl BlockStatistics {
    /// Returns the means of each class that has images.
    fn present(&self) -> Vec<&[f32]> {
        let classes = self.classes.iter().zip(&self.class_count);
        classes
            .filter(|(_, count)| **count > 0)
            .map(|(class, _)| class.mean.as_slice())
            .collect()
    }

    /// Returns the mean of each channel over the classes that have images, all with the same weight: "all" in
    /// figure 6 of the SENet paper. Without such classes it is the mean over images.
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

    /// Returns the class selectivity index of each channel (Morcos et al. 2018, "On the importance of single
    /// directions for generalization"): `(max - rest) / (max + rest)`, where `max` is the largest class
    /// mean and `rest` the mean of the other class means. It is 0 if all classes have the same mean and 1
    /// if the gate is active for one class only.
    ///
    /// It is `None` if fewer than two classes have images, if all class means are 0, and if one is negative,
    /// since the index is defined for non-negative activations.
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

    /// Returns the flags of each channel.
    fn channel_flags(
        &self,
        gate: GateFunction,
        thresholds: &Thresholds,
        has_std: bool,
    ) -> Vec<ChannelFlags> {
        let ChannelStatistics {
            std,
            minimum,
            maximum,
            ..
        } = &self.all;
        let saturation = thresholds.saturation(gate);
        let flags = |channel: usize| {
            let (smallest, largest) = (minimum[channel], maximum[channel]);
            ChannelFlags {
                dead: smallest.abs().max(largest.abs()) <= thresholds.dead,
                saturated: saturation.is_some_and(|limit| smallest >= limit || largest <= -limit),
                low_variance: has_std && std[channel] < thresholds.low_std,
            }
        };
        (0..self.block.channels).map(flags).collect()
    }

    fn summary(&self, gate: GateFunction, thresholds: &Thresholds, has_std: bool) -> BlockSummary {
        let ChannelStatistics { mean, std, .. } = &self.all;
        let channels = self.block.channels;
        let flags = self.channel_flags(gate, thresholds, has_std);
        let count = |is_set: fn(&ChannelFlags) -> bool| flags.iter().filter(|f| is_set(f)).count();
        let weak = mean.iter().filter(|gate| gate.abs() < thresholds.weak);
        let mut weakest: Vec<WeakChannel> = mean
            .iter()
            .enumerate()
            .map(|(channel, &mean)| WeakChannel { channel, mean })
            .collect();
        weakest.sort_by(|a, b| a.mean.abs().total_cmp(&b.mean.abs()));
        weakest.truncate(WEAKEST);
        let (lowest, _) = gate.limits();
        let selectivity: Option<Vec<f32>> =
            (lowest >= 0.0).then(|| self.selectivity().into_iter().flatten().collect());
        BlockSummary {
            block: self.block.name.clone(),
            path: self.block.path.clone(),
            channels,
            mean: mean_of(mean).unwrap_or_default(),
            std: mean_of(std).filter(|_| has_std),
            dead: count(|flags| flags.dead),
            saturated: count(|flags| flags.saturated),
            low_variance: has_std.then(|| count(|flags| flags.low_variance)),
            selectivity: selectivity.and_then(|values| mean_of(&values)),
            weak_share: weak.count() as f64 / channels.max(1) as f64,
            weakest,
        }
    }
}

fn mean_of(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().copied().map(f64::from).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo::backbone;
    use crate::classification::classifier::ClassifierConfig;
    use crate::detection::faster_rcnn::{FasterRcnnConfig, Preset};
    use crate::excitation::collector::tests::gathered;
    use sedet_nn::nn::se::{Gate, SeStart};

    fn summary(
        gate: impl Into<GateFunction>,
        rows: &[Vec<f32>],
        classes: &[Vec<usize>],
    ) -> BlockSummary {
        let mut found = gathered(gate, rows, classes, 3, 2).summaries();
        found.remove(0)
    }

    #[test]
    fn the_network_of_a_file_is_a_classifier_a_detector_or_unknown() {
        let origin = |network: &str| {
            let text = format!(
                r#"{{"network": {network}, "dataset": "pets", "split": "val", "images": 1, "classes": []}}"#
            );
            serde_json::from_str::<Origin>(&text).unwrap()
        };
        let backbone = backbone("se-resnet18").unwrap();
        for network in [
            NetworkConfig::Classification(ClassifierConfig::new(backbone.clone(), 3)),
            NetworkConfig::Detection(FasterRcnnConfig::new(Preset::Torchvision, backbone, 2)),
        ] {
            let written = serde_json::to_value(Origin {
                network: Some(network.clone()),
                ..origin("null")
            });
            // A Value sorts the keys, as files of earlier versions have them.
            let written = written.unwrap()["network"].to_string();
            assert_eq!(origin(&written).network, Some(network));
        }
        for unknown in ["null", r#"{"family": "later"}"#] {
            assert_eq!(origin(unknown).network, None);
        }
    }

    #[test]
    fn selectivity_is_the_index_of_morcos_over_the_classes_with_images() {
        let rows = [
            vec![0.2, 0.5, 0.0],
            vec![0.8, 0.5, 0.0],
            vec![0.4, 0.5, 0.0],
        ];
        // The third class has no image.
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
    fn one_image_has_no_deviation() {
        let found = gathered(Gate::Sigmoid, &[vec![0.25]], &[vec![0]], 1, 1);
        let summary = &found.summaries()[0];
        assert_eq!((summary.std, summary.low_variance), (None, None));
        assert_eq!(found.channel_flags(0)[0].name(), None);
        assert!(found.to_csv().ends_with("SE_2_1,0,0.25,,0.25,0.25,\n"));
        let json = serde_json::json!(summary);
        assert!(json["std"].is_null() && json["low_variance"].is_null());
    }

    #[test]
    fn dead_saturated_low_variance_and_weak_channels_are_counted() {
        let rows = [vec![0.001, 0.995, 0.3, 0.0], vec![0.009, 1.0, 0.5, 0.15]];
        let classes = [vec![0], vec![1]];
        let found = summary(Gate::Sigmoid, &rows, &classes);
        assert_eq!(
            (found.dead, found.saturated, found.low_variance),
            (1, 1, Some(2))
        );
        assert_eq!(found.weak_share, 0.5);
        let order: Vec<usize> = found.weakest.iter().map(|weak| weak.channel).collect();
        assert_eq!(order, [0, 3, 2, 1]);
        assert_eq!(summary(Gate::Relu, &rows, &classes).saturated, 0);
        let closed = [vec![-1.0], vec![-0.995]];
        assert_eq!(summary(Gate::Tanh, &closed, &classes).saturated, 1);
        // Gates of units that started as identity are 1 in the beginning and reach to 2.
        let grafted = GateFunction {
            start: SeStart::Identity,
            ..GateFunction::default()
        };
        for (gate, saturated) in [(1.0, 0), (1.97, 0), (1.99, 1)] {
            let found = summary(grafted, &[vec![gate], vec![gate]], &classes);
            assert_eq!(found.saturated, saturated, "{gate}");
        }
    }
}
