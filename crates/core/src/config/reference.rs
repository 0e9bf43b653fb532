//! The reference of all keys of recipes, derived from the types of the configuration.
//!
//! Types, allowed values, defaults and descriptions come from the JSON schemas of the types, whose
//! descriptions are the doc comments. So the reference cannot differ from the code; the doc comments of
//! configuration fields are written for users.

use std::collections::{BTreeMap, HashMap};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{ClassificationConfig, DetectionConfig, Recipe, Task};

/// A key of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyReference {
    /// The whole path, such as `train.epochs`.
    pub key: String,
    /// The tasks whose recipes have the key.
    pub tasks: Vec<Task>,
    /// The type in terms of TOML, such as `list of 2 numbers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value of recipes without the key.
    pub default: KeyDefault,
    /// The first sentence of the description.
    pub summary: String,
    /// The rest of the description.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// The allowed values with their meaning, where they are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<NamedValue>,
    /// The values of other keys with which this key is allowed, such as `train.optimizer.kind = "sgd"`, and the
    /// optional tables that it belongs to; empty if it is always allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_with: Vec<String>,
}

impl KeyReference {
    /// Returns the path of the table that the key belongs to; empty for keys at the top.
    pub fn table(&self) -> &str {
        self.key.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// Returns the name of the key in its table.
    pub fn name(&self) -> &str {
        self.key
            .rsplit_once('.')
            .map_or(&self.key, |(_, name)| name)
    }
}

/// The value of a recipe that does not have a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyDefault {
    /// This value, in TOML.
    Value(String),
    /// None: what the key controls is disabled or follows from other keys.
    Unset,
    /// Every recipe has the key.
    Recipe,
    /// The table that the key belongs to, or the value of another key, requires it.
    Required,
    /// The value of the preset or the backbone.
    Model,
}

/// An allowed value of a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedValue {
    /// The value, as in TOML without quotes.
    pub name: String,
    /// The first sentence of its description.
    pub summary: String,
}

/// The prefix of keys that override fields of the model.
const OVERRIDES: &str = "model.overrides.";

/// Returns the path of a key or a table of recipes with the name of this one, but in another table.
pub fn same_name_elsewhere(path: &str) -> Option<String> {
    let name = path.rsplit('.').next()?;
    // What training imports from weights is not set by users.
    let is_it = |known: &str| {
        known != path && known.rsplit('.').next() == Some(name) && !known.contains(".imported_")
    };
    let keys = key_reference().into_iter().map(|key| key.key);
    let known = keys.chain(table_reference().into_keys());
    // The shortest path is the most general one.
    known
        .filter(|known| is_it(known))
        .min_by_key(|known| known.matches('.').count())
}

/// Returns the keys of the recipes of both tasks, by table. A key with another meaning for the
/// other task, or for another value of the key that it depends on, appears several times.
pub fn key_reference() -> Vec<KeyReference> {
    let mut keys = vec![KeyReference {
        key: "task".into(),
        tasks: vec![Task::Detection, Task::Classification],
        kind: "string".into(),
        default: KeyDefault::Value("\"detection\"".into()),
        summary: "The task of the recipe".into(),
        details: String::new(),
        values: [
            (Task::Detection, "Trains a detector"),
            (Task::Classification, "Trains a classifier"),
        ]
        .map(|(task, summary)| NamedValue {
            name: task.name().into(),
            summary: summary.into(),
        })
        .to_vec(),
        only_with: Vec::new(),
    }];
    for key in keys_of::<DetectionConfig>()
        .into_iter()
        .chain(keys_of::<ClassificationConfig>())
    {
        let is_same = |known: &&mut KeyReference| {
            known.key == key.key
                && known.kind == key.kind
                && known.default == key.default
                && known.summary == key.summary
                && known.values == key.values
        };
        match keys.iter_mut().find(is_same) {
            Some(known) => {
                for task in key.tasks {
                    if !known.tasks.contains(&task) {
                        known.tasks.push(task);
                    }
                }
                for condition in key.only_with {
                    if !known.only_with.contains(&condition) {
                        known.only_with.push(condition);
                    }
                }
            }
            None => keys.push(key),
        }
    }
    // By table, so that the keys of a table are not interrupted by those of a table in it.
    let order = KeyOrder::of_all();
    keys.sort_by_cached_key(|key| (order.of_path(key.table()), order.of_path(&key.key)));
    keys
}

