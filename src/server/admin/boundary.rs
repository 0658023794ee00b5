//! Boundary of the admin port: which hosts it is asked by, and which pages may ask for changes.
//!
//! A browser sends whatever a page of anywhere asks for, to addresses that the page cannot reach itself. A name that
//! leads here only since a moment (DNS rebinding) is stopped by `Host`, a page of another origin by `Sec-Fetch-Site` and
//! `Origin`. Programs that are no browsers send neither of the latter.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};

use bursar_base::address::{bare, undotted};
use bursar_http::headers::only;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Characters of a name of the DNS.
const MAX_HOST: usize = 255;

/// The admin port is not asked by a host that it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HostError {
    #[error("a request has one `Host`, which is a host and may have a port")]
    Malformed,
    /// That one.
    #[error("it is asked by the name {0}")]
    Foreign(Box<str>),
}

/// Checks that a request is for an address, for `localhost` or for one of these names, which are in lower case.
pub(super) fn check_host(head: &Parts, names: &[Box<str>]) -> Result<(), HostError> {
    let field = match only(&head.headers, &HOST) {
        Some(value) => Some(authority(value).ok_or(HostError::Malformed)?),
        // Probes of load balancers send none in HTTP/1.0; browsers do not speak it.
        None if head.headers.contains_key(HOST) || head.version != Version::HTTP_10 => {
            return Err(HostError::Malformed);
        }
        None => None,
    };
    let authorities = [head.uri.authority(), field.as_ref()];
    for authority in authorities.into_iter().flatten() {
        let host = authority.host();
        if !is_known(host, names) {
            return Err(HostError::Foreign(host.into()));
        }
    }
    Ok(())
}

