//! Summary of the state in one sentence, with the level of the worst that it names.

use super::html::counted;
use super::level::Level;
use super::time::Now;
use crate::server::status::{Readiness, Status};
use bursar_tls::client::ENDS_SOON;

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
    let mut issues = Vec::new();
    let mut add = |level, text| issues.push((level, text));
    if let Some(payments) = &status.payments_in_doubt {
        match payments.count {
            None => add(Level::Trouble, "its journal cannot be read".to_owned()),
            Some(0) => {}
            Some(count) => add(
                Level::Trouble,
                counted(count, "payment is in doubt", "payments are in doubt"),
            ),
        }
    }
    let unwell = readiness.providers.iter().filter(|(_, one)| !one.healthy);
    if let Some(text) = named(unwell.map(|(name, _)| &**name), "in trouble") {
        add(Level::Trouble, text);
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
    let ending = status.certificates.iter().filter(|one| {
        let left = now.left(&one.expires_at);
        left.is_none_or(|left| left < ENDS_SOON)
    });
    match ending.count() as u64 {
        0 => {}
        1 => add(Level::Attention, "a certificate ends soon".to_owned()),
        count => {
            let certificates = counted(count, "certificate", "certificates");
            add(Level::Attention, format!("{certificates} end soon"));
        }
    }
    issues
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
