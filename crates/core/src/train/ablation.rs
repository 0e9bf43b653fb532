//! Ablation studies: a grid of settings, several seeds each, and the mean with its standard deviation.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::observer::Observer;
use super::run::{
    RecipeIdentity, RecipeOptions, RunError, Start, TrainRequest, check_recipe, run as train,
};
use super::run_dir::{ENVIRONMENT, Environment, RunDir};
use crate::device::WorkingDevice;
use crate::distributed::{DistributedError, Ranks};
use crate::render::RenderError;
use crate::report::write_text;
use crate::weights::load::weights_file;
use sedet_data::csv::to_csv;
use sedet_data::datasets::registry::{AnyDatasetName, RegistryError};
use sedet_data::directory::create_directory;
use sedet_data::eval::CocoMetrics;
use sedet_data::eval::table::Side;
use sedet_data::text::count;

/// The request of an ablation study; see [`run`].
#[derive(Debug, Clone)]
pub struct AblationRequest {
    /// A named dataset or a directory.
    pub dataset: String,
    /// The varied settings; several make a grid.
    pub axes: Vec<Axis>,
    /// The seeds that every setting is trained with.
    pub seeds: Vec<u64>,
    /// The number of the only run to train, from 1; all runs if none.
    pub only: Option<usize>,
    /// The directory of all runs; finished runs in it are not trained again.
    pub output: PathBuf,
    /// What all runs have in common.
    pub recipe: RecipeOptions,
    /// The device.
    pub device: WorkingDevice,
    /// Interrupts the run in progress at the next step when set.
    pub stop: Arc<AtomicBool>,
    /// The processes that divide the runs.
    pub ranks: Ranks,
}

/// The position of a run in an ablation study.
#[derive(Debug, Clone)]
pub struct RunPosition {
    /// Number of the run, from 1.
    pub number: usize,
    /// Number of runs.
    pub total: usize,
    /// The settings and the seed, as text.
    pub name: String,
}

impl Display for RunPosition {
    /// Formats as `[3/12] model.width=0.5 seed 1`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{}] {}", self.number, self.total, self.name)
    }
}

/// Receives the progress of an ablation study.
pub trait AblationObserver {
    /// Is called before a run and returns the observer of that run.
    fn begin(&mut self, position: RunPosition) -> Box<dyn Observer>;
    /// Is called for a run that an earlier call finished.
    fn already_finished(&mut self, position: RunPosition);
    /// Is called for a run that failed; the study continues with the next.
    fn failed(&mut self, position: RunPosition, error: RunError);
}

