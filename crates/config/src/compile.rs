//! From plain data to [`Config`]: every default and every rule of the file, in one pass that goes on
//! after a problem so that all of them are reported.

mod account;
mod admin_hosts;
mod caller;
mod egress;
mod environment;
pub(super) mod fleet;
mod intercept;
pub(super) mod journal;
mod limits;
mod listen;
mod passthrough;
mod preset_hosts;
mod provider;
mod provider_tls;
mod route;
mod traces;
mod validity;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, Address, Size};
use crate::files::Files;
use crate::outline::Outline;
use crate::provider::Provider;
use bursar_base::secret::{Fingerprint, Secret};
use provider::ProviderFile;
use provider_tls::Shared;
use value::time;

/// Turns the file into the configuration, or reports why it cannot.
pub(super) fn compile(
    file: file::Proxy,
    directory: &Path,
    problems: &mut Diagnostics,
) -> Option<Config> {
    let listen = file
        .listen
        .map_or(defaults::LISTEN, |Address(listen)| listen);
    let admin = file.admin.map_or(defaults::ADMIN, |Address(admin)| admin);
    refuse_one_address(listen, admin, problems);
    let replay_memory = file
        .replay_memory
        .map_or(defaults::REPLAY_MEMORY, |Size(size)| size);
    refuse_what_is_missing(&file, listen, problems);
    let listening = caller::Listening {
        has_client_ca: (file.tls.as_ref()).is_some_and(|tls| tls.client_ca.is_some()),
        is_exposed: !listen.ip().is_loopback(),
    };
    let names = caller::Names::new(&file.providers);
    let callers = file
        .callers
        .map(|callers| caller::callers(callers, &names, listening, problems));
    let mut shared = Shared {
        directory,
        system: None,
    };
    let providers = compile_providers(file.providers, &file.passthrough, &mut shared, problems);
    refuse_shared_hosts(&providers, problems);
    let tls = listen::compile(file.tls, directory, problems);
    let intercept = intercept::compile(file.intercept, directory, &providers, problems);
    let journal = journal::compile(file.journal, directory, problems);
    let fleet = fleet::compile(file.fleet, &shared, &providers, problems);
    let known = callers.as_deref().unwrap_or_default();
    let passthrough = passthrough::compile(file.passthrough, known, &providers, problems);
    if let Some(callers) = &callers {
        caller::warn_of_what_is_in_vain(callers, &names, &providers, problems);
    }
    (providers.iter()).for_each(|provider| environment::refuse_the_other(provider, problems));
    let egress = egress::compile(file.egress, problems);
    let limits = limits::proxy(file.limits, callers.is_some(), problems);
    egress::warn_of_refused_literals(&egress, &providers, problems);
    Some(Config {
        listen,
        admin,
        admin_token: admin_token(file.admin_token, problems),
        admin_hosts: admin_hosts::compile(file.admin_hosts, problems),
        drain_delay: time(
            "drain_delay",
            file.drain_delay,
            defaults::DRAIN_DELAY,
            problems,
        ),
        drain_timeout: time(
            "drain_timeout",
            file.drain_timeout,
            defaults::DRAIN_TIMEOUT,
            problems,
        ),
        replay_memory,
        is_dumpable: file.process.dumpable.unwrap_or(defaults::DUMPABLE),
        limits,
        egress: Arc::new(egress),
        traces: traces::compile(file.traces, callers.is_some(), &shared, problems),
        callers,
        providers,
        passthrough,
        tls,
        intercept,
        journal,
        fleet,
        warnings: Vec::new(),
        files: Files::default(),
        outline: Outline::default(),
        hash: Fingerprint::of(""),
    })
}

fn compile_providers(
    providers: BTreeMap<String, file::Provider>,
    passthrough: &[file::Passthrough],
    shared: &mut Shared<'_>,
    problems: &mut Diagnostics,
) -> Vec<Arc<Provider>> {
    let mut providers: Vec<Provider> = (0..)
        .zip(providers)
        .filter_map(|(index, (name, provider))| {
            ProviderFile::new(&name, provider, problems)?.compile(index, shared, problems)
        })
        .collect();
    preset_hosts::yield_to_named(&mut providers, passthrough);
    providers.into_iter().map(Arc::new).collect()
}

fn refuse_what_is_missing(file: &file::Proxy, listen: SocketAddr, problems: &mut Diagnostics) {
    if file.callers.is_none() && !listen.ip().is_loopback() {
        problems.add("callers", "is missing; without it `listen` must be a loopback address, because whoever reaches the listener can spend the merchant's money");
    }
    if file.providers.is_empty() {
        problems.add_missing("providers", "is missing or empty; name at least one");
    }
}

/// What cannot both be bound.
fn refuse_one_address(listen: SocketAddr, admin: SocketAddr, problems: &mut Diagnostics) {
    let is_one = listen.ip() == admin.ip()
        || (listen.is_ipv4() == admin.is_ipv4()
            && (listen.ip().is_unspecified() || admin.ip().is_unspecified()));
    if is_one && listen.port() == admin.port() && listen.port() != 0 {
        let key = if problems.has_line("admin") {
            "admin"
        } else {
            "listen"
        };
        problems.add(
            key,
            format_args!("`listen` and `admin` are the same address and port; give `admin` another port, such as {}", other_port(listen.port())),
        );
    }
}

fn other_port(port: u16) -> u16 {
    let usual = defaults::ADMIN.port();
    if port == usual { usual + 1 } else { usual }
}

/// One that can be sent as a bearer token, and is not to be guessed.
pub(super) fn admin_token(
    token: Option<file::Hidden>,
    problems: &mut Diagnostics,
) -> Option<Secret> {
    let file::Hidden(token) = token?;
    let text = token.expose();
    if !(16..=1024).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        problems.add(
            "admin_token",
            "needs 16 to 1024 characters of those that a header may hold, without spaces",
        );
    }
    Some(token)
}

fn refuse_shared_hosts(providers: &[Arc<Provider>], problems: &mut Diagnostics) {
    let mut owners: HashMap<_, &Provider> = HashMap::new();
    for provider in providers {
        for host in &provider.hosts {
            let meant = (&host.name, host.wildcard, host.port);
            let owner = *owners.entry(meant).or_insert(provider);
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
