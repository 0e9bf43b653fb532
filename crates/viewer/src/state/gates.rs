//! SE gates and feature maps of one image, and what is selected among them.

use std::sync::Arc;

use super::ViewerState;
use sedet_core::excitation::Excitation;
use sedet_core::model::ChannelMap;
use sedet_core::model::RankedClass;
use sedet_data::boxes::BoxXyxy;

/// The gates of one SE block for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockGates {
    /// The name, such as `SE_2_3`.
    pub name: String,
    /// One gate per channel.
    pub gates: Vec<f32>,
}

/// The result of running a network on an image, except for its detections.
#[derive(Debug, Clone)]
pub struct Inference {
    /// Index of the image.
    pub image: usize,
    /// In the order of the forward pass; empty for a network without SE blocks.
    pub blocks: Vec<BlockGates>,
    /// Classifiers: the top classes.
    pub classes: Vec<RankedClass>,
    /// The part of the image that is the input of the network, in pixels.
    pub input_region: BoxXyxy,
    /// Duration of the inference in milliseconds.
    pub milliseconds: f64,
}

/// The order of the bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GateSort {
    /// By channel.
    #[default]
    Channel,
    /// The largest gate first.
    Value,
    /// The largest absolute difference first, relative to the second image or network, or to the mean
    /// over the dataset.
    Difference,
}

/// Whether a feature map is shown before or after the SE block scales it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapStage {
    /// The input of the SE block.
    Before,
    /// The scaled output.
    #[default]
    After,
}

impl MapStage {
    /// Returns the label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Before => "before scaling",
            Self::After => "after scaling",
        }
    }
}

/// Feature maps of some channels of one SE block.
#[derive(Debug, Clone)]
pub struct BlockMaps {
    /// Index of the image.
    pub image: usize,
    /// Index of the block.
    pub block: usize,
    /// Channel, feature map before scaling, feature map after scaling.
    pub channels: Arc<Vec<(usize, ChannelMap, ChannelMap)>>,
}

impl Inference {
    /// Returns name and gates of each block.
    pub fn gate_rows(&self) -> Vec<(String, Vec<f32>)> {
        let blocks = self.blocks.iter();
        blocks.map(|b| (b.name.clone(), b.gates.clone())).collect()
    }
}

impl BlockMaps {
    /// Returns the value range of the colors of a channel, before and after scaling: from its smallest value,
    /// or 0, to its largest. It is that of the channel alone, so that its colors do not depend on which other
    /// channels are shown.
    pub fn range(&self, channel: usize) -> [f32; 2] {
        let maps = self.channels.iter().filter(|(known, ..)| *known == channel);
        ChannelMap::common_range(maps.flat_map(|(_, before, after)| [before, after]))
    }

    /// Returns the box that the feature maps cover, in pixels of the image, given the region of the image that is
    /// the input of the network. The box exceeds that region where cells lie partly over padding.
    pub fn box_in_image(&self, input_region: BoxXyxy) -> Option<BoxXyxy> {
        let (_, map, _) = self.channels.first()?;
        Some(cells_in_image(map, input_region))
    }
}

/// Returns the box that a map covers, in pixels of the image: see [`BlockMaps::box_in_image`].
pub(crate) fn cells_in_image(map: &ChannelMap, input_region: BoxXyxy) -> BoxXyxy {
    let BoxXyxy { x1, y1, x2, y2 } = map
        .box_in_seen
        .scale(input_region.width(), input_region.height());
    BoxXyxy::new(
        input_region.x1 + x1,
        input_region.y1 + y1,
        input_region.x1 + x2,
        input_region.y1 + y2,
    )
}

/// The selection among the gates of the current image.
#[derive(Debug, Clone, PartialEq)]
pub struct GateChoice {
    /// Index of the block.
    pub block: usize,
    /// The channel whose feature map is drawn over the image.
    pub channel: Option<usize>,
    /// The order of the bars.
    pub sort: GateSort,
    /// Whether feature maps are shown before or after scaling.
    pub stage: MapStage,
    /// Opacity of the feature map over the image, 0 to 1.
    pub opacity: f32,
    /// The number of most active channels in the grid.
    pub top: usize,
    /// Whether the grid is shown.
    pub show_grid: bool,
}

impl Default for GateChoice {
    fn default() -> Self {
        Self {
            block: 0,
            channel: None,
            sort: GateSort::default(),
            stage: MapStage::default(),
            opacity: 0.6,
            top: 8,
            show_grid: false,
        }
    }
}

/// Returns the channels in the order of the bars.
pub(crate) fn sorted_channels(
    gates: &[f32],
    reference: Option<&[f32]>,
    sort: GateSort,
) -> Vec<usize> {
    let mut channels: Vec<usize> = (0..gates.len()).collect();
    let difference = |channel: usize| {
        let reference = reference.and_then(|reference| reference.get(channel));
        reference.map_or(0.0, |reference| (gates[channel] - reference).abs())
    };
    match sort {
        GateSort::Channel => {}
        GateSort::Value => channels.sort_by(|&a, &b| gates[b].total_cmp(&gates[a])),
        GateSort::Difference => {
            channels.sort_by(|&a, &b| difference(b).total_cmp(&difference(a)));
        }
    }
    channels
}