/// The error of an ablation study as a whole; a failed run does not end it.
#[derive(Debug, thiserror::Error)]
pub enum AblationError {
    /// No seed.
    #[error("no seeds to train with")]
    NoSeeds,
    /// A value or a seed that is listed twice: its runs would count twice in the statistics.
    #[error("{what} is listed twice")]
    Twice {
        /// The value or the seed.
        what: String,
    },
    /// A key that is varied and also has one value for all runs.
    #[error("{key} is varied, and also set to one value for all runs")]
    Fixed {
        /// The key.
        key: String,
    },
    /// The dataset.
    #[error(transparent)]
    Dataset(#[from] RegistryError),
    /// The recipe, or one of the varied settings.
    #[error(transparent)]
    Recipe(Box<RunError>),
    /// The directory has runs of another request: a table would compare different things.
    #[error("{}: contains runs of another dataset or recipe (options.json lists theirs)", path.display())]
    OtherOptions {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be created, or the initial weights cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
    /// A table cannot be written.
    #[error(transparent)]
    Report(#[from] RenderError),
    /// A finished run without the metric that is compared.
    #[error("{}: results/metrics.json has no {metric}", run.display())]
    NoMetric {
        /// The directory of the run.
        run: PathBuf,
        /// The name of the metric.
        metric: &'static str,
    },
    /// A number that is of no run.
    #[error("there is no run {number}: the study has {}", count(*total, "run"))]
    NoRun {
        /// The number.
        number: usize,
        /// The number of runs.
        total: usize,
    },
    /// Another process.
    #[error(transparent)]
    Ranks(#[from] DistributedError),
    /// A table, or the options, that cannot be written as JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The outcome of an ablation study.
#[derive(Debug)]
pub enum AblationReport {
    /// All runs were tried.
    Finished {
        /// The table.
        table: AblationTable,
        /// Names of the runs that failed.
        failures: Vec<String>,
    },
    /// It was interrupted and can continue.
    Interrupted,
}

/// A compared metric: its column, its name in a run's metrics, and its value as it is shown.
type Measure = (&'static str, &'static str, fn(&RunMetrics) -> Option<f64>);

/// The paper's tables show the errors of classifiers in percent.
static CLASSIFIER: [Measure; 2] = [
    ("top-1 err.", "top1", |m| Some(100.0 - m.top1?)),
    ("top-5 err.", "top5", |m| Some(100.0 - m.top5?)),
];
/// The average precision of detectors, in percent.
static DETECTOR: [Measure; 2] = [
    ("AP50", "AP50", |m| Some(100.0 * m.detection?.ap50)),
    ("AP", "AP", |m| Some(100.0 * m.detection?.ap)),
];

/// What a study reads of the `results/metrics.json` of a run of either task.
#[derive(Debug, Deserialize)]
struct RunMetrics {
    /// The metrics of a detector.
    #[serde(flatten)]
    detection: Option<CocoMetrics>,
    /// The accuracy of a classifier, in percent.
    top1: Option<f64>,
    top5: Option<f64>,
    /// The classes of a classifier, which are counted.
    classes: Option<Vec<IgnoredAny>>,
}

/// The `options.json` of a study: what all of its runs have in common.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyOptions {
    dataset: String,
    recipe: RecipeIdentity,
}

/// The results of an ablation study, one row per setting.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct AblationTable {
    /// The rows in the order of the grid.
    pub rows: Vec<AblationRow>,
}

/// The results of one setting.
#[derive(Debug, Clone, Serialize)]
pub struct AblationRow {
    /// Keys and values.
    pub settings: Vec<(String, String)>,
    /// Number of parameters, where a run records it.
    pub parameters: Option<u64>,
    /// The statistics by column.
    pub measures: Vec<(&'static str, Option<Statistic>)>,
    /// The finished runs.
    pub runs: Vec<AblationRun>,
}

/// The results of one run.
#[derive(Debug, Clone, Serialize)]
pub struct AblationRun {
    /// The seed.
    pub seed: u64,
    /// The directory of the run.
    pub directory: PathBuf,
    /// The values by column.
    pub values: Vec<f64>,
}

/// A checked study: its runs can be trained in any order, by this process or others.
#[derive(Debug)]
pub struct Study<'r> {
    request: &'r AblationRequest,
    dataset: AnyDatasetName,
    cells: Vec<GridPoint>,
}

/// A run of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyRun {
    /// The number of the run, from 1.
    pub number: usize,
    /// The settings.
    pub settings: GridPoint,
    /// The seed.
    pub seed: u64,
    /// The settings and the seed, as text.
    pub name: String,
    /// The directory of the run.
    pub directory: PathBuf,
}

impl StudyRun {
    /// Returns its position among the runs of its study.
    pub fn position(&self, all: &[StudyRun]) -> RunPosition {
        RunPosition {
            number: self.number,
            total: all.len(),
            name: self.name.clone(),
        }
    }

    /// Returns whether its results are there.
    pub fn is_finished(&self) -> bool {
        metrics_of(&self.directory).is_some()
    }

    /// Returns whether an earlier call has begun it.
    pub fn is_begun(&self) -> bool {
        RunDir::open(&self.directory).is_ok()
    }
}

impl<'r> Study<'r> {
    /// Checks a request and creates its directory.
    ///
    /// # Errors
    /// What every run would fail with, which is reported once, before the first of them; see [`AblationError`].
    pub fn open(request: &'r AblationRequest) -> Result<Self, AblationError> {
        check_lists(request)?;
        let dataset = AnyDatasetName::parse(&request.dataset)?;
        dataset.recognize(request.recipe.data_dir.as_deref())?;
        if let Some(weights) = &request.recipe.weights {
            let path = weights_file(&weights.path)
                .map_err(|error| AblationError::Recipe(Box::new(error.into())))?;
            if let Err(source) = std::fs::metadata(&path) {
                return Err(AblationError::Io { path, source });
            }
        }
        let cells = grid(&request.axes);
        let total = cells.len() * request.seeds.len();
        if let Some(number) = request.only.filter(|number| !(1..=total).contains(number)) {
            return Err(AblationError::NoRun { number, total });
        }
        for cell in &cells {
            let mut recipe = request.recipe.clone();
            recipe.settings.extend(cell.settings());
            check_recipe(&request.dataset, &recipe)
                .map_err(|error| AblationError::Recipe(Box::new(error)))?;
        }
        if request.ranks.is_first() {
            check_options(request)?;
        }
        // No rank begins before rank 0 has checked the directory.
        request.ranks.any(false)?;
        Ok(Self {
            request,
            dataset,
            cells,
        })
    }

    /// Returns all runs, seed by seed, so that all settings have a result early.
    pub fn runs(&self) -> Vec<StudyRun> {
        let seeds = self.request.seeds.iter();
        let pairs = seeds.flat_map(|&seed| self.cells.iter().map(move |cell| (cell, seed)));
        pairs
            .zip(1..)
            .map(|((cell, seed), number)| StudyRun {
                number,
                settings: cell.clone(),
                seed,
                name: format!("{} seed {seed}", cell.settings().join(" ")),
                directory: run_directory(&self.request.output, cell, seed),
            })
            .collect()
    }

    /// Returns the report after all runs were tried; `failed` are the numbers of those that ended with an error.
    ///
    /// # Errors
    /// See [`Self::tabulate`].
    pub fn report(
        &self,
        failed: impl Iterator<Item = usize>,
    ) -> Result<AblationReport, AblationError> {
        let failed: BTreeSet<usize> = failed.collect();
        let table = self.tabulate()?;
        // A run that another process was training may be finished by now.
        let failures = self.runs().into_iter();
        let failures = failures.filter(|run| failed.contains(&run.number) && !run.is_finished());
        Ok(AblationReport::Finished {
            table,
            failures: failures.map(|run| run.name).collect(),
        })
    }

    /// Tabulates the finished runs, and writes `ablation.json` and `ablation.csv` beside them.
    ///
    /// # Errors
    /// A finished run without metrics, or a file that cannot be written.
    pub fn tabulate(&self) -> Result<AblationTable, AblationError> {
        let measures = measures(&self.dataset, self.request, &self.cells);
        let rows = self
            .cells
            .iter()
            .map(|cell| row(cell, self.request, measures));
        let table = AblationTable {
            rows: rows.collect::<Result<_, _>>()?,
        };
        if self.request.ranks.is_first() {
            let output = &self.request.output;
            write_text(&output.join("ablation.json"), &table.to_json()?)?;
            write_text(&output.join("ablation.csv"), &table.to_csv())?;
        }
        Ok(table)
    }
}

/// Trains every setting with every seed and tabulates the results; `ablation.json` and
/// `ablation.csv` are written beside the runs. Ranks divide the runs; each trains its own alone.
///
/// # Errors
/// See [`AblationError`].
pub fn run(
    request: &AblationRequest,
    observer: &mut dyn AblationObserver,
) -> Result<AblationReport, AblationError> {
    let study = Study::open(request)?;
    let runs = study.runs();
    // As rank 0 sees it: a rank may begin late, when others have finished a run.
    let is_finished: Vec<bool> = runs.iter().map(StudyRun::is_finished).collect();
    let is_finished = request.ranks.of_first(is_finished)?;
    let (finished, open): (Vec<_>, Vec<_>) = runs
        .iter()
        .zip(is_finished)
        .filter(|(run, _)| request.only.is_none_or(|number| run.number == number))
        .partition(|(_, is_finished)| *is_finished);
    for (run, _) in finished {
        observer.already_finished(run.position(&runs));
    }
    let (rank, size) = (request.ranks.rank(), request.ranks.size());
    let mut failures = Vec::new();
    for (run, _) in open.into_iter().skip(rank).step_by(size) {
        let mut progress = observer.begin(run.position(&runs));
        if let Err(error) = train(&request_of(request, run), &mut *progress) {
            drop(progress);
            observer.failed(run.position(&runs), error);
            failures.push(run.number);
        }
        if request.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    // The runs of another rank may take hours longer.
    let is_stopped = request.stop.load(Ordering::Relaxed);
    let all = request.ranks.gather_patiently((is_stopped, failures))?;
    if all.iter().any(|(is_stopped, _)| *is_stopped) {
        return Ok(AblationReport::Interrupted);
    }
    study.report(all.into_iter().flat_map(|(_, failed)| failed))
}

/// Checks that there are seeds, that no seed, key or value is listed twice, and that no varied key also has one
/// value for all runs, which would decide.
fn check_lists(request: &AblationRequest) -> Result<(), AblationError> {
    if request.seeds.is_empty() {
        return Err(AblationError::NoSeeds);
    }
    let seeds = request.seeds.iter().map(|seed| format!("seed {seed}"));
    let keys = request.axes.iter().map(|axis| axis.key.clone());
    let values = request.axes.iter().flat_map(|axis| {
        let values = axis.values.iter();
        values.map(|value| format!("{}={value}", axis.key))
    });
    let mut seen = BTreeSet::new();
    for what in seeds.chain(keys).chain(values) {
        if !seen.insert(what.clone()) {
            return Err(AblationError::Twice { what });
        }
    }
    for seed in &request.seeds {
        let checked = request.recipe.check(Some(*seed));
        checked.map_err(|error| AblationError::Recipe(Box::new(error.into())))?;
    }
    let fixed = request.recipe.fixed_keys();
    let mut keys = request.axes.iter().map(|axis| &axis.key);
    match keys.find(|key| fixed.contains(*key)) {
        Some(key) => Err(AblationError::Fixed { key: key.clone() }),
        None => Ok(()),
    }
}

/// Checks that the finished runs in the directory were trained with the same options.
fn check_options(request: &AblationRequest) -> Result<(), AblationError> {
    let output = &request.output;
    let path = output.join("options.json");
    let options = StudyOptions {
        dataset: request.dataset.clone(),
        recipe: request.recipe.identity(),
    };
    let is_directory =
        |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.path().is_dir());
    let has_runs = std::fs::read_dir(output).is_ok_and(|mut all| all.any(is_directory));
    let is_other = path.exists() && read_json(&path).is_none_or(|earlier| options != earlier);
    if has_runs && is_other {
        return Err(AblationError::OtherOptions {
            path: output.clone(),
        });
    }
    create_directory(output).map_err(|source| AblationError::Io {
        path: output.clone(),
        source,
    })?;
    let text = serde_json::to_string_pretty(&options)?;
    Ok(write_text(&path, &format!("{text}\n"))?)
}

fn run_directory(output: &Path, cell: &GridPoint, seed: u64) -> PathBuf {
    output.join(cell.directory()).join(format!("seed-{seed}"))
}

/// Returns the request for a run: a new one, or what an earlier call left.
fn request_of(request: &AblationRequest, run: &StudyRun) -> TrainRequest {
    let mut recipe = request.recipe.clone();
    recipe.settings.extend(run.settings.settings());
    let start = if run.is_begun() {
        Start::Resume {
            run: run.directory.clone(),
            dataset: None,
        }
    } else {
        Start::New {
            dataset: request.dataset.clone(),
            seed: Some(run.seed),
            output: run.directory.clone(),
        }
    };
    TrainRequest {
        start,
        recipe,
        device: request.device.clone(),
        stop: request.stop.clone(),
        ranks: Ranks::alone(),
    }
}

/// Returns the compared metrics. Of at most five classes, each image has its class among the first five.
fn measures(
    dataset: &AnyDatasetName,
    request: &AblationRequest,
    cells: &[GridPoint],
) -> &'static [Measure] {
    if matches!(dataset, AnyDatasetName::Detection(_)) {
        return &DETECTOR;
    }
    let runs = cells.iter().flat_map(|cell| {
        let seeds = request.seeds.iter();
        seeds.map(|&seed| run_directory(&request.output, cell, seed))
    });
    let mut numbers_of_classes = runs
        .filter_map(|directory| metrics_of(&directory))
        .filter_map(|metrics| Some(metrics.classes?.len()));
    // All runs are of one dataset.
    match numbers_of_classes.next() {
        Some(..=5) => &CLASSIFIER[..1],
        _ => &CLASSIFIER,
    }
}

/// Returns the metrics of a finished run.
fn metrics_of(directory: &Path) -> Option<RunMetrics> {
    read_json(&directory.join("results/metrics.json"))
}

/// Returns the number of parameters that a run records.
fn parameters_of(directory: &Path) -> Option<u64> {
    let environment: Environment = read_json(&directory.join(ENVIRONMENT))?;
    Some(environment.data.parameters)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = std::fs::read_to_string(path).ok()?;
    serde_json::from_str(&text).ok()
}

fn row(
    cell: &GridPoint,
    request: &AblationRequest,
    measures: &[Measure],
) -> Result<AblationRow, AblationError> {
    let mut runs = Vec::new();
    for &seed in &request.seeds {
        let directory = run_directory(&request.output, cell, seed);
        let Some(metrics) = metrics_of(&directory) else {
            continue;
        };
        let values = measures.iter().map(|&(_, metric, value)| {
            value(&metrics).ok_or_else(|| AblationError::NoMetric {
                run: directory.clone(),
                metric,
            })
        });
        let values: Vec<f64> = values.collect::<Result<_, AblationError>>()?;
        runs.push(AblationRun {
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
    Ok(AblationRow {
        settings: cell.0.clone(),
        parameters: runs.iter().find_map(|run| parameters_of(&run.directory)),
        measures: measures
            .map(|(index, (name, ..))| (*name, statistic(index)))
            .collect(),
        runs,
    })
}

impl AblationTable {
    /// Formats the table as JSON.
    ///
    /// # Errors
    /// Never for finite numbers.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// Returns the cells of the table for a console, heading first, and the side of each column.
    pub fn to_cells(&self) -> (Vec<Vec<String>>, Vec<Side>) {
        let Some(first) = self.rows.first() else {
            return (Vec::new(), Vec::new());
        };
        let mut lines = vec![heading(first, |name| vec![name.to_string()])];
        for row in &self.rows {
            let shown = row.measures.iter().map(|(_, statistic)| match statistic {
                Some(statistic) => statistic.to_string(),
                None => "-".to_string(),
            });
            let parameters = match row.parameters {
                Some(count) => format!("{:.2} M", count as f64 / 1e6),
                None => "-".to_string(),
            };
            lines.push(line(row, parameters, shown.collect()));
        }
        let side = |column: usize| {
            if column < first.settings.len() {
                Side::Left
            } else {
                Side::Right
            }
        };
        let sides = (0..lines[0].len()).map(side).collect();
        (lines, sides)
    }

    /// Formats the table as CSV, mean and standard deviation in columns of their own.
    pub fn to_csv(&self) -> String {
        let Some(first) = self.rows.first() else {
            return String::new();
        };
        let mut lines = vec![heading(first, |name| {
            vec![name.to_string(), format!("{name} std")]
        })];
        for row in &self.rows {
            let number = |value: Option<f64>| value.map(|v| format!("{v:.4}")).unwrap_or_default();
            let measured = row.measures.iter().flat_map(|(_, statistic)| {
                let mean = number(statistic.map(|s| s.mean));
                [mean, number(statistic.and_then(|s| s.std))]
            });
            let parameters = row.parameters.map(|n| n.to_string()).unwrap_or_default();
            lines.push(line(row, parameters, measured.collect()));
        }
        to_csv(&lines)
    }
}

/// Returns the names of the columns.
fn heading(row: &AblationRow, measure: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let keys = row.settings.iter().map(|(key, _)| key.clone());
    let names = row.measures.iter().flat_map(|(name, _)| measure(name));
    let fixed = ["parameters", "runs"].map(String::from);
    keys.chain(fixed).chain(names).collect()
}

/// Returns the cells of a row.
fn line(row: &AblationRow, parameters: String, measured: Vec<String>) -> Vec<String> {
    let values = row.settings.iter().map(|(_, value)| value.clone());
    let fixed = [parameters, row.runs.len().to_string()];
    values.chain(fixed).chain(measured).collect()
}

/// A varied setting with its values, such as `se.reduction=2,4,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// The key in the configuration.
    pub key: String,
    /// The values as TOML, or as plain strings.
    pub values: Vec<String>,
}

/// The error of parsing an [`Axis`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}': expected KEY=VALUE,VALUE,..., such as se.reduction=2,4,8")]
pub struct AxisError(String);

impl FromStr for Axis {
    type Err = AxisError;

    /// Parses `KEY=VALUE,VALUE,...`. Commas inside brackets and quotes belong to a value. The fields
    /// of the SE units may be written without `model.`.
    fn from_str(text: &str) -> Result<Self, AxisError> {
        let wrong = || AxisError(text.to_string());
        let (key, list) = text.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        let values = split_values(list);
        if key.is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        let key = if key.starts_with("se.") {
            format!("model.{key}")
        } else {
            key.to_string()
        };
        Ok(Self { key, values })
    }
}

fn split_values(list: &str) -> Vec<String> {
    let (mut depth, mut quoted) = (0_i32, false);
    let mut values = vec![String::new()];
    for c in list.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        match values.last_mut() {
            Some(value) if c != ',' || depth > 0 || quoted => value.push(c),
            _ => values.push(String::new()),
        }
    }
    values.iter().map(|v| v.trim().to_string()).collect()
}

/// One point of the grid: a key and a value per axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridPoint(pub Vec<(String, String)>);

impl GridPoint {
    /// Returns the settings as `KEY=VALUE`.
    pub fn settings(&self) -> Vec<String> {
        let pairs = self.0.iter();
        pairs.map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// Returns a directory name: the settings without characters that a file system may refuse.
    pub fn directory(&self) -> String {
        let settings = self.settings().join(",");
        let is_safe = |c: char| c.is_alphanumeric() || "._-=,".contains(c);
        settings
            .chars()
            .map(|c| if is_safe(c) { c } else { '_' })
            .collect()
    }
}

/// Returns all combinations; the last axis changes fastest.
pub fn grid(axes: &[Axis]) -> Vec<GridPoint> {
    axes.iter()
        .fold(vec![GridPoint(Vec::new())], |cells, axis| {
            let values = axis.values.iter();
            cells
                .iter()
                .flat_map(|cell| {
                    values.clone().map(|value| {
                        let mut pairs = cell.0.clone();
                        pairs.push((axis.key.clone(), value.clone()));
                        GridPoint(pairs)
                    })
                })
                .collect()
        })
}

/// Mean and standard deviation over the runs of one setting.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Statistic {
    /// Mean of the runs.
    pub mean: f64,
    /// Sample standard deviation (divided by n - 1); none for a single run.
    pub std: Option<f64>,
    /// Number of runs.
    pub runs: usize,
}

impl Statistic {
    /// Returns the statistic of the values; none without a value.
    pub fn of(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        (runs > 0).then_some(Self {
            mean,
            std: (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt()),
            runs,
        })
    }
}

impl Display for Statistic {
    /// Formats as `22.28 ± 0.12`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.std {
            Some(std) => write!(f, "{:.2} ± {std:.2}", self.mean),
            None => write!(f, "{:.2}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, resolve};

    #[test]
    fn an_axis_is_a_key_with_values_and_brackets_are_not_split() {
        let axis: Axis = "se.reduction=2, 4,8".parse().unwrap();
        assert_eq!(axis.key, "model.se.reduction");
        assert_eq!(axis.values, ["2", "4", "8"]);
        let stages: Axis = "model.se.stages=[true,false],[false,true]".parse().unwrap();
        assert_eq!(stages.values, ["[true,false]", "[false,true]"]);
        let quoted: Axis = "model.se.gate=\"a,b\",tanh".parse().unwrap();
        assert_eq!(quoted.values, ["\"a,b\"", "tanh"]);
        for wrong in ["se.reduction", "=2", "se.reduction=", "se.reduction=2,,4"] {
            let message = wrong.parse::<Axis>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("'{wrong}'")), "{message}");
        }
    }

    #[test]
    fn what_would_count_twice_or_have_no_effect_is_refused() {
        let check = |axes: &[&str], seeds: &[u64], settings: &[&str], epochs: Option<usize>| {
            let request = AblationRequest {
                dataset: "shapes".into(),
                axes: axes.iter().map(|axis| axis.parse().unwrap()).collect(),
                only: None,
                seeds: seeds.to_vec(),
                output: "out".into(),
                recipe: RecipeOptions {
                    settings: settings.iter().map(ToString::to_string).collect(),
                    epochs,
                    ..RecipeOptions::default()
                },
                device: resolve(DeviceChoice::Cpu).unwrap(),
                stop: Arc::default(),
                ranks: Ranks::alone(),
            };
            let checked = check_lists(&request);
            checked.err().map(|error| error.to_string())
        };
        let two = "train.epochs=1,2";
        assert_eq!(check(&[two], &[0, 1], &["train.patience=3"], None), None);
        // Axes, seeds, settings and epochs of an ablation, and the beginning of the message.
        type Case<'a> = (
            &'a [&'a str],
            &'a [u64],
            &'a [&'a str],
            Option<usize>,
            &'a str,
        );
        let cases: [Case; 9] = [
            (&[two], &[], &[], None, "no seeds"),
            (&[two], &[0, 1, 0], &[], None, "seed 0 is listed twice"),
            (
                &["train.epochs=1,2,1"],
                &[0],
                &[],
                None,
                "train.epochs=1 is",
            ),
            (
                &[two, "train.epochs=3"],
                &[0],
                &[],
                None,
                "train.epochs is listed",
            ),
            (&[two], &[0], &[], Some(3), "train.epochs is varied"),
            (
                &[two],
                &[0],
                &["train.epochs=3"],
                None,
                "train.epochs is varied",
            ),
            (&["train.seed=1,2"], &[0], &[], None, "train.seed is varied"),
            (
                &[two],
                &[0, 1],
                &["train.seed=0"],
                None,
                "setting 'train.seed=0': train.seed is also given as 1",
            ),
            (
                &["train.patience=1,2"],
                &[0],
                &["train.epochs=2"],
                Some(3),
                "setting 'train.epochs=2': train.epochs is also given as 3",
            ),
        ];
        for (axes, seeds, settings, epochs, expected) in cases {
            let message = check(axes, seeds, settings, epochs).unwrap();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn top_5_is_compared_for_more_than_five_classes() {
        let dir = tempfile::tempdir().unwrap();
        let request = AblationRequest {
            dataset: "cifar10".into(),
            axes: vec!["train.epochs=1,2".parse().unwrap()],
            only: None,
            seeds: vec![0],
            output: dir.path().into(),
            recipe: RecipeOptions::default(),
            device: resolve(DeviceChoice::Cpu).unwrap(),
            stop: Arc::default(),
            ranks: Ranks::alone(),
        };
        let cells = grid(&request.axes);
        let compared = |dataset: &str| {
            let dataset = AnyDatasetName::parse(dataset).unwrap();
            let measures = measures(&dataset, &request, &cells).iter();
            measures.map(|(name, ..)| *name).collect::<Vec<_>>()
        };
        assert_eq!(compared("cifar10"), ["top-1 err.", "top-5 err."]);
        assert_eq!(compared("shapes"), ["AP50", "AP"]);
        let results = run_directory(dir.path(), &cells[1], 0).join("results");
        std::fs::create_dir_all(&results).unwrap();
        for (classes, shown) in [(5, 1), (6, 2)] {
            let list = vec!["{}"; classes].join(",");
            let metrics = format!(r#"{{"top1": 71.0, "classes": [{list}]}}"#);
            std::fs::write(results.join("metrics.json"), metrics).unwrap();
            assert_eq!(compared("cifar10").len(), shown, "{classes} classes");
        }
    }

    #[test]
    fn the_metrics_and_parameters_of_a_run_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("results")).unwrap();
        let shown = |measures: &[Measure]| {
            let metrics = metrics_of(dir.path()).unwrap();
            let values = measures.iter().map(|(.., value)| value(&metrics));
            values.collect::<Vec<_>>()
        };
        let metrics = sedet_data::eval::classification::ClassificationEvaluation {
            images: 4,
            top1: 75.0,
            top5: 100.0,
            // Written as null.
            loss: f64::NAN,
            calibration_error: 0.0,
            classes: Vec::new(),
            reliability: Vec::new(),
            confusion: Vec::new(),
        };
        let path = dir.path().join("results/metrics.json");
        std::fs::write(&path, metrics.to_json()).unwrap();
        assert_eq!(shown(&CLASSIFIER), [Some(25.0), Some(0.0)]);
        assert_eq!(shown(&DETECTOR), [None, None]);
        let names = [
            "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
        ];
        let values: Vec<String> = names
            .iter()
            .map(|name| format!(r#""{name}": 0.5"#))
            .collect();
        std::fs::write(&path, format!("{{{}, \"images\": 1}}", values.join(","))).unwrap();
        assert_eq!(shown(&DETECTOR), [Some(50.0), Some(50.0)]);
        // As sedet 0.1 wrote it, with sorted keys.
        let environment = r#"{"architecture": "x86_64", "command": ["sedet", "train"],
            "data": {"dataset": "shapes", "parameters": 123, "train_boxes": 9, "train_images": 3},
            "device": "cpu", "os": "linux", "sedet": "0.1.0", "threads": 2}"#;
        std::fs::write(dir.path().join(ENVIRONMENT), environment).unwrap();
        assert_eq!(parameters_of(dir.path()), Some(123));
    }

    #[test]
    fn runs_of_other_options_are_refused_and_those_of_the_same_are_continued() {
        let dir = tempfile::tempdir().unwrap();
        let mut request = AblationRequest {
            dataset: "shapes".into(),
            axes: vec!["train.epochs=1,2".parse().unwrap()],
            only: None,
            seeds: vec![0],
            output: dir.path().join("study"),
            recipe: RecipeOptions::default(),
            device: resolve(DeviceChoice::Cpu).unwrap(),
            stop: Arc::default(),
            ranks: Ranks::alone(),
        };
        check_options(&request).unwrap();
        std::fs::create_dir(request.output.join("run")).unwrap();
        check_options(&request).unwrap();
        // The file as it was written with sorted keys.
        let text = r#"{"dataset": "shapes", "recipe": {"backbone": null, "batch_size": null, "config": null,
            "data_dir": null, "epochs": null, "layout": null, "lr": null, "set": [], "strict": false,
            "weights": null}}"#;
        std::fs::write(request.output.join("options.json"), text).unwrap();
        check_options(&request).unwrap();
        request.recipe.learning_rate = Some(0.1);
        let refused = check_options(&request).unwrap_err();
        assert!(
            matches!(refused, AblationError::OtherOptions { .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_grid_holds_every_combination_once() {
        let axes: Vec<Axis> = ["se.gate=sigmoid,tanh", "train.seed=1,2,3"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        let cells = grid(&axes);
        assert_eq!(cells.len(), 6);
        assert_eq!(cells[1].directory(), "model.se.gate=sigmoid,train.seed=2");
        assert_eq!(grid(&[]), [GridPoint(Vec::new())]);
        let stages = GridPoint(vec![("a".into(), "[true, false]/..".into())]);
        assert_eq!(stages.directory(), "a=_true,_false__..");
    }

    #[test]
    fn mean_and_standard_deviation_are_those_of_the_sample() {
        // numpy: mean and std(ddof=1) of 22.1, 22.4, 22.3.
        let statistic = Statistic::of(&[22.1, 22.4, 22.3]).unwrap();
        assert!((statistic.mean - 22.266666666666666).abs() < 1e-12);
        assert!((statistic.std.unwrap() - 0.15275252316519347).abs() < 1e-12);
        assert_eq!(statistic.to_string(), "22.27 ± 0.15");
        assert_eq!(Statistic::of(&[5.0]).unwrap().to_string(), "5.00");
        assert_eq!(Statistic::of(&[]), None);
    }
}
