//! Freezes: what operators have decided on providers, at this instance and anywhere in its fleet.
//!
//! There is one decision for each provider, the last one. This instance keeps it in memory and in its journal, and the
//! fleet in its store. Neither is asked by a request, which reads a flag.
//!
//! Commands and the task that follows the store change decisions, one at a time under `deciding`. A freeze holds from
//! before it waits for that lock until it is decided, whatever is written meanwhile. What is decided while the store
//! cannot be used has no number; it gets one, by when it was made, as soon as the store is back.

mod flag;
mod merge;
mod states;
mod wish;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::exchange::respond::Refusal;
use bursar_base::clock;
use bursar_base::decision::Decision;
use bursar_fleet::{self as fleet, Fleet, FreezeError, NumberedDecision, RunError, Written};
use bursar_journal::{self as journal, Journal, KeptDecision};
use bursar_telemetry::metrics::Metrics;
pub(super) use flag::{PaymentFlag, Payments};
use merge::{Both, Held, Step};
use states::States;
pub use wish::Wish;

/// How long payments wait after a start for what the fleet has frozen.
const START_LIMIT: Duration = Duration::from_millis(1900);
/// So long those who know what an emptied store has lost take to write it again.
const WRITTEN_AGAIN: Duration = Duration::from_millis(1300);
/// How long a command waits for the store.
const COMMAND_LIMIT: Duration = Duration::from_secs(3);
/// How long whoever follows the store waits for it.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// Whoever was not told looks so soon.
const READ_EVERY: Duration = Duration::from_millis(800);
/// How often others may be faster, one after the other.
const MAX_ROUNDS: usize = 16;

/// The decisions on all providers.
#[derive(Debug)]
pub(super) struct Freezes {
    states: States,
    journal: Option<Journal>,
    fleet: Option<Fleet>,
    /// Held by whoever changes a decision: what is written last is what was decided last.
    deciding: tokio::sync::Mutex<()>,
    /// Until then payments may wait for what the fleet has frozen.
    known_by: Instant,
}

/// What it comes to.
#[derive(Debug)]
pub struct Decided {
    /// What holds.
    pub decision: Decision,
    /// Whether that was frozen before.
    pub was_frozen: bool,
    /// Since when the file freezes it, whatever was decided. None: it does not.
    pub in_file: Option<SystemTime>,
    /// Where it holds.
    pub reach: Reach,
}

/// A provider that is frozen, and who says so.
#[derive(Debug)]
pub struct Frozen {
    /// An operator, by a command. None: nobody, or it is just being decided.
    pub by_command: Option<Decision>,
    /// The file, since then.
    pub in_file: Option<SystemTime>,
}

/// Where a decision holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// There is no fleet.
    Alone,
    /// The fleet's store has it.
    Fleet,
    /// The store could not be used, and why. It gets it when it is back.
    ThisInstance(&'static str),
}

/// The store was not brought to the same.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Read(#[from] RunError),
    #[error(transparent)]
    Write(#[from] FreezeError),
    #[error("others decide again and again")]
    Contended,
}

/// Whether the store had nothing at all.
type WasEmpty = bool;

impl Freezes {
    pub(super) fn new(metrics: &Metrics, journal: Option<Journal>, fleet: Option<Fleet>) -> Self {
        Self {
            states: States::new(metrics, fleet.is_none()),
            journal,
            fleet,
            deciding: tokio::sync::Mutex::default(),
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
            by_command: held.map(|held| held.decision),
            in_file: self.states.in_file(provider),
        }
    }

