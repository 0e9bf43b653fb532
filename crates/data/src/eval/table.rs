//! Formatting of evaluation results as tables and JSON.

use std::borrow::Cow;

use super::coco::CocoEvaluation;
use crate::text::{self, printable};

/// IoU, area and maximum number of detections of the twelve metrics, in the order of
/// [`CocoMetrics::named`](super::coco::CocoMetrics::named).
const DEFINITIONS: [(&str, &str, &str); 12] = [
    ("0.50:0.95", "all", "100"),
    ("0.50", "all", "100"),
    ("0.75", "all", "100"),
    ("0.50:0.95", "small", "100"),
    ("0.50:0.95", "medium", "100"),
    ("0.50:0.95", "large", "100"),
    ("0.50:0.95", "all", "1"),
    ("0.50:0.95", "all", "10"),
    ("0.50:0.95", "all", "100"),
    ("0.50:0.95", "small", "100"),
    ("0.50:0.95", "medium", "100"),
    ("0.50:0.95", "large", "100"),
];

impl CocoEvaluation {
    /// Formats the evaluation as indented JSON with all digits: the twelve metrics under their usual
    /// names (`AP`, `AP50`, ... `ARl`), then the counts, the class table `per_class` and the
    /// `warnings`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("strings, counts and floats under string keys are always JSON")
    }

    /// Formats the twelve metrics as a table, one per line, with IoU, area and maximum number of
    /// detections.
    pub fn summary_table(&self) -> String {
        let mut rows = vec![
            ["metric", "IoU", "area", "max. detections", "value"]
                .map(String::from)
                .to_vec(),
        ];
        for ((name, value), (iou, area, limit)) in self.metrics.named().iter().zip(DEFINITIONS) {
            let cells = [*name, iou, area, limit].map(String::from);
            rows.push(cells.into_iter().chain([number(*value)]).collect());
        }
        format!(
            "{} in {}, {}\n{}",
            text::count(self.ground_truths, "object"),
            text::count(self.images, "image"),
            text::count(self.detections, "detection"),
            aligned(&rows, &[Left, Left, Left, Right, Right])
        )
    }

    /// Formats the classes as a table; see [`class_cells`](Self::class_cells).
    pub fn class_table(&self) -> String {
        let (rows, sides) = self.class_cells();
        aligned(&rows, &sides)
    }

    /// Returns the cells of the table of classes, heading first, and the side of each column: best AP first;
    /// classes without objects come last and show `-`.
    pub fn class_cells(&self) -> (Vec<Vec<String>>, [Side; 6]) {
        let mut classes: Vec<_> = self.per_class.iter().collect();
        classes.sort_by(|a, b| b.ap.total_cmp(&a.ap));
        let mut rows = vec![
            ["class", "objects", "detections", "AP", "AP50", "AR100"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(classes.iter().map(|class| {
            vec![
                class.name.clone(),
                class.ground_truths.to_string(),
                class.detections.to_string(),
                number(class.ap),
                number(class.ap50),
                number(class.ar100),
            ]
        }));
        (rows, [Left, Right, Right, Right, Right, Right])
    }
}

/// Formats a metric with three digits; `-` for an undefined one.
fn number(value: f64) -> String {
    if value < 0.0 {
        "-".into()
    } else {
        format!("{value:.3}")
    }
}

/// The alignment of a column.
#[derive(Clone, Copy)]
pub enum Side {
    /// Left, for strings.
    Left,
    /// Right, for numbers.
    Right,
}
use Side::{Left, Right};

/// Formats rows as columns that are as wide as their widest cell. The first row is the header and
/// gets a rule below it. Line breaks and other control characters in cells are escaped.
pub fn aligned(rows: &[Vec<String>], sides: &[Side]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let length = |cell: &str| cell.chars().count();
    let widths: Vec<usize> = (0..sides.len())
        .map(|column| {
            rows.iter()
                .map(|row| length(&row[column]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (position, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for ((cell, &width), side) in row.iter().zip(&widths).zip(sides) {
            let space = " ".repeat(width - length(cell));
            if !line.is_empty() {
                line.push_str("  ");
            }
            match side {
                Left => line.extend([cell, space.as_str()]),
                Right => line.extend([space.as_str(), cell]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if position == 0 {
            let rule: Vec<_> = widths.iter().map(|&width| "─".repeat(width)).collect();
            text.push_str(&rule.join("  "));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{ClassMetrics, CocoMetrics};

    fn evaluation() -> CocoEvaluation {
        let class = |name: &str, ap: f64| ClassMetrics {
            category_id: 7,
            name: name.into(),
            ground_truths: 12,
            detections: 345,
            ap,
            ap50: ap,
            ar100: ap,
            curves: None,
        };
        CocoEvaluation {
            metrics: CocoMetrics {
                ap: 0.5045806987249628,
                ap50: 0.6969727247299577,
                ap75: 0.25,
                ap_small: -1.0,
                ap_medium: 0.5,
                ap_large: 0.5,
                ar1: 0.25,
                ar10: 0.25,
                ar100: 0.25,
                ar_small: -1.0,
                ar_medium: 0.25,
                ar_large: 0.25,
            },
            per_class: vec![class("cat", 0.25), class("öwl", -1.0), class("dog", 0.75)],
            curves: None,
            images: 1,
            ground_truths: 24,
            detections: 690,
            warnings: vec!["unusual".into()],
        }
    }

    #[test]
    fn the_json_has_the_usual_names_first_and_all_digits() {
        let text = evaluation().to_json();
        assert!(text.starts_with("{\n  \"AP\": 0.5045806987249628,\n  \"AP50\""));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (name, number) in evaluation().metrics.named() {
            assert_eq!(value[name].as_f64(), Some(number), "{name}");
        }
        assert_eq!(value["per_class"][2]["name"], "dog");
        assert_eq!(value["per_class"][2]["AR100"], 0.75);
        assert_eq!(value["images"], 1);
    }

    #[test]
    fn the_metrics_are_read_back_from_the_json() {
        let read: CocoMetrics = serde_json::from_str(&evaluation().to_json()).unwrap();
        assert_eq!(read, evaluation().metrics);
    }

    #[test]
    fn the_summary_shows_iou_area_and_limit_of_each_metric() {
        let text = evaluation().summary_table();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "24 objects in 1 image, 690 detections");
        assert_eq!(lines.len(), 3 + 12);
        assert_eq!(
            lines[3],
            "AP      0.50:0.95  all                 100  0.505"
        );
        assert!(lines[6].starts_with("APs") && lines[6].ends_with(" -"));
    }

    #[test]
    fn the_class_table_is_aligned_and_sorted_by_ap() {
        let text = evaluation().class_table();
        let names: Vec<_> = text
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(names, ["dog", "cat", "öwl"]);
        let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{text}");
    }
}
