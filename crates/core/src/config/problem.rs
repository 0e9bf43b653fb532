//! Messages for values and keys that a configuration does not accept.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::reference::{key_reference, same_name_elsewhere};
use sedet_data::text::did_you_mean;

/// A key that is unknown or has an unsuitable value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The whole path of the key, such as `rpn.nms_threshold`. Empty if the table itself is unsuitable.
    pub path: String,
    /// The problem.
    pub text: String,
}

impl Problem {
    /// Translates an error of reading `table` from the terms of Rust types into those of TOML. `root` is the path of
    /// `table` in a recipe; empty for a whole recipe.
    pub(super) fn of(error: &toml::de::Error, table: &Table, root: &str) -> Self {
        let shown = error.to_string();
        let within = shown
            .lines()
            .find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'))
            .unwrap_or_default();
        let message = error.message();
        if let Some(missing) = message.strip_prefix("missing field ") {
            let key = quoted(missing).next().unwrap_or_default();
            return Self {
                path: within.to_string(),
                text: format!("requires the key '{key}'"),
            };
        }
        let Some(unknown) = message.strip_prefix("unknown field ") else {
            return Self {
                path: within.to_string(),
                text: in_words(message),
            };
        };
        let key = quoted(unknown).next().unwrap_or_default();
        let known: Vec<&str> = quoted(unknown).skip(1).collect();
        let expected = match known.as_slice() {
            [] => String::new(),
            known => format!("; known: {}", known.join(", ")),
        };
        let path = path_of(table, within, key);
        let in_recipe = if root.is_empty() {
            path.clone()
        } else {
            format!("{root}.{path}")
        };
        let mut suggestion = other_recipes(&in_recipe).unwrap_or_else(|| did_you_mean(key, &known));
        if suggestion.is_empty()
            && let Some(elsewhere) = same_name_elsewhere(&in_recipe)
        {
            suggestion = format!(" (did you mean '{elsewhere}'?)");
        }
        Self {
            path,
            text: format!("unknown key{suggestion}{expected}"),
        }
    }
}

/// Formats an error in the syntax of TOML in one line, with its position in the text.
pub(super) fn invalid_toml(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let start = before.rfind('\n').map_or(0, |end| end + 1);
            let column = before[start..].chars().count() + 1;
            format!("line {line}, column {column}: {message}")
        }
        None => message.to_string(),
    }
}

/// Returns the recipes that a key belongs to, in parentheses, if it exists under just this path but not in the
/// recipe at hand.
fn other_recipes(path: &str) -> Option<String> {
    let keys = key_reference();
    let same: Vec<_> = keys.iter().filter(|key| key.key == path).collect();
    let first = same.first()?;
    let task = match first.tasks.as_slice() {
        [task] if same.iter().all(|key| key.tasks == first.tasks) => format!("{} ", task.name()),
        _ => String::new(),
    };
    let conditions: BTreeSet<&str> = same
        .iter()
        .flat_map(|key| key.only_with.iter().map(String::as_str))
        .collect();
    let conditions: Vec<&str> = conditions.into_iter().collect();
    let with = match conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" with {}", conditions.join(" or ")),
    };
    Some(format!(" (it belongs to {task}recipes{with})"))
}

/// Returns the path of a key that is somewhere below `within`. The types that are read in two steps report
/// only the outer part of a path.
fn path_of(table: &Table, within: &str, key: &str) -> String {
    fn search(table: &Table, key: &str) -> Option<String> {
        if table.contains_key(key) {
            return Some(key.to_string());
        }
        table.iter().find_map(|(name, value)| {
            let below = search(value.as_table()?, key)?;
            Some(format!("{name}.{below}"))
        })
    }
    let keys = within.split('.').filter(|key| !key.is_empty());
    let inner = keys
        .into_iter()
        .try_fold(table, |table, key| table.get(key).and_then(Value::as_table));
    let below = inner.and_then(|table| search(table, key));
    let below = below.unwrap_or_else(|| key.to_string());
    if within.is_empty() {
        below
    } else {
        format!("{within}.{below}")
    }
}

/// Returns the parts of a message in backticks.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// Translates the remaining kinds of messages.
fn in_words(message: &str) -> String {
    if let Some(variant) = message.strip_prefix("unknown variant ") {
        let value = quoted(variant).next().unwrap_or_default();
        let known: Vec<&str> = quoted(variant).skip(1).collect();
        return format!(
            "unknown value '{value}'{}; known: {}",
            did_you_mean(value, &known),
            known.join(", ")
        );
    }
    let mismatch = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|kind| message.strip_prefix(kind)?.split_once(", expected "));
    let Some((found, expected)) = mismatch else {
        return message.to_string();
    };
    let expected = match expected {
        "usize" | "u8" | "u16" | "u32" | "u64" if found.starts_with("integer `-") => {
            "a whole number of at least 0"
        }
        _ if found.starts_with("integer ") && message.starts_with("invalid value") => {
            "a smaller whole number"
        }
        "usize" | "u8" | "u16" | "u32" | "u64" | "isize" | "i8" | "i16" | "i32" | "i64" => {
            "a whole number"
        }
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") || other.contains(" tagged enum ") => "a table",
        other => other,
    };
    let found = match found.split_once(' ') {
        Some(("string", text)) => text.to_string(),
        Some(_) => quoted(found).next().unwrap_or(found).to_string(),
        None if found == "sequence" => "a list".to_string(),
        None if found == "map" => "a table".to_string(),
        None => found.to_string(),
    };
    format!("expected {expected}, not {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_types_are_in_plain_words() {
        for (message, expected) in [
            (
                "invalid type: string \"abc\", expected usize",
                "expected a whole number, not \"abc\"",
            ),
            (
                "invalid type: floating point `1.5`, expected u64",
                "expected a whole number, not 1.5",
            ),
            (
                "invalid value: integer `-1`, expected usize",
                "expected a whole number of at least 0, not -1",
            ),
            (
                "invalid type: string \"x\", expected f64",
                "expected a number, not \"x\"",
            ),
            (
                "invalid type: integer `3`, expected a boolean",
                "expected true or false, not 3",
            ),
            (
                "invalid type: sequence, expected struct SeConfig",
                "expected a table, not a list",
            ),
            (
                "unknown variant `maximum`, expected one of `avg`, `max`, `none`",
                "unknown value 'maximum' (did you mean 'max'?); known: avg, max, none",
            ),
            ("dropout must be below 1", "dropout must be below 1"),
        ] {
            assert_eq!(in_words(message), expected);
        }
    }

    #[test]
    fn invalid_toml_is_described_in_one_line() {
        for (text, expected) in [
            ("hello", "line 1, column "),
            ("a = 1\nbü = [1,\n", "line "),
            ("[x]\ny = 1\ny = 2\n", "line 3, column 1: "),
        ] {
            let error = toml::from_str::<Table>(text).unwrap_err();
            let message = invalid_toml(&error, text);
            assert!(message.starts_with(expected), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn the_whole_path_of_an_unknown_key_is_found() {
        let table: Table = "rpn = { nms = 1 }\nbackbone = { se = { gat = 1 } }"
            .parse()
            .unwrap();
        assert_eq!(path_of(&table, "rpn", "nms"), "rpn.nms");
        assert_eq!(path_of(&table, "backbone", "gat"), "backbone.se.gat");
        assert_eq!(path_of(&table, "", "other"), "other");
    }
}
