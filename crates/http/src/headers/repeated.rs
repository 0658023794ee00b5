//! Repeated fields: which are there more than once, and what a field says that may not be.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The value of a field that is there once.
#[must_use]
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.get(name).filter(|_| !is_repeated(headers, name))
}

/// Whether a field is there more than once. Mostly none is, and then it is not looked up.
#[must_use]
pub fn is_repeated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.len() > headers.keys_len() && headers.get_all(name).iter().nth(1).is_some()
}