/// The order of keys: by table as the types declare them.
#[derive(Debug, Default)]
pub(super) struct KeyOrder(HashMap<String, usize>);

impl KeyOrder {
    /// Returns the order of the keys of one task.
    pub(super) fn of_task<C: JsonSchema>() -> Self {
        let mut order = Self::default();
        order.add::<C>();
        order
    }

    /// Returns the order of the keys of both tasks.
    fn of_all() -> Self {
        let mut order = Self::default();
        order.add::<DetectionConfig>();
        order.add::<ClassificationConfig>();
        order
    }

    /// Adds the keys of a type. In the schema of what is written, `required` has the keys that are always written, in the
    /// order of the declaration; the properties are sorted by name. Fields that are not written at their default
    /// therefore have `#[schemars(!skip_serializing_if)]`.
    fn add<C: JsonSchema>(&mut self) {
        let settings = SchemaSettings::default().for_serialize();
        let schema = settings.into_generator().into_root_schema_for::<C>();
        let schema = schema.to_value();
        self.walk("", &schema, &schema["$defs"]);
    }

    fn walk(&mut self, path: &str, schema: &Value, definitions: &Value) {
        let (schema, _) = not_null(schema);
        let name = schema["$ref"].as_str();
        if let Some(name) = name.and_then(|name| name.strip_prefix("#/$defs/")) {
            return self.walk(path, &definitions[name], definitions);
        }
        for variant in schema["oneOf"].as_array().into_iter().flatten() {
            self.walk(path, variant, definitions);
        }
        // The key that selects a variant comes first.
        let properties = || schema["properties"].as_object().into_iter().flatten();
        for (name, _) in properties().filter(|(_, property)| property.get("const").is_some()) {
            self.0.entry(join(path, name)).or_insert(0);
        }
        let required = schema["required"].as_array().into_iter().flatten();
        for (position, name) in (1..).zip(required.filter_map(Value::as_str)) {
            self.0.entry(join(path, name)).or_insert(position);
        }
        for (name, property) in properties() {
            self.walk(&join(path, name), property, definitions);
        }
    }

    /// Returns a value by which paths are sorted: the position and the name of each part.
    pub(super) fn of_path(&self, path: &str) -> Vec<(usize, String)> {
        if path.is_empty() {
            return Vec::new();
        }
        let ends = path.match_indices('.').map(|(end, _)| end);
        ends.chain([path.len()])
            .map(|end| {
                let within = &path[..end];
                let name = within.rsplit('.').next().unwrap_or_default();
                let position = self.0.get(within).copied().unwrap_or(usize::MAX);
                (position, name.to_string())
            })
            .collect()
    }
}

/// Returns the descriptions of tables by path, such as `train`.
pub fn table_reference() -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    for walk in [walk::<DetectionConfig>(), walk::<ClassificationConfig>()] {
        for (path, summary) in walk.tables {
            tables.entry(path).or_insert(summary);
        }
    }
    tables
}

fn keys_of<C: Recipe + JsonSchema>() -> Vec<KeyReference> {
    walk::<C>().keys
}

fn walk<C: Recipe + JsonSchema>() -> Walk {
    let schema = schema_for!(C).to_value();
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let mut walk = Walk {
        task: C::TASK,
        definitions,
        keys: Vec::new(),
        tables: Vec::new(),
    };
    walk.properties("", &schema, &[], None);
    walk
}

/// A walk through the schema of a configuration.
struct Walk {
    task: Task,
    definitions: Map<String, Value>,
    keys: Vec<KeyReference>,
    tables: Vec<(String, String)>,
}

/// The entry of a key in the schema of its table.
struct Property<'a> {
    path: String,
    schema: &'a Value,
    default: Option<&'a Value>,
    is_required: bool,
    only_with: &'a [String],
}

