//! The interface between a network and its users: what a family of backbones provides.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use sedet_nn::kernels::bf16::ComputePrecision;

use super::HeadConfig;
use super::summary::{LayerSummary, TooSmall, Tracer};
use super::validation::BackboneConfigError;
use super::zoo::Published;

/// Strides of the feature maps C2..C5 that a feature pyramid is built on.
pub(crate) const PYRAMID_STRIDES: [usize; 4] = [4, 8, 16, 32];

/// One part of a backbone: consecutive layers that are frozen, recomputed and measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Name for reports, such as `layer1`.
    pub name: &'static str,
    /// Channels of its output.
    pub channels: usize,
    /// Pixels of the network's input per pixel of its output.
    pub stride: usize,
}

impl Part {
    /// Creates a part with this name, number of output channels and output stride.
    pub const fn new(name: &'static str, channels: usize, stride: usize) -> Self {
        Self {
            name,
            channels,
            stride,
        }
    }
}

/// The configuration of one family of backbones, complete enough to be stored in a checkpoint.
///
/// Besides these methods a configuration has the public fields `width_multiplier`, `se`, `norm` and
/// `frozen_stages`, which all families share (see [`CommonConfig`](super::CommonConfig)).
pub trait BackboneFamily: Sized + 'static {
    /// The network that the configuration describes.
    type Network: Backbone;

    /// Published networks of the family, by name.
    const PUBLISHED: &'static [Published<Self>];

    /// Keys of the configuration that no tensor shape shows and that given weights depend on, such
    /// as the position of a stride. They are imported with weights even where the user names the
    /// backbone.
    const WEIGHT_DETAILS: &'static [&'static str] = &[];

    /// Checks what the types do not exclude, such as counts of zero.
    ///
    /// # Errors
    /// See [`BackboneConfigError`].
    fn validate(&self) -> Result<(), BackboneConfigError>;

    /// Returns the [`Backbone::PARTS`] parts in forward order.
    fn parts(&self) -> Vec<Part>;

    /// Builds the network with newly initialized parameters.
    ///
    /// # Panics
    /// For some configurations that [`validate`](Self::validate) refuses.
    fn init(&self, device: &Device) -> Self::Network;

    /// Describes the position of the SE units in the network.
    fn se_position(&self) -> &'static str;

    /// Returns the classification head of the published network.
    fn head(&self) -> HeadConfig {
        HeadConfig::default()
    }

    /// Returns the configuration as detectors use it. It has the same parameters.
    fn for_detection(self) -> Self {
        self
    }
}

/// A convolutional network from pixels to feature maps, divided into parts.
///
/// Each part takes the output of the one before it; the first takes the pixels,
/// `[batch, 3, height, width]`. Feature maps, frozen layers, recomputation and memory estimates are
/// all counted in parts.
pub trait Backbone: Module {
    /// Number of parts.
    const PARTS: usize;

    /// Computes one part.
    ///
    /// # Panics
    /// If there is no such part.
    fn forward_part(&self, part: usize, x: Tensor<4>) -> Tensor<4>;

    /// Records the operations of one part in evaluation mode. The summary of the layers and the ONNX export follow from it.
    fn trace_part<'a>(&'a self, part: usize, tracer: &mut Tracer<'a>);

    /// Whether [`folded`](Self::folded) folds the norms and applies the precision.
    const FOLDS: bool = false;

    /// Returns the network for inference, with each norm folded into the convolution before it.
    /// Families that keep their norms multiply the scale in as they compute, which costs one pass
    /// over the weights.
    ///
    /// `precision` is that of the multiplications of the folded convolutions; see [`FOLDS`](Self::FOLDS).
    #[must_use]
    fn folded(self, _precision: ComputePrecision) -> Self {
        self
    }

    /// Computes the output of every part, in forward order. The first `frozen` parts are computed
    /// without gradients and with the running statistics of their norms.
    fn part_outputs(&self, pixels: Tensor<4>, frozen: usize) -> Vec<Tensor<4>> {
        let mut outputs = Vec::with_capacity(Self::PARTS);
        self.for_each_part(pixels, frozen, |output| outputs.push(output.clone()));
        outputs
    }

    /// Computes the last feature map of a network without frozen parts.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.forward_features(pixels, 0)
    }

    /// Computes the output of the last part; `frozen` as in [`part_outputs`](Self::part_outputs).
    fn forward_features(&self, pixels: Tensor<4>, frozen: usize) -> Tensor<4> {
        self.for_each_part(pixels, frozen, |_| ())
    }

    /// Computes all parts, passes each output to `visit` and returns the last.
    fn for_each_part(
        &self,
        pixels: Tensor<4>,
        frozen: usize,
        mut visit: impl FnMut(&Tensor<4>),
    ) -> Tensor<4> {
        // On a device without autodiff nothing is trained, and norms use running statistics anyway.
        let is_training = pixels.device().is_autodiff();
        let inference = (frozen > 0 && is_training).then(|| self.valid());
        (0..Self::PARTS).fold(pixels, |x, part| {
            let output = match &inference {
                Some(network) if part < frozen => {
                    Tensor::from_inner(network.forward_part(part, x.inner()))
                }
                _ => self.forward_part(part, x),
            };
            visit(&output);
            output
        })
    }

    /// Records the operations of all parts.
    fn trace<'a>(&'a self, tracer: &mut Tracer<'a>) {
        for part in 0..Self::PARTS {
            self.trace_part(part, tracer);
        }
    }

    /// Lists the layers of each part for an RGB image of this height and width.
    ///
    /// # Errors
    /// The image is too small for the network.
    fn layers_of_parts(&self, size: [usize; 2]) -> Result<Vec<Vec<LayerSummary>>, TooSmall> {
        let mut tracer = Tracer::new(size);
        let parts = (0..Self::PARTS)
            .map(|part| {
                self.trace_part(part, &mut tracer);
                tracer.take_layers()
            })
            .collect();
        tracer.finish()?;
        Ok(parts)
    }
}
