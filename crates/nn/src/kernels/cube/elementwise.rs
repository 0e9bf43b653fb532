//! Affine maps, sums, SE gates and ReLU on GPUs, each in one pass.
//!
//! burn's convolutions return feature maps with the channels innermost in memory. The kernels here go through memory as it
//! is, whatever the order of its axes, and return the same order: a copy into another order would cost more than the
//! operation.

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{all_f32, threads_for};

/// The order of the axes of a feature map in memory, without gaps.
#[derive(Clone, Copy, PartialEq)]
struct Order {
    shape: [usize; 4],
    strides: [usize; 4],
}

impl Order {
    /// Returns the order of a feature map; None if its elements overlap or have gaps between them.
    fn of(tensor: &CubeTensor) -> Option<Self> {
        let shape = tensor.shape().dims::<4>();
        let mut strides = [0; 4];
        strides.copy_from_slice(tensor.meta.strides());
        let mut axes: Vec<usize> = (0..4).filter(|axis| shape[*axis] > 1).collect();
        axes.sort_by_key(|axis| strides[*axis]);
        let mut next = 1;
        for axis in axes {
            if strides[axis] != next {
                return None;
            }
            next *= shape[axis];
        }
        // An axis of one element has any stride.
        let stride_of = |axis: usize| if shape[axis] > 1 { strides[axis] } else { 1 };
        Some(Self {
            shape,
            strides: std::array::from_fn(stride_of),
        })
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Returns the order that all feature maps have, if these kernels can take them.
fn common_order<'a>(maps: impl IntoIterator<Item = &'a CubeTensor> + Clone) -> Option<Order> {
    let mut orders = maps.clone().into_iter().map(Order::of);
    let first = orders.next()??;
    // Of an empty map there is nothing to launch for.
    let is_equal = orders.all(|order| order == Some(first));
    (is_equal && first.elements() > 0 && all_f32(maps)).then_some(first)
}

/// Returns a feature map like another, not initialized.
fn like(map: &CubeTensor, order: &Order) -> CubeTensor {
    let handle = map.client.empty(order.elements() * size_of::<f32>());
    CubeTensor::new(
        map.client.clone(),
        handle,
        (*map.meta).clone(),
        map.device.clone(),
        map.dtype,
    )
}

/// Computes `x * scale + shift + residual`, and its ReLU; None if the kernel cannot take these tensors.
pub(in crate::kernels) fn affine(
    x: &CubeTensor,
    scale: &CubeTensor,
    shift: &CubeTensor,
    residual: Option<&CubeTensor>,
    relu: bool,
) -> Option<CubeTensor> {
    let order = common_order([x].into_iter().chain(residual))?;
    if !all_f32([scale, shift]) {
        return None;
    }
    let output = like(x, &order);
    let (count, dim) = threads_for(&output, order.elements());
    affine_kernel::launch(
        &output.client,
        count,
        dim,
        x.clone().into_tensor_arg(),
        into_contiguous(scale.clone()).into_tensor_arg(),
        into_contiguous(shift.clone()).into_tensor_arg(),
        residual.unwrap_or(x).clone().into_tensor_arg(),
        output.clone().into_tensor_arg(),
        order.strides[1],
        residual.is_some(),
        relu,
    );
    Some(output)
}

/// Computes `output_gradient * scale`, zero where the output of a ReLU is zero; None if the kernel cannot take these
/// tensors.
pub(in crate::kernels) fn affine_input_gradient(
    output_gradient: &CubeTensor,
    scale: &CubeTensor,
    output: Option<&CubeTensor>,
) -> Option<CubeTensor> {
    let order = common_order([output_gradient].into_iter().chain(output))?;
    if !all_f32([scale]) {
        return None;
    }
    let gradient = like(output_gradient, &order);
    let (count, dim) = threads_for(&gradient, order.elements());
    affine_gradient_kernel::launch(
        &gradient.client,
        count,
        dim,
        output_gradient.clone().into_tensor_arg(),
        into_contiguous(scale.clone()).into_tensor_arg(),
        output.unwrap_or(output_gradient).clone().into_tensor_arg(),
        gradient.clone().into_tensor_arg(),
        order.strides[1],
        output.is_some(),
    );
    Some(gradient)
}

/// Computes `max(a + b, 0)`; None if the kernel cannot take these tensors.
pub(in crate::kernels) fn add_relu(a: &CubeTensor, b: &CubeTensor) -> Option<CubeTensor> {
    let order = common_order([a, b])?;
    let output = like(a, &order);
    let (count, dim) = threads_for(&output, order.elements());
    add_relu_kernel::launch(
        &output.client,
        count,
        dim,
        a.clone().into_tensor_arg(),
        b.clone().into_tensor_arg(),
        output.clone().into_tensor_arg(),
    );
    Some(output)
}

/// Computes `max(x * gates + residual, 0)`; None if the kernel cannot take these tensors.
pub(in crate::kernels) fn excite_add_relu(
    x: &CubeTensor,
    gates: &CubeTensor,
    residual: &CubeTensor,
) -> Option<CubeTensor> {
    let order = common_order([x, residual])?;
    if !all_f32([gates]) {
        return None;
    }
    let output = like(x, &order);
    let (count, dim) = threads_for(&output, order.elements());
    excite_kernel::launch(
        &output.client,
        count,
        dim,
        x.clone().into_tensor_arg(),
        into_contiguous(gates.clone()).into_tensor_arg(),
        residual.clone().into_tensor_arg(),
        output.clone().into_tensor_arg(),
        order.strides[0],
        order.strides[1],
    );
    Some(output)
}

/// Returns `max(value, 0)`; NaN stays NaN, which the `max` of some devices drops.
#[cube]
fn relu_of(value: f32) -> f32 {
    select(value < 0.0f32, 0.0f32, value)
}

#[cube(launch)]
fn affine_kernel(
    x: &Tensor<f32>,
    scale: &Tensor<f32>,
    shift: &Tensor<f32>,
    residual: &Tensor<f32>,
    output: &mut Tensor<f32>,
    channel_stride: usize,
    #[comptime] has_residual: bool,
    #[comptime] relu: bool,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let channel = ABSOLUTE_POS / channel_stride % scale.len();
    let mut y = x[ABSOLUTE_POS] * scale[channel] + shift[channel];
    if comptime!(has_residual) {
        y += residual[ABSOLUTE_POS];
    }
    if comptime!(relu) {
        y = relu_of(y);
    }
    output[ABSOLUTE_POS] = y;
}

#[cube(launch)]
fn affine_gradient_kernel(
    output_gradient: &Tensor<f32>,
    scale: &Tensor<f32>,
    output: &Tensor<f32>,
    gradient: &mut Tensor<f32>,
    channel_stride: usize,
    #[comptime] has_relu: bool,
) {
    if ABSOLUTE_POS >= gradient.len() {
        terminate!();
    }
    let channel = ABSOLUTE_POS / channel_stride % scale.len();
    let scaled = output_gradient[ABSOLUTE_POS] * scale[channel];
    if comptime!(has_relu) {
        gradient[ABSOLUTE_POS] = select(output[ABSOLUTE_POS] > 0.0f32, scaled, 0.0f32);
    } else {
        gradient[ABSOLUTE_POS] = scaled;
    }
}

#[cube(launch)]
fn add_relu_kernel(a: &Tensor<f32>, b: &Tensor<f32>, output: &mut Tensor<f32>) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    output[ABSOLUTE_POS] = relu_of(a[ABSOLUTE_POS] + b[ABSOLUTE_POS]);
}

