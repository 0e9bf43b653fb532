//! A configuration as commented TOML to start from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use toml::{Table, Value};

use super::reference::{KeyDefault, KeyOrder, KeyReference, key_reference, table_reference};
use super::{ConfigError, Recipe};

/// The width of a line in columns.
const WIDTH: usize = 80;

/// Formats a configuration as TOML with a comment for every key. Keys that are not set are comments, in their positions.
///
/// # Errors
/// A value cannot be represented in TOML.
pub fn commented<C: Recipe + JsonSchema>(config: &C) -> Result<String, ConfigError> {
    let table = table_of(config)?;
    let writer = Writer {
        keys: key_reference()
            .into_iter()
            .filter(|key| key.tasks.contains(&C::TASK))
            .collect(),
        tables: table_reference(),
        order: KeyOrder::of_task::<C>(),
    };
    let mut text = format!("task = \"{}\"\n", C::TASK.name());
    writer.table("", &table, &mut text);
    Ok(text)
}

/// Returns a configuration as a table.
///
/// # Errors
/// A value cannot be represented in TOML.
pub fn table_of<T: Serialize>(config: &T) -> Result<Table, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid {
        origin: "the configuration".to_string(),
        message,
    };
    // Through text: directly, an f32 such as 0.3 becomes the f64 0.30000001192092896.
    let text = toml::to_string(config).map_err(|e| invalid(e.to_string()))?;
    text.parse()
        .map_err(|e: toml::de::Error| invalid(e.to_string()))
}

struct Writer {
    keys: Vec<KeyReference>,
    tables: BTreeMap<String, String>,
    order: KeyOrder,
}

impl Writer {
    /// Writes the keys of a table, in the order of the reference, and then its tables.
    fn table(&self, path: &str, table: &Table, text: &mut String) {
        let at = |name: &str| match path {
            "" => name.to_string(),
            path => format!("{path}.{name}"),
        };
        if !path.is_empty() {
            *text += "\n";
            if let Some(summary) = self.summary(path, table) {
                *text += &comment(&summary);
            }
            *text += &format!("[{}]\n", quoted_path(path));
        }
        let (mut sections, values): (Vec<_>, Vec<_>) =
            table.iter().partition(|(_, value)| is_section(value));
        let set = values.into_iter().map(|(name, value)| {
            let summary = self.summary(&at(name), table);
            let summary = summary.map(|summary| comment(&summary)).unwrap_or_default();
            (at(name), summary + &assignment(name, value))
        });
        let unset = self.unset(path, table).filter_map(|entry| {
            let value = match &entry.default {
                KeyDefault::Value(value) => value.clone(),
                // A table that training writes is not known.
                _ if entry.kind == "table" => self.form(&entry.key)?,
                _ => format!("... ({})", entry.kind),
            };
            let line = format!("# {} = {value}\n", entry.name());
            Some((entry.key.clone(), comment(&described(entry)) + &line))
        });
        let mut lines: Vec<(String, String)> = set.chain(unset).collect();
        lines.sort_by_cached_key(|(path, _)| self.order.of_path(path));
        text.extend(lines.into_iter().map(|(_, lines)| lines));
        sections.sort_by_cached_key(|(name, _)| self.order.of_path(&at(name)));
        for (name, value) in sections {
            if let Value::Table(inner) = value {
                self.table(&at(name), inner, text);
            }
        }
    }

    /// Returns the entry of a key. A key may have another meaning for another value of the key that selects the
    /// variant of its table.
    fn find(&self, key: &str, table: &Table) -> Option<&KeyReference> {
        let mut entries = self.keys.iter().filter(|entry| entry.key == key);
        entries.find(|entry| is_allowed(entry, table))
    }

    /// Returns the comment about a key or a table.
    fn summary(&self, path: &str, table: &Table) -> Option<String> {
        let key = self.find(path, table).map(described);
        key.or_else(|| self.tables.get(path).cloned())
    }

    /// Returns the keys of a table in the form `{ a = ..., b = ... }`, or None if they are not known.
    fn form(&self, path: &str) -> Option<String> {
        let names = self.keys.iter().filter_map(|entry| {
            let name = entry.key.strip_prefix(path)?.strip_prefix('.')?;
            (!name.contains('.')).then(|| format!("{name} = ..."))
        });
        let names: Vec<String> = names.collect();
        let form = format!("{{ {} }}", names.join(", "));
        let commented = path.rsplit('.').next().unwrap_or(path).chars().count() + "#  = ".len();
        // Several keys do not fit with their values.
        let form = if form.chars().count() + commented <= WIDTH {
            form
        } else {
            form.replace(" = ...", "")
        };
        (!names.is_empty()).then_some(form)
    }

    /// Returns the keys of a table that are not set.
    fn unset(&self, path: &str, table: &Table) -> impl Iterator<Item = &KeyReference> {
        self.keys.iter().filter(move |entry| {
            let (parent, name) = (entry.table(), entry.name());
            // Overrides are listed by `key_reference`; a recipe has few of some hundred.
            let is_override =
                parent.starts_with("model.overrides") || parent.starts_with("model.se");
            parent == path
                && name != "task"
                && !is_override
                && !table.contains_key(name)
                && is_allowed(entry, table)
        })
    }
}

/// Returns whether the values of a table allow a key of it.
fn is_allowed(entry: &KeyReference, table: &Table) -> bool {
    let parent = entry.table();
    let mut of_this_table = entry.only_with.iter().filter_map(|condition| {
        let (key, value) = condition.split_once(" = ")?;
        let name = key.strip_prefix(parent)?.strip_prefix('.')?;
        Some(
            table
                .get(name)
                .is_none_or(|found| found.to_string() == value),
        )
    });
    // Several conditions are alternatives.
    let first = of_this_table.next();
    first.is_none_or(|first| first || of_this_table.any(|allowed| allowed))
}

