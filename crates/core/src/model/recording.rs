//! The prediction for one image together with the gates and feature maps of the SE units.

use burn::tensor::Tensor;
use image::RgbImage;

use super::{Model, ModelError, Prediction};
use crate::excitation::channel_map::Placement;
use crate::excitation::collector::gate_rows;
use crate::excitation::{ChannelMap, ExcitationError, SeBlock};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::nn::recording::{Depth, RecordedUnit, ScaledFeatureMaps, record};

/// The results of one forward pass for an image.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The detections or the most probable classes.
    pub prediction: Prediction,
    /// The logits of all classes of a classifier; empty for a detector.
    pub logits: Vec<f32>,
    /// The SE units in the order of the forward pass; empty for a plain network.
    pub blocks: Vec<BlockRecording>,
    /// The part of the image that the network receives, in pixels of the image: all of it, or the
    /// center crop of a classifier.
    pub seen: BoxXyxy,
}

/// The results of one SE unit for an image.
#[derive(Debug, Clone)]
pub struct BlockRecording {
    /// The unit.
    pub block: SeBlock,
    /// One gate per channel; for a unit that does not squeeze, the mean over its feature map.
    pub gates: Vec<f32>,
    maps: Option<ScaledFeatureMaps>,
    placement: Placement,
}

impl Recording {
    /// Returns the gates by block name: the rows of [`save_gates`](crate::render::save_gates).
    pub fn gate_rows(&self) -> Vec<(String, Vec<f32>)> {
        let rows = self.blocks.iter();
        rows.map(|recorded| (recorded.block.name.clone(), recorded.gates.clone()))
            .collect()
    }

    /// Returns the gates as CSV; see [`gates_csv`].
    pub fn gates_csv(&self) -> String {
        gates_csv(&self.gate_rows())
    }
}

/// Returns gates as CSV with the columns `block`, `channel` and `gate`.
pub fn gates_csv(rows: &[(String, Vec<f32>)]) -> String {
    let mut cells = vec![["block", "channel", "gate"].map(String::from)];
    for (block, gates) in rows {
        for (channel, gate) in gates.iter().enumerate() {
            cells.push([block.clone(), channel.to_string(), gate.to_string()]);
        }
    }
    sedet_data::csv::to_csv(cells)
}

impl BlockRecording {
    /// Returns the feature map of one channel before and after scaling. None for a channel that
    /// does not exist, or if feature maps were not recorded.
    pub fn channel(&self, channel: usize) -> Option<(ChannelMap, ChannelMap)> {
        let maps = self.maps.as_ref()?;
        let exists = channel < self.block.channels;
        exists.then(|| {
            (
                self.cut(&maps.before, channel),
                self.cut(&maps.after, channel),
            )
        })
    }

    /// Returns the `count` channels with the largest gates, largest first; among equal gates the
    /// lower channel comes first.
    pub fn most_active(&self, count: usize) -> Vec<usize> {
        let mut channels: Vec<usize> = (0..self.gates.len()).collect();
        channels.sort_by(|&a, &b| self.gates[b].total_cmp(&self.gates[a]));
        channels.truncate(count);
        channels
    }

    /// Returns one channel without the cells in the padding.
    ///
    /// # Shapes
    /// `map` is `[1, channels, height, width]`.
    fn cut(&self, map: &Tensor<4>, channel: usize) -> ChannelMap {
        let [_, _, height, width] = map.dims();
        let map = map
            .clone()
            .slice([0..1, channel..channel + 1, 0..height, 0..width]);
        self.placement.cut(map)
    }
}

impl Model {
    /// Predicts and records the SE units in the same forward pass. The prediction is that of
    /// [`predict`](Self::predict).
    ///
    /// With [`Depth::GatesAndFeatureMaps`] the feature maps before and after every unit stay in memory as
    /// long as the result does.
    ///
    /// # Errors
    /// Gates that are not finite.
    pub fn record(&self, image: &RgbImage, depth: Depth) -> Result<Recording, ModelError> {
        let ((prediction, logits), recorded) = record(depth, || self.predict_with_logits(image));
        let blocks = self.se_blocks_or_none()?;
        if blocks.len() != recorded.len() {
            return Err(self.excitation_error(ExcitationError::Blocks {
                expected: blocks.len(),
                recorded: recorded.len(),
            }));
        }
        let image_size = ImageSize::new(image.height() as usize, image.width() as usize);
        let placement = self.placement(image_size);
        let units = blocks.into_iter().zip(recorded);
        let block = |(
            block,
            RecordedUnit {
                gates,
                feature_maps,
            },
        ): (SeBlock, RecordedUnit)| {
            let gates = gate_rows(gates);
            if gates.iter().any(|gate| !gate.is_finite()) {
                let block = block.name;
                return Err(self.excitation_error(ExcitationError::NotFinite { block }));
            }
            Ok(BlockRecording {
                block,
                gates,
                maps: feature_maps,
                placement,
            })
        };
        let preprocess = &self.spec.preprocess;
        Ok(Recording {
            prediction,
            logits,
            blocks: units.map(block).collect::<Result<_, _>>()?,
            seen: preprocess.input_box(image_size).clip(image_size),
        })
    }

    /// Returns where an image of this size is in the network's input.
    pub(super) fn placement(&self, image: ImageSize) -> Placement {
        let preprocess = &self.spec.preprocess;
        let input = preprocess.input_size(image);
        let divisor = self.spec.size_divisor().max(1);
        let frame = ImageSize::new(
            input.height.next_multiple_of(divisor),
            input.width.next_multiple_of(divisor),
        );
        Placement::new(image, preprocess.input_box(image), input, frame)
    }
}
