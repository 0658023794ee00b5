//! Environments of credentials and hosts: sandbox and production are never mixed.
//!
//! The environment decides a preset's hosts; overriding them must not lead into the other environment.
//! No key overrides this: whoever wants such a thing leaves `environment` and `preset` out.

use crate::diagnostic::Diagnostics;
use crate::file::Environment;
use crate::host::Host;
use crate::known_host::KnownHost;
use crate::provider::Provider;
use bursar_base::address::undotted;
use http::Uri;

/// Refuses hosts, upstream and token URLs that are the other environment's, of whichever preset.
pub(super) fn refuse_the_other(provider: &Provider, problems: &mut Diagnostics) {
    let Some(environment) = provider.environment else {
        return;
    };
    let other = match environment {
        Environment::Sandbox => Environment::Production,
        Environment::Production => Environment::Sandbox,
    };
    let own: Vec<&str> = hosts_of(environment).collect();
    let foreign: Vec<&str> = hosts_of(other).filter(|host| !own.contains(host)).collect();
    let mut refuse = |key: &str, is_foreign: bool| {
        if is_foreign {
            problems.add(
                &format!("providers.{}.{key}", provider.name),
                format_args!(
                    "is of {}, but `environment` says {}; the two are never mixed",
                    other.as_str(),
                    environment.as_str()
                ),
            );
        }
    };
    let is_meant = |host: &Host, foreign: &str| match host.wildcard {
        false => *host.name == *foreign,
        true => foreign
            .strip_suffix(&*host.name)
            .is_some_and(|below| below.ends_with('.')),
    };
    for (at, host) in provider.hosts.iter().enumerate() {
        let is_foreign = foreign.iter().any(|foreign| is_meant(host, foreign));
        refuse(&format!("hosts[{at}]"), is_foreign);
    }
    let is_foreign = |host: Option<&str>| {
        host.is_some_and(|host| {
            let host = undotted(host);
            foreign
                .iter()
                .any(|foreign| foreign.eq_ignore_ascii_case(host))
        })
    };
    let upstream = provider.upstream.as_ref();
    refuse(
        "upstream",
        is_foreign(upstream.map(|origin| origin.authority.host())),
    );
    refuse("token.url", is_foreign(provider.token.url.host()));
    let refresh_url = provider.token.refresh_url.as_ref();
    refuse(
        "token.refresh_url",
        is_foreign(refresh_url.and_then(Uri::host)),
    );
}

/// The hosts of APIs and token endpoints of all presets in an environment.
fn hosts_of(environment: Environment) -> impl Iterator<Item = &'static str> {
    let own = KnownHost::all().filter(move |known| known.environment == environment);
    own.map(|known| known.name)
}
