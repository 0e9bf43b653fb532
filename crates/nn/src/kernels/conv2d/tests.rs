//! Tests of the convolution: against PyTorch, against burn, and of the fused operations.

use super::super::bf16::{ComputePrecision, autocast};
use super::super::fixture::{
    assert_same_bits_on_any_thread_count, assert_within, cases, noise, values,
};
use super::*;
use burn::backend::Flex;
use burn::tensor::{Device, TensorData};
use proptest::prelude::*;

fn pair(value: &serde_json::Value) -> [usize; 2] {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn convolution_and_its_gradients_equal_those_of_pytorch() {
    for case in cases("conv") {
        let options = Conv2dOptions {
            stride: pair(&case.options["stride"]),
            padding: pair(&case.options["padding"]),
            dilation: pair(&case.options["dilation"]),
            groups: case.options["groups"].as_u64().unwrap() as usize,
        };
        let (x, weight) = (case.input::<4>("x"), case.input::<4>("weight"));
        let bias = case.has("bias").then(|| case.input::<1>("bias"));
        let y = conv2d(x.clone(), weight.clone(), bias.clone(), options);
        case.assert_equals("y", y.clone());
        let gradients = (y * case.constant("dy")).sum().backward();
        case.assert_equals("dx", x.grad(&gradients).unwrap());
        case.assert_equals("dweight", weight.grad(&gradients).unwrap());
        if let Some(bias) = bias {
            case.assert_equals("dbias", bias.grad(&gradients).unwrap());
        }
    }
}

/// Returns the output, the gradient of the input and the gradient of the weight.
fn all_values(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> [Vec<f32>; 3] {
    let device = Device::flex().autodiff();
    let x = noise(1, x, &device).require_grad();
    let weight = noise(2, weight, &device).require_grad();
    let y = conv2d(x.clone(), weight.clone(), None, options);
    let dy = noise(3, y.dims(), &device);
    let gradients = (y.clone() * dy).sum().backward();
    let (dx, dweight) = (x.grad(&gradients), weight.grad(&gradients));
    [y, dx.unwrap(), dweight.unwrap()].map(values)
}

/// Returns the same by burn's convolution.
fn portable_values(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> [Vec<f32>; 3] {
    let flat = |tensor: Tensor<4>| -> FlexTensor { FlexTensor::from_data(tensor.into_data()) };
    let device = Device::flex();
    let shapes = (x, weight);
    let x = flat(noise(1, x, &device));
    let weight = flat(noise(2, weight, &device));
    let inputs = Conv2dInputs {
        x: x.clone(),
        weight: weight.clone(),
        scale: OptionalTensor::Absent,
        bias: OptionalTensor::Absent,
        gates: OptionalTensor::Absent,
        residual: OptionalTensor::Absent,
        relu: false,
        packed: None,
        precision: ComputePrecision::F32,
    };
    let y = portable_forward::<Flex>(inputs, options);
    let dy = flat(noise(3, dims::<4>(&y), &device));
    let dx = portable_input_gradient::<Flex>(dy.clone(), weight, shapes.0, options);
    let dweight = portable_weight_gradient::<Flex>(x, dy, shapes.1, options);
    [y, dx, dweight].map(|tensor| tensor.into_data().try_to_vec::<f32>().unwrap())
}

fn assert_equals_portable(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) {
    let actual = all_values(x, weight, options);
    let expected = portable_values(x, weight, options);
    // Winograd's transforms add numbers of different magnitude, above all for the weights.
    let tolerances = [("y", 1e-5), ("dx", 1e-5), ("dweight", 3e-5)];
    for ((name, tolerance), (actual, expected)) in
        tolerances.into_iter().zip(actual.iter().zip(&expected))
    {
        let name = format!("{name} of {x:?} {weight:?} {options:?}");
        assert_within(tolerance, &name, actual, expected);
    }
}

fn options(stride: usize, padding: usize, groups: usize) -> Conv2dOptions {
    Conv2dOptions {
        stride: [stride; 2],
        padding: [padding; 2],
        groups,
        ..Conv2dOptions::default()
    }
}

#[test]
fn sizes_that_need_several_tiles_equal_the_portable_form() {
    assert_equals_portable([2, 24, 40, 44], [20, 24, 3, 3], options(1, 1, 1));
    assert_equals_portable([2, 16, 41, 43], [20, 16, 3, 3], options(2, 1, 1));
    assert_equals_portable([2, 3, 64, 70], [16, 3, 7, 7], options(2, 3, 1));
    assert_equals_portable([2, 96, 30, 31], [70, 96, 1, 1], options(1, 0, 1));
    assert_equals_portable([3, 64, 20, 20], [64, 2, 3, 3], options(1, 1, 32));
    assert_equals_portable([3, 64, 20, 20], [64, 4, 3, 3], options(2, 1, 16));
}

#[test]
fn small_feature_maps_and_wide_weights_equal_the_portable_form() {
    assert_equals_portable([1, 130, 5, 5], [140, 130, 3, 3], options(1, 1, 1));
    assert_equals_portable([9, 130, 5, 5], [140, 130, 3, 3], options(1, 1, 1));
    assert_equals_portable([9, 130, 5, 5], [140, 130, 1, 1], options(1, 0, 1));
    assert_equals_portable([9, 64, 7, 5], [300, 64, 1, 1], options(2, 0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_geometry_equals_the_portable_form(
        batch in 1usize..4,
        groups in 1usize..4,
        channels in 1usize..4,
        filters in 1usize..4,
        input in [3usize..20, 3usize..20],
        kernel in [1usize..4, 1usize..4],
        stride in [1usize..4, 1usize..4],
        padding in [0usize..4, 0usize..4],
        dilation in [1usize..3, 1usize..3],
    ) {
        let options = Conv2dOptions { stride, padding, dilation, groups };
        let fits = |axis: usize| {
            input[axis] + 2 * padding[axis] > dilation[axis] * (kernel[axis] - 1)
        };
        prop_assume!(fits(0) && fits(1));
        assert_equals_portable(
            [batch, groups * channels, input[0], input[1]],
            [groups * filters, channels, kernel[0], kernel[1]],
            options,
        );
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (x, weight, options) in [
        ([3, 24, 40, 44], [20, 24, 3, 3], options(1, 1, 1)),
        ([3, 24, 41, 44], [20, 24, 3, 3], options(2, 1, 1)),
        ([3, 64, 9, 9], [256, 64, 3, 3], options(1, 1, 1)),
        ([3, 64, 20, 20], [64, 2, 3, 3], options(1, 1, 32)),
    ] {
        assert_same_bits_on_any_thread_count(|| all_values(x, weight, options).concat());
    }
}

#[test]
fn a_transposed_view_is_read_in_logical_order() {
    let device = Device::flex();
    let x = noise::<4>(1, [2, 3, 8, 6], &device);
    let weight = noise::<4>(2, [4, 3, 3, 3], &device);
    let transposed = x.clone().swap_dims(2, 3);
    let copied = Tensor::from_data(transposed.to_data(), &device);
    let options = options(1, 1, 1);
    assert_eq!(
        values(conv2d(transposed, weight.clone(), None, options)),
        values(conv2d(copied, weight, None, options)),
    );
}

#[test]
fn a_constant_input_gets_no_gradient() {
    let device = Device::flex().autodiff();
    let x = noise::<4>(1, [1, 2, 5, 5], &device);
    let weight = noise::<4>(2, [2, 2, 3, 3], &device).require_grad();
    let y = conv2d(x.clone(), weight.clone(), None, Conv2dOptions::default());
    let gradients = y.sum().backward();
    assert!(x.grad(&gradients).is_none());
    assert!(weight.grad(&gradients).is_some());
}

#[test]
#[should_panic(expected = "do not fit with 2 groups")]
fn channels_that_the_groups_do_not_divide_are_refused() {
    let device = Device::flex();
    let (x, weight) = (
        Tensor::zeros([1, 3, 4, 4], &device),
        Tensor::zeros([2, 3, 1, 1], &device),
    );
    conv2d(x, weight, None, options(1, 0, 2));
}

/// A shape for each algorithm: input, weight, stride and groups.
const SHAPES: [([usize; 4], [usize; 4], usize, usize); 7] = [
    ([2, 20, 52, 41], [24, 20, 3, 3], 1, 1), // Winograd
    ([2, 20, 19, 23], [24, 20, 3, 3], 2, 1), // unfolded
    ([2, 20, 19, 23], [24, 20, 1, 1], 1, 1), // pointwise
    ([5, 20, 3, 2], [37, 20, 1, 1], 1, 1),   // small feature maps that share a tile
    ([2, 24, 19, 23], [24, 1, 3, 3], 1, 24), // depthwise
    ([2, 24, 19, 23], [24, 1, 3, 3], 2, 24), // depthwise with a stride
    ([2, 24, 19, 23], [36, 4, 3, 3], 1, 6),  // groups
];

fn shape_options(weight: [usize; 4], stride: usize, groups: usize) -> Conv2dOptions {
    options(stride, weight[2] / 2, groups)
}

/// Returns output and gradients of a convolution with bias, residual sum and ReLU, and optionally with
/// scale and gates, as one operation or as one each.
fn with_epilogue(
    x_shape: [usize; 4],
    (weight_shape, options): ([usize; 4], Conv2dOptions),
    (has_scale, has_gates): (bool, bool),
    fused: bool,
) -> Vec<(&'static str, Vec<f32>)> {
    let device = Device::flex().autodiff();
    let vector = [weight_shape[0]];
    let along_channels = [1, weight_shape[0], 1, 1];
    let x = noise::<4>(1, x_shape, &device).require_grad();
    let weight = noise::<4>(2, weight_shape, &device).require_grad();
    let bias = noise::<1>(3, vector, &device).require_grad();
    let scale = has_scale.then(|| noise::<1>(4, vector, &device));
    let output_shape = Geometry::new(x_shape, weight_shape, options).output_shape();
    let residual = noise::<4>(5, output_shape, &device).require_grad();
    let gates = noise::<4>(6, [x_shape[0], weight_shape[0], 1, 1], &device).require_grad();
    let mut output = conv2d(x.clone(), weight.clone(), None, options);
    if let Some(scale) = scale.clone() {
        output = output * scale.reshape(along_channels);
    }
    output = output + bias.clone().reshape(along_channels);
    if has_gates {
        output = output * gates.clone();
    }
    let sum = output + residual.clone();
    // No gradient where rounding decides whether the ReLU is active.
    let is_clear = sum.clone().detach().abs().greater_elem(1e-3).float();
    let y = if fused {
        let filters = Filters {
            weight: weight.clone(),
            scale,
            bias: bias.clone(),
            packed: None,
        };
        let (x, residual) = (x.clone(), residual.clone());
        if has_gates {
            conv2d_gated(x, filters, gates.clone(), residual, options)
        } else {
            conv2d_fused(x, filters, Some(residual), true, options)
        }
    } else {
        burn::tensor::activation::relu(sum)
    };
    let dy = noise(7, output_shape, &device) * is_clear;
    let gradients = (y.clone() * dy).sum().backward();
    let mut found = vec![
        ("y", values(y)),
        ("dx", values(x.grad(&gradients).unwrap())),
        ("dweight", values(weight.grad(&gradients).unwrap())),
        ("dbias", values(bias.grad(&gradients).unwrap())),
        ("dresidual", values(residual.grad(&gradients).unwrap())),
    ];
    if has_gates {
        found.push(("dgates", values(gates.grad(&gradients).unwrap())));
    }
    found
}

#[test]
fn a_fused_convolution_equals_separate_operations() {
    for (x_shape, weight_shape, stride, groups) in SHAPES {
        for batch in [1, x_shape[0]] {
            let x_shape = [batch, x_shape[1], x_shape[2], x_shape[3]];
            let layer = (weight_shape, shape_options(weight_shape, stride, groups));
            for kind in [(false, false), (true, false), (false, true), (true, true)] {
                let fused = with_epilogue(x_shape, layer, kind, true);
                let separate = with_epilogue(x_shape, layer, kind, false);
                for ((name, fused), (_, separate)) in fused.into_iter().zip(separate) {
                    let name = format!("{name} of {weight_shape:?}, scale and gates {kind:?}");
                    assert_within(3e-5, &name, &fused, &separate);
                }
            }
        }
    }
}

#[test]
fn gradients_of_an_empty_batch_with_gates_are_zero() {
    let layer = ([6, 4, 1, 1], options(1, 0, 1));
    for (name, found) in with_epilogue([0, 4, 5, 5], layer, (true, true), true) {
        assert!(found.iter().all(|value| *value == 0.0), "{name}");
    }
}

#[test]
fn gradients_equal_finite_differences() {
    // A convolution is linear in each of its inputs, so that finite differences are exact.
    let device = Device::flex().autodiff();
    for (x_shape, weight_shape, stride, groups) in SHAPES {
        let options = shape_options(weight_shape, stride, groups);
        let x = noise::<4>(1, x_shape, &device).require_grad();
        let weight = noise::<4>(2, weight_shape, &device).require_grad();
        let y = conv2d(x.clone(), weight.clone(), None, options);
        let dy = noise::<4>(3, y.dims(), &device);
        let gradients = (y * dy.clone()).sum().backward();
        let of = |x: Tensor<4>, weight: Tensor<4>| -> f64 {
            let y = values(conv2d(x, weight, None, options) * dy.clone());
            y.into_iter().map(f64::from).sum()
        };
        let step_x = noise::<4>(4, x_shape, &device);
        let step_weight = noise::<4>(5, weight_shape, &device);
        let along = |gradient: Tensor<4>, step: &Tensor<4>| -> f64 {
            let product = values(gradient * step.clone().inner());
            product.into_iter().map(f64::from).sum()
        };
        for (slope, expected) in [
            (
                of(step_x.clone(), weight.clone()),
                along(x.grad(&gradients).unwrap(), &step_x),
            ),
            (
                of(x.clone(), step_weight.clone()),
                along(weight.grad(&gradients).unwrap(), &step_weight),
            ),
        ] {
            let allowed = 1e-4 * expected.abs().max(10.0);
            assert!(
                (slope - expected).abs() < allowed,
                "{weight_shape:?}: {slope} {expected}"
            );
        }
    }
}

#[test]
fn an_empty_batch_gives_an_empty_output() {
    let device = Device::flex();
    for (x_shape, weight_shape, stride, groups) in SHAPES {
        let [_, channels, height, width] = x_shape;
        let x = Tensor::<4>::zeros([0, channels, height, width], &device);
        let weight = noise::<4>(2, weight_shape, &device);
        let options = shape_options(weight_shape, stride, groups);
        assert_eq!(conv2d(x, weight, None, options).dims()[0], 0);
    }
}

/// Returns the largest difference to sums in double precision, relative to the largest value.
fn error_of(actual: &[f32], exact: &[f64]) -> f64 {
    let largest = exact
        .iter()
        .fold(0.0f64, |most, value| most.max(value.abs()));
    let differences = actual.iter().zip(exact);
    differences.fold(0.0f64, |most, (a, e)| most.max((f64::from(*a) - e).abs())) / largest
}

#[test]
fn errors_of_winograd_are_as_documented() {
    let (shape, filters) = ([1usize, 64, 50, 52], 32usize);
    let [y, dx, dweight] = all_values(shape, [filters, 64, 3, 3], options(1, 1, 1));
    let device = Device::flex();
    let [_, channels, height, width] = shape;
    let x = values(noise::<4>(1, shape, &device));
    let weight = values(noise::<4>(2, [filters, channels, 3, 3], &device));
    let dy = values(noise::<4>(3, [1, filters, height, width], &device));
    let mut exact_y = vec![0.0f64; y.len()];
    let mut exact_dx = vec![0.0f64; dx.len()];
    let mut exact_dweight = vec![0.0f64; dweight.len()];
    let pixels = height * width;
    for filter in 0..filters {
        for channel in 0..channels {
            for tap in 0..9 {
                let at_weight = (filter * channels + channel) * 9 + tap;
                for row in 0..height {
                    let y_in = row + tap / 3;
                    for column in 0..width {
                        let x_in = column + tap % 3;
                        if !(1..=height).contains(&y_in) || !(1..=width).contains(&x_in) {
                            continue;
                        }
                        let at_x = channel * pixels + (y_in - 1) * width + x_in - 1;
                        let at_y = filter * pixels + row * width + column;
                        let w = f64::from(weight[at_weight]);
                        exact_y[at_y] += w * f64::from(x[at_x]);
                        exact_dx[at_x] += w * f64::from(dy[at_y]);
                        exact_dweight[at_weight] += f64::from(x[at_x]) * f64::from(dy[at_y]);
                    }
                }
            }
        }
    }
    let errors = [
        error_of(&y, &exact_y),
        error_of(&dx, &exact_dx),
        error_of(&dweight, &exact_dweight),
    ];
    assert!(
        errors[0] < 1e-5 && errors[1] < 1e-5 && errors[2] < 3e-5,
        "{errors:?}"
    );
    // A direct sum would be more accurate: this shape is computed by Winograd's algorithm.
    assert!(errors[0] > 3e-7, "{errors:?}");
}

/// Computes a convolution with all that is applied to its output, twice with the same [`PackedWeights`] or
/// without.
fn inference(
    x_shape: [usize; 4],
    weight_shape: [usize; 4],
    options: Conv2dOptions,
    packed: Option<PackedWeights>,
) -> [Vec<f32>; 2] {
    let device = Device::flex();
    let output_shape = Geometry::new(x_shape, weight_shape, options).output_shape();
    let filters = Filters {
        packed,
        ..Filters::new(
            noise(2, weight_shape, &device),
            noise(3, [weight_shape[0]], &device),
        )
    };
    let gates = noise::<4>(6, [x_shape[0], weight_shape[0], 1, 1], &device);
    [1, 7].map(|seed| {
        let x = noise(seed, x_shape, &device);
        let residual = noise(5, output_shape, &device);
        let filters = filters.clone();
        values(conv2d_gated(x, filters, gates.clone(), residual, options))
    })
}

fn assert_packed_equals_unpacked(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) {
    let packed = inference(
        x,
        weight,
        options,
        Some(PackedWeights::new(ComputePrecision::F32)),
    );
    let unpacked = inference(x, weight, options, None);
    for (packed, unpacked) in packed.iter().zip(&unpacked) {
        let name = format!("{x:?} {weight:?} {options:?}");
        assert_within(1e-5, &name, packed, unpacked);
    }
}

#[test]
fn kept_weights_give_the_outputs_of_weights_that_are_packed_in_each_call() {
    for (x, weight, stride, groups) in SHAPES {
        assert_packed_equals_unpacked(x, weight, shape_options(weight, stride, groups));
    }
    for (x, weight, stride) in [
        ([1, 70, 7, 7], [85, 70, 3, 3], 1),   // few pixels
        ([1, 70, 13, 14], [85, 70, 3, 3], 2), // few pixels, with a stride
        ([1, 90, 14, 14], [50, 90, 1, 1], 1), // few pixels in place
        ([1, 20, 14, 14], [50, 20, 3, 3], 1), // Winograd, one block
        ([2, 33, 30, 27], [17, 33, 3, 3], 1), // Winograd, several blocks
        ([1, 70, 20, 11], [85, 70, 1, 1], 1), // packed rows
    ] {
        assert_packed_equals_unpacked(x, weight, shape_options(weight, stride, 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn kept_weights_give_these_outputs_for_every_size(
        batch in 1usize..3,
        channels in 1usize..40,
        filters in 1usize..70,
        input in [5usize..24, 5usize..24],
        (kernel, stride, padding) in (1usize..4, 1usize..3, 0usize..3),
    ) {
        assert_packed_equals_unpacked(
            [batch, channels, input[0], input[1]],
            [filters, channels, kernel, kernel],
            options(stride, padding, 1),
        );
    }
}

/// Returns the outputs in bf16, and those of 32-bit floats for the same inputs and weights after rounding to bf16.
fn bf16_and_expected(
    x: [usize; 4],
    weight: [usize; 4],
    options: Conv2dOptions,
) -> (Vec<f32>, Vec<f32>) {
    let device = Device::flex();
    let filters = Filters::new(
        rounded(noise(2, weight, &device)),
        noise(3, [weight[0]], &device),
    );
    let x = rounded(noise(1, x, &device));
    let packed = Filters {
        packed: Some(PackedWeights::new(ComputePrecision::Bf16)),
        ..filters.clone()
    };
    let of = |filters| values(conv2d_fused(x.clone(), filters, None, false, options));
    (of(packed), of(filters))
}

fn rounded(tensor: Tensor<4>) -> Tensor<4> {
    let (shape, device) = (tensor.dims(), tensor.device());
    let values = values(tensor).into_iter().map(round_to_bf16);
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), &device)
}

/// Returns the output and the gradients of inputs, weights and a gradient of the output that bf16 holds exactly.
fn autocast_values(
    precision: ComputePrecision,
    x: [usize; 4],
    weight: [usize; 4],
    options: Conv2dOptions,
) -> [Vec<f32>; 3] {
    let device = Device::flex().autodiff();
    let x = rounded(noise(1, x, &device)).require_grad();
    let weight = rounded(noise(2, weight, &device)).require_grad();
    let y = autocast(precision, || {
        conv2d(x.clone(), weight.clone(), None, options)
    });
    let dy = rounded(noise(3, y.dims(), &device));
    let gradients = (y.clone() * dy).sum().backward();
    let (dx, dweight) = (x.grad(&gradients), weight.grad(&gradients));
    [y, dx.unwrap(), dweight.unwrap()].map(values)
}

fn assert_autocast_equals_f32(x: [usize; 4], weight: [usize; 4], options: Conv2dOptions) {
    let [bf16, f32] = [ComputePrecision::Bf16, ComputePrecision::F32]
        .map(|precision| autocast_values(precision, x, weight, options));
    for ((name, bf16), f32) in ["y", "dx", "dweight"].into_iter().zip(&bf16).zip(&f32) {
        assert_within(1e-5, name, bf16, f32);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// As for the outputs: only the order of the sums differs.
    #[test]
    fn gradients_of_bf16_products_are_those_of_32_bit_floats(
        batch in 1usize..4,
        channels in 1usize..40,
        filters in 1usize..70,
        input in [1usize..24, 1usize..24],
        (kernel, stride, padding) in (1usize..4, 1usize..3, 1usize..3),
    ) {
        assert_autocast_equals_f32(
            [batch, channels, input[0], input[1]],
            [filters, channels, kernel, kernel],
            options(stride, padding, 1),
        );
    }
}

/// Several tiles, blocks of channels and parts of filters.
#[test]
fn gradients_of_bf16_products_of_large_layers_are_those_of_32_bit_floats() {
    for (x, weight, stride) in [
        ([1, 300, 17, 19], [260, 300, 1, 1], 1),
        ([2, 64, 50, 41], [90, 64, 1, 1], 1),
        ([1, 40, 61, 53], [300, 40, 3, 3], 2),
        ([1, 300, 21, 31], [100, 300, 1, 1], 2),
        ([3, 150, 7, 7], [130, 150, 3, 3], 1),
        ([1, 3, 90, 101], [64, 3, 7, 7], 2),
    ] {
        assert_autocast_equals_f32(x, weight, shape_options(weight, stride, 1));
    }
}

#[test]
fn autocast_rounds_the_gradients_too_and_ends_with_its_call() {
    // As in the test of outputs below: bf16 rounds 1 + 2^-9 to 1.
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::full([1, 4, 3, 3], 1.0 + 2f32.powi(-9), &device).require_grad();
    let weight = Tensor::<4>::ones([8, 4, 1, 1], &device).require_grad();
    let gradient = |precision| {
        let y = autocast(precision, || {
            conv2d(x.clone(), weight.clone(), None, options(1, 0, 1))
        });
        let gradients = (y * (1.0 + 2f32.powi(-9))).sum().backward();
        let (dx, dweight) = (x.grad(&gradients), weight.grad(&gradients));
        [dx.unwrap(), dweight.unwrap()].map(|tensor| values(tensor)[0])
    };
    let f32 = gradient(ComputePrecision::F32);
    assert_eq!(
        f32,
        [
            8.0 * (1.0 + 2f32.powi(-9)),
            9.0 * (1.0 + 2f32.powi(-9)) * (1.0 + 2f32.powi(-9))
        ]
    );
    let bf16 = gradient(ComputePrecision::Bf16);
    if ComputePrecision::Bf16.is_available() {
        assert_eq!(bf16, [8.0, 9.0]);
    } else {
        assert_eq!(bf16, f32);
    }
    assert_eq!(gradient(ComputePrecision::F32), f32);
    let nested = autocast(ComputePrecision::Bf16, || {
        autocast(ComputePrecision::F32, || gradient(ComputePrecision::Bf16));
        ComputePrecision::of_autocast()
    });
    assert_eq!(nested, ComputePrecision::Bf16.or_f32());
    assert_eq!(ComputePrecision::of_autocast(), ComputePrecision::F32);
}

#[test]
fn gradients_in_bf16_have_the_same_bits_on_any_number_of_threads() {
    for (x, weight, stride) in [
        ([1, 71, 7, 7], [85, 71, 3, 3], 1),
        ([2, 33, 40, 40], [100, 33, 1, 1], 1),
        ([1, 300, 30, 30], [300, 300, 1, 1], 1),
        ([1, 20, 60, 60], [100, 20, 3, 3], 2),
    ] {
        assert_same_bits_on_any_thread_count(|| {
            let options = shape_options(weight, stride, 1);
            autocast_values(ComputePrecision::Bf16, x, weight, options).concat()
        });
    }
}

/// Rounds to the nearest bf16, ties to even.
fn round_to_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Products of bf16 are exact in 32 bits, so only the order of the sums differs. On CPUs without AVX512-BF16 this
    /// is a test of 32-bit floats.
    #[test]
    fn sums_of_bf16_products_are_those_of_32_bit_floats(
        batch in 1usize..3,
        channels in 1usize..40,
        filters in 1usize..70,
        input in [1usize..24, 1usize..24],
        (kernel, stride, padding) in (1usize..4, 1usize..3, 1usize..3),
    ) {
        let (actual, expected) = bf16_and_expected(
            [batch, channels, input[0], input[1]],
            [filters, channels, kernel, kernel],
            options(stride, padding, 1),
        );
        assert_within(1e-5, "bf16", &actual, &expected);
    }
}

#[test]
fn bf16_rounds_inputs_and_weights_and_nothing_else() {
    // 64 inputs of 1 + 2^-9, which bf16 rounds to 1, and one factor of 1 + 2^-7, which it holds.
    let device = Device::flex();
    let x = Tensor::full([1, 64, 3, 3], 1.0 + 2f32.powi(-9), &device);
    let weight = Tensor::full([8, 64, 1, 1], 1.0 + 2f32.powi(-7), &device);
    let bias = Tensor::full([8], 2f32.powi(-12), &device);
    let outputs = [ComputePrecision::F32, ComputePrecision::Bf16].map(|precision| {
        let filters = Filters {
            packed: Some(PackedWeights::new(precision)),
            ..Filters::new(weight.clone(), bias.clone())
        };
        values(conv2d_fused(
            x.clone(),
            filters,
            None,
            false,
            options(1, 0, 1),
        ))
    });
    let [f32, bf16] = outputs.map(|values| values[0]);
    let exact = 64.0 * (1.0 + 2f32.powi(-7)) + 2f32.powi(-12);
    if ComputePrecision::Bf16.is_available() {
        assert_eq!(bf16, exact);
        assert!((f32 - exact).abs() > 0.1);
    } else {
        assert_eq!(bf16, f32);
    }
}

#[test]
fn weights_that_are_reduced_to_pairs_give_the_bits_of_weights_that_are_kept() {
    let device = Device::flex();
    // Whether only pairs are multiplied, for feature maps of any size.
    for (channels, shape, stride, groups, is_only_pairs) in [
        (33, [70, 33, 1, 1], 1, 1, true),
        (20, [40, 20, 3, 3], 2, 1, true),
        (3, [24, 3, 7, 7], 2, 1, true),
        (8, [30, 8, 3, 3], 1, 1, true),
        (20, [40, 20, 3, 3], 1, 1, false),
        (32, [64, 16, 1, 1], 1, 2, false),
        (12, [12, 1, 3, 3], 1, 12, false),
    ] {
        let options = shape_options(shape, stride, groups);
        let weight: Tensor<4> = noise(2, shape, &device);
        let bias: Tensor<1> = noise(3, [shape[0]], &device);
        let packed = PackedWeights::new(ComputePrecision::Bf16);
        let reduced = reduce_to_pairs(weight.clone(), &packed, options);
        let is_reduced = ComputePrecision::Bf16.is_available() && is_only_pairs;
        assert_eq!(packed.are_reduced(), is_reduced, "{shape:?}");
        assert_eq!(reduced.dims(), shape);
        // Without the pairs, a computation would be seen to be wrong.
        let first = values(reduced.clone())[0];
        assert_eq!(first.is_nan(), is_reduced);
        let of = |packed: PackedWeights, weight: &Tensor<4>, x: &Tensor<4>| {
            let filters = Filters {
                packed: Some(packed),
                ..Filters::new(weight.clone(), bias.clone())
            };
            values(conv2d_fused(x.clone(), filters, None, true, options))
        };
        for size in [[1, channels, 9, 9], [2, channels, 70, 50]] {
            let x = noise(1, size, &device);
            let kept = PackedWeights::new(ComputePrecision::Bf16);
            assert!(
                of(packed.clone(), &reduced, &x) == of(kept, &weight, &x),
                "{shape:?} {size:?}"
            );
        }
    }
    // Weights for 32-bit floats stay.
    let weight: Tensor<4> = noise(2, [8, 4, 1, 1], &device);
    let packed = PackedWeights::new(ComputePrecision::F32);
    let same = reduce_to_pairs(weight.clone(), &packed, options(1, 0, 1));
    assert!(!packed.are_reduced() && values(same) == values(weight));
}

#[test]
fn bf16_keeps_nan_and_infinity() {
    let device = Device::flex();
    for odd in [f32::NAN, f32::INFINITY] {
        let mut x = vec![1.0; 5 * 20];
        x[3] = odd;
        let x = Tensor::from_data(TensorData::new(x, [1, 5, 4, 5]), &device);
        let filters = Filters {
            packed: Some(PackedWeights::new(ComputePrecision::Bf16)),
            ..Filters::new(
                Tensor::ones([9, 5, 1, 1], &device),
                Tensor::zeros([9], &device),
            )
        };
        let y = values(conv2d_fused(x, filters, None, true, options(1, 0, 1)));
        for (at, value) in y.iter().enumerate() {
            let is_odd = at % 20 == 3;
            assert!(
                if is_odd {
                    !value.is_finite()
                } else {
                    *value == 5.0
                },
                "{at}: {value}"
            );
        }
    }
}

#[test]
fn bf16_gives_the_same_bits_on_any_number_of_threads() {
    for (x, weight) in [
        ([1, 71, 7, 7], [85, 71, 3, 3]),
        ([1, 33, 40, 40], [100, 33, 1, 1]),
        ([2, 20, 60, 60], [100, 20, 1, 1]),
    ] {
        assert_same_bits_on_any_thread_count(|| {
            let packed = Some(PackedWeights::new(ComputePrecision::Bf16));
            inference(x, weight, options(1, 1, 1), packed).concat()
        });
    }
}

#[test]
fn few_pixels_give_the_bits_of_the_other_product() {
    for (x, weight, stride) in [
        ([1, 130, 7, 7], [75, 130, 1, 1], 1),
        ([1, 1400, 7, 7], [20, 1400, 1, 1], 1),
        ([1, 30, 14, 14], [64, 30, 3, 3], 2),
        ([1, 30, 14, 14], [64, 30, 1, 1], 1),
    ] {
        let options = shape_options(weight, stride, 1);
        assert!(few_pixels::is_profitable(&Geometry::new(
            x, weight, options
        )));
        let [one, two] = inference(
            x,
            weight,
            options,
            Some(PackedWeights::new(ComputePrecision::F32)),
        );
        assert!(
            [one, two] == inference(x, weight, options, None),
            "{weight:?}"
        );
    }
}

#[test]
fn kept_weights_give_the_same_bits_on_any_number_of_threads() {
    for (x, weight) in [
        ([1, 70, 7, 7], [85, 70, 3, 3]),
        ([1, 20, 14, 14], [100, 20, 3, 3]),
        ([2, 20, 60, 60], [100, 20, 3, 3]),
    ] {
        assert_same_bits_on_any_thread_count(|| {
            let packed = Some(PackedWeights::new(ComputePrecision::F32));
            inference(x, weight, options(1, 1, 1), packed).concat()
        });
    }
}

#[test]
fn kept_weights_are_not_used_for_another_tensor() {
    let device = Device::flex();
    let x = noise::<4>(1, [1, 30, 14, 14], &device);
    let bias = noise::<1>(3, [40], &device);
    let packed = PackedWeights::new(ComputePrecision::F32);
    for (seed, kernel) in [(2, 3), (4, 3), (5, 1)] {
        let filters = Filters::new(noise(seed, [40, 30, kernel, kernel], &device), bias.clone());
        let options = options(1, kernel / 2, 1);
        let expected = conv2d_fused(x.clone(), filters.clone(), None, false, options);
        let filters = Filters {
            packed: Some(packed.clone()),
            ..filters
        };
        let actual = conv2d_fused(x.clone(), filters, None, false, options);
        assert_within(1e-5, "y", &values(actual), &values(expected));
    }
}

#[test]
fn weights_are_not_kept_with_a_scale_or_on_an_autodiff_device() {
    let options = options(1, 1, 1);
    for has_scale in [false, true] {
        let device = if has_scale {
            Device::flex()
        } else {
            Device::flex().autodiff()
        };
        let x = noise::<4>(1, [1, 30, 14, 14], &device);
        let packed = PackedWeights::new(ComputePrecision::F32);
        let plain = Filters {
            weight: noise(2, [40, 30, 3, 3], &device),
            scale: has_scale.then(|| noise(4, [40], &device)),
            bias: noise(3, [40], &device),
            packed: None,
        };
        let with_packed = Filters {
            packed: Some(packed.clone()),
            ..plain.clone()
        };
        let expected = values(conv2d_fused(x.clone(), plain, None, true, options));
        let actual = values(conv2d_fused(x, with_packed, None, true, options));
        assert!(actual == expected);
        let debug = format!("{packed:?}");
        let nothing =
            "PackedWeights { precision: F32, rows: 0, vectors: 0, winograd: 0, pairs: 0 }";
        assert_eq!(debug, nothing);
    }
}
