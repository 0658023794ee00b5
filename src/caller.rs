//! Who is calling? Basic credentials against the configured callers (RFC 7617).
//!
//! Comparison takes the same time whether the name is known or not and wherever the password differs.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::config::{Allow, Config};
use crate::metrics::ANONYMOUS;
use crate::target::Form;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Everybody who may call.
#[derive(Debug)]
pub struct Callers {
    /// None: everybody may.
    known: Option<HashMap<Arc<str>, Known>>,
    anonymous: Arc<str>,
    /// What an unknown name's password is compared with.
    nobody: Digest,
}

#[derive(Debug)]
struct Known {
    /// Of equal length for all, so that comparing tells nothing about the length.
    password: Digest,
    allow: Vec<Allow>,
}

/// A caller whose credentials were verified.
#[derive(Debug, Clone, Copy)]
pub struct Principal<'a> {
    /// For metrics and logs.
    pub name: &'a Arc<str>,
    /// None: everything, because there is no authentication.
    pub allow: Option<&'a [Allow]>,
    /// Whether `Authorization` was the caller's credential at Bursar, and none for the provider.
    pub by_authorization: bool,
}

/// The credentials are missing or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthenticated;

impl Callers {
    /// Hashes the passwords, which are not needed after that.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let known = config.callers.as_ref().map(|callers| {
            let entry = |caller: &crate::config::Caller| {
                let known = Known {
                    password: hash(caller.password.expose().as_bytes()),
                    allow: caller.allow.clone(),
                };
                (caller.name.clone(), known)
            };
            callers.iter().map(entry).collect()
        });
        Self {
            known,
            anonymous: ANONYMOUS.into(),
            nobody: hash(&[]),
        }
    }

    /// The name for requests of nobody known.
    #[must_use]
    pub fn anonymous(&self) -> &Arc<str> {
        &self.anonymous
    }

    /// The caller with that name, who was verified before: when a tunnel was opened.
    ///
    /// # Errors
    /// Where there is none.
    pub fn verified(&self, name: &str) -> Result<Principal<'_>, Unauthenticated> {
        let Some(known) = &self.known else {
            return Ok(Principal {
                name: &self.anonymous,
                allow: None,
                by_authorization: false,
            });
        };
        let (name, caller) = known.get_key_value(name).ok_or(Unauthenticated)?;
        Ok(Principal {
            name,
            allow: Some(&caller.allow),
            by_authorization: false,
        })
    }

    /// Verifies a request's credentials. `Proxy-Authorization` decides alone where it is present; where
    /// the request does not name Bursar as its proxy, `Authorization` will do.
    ///
    /// # Errors
    /// Where they are missing or wrong.
    pub fn check(&self, headers: &HeaderMap, form: Form) -> Result<Principal<'_>, Unauthenticated> {
        let Some(known) = &self.known else {
            return Ok(Principal {
                name: &self.anonymous,
                allow: None,
                by_authorization: false,
            });
        };
        let by_authorization = !headers.contains_key(PROXY_AUTHORIZATION) && form == Form::Origin;
        let field = if by_authorization {
            AUTHORIZATION
        } else {
            PROXY_AUTHORIZATION
        };
        let credentials = only(headers, &field)
            .and_then(basic)
            .ok_or(Unauthenticated)?;
        let at = credentials
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(Unauthenticated)?;
        let (name, password) = credentials.split_at(at);
        let found = std::str::from_utf8(name)
            .ok()
            .and_then(|name| known.get_key_value(name));
        let expected = found.map_or(&self.nobody, |(_, caller)| &caller.password);
        let given = hash(password.get(1..).unwrap_or_default());
        let is_equal: bool = expected.as_ref().ct_eq(given.as_ref()).into();
        match found {
            Some((name, caller)) if is_equal => Ok(Principal {
                name,
                allow: Some(&caller.allow),
                by_authorization,
            }),
            _ => Err(Unauthenticated),
        }
    }
}

fn hash(password: &[u8]) -> Digest {
    digest(&SHA256, password)
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn basic(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, credentials) = value.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    BASE64.decode(credentials.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &str, value: &str, form: Form) -> Option<String> {
        let text = "callers: {shop: {password: 'p:ss', allow: [a]}, b: {password: '', allow: []}}";
        let text = text.replace(", b: {password: '', allow: []}", "");
        let text = format!(
            "{text}\nproviders: {{a: {{hosts: [a], client_id: a, client_secret: b, token: {{url: https://a/t}}}}}}"
        );
        let callers = Callers::new(&Config::parse(&text, std::path::Path::new("")).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(field.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let principal = callers.check(&headers, form).ok()?;
        Some(principal.name.to_string())
    }

    #[test]
    fn only_the_right_name_and_password_pass() {
        let shop = BASE64.encode("shop:p:ss");
        for (value, passes) in [
            (format!("Basic {shop}"), true),
            (format!("bAsIc   {shop}"), true),
            (format!("Basic {}", shop.trim_end_matches('=')), true),
            (format!("Basic {}", BASE64.encode("shop:p:s")), false),
            (format!("Basic {}", BASE64.encode("shop:")), false),
            (format!("Basic {}", BASE64.encode("shop")), false),
            (format!("Basic {}", BASE64.encode("other:p:ss")), false),
            (format!("Basic {}", BASE64.encode("nobody:")), false),
            (format!("Bearer {shop}"), false),
            ("Basic !".to_owned(), false),
            ("Basic".to_owned(), false),
        ] {
            let found = check("proxy-authorization", &value, Form::Absolute);
            assert_eq!(found.is_some(), passes, "{value}");
        }
    }

    #[test]
    fn authorization_counts_in_gateway_form_only() {
        let value = format!("Basic {}", BASE64.encode("shop:p:ss"));
        assert!(check("authorization", &value, Form::Origin).is_some());
        assert!(check("authorization", &value, Form::Absolute).is_none());
        assert!(check("proxy-authorization", &value, Form::Origin).is_some());
    }
}
