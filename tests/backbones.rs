//! Backbones against torchvision's and timm's: feature maps, gradients, parameter counts.

use std::collections::BTreeMap;

use crate::common::torchvision::{key, transposed};
use crate::common::{
    Fixture, assert_close, assert_close_to_largest, fixture_path, gradients_by_name,
    parameter_count, values,
};
use burn::tensor::{Device, Tensor, TensorData};
use sedet::backbones::resnet::{BlockKind, ResNet, ResNetConfig};
use sedet::backbones::zoo;
use sedet::backbones::{Backbone as _, BackboneFamily as _};
use sedet::nn::norm::NormKind;
use sedet::nn::se::{SeConfig, SeUnit};
use sedet::weights::parameters::{load_named_tensors, named_tensors};

const STAGES: [&str; 4] = ["c2", "c3", "c4", "c5"];

/// Returns the narrow networks of the fixture: one block per stage, 4 channels in the first.
fn config(block: BlockKind, se: Option<usize>) -> ResNetConfig {
    ResNetConfig {
        width_multiplier: 4.0 / 64.0,
        se: se.map(SeConfig::new),
        ..ResNetConfig::new(block, [1; 4])
    }
}

/// Returns torchvision's key of a backbone parameter.
fn reference_key(native: &str) -> (String, bool) {
    let (key, is_transposed) = key(&format!("backbone.{native}"));
    (
        key.trim_start_matches("backbone.body.").into(),
        is_transposed,
    )
}

fn network(config: &ResNetConfig, fixture: &Fixture, weights: &str, device: &Device) -> ResNet {
    let network = config.init(device);
    let tensors: BTreeMap<_, _> = named_tensors(&network)
        .into_iter()
        .map(|(name, data)| {
            let (key, is_transposed) = reference_key(&name);
            let shape = data.shape().to_vec();
            let mut values = fixture.floats(&format!("{weights}.{key}"));
            if is_transposed {
                values = transposed(&values, shape[1], shape[0]);
            }
            (name, TensorData::new(values, shape))
        })
        .collect();
    load_named_tensors(network, &tensors).unwrap()
}

#[test]
fn feature_maps_of_plain_grouped_and_se_networks_equal_the_references() {
    let fixture = Fixture::open("backbones.safetensors");
    let device = crate::common::device();
    let resnext = ResNetConfig {
        groups: 4,
        width_per_group: 32,
        ..config(BlockKind::Bottleneck, None)
    };
    for (case, weights, config) in [
        ("basic", "basic_weights", config(BlockKind::Basic, None)),
        (
            "basic_se",
            "basic_weights",
            config(BlockKind::Basic, Some(4)),
        ),
        (
            "bottleneck",
            "bottleneck_weights",
            config(BlockKind::Bottleneck, None),
        ),
        (
            "bottleneck_se",
            "bottleneck_weights",
            config(BlockKind::Bottleneck, Some(16)),
        ),
        ("resnext", "resnext_weights", resnext),
    ] {
        let network = network(&config, &fixture, weights, &device);
        let maps = network.part_outputs(fixture.tensor("input", &device), 0);
        for (map, stage) in maps.into_iter().skip(1).zip(STAGES) {
            let key = format!("{case}.{stage}");
            assert_eq!(map.dims().to_vec(), fixture.shape(&key), "{key}");
            assert_close_to_largest(&key, &values(map), &fixture.floats(&key), 1e-5);
        }
    }
}

