//! `sedet weights`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::print_out;
use sedet_core::status;
use sedet_core::weights::any::{AnyWeights, load_any};
use sedet_core::weights::checkpoint::{Checkpoint, Precision};
use sedet_core::weights::export::{export, names_for};
use sedet_core::weights::foreign::ForeignFile;
use sedet_core::weights::import::ImportReport;
use sedet_core::weights::layouts::{Layout, Library, Network, recognize};
use sedet_core::weights::onnx::to_onnx;
use sedet_data::annotations::Category;

#[derive(Debug, clap::Args)]
pub(super) struct WeightsArgs {
    #[command(subcommand)]
    verb: WeightsVerb,
}

#[derive(Debug, Subcommand)]
enum WeightsVerb {
    /// Make a sedet checkpoint of a file from torchvision, timm, Cadene, detectron2, ...
    Import(ImportArgs),
    /// Show what is in a weights file
    Inspect(InspectArgs),
    /// Write a checkpoint under another library's names
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// PyTorch (.pt, .pth, .pkl, .bin, .th), safetensors, .npz or a pickle of NumPy arrays
    file: PathBuf,
    /// The checkpoint to write
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    foreign: ForeignArgs,
}

/// How another program's weights file is read, for every subcommand that takes one.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ForeignArgs {
    /// What another program's weights file is taken for. Its names show most of it; the rest, such
    /// as mmdetection's style or the epsilon of torchvision's frozen norms, can be said here
    #[arg(long, default_value = "auto", value_parser = layout_parser(), hide_possible_values = true,
        value_name = "auto|torchvision|timm|cadene|...")]
    layout: LayoutChoice,
    /// Fail when a tensor of another program's file is missing, of another shape, or not used
    #[arg(long)]
    strict: bool,
}

/// A layout, or the one that is recognized.
#[derive(Debug, Clone, Copy)]
struct LayoutChoice(Option<Layout>);

fn layout_parser() -> impl clap::builder::TypedValueParser<Value = LayoutChoice> {
    let keys = std::iter::once("auto").chain(Layout::ALL.map(Layout::key));
    PossibleValuesParser::new(keys).map(|key| LayoutChoice(Layout::of_key(&key)))
}

impl ForeignArgs {
    /// Refuse the options where there is no file that they could be about.
    pub(super) fn need(&self, file: &str, is_given: bool) -> anyhow::Result<()> {
        if !is_given && (self.layout.0.is_some() || self.strict) {
            bail!("--layout and --strict say how another program's weights are read: give {file}");
        }
        Ok(())
    }

    /// Read weights and say what became of every tensor.
    pub(super) fn load(&self, path: &Path) -> anyhow::Result<AnyWeights> {
        let loaded = load_any(path, self.layout.0)?;
        for line in loaded.report.iter().flat_map(ImportReport::lines) {
            status!("weights: {line}");
        }
        match &loaded.report {
            Some(report) if self.strict && !report.is_complete() => bail!(
                "{}: not every tensor found its place (--strict)",
                path.display()
            ),
            None if self.layout.0.is_some() => bail!(
                "{}: it is a sedet checkpoint, which has no other layout (--layout)",
                path.display()
            ),
            _ => Ok(loaded),
        }
    }
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// PyTorch, safetensors (sedet's checkpoints too), .npz or a pickle of NumPy arrays
    file: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// A checkpoint, or any file that import takes
    file: PathBuf,
    /// Whose names the tensors get, or a whole network
    #[arg(long, value_enum)]
    format: Format,
    /// The safetensors or ONNX file to write
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    foreign: ForeignArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// sedet's own names
    Safetensors,
    /// torchvision's ResNet or Faster R-CNN
    Torchvision,
    /// timm's resnet, seresnet or legacy_seresnet
    Timm,
    /// A classifier as a whole network for ONNX runtimes
    Onnx,
}

pub(super) fn run(args: WeightsArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        WeightsVerb::Import(args) => import(&args),
        WeightsVerb::Inspect(args) => inspect(&args),
        WeightsVerb::Export(args) => export_file(&args),
    }
}

fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let mut loaded = args.foreign.load(&args.file)?;
    let Some(found) = &loaded.report else {
        bail!("{}: it is a sedet checkpoint already", args.file.display());
    };
    let name = args.file.file_name().unwrap_or(args.file.as_os_str());
    loaded.metadata["imported"] = json!({
        "file": name.to_string_lossy(),
        "layout": found.layout.key(),
        "assumptions": found.assumptions,
    });
    let checkpoint = Checkpoint {
        metadata: loaded.metadata,
        weights: loaded.weights,
        optimizer: Default::default(),
        ema: Default::default(),
    };
    checkpoint.save(&args.output, Precision::Full)?;
    status!("{}", args.output.display());
    Ok(ExitCode::SUCCESS)
}

