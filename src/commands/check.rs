//! `bursar check`: what it says of a configuration without problems, and whether its accounts get tokens.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::Semaphore;

use bursar::token::Tokens;
use bursar::upstream::egress::Egress;
use bursar_config::Config;
use bursar_telemetry::metrics::Metrics;

/// Token calls at a time; the others wait.
const MAX_CALLS: usize = 32;

/// The configuration in a few lines.
#[must_use]
pub(crate) fn summary(config: &Config) -> String {
    let mut text = String::from("The configuration is good.\n");
    for provider in &config.providers {
        let hosts: Vec<String> = provider.hosts.iter().map(ToString::to_string).collect();
        let environment = provider
            .environment
            .map(|environment| format!(" ({})", environment.as_str()));
        let environment = environment.unwrap_or_default();
        // Writing to a String cannot fail.
        let written = writeln!(
            text,
            "  {}{environment}: {}",
            provider.name,
            hosts.join(", ")
        );
        debug_assert!(written.is_ok());
    }
    text
}

/// Obtains one token for each account, and tells what came back, without the tokens. The
/// second value is whether all went well.
///
/// # Errors
/// Where the metrics cannot be set up.
pub(crate) async fn live(config: &Config) -> Result<(String, bool), prometheus::Error> {
    let metrics = Metrics::new(config)?;
    let egress = Egress::new(&config.egress, &metrics);
    let tokens = Tokens::asleep(config, &metrics, &egress);
    let permits = Arc::new(Semaphore::new(MAX_CALLS));
    let mut calls = tokio::task::JoinSet::new();
    for provider in &config.providers {
        // One token to an account: the default scopes, or the first route's.
        let scopes = provider.default_scopes.unwrap_or(0);
        for account in 0..provider.accounts.len() {
            let source = Arc::clone(tokens.source(provider.index, account, scopes));
            let permits = permits.clone();
            calls.spawn(async move {
                // Never closed; without a permit it would only be more at a time.
                let permit = permits.acquire_owned().await;
                let obtained = source.call_once().await;
                drop(permit);
                (source, obtained)
            });
        }
    }
    let mut lines = Vec::new();
    let mut all_well = true;
    for (source, obtained) in calls.join_all().await {
        let scopes = if source.key.scopes.is_empty() {
            String::new()
        } else {
            format!(" [{}]", source.key.scopes)
        };
        let said = match obtained {
            Ok(obtained) => obtained,
            Err(failure) => {
                all_well = false;
                format!("FAILED: {failure}")
            }
        };
        lines.push(format!(
            "  {} {}{scopes}: {said}\n",
            source.key.provider.name,
            source.key.account().name
        ));
    }
    lines.sort();
    Ok((lines.concat(), all_well))
}
