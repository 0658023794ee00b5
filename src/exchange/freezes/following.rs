//! Following the fleet's store: what was decided anywhere is brought to the same there, at this instance and in its journal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::age::by_own_clock;
use super::attended::Attended;
use super::end::End;
use super::merge::{Both, Held, Step};
use super::{Freezes, START_LIMIT, ends_at, until};
use bursar_base::clock;
use bursar_fleet::store::Kind;
use bursar_fleet::{self as fleet, Fleet, FreezeError, NumberedDecision, RunError, Written};

/// So long those who know what an emptied store has lost take to write it again.
const WRITTEN_AGAIN: Duration = Duration::from_millis(1300);
/// Between two looks at who has written it.
const A_MOMENT: Duration = Duration::from_millis(50);
/// How long what is known is believed, unless that is put off.
const BELIEVED: Duration = Duration::from_millis(2500);
const BELIEVE_EVERY: Duration = Duration::from_millis(500);
/// How long whoever follows the store waits for it.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// What could not be read is read again so soon.
const READ_AGAIN: Duration = Duration::from_millis(800);
/// Whoever is told of nothing, neither by a message nor by a heartbeat, looks all the same.
const READ_EVERY: Duration = Duration::from_secs(30);
/// How often others may be faster, one after the other.
const MAX_ROUNDS: usize = 16;

/// The store was not brought to the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Read(#[from] RunError),
    #[error(transparent)]
    Write(#[from] FreezeError),
    #[error("others decide again and again")]
    Contended,
}

impl SyncError {
    /// Why the store refused it.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Read(RunError::Store(error))
            | Self::Write(FreezeError::Run(RunError::Store(error))) => Some(error.kind()),
            Self::Read(_) | Self::Write(_) | Self::Contended => None,
        }
    }
}

impl Freezes {
    /// Without a fleet there is nothing to follow.
    pub(super) async fn follow_store(&self) {
        let Some(fleet) = &self.fleet else { return };
        if !self.begin(fleet, self.known_by).await {
            tracing::warn!(
                "what the fleet has frozen cannot be read: what this instance's own journal says counts until it can"
            );
        }
        if self.journal.is_some() {
            // A payment of an instance that nobody has heard of would be missed by nobody.
            let told = fleet.journal_signal().received();
            drop(timeout_at(self.known_by, told).await);
        }
        self.states.known_until(clock::since_start() + BELIEVED);
        tokio::join!(self.follow_changes(fleet), self.believe(fleet));
    }

    /// Reads the store whenever there may be something new.
    async fn follow_changes(&self, fleet: &Fleet) {
        loop {
            let pause = match self.read(fleet).await {
                Some(_) => READ_EVERY,
                None => READ_AGAIN,
            };
            // A message may be lost: the next heartbeat tells that there are other decisions.
            let changed = fleet.freeze_signal().received();
            drop(timeout(pause, changed).await);
        }
    }

    /// Puts off the time from which on nothing is believed any more. A process that was stopped, or a machine that was
    /// paused or suspended, finds it past, and reads first what was decided meanwhile.
    ///
    /// Where the store was away before, and is found to be still away, what was known last holds, as in any outage.
    async fn believe(&self, fleet: &Fleet) {
        // Both clocks: timers and whoever keeps the store connected go by instants, which stand still in a suspension.
        let mut until = clock::since_start() + BELIEVED;
        let mut put_off = Instant::now();
        loop {
            sleep(BELIEVE_EVERY).await;
            let now = Instant::now();
            if clock::since_start() >= until {
                tracing::warn!(
                    "this process has stood still: payments are refused until it has read what the fleet has frozen"
                );
                let store = fleet.state();
                // What was before that instant was before the standstill's end, too, unless instants stood still as well.
                let end = put_off + BELIEVED;
                let (before, after) = if now >= end {
                    (end, end)
                } else {
                    (put_off, now)
                };
                let was_away = store.down.is_some() && store.since < before;
                tokio::select! {
                    _is_read = self.begin(fleet, now + START_LIMIT) => {}
                    () = fleet.fails_again(after), if was_away => {}
                }
            }
            until = clock::since_start() + BELIEVED;
            put_off = Instant::now();
            self.states.known_until(until);
        }
    }

