//! Typed reading of a [`Node`] tree with serde, in which no error hides another.
//!
//! serde stops at the first error, so the reading is repeated, each time without the part that was wrong, until it
//! succeeds. That yields every problem in one run. A value may be a secret: what is read as one, or comes from elsewhere,
//! is never repeated, and nor is what is read as nothing; keys are not secrets.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use crate::diagnostic::Diagnostics;
use crate::known_keys::UnknownKey;
use crate::node::{NOT_SCALAR, Node, TakenFor, Value};
use bursar_base::spelling::nearest;

/// Beyond that many problems the rest is not looked for, which is said.
const MAX_PROBLEMS: usize = 100;

/// The name by which a type says that its value is a secret, which no message repeats.
pub(crate) const SECRET: &str = "bursar secret";

/// Reads the tree as `T`, reporting everything that does not fit.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    root: &'de Node,
    problems: &mut Diagnostics,
) -> Option<T> {
    for _ in 0..MAX_PROBLEMS {
        let error = match T::deserialize(root) {
            Ok(value) => {
                learn_values(root, problems);
                return Some(value);
            }
            Err(error) => error,
        };
        let (path, line) = error.at.unwrap_or_default();
        let node = root.find(&path);
        if let Some(given) = node.and_then(Node::shown) {
            problems.learn_value(&path, given);
        }
        problems.add_given(&path, line, error.message);
        if let Some(meant) = error.meant {
            problems.supersede(meant);
        }
        node?.wrong.set(true);
    }
    problems.add_at(
        String::new(),
        None,
        format!("has {MAX_PROBLEMS} problems or more; mend these, and check again for the rest"),
    );
    None
}

/// What later problems may repeat.
fn learn_values(root: &Node, problems: &mut Diagnostics) {
    root.visit(&mut |node| {
        if let Some(given) = node.shown() {
            problems.learn_value(&node.path, given);
        }
    });
}

fn kind(node: &Node, is_text_due: bool) -> &'static str {
    match &node.value {
        Value::Null => "has no value",
        Value::Bool(_) => "is true or false",
        Value::Integer(_) | Value::Float(_) if is_text_due => {
            "is a number (put quotes around it to make it text)"
        }
        Value::Integer(_) | Value::Float(_) => "is a number",
        Value::Text(_) => "is text",
        Value::List(_) => "is a list",
        Value::Map(entries) if is_template(entries) => {
            "is a template that nothing has filled in (`{{…}}`)"
        }
        Value::Map(_) => "is a mapping",
    }
}

/// Whether YAML read `{{ name }}`: a mapping whose key is one.
fn is_template(entries: &[(String, Node)]) -> bool {
    matches!(entries, [(key, value)] if key == NOT_SCALAR && matches!(value.value, Value::Null))
}

/// Why a value does not fit its type, and where.
#[derive(Debug)]
pub(crate) struct TypeError {
    message: String,
    at: Option<(String, Option<usize>)>,
    /// The keys that are known where one is not.
    known: Option<&'static [&'static str]>,
    /// The path of the key that was probably meant.
    meant: Option<String>,
}

impl TypeError {
    fn at(mut self, node: &Node) -> Self {
        self.at
            .get_or_insert_with(|| (node.path.clone(), node.line));
        self
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            at: None,
            known: None,
            meant: None,
        }
    }

    fn invalid_type(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("must be {expected}"))
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("must be {expected}"))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.join(", ");
        match near_variant(found, expected) {
            Some(near) => {
                Self::custom(format_args!("must be one of {known}; did you mean {near}?"))
            }
            None => Self::custom(format_args!("must be one of {known}")),
        }
    }

    fn unknown_field(_found: &str, expected: &'static [&'static str]) -> Self {
        Self {
            known: Some(expected),
            ..Self::custom("is not a known key")
        }
    }
}

/// What others call the environments.
const ENVIRONMENTS: [(&str, &str); 8] = [
    ("dev", "sandbox"),
    ("live", "production"),
    ("prd", "production"),
    ("prod", "production"),
    ("stage", "sandbox"),
    ("staging", "sandbox"),
    ("test", "sandbox"),
    ("uat", "sandbox"),
];

