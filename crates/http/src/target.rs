//! Request target: its forms, decided per request, and the rules for `Host` that hyper leaves to us (RFC 9112 sections
//! 3.2 and 3.3).
//!
//! It knows no provider; whether the host may be reached is decided in `bursar::exchange::route`.

use http::header::{HOST, MAX_FORWARDS};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri, Version};

use crate::headers::is_repeated;
use bursar_base::address::undotted;
use bursar_telemetry::metrics::RefusalDetail;

/// The bytes that a name may have (RFC 3986 section 3.2.2).
const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"-._~%!$&'()*+,;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

/// No name is longer (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

const NO_CONNECT: Error = Error::Method(RefusalDetail::ConnectTarget);
const NO_HOST: Error = Error::Malformed(RefusalDetail::HostMissing, "Host is missing");

/// How a request names its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `GET http://host/path`: `HTTP_PROXY`.
    Absolute,
    /// `GET /path` with `Host`, or an HTTP/2 request: gateway.
    Origin,
    /// `CONNECT host:port`.
    Authority,
}

/// A request's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Decides how a missing password is answered.
    pub form: Form,
    /// As it was written, without brackets or port.
    pub host: &'a str,
    /// The scheme's own where none was written.
    pub port: u16,
    /// The raw path; `/` where there is none.
    pub path: &'a str,
    /// Whether the host was written with a dot at its end.
    pub is_complete: bool,
}

/// `host`, `host:port` or `[address]:port`.
#[derive(Debug, Clone, Copy)]
struct Authority<'a> {
    /// Without brackets, and without a dot at its end.
    host: &'a str,
    port: Option<u16>,
    is_complete: bool,
}

/// Why a request has no usable target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `TRACE`, or `CONNECT` to something that is no host.
    #[error("the method is not served")]
    Method(RefusalDetail),
    /// With what is wrong.
    #[error("the target is malformed: {1}")]
    Malformed(RefusalDetail, &'static str),
}

impl<'a> Target<'a> {
    /// Reads the target from a request's head; inside of a tunnel a port that is left out is the tunnel's.
    ///
    /// # Errors
    /// Where the method is never served, or target or `Host` are malformed.
    pub fn read(head: &'a Parts, tunnel: Option<u16>) -> Result<Self, Error> {
        let is = |name: &str| head.method.as_str().eq_ignore_ascii_case(name);
        // TRACK is another server's TRACE, and some servers do not mind the letter case.
        if is("TRACE") || is("TRACK") {
            return Err(Error::Method(RefusalDetail::Trace));
        }
        if is("CONNECT") && head.method != Method::CONNECT {
            return Err(NO_CONNECT);
        }
        let written = written_host(head)?;
        if head.method == Method::CONNECT {
            let authority = head.uri.authority().filter(|_| head.uri.scheme().is_none());
            let authority = Authority::read(authority.ok_or(NO_CONNECT)?.as_str())?;
            let port = authority.port;
            let port = port.ok_or(Error::Malformed(
                RefusalDetail::TargetInvalid,
                "CONNECT needs a port",
            ))?;
            return Ok(authority.target(Form::Authority, port, "/"));
        }
        let path = match head.uri.path() {
            // How `OPTIONS` writes no path (RFC 9112 section 3.2.4, RFC 9113 section 8.3.1).
            "*" if is_server_wide(head) => "/",
            path if path.starts_with('/') => path,
            _ => {
                return Err(Error::Malformed(
                    RefusalDetail::TargetInvalid,
                    "the request target is not a path",
                ));
            }
        };
        if !head
            .uri
            .path_and_query()
            .is_some_and(|target| target.as_str().is_ascii())
        {
            return Err(Error::Malformed(
                RefusalDetail::TargetInvalid,
                "the request target is not ASCII",
            ));
        }
        let own_port = match head.uri.scheme_str() {
            None | Some("http") => 80,
            Some("https") => 443,
            Some(_) => {
                return Err(Error::Malformed(
                    RefusalDetail::TargetInvalid,
                    "the scheme is neither http nor https",
                ));
            }
        };
        let port = |authority: &Authority<'_>| authority.port.or(tunnel).unwrap_or(own_port);
        let (form, authority) = match head.uri.authority() {
            Some(authority) if head.version == Version::HTTP_2 => {
                let named = Authority::read(authority.as_str())?;
                if let Some(host) = written {
                    let host = Authority::read(host)?;
                    // RFC 9113 section 8.3.1: after the normalisation that the scheme allows.
                    if !host.host.eq_ignore_ascii_case(named.host) || port(&host) != port(&named) {
                        return Err(Error::Malformed(
                            RefusalDetail::HostsDiffer,
                            ":authority and Host differ",
                        ));
                    }
                }
                (Form::Origin, named)
            }
            Some(authority) => (Form::Absolute, Authority::read(authority.as_str())?),
            None => (Form::Origin, Authority::read(written.ok_or(NO_HOST)?)?),
        };
        Ok(authority.target(form, port(&authority), path))
    }
}

