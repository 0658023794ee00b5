//! From the list of what else callers may reach to [`Passthrough`].

use std::sync::Arc;

use super::value::host;
use crate::caller::Caller;
use crate::defaults::passthrough as defaults;
use crate::diagnostic::Diagnostics;
use crate::file;
use crate::host::Host;
use crate::node::join;
use crate::passthrough::Passthrough;
use crate::provider::Provider;
use bursar_base::address::undotted;

pub(super) fn compile(
    list: Vec<file::Passthrough>,
    callers: &[Caller],
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) -> Vec<Passthrough> {
    let mut compiled = Vec::new();
    for (at, entry) in list.into_iter().enumerate() {
        let path = format!("passthrough[{at}]");
        let ports = entry.ports.unwrap_or_else(|| defaults::PORTS.to_vec());
        if ports.is_empty() || ports.contains(&0) {
            problems.add(&join(&path, "ports"), "must name ports from 1 to 65535");
        }
        let allowed = entry
            .callers
            .map(|names| known(names, &join(&path, "callers"), callers, problems));
        let key = join(&path, "host");
        let Some(text) = entry.host else {
            problems.add(&key, "is missing");
            continue;
        };
        let Some(host) = host(&text, &key, problems) else {
            continue;
        };
        if host.port.is_some() {
            problems.add(&key, "must not name a port; `ports` does");
        }
        refuse_providers(&host, &key, providers, problems);
        compiled.push(Passthrough {
            host,
            ports,
            callers: allowed,
        });
    }
    compiled
}

fn known(
    names: Vec<String>,
    path: &str,
    callers: &[Caller],
    problems: &mut Diagnostics,
) -> Vec<Arc<str>> {
    for (at, name) in names.iter().enumerate() {
        if !callers.iter().any(|caller| *caller.name == **name) {
            let path = format!("{path}[{at}]");
            problems.add(&path, "names no caller of this file");
        }
    }
    names.into_iter().map(Arc::from).collect()
}

/// What goes past the pipeline must not lead to where tokens are due, nor to where they are made.
fn refuse_providers(
    host: &Host,
    path: &str,
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) {
    for provider in providers {
        let is_it = |name: &str| host.matches(&undotted(name).to_ascii_lowercase());
        let upstream = provider
            .upstream
            .as_ref()
            .map(|upstream| upstream.authority.host());
        if provider.hosts.iter().any(|own| own.overlaps(host)) {
            problems.add(
                path,
                format_args!(
                    "is also a host of the provider {}; callers would pass by its token",
                    provider.name
                ),
            );
        } else if provider.token.urls().filter_map(http::Uri::host).any(is_it) {
            problems.add(
                path,
                format_args!(
                    "is also the host of a token endpoint of the provider {}",
                    provider.name
                ),
            );
        } else if upstream.is_some_and(is_it) {
            problems.add(
                path,
                format_args!(
                    "is also the upstream of the provider {}; callers would pass by its rules",
                    provider.name
                ),
            );
        }
    }
}
