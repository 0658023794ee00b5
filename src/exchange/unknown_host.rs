//! Descriptions of hosts that no provider has: what the caller probably meant, and what to do.
//!
//! A caller is told of the providers that it may use, and of what everybody can know of the presets; of nothing else.
//! Nothing that came over the wire is repeated.

use std::sync::Arc;

use bursar_base::address::undotted;
use bursar_base::spelling::is_one_off;
use bursar_config::{Allow, Environment, Host, KnownHost, Provider};
use bursar_telemetry::metrics::RefusalDetail;

/// What was probably meant.
#[derive(Debug)]
pub struct Guess {
    /// What the caller is told.
    pub text: String,
    /// What the log is told. None: nothing but that nobody has the host.
    pub detail: Option<RefusalDetail>,
}

impl Guess {
    fn of(detail: RefusalDetail, text: String) -> Self {
        Self {
            text,
            detail: Some(detail),
        }
    }
}

/// What a caller may know.
#[derive(Debug)]
pub struct Visible<'a> {
    providers: Vec<&'a Provider>,
    /// Hosts of `passthrough` that it may reach.
    listed: Vec<&'a Host>,
}

impl<'a> Visible<'a> {
    /// `allow` is None where there is no authentication.
    #[must_use]
    pub fn new(
        providers: &'a [Arc<Provider>],
        allow: Option<&[Allow]>,
        listed: impl Iterator<Item = &'a Host>,
    ) -> Self {
        let is_visible = |provider: &&Arc<Provider>| {
            allow.is_none_or(|list| list.iter().any(|allow| allow.provider == provider.index))
        };
        let visible = providers.iter().filter(is_visible);
        Self {
            providers: visible.map(|provider| &**provider).collect(),
            listed: listed.collect(),
        }
    }

    /// What to say of a host that no provider has; None where there is nothing to say but that.
    #[must_use]
    pub fn guess(&self, host: &str) -> Option<Guess> {
        let lower = host.to_ascii_lowercase();
        let host = undotted(&lower);
        let known = || {
            let known = KnownHost::all().find(|known| known.name == host)?;
            Some(self.known(known))
        };
        self.token_host(host)
            .or_else(|| self.other_port(host))
            .or_else(known)
            .or_else(|| self.one_off(host))
    }

    fn token_host(&self, host: &str) -> Option<Guess> {
        let provider = self
            .providers
            .iter()
            .find(|provider| is_token_host(provider, host))?;
        Some(Guess::of(
            RefusalDetail::TokenHost,
            format!(
                "the tokens of the provider {} come from this host, and Bursar obtains them itself: leave the token call out",
                provider.name
            ),
        ))
    }

    fn other_port(&self, host: &str) -> Option<Guess> {
        let all = self
            .providers
            .iter()
            .flat_map(|provider| provider.hosts.iter().map(|host| (&provider.name, host)));
        let (name, found) = all.into_iter().find(|(_, own)| own.matches(host))?;
        let ports = found
            .port
            .map_or_else(|| "80 and 443".to_owned(), |port| port.to_string());
        Some(Guess::of(
            RefusalDetail::OtherPort,
            format!(
                "the provider {name} has this host at port {ports} alone; see `hosts` of the provider"
            ),
        ))
    }

    /// What to say of a preset's host that no provider of the file has.
    fn known(&self, known: KnownHost) -> Guess {
        let (title, environment) = (known.title, known.environment.as_str());
        let mut own = self.providers.iter();
        let provider = own.find(|provider| *provider.title == *title);
        let other = provider.filter(|provider| {
            let own = provider.environment;
            own.is_some_and(|own| own != known.environment)
        });
        let what = match known.is_for_tokens {
            true => format!(
                "this is where {title}'s {environment} tokens come from, and Bursar obtains tokens itself"
            ),
            false => format!("this is {title}'s {environment} host"),
        };
        let more = match (provider, other) {
            (None, _) => "; no provider here has it, see `hosts` of the providers".to_owned(),
            (_, Some(other)) => of_environment(other),
            (Some(_), None) if known.is_for_tokens => ": leave the token call out".to_owned(),
            (Some(own), None) => format!(
                ", which `{}` here does not have; see `hosts` of the provider",
                own.name
            ),
        };
        let detail = match () {
            () if other.is_some() => Some(RefusalDetail::OtherEnvironment),
            () if known.is_for_tokens => Some(RefusalDetail::TokenHost),
            () => None,
        };
        Guess {
            text: what + &more,
            detail,
        }
    }

    /// What to say of a host that is one letter off.
    fn one_off(&self, host: &str) -> Option<Guess> {
        let own = self.providers.iter().flat_map(|provider| &provider.hosts);
        let own = own.chain(self.listed.iter().copied());
        let own = own.filter_map(|own| near(own, host)).next();
        let known = || {
            let known = KnownHost::all().find(|known| is_one_off(known.name, host))?;
            Some((known.name.to_owned(), Some(known)))
        };
        let (meant, known) = own.map(|own| (own, None)).or_else(known)?;
        let about = known.map(|known| match self.has(known.environment, known.title) {
            true => String::new(),
            false => format!(" ({}'s {} host)", known.title, known.environment.as_str()),
        });
        let about = about.unwrap_or_default();
        Some(Guess {
            text: format!("no provider has this host; did you mean {meant}{about}?"),
            detail: None,
        })
    }

    fn has(&self, environment: Environment, title: &str) -> bool {
        let is_it = |provider: &&Provider| {
            *provider.title == *title && provider.environment == Some(environment)
        };
        self.providers.iter().any(is_it)
    }
}

fn of_environment(provider: &Provider) -> String {
    let environment = provider.environment.map_or("", Environment::as_str);
    let first = provider.hosts.first();
    let such_as = first.map(|host| format!(", with hosts such as {host}"));
    format!(
        "; `{}` here is {environment}{}",
        provider.name,
        such_as.unwrap_or_default()
    )
}

fn is_token_host(provider: &Provider, host: &str) -> bool {
    let mut hosts = provider.token.urls().filter_map(http::Uri::host);
    hosts.any(|own| undotted(own).eq_ignore_ascii_case(host))
}

/// The name that is one letter off of the host.
fn near(own: &Host, host: &str) -> Option<String> {
    if !own.wildcard {
        return is_one_off(&own.name, host).then(|| own.name.to_string());
    }
    // Whatever stands before as many labels as the name has is free.
    let labels = own.name.split('.').count();
    let (at, _) = host.rmatch_indices('.').nth(labels.checked_sub(1)?)?;
    let below = host.get(at..)?.strip_prefix('.')?;
    (at > 0 && is_one_off(&own.name, below)).then(|| format!("*.{}", own.name))
}

#[cfg(test)]
mod tests;