/// Returns whether a value is written as a table of its own.
fn is_section(value: &Value) -> bool {
    value.as_table().is_some_and(|table| !table.is_empty())
}

fn described(entry: &KeyReference) -> String {
    let values: Vec<&str> = entry
        .values
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    if values.is_empty() {
        entry.summary.clone()
    } else {
        format!("{}: {}", entry.summary, values.join(", "))
    }
}

/// Formats a key with its value. A list or a string that is too long for a line continues on others.
fn assignment(name: &str, value: &Value) -> String {
    let name = quoted_path(name);
    let line = format!("{name} = {value}\n");
    if line.chars().count() <= WIDTH {
        return line;
    }
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| format!("    {item},\n"));
            format!("{name} = [\n{}]\n", items.collect::<String>())
        }
        // In a basic string of several lines, a backslash at the end of a line joins the next one to it.
        Value::String(string) if is_plain(string) => {
            let mut lines = format!("{name} = \"\"\"\\\n");
            let mut line = String::from("    ");
            for word in string.split_inclusive(' ') {
                // The last line ends with three quotes.
                if line.chars().count() + word.chars().count() + 3 > WIDTH {
                    lines += &format!("{line}\\\n");
                    line = String::from("    ");
                }
                line += word;
            }
            lines + &format!("{line}\"\"\"\n")
        }
        _ => line,
    }
}

/// Returns whether a string can be divided between its words, and no character has to be escaped.
fn is_plain(string: &str) -> bool {
    !string.contains(['"', '\\'])
        && !string.contains("  ")
        && !string.starts_with(' ')
        && !string.contains(char::is_control)
}

/// Formats text as the lines of a comment.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        // The line begins with `#`.
        if !line.is_empty() && line.chars().count() + word.chars().count() + 2 > WIDTH {
            lines += &format!("#{line}\n");
            line.clear();
        }
        line.push(' ');
        line += word;
    }
    lines + &format!("#{line}\n")
}

/// Quotes the keys of a path that are not bare keys of TOML.
fn quoted_path(path: &str) -> String {
    let is_bare = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let keys = path.split('.').map(|key| {
        if is_bare(key) {
            key.to_string()
        } else {
            Value::String(key.to_string()).to_string()
        }
    });
    keys.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClassificationConfig, DetectionConfig, RECIPES, Task};

    fn read_back<C: Recipe + JsonSchema + PartialEq + std::fmt::Debug>(
        recipe: &str,
        settings: &[String],
    ) -> String {
        let config = C::load(recipe, settings).unwrap();
        let text = commented(&config).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let read = C::load(file.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!(read, config, "{recipe}:\n{text}");
        text
    }

    #[test]
    fn every_recipe_is_read_back_from_its_commented_form() {
        for (name, task, _) in RECIPES {
            let text = match task {
                Task::Detection => read_back::<DetectionConfig>(name, &[]),
                Task::Classification => read_back::<ClassificationConfig>(name, &[]),
            };
            assert!(text.contains("# Number of epochs\nepochs = "), "{text}");
            let long: Vec<&str> = text
                .lines()
                .filter(|line| line.chars().count() > WIDTH)
                .collect();
            assert_eq!(long, [""; 0], "{name}");
        }
    }

    #[test]
    fn unset_keys_are_comments_and_those_of_other_variants_are_absent() {
        let settings = [
            "train.optimizer.kind=sgd",
            "augment.crop={ probability = 0.5, min_fraction = 0.5 }",
        ];
        let text = read_back::<DetectionConfig>("small", &settings.map(String::from));
        for expected in [
            "\n# max_minutes = ... (number)\n",
            "\nmomentum = 0.9\n",
            "\n[augment.crop]\n",
            "\n# scale_jitter = { min = ..., max = ... }\n",
            "\n# check_memory = true\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
        assert!(!text.contains("betas"), "{text}");
        let place = |part: &str| {
            text.find(part)
                .unwrap_or_else(|| panic!("no {part} in {text}"))
        };
        assert!(place("\n[model]\n") < place("\n[input]\n"));
        assert!(place("\nmin_size = ") < place("\nmax_size = "));
        assert!(place("\nepochs = ") < place("\n# max_minutes = "));
        assert!(place("\n# max_minutes = ") < place("\nlearning_rate = "));
        assert!(place("\nclip_norm = ") < place("\nevaluate_every = "));
        assert!(place("\nevaluate_every = ") < place("\n# patience = "));
        assert!(place("\n# patience = ") < place("\nlog_every = "));
    }

    #[test]
    fn long_values_continue_on_other_lines() {
        let words = "squeeze and excitation ".repeat(8);
        let list: Vec<String> = (0..30).map(|number| format!("{number}.0")).collect();
        let table: Table = format!(
            "s = \"{words}\"\nquoted = '\"{words}'\nl = [{}]",
            list.join(", ")
        )
        .parse()
        .unwrap();
        for (name, value) in &table {
            let text = assignment(name, value);
            let is_divided = text.lines().count() > 1;
            assert_eq!(is_divided, name != "quoted", "{text}");
            let fits = |line: &str| line.chars().count() <= WIDTH;
            assert!(!is_divided || text.lines().all(fits), "{text}");
            let read: Table = text.parse().unwrap();
            assert_eq!(read.get(name), Some(value));
        }
    }
}