#[cube(launch)]
fn excite_kernel(
    x: &Tensor<f32>,
    gates: &Tensor<f32>,
    residual: &Tensor<f32>,
    output: &mut Tensor<f32>,
    image_stride: usize,
    channel_stride: usize,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let channels = gates.shape(1);
    let image = ABSOLUTE_POS / image_stride % gates.shape(0);
    let channel = ABSOLUTE_POS / channel_stride % channels;
    let gate = gates[image * channels + channel];
    output[ABSOLUTE_POS] = relu_of(x[ABSOLUTE_POS] * gate + residual[ABSOLUTE_POS]);
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::tensor::{Device, Tensor};
    use proptest::prelude::*;

    use crate::kernels::affine::{add_relu, affine};
    use crate::kernels::excite::excite_add_relu;
    use crate::kernels::fixture::{assert_close, gpu, noise, values};

    /// Returns the outputs and the gradients of all operations of this module, on feature maps whose axes are in an order
    /// in memory.
    fn computed(device: Device, shape: [usize; 4], axes: [usize; 4], mixed: bool) -> Vec<Vec<f32>> {
        let device = device.autodiff();
        let [batch, channels, ..] = shape;
        let stored = axes.map(|axis| shape[axis]);
        let mut back = [0; 4];
        for (at, axis) in axes.into_iter().enumerate() {
            back[axis] = at;
        }
        let map = |seed: u32, is_stored: bool| {
            if is_stored {
                let map = noise::<4>(seed, stored, &device);
                map.permute(back.map(|axis| axis as isize)).require_grad()
            } else {
                noise::<4>(seed, shape, &device).require_grad()
            }
        };
        let per_channel = |seed: u32| noise::<1>(seed, [channels], &device);
        let x = map(1, true);
        // The kernels need one order; others take the portable form.
        let residual = map(2, !mixed);
        let gates = noise::<4>(3, [batch, channels, 1, 1], &device).require_grad();
        let mut all = Vec::new();
        let mut add = |y: Tensor<4>, inputs: &[&Tensor<4>]| {
            let weights = noise::<4>(4, shape, &device);
            let gradients = (y.clone() * weights).sum().backward();
            all.push(values(y));
            for input in inputs {
                all.push(values(input.grad(&gradients).unwrap()));
            }
        };
        for (with_residual, relu) in [(false, false), (false, true), (true, true)] {
            let other = with_residual.then(|| residual.clone());
            let y = affine(x.clone(), per_channel(5), per_channel(6), other, relu);
            add(y, &[&x]);
        }
        add(add_relu(x.clone(), residual.clone()), &[&x, &residual]);
        let y = excite_add_relu(x.clone(), gates.clone(), residual.clone());
        add(y, &[&x, &gates, &residual]);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn outputs_and_gradients_in_any_order_of_the_axes_equal_those_of_the_cpu(
            shape in prop::array::uniform4(1_usize..9),
            axes in Just([0_usize, 1, 2, 3]).prop_shuffle(),
            mixed: bool,
        ) {
            let cpu = computed(Device::flex(), shape, axes, mixed);
            let on_gpu = computed(gpu(), shape, axes, mixed);
            for (at, (actual, expected)) in on_gpu.iter().zip(&cpu).enumerate() {
                assert_close(&format!("{at}"), actual, expected);
            }
        }
    }
}
