//! Bearer token of a caller's own (RFC 6750): its `Authorization: Bearer`, alone and beyond doubt.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::hop_by_hop::connection_named;

/// There is a bearer token, and it is not clear that it is the one and only credential for the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable;

/// A caller's own token, and the field that it came in.
pub struct OwnToken<'a> {
    /// As it goes on, marked sensitive.
    pub field: HeaderValue,
    /// What is in it behind the scheme.
    pub token: &'a str,
}

/// The caller's own token; None where it brings none.
///
/// # Errors
/// Where there are more fields than one, or the token is none, or is said to be for this hop only.
pub fn bearer(headers: &HeaderMap) -> Result<Option<OwnToken<'_>>, Unusable> {
    let fields = || headers.get_all(AUTHORIZATION).iter();
    let is_one = fields().nth(1).is_none();
    let Some((field, token)) = fields().find_map(|field| Some((field, token(field)?))) else {
        return Ok(None);
    };
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b",\"".contains(byte);
    let is_hops = connection_named(headers).contains(&AUTHORIZATION);
    if !is_one || token.is_empty() || !token.iter().all(is_token) || is_hops {
        return Err(Unusable);
    }
    let Ok(token) = std::str::from_utf8(token) else {
        return Err(Unusable);
    };
    let mut field = field.clone();
    field.set_sensitive(true);
    Ok(Some(OwnToken { field, token }))
}

/// What follows the scheme `Bearer`, without the spaces that RFC 9110 section 11.4 puts between them, and no other
/// white space.
fn token(field: &HeaderValue) -> Option<&[u8]> {
    let (scheme, mut rest) = field.as_bytes().split_at_checked(6)?;
    let is_end = rest.first().is_none_or(u8::is_ascii_whitespace);
    if !is_end || !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    while let [b' ', after @ ..] = rest {
        rest = after;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> Result<Option<String>, Unusable> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let found = bearer(&headers)?;
        Ok(found.map(|OwnToken { field, token }| {
            assert!(field.is_sensitive());
            let field = field.to_str().unwrap();
            assert_eq!(field.rsplit(' ').next(), Some(token));
            field.to_owned()
        }))
    }

    #[test]
    fn one_bearer_token_is_the_callers_own() {
        for value in [
            "Bearer t-1",
            "bearer t-1",
            "BEARER  t.~+/=1",
            "Bearer 7|ab:c",
        ] {
            let fields = [("authorization", value), ("proxy-authorization", "Basic x")];
            assert_eq!(of(&fields), Ok(Some(value.to_owned())));
        }
    }

    #[test]
    fn another_scheme_is_no_token() {
        for value in ["Basic dTpw", "Bearerx t", "Digest a=b", "", "Bear"] {
            assert_eq!(of(&[("authorization", value)]), Ok(None), "{value}");
        }
        assert_eq!(of(&[]), Ok(None));
    }

    #[test]
    fn what_is_not_beyond_doubt_is_refused() {
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer a, Bearer b",
            "Bearer \"a\"",
            "Bearer a\tb",
            "Bearer\ta",
            "Bearer \ta",
            "Bearer a\t",
            "Bearer a ",
            "Bearer \u{e9}",
        ] {
            assert_eq!(of(&[("authorization", value)]), Err(Unusable), "{value}");
        }
        for second in ["Bearer a", "Bearer b", "Basic dTpw"] {
            for fields in [
                [("authorization", "Bearer a"), ("authorization", second)],
                [("authorization", second), ("authorization", "Bearer a")],
            ] {
                assert_eq!(of(&fields), Err(Unusable), "{fields:?}");
            }
        }
        let hops = [
            ("authorization", "Bearer a"),
            ("connection", "close, Authorization"),
        ];
        assert_eq!(of(&hops), Err(Unusable));
    }
}
