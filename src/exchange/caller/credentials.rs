//! Credentials of a request: which of its fields speaks for its caller, and name and password in it (RFC 7617).

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use bursar_http::headers::only;

/// Some clients leave the padding out.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request shows of its caller.
pub(super) enum Credentials<'h> {
    /// Name and password (RFC 7617). None: more than one field, of which none counts.
    Basic(Option<&'h HeaderValue>),
    /// Nothing in its head: what counts is its connection's client certificate, or its address alone.
    Connection,
}

impl<'h> Credentials<'h> {
    /// What a request shows of its caller. Where no caller has one, and in gateway form for any scheme but
    /// Basic, `Authorization` is for the provider.
    pub(super) fn shown(headers: &'h HeaderMap, field: &HeaderName, has_passwords: bool) -> Self {
        let is_basic = |value: &HeaderValue| scheme(value).is_some();
        let is_shown = if *field == PROXY_AUTHORIZATION {
            headers.contains_key(field)
        } else {
            has_passwords && headers.get_all(field).iter().any(is_basic)
        };
        if is_shown {
            Self::Basic(only(headers, field))
        } else {
            Self::Connection
        }
    }
}

/// Name and password.
pub(super) fn split(credentials: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = credentials.iter().position(|byte| *byte == b':')?;
    let (name, password) = credentials.split_at(at);
    Some((name, password.get(1..).unwrap_or_default()))
}

/// What follows the scheme `Basic`.
fn scheme(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credentials) = value.as_bytes().split_at_checked(6)?;
    scheme
        .eq_ignore_ascii_case(b"basic ")
        .then_some(credentials)
}

/// Name and password, with the colon between them.
pub(super) fn basic(value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let credentials = BASE64.decode(scheme(value)?.trim_ascii()).ok()?;
    Some(Zeroizing::new(credentials))
}

/// A field's value as clients send it.
pub(super) fn field(name: &str, password: &str) -> Zeroizing<Vec<u8>> {
    let credentials = Zeroizing::new(format!("{name}:{password}"));
    let encoded = Zeroizing::new(BASE64.encode(&*credentials));
    Zeroizing::new(format!("Basic {}", *encoded).into_bytes())
}
