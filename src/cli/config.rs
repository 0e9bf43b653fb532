//! `sedet config`.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use toml::{Table, Value};

use super::hints::{usage, usage_with_hint};
use super::print_out;
use super::terminal::{self, wrapped};
use sedet_core::config::reference::{
    KeyDefault, KeyReference, key_reference, same_name_elsewhere, table_reference,
};
use sedet_core::config::{
    ClassificationConfig, ConfigError, DetectionConfig, RECIPES, Recipe, Task, commented, table_of,
    task_of,
};
use sedet_data::text::did_you_mean;

#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// List the keys of recipes with type, default and meaning
    List(ListArgs),
    /// Print a recipe with all values as commented TOML, for `sedet train --config`
    Show(ShowArgs),
}

const LIST_EXAMPLES: &str = "\
Examples:
  sedet config list
  sedet config list train.optimizer
  sedet config list model.overrides.anchors.sizes";

#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
struct ListArgs {
    /// Key or table, such as train.epochs or augment [default: all keys]
    key: Option<String>,
    /// List the keys of this task only
    #[arg(long)]
    task: Option<TaskName>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  sedet config show small > mine.toml
  sedet config show coco-torchvision --set train.optimizer.kind=adamw
  sedet train --dataset photos/ --config mine.toml";

#[derive(Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
struct ShowArgs {
    /// Recipe name (see docs/configuration.md) or TOML file
    recipe: String,
    /// Override one value of the recipe, such as train.epochs=12; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TaskName {
    Detection,
    Classification,
}

impl From<TaskName> for Task {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Detection => Self::Detection,
            TaskName::Classification => Self::Classification,
        }
    }
}

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let text = match args.command {
        ConfigCommand::List(args) => list(&args)?,
        ConfigCommand::Show(args) => show(&args.recipe, &args.set)?,
    };
    print_out(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Formats a recipe as commented TOML.
fn show(recipe: &str, settings: &[String]) -> Result<String, ConfigError> {
    match task_of(recipe)? {
        Task::Detection => {
            let config = DetectionConfig::load(recipe, settings)?;
            // Settings of the model are checked when the model is described.
            config.detector(1, true)?;
            commented(&config)
        }
        Task::Classification => {
            let config = ClassificationConfig::load(recipe, settings)?;
            config.classifier(1)?;
            commented(&config)
        }
    }
}

/// Formats the keys, or those of one table; a single key with its values in the recipes.
fn list(args: &ListArgs) -> anyhow::Result<String> {
    let all = key_reference();
    let wanted = args
        .key
        .as_deref()
        .unwrap_or_default()
        .trim_end_matches('.');
    let task = args.task.map(Task::from);
    let of_task = |key: &&KeyReference| task.is_none_or(|task| key.tasks.contains(&task));
    let keys: Vec<&KeyReference> = all
        .iter()
        .filter(of_task)
        .filter(|key| is_within(&key.key, wanted))
        .collect();
    if keys.is_empty() {
        let mut known: Vec<&str> = all.iter().map(|key| key.key.as_str()).collect();
        let tables = table_reference();
        known.extend(tables.keys().map(String::as_str));
        return Err(match all.iter().find(|key| is_within(&key.key, wanted)) {
            Some(key) => usage(format!("{wanted} is a key of {} only", names(&key.tasks))),
            None => {
                let suggestion = match same_name_elsewhere(wanted) {
                    Some(elsewhere) => format!(" (did you mean '{elsewhere}'?)"),
                    None => did_you_mean(wanted, &known),
                };
                usage_with_hint(
                    format!("unknown key '{wanted}'{suggestion}"),
                    "`sedet config list` lists all keys",
                )
            }
        });
    }
    if args.json {
        let entries: Vec<serde_json::Value> = keys
            .iter()
            .map(|key| {
                let mut entry = serde_json::to_value(key)?;
                entry["recipes"] = values_in_recipes(key)
                    .into_iter()
                    .map(|(value, recipes)| serde_json::json!({ "value": value, "recipes": recipes }))
                    .collect();
                Ok(entry)
            })
            .collect::<Result<_, serde_json::Error>>()?;
        return Ok(serde_json::to_string_pretty(&entries)?);
    }
    let width = terminal::width();
    if keys.iter().all(|key| key.key == wanted) {
        let details = keys.iter().map(|key| detailed(key, width));
        return Ok(details.collect::<Vec<_>>().join("\n"));
    }
    Ok(overview(&keys, width))
}

/// Returns whether a key is another one or belongs to a table; all belong to the table without a name.
fn is_within(key: &str, table: &str) -> bool {
    let rest = key.strip_prefix(table);
    rest.is_some_and(|rest| table.is_empty() || rest.is_empty() || rest.starts_with('.'))
}

fn names(tasks: &[Task]) -> String {
    let names: Vec<&str> = tasks.iter().map(|task| task.name()).collect();
    names.join(" and ")
}

/// Formats each key with its type and default on one line and its meaning below, by tables.
fn overview(keys: &[&KeyReference], width: usize) -> String {
    let tables = table_reference();
    let mut text = String::new();
    let mut table = None;
    for key in keys {
        let of = key.table();
        if table != Some(of) {
            if table.is_some() {
                text += "\n";
            }
            if !of.is_empty() {
                let summary = tables.get(of).map(String::as_str).unwrap_or_default();
                text += &wrapped(&format!("[{of}] {summary}"), 0, width);
            }
            table = Some(of);
        }
        let kind = format!("{}, {}", key.kind, default_text(key));
        let line = format!("{}: {kind}\n", key.key);
        text += &match line.chars().count() - 1 {
            length if length <= width => line,
            _ => format!("{}:\n{}", key.key, wrapped(&kind, 4, width)),
        };
        text += &wrapped(&meaning(key), 4, width);
    }
    text
}

/// Formats the summary of a key with the task and the values of other keys of its table that it is limited to.
fn meaning(key: &KeyReference) -> String {
    let conditions = key.only_with.iter().filter_map(|condition| {
        let name = condition.strip_prefix(key.table())?.strip_prefix('.')?;
        name.contains(" = ").then(|| name.to_string())
    });
    let conditions: Vec<String> = conditions.collect();
    let mut limits = Vec::new();
    if key.tasks.len() == 1 {
        limits.push(names(&key.tasks));
    }
    if !conditions.is_empty() {
        limits.push(format!("with {}", conditions.join(" or ")));
    }
    if limits.is_empty() {
        key.summary.clone()
    } else {
        format!("{} ({})", key.summary, limits.join("; "))
    }
}

/// Formats everything about one key.
fn detailed(key: &KeyReference, width: usize) -> String {
    let mut text = format!("{}: {}, {}\n", key.key, key.kind, default_text(key));
    let sentence = format!("{}.", key.summary);
    text += &wrapped(&sentence, 4, width);
    if !key.details.is_empty() {
        text += &wrapped(&key.details, 4, width);
    }
    let mut line = |title: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            text += &format!("{title}:\n");
            for entry in entries {
                text += &wrapped(&entry, 4, width);
            }
        }
    };
    let values = key.values.iter().map(|value| {
        if value.summary.is_empty() {
            value.name.clone()
        } else {
            format!("{}: {}", value.name, value.summary)
        }
    });
    line("values", values.collect());
    line("only with", key.only_with.clone());
    line("task", vec![names(&key.tasks)]);
    let recipes = values_in_recipes(key).into_iter();
    let recipes = recipes.map(|(value, recipes)| format!("{value}: {}", recipes.join(", ")));
    line("in the recipes", recipes.collect());
    text
}

