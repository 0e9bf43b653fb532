//! Variants of the SE unit (SENet paper, section 6) compared with modules written from its text.

use crate::common::{
    Fixture, assert_close_to_largest, assert_gradients, filled, fixture_path, parameter_count,
    values,
};
use burn::tensor::{Device, Tensor};
use sedet::backbones::resnet::{BlockKind, ResNet, ResNetConfig, Stem};
use sedet::backbones::zoo;
use sedet::backbones::{Backbone as _, BackboneFamily as _};
use sedet::nn::norm::{NormConfig, NormKind};
use sedet::nn::se::{Gate, SeConfig, SePosition, Squeeze};

const POSITIONS: [(&str, SePosition); 5] = [
    ("standard", SePosition::Standard),
    ("pre", SePosition::Pre),
    ("post", SePosition::Post),
    ("identity", SePosition::Identity),
    ("conv3x3", SePosition::Conv3x3),
];

/// Returns the name in the fixture, the position whose weights are used, and the configuration.
fn variants() -> Vec<(&'static str, &'static str, SeConfig)> {
    let paper = SeConfig::new(4);
    let mut all: Vec<_> = POSITIONS
        .into_iter()
        .map(|(name, position)| (name, name, SeConfig { position, ..paper }))
        .collect();
    let second_stage = [false, true, true, true];
    for (name, config) in [
        (
            "max",
            SeConfig {
                squeeze: Squeeze::Max,
                ..paper
            },
        ),
        (
            "none",
            SeConfig {
                squeeze: Squeeze::None,
                ..paper
            },
        ),
        (
            "tanh",
            SeConfig {
                gate: Gate::Tanh,
                ..paper
            },
        ),
        (
            "relu",
            SeConfig {
                gate: Gate::Relu,
                ..paper
            },
        ),
        (
            "no_bias",
            SeConfig {
                bias: false,
                ..paper
            },
        ),
        (
            "second_stage",
            SeConfig {
                stages: second_stage,
                ..paper
            },
        ),
    ] {
        all.push((name, "standard", config));
    }
    let mixed = SeConfig {
        squeeze: Squeeze::None,
        gate: Gate::Tanh,
        position: SePosition::Pre,
        bias: false,
        ..paper
    };
    all.push(("mixed", "pre", mixed));
    all
}

fn network(
    fixture: &Fixture,
    kind: (&str, BlockKind),
    weights: &str,
    se: SeConfig,
    device: &Device,
) -> ResNet {
    let network = ResNetConfig {
        base_channels: 4,
        stem: Stem::Cifar,
        se: Some(se),
        norm: NormConfig::new(NormKind::Batch),
        ..ResNetConfig::new(kind.1, [2, 1, 0, 0])
    };
    filled(network.init(device), fixture, |name| {
        if name.contains(".se.") {
            format!("{}.{weights}.{name}", kind.0)
        } else {
            format!("{}.{name}", kind.0)
        }
    })
}

const KINDS: [(&str, BlockKind); 2] = [
    ("basic", BlockKind::Basic),
    ("bottleneck", BlockKind::Bottleneck),
];

#[test]
fn maps_of_every_variant_in_both_kinds_of_block_equal_the_reference_s() {
    let fixture = Fixture::open("se_variants.safetensors");
    let device = crate::common::device();
    for kind in KINDS {
        for (name, weights, se) in variants() {
            let case = format!("{}_{name}", kind.0);
            let network = network(&fixture, kind, weights, se, &device);
            let map = network.forward(fixture.tensor("input", &device));
            let expected = fixture.floats(&format!("{case}.map"));
            assert_close_to_largest(&case, &values(map), &expected, 1e-5);
        }
    }
}

#[test]
fn gradients_of_every_variant_in_both_kinds_of_block_equal_autograd_s() {
    let fixture = Fixture::open("se_variants.safetensors");
    let device = crate::common::device().autodiff();
    for kind in KINDS {
        for (name, weights, se) in variants() {
            let case = format!("{}_{name}_grad", kind.0);
            let network = network(&fixture, kind, weights, se, &device);
            let input: Tensor<4> = fixture.tensor("input", &device);
            let input = input.require_grad();
            let map = network.forward(input.clone());
            let cotangent = fixture.tensor(&format!("{}.cotangent", kind.0), &device);
            let gradients = (map * cotangent).sum().backward();
            assert_gradients(&case, &network, &input, &gradients, &fixture);
        }
    }
}

/// Returns the number of parameters of SE-ResNet-50 without its classifier, with units without
/// biases as in section 6.
fn parameters(change: impl Fn(&mut SeConfig)) -> u64 {
    let mut config = zoo::backbone("se-resnet50").unwrap();
    let mut se = SeConfig {
        bias: false,
        ..SeConfig::default()
    };
    change(&mut se);
    *config.common_mut().se = Some(se);
    config.common_mut().norm.kind = NormKind::Batch;
    parameter_count(&config.init(&crate::common::device()))
}

#[test]
fn tables_10_13_and_15_have_the_paper_s_numbers_of_parameters() {
    let text = std::fs::read_to_string(fixture_path("se_variant_counts.json")).unwrap();
    let counts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let plain = counts["plain"].as_u64().unwrap();
    // A classifier of 1000 classes on 2048 features, which the paper includes. Its tables are up to
    // 0.12 million above equation 5.
    let classifier = 2_049_000;
    let in_table = |parameters: u64, millions: f64| {
        let exact = (parameters + classifier) as f64 / 1e6;
        assert!((-0.05..0.12).contains(&(millions - exact)), "{exact}");
    };
    in_table(plain, 25.6);
    for (reduction, millions) in [(2, 45.7), (4, 35.7), (8, 30.7), (16, 28.1), (32, 26.9)] {
        let native = parameters(|se| se.reduction = reduction);
        let reference = counts["reduction"][reduction.to_string()].as_u64();
        assert_eq!(Some(native), reference, "r = {reduction}");
        in_table(native, millions);
    }
    assert_eq!(parameters(|_| {}), plain + 2_514_944);
    let with_biases = parameters(|se| se.bias = true);
    assert_eq!(Some(with_biases), counts["with_biases"].as_u64());
    assert_eq!(with_biases, plain + 2_514_944 + 16_048);
    for (stage, millions) in [(2, Some(25.6)), (3, Some(25.7)), (4, Some(26.4)), (5, None)] {
        let native = parameters(|se| se.stages = std::array::from_fn(|s| s + 2 == stage));
        let reference = counts["stage"][stage.to_string()].as_u64();
        assert_eq!(Some(native), reference, "stage {stage}");
        if let Some(millions) = millions {
            in_table(native, millions);
        }
    }
    let but_the_last = parameters(|se| se.stages = [true, true, true, false]);
    assert_eq!(but_the_last, plain + 942_080);
    for (name, position) in POSITIONS {
        let native = parameters(|se| se.position = position);
        assert_eq!(Some(native), counts["position"][name].as_u64(), "{name}");
    }
    in_table(parameters(|se| se.position = SePosition::Conv3x3), 25.8);
}
