//! Selection of the device that tensors are computed on.
//!
//! burn's own device functions panic on machines without the hardware, so devices are opened here
//! only: [`resolve`] returns a device that has computed a small product correctly, or an error that
//! names what is missing; [`probe`] reports on all of them.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use sedet_data::text::count;
use sedet_nn::kernels::bf16::ComputePrecision;
use sedet_nn::kernels::vectorized::InstructionSet;

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The CPU; always available.
    Cpu,
    /// GPUs of any vendor through Vulkan, Metal or DirectX.
    Wgpu,
    /// NVIDIA GPUs.
    Cuda,
}

impl Backend {
    /// All kinds, from the slowest to the fastest.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Wgpu, Self::Cuda];

    /// Returns the name, which is also that of its Cargo feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }

    /// Returns whether this build supports it.
    pub(crate) const fn is_compiled_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The device and the precision of inference.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The device.
    pub device: Device,
    /// The precision of multiplications; see [`Model::with_precision`](crate::model::Model::with_precision).
    pub precision: ComputePrecision,
}

impl From<Device> for Execution {
    /// 32-bit floats.
    fn from(device: Device) -> Self {
        Self {
            device,
            precision: ComputePrecision::F32,
        }
    }
}

/// A requested device: `auto`, `cpu`, `wgpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// CUDA if it works, else a hardware GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best adapter; a software adapter if there is no other.
    Wgpu,
    /// The NVIDIA GPU of this index, from 0.
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown {
            given: text.to_string(),
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => {
                let index = other.strip_prefix("cuda:").ok_or_else(unknown)?;
                // u16 is what the CUDA runtime counts devices with.
                let index: u16 = index.parse().map_err(|_| unknown())?;
                Ok(Self::Cuda(index.into()))
            }
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

/// The error of opening a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not a name of a device.
    #[error("unknown device '{given}'; known: auto, cpu, wgpu, cuda, cuda:N")]
    Unknown {
        /// The name.
        given: String,
    },
    /// The Cargo feature is off.
    #[error("this build does not support {backend}")]
    NotCompiledIn {
        /// The requested backend.
        backend: Backend,
    },
    /// No hardware or no driver.
    #[error("no {backend} device: {reason}")]
    Unavailable {
        /// The requested backend.
        backend: Backend,
        /// The message of the driver.
        reason: String,
    },
    /// An index beyond the last GPU.
    #[error("no cuda:{index}: this machine has {}, numbered from 0", sedet_data::text::count(*count, "CUDA device"))]
    NoSuchGpu {
        /// The requested index.
        index: usize,
        /// Number of GPUs.
        count: usize,
    },
    /// A device that computes a small product wrongly or not at all.
    #[error("{name} does not compute correctly: {reason}")]
    Broken {
        /// The device.
        name: String,
        /// What happened.
        reason: String,
    },
}

/// A device that has computed correctly.
#[derive(Debug, Clone)]
pub struct WorkingDevice {
    /// The device, without autodiff.
    pub device: Device,
    /// Its display name: `cpu (2 threads)`, `wgpu (NVIDIA GeForce RTX 4070, vulkan)`.
    pub name: String,
    /// Its kind.
    pub backend: Backend,
    /// Whether it is an adapter that runs on the CPU (`llvmpipe`): correct, but slower than `cpu`.
    pub is_software: bool,
}

/// Opens a device and checks that it computes correctly.
///
/// # Errors
/// Never for `auto` and `cpu` on a healthy machine; else see [`DeviceError`].
pub fn resolve(choice: DeviceChoice) -> Result<WorkingDevice, DeviceError> {
    match choice {
        DeviceChoice::Auto => {
            if let Ok(found) = open(Backend::Cuda, 0) {
                return Ok(found);
            }
            // A software adapter would be opened only to be rejected.
            let has_gpu = open_wgpu().is_ok_and(|found| !found.is_software);
            match has_gpu.then(|| open(Backend::Wgpu, 0)) {
                Some(Ok(found)) => Ok(found),
                _ => open(Backend::Cpu, 0),
            }
        }
        DeviceChoice::Cpu => open(Backend::Cpu, 0),
        DeviceChoice::Wgpu => open(Backend::Wgpu, 0),
        DeviceChoice::Cuda(index) => open(Backend::Cuda, index),
    }
}

