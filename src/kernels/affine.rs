//! One scale and shift per channel, then perhaps a sum and a ReLU: frozen batch norm in one pass.
//!
//! Composed of tensor operations, a frozen batch norm with its ReLU and its residual sum walks
//! over memory four times.

use burn::backend::Dispatch;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn::tensor::activation;
use rayon::prelude::*;

use super::batch_norm::{sum, sum_of};
use super::{CpuOps, buffer, dims, is_cpu, per_channel, tensor_of};

/// `x * scale[c] + shift[c]`, plus `residual` if given, clamped at zero if `relu`.
///
/// `x` and `residual` are `[batch, channels, height, width]`, `scale` and `shift` `[channels]`.
/// Differentiable in all four.
pub fn affine(
    x: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    if !is_cpu(&x.device()) {
        let y = x * per_channel(scale) + per_channel(shift);
        let y = match residual {
            Some(residual) => y + residual,
            None => y,
        };
        return if relu { activation::relu(y) } else { y };
    }
    let (x, scale, shift) = (
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
    );
    Tensor::from_dispatch(match residual {
        None => <Dispatch as CpuOps>::cpu_affine(x, scale, shift, relu),
        Some(residual) => <Dispatch as CpuOps>::cpu_affine_residual(
            x,
            scale,
            shift,
            residual.into_dispatch(),
            relu,
        ),
    })
}

/// The forward pass on the CPU.
pub(super) fn forward(
    x: &FlexTensor,
    scale: &FlexTensor,
    shift: &FlexTensor,
    residual: Option<&FlexTensor>,
    relu: bool,
) -> FlexTensor {
    let x = x.to_contiguous();
    let shape = dims::<4>(&x);
    let [_, channels, height, width] = shape;
    let size = height * width;
    let (scale, shift) = (scale.to_contiguous(), shift.to_contiguous());
    let (s, t): (&[f32], &[f32]) = (scale.storage(), shift.storage());
    let residual = residual.map(FlexTensor::to_contiguous);
    let residual: Option<&[f32]> = residual.as_ref().map(|r| r.storage());
    let values: &[f32] = x.storage();
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let mut y = buffer(values.len());
    y.par_chunks_exact_mut(size)
        .zip(values.par_chunks_exact(size))
        .enumerate()
        .for_each(|(n, (y, x))| {
            let (s, t) = (s[n % channels], t[n % channels]);
            match residual {
                None => {
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = clamp_below(x * s + t, floor);
                    }
                }
                Some(residual) => {
                    let r = &residual[n * size..(n + 1) * size];
                    for (y, (x, r)) in y.iter_mut().zip(x.iter().zip(r)) {
                        *y = clamp_below(x * s + t + r, floor);
                    }
                }
            }
        });
    tensor_of(y, shape)
}