    /// From now on the file freezes these providers and no others.
    pub(super) fn follow_file(&self, frozen: &[Arc<str>]) {
        let (new, gone) = self.states.follow_file(frozen, clock::wall());
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
            let left = decision
                .until
                .map(|until| until.duration_since(wall).unwrap_or_default());
            let has_ended = left == Some(Duration::ZERO);
            if decision.is_frozen && !has_ended {
                tracing::warn!(
                    provider = kept.provider,
                    by = decision.by.as_deref(),
                    reason = decision.reason.as_deref(),
                    until = until(decision),
                    "is frozen since before the start"
                );
            }
            let age = wall.duration_since(kept.made).unwrap_or_default();
            let held = Held {
                ends: left.and_then(|left| now.checked_add(left)),
                has_ended,
                decision: kept.decision,
                made: now.checked_sub(age).unwrap_or(now),
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
        let held = wish.decide(before);
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
            in_file,
            reach,
        })
    }

    /// Has the fleet know what was just decided.
    async fn tell(&self, fleet: &Fleet, provider: &Arc<str>) -> Reach {
        let synced = timeout(COMMAND_LIMIT, self.sync(fleet, Some(provider))).await;
        let why = match synced {
            Ok(Ok(_)) => return Reach::Fleet,
            Ok(Err(error)) => {
                tracing::warn!(
                    %provider,
                    error = &error as &dyn std::error::Error,
                    "the fleet does not know of this decision yet"
                );
                let down = fleet.state().down;
                down.map_or("it does not take the decision", |kind| kind.describe())
            }
            Err(_elapsed) => "it does not respond in time",
        };
        // The task that follows the store goes on with it.
        fleet.freeze_signal().send();
        Reach::ThisInstance(why)
    }

    /// Ends what ends by itself and follows the store, for as long as the task lives.
    pub(super) async fn follow(&self) {
        tokio::join!(self.end_in_time(), self.follow_store());
    }

    async fn end_in_time(&self) {
        loop {
            for provider in self.states.next_ended().await {
                let still_by_configuration = self.states.in_file(&provider).is_some();
                tracing::warn!(%provider, still_by_configuration, "the time of its freeze is over");
            }
        }
    }

    /// Without a fleet there is nothing to follow.
    async fn follow_store(&self) {
        let Some(fleet) = &self.fleet else { return };
        if !self.begin(fleet).await {
            tracing::warn!(
                "what the fleet has frozen cannot be read: what this instance's own journal says counts until it can"
            );
        }
        self.states.now_known();
        loop {
            // A message may be lost, and so may what the store had.
            self.read(fleet).await;
            let changed = fleet.freeze_signal().received();
            drop(timeout(READ_EVERY, changed).await);
        }
    }

    /// Reads the store for the first time; false where it could not be.
    async fn begin(&self, fleet: &Fleet) -> bool {
        loop {
            let reading = timeout_at(self.known_by, self.read(fleet)).await;
            match reading {
                Err(_elapsed) => return false,
                Ok(Some(false)) => return true,
                Ok(Some(true)) => {
                    // Nobody has decided anything, or the store has lost it. Who knows that writes it again.
                    let written_again = Instant::now() + WRITTEN_AGAIN;
                    sleep_until(written_again.min(self.known_by)).await;
                    return self.read(fleet).await.is_some();
                }
                // It is told when the store can be used.
                Ok(None) => {
                    let received = fleet.freeze_signal().received();
                    if timeout_at(self.known_by, received).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    /// Brings this instance and the store to the same. None: that could not be done.
    async fn read(&self, fleet: &Fleet) -> Option<WasEmpty> {
        let _deciding = self.deciding.lock().await;
        match timeout(READ_LIMIT, self.sync(fleet, None)).await {
            Ok(Ok(was_empty)) => Some(was_empty),
            Ok(Err(error)) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "what the fleet has frozen could not be read"
                );
                None
            }
            Err(_elapsed) => None,
        }
    }

    /// Under `deciding`. What is decided just now, on the attended provider, is later than whatever the store has.
    async fn sync(
        &self,
        fleet: &Fleet,
        attended: Option<&Arc<str>>,
    ) -> Result<WasEmpty, SyncError> {
        let mut was_empty = None;
        for _ in 0..MAX_ROUNDS {
            let read = fleet.freezes().await?;
            let is_empty = read.version == 0;
            let was_empty = *was_empty.get_or_insert(is_empty);
            self.adopt_new(&read).await;
            let mut is_same = true;
            for (provider, held) in self.states.all_held() {
                is_same &= self
                    .bring_together(fleet, &read, &provider, held, attended)
                    .await?;
            }
            if is_same {
                // At a start it is still found out whether there was something.
                if is_empty && self.states.is_known() {
                    fleet.begin_freezes().await?;
                }
                return Ok(was_empty);
            }
        }
        Err(SyncError::Contended)
    }

    /// Takes over decisions on providers that nothing was known of.
    async fn adopt_new(&self, read: &fleet::Freezes) {
        for (provider, found) in &read.by_provider {
            if self.states.held(provider).is_none() {
                self.adopt(read, &(**provider).into(), found).await;
            }
        }
    }

    /// Whether this instance and the store now say the same of a provider.
    async fn bring_together(
        &self,
        fleet: &Fleet,
        read: &fleet::Freezes,
        provider: &Arc<str>,
        held: Held,
        attended: Option<&Arc<str>>,
    ) -> Result<bool, SyncError> {
        let found = read.by_provider.get(&**provider);
        let both = Both {
            own: &held,
            made: read.at(held.made),
            is_attended: attended == Some(provider),
            found,
            is_written: (held.number)
                .is_some_and(|number| fleet.has_freeze(read, provider, number)),
        };
        match (both.step(), found) {
            (Step::Nothing, _) | (Step::Adopt, None) => Ok(true),
            (Step::Adopt, Some(found)) => {
                self.adopt(read, provider, found).await;
                Ok(true)
            }
            (Step::Write(number), _) => {
                let new = NumberedDecision {
                    number,
                    decision: held.decision.clone(),
                    ends: held.ends.map(|ends| read.at(ends)),
                };
                if fleet.write_freeze(read, provider, &new).await? == Written::Changed {
                    return Ok(false);
                }
                if held.number != Some(number) {
                    let held = Held {
                        number: Some(number),
                        ..held
                    };
                    self.states.hold(provider, held.clone());
                    self.keep_or_say(provider, &held).await;
                }
                Ok(true)
            }
        }
    }

    /// Takes over a decision of the fleet.
    async fn adopt(&self, read: &fleet::Freezes, provider: &Arc<str>, found: &NumberedDecision) {
        let before = self.states.held(provider);
        let decision = &found.decision;
        let now = Instant::now();
        let ends = found.ends.and_then(|ends| read.instant(ends));
        let held = Held {
            decision: decision.clone(),
            ends,
            has_ended: ends.is_some_and(|ends| ends <= now),
            made: now,
            made_at: clock::wall(),
            number: Some(found.number),
            after: 0,
        };
        let concerns_payments = held.is_frozen() || before.as_ref().is_some_and(Held::is_frozen);
        if concerns_payments && before.is_none_or(|before| before.decision != *decision) {
            tracing::warn!(
                %provider,
                is_frozen = decision.is_frozen,
                by = decision.by.as_deref(),
                reason = decision.reason.as_deref(),
                until = until(decision),
                "the fleet decides on requests that move money"
            );
        }
        self.states.hold(provider, held.clone());
        self.keep_or_say(provider, &held).await;
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
        journal.decide(kept).await
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

/// For the log.
fn until(decision: &Decision) -> Option<String> {
    let until = decision.until.map(humantime::format_rfc3339_seconds);
    until.map(|until| until.to_string())
}
