//! `bursar check --live`: one token call for each account, and one TLS handshake with each API host, told in a line each.
//!
//! In a fleet it takes part as an instance does: a running one is never left with a token that this has ended.

mod fleet;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ProtocolVersion;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use bursar::token::{Exchange, Failure, Source, Tokens};
use bursar::upstream::connect::{self, Connected, Connector};
use bursar::upstream::egress::Egress;
use bursar_config::{Config, Host, Http, Origin, Provider};
use bursar_telemetry::metrics::{Cause, Metrics};

/// Token calls and handshakes at a time; the others wait.
const MAX_CALLS: usize = 32;

/// Of an account whose new token would end the one that the fleet has.
const NOT_ASKED: &str = "not asked, because a new token would end the one that the fleet may have (token.single_active)";

/// One line, and whether it tells of something good.
type Told = (String, bool);

/// What came back, without the tokens. The second value is whether all went well.
///
/// # Errors
/// Where the metrics, or TLS to the fleet's store, cannot be set up.
pub(crate) async fn run(config: &Config) -> anyhow::Result<(String, bool)> {
    let metrics = Metrics::new(config)?;
    let egress = Egress::new(&config.egress, &metrics);
    let fleet = fleet::join(config, &metrics).await?;
    let shared = fleet.as_ref().map(|fleet| fleet.tokens.clone());
    let tokens = Tokens::asleep(config, &metrics, &egress, shared);
    let permits = Arc::new(Semaphore::new(MAX_CALLS));
    let mut told = JoinSet::new();
    let mut lines = Vec::new();
    for provider in &config.providers {
        // One token to an account: the default scopes, or the first route's.
        let scopes = provider.default_scopes.unwrap_or(0);
        for account in 0..provider.accounts.len() {
            let source = Arc::clone(tokens.source(provider.index, account, scopes));
            if fleet.as_ref().is_some_and(|fleet| !fleet.may_ask(provider)) {
                lines.push((line_of(&source, NOT_ASKED), true));
                continue;
            }
            let permits = permits.clone();
            told.spawn(async move {
                // Never closed; without a permit it would only be more at a time.
                let _permit = permits.acquire_owned().await;
                let obtained = source.call_once().await;
                of_account(&source, obtained)
            });
        }
        for origin in origins(provider) {
            let (provider, permits) = (provider.clone(), permits.clone());
            let connector = Connector::of_api(&provider, &egress);
            told.spawn(async move {
                let _permit = permits.acquire_owned().await;
                of_host(&provider, &connector, &origin).await
            });
        }
    }
    lines.extend(told.join_all().await);
    if let Some(fleet) = &fleet {
        // What was obtained here is for all of them.
        fleet.tokens.end().await;
        lines.push(fleet.told());
    }
    lines.extend(config.providers.iter().flat_map(not_tried));
    lines.sort();
    let is_all_well = lines.iter().all(|(_, is_well)| *is_well);
    let lines: Vec<String> = lines.into_iter().map(|(line, _)| line).collect();
    Ok((lines.concat(), is_all_well))
}

/// A line about an account.
fn line_of(source: &Source, said: &str) -> String {
    let scopes = match &*source.key.scopes {
        "" => String::new(),
        scopes => format!(" [{scopes}]"),
    };
    let (provider, account) = (&source.key.provider.name, &source.key.account().name);
    format!("  {provider} {account}{scopes}: {said}\n")
}

fn of_account(source: &Source, obtained: Result<String, Failure>) -> Told {
    let is_well = obtained.is_ok();
    let exchange = source.last_exchange().map(|exchange| shown(&exchange));
    let exchange = match (exchange, &obtained) {
        (Some(exchange), _) => format!("; {exchange}"),
        (None, Err(Failure::Rejected(..) | Failure::RateLimited(_) | Failure::ErrorStatus(..))) => {
            "; another instance of the fleet was told so a moment ago, and nothing was sent"
                .to_owned()
        }
        (None, _) => String::new(),
    };
    let said = obtained.unwrap_or_else(|failure| format!("FAILED: {failure}"));
    (line_of(source, &(said + &exchange)), is_well)
}

/// A token call: its URL, and the cause why there was no connection, or what the response said beside its body.
fn shown(exchange: &Exchange) -> String {
    let said = match (&exchange.cause, &exchange.response) {
        (Some(cause), _) => {
            let error = exchange.error.as_deref().unwrap_or_default();
            failed(*cause, error)
        }
        (None, Some(response)) => {
            let media_type = response.media_type.as_deref();
            let redirect = response.redirect_host.as_deref();
            let redirect = redirect.map(|host| format!(", a redirect to {host}"));
            format!(
                "{} {}{}",
                response.status.as_u16(),
                media_type.unwrap_or("without a content type"),
                redirect.unwrap_or_default()
            )
        }
        (None, None) => "no response".to_owned(),
    };
    format!("{}: {said}", exchange.url)
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
fn not_tried(provider: &Arc<Provider>) -> Vec<Told> {
    let is_any = |host: &&Host| host.wildcard && provider.upstream.is_none();
    let hosts = provider.hosts.iter().filter(is_any);
    let line = |host: &Host| {
        let line = format!(
            "  {} {host}: not tried, because it stands for many hosts\n",
            provider.name
        );
        (line, true)
    };
    hosts.map(line).collect()
}

async fn of_host(provider: &Provider, connector: &Connector, origin: &Origin) -> Told {
    let (scheme, authority) = (&origin.scheme, &origin.authority);
    let said = match connected(connector, origin).await {
        Ok(connected) if provider.http == Http::Http2 && is_without_http2(&connected) => {
            Err(failed(Cause::TlsOther, "it does not agree to HTTP/2"))
        }
        Ok(connected) => Ok(tls(&connected)),
        Err(failed) => Err(failed),
    };
    let is_well = said.is_ok();
    let said = said.unwrap_or_else(|failed| format!("FAILED: {failed}"));
    let line = format!("  {} {scheme}://{authority}: {said}\n", provider.name);
    (line, is_well)
}

fn is_without_http2(connected: &Connected) -> bool {
    connected.is_tls() && !connected.is_http2()
}

async fn connected(connector: &Connector, origin: &Origin) -> Result<Connected, String> {
    let url = origin.url();
    let url = url.ok_or_else(|| Cause::Unreachable.as_str().to_owned())?;
    let told = |none: Box<connect::Failed>| failed(none.error.cause(), &none.error.details());
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
