//! A convolution followed by batch norm, the building block of most networks.
//!
//! Batch norm with fixed statistics is a scale and a shift per channel. They are applied by the
//! convolution, as a factor of its weights and as its bias, in inference and in training with frozen
//! norms. Bias, residual sum and ReLU then need no separate pass over the feature map. For inference,
//! [`fold`] multiplies the scale into the weights once.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::conv::{Conv2d, Conv2dConfig};
use super::norm::{Norm, NormConfig};
use crate::kernels::bf16::ComputePrecision;
use crate::kernels::conv2d::{Filters, conv2d_fused};

/// Computes `norm(conv(x)) + residual`, then ReLU if `relu`.
///
/// # Shapes
/// - `x`: `[batch, channels_in, height, width]`
/// - `residual` and the result: `[batch, channels_out, height_out, width_out]`
pub fn forward_normed(
    conv: &Conv2d,
    norm: &Norm,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    if norm.follows_batch(&x) {
        return norm.forward(conv.forward(x), residual, relu);
    }
    let filters = filters(conv, norm, &x.device());
    conv2d_fused(x, filters, residual, relu, conv.options())
}

/// Returns the filters equivalent to `conv` followed by `norm`. Those of a folded pair have no scale.
pub(super) fn filters(conv: &Conv2d, norm: &Norm, device: &Device) -> Filters {
    if norm.is_folded()
        && let Some(filters) = conv.filters()
    {
        return filters;
    }
    let weight = conv.weight.val();
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    let [scale, shift] = norm.scale_and_shift(device);
    let bias = match bias {
        Some(bias) => bias * scale.clone() + shift,
        None => shift,
    };
    Filters {
        weight,
        scale: Some(scale),
        bias,
        packed: None,
    }
}

/// Folds the norm into the convolution, for inference, and has the weights kept in the orders of the CPU
/// kernels. `precision` is that of its multiplications. In 32-bit floats, outputs differ by rounding, about 1e-6 of
/// the largest value.
pub fn fold(conv: Conv2d, norm: Norm, precision: ComputePrecision) -> (Conv2d, Norm) {
    if norm.is_folded() {
        return (conv.for_inference(precision), norm);
    }
    let device = conv.weight.val().device();
    let (weight, bias) = filters(&conv, &norm, &device).folded();
    let mut conv = conv;
    conv.weight = Param::from_tensor(weight);
    conv.bias = Some(Param::from_tensor(bias));
    (conv.for_inference(precision), norm.into_folded())
}

/// Applies [`fold`] to convolutions that are each followed by one of the norms. Without norms, the
/// convolutions stay as they are, apart from the precision.
pub fn fold_all(
    convs: Vec<Conv2d>,
    norms: Vec<Norm>,
    precision: ComputePrecision,
) -> (Vec<Conv2d>, Vec<Norm>) {
    let convs = convs.into_iter();
    if norms.is_empty() {
        // In 32-bit floats, kept weights would cost more memory than time: these are the few layers of a pyramid.
        let convs = convs.map(|conv| match precision {
            ComputePrecision::F32 => conv,
            ComputePrecision::Bf16 => conv.for_inference(precision),
        });
        return (convs.collect(), norms);
    }
    let pairs = convs.zip(norms);
    pairs
        .map(|(conv, norm)| fold(conv, norm, precision))
        .unzip()
}

/// Configuration of a [`ConvNorm`].
#[derive(Debug, Clone, Copy)]
pub struct ConvNormConfig {
    /// The convolution.
    pub conv: Conv2dConfig,
    /// The batch norm of its output.
    pub norm: NormConfig,
}

impl ConvNormConfig {
    /// Combines a convolution and a batch norm.
    pub const fn new(conv: Conv2dConfig, norm: NormConfig) -> Self {
        Self { conv, norm }
    }

    /// Initializes the layers on a device.
    pub fn init(&self, device: &Device) -> ConvNorm {
        ConvNorm {
            conv: self.conv.init(device),
            norm: self.norm.init(self.conv.channels_out, device),
        }
    }
}

/// A convolution followed by batch norm.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// The batch norm of its output.
    pub norm: Norm,
}

impl ConvNorm {
    /// Computes convolution, batch norm and ReLU.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels_in, height, width]`
    /// - result: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        forward_normed(&self.conv, &self.norm, x, None, true)
    }

    /// Computes convolution and batch norm.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    pub fn forward_linear(&self, x: Tensor<4>) -> Tensor<4> {
        forward_normed(&self.conv, &self.norm, x, None, false)
    }

    /// Folds the batch norm into the convolution; see [`fold`].
    pub fn folded(self, precision: ComputePrecision) -> Self {
        let (conv, norm) = fold(self.conv, self.norm, precision);
        Self { conv, norm }
    }
}
