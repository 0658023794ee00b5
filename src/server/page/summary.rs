//! Summary of the state in one sentence, with the level of the worst that it names.

use super::hour;
use super::html::counted;
use super::level::Level;
use super::providers::server_level;
use super::time::Now;
use crate::server::status::{Certificate, Readiness, Status};
use std::time::Duration;

use bursar_tls::client::ENDS_SOON;

/// The same of a provider's server.
const SERVER_ENDS_SOON: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// What is to be said first.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) level: Level,
    pub(super) sentence: String,
}

impl Summary {
    pub(super) fn of(status: &Status, readiness: &Readiness, now: Now) -> Self {
        let issues = issues(status, readiness, now);
        let worst = issues.iter().map(|(level, _)| *level).max();
        let level = worst.unwrap_or(Level::Well);
        let start = match readiness.why {
            Some("draining") => "Bursar is about to end".to_owned(),
            Some(why) => format!("Bursar is not ready: {why}"),
            None => "Bursar is at work".to_owned(),
        };
        let level = match readiness.ready {
            true => level,
            false => Level::Trouble,
        };
        let texts: Vec<String> = issues.into_iter().map(|(_, text)| text).collect();
        let sentence = match &texts[..] {
            [] => {
                let count = readiness.providers.len() as u64;
                let providers = match count {
                    1 => "its provider is well".to_owned(),
                    _ => format!("{} are well", counted(count, "provider", "providers")),
                };
                match readiness.ready {
                    true => format!("{start}, and nothing needs you: {providers}."),
                    false => format!("{start}."),
                }
            }
            [one] => format!("{start}, but {one}."),
            [first @ .., last] => format!("{start}, but {}, and {last}.", first.join(", ")),
        };
        Self { level, sentence }
    }
}

fn issues(status: &Status, readiness: &Readiness, now: Now) -> Vec<(Level, String)> {
    let mut issues = payment_issues(status);
    let mut add = |level, text| issues.push((level, text));
    let unwell = readiness.providers.iter().filter(|(_, one)| !one.healthy);
    if let Some(text) = named(unwell.map(|(name, _)| &**name), "in trouble") {
        add(Level::Trouble, text);
    }
    // A provider that is in trouble is named, whatever it has to do with.
    let is_in_trouble =
        |name: &str| (readiness.providers.get(name)).is_some_and(|one| !one.healthy);
    let servers = status.upstreams.iter();
    let servers = servers.filter(|one| !is_in_trouble(&one.provider));
    let servers = servers.map(|one| (server_level(one, now), one));
    let servers: Vec<_> = servers.filter(|(level, _)| *level > Level::Well).collect();
    match &servers[..] {
        [] => {}
        [(level, one)] => {
            let (host, provider) = (&one.host, &one.provider);
            let text = format!("no connection can be made to {host} of {provider}");
            add(*level, text);
        }
        many => {
            let text = format!("no connection can be made to {} servers", many.len());
            let worst = many.iter().map(|(level, _)| *level).max();
            add(worst.unwrap_or(Level::Well), text);
        }
    }
    if let Some(text) = named(status.frozen.iter().map(String::as_str), "frozen") {
        add(Level::Attention, text);
    }
    // Of a provider that is in trouble nobody asks for how many tokens.
    let is_well = |name: &str| (readiness.providers.get(name)).is_some_and(|one| one.healthy);
    let tokens = status.tokens.iter();
    let failing = tokens.filter(|one| one.renewal_is_failing && is_well(&one.provider));
    match failing.count() as u64 {
        0 => {}
        count => add(
            Level::Attention,
            counted(count, "token cannot be renewed", "tokens cannot be renewed"),
        ),
    }
    if status.fleet.as_ref().is_some_and(|fleet| !fleet.store.up) {
        add(
            Level::Attention,
            "the fleet's store cannot be used".to_owned(),
        );
    }
    let last = status.last_reload.as_ref();
    if last.is_some_and(|last| !last.problems.is_empty()) {
        let text = "the changed configuration is rejected, so the old one is in force";
        add(Level::Attention, text.to_owned());
    }
    issues.extend(certificate_issues(status, now));
    issues
}

/// What is in doubt, and whether that can be known.
fn payment_issues(status: &Status) -> Vec<(Level, String)> {
    let mut texts = Vec::new();
    let in_doubt = status.payments_in_doubt.as_ref();
    let is_unreadable = in_doubt.is_some_and(|payments| payments.count.is_none());
    match (status.journal_is_failing, is_unreadable) {
        (false, false) => {}
        (true, false) => texts.push("its journal cannot be written".to_owned()),
        (false, true) => texts.push("its journal cannot be read".to_owned()),
        (true, true) => texts.push("its journal can be neither written nor read".to_owned()),
    }
    match in_doubt {
        Some(payments) => match payments.count {
            None | Some(0) => {}
            Some(count) => texts.push(counted(
                count,
                "payment is in doubt",
                "payments are in doubt",
            )),
        },
        // Without a journal only the last hour is known.
        None => match hour::in_doubt(status) {
            0 => {}
            count => texts.push(counted(
                count,
                "payment has ended in doubt within the last hour",
                "payments have ended in doubt within the last hour",
            )),
        },
    }
    let issues = texts.into_iter().map(|text| (Level::Trouble, text));
    issues.collect()
}

fn certificate_issues(status: &Status, now: Now) -> Vec<(Level, String)> {
    let mut issues = Vec::new();
    let of = |level: Level| {
        let all = status.certificates.iter();
        all.filter(|one| certificate_level(one, now) == level)
            .count() as u64
    };
    match of(Level::Trouble) {
        0 => {}
        1 => issues.push((Level::Trouble, "a certificate has ended".to_owned())),
        count => {
            let certificates = counted(count, "certificate", "certificates");
            issues.push((Level::Trouble, format!("{certificates} have ended")));
        }
    }
    match of(Level::Attention) {
        0 => {}
        1 => issues.push((Level::Attention, "a certificate ends soon".to_owned())),
        count => {
            let certificates = counted(count, "certificate", "certificates");
            issues.push((Level::Attention, format!("{certificates} end soon")));
        }
    }
    issues
}

/// A provider's own may be of six days, and is its to renew.
pub(super) fn certificate_level(certificate: &Certificate, now: Now) -> Level {
    let soon = match certificate.kind {
        "server" => SERVER_ENDS_SOON,
        _ => ENDS_SOON,
    };
    match now.left(&certificate.expires_at) {
        None => Level::Trouble,
        Some(left) if left < soon => Level::Attention,
        Some(_) => Level::Well,
    }
}

/// Up to two by name, more by their number.
fn named<'a>(mut names: impl Iterator<Item = &'a str>, what: &str) -> Option<String> {
    let first = names.next()?;
    Some(match (names.next(), names.count()) {
        (None, _) => format!("{first} is {what}"),
        (Some(second), 0) => format!("{first} and {second} are {what}"),
        (Some(_), more) => format!("{} providers are {what}", more + 2),
    })
}
