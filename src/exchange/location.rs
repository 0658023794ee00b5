//! Redirections: `Location` and `Content-Location` with the scheme that the request was made with.
//!
//! Providers write `https`, because that is what Bursar speaks with them. A caller that asked for `http://` could not
//! follow that: it would have to open a tunnel. Only what Bursar would take a request for is changed, so that pages for
//! people, on the same host or elsewhere, stay as they are.

use http::header::{CONTENT_LOCATION, HOST, LOCATION};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};

use crate::exchange::route::Routes;
use bursar_config::{Origin, Provider};
use bursar_http::headers::only;
use bursar_http::target;

const HTTPS: &str = "https://";
/// Its own port.
const HTTPS_PORT: u16 = 443;
/// And that of `http`.
const HTTP_PORT: u16 = 80;

/// How a request that said `http` named the place that it asked for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Empty: `upstream` is not called otherwise by the caller.
    authority: Box<str>,
}

impl Asked {
    /// None where the request said `https`.
    pub(super) fn of(head: &Parts, is_tls: bool, provider: &Provider) -> Option<Self> {
        if !target::is_http(&head.uri, is_tls) {
            return None;
        }
        let authority = upstream(provider).and_then(|upstream| {
            let written = match head.uri.authority() {
                Some(authority) => authority.as_str(),
                None => head.headers.get(HOST)?.to_str().ok()?,
            };
            let (host, port) = target::host_and_port(written)?;
            let named = &upstream.authority;
            let is_known = host.eq_ignore_ascii_case(named.host())
                && named.port_u16().is_none_or(|port| port == HTTPS_PORT)
                && port.is_none_or(|port| port == HTTP_PORT);
            (!is_known).then(|| written.into())
        });
        Some(Self {
            authority: authority.unwrap_or_default(),
        })
    }

    /// Says `http` where an answer leads to the same provider; where it names `upstream`, which the caller does not
    /// know, it gets the name that the caller used.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap, routes: &Routes, provider: &Provider) {
        let is_own = |host: &str, port, path: &str| routes.serves(provider, host, port, path);
        let asked = Some(&*self.authority).filter(|authority| !authority.is_empty());
        let upstream = asked.and_then(|asked| Some((upstream(provider)?, asked)));
        for name in [LOCATION, CONTENT_LOCATION] {
            let Some(value) = only(headers, &name) else {
                continue;
            };
            if let Some(location) = in_clear(value, upstream, is_own) {
                headers.insert(name, location);
            }
        }
    }
}

/// The provider's `upstream`, if that is `https`.
fn upstream(provider: &Provider) -> Option<&Origin> {
    let upstream = provider.upstream.as_ref();
    upstream.filter(|upstream| upstream.scheme == Scheme::HTTPS)
}

/// The same place with `http`; None where it stays as it is. All behind the authority stays byte for byte. `upstream`
/// comes with the authority that stands for it.
fn in_clear(
    location: &HeaderValue,
    upstream: Option<(&Origin, &str)>,
    is_own: impl Fn(&str, u16, &str) -> bool,
) -> Option<HeaderValue> {
    let (scheme, rest) = location.as_bytes().split_at_checked(HTTPS.len())?;
    if !scheme.eq_ignore_ascii_case(HTTPS.as_bytes()) {
        return None;
    }
    let is_end = |byte: &u8| b"/?#".contains(byte);
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let authority = std::str::from_utf8(authority).ok()?;
    let path = rest.split(|byte| b"?#".contains(byte)).next()?;
    let path = match std::str::from_utf8(path).ok()? {
        "" => "/",
        path => path,
    };
    let (host, port) = target::host_and_port(authority)?;
    let port = port.unwrap_or(HTTPS_PORT);
    let asked = upstream.filter(|(upstream, _)| {
        let named = &upstream.authority;
        named.host().eq_ignore_ascii_case(host) && named.port_u16().unwrap_or(HTTPS_PORT) == port
    });
    let authority = match (asked, port) {
        (Some((_, asked)), _) => {
            let (host, port) = target::host_and_port(asked)?;
            is_own(host, port.unwrap_or(HTTP_PORT), path).then_some(asked)
        }
        (None, HTTPS_PORT) => {
            let is_followed = [HTTPS_PORT, HTTP_PORT].map(|port| is_own(host, port, path));
            (is_followed == [true; 2]).then(|| without_port(authority))
        }
        (None, HTTP_PORT) => None,
        (None, port) => is_own(host, port, path).then_some(authority),
    };
    let location = [b"http://", authority?.as_bytes(), rest].concat();
    HeaderValue::from_bytes(&location).ok()
}

fn without_port(authority: &str) -> &str {
    let name = authority.trim_end_matches(|character: char| character.is_ascii_digit());
    // Digits at the end of a name or an address are no port.
    name.strip_suffix(':').unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(location: &str) -> Option<String> {
        let is_own = |host: &str, port, path: &str| {
            let is_host = host.eq_ignore_ascii_case("api.test") || host == "::1";
            is_host && [80, 443, 8443].contains(&port) && !path.starts_with("/pay")
        };
        let location = HeaderValue::from_str(location).unwrap();
        let changed = in_clear(&location, None, is_own)?;
        Some(changed.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_scheme_of_a_providers_own_place_changes_and_nothing_else_of_it() {
        for (location, expected) in [
            ("https://api.test/next?a=b#f", "http://api.test/next?a=b#f"),
            ("https://api.test", "http://api.test"),
            ("https://api.test?x=//y", "http://api.test?x=//y"),
            ("https://api.test#f", "http://api.test#f"),
            ("HTTPS://API.test:443/%2e/../x", "http://API.test/%2e/../x"),
            ("https://api.test:0443/", "http://api.test/"),
            ("https://api.test:/", "http://api.test/"),
            ("https://api.test./", "http://api.test./"),
            ("https://api.test:8443/x", "http://api.test:8443/x"),
            ("https://[::1]:443/x", "http://[::1]/x"),
            ("https://[::1]/x", "http://[::1]/x"),
        ] {
            assert_eq!(changed(location).as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn what_leads_elsewhere_or_nowhere_stays() {
        for location in [
            "",
            "https",
            "https:",
            "https://",
            "https:///x",
            "/next",
            "next",
            "//api.test/x",
            "http://api.test/x",
            "https:/api.test/x",
            "https:api.test",
            "ftp://api.test/",
            "https://shop.test/?to=https://api.test/",
            "https://api.test.evil.test/",
            "https://x.api.test/",
            "https://api.test:8444/",
            "https://api.test:80/",
            "https://api.test:99999/",
            "https://api.test:x/",
            "https://u@api.test/",
            "https://u:p@api.test/",
            "https://api.test@evil.test/",
            "https://api.test\\@evil.test/",
            "https://api.test evil.test/",
            "https://api.test/pay/1",
            "https://[::1/",
        ] {
            assert_eq!(changed(location), None, "{location}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let location = HeaderValue::from_bytes(b"https://api.test/x?\xff").unwrap();
        let changed = in_clear(&location, None, |_, _, _| true).unwrap();
        assert_eq!(changed.as_bytes(), b"http://api.test/x?\xff");
        let location = HeaderValue::from_bytes(b"https://api\xff.test/x").unwrap();
        assert_eq!(in_clear(&location, None, |_, _, _| true), None);
    }
}
