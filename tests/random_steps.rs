//! Networks that draw random numbers in training. The program has only one test: burn's random
//! number generator is shared by all threads, so other tests would draw in between.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use common::{Fixture, assert_close_to_largest, filled, small_cifar as small, values};
use sedet::backbones::preact_resnet::{PreactResNet, PreactResNetConfig};
use sedet::backbones::shake_shake::{BackwardMix, ShakeShake, ShakeShakeConfig};
use sedet::backbones::{Backbone as _, BackboneFamily as _};
use sedet::nn::norm::{NormConfig, NormKind};
use sedet::nn::se::SeConfig;

/// Returns the last feature map and the input gradient of one training step with a seed.
fn step<M: Module>(
    network: &M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
    seed: u64,
    device: &Device,
) -> (Vec<f32>, Vec<f32>) {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let input: Tensor<4> = fixture.tensor("training_input", device);
    let input = input.require_grad();
    device.seed(seed);
    let map = forward(network, input.clone());
    let gradients = map.clone().powi_scalar(2).sum().backward();
    let of_input = values(input.grad(&gradients).unwrap());
    (values(map.inner()), of_input)
}

#[test]
fn training_steps_depend_on_the_seed_and_inference_is_deterministic() {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let plain = common::device();
    let device = plain.clone().autodiff();
    // So that a step does not move the running statistics.
    let norm = NormConfig::new(NormKind::Frozen);

    let shake = |backward| {
        let config = ShakeShakeConfig {
            norm,
            backward,
            ..small::shake_preact(Some(SeConfig::new(4)))
        };
        filled(config.init(&device), &fixture, |name| {
            format!("shake_preact.{name}")
        })
    };
    for backward in [BackwardMix::Shake, BackwardMix::Even] {
        let network = shake(backward);
        let (map, gradient) = step(&network, ShakeShake::forward, 1, &device);
        let again = step(&network, ShakeShake::forward, 1, &device);
        assert_eq!(again, (map.clone(), gradient.clone()));
        let (other_map, other_gradient) = step(&network, ShakeShake::forward, 2, &device);
        assert!(map != other_map && gradient != other_gradient);
    }
    let in_use = shake(BackwardMix::Shake).valid();
    let map = values(in_use.forward(fixture.tensor("input", &plain)));
    let expected = fixture.floats("shake_preact_se.map");
    assert_close_to_largest("shake-shake in use", &map, &expected, 1e-5);

    let config = PreactResNetConfig {
        norm,
        dropout: 0.3,
        ..small::wide(None)
    };
    let network = filled(config.init(&device), &fixture, |name| {
        format!("wide.{name}")
    });
    let first = step(&network, PreactResNet::forward, 1, &device);
    assert_eq!(step(&network, PreactResNet::forward, 1, &device), first);
    assert_ne!(step(&network, PreactResNet::forward, 2, &device), first);
    let map = values(network.valid().forward(fixture.tensor("input", &plain)));
    let expected = fixture.floats("wide_plain.map");
    assert_close_to_largest("dropout in use", &map, &expected, 1e-5);
}
