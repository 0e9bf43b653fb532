//! `sedet ablate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::{Value, json};

use super::print_out;
use super::stop_on_ctrl_c;
use super::train::{RecipeArgs, TrainArgs, execute};
use sedet_core::status;
use sedet_core::train::ablation::{Axis, Cell, Statistic, grid};
use sedet_core::train::run_dir::RunDir;
use sedet_data::csv::to_csv;
use sedet_data::datasets::registry::AnyDatasetName;
use sedet_data::eval::table::{Side, aligned};

#[derive(Debug, clap::Args)]
pub(super) struct AblateArgs {
    /// As of `sedet train`
    #[arg(long)]
    dataset: String,
    /// What is varied, such as se.reduction=2,4,8 or model.backbone=resnet20,se-resnet20; several make
    /// a grid
    #[arg(long, value_name = "KEY=VALUES", required = true)]
    over: Vec<Axis>,
    /// Seeds that every setting is trained with
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    /// Directory of all runs; what is finished there is not trained again
    #[arg(long)]
    output: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Print comma-separated values instead of a table
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// What is compared: a name, the key in a run's metrics, and how its value is shown.
type Measure = (&'static str, &'static str, fn(f64) -> f64);

/// The paper's tables show errors of classifiers in percent.
const CLASSIFIER: [Measure; 2] = [
    ("top-1 err.", "top1", |v| 100.0 - v),
    ("top-5 err.", "top5", |v| 100.0 - v),
];
/// And the average precision of detectors, in percent.
const DETECTOR: [Measure; 2] = [
    ("AP@IoU=0.5", "AP50", |v| 100.0 * v),
    ("AP", "AP", |v| 100.0 * v),
];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    settings: Vec<(String, String)>,
    /// What is learned, where a run says it.
    parameters: Option<u64>,
    /// By the names of the measures.
    measures: Vec<(&'static str, Option<Statistic>)>,
    /// Of each run that is there.
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    seed: u64,
    directory: PathBuf,
    values: Vec<f64>,
}

pub(super) fn run(args: AblateArgs) -> anyhow::Result<ExitCode> {
    if args.seeds.is_empty() {
        bail!("--seeds is empty; give at least one, such as --seeds 0,1,2");
    }
    let measures = match AnyDatasetName::parse(&args.dataset)? {
        AnyDatasetName::Classification(_) => CLASSIFIER,
        AnyDatasetName::Detection(_) => DETECTOR,
    };
    same_options(&args)?;
    let stop = stop_on_ctrl_c()?;
    let cells = grid(&args.over);
    let total = cells.len() * args.seeds.len();
    let mut failures = Vec::new();
    let mut number = 0;
    // Seed by seed, so that a table of all settings is there early.
    for &seed in &args.seeds {
        for cell in &cells {
            number += 1;
            let directory = directory_of(&args.output, cell, seed);
            let what = format!("{} seed {seed}", cell.settings().join(" "));
            if metrics_of(&directory).is_some() {
                status!("[{number}/{total}] {what}: there already");
                continue;
            }
            status!("[{number}/{total}] {what}");
            if let Err(error) = train(&args, cell, seed, &directory) {
                status!("error: {}", super::message(&error));
                failures.push(what);
            }
            if stop.load(Ordering::Relaxed) {
                status!("stopped; the same command goes on from here");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    let rows: Vec<Row> = cells
        .iter()
        .map(|cell| row(cell, &args, &measures))
        .collect::<Result<_, _>>()?;
    write(&args, &rows)?;
    match failures.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        failed => {
            status!("failed: {}", failed.join("; "));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is finished in the directory must have been made with the same options, or the table would
/// compare different things.
fn same_options(args: &AblateArgs) -> anyhow::Result<()> {
    let path = args.output.join("options.json");
    let options = json!({ "dataset": args.dataset, "recipe": args.recipe.identity() });
    let is_directory =
        |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.path().is_dir());
    let has_runs = std::fs::read_dir(&args.output).is_ok_and(|mut all| all.any(is_directory));
    if has_runs && read_json(&path).is_some_and(|earlier| earlier != options) {
        bail!(
            "{}: holds runs that were made with other options (options.json has them); give another --output",
            args.output.display()
        );
    }
    let at = || path.display().to_string();
    std::fs::create_dir_all(&args.output).with_context(at)?;
    let text = format!("{options:#}\n");
    sedet_data::atomic::write_atomically(&path, |out| out.write_all(text.as_bytes()))
        .with_context(at)
}

fn directory_of(output: &Path, cell: &Cell, seed: u64) -> PathBuf {
    output.join(cell.directory()).join(format!("seed-{seed}"))
}

/// Train one setting with one seed, or go on with what an earlier call left.
fn train(args: &AblateArgs, cell: &Cell, seed: u64, directory: &Path) -> anyhow::Result<()> {
    let was_begun = RunDir::open(directory).is_ok();
    let mut recipe = args.recipe.clone();
    recipe.set.extend(cell.settings());
    let run = match was_begun {
        true => TrainArgs {
            dataset: None,
            seed: None,
            output: None,
            resume: Some(directory.to_path_buf()),
            recipe,
        },
        false => TrainArgs {
            dataset: Some(args.dataset.clone()),
            seed: Some(seed),
            output: Some(directory.to_path_buf()),
            resume: None,
            recipe,
        },
    };
    execute(&run).map(|_| ())
}

/// The measured numbers of a finished run.
fn metrics_of(directory: &Path) -> Option<Value> {
    read_json(&directory.join("results/metrics.json"))
}

/// How many numbers its network learns.
fn parameters_of(directory: &Path) -> Option<u64> {
    read_json(&directory.join("environment.json"))?["data"]["parameters"].as_u64()
}

fn read_json(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    serde_json::from_str(&text).ok()
}

fn row(cell: &Cell, args: &AblateArgs, measures: &[Measure]) -> anyhow::Result<Row> {
    let mut found = Vec::new();
    for &seed in &args.seeds {
        let directory = directory_of(&args.output, cell, seed);
        if let Some(metrics) = metrics_of(&directory) {
            found.push((seed, directory, metrics));
        }
    }
    let mut runs = Vec::new();
    for (seed, directory, metrics) in found {
        let values = measures.iter().map(|(_, key, shown)| {
            let value = metrics[*key].as_f64();
            value.map(shown).with_context(|| {
                format!("{}: results/metrics.json has no {key}", directory.display())
            })
        });
        let values = values.collect::<anyhow::Result<Vec<f64>>>()?;
        runs.push(Run {
            seed,
            directory,
            values,
        });
    }
    let statistic = |index: usize| {
        let values: Vec<f64> = runs.iter().map(|run| run.values[index]).collect();
        Statistic::of(&values)
    };
    let measures = measures.iter().enumerate();
    Ok(Row {
        settings: cell.0.clone(),
        parameters: runs.iter().find_map(|run| parameters_of(&run.directory)),
        measures: measures
            .map(|(index, (name, ..))| (*name, statistic(index)))
            .collect(),
        runs,
    })
}

/// The table on stdout, and both forms for machines beside the runs.
fn write(args: &AblateArgs, rows: &[Row]) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(rows)?;
    let csv = csv_table(rows);
    for (name, text) in [("ablation.json", &json), ("ablation.csv", &csv)] {
        let path = args.output.join(name);
        sedet_data::atomic::write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .with_context(|| path.display().to_string())?;
    }
    let text = match (args.json, args.csv) {
        (true, _) => json,
        (_, true) => csv,
        _ => table(rows),
    };
    print_out(&text)
}

fn table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let keys = first.settings.iter().map(|(key, _)| key.clone());
    let names = first.measures.iter().map(|(name, _)| name.to_string());
    let own = ["parameters", "runs"].map(String::from);
    let mut lines: Vec<Vec<String>> = vec![keys.chain(own).chain(names).collect()];
    for row in rows {
        let values = row.settings.iter().map(|(_, value)| value.clone());
        let shown = row.measures.iter().map(|(_, statistic)| match statistic {
            Some(statistic) => statistic.to_string(),
            None => "-".to_string(),
        });
        let parameters = match row.parameters {
            Some(count) => format!("{:.2} M", count as f64 / 1e6),
            None => "-".to_string(),
        };
        let own = [parameters, row.runs.len().to_string()];
        lines.push(values.chain(own).chain(shown).collect());
    }
    let sides: Vec<Side> = (0..lines[0].len())
        .map(|column| match column < first.settings.len() {
            true => Side::Left,
            false => Side::Right,
        })
        .collect();
    aligned(&lines, &sides)
}

fn csv_table(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let keys = first.settings.iter().map(|(key, _)| key.clone());
    let names = first.measures.iter();
    let names = names.flat_map(|(name, _)| [name.to_string(), format!("{name} std")]);
    let own = ["parameters", "runs"].map(String::from);
    let mut lines: Vec<Vec<String>> = vec![keys.chain(own).chain(names).collect()];
    for row in rows {
        let values = row.settings.iter().map(|(_, value)| value.clone());
        let number = |value: Option<f64>| value.map(|v| format!("{v:.4}")).unwrap_or_default();
        let measured = row.measures.iter().flat_map(|(_, statistic)| {
            let mean = number(statistic.map(|s| s.mean));
            [mean, number(statistic.and_then(|s| s.std))]
        });
        let parameters = row.parameters.map(|n| n.to_string()).unwrap_or_default();
        let own = [parameters, row.runs.len().to_string()];
        lines.push(values.chain(own).chain(measured).collect());
    }
    to_csv(&lines)
}