/// The state of one kind of device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// The kind.
    pub backend: Backend,
    /// Its description, or why it does not work.
    pub found: Result<String, DeviceError>,
}

/// Tests every kind of device, from the slowest to the fastest.
pub fn probe() -> Vec<DeviceReport> {
    let report = |backend| DeviceReport {
        backend,
        found: open(backend, 0).map(|found| match (backend, found.is_software) {
            (_, true) => format!("{}; a software adapter, slower than cpu", found.name),
            (Backend::Cpu, false) => with_instructions(&found.name),
            (Backend::Wgpu | Backend::Cuda, false) => found.name,
        }),
    };
    Backend::ALL.into_iter().map(report).collect()
}

/// Adds the instruction set of the kernels to the name of the CPU.
fn with_instructions(name: &str) -> String {
    match InstructionSet::in_use() {
        Ok(set) if ComputePrecision::Bf16.is_available() => {
            format!("{name}, {set} instructions: inference is faster in bf16")
        }
        Ok(set) => format!("{name}, {set} instructions"),
        Err(error) => format!("{name}; {error}"),
    }
}

fn open(backend: Backend, index: usize) -> Result<WorkingDevice, DeviceError> {
    if !backend.is_compiled_in() {
        return Err(DeviceError::NotCompiledIn { backend });
    }
    let found = match backend {
        Backend::Cpu => WorkingDevice {
            device: Device::flex(),
            name: format!("cpu ({})", count(rayon::current_num_threads(), "thread")),
            backend,
            is_software: false,
        },
        Backend::Wgpu => open_wgpu()?,
        Backend::Cuda => open_cuda(index)?,
    };
    match computes(&found.device) {
        Ok(()) => Ok(found),
        Err(reason) => Err(DeviceError::Broken {
            name: found.name,
            reason,
        }),
    }
}

#[cfg(feature = "wgpu")]
fn open_wgpu() -> Result<WorkingDevice, DeviceError> {
    use std::sync::OnceLock;

    use burn::tensor::wgpu::wgpu::DeviceType;

    // burn refuses to initialize the same adapter twice, so the first result is kept.
    static OPENED: OnceLock<Result<WorkingDevice, DeviceError>> = OnceLock::new();
    OPENED
        .get_or_init(|| {
            let unavailable = |reason: String| DeviceError::Unavailable {
                backend: Backend::Wgpu,
                reason,
            };
            // `init` reports a missing adapter; the guard is for drivers that panic.
            let opened = guarded(|| Device::wgpu_options().init_with_setup())
                .map_err(unavailable)?
                .map_err(|e| unavailable(one_line(&e.to_string())))?;
            let (device, setup) = opened;
            let adapter = setup.adapter.get_info();
            Ok(WorkingDevice {
                device,
                name: format!("wgpu ({}, {})", adapter.name, adapter.backend),
                backend: Backend::Wgpu,
                is_software: adapter.device_type == DeviceType::Cpu,
            })
        })
        .clone()
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu() -> Result<WorkingDevice, DeviceError> {
    Err(DeviceError::NotCompiledIn {
        backend: Backend::Wgpu,
    })
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<WorkingDevice, DeviceError> {
    use burn::tensor::DeviceType;

    let unavailable = |reason: String| DeviceError::Unavailable {
        backend: Backend::Cuda,
        reason,
    };
    // Enumerating looks for the driver first; opening a device without one panics.
    let devices = guarded(|| Device::enumerate(DeviceType::Cuda)).map_err(unavailable)?;
    if devices.is_empty() {
        return Err(unavailable("no NVIDIA driver or no GPU found".into()));
    }
    let count = devices.len();
    let device = devices
        .into_iter()
        .nth(index)
        .ok_or(DeviceError::NoSuchGpu { index, count })?;
    let gpu = guarded(|| device.identity()).map_err(unavailable)?;
    let gpu = gpu.map_or_else(|| "unnamed GPU".to_string(), |identity| identity.name);
    Ok(WorkingDevice {
        device,
        name: format!("cuda:{index} ({gpu})"),
        backend: Backend::Cuda,
        is_software: false,
    })
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize) -> Result<WorkingDevice, DeviceError> {
    Err(DeviceError::NotCompiledIn {
        backend: Backend::Cuda,
    })
}

/// Multiplies two small matrices and checks the product.
fn computes(device: &Device) -> Result<(), String> {
    let product = guarded(|| {
        let a = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], device);
        let b = Tensor::<2>::from_floats([[5.0, 6.0], [7.0, 8.0]], device);
        a.matmul(b).try_into_vec_as::<f32>()
    })?
    .map_err(|e| one_line(&e.to_string()))?;
    // Small integers are exact in every float format that a device may compute with.
    if product == [19.0, 22.0, 43.0, 50.0] {
        Ok(())
    } else {
        let numbers: Vec<String> = product.iter().map(ToString::to_string).collect();
        let numbers = numbers.join(", ");
        Err(format!(
            "a matrix product is {numbers} instead of 19, 22, 43, 50"
        ))
    }
}

