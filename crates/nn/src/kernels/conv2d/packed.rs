//! Weights in the orders of the kernels, kept from one inference to the next.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Shape;

use super::super::bf16::{Bf16Cpu, ComputePrecision, Pair};
use super::super::cpu::tensor;

/// The weights of one convolution in the orders that its kernels read, for inference.
///
/// A kernel that reads weights in another order computes that order in each call: a pass over the weights,
/// and for Winograd's transform several. On the small feature maps of a classifier's last stages that takes
/// as long as the products. With this value the first call keeps the order for the calls after it. Each
/// order has the size of the weights, Winograd's four times that; which of them are kept depends on the
/// sizes of the feature maps that occur. In bf16, the orders are those of pairs of bf16 and half as large, except
/// for Winograd's.
///
/// Weights that are only ever multiplied as pairs of bf16 can be reduced to them: then nothing keeps
/// their 32-bit floats.
///
/// Clones share the orders. They belong to one weight tensor: for another one they are ignored, never used.
#[derive(Clone)]
pub struct PackedWeights {
    precision: ComputePrecision,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    /// The tensor that the orders were computed from. As long as it is held here, no other tensor can have
    /// its memory, and nothing can write to it.
    source: OnceLock<FlexTensor>,
    rows: OnceLock<Vec<f32>>,
    vectors: OnceLock<Vec<f32>>,
    winograd: OnceLock<Vec<f32>>,
    pairs: OnceLock<Vec<Pair>>,
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Orders {
            rows,
            vectors,
            winograd,
            pairs,
            ..
        } = &*self.orders;
        let elements = |order: &OnceLock<Vec<f32>>| order.get().map_or(0, Vec::len);
        f.debug_struct("PackedWeights")
            .field("precision", &self.precision)
            .field("rows", &elements(rows))
            .field("vectors", &elements(vectors))
            .field("winograd", &elements(winograd))
            .field("pairs", &pairs.get().map_or(0, Vec::len))
            .finish()
    }
}

impl PackedWeights {
    /// Weights of which no order is computed yet, for multiplications in this precision, or in 32-bit floats where it
    /// is not available.
    pub fn new(precision: ComputePrecision) -> Self {
        Self {
            precision: precision.or_f32(),
            orders: Arc::default(),
        }
    }

    /// Returns the proof that this CPU multiplies bf16, if the weights are for that.
    pub(in crate::kernels) fn bf16(&self) -> Option<Bf16Cpu> {
        self.precision.bf16()
    }

    /// Returns the pairs of bf16 that a kernel reads, computed by `compute` for the first call. None if they belong to
    /// another tensor.
    pub(in crate::kernels) fn pairs(
        &self,
        weight: &FlexTensor,
        compute: impl FnOnce() -> Vec<Pair>,
    ) -> Option<&[Pair]> {
        self.are_of(weight)
            .then(|| kept(&self.orders.pairs, compute))
    }

    /// Keeps pairs as the only elements of weights of a shape. Returns what stands for the weights from now on: a tensor
    /// of that shape that is NaN everywhere, in the memory of one element, so that a computation without the pairs would
    /// not go unnoticed. None if other weights have orders here.
    pub(in crate::kernels) fn reduce_to<const N: usize>(
        &self,
        pairs: Vec<Pair>,
        shape: [usize; N],
    ) -> Option<FlexTensor> {
        let element = tensor(vec![f32::NAN], [1; N]);
        let stand_in = <Flex as FloatTensorOps<Flex>>::float_expand(element, Shape::from(shape));
        self.orders.source.set(stand_in.clone()).ok()?;
        self.orders.pairs.set(pairs).ok()?;
        Some(stand_in)
    }

    /// Returns whether products are those of bf16.
    pub(crate) fn are_bf16(&self) -> bool {
        self.bf16().is_some()
    }

    /// Returns whether weights were [reduced to pairs](Self::reduce_to).
    pub(crate) fn are_reduced(&self) -> bool {
        let source = self.orders.source.get();
        source.is_some_and(|source| self.are_reduced_from(source))
    }

    /// Returns whether `weight` stands for weights that were [reduced to pairs](Self::reduce_to).
    pub(in crate::kernels) fn are_reduced_from(&self, weight: &FlexTensor) -> bool {
        let is_one_element = || weight.storage::<f32>().len() == 1;
        let is_larger = weight.layout().num_elements() > 1;
        is_larger && is_one_element() && self.are_of(weight)
    }

