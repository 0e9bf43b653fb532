//! What the integration tests share: reading fixtures, comparing numbers.
#![allow(dead_code)] // each test binary uses its own part

pub mod torchvision;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use sedet::weights::parameters::ModulePath;

/// The device that these tests prove: the processor, or the one that `SEDET_TEST_DEVICE` names.
pub fn device() -> Device {
    let name = std::env::var("SEDET_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice = name.parse().unwrap_or_else(|e| panic!("{e}"));
    let found = sedet::device::resolve(choice).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("device: {}", found.name);
    found.device
}

/// A file of reference numbers written by a script in `tests/oracle/`.
pub struct Fixture {
    bytes: Vec<u8>,
    name: String,
}

/// The path of a file in `tests/fixtures/`.
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
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            bytes,
            name: path.display().to_string(),
        }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .tensors()
            .names()
            .iter()
            .map(|n| n.to_string())
            .collect();
        names.sort();
        names
    }

    pub fn has(&self, key: &str) -> bool {
        self.tensors().tensor(key).is_ok()
    }

    pub fn shape(&self, key: &str) -> Vec<usize> {
        self.view(key).0
    }

    fn view(&self, key: &str) -> (Vec<usize>, Dtype, Vec<u8>) {
        let tensors = self.tensors();
        let view = tensors
            .tensor(key)
            .unwrap_or_else(|e| panic!("{}: {key}: {e}", self.name));
        (view.shape().to_vec(), view.dtype(), view.data().to_vec())
    }

    pub fn floats(&self, key: &str) -> Vec<f32> {
        let (_, dtype, data) = self.view(key);
        assert_eq!(dtype, Dtype::F32, "{key}");
        data.chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }

    pub fn bytes(&self, key: &str) -> Vec<u8> {
        self.view(key).2
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

/// The values of a tensor, row-major.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

/// Every value within `tolerance` of the largest reference value (at least of 1).
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

/// Shape and values of the gradient of every parameter that has one, by the parameter's path.
pub fn gradients_by_name<M: Module>(
    model: &M,
    gradients: &Gradients,
) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut collect = CollectGradients {
        gradients,
        path: ModulePath::default(),
        found: BTreeMap::new(),
    };
    model.visit(&mut collect);
    collect.found
}

struct CollectGradients<'a> {
    gradients: &'a Gradients,
    path: ModulePath,
    found: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl ModuleVisitor for CollectGradients<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let shape = gradient.dims().to_vec();
            self.found
                .insert(self.path.name(), (shape, values(gradient)));
        }
    }
}
