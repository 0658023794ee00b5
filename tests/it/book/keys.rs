//! The page of all keys, generated from the JSON schema.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::{Page, is_in_the_tree};

const HEAD: &str = "# Configuration keys

<!-- Generated; BURSAR_WRITE_BOOK=1 cargo test book -->

Every key of `proxy.yaml`, one table for each mapping. `NAME` is a name of your own, and `[]` an entry of a list. A key
without a default is left out, or is required where its meaning says so.
";

/// One mapping of the file.
struct Section {
    /// Its key path; empty for the file itself.
    path: String,
    definition: Value,
}

fn schema() -> Value {
    serde_json::from_str(&Page::read("proxy.schema.json").text).unwrap()
}

/// What a schema refers to, through `null` as an alternative.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return &root["$defs"][reference.rsplit('/').next().unwrap()];
    }
    let alternatives = schema["anyOf"].as_array();
    let alternative = alternatives.and_then(|all| match all.as_slice() {
        [one, null] if null["type"] == "null" => Some(one),
        _ => None,
    });
    alternative.map_or(schema, |one| resolve(one, root))
}

/// The mappings below a schema, each with its key path.
fn mappings(schema: &Value, path: &str, root: &Value, found: &mut Vec<Section>) {
    let schema = resolve(schema, root);
    if schema["properties"].is_object() {
        found.push(Section {
            path: path.to_owned(),
            definition: schema.clone(),
        });
        for (key, value) in schema["properties"].as_object().unwrap() {
            let path = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            mappings(value, &path, root, found);
        }
    }
    if schema["items"].is_object() {
        mappings(&schema["items"], &format!("{path}[]"), root, found);
    }
    if schema["additionalProperties"].is_object() {
        mappings(
            &schema["additionalProperties"],
            &format!("{path}.NAME"),
            root,
            found,
        );
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        mappings(alternative, path, root, found);
    }
}

fn sections() -> (Value, Vec<Section>) {
    let root = schema();
    let mut found = Vec::new();
    mappings(&root, "", &root, &mut found);
    (root, found)
}

/// Every key path, with `NAME` for names and `[]` for entries of lists.
pub(super) fn paths() -> BTreeSet<String> {
    let (_, sections) = sections();
    let mut paths = BTreeSet::new();
    for section in sections {
        for key in section.definition["properties"].as_object().unwrap().keys() {
            let path = format!("{}.{key}", section.path);
            paths.insert(path.trim_start_matches('.').to_owned());
        }
    }
    paths
}

/// What a value is, in words; a mapping is a link to its table.
fn kind(schema: &Value, path: &str, root: &Value) -> String {
    match schema["$ref"]
        .as_str()
        .map(|name| name.trim_start_matches("#/$defs/"))
    {
        Some("Count") => return "whole number".to_owned(),
        Some("Ratio") => return "number from 0 to 1".to_owned(),
        Some("Size") => return "size".to_owned(),
        Some("Time") => return "duration".to_owned(),
        _ => {}
    }
    let resolved = resolve(schema, root);
    if !std::ptr::eq(resolved, schema) && schema["$ref"].is_null() {
        let alternative = &schema["anyOf"][0];
        return kind(alternative, path, root);
    }
    if resolved["properties"].is_object() {
        let anchor = path.replace(['.', '[', ']'], "").to_ascii_lowercase();
        return format!("[mapping](#{anchor})");
    }
    if let Some(values) = words(resolved) {
        let names: Vec<String> = values.iter().map(|(name, _)| format!("`{name}`")).collect();
        return match names.as_slice() {
            [one] => one.clone(),
            names => format!("one of {}", names.join(", ")),
        };
    }
    if let Some(alternatives) = resolved["anyOf"].as_array() {
        let kinds: Vec<String> = alternatives
            .iter()
            .map(|one| kind(one, path, root))
            .collect();
        return kinds.join(" or ");
    }
    let types: Vec<&str> = match &resolved["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    };
    match types.first() {
        Some(&"array") => format!(
            "list of {}",
            kind(&resolved["items"], &format!("{path}[]"), root)
        ),
        Some(&"object") => format!(
            "{} by name",
            kind(
                &resolved["additionalProperties"],
                &format!("{path}.NAME"),
                root
            )
        ),
        Some(&"boolean") => "`true` or `false`".to_owned(),
        Some(&"integer") => "whole number".to_owned(),
        Some(&"string") => "text".to_owned(),
        other => panic!("{path}: {other:?} in {resolved:#}"),
    }
}

/// The words that a value may be, each with its meaning.
fn words(schema: &Value) -> Option<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(words) = schema["enum"].as_array() {
        return Some(
            words
                .iter()
                .map(|word| (text(word), String::new()))
                .collect(),
        );
    }
    let words = schema["oneOf"].as_array()?;
    Some(
        words
            .iter()
            // Each may come from a variable, too.
            .filter(|word| word["const"].is_string())
            .map(|word| (text(&word["const"]), text(&word["description"])))
            .collect(),
    )
}

