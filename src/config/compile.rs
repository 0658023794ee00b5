//! From plain data to [`Config`]: every default and every rule of the file, in one pass that goes on
//! after a problem so that all of them are reported.

mod egress;
mod environment;
mod provider;
mod value;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, Size};
use super::node::join;
use super::problem::Problems;
use super::{Allow, Caller, Config, Host, Provider};
use provider::{ProviderFile, Shared};
use value::{MIB, methods, patterns, refuse_reserved, time};

/// Turns the file into the configuration, or reports why it cannot.
pub(super) fn compile(
    file: file::Proxy,
    directory: &Path,
    problems: &mut Problems,
) -> Option<Config> {
    let listen = file
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 3128)));
    let replay_memory = file.replay_memory.map_or(256 * MIB, |Size(size)| size);
    if file.callers.is_none() && !listen.ip().is_loopback() {
        problems.add("callers", "is missing; without it `listen` must be a loopback address, because whoever reaches the listener can spend the merchant's money");
    }
    if file.providers.is_empty() {
        problems.add("providers", "is missing or empty; name at least one");
    }
    let names: Vec<String> = file.providers.keys().cloned().collect();
    let callers = file
        .callers
        .map(|callers| compile_callers(callers, &names, problems));
    let mut shared = Shared {
        directory,
        system: None,
    };
    let providers: Vec<_> = (0..)
        .zip(file.providers)
        .filter_map(|(index, (name, provider))| {
            ProviderFile::new(&name, provider, problems)?.compile(index, &mut shared, problems)
        })
        .map(Arc::new)
        .collect();
    refuse_shared_hosts(&providers, problems);
    for provider in &providers {
        environment::refuse_the_other(provider, problems);
    }
    let egress = egress::compile(file.egress, problems);
    egress::warn_of_refused_literals(&egress, &providers, problems);
    Some(Config {
        listen,
        admin: file
            .admin
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9128))),
        drain_delay: time("drain_delay", file.drain_delay, Duration::ZERO, problems),
        drain_timeout: time(
            "drain_timeout",
            file.drain_timeout,
            Duration::from_secs(30),
            problems,
        ),
        replay_memory,
        egress: Arc::new(egress),
        callers,
        providers,
        warnings: Vec::new(),
    })
}

fn compile_callers(
    callers: std::collections::BTreeMap<String, file::Caller>,
    providers: &[String],
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
                compile_allow(allow, &format!("{path}.allow[{at}]"), providers, problems)
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

fn compile_allow(
    allow: file::Allow,
    path: &str,
    providers: &[String],
    problems: &mut Problems,
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
    let provider = providers.iter().position(|provider| *provider == name);
    if provider.is_none() {
        let known = providers.join(", ");
        problems.add(
            &provider_key,
            format_args!("names no provider of this file; there are: {known}"),
        );
    }
    Some(Allow {
        provider: provider?,
        methods,
        paths,
    })
}

fn refuse_shared_hosts(providers: &[Arc<Provider>], problems: &mut Problems) {
    let mut owners: HashMap<&Host, &Provider> = HashMap::new();
    for provider in providers {
        for host in &provider.hosts {
            let owner = *owners.entry(host).or_insert(provider);
            if owner.index != provider.index {
                let path = format!("providers.{}.hosts", provider.name);
                problems.add(
                    &path,
                    format_args!(
                        "{} is already a host of the provider {}; requests could not be told apart",
                        host.name, owner.name
                    ),
                );
            }
        }
    }
}
