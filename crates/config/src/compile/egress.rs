//! From `egress:` in the file to [`Egress`], and what to say of destinations that it refuses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::value::{ODD, host, port};
use crate::diagnostic::Diagnostics;
use crate::egress::{Egress, Names, NoProxy, ParentProxy};
use crate::file::{self, Mode};
use crate::provider::Provider;
use bursar_base::address::{Rule, Spelling, rules};
use bursar_base::secret::Secret;

const ALLOW: &str = "egress.allow_addresses";

pub(super) fn compile(file: file::Egress, problems: &mut Diagnostics) -> Egress {
    let (api, token) = match file.proxy {
        Some(file::ParentProxy::Both(url)) => {
            let both = parent(&url.0, "egress.proxy", problems);
            (both.clone(), both)
        }
        Some(file::ParentProxy::Each(each)) => {
            let mut one = |url: Option<file::Hidden>, key| parent(&url?.0, key, problems);
            (
                one(each.api, "egress.proxy.api"),
                one(each.token, "egress.proxy.token"),
            )
        }
        None => (None, None),
    };
    let mut allow_addresses = Vec::new();
    for (at, text) in file.allow_addresses.iter().flatten().enumerate() {
        match net(text) {
            Some(net) => allow_addresses.push(net),
            None => problems.add(
                &format!("{ALLOW}[{at}]"),
                "is neither an address nor a range such as 10.0.0.0/8",
            ),
        }
    }
    Egress {
        allow_addresses,
        modes: modes(
            file.mode.unwrap_or_default(),
            &file.rules.unwrap_or_default(),
            problems,
        ),
        api_proxy: api,
        token_proxy: token,
        no_proxy: no_proxy(&file.no_proxy.unwrap_or_default(), problems),
        names: Names::System,
    }
}

fn modes(
    mode: Mode,
    rules: &BTreeMap<String, Mode>,
    problems: &mut Diagnostics,
) -> [Mode; Rule::ALL.len()] {
    for name in rules.keys() {
        if !Rule::ALL.iter().any(|rule| rule.as_str() == name) {
            let known = Rule::ALL.map(Rule::as_str).join(", ");
            problems.add(
                &format!("egress.rules.{name}"),
                format_args!("is not a known key; known here: {known}"),
            );
        }
    }
    Rule::ALL.map(|rule| rules.get(rule.as_str()).copied().unwrap_or(mode))
}

/// An address or a range.
fn net(text: &str) -> Option<IpNet> {
    let address = |text: &str| text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(|| address(text))
}

fn no_proxy(texts: &[String], problems: &mut Diagnostics) -> NoProxy {
    let mut compiled = NoProxy::default();
    for (at, text) in texts.iter().enumerate() {
        match net(text) {
            Some(net) => compiled.addresses.push(net),
            None => {
                let host = host(text, &format!("egress.no_proxy[{at}]"), problems);
                compiled.hosts.extend(host);
            }
        }
    }
    compiled
}

/// A parent proxy's URL. Its password is percent-encoded there, as in everybody's `HTTPS_PROXY`.
fn parent(text: &Secret, key: &str, problems: &mut Diagnostics) -> Option<Arc<ParentProxy>> {
    let parsed = parse_parent(text.expose());
    match &parsed {
        None => problems.add(
            key,
            "is not a proxy; write it as `http://host:port` or `http://user:password@host:port`, what is special in the password percent-encoded",
        ),
        Some(parent) => {
            let host = parent.url.host().unwrap_or_default();
            let is_loopback = match Spelling::of(host) {
                Spelling::Address(address) => address.is_loopback(),
                Spelling::Name => host.eq_ignore_ascii_case("localhost"),
                Spelling::Odd(_) => {
                    problems.add(key, ODD);
                    return None;
                }
            };
            if parent.authorization.is_some() && !is_loopback {
                problems.warn(
                    key,
                    "has a password, which crosses the network in clear on its way to the parent proxy",
                );
            }
        }
    }
    parsed.map(Arc::new)
}

fn parse_parent(text: &str) -> Option<ParentProxy> {
    let rest = text.strip_prefix("http://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, address) = match rest.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, rest),
    };
    if address.contains(['/', '?', '#']) {
        return None;
    }
    let url: Uri = format!("http://{address}/").parse().ok()?;
    let authority = url.authority()?;
    if authority.host().is_empty() || port(authority).is_err() {
        return None;
    }
    let authorization = match user {
        Some(user) => Some(basic(user)?),
        None => None,
    };
    Some(ParentProxy { url, authorization })
}

fn basic(user: &str) -> Option<HeaderValue> {
    let decode = |text| {
        let text = percent_decode_str(text).decode_utf8().ok()?;
        Some(Secret::new(text.into_owned()))
    };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let pair = Secret::new(format!(
        "{}:{}",
        decode(name)?.expose(),
        decode(password)?.expose()
    ));
    let text = Secret::new(format!("Basic {}", BASE64.encode(pair.expose())));
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A destination that can never be reached is worth a word before the first request.
pub(super) fn warn_of_refused_literals(
    egress: &Egress,
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) {
    for provider in providers {
        let upstream = provider.upstream.as_ref();
        let destinations = [
            ("upstream", upstream.map(|origin| origin.authority.host())),
            ("token.url", provider.token.url.host()),
            (
                "token.refresh_url",
                provider.token.refresh_url.as_ref().and_then(Uri::host),
            ),
        ];
        for (key, host) in destinations {
            let Some(Spelling::Address(address)) = host.map(Spelling::of) else {
                continue;
            };
            let refused = rules(address)
                .find(|(meant, rule)| !egress.allows(*meant) && *rule != Rule::Loopback);
            if let Some((_, rule)) = refused
                && egress.mode(rule) == Mode::Enforce
            {
                problems.warn(
                    &format!("providers.{}.{key}", provider.name),
                    format_args!(
                        "is an address that will be refused (rule {}); add it to `{ALLOW}`",
                        rule.as_str()
                    ),
                );
            }
        }
    }
}
