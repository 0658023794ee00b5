//! A tree of the YAML that knows key paths and lines.
//!
//! serde stops at the first error and the YAML parser keeps no positions for values, so the file becomes
//! a tree first: duplicate keys and unset variables are found on it, and the typed reading is repeated,
//! each time without the part that was wrong, until it succeeds. That yields every problem in one run.
//!
//! A value may be a secret, so no message here ever repeats one; keys are not secrets.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use saphyr_parser::{Event, Parser};
use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use crate::diagnostic::Diagnostics;

/// No configuration is nested half as deep. Where a text is, parsing it whole takes time that grows with its square.
const MAX_DEPTH: usize = 64;
/// So many brackets are parsed only where they are known to be in order.
const MANY_BRACKETS: usize = 1000;
/// Beyond that many problems the rest is not looked for.
const MAX_PROBLEMS: usize = 100;

/// One value of the file and where it stands.
pub(super) struct Node {
    /// The dotted key path, e.g. `providers.payu.token.url`; empty for the root.
    pub(super) path: String,
    /// The line it starts on, from 1. None inside of aliases.
    pub(super) line: Option<usize>,
    pub(super) value: Value,
    /// Whether a problem was already reported for this node, which takes it out of the typed reading.
    wrong: Cell<bool>,
}

pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// All entries, duplicates included.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Parses YAML text.
    ///
    /// # Errors
    /// Where it is no YAML. That is the one problem that hides all others.
    pub(super) fn parse(text: &str, problems: &mut Diagnostics) -> Option<Self> {
        if let Some(line) = nests_too_deep(text) {
            let message = format!(
                "is nested more than {MAX_DEPTH} deep, or has brackets that are not closed"
            );
            problems.add_at(String::new(), Some(line), message);
            return None;
        }
        let raw: Raw = match serde_yaml::from_str(text) {
            Ok(raw) => raw,
            Err(error) => {
                let line = error.location().map(|at| at.line());
                problems.add_at(String::new(), line, describe(&error.to_string()));
                return None;
            }
        };
        let mut lines = Lines::read(text);
        let root = raw.place(String::new(), &mut lines);
        root.report_duplicates(problems);
        Some(root)
    }

    /// Leaves nothing of a mapping but that key.
    pub(super) fn retain_key(&mut self, key: &str) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|(name, _)| name == key);
        }
    }

    /// Reads the tree as `T`, reporting everything that does not fit.
    pub(super) fn read<'de, T: Deserialize<'de>>(
        &'de self,
        problems: &mut Diagnostics,
    ) -> Option<T> {
        for _ in 0..MAX_PROBLEMS {
            match T::deserialize(self) {
                Ok(value) => return Some(value),
                Err(TypeError { message, at }) => {
                    let (path, line) = at.unwrap_or_default();
                    problems.add_at(path.clone(), line, message);
                    if !self.mark_wrong(&path) {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Every node below this one, itself included.
    pub(super) fn visit(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| item.visit(see)),
            Value::Map(entries) => entries.iter().for_each(|(_, value)| value.visit(see)),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
            }
        }
    }

    /// Replaces every string below this node, see [`super::expand`].
    pub(super) fn replace_texts(
        &mut self,
        replace: &mut impl FnMut(&str, Place<'_>) -> Option<String>,
    ) {
        match &mut self.value {
            Value::Text(text) => {
                let place = Place {
                    path: &self.path,
                    line: self.line,
                };
                match replace(text, place) {
                    Some(replaced) => *text = replaced,
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

    fn report_duplicates(&self, problems: &mut Diagnostics) {
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
                        "stands twice; keep one of the two".to_owned(),
                    );
                    value.wrong.set(true);
                }
            }
        });
    }

    /// Takes the first node with that path that is not yet wrong out of the typed reading; false for
    /// the root, without which nothing is left to read.
    fn mark_wrong(&self, path: &str) -> bool {
        let mut found = false;
        self.visit(&mut |node| {
            if !found && !node.path.is_empty() && node.path == path && !node.wrong.get() {
                node.wrong.set(true);
                found = true;
            }
        });
        found
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "has no value",
            Value::Bool(_) => "is true or false",
            Value::Integer(_) | Value::Float(_) => {
                "is a number (put quotes around it to make it text)"
            }
            Value::Text(_) => "is text",
            Value::List(_) => "is a list",
            Value::Map(_) => "is a mapping",
        }
    }

    fn here(&self) -> (String, Option<usize>) {
        (self.path.clone(), self.line)
    }
}

