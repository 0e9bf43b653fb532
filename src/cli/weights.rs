//! `sedet weights`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::hints::{advise, usage_with_hint};
use super::named::{ListArgs, NamedDownloadArgs, download, list, path_or_named};
use super::terminal::{fitted, width};
use super::{print_out, quoted};
use crate::cli::status;
use sedet_core::model::{ImportFacts, NetworkConfig, Task};
use sedet_core::weights::checkpoint::{Checkpoint, Precision};
use sedet_core::weights::export::{export, export_native, names_for};
use sedet_core::weights::grafted::to_units_of_the_paper;
use sedet_core::weights::layouts::{
    Layout, Library, recognize, timm_constructor, torchvision_anchor_generator,
};
use sedet_core::weights::load::{LoadedWeights, WeightsFile, weights_file};
use sedet_core::weights::named::NamedWeights;
use sedet_core::weights::onnx::{OnnxOptions, to_onnx};
use sedet_core::weights::third_party::ThirdPartyFile;
use sedet_data::eval::table::Side;
use sedet_data::text::count;

#[derive(Debug, clap::Args)]
pub(super) struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// List published weights by name
    List(ListArgs),
    /// Download published weights
    Download(NamedDownloadArgs),
    /// Convert a third-party checkpoint to a sedet checkpoint
    Import(ImportArgs),
    /// List the tensors of a weights file
    Inspect(InspectArgs),
    /// Write a checkpoint with the tensor names of another library, or as ONNX
    Export(ExportArgs),
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  sedet weights import seresnet50.pth --output seresnet50.safetensors
  sedet weights import model.pth --layout timm --strict --output m.safetensors";

#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
struct ImportArgs {
    /// PyTorch file (.pt, .pth, .pkl, .bin, .th), safetensors, .npz, pickle of NumPy arrays, or the name
    /// of published weights (see `sedet weights list`)
    file: PathBuf,
    /// Checkpoint to write
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    third_party: ThirdPartyArgs,
}

/// The heading of [`ThirdPartyArgs`] in help texts. Not as `next_help_heading`, which would be that of all options after
/// them, too.
const HEADING: &str = "Third-party weights";

/// Options for reading third-party checkpoints, shared by all subcommands that load weights.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ThirdPartyArgs {
    /// Layout of a third-party checkpoint, for ambiguous tensor names (such as torchvision-detector-v1,
    /// mmdetection-caffe)
    #[arg(long, default_value = "auto", value_parser = layout_parser(), hide_possible_values = true,
        value_name = "auto|torchvision|timm|cadene|...", help_heading = HEADING)]
    layout: LayoutChoice,
    /// Fail on missing, mismatched or unused tensors
    #[arg(long, help_heading = HEADING)]
    strict: bool,
    /// Skip tensors of layers that sedet or the trained backbone does not have; outputs then differ from those
    /// of the original model
    #[arg(
        long = "allow-unused",
        conflicts_with = "strict",
        help_heading = HEADING
    )]
    allow_unused: bool,
    /// Network to read from a file that contains several, selected by a part of its tensor names (such as
    /// encoder_q, teacher)
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    network: Option<String>,
}

/// A layout, or `None` to detect it.
#[derive(Debug, Clone, Copy)]
struct LayoutChoice(Option<Layout>);

fn layout_parser() -> impl clap::builder::TypedValueParser<Value = LayoutChoice> {
    let keys = std::iter::once("auto").chain(Layout::ALL.map(Layout::key));
    PossibleValuesParser::new(keys).map(|key| LayoutChoice(Layout::of_key(&key)))
}

impl ThirdPartyArgs {
    /// Rejects the options when no weights file is given.
    pub(super) fn need(&self, file: &str, is_given: bool) -> anyhow::Result<()> {
        if !is_given && self.given().is_some() {
            return Err(usage_with_hint(
                "--layout, --strict, --allow-unused and --network apply to a third-party checkpoint, and \
                 none is given",
                format!("name the checkpoint with {file}"),
            ));
        }
        Ok(())
    }

