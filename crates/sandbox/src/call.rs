//! Calls that reach an emulated provider, and their responses.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// One request, whole.
#[derive(Debug)]
pub(crate) struct Call {
    head: Parts,
    segments: Vec<String>,
    /// Of the query and of the body, whatever that is: JSON, a form, or parts. Names keep their brackets.
    fields: Map<String, Value>,
    /// The body as JSON; null where it is none.
    pub(crate) json: Value,
    /// The body's length.
    received: usize,
}

impl Call {
    /// `body` is as much of it as is looked at.
    pub(crate) fn new(head: Parts, body: &[u8], received: usize) -> Self {
        let segments = head.uri.path().split('/').filter(|text| !text.is_empty());
        let decoded = segments.map(|text| percent_decode_str(text).decode_utf8_lossy().into());
        let segments = decoded.collect();
        let kind = head.headers.get(CONTENT_TYPE);
        let kind = kind.map_or(&[][..], HeaderValue::as_bytes);
        let json = serde_json::from_slice(body).unwrap_or_default();
        let mut fields = Map::new();
        let query = head.uri.query().unwrap_or_default();
        add_pairs(&mut fields, query.as_bytes());
        if let Value::Object(object) = &json {
            fields.extend(object.clone());
        } else if kind.starts_with(b"multipart/") {
            add_parts(&mut fields, &String::from_utf8_lossy(body));
        } else if kind.starts_with(b"application/x-www-form-urlencoded") {
            add_pairs(&mut fields, body);
        }
        Self {
            head,
            segments,
            fields,
            json,
            received,
        }
    }

    /// A HEAD is answered as a GET is, less the body.
    pub(crate) fn method(&self) -> &str {
        match self.head.method.as_str() {
            "HEAD" => "GET",
            method => method,
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The path, cut at its slashes; empty segments are left out.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())?.strip_prefix("Bearer ")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// The first of these fields that is there, as text; numbers too.
    pub(crate) fn text(&self, names: &[&str]) -> Option<String> {
        let value = names.iter().find_map(|name| self.field(name))?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A field as an amount of money: a number, or text that is one.
    pub(crate) fn amount(&self, name: &str) -> Option<f64> {
        let value = self.field(name)?;
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        number.filter(|number| number.is_finite() && *number > 0.0)
    }

    /// Names of fields that are not among these.
    pub(crate) fn unknown_fields(&self, known: &[&str]) -> Vec<&str> {
        let names = self.fields.keys().map(String::as_str);
        names.filter(|name| !known.contains(name)).collect()
    }

    /// What the emulation saw, for whoever looks on.
    fn seen(&self, provider: &str, scope: &str) -> Value {
        json!({
            "provider": provider,
            "method": self.head.method.as_str(),
            "path": self.path(),
            "token_scope": scope,
            "merchant": self.header("merchantid").or_else(|| self.header("mid")).or_else(|| self.header("payoutmerchantid")),
            "received_bytes": self.received,
        })
    }
}

fn add_pairs(fields: &mut Map<String, Value>, text: &[u8]) {
    let pairs = form_urlencoded::parse(text).into_owned();
    fields.extend(pairs.map(|(name, value)| (name, value.into())));
}

/// The text parts of a `multipart/form-data` body; of files only that they were there.
fn add_parts(fields: &mut Map<String, Value>, body: &str) {
    for part in body.split("\r\n--") {
        let Some((head, content)) = part.split_once("\r\n\r\n") else {
            continue;
        };
        let name = head.split_once("name=\"").map(|(_, rest)| rest);
        let Some((name, _)) = name.and_then(|rest| rest.split_once('"')) else {
            continue;
        };
        let value = match head.contains("filename=") {
            true => "a file",
            false => content,
        };
        fields.insert(name.to_owned(), value.into());
    }
}

/// What a provider answers.
#[derive(Debug)]
pub(crate) struct EmulatedResponse {
    pub(crate) status: u16,
    /// None: empty.
    pub(crate) body: Option<Value>,
    /// Whether there is no such operation at all.
    pub(crate) is_unknown: bool,
}

impl EmulatedResponse {
    pub(crate) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body: Some(body),
            is_unknown: false,
        }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            body: None,
            is_unknown: false,
        }
    }

    /// There is no such operation.
    pub(crate) fn unknown(body: Value) -> Self {
        Self {
            is_unknown: true,
            ..Self::new(404, body)
        }
    }

    /// Adds what the emulation saw beside the provider's own fields, where an operation answers an object.
    pub(crate) fn showing(mut self, call: &Call, provider: &str, scope: &str) -> Self {
        if self.is_unknown {
            return self;
        }
        if let (Some(Value::Object(body)), Value::Object(seen)) =
            (&mut self.body, call.seen(provider, scope))
        {
            for (name, value) in seen {
                body.entry(name).or_insert(value);
            }
        }
        self
    }

    pub(crate) fn into_http(self) -> Response<Full<Bytes>> {
        let text = self
            .body
            .map_or_else(String::new, |body| format!("{body}\n"));
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// The most that an emulation remembers of one kind; the oldest are forgotten.
const MAX_RECORDS: usize = 10_000;

/// What was created, in order.
#[derive(Debug, Default)]
pub(crate) struct Records {
    rows: HashMap<String, Value>,
    order: std::collections::VecDeque<String>,
    count: u64,
}

impl Records {
    /// A name that was not given before.
    pub(crate) fn next(&mut self, prefix: &str) -> String {
        self.count += 1;
        format!("{prefix}{}", 1000 + self.count)
    }

    pub(crate) fn add(&mut self, id: &str, row: Value) {
        if self.rows.insert(id.to_owned(), row).is_none() {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > MAX_RECORDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Value> {
        self.rows.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Value> {
        self.rows.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Value> {
        self.order.retain(|other| other != id);
        self.rows.remove(id)
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Value> {
        let rows = self.order.iter().filter_map(|id| self.rows.get(id));
        rows.cloned().collect()
    }

    /// Those with that value in a field.
    pub(crate) fn with(&self, field: &str, value: &str) -> Vec<Value> {
        let mut rows = self.all();
        rows.retain(|row| row.get(field).and_then(Value::as_str) == Some(value));
        rows
    }
}
