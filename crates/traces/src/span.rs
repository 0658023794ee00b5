//! Spans: what is known of one piece of work, once it is over.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::context::SpanContext;
use crate::semantic::ERROR_TYPE;

/// Longer texts are cut.
const MAX_TEXT: usize = 256;

/// What a span is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Internal,
    Server,
    Client,
}

/// A piece of work that is over.
#[derive(Debug)]
pub struct Span {
    pub(crate) context: SpanContext,
    pub(crate) parent: Option<ParentSpan>,
    pub(crate) kind: Kind,
    pub(crate) name: Cow<'static, str>,
    pub(crate) start: SystemTime,
    pub(crate) took: Duration,
    pub(crate) attributes: Attributes,
    /// Spans of other traces that it has to do with.
    pub(crate) links: Vec<SpanContext>,
}

/// The span that another one belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParentSpan {
    pub(crate) span_id: u64,
    /// Whether it is another program's.
    pub(crate) is_remote: bool,
}

/// What a span says beside its times.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) all: Vec<(&'static str, Value)>,
    pub(crate) is_error: bool,
}

/// What an attribute has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
    Flag(bool),
}

impl Attributes {
    pub(crate) fn add(&mut self, key: &'static str, value: impl Into<Value>) {
        self.all.push((key, value.into()));
    }

    pub(crate) fn add_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// The work failed in that way.
    pub(crate) fn fail(&mut self, error: impl Into<Value>) {
        self.is_error = true;
        self.add(ERROR_TYPE, error);
    }
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Self::Text(word.into())
    }
}

impl From<String> for Value {
    fn from(mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let value = Value::from("\u{e9}".repeat(200));
        assert_eq!(value, Value::Text("\u{e9}".repeat(128).into()));
        let value = Value::from(format!("x{}", "\u{e9}".repeat(200)));
        assert_eq!(
            value,
            Value::Text(format!("x{}", "\u{e9}".repeat(127)).into())
        );
    }
}
