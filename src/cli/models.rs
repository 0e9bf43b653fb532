//! `sedet models`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::terminal::{fitted, width, wrapped};
use super::{print_out, whole_number_within};
use crate::cli::status;
use sedet_core::backbones::summary::{LayerSummary, Summary, TooSmall};
use sedet_core::backbones::zoo::{self, PublishedNetwork};
use sedet_core::classification::classifier::ClassifierConfig;
use sedet_data::csv::to_csv;
use sedet_data::eval::table::Side;
use sedet_data::text::count;

const EXAMPLES: &str = "\
Examples:
  sedet models
  sedet models se-resnet50
  sedet models se-resnet50 --size 320 --csv";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ModelsArgs {
    /// Model whose layers are listed [default: list all models]
    name: Option<String>,
    /// Side of the square input in pixels [default: the published size]
    #[arg(long, value_name = "N", value_parser = whole_number_within(1..=u16::MAX))]
    size: Option<u16>,
    /// Number of classes [default: the published number]
    #[arg(long, value_name = "N", value_parser = whole_number_within(1..=1_000_000_u32))]
    classes: Option<u32>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Print CSV instead of a table
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub(super) fn run(args: ModelsArgs) -> anyhow::Result<ExitCode> {
    match &args.name {
        Some(name) => layers(&args, name)?,
        None => models(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl ModelsArgs {
    fn summary(&self, network: &PublishedNetwork) -> Result<(usize, Summary), TooSmall> {
        let size = self.size.map_or(network.input.size, usize::from);
        let model = ClassifierConfig::new(network.backbone.clone(), self.classes_of(network));
        Ok((size, model.summary([size; 2])?))
    }

    fn classes_of(&self, network: &PublishedNetwork) -> usize {
        let chosen = self.classes.map(|classes| classes as usize);
        chosen.unwrap_or(network.num_classes)
    }
}

/// One row of the table of models.
#[derive(Debug, Serialize)]
struct ModelRow {
    name: String,
    family: &'static str,
    size: usize,
    parameters: u64,
    macs: u64,
    activation_bytes: u64,
    se: Option<&'static str>,
}

const MODEL_HEAD: [&str; 7] = [
    "name",
    "family",
    "input",
    "parameters",
    "MACs",
    "activations",
    "SE units",
];

fn models(args: &ModelsArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for name in zoo::known_names() {
        let network = zoo::network(&name)?;
        let (size, summary) = match args.summary(&network) {
            Ok(summary) => summary,
            Err(error) => {
                status!("skipped {name}: {error}");
                continue;
            }
        };
        rows.push(ModelRow {
            name,
            family: network.backbone.family(),
            size,
            parameters: summary.parameters(),
            macs: summary.macs(),
            activation_bytes: summary.activation_bytes(),
            se: network.backbone.se_position(),
        });
    }
    if args.json {
        return print_out(&serde_json::to_string_pretty(&rows)?);
    }
    if args.csv {
        let head = [
            "name",
            "family",
            "size",
            "parameters",
            "macs",
            "activation_bytes",
            "se",
        ];
        let lines = rows.iter().map(|row| {
            [
                row.name.to_string(),
                row.family.to_string(),
                row.size.to_string(),
                row.parameters.to_string(),
                row.macs.to_string(),
                row.activation_bytes.to_string(),
                row.se.unwrap_or_default().to_string(),
            ]
        });
        let head = std::iter::once(head.map(String::from));
        return print_out(&to_csv(head.chain(lines)));
    }
    let cells = rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.family.to_string(),
            row.size.to_string(),
            format!("{:.2} M", row.parameters as f64 / 1e6),
            giga(row.macs),
            mebibytes(row.activation_bytes),
            if row.se.is_some() { "yes" } else { "-" }.to_string(),
        ]
    });
    use Side::{Left, Right};
    print_table(
        &MODEL_HEAD,
        cells,
        &[Left, Left, Right, Right, Right, Right, Left],
    )
}

/// The layers of one model, with their totals.
#[derive(Debug, Serialize)]
struct LayerReport<'a> {
    #[serde(flatten)]
    network: &'a PublishedNetwork,
    size: usize,
    classes: usize,
    parameters: u64,
    macs: u64,
    activation_bytes: u64,
    layers: &'a [LayerSummary],
}

fn layers(args: &ModelsArgs, name: &str) -> anyhow::Result<()> {
    let network = zoo::network(name)?;
    let (size, summary) = args.summary(&network)?;
    let report = LayerReport {
        network: &network,
        size,
        classes: args.classes_of(&network),
        parameters: summary.parameters(),
        macs: summary.macs(),
        activation_bytes: summary.activation_bytes(),
        layers: &summary.layers,
    };
    if args.json {
        return print_out(&serde_json::to_string_pretty(&report)?);
    }
    if args.csv {
        return print_out(&summary.to_csv());
    }
    let cells = summary.layers.iter().map(|layer| {
        vec![
            layer.name.clone(),
            layer.kind.name().to_string(),
            layer.shape(),
            layer.parameters.to_string(),
            layer.macs.to_string(),
        ]
    });
    use Side::{Left, Right};
    print_table(
        &["layer", "kind", "output", "parameters", "MACs"],
        cells,
        &[Left, Left, Right, Right, Right],
    )?;
    let total = format!(
        "{name}, input {size}x{size}, {}: {}, {} MACs, {} of activations",
        count(report.classes, "class"),
        count(report.parameters as usize, "parameter"),
        giga(report.macs),
        mebibytes(report.activation_bytes)
    );
    print_out(&wrapped(&total, 0, width()))
}

fn print_table(
    head: &[&str],
    cells: impl Iterator<Item = Vec<String>>,
    sides: &[Side],
) -> anyhow::Result<()> {
    let mut rows = vec![head.iter().map(ToString::to_string).collect()];
    rows.extend(cells);
    print_out(&fitted(&rows, sides, width()))
}

fn giga(count: u64) -> String {
    format!("{:.3} G", count as f64 / 1e9)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