/// As it is written in the file.
fn yaml(value: &Value, is_inside: bool) -> String {
    let entries = |entries: Vec<String>| entries.join(", ");
    match value {
        Value::Array(values) => format!(
            "[{}]",
            entries(values.iter().map(|value| yaml(value, true)).collect())
        ),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{key}: {}", yaml(value, true)));
            format!("{{{}}}", entries(pairs.collect()))
        }
        Value::String(text) => {
            let is_number = text.parse::<f64>().is_ok();
            let is_special = text.is_empty()
                || text.starts_with('*')
                || (is_inside && text.contains(['{', '*']));
            if is_number || is_special {
                format!("\"{text}\"")
            } else {
                text.clone()
            }
        }
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn row(key: &str, schema: &Value, path: &str, root: &Value) -> String {
    let code = |value: Option<&Value>| {
        value.map_or("–".to_owned(), |value| {
            format!("`{}`", yaml(value, false))
        })
    };
    let mut meaning = one_line(schema["description"].as_str().unwrap_or_default());
    for (word, says) in words(resolve(schema, root)).into_iter().flatten() {
        if !says.is_empty() {
            write!(meaning, " `{word}`: {}", one_line(&says)).unwrap();
        }
    }
    format!(
        "| `{key}` | {} | {} | {} | {meaning} |",
        kind(schema, path, root),
        code(schema.get("default")),
        code(schema["examples"].get(0)),
    )
}

#[test]
fn the_page_of_keys_is_what_the_schema_says() {
    let (root, sections) = sections();
    let mut page = HEAD.to_owned();
    for Section { path, definition } in &sections {
        let title = if path.is_empty() {
            "The file".to_owned()
        } else {
            format!("`{path}`")
        };
        write!(page, "\n## {title}\n\n").unwrap();
        if let Some(text) = definition["description"].as_str() {
            write!(page, "{}\n\n", one_line(text)).unwrap();
        }
        page.push_str("| key | type | default | example | meaning |\n|---|---|---|---|---|\n");
        for (key, schema) in definition["properties"].as_object().unwrap() {
            let path = format!("{path}.{key}");
            let path = path.trim_start_matches('.');
            page.push_str(&row(key, schema, path, &root));
            page.push('\n');
        }
    }
    is_in_the_tree("docs/src/reference/keys.md", &page);
}

#[test]
fn every_key_has_a_meaning_and_either_a_default_or_an_example() {
    let (root, sections) = sections();
    for Section { path, definition } in &sections {
        for (key, schema) in definition["properties"].as_object().unwrap() {
            let says = schema["description"].as_str().unwrap_or_default();
            assert!(says.len() > 15, "{path}.{key}: {says:?}");
            let is_shown = schema.get("default").is_some() || schema["examples"].get(0).is_some();
            // Those have a table of their own, and an example there.
            let is_mapping = kind(schema, "", &root).contains("[mapping]");
            assert!(is_shown || is_mapping, "{path}.{key}");
        }
    }
}
