//! The intent to send a request, as the journal has it, and the list of those in doubt: plain data.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::request_state::Phase;

/// Longer texts of a request are cut off in the file.
const MAX_TEXT_BYTES: usize = 2048;

/// What a request is known by.
#[derive(Debug)]
pub struct Intent {
    /// When it came.
    pub time: SystemTime,
    /// The same as in the access log.
    pub request_id: String,
    /// Who sent it.
    pub caller: Arc<str>,
    /// Whose API it is for.
    pub provider: Arc<str>,
    /// With whose credentials.
    pub account: Arc<str>,
    /// Its route's name.
    pub route: Arc<str>,
    /// Its method.
    pub method: String,
    /// As in the access log: without the query, secrets masked.
    pub path: String,
    /// By which the provider knows it again. Where that is in the body, it is known when the body has been read.
    pub idempotency_key: OnceLock<String>,
    /// What its caller's records call it.
    pub reference: Option<Box<str>>,
    /// What its caller calls the request.
    pub caller_request_id: Option<Box<str>>,
    /// The trace that it is part of, in hexadecimal digits.
    pub trace_id: Option<Box<str>>,
}

/// A request whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InDoubt {
    /// When it came.
    #[serde(serialize_with = "rfc3339", deserialize_with = "from_rfc3339")]
    pub time: SystemTime,
    /// The same as in the access log.
    pub request_id: String,
    /// Who sent it.
    pub caller: String,
    /// Whose API it was for.
    pub provider: String,
    /// With whose credentials.
    pub account: String,
    /// Its method.
    pub method: String,
    /// Without the query, secrets masked.
    pub path: String,
    /// By which the provider knows it again.
    pub idempotency_key: Option<String>,
    /// What its caller's records call it.
    pub reference: Option<String>,
    /// What its caller calls the request.
    pub caller_request_id: Option<String>,
    /// The trace that it was part of, in hexadecimal digits.
    pub trace_id: Option<String>,
    /// Of the body, in hexadecimal digits; None where its end did not go out.
    pub body_sha256: Option<String>,
    /// How far it came.
    pub phase: Phase,
}

/// A request that was taken off the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Its id.
    pub request_id: String,
    /// When it was.
    pub at: SystemTime,
    /// What was said of it.
    pub note: String,
}

impl Intent {
    /// Without what is too long.
    pub(super) fn cut(mut self) -> Self {
        truncate(&mut self.path);
        truncate(&mut self.method);
        if let Some(key) = self.idempotency_key.get_mut() {
            truncate(key);
        }
        self
    }

    /// The key, unless one is known.
    pub(super) fn know_key(&self, mut key: String) {
        truncate(&mut key);
        self.idempotency_key.get_or_init(|| key);
    }
}

fn truncate(text: &mut String) {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    }
}

pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*time))
}

pub(super) fn from_rfc3339<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

impl InDoubt {
    /// The same with no text longer than that.
    #[must_use]
    pub fn shortened(&self, most: usize) -> Self {
        let mut short = self.clone();
        let texts = [
            &mut short.request_id,
            &mut short.caller,
            &mut short.provider,
        ];
        let more = [&mut short.account, &mut short.method, &mut short.path];
        let optional = [
            &mut short.idempotency_key,
            &mut short.reference,
            &mut short.caller_request_id,
            &mut short.trace_id,
        ];
        let optional = optional.into_iter().filter_map(Option::as_mut);
        for text in texts.into_iter().chain(more).chain(optional) {
            text.truncate(text.floor_char_boundary(most));
        }
        short
    }
}
