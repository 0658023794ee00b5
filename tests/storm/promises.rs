//! Check of promises: what the providers received against what the callers were told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::{Call, Tokens};
use crate::history::{Arrival, Case, History, Reply, Seen};
use crate::plan::{Manner, Plan};
use crate::setup::{ALPHA_BUDGET, BETA_BUDGET, FLEET};

/// How much closer together calls may come in than they were made.
const SLACK: Duration = Duration::from_secs(5);

/// Everything that was not as promised.
pub(crate) fn check(
    seed: u64,
    history: &History,
    tokens: &Tokens,
    instances: usize,
) -> Vec<String> {
    let mut violations = history.violations.clone();
    for (id, arrivals) in &history.arrivals {
        let plan = Plan::of(seed, *id);
        let wrong = sent_once(&plan, arrivals).and_then(|()| all_the_same(&plan, arrivals));
        if let Err(what) = wrong {
            violations.push(format!("{what}: {}", history.trace(*id)));
        }
    }
    for (id, case) in &history.cases {
        let arrivals = history.arrivals.get(id).map_or(&[][..], Vec::as_slice);
        // A machine that stands still for a second makes every time limit act.
        let is_timed_out = history.timed_out.contains(id);
        if let Err(what) = answered_once(&Plan::of(seed, *id), case, arrivals, is_timed_out) {
            violations.push(format!("{what}: {}", history.trace(*id)));
        }
    }
    for id in history.arrivals.keys() {
        if !history.cases.contains_key(id) {
            violations.push(format!("nobody sent {id}"));
        }
    }
    violations.extend(within_budget(tokens, instances));
    if instances > 1 {
        violations.extend(of_use(tokens));
    }
    violations
}

/// No request arrives twice unless the first was answered 401.
fn sent_once(plan: &Plan, arrivals: &[Arrival]) -> Result<(), &'static str> {
    let (_, earlier) = arrivals.split_last().ok_or("no arrival")?;
    if earlier
        .iter()
        .any(|arrival| arrival.reply != Reply::Unauthorized)
    {
        return Err("SENT TWICE, and the first was not answered 401");
    }
    if arrivals.len() > plan.kind.most_arrivals() {
        return Err("sent more often than its route allows");
    }
    Ok(())
}

/// Every byte of every replay is the same, and the caller's.
fn all_the_same(plan: &Plan, arrivals: &[Arrival]) -> Result<(), &'static str> {
    if arrivals.iter().any(|arrival| !arrival.is_same) {
        return Err("not the body that was sent");
    }
    let whole = |arrival: &&Arrival| arrival.is_whole && plan.manner == Manner::LeaveInBody;
    if arrivals.iter().any(|arrival| whole(&arrival)) {
        return Err("half a body was made whole");
    }
    // How the end of no body is said belongs to the connection.
    let head = |arrival: &Arrival| match plan.body_size {
        0 => [" | transfer-encoding: chunked", " | content-length: 0"]
            .iter()
            .fold(arrival.head.clone(), |head, said| head.replace(said, "")),
        _ => arrival.head.clone(),
    };
    if arrivals
        .windows(2)
        .any(|pair| head(&pair[0]) != head(&pair[1]))
    {
        return Err("the head of the replay is another");
    }
    let key = format!("key-{}", plan.id);
    if arrivals
        .iter()
        .any(|arrival| arrival.head.contains(&key) != plan.kind.has_key())
    {
        return Err("not the idempotency key that was sent");
    }
    Ok(())
}

/// Every request has one answer, and what Bursar says of it is true.
fn answered_once(
    plan: &Plan,
    case: &Case,
    arrivals: &[Arrival],
    is_timed_out: bool,
) -> Result<(), &'static str> {
    let last = arrivals.last();
    let reply = last.map_or(Reply::Nothing, |arrival| arrival.reply);
    match case.seen.as_ref().ok_or("never came to an end")? {
        Seen::Answered(401) if reply != Reply::Unauthorized => Err("a 401 that nobody gave"),
        Seen::Answered(401) => Ok(()),
        Seen::Answered(_) if reply != Reply::Whole => Err("an answer that nobody gave"),
        Seen::Answered(_) => Ok(()),
        Seen::Refused(_, sent) if sent == "no" => {
            let is_denied = |arrival: &Arrival| arrival.reply == Reply::Unauthorized;
            let is_true = arrivals.iter().all(is_denied);
            is_true
                .then_some(())
                .ok_or("`request_sent: no` was not true")
        }
        Seen::Refused(_, sent) if sent == "maybe" => Ok(()),
        Seen::Refused(..) => Err("a refusal that does not say whether it was sent"),
        // Whoever ends Bursar cuts off what is under way.
        Seen::Broken { .. } if case.begun != case.ended => Ok(()),
        Seen::Broken { has_head: false } => Err("no answer, though Bursar was not ended"),
        Seen::Broken { has_head: true } => {
            let answers = last.and_then(|arrival| arrival.treatment);
            let is_cut = is_timed_out || !answers.is_some_and(|treatment| treatment.answers());
            is_cut
                .then_some(())
                .ok_or("half an answer, though the provider gave all of it")
        }
        Seen::Left => match plan.manner {
            Manner::LeaveInBody | Manner::LeaveBeforeAnswer | Manner::LeaveInAnswer => Ok(()),
            _ => Err("the harness left without reason"),
        },
    }
}

