//! Comparing settings: a grid of them, several seeds each, and the mean with its standard deviation.

use std::str::FromStr;

/// One thing that is varied, and its values: `se.reduction=2,4,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// A key of the configuration.
    pub key: String,
    /// As they would stand after `--set KEY=`.
    pub values: Vec<String>,
}

/// What is not an axis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}': expected KEY=VALUE,VALUE,..., such as se.reduction=2,4,8")]
pub struct AxisError(String);

impl FromStr for Axis {
    type Err = AxisError;

    /// Commas inside of brackets and quotes belong to a value. The fields of the SE units may be
    /// written without `model.`.
    fn from_str(text: &str) -> Result<Self, AxisError> {
        let wrong = || AxisError(text.to_string());
        let (key, list) = text.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        let values = split_values(list);
        if key.is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        let key = match key.starts_with("se.") {
            true => format!("model.{key}"),
            false => key.to_string(),
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

/// One point of the grid: `(key, value)` of each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell(pub Vec<(String, String)>);

impl Cell {
    /// For `--set`.
    pub fn settings(&self) -> Vec<String> {
        let pairs = self.0.iter();
        pairs.map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// A directory's name: the settings, with nothing in them that a file system would mind.
    pub fn directory(&self) -> String {
        let settings = self.settings().join(",");
        let mild = |c: char| c.is_alphanumeric() || "._-=,".contains(c);
        settings
            .chars()
            .map(|c| if mild(c) { c } else { '_' })
            .collect()
    }
}

/// All combinations, the last axis changing fastest.
pub fn grid(axes: &[Axis]) -> Vec<Cell> {
    axes.iter().fold(vec![Cell(Vec::new())], |cells, axis| {
        let values = axis.values.iter();
        cells
            .iter()
            .flat_map(|cell| {
                values.clone().map(|value| {
                    let mut pairs = cell.0.clone();
                    pairs.push((axis.key.clone(), value.clone()));
                    Cell(pairs)
                })
            })
            .collect()
    })
}

/// What several runs of the same settings came to.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Statistic {
    /// Of the runs.
    pub mean: f64,
    /// Sample standard deviation (over n - 1); none of a single run.
    pub std: Option<f64>,
    /// Runs.
    pub runs: usize,
}

impl Statistic {
    /// None without a run.
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

impl std::fmt::Display for Statistic {
    /// `22.28 ± 0.12`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.std {
            Some(std) => write!(f, "{:.2} ± {std:.2}", self.mean),
            None => write!(f, "{:.2}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_a_key_and_its_values_and_brackets_hold_together() {
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
    fn a_grid_holds_every_combination_once() {
        let axes: Vec<Axis> = ["se.gate=sigmoid,tanh", "train.seed=1,2,3"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        let cells = grid(&axes);
        assert_eq!(cells.len(), 6);
        assert_eq!(cells[1].directory(), "model.se.gate=sigmoid,train.seed=2");
        assert_eq!(grid(&[]), [Cell(Vec::new())]);
        let stages = Cell(vec![("a".into(), "[true, false]/..".into())]);
        assert_eq!(stages.directory(), "a=_true,_false__..");
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_sample() {
        // numpy: mean and std(ddof=1) of 22.1, 22.4, 22.3.
        let statistic = Statistic::of(&[22.1, 22.4, 22.3]).unwrap();
        assert!((statistic.mean - 22.266666666666666).abs() < 1e-12);
        assert!((statistic.std.unwrap() - 0.15275252316519347).abs() < 1e-12);
        assert_eq!(statistic.to_string(), "22.27 ± 0.15");
        assert_eq!(Statistic::of(&[5.0]).unwrap().to_string(), "5.00");
        assert_eq!(Statistic::of(&[]), None);
    }
}
