//! Check of the journal: `bursar outcomes` against what providers and callers saw.
//!
//! In doubt is a request that moves money, that went to the provider, and whose whole answer (or a 401)
//! never came back. Where Bursar or a caller ended between the provider's last byte and the caller's, both
//! are right: the provider has answered, and nobody was told.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::history::{Arrival, History, Reply, Seen};
use crate::plan::{Id, Plan};

/// Everything that is listed and should not be, or the other way round.
pub(crate) fn check(seed: u64, history: &History, outcomes: &[Value]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut listed: HashMap<Id, &Value> = HashMap::new();
    for outcome in outcomes {
        let path = outcome["path"].as_str().unwrap_or_default();
        let id = path.rsplit('/').next().and_then(|id| id.parse().ok());
        match id {
            Some(id) if history.cases.contains_key(&id) => {
                if listed.insert(id, outcome).is_some() {
                    violations.push(format!("listed twice: {outcome}"));
                }
            }
            _ => violations.push(format!("listed, and nobody sent it: {outcome}")),
        }
    }
    for (id, case) in &history.cases {
        let plan = Plan::of(seed, *id);
        let arrivals = history.arrivals.get(id).map_or(&[][..], Vec::as_slice);
        let ended = case.begun != case.ended;
        let wrong = match listed.get(id) {
            Some(outcome) => rightly_listed(&plan, case.seen.as_ref(), arrivals, ended)
                .and_then(|()| rightly_told(&plan, seed, arrivals, outcome)),
            None => rightly_missing(&plan, case.seen.as_ref(), arrivals),
        };
        if let Err(what) = wrong {
            let outcome = listed.get(id);
            violations.push(format!("{what}: {outcome:?} {}", history.trace(*id)));
        }
    }
    violations
}

fn rightly_listed(
    plan: &Plan,
    seen: Option<&Seen>,
    arrivals: &[Arrival],
    ended: bool,
) -> Result<(), &'static str> {
    if !plan.kind.moves_money() {
        return Err("listed, and moves no money");
    }
    match seen {
        Some(Seen::Answered(_)) => Err("listed, and its caller has the whole answer"),
        Some(Seen::Refused(_, sent)) if sent == "no" => Err("listed, and was never sent"),
        // It broke off before it was read, or before it was sent.
        Some(Seen::Refused(..) | Seen::Left) => Ok(()),
        _ if arrivals.is_empty() && !ended => Err("listed, and never arrived"),
        _ => Ok(()),
    }
}

fn rightly_missing(
    plan: &Plan,
    seen: Option<&Seen>,
    arrivals: &[Arrival],
) -> Result<(), &'static str> {
    let Some(last) = arrivals.last().filter(|_| plan.kind.moves_money()) else {
        return Ok(());
    };
    match last.reply {
        Reply::Nothing | Reply::Partly => Err("NOT LISTED, and it was not answered"),
        Reply::Whole => match seen {
            Some(Seen::Refused(..)) => Err("NOT LISTED, and its caller has no answer"),
            _ => Ok(()),
        },
        Reply::Unauthorized => Ok(()),
    }
}

/// Whether what is said of it helps whoever looks for it at the provider.
fn rightly_told(
    plan: &Plan,
    seed: u64,
    arrivals: &[Arrival],
    outcome: &Value,
) -> Result<(), &'static str> {
    let key = match plan.kind.has_key() {
        true => Value::from(format!("key-{}", plan.id)),
        false => Value::Null,
    };
    let facts = [
        ("caller", plan.caller().into()),
        ("provider", plan.target.provider.into()),
        ("account", plan.target.account.into()),
        ("method", plan.kind.method().into()),
        ("path", plan.path().into()),
        ("idempotency_key", key),
    ];
    if facts.iter().any(|(name, value)| outcome[*name] != *value) {
        return Err("listed with other facts");
    }
    let hash = digest(&SHA256, &plan.body(seed));
    let hash = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let hash = Value::from(hash.collect::<String>());
    let is_whole = arrivals.last().is_some_and(|arrival| arrival.is_whole);
    match outcome["phase"].as_str() {
        Some("head_sent") if is_whole => Err("listed without the body, and all of it arrived"),
        Some("head_sent") if outcome["body_sha256"].is_null() => Ok(()),
        Some("body_sent") if outcome["body_sha256"] == hash => Ok(()),
        // An answer may begin before the body ends.
        Some("response_lost") if outcome["body_sha256"].is_null() => Ok(()),
        Some("response_lost") if outcome["body_sha256"] == hash => Ok(()),
        _ => Err("listed with a wrong phase, or another body"),
    }
}
