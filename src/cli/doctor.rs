//! `sedet doctor`.

use std::process::ExitCode;

use serde_json::json;

use super::hints::{device_remedy, usage_with_hint};
use super::progress::{Unit, with_bar_of};
use super::terminal::{fitted, width, wrapped};
use super::{DeviceArgs, print_out, status, version};
use sedet_core::device::{Backend, DeviceReport, WorkingDevice, probe};
use sedet_core::device_check::{CheckedNetwork, OperationCheck, check, tolerance};
use sedet_data::datasets::registry::{DATA_DIR_VARIABLE, data_dir_of_user};
use sedet_data::eval::table::Side;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet doctor
  sedet doctor --json
  sedet doctor --device wgpu --model se-resnet50";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    /// Network whose operations are compared with the CPU on --device, forward and backward: a name from
    /// `sedet models`. Its detector's operations are compared, too, if there is one
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
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
    match (&args.model, args.device.is_given()) {
        (Some(model), _) => compare(model, &args),
        (None, true) => Err(usage_with_hint(
            "--device has no effect without --model",
            "add --model se-resnet50 to compare the operations of a network with the CPU",
        )),
        (None, false) => report_devices(&args),
    }
}

/// Compares every operation of a network on the device with the CPU.
fn compare(model: &str, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let network = CheckedNetwork::of_name(model)?;
    let device = args.device.resolve()?;
    if device.backend == Backend::Cpu {
        return Err(usage_with_hint(
            "the CPU is what other devices are compared with",
            "add --device wgpu or --device cuda; `sedet doctor` lists those that work",
        ));
    }
    status!(
        "comparing the operations of {model} on {} with the CPU",
        device.name
    );
    let (mut expected, mut is_complete) = (0, true);
    let found = with_bar_of(Unit::Operations, "comparing", |progress| {
        check(&network, &device.device, &mut |done, all| {
            expected = all;
            let goes_on = progress(done, all);
            is_complete = done == all;
            goes_on
        })
    })?;
    let limit = tolerance(device.backend);
    let problem = |operation: &OperationCheck| operation.problem(limit);
    let wrong = found
        .iter()
        .filter(|found| problem(found).is_some())
        .count();
    if args.json {
        let report = json!({
            "model": model,
            "device": device.name,
            "tolerance": limit,
            "complete": is_complete,
            "different": wrong,
            "operations": found.iter().map(|operation| json!({
                "name": operation.name,
                "kind": operation.kind,
                "inference": finite(operation.inference),
                "training": finite(operation.training),
                "gradient": finite(operation.gradient).filter(|_| has_gradients(operation)),
                "gradient_of": operation.gradient_of,
                "problem": problem(operation),
            })).collect::<Vec<_>>(),
        });
        print_out(&format!("{report:#}"))?;
    } else {
        print_out(&compared(&found, &device, limit))?;
    }
    if !is_complete {
        anyhow::bail!("stopped after {} of {expected} operations", found.len());
    }
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns whether the gradients of an operation were compared.
fn has_gradients(operation: &OperationCheck) -> bool {
    !operation.gradient_of.is_empty()
}

/// JSON has no infinity.
fn finite(difference: f32) -> Option<f32> {
    difference.is_finite().then_some(difference)
}

/// Formats the largest differences of each kind of operation, and those that rounding does not explain.
fn compared(found: &[OperationCheck], device: &WorkingDevice, limit: f32) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for operation in found {
        if !kinds.contains(&operation.kind) {
            kinds.push(operation.kind);
        }
    }
    let head = ["kind", "operations", "inference", "training", "gradients"].map(String::from);
    let rows = kinds.iter().map(|kind| {
        let of_kind = || found.iter().filter(|operation| operation.kind == *kind);
        let largest = |value: fn(&OperationCheck) -> f32| {
            let largest = of_kind().map(value).fold(0.0, f32::max);
            format!("{largest:.1e}")
        };
        vec![
            kind.to_string(),
            of_kind().count().to_string(),
            largest(|operation| operation.inference),
            largest(|operation| operation.training),
            if of_kind().any(has_gradients) {
                largest(|operation| operation.gradient)
            } else {
                "-".into()
            },
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(head.to_vec()).chain(rows).collect();
    let sides = [
        Side::Left,
        Side::Right,
        Side::Right,
        Side::Right,
        Side::Right,
    ];
    let mut text = fitted(&rows, &sides, width());
    text += "differences are shares of the largest number of a tensor\n";
    const SHOWN: usize = 10;
    let problems = found.iter().filter_map(|operation| {
        let problem = operation.problem(limit)?;
        Some(format!(
            "{} ({}): {problem}",
            operation.name, operation.kind
        ))
    });
    let problems: Vec<String> = problems.collect();
    let all = count(found.len(), "operation");
    if problems.is_empty() {
        return text
            + &format!(
                "{all} of {}: none differs from the CPU by more than {limit:.0e}\n",
                device.name
            );
    }
    text += &format!(
        "{} of {all} of {} differ from the CPU by more than {limit:.0e}; the first:\n",
        problems.len(),
        device.name
    );
    for problem in problems.iter().take(SHOWN) {
        text += &format!("  {problem}\n");
    }
    text
}

fn report_devices(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
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
