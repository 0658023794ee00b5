//! From the callers of the file, and what they may use, to [`Caller`]s.

use std::collections::BTreeMap;

use super::account;
use super::value::{methods, patterns, refuse_reserved};
use crate::config::file;
use crate::config::node::join;
use crate::config::problem::Problems;
use crate::config::{Allow, Caller};

/// How many unused accounts one warning names.
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

/// Turns the file's callers into [`Caller`]s.
pub(super) fn callers(
    callers: BTreeMap<String, file::Caller>,
    names: &Names,
    problems: &mut Problems,
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
        match caller.password {
            Some(file::Hidden(password)) if !password.expose().is_empty() => {
                compiled.push(Caller {
                    name: name.into(),
                    password,
                    allow,
                })
            }
            Some(_) => problems.add(&join(&path, "password"), "is empty"),
            None => problems.add(&join(&path, "password"), "is missing"),
        }
    }
    compiled
}

fn allow(allow: file::Allow, path: &str, names: &Names, problems: &mut Problems) -> Option<Allow> {
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
        problems.add(
            &provider_key,
            format_args!(
                "names no provider of this file; there are: {}",
                known.join(", ")
            ),
        );
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

/// Where these accounts are among a provider's.
fn places(
    known: &[String],
    wanted: &[String],
    path: &str,
    problems: &mut Problems,
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

/// Money that nobody can spend is probably a mistake in `allow`.
pub(super) fn warn_of_unused_accounts(callers: &[Caller], names: &Names, problems: &mut Problems) {
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
        let more = match unused.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if !unused.is_empty() {
            let named: Vec<&str> = unused.into_iter().take(MAX_NAMED).collect();
            problems.warn(
                &join("providers", name),
                format_args!(
                    "no caller may use the account {}{more}; add it to some caller's `allow`, or remove it",
                    named.join(", ")
                ),
            );
        }
    }
}
