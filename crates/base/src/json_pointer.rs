//! JSON pointers (RFC 6901) into a body, and the text that one leads to.
//!
//! By that text a provider knows a request again, so there is none where two readers of the body might see two
//! different ones: no member on the way may be there twice, in whatever letter case.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// A pointer to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Names of members and places of elements, unescaped.
    steps: Box<[Box<str>]>,
}

/// Why a text is no pointer to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a JSON pointer (RFC 6901) to a field, such as `/idempotency_key` or `/payment/key`"
)]
pub struct NoPointer;

impl Field {
    /// Reads a pointer.
    ///
    /// # Errors
    /// Where it is none, or leads to the whole body.
    pub fn parse(text: &str) -> Result<Self, NoPointer> {
        let steps = text.strip_prefix('/').ok_or(NoPointer)?.split('/');
        let steps: Option<Box<[Box<str>]>> = steps.map(unescape).collect();
        Ok(Self {
            steps: steps.ok_or(NoPointer)?,
        })
    }

    /// The text of the value, where the body is JSON, there is one such value, and it is text that says something
    /// and could be shown.
    #[must_use]
    pub fn text_in(&self, body: &[u8]) -> Option<String> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let text = At(&self.steps).deserialize(&mut reader).ok()??;
        reader.end().ok()?;
        let says_something = !text.trim().is_empty() && !text.chars().any(char::is_control);
        says_something.then_some(text)
    }
}

/// None where an escape is none.
fn unescape(step: &str) -> Option<Box<str>> {
    let mut parts = step.split('~');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (mark, rest) = part.split_at_checked(1)?;
        plain.push(match mark {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain.into())
}

/// What is left of the way.
#[derive(Clone, Copy)]
struct At<'a>(&'a [Box<str>]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.is_empty().then(|| text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut is_seen) = (None, false);
        while let Some(name) = members.next_key::<String>()? {
            match self.0.split_first() {
                Some((step, rest)) if is_alike(step, &name) => {
                    if is_seen {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                    is_seen = true;
                    if **step == *name {
                        found = members.next_value_seed(At(rest))?;
                    } else {
                        members.next_value::<IgnoredAny>()?;
                    }
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let step = self.0.split_first();
        let wanted = step.and_then(|(step, rest)| Some((place(step)?, rest)));
        let mut found = None;
        for at in 0.. {
            let is_there = match wanted {
                Some((place, rest)) if place == at => {
                    let element = elements.next_element_seed(At(rest))?;
                    element.map(|element| found = element).is_some()
                }
                _ => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !is_there {
                break;
            }
        }
        Ok(found)
    }
}

/// Some readers take names that differ in letter case for the same.
fn is_alike(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// An element's place, without leading zeros.
fn place(step: &str) -> Option<usize> {
    let is_number = step.bytes().all(|byte| byte.is_ascii_digit());
    let has_zeros = step.len() > 1 && step.starts_with('0');
    (is_number && !has_zeros).then(|| step.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_the_one_text_that_is_meant() {
        for (pointer, body, expected) in [
            ("/key", r#"{"key":"k-1"}"#, Some("k-1")),
            (
                "/key",
                r#" { "a": [1, {"key": "x"}], "key" : "k-1" } "#,
                Some("k-1"),
            ),
            ("/key", r#"{"\u006bey":"k\u002d1"}"#, Some("k-1")),
            (
                "/a/key",
                r#"{"a":{"key":"k-1"},"key":"other"}"#,
                Some("k-1"),
            ),
            (
                "/a/1/key",
                r#"{"a":[{"key":"0"},{"key":"k-1"},7]}"#,
                Some("k-1"),
            ),
            ("/0/key", r#"[{"key":"k-1"}]"#, Some("k-1")),
            ("/a~1b~0c", r#"{"a/b~c":"k-1"}"#, Some("k-1")),
            ("/0", r#"{"0":"k-1"}"#, Some("k-1")),
            ("/key", r#"{"key":"schl\u00fcssel"}"#, Some("schlüssel")),
            // Nothing there, or no text.
            ("/key", r#"{"other":"k-1"}"#, None),
            ("/key", r#"{"Key":"k-1"}"#, None),
            ("/key", r#"{"key":7}"#, None),
            ("/key", r#"{"key":-7}"#, None),
            ("/key", r#"{"key":1e400}"#, None),
            ("/key", r#"{"key":true}"#, None),
            ("/key", r#"{"key":null}"#, None),
            ("/key", r#"{"key":{"key":"k-1"}}"#, None),
            ("/key", r#"{"key":["k-1"]}"#, None),
            ("/key", r#"{"key":""}"#, None),
            ("/key", r#"{"key":"  "}"#, None),
            ("/key", r#"{"key":"k\u00001"}"#, None),
            ("/key", r#"{"key":"k\r\n1"}"#, None),
            ("/key/a", r#"{"key":"k-1"}"#, None),
            ("/a/01", r#"{"a":["0","k-1"]}"#, None),
            ("/a/-", r#"{"a":["0"]}"#, None),
            ("/a/9", r#"{"a":["0"]}"#, None),
            // Twice on the way.
            ("/key", r#"{"key":"k-1","key":"k-1"}"#, None),
            ("/key", r#"{"key":"k-1","key":7}"#, None),
            ("/key", r#"{"key":"k-1","KEY":"k-2"}"#, None),
            ("/key", r#"{"Key":"k-1","key":"k-2"}"#, None),
            ("/key", r#"{"key":"k-1","k\u0065y":"k-2"}"#, None),
            ("/a/key", r#"{"a":{"key":"k-1"},"a":{"key":"k-2"}}"#, None),
            // Twice elsewhere is nobody's business here.
            ("/key", r#"{"b":1,"b":2,"key":"k-1"}"#, Some("k-1")),
            // No JSON.
            ("/key", "", None),
            ("/key", r#"{"key":"k-1"}{"key":"k-2"}"#, None),
            ("/key", r#"{"key":"k-1"} x"#, None),
            ("/key", r#"{"key":"k-1""#, None),
            ("/key", r#"{"key":"k-1",}"#, None),
            ("/key", "key=k-1", None),
            ("/key", "\u{feff}{\"key\":\"k-1\"}", None),
        ] {
            let field = Field::parse(pointer).unwrap();
            let found = field.text_in(body.as_bytes());
            assert_eq!(found.as_deref(), expected, "{pointer} in {body}");
        }
        let field = Field::parse("/key").unwrap();
        assert_eq!(field.text_in(b"{\"key\":\"k\xff\"}"), None);
        // However deep it is, it is read over.
        let (open, close) = ("[".repeat(60_000), "]".repeat(60_000));
        let deep = format!("{{\"a\":{open}{close},\"key\":\"k\"}}");
        assert_eq!(field.text_in(deep.as_bytes()).as_deref(), Some("k"));
    }

    #[test]
    fn what_is_no_pointer_to_a_field_is_refused() {
        for text in ["", "key", "$.key", "#/key", "/a~", "/a~2", "/a~é"] {
            assert_eq!(Field::parse(text), Err(NoPointer), "{text}");
        }
    }
}