/// Returns the channels with the largest gates.
pub(crate) fn top_channels(gates: &[f32], count: usize) -> Vec<usize> {
    let mut channels = sorted_channels(gates, None, GateSort::Value);
    channels.truncate(count);
    channels
}

/// The origin of gate statistics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StatisticsSource {
    /// There are none.
    #[default]
    None,
    /// A file, with its name.
    File(String),
    /// A network of the viewer has been measured.
    Network {
        /// [`NetworkInfo::id`](super::NetworkInfo::id).
        id: u64,
        /// The title.
        title: String,
    },
}

impl ViewerState {
    /// Returns whether the gate statistics are of the open network: measured with it, or from a file of a
    /// network with the same configuration. Gates of different networks can't be compared, whatever the
    /// names of their blocks are.
    pub(crate) fn has_own_statistics(&self) -> bool {
        let (Some(network), Some(statistics)) = (&self.networks[0], &self.statistics) else {
            return false;
        };
        match &self.statistics_source {
            StatisticsSource::Network { id, .. } => *id == network.id,
            StatisticsSource::File(_) => {
                statistics.origin.network.as_ref() == Some(&network.config)
            }
            StatisticsSource::None => false,
        }
    }

    /// Returns the mean gates of a block over the dataset that the open network was measured on, and what
    /// they are of, such as `the mean over shapes val`.
    pub(crate) fn mean_gates(&self, block: &BlockGates) -> Option<(&[f32], String)> {
        let statistics = self.own_statistics()?;
        let blocks = &mut statistics.blocks.iter();
        let mean = &blocks
            .find(|known| known.block.name == block.name)?
            .all
            .mean;
        let name = self.means_name(statistics);
        (mean.len() == block.gates.len()).then_some((mean.as_slice(), name))
    }

    /// Returns the gate statistics if they are of the open network.
    pub(crate) fn own_statistics(&self) -> Option<&Arc<Excitation>> {
        let statistics = self.statistics.as_ref();
        statistics.filter(|_| self.has_own_statistics())
    }

    /// Returns what the means of the gate statistics are of, such as `the mean over shapes val`.
    pub(crate) fn means_name(&self, statistics: &Excitation) -> String {
        let origin = &statistics.origin;
        let file = match &self.statistics_source {
            StatisticsSource::File(name) => format!(" ({name})"),
            StatisticsSource::Network { .. } | StatisticsSource::None => String::new(),
        };
        format!("the mean over {} {}{file}", origin.dataset, origin.split)
    }
}

/// The selection in the gate statistics over a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct StatisticsChoice {
    /// Index of the block.
    pub block: usize,
    /// Labels of the classes.
    pub classes: Vec<usize>,
    /// The number of channels in the curves, evenly spaced.
    pub channels: usize,
    /// Whether a band of one standard deviation is drawn around each mean.
    pub band: bool,
    /// The channel whose histogram is shown.
    pub channel: usize,
    /// Whether the difference of the first two classes is drawn instead of the curves.
    pub difference: bool,
}

impl Default for StatisticsChoice {
    fn default() -> Self {
        Self {
            block: 0,
            classes: Vec::new(),
            channels: 50,
            band: false,
            channel: 0,
            difference: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colors_of_a_channel_do_not_depend_on_the_other_channels() {
        let map = |values: [f32; 2]| ChannelMap {
            height: 1,
            width: 2,
            values: values.to_vec(),
            box_in_seen: BoxXyxy::new(0.0, 0.0, 1.0, 1.0),
        };
        let maps = |channels: &[usize]| BlockMaps {
            image: 0,
            block: 0,
            channels: Arc::new(
                channels
                    .iter()
                    .map(|&channel| {
                        let large = channel as f32 * 10.0 + 1.0;
                        (channel, map([-0.5, large]), map([0.0, large * 2.0]))
                    })
                    .collect(),
            ),
        };
        assert_eq!(maps(&[0]).range(0), [-0.5, 2.0]);
        assert_eq!(maps(&[0, 7]).range(0), [-0.5, 2.0]);
        assert_eq!(maps(&[0, 7]).range(7), [-0.5, 142.0]);
    }

    #[test]
    fn channels_sort_by_gate_and_by_difference() {
        let gates = [0.1, 0.9, 0.5];
        let mean = [0.8, 0.9, 0.4];
        let sorted = |sort| sorted_channels(&gates, Some(&mean), sort);
        assert_eq!(sorted(GateSort::Channel), [0, 1, 2]);
        assert_eq!(sorted(GateSort::Value), [1, 2, 0]);
        assert_eq!(sorted(GateSort::Difference), [0, 2, 1]);
        assert_eq!(top_channels(&gates, 2), [1, 2]);
    }
}
