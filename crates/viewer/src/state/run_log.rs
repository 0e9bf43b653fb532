//! The curves of a training run, read from its growing `events.jsonl`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sedet_core::train::events::{EVENTS, Event, EventKind};
use sedet_core::train::run_dir::RunDir;
use sedet_data::csv::to_csv;

/// `[iteration, value]` points by name.
pub type Curves = BTreeMap<String, Vec<[f64; 2]>>;

/// A training run in progress or finished.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunLog {
    /// The directory of the run.
    pub directory: PathBuf,
    /// Losses, learning rate and throughput.
    pub train: Curves,
    /// Metrics on the validation split.
    pub eval: Curves,
    /// The weights that evaluations have kept, with their iterations, ascending.
    pub checkpoints: Vec<(usize, PathBuf)>,
    /// The runs in the directories beside that of the run, by name.
    pub neighbors: Vec<PathBuf>,
    /// The number of lines that are not events.
    pub bad_lines: usize,
    /// The size of the part of the file that has been read.
    bytes_read: u64,
}

impl RunLog {
    /// Creates a log of which nothing has been read yet.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            neighbors: neighbors(&directory),
            directory,
            ..Self::default()
        }
    }

    /// Returns the name of the directory.
    pub(crate) fn name(&self) -> String {
        run_name(&self.directory)
    }

    /// Returns the metric by which weights are the best, with the iteration and the value of its first maximum.
    pub(crate) fn best(&self) -> Option<(&str, usize, f64)> {
        let scores = ["AP", "top1"].into_iter();
        let mut curves = scores.filter_map(|name| self.eval.get_key_value(name));
        let (name, points) = curves.next()?;
        let best = points.iter().copied();
        let [iteration, value] =
            best.reduce(|best, next| if next[1] > best[1] { next } else { best })?;
        Some((name, iteration as usize, value))
    }

    /// Returns the metrics of the evaluation at an iteration.
    pub(crate) fn metrics_at(&self, iteration: usize) -> impl Iterator<Item = (&str, f64)> {
        let at = iteration as f64;
        self.eval.iter().filter_map(move |(name, points)| {
            let found = points.iter().find(|point| point[0] == at)?;
            Some((name.as_str(), found[1]))
        })
    }

    /// Reads the lines appended since the last call and returns whether there were any, or whether weights have
    /// been kept. An incomplete last line is left for the next call. A file that became shorter is read from
    /// its beginning: a resumed run truncates what a crash left.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn update(&mut self) -> std::io::Result<bool> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = std::fs::File::open(self.directory.join(EVENTS))?;
        let length = file.metadata()?.len();
        if length < self.bytes_read {
            *self = Self::new(std::mem::take(&mut self.directory));
        }
        file.seek(SeekFrom::Start(self.bytes_read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes
            .iter()
            .rposition(|&b| b == b'\n')
            .map_or(0, |at| at + 1);
        self.bytes_read += whole as u64;
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            self.add_line(line);
        }
        let checkpoints = RunDir::at(&self.directory).kept_checkpoints();
        let has_kept = checkpoints != self.checkpoints;
        self.checkpoints = checkpoints;
        Ok(whole > 0 || has_kept)
    }

    fn add_line(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let Ok(event) = serde_json::from_str::<Event>(line) else {
            self.bad_lines += 1;
            return;
        };
        let curves = match event.kind {
            EventKind::Eval => &mut self.eval,
            EventKind::Train => &mut self.train,
        };
        let iteration = event.iteration as f64;
        for (name, value) in event.values {
            let Some(value) = value else { continue };
            let curve = curves.entry(name).or_default();
            // A resumed run writes the same iterations again.
            while curve.last().is_some_and(|[at, _]| *at >= iteration) {
                curve.pop();
            }
            curve.push([iteration, value]);
        }
    }

    /// Returns every point of runs as CSV: run, event, name, iteration, value.
    pub fn to_csv(runs: &[&Self]) -> String {
        let mut rows = vec![["run", "event", "name", "iteration", "value"].map(String::from)];
        for run in runs {
            for (event, curves) in [("train", &run.train), ("eval", &run.eval)] {
                for (name, points) in curves {
                    rows.extend(points.iter().map(|[iteration, value]| {
                        [
                            run.name(),
                            event.to_owned(),
                            name.clone(),
                            iteration.to_string(),
                            value.to_string(),
                        ]
                    }));
                }
            }
        }
        to_csv(rows)
    }
}

/// Returns the name of a run's directory.
pub(crate) fn run_name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or(directory.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Returns the other runs in the directory that contains a run.
fn neighbors(directory: &Path) -> Vec<PathBuf> {
    let within = match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Vec::new(),
    };
    let entries = std::fs::read_dir(within).into_iter().flatten().flatten();
    let own = directory.file_name();
    let others = entries.filter(|entry| Some(entry.file_name().as_os_str()) != own);
    let paths = others.map(|entry| directory.with_file_name(entry.file_name()));
    let mut runs: Vec<PathBuf> = paths.filter(|path| RunDir::is_run(path)).collect();
    runs.sort_unstable();
    runs
}

/// Returns the exponential moving average of a curve; a weight of 0 leaves it unchanged.
pub fn smoothed(points: &[[f64; 2]], weight: f64) -> Vec<[f64; 2]> {
    let mut average = None;
    let next = |&[at, value]: &[f64; 2]| {
        let smooth = average.map_or(value, |before| weight * before + (1.0 - weight) * value);
        average = Some(smooth);
        [at, smooth]
    };
    points.iter().map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn curves_follow_a_file_that_grows_and_shrinks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut run = RunLog::new(directory.path().into());
        assert!(!run.update().unwrap());
        write!(
            file,
            "{{\"event\":\"train\",\"iteration\":10,\"time\":1.0,\"loss\":3.0}}\n{{\"ev"
        )
        .unwrap();
        assert!(run.update().unwrap());
        assert_eq!(run.train["loss"], [[10.0, 3.0]]);
        assert!(!run.train.contains_key("time"));
        writeln!(
            file,
            "ent\":\"eval\",\"iteration\":10,\"time\":1.5,\"ap\":0.5}}"
        )
        .unwrap();
        writeln!(file, "no event").unwrap();
        assert!(run.update().unwrap());
        assert_eq!((run.eval["ap"][0], run.bad_lines), ([10.0, 0.5], 1));
        assert!(!run.update().unwrap());
        std::fs::write(
            &path,
            "{\"event\":\"train\",\"iteration\":5,\"time\":2.0,\"loss\":4.0}\n",
        )
        .unwrap();
        run.update().unwrap();
        assert_eq!(run.train["loss"], [[5.0, 4.0]]);
        assert!(RunLog::to_csv(&[&run]).ends_with(",train,loss,5,4\n"));
    }

    #[test]
    fn smoothing_is_off_at_zero() {
        let points = [[1.0, 4.0], [2.0, 0.0]];
        assert_eq!(smoothed(&points, 0.0), points);
        assert_eq!(smoothed(&points, 0.5), [[1.0, 4.0], [2.0, 2.0]]);
    }
}
