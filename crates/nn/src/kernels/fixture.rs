//! Reference values of `tests/oracle/kernels.py`, and helpers for the tests of this module.

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

/// One case of the reference values: the tensors named `name.*` and the options of the case.
pub(super) struct Case {
    name: String,
    bytes: Vec<u8>,
    pub(super) options: serde_json::Value,
    pub(super) device: Device,
}

/// Reads all cases whose name starts with `prefix`.
pub(super) fn cases(prefix: &str) -> Vec<Case> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/kernels.safetensors"
    );
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let options = &metadata.metadata().as_ref().unwrap()["options"];
    let options: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(options).unwrap();
    let cases: Vec<Case> = options
        .into_iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, options)| Case {
            name,
            bytes: bytes.clone(),
            options,
            device: device_under_test().autodiff(),
        })
        .collect();
    assert!(!cases.is_empty(), "no case {prefix}");
    cases
}

/// Returns the device whose operations are compared with the reference values: the CPU, or the GPU if `SEDET_TEST_DEVICE`
/// is `wgpu`.
pub(super) fn device_under_test() -> Device {
    match std::env::var("SEDET_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::flex(),
        #[cfg(feature = "wgpu")]
        Ok("wgpu") => gpu(),
        Ok(other) => panic!("SEDET_TEST_DEVICE is {other}, which this build has not"),
    }
}

/// Returns the GPU, or the adapter that runs on the CPU.
#[cfg(feature = "wgpu")]
pub(super) fn gpu() -> Device {
    // burn refuses to initialize an adapter twice.
    static OPENED: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    OPENED
        .get_or_init(|| Device::wgpu_options().init_with_setup().unwrap().0)
        .clone()
}

impl Case {
    pub(super) fn has(&self, tensor: &str) -> bool {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(&format!("{}.{tensor}", self.name)).is_ok()
    }

    fn data(&self, tensor: &str) -> TensorData {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(&format!("{}.{tensor}", self.name)).unwrap();
        let values: Vec<f32> = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        TensorData::new(values, view.shape().to_vec())
    }

    /// Returns a tensor without gradient, on the autodiff device.
    pub(super) fn constant<const D: usize>(&self, tensor: &str) -> Tensor<D> {
        Tensor::from_data(self.data(tensor), &self.device)
    }

    /// Returns a tensor that requires a gradient.
    pub(super) fn input<const D: usize>(&self, tensor: &str) -> Tensor<D> {
        self.constant(tensor).require_grad()
    }

    /// Asserts that `actual` equals the tensor of the case, up to rounding.
    pub(super) fn assert_equals<const D: usize>(&self, tensor: &str, actual: Tensor<D>) {
        assert_close(
            &format!("{}.{tensor}", self.name),
            &values(actual),
            &self.data(tensor).try_to_vec::<f32>().unwrap(),
        );
    }
}

pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().unwrap()
}

/// Asserts that both differ by no more than 1e-5 of the largest value, or of 1.
pub(super) fn assert_close(name: &str, actual: &[f32], expected: &[f32]) {
    assert_within(1e-5, name, actual, expected);
}

/// Asserts that both differ by no more than `tolerance` of the largest value, or of 1.
pub(super) fn assert_within(tolerance: f32, name: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{name}: length");
    let scale = expected
        .iter()
        .fold(1.0f32, |largest, value| largest.max(value.abs()));
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (actual - expected).abs() <= tolerance * scale,
            "{name}[{index}]: {actual} instead of {expected}"
        );
    }
}

/// Returns pseudorandom numbers in [-1, 1), the same on every machine.
pub(super) fn noise<const D: usize>(seed: u32, shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Asserts that `compute` returns the same bits on pools of one and of three threads.
pub(super) fn assert_same_bits_on_any_thread_count(compute: impl Fn() -> Vec<f32> + Sync) {
    let on_pool = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let values = pool.install(&compute);
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let (one, three) = (on_pool(1), on_pool(3));
    assert!(!one.is_empty());
    assert!(one == three, "the bits depend on the number of threads");
}
