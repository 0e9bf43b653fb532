//! A convolution with the norm behind it: the brick of most networks.
//!
//! A norm that does not follow the batches is an affine map for each channel, and the convolution
//! can do it: with its weights multiplied by the scale, and the shift as its bias. So it is computed
//! here, in training with frozen norms, too; bias, residual sum and ReLU then cost no pass over the
//! map. For inference, [`fold`] does the multiplication once and for all.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::conv::{Conv2d, Conv2dConfig};
use super::norm::{Norm, NormConfig};
use crate::kernels::conv2d::{Filters, conv2d_fused};

/// `norm(conv(x))`, plus `residual` (of the output's shape), clamped at zero if `relu`.
///
/// `x` is `[batch, channels_in, height, width]`.
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

/// The filters that are `conv` with `norm` behind it. Those of a folded pair have no scale.
pub(super) fn filters(conv: &Conv2d, norm: &Norm, device: &Device) -> Filters {
    let weight = conv.weight.val();
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    if norm.is_folded()
        && let Some(bias) = bias
    {
        return Filters::new(weight, bias);
    }
    let [scale, shift] = norm.scale_and_shift(device);
    let bias = match bias {
        Some(bias) => bias * scale.clone() + shift,
        None => shift,
    };
    Filters {
        weight,
        scale: Some(scale),
        bias,
    }
}

/// The pair with the norm inside the convolution, for inference. Outputs differ by rounding, about
/// 1e-6 of the largest.
pub fn fold(conv: Conv2d, norm: Norm) -> (Conv2d, Norm) {
    if norm.is_folded() {
        return (conv, norm);
    }
    let device = conv.weight.val().device();
    let (weight, bias) = filters(&conv, &norm, &device).folded();
    let mut conv = conv;
    conv.weight = Param::from_tensor(weight);
    conv.bias = Some(Param::from_tensor(bias));
    (conv, norm.into_folded())
}

/// [`fold`] for convolutions with one norm behind each.
pub fn fold_all(convs: Vec<Conv2d>, norms: Vec<Norm>) -> (Vec<Conv2d>, Vec<Norm>) {
    let pairs = convs.into_iter().zip(norms);
    pairs.map(|(conv, norm)| fold(conv, norm)).unzip()
}

/// Configuration of a [`ConvNorm`].
#[derive(Debug, Clone, Copy)]
pub struct ConvNormConfig {
    /// The convolution.
    pub conv: Conv2dConfig,
    /// The norm over its output.
    pub norm: NormConfig,
}

impl ConvNormConfig {
    /// This convolution with this norm.
    pub const fn new(conv: Conv2dConfig, norm: NormConfig) -> Self {
        Self { conv, norm }
    }

    /// The layers on a device, with fresh weights.
    pub fn init(&self, device: &Device) -> ConvNorm {
        ConvNorm {
            conv: self.conv.init(device),
            norm: self.norm.init(self.conv.channels_out, device),
        }
    }
}

/// A convolution, then batch norm.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// The norm over its output.
    pub norm: Norm,
}

impl ConvNorm {
    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height', width']`, clamped
    /// at zero.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        forward_normed(&self.conv, &self.norm, x, None, true)
    }

    /// The same without the ReLU.
    pub fn forward_linear(&self, x: Tensor<4>) -> Tensor<4> {
        forward_normed(&self.conv, &self.norm, x, None, false)
    }

    /// See [`fold`].
    pub fn folded(self) -> Self {
        let (conv, norm) = fold(self.conv, self.norm);
        Self { conv, norm }
    }
}