fn is_known(host: &str, names: &[Box<str>]) -> bool {
    let name = undotted(bare(host));
    is_address(bare(host))
        || name.eq_ignore_ascii_case("localhost")
        || (names.iter()).any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether that is an address; a link-local one may name the zone of whoever asks (RFC 6874, and as people write it).
fn is_address(host: &str) -> bool {
    match host.split_once('%') {
        None => host.parse::<IpAddr>().is_ok(),
        Some((address, zone)) => {
            let is_link_local = |address: Ipv6Addr| address.is_unicast_link_local();
            address.parse().is_ok_and(is_link_local) && !zone.is_empty()
        }
    }
}

/// Whether a request comes from no page, or from one of this origin.
pub(super) fn is_of_this_origin(head: &Parts) -> bool {
    // What the person at the browser asks for without a page is `none`.
    let may_be_sent = |value: &HeaderValue| value == "same-origin" || value == "none";
    let mut sites = head.headers.get_all(SEC_FETCH_SITE).iter();
    sites.all(may_be_sent) && is_origin_the_same(&head.uri, &head.headers)
}

/// Whether `Origin` is what the request is for, where it is sent. Its scheme is that of whatever ends TLS in front of
/// this port.
fn is_origin_the_same(target: &Uri, headers: &HeaderMap) -> bool {
    if !headers.contains_key(ORIGIN) {
        return true;
    }
    let origin = only(headers, &ORIGIN).and_then(|value| value.to_str().ok());
    let origin: Option<Uri> = origin.and_then(|origin| origin.parse().ok());
    let own = target.authority().cloned();
    let own = own.or_else(|| authority(headers.get(HOST)?));
    let (Some(origin), Some(own)) = (origin, own) else {
        return false;
    };
    let port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let place = |authority: &Authority| {
        let name = undotted(authority.host()).to_ascii_lowercase();
        (name, authority.port_u16().unwrap_or(port))
    };
    origin.authority().map(place) == Some(place(&own))
}

/// A host that may have a port, and has nothing else.
fn authority(value: &HeaderValue) -> Option<Authority> {
    let authority: Authority = value.to_str().ok()?.parse().ok()?;
    let host = authority.host();
    let is_host = !authority.as_str().contains('@') && (1..=MAX_HOST).contains(&host.len());
    is_host.then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn names() -> Vec<Box<str>> {
        vec!["bursar.payments.svc".into()]
    }

    #[test]
    fn addresses_localhost_and_the_names_that_are_listed_are_known() {
        let check =
            |host: &str| check_host(&head("/", Version::HTTP_11, &[("host", host)]), &names());
        for host in [
            "127.0.0.1",
            "127.0.0.1:9128",
            "10.1.2.3:1",
            "[::1]:9128",
            "[2001:db8::7]",
            "[fe80::1]:9128",
            "[fe80::1%25eth0]:9128",
            "[fe80::1%eth0]:9128",
            "[fe80::1%2]",
            "localhost:9128",
            "LocalHost.",
            "bursar.payments.svc:9128",
            "Bursar.Payments.svc.",
        ] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
        for host in [
            "evil.test",
            "evil.test:9128",
            "payments.svc",
            "x.bursar.payments.svc",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "2130706433",
            "0x7f.1",
            "sub.localhost",
            "[2001:db8::7%25eth0]",
            "[fe80::1%]",
            "[::1%25lo]",
        ] {
            let foreign = matches!(check(host), Err(HostError::Foreign(_)));
            assert!(foreign, "{host}");
        }
        for host in [
            "",
            ":80",
            "localhost@evil.test",
            "a b",
            "/",
            "[::1",
            "127.0.0.1/x",
        ] {
            assert_eq!(check(host), Err(HostError::Malformed), "{host}");
        }
    }

    #[test]
    fn one_host_is_needed_but_in_http_1_0_and_the_target_counts_too() {
        let check = |target, version, fields: &[(&str, &str)]| {
            check_host(&head(target, version, fields), &names())
        };
        let local = ("host", "localhost");
        assert_eq!(check("/", Version::HTTP_10, &[]), Ok(()));
        for (version, fields) in [
            (Version::HTTP_11, &[][..]),
            (Version::HTTP_11, &[local, local]),
            (Version::HTTP_10, &[local, local]),
        ] {
            assert_eq!(check("/", version, fields), Err(HostError::Malformed));
        }
        let foreign = Err(HostError::Foreign("evil.test".into()));
        let target = "http://evil.test/status";
        assert_eq!(check(target, Version::HTTP_11, &[local]), foreign);
        let fields = [("host", "evil.test")];
        assert_eq!(
            check("http://localhost/", Version::HTTP_11, &fields),
            foreign
        );
        assert_eq!(
            check("http://localhost/", Version::HTTP_11, &[local]),
            Ok(())
        );
    }

    #[test]
    fn pages_of_another_origin_are_told_apart_and_programs_that_say_nothing_are_not() {
        let is_own = |fields: &[(&str, &str)]| {
            let host = [("host", "localhost:9128")];
            let fields = [&host[..], fields].concat();
            is_of_this_origin(&head("/freeze/acme", Version::HTTP_11, &fields))
        };
        for fields in [
            &[][..],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "http://localhost:9128")],
            &[("origin", "https://LOCALHOST:9128")],
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://localhost:9128"),
            ],
        ] {
            assert!(is_own(fields), "{fields:?}");
        }
        for fields in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "")],
            &[("sec-fetch-site", "Same-Origin")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "localhost:9128")],
            &[("origin", "http://localhost")],
            &[("origin", "http://127.0.0.1:9128")],
            &[("origin", "http://evil.test")],
            &[("origin", "ftp://localhost:9128")],
            &[
                ("origin", "http://localhost:9128"),
                ("origin", "http://evil.test"),
            ],
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://evil.test"),
            ],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "http://localhost:9128"),
            ],
        ] {
            assert!(!is_own(fields), "{fields:?}");
        }
        let behind_tls = [("host", "bursar.test"), ("origin", "https://bursar.test")];
        assert!(is_of_this_origin(&head("/", Version::HTTP_11, &behind_tls)));
        let no_host = [("origin", "http://localhost")];
        assert!(!is_of_this_origin(&head("/", Version::HTTP_10, &no_host)));
    }
}
