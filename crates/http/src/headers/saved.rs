//! Saved fields: those of a request that may have to go out once more, as text in one piece of memory.
//!
//! Every request might have to go out again, and one of thousands does. A copy of the table takes two pieces of
//! memory and a reference count for each value; this takes one piece and no count.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields in their order. Before each stands whether it is sensitive, and how long its name and value are.
pub struct SavedFields(Vec<u8>);

/// A flag and two lengths.
const PREFIX_BYTES: usize = 1 + 2 * size_of::<usize>();
/// Room for a field; adding up what they all take would cost a third of writing them.
const ORDINARY: usize = 96;

impl SavedFields {
    /// Writes the fields down.
    #[must_use]
    pub fn new(headers: &HeaderMap) -> Self {
        let mut text = Vec::with_capacity(headers.len() * ORDINARY);
        for (name, value) in headers {
            let (name, bytes) = (name.as_str().as_bytes(), value.as_bytes());
            text.extend_from_slice(&prefix(name, bytes, value.is_sensitive()));
            text.extend_from_slice(name);
            text.extend_from_slice(bytes);
        }
        Self(text)
    }

    /// The same fields, in the same order. None would mean that they were never fields.
    #[must_use]
    pub fn fields(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        let mut rest = &*self.0;
        while !rest.is_empty() {
            let (is_sensitive, after) = rest.split_first()?;
            let (name_len, after) = after.split_first_chunk()?;
            let (value_len, after) = after.split_first_chunk()?;
            let (name, after) = after.split_at_checked(usize::from_ne_bytes(*name_len))?;
            let (value, after) = after.split_at_checked(usize::from_ne_bytes(*value_len))?;
            let name = HeaderName::from_bytes(name).ok()?;
            let mut value = HeaderValue::from_bytes(value).ok()?;
            value.set_sensitive(*is_sensitive != 0);
            headers.append(name, value);
            rest = after;
        }
        Some(headers)
    }
}

/// What stands before a field, in one piece: adding each part by itself would look for room three times.
fn prefix(name: &[u8], value: &[u8], is_sensitive: bool) -> [u8; PREFIX_BYTES] {
    const NAME: usize = 1 + size_of::<usize>();
    let mut prefix = [u8::from(is_sensitive); PREFIX_BYTES];
    prefix[1..NAME].copy_from_slice(&name.len().to_ne_bytes());
    prefix[NAME..].copy_from_slice(&value.len().to_ne_bytes());
    prefix
}

/// Without the fields: there may be secrets among them.
impl fmt::Debug for SavedFields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SavedFields").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(headers: &HeaderMap) -> Vec<(&str, &[u8], bool)> {
        let mut all = Vec::new();
        for (name, value) in headers {
            all.push((name.as_str(), value.as_bytes(), value.is_sensitive()));
        }
        all
    }

    #[test]
    fn kept_fields_come_back_in_order_and_byte_for_byte() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", b"a".as_slice()),
            ("x-own", b"first"),
            ("cookie", b"a=1; b=2"),
            ("x-latin", b"caf\xe9\t\xff"),
            ("x-own", b""),
            ("via", b"1.1 bursar"),
            ("x-own", b" last "),
        ] {
            let mut value = HeaderValue::from_bytes(value).unwrap();
            value.set_sensitive(name == "cookie");
            headers.append(HeaderName::from_static(name), value);
        }
        headers.remove("host");
        let kept = SavedFields::new(&headers);
        let again = kept.fields().unwrap();
        assert_eq!(all(&again), all(&headers));
        let shown = format!("{kept:?}");
        assert_eq!(shown, "SavedFields(..)");
    }

    #[test]
    fn no_field_is_kept_as_well() {
        let kept = SavedFields::new(&HeaderMap::new());
        assert_eq!(kept.fields(), Some(HeaderMap::new()));
    }
}
