//! Known hosts: those of APIs and token endpoints of all presets, whatever the file has of them.

use crate::file::Environment;
use crate::presets::{Preset, PresetName};

/// A host of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHost {
    /// In lower case.
    pub name: &'static str,
    /// As the provider writes its name; [`Provider::title`](crate::Provider::title).
    pub title: &'static str,
    /// Which of its environments the host belongs to.
    pub environment: Environment,
    /// Whether nothing but tokens comes from there.
    pub is_for_tokens: bool,
}

impl KnownHost {
    /// Every one; a provider's own come in the order of its preset, and some belong to both environments.
    pub fn all() -> impl Iterator<Item = Self> {
        let environments = [Environment::Sandbox, Environment::Production];
        let both = move |preset| environments.map(|environment| (preset, environment));
        let all = PresetName::ALL.into_iter().flat_map(both);
        all.flat_map(|(preset, environment)| Self::of(preset, environment))
    }

    fn of(preset: PresetName, environment: Environment) -> impl Iterator<Item = Self> {
        let endpoints = Preset::of(preset).endpoints(environment);
        let is_of_api = |name: &str| endpoints.hosts.iter().any(|host| host.name == name);
        let urls = [Some(endpoints.token_url), endpoints.refresh_url];
        let urls = urls.into_iter().flatten();
        // A test parses every URL of a preset.
        let authorities = urls.filter_map(|url| url.strip_prefix("https://")?.split('/').next());
        let of_tokens = authorities.filter(move |name| !is_of_api(name));
        let of_api = endpoints.hosts.iter().map(|host| (host.name, false));
        let all = of_api.chain(of_tokens.map(|name| (name, true)));
        all.map(move |(name, is_for_tokens)| Self {
            name,
            title: preset.title(),
            environment,
            is_for_tokens,
        })
    }
}
