//! Random weights for comparisons: unlike initial weights, no number is one or zero.

use std::ops::Range;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws numbers, and as a mapper replaces every number of a module by a random one, so that no norm is the identity.
///
/// The generator is its own: others may draw from that of the device at the same time.
#[derive(Debug)]
pub(crate) struct RandomNumbers(ChaCha8Rng);

impl RandomNumbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a tensor of uniform numbers.
    pub(crate) fn tensor<const D: usize>(
        &mut self,
        shape: [usize; D],
        range: Range<f32>,
        device: &Device,
    ) -> Tensor<D> {
        let count = shape.iter().product();
        let numbers = (0..count).map(|_| self.0.random_range(range.clone()));
        let numbers: Vec<f32> = numbers.collect();
        Tensor::from_data(TensorData::new(numbers, shape), device)
    }
}

impl ModuleMapper for RandomNumbers {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        parameter.map(|values| {
            let (shape, device) = (values.dims(), values.device());
            if D == 1 {
                // Norms begin at one or zero, and biases near zero.
                let mean: f32 = values.mean().into_scalar();
                let center = if (mean - 1.0).abs() < 1e-3 { 1.0 } else { 0.05 };
                return self.tensor(shape, 0.6..1.4, &device) * center;
            }
            // Half the variance that keeps a signal's: in a network whose numbers grow, rounding grows with them, up to
            // other SE gates.
            let inputs = if D == 2 {
                shape[0]
            } else {
                shape[1..].iter().product()
            };
            let bound = (3.0 / inputs as f32).sqrt();
            self.tensor(shape, -bound..bound, &device)
        })
    }
}