    /// Returns the first of the options that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let options = [
            ("--layout", self.layout.0.is_some()),
            ("--strict", self.strict),
            ("--allow-unused", self.allow_unused),
            ("--network", self.network.is_some()),
        ];
        let mut given = options.into_iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(option, _)| option)
    }

    /// The file with these options.
    pub(super) fn file(&self, path: &Path) -> anyhow::Result<WeightsFile> {
        Ok(WeightsFile {
            path: file_of(path)?,
            layout: self.layout.0,
            strict: self.strict,
            allow_unused: self.allow_unused,
            network: self.network.clone(),
        })
    }

    /// Reads weights and prints the outcome for every tensor.
    pub(super) fn load(&self, path: &Path) -> anyhow::Result<LoadedWeights> {
        let loaded = self.file(path)?.load(&mut |report| {
            for line in report.lines() {
                status!("weights: {line}");
            }
        })?;
        let given = [
            ("--strict", self.strict),
            ("--allow-unused", self.allow_unused),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) if loaded.report.is_none() => Err(usage_with_hint(
                format!(
                    "{option} has no effect: {} is a sedet checkpoint",
                    path.display()
                ),
                format!("omit {option}"),
            )),
            _ => Ok(loaded),
        }
    }
}

/// Returns the weights file that an argument denotes, and prints which file of a run, or which download of
/// named weights, is used.
fn file_of(path: &Path) -> anyhow::Result<PathBuf> {
    let file = weights_file(&path_or_named(path)?)?;
    if file != path {
        status!("weights: {}", file.display());
    }
    Ok(file)
}
const INSPECT_EXAMPLES: &str = "\
Examples:
  sedet weights inspect seresnet50.pth
  sedet weights inspect best.safetensors --json";

#[derive(Debug, clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
struct InspectArgs {
    /// PyTorch file, safetensors (also sedet checkpoints), .npz, pickle of NumPy arrays, or the name of
    /// published weights
    file: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  sedet weights export runs/photos --format onnx --output detector.onnx
  sedet weights export best.safetensors --format onnx --raw --output raw.onnx
  sedet weights export a.pth --format timm --precision f16 -o b.safetensors";

#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
struct ExportArgs {
    /// Checkpoint, or anything that `sedet weights import` reads
    file: PathBuf,
    /// Naming scheme of the tensors, or a whole model as ONNX
    #[arg(long, value_enum)]
    format: Format,
    /// Safetensors or ONNX file to write
    #[arg(short, long)]
    output: PathBuf,
    /// Precision of filters and matrices; norms and biases keep 32 bits
    #[arg(long, value_enum, default_value_t = ExportPrecision::F32)]
    precision: ExportPrecision,
    /// ONNX detectors: output boxes and scores of all proposals, before score threshold and NMS
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    third_party: ThirdPartyArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Native sedet names with the description of the model
    Safetensors,
    /// torchvision ResNet or Faster R-CNN
    Torchvision,
    /// timm resnet, seresnet or legacy_seresnet
    Timm,
    /// ONNX model
    Onnx,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportPrecision {
    /// 32 bits
    F32,
    /// 16 bits: half the size, rounded to 11 significant bits
    F16,
}

impl From<ExportPrecision> for Precision {
    fn from(precision: ExportPrecision) -> Self {
        match precision {
            ExportPrecision::F32 => Self::Full,
            ExportPrecision::F16 => Self::Half,
        }
    }
}

pub(super) fn run(args: WeightsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        WeightsCommand::List(args) => list(&args),
        WeightsCommand::Download(args) => download(&args),
        WeightsCommand::Import(args) => import(&args),
        WeightsCommand::Inspect(args) => inspect(&args),
        WeightsCommand::Export(args) => export_file(&args),
    }
}

/// The extension of files in the safetensors format.
const SAFETENSORS: &str = "safetensors";

/// Refuses an output that is the file itself, or an existing one, or one with the extension of another format.
fn check_output(file: &Path, output: &Path, extension: &str) -> anyhow::Result<()> {
    let is_same = match (file.canonicalize(), output.canonicalize()) {
        (Ok(file), Ok(output)) => file == output,
        _ => false,
    };
    if is_same {
        return Err(usage_with_hint(
            format!("--output: {} is the file that is read", output.display()),
            "choose another --output",
        ));
    }
    if output.is_dir() {
        let file = output.join("weights").with_extension(extension);
        return Err(usage_with_hint(
            format!("--output: {} is a directory", output.display()),
            format!("name a file in it, such as {}", quoted(file.display())),
        ));
    }
    let has_extension = output
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension));
    if !has_extension {
        let renamed = output.with_extension(extension);
        return Err(usage_with_hint(
            format!(
                "--output: {} does not end in .{extension}, the format that is written",
                output.display()
            ),
            format!("--output {}", quoted(renamed.display())),
        ));
    }
    let parent = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(advise(
            format!(
                "{}: not written: its directory does not exist",
                output.display()
            ),
            format!("mkdir -p {}", quoted(parent.display())),
        ));
    }
    if output.exists() {
        return Err(advise(
            format!("{}: already exists", output.display()),
            "choose another --output, or remove the file",
        ));
    }
    Ok(())
}

fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    check_output(&args.file, &args.output, SAFETENSORS)?;
    let mut loaded = args.third_party.load(&args.file)?;
    let Some(found) = &loaded.report else {
        return Err(advise(
            format!("{}: is already a sedet checkpoint", args.file.display()),
            "use it directly: --checkpoint and --weights accept it",
        ));
    };
    let name = args.file.file_name().unwrap_or(args.file.as_os_str());
    loaded.spec.imported = Some(ImportFacts {
        file: name.to_string_lossy().into_owned(),
        layout: found.layout.key().to_string(),
        assumptions: found.assumptions.clone(),
    });
    let checkpoint = Checkpoint {
        spec: loaded.spec,
        progress: None,
        weights: loaded.weights,
        optimizer: Default::default(),
        ema: Default::default(),
    };
    checkpoint.save(&args.output, Precision::Full)?;
    status!("wrote {}", args.output.display());
    Ok(ExitCode::SUCCESS)
}

fn export_file(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.raw && args.format != Format::Onnx {
        return Err(usage_with_hint(
            "--raw applies to ONNX models",
            "omit --raw, or give --format onnx",
        ));
    }
    let extension = match args.format {
        Format::Onnx => "onnx",
        Format::Safetensors | Format::Torchvision | Format::Timm => SAFETENSORS,
    };
    check_output(&args.file, &args.output, extension)?;
    let mut loaded = args.third_party.load(&args.file)?;
    if args.raw && loaded.spec.task() != Task::Detection {
        return Err(usage_with_hint(
            format!(
                "--raw applies to detectors; {} is a classifier",
                args.file.display()
            ),
            "omit --raw",
        ));
    }
    if args.format == Format::Timm {
        to_units_of_the_paper(&mut loaded.spec, &mut loaded.weights);
    }
    let missing = loaded.spec.missing.len();
    if missing > 0 {
        return Err(advise(
            format!(
                "{}: {} of the model missing or mismatched; nothing was written",
                args.file.display(),
                count(missing, "tensor")
            ),
            "train the network first: `sedet train --weights` takes such a file",
        ));
    }
    let file = || args.file.display().to_string();
    let precision = args.precision.into();
    let for_library = |library| {
        let names = names_for(library, &loaded.spec.network).with_context(file)?;
        Ok::<_, anyhow::Error>(export(&loaded.weights, &names, precision, &args.output)?)
    };
    match args.format {
        Format::Safetensors => {
            export_native(&loaded.spec, &loaded.weights, precision, &args.output)?;
        }
        Format::Torchvision => for_library(Library::Torchvision)?,
        Format::Timm => for_library(Library::Timm)?,
        Format::Onnx => {
            let options = OnnxOptions {
                precision,
                raw: args.raw,
            };
            let model = to_onnx(&loaded.spec, &loaded.weights, options).with_context(file)?;
            model.save(&args.output)?;
        }
    }
    status!(
        "wrote {} to {}",
        count(loaded.weights.len(), "tensor"),
        args.output.display()
    );
    if args.format == Format::Timm
        && let NetworkConfig::Classification(network) = &loaded.spec.network
    {
        match timm_constructor(network) {
            Ok(call) => status!("in Python: import functools, timm; model = {call}"),
            Err(reason) => status!("note: timm has no constructor for this network: {reason}"),
        }
    }
    match (&args.format, &loaded.spec.network) {
        (Format::Torchvision, NetworkConfig::Detection(network)) => {
            status!(
                "in Python: rpn_anchor_generator={}",
                torchvision_anchor_generator(&network.anchors)
            );
            status!("not in the file: class names, input size, normalization and anchors");
        }
        (Format::Timm | Format::Torchvision, _) => {
            status!("not in the file: class names, input size and normalization");
        }
        (Format::Safetensors | Format::Onnx, _) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Summary statistics of the finite values of one tensor.
struct Statistics {
    mean: f64,
    std: f64,
    min: f32,
    max: f32,
    not_finite: usize,
}

impl Statistics {
    fn of(values: &[f32]) -> Self {
        let finite = || values.iter().filter(|v| v.is_finite());
        let number = finite().count().max(1) as f64;
        let mean = finite().map(|&v| f64::from(v)).sum::<f64>() / number;
        let variance = finite()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / number;
        Self {
            mean,
            std: variance.sqrt(),
            min: finite().copied().fold(f32::INFINITY, f32::min),
            max: finite().copied().fold(f32::NEG_INFINITY, f32::max),
            not_finite: values.iter().filter(|v| !v.is_finite()).count(),
        }
    }
}

fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let path = file_of(&args.file)?;
    let file = ThirdPartyFile::open(&path)?;
    let what = describe(&path, &file)?;
    let mut tensors = Vec::new();
    for (name, info) in file.tensors() {
        tensors.push((name, info, Statistics::of(&file.values(name)?)));
    }
    let total: usize = tensors.iter().map(|(_, info, _)| info.len()).sum();
    if args.json {
        let rows = tensors.iter().map(|(name, info, statistics)| {
            json!({
                "name": name,
                "shape": info.shape,
                "type": info.element.to_string(),
                "mean": statistics.mean,
                "std": statistics.std,
                "min": statistics.min,
                "max": statistics.max,
                "not_finite": statistics.not_finite,
            })
        });
        let document = json!({
            "file": path.display().to_string(),
            "container": file.container().to_string(),
            "recognized_as": what,
            "values": total,
            "tensors": rows.collect::<Vec<_>>(),
        });
        print_out(&format!("{document:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        [
            "tensor",
            "shape",
            "type",
            "mean",
            "std",
            "min",
            "max",
            "not finite",
        ]
        .map(String::from)
        .to_vec(),
    ];
    rows.extend(tensors.iter().map(|(name, info, statistics)| {
        let shape: Vec<String> = info.shape.iter().map(ToString::to_string).collect();
        vec![
            (*name).to_string(),
            shape.join("x"),
            info.element.to_string(),
            format!("{:.3e}", statistics.mean),
            format!("{:.3e}", statistics.std),
            format!("{:.3e}", statistics.min),
            format!("{:.3e}", statistics.max),
            statistics.not_finite.to_string(),
        ]
    }));
    let mut sides = [Side::Right; 8];
    sides[..3].fill(Side::Left);
    print_out(&format!(
        "{}: {}, {what}\n{}",
        path.display(),
        file.container(),
        fitted(&rows, &sides, width())
    ))?;
    status!(
        "{}, {}",
        count(tensors.len(), "tensor"),
        count(total, "value")
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns the detected layout of a file, or why there is none.
fn describe(path: &Path, file: &ThirdPartyFile) -> anyhow::Result<String> {
    if Checkpoint::is_native(path)? {
        return Ok("a sedet checkpoint".into());
    }
    let named = NamedWeights::of_file(path).map(|named| named.layout);
    Ok(match recognize(file, named) {
        Ok(found) if found.layout.name().starts_with(found.layout.key()) => {
            found.layout.name().to_string()
        }
        Ok(found) => format!("{} ({})", found.layout.name(), found.layout.key()),
        Err(error) => error.to_string(),
    })
}
