//! Freezes: what operators have decided on providers, at this instance and anywhere in its fleet.
//!
//! There is one decision for each provider, the last one. This instance keeps it in memory and in its journal, and the
//! fleet in its store. Neither is asked by a request, which reads a flag.
//!
//! Commands and the task that follows the store change decisions, one at a time under `deciding`. A freeze holds from
//! before it waits for that lock until it is decided, whatever is written meanwhile. What is decided while the store
//! cannot be used has no number; it gets one, by when it was made, as soon as the store is back.

mod age;
mod attended;
mod decided;
mod end;
mod flag;
mod following;
mod merge;
mod states;
mod wish;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::exchange::respond::Refusal;
use age::{as_shown, made};
use attended::Attended;
use bursar_base::clock;
use bursar_base::decision::Decision;
use bursar_fleet::{self as fleet, Fleet};
use bursar_journal::{self as journal, Journal, KeptDecision};
use bursar_telemetry::metrics::Metrics;
pub use decided::{Decided, Frozen, Reach};
use end::End;
pub(super) use flag::{PaymentFlag, Payments};
use merge::Held;
use states::States;
pub use wish::Wish;

/// How long payments wait after a start for what the fleet has frozen.
const START_LIMIT: Duration = Duration::from_millis(1900);
/// How long a command waits for the store.
const COMMAND_LIMIT: Duration = Duration::from_secs(3);
/// What the journal could not take is handed to it again so soon.
const KEEP_AGAIN: Duration = Duration::from_secs(3);

/// The decisions on all providers.
#[derive(Debug)]
pub(super) struct Freezes {
    states: States,
    journal: Option<Journal>,
    fleet: Option<Fleet>,
    /// Held by whoever changes a decision: what is written last is what was decided last.
    deciding: tokio::sync::Mutex<()>,
    /// Providers whose decision the journal has yet to take.
    unkept: Mutex<BTreeSet<Arc<str>>>,
    /// Until then payments may wait for what the fleet has frozen.
    known_by: Instant,
}

impl Freezes {
    pub(super) fn new(metrics: &Metrics, journal: Option<Journal>, fleet: Option<Fleet>) -> Self {
        Self {
            states: States::new(metrics, fleet.is_none()),
            journal,
            fleet,
            deciding: tokio::sync::Mutex::default(),
            unkept: Mutex::default(),
            known_by: Instant::now() + START_LIMIT,
        }
    }

    /// The flag of a provider, for as long as Bursar runs.
    pub(super) fn flag(&self, provider: &Arc<str>) -> Arc<PaymentFlag> {
        self.states.flag(provider)
    }

    /// Who says that a provider is frozen.
    pub(super) fn frozen(&self, provider: &str) -> Frozen {
        let held = self.states.held(provider).filter(Held::is_frozen);
        Frozen {
            by_command: held.map(|held| as_shown(held, Instant::now(), clock::wall())),
            in_file: self.states.in_file(provider),
        }
    }

    /// From now on the file freezes these providers and no others, and has those that are configured.
    pub(super) fn follow_file(&self, frozen: &[Arc<str>], configured: &HashSet<Arc<str>>) {
        let (new, gone) = self.states.follow_file(frozen, configured, clock::wall());
        for provider in new {
            tracing::warn!(%provider, "the configuration freezes it: requests that move money are refused");
        }
        for provider in gone {
            let still_by_command = self.frozen(&provider).by_command.is_some();
            tracing::warn!(%provider, still_by_command, "the configuration does not freeze it any more");
        }
    }