fn near_variant(found: &str, expected: &[&'static str]) -> Option<&'static str> {
    let synonym = || {
        let found = found.to_ascii_lowercase();
        let (_, meant) = ENVIRONMENTS.iter().find(|(other, _)| *other == found)?;
        expected.iter().find(|known| *known == meant).copied()
    };
    nearest(found, expected.iter().copied()).or_else(synonym)
}

impl Node {
    /// Gives the value to the visitor, whatever it is.
    fn visit_as_it_is<'de, V: Visitor<'de>>(&'de self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Null => Err(de::Error::custom(
                "has no value; give it one or remove the key",
            )),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => {
                let right = items.iter().filter(|item| !item.wrong.get());
                visitor.visit_seq(SeqDeserializer::new(right))
            }
            Value::Map(entries) => {
                let right = entries.iter().filter(|(_, value)| !value.wrong.get());
                visitor.visit_map(MapDeserializer::new(right.map(|(key, value)| {
                    let key = Key {
                        name: key,
                        path: &value.path,
                        line: value.line,
                    };
                    (key, value)
                })))
            }
        }
    }

    /// Says of an error that it is here, and what is here.
    fn place(&self, error: TypeError) -> TypeError {
        let named = error.message.starts_with("must be ") && error.at.is_none();
        let error = error.at(self);
        if named {
            let is_text_due = error.message.contains("text") || error.message.contains("string");
            TypeError {
                message: format!("{}, but {}", kind(self, is_text_due), error.message),
                ..error
            }
        } else {
            error
        }
    }

    /// What to write where a list is due, one of whose entries could be what is here.
    fn no_list<'de, V: Visitor<'de>>(&'de self, visitor: V) -> TypeError {
        if matches!(self.value, Value::Map(_)) {
            return de::Error::custom("must be a list: begin each of its entries with `- `");
        }
        // Whoever reads the entries knows whether they are secrets.
        drop(visitor.visit_seq(SeqDeserializer::new(std::iter::once(self))));
        let example = self.shown().map(|given| {
            let given = given.trim_matches('"');
            let word = |word: &&str| !word.is_empty();
            let words = given.split([' ', ',']).filter(word).map(quoted);
            words.collect::<Vec<_>>().join(", ")
        });
        let example = example.as_deref().unwrap_or("…");
        de::Error::custom(format_args!("must be a list: write [{example}]"))
    }

    /// What to write where a mapping is due.
    fn no_mapping(&self, keys: &str) -> TypeError {
        de::Error::custom(match self.value {
            Value::Null => {
                "has no value; give it one or remove the key (what belongs to it is indented more than it)"
                    .to_owned()
            }
            _ => format!("must be a mapping with {keys}"),
        })
    }
}

/// As it may stand in a list.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./".contains(char);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("\"{word}\""),
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.take_for(TakenFor::Plain);
        self.visit_as_it_is(visitor)
            .map_err(|error| self.place(error))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.take_for(TakenFor::Plain);
        match self.value {
            Value::Bool(_) => self.visit_as_it_is(visitor),
            _ => Err(de::Error::custom("must be true or false, without quotes")),
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.take_for(TakenFor::Plain);
        match self.value {
            Value::Integer(_) => self
                .visit_as_it_is(visitor)
                .map_err(|_other| "must be a whole number from 0 to 65535"),
            _ => Err("must be a whole number, without quotes"),
        }
        .map_err(|message| self.place(de::Error::custom(message)))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::List(_) | Value::Null => self.visit_as_it_is(visitor),
            _ => Err(self.no_list(visitor)),
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Map(_) => self.visit_as_it_is(visitor),
            _ => Err(self.no_mapping("names for keys: `NAME:`, without `- ` before it")),
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Map(_) => self.visit_as_it_is(visitor),
            _ if fields.contains(&self.key()) => Err(de::Error::custom(
                "is a key of the entry above it; indent it more than the entry's name",
            )),
            _ => {
                let some: Vec<&str> = fields.iter().take(3).copied().collect();
                Err(self.no_mapping(&format!("keys such as {}", some.join(", "))))
            }
        }
        .map_err(|error| self.place(error))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.take_for(TakenFor::Plain);
        match &self.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(de::Error::unknown_variant("", variants)),
        }
        .map_err(|error: TypeError| error.at(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        if name == SECRET {
            self.take_for(TakenFor::Secret);
        }
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, TypeError> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A key of a mapping; an unknown one is reported at its own line.
struct Key<'de> {
    name: &'de str,
    path: &'de str,
    line: Option<usize>,
}

impl<'de> IntoDeserializer<'de, TypeError> for Key<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_str(self.name).map_err(|error: TypeError| {
            let unknown = error
                .known
                .map(|known| UnknownKey::of(self.path, self.name, known));
            let (message, meant) = match unknown {
                Some(unknown) => (unknown.message, unknown.meant),
                None => (error.message, None),
            };
            TypeError {
                message,
                at: Some((self.path.to_owned(), self.line)),
                known: None,
                meant,
            }
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
