//! Which backend and device runs the tensors: chosen explicitly, probed so that nothing crashes.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use serde::Serialize;

/// What a person asks for with `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA if it works, else a hardware GPU through wgpu, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The default GPU through Vulkan, Metal or DirectX.
    Wgpu,
    /// An NVIDIA GPU by its index.
    Cuda(usize),
}

/// A device that can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("unknown device '{0}'; choose auto, cpu, wgpu, cuda or cuda:N")]
    Unknown(String),
    /// This binary has no such backend.
    #[error(
        "this sedet is built without {0}; build it with `cargo build --release --features {0}`"
    )]
    NotBuilt(&'static str),
    /// The backend finds no device or the device does not work.
    #[error("no {backend} device works here: {reason}; use --device cpu, or see `sedet doctor`")]
    NotWorking {
        /// wgpu or cuda.
        backend: &'static str,
        /// What was met.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_string());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                Ok(Self::Cuda(index.parse().map_err(|_| unknown())?))
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A device that was tried and works.
#[derive(Debug, Clone)]
pub struct WorkingDevice {
    /// For tensors.
    pub device: Device,
    /// For people: `cpu (2 threads)`.
    pub name: String,
    /// A GPU that is really the CPU (Mesa's llvmpipe): right, but slow.
    pub is_software: bool,
}

/// The device of a choice, tried out.
///
/// # Errors
/// The backend isn't built in, or nothing of it works.
pub fn resolve(choice: DeviceChoice) -> Result<WorkingDevice, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Wgpu => wgpu(),
        DeviceChoice::Cuda(index) => cuda(index),
        DeviceChoice::Auto => {
            let gpu = cuda(0).or_else(|_| wgpu());
            Ok(gpu.ok().filter(|d| !d.is_software).unwrap_or_else(cpu))
        }
    }
}

fn cpu() -> WorkingDevice {
    WorkingDevice {
        device: Device::flex(),
        name: format!("cpu ({} threads)", rayon::current_num_threads()),
        is_software: false,
    }
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<WorkingDevice, DeviceError> {
    let failed = |reason: String| DeviceError::NotWorking {
        backend: "wgpu",
        reason,
    };
    // `Device::wgpu` panics on a device thread where there is no adapter; this returns instead.
    let device = Device::wgpu_options()
        .init()
        .map_err(|e| failed(e.to_string()))?;
    let identity = device.identity().map_or_else(
        || "unnamed adapter".to_string(),
        |identity| format!("{identity:?}"),
    );
    try_out(&device).map_err(failed)?;
    let lower = identity.to_lowercase();
    let is_software = ["llvmpipe", "lavapipe", "swiftshader", "software"]
        .iter()
        .any(|name| lower.contains(name));
    Ok(WorkingDevice {
        device,
        name: format!("wgpu ({identity})"),
        is_software,
    })
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<WorkingDevice, DeviceError> {
    Err(DeviceError::NotBuilt("wgpu"))
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<WorkingDevice, DeviceError> {
    let failed = |reason: String| DeviceError::NotWorking {
        backend: "cuda",
        reason,
    };
    // Enumerating looks for libcuda first; asking for a device outright would panic without it.
    let devices = Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec();
    let count = devices.len();
    let device = devices
        .into_iter()
        .nth(index)
        .ok_or_else(|| failed(format!("index {index} of {count} devices")))?;
    try_out(&device).map_err(failed)?;
    Ok(WorkingDevice {
        device,
        name: format!("cuda:{index}"),
        is_software: false,
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: usize) -> Result<WorkingDevice, DeviceError> {
    Err(DeviceError::NotBuilt("cuda"))
}

/// A small product with a known result. On its own thread, because drivers that break do it by
/// panicking.
fn try_out(device: &Device) -> Result<(), String> {
    let device = device.clone();
    let result = std::thread::spawn(move || {
        let a = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
        a.clone()
            .matmul(a)
            .into_data()
            .iter::<f32>()
            .collect::<Vec<_>>()
    })
    .join();
    match result {
        Ok(values) if values == [7.0, 10.0, 15.0, 22.0] => Ok(()),
        Ok(values) => Err(format!("a 2x2 product came out as {values:?}")),
        Err(_) => Err("the driver failed on a 2x2 product".to_string()),
    }
}

/// One line of `sedet doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// cpu, wgpu or cuda.
    pub backend: &'static str,
    /// Whether it can be used.
    pub works: bool,
    /// Its name, or what is missing.
    pub detail: String,
}

/// Try every backend.
pub fn probe() -> Vec<DeviceReport> {
    let report = |backend, found: Result<WorkingDevice, DeviceError>| match found {
        Ok(device) => DeviceReport {
            backend,
            works: true,
            detail: if device.is_software {
                format!("{}; software rendering, slower than cpu", device.name)
            } else {
                device.name
            },
        },
        Err(error) => DeviceReport {
            backend,
            works: false,
            detail: error.to_string(),
        },
    };
    let cpu = cpu();
    let cpu = match try_out(&cpu.device) {
        Ok(()) => report("cpu", Ok(cpu)),
        Err(reason) => report(
            "cpu",
            Err(DeviceError::NotWorking {
                backend: "cpu",
                reason,
            }),
        ),
    };
    vec![cpu, report("wgpu", wgpu()), report("cuda", cuda(0))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_read_and_wrong_ones_named() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        for wrong in ["gpu", "cuda:", "cuda:x", ""] {
            let message = wrong.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains(&format!("'{wrong}'")), "{message}");
        }
    }

    #[test]
    fn the_cpu_always_works_and_auto_finds_a_device() {
        assert!(probe()[0].works);
        assert!(resolve(DeviceChoice::Auto).is_ok());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_is_not_built_in_says_how_to_build_it() {
        let message = resolve(DeviceChoice::Cuda(0)).unwrap_err().to_string();
        assert!(message.contains("--features cuda"), "{message}");
    }
}
