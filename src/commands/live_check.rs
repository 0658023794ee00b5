//! `bursar check --live`: one token call for each account, and one TLS handshake with each API host, told in a line each
//! or as JSON.
//!
//! In a fleet it takes part as an instance does: a running one is never left with a token that this has ended.

mod fleet;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use rustls::ProtocolVersion;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use bursar::token::{Failure, LastCall, Source, Tokens};
use bursar::upstream::connect::{self, Connected, Connector};
use bursar::upstream::egress::Egress;
use bursar_config::{Config, Host, Http, Origin, Provider};
use bursar_telemetry::metrics::{Cause, Metrics};

/// Token calls and handshakes at a time; the others wait.
const MAX_CALLS: usize = 32;

/// Of an account whose new token would end the one that the fleet has.
const NOT_ASKED: &str = "not asked, because a new token would end the one that the fleet may have (token.single_active)";

/// What was tried, and what came of it, without the token.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tried {
    /// None: it is the fleet's store.
    provider: Option<String>,
    /// Whose token call it is. None: it is a connection.
    account: Option<String>,
    scopes: Option<String>,
    /// None: no call was made.
    url: Option<String>,
    /// None: it was not tried.
    ok: Option<bool>,
    message: String,
    /// Why there is no connection.
    cause: Option<&'static str>,
    /// What the token endpoint's response says beside its body.
    status: Option<u16>,
    content_type: Option<Box<str>>,
    redirect_host: Option<Box<str>>,
    /// The same for people.
    #[serde(skip)]
    line: String,
}

/// An API host that cannot be used.
struct Unusable {
    cause: Cause,
    error: String,
}

impl Tried {
    /// Whether it went well, or was not tried.
    pub(crate) fn is_well(&self) -> bool {
        self.ok != Some(false)
    }
}

/// All of them as text.
pub(crate) fn text(tried: &[Tried]) -> String {
    tried.iter().map(|tried| &*tried.line).collect()
}

/// Tries everything, and says what came back.
///
/// # Errors
/// Where the metrics, or TLS to the fleet's store, cannot be set up.
pub(crate) async fn run(config: &Config) -> anyhow::Result<Vec<Tried>> {
    let metrics = Metrics::new(config)?;
    let egress = Egress::new(&config.egress, &metrics);
    let fleet = fleet::join(config, &metrics).await?;
    let shared = fleet.as_ref().map(|fleet| fleet.tokens.clone());
    let tokens = Tokens::asleep(config, &metrics, &egress, shared);
    let permits = Arc::new(Semaphore::new(MAX_CALLS));
    let mut trying = JoinSet::new();
    let mut tried = Vec::new();
    for provider in &config.providers {
        // One token to an account: the default scopes, or the first route's.
        let scopes = provider.default_scopes.unwrap_or(0);
        for account in 0..provider.accounts.len() {
            let source = Arc::clone(tokens.source(provider.index, account, scopes));
            if fleet.as_ref().is_some_and(|fleet| !fleet.may_ask(provider)) {
                tried.push(of_call(&source, None, NOT_ASKED.to_owned(), None));
                continue;
            }
            let permits = permits.clone();
            trying.spawn(async move {
                // Never closed; without a permit it would only be more at a time.
                let _permit = permits.acquire_owned().await;
                let obtained = source.call_once().await;
                of_account(&source, obtained)
            });
        }
        for origin in origins(provider) {
            let (provider, permits) = (provider.clone(), permits.clone());
            let connector = Connector::of_api(&provider, &egress);
            trying.spawn(async move {
                let _permit = permits.acquire_owned().await;
                of_host(&provider, &connector, &origin).await
            });
        }
    }
    tried.extend(trying.join_all().await);
    if let Some(fleet) = &fleet {
        // What was obtained here is for all of them.
        fleet.tokens.end().await;
        tried.push(of_store(fleet).await);
    }
    tried.extend(config.providers.iter().flat_map(not_tried));
    tried.sort_by(|one, other| one.line.cmp(&other.line));
    Ok(tried)
}

fn of_account(source: &Source, obtained: Result<String, Failure>) -> Tried {
    let last = source.last_call();
    let call = match (&last, &obtained) {
        (Some(last), _) => format!("; {}", shown(last)),
        (None, Err(Failure::Rejected(..) | Failure::RateLimited(_) | Failure::ErrorStatus(..))) => {
            "; another instance of the fleet was told so a moment ago, and nothing was sent"
                .to_owned()
        }
        (None, _) => String::new(),
    };
    let is_well = obtained.is_ok();
    let said = obtained.unwrap_or_else(|failure| failure.to_string());
    of_call(source, Some(is_well), said + &call, last)
}

fn of_call(source: &Source, ok: Option<bool>, message: String, last: Option<LastCall>) -> Tried {
    let key = &source.key;
    let (provider, account) = (&key.provider.name, &key.account().name);
    let scopes = match &*key.scopes {
        "" => String::new(),
        scopes => format!(" [{scopes}]"),
    };
    let failed = failed_unless(ok != Some(false));
    let last = last.as_ref();
    let head = last.and_then(|last| last.response.as_ref());
    Tried {
        line: format!("  {provider} {account}{scopes}: {failed}{message}\n"),
        provider: Some(provider.to_string()),
        account: Some(account.to_string()),
        scopes: Some(key.scopes.to_string()),
        url: last.map(|last| last.url.to_string()),
        ok,
        message,
        cause: last.and_then(|last| last.cause).map(Cause::as_str),
        status: head.map(|head| head.status.as_u16()),
        content_type: head.and_then(|head| head.media_type.clone()),
        redirect_host: head.and_then(|head| head.redirect_host.clone()),
    }
}