/// The line where a text is nested too deep, or so broken that it may be. It is parsed no further than that, by a parser
/// that takes time in proportion; the other one does not where brackets are nested.
fn nests_too_deep(text: &str) -> Option<usize> {
    let openings = text.bytes().filter(|byte| matches!(byte, b'[' | b'{'));
    let has_many = openings.take(MANY_BRACKETS).count() == MANY_BRACKETS;
    let mut depth = 0_usize;
    for parsed in Parser::new_from_str(text) {
        let (event, span) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return has_many.then(|| error.marker().line()),
        };
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(span.start.line());
        }
    }
    None
}

/// The parser's words for broken syntax name characters in single quotes; where it quotes otherwise, it
/// quotes a value, and that might be a secret.
fn describe(message: &str) -> String {
    if message.contains(['"', '`']) {
        return "is not valid YAML: a value here does not fit its tag, or is no plain scalar, list or mapping".to_owned();
    }
    format!("is not valid YAML: {message}")
}

/// Where a string stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a str,
    pub(super) line: Option<usize>,
}

/// The dotted path of a key below `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
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

/// The file as serde_yaml reads it, before paths and lines are known.
enum Raw {
    Leaf(Value),
    List(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Raw {
    fn place(self, path: String, lines: &mut Lines) -> Node {
        let line = lines.start();
        let value = match self {
            Self::Leaf(value) => value,
            Self::List(items) => Value::List(
                (0..)
                    .zip(items)
                    .map(|(at, item): (usize, _)| item.place(format!("{path}[{at}]"), lines))
                    .collect(),
            ),
            Self::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let key = key.place(String::new(), lines);
                        let name = key.value.as_key();
                        let mut value = value.place(join(&path, &name), lines);
                        // A nested mapping starts below its key; people look for the key.
                        value.line = key.line.or(value.line);
                        (name, value)
                    })
                    .collect(),
            ),
        };
        lines.end();
        Node {
            path,
            line,
            value,
            wrong: Cell::new(false),
        }
    }
}

impl Value {
    /// A key as text; what is no scalar cannot be a known key, so its text only serves the message.
    fn as_key(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Null => "~".to_owned(),
            Self::List(_) | Self::Map(_) => "?".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("YAML without tags")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Leaf(
            i64::try_from(value).map_or(Value::Float(f64::MAX), Value::Integer),
        ))
    }

    /// Longer than any number that this file knows; as text it might be meant.
    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Float(f64::MIN)))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Float(f64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

/// The lines on which the file's values start, in the order of the file.
struct Lines {
    /// Start events with their lines, and ends of lists and mappings.
    marks: std::vec::IntoIter<Mark>,
    /// How many values deep inside of an alias the walk is: those have no line of their own.
    aliased: usize,
    open: Vec<bool>,
}

enum Mark {
    Scalar(usize),
    Open(usize),
    Alias(usize),
    Close,
}

impl Lines {
    fn read(text: &str) -> Self {
        let marks: Vec<Mark> = Parser::new_from_str(text)
            .map_while(Result::ok)
            .filter_map(|(event, span)| {
                let line = span.start.line();
                match event {
                    Event::Scalar(..) => Some(Mark::Scalar(line)),
                    Event::SequenceStart(..) | Event::MappingStart(..) => Some(Mark::Open(line)),
                    Event::Alias(_) => Some(Mark::Alias(line)),
                    Event::SequenceEnd | Event::MappingEnd => Some(Mark::Close),
                    Event::Nothing
                    | Event::StreamStart
                    | Event::StreamEnd
                    | Event::DocumentStart(_)
                    | Event::DocumentEnd => None,
                }
            })
            .collect();
        Self {
            marks: marks.into_iter(),
            aliased: 0,
            open: Vec::new(),
        }
    }

    /// Called before the children of a value are placed.
    fn start(&mut self) -> Option<usize> {
        if self.aliased > 0 {
            self.aliased += 1;
            return None;
        }
        match self.marks.next()? {
            Mark::Alias(line) => {
                self.aliased = 1;
                Some(line)
            }
            Mark::Open(line) => {
                self.open.push(true);
                Some(line)
            }
            Mark::Scalar(line) => {
                self.open.push(false);
                Some(line)
            }
            Mark::Close => None,
        }
    }

    /// Called after the children of a value were placed.
    fn end(&mut self) {
        if self.aliased > 0 {
            self.aliased -= 1;
        } else if self.open.pop() == Some(true) {
            self.marks.next();
        }
    }
}

/// Why a value does not fit its type, and where.
#[derive(Debug)]
pub(super) struct TypeError {
    message: String,
    at: Option<(String, Option<usize>)>,
}

impl TypeError {
    fn at(mut self, node: &Node) -> Self {
        self.at.get_or_insert_with(|| node.here());
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
                        self.kind(),
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