/// Keeps NaN, which `f32::max` would turn into the floor: a diverging network must be seen.
fn clamp_below(value: f32, floor: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// What the backward pass needs. The input is kept only if the scale learns, the output only for
/// the ReLU's mask.
#[derive(Debug, Clone)]
struct State {
    x: Option<FlexTensor>,
    scale: FlexTensor,
    y: Option<FlexTensor>,
}

/// Gradients of x, scale, shift and, as `N = 4`, the residual.
#[derive(Debug)]
struct AffineBackward<const N: usize>;

impl<const N: usize> Backward<Flex, N> for AffineBackward<N> {
    type State = State;

    fn backward(self, ops: Ops<State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let State { x, scale, y } = ops.state;
        let mut grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let [_, channels, height, width] = dims(&grad);
        let size = height * width;
        if let Some(y) = y {
            grad = masked(&grad, &y);
        }
        let dz: &[f32] = grad.storage();
        let node = |i: usize| -> Option<NodeId> {
            ops.parents.get(i).and_then(|p| p.as_ref()).map(|n| n.id)
        };
        if let Some(id) = node(0) {
            let scale = scale.to_contiguous();
            let s: &[f32] = scale.storage();
            let mut dx = buffer(dz.len());
            dx.par_chunks_exact_mut(size)
                .zip(dz.par_chunks_exact(size))
                .enumerate()
                .for_each(|(n, (dx, dz))| {
                    let s = s[n % channels];
                    for (dx, dz) in dx.iter_mut().zip(dz) {
                        *dx = dz * s;
                    }
                });
            grads.register::<Flex>(id, tensor_of(dx, dims::<4>(&grad)));
        }
        let by_channel = |f: &(dyn Fn(usize, &[f32]) -> f64 + Sync)| {
            let mut sums = vec![0.0f64; channels];
            for (n, plane) in dz.chunks_exact(size).enumerate() {
                sums[n % channels] += f(n, plane);
            }
            tensor_of(sums.into_iter().map(|s| s as f32).collect(), [channels])
        };
        if let (Some(id), Some(x)) = (node(1), &x) {
            let x: &[f32] = x.storage();
            let d_scale =
                by_channel(&|n, dz| sum_of(dz, &x[n * size..(n + 1) * size], |dz, x| dz * x));
            grads.register::<Flex>(id, d_scale);
        }
        if let Some(id) = node(2) {
            grads.register::<Flex>(id, by_channel(&|_, dz| sum(dz)));
        }
        if let Some(id) = node(3) {
            grads.register::<Flex>(id, grad);
        }
    }
}

/// Elements a thread takes at once in element-wise loops.
const CHUNK: usize = 64 * 1024;

/// `grad` where the output is positive, zero elsewhere.
fn masked(grad: &FlexTensor, y: &FlexTensor) -> FlexTensor {
    let (g, y): (&[f32], &[f32]) = (grad.storage(), y.storage());
    let mut out = buffer(g.len());
    out.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)))
        .for_each(|(out, (g, y))| {
            for (out, (g, y)) in out.iter_mut().zip(g.iter().zip(y)) {
                *out = if *y > 0.0 { *g } else { 0.0 };
            }
        });
    tensor_of(out, dims::<4>(grad))
}

/// The operation without a residual, recorded for the backward pass.
pub(super) fn record<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    scale: FloatTensor<Autodiff<Flex, C>>,
    shift: FloatTensor<Autodiff<Flex, C>>,
    relu: bool,
) -> FloatTensor<Autodiff<Flex, C>> {
    let keep_x = scale.is_tracked();
    let prep = AffineBackward::<3>
        .prepare::<C>([x.node(), scale.node(), shift.node()])
        .compute_bound();
    let x = x.primitive().to_contiguous();
    let y = forward(&x, scale.primitive(), shift.primitive(), None, relu);
    match prep.stateful() {
        OpsKind::Tracked(prep) => {
            let state = State {
                x: keep_x.then_some(x),
                scale: scale.into_primitive(),
                y: relu.then(|| y.clone()),
            };
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

/// The operation with a residual, recorded for the backward pass.
pub(super) fn record_residual<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    scale: FloatTensor<Autodiff<Flex, C>>,
    shift: FloatTensor<Autodiff<Flex, C>>,
    residual: FloatTensor<Autodiff<Flex, C>>,
    relu: bool,
) -> FloatTensor<Autodiff<Flex, C>> {
    let keep_x = scale.is_tracked();
    let prep = AffineBackward::<4>
        .prepare::<C>([x.node(), scale.node(), shift.node(), residual.node()])
        .compute_bound();
    let x = x.primitive().to_contiguous();
    let y = forward(
        &x,
        scale.primitive(),
        shift.primitive(),
        Some(residual.primitive()),
        relu,
    );
    match prep.stateful() {
        OpsKind::Tracked(prep) => {
            let state = State {
                x: keep_x.then_some(x),
                scale: scale.into_primitive(),
                y: relu.then(|| y.clone()),
            };
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}
