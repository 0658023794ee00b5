//! What a file may have for its own use: merge keys (`<<`) and keys that begin with `x-`.
//!
//! A merge key gives a mapping what an anchor has, as in YAML 1.1. A key that begins with `x-` means nothing, and is the
//! place for anchors; only among names that people give, such as callers' and providers', it is a name like any other.

use std::collections::HashSet;

use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value, join};

const MERGE: &str = "<<";
const EXTENSION: &str = "x-";

/// Applies merge keys; what a mapping has itself counts, and then what comes first.
pub(crate) fn merge(node: &mut Node, problems: &mut Diagnostics) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| merge(item, problems)),
        Value::Map(entries) => {
            // From the leaves up: what is merged has been merged itself.
            for (_, value) in &mut *entries {
                merge(value, problems);
            }
            if !entries.iter().any(|(key, _)| key == MERGE) {
                return;
            }
            let (merged, mut own): (Vec<_>, Vec<_>) = std::mem::take(entries)
                .into_iter()
                .partition(|(key, _)| key == MERGE);
            let mut known: HashSet<String> = own.iter().map(|(key, _)| key.clone()).collect();
            for (_, source) in merged {
                for (key, value) in sources(source, problems) {
                    if known.insert(key.clone()) {
                        let path = join(&node.path, &key);
                        own.push((key, moved(value, path)));
                    }
                }
            }
            *entries = own;
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// The entries that a merge key names: those of a mapping, or of several.
fn sources(source: Node, problems: &mut Diagnostics) -> Vec<(String, Node)> {
    let line = source.line;
    let placed = |(key, mut value): (String, Node)| {
        value.line = value.line.or(line);
        (key, value)
    };
    match source.value {
        Value::Map(entries) => entries.into_iter().map(placed).collect(),
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => items
            .into_iter()
            .flat_map(|item| sources(Node { line, ..item }, problems))
            .collect(),
        _ => {
            let message = "merges mappings alone: write `<<: *anchor`, or `<<: [*one, *other]`";
            problems.add_at(source.path, line, message.to_owned());
            Vec::new()
        }
    }
}

/// The same value elsewhere.
fn moved(mut node: Node, path: String) -> Node {
    match &mut node.value {
        Value::List(items) => {
            for (at, item) in std::mem::take(items).into_iter().enumerate() {
                items.push(moved(item, format!("{path}[{at}]")));
            }
        }
        Value::Map(entries) => {
            for (key, value) in std::mem::take(entries) {
                let path = join(&path, &key);
                entries.push((key, moved(value, path)));
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
    }
    node.path = path;
    node
}

/// Takes out what begins with `x-`, but for names.
pub(crate) fn remove(root: &mut Node) {
    remove_below(root, &mut Vec::new());
}

fn remove_below(node: &mut Node, keys: &mut Vec<String>) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| remove_below(item, keys)),
        Value::Map(entries) => {
            if !are_names(keys) {
                entries.retain(|(key, _)| !key.starts_with(EXTENSION));
            }
            for (key, value) in entries {
                keys.push(key.clone());
                remove_below(value, keys);
                keys.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

/// Whether the keys of the mapping there are names that people give.
fn are_names(keys: &[String]) -> bool {
    let mut path = [""; 4];
    if keys.len() > path.len() {
        return false;
    }
    for (to, key) in path.iter_mut().zip(keys) {
        *to = key;
    }
    matches!(
        path,
        ["callers" | "providers", "", "", ""]
            | ["egress", "rules", "", ""]
            | ["providers", _, "accounts", ""]
            | ["providers", _, "token", "params"]
    )
}

#[cfg(test)]
mod tests;
