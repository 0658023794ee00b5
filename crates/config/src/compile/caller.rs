//! From the callers of the file, and what they may use, to [`Caller`]s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::value::{methods, patterns, refuse_reserved};
use super::{account, limits};
use crate::caller::{Allow, Caller};
use crate::diagnostic::Diagnostics;
use crate::file;
use crate::node::join;
use crate::provider::Provider;
use bursar_base::listing::first_of;
use bursar_base::password::Password;
use bursar_base::path::Pattern;
use bursar_base::spelling::nearest;

/// A shorter password is refused beyond loopback …
const MIN_PASSWORD: usize = 8;
/// … and warned about everywhere.
const GOOD_PASSWORD: usize = 16;
/// How many accounts or paths one warning names.
const MAX_NAMED: usize = 10;

/// The providers of the file, each with its accounts; both ascending, so that places here are places in
/// the configuration.
pub(super) struct Names(Vec<(String, Vec<String>)>);

impl Names {
    pub(super) fn new(providers: &BTreeMap<String, file::Provider>) -> Self {
        let names = |(name, provider): (&String, _)| (name.clone(), account::names(provider));
        Self(providers.iter().map(names).collect())
    }
}

/// How callers come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listening {
    /// Whether they can show certificates.
    pub(super) has_client_ca: bool,
    /// Whether others than this machine's users can try passwords.
    pub(super) is_exposed: bool,
}

/// Turns the file's callers into [`Caller`]s.
pub(super) fn callers(
    callers: BTreeMap<String, file::Caller>,
    names: &Names,
    listening: Listening,
    problems: &mut Diagnostics,
) -> Vec<Caller> {
    let mut compiled = Vec::new();
    for (name, caller) in callers {
        let path = join("callers", &name);
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            problems.add(&path, "a caller's name must not be empty or hold `:` or control characters, because it is the user name of Basic authentication");
        }
        refuse_reserved(&name, &path, problems);
        if caller.allow.is_empty() {
            problems.warn(
                &path,
                "may reach nothing, because `allow` is missing or empty",
            );
        }
        let allow = caller
            .allow
            .into_iter()
            .enumerate()
            .filter_map(|(at, allow)| {
                self::allow(allow, &format!("{path}.allow[{at}]"), names, problems)
            });
        let allow = allow.collect();
        let passwords = passwords(caller.password, caller.passwords, &path, problems);
        for (path, password) in passwords.iter().flatten() {
            judge_length(password, path, listening, problems);
        }
        let passwords = passwords.map(|list| list.into_iter().map(|(_, password)| password));
        let addresses = caller
            .addresses
            .map(|texts| addresses(&texts, &join(&path, "addresses"), problems));
        let certificate = caller
            .certificate
            .map(|name| certificate(&name, &join(&path, "certificate"), problems));
        if passwords.is_none() && addresses.is_none() && certificate.is_none() {
            problems.add(
                &join(&path, "password"),
                "is missing; a caller is known by `password`, `passwords`, `addresses` or `certificate`",
            );
        }
        compiled.push(Caller {
            name: name.into(),
            passwords: passwords.into_iter().flatten().collect(),
            addresses: addresses.unwrap_or_default(),
            certificate,
            limits: limits::caller(caller.limits),
            allow,
        });
    }
    refuse_overlaps(&compiled, problems);
    for caller in compiled.iter().filter(|_| !listening.has_client_ca) {
        if caller.certificate.is_some() {
            problems.add(
                &format!("callers.{}.certificate", caller.name),
                "needs TLS on `listen` with `tls.client_ca`, so that callers can show a certificate",
            );
        }
    }
    compiled
}

/// Passwords with their key paths; none where the file has none.
fn passwords(
    one: Option<file::Hidden>,
    more: Option<Vec<file::Hidden>>,
    path: &str,
    problems: &mut Diagnostics,
) -> Option<Vec<(String, Password)>> {
    if one.is_none() && more.is_none() {
        return None;
    }
    if more.as_ref().is_some_and(Vec::is_empty) {
        problems.add(&join(path, "passwords"), "is empty; name at least one");
    }
    let one = one.map(|text| (join(path, "password"), text));
    let more = more.into_iter().flatten().enumerate();
    let more = more.map(|(at, text)| (join(path, &format!("passwords[{at}]")), text));
    let parse = |(path, file::Hidden(text)): (String, _)| {
        let parsed = Password::parse(text);
        let parsed = parsed.map_err(|error| problems.add(&path, error));
        parsed.ok().map(|password| (path, password))
    };
    Some(one.into_iter().chain(more).filter_map(parse).collect())
}

