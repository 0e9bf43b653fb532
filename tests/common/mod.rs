//! Shared by the integration tests: reading fixtures, comparing numbers.
#![allow(dead_code)] // each test binary uses its own part

pub mod command;
pub mod http_server;
pub mod images;
pub mod networks;
pub mod runs;
pub mod small_cifar;
pub mod third_party;
pub mod torchvision;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use sedet::weights::parameters::{
    load_named_tensors, named_gradients, named_shapes, named_tensors,
};

/// Returns the device under test: the CPU, or the one that `SEDET_TEST_DEVICE` names.
pub fn device() -> Device {
    let name = std::env::var("SEDET_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice = name.parse().unwrap_or_else(|e| panic!("{e}"));
    let found = sedet::device::resolve(choice).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("device: {}", found.name);
    found.device
}

/// A file of reference numbers written by a script in `tests/oracle/`.
pub struct Fixture {
    tensors: BTreeMap<String, TensorInfo>,
    /// The values of all tensors, concatenated.
    data: Vec<u8>,
    name: String,
}

/// Returns a file or directory of the real data that `SEDET_REAL_DATA` names.
///
/// Tests that call it are ignored and have `real_data` in their names; `.ci/run` runs them by it.
///
/// # Panics
/// The variable is not set, or the data does not exist.
pub fn real_data(name: &str) -> PathBuf {
    let root = std::env::var_os("SEDET_REAL_DATA").expect("SEDET_REAL_DATA names no directory");
    let path = PathBuf::from(root).join(name);
    assert!(path.exists(), "{}: not found", path.display());
    path
}

/// Returns the path of a file in `tests/fixtures/`.
pub fn fixture_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

impl Fixture {
    pub fn open(name: &str) -> Self {
        Self::open_file(&fixture_path(name))
    }

    pub fn open_file(path: &Path) -> Self {
        let mut bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = metadata.tensors();
        Self {
            tensors: tensors.into_iter().map(|(n, i)| (n, i.clone())).collect(),
            data: bytes.split_off(8 + header),
            name: path.display().to_string(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    pub fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    pub fn shape(&self, key: &str) -> Vec<usize> {
        self.view(key).0
    }

    fn view(&self, key: &str) -> (Vec<usize>, Dtype, &[u8]) {
        let info = self
            .tensors
            .get(key)
            .unwrap_or_else(|| panic!("{}: no tensor {key}", self.name));
        let (start, end) = info.data_offsets;
        (info.shape.clone(), info.dtype, &self.data[start..end])
    }

    pub fn floats(&self, key: &str) -> Vec<f32> {
        let (_, dtype, data) = self.view(key);
        assert_eq!(dtype, Dtype::F32, "{key}");
        data.chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    pub fn bytes(&self, key: &str) -> Vec<u8> {
        self.view(key).2.to_vec()
    }

    pub fn ints(&self, key: &str) -> Vec<i64> {
        let (_, dtype, data) = self.view(key);
        assert_eq!(dtype, Dtype::I64, "{key}");
        data.chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    pub fn tensor<const D: usize>(&self, key: &str, device: &Device) -> Tensor<D> {
        let shape = self.shape(key);
        Tensor::from_data(TensorData::new(self.floats(key), shape), device)
    }
}

/// Returns the values of a tensor in row-major order.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

/// Asserts that every value is within `tolerance` times the largest reference value (at least 1).
pub fn assert_close(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{name}: number of values");
    let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let worst = actual
        .iter()
        .zip(expected)
        .map(|(a, e)| if a == e { 0.0 } else { (a - e).abs() })
        .fold(
            0.0f32,
            |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) },
        );
    assert!(
        worst <= tolerance * scale,
        "{name}: off by {worst} where values reach {scale}"
    );
}

/// As [`assert_close`], but `tolerance` is of the largest reference value even where that is tiny.
pub fn assert_close_to_largest(name: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    let scale = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let normal = |v: &[f32]| v.iter().map(|x| x / scale).collect::<Vec<_>>();
    assert_close(name, &normal(actual), &normal(expected), tolerance);
}

/// Returns shape and values of the gradient of every parameter that has one, by the parameter's path.
pub fn gradients_by_name<M: Module>(
    model: &M,
    gradients: &Gradients,
) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let found = named_gradients(model, gradients).into_iter();
    let parts = found.map(|(name, data)| (name, (data.shape().to_vec(), data.iter().collect())));
    parts.collect()
}

/// Returns whether a tensor is transposed in fixtures with native names: torch's linear layers, and the
/// 1x1 convolutions of SE units.
fn is_transposed(name: &str) -> bool {
    name.contains(".se.") && name.ends_with("weight")
}

/// Loads a network from a fixture with native names; `key` maps a name to its complete key.
pub fn filled<M: Module>(network: M, fixture: &Fixture, key: impl Fn(&str) -> String) -> M {
    let tensors = named_tensors(&network)
        .into_iter()
        .map(|(name, data)| {
            let shape = data.shape().to_vec();
            let mut values = fixture.floats(&key(&name));
            if is_transposed(&name) {
                values = torchvision::transposed(&values, shape[1], shape[0]);
            }
            (name, TensorData::new(values, shape))
        })
        .collect();
    load_named_tensors(network, &tensors).unwrap()
}

/// Asserts that the gradients of the input and of all parameters equal those under `prefix`, to 1e-4 of the
/// largest value of each tensor, and that the fixture contains no others.
pub fn assert_gradients<M: Module>(
    prefix: &str,
    network: &M,
    input: &Tensor<4>,
    gradients: &Gradients,
    fixture: &Fixture,
) {
    let of_input = values(input.grad(gradients).unwrap());
    let found = gradients_by_name(network, gradients);
    let mut compared = vec!["input".to_string()];
    let expected = fixture.floats(&format!("{prefix}.input"));
    assert_close_to_largest(prefix, &of_input, &expected, 1e-4);
    for (name, (shape, gradient)) in found {
        let key = format!("{prefix}.{name}");
        let gradient = if is_transposed(&name) {
            torchvision::transposed(&gradient, shape[0], shape[1])
        } else {
            gradient
        };
        assert_close_to_largest(&key, &gradient, &fixture.floats(&key), 1e-4);
        compared.push(name);
    }
    compared.sort();
    let start = format!("{prefix}.");
    let names = fixture.names();
    let in_fixture: Vec<_> = names
        .iter()
        .filter_map(|n| n.strip_prefix(&start))
        .collect();
    assert_eq!(compared, in_fixture, "{prefix}: every gradient");
}

/// Returns the number of elements of all tensors except running statistics.
pub fn parameter_count<M: Module>(network: &M) -> u64 {
    named_shapes(network)
        .iter()
        .filter(|(name, _)| !name.contains("running"))
        .map(|(_, shape)| shape.iter().product::<usize>() as u64)
        .sum()
}
