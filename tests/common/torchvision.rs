//! torchvision's names of sedet's tensors.

use std::collections::BTreeMap;

use burn::tensor::TensorData;

use super::Fixture;

/// Returns torchvision's key of a parameter, and whether its matrix is transposed.
pub fn key(native: &str) -> (String, bool) {
    let parts: Vec<&str> = native.split('.').collect();
    let rest = |from: usize| parts[from..].join(".");
    match parts.as_slice() {
        ["backbone", "conv1" | "bn1", ..] => (format!("backbone.body.{}", rest(1)), false),
        ["backbone", layer, block, "convs", n, tensor] => {
            let n = n.parse::<usize>().unwrap() + 1;
            (
                format!("backbone.body.{layer}.{block}.conv{n}.{tensor}"),
                false,
            )
        }
        ["backbone", layer, block, "norms", n, tensor] => {
            let n = n.parse::<usize>().unwrap() + 1;
            (
                format!("backbone.body.{layer}.{block}.bn{n}.{tensor}"),
                false,
            )
        }
        ["backbone", layer, block, "downsample", part, tensor] => {
            let n = if *part == "conv" { 0 } else { 1 };
            (
                format!("backbone.body.{layer}.{block}.downsample.{n}.{tensor}"),
                false,
            )
        }
        ["backbone", layer, block, "se", fc, tensor] => (
            format!("backbone.body.{layer}.{block}.se.{fc}.{tensor}"),
            *tensor == "weight",
        ),
        ["fpn", blocks, n, tensor] => (format!("backbone.fpn.{blocks}.{n}.0.{tensor}"), false),
        ["rpn", "conv", tensor] => (format!("rpn.head.conv.0.0.{tensor}"), false),
        ["rpn", ..] => (format!("rpn.head.{}", rest(1)), false),
        ["box_head", fc @ ("fc6" | "fc7"), tensor] => (
            format!("roi_heads.box_head.{fc}.{tensor}"),
            *tensor == "weight",
        ),
        ["box_head", .., tensor] => (
            format!("roi_heads.box_predictor.{}", rest(1)),
            *tensor == "weight",
        ),
        _ => panic!("no torchvision name for {native}"),
    }
}

/// Transposes a matrix. torch's 1x1 convolutions count as matrices.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|c| (0..rows).map(move |r| values[r * columns + c]))
        .collect()
}

/// Loads parameters from a fixture: each from the first prefix that has its key.
pub fn weights(
    native: &BTreeMap<String, TensorData>,
    fixture: &Fixture,
    prefixes: &[&str],
) -> BTreeMap<String, TensorData> {
    native
        .iter()
        .map(|(name, data)| {
            let (key, is_transposed) = key(name);
            let full = prefixes
                .iter()
                .map(|p| format!("{p}{key}"))
                .find(|k| fixture.has(k))
                .unwrap_or_else(|| panic!("the fixture has no {key}"));
            let mut values = fixture.floats(&full);
            let shape = data.shape().to_vec();
            if is_transposed {
                values = transposed(&values, shape[1], shape[0]);
            }
            (name.clone(), TensorData::new(values, shape))
        })
        .collect()
}
