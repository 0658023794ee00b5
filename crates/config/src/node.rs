//! A tree of the configuration file's values that knows key paths and lines.
//!
//! A value may be a secret, so a message repeats it only where its reader took it for something else; keys are not
//! secrets.

use std::cell::Cell;
use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::diagnostic::Diagnostics;

/// One value of the file and where it stands.
pub(crate) struct Node {
    /// The dotted key path, e.g. `providers.payu.token.url`; empty for the root.
    pub(crate) path: String,
    /// The line it starts on, from 1. None inside of aliases.
    pub(crate) line: Option<usize>,
    pub(crate) value: Value,
    /// Whether a problem was already reported for this node, which takes it out of the typed reading.
    pub(crate) wrong: Cell<bool>,
    /// Whether it holds a variable's value or a file's content.
    pub(crate) is_from_elsewhere: bool,
    /// What the typed reading takes it for.
    pub(crate) taken_for: Cell<TakenFor>,
}

/// What a value is to the one that reads it, which decides whether a message may repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TakenFor {
    /// Nothing yet, or something that it is not.
    #[default]
    Unknown,
    /// A value that is no secret.
    Plain,
    /// A secret.
    Secret,
}

/// What stands for a key that is a list or a mapping.
pub(crate) const NOT_SCALAR: &str = "?";
/// The longest value that a message repeats.
const MAX_SHOWN: usize = 64;

pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// It may be a secret.
    Text(Zeroizing<String>),
    List(Vec<Node>),
    /// All entries, duplicates included.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// It is now known what the value is to its reader; a secret stays one.
    pub(crate) fn take_for(&self, what: TakenFor) {
        if self.taken_for.get() != TakenFor::Secret {
            self.taken_for.set(what);
        }
    }

    /// The value as a message may repeat it: it was read as something that is no secret, stands in the file itself, and
    /// is nothing that could have a password in it.
    pub(crate) fn shown(&self) -> Option<String> {
        if self.taken_for.get() != TakenFor::Plain || self.is_from_elsewhere {
            return None;
        }
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Integer(number) => Some(number.to_string()),
            // With an exponent where it would have many digits.
            Value::Float(number) => Some(format!("{number:?}")),
            Value::Text(text) => {
                let is_short = text.chars().count() <= MAX_SHOWN;
                let is_plain = |char: char| !char.is_control() && !"@?$".contains(char);
                (is_short && text.chars().all(is_plain)).then(|| format!("\"{}\"", **text))
            }
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Its own key.
    pub(crate) fn key(&self) -> &str {
        self.path
            .rsplit_once('.')
            .map_or(&*self.path, |(_, key)| key)
    }

    /// Leaves nothing of a mapping but that key.
    pub(crate) fn retain_key(&mut self, key: &str) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|(name, _)| name == key);
        }
    }

    /// Every node below this one, itself included.
    pub(crate) fn visit(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| item.visit(see)),
            Value::Map(entries) => entries.iter().for_each(|(_, value)| value.visit(see)),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
            }
        }
    }

    /// Replaces every string below this node, see [`super::expand`].
    pub(crate) fn replace_texts(
        &mut self,
        replace: &mut impl FnMut(&str, Place<'_>) -> Option<Zeroizing<String>>,
    ) {
        match &mut self.value {
            Value::Text(text) => {
                let place = Place {
                    path: &self.path,
                    line: self.line,
                };
                match replace(text, place) {
                    Some(replaced) => {
                        // Whatever comes from elsewhere may be a secret, wherever it stands here.
                        self.is_from_elsewhere |= **text != *replaced;
                        *text = replaced;
                    }
                    None => self.wrong.set(true),
                }
            }
            Value::List(items) => items
                .iter_mut()
                .for_each(|item| item.replace_texts(replace)),
            Value::Map(entries) => {
                for (_, value) in entries {
                    value.replace_texts(replace);
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    /// Reports every key that appears twice.
    pub(crate) fn report_duplicates(&self, problems: &mut Diagnostics) {
        self.visit(&mut |node| {
            let Value::Map(entries) = &node.value else {
                return;
            };
            let mut earlier = HashSet::with_capacity(entries.len());
            for (key, value) in entries {
                if !earlier.insert(key) {
                    problems.add_at(
                        value.path.clone(),
                        value.line,
                        "appears twice; keep one of the two".to_owned(),
                    );
                    value.wrong.set(true);
                }
            }
        });
    }

    /// The first node with that path that is not yet wrong; never the root, without which nothing is left to read.
    pub(crate) fn find(&self, path: &str) -> Option<&Self> {
        if !self.path.is_empty() && self.path == path && !self.wrong.get() {
            return Some(self);
        }
        match &self.value {
            Value::List(items) => items.iter().find_map(|item| item.find(path)),
            Value::Map(entries) => entries.iter().find_map(|(_, value)| value.find(path)),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                None
            }
        }
    }
}

/// Where a string stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a str,
    pub(crate) line: Option<usize>,
}

/// The dotted path of a key below `parent`.
pub(crate) fn join(parent: &str, key: &str) -> String {
    // `{client_secret:hunter2}` is a key without a value: what may be one is not repeated.
    let key = match key.split_once(|char: char| char.is_whitespace() || ":=".contains(char)) {
        Some((key, _)) => &format!("{key}…"),
        None => key,
    };
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

impl Value {
    /// A key as text; what is no scalar cannot be a known key, so its text only serves the message.
    pub(crate) fn as_key(&self) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Null => "~".to_owned(),
            Self::List(_) | Self::Map(_) => NOT_SCALAR.to_owned(),
        }
    }
}
