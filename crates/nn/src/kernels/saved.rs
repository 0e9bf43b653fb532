//! What an operation keeps of its feature maps for the backward pass.
//!
//! They are most of the memory of a training step. In 32-bit floats an operation keeps the tensors, which it shares with the
//! operations before and after it. Where products are in bf16, it keeps the numbers that these products read anyway,
//! rounded to bf16, and of the output of a ReLU one bit per element, so that the tensors can be freed.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Slice;
use pulp::bytemuck::cast_slice;
use rayon::prelude::*;

use super::affine::AffineOps;
use super::bf16::{Bf16Cpu, ComputePrecision, Pair, SIGNS};
use super::cpu::{Contiguous, Output, all_f32, dims};
use super::vectorized::vectorized;

/// Elements of a task: 256 KiB of 32-bit floats.
const PER_TASK: usize = 64 * 1024;

/// How a backend keeps feature maps.
pub(super) trait SaveOps: AffineOps {
    /// A feature map.
    type Saved: Clone + Debug + Send + 'static;
    /// Where the output of a ReLU is positive.
    type Signs: Clone + Debug + Send + 'static;

    /// Keeps the input, `[batch, channels, height, width]`, of products in this precision.
    fn save(x: FloatTensor<Self>, precision: ComputePrecision) -> Self::Saved;

    /// Returns a feature map as it was kept.
    fn restore(saved: Self::Saved) -> FloatTensor<Self>;

    /// Returns one image of a batch as a batch of one.
    fn image_of(saved: &Self::Saved, image: usize) -> Self::Saved;

    /// Keeps where the output of a ReLU after products in this precision is positive.
    fn save_signs(output: FloatTensor<Self>, precision: ComputePrecision) -> Self::Signs;

