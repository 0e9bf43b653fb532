//! The CPU kernels and their gradients against torch and torchvision.

mod common;

use burn::tensor::{Device, Tensor};
use common::{Fixture, assert_close, values};
use sedet::kernels::affine::affine;
use sedet::kernels::batch_norm::batch_norm_train;
use sedet::kernels::conv2d::{Conv2dOptions, conv2d};
use sedet::kernels::roi_align::{RoiAlignOptions, roi_align};

const TOLERANCE: f32 = 1e-5;

fn learning<const D: usize>(fixture: &Fixture, key: &str) -> Tensor<D> {
    fixture
        .tensor::<D>(key, &Device::flex().autodiff())
        .require_grad()
}

/// Backpropagate `dy` through `y`.
macro_rules! gradients {
    ($fixture:expr, $y:expr, $case:expr) => {{
        let dy: Tensor<4> = $fixture.tensor(&format!("{}.dy", $case), &Device::flex());
        ($y * Tensor::from_inner(dy)).sum().backward()
    }};
}

fn check<const D: usize>(fixture: &Fixture, key: &str, actual: Option<Tensor<D>>) {
    let actual = values(actual.unwrap_or_else(|| panic!("{key}: no gradient")));
    assert_close(key, &actual, &fixture.floats(key), TOLERANCE);
}

#[test]
fn convolutions_and_their_gradients_equal_torch() {
    let fixture = Fixture::open("kernels.safetensors");
    let names = fixture.names();
    let cases: Vec<_> = names
        .iter()
        .filter_map(|n| n.strip_prefix("conv.")?.strip_suffix(".options"))
        .collect();
    assert!(cases.len() >= 10);
    for name in cases {
        let case = format!("conv.{name}");
        let options = fixture.ints(&format!("{case}.options"));
        let [stride, padding, dilation, groups] = [0, 1, 2, 3].map(|i| options[i] as usize);
        let x: Tensor<4> = learning(&fixture, &format!("{case}.x"));
        let weight: Tensor<4> = learning(&fixture, &format!("{case}.weight"));
        let bias: Tensor<1> = learning(&fixture, &format!("{case}.bias"));
        let y = conv2d(
            x.clone(),
            weight.clone(),
            Some(bias.clone()),
            Conv2dOptions {
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [dilation; 2],
                groups,
            },
        );
        check(&fixture, &format!("{case}.y"), Some(y.clone().inner()));
        let grads = gradients!(fixture, y, case);
        check(&fixture, &format!("{case}.dx"), x.grad(&grads));
        check(&fixture, &format!("{case}.dweight"), weight.grad(&grads));
        check(&fixture, &format!("{case}.dbias"), bias.grad(&grads));
    }
}

#[test]
fn batch_norm_in_training_and_its_gradients_equal_torch() {
    let fixture = Fixture::open("kernels.safetensors");
    let x: Tensor<4> = learning(&fixture, "batch_norm.x");
    let weight: Tensor<1> = learning(&fixture, "batch_norm.weight");
    let bias: Tensor<1> = learning(&fixture, "batch_norm.bias");
    let out = batch_norm_train(x.clone(), weight.clone(), bias.clone(), 1e-5);
    check(&fixture, "batch_norm.y", Some(out.y.clone().inner()));
    check(&fixture, "batch_norm.mean", Some(out.mean.inner()));
    check(&fixture, "batch_norm.variance", Some(out.variance.inner()));
    let grads = gradients!(fixture, out.y, "batch_norm");
    check(&fixture, "batch_norm.dx", x.grad(&grads));
    check(&fixture, "batch_norm.dweight", weight.grad(&grads));
    check(&fixture, "batch_norm.dbias", bias.grad(&grads));
}

#[test]
fn affine_with_residual_and_relu_equals_torch() {
    let fixture = Fixture::open("kernels.safetensors");
    let x: Tensor<4> = learning(&fixture, "affine.x");
    let scale: Tensor<1> = learning(&fixture, "affine.scale");
    let shift: Tensor<1> = learning(&fixture, "affine.shift");
    let residual: Tensor<4> = learning(&fixture, "affine.residual");
    let y = affine(
        x.clone(),
        scale.clone(),
        shift.clone(),
        Some(residual.clone()),
        true,
    );
    check(&fixture, "affine.y", Some(y.clone().inner()));
    let grads = gradients!(fixture, y, "affine");
    check(&fixture, "affine.dx", x.grad(&grads));
    check(&fixture, "affine.dscale", scale.grad(&grads));
    check(&fixture, "affine.dshift", shift.grad(&grads));
    check(&fixture, "affine.dresidual", residual.grad(&grads));
}

#[test]
fn roi_align_and_its_gradient_equal_torchvision() {
    let fixture = Fixture::open("kernels.safetensors");
    for aligned in [false, true] {
        for sampling_ratio in [0, 2] {
            let case = format!(
                "roi_align.aligned{}_sampling{sampling_ratio}",
                aligned as u8
            );
            let features: Tensor<4> = learning(&fixture, "roi_align.features");
            let y = roi_align(
                features.clone(),
                fixture.tensor("roi_align.rois", &Device::flex()),
                RoiAlignOptions {
                    output_size: 3,
                    spatial_scale: 0.25,
                    sampling_ratio,
                    aligned,
                },
            );
            check(&fixture, &format!("{case}.y"), Some(y.clone().inner()));
            let grads = gradients!(fixture, y, case);
            check(&fixture, &format!("{case}.dx"), features.grad(&grads));
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let fixture = Fixture::open("kernels.safetensors");
    let run = || {
        let mut bits = Vec::new();
        for case in ["conv.plain_3x3", "conv.strided_3x3", "conv.stem_7x7"] {
            let options = fixture.ints(&format!("{case}.options"));
            let x: Tensor<4> = learning(&fixture, &format!("{case}.x"));
            let weight: Tensor<4> = learning(&fixture, &format!("{case}.weight"));
            let y = conv2d(
                x.clone(),
                weight.clone(),
                None,
                Conv2dOptions {
                    stride: [options[0] as usize; 2],
                    padding: [options[1] as usize; 2],
                    ..Conv2dOptions::default()
                },
            );
            let grads = gradients!(fixture, y.clone(), case);
            for tensor in [
                y.inner(),
                x.grad(&grads).unwrap(),
                weight.grad(&grads).unwrap(),
            ] {
                bits.extend(values(tensor).into_iter().map(f32::to_bits));
            }
        }
        bits
    };
    let pool = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(run)
    };
    assert_eq!(pool(1), pool(3));
}
