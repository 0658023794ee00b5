//! From `fleet` to a [`FleetConfig`].

mod store_url;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::provider_tls::{Shared, warn_of_trusted};
use crate::defaults::fleet as defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, Hidden};
use crate::fleet::{FleetConfig, FleetKey, Sentinel, StoreAddress, StoreTls, StoreUrl};
use crate::provider::Provider;
use bursar_tls::{client, system};
use store_url::Server;

/// Whoever reads looks under a name of each key.
const MAX_KEYS: usize = 8;
/// More servers are no better to begin with; which others there are they know.
const MAX_URLS: usize = 64;
/// Of the fleet's name, which is repeated in every name in the store.
const MAX_NAME: usize = 64;

const URLS: [&str; 3] = ["url", "sentinel", "cluster"];

pub(super) fn compile(
    file: Option<file::Fleet>,
    shared: &Shared<'_>,
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) -> Option<FleetConfig> {
    let Some(file) = file else {
        warn_of_single_active(providers, problems);
        return None;
    };
    let keys = keys(file.keys, problems);
    let name = name(file.name, problems);
    let is_there = [
        file.url.is_some(),
        file.sentinel.is_some(),
        file.cluster.is_some(),
    ];
    let mut named = URLS.iter().zip(is_there).filter(|(_, is_there)| *is_there);
    let store = match (named.next(), named.next()) {
        (Some(_), None) => store(file.url, file.sentinel, file.cluster, problems)?,
        (None, _) => {
            problems.add(
                "fleet",
                "does not say where the store is; it needs one of `url`, `sentinel` and `cluster`",
            );
            return None;
        }
        (Some((one, _)), Some((other, _))) => {
            problems.add(
                &format!("fleet.{other}"),
                format_args!("says where the store is, and so does `{one}`; keep one of the two"),
            );
            return None;
        }
    };
    let tls = tls(&store, file.tls.ca, shared, problems);
    Some(FleetConfig {
        store,
        tls,
        keys: keys?,
        name: name?,
        on_outage: file.on_outage,
    })
}

/// The same without the rest of the file.
pub(crate) fn compile_alone(
    file: Option<file::Fleet>,
    directory: &Path,
    problems: &mut Diagnostics,
) -> Option<FleetConfig> {
    let shared = Shared {
        directory,
        system: None,
    };
    compile(file, &shared, &[], problems)
}

/// Instances that end each other's tokens ought to know of each other.
fn warn_of_single_active(providers: &[Arc<Provider>], problems: &mut Diagnostics) {
    for provider in providers {
        if provider.token.single_active {
            problems.warn(
                &format!("providers.{}.token.single_active", provider.name),
                "is of use with `fleet` only: without it, several instances end each other's tokens",
            );
        }
    }
}

fn keys(keys: Option<Vec<Hidden>>, problems: &mut Diagnostics) -> Option<Vec<FleetKey>> {
    const KEY: &str = "fleet.keys";
    let keys = keys.unwrap_or_default();
    if keys.is_empty() {
        problems.add_missing(
            KEY,
            "is missing or empty; name at least one key of 32 bytes in base64, which `openssl rand -base64 32` makes",
        );
        return None;
    }
    if keys.len() > MAX_KEYS {
        problems.add(KEY, format_args!("holds more than {MAX_KEYS} keys"));
    }
    let mut compiled: Vec<FleetKey> = Vec::with_capacity(keys.len());
    let given = keys.len();
    for (at, Hidden(text)) in keys.iter().enumerate() {
        let path = format!("{KEY}[{at}]");
        match key(text.expose()) {
            Ok(key) => match compiled.iter().position(|other| *other == key) {
                Some(_) => problems.add(&path, "is the same key as another one"),
                None => compiled.push(key),
            },
            Err(why) => problems.add(
                &path,
                format_args!("{why}; `openssl rand -base64 32` makes a key"),
            ),
        }
    }
    (compiled.len() == given).then_some(compiled)
}

/// In either alphabet, and with or without padding: what people make keys with differs.
fn key(text: &str) -> Result<FleetKey, &'static str> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let engine = match text.contains(['-', '_']) {
        true => URL_SAFE,
        false => STANDARD,
    };
    // Decoded in place, so that nothing is left behind: four digits are three bytes.
    let mut bytes = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
    let length = engine
        .decode_slice(text, &mut bytes)
        .map_err(|_error| "is not base64")?;
    let bytes = bytes.get(..length).and_then(|bytes| bytes.try_into().ok());
    let bytes: &[u8; FleetKey::LENGTH] = bytes.ok_or("does not hold 32 bytes")?;
    Ok(FleetKey::new(Zeroizing::new(*bytes)))
}

fn name(name: Option<String>, problems: &mut Diagnostics) -> Option<Box<str>> {
    let name = name.unwrap_or_else(|| defaults::NAME.to_owned());
    let word = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
    if !(1..=MAX_NAME).contains(&name.len()) || !name.chars().all(word) {
        problems.add(
            "fleet.name",
            "must be 1 to 64 letters, digits, `_`, `-` and `.`, because it is part of names in the store",
        );
        return None;
    }
    Some(name.into())
}

