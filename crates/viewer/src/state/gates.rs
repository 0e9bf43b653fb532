//! The gates of one image, ready to be shown.

use sedet_core::model::ChannelMap;
use sedet_core::model::RankedClass;
use sedet_data::boxes::BoxXyxy;

/// The gates of one SE unit for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockGates {
    /// `SE_2_3`.
    pub name: String,
    /// One for each channel.
    pub gates: Vec<f32>,
}

/// What a network made of an image, beside its boxes.
#[derive(Debug, Clone)]
pub struct Looked {
    /// Position of the image.
    pub image: usize,
    /// In the order of the forward pass; none in a network without SE units.
    pub blocks: Vec<BlockGates>,
    /// Of a classifier: the likeliest classes.
    pub classes: Vec<RankedClass>,
    /// The part of the image that maps lie on, in its pixels.
    pub seen: BoxXyxy,
    /// How long the network took, in milliseconds.
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
    /// The largest difference first: from the second image or network, or else from the mean
    /// over the dataset.
    Difference,
}

/// Which side of the scaling a map shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapSide {
    /// What the unit was given.
    Before,
    /// What it made of it.
    #[default]
    After,
}

/// The maps of some channels of one unit.
#[derive(Debug, Clone)]
pub struct BlockMaps {
    /// Position of the image.
    pub image: usize,
    /// Position of the unit.
    pub block: usize,
    /// Channel, before, after.
    pub channels: Vec<(usize, ChannelMap, ChannelMap)>,
}

impl Looked {
    /// The gates by block, with its name.
    pub fn gate_rows(&self) -> Vec<(String, Vec<f32>)> {
        let blocks = self.blocks.iter();
        blocks.map(|b| (b.name.clone(), b.gates.clone())).collect()
    }
}

impl BlockMaps {
    /// One range for both sides of all channels, so that they can be compared: from the smallest
    /// value, or 0, to the largest.
    pub fn range(&self) -> [f32; 2] {
        let maps = self.channels.iter();
        ChannelMap::common_range(maps.flat_map(|(_, before, after)| [before, after]))
    }

    /// Where the maps of an image lie that a network `seen` this part of, in its pixels. It may
    /// stick out of that part, where cells lie partly under padding.
    pub fn box_in_image(&self, seen: BoxXyxy) -> Option<BoxXyxy> {
        let (_, map, _) = self.channels.first()?;
        let BoxXyxy { x1, y1, x2, y2 } = map.box_in_seen.scale(seen.width(), seen.height());
        Some(BoxXyxy::new(
            seen.x1 + x1,
            seen.y1 + y1,
            seen.x1 + x2,
            seen.y1 + y2,
        ))
    }
}

/// What the panel of gates is set to.
#[derive(Debug, Clone, PartialEq)]
pub struct GateChoice {
    /// Position of the unit.
    pub block: usize,
    /// The channel whose map lies over the image.
    pub channel: Option<usize>,
    /// The order of the bars.
    pub sort: GateSort,
    /// Which map.
    pub side: MapSide,
    /// Of the map over the image, 0 to 1.
    pub opacity: f32,
    /// How many of the most open channels the grid shows.
    pub top: usize,
    /// Whether the grid is open.
    pub show_grid: bool,
}

impl Default for GateChoice {
    fn default() -> Self {
        Self {
            block: 0,
            channel: None,
            sort: GateSort::default(),
            side: MapSide::default(),
            opacity: 0.6,
            top: 8,
            show_grid: false,
        }
    }
}

/// The channels in the order of the bars.
pub fn sorted_channels(gates: &[f32], reference: Option<&[f32]>, sort: GateSort) -> Vec<usize> {
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

/// The channels with the largest gates.
pub fn top_channels(gates: &[f32], count: usize) -> Vec<usize> {
    let mut channels = sorted_channels(gates, None, GateSort::Value);
    channels.truncate(count);
    channels
}

#[cfg(test)]
mod tests {
    use super::*;

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