/// One that can be guessed. How long a hashed one is, nobody knows.
fn judge_length(password: &Password, path: &str, listening: Listening, problems: &mut Diagnostics) {
    let Password::Plain(text) = password else {
        return;
    };
    let length = text.expose().chars().count();
    if length < MIN_PASSWORD && listening.is_exposed {
        problems.add(
            path,
            format_args!("has fewer than {MIN_PASSWORD} characters, and beyond loopback (`listen`) others can try them all; `openssl rand -hex 24` makes a good one"),
        );
    } else if length < GOOD_PASSWORD {
        problems.warn(
            path,
            format_args!("has fewer than {GOOD_PASSWORD} characters, which can be guessed; `openssl rand -hex 24` makes a good one"),
        );
    }
}

fn addresses(texts: &[String], path: &str, problems: &mut Diagnostics) -> Vec<IpNet> {
    if texts.is_empty() {
        problems.add(path, "is empty; leave it out to mean any address");
    }
    let parse = |(at, text): (usize, &String)| {
        let path = format!("{path}[{at}]");
        let address = |text: &String| text.parse().ok().map(|address: IpAddr| address.into());
        let Some(range) = text.parse::<IpNet>().ok().or_else(|| address(text)) else {
            problems.add(
                &path,
                "is not an address range; write it as 10.2.0.0/16 or fd00:2::/32",
            );
            return None;
        };
        if range.network() != range.addr() {
            problems.add(
                &path,
                "is an address inside of a range; write the range's first address",
            );
        }
        if matches!(range, IpNet::V6(range) if range.addr().to_ipv4_mapped().is_some()) {
            problems.add(&path, "is an IPv4 range in IPv6 form; write it as IPv4");
        }
        Some(range.trunc())
    };
    texts.iter().enumerate().filter_map(parse).collect()
}

fn certificate(name: &str, path: &str, problems: &mut Diagnostics) -> Box<str> {
    if name.contains(':') {
        if name.parse::<http::Uri>().is_err() {
            problems.add(path, "is no URI; write it as it stands in the certificate");
        }
        return name.into();
    }
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !label.is_empty() && label.bytes().all(is_part)
    };
    if !name.split('.').all(is_label) {
        problems.add(path, "is neither a URI nor a DNS name; it is compared with the certificate's subjectAltName, in full");
    }
    name.to_ascii_lowercase().into()
}

/// Callers without a password that could both be meant by one connection could not be told apart.
fn refuse_overlaps(callers: &[Caller], problems: &mut Diagnostics) {
    let mut by_certificate: BTreeMap<Option<&str>, Vec<(IpNet, &Caller)>> = BTreeMap::new();
    for caller in callers.iter().filter(|caller| caller.passwords.is_empty()) {
        let group = by_certificate
            .entry(caller.certificate.as_deref())
            .or_default();
        if caller.addresses.is_empty() {
            group.extend(everywhere().map(|range| (range, caller)));
        }
        let together = IpNet::aggregate(&caller.addresses);
        if caller.certificate.is_none() && together.iter().any(|range| range.prefix_len() == 0) {
            problems.add(
                &format!("callers.{}.addresses", caller.name),
                "means everybody; a caller that is known by its address alone needs narrower ranges",
            );
        }
        group.extend(caller.addresses.iter().map(|range| (*range, caller)));
    }
    for mut group in by_certificate.into_values() {
        // Ranges are nested or apart: one overlaps an earlier one if it begins before that one ends.
        group.sort_by_key(|(range, _)| (range.network(), range.prefix_len()));
        let mut widest: Option<(IpNet, &Caller)> = None;
        for (range, caller) in group {
            match widest {
                Some((wide, owner)) if wide.contains(&range) => {
                    if owner.name != caller.name {
                        problems.add(
                            &format!("callers.{}", caller.name),
                            format_args!("has addresses of the caller {} too; without passwords the two could not be told apart", owner.name),
                        );
                    }
                }
                _ => widest = Some((range, caller)),
            }
        }
    }
}

/// What a caller without `addresses` calls from.
fn everywhere() -> impl Iterator<Item = IpNet> {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into_iter()
}