    /// Reads the store until then, and again when those who know what it has lost have had the time to write that; false
    /// where it could not be read.
    async fn begin(&self, fleet: &Fleet, by: Instant) -> bool {
        loop {
            let began = Instant::now();
            match timeout_at(by, self.read(fleet)).await {
                Err(_elapsed) => return false,
                Ok(Some(())) => {
                    self.others_have_written(fleet, began, by).await;
                    if let Ok(Some(())) = timeout_at(by, self.read(fleet)).await {
                        return true;
                    }
                }
                Ok(None) => {}
            }
            if Instant::now() >= by {
                return false;
            }
            // It is told when the store can be used, or somebody else who waits is.
            let received = fleet.freeze_signal().received();
            drop(timeout(A_MOMENT, received).await);
        }
    }

    /// The store may be empty, or have an older copy of its data: each member that is connected to it writes again what it
    /// knows. All of them have been heard of since then, or there are none.
    async fn others_have_written(&self, fleet: &Fleet, began: Instant, by: Instant) {
        let end = by.min(began + WRITTEN_AGAIN);
        while Instant::now() < end {
            let heard = timeout_at(end, fleet.are_others_heard(began.elapsed())).await;
            if matches!(heard, Ok(Ok(true))) {
                // Each begins to write when it is connected, before it is heard of or a moment later.
                sleep(A_MOMENT).await;
                return;
            }
            sleep(A_MOMENT).await;
        }
    }

    /// Brings this instance and the store to the same. None: that could not be done.
    async fn read(&self, fleet: &Fleet) -> Option<()> {
        let _deciding = self.deciding.lock().await;
        match timeout(READ_LIMIT, self.sync(fleet, None)).await {
            Ok(Ok(())) => Some(()),
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
    pub(super) async fn sync(
        &self,
        fleet: &Fleet,
        attended: Option<&Attended<'_>>,
    ) -> Result<(), SyncError> {
        for _ in 0..MAX_ROUNDS {
            let read = fleet.freezes().await?;
            self.adopt_new(&read).await;
            let mut is_same = true;
            for (provider, held) in self.states.all_held() {
                is_same &= self
                    .bring_together(fleet, &read, &provider, held, attended)
                    .await?;
            }
            if is_same {
                if read.version == 0 {
                    fleet.begin_freezes().await?;
                }
                return Ok(());
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
        attended: Option<&Attended<'_>>,
    ) -> Result<bool, SyncError> {
        let attended = attended.filter(|attended| attended.is(provider));
        let found = read.by_provider.get(&**provider);
        let both = Both {
            own: &held,
            made: read.at(held.made),
            is_attended: attended.is_some(),
            found,
            found_ends: found.and_then(|found| Some(End::at(read.instant(found.ends?)?))),
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
                    ends: held.ends.and_then(|end| ends_at(read, end)),
                };
                let writing = fleet.write_freeze(read, provider, &new);
                let written = match attended {
                    Some(attended) => attended.note(writing).await?,
                    None => writing.await?,
                };
                if written == Written::Changed {
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
        let (now, wall) = (Instant::now(), clock::wall());
        let ends = found.ends.and_then(|ends| read.instant(ends));
        let decision = by_own_clock(found.decision.clone(), ends, now, wall);
        let ends = ends.map(End::at);
        let held = Held {
            decision: decision.clone(),
            ends,
            has_ended: ends.is_some_and(|end| end.is_over(now)),
            ends_by_wall_clock: false,
            made: now,
            made_at: wall,
            number: Some(found.number),
            after: 0,
        };
        let concerns_payments = held.is_frozen() || before.as_ref().is_some_and(Held::is_frozen);
        if concerns_payments && before.is_none_or(|before| before.decision != decision) {
            tracing::warn!(
                %provider,
                is_frozen = decision.is_frozen,
                by = decision.by.as_deref(),
                reason = decision.reason.as_deref(),
                until = until(&decision),
                is_configured = self.states.is_configured(provider),
                "the fleet decides on requests that move money"
            );
        }
        self.states.hold(provider, held.clone());
        self.keep_or_say(provider, &held).await;
    }
}
