//! Residual CIFAR networks compared with modules written from their papers.

use crate::common::{
    Fixture, assert_close_to_largest, assert_gradients, filled, small_cifar as small, values,
};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use sedet::backbones::preact_resnet::PreactResNet;
use sedet::backbones::resnet::ResNet;
use sedet::backbones::shake_shake::{Mixing, ShakeShake};
use sedet::backbones::{Backbone as _, BackboneFamily as _};
use sedet::nn::se::SeConfig;

/// Returns the last feature map of a network in evaluation mode, with the fixture's weights.
fn assert_map<M: Module>(
    case: &str,
    init: impl Fn(Option<SeConfig>, &Device) -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let device = crate::common::device();
    for (form, se) in [("plain", None), ("se", Some(SeConfig::new(4)))] {
        let network = filled(init(se, &device), &fixture, |name| format!("{case}.{name}"));
        let map = forward(&network, fixture.tensor("input", &device));
        let key = format!("{case}_{form}.map");
        assert_eq!(map.dims().to_vec(), fixture.shape(&key), "{key}");
        assert_close_to_largest(&key, &values(map), &fixture.floats(&key), 1e-5);
    }
}

#[test]
fn last_feature_maps_equal_the_references_on_odd_sizes_with_and_without_se() {
    assert_map("resnet", |se, d| small::resnet(se).init(d), ResNet::forward);
    assert_map(
        "preact_bottleneck",
        |se, d| small::preact_bottleneck(se).init(d),
        PreactResNet::forward,
    );
    assert_map(
        "wide",
        |se, d| small::wide(se).init(d),
        PreactResNet::forward,
    );
    assert_map(
        "shake_preact",
        |se, d| small::shake_preact(se).init(d),
        ShakeShake::forward,
    );
    assert_map(
        "shake_resnext",
        |se, d| small::shake_resnext(se).init(d),
        ShakeShake::forward,
    );
}

/// Returns the last feature map and gradients of a network in training mode, with batch statistics.
fn assert_training<M: Module>(
    case: &str,
    init: impl Fn(&Device) -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let device = crate::common::device().autodiff();
    let network = filled(init(&device), &fixture, |name| format!("{case}.{name}"));
    let input: Tensor<4> = fixture.tensor("training_input", &device);
    let input = input.require_grad();
    let map = forward(&network, input.clone());
    let expected = fixture.floats(&format!("{case}_training.map"));
    assert_close_to_largest(case, &values(map.clone().inner()), &expected, 1e-5);
    let cotangent = fixture.tensor(&format!("{case}_training.cotangent"), &device);
    let gradients = (map * cotangent).sum().backward();
    let prefix = format!("{case}_grad");
    assert_gradients(&prefix, &network, &input, &gradients, &fixture);
}

#[test]
fn training_maps_and_gradients_of_every_family_equal_the_references() {
    let se = Some(SeConfig::new(4));
    assert_training("resnet", |d| small::resnet(se).init(d), ResNet::forward);
    assert_training(
        "preact_bottleneck",
        |d| small::preact_bottleneck(se).init(d),
        PreactResNet::forward,
    );
    assert_training("wide", |d| small::wide(se).init(d), PreactResNet::forward);
}

/// Returns the fixture's mixing coefficients, `[blocks, forward or backward, batch]`.
fn mixings(case: &str, device: &Device) -> Vec<Mixing> {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let shares: Tensor<3> = fixture.tensor(&format!("{case}.shares"), device);
    let [blocks, _, batch] = shares.dims();
    let of = |block, which| {
        let one = shares.clone().slice([block..block + 1, which..which + 1]);
        one.reshape([batch])
    };
    (0..blocks)
        .map(|block| Mixing {
            forward: of(block, 0),
            backward: of(block, 1),
        })
        .collect()
}

#[test]
fn shake_shake_with_given_coefficients_trains_like_the_reference() {
    let se = Some(SeConfig::new(4));
    for (case, config) in [
        ("shake_preact", small::shake_preact(se)),
        ("shake_resnext", small::shake_resnext(se)),
    ] {
        assert_training(
            case,
            |d| config.init(d),
            |network, x| {
                let mixings = mixings(case, &x.device());
                network.forward_mixed(x, &mixings)
            },
        );
    }
}