    /// Returns whether the orders are those of `weight`. The first tensor that is asked for is their tensor.
    fn are_of(&self, weight: &FlexTensor) -> bool {
        let source = self.orders.source.get_or_init(|| weight.clone());
        std::ptr::eq(source.storage::<f32>(), weight.storage::<f32>())
            && source.layout() == weight.layout()
    }
}

/// Output pixels of a batch from which Winograd's transform is computed in each call in bf16: 150 tiles of 4x4. The
/// transforms of a detector's large feature maps would take as much memory as all of its pairs, and the products take
/// a hundred times as long as they do.
const WINOGRAD_KEPT_BELOW: usize = 2400;

/// An order of the weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// [`pack`](super::super::panels::pack).
    Rows,
    /// [`pack_vectors`](super::super::panels::pack_vectors).
    Vectors,
    /// Winograd's transform.
    Winograd,
}

/// The weights of a call.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// `[filters, channels, kernel height, kernel width]`, contiguous.
    pub(super) data: &'a [f32],
    kept: Option<&'a PackedWeights>,
    /// Output pixels of the batch.
    pixels: usize,
    /// Of weights that are not kept.
    precision: ComputePrecision,
}

impl<'a> Weights<'a> {
    /// Weights whose orders are computed in each call, for multiplications in this precision. `pixels` are those of the
    /// output of the batch.
    pub(super) fn new(data: &'a [f32], precision: ComputePrecision, pixels: usize) -> Self {
        Self {
            data,
            kept: None,
            pixels,
            precision,
        }
    }

    /// Returns these weights with orders that are in `kept`, if `kept` belongs to `tensor`, which they are the elements of.
    pub(super) fn kept_in(self, tensor: &FlexTensor, kept: Option<&'a PackedWeights>) -> Self {
        Self {
            kept: kept.filter(|kept| kept.are_of(tensor)),
            ..self
        }
    }

    /// Returns whether an order is computed once for all calls.
    pub(super) fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Returns the proof that this CPU multiplies bf16, if products are those of bf16.
    pub(super) fn bf16(&self) -> Option<Bf16Cpu> {
        match self.kept {
            Some(kept) => kept.bf16(),
            None => self.precision.bf16(),
        }
    }

    /// Returns the weights in an order, computed by `compute` unless they are kept.
    pub(super) fn order(
        &self,
        order: Order,
        compute: impl FnOnce(&[f32]) -> Vec<f32>,
    ) -> Cow<'a, [f32]> {
        let Some(PackedWeights { orders, .. }) = self.kept else {
            return Cow::Owned(compute(self.data));
        };
        let cell = match order {
            Order::Rows => &orders.rows,
            Order::Vectors => &orders.vectors,
            Order::Winograd => &orders.winograd,
        };
        let is_large = self.pixels >= WINOGRAD_KEPT_BELOW && cell.get().is_none();
        if is_large && order == Order::Winograd && self.bf16().is_some() {
            return Cow::Owned(compute(self.data));
        }
        Cow::Borrowed(kept(cell, || compute(self.data)))
    }

    /// Returns the weights as pairs of bf16, computed by `compute` unless they are kept, and the proof that this CPU
    /// multiplies them; none if the precision is another one.
    pub(super) fn pairs(
        &self,
        compute: impl FnOnce(Bf16Cpu, &[f32]) -> Vec<Pair>,
    ) -> Option<(Bf16Cpu, Cow<'a, [Pair]>)> {
        let cpu = self.bf16()?;
        let pairs = match self.kept {
            Some(packed) => Cow::Borrowed(kept(&packed.orders.pairs, || compute(cpu, self.data))),
            None => Cow::Owned(compute(cpu, self.data)),
        };
        Some((cpu, pairs))
    }
}

/// Returns the order of a cell, computed by `compute` if it is empty.
fn kept<T>(cell: &OnceLock<Vec<T>>, compute: impl FnOnce() -> Vec<T>) -> &[T] {
    if let Some(kept) = cell.get() {
        return kept;
    }
    // Outside of `get_or_init`: a thread that waits for the tasks of `compute` may run another forward pass of the
    // same network, which would wait for this lock forever.
    let computed = compute();
    cell.get_or_init(|| computed)
}
