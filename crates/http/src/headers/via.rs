//! `Via`: the name that this instance goes by, and loop detection (RFC 9110 section 7.6.3).
//!
//! Each instance has a name of its own, so that two in a row are no loop, and neither is a sender that calls itself
//! `bursar`. Only an intermediary that removes `Via` hides a loop.

use http::header::VIA;
use http::{HeaderMap, HeaderValue, Version};

/// Bursar's name in `Proxy-Status`, and how that of each instance in `Via` begins.
pub const PSEUDONYM: &str = "bursar";

/// An instance's name, made when it starts and kept until it ends.
#[derive(Debug, Clone)]
pub struct Via {
    name: &'static str,
    /// For HTTP/1.0, HTTP/1.1 and HTTP/2.
    elements: [HeaderValue; 3],
}

impl Via {
    /// A name that no other instance has. It is never freed, so that adding it to a message counts no references that
    /// all workers share.
    #[must_use]
    pub fn unique() -> Self {
        let name = format!("{PSEUDONYM}-{:016x}", fastrand::u64(..));
        let element = |version| HeaderValue::from_static(format!("{version} {name}").leak());
        Self {
            elements: ["1.0", "1.1", "2"].map(element),
            name: name.leak(),
        }
    }

    /// Whether a `Via` field names this instance, however other intermediaries have combined or quoted it: nobody
    /// else has the name.
    pub(super) fn is_in(&self, field: &HeaderValue) -> bool {
        let name = self.name.as_bytes();
        let mut places = field.as_bytes().windows(name.len());
        places.any(|place| place.eq_ignore_ascii_case(name))
    }

    /// Adds this instance; `received` is the version of the message that was received.
    pub fn append(&self, headers: &mut HeaderMap, received: Version) {
        let [old, usual, new] = &self.elements;
        let element = match received {
            Version::HTTP_10 => old,
            Version::HTTP_2 => new,
            _ => usual,
        };
        // Made once: making a value looks at each of its bytes.
        headers.append(VIA, element.clone());
    }
}