    /// Reads the journal, at the start.
    pub(super) async fn remember(&self) -> Result<(), journal::Unavailable> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let (now, wall) = (Instant::now(), clock::wall());
        for kept in journal.decisions().await? {
            let decision = &kept.decision;
            // By the wall clock, because no other has gone on meanwhile.
            let left = decision.until.map(|until| {
                let left = until.duration_since(wall).unwrap_or_default();
                // Where the clock was set back meanwhile, it is no more than it was when that was decided.
                left.min(until.duration_since(kept.made).unwrap_or_default())
            });
            let has_ended = left == Some(Duration::ZERO);
            if decision.is_frozen && !has_ended {
                let message = match self.states.is_configured(&kept.provider) {
                    true => "is frozen since before the start",
                    false => {
                        "is frozen since before the start, and is no provider of this configuration: nothing is held back \
                         by that, and what has its hosts now has to be frozen by its own name"
                    }
                };
                tracing::warn!(
                    provider = kept.provider,
                    by = decision.by.as_deref(),
                    reason = decision.reason.as_deref(),
                    until = until(decision),
                    "{message}"
                );
            }
            let made = made(&kept, now, wall);
            let held = Held {
                ends: left.and_then(|left| now.checked_add(left)).map(End::at),
                has_ended,
                ends_by_wall_clock: true,
                decision: kept.decision,
                made,
                made_at: kept.made,
                number: kept.number,
                after: kept.after,
            };
            self.states.hold(&kept.provider.into(), held);
        }
        Ok(())
    }

    /// Freezes or thaws a provider, and has the journal and the fleet know. It is done even where nobody waits for it
    /// any more.
    ///
    /// # Errors
    /// Where the journal cannot be written: then the provider is frozen, until Bursar ends at least.
    pub(super) async fn decide(
        self: &Arc<Self>,
        provider: Arc<str>,
        wish: Wish,
    ) -> Result<Decided, journal::Unavailable> {
        let freezes = self.clone();
        let deciding = tokio::spawn(async move { freezes.decide_now(&provider, wish).await });
        deciding.await.unwrap_or(Err(journal::Unavailable))
    }

    async fn decide_now(
        &self,
        provider: &Arc<str>,
        wish: Wish,
    ) -> Result<Decided, journal::Unavailable> {
        let begun = wish.is_frozen.then(|| self.states.begin_freeze(provider));
        let deciding = self.deciding.lock().await;
        let before = self.states.held(provider);
        let in_file = self.states.in_file(provider);
        let was_frozen = in_file.is_some() || before.as_ref().is_some_and(Held::is_frozen);
        let frozen = before.clone().filter(Held::is_frozen);
        let held = wish.decide(before);
        let before = frozen.map(|frozen| as_shown(frozen, Instant::now(), clock::wall()));
        let is_other = |before: &Decision| held.decision.is_frozen && *before != held.decision;
        let before = before.filter(is_other);
        let is_kept = self.keep(provider, &held).await;
        if !held.decision.is_frozen {
            is_kept?;
        }
        self.states.hold(provider, held.clone());
        let decision = held.decision;
        tracing::warn!(
            %provider,
            is_frozen = decision.is_frozen,
            by = decision.by.as_deref(),
            reason = decision.reason.as_deref(),
            until = until(&decision),
            is_frozen_by_configuration = in_file.is_some(),
            was_frozen_by = before.as_ref().and_then(|before| before.by.as_deref()),
            was_frozen_until = before.as_ref().and_then(until),
            "an operator decides on requests that move money"
        );
        let reach = match &self.fleet {
            None => Reach::Alone,
            Some(fleet) => self.tell(fleet, provider).await,
        };
        drop((deciding, begun));
        is_kept?;
        Ok(Decided {
            decision,
            was_frozen,
            before,
            in_file,
            reach,
        })
    }

    /// Has the fleet know what was just decided.
    async fn tell(&self, fleet: &Fleet, provider: &Arc<str>) -> Reach {
        let attended = Attended::new(provider);
        let synced = timeout(COMMAND_LIMIT, self.sync(fleet, Some(&attended))).await;
        let why = match synced {
            Ok(Ok(())) => return Reach::Fleet,
            Ok(Err(error)) => {
                tracing::warn!(
                    %provider,
                    error = &error as &dyn std::error::Error,
                    "the fleet's store has not confirmed this decision"
                );
                let why = fleet.state().why().or(error.kind());
                why.map_or("it does not take the decision", |kind| kind.describe())
            }
            Err(_elapsed) => "it does not respond in time",
        };
        // The task that follows the store goes on with it.
        fleet.freeze_signal().send();
        match attended.may_be_written() {
            true => Reach::PerhapsFleet(why),
            false => Reach::ThisInstance(why),
        }
    }

    /// Whether this instance knows what the fleet has frozen, or has waited for long enough.
    pub(super) fn are_known(&self) -> bool {
        self.states.is_known()
    }

    /// Ends what ends by itself and follows the store, for as long as the task lives.
    pub(super) async fn follow(&self) {
        tokio::join!(self.end_in_time(), self.keep_later(), self.follow_store());
    }

    /// Has the journal take what it could not take before.
    async fn keep_later(&self) {
        let Some(journal) = &self.journal else { return };
        loop {
            sleep(KEEP_AGAIN).await;
            let unkept = self.unkept().clone();
            // Reading takes the lock that writing takes: who decides meanwhile does not wait for a journal that is still stuck.
            if unkept.is_empty() || journal.decisions().await.is_err() {
                continue;
            }
            for provider in unkept {
                let held = self.states.held(&provider);
                if held.is_some_and(|held| held.has_ended) {
                    self.keep_end(&provider).await;
                    continue;
                }
                let _deciding = self.deciding.lock().await;
                // Perhaps it was just being written.
                if !self.unkept().contains(&provider) {
                    continue;
                }
                match self.states.held(&provider) {
                    None => _ = self.unkept().remove(&provider),
                    Some(held) => {
                        if self.keep(&provider, &held).await.is_ok() {
                            tracing::info!(%provider, "the journal has what was decided on requests that move money");
                        }
                    }
                }
            }
        }
    }

    /// A panic elsewhere leaves nothing half-done here.
    fn unkept(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end_in_time(&self) {
        loop {
            for provider in self.states.next_ended().await {
                let still_by_configuration = self.states.in_file(&provider).is_some();
                tracing::warn!(%provider, still_by_configuration, "the time of its freeze is over");
                self.keep_end(&provider).await;
            }
        }
    }

    /// Has the journal know that a freeze has ended: by the clock after a restart, which may have been set back, it may not
    /// have.
    async fn keep_end(&self, provider: &Arc<str>) {
        let _deciding = self.deciding.lock().await;
        let held = self.states.held(provider);
        if let Some(mut held) = held.filter(|held| held.has_ended) {
            let wall = clock::wall();
            held.decision.until = held.decision.until.map(|until| until.min(wall));
            self.keep_or_say(provider, &held).await;
        }
    }

    async fn keep_or_say(&self, provider: &Arc<str>, held: &Held) {
        if self.keep(provider, held).await.is_err() {
            tracing::error!(
                %provider,
                is_frozen = held.decision.is_frozen,
                "the journal cannot be written: without the fleet's store a restart may tell otherwise"
            );
        }
    }

    /// In the journal, where there is one.
    async fn keep(&self, provider: &Arc<str>, held: &Held) -> Result<(), journal::Unavailable> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let kept = KeptDecision {
            provider: provider.to_string(),
            decision: held.decision.clone(),
            made: held.made_at,
            number: held.number,
            after: held.after,
        };
        // Whoever waits for this may give up first.
        self.unkept().insert(provider.clone());
        journal.decide(kept).await?;
        self.unkept().remove(provider);
        Ok(())
    }
}

/// Why a request that moves money is refused, if it is.
pub(super) fn not_passing(flag: &PaymentFlag) -> Option<Refusal> {
    match flag.payments() {
        Payments::Pass => None,
        Payments::Frozen => Some(Refusal::Frozen),
        Payments::NotKnown => Some(Refusal::FreezesUnknown),
    }
}

/// The end of a freeze by the store's clock.
fn ends_at(read: &fleet::Freezes, end: End) -> Option<u64> {
    let now = Instant::now();
    now.checked_add(end.left(now)).map(|end| read.at(end))
}

/// For the log.
fn until(decision: &Decision) -> Option<String> {
    let until = decision.until.map(humantime::format_rfc3339_seconds);
    until.map(|until| until.to_string())
}