impl Walk {
    /// Replaces a reference to a type by the type's schema.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str();
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        match name.and_then(|name| self.definitions.get(name)) {
            Some(found) => self.resolved(found),
            None => schema,
        }
    }

    /// Adds the keys of a table. `defaults` is the table in recipes that do not have it.
    fn properties(
        &mut self,
        path: &str,
        table: &Value,
        only_with: &[String],
        defaults: Option<&Value>,
    ) {
        let Some(properties) = table["properties"].as_object() else {
            return;
        };
        for (name, schema) in properties {
            // The value that selects a variant is added with the variants.
            if schema.get("const").is_some() {
                continue;
            }
            let required = table["required"].as_array();
            self.add(Property {
                path: join(path, name),
                schema,
                default: schema
                    .get("default")
                    .or_else(|| defaults.and_then(|defaults| defaults.get(name))),
                is_required: required.is_some_and(|names| names.iter().any(|n| n == name)),
                only_with,
            });
        }
    }

    fn add(&mut self, property: Property<'_>) {
        let (schema, is_optional) = not_null(property.schema);
        let target = self.resolved(schema).clone();
        let description = [property.schema, schema, &target]
            .into_iter()
            .find_map(|schema| schema["description"].as_str());
        let (summary, details) = plain(description.unwrap_or_default());
        let path = property.path.clone();
        let mut entry = KeyReference {
            key: path.clone(),
            tasks: vec![self.task],
            kind: kind(&target),
            default: default_of(&property, &target, is_optional),
            summary: summary.clone(),
            details,
            values: Vec::new(),
            only_with: property.only_with.to_vec(),
        };
        let Some(variants) = target["oneOf"].as_array() else {
            if target["properties"].is_object() {
                let mut only_with = property.only_with.to_vec();
                if is_optional {
                    self.keys.push(entry);
                    only_with.push(path.clone());
                } else {
                    self.tables.push((path.clone(), summary));
                }
                self.properties(&path, &target, &only_with, property.default);
            } else {
                entry.values = strings(&target["enum"]);
                self.keys.push(entry);
            }
            return;
        };
        match tag(variants) {
            // A table whose other keys depend on one of its values.
            Some(tag) => {
                if is_optional {
                    self.keys.push(entry.clone());
                } else {
                    self.tables.push((path.clone(), summary));
                }
                let key = join(&path, &tag);
                entry.key.clone_from(&key);
                entry.kind = "string".into();
                entry.default = match &entry.default {
                    KeyDefault::Value(_) => {
                        let value = property.default.and_then(|default| default.get(&tag));
                        value.map_or(KeyDefault::Unset, |value| {
                            KeyDefault::Value(value.to_string())
                        })
                    }
                    other => other.clone(),
                };
                entry.values = variants
                    .iter()
                    .map(|variant| NamedValue {
                        name: text(&variant["properties"][&tag]["const"]),
                        summary: summary_of(variant),
                    })
                    .collect();
                self.keys.push(entry);
                for variant in variants {
                    let value = &variant["properties"][&tag]["const"];
                    let mut only_with = property.only_with.to_vec();
                    only_with.push(format!("{key} = {value}"));
                    self.properties(&path, variant, &only_with, None);
                }
            }
            // Names, some of which have values.
            None => {
                entry.values = variants.iter().flat_map(named_values).collect();
                self.keys.push(entry);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

/// Returns the schema of an optional value without the alternative null, and whether there was one.
fn not_null(schema: &Value) -> (&Value, bool) {
    let is_null = |schema: &Value| schema["type"] == "null";
    match schema["anyOf"].as_array().map(Vec::as_slice) {
        Some([inner, null]) if is_null(null) => (inner, true),
        _ => {
            let types = schema["type"].as_array();
            (
                schema,
                types.is_some_and(|types| types.iter().any(|t| t == "null")),
            )
        }
    }
}

/// Returns the property whose value selects a variant: all variants have it, each with another constant.
fn tag(variants: &[Value]) -> Option<String> {
    let first = variants.first()?["properties"].as_object()?;
    let is_tag = |name: &&String| {
        variants
            .iter()
            .all(|variant| variant["properties"][name.as_str()].get("const").is_some())
    };
    first.keys().find(is_tag).cloned()
}

/// Returns the default of a key.
fn default_of(property: &Property<'_>, target: &Value, is_optional: bool) -> KeyDefault {
    if property.path.starts_with(OVERRIDES) {
        return KeyDefault::Model;
    }
    match property.default {
        Some(Value::Null) => KeyDefault::Unset,
        Some(value) => KeyDefault::Value(toml_of(value, target)),
        None if is_optional || !property.is_required => KeyDefault::Unset,
        None if property.path.starts_with("model.se.") => KeyDefault::Model,
        None if property.only_with.is_empty() => KeyDefault::Recipe,
        None => KeyDefault::Required,
    }
}

/// Formats a value as TOML.
fn toml_of(value: &Value, schema: &Value) -> String {
    let is_single = |schema: &Value| schema["format"] == "float";
    match value {
        // A single-precision number has fewer digits than JSON's.
        Value::Number(number) if is_single(schema) => match number.as_f64() {
            Some(number) => format!("{:?}", number as f32),
            None => number.to_string(),
        },
        Value::Array(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|value| toml_of(value, &schema["items"]))
                .collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(_) => match toml::Value::try_from(value) {
            Ok(table) => table.to_string(),
            Err(_) => value.to_string(),
        },
        _ => value.to_string(),
    }
}

/// Returns the name of a type in TOML.
fn kind(schema: &Value) -> String {
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().find(|t| *t != "null"),
        other => Some(other),
    };
    match types.and_then(Value::as_str) {
        Some("integer") => "integer".into(),
        Some("number") => "number".into(),
        Some("boolean") => "boolean".into(),
        Some("string") => "string".into(),
        Some("array") => {
            let items = kind(&schema["items"]);
            match schema["minItems"].as_u64() {
                Some(count) if schema["maxItems"].as_u64() == Some(count) => {
                    format!("list of {count} {items}s")
                }
                _ => format!("list of {items}s"),
            }
        }
        _ => match schema["oneOf"].as_array() {
            Some(variants) if variants.iter().all(|v| v["type"] == "string") => "string".into(),
            Some(variants) if variants.iter().any(|v| v["type"] == "string") => {
                "string or table".into()
            }
            _ => "table".into(),
        },
    }
}

/// Returns the names of a variant that is a string, or the form of one with values, such as
/// `{ smooth_l1 = { beta = number } }`.
fn named_values(variant: &Value) -> Vec<NamedValue> {
    let summary = summary_of(variant);
    if let Some(name) = variant["const"].as_str() {
        return vec![NamedValue {
            name: name.into(),
            summary,
        }];
    }
    if variant["enum"].is_array() {
        return strings(&variant["enum"]);
    }
    let form = |schema: &Value| match schema["properties"].as_object() {
        Some(properties) => {
            let fields: Vec<String> = properties
                .iter()
                .map(|(name, schema)| format!("{name} = {}", kind(schema)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        None => kind(schema),
    };
    let properties = variant["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| NamedValue {
            name: format!("{{ {name} = {} }}", form(schema)),
            summary: summary.clone(),
        })
        .collect()
}

fn strings(names: &Value) -> Vec<NamedValue> {
    let names = names.as_array().into_iter().flatten();
    names
        .filter(|name| !name.is_null())
        .map(|name| NamedValue {
            name: text(name),
            summary: String::new(),
        })
        .collect()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), String::from)
}

fn summary_of(schema: &Value) -> String {
    plain(schema["description"].as_str().unwrap_or_default()).0
}

/// Splits a doc comment into its first sentence, without the full stop, and the rest, both as plain text.
fn plain(comment: &str) -> (String, String) {
    let words: Vec<&str> = comment.split_whitespace().collect();
    let text = without_links(&words.join(" "));
    // A full stop is followed by a new sentence, unless it is that of an abbreviation.
    let is_end = |at: &usize| {
        let next = text[at + 2..].chars().next();
        let before = text[..*at].rsplit(' ').next().unwrap_or_default();
        next.is_some_and(|c| !c.is_lowercase()) && before != "al" && before != "etc"
    };
    let ends = text.match_indices(". ").map(|(at, _)| at);
    let end = ends.into_iter().find(is_end);
    match end {
        Some(end) => (text[..end].to_string(), text[end + 2..].to_string()),
        None => (text.trim_end_matches('.').to_string(), String::new()),
    }
}

/// Replaces links by their text, and `<https://...>` by the address.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['[', '`', '<']) {
        let (before, link) = rest.split_at(at);
        plain += before;
        let (shown, after) = match link.as_bytes() {
            [b'`', ..] => match link[1..].find('`') {
                // Brackets in code are no links.
                Some(end) => link.split_at(end + 2),
                None => link.split_at(1),
            },
            [b'<', ..] if link.starts_with("<http") => match link.split_once('>') {
                Some((address, after)) => (&address[1..], after),
                None => link.split_at(1),
            },
            [b'[', ..] => match link.split_once(']') {
                Some((name, after)) => {
                    let target = after.strip_prefix('(').and_then(|t| t.split_once(')'));
                    (&name[1..], target.map_or(after, |(_, after)| after))
                }
                None => link.split_at(1),
            },
            _ => link.split_at(1),
        };
        plain += shown;
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use toml::Table;

    use super::*;
    use crate::config::RECIPES;

    /// Calls `visit` with the path and the value of every key that is not a table.
    fn leaves(path: &str, table: &Table, visit: &mut dyn FnMut(&str, &toml::Value)) {
        for (name, value) in table {
            let path = join(path, name);
            match value {
                toml::Value::Table(inner) => leaves(&path, inner, visit),
                _ => visit(&path, value),
            }
        }
    }

    fn table_of<C: Recipe>(recipe: &str, settings: &[String]) -> Option<Table> {
        let config = C::load(recipe, settings).ok()?;
        Table::try_from(&config).ok()
    }

    #[test]
    fn every_key_of_every_recipe_is_in_the_reference() {
        let keys = key_reference();
        let mut count = 0;
        for (name, task, _) in RECIPES {
            let table = match task {
                Task::Detection => table_of::<DetectionConfig>(name, &[]),
                Task::Classification => table_of::<ClassificationConfig>(name, &[]),
            };
            leaves("", &table.unwrap(), &mut |path, _| {
                count += 1;
                // Such as `model.overrides.rpn.box_loss.smooth_l1.beta`, a value of `rpn.box_loss`.
                let is_value_of = |key: &str| {
                    key == path || (key.starts_with(OVERRIDES) && path.starts_with(key))
                };
                let known = keys
                    .iter()
                    .any(|key| key.tasks.contains(&task) && is_value_of(&key.key));
                assert!(known, "{path} of {name}");
            });
        }
        assert!(count > 300, "{count}");
    }

    #[test]
    fn keys_have_the_order_of_the_types() {
        let keys = key_reference();
        let of_table = |table: &str| -> Vec<String> {
            let keys = keys.iter().filter(|key| key.table() == table);
            keys.map(|key| key.name().to_string()).collect()
        };
        let train = of_table("train");
        assert_eq!(train[..3], ["epochs", "max_iterations", "max_minutes"]);
        let patience = train.iter().position(|name| name == "patience").unwrap();
        assert_eq!(train[patience - 2], "evaluate_every", "{train:?}");
        assert_eq!(train.last().unwrap(), "check_memory", "{train:?}");
        let input = of_table("input");
        let place = |name: &str| input.iter().position(|key| key == name).unwrap();
        assert!(place("min_size") < place("max_size"), "{input:?}");
        let optimizer = of_table("train.optimizer");
        assert_eq!(optimizer[0], "kind", "{optimizer:?}");
        let mut tables: Vec<&str> = keys.iter().map(KeyReference::table).collect();
        tables.dedup();
        assert_eq!(tables[..2], ["", "model"]);
        let all = tables.len();
        tables.sort_unstable();
        tables.dedup();
        assert_eq!(tables.len(), all, "no table is interrupted");
        let order = KeyOrder::of_all();
        for key in keys.iter().filter(|key| key.key != "task") {
            let place = order.of_path(&key.key).pop();
            let is_declared = place.is_some_and(|(position, _)| position < usize::MAX);
            assert!(
                is_declared,
                "{}: #[schemars(!skip_serializing_if)]",
                key.key
            );
        }
    }

    #[test]
    fn every_key_has_a_description() {
        for key in key_reference() {
            let KeyReference { key, summary, .. } = key;
            assert!(!summary.is_empty(), "{key}");
            assert!(
                !summary.contains("::") && !summary.contains("](") && !summary.contains("serde"),
                "{key}: {summary}"
            );
        }
    }

    /// Returns whether a recipe allows a key.
    fn is_allowed(key: &KeyReference, table: &Table) -> bool {
        let value_at = |path: &str| {
            let mut keys = path.split('.');
            let first = table.get(keys.next()?)?;
            keys.try_fold(first, |value, key| value.get(key))
        };
        let holds = |condition: &String| match condition.split_once(" = ") {
            Some((path, value)) => value_at(path).is_some_and(|found| found.to_string() == value),
            None => value_at(condition).is_some(),
        };
        key.only_with.is_empty() || key.only_with.iter().any(holds)
    }

    /// Checks that a recipe with a key at its default equals the recipe without the key, and returns whether the
    /// recipe can have the key.
    fn check_default<C: Recipe>(recipe: &str, key: &KeyReference, default: &str) -> bool {
        let Some(table) = table_of::<C>(recipe, &[]) else {
            return false;
        };
        if !is_allowed(key, &table) {
            return false;
        }
        let mut without = toml::Value::Table(table);
        let mut parts = key.table().split('.');
        let Some(at) = parts.try_fold(&mut without, |at, part| at.get_mut(part)) else {
            return false;
        };
        if let Some(inner) = at.as_table_mut() {
            inner.remove(key.name());
        }
        let without: Result<C, _> = without.try_into();
        let Ok(without) = without else {
            return false;
        };
        let set = table_of::<C>(recipe, &[format!("{}={default}", key.key)]);
        assert_eq!(Table::try_from(&without).ok(), set, "{recipe}: {}", key.key);
        true
    }

    #[test]
    fn defaults_are_those_of_recipes_without_the_key() {
        let mut checked = BTreeSet::new();
        for key in key_reference() {
            let KeyDefault::Value(default) = &key.default else {
                continue;
            };
            if key.key.starts_with(OVERRIDES) || key.key == "task" {
                continue;
            }
            for (recipe, task, _) in RECIPES {
                let done = key.tasks.contains(&task)
                    && match task {
                        Task::Detection => check_default::<DetectionConfig>(recipe, &key, default),
                        Task::Classification => {
                            check_default::<ClassificationConfig>(recipe, &key, default)
                        }
                    };
                if done {
                    checked.insert(key.key.clone());
                }
            }
        }
        for key in [
            "augment.horizontal_flip",
            "train.check_memory",
            "loader.keep_empty",
            "model.recompute",
            "loss.label_smoothing",
            "input.interpolation",
        ] {
            assert!(checked.contains(key), "{key} is not among {checked:?}");
        }
    }

    #[test]
    fn values_and_conditions_of_the_optimizer_are_those_of_its_variants() {
        let keys = key_reference();
        let find = |name: &'static str| keys.iter().filter(move |key| key.key == name);
        let kind = find("train.optimizer.kind").next().unwrap();
        let values: Vec<&str> = kind.values.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(values, ["sgd", "adamw"]);
        assert_eq!(kind.tasks, [Task::Detection, Task::Classification]);
        let momentum = find("train.optimizer.momentum").next().unwrap();
        assert_eq!(momentum.only_with, ["train.optimizer.kind = \"sgd\""]);
        let anchors = find("model.overrides.anchors.sizes").next().unwrap();
        assert_eq!(
            (anchors.kind.as_str(), &anchors.default),
            ("list of numbers", &KeyDefault::Model)
        );
        let gate = find("model.se.gate").next().unwrap();
        assert_eq!(gate.default, KeyDefault::Value("\"sigmoid\"".into()));
        assert_eq!(find("augment.crop").count(), 1, "optional for detectors");
    }

    #[test]
    fn comments_become_plain_sentences() {
        for (comment, summary, details) in [
            ("Number of\nepochs.", "Number of epochs", ""),
            (
                "A ratio, see [`X`](a::X) and [`Y`] in `[a, b]`. More of it.\n\nAnd more.",
                "A ratio, see `X` and `Y` in `[a, b]`",
                "More of it. And more.",
            ),
            (
                "Smoothing (Szegedy et al. 2016), e.g. here.",
                "Smoothing (Szegedy et al. 2016), e.g. here",
                "",
            ),
            ("As in <https://a.b/c>.", "As in https://a.b/c", ""),
        ] {
            assert_eq!(plain(comment), (summary.to_string(), details.to_string()));
        }
    }
}
