//! The SE blocks of a network by name.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::backbones::BackboneConfig;
use crate::backbones::summary::{LayerKind, NOMINAL_SIZE, TooSmall, Tracer};

/// The maximum number of default blocks of a network without stages.
const SHOWN_WITHOUT_STAGES: usize = 6;

/// An SE block of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeBlock {
    /// `SE_stage_block` as in the SENet paper: `SE_2_3` is the third block of stage 2, which is `layer1` of
    /// torchvision. In networks without residual stages `SE_` and the module path.
    pub name: String,
    /// The module path: the prefix of its tensor names in a checkpoint.
    pub path: String,
    /// The number of channels that it scales.
    pub channels: usize,
    /// The residual stage as numbered in the paper, from 2.
    pub stage: Option<usize>,
}

impl SeBlock {
    fn new(path: &str, channels: usize) -> Self {
        let inner = path.strip_prefix("backbone.").unwrap_or(path);
        let inner = inner.strip_suffix(".se").unwrap_or(inner);
        let place = stage_and_block(inner);
        Self {
            name: match place {
                Some((stage, block)) => format!("SE_{stage}_{block}"),
                None => format!("SE_{inner}"),
            },
            path: path.to_string(),
            channels,
            stage: place.map(|(stage, _)| stage),
        }
    }
}

/// Returns the stage and the block: `layer1.2` is block 3 of stage 2.
fn stage_and_block(path: &str) -> Option<(usize, usize)> {
    let (layer, block) = path.strip_prefix("layer")?.split_once('.')?;
    Some((
        layer.parse::<usize>().ok()? + 1,
        block.parse::<usize>().ok()? + 1,
    ))
}

/// Returns the SE blocks of a network in the order of the forward pass, which is the order of a
/// [recording](sedet_nn::nn::recording). A plain network has none.
///
/// # Errors
/// The network does not accept an input of 512x512 pixels.
pub fn se_blocks(backbone: &BackboneConfig) -> Result<Vec<SeBlock>, TooSmall> {
    let network = backbone.init(&Device::flex());
    traced_se_blocks(|tracer| network.trace(tracer))
}

/// Returns the SE blocks of an existing network; `trace` traces its backbone.
///
/// # Errors
/// See [`se_blocks`].
pub(crate) fn traced_se_blocks<'a>(
    trace: impl FnOnce(&mut Tracer<'a>),
) -> Result<Vec<SeBlock>, TooSmall> {
    let mut tracer = Tracer::new(NOMINAL_SIZE);
    tracer.within("backbone", trace);
    let layers = tracer.finish()?.layers;
    Ok(layers
        .iter()
        .filter(|layer| layer.kind == LayerKind::Se)
        .map(|layer| SeBlock::new(&layer.name, layer.output[0]))
        .collect())
}

/// Returns the indices of the blocks that figure 6 of the SENet paper shows: the last of each stage and all of
/// the last stage. For a network without stages these are six evenly spaced blocks, among them the first and
/// the last.
pub fn default_blocks(blocks: &[SeBlock]) -> Vec<usize> {
    let last_stage = blocks.iter().filter_map(|block| block.stage).max();
    let Some(last_stage) = last_stage else {
        return spread_with_ends(blocks.len(), SHOWN_WITHOUT_STAGES);
    };
    let ends_stage =
        |at: usize| blocks.get(at + 1).map(|next| next.stage) != Some(blocks[at].stage);
    (0..blocks.len())
        .filter(|&at| blocks[at].stage == Some(last_stage) || ends_stage(at))
        .collect()
}

/// Returns `count` evenly spaced indices of `0..length` including both ends, or all.
fn spread_with_ends(length: usize, count: usize) -> Vec<usize> {
    if length <= count || count < 2 {
        return (0..length).collect();
    }
    (0..count).map(|n| n * (length - 1) / (count - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::zoo;

    fn names(network: &str) -> Vec<String> {
        let blocks = se_blocks(&zoo::network(network).unwrap().backbone).unwrap();
        blocks.into_iter().map(|block| block.name).collect()
    }

    fn defaults(network: &str) -> Vec<String> {
        let blocks = se_blocks(&zoo::network(network).unwrap().backbone).unwrap();
        let shown = default_blocks(&blocks).into_iter();
        shown.map(|at| blocks[at].name.clone()).collect()
    }

    #[test]
    fn blocks_of_residual_networks_are_named_as_in_the_paper_and_others_by_path() {
        let resnet = names("se-resnet50");
        assert_eq!(resnet.len(), 16);
        assert_eq!(&resnet[..4], ["SE_2_1", "SE_2_2", "SE_2_3", "SE_3_1"]);
        assert_eq!(names("se-resnet20").last().unwrap(), "SE_4_3");
        assert_eq!(names("se-vgg16-bn")[0], "SE_stages.0.layers.0");
        assert_eq!(names("resnet50"), Vec::<String>::new());
    }

    #[test]
    fn the_default_blocks_are_those_of_the_paper_or_six_evenly_spaced_ones() {
        assert_eq!(
            defaults("se-resnet50"),
            ["SE_2_3", "SE_3_4", "SE_4_6", "SE_5_1", "SE_5_2", "SE_5_3"]
        );
        let spread = defaults("se-mobilenet-v1");
        let all = names("se-mobilenet-v1");
        assert_eq!(spread.len(), 6);
        assert_eq!((spread.first(), spread.last()), (all.first(), all.last()));
    }
}