fn allow(
    allow: file::Allow,
    path: &str,
    names: &Names,
    problems: &mut Diagnostics,
) -> Option<Allow> {
    let (some, provider_key) = match allow {
        file::Allow::Provider(name) => (
            file::AllowSome {
                provider: Some(name),
                ..file::AllowSome::default()
            },
            path.to_owned(),
        ),
        file::Allow::Some(some) => (some, join(path, "provider")),
    };
    let methods = methods(some.methods, &join(path, "methods"), problems);
    let paths = some
        .paths
        .map(|paths| patterns(&paths, &join(path, "paths"), problems));
    let Some(name) = some.provider else {
        problems.add(&provider_key, "is missing");
        return None;
    };
    let Ok(provider) = names.0.binary_search_by(|(known, _)| known.cmp(&name)) else {
        let known: Vec<&str> = names.0.iter().map(|(name, _)| name.as_str()).collect();
        problems.add(&provider_key, no_provider(&name, &known));
        return None;
    };
    let accounts = match (some.account, some.accounts) {
        (Some(account), None) => Some((join(path, "account"), vec![account])),
        (None, Some(accounts)) => Some((join(path, "accounts"), accounts)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            problems.add(
                &join(path, "accounts"),
                "stands beside `account`; keep one of the two",
            );
            None
        }
    };
    let known = names.0.get(provider).map_or(&[][..], |(_, known)| known);
    let accounts = accounts.map(|(path, wanted)| places(known, &wanted, &path, problems));
    Some(Allow {
        provider,
        methods,
        paths,
        accounts,
    })
}

/// What to say of a name that is no provider's.
fn no_provider(name: &str, known: &[&str]) -> String {
    let what = "names no provider of this file";
    if ["*", "all", "any"].contains(&name) {
        return format!(
            "{what}; name each that the caller may use: {}",
            known.join(", ")
        );
    }
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("{what}; did you mean {near}?"),
        None => format!("{what}; there are: {}", known.join(", ")),
    }
}

/// Where these accounts are among a provider's.
fn places(
    known: &[String],
    wanted: &[String],
    path: &str,
    problems: &mut Diagnostics,
) -> Box<[usize]> {
    if wanted.is_empty() {
        problems.add(path, "is empty; leave it out to mean any account");
    }
    let mut places: Vec<usize> = Vec::with_capacity(wanted.len());
    for name in wanted {
        match known.binary_search(name) {
            Ok(place) => places.push(place),
            Err(_) => problems.add(path, "names no account of that provider"),
        }
    }
    places.sort_unstable();
    places.dedup();
    places.into()
}

/// What is allowed to no effect, and what nobody may use.
pub(super) fn warn_of_what_is_in_vain(
    callers: &[Caller],
    names: &Names,
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) {
    warn_of_unused_accounts(callers, names, problems);
    warn_of_paths_outside(callers, providers, problems);
}

/// What is allowed there is refused all the same.
fn warn_of_paths_outside(
    callers: &[Caller],
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) {
    // Where one is wrong, its place here is not that in the file.
    if problems.has_below("callers") {
        return;
    }
    let provider_of = |allow: &Allow| providers.iter().find(|it| it.index == allow.provider);
    for caller in callers {
        for (place, allow) in caller.allow.iter().enumerate() {
            let Some(provider) = provider_of(allow).filter(|it| !it.paths.is_empty()) else {
                continue;
            };
            for (at, path) in allow.paths.iter().flatten().enumerate() {
                if provider.paths.iter().any(|known| known.overlaps(path)) {
                    continue;
                }
                let known: Vec<&str> = provider.paths.iter().map(Pattern::as_str).collect();
                problems.warn(
                    &join(
                        &join("callers", &caller.name),
                        &format!("allow[{place}].paths[{at}]"),
                    ),
                    format_args!(
                        "allows nothing, because the API's paths of {} are {}",
                        provider.name,
                        first_of(&known, MAX_NAMED)
                    ),
                );
            }
        }
    }
}

/// Money that nobody can spend is probably a mistake in `allow`.
fn warn_of_unused_accounts(callers: &[Caller], names: &Names, problems: &mut Diagnostics) {
    // It follows from what is wrong with a caller.
    if problems.has_below("callers") {
        return;
    }
    for (provider, (name, accounts)) in names.0.iter().enumerate() {
        let mut is_used = vec![false; accounts.len()];
        let allows = callers.iter().flat_map(|caller| &caller.allow);
        for allow in allows.filter(|allow| allow.provider == provider) {
            match &allow.accounts {
                None => is_used.fill(true),
                Some(places) => {
                    for place in places {
                        is_used[*place] = true;
                    }
                }
            }
        }
        let unused: Vec<&str> = std::iter::zip(accounts, is_used)
            .filter_map(|(name, is_used)| (!is_used).then_some(name.as_str()))
            .collect();
        if !unused.is_empty() {
            problems.warn(
                &join("providers", name),
                format_args!(
                    "no caller may use the account {}; add it to some caller's `allow`, or remove it",
                    first_of(&unused, MAX_NAMED)
                ),
            );
        }
    }
}
