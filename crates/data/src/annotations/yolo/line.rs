//! The lines of label files: boxes, outlines and keypoints.

use std::fmt::{self, Write as _};

use crate::annotations::format::PlacedBox;
use crate::boxes::ImageSize;

/// A line of a label file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YoloBox {
    /// The class, counted from 0.
    pub class: usize,
    /// Center and size in fractions of the image.
    pub cxcywh: [f64; 4],
    /// What the line has besides the box.
    pub extra: Extra,
}

/// The values of a line of a label file after the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// An outline, around which the box is.
    Outline,
    /// Keypoints.
    Keypoints,
}

impl YoloBox {
    pub(super) fn new(class: usize, cxcywh: [f64; 4], extra: Extra) -> Result<Self, String> {
        if cxcywh[2] <= 0.0 || cxcywh[3] <= 0.0 {
            return Err("box without area".into());
        }
        Ok(Self {
            class,
            cxcywh,
            extra,
        })
    }

    /// Returns `[x, y, width, height]` in pixels of an image.
    pub fn xywh(&self, size: ImageSize) -> [f32; 4] {
        let (width, height) = (size.width as f64, size.height as f64);
        let [cx, cy, w, h] = self.cxcywh;
        [
            ((cx - w / 2.0) * width) as f32,
            ((cy - h / 2.0) * height) as f32,
            (w * width) as f32,
            (h * height) as f32,
        ]
    }
}

/// The fault of a line of a label file.
#[derive(Debug)]
pub(super) enum LineProblem {
    /// The class is not one of 0 to `last`.
    UnknownClass {
        class: f64,
        last: i64,
    },
    Other(String),
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownClass { class, last } => {
                write!(f, "unknown class {class}; the classes are 0 to {last}")
            }
            Self::Other(problem) => f.write_str(problem),
        }
    }
}

impl From<String> for LineProblem {
    fn from(problem: String) -> Self {
        Self::Other(problem)
    }
}

impl From<&str> for LineProblem {
    fn from(problem: &str) -> Self {
        Self::Other(problem.to_owned())
    }
}

/// Parses a line of a label file for a dataset with a number of classes.
///
/// # Errors
/// Too few or too many numbers, no numbers, an unknown class, values outside of the image, a box without
/// area; the string names it.
pub fn parse_line(line: &str, classes: usize) -> Result<YoloBox, String> {
    parse_box(line, classes).map_err(|problem| problem.to_string())
}

pub(super) fn parse_box(line: &str, classes: usize) -> Result<YoloBox, LineProblem> {
    let numbers = numbers_of(line)?;
    let class = class_of(&numbers, classes)?;
    let values = &numbers[1..];
    let (cxcywh, extra) = match *values {
        [cx, cy, w, h] => ([cx, cy, w, h], Extra::None),
        [_, _, _, _, _] => {
            return Err("6 numbers; a line with a score is a prediction, not a label".into());
        }
        _ if values.len() >= 6 && values.len().is_multiple_of(2) => {
            (box_around(values), Extra::Outline)
        }
        _ => {
            let count = values.len() + 1;
            return Err(format!("{count} numbers; a box has 5 (class cx cy width height)").into());
        }
    };
    check_fractions(values)?;
    Ok(YoloBox::new(class, cxcywh, extra)?)
}

/// Parses a line of a box and keypoints with a number of values.
pub(super) fn parse_pose(
    line: &str,
    classes: usize,
    keypoints: usize,
) -> Result<YoloBox, LineProblem> {
    let numbers = numbers_of(line)?;
    let class = class_of(&numbers, classes)?;
    let (cxcywh, extra) = match numbers[1..] {
        [cx, cy, w, h] => ([cx, cy, w, h], Extra::None),
        [cx, cy, w, h, ..] if numbers.len() == 5 + keypoints => ([cx, cy, w, h], Extra::Keypoints),
        _ => {
            return Err(format!(
                "{} numbers; with `kpt_shape` a box has 5 or {}",
                numbers.len(),
                5 + keypoints
            )
            .into());
        }
    };
    check_fractions(&cxcywh)?;
    Ok(YoloBox::new(class, cxcywh, extra)?)
}

pub(super) fn numbers_of(line: &str) -> Result<Vec<f64>, String> {
    let words = line.split_whitespace();
    words
        .map(|word| {
            let number = word.parse::<f64>().ok().filter(|n| n.is_finite());
            number.ok_or_else(|| format!("`{word}` is not a finite number"))
        })
        .collect()
}

pub(super) fn class_of(numbers: &[f64], classes: usize) -> Result<usize, LineProblem> {
    match numbers.first() {
        Some(class) if class.fract() == 0.0 && *class >= 0.0 && *class < classes as f64 => {
            Ok(*class as usize)
        }
        Some(&class) => Err(LineProblem::UnknownClass {
            class,
            last: classes as i64 - 1,
        }),
        None => Err("it is empty".into()),
    }
}

/// Checks that values can be fractions of an image.
///
/// Those of boxes that include hidden parts of their objects are outside of the image, also the center. They are clipped
/// as in all formats.
pub(super) fn check_fractions(values: &[f64]) -> Result<(), String> {
    /// By how much a box exceeds its image on a side; pixels are more, except in the corner.
    const BEYOND: f64 = 0.5;
    let is_outside = |value: &&f64| !(-BEYOND..=1.0 + BEYOND).contains(*value);
    let Some(outside) = values.iter().find(is_outside) else {
        return Ok(());
    };
    let percentages = if values.iter().all(|value| (0.0..=100.0).contains(value)) {
        ", and percentages by 100"
    } else {
        ""
    };
    Err(format!(
        "{outside} is not a fraction of the image; divide pixels by its width or height{percentages}"
    ))
}

pub(super) fn box_around(points: &[f64]) -> [f64; 4] {
    let range = |first: usize| {
        let values = points.iter().skip(first).step_by(2).copied();
        (
            values.clone().fold(f64::INFINITY, f64::min),
            values.fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let ((left, right), (top, bottom)) = (range(0), range(1));
    [
        (left + right) / 2.0,
        (top + bottom) / 2.0,
        right - left,
        bottom - top,
    ]
}

/// Formats the label file of an image.
pub(super) fn format_labels(size: ImageSize, boxes: &[PlacedBox]) -> String {
    let (width, height) = (size.width as f64, size.height as f64);
    let mut text = String::new();
    for found in boxes {
        let [x, y, w, h] = found.xywh;
        let values = [
            (x + w / 2.0) / width,
            (y + h / 2.0) / height,
            w / width,
            h / height,
        ];
        text += &found.class.to_string();
        for value in values {
            // Writing to a string does not fail.
            let _ = write!(text, " {}", decimal(value));
        }
        text.push('\n');
    }
    text
}

/// Formats a number with nine decimals, without zeros at the end: exact to a ten-thousandth of a pixel in any
/// image.
pub(super) fn decimal(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