#[test]
fn gradients_of_the_se_bottleneck_network_equal_timm_s() {
    let fixture = Fixture::open("backbones.safetensors");
    let device = crate::common::device().autodiff();
    let config = config(BlockKind::Bottleneck, Some(16));
    let network = network(&config, &fixture, "bottleneck_weights", &device);
    let maps = network.part_outputs(fixture.tensor("input", &device), 0);
    let loss = maps
        .into_iter()
        .skip(1)
        .zip(STAGES)
        .map(|(map, stage)| {
            let weights: Tensor<4> =
                fixture.tensor(&format!("bottleneck_se_grad.weight_map_{stage}"), &device);
            (map * weights).sum()
        })
        .reduce(|a, b| a + b)
        .unwrap();
    let gradients = loss.backward();
    assert_close_to_largest(
        "loss",
        &values(loss.inner()),
        &fixture.floats("bottleneck_se_grad.loss"),
        1e-4,
    );
    let found = gradients_by_name(&network, &gradients);
    for (name, (shape, gradient)) in &found {
        let (key, is_transposed) = reference_key(name);
        let key = format!("bottleneck_se_grad.{key}");
        let gradient = if is_transposed {
            transposed(gradient, shape[0], shape[1])
        } else {
            gradient.clone()
        };
        assert_close_to_largest(&key, &gradient, &fixture.floats(&key), 1e-3);
    }
    // The norms are frozen here; everything else is trained.
    let learned = named_tensors(&network)
        .into_keys()
        .filter(|name| !name.contains("norm") && !name.starts_with("bn1"));
    assert!(learned.eq(found.into_keys()), "every gradient is compared");
}

#[test]
fn the_se_unit_equals_timm_s_in_gates_output_and_gradients() {
    let fixture = Fixture::open("backbones.safetensors");
    let device = crate::common::device().autodiff();
    let unit: SeUnit = SeConfig::default().init(32, &device);
    let of = |key: &str| fixture.floats(&format!("se_unit.{key}"));
    let weights = named_tensors(&unit)
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape().to_vec();
            let values = if name.ends_with("weight") {
                transposed(&of(&name), shape[1], shape[0])
            } else {
                of(&name)
            };
            (name, TensorData::new(values, shape))
        })
        .collect();
    let unit = load_named_tensors(unit, &weights).unwrap();
    let x: Tensor<4> = fixture.tensor("se_unit.input", &device);
    let x = x.require_grad();
    assert_close(
        "gates",
        &values(unit.gates(x.clone()).inner()),
        &of("gate"),
        1e-6,
    );
    let y = unit.forward(x.clone());
    assert_close("output", &values(y.clone().inner()), &of("output"), 1e-6);
    let weights: Tensor<4> = fixture.tensor("se_unit.output_weight", &device);
    let gradients = (y * weights).sum().backward();
    let of_input = values(x.grad(&gradients).unwrap());
    assert_close_to_largest("input", &of_input, &of("input_grad"), 1e-5);
    let found = gradients_by_name(&unit, &gradients);
    assert_eq!(found.len(), 4);
    for (name, (shape, gradient)) in found {
        let gradient = if name.ends_with("weight") {
            transposed(&gradient, shape[0], shape[1])
        } else {
            gradient
        };
        assert_close_to_largest(&name, &gradient, &of(&format!("{name}_grad")), 1e-5);
    }
}

/// timm rounds the squeeze of its smallest SE networks up to a multiple of 8. sedet uses the
/// paper's channels / 16, and the script counted parameters with that.
#[test]
fn every_resnet_has_the_reference_number_of_parameters() {
    let text = std::fs::read_to_string(fixture_path("parameter_counts.json")).unwrap();
    let counts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let device = crate::common::device();
    for name in zoo::detector_names() {
        let mut config = zoo::backbone(&name).unwrap();
        if config.family() != "resnet" || name == "senet154" {
            // Their reference counts are in tests/zoo.rs.
            continue;
        }
        config.common_mut().norm.kind = NormKind::Batch;
        let entry = &counts["networks"][name.replace("se-", "se").replace('-', "_")];
        let expected = match config.se() {
            None => &entry["without_head"],
            Some(_) => &entry["exact_reduction_without_head"],
        };
        let native = parameter_count(&config.init(&device));
        assert_eq!(Some(native), expected.as_u64(), "{name}");
    }
}
