//! Keep-alive parameters of a response: `Connection: close`, and `Keep-Alive`, which never got beyond a draft and is
//! written in many ways.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How long a server says that it will keep a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepAlive {
    /// It ends with the answer.
    pub closes: bool,
    /// Seconds without a request.
    pub timeout: Option<u64>,
    /// Further requests.
    pub max: Option<u64>,
}

impl KeepAlive {
    /// Whether such a field says anything about that.
    pub(super) fn is_said_in(name: &HeaderName) -> bool {
        *name == CONNECTION || *name == KEEP_ALIVE
    }

    /// Reads all fields that say it; where they contradict each other, the shorter counts.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for field in headers.get_all(CONNECTION) {
            let mut words = words(field.as_bytes());
            said.closes |= words.any(|word| word.eq_ignore_ascii_case(b"close"));
        }
        for field in headers.get_all(KEEP_ALIVE) {
            said.take(field.as_bytes());
        }
        said
    }

    /// `timeout=5, max=100`, whatever stands around names and numbers; a number at the beginning is a timeout.
    fn take(&mut self, field: &[u8]) {
        let mut name: &[u8] = b"timeout";
        for word in words(field) {
            match number(word) {
                Some(number) if name.eq_ignore_ascii_case(b"timeout") => {
                    self.timeout = Some(self.timeout.map_or(number, |said| said.min(number)));
                }
                Some(number) if name.eq_ignore_ascii_case(b"max") => {
                    self.max = Some(self.max.map_or(number, |said| said.min(number)));
                }
                _ => {}
            }
            name = word;
        }
    }
}

/// What stands between separators of any kind.
fn words(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_separator = |byte: &u8| b" \t,;=:\"'".contains(byte);
    field.split(is_separator).filter(|word| !word.is_empty())
}

/// The digits that a word begins with: a number of seconds with its unit or a fraction is rounded down. A number that is
/// too large is the largest.
fn number(word: &[u8]) -> Option<u64> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number: Option<u64>, digit| {
        let number = number.unwrap_or_default().saturating_mul(10);
        Some(number.saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(name: HeaderName, fields: &[&[u8]]) -> KeepAlive {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(&name, HeaderValue::from_bytes(field).unwrap());
        }
        KeepAlive::read(&headers)
    }

    #[test]
    fn keep_alive_is_read_in_any_spelling() {
        for (fields, timeout, max) in [
            (&[&b"timeout=5, max=100"[..]][..], Some(5), Some(100)),
            (&[b"timeout=5"], Some(5), None),
            (&[b"max=7"], None, Some(7)),
            (&[b"MAX=7,TimeOut=5"], Some(5), Some(7)),
            (&[b"timeout = 5 , max = 7"], Some(5), Some(7)),
            (&[b"timeout=\"5\"; max='7'"], Some(5), Some(7)),
            (&[b"timeout=5 max=7"], Some(5), Some(7)),
            (&[b"timeout:5"], Some(5), None),
            (&[b"timeout=5s, max=7.9"], Some(5), Some(7)),
            (&[b"max=7", b"timeout=5"], Some(5), Some(7)),
            (&[b"timeout=9", b"timeout=5, max=7"], Some(5), Some(7)),
            (&[b"\xff\xfe, foo=bar, x, timeout=5"], Some(5), None),
            (&[b"foo=\"timeout\", =, ,timeout=5"], Some(5), None),
            (&[b"5"], Some(5), None),
            (&[b"300, max=7"], Some(300), Some(7)),
            (&[b"timeout=0, max=0"], Some(0), Some(0)),
            (&[b"timeout=-1, max=no"], None, None),
            (&[b"timeout=, max"], None, None),
            (&[b"x-timeout=5, maximum=7"], None, None),
            (&[b"timeout=99999999999999999999999"], Some(u64::MAX), None),
            (&[b""], None, None),
            (&[], None, None),
        ] {
            let found = read(KEEP_ALIVE, fields);
            assert_eq!((found.timeout, found.max), (timeout, max), "{fields:?}");
            assert!(!found.closes);
        }
    }

    #[test]
    fn close_is_found_in_every_field_and_list() {
        for (fields, closes) in [
            (&[&b"close"[..]][..], true),
            (&[b"Close"], true),
            (&[b"keep-alive, CLOSE"], true),
            (&[b"\"close\""], true),
            (&[b"x\xff,\tclose ,"], true),
            (&[b"close", b"keep-alive"], true),
            (&[b"keep-alive", b"close;"], true),
            (&[b"keep-alive"], false),
            (&[b"x-close, closed"], false),
            (&[], false),
        ] {
            assert_eq!(read(CONNECTION, fields).closes, closes, "{fields:?}");
        }
    }
}
