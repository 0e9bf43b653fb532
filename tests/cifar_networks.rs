//! The residual CIFAR networks against modules written from their papers.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use common::{
    Fixture, assert_close_to_largest, assert_gradients, filled, fixture_path, parameter_count,
    small_cifar as small, values,
};
use sedet::backbones::preact_resnet::{PreactResNet, PreactResNetConfig};
use sedet::backbones::resnet::{ResNet, ResNetConfig};
use sedet::backbones::shake_shake::{Mixing, ShakeShake, ShakeShakeConfig};
use sedet::nn::se::SeConfig;

fn last_of_resnet(network: &ResNet, x: Tensor<4>) -> Tensor<4> {
    let [.., last] = network.forward(x);
    last
}

/// The last map of a network in use, with the fixture's weights.
fn assert_map<M: Module>(
    case: &str,
    init: impl Fn(Option<SeConfig>, &Device) -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let device = common::device();
    for (form, se) in [("plain", None), ("se", Some(SeConfig::new(4)))] {
        let network = filled(init(se, &device), &fixture, |name| format!("{case}.{name}"));
        let map = forward(&network, fixture.tensor("input", &device));
        let key = format!("{case}_{form}.map");
        assert_eq!(map.dims().to_vec(), fixture.shape(&key), "{key}");
        assert_close_to_largest(&key, &values(map), &fixture.floats(&key), 1e-5);
    }
}

#[test]
fn last_maps_equal_the_references_on_odd_sizes_with_and_without_se() {
    assert_map("resnet", |se, d| small::resnet(se).init(d), last_of_resnet);
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

/// Map and gradients of a network in training, with batch statistics.
fn assert_training<M: Module>(
    case: &str,
    init: impl Fn(&Device) -> M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<4>,
) {
    let fixture = Fixture::open("cifar_networks.safetensors");
    let device = common::device().autodiff();
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
    assert_training("resnet", |d| small::resnet(se).init(d), last_of_resnet);
    assert_training(
        "preact_bottleneck",
        |d| small::preact_bottleneck(se).init(d),
        PreactResNet::forward,
    );
    assert_training("wide", |d| small::wide(se).init(d), PreactResNet::forward);
}

/// The fixture's shares, `[blocks, forward or backward, batch]`.
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
fn shake_shake_with_given_shares_trains_as_the_reference_does() {
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

/// Our count, plain and with SE units, and the channels of the last map.
type Counted = [(u64, usize); 2];

fn counted(name: &str) -> Counted {
    let device = common::device();
    [None, Some(SeConfig::default())].map(|se| match name {
        "resnet164" | "wrn_16_8" | "wrn_28_10" => {
            let config = PreactResNetConfig {
                se,
                ..match name {
                    "resnet164" => PreactResNetConfig::resnet164(),
                    "wrn_16_8" => PreactResNetConfig::wrn_16_8(),
                    _ => PreactResNetConfig::wrn_28_10(),
                }
            };
            (parameter_count(&config.init(&device)), config.channels())
        }
        "shake_shake_26_2x96d" | "shake_even_29_2x4x64d" => {
            let config = ShakeShakeConfig {
                se,
                ..match name {
                    "shake_shake_26_2x96d" => ShakeShakeConfig::shake_shake_26_2x96d(),
                    _ => ShakeShakeConfig::shake_even_29_2x4x64d(),
                }
            };
            (parameter_count(&config.init(&device)), config.channels())
        }
        _ => {
            let depth: usize = name.strip_prefix("resnet").unwrap().parse().unwrap();
            let config = ResNetConfig {
                se,
                ..ResNetConfig::cifar((depth - 2) / 6)
            };
            let [.., channels] = config.stage_channels();
            (parameter_count(&config.init(&device)), channels)
        }
    })
}

/// Without classifiers, as the backbones are; the published millions are with them.
#[test]
fn full_size_networks_have_the_references_and_the_published_numbers_of_parameters() {
    let text = std::fs::read_to_string(fixture_path("cifar_counts.json")).unwrap();
    let counts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let published = [
        ("resnet20", 0.27, 10),
        ("resnet32", 0.46, 10),
        ("resnet44", 0.66, 10),
        ("resnet56", 0.85, 10),
        ("resnet110", 1.7, 10),
        ("resnet164", 1.7, 10),
        ("wrn_16_8", 11.0, 10),
        ("wrn_28_10", 36.5, 10),
        ("shake_shake_26_2x96d", 26.2, 10),
        ("shake_even_29_2x4x64d", 34.4, 10),
    ];
    assert_eq!(counts.as_object().unwrap().len(), published.len());
    for (name, millions, classes) in published {
        let [(plain, channels), (se, _)] = counted(name);
        assert_eq!(Some(plain), counts[name]["plain"].as_u64(), "{name}");
        assert_eq!(Some(se), counts[name]["se"].as_u64(), "se-{name}");
        let with_classifier = (plain as usize + (channels + 1) * classes) as f64 / 1e6;
        let digits = if millions < 1.0 { 0.005 } else { 0.05 };
        assert!(
            (with_classifier - millions).abs() <= digits,
            "{name}: {with_classifier}"
        );
    }
}
