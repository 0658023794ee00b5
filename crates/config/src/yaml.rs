//! Parsing of YAML text into a [`Node`] tree with key paths and lines.
//!
//! serde_yaml keeps no positions for values, so the events of a second parser are walked along with what it has read.

mod syntax;

use std::cell::Cell;
use std::fmt;

use saphyr_parser::{Event, Parser, Tag};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::diagnostic::Diagnostics;
use crate::extension;
use crate::node::{Node, Value, join};

/// No configuration is nested half as deep. Where a text is, parsing it whole takes time that grows with its square.
const MAX_DEPTH: usize = 64;
/// This many brackets are parsed only where they are known to be balanced.
const MANY_BRACKETS: usize = 1000;

/// Parses YAML text.
///
/// # Errors
/// Where it is no YAML. That is the one problem that hides all others.
pub(crate) fn parse(text: &str, problems: &mut Diagnostics) -> Option<Node> {
    if let Some(line) = nests_too_deep(text) {
        let message =
            format!("is nested more than {MAX_DEPTH} deep, or has brackets that are not closed");
        problems.add_at(String::new(), Some(line), message);
        return None;
    }
    if let Some(at) = text.lines().position(syntax::is_conflict) {
        problems.add_at(String::new(), Some(at + 1), syntax::CONFLICT.to_owned());
        return None;
    }
    let raw: Raw = match serde_yaml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            let line = match syntax::names_control(&error.to_string()) {
                // The parser says line 1 of every one.
                true => text.lines().position(syntax::has_control).map(|at| at + 1),
                false => error.location().map(|at| at.line()),
            };
            let at = line.and_then(|line| text.lines().nth(line.saturating_sub(1)));
            let message = syntax::describe(&error.to_string(), at.unwrap_or_default());
            problems.add_at(String::new(), line, message);
            return None;
        }
    };
    let mut lines = Lines::read(text);
    if let Some(line) = lines.unknown_tag {
        problems.add_at(String::new(), Some(line), syntax::UNKNOWN_TAG.to_owned());
        return None;
    }
    let mut root = raw.place(String::new(), &mut lines);
    if let Some(message) = syntax::no_mapping(&root.value) {
        problems.add_at(String::new(), root.line, message.to_owned());
        return None;
    }
    root.report_duplicates(problems);
    extension::merge(&mut root, problems);
    extension::remove(&mut root);
    Some(root)
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
            is_from_elsewhere: false,
            taken_for: Cell::default(),
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
        let too_long = || too_long(&value.to_string());
        Ok(Raw::Leaf(
            i64::try_from(value).map_or_else(|_| too_long(), Value::Integer),
        ))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Leaf(too_long(&value.to_string())))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Leaf(too_long(&value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Leaf(Value::Text(value.to_owned().into())))
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

fn tag<'a>(event: &'a Event<'_>) -> Option<&'a Tag> {
    match event {
        Event::Scalar(_, _, _, tag)
        | Event::SequenceStart(_, tag)
        | Event::MappingStart(_, tag) => tag.as_deref(),
        _ => None,
    }
}

/// Longer than any number that this file knows; as text it might be meant.
fn too_long(digits: &str) -> Value {
    Value::Float(digits.parse().unwrap_or(f64::MAX))
}

/// The lines on which the file's values start, in the order of the file.
struct Lines {
    /// Start events with their lines, and ends of lists and mappings.
    marks: std::vec::IntoIter<Mark>,
    /// How many values deep inside of an alias the walk is: those have no line of their own.
    aliased: usize,
    open: Vec<bool>,
    /// Where a value has a tag of YAML's own that is none of its core schema: the other parser takes what is behind it for
    /// plain text.
    unknown_tag: Option<usize>,
}

enum Mark {
    Scalar(usize),
    Open(usize),
    Alias(usize),
    Close,
}

impl Lines {
    fn read(text: &str) -> Self {
        let mut unknown_tag = None;
        let marks: Vec<Mark> = Parser::new_from_str(text)
            .map_while(Result::ok)
            .filter_map(|(event, span)| {
                let line = span.start.line();
                if unknown_tag.is_none() && tag(&event).is_some_and(syntax::is_unknown_tag) {
                    unknown_tag = Some(line);
                }
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
            unknown_tag,
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