fn default_text(key: &KeyReference) -> String {
    match &key.default {
        KeyDefault::Value(value) => format!("default {value}"),
        KeyDefault::Unset => "unset".into(),
        KeyDefault::Recipe => "set by recipes".into(),
        KeyDefault::Required => "required".into(),
        KeyDefault::Model => "from the model".into(),
    }
}

/// Returns the values that recipes have for a key, each with the names of the recipes.
fn values_in_recipes(key: &KeyReference) -> Vec<(String, Vec<&'static str>)> {
    let mut values: Vec<(String, Vec<&'static str>)> = Vec::new();
    for (name, task, _) in RECIPES {
        let value = key.tasks.contains(&task).then(|| resolved(name, task));
        let Some(value) = value.flatten().and_then(|table| value_at(&table, &key.key)) else {
            continue;
        };
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, recipes)) => recipes.push(name),
            None => values.push((value, vec![name])),
        }
    }
    values
}

/// Returns a recipe with the whole model in the place of the overrides.
fn resolved(recipe: &str, task: Task) -> Option<Table> {
    let (mut table, model) = match task {
        Task::Detection => {
            let config = DetectionConfig::load(recipe, &[]).ok()?;
            let detector = config.detector(1, true).ok()?;
            (table_of(&config).ok()?, table_of(&detector).ok()?)
        }
        Task::Classification => {
            let config = ClassificationConfig::load(recipe, &[]).ok()?;
            let classifier = config.classifier(1).ok()?;
            (table_of(&config).ok()?, table_of(&classifier).ok()?)
        }
    };
    let section = table.get_mut("model")?.as_table_mut()?;
    if let Some(se) = model
        .get("backbone")
        .and_then(|backbone| backbone.get("se"))
    {
        section.insert("se".into(), se.clone());
    }
    section.insert("overrides".into(), Value::Table(model));
    table.insert("task".into(), Value::String(task.name().into()));
    Some(table)
}