/// A fleet makes no token call that it does not need; one in thirty may be due to a machine that stood still.
fn of_use(tokens: &Tokens) -> Option<String> {
    let (needless, calls) = (tokens.needless(), tokens.calls.len());
    (needless.len() > 1 + calls / 30).then(|| {
        format!(
            "{} needless token calls of {calls}: {needless:?}",
            needless.len()
        )
    })
}

/// A quarter of the budget at once, and the rest evenly over the minute: of each start of Bursar.
fn within_budget(tokens: &Tokens, instances: usize) -> Vec<String> {
    let mut by_run: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
    for call in &tokens.calls {
        // Calls do not say which instance of a fleet makes them.
        let run = if instances > 1 { FLEET } else { &call.run };
        by_run.entry((run, call.provider)).or_default().push(call);
    }
    let mut violations = Vec::new();
    for ((run, provider), calls) in by_run {
        let budget = match provider {
            "alpha" => ALPHA_BUDGET,
            _ => BETA_BUDGET,
        };
        let burst = f64::from(budget / 4);
        let pace = (f64::from(budget) - burst + 1.0) / 60.0;
        for (at, first) in calls.iter().enumerate() {
            let over = calls[at..].iter().zip(1_u32..).find(|(call, count)| {
                let window = call.at.duration_since(first.at) + SLACK;
                // Who is started in a fleet has a budget of its own.
                let (at_once, further) = match run {
                    FLEET => {
                        let since = |end: &&Instant| first.at <= **end && **end <= call.at;
                        (instances, tokens.ends.iter().filter(since).count())
                    }
                    _ => (1, 0),
                };
                let bursts = f64::from(u32::try_from(at_once + further).unwrap_or(u32::MAX));
                let at_once = f64::from(u32::try_from(at_once).unwrap_or(u32::MAX));
                f64::from(*count) > bursts * (burst + 1.0) + at_once * window.as_secs_f64() * pace
            });
            if let Some((call, count)) = over {
                let window = call.at.duration_since(first.at);
                violations.push(format!(
                    "run {run}: {count} token calls to {provider} in {window:?}"
                ));
                break;
            }
        }
    }
    violations
}

/// What happened, for the book and whoever looks at a run.
pub(crate) fn figures(history: &History, tokens: &Tokens) -> String {
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for case in history.cases.values() {
        let name = match &case.seen {
            None => "under way".to_owned(),
            Some(Seen::Answered(401)) => "401 of the provider".to_owned(),
            Some(Seen::Answered(_)) => "answered".to_owned(),
            Some(Seen::Refused(reason, sent)) => format!("refused: {reason}, sent: {sent}"),
            Some(Seen::Broken { .. }) if case.begun != case.ended => {
                "cut off by an end of Bursar".to_owned()
            }
            Some(Seen::Broken { .. }) => "cut off by the provider".to_owned(),
            Some(Seen::Left) => "the caller left".to_owned(),
        };
        *outcomes.entry(name).or_default() += 1;
    }
    let arrivals: usize = history.arrivals.values().map(Vec::len).sum();
    let is_whole = |arrival: &Arrival| arrival.treatment.is_some_and(|kind| kind.answers());
    let slow = history.timed_out.iter().filter(|id| {
        let last = history.arrivals.get(id).and_then(|all| all.last());
        let seen = history.cases.get(id).and_then(|case| case.seen.as_ref());
        last.is_some_and(is_whole) && matches!(seen, Some(Seen::Broken { has_head: true }))
    });
    let mut text = format!(
        "{} requests, {arrivals} arrivals, {} replays, {} token calls ({} needless); {} came while their token was ending, at most {:?} late, and {} answers were cut off by a time limit without reason\n",
        history.cases.len(),
        arrivals - history.arrivals.len(),
        tokens.calls.len(),
        tokens.needless().len(),
        tokens.late.0,
        tokens.late.1,
        slow.count()
    );
    for needless in tokens.needless() {
        text.push_str(&format!("needless: {needless}\n"));
    }
    for (name, count) in outcomes.iter().chain(&history.faults) {
        text.push_str(&format!("{count:8}  {name}\n"));
    }
    text
}

/// The first few of each kind; what differs in numbers alone is one kind.
pub(crate) fn shown(violations: &[String]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut text = String::new();
    for violation in violations {
        let letters = violation.chars().filter(|letter| letter.is_alphabetic());
        let count = kinds.entry(letters.take(24).collect()).or_default();
        *count += 1;
        if *count <= 3 {
            text.push_str(violation);
            text.push('\n');
        }
    }
    text
}