async fn of_store(fleet: &fleet::Checked) -> Tried {
    let (address, why) = fleet.store().await;
    let is_well = why.is_none();
    let failed = failed_unless(is_well);
    let message = why.unwrap_or_else(|| "can be used".to_owned());
    Tried {
        line: format!("  the fleet's store {address}: {failed}{message}\n"),
        ..of_connection(address, Some(is_well), message)
    }
}

fn failed_unless(is_well: bool) -> &'static str {
    if is_well { "" } else { "FAILED: " }
}

/// A token call: its URL, and the cause why there was no connection, or what the response said beside its body.
fn shown(last: &LastCall) -> String {
    let said = match (&last.cause, &last.response) {
        (Some(cause), _) => {
            let error = last.error.as_deref().unwrap_or_default();
            failed(*cause, error)
        }
        (None, Some(response)) => {
            let media_type = response.media_type.as_deref();
            let redirect = match &response.redirect_host {
                Some(host) => format!(", a redirect to {host}"),
                None if is_redirect(response.status) => ", a redirect".to_owned(),
                None => String::new(),
            };
            format!(
                "{} {}{redirect}",
                response.status.as_u16(),
                media_type.unwrap_or("without a content type"),
            )
        }
        (None, None) => "no response".to_owned(),
    };
    format!("{}: {said}", last.url)
}

/// Whether that status says that what was asked for is elsewhere (RFC 9110 section 15.4).
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn failed(cause: Cause, error: &str) -> String {
    match error {
        "" => cause.as_str().to_owned(),
        error => format!("{} ({error})", cause.as_str()),
    }
}

/// The servers of an API that are known by name.
fn origins(provider: &Provider) -> Vec<Origin> {
    if let Some(upstream) = &provider.upstream {
        return vec![upstream.clone()];
    }
    let exact = provider.hosts.iter().filter(|host| !host.wildcard);
    let origin = |host: &Host| {
        let port = host.port.unwrap_or(443);
        let origin = Origin::new(http::uri::Scheme::HTTPS, &host.name, port).ok()?;
        Some(Origin {
            is_complete: host.is_complete,
            ..origin
        })
    };
    exact.filter_map(origin).collect()
}

/// Hosts below a wildcard, which nobody knows.
fn not_tried(provider: &Arc<Provider>) -> Vec<Tried> {
    let is_any = |host: &&Host| host.wildcard && provider.upstream.is_none();
    let hosts = provider.hosts.iter().filter(is_any);
    let not_tried = |host: &Host| {
        let message = "not tried, because it stands for many hosts";
        Tried {
            line: format!("  {} {host}: {message}\n", provider.name),
            ..of_url(
                provider,
                format!("https://{host}"),
                None,
                message.to_owned(),
            )
        }
    };
    hosts.map(not_tried).collect()
}

async fn of_host(provider: &Provider, connector: &Connector, origin: &Origin) -> Tried {
    let url = format!("{}://{}", origin.scheme, origin.authority);
    let said = match connected(connector, origin).await {
        Ok(connected) if provider.http == Http::Http2 && is_without_http2(&connected) => {
            Err(Unusable {
                cause: Cause::TlsOther,
                error: "it does not agree to HTTP/2".to_owned(),
            })
        }
        said => said,
    };
    match said {
        Ok(connected) => of_url(provider, url, Some(true), tls(&connected)),
        Err(Unusable { cause, error }) => Tried {
            cause: Some(cause.as_str()),
            ..of_url(provider, url, Some(false), failed(cause, &error))
        },
    }
}

/// Of an API host.
fn of_url(provider: &Provider, url: String, ok: Option<bool>, message: String) -> Tried {
    let failed = failed_unless(ok != Some(false));
    Tried {
        line: format!("  {} {url}: {failed}{message}\n", provider.name),
        provider: Some(provider.name.to_string()),
        ..of_connection(url, ok, message)
    }
}

fn of_connection(url: String, ok: Option<bool>, message: String) -> Tried {
    Tried {
        url: Some(url),
        ok,
        message,
        ..Tried::default()
    }
}

fn is_without_http2(connected: &Connected) -> bool {
    connected.is_tls() && !connected.is_http2()
}

async fn connected(connector: &Connector, origin: &Origin) -> Result<Connected, Unusable> {
    let url = origin.url().ok_or_else(|| Unusable {
        cause: Cause::Unreachable,
        error: String::new(),
    })?;
    let told = |none: Box<connect::Failed>| Unusable {
        cause: none.error.cause(),
        error: none.error.details(),
    };
    let connected = connector.connect(url).await.map_err(told)?;
    connected.confirmed().await.map_err(told)
}

fn tls(connected: &Connected) -> String {
    let Some((version, expiry)) = connected.tls() else {
        return "connected, without TLS".to_owned();
    };
    let version = match version {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    let http = match connected.is_http2() {
        true => "HTTP/2",
        false => "HTTP/1.1",
    };
    let end = expiry
        .and_then(|seconds| u64::try_from(seconds).ok())
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .map(|end| {
            format!(
                ", its certificate ends {}",
                humantime::format_rfc3339_seconds(end)
            )
        });
    format!("{version}, {http}{}", end.unwrap_or_default())
}