fn export_file(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.foreign.load(&args.file)?;
    if loaded.fresh_count() > 0 {
        bail!(
            "{}: {} tensors of the network are missing or of another shape; nothing is written",
            args.file.display(),
            loaded.fresh_count()
        );
    }
    let file = || args.file.display().to_string();
    let network = || -> anyhow::Result<Network> {
        serde_json::from_value(json!({
            "task": loaded.metadata["task"],
            "model": loaded.metadata["model"],
            "preprocess": loaded.metadata["preprocess"],
        }))
        .with_context(|| format!("{}: its description is not understood", file()))
    };
    let for_library = |library| {
        let names = names_for(library, &network()?).with_context(file)?;
        Ok::<_, anyhow::Error>(export(&loaded.weights, Some(&names), &args.output)?)
    };
    match args.format {
        Format::Safetensors => export(&loaded.weights, None, &args.output)?,
        Format::Torchvision => for_library(Library::Torchvision)?,
        Format::Timm => for_library(Library::Timm)?,
        Format::Onnx => {
            let categories: Option<Vec<Category>> =
                serde_json::from_value(loaded.metadata["categories"].clone())
                    .with_context(|| format!("{}: its categories are not understood", file()))?;
            let (network, names) = (network()?, categories.as_deref());
            let model = to_onnx(&network, &loaded.weights, names).with_context(file)?;
            model.save(&args.output)?;
        }
    }
    status!(
        "{}: {} tensors",
        args.output.display(),
        loaded.weights.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// Numbers of one tensor.
struct Statistics {
    mean: f64,
    deviation: f64,
    least: f32,
    most: f32,
    not_finite: usize,
}

impl Statistics {
    fn of(values: &[f32]) -> Self {
        let finite = || values.iter().filter(|v| v.is_finite());
        let count = finite().count().max(1) as f64;
        let mean = finite().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = finite()
            .map(|&v| (f64::from(v) - mean).powi(2))
            .sum::<f64>()
            / count;
        Self {
            mean,
            deviation: variance.sqrt(),
            least: finite().copied().fold(f32::INFINITY, f32::min),
            most: finite().copied().fold(f32::NEG_INFINITY, f32::max),
            not_finite: values.iter().filter(|v| !v.is_finite()).count(),
        }
    }
}

fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let file = ForeignFile::open(&args.file)?;
    let what = describe(&args.file, &file)?;
    if !args.json {
        print_out(&format!(
            "{}: {}, {what}\n{:<56} {:<20} {:<5} {:>11} {:>11} {:>11} {:>11}",
            args.file.display(),
            file.container(),
            "tensor",
            "shape",
            "type",
            "mean",
            "standard deviation",
            "least",
            "most"
        ))?;
    }
    let mut rows = Vec::new();
    let mut total = 0;
    for (name, info) in file.tensors() {
        let s = Statistics::of(&file.values(name)?);
        total += info.len();
        if args.json {
            rows.push(json!({
                "name": name,
                "shape": info.shape,
                "type": info.element.to_string(),
                "mean": s.mean,
                "standard deviation": s.deviation,
                "least": s.least,
                "most": s.most,
                "not_finite": s.not_finite,
            }));
            continue;
        }
        let shape: Vec<String> = info.shape.iter().map(ToString::to_string).collect();
        let warning = match s.not_finite {
            0 => String::new(),
            count => format!("  {count} values are not finite"),
        };
        print_out(&format!(
            "{name:<56} {:<20} {:<5} {:>11.4e} {:>11.4e} {:>11.4e} {:>11.4e}{warning}",
            shape.join("x"),
            info.element,
            s.mean,
            s.deviation,
            s.least,
            s.most
        ))?;
    }
    if args.json {
        let document = json!({
            "file": args.file.display().to_string(),
            "container": file.container().to_string(),
            "recognized_as": what,
            "values": total,
            "tensors": rows,
        });
        print_out(&format!("{document:#}"))?;
    } else {
        status!("{} tensors, {total} values", file.tensors().count());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file would be taken for.
fn describe(path: &Path, file: &ForeignFile) -> anyhow::Result<String> {
    if Checkpoint::is_ours(path)? {
        return Ok("a sedet checkpoint".into());
    }
    Ok(match recognize(file, None) {
        Ok(found) => format!("{} ({})", found.layout.name(), found.layout.key()),
        Err(reason) => reason,
    })
}