fn store(
    url: Option<Hidden>,
    sentinel: Option<file::Sentinel>,
    cluster: Option<Vec<Hidden>>,
    problems: &mut Diagnostics,
) -> Option<StoreAddress> {
    if let Some(Hidden(url)) = url {
        return store_url::parse(url.expose(), Server::Single, "fleet.url", problems)
            .map(StoreAddress::Single);
    }
    if let Some(file) = sentinel {
        return sentinels(file, problems).map(StoreAddress::Sentinel);
    }
    let key = "fleet.cluster";
    let urls = urls(&cluster?, Server::ClusterNode, key, problems)?;
    let credentials = |url: &StoreUrl| (url.username.clone(), url.password.clone());
    if urls
        .iter()
        .any(|url| credentials(url) != credentials(&urls[0]))
    {
        problems.add(
            key,
            "has nodes with different users or passwords; those of one cluster must have the same",
        );
        return None;
    }
    Some(StoreAddress::Cluster(urls))
}

fn sentinels(file: file::Sentinel, problems: &mut Diagnostics) -> Option<Sentinel> {
    let key = "fleet.sentinel.urls";
    let master = file.master.filter(|master| !master.is_empty());
    if master.is_none() {
        problems.add(
            "fleet.sentinel.master",
            "is missing; it is the name after `sentinel monitor` in the Sentinels' configuration",
        );
    }
    let given = |text: &Option<Hidden>| text.as_ref().map(|Hidden(text)| !text.expose().is_empty());
    if given(&file.username).is_some() && given(&file.password).is_none() {
        problems.add(
            "fleet.sentinel.password",
            "is missing; nobody logs in with a `username` alone",
        );
    }
    for (key, text) in [("username", &file.username), ("password", &file.password)] {
        if given(text) == Some(false) {
            problems.add(&format!("fleet.sentinel.{key}"), "is empty");
        }
    }
    let urls = urls(
        &file.urls.unwrap_or_default(),
        Server::Sentinel,
        key,
        problems,
    )?;
    let is_clear = urls.iter().any(|url| !url.tls && !url.is_loopback());
    if file.password.is_some() && is_clear {
        problems.warn("fleet.sentinel.password", store_url::CLEAR_PASSWORD);
    }
    Some(Sentinel {
        urls,
        master: master?.into(),
        username: file.username.map(|Hidden(username)| username),
        password: file.password.map(|Hidden(password)| password),
    })
}

/// One server or more, all of them with TLS or all without.
fn urls(
    texts: &[Hidden],
    server: Server,
    key: &str,
    problems: &mut Diagnostics,
) -> Option<Vec<StoreUrl>> {
    if texts.is_empty() {
        problems.add_missing(key, "is missing or empty; name at least one server");
        return None;
    }
    if texts.len() > MAX_URLS {
        problems.add(key, format_args!("holds more than {MAX_URLS} servers"));
        return None;
    }
    let mut urls: Vec<StoreUrl> = Vec::with_capacity(texts.len());
    for (at, Hidden(text)) in texts.iter().enumerate() {
        let path = format!("{key}[{at}]");
        let Some(url) = store_url::parse(text.expose(), server, &path, problems) else {
            continue;
        };
        let place = |url: &StoreUrl| (url.host.clone(), url.port);
        if urls.iter().any(|other| place(other) == place(&url)) {
            problems.add(&path, "is the same server as another one");
        } else if urls.first().is_some_and(|first| first.tls != url.tls) {
            problems.add(
                &path,
                "must begin as the first one: all are `rediss://`, or all are `redis://`",
            );
        }
        urls.push(url);
    }
    (urls.len() == texts.len()).then_some(urls)
}

/// None: there is no TLS, or something is wrong.
fn tls(
    store: &StoreAddress,
    ca: Option<String>,
    shared: &Shared<'_>,
    problems: &mut Diagnostics,
) -> Option<StoreTls> {
    const KEY: &str = "fleet.tls.ca";
    let is_used = match store {
        StoreAddress::Single(url) => url.tls,
        StoreAddress::Sentinel(Sentinel { urls, .. }) | StoreAddress::Cluster(urls) => {
            urls.iter().any(|url| url.tls)
        }
    };
    let system = shared.system.as_ref().map(|(roots, _)| roots);
    let loaded = match (ca, system) {
        (None, _) if !is_used => return None,
        (Some(_), _) if !is_used => {
            problems.warn(
                KEY,
                "has no effect, because the store's URL does not begin with `rediss://`",
            );
            return None;
        }
        (Some(ca), _) => client::pem(&shared.directory.join(ca)).and_then(|pem| {
            let trusted = client::roots_of(&pem)?;
            warn_of_trusted(&trusted, KEY, problems);
            Ok(StoreTls {
                roots: trusted.roots,
                ca: Some(pem.as_slice().into()),
            })
        }),
        (None, Some(roots)) => Ok(StoreTls {
            roots: roots.clone(),
            ca: None,
        }),
        (None, None) => system::roots().map(|roots| StoreTls { roots, ca: None }),
    };
    loaded.map_err(|error| problems.add(KEY, error)).ok()
}
