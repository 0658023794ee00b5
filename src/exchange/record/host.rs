//! The host that a request asks for, and in which form, as the access log has them: as they were written, whoever has the
//! host.

use std::borrow::Cow;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Version};

/// The form of a request's target (RFC 9112 section 3.2); over HTTP/2 it is like origin-form.
pub(super) fn form<B>(request: &Request<B>) -> &'static str {
    if request.method() == Method::CONNECT {
        "authority"
    } else if request.uri().authority().is_some() && request.version() != Version::HTTP_2 {
        "absolute"
    } else if request.uri().path() == "*" {
        "asterisk"
    } else {
        "origin"
    }
}

/// What a request names as its host, as it was written.
#[derive(Debug)]
pub(super) enum Host {
    Authority(Authority),
    Field(HeaderValue),
}

impl Host {
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        match request.uri().authority() {
            Some(authority) => Some(Self::Authority(authority.clone())),
            None => request.headers().get(HOST).cloned().map(Self::Field),
        }
    }

    /// Without port and brackets. What stands before an `@` might be a secret, and so might a path or a query.
    pub(super) fn name(&self) -> Cow<'_, str> {
        let written = match self {
            Self::Authority(authority) => authority.as_str().into(),
            Self::Field(value) => String::from_utf8_lossy(value.as_bytes()),
        };
        match written {
            Cow::Borrowed(written) => host_in(written).into(),
            Cow::Owned(written) => host_in(&written).to_owned().into(),
        }
    }
}

/// By bytes, because every request comes here: all that is looked for is ASCII, and searching for characters takes twice
/// as long.
fn host_in(written: &str) -> &str {
    let end = written.bytes().position(|byte| b"/?#\\".contains(&byte));
    let (authority, rest) = written
        .split_at_checked(end.unwrap_or(written.len()))
        .unwrap_or_default();
    // It may be in a password or in a query, and then either side of that may be secret.
    if rest.as_bytes().contains(&b'@') {
        return "";
    }
    let at = authority.bytes().rposition(|byte| byte == b'@');
    let host = authority
        .get(at.map_or(0, |at| at + 1)..)
        .unwrap_or_default();
    let (host, end) = match host.strip_prefix('[') {
        Some(address) => (address, b']'),
        None => (host, b':'),
    };
    let end = host.bytes().position(|byte| byte == end);
    host.get(..end.unwrap_or(host.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_as_it_was_written_without_its_port_and_what_may_be_a_password() {
        for (written, expected) in [
            ("Api.Test", "Api.Test"),
            ("api.test:8443", "api.test"),
            ("user:pass@api.test:443", "api.test"),
            ("a@b@api.test", "api.test"),
            ("[::1]:443", "::1"),
            ("[::1", "::1"),
            ("api.test?card=4111111111111111", "api.test"),
            ("api.test:443/4111111111111111", "api.test"),
            ("user:pass@api.test#4111111111111111", "api.test"),
            ("[::1]?card=4111111111111111", "::1"),
            ("?card=4111111111111111", ""),
            ("api.test?mail=ann@home.test", ""),
            ("user:pa/ss@api.test", ""),
            ("", ""),
        ] {
            let field = HeaderValue::from_str(written).unwrap();
            assert_eq!(Host::Field(field).name(), expected, "{written}");
        }
        let field = HeaderValue::from_bytes(b"caf\xe9:1").unwrap();
        assert_eq!(Host::Field(field).name(), "caf\u{fffd}");
    }
}
