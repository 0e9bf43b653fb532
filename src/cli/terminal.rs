//! The width of tables.

use std::io::IsTerminal as _;

use sedet_data::eval::table::{Side, aligned};
use sedet_data::system_errors::plain;

/// The width of a small terminal, and of output that is not a terminal.
pub(super) const DEFAULT_WIDTH: usize = 80;
/// The indentation of a row that continues below its first cell.
const INDENT: &str = "  ";

/// Returns the number of columns that tables may have.
pub(super) fn width() -> usize {
    let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
    let terminal = || {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            terminal_size::terminal_size_of(stdout)
        } else {
            None
        }
    };
    match terminal() {
        Some((terminal_size::Width(columns), _)) => columns.into(),
        None => variable()
            .filter(|columns| *columns > 0)
            .unwrap_or(DEFAULT_WIDTH),
    }
}

/// Formats rows as [`aligned`] does if they fit the width. Else each first cell is on a line of its own, with the
/// others below it: names can be long, and none is shortened.
pub(super) fn fitted(rows: &[Vec<String>], sides: &[Side], width: usize) -> String {
    let table = aligned(rows, sides);
    let is_within = |line: &str| line.chars().count() <= width;
    if table.lines().all(is_within) || sides.len() < 2 {
        return table;
    }
    let rest: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().skip(1).cloned().collect())
        .collect();
    let rest = aligned(&rest, &sides[1..]);
    let mut lines = rest.lines();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let first = row.first().map_or("", String::as_str);
        text += &format!("{first}\n{INDENT}{}\n", lines.next().unwrap_or_default());
        if number == 0 {
            text += &format!("{INDENT}{}\n", lines.next().unwrap_or_default());
        }
    }
    text
}

/// Formats text as lines of at most `width` columns with this indentation. Words are not broken.
pub(super) fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    // Before a line break separates the words.
    for word in plain(text).split_whitespace() {
        let columns = indent + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && columns > width {
            lines += &format!("{:indent$}{line}\n", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{:indent$}{line}\n", "")
}

/// Formats text behind a prefix, as lines of at most `width` columns; further lines begin below the text.
pub(super) fn hanging(prefix: &str, text: &str, width: usize) -> String {
    let indent = prefix.chars().count();
    let lines = wrapped(text, indent, width);
    format!("{prefix}{}", lines.get(indent..).unwrap_or_default())
}

/// Formats one message as lines of at most `width` columns; further lines are indented. It has no line break at its
/// end.
pub(super) fn continued(text: &str, width: usize) -> String {
    let indent = INDENT.len();
    let lines = wrapped(text, indent, width);
    lines
        .get(indent..)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_continues_with_an_indentation() {
        assert_eq!(continued("ab cd efghijk", 8), "ab cd\n  efghijk");
        assert_eq!(continued("", 8), "");
    }

    #[test]
    fn text_hangs_below_the_end_of_its_prefix() {
        assert_eq!(hanging("-> ", "ab cd efghijk", 8), "-> ab cd\n   efghijk\n");
        assert_eq!(hanging("", "ab cd", 3), "ab\ncd\n");
        assert_eq!(hanging("é ", "", 3), "é \n");
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(
            wrapped("ab cd efghijk l", 2, 7),
            "  ab cd\n  efghijk\n  l\n"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_has_its_first_cells_on_lines_of_their_own() {
        let rows = [
            ["tensor", "shape"],
            ["backbone.conv1.weight", "64x3"],
            ["b", "8"],
        ];
        let rows = rows.map(|row| row.map(String::from).to_vec());
        let sides = [Side::Left, Side::Right];
        assert_eq!(fitted(&rows, &sides, 80), aligned(&rows, &sides));
        assert_eq!(
            fitted(&rows, &sides, 20),
            "tensor\n  shape\n  ─────\nbackbone.conv1.weight\n   64x3\nb\n      8\n"
        );
    }
}