    /// Returns the gradient of the input of a ReLU.
    fn gradient_of_relu(
        signs: Self::Signs,
        output_gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// A feature map of the CPU.
#[derive(Clone, Debug)]
pub(super) enum Saved {
    Whole(FlexTensor),
    Rounded(Arc<Rounded>),
}

/// Where the output of a ReLU on the CPU is positive.
#[derive(Clone, Debug)]
pub(super) enum SavedSigns {
    Output(FlexTensor),
    Bits(Arc<SignBits>),
}

/// The elements of a tensor rounded to bf16, two neighbors in a pair.
#[derive(Debug)]
pub(super) struct Rounded {
    pairs: Vec<Pair>,
    shape: [usize; 4],
}

/// One bit for each element of a tensor, [`SIGNS`] in a number.
#[derive(Debug)]
pub(super) struct SignBits {
    cpu: Bf16Cpu,
    bits: Vec<u16>,
}

impl SaveOps for Flex {
    type Saved = Saved;
    type Signs = SavedSigns;

    fn save(x: FlexTensor, precision: ComputePrecision) -> Saved {
        match precision.bf16() {
            Some(cpu) if all_f32([&x]) => Saved::Rounded(Arc::new(Rounded::new(cpu, x))),
            _ => Saved::Whole(x),
        }
    }

    fn restore(saved: Saved) -> FlexTensor {
        match saved {
            Saved::Whole(x) => x,
            Saved::Rounded(rounded) => rounded.widened(),
        }
    }

    fn image_of(saved: &Saved, image: usize) -> Saved {
        match saved {
            Saved::Whole(x) => Saved::Whole(image_of::<Self>(x.clone(), image)),
            Saved::Rounded(rounded) => rounded.image(image),
        }
    }

    fn save_signs(output: FlexTensor, precision: ComputePrecision) -> SavedSigns {
        match precision.bf16() {
            Some(cpu) if all_f32([&output]) => {
                SavedSigns::Bits(Arc::new(SignBits::new(cpu, output)))
            }
            _ => SavedSigns::Output(output),
        }
    }

    fn gradient_of_relu(signs: SavedSigns, output_gradient: FlexTensor) -> FlexTensor {
        match signs {
            SavedSigns::Output(output) => Self::relu_gradient(output, output_gradient),
            SavedSigns::Bits(bits) => bits.select(output_gradient),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl SaveOps for burn::backend::Cube {
    type Saved = FloatTensor<Self>;
    type Signs = FloatTensor<Self>;

    fn save(x: FloatTensor<Self>, _: ComputePrecision) -> FloatTensor<Self> {
        x
    }

    fn restore(saved: FloatTensor<Self>) -> FloatTensor<Self> {
        saved
    }

    fn image_of(saved: &FloatTensor<Self>, image: usize) -> FloatTensor<Self> {
        image_of::<Self>(saved.clone(), image)
    }

    fn save_signs(output: FloatTensor<Self>, _: ComputePrecision) -> FloatTensor<Self> {
        output
    }

    fn gradient_of_relu(
        output: FloatTensor<Self>,
        output_gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::relu_gradient(output, output_gradient)
    }
}

/// Returns one image of a batch as a batch of one. A batch of one is returned as it is.
pub(super) fn image_of<B: Backend>(batch: FloatTensor<B>, image: usize) -> FloatTensor<B> {
    if batch.shape()[0] == 1 {
        batch
    } else {
        B::float_slice(batch, &[Slice::from(image..image + 1)])
    }
}

impl Rounded {
    /// Returns the shape of the tensor.
    pub(super) fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Returns the pairs of elements 0 and 1, 2 and 3 and so on.
    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    fn image(self: &Arc<Self>, image: usize) -> Saved {
        let [batch, channels, height, width] = self.shape;
        let elements = channels * height * width;
        if batch == 1 {
            Saved::Rounded(self.clone())
        } else if elements.is_multiple_of(2) {
            let half = elements / 2;
            Saved::Rounded(Arc::new(Self {
                pairs: self.pairs[image * half..(image + 1) * half].to_vec(),
                shape: [1, channels, height, width],
            }))
        } else {
            // The image begins within a pair.
            Saved::Whole(image_of::<Flex>(self.widened(), image))
        }
    }

    fn new(cpu: Bf16Cpu, x: FlexTensor) -> Self {
        let shape = dims(&x);
        let x = Contiguous::new(x);
        let mut pairs = vec![0; x.data().len().div_ceil(2)];
        pairs
            .par_chunks_mut(PER_TASK / 2)
            .zip(x.data().par_chunks(PER_TASK))
            .for_each(|(pairs, values)| cpu.pair_neighbors(values, pairs));
        Self { pairs, shape }
    }

    /// Returns the elements as 32-bit floats.
    fn widened(&self) -> FlexTensor {
        let elements = self.shape.iter().product();
        by_parts(elements, self.shape, |at, part| {
            // The elements in their order, on a CPU that stores the lower half first, as all with bf16 do.
            let halves: &[u16] = cast_slice(&self.pairs[at / 2..]);
            vectorized(
                #[inline(always)]
                || {
                    for (value, half) in part.iter_mut().zip(halves) {
                        *value = f32::from_bits(u32::from(*half) << 16);
                    }
                },
            );
        })
    }
}

impl SignBits {
    fn new(cpu: Bf16Cpu, output: FlexTensor) -> Self {
        let output = Contiguous::new(output);
        let mut bits = vec![0; output.data().len().div_ceil(SIGNS)];
        bits.par_chunks_mut(PER_TASK / SIGNS)
            .zip(output.data().par_chunks(PER_TASK))
            .for_each(|(bits, values)| cpu.signs(values, bits));
        Self { cpu, bits }
    }

    /// Returns the elements whose bit is set, and zeros elsewhere.
    fn select(&self, values: FlexTensor) -> FlexTensor {
        let shape = dims(&values);
        let values = Contiguous::new(values);
        let values = values.data();
        by_parts(values.len(), shape, |at, part| {
            let values = &values[at..at + part.len()];
            self.cpu.select(&self.bits[at / SIGNS..], values, part);
        })
    }
}

/// Returns a tensor whose parts `fill` computes: it gets the position of the first element and the part, which begins at
/// a multiple of [`SIGNS`].
fn by_parts(
    elements: usize,
    shape: [usize; 4],
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> FlexTensor {
    /// Elements on the stack.
    const PART: usize = 64 * SIGNS;
    let mut output = Output::new(elements);
    let shared = output.shared();
    (0..elements.div_ceil(PER_TASK))
        .into_par_iter()
        .for_each(|task| {
            let end = ((task + 1) * PER_TASK).min(elements);
            let mut buffer = [0.0; PART];
            for at in (task * PER_TASK..end).step_by(PART) {
                let part = &mut buffer[..PART.min(end - at)];
                fill(at, part);
                // SAFETY: no other task has these elements.
                unsafe { shared.write(at, part) };
            }
        });
    // SAFETY: the tasks have all elements.
    unsafe { output.into_tensor(shape) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::cpu::tensor;
    use super::*;

    fn values_of(tensor: &FlexTensor) -> Vec<f32> {
        Contiguous::new(tensor.clone()).data().to_vec()
    }

    /// Rounds to the nearest, ties to even, as an integer computation; numbers below the smallest normal one become zero.
    fn rounded(value: f32) -> f32 {
        if value.is_nan() {
            return value;
        }
        if value.is_subnormal() {
            return 0.0_f32.copysign(value);
        }
        let bits = value.to_bits();
        f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }

    proptest! {
        #[test]
        fn feature_maps_are_kept_rounded_and_signs_exactly(
            values in proptest::collection::vec(any::<f32>(), 1..300),
            repeated in 1usize..400,
        ) {
            let Some(cpu) = Bf16Cpu::get() else {
                return Ok(());
            };
            let values = values.repeat(repeated);
            let shape = [1, 1, 1, values.len()];
            let x = tensor(values.clone(), shape);
            let kept = values_of(&Rounded::new(cpu, x.clone()).widened());
            for (value, kept) in values.iter().zip(kept) {
                let expected = rounded(*value);
                prop_assert!(kept == expected || kept.is_nan() && expected.is_nan(), "{value}: {kept}");
            }
            let gradient: Vec<f32> = (0..values.len()).map(|i| i as f32 + 0.1).collect();
            let bits = SignBits::new(cpu, x.clone());
            let selected = values_of(&bits.select(tensor(gradient.clone(), shape)));
            let whole = values_of(&Flex::relu_gradient(x, tensor(gradient, shape)));
            prop_assert_eq!(selected, whole);
        }
    }
}
