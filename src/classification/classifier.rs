//! A backbone, the mean over the last map, and one linear layer.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::backbones::resnet::{ResNet, ResNetConfig};
use crate::nn::conv::linear;
use crate::nn::init::WeightInit;

/// Configuration of a [`Classifier`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The feature network.
    pub backbone: ResNetConfig,
    /// Number of classes.
    pub num_classes: usize,
}

impl ClassifierConfig {
    /// The network with fresh weights on a device.
    pub fn init(&self, device: &Device) -> Classifier {
        let [.., channels] = self.backbone.stage_channels();
        Classifier {
            backbone: self.backbone.init(device),
            fc: linear(
                channels,
                self.num_classes,
                WeightInit::PytorchDefault,
                device,
            ),
        }
    }
}

/// A network from pixels to class scores.
#[derive(Module, Debug)]
pub struct Classifier {
    /// The feature network.
    pub backbone: ResNet,
    /// From the mean features to the classes.
    pub fc: Linear,
}

impl Classifier {
    /// Pixels `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let [.., last] = self.backbone.forward(pixels);
        let [batch, channels, height, width] = last.dims();
        let pooled = last
            .reshape([batch, channels, height * width])
            .mean_dim(2)
            .reshape([batch, channels]);
        self.fc.forward(pooled)
    }
}