/// Runs code that calls a driver and returns the message of a panic as an error.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // The closure shares no state with the caller that a panic could leave inconsistent.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("the driver failed without a message");
        one_line(message)
    })
}

/// Joins the lines of a driver's message: messages of sedet have one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn device_names_are_parsed() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("CPU", DeviceChoice::Cpu),
            ("wgpu", DeviceChoice::Wgpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(choice), "{text}");
        }
    }

    #[test]
    fn other_names_are_refused_with_the_list_of_devices() {
        for text in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "cuda:99999",
            "cpu:0",
        ] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("unknown device '{text}'; known: auto, cpu, wgpu, cuda, cuda:N")
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_parsed_back(index in 0usize..64) {
            let choice = DeviceChoice::Cuda(index);
            prop_assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }

    #[test]
    fn the_cpu_always_works() {
        let found = resolve(DeviceChoice::Cpu).unwrap();
        assert!(found.name.starts_with("cpu ("), "{}", found.name);
        assert!(!found.device.is_autodiff());
    }

    #[test]
    fn auto_never_fails_and_never_selects_a_software_adapter() {
        assert!(!resolve(DeviceChoice::Auto).unwrap().is_software);
    }

    #[test]
    fn resolving_twice_gives_the_same_device() {
        for choice in [DeviceChoice::Wgpu, DeviceChoice::Cuda(0)] {
            let first = resolve(choice).map(|d| d.name);
            assert_eq!(first, resolve(choice).map(|d| d.name));
        }
    }

    #[test]
    fn the_report_covers_every_backend() {
        let reports = probe();
        let backends: Vec<Backend> = reports.iter().map(|report| report.backend).collect();
        assert_eq!(backends, Backend::ALL);
        assert!(reports[0].found.is_ok());
        for DeviceReport { backend, found } in reports {
            let is_missing = found == Err(DeviceError::NotCompiledIn { backend });
            assert_eq!(is_missing, !backend.is_compiled_in(), "{found:?}");
        }
    }

    #[test]
    fn a_panic_in_a_driver_becomes_one_line() {
        let reason: String = guarded::<()>(|| panic!("two\n  lines")).unwrap_err();
        assert_eq!(reason, "two lines");
    }

    #[test]
    fn an_index_beyond_the_last_gpu_is_named() {
        let message = DeviceError::NoSuchGpu { index: 3, count: 1 }.to_string();
        assert!(message.contains("cuda:3") && message.contains("1 CUDA device,"));
    }
}