/// Whether a request with `*` for a path is meant for a host rather than for Bursar.
fn is_server_wide(head: &Parts) -> bool {
    head.method == Method::OPTIONS && head.uri.authority().is_some()
}

/// Writes `*` where the target of an `OPTIONS` in absolute form has no path, as the last proxy must (RFC 9112 section
/// 3.2.4). The parser has made `/` of it by then.
pub fn leave_out_path(uri: &mut Uri) {
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    // It had an authority, and that is all that a path like this one needs.
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// The host of an authority and its port, where it is one.
#[must_use]
pub fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let Authority { host, port, .. } = Authority::read(authority).ok()?;
    Some((host, port))
}

/// Whether a request's scheme is `http`; `is_tls`: it came over TLS, which says so where the target does not.
#[must_use]
pub fn is_http(uri: &Uri, is_tls: bool) -> bool {
    uri.scheme_str().map_or(!is_tls, |scheme| scheme == "http")
}

/// How long a request target is, in whichever form it came.
#[must_use]
pub fn size(uri: &Uri) -> usize {
    let scheme = uri
        .scheme_str()
        .map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let rest = uri.path_and_query().map_or(0, |rest| rest.as_str().len());
    scheme + authority + rest
}

/// The one `Host` field, which HTTP/1.1 always has (RFC 9112 section 3.2). Where the target has an authority it
/// counts for nothing, and is still no place for anything but a host.
fn written_host(head: &Parts) -> Result<Option<&str>, Error> {
    let Some(host) = head.headers.get(HOST) else {
        return match head.version {
            Version::HTTP_11 => Err(NO_HOST),
            _ => Ok(None),
        };
    };
    if is_repeated(&head.headers, &HOST) {
        return Err(Error::Malformed(
            RefusalDetail::HostRepeated,
            "there is more than one Host",
        ));
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    // The usual case; an authority is ASCII, and is checked by itself.
    if authority.is_some_and(|authority| host.as_bytes() == authority.as_bytes()) {
        return Ok(authority);
    }
    let host = host
        .to_str()
        .map_err(|_not_ascii| Error::Malformed(RefusalDetail::HostInvalid, "Host is invalid"))?;
    if authority.is_some() && !host.is_empty() {
        Authority::read(host)?;
    }
    Ok(Some(host))
}

/// Whether a request asks what Bursar itself can do: `OPTIONS *`, or any `OPTIONS` that may go no further. To one that
/// may, one hop less is left (RFC 9110 sections 7.6.2 and 9.3.7).
///
/// # Errors
/// Where its `Host` is malformed or missing.
pub fn ends_here(head: &mut Parts) -> Result<bool, Error> {
    if head.method != Method::OPTIONS {
        return Ok(false);
    }
    let left = head.headers.remove(MAX_FORWARDS);
    let left = left.and_then(|left| left.to_str().ok()?.trim().parse::<u64>().ok());
    if (head.uri.path() == "*" && !is_server_wide(head)) || left == Some(0) {
        return written_host(head).map(|_valid| true);
    }
    if let Some(left) = left {
        head.headers
            .insert(MAX_FORWARDS, HeaderValue::from(left - 1));
    }
    Ok(false)
}

impl<'a> Authority<'a> {
    /// Reads one. A user name is refused: it could be a secret, and it can make a target look like another one.
    fn read(authority: &'a str) -> Result<Self, Error> {
        const INVALID: Error = Error::Malformed(RefusalDetail::HostInvalid, "the host is invalid");
        let (written, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or(INVALID)?;
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_invalid| INVALID)?;
                (address, port)
            }
            None => {
                // Whatever else may not be in a host is no port either.
                let end = authority
                    .bytes()
                    .position(|byte| !IN_HOST[usize::from(byte)]);
                authority
                    .split_at_checked(end.unwrap_or(authority.len()))
                    .ok_or(INVALID)?
            }
        };
        let host = undotted(written);
        if host.is_empty() || host.len() > MAX_HOST_BYTES {
            return Err(INVALID);
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_too_large| INVALID)?)
            }
            _ => return Err(INVALID),
        };
        Ok(Self {
            host,
            port,
            is_complete: host.len() < written.len(),
        })
    }

    fn target(self, form: Form, port: u16, path: &'a str) -> Target<'a> {
        Target {
            form,
            host: self.host,
            port,
            path,
            is_complete: self.is_complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(method: &str, uri: &str, hosts: &[&str]) -> Result<(Form, String, u16), Error> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Target::read(&head, None).map(|target| (target.form, target.host.to_owned(), target.port))
    }

    #[test]
    fn the_form_decides_where_the_host_is_read() {
        let target = |form, host: &str, port| Ok((form, host.to_owned(), port));
        assert_eq!(
            read("GET", "http://a/x", &["b"]),
            target(Form::Absolute, "a", 80)
        );
        assert_eq!(
            read("GET", "https://a/x", &[""]),
            target(Form::Absolute, "a", 443)
        );
        assert_eq!(
            read("GET", "http://a.:8080", &["a"]),
            target(Form::Absolute, "a", 8080)
        );
        assert_eq!(read("GET", "/x", &["b:81"]), target(Form::Origin, "b", 81));
        assert_eq!(
            read("GET", "/x", &["[::1]:81"]),
            target(Form::Origin, "::1", 81)
        );
        assert_eq!(
            read("CONNECT", "a:443", &["b:1"]),
            target(Form::Authority, "a", 443)
        );
    }

    #[test]
    fn a_malformed_target_or_host_is_refused() {
        for (method, uri, hosts) in [
            ("GET", "/x", &[][..]),
            ("GET", "/x", &["a", "a"]),
            ("GET", "/x", &[""]),
            ("GET", "/x", &["a b"]),
            ("GET", "/x", &["u@a"]),
            ("GET", "/x", &["a:b"]),
            ("GET", "/x", &["a:99999"]),
            ("GET", "/x", &["[::1"]),
            ("GET", "/x", &["a/b"]),
            ("GET", "http://a/x", &[]),
            ("GET", "http://a/x", &["a", "a"]),
            ("GET", "http://a/x", &["a b"]),
            ("GET", "http://a/x", &["u@a"]),
            ("CONNECT", "a:443", &[]),
            ("CONNECT", "a:443", &["a:443", "a:443"]),
            ("CONNECT", "a:443", &["a b"]),
            ("GET", "http://u:p@a/x", &["a"]),
            ("GET", "ftp://a/x", &["a"]),
            ("GET", "*", &["a"]),
        ] {
            let error = read(method, uri, hosts);
            assert!(
                matches!(error, Err(Error::Malformed(..))),
                "{method} {uri} {hosts:?}: {error:?}"
            );
        }
    }

    #[test]
    fn before_http_1_1_a_target_with_an_authority_needs_no_host() {
        for (method, uri, version, is_read) in [
            ("GET", "http://a/x", Version::HTTP_10, true),
            ("CONNECT", "a:443", Version::HTTP_10, true),
            ("GET", "/x", Version::HTTP_10, false),
            ("GET", "http://a/x", Version::HTTP_2, true),
            ("GET", "http://a/x", Version::HTTP_11, false),
        ] {
            let request = Request::builder().method(method).uri(uri).version(version);
            let (head, ()) = request.body(()).unwrap().into_parts();
            let read = Target::read(&head, None);
            assert_eq!(read.is_ok(), is_read, "{method} {uri} {version:?}");
        }
    }

    #[test]
    fn options_is_for_bursar_with_an_asterisk_or_at_its_last_hop() {
        for (method, uri, left, is_for_bursar) in [
            ("OPTIONS", "*", None, true),
            ("OPTIONS", "/x", Some("0"), true),
            ("OPTIONS", "http://a/x", Some(" 0"), true),
            ("OPTIONS", "/x", Some("1"), false),
            ("OPTIONS", "/x", None, false),
            ("OPTIONS", "/*", None, false),
            ("GET", "*", None, false),
            ("GET", "/x", Some("0"), false),
        ] {
            let mut request = Request::builder().method(method).uri(uri).header(HOST, "a");
            if let Some(left) = left {
                request = request.header(MAX_FORWARDS, left);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            let mut malformed = head.clone();
            malformed
                .headers
                .append(HOST, HeaderValue::from_static("b"));
            let found = ends_here(&mut head);
            assert_eq!(found, Ok(is_for_bursar), "{method} {uri} {left:?}");
            let found = ends_here(&mut malformed);
            assert_eq!(found.is_err(), is_for_bursar, "{method} {uri} {left:?}");
        }
    }

    #[test]
    fn trace_and_connect_to_a_path_are_never_served() {
        for method in ["TRACE", "trace", "TRACK"] {
            assert_eq!(
                read(method, "http://a/x", &["a"]),
                Err(Error::Method(RefusalDetail::Trace)),
                "{method}"
            );
        }
        assert_eq!(read("connect", "http://a/x", &["a"]), Err(NO_CONNECT));
        assert_eq!(read("CONNECT", "/x", &["a"]), Err(NO_CONNECT));
    }
}