/// Returns the value of a key in TOML, if the table has it.
fn value_at(table: &Table, key: &str) -> Option<String> {
    // The number of classes is that of the dataset.
    if key == "model.overrides.num_classes" {
        return None;
    }
    let mut keys = key.split('.');
    let first = table.get(keys.next()?)?;
    let value = keys.try_fold(first, |value, key| value.get(key))?;
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::environment;

    fn keys(key: &str) -> Result<String, String> {
        let args = ListArgs {
            key: Some(key.into()),
            task: None,
            json: false,
        };
        list(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn one_key_is_listed_with_its_values_in_the_recipes() {
        let text = keys("train.optimizer.kind").unwrap();
        assert!(
            text.starts_with("train.optimizer.kind: string, set by recipes\n"),
            "{text}"
        );
        assert!(text.contains("    adamw: `torch.optim.AdamW`"), "{text}");
        assert!(text.contains("\"adamw\": shapes"), "{text}");
        let text = keys("model.overrides.anchors.sizes").unwrap();
        assert!(
            text.contains("[32.0, 64.0, 128.0, 256.0, 512.0]: coco"),
            "{text}"
        );
    }

    #[test]
    fn a_table_is_listed_within_80_columns() {
        let text = keys("train").unwrap();
        assert!(
            text.contains("train.epochs: integer, set by recipes\n    Number of epochs\n"),
            "{text}"
        );
        let all = overview(&key_reference().iter().collect::<Vec<_>>(), 80);
        let long: Vec<&str> = all
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        assert_eq!(long, [""; 0]);
        let momentum = "Factor of the old velocity (with kind = \"sgd\")";
        assert!(all.contains(momentum), "{all}");
    }

    #[test]
    fn an_unknown_key_is_answered_with_a_similar_one() {
        let message = keys("train.epoch").unwrap_err();
        assert_eq!(
            message,
            "unknown key 'train.epoch' (did you mean 'train.epochs'?)"
        );
        assert_eq!(
            keys("optimizer").unwrap_err(),
            "unknown key 'optimizer' (did you mean 'train.optimizer'?)"
        );
    }

    #[test]
    fn a_recipe_that_is_shown_has_the_settings() {
        let text = show("small", &["train.epochs=7".into()]).unwrap();
        assert!(text.contains("\nepochs = 7\n"), "{text}");
        let wrong = show("small", &["model.overrides.rpn.nms=1".into()]);
        assert!(
            wrong
                .unwrap_err()
                .to_string()
                .contains("model.overrides.rpn.nms")
        );
        assert!(
            show("smal", &[])
                .unwrap_err()
                .to_string()
                .contains("did you mean 'small'?")
        );
    }

    /// Escapes what ends a cell of a Markdown table.
    fn cell(text: &str) -> String {
        text.replace('|', "\\|")
    }

    /// Generates `docs/configuration.md`.
    fn document() -> String {
        let mut text = String::from(
            "# Configuration\n\n\
             <!-- Generated: UPDATE_DOCS=1 cargo test --release -p sedet --bins configuration -->\n\n\
             A training run is configured by a recipe: a TOML file, or the name of a recipe that is part of sedet.\n\
             `--set KEY=VALUE` changes single values.\n\n\
             ```console\n\
             $ sedet config list                        # every key with type, default and meaning\n\
             $ sedet config list train.optimizer        # the keys of one table\n\
             $ sedet config show small > mine.toml      # a recipe as a commented file to start from\n\
             $ sedet train --dataset photos/ --config mine.toml --set train.epochs=20\n\
             ```\n\n\
             An unknown key or a value of the wrong type is an error. A setting that selects another `kind` of a table, such\n\
             as the optimizer, drops the recipe's other keys of that table: they were chosen for the other kind.\n\n\
             ## Recipes\n\n| recipe | task | source of the numbers |\n|---|---|---|\n",
        );
        for (name, task, _) in RECIPES {
            let source = match task {
                Task::Detection => DetectionConfig::load(name, &[]).unwrap().source,
                Task::Classification => ClassificationConfig::load(name, &[]).unwrap().source,
            };
            text += &format!("| `{name}` | {} | {} |\n", task.name(), cell(&source));
        }
        text += "\n## Keys\n\nWithout a task in brackets, a key belongs to recipes of both tasks. Keys below \
                 `model.overrides` change\nthe model itself, whose values are those of `model.preset` and \
                 `model.backbone`.\n";
        let tables = table_reference();
        let mut table = None;
        let keys = key_reference();
        for key in &keys {
            let of = key.table();
            if table != Some(of) {
                let title = if of.is_empty() { "top level" } else { of };
                text += &format!("\n### {title}\n\n");
                if let Some(summary) = tables.get(of) {
                    text += &format!("{summary}.\n\n");
                }
                text += "| key | type | default | meaning |\n|---|---|---|---|\n";
                table = Some(of);
            }
            let mut meaning = meaning(key);
            if !key.values.is_empty() {
                let values = key.values.iter().map(|value| format!("`{}`", value.name));
                meaning += &format!(": {}", values.collect::<Vec<_>>().join(", "));
            }
            let default = match &key.default {
                KeyDefault::Value(value) => format!("`{value}`"),
                _ => default_text(key),
            };
            let cells = [&key.kind, &default, &meaning].map(|text| cell(text));
            text += &format!("| `{}` | {} |\n", key.key, cells.join(" | "));
        }
        text += "\n## Environment variables\n\n| variable | meaning |\n|---|---|\n";
        for (name, meaning) in environment::VARIABLES {
            text += &format!("| `{name}` | {} |\n", cell(meaning));
        }
        text
    }

    #[test]
    fn the_document_of_the_configuration_is_generated() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        let expected = document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = written.lines().zip(expected.lines()).find(|(a, b)| a != b);
        assert!(
            written == expected,
            "docs/configuration.md is out of date; first difference: {differs:?}; renew it with UPDATE_DOCS=1"
        );
    }
}
