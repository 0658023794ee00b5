//! Hop-by-hop fields: those that are for one connection alone, by their names or because `Connection` names them.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName};

/// Fields of one connection only (RFC 9110 section 7.6.1). `Trailer` is not among them.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

/// The names in every `Connection` field, mostly none.
pub(super) fn connection_named(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for name in value.as_bytes().split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            let common =
                name.eq_ignore_ascii_case(b"close") || name.eq_ignore_ascii_case(b"keep-alive");
            if !common && let Ok(name) = HeaderName::from_bytes(name) {
                named.push(name);
            }
        }
    }
    named
}
