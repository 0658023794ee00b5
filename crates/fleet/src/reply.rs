//! Replies of scripts: lists of words and numbers, read one after the other.

use std::time::Duration;

use redis::Value;

/// A script's reply.
#[derive(Debug)]
pub(crate) struct Reply(std::vec::IntoIter<Value>);

/// A reply has another form than its script gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a script's reply has another form than it should")]
pub struct Unreadable;

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self, Unreadable> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(Unreadable),
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// The next one.
    fn next(&mut self) -> Result<Value, Unreadable> {
        self.0.next().ok_or(Unreadable)
    }

    /// A word.
    pub(crate) fn text(&mut self) -> Result<String, Unreadable> {
        String::from_utf8(self.bytes()?).map_err(|_invalid| Unreadable)
    }

    /// A text of any bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Unreadable> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(Unreadable),
        }
    }

    /// A number that is not negative; a negative one is 0, as where a clock stepped back.
    pub(crate) fn number(&mut self) -> Result<u64, Unreadable> {
        match self.next()? {
            Value::Int(number) => Ok(u64::try_from(number).unwrap_or_default()),
            _ => Err(Unreadable),
        }
    }

    /// A number of milliseconds.
    pub(crate) fn duration(&mut self) -> Result<Duration, Unreadable> {
        self.number().map(Duration::from_millis)
    }
}
