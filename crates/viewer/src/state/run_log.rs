//! The curves of a training run, as its `events.jsonl` grows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sedet_data::csv::to_csv;
use serde_json::Value;

/// Numbers of a run by name, each with its iteration.
pub type Curves = BTreeMap<String, Vec<[f64; 2]>>;

/// A training run, running or done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunLog {
    /// Its directory.
    pub directory: PathBuf,
    /// Losses, learning rate and speed, by iteration.
    pub train: Curves,
    /// Measured on the validation split, by iteration.
    pub eval: Curves,
    /// Lines that are no events: somebody's edit, or a crash.
    pub bad_lines: usize,
    /// What of the file was read.
    bytes_read: u64,
}

impl RunLog {
    /// Nothing read yet.
    pub fn of(directory: PathBuf) -> Self {
        Self {
            directory,
            ..Self::default()
        }
    }

    /// Take in what the file has beyond the part that was read. A line without its end waits for
    /// the rest; a file that became shorter (a resumed run forgets what a crash left) is read anew.
    /// Returns whether there was anything.
    pub fn update(&mut self) -> std::io::Result<bool> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = std::fs::File::open(self.directory.join("events.jsonl"))?;
        let length = file.metadata()?.len();
        if length < self.bytes_read {
            *self = Self::of(std::mem::take(&mut self.directory));
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
            self.take_in(line);
        }
        Ok(whole > 0)
    }

    fn take_in(&mut self, line: &str) {
        let event = match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(event)) => event,
            _ if line.trim().is_empty() => return,
            _ => {
                self.bad_lines += 1;
                return;
            }
        };
        let Some(iteration) = event.get("iteration").and_then(Value::as_f64) else {
            self.bad_lines += 1;
            return;
        };
        let curves = match event.get("event").and_then(Value::as_str) {
            Some("eval") => &mut self.eval,
            _ => &mut self.train,
        };
        for (name, value) in &event {
            if let (false, Some(value)) = (
                matches!(name.as_str(), "event" | "iteration" | "time"),
                value.as_f64(),
            ) {
                let curve = curves.entry(name.clone()).or_default();
                // A resumed run writes the same iterations again.
                while curve.last().is_some_and(|[at, _]| *at >= iteration) {
                    curve.pop();
                }
                curve.push([iteration, value]);
            }
        }
    }

    /// Every number as comma-separated values: event, name, iteration, value.
    pub fn to_csv(&self) -> String {
        let mut rows = vec![["event", "name", "iteration", "value"].map(String::from)];
        for (event, curves) in [("train", &self.train), ("eval", &self.eval)] {
            for (name, points) in curves {
                for [iteration, value] in points {
                    let numbers = [iteration.to_string(), value.to_string()];
                    let [iteration, value] = numbers;
                    rows.push([event.to_owned(), name.clone(), iteration, value]);
                }
            }
        }
        to_csv(rows)
    }
}

/// An exponential average of a curve; 0 leaves it as it is.
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
    fn curves_follow_the_file_as_it_grows_and_shrinks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut run = RunLog::of(directory.path().into());
        assert!(!run.update().unwrap());
        write!(
            file,
            "{{\"event\":\"train\",\"iteration\":10,\"time\":1.0,\"loss\":3.0}}\n{{\"ev"
        )
        .unwrap();
        assert!(run.update().unwrap());
        assert_eq!(run.train["loss"], [[10.0, 3.0]]);
        assert!(!run.train.contains_key("time"));
        writeln!(file, "ent\":\"eval\",\"iteration\":10,\"ap\":0.5}}").unwrap();
        writeln!(file, "no event").unwrap();
        assert!(run.update().unwrap());
        assert_eq!((run.eval["ap"][0], run.bad_lines), ([10.0, 0.5], 1));
        assert!(!run.update().unwrap());
        std::fs::write(
            &path,
            "{\"event\":\"train\",\"iteration\":5,\"loss\":4.0}\n",
        )
        .unwrap();
        run.update().unwrap();
        assert_eq!(run.train["loss"], [[5.0, 4.0]]);
        assert!(run.to_csv().ends_with("train,loss,5,4\n"));
    }

    #[test]
    fn smoothing_is_off_at_zero() {
        let points = [[1.0, 4.0], [2.0, 0.0]];
        assert_eq!(smoothed(&points, 0.0), points);
        assert_eq!(smoothed(&points, 0.5), [[1.0, 4.0], [2.0, 2.0]]);
    }
}
