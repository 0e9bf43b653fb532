//! Classifiers: a backbone, pooling of its last feature map, and linear layers.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backbones::summary::{Summary, TooSmall, Tracer};
use crate::backbones::{AnyBackbone, BackboneConfig, HeadConfig};
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::nn::conv::{forward_linear, linear};
use sedet_nn::nn::init::WeightInit;
use sedet_nn::nn::recording::on_thread_pool;

/// Configuration of a [`Classifier`]; complete enough to be stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The backbone.
    pub backbone: BackboneConfig,
    /// Number of classes.
    pub num_classes: usize,
    /// The layers between the last feature map and the class scores.
    #[serde(default)]
    pub head: HeadConfig,
}

impl ClassifierConfig {
    /// Returns a classifier of a backbone with its published head.
    pub fn new(backbone: BackboneConfig, num_classes: usize) -> Self {
        Self {
            head: backbone.head(),
            backbone,
            num_classes,
        }
    }

    /// Builds the network with newly initialized parameters.
    pub fn init(&self, device: &Device) -> Classifier {
        let side = self.head.pooled_size;
        let mut units = self.backbone.channels() * side * side;
        let hidden = self
            .head
            .hidden
            .iter()
            .map(|&next| {
                // As in torchvision's VGG.
                let layer = linear(units, next, WeightInit::Normal(0.01), device);
                units = next;
                layer
            })
            .collect();
        Classifier {
            backbone: self.backbone.init(device),
            hidden,
            dropout: DropoutConfig::new(self.head.dropout).init(),
            fc: linear(units, self.num_classes, WeightInit::PytorchDefault, device),
            pooled_size: side,
            frozen: self.backbone.frozen_stages(),
        }
    }

    /// Lists the layers with their parameters and multiply-adds for an RGB image of this height and
    /// width.
    ///
    /// # Errors
    /// The image is too small for the network.
    pub fn summary(&self, size: [usize; 2]) -> Result<Summary, TooSmall> {
        self.init(&Device::flex()).summary(size)
    }
}

/// A network from pixels to class logits.
#[derive(Module, Debug)]
pub struct Classifier {
    /// The backbone.
    pub backbone: AnyBackbone,
    /// Hidden layers on the pooled features (VGG).
    pub hidden: Vec<Linear>,
    /// Active in training only.
    pub dropout: Dropout,
    /// The last layer.
    pub fc: Linear,
    pooled_size: usize,
    frozen: usize,
}

impl Classifier {
    /// Returns the number of classes.
    pub fn num_classes(&self) -> usize {
        self.fc.weight.lazy_shape()[1]
    }

    /// Lists the layers; see [`ClassifierConfig::summary`].
    ///
    /// # Errors
    /// The image is too small for the network.
    pub fn summary(&self, size: [usize; 2]) -> Result<Summary, TooSmall> {
        let mut tracer = Tracer::new(size);
        self.trace(&mut tracer);
        tracer.finish()
    }

    /// Records the operations from an image to the logits.
    pub(crate) fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        tracer.within("backbone", |tracer| self.backbone.trace(tracer));
        tracer.pool_to("pool", self.pooled_size);
        for (index, layer) in self.hidden.iter().enumerate() {
            tracer.linear(format_args!("hidden.{index}"), layer);
            tracer.relu(format_args!("hidden.{index}"));
        }
        tracer.linear("fc", &self.fc);
    }

    /// Returns the classifier for inference; see [`AnyBackbone::folded`].
    #[must_use]
    pub fn folded(self, precision: ComputePrecision) -> Self {
        Self {
            backbone: self.backbone.folded(precision),
            ..self
        }
    }

    /// Computes class logits.
    ///
    /// # Shapes
    /// `[batch, 3, height, width]` to `[batch, classes]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let device = pixels.device();
        on_thread_pool(&device, || self.logits(pixels))
    }

    fn logits(&self, pixels: Tensor<4>) -> Tensor<2> {
        self.logits_of_map(self.backbone.forward_features(pixels, self.frozen))
    }

    /// Computes class logits from the last feature map of the backbone.
    ///
    /// # Shapes
    /// `[batch, channels, height, width]` to `[batch, classes]`.
    pub(crate) fn logits_of_map(&self, map: Tensor<4>) -> Tensor<2> {
        let features = self.pool(map);
        let features = match self.hidden.as_slice() {
            [] => self.dropout.forward(features),
            hidden => hidden.iter().fold(features, |x, layer| {
                self.dropout.forward(relu(forward_linear(layer, x)))
            }),
        };
        self.fc.forward(features)
    }

    /// Pools `[batch, channels, height, width]` to `[batch, channels * side * side]`.
    fn pool(&self, map: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = map.dims();
        match self.pooled_size {
            1 => map
                .reshape([batch, channels, height * width])
                .mean_dim(2)
                .reshape([batch, channels]),
            side => {
                let pooled = adaptive_avg_pool2d(map, [side, side]);
                pooled.reshape([batch, channels * side * side])
            }
        }
    }
}
