//! The marks and labels of the axes of all charts.

use std::ops::RangeInclusive;

use egui_plot::{GridInput, GridMark, Plot};

use super::line_chart::number;

/// The least distance between two labels of the x and of the y axis, in points: room for a number and a gap.
const LABELS: [f64; 2] = [84.0, 32.0];
/// The least distance between two lines of the grid, in points; that of egui_plot, which it passes as a number of values.
const LINES: f64 = 8.0;
/// The parts that lines divide the distance between two labels into.
const PARTS: f64 = 5.0;
/// The most marks of an axis.
const MAX_MARKS: f64 = 1000.0;

/// Gives the axes marks at round numbers. egui_plot labels powers of ten only, which are one or two in many charts.
/// `log`: whether the places on the axes are logarithms.
pub(super) fn with_marks(plot: Plot<'_>, log: [bool; 2]) -> Plot<'_> {
    let plot = if log[0] {
        plot.x_grid_spacer(log_marks)
            .x_axis_formatter(|mark, _| mark_text(mark.value))
    } else {
        plot.x_grid_spacer(|input| round_marks(&input, LABELS[0]))
            .x_axis_formatter(round_text)
    };
    if log[1] {
        plot.y_grid_spacer(log_marks)
            .y_axis_formatter(|mark, _| mark_text(mark.value))
    } else {
        plot.y_grid_spacer(|input| round_marks(&input, LABELS[1]))
            .y_axis_formatter(round_text)
    }
}

/// Returns marks at multiples of 1, 2 or 5 times a power of ten that are this many points apart, and finer ones between
/// them without a label.
fn round_marks(input: &GridInput, points: f64) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    let step = round_step(input.base_step_size / LINES * points);
    let fine = step / PARTS;
    let is_possible = step.is_finite() && step > 0.0 && low.is_finite() && high.is_finite();
    if !is_possible || (high - low) / fine > MAX_MARKS {
        return Vec::new();
    }
    let (first, last) = ((low / fine).ceil() as i64, (high / fine).floor() as i64);
    let mark = |at: i64| GridMark {
        value: at as f64 * fine,
        step_size: if at % PARTS as i64 == 0 { step } else { fine },
    };
    (first..=last).map(mark).collect()
}

/// Returns the least 1, 2 or 5 times a power of ten that is not smaller.
fn round_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|digit| digit * decade);
    // Rounding may put a power of ten just below itself.
    let mut steps = steps.into_iter();
    let found = steps.find(|step| *step >= least * (1.0 - 1e-9));
    found.unwrap_or(10.0 * decade)
}

/// Returns a number with the decimals that its step has.
fn round_text(mark: GridMark, _: &RangeInclusive<f64>) -> String {
    let decimals = (-mark.step_size.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    if mark.value.abs() >= 1e7 || (decimals == 9 && mark.value != 0.0) {
        return format!("{:e}", mark.value);
    }
    // Not "-0".
    format!("{:.decimals$}", mark.value + 0.0)
}

/// Returns the marks of a logarithmic axis, whose places are powers of ten: 1, 2 and 5 of each decade, or whole
/// decades where they are close together.
fn log_marks(input: GridInput) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    let (low, high) = (low.floor().max(-300.0), high.ceil().min(300.0));
    if !(low.is_finite() && high.is_finite()) {
        return Vec::new();
    }
    let between: &[f64] = if high - low > 4.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let decades = low as i32..=high as i32;
    let marks = decades.flat_map(|decade| {
        between.iter().map(move |digit| GridMark {
            value: f64::from(decade) + digit.log10(),
            step_size: if *digit == 1.0 { 1.0 } else { 0.3 },
        })
    });
    marks.collect()
}

/// Returns the label of a mark of a logarithmic axis: a digit times a power of ten, without what the logarithm adds.
fn mark_text(place: f64) -> String {
    const ROUNDING: f64 = 1e-9;
    let decade = (place + ROUNDING).floor();
    let digit = 10f64.powf(place - decade).round();
    number(if decade < 0.0 {
        digit / 10f64.powf(-decade)
    } else {
        digit * 10f64.powf(decade)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, width: f64, points: f64) -> Vec<String> {
        let input = GridInput {
            bounds: (low, high),
            base_step_size: (high - low) / width * LINES,
        };
        let marks = round_marks(&input, points);
        let coarse = marks.iter().map(|mark| mark.step_size).fold(0.0, f64::max);
        let labeled = marks.into_iter().filter(|mark| mark.step_size == coarse);
        labeled
            .map(|mark| round_text(mark, &(low..=high)))
            .collect()
    }

    #[test]
    fn axes_have_labels_at_round_numbers_wherever_they_begin_and_end() {
        assert_eq!(
            labels(0.0, 1.0, 600.0, 84.0),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(-3.0, 52.0, 400.0, 84.0), ["0", "20", "40"]);
        assert_eq!(
            labels(0.31, 0.42, 200.0, 32.0),
            ["0.32", "0.34", "0.36", "0.38", "0.40", "0.42"]
        );
        assert_eq!(labels(0.0, 90_000.0, 600.0, 84.0).len(), 5);
        let (first, second) = (
            labels(-1e-12, 1e-12, 300.0, 84.0),
            labels(0.0, 4e9, 300.0, 84.0),
        );
        assert!(first.contains(&"0.000000000".to_owned()), "{first:?}");
        assert_eq!(second, ["0", "2e9", "4e9"]);
    }

    #[test]
    fn an_axis_of_any_length_has_at_least_two_labels_and_none_overlap() {
        for width in [180.0, 400.0, 700.0, 1800.0] {
            for high in [0.013, 0.5, 1.0, 3.3, 7.7, 64.0, 120.0, 999.0, 25_000.0] {
                let shown = labels(0.0, high, width, 84.0).len();
                assert!(shown >= 2, "{width} {high}: {shown}");
                assert!((shown as f64 - 1.0) * 84.0 <= width + 1.0, "{width} {high}");
            }
        }
        let nothing = GridInput {
            bounds: (0.0, f64::INFINITY),
            base_step_size: 0.1,
        };
        assert!(round_marks(&nothing, 84.0).is_empty());
    }

    #[test]
    fn a_logarithmic_axis_has_marks_at_whole_numbers_of_each_decade() {
        let marks = |low, high| {
            let input = GridInput {
                bounds: (low, high),
                base_step_size: 0.1,
            };
            let marks = log_marks(input).into_iter();
            marks.map(|mark| mark_text(mark.value))
        };
        let few: Vec<String> = marks(-0.5, 0.9).collect();
        assert_eq!(
            few,
            [
                "0.1000", "0.2000", "0.5000", "1", "2", "5", "10", "20", "50"
            ]
        );
        let many: Vec<String> = marks(-3.0, 3.0).collect();
        assert_eq!(
            many,
            ["0.0010", "0.0100", "0.1000", "1", "10", "100", "1000"]
        );
        assert_eq!(marks(f64::NEG_INFINITY, 1.0).count(), 302);
    }
}
