//! Detection of the protocol that a connection or a tunnel carries, from its first bytes.

/// How many first bytes are looked at: the preface of HTTP/2, which is longer than any method.
pub const LOOK: usize = HTTP2_PREFACE.len();

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of a TLS record with a handshake message (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What is spoken in a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1 in clear.
    Http1,
    /// HTTP/2 in clear.
    Http2,
    /// TLS.
    Tls,
    /// Nothing that can be served.
    Unknown,
}

/// What the first bytes say; None: more are needed. After [`LOOK`] bytes there is an answer.
#[must_use]
pub fn look(first: &[u8]) -> Option<Spoken> {
    if HTTP2_PREFACE.starts_with(first) {
        return (first.len() == HTTP2_PREFACE.len()).then_some(Spoken::Http2);
    }
    if first.first() == Some(&TLS_HANDSHAKE) {
        return Some(Spoken::Tls);
    }
    // RFC 9110 section 9.1: a method is a token; the usual ones are capital letters with a hyphen at most.
    let is_method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    match first.iter().position(|byte| !is_method(byte)) {
        None if first.len() < LOOK => None,
        Some(end) if end > 0 && first.get(end) == Some(&b' ') => Some(Spoken::Http1),
        _ => Some(Spoken::Unknown),
    }
}

/// The same outside of tunnels, where what is no HTTP at all is for the parser to refuse.
#[must_use]
pub fn look_for_http2(first: &[u8]) -> Option<Spoken> {
    if HTTP2_PREFACE.starts_with(first) {
        return look(first);
    }
    Some(Spoken::Http1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_is_spoken() {
        for (first, spoken) in [
            (&b""[..], None),
            (b"G", None),
            (b"PRI", None),
            (b"GET /", Some(Spoken::Http1)),
            (b"PROPFIND ", Some(Spoken::Http1)),
            (b"M-SEARCH *", Some(Spoken::Http1)),
            (HTTP2_PREFACE, Some(Spoken::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"\x16", Some(Spoken::Tls)),
            (b"\x16\x03\x01", Some(Spoken::Tls)),
            (b"\x80\x2e\x01", Some(Spoken::Unknown)),
            (b"SSH-2.0-OpenSSH\r\n", Some(Spoken::Unknown)),
            (b" GET /", Some(Spoken::Unknown)),
            (b"\r\nGET /", Some(Spoken::Unknown)),
            (b"EHLO\r\n", Some(Spoken::Unknown)),
            (&[b'A'; LOOK], Some(Spoken::Unknown)),
            (&[0; 5], Some(Spoken::Unknown)),
        ] {
            assert_eq!(look(first), spoken, "{first:?}");
        }
    }
}
