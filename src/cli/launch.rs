//! `sedet train --devices`: one process per device, started by `mpirun`.

use std::ffi::OsString;
use std::process::Command;
use std::str::FromStr;

use sedet_core::device::{DeviceChoice, DeviceError};

use super::hints::{advise, usage_with_hint};
use super::ranks::{launcher_size, ranks, without};

/// Several devices: `cuda:0,1,2,3` or `cpu,cpu`. A number alone is of the kind of the device before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceList(Vec<DeviceChoice>);

impl FromStr for DeviceList {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let mut kind = String::new();
        let mut devices = Vec::new();
        for item in text.split(',').map(str::trim) {
            let is_number = !item.is_empty() && item.bytes().all(|c| c.is_ascii_digit());
            let name = if is_number && !kind.is_empty() {
                format!("{kind}:{item}")
            } else {
                kind = item.split(':').next().unwrap_or(item).to_string();
                item.to_string()
            };
            devices.push(name.parse()?);
        }
        Ok(Self(devices))
    }
}

/// Variables with the number of a process on its machine, by the launcher that sets them.
const LOCAL_RANKS: [&str; 3] = [
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "SLURM_LOCALID",
];

impl DeviceList {
    /// Returns the devices; at least one.
    pub(super) fn all(&self) -> &[DeviceChoice] {
        &self.0
    }

    /// Returns the first device.
    pub(super) fn first(&self) -> DeviceChoice {
        self.0.first().copied().unwrap_or_default()
    }

    /// Returns the device of this process. Of several devices, one process each is started in place of this one, unless
    /// a launcher has started this one already.
    pub(super) fn of_this_process(&self) -> anyhow::Result<DeviceChoice> {
        let Self(devices) = self;
        match devices.as_slice() {
            [one] => Ok(*one),
            _ if launcher_size() == Some(1) => Err(usage_with_hint(
                format!(
                    "--devices lists {} devices, but the launcher started one process",
                    devices.len()
                ),
                format!(
                    "start {} processes, or sedet without a launcher, which then starts them",
                    devices.len()
                ),
            )),
            _ if ranks().is_alone() => Err(start(devices)),
            _ => {
                let number = |name: &&str| std::env::var(name).ok()?.parse::<usize>().ok();
                let local = LOCAL_RANKS
                    .iter()
                    .find_map(number)
                    .unwrap_or(ranks().rank());
                devices.get(local).copied().ok_or_else(|| {
                    usage_with_hint(
                        format!(
                            "--devices lists {} devices, but this machine has at least {} processes",
                            devices.len(),
                            local + 1
                        ),
                        "list one for each process of a machine",
                    )
                })
            }
        }
    }
}

/// Replaces this process by `mpirun` with a process for each device. Returns only if that fails.
fn start(devices: &[DeviceChoice]) -> anyhow::Error {
    if !cfg!(feature = "mpi") {
        return usage_with_hint(
            "--devices with several devices needs MPI, without which this sedet was built",
            "build it with --features mpi",
        );
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let arguments = without(&["--devices"], std::env::args_os().skip(1));
    let threads = threads_of_each(devices.len(), &arguments);
    let mut command = Command::new("mpirun");
    // The threads of a rank are not bound to one core, and devices may outnumber the cores: Open MPI 4, and 5.
    command
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("PRTE_MCA_hwloc_default_binding_policy", "none")
        .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
    for (index, device) in devices.iter().enumerate() {
        if index > 0 {
            command.arg(":");
        }
        command.args(["-n", "1"]).arg(&program).args(&arguments);
        command.args(["--device", &device.to_string()]);
        if let Some(threads) = threads {
            command.args(["--threads", &threads.to_string()]);
        }
    }
    replace(command)
}

/// Returns the number of threads of each of several processes on this machine; none if the arguments give it.
pub(super) fn threads_of_each(processes: usize, arguments: &[OsString]) -> Option<usize> {
    let is_given = arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        argument == "--threads" || argument.starts_with("--threads=")
    });
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    (!is_given).then_some((cores / processes).max(1))
}

#[cfg(unix)]
fn replace(mut command: Command) -> anyhow::Error {
    use std::os::unix::process::CommandExt as _;

    not_started(command.exec())
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> anyhow::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => not_started(error),
    }
}

fn not_started(error: std::io::Error) -> anyhow::Error {
    advise(
        format!("mpirun cannot be started: {error}"),
        "install the MPI library that sedet was built with, such as openmpi-bin, or start sedet by another launcher",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_the_kind_before_it() {
        let list = |text: &str| text.parse::<DeviceList>().map(|list| list.0);
        assert_eq!(
            list("cuda:0,2, 3").unwrap(),
            [0, 2, 3].map(DeviceChoice::Cuda)
        );
        assert_eq!(list("cpu,cpu").unwrap(), [DeviceChoice::Cpu; 2]);
        assert_eq!(
            list("cpu,cuda:1").unwrap(),
            [DeviceChoice::Cpu, DeviceChoice::Cuda(1)]
        );
        for wrong in ["", "0,1", "cuda:0,,1", "cpu,3", "cuda:x"] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
    }
}
