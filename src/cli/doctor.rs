//! `sedet doctor`.

use std::process::ExitCode;

use serde_json::json;

use super::hints::device_remedy;
use super::terminal::{width, wrapped};
use super::{print_out, version};
use sedet_core::device::{DeviceReport, probe};
use sedet_data::datasets::registry::{DATA_DIR_VARIABLE, data_dir_of_user};

const EXAMPLES: &str = "\
Examples:
  sedet doctor
  sedet doctor --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Width of the name and the state before the details of a device.
const DETAIL_INDENT: usize = 13;

/// Describes a device, or why it does not work and what to do about it.
fn detail(device: &DeviceReport) -> String {
    match &device.found {
        Ok(description) => description.clone(),
        Err(error) => match device_remedy(error) {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error.to_string(),
        },
    }
}

pub(super) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let devices = probe();
    let data = data_dir_of_user().map(|path| path.display().to_string());
    let features: Vec<&str> = [
        (cfg!(feature = "wgpu"), "wgpu"),
        (cfg!(feature = "cuda"), "cuda"),
    ]
    .into_iter()
    .filter_map(|(built, name)| built.then_some(name))
    .collect();
    if args.json {
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": version::COMMIT,
            "features": features,
            "os": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
            "threads": rayon::current_num_threads(),
            "data_dir": data,
            "devices": devices.iter().map(|device| json!({
                "backend": device.backend.name(),
                "works": device.found.is_ok(),
                "detail": detail(device),
            })).collect::<Vec<_>>(),
        });
        print_out(&format!("{report:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let backends = if features.is_empty() {
        "cpu only".to_string()
    } else {
        format!("cpu, {}", features.join(", "))
    };
    let mut text = format!(
        "sedet {} for {} {} ({backends})\n",
        version::SHORT,
        std::env::consts::OS,
        std::env::consts::ARCH,
    );
    for device in &devices {
        let state = if device.found.is_ok() {
            "works"
        } else {
            "no   "
        };
        let detail = wrapped(&detail(device), DETAIL_INDENT, width());
        text += &format!(
            "{:<5} {state}  {}",
            device.backend.name(),
            detail.trim_start()
        );
    }
    text += &match data {
        Some(path) if std::path::Path::new(&path).is_dir() => format!("data  works  {path}\n"),
        Some(path) => format!("data  no     {DATA_DIR_VARIABLE}={path} is not a directory\n"),
        None => {
            format!("data  -      {DATA_DIR_VARIABLE} is not set; each command takes --data-dir\n")
        }
    };
    print_out(&text)?;
    Ok(ExitCode::SUCCESS)
}
