//! Typed reading of a [`Node`] tree with serde, in which no error hides another.
//!
//! serde stops at the first error, so the reading is repeated, each time without the part that was wrong, until it
//! succeeds. That yields every problem in one run. A value may be a secret, so no message here repeats one; keys are
//! not secrets.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};

/// Beyond that many problems the rest is not looked for.
const MAX_PROBLEMS: usize = 100;

/// Reads the tree as `T`, reporting everything that does not fit.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    root: &'de Node,
    problems: &mut Diagnostics,
) -> Option<T> {
    for _ in 0..MAX_PROBLEMS {
        match T::deserialize(root) {
            Ok(value) => return Some(value),
            Err(TypeError { message, at }) => {
                let (path, line) = at.unwrap_or_default();
                problems.add_at(path.clone(), line, message);
                if !root.mark_wrong(&path) {
                    return None;
                }
            }
        }
    }
    None
}

fn kind(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "has no value",
        Value::Bool(_) => "is true or false",
        Value::Integer(_) | Value::Float(_) => "is a number (put quotes around it to make it text)",
        Value::Text(_) => "is text",
        Value::List(_) => "is a list",
        Value::Map(_) => "is a mapping",
    }
}

/// Why a value does not fit its type, and where.
#[derive(Debug)]
pub(crate) struct TypeError {
    message: String,
    at: Option<(String, Option<usize>)>,
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
        }
    }

    fn invalid_type(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("must be {expected}"))
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("must be {expected}"))
    }

    fn unknown_variant(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("must be one of {}", expected.join(", ")))
    }

    fn unknown_field(_found: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(
            "is not a known key; known here: {}",
            expected.join(", ")
        ))
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let read = match &self.value {
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
        };
        read.map_err(|error: TypeError| {
            let named = error.message.starts_with("must be ") && error.at.is_none();
            let error = error.at(self);
            if named {
                TypeError {
                    message: format!(
                        "{}, but must be {}",
                        kind(self),
                        error.message.trim_start_matches("must be ")
                    ),
                    ..error
                }
            } else {
                error
            }
        })
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
        match &self.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(de::Error::unknown_variant("", variants)),
        }
        .map_err(|error: TypeError| error.at(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
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
        visitor
            .visit_str(self.name)
            .map_err(|error: TypeError| TypeError {
                at: Some((self.path.to_owned(), self.line)),
                ..error
            })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
