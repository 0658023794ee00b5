//! What a reload changes without a word of that in the file: payments that were frozen pass, and requests that passed are
//! refused.

use std::collections::{BTreeMap, HashMap};

use super::proxy::Proxy;
use bursar_base::listing::first_of;
use bursar_config::{Allow, Diagnostic, Host, Provider};

/// So many names of callers are in a warning; how many more there are is said.
const MAX_NAMES: usize = 5;

/// What whoever has replaced `old` by `new` may not have meant.
pub(super) fn of(old: &Proxy, new: &Proxy) -> Vec<Diagnostic> {
    let mut warnings = freezes(old, new);
    warnings.extend(accounts(old, new));
    warnings
}

/// A freeze is a name's: it does not follow a provider that is renamed, nor a host that goes to another one.
fn freezes(old: &Proxy, new: &Proxy) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (name, frozen) in old.admin_control.freezes() {
        let is_by_command = frozen.by_command.is_some();
        let Some(before) = provider(old, name) else {
            continue;
        };
        let now = provider(new, name);
        let is_lifted_by_file = now.is_some_and(|now| !now.is_frozen) && !is_by_command;
        if is_lifted_by_file {
            continue;
        }
        let taken = taken_hosts(before, now, old, new);
        let mut warn = |message| {
            warnings.push(Diagnostic {
                path: format!("providers.{name}"),
                line: None,
                message,
            });
        };
        if now.is_none() && is_by_command {
            warn(format!(
                "is frozen, and is no provider any more: its freeze holds nothing back, and holds again when there is a provider of that name, unless `bursar thaw {name}` takes it back"
            ));
        }
        for (taker, hosts) in taken {
            warn(format!(
                "is frozen, and {taker}, which is not, has its {} now: requests that move money pass there; `bursar freeze {taker}` stops them",
                hosts_named(&hosts)
            ));
        }
    }
    warnings
}

/// Where there was one account and there are several, requests that name none are refused. Whoever has always had to name
/// one does, which is why no single configuration is warned of.
fn accounts(old: &Proxy, new: &Proxy) -> Vec<Diagnostic> {
    let before: HashMap<&str, Option<&[Allow]>> = old.callers.allowed().collect();
    let mut callers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (caller, allow) in new.callers.allowed() {
        let Some(before) = before.get(caller) else {
            continue;
        };
        let before = has_choice(old, *before);
        for (provider, has_choice) in has_choice(new, allow) {
            if has_choice && before.get(provider) == Some(&false) {
                callers.entry(provider).or_default().push(caller);
            }
        }
    }
    let warnings = callers.into_iter().map(|(provider, callers)| {
        Diagnostic {
            path: format!("providers.{provider}"),
            line: None,
            message: format!(
                "there are several accounts for {} now, so that each request has to name one in the header Bursar-Account, and is refused with 403 where it does not; `account` in a caller's `allow` binds it to one",
                first_of(&callers, MAX_NAMES)
            ),
        }
    });
    warnings.collect()
}

/// The providers that are allowed, and whether there are several accounts that a request may name.
fn has_choice<'a>(proxy: &'a Proxy, allow: Option<&[Allow]>) -> BTreeMap<&'a str, bool> {
    let mut found: BTreeMap<&str, bool> = BTreeMap::new();
    let mut note = |provider: &'a Provider, accounts: usize| {
        *found.entry(&provider.name).or_default() |= accounts > 1;
    };
    match allow {
        None => {
            (proxy.providers.iter()).for_each(|provider| note(provider, provider.accounts.len()))
        }
        Some(allow) => {
            for allow in allow {
                let Some(provider) = proxy.providers.get(allow.provider) else {
                    continue;
                };
                let accounts = allow.accounts.as_ref();
                note(
                    provider,
                    accounts.map_or(provider.accounts.len(), |accounts| accounts.len()),
                );
            }
        }
    }
    found
}

/// The hosts of a provider that one which is not frozen has from it, by the name of that.
fn taken_hosts<'a>(
    before: &'a Provider,
    now: Option<&Provider>,
    old: &Proxy,
    new: &'a Proxy,
) -> BTreeMap<&'a str, Vec<&'a Host>> {
    let mut taken: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    let others = new.providers.iter();
    let others = others.filter(|other| other.name != before.name && !new.is_frozen(other));
    for other in others {
        let had = provider(old, &other.name).map_or(&[][..], |other| &other.hosts);
        for host in &before.hosts {
            let is_kept = now.is_some_and(|now| now.hosts.contains(host));
            let takes = |one: &Host| match one.wildcard && one.matches(&host.name) {
                // What is named more exactly goes first.
                true => !is_kept,
                false => !had.contains(one),
            };
            let meets = |one: &Host| one.overlaps(host) && has_port_of(one, host);
            if other.hosts.iter().any(|one| meets(one) && takes(one)) {
                taken.entry(&other.name).or_default().push(host);
            }
        }
    }
    taken
}

fn has_port_of(one: &Host, other: &Host) -> bool {
    let is_usual = |port: Option<u16>| port.is_none_or(|port| matches!(port, 80 | 443));
    match (one.port, other.port) {
        (Some(one), Some(other)) => one == other,
        (one, other) => is_usual(one) && is_usual(other),
    }
}

/// The first of them, and how many more there are.
fn hosts_named(hosts: &[&Host]) -> String {
    match hosts {
        [] => String::new(),
        [host] => format!("host {host}"),
        [host, more @ ..] => format!("host {host} and {} more", more.len()),
    }
}

fn provider<'a>(proxy: &'a Proxy, name: &str) -> Option<&'a Provider> {
    let found = proxy.providers.get(proxy.place_of(name)?);
    found.map(|provider| &**provider)
}
