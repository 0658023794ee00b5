//! Members of a token response's body: the JSON object in it, or the form; else in words what it is instead.
//!
//! It is read whatever its content type says: as UTF-8 or, as it shows by itself, UTF-16; with what some put before
//! JSON or behind it. Bytes that are no UTF-8 become replacement characters, so that only the text that they are in
//! is spoilt.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json;

/// JSON begins within this many bytes; it is not looked for beyond them.
const MAX_PREFIX: usize = 1024;
const MAX_PLACES: usize = 8;

/// What a body is that has no members, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoObject {
    /// Something that people read.
    Text(&'static str),
    /// Nothing, or nothing that is text.
    Bytes(&'static str),
}

/// The members, or what the body is instead.
pub(super) fn find(body: &[u8]) -> Result<Map<String, Value>, NoObject> {
    let text = text(body);
    let text = text.trim().trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() {
        return Err(NoObject::Bytes("the body is empty"));
    }
    if text.starts_with('<') && !is_warning(text) {
        return Err(NoObject::Text(markup(text)));
    }
    if text.starts_with('"')
        && let (Value::String(inner), _) = json::read(text)
        && let Some(object) = first_object(&inner).object
    {
        // Serialised twice.
        return Ok(object);
    }
    let searched = first_object(text);
    if let Some(object) = searched.object.or_else(|| form(text)) {
        return Ok(object);
    }
    Err(instead(text, searched.is_json))
}

fn instead(text: &str, is_json: bool) -> NoObject {
    if is_json || is_scalar(text) {
        NoObject::Text("it is JSON, but not an object")
    } else if text.starts_with(['{', '[']) {
        NoObject::Text("it is JSON that breaks off or is garbled")
    } else if text.contains(is_binary) {
        NoObject::Bytes("the body is binary")
    } else if text.contains(char::REPLACEMENT_CHARACTER) {
        NoObject::Bytes("the body is not UTF-8")
    } else {
        NoObject::Text("the body is plain text")
    }
}

fn is_binary(character: char) -> bool {
    character < ' ' && !"\t\r\n\u{1b}".contains(character)
}

/// As text, without a byte-order mark. JSON begins with an ASCII character, which tells UTF-16 (RFC 4627 section 3).
fn text(body: &[u8]) -> Cow<'_, str> {
    let utf16 = |body: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, _) = body.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        Cow::Owned(String::from_utf16_lossy(&units))
    };
    match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0, 1..=255, ..] => utf16(body, u16::from_be_bytes),
        [1..=255, 0, ..] => utf16(body, u16::from_le_bytes),
        _ => String::from_utf8_lossy(body),
    }
}

/// What PHP writes before what a program says.
fn is_warning(text: &str) -> bool {
    starts_with(text, "<br")
}

fn markup(text: &str) -> &'static str {
    let (begin, _) = text.split_at(text.floor_char_boundary(MAX_PREFIX));
    let begin = begin.to_ascii_lowercase();
    let is_html = [
        "<!doctype html",
        "<html",
        "<head",
        "<body",
        "<title",
        "<h1",
        "<p",
        "<script",
    ]
    .iter()
    .any(|tag| begin.contains(tag));
    match is_html {
        true => "the body is an HTML page",
        false => "the body is XML",
    }
}

/// What was found in a text.
#[derive(Default)]
struct Searched {
    object: Option<Map<String, Value>>,
    /// There is JSON in it, whatever it is.
    is_json: bool,
}

/// The first object with a member in it, alone in an array perhaps; else an empty one. What stands before it keeps
/// browsers from running it as a script, mostly, or calls a function.
fn first_object(text: &str) -> Searched {
    let mut searched = Searched::default();
    let (begin, _) = text.split_at(text.floor_char_boundary(MAX_PREFIX));
    let is_odd = |character| is_binary(character) || character == char::REPLACEMENT_CHARACTER;
    for (place, _) in begin.match_indices(['{', '[']).take(MAX_PLACES) {
        if begin.split_at(place).0.contains(is_odd) {
            // Whatever that is, its braces mean nothing.
            break;
        }
        let (value, is_whole) = json::read(text.get(place..).unwrap_or_default());
        let value = match value {
            Value::Array(mut array) if array.len() == 1 => array.pop().unwrap_or_default(),
            value => value,
        };
        match value {
            Value::Object(object) if !object.is_empty() => {
                searched.object = Some(object);
                return searched;
            }
            Value::Object(object) if is_whole => {
                searched.object.get_or_insert(object);
            }
            _ => {}
        }
        // What is in an array that begins the text is not looked at by itself.
        if place == 0 && is_whole {
            searched.is_json = true;
            if text.starts_with('[') {
                return searched;
            }
        }
    }
    searched
}

fn is_scalar(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// RFC 6749 has no such responses, and the first endpoints of large services have them to this day.
fn form(text: &str) -> Option<Map<String, Value>> {
    if text.contains(|character: char| character.is_whitespace() || character == '<') {
        return None;
    }
    let text = text.strip_prefix('?').unwrap_or(text);
    let members: Map<String, Value> = form_urlencoded::parse(text.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let is_response = ["access_token", "error"].iter().any(|name| {
        let value = members.get(*name).and_then(Value::as_str);
        value.is_some_and(|value| !value.is_empty())
    });
    is_response.then_some(members)
}

fn starts_with(text: &str, prefix: &str) -> bool {
    let begin = text.get(..prefix.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}
