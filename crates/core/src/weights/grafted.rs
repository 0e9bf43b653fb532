//! Grafted SE units, which start as identity ([`SeStart::Identity`]), in the form of the paper's.

use burn::tensor::TensorData;

use super::parameters::NamedTensors;
use crate::backbones::BackboneConfig;
use crate::spec::{ModelSpec, NetworkConfig};
use sedet_nn::nn::se::{SeConfig, SeStart};

/// The end of the name of the first layer's weight.
const FIRST_LAYER: &str = "se.fc1.weight";

/// Rewrites a network whose SE units started as identity as an equal one with the units of the paper, which other
/// libraries have. Returns whether it did; any other network stays as it is.
///
/// The gate `2 * sigmoid(f(y))` scales the output `y` of the block's last norm. The norm is doubled, and the
/// first layer of `f`, which sees the doubled `y`, is halved, so that `sigmoid(f(y))` scales `2 * y`. Powers of
/// two change no other bit of a float.
pub fn to_units_of_the_paper(spec: &mut ModelSpec, weights: &mut NamedTensors) -> bool {
    let backbone = match &mut spec.network {
        NetworkConfig::Classification(model) => &mut model.backbone,
        NetworkConfig::Detection(model) => &mut model.backbone,
    };
    let BackboneConfig::Resnet(backbone) = backbone else {
        return false;
    };
    let Some(units) = &mut backbone.se else {
        return false;
    };
    let paper = SeConfig {
        start: SeStart::Paper,
        ..*units
    };
    if units.start == SeStart::Paper || !paper.is_published() {
        return false;
    }
    let Some(changes) = changes(weights) else {
        return false;
    };
    *units = paper;
    weights.extend(changes);
    true
}

/// Returns the changed tensors; `None` if the norm before a unit is not among the weights.
fn changes(weights: &NamedTensors) -> Option<Vec<(String, TensorData)>> {
    let mut changes = Vec::new();
    for (name, first) in weights {
        let Some(block) = name.strip_suffix(FIRST_LAYER) else {
            continue;
        };
        changes.push((name.clone(), scaled(first, 0.5)));
        let last = (0..)
            .take_while(|n| weights.contains_key(&format!("{block}norms.{n}.weight")))
            .last()?;
        for tensor in ["weight", "bias"] {
            let name = format!("{block}norms.{last}.{tensor}");
            let values = scaled(weights.get(&name)?, 2.0);
            changes.push((name, values));
        }
    }
    Some(changes)
}

fn scaled(data: &TensorData, factor: f32) -> TensorData {
    let values: Vec<f32> = data.iter::<f32>().map(|value| value * factor).collect();
    TensorData::new(values, data.shape().clone())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::backbones::resnet::{BlockKind, ResNetConfig};
    use crate::classification::classifier::ClassifierConfig;
    use crate::weights::parameters::{load_named_tensors, named_tensors};
    use sedet_data::loading::transforms::Preprocess;
    use sedet_nn::nn::se::Gate;

    fn spec(units: SeConfig) -> ModelSpec {
        let backbone = ResNetConfig {
            width_multiplier: 0.125,
            se: Some(units),
            ..ResNetConfig::new(BlockKind::Bottleneck, [1, 2, 1, 1])
        };
        let network = ClassifierConfig::new(backbone.into(), 3);
        ModelSpec::new(
            NetworkConfig::Classification(network),
            Preprocess::imagenet_eval(),
        )
    }

    fn network(spec: &ModelSpec) -> ClassifierConfig {
        match &spec.network {
            NetworkConfig::Classification(network) => network.clone(),
            NetworkConfig::Detection(_) => unreachable!("it is a classifier"),
        }
    }

    /// Weights of units that have been trained: their last layer is not zero.
    fn trained(spec: &ModelSpec) -> NamedTensors {
        let mut weights = named_tensors(&network(spec).init(&Device::flex()));
        for (name, data) in &mut weights {
            if name.contains(".se.fc2.") {
                let count = data.num_elements();
                let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
                *data = TensorData::new(values, data.shape().clone());
            }
        }
        weights
    }

    #[test]
    fn a_grafted_network_in_the_form_of_the_paper_has_the_same_logits() {
        let units = SeConfig {
            start: SeStart::Identity,
            ..SeConfig::new(4)
        };
        let device = Device::flex();
        for after_relu in [false, true] {
            let mut spec = spec(SeConfig {
                after_relu,
                ..units
            });
            let mut weights = trained(&spec);
            let logits = |spec: &ModelSpec, weights: &NamedTensors| {
                let model = load_named_tensors(network(spec).init(&device), weights).unwrap();
                let pixels = Tensor::<4>::ones([1, 3, 64, 64], &device) * 0.5;
                model.forward(pixels).into_data()
            };
            let expected = logits(&spec, &weights);
            let before = weights.clone();
            assert!(to_units_of_the_paper(&mut spec, &mut weights));
            assert_eq!(spec.backbone().se().unwrap().start, SeStart::Paper);
            assert_ne!(weights, before);
            let found = logits(&spec, &weights);
            for (found, expected) in found.iter::<f32>().zip(expected.iter::<f32>()) {
                assert!(
                    (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                    "{found} {expected}"
                );
            }
            assert!(!to_units_of_the_paper(&mut spec, &mut weights));
        }
    }

    #[test]
    fn variants_that_other_libraries_do_not_have_stay_as_they_are() {
        let mut spec = spec(SeConfig {
            start: SeStart::Identity,
            gate: Gate::Tanh,
            ..SeConfig::new(4)
        });
        let mut weights = trained(&spec);
        let before = (spec.clone(), weights.clone());
        assert!(!to_units_of_the_paper(&mut spec, &mut weights));
        assert_eq!((spec, weights), before);
    }
}
