//! One image through a network: what it finds, and what its SE units do meanwhile.

use burn::tensor::Tensor;
use image::RgbImage;

use super::ImageDetection;
use super::classifier::{BEST_CLASSES, RankedClass};
use super::excitation::{ExamineError, ExaminedNetwork};
pub use crate::excitation::ChannelMap;
use crate::excitation::channel_map::Placement;
use crate::excitation::statistics::gate_rows;
use crate::excitation::{ExcitationError, SeBlock};
use sedet_data::boxes::{BoxXyxy, ImageSize};
use sedet_nn::nn::recording::{Depth, RecordedUnit, ScaledMaps, record};

/// What a network made of an image in one forward pass.
#[derive(Debug, Clone)]
pub struct Look {
    /// Of a detector: what it found, best first.
    pub detections: Vec<ImageDetection>,
    /// Of a classifier: the likeliest classes, best first.
    pub classes: Vec<RankedClass>,
    /// What each SE unit did, in the order of the forward pass; empty for a plain network.
    pub blocks: Vec<BlockLook>,
    /// The part of the image that the network saw, in the image's pixels: all of it, or what a
    /// classifier cut out.
    pub seen: BoxXyxy,
}

/// What one SE unit did to an image.
#[derive(Debug, Clone)]
pub struct BlockLook {
    /// Which unit.
    pub block: SeBlock,
    /// One for each channel; of a unit that does not squeeze the mean over its map.
    pub gates: Vec<f32>,
    maps: Option<ScaledMaps>,
    placement: Placement,
}

impl Look {
    /// The gates by block, with its name: the rows of [`save_gates`](crate::render::save_gates).
    pub fn gate_rows(&self) -> Vec<(String, Vec<f32>)> {
        let rows = self.blocks.iter();
        rows.map(|look| (look.block.name.clone(), look.gates.clone()))
            .collect()
    }

    /// A line for each channel of each block, with a heading: block, channel, gate.
    pub fn gates_csv(&self) -> String {
        gates_csv(&self.gate_rows())
    }
}

/// A line for each channel of each block, with a heading: block, channel, gate.
pub fn gates_csv(rows: &[(String, Vec<f32>)]) -> String {
    let mut text = String::from("block,channel,gate\n");
    for (block, gates) in rows {
        for (channel, gate) in gates.iter().enumerate() {
            text += &format!("{block},{channel},{gate}\n");
        }
    }
    text
}

impl BlockLook {
    /// The map of one channel before and after it was scaled. None for a channel that there is
    /// not, and where maps were not recorded.
    pub fn channel(&self, channel: usize) -> Option<(ChannelMap, ChannelMap)> {
        let maps = self.maps.as_ref()?;
        let inside = channel < self.block.channels;
        inside.then(|| {
            (
                self.cut(&maps.before, channel),
                self.cut(&maps.after, channel),
            )
        })
    }

    /// So many channels with the largest gates, largest first; of equals the first.
    pub fn most_open(&self, count: usize) -> Vec<usize> {
        let mut channels: Vec<usize> = (0..self.gates.len()).collect();
        channels.sort_by(|&a, &b| self.gates[b].total_cmp(&self.gates[a]));
        channels.truncate(count);
        channels
    }

    /// `map` is `[1, channels, height, width]`.
    fn cut(&self, map: &Tensor<4>, channel: usize) -> ChannelMap {
        let [_, _, height, width] = map.dims();
        let cells = self.placement.cells(ImageSize::new(height, width));
        let (height, width) = (cells.rows.len(), cells.columns.len());
        let channel = channel..channel + 1;
        let cut = map
            .clone()
            .slice([0..1, channel, cells.rows, cells.columns]);
        ChannelMap {
            height,
            width,
            values: cut.into_data().iter::<f32>().collect(),
            box_in_seen: cells.box_in_seen,
        }
    }
}

impl ExaminedNetwork {
    /// Show the network an image. What it finds is what [`Detector::detect`](super::Detector::detect)
    /// finds, or [`LoadedClassifier::classify`](super::classifier::LoadedClassifier::classify).
    ///
    /// With [`Depth::GatesAndMaps`] the maps before and after every unit stay in memory as long as
    /// the result does.
    ///
    /// # Errors
    /// Gates that are no numbers.
    pub fn look(&self, image: &RgbImage, depth: Depth) -> Result<Look, ExamineError> {
        let ((detections, classes), recorded) = record(depth, || match self {
            Self::Detector(detector) => (detector.detect(image), Vec::new()),
            Self::Classifier(classifier) => (Vec::new(), classifier.classify(image, BEST_CLASSES)),
        });
        let blocks = self.units()?;
        if blocks.len() != recorded.len() {
            return Err(ExamineError::Excitation(ExcitationError::Units {
                expected: blocks.len(),
                recorded: recorded.len(),
            }));
        }
        let image_size = ImageSize::new(image.height() as usize, image.width() as usize);
        let placement = self.placement(image_size);
        let units = blocks.into_iter().zip(recorded);
        let look = |(block, RecordedUnit { gates, maps }): (SeBlock, RecordedUnit)| {
            let gates = gate_rows(gates);
            match gates.iter().all(|gate| gate.is_finite()) {
                true => Ok(BlockLook {
                    block,
                    gates,
                    maps,
                    placement,
                }),
                false => Err(ExcitationError::NotFinite { block: block.name }),
            }
        };
        Ok(Look {
            detections,
            classes,
            blocks: units.map(look).collect::<Result<_, _>>()?,
            seen: self.preprocess().input_box(image_size).clip(image_size),
        })
    }

    /// Where an image of this size lies in the network's input.
    fn placement(&self, image: ImageSize) -> Placement {
        let preprocess = self.preprocess();
        let input = preprocess.input_size(image);
        let padded = |side: usize| side.next_multiple_of(self.size_divisor().max(1));
        let frame = ImageSize::new(padded(input.height), padded(input.width));
        Placement::new(image, preprocess.input_box(image), input, frame)
    }
}
