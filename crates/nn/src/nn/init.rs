//! Weight initialization.

use burn::module::{Initializer, Param};
use burn::tensor::{Device, Tensor};

/// Initialization of the weight of a convolution or a linear layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightInit {
    /// He et al. 2015, normal, fan out, for ReLU: backbones (torchvision `ResNet`).
    HeFanOut,
    /// `kaiming_uniform_(a=1)`: FPN convolutions (torchvision) and detectron2's `c2_xavier_fill`.
    KaimingUniformA1,
    /// PyTorch's default of `Linear` and `Conv2d`: `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`, which it
    /// also uses for the bias.
    PytorchDefault,
    /// `N(0, std)`: RPN head and detectron2's predictors.
    Normal(f64),
    /// Zero: the last layer of SE units that start as identity.
    Zeros,
}

impl WeightInit {
    /// Initializes a weight of this shape. `fan_in` and `fan_out` are PyTorch's: channels times kernel
    /// area.
    pub fn weight<const D: usize>(
        self,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
        device: &Device,
    ) -> Param<Tensor<D>> {
        let initializer = match self {
            Self::HeFanOut => Initializer::KaimingNormal {
                gain: std::f64::consts::SQRT_2,
                fan_out_only: true,
            },
            Self::KaimingUniformA1 => Initializer::KaimingUniform {
                gain: 1.0,
                fan_out_only: false,
            },
            Self::PytorchDefault => Initializer::KaimingUniform {
                gain: 1.0 / 3.0_f64.sqrt(),
                fan_out_only: false,
            },
            Self::Normal(std) => Initializer::Normal { mean: 0.0, std },
            Self::Zeros => Initializer::Zeros,
        };
        initializer.init_with(shape, Some(fan_in), Some(fan_out), device)
    }

    /// Initializes the bias, `[size]`: uniform for [`PytorchDefault`](Self::PytorchDefault), zero
    /// otherwise.
    pub fn bias(self, size: usize, fan_in: usize, device: &Device) -> Param<Tensor<1>> {
        match self {
            Self::PytorchDefault => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                Initializer::Uniform {
                    min: -bound,
                    max: bound,
                }
                .init([size], device)
            }
            _ => Initializer::Zeros.init([size], device),
        }
    }
}
