//! Heartbeat of this instance: it says that it is alive and what it wants of the limits, and hears how many there are,
//! what its shares are, and whether the store still has what it had.
//!
//! One task beats, and writes the shares where requests find them. While the store cannot be used everything stays as
//! it was heard last.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::shares::Shares;
use crate::exchange::Live;
use crate::token::FleetTokens;
use bursar_base::log_throttle::LogThrottle;
use bursar_fleet::{Beat, BeatError, FIRST_CONNECTION, Fleet, Heard, interval};
use bursar_limits::share::wanted;

/// Requests that are refused for want of a share make a heartbeat come earlier, once in so long.
const HURRIED_EVERY: Duration = Duration::from_secs(1);
/// More of them may follow at once.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// With more members the store has enough to do, and heartbeats are not hurried.
const MAX_HURRIED: u64 = 100;
/// What this instance says of itself is written anew after as many heartbeats, beside those after a change of keys.
const DESCRIBED_EVERY: u32 = 60;

/// Instances of another fleet are told of after so long: what the store has lost is written again by then.
const STRANGE: Duration = Duration::from_secs(3);

/// How many token keys are compared with the store after each heartbeat: all instances together some hundred in a second,
/// each one at least.
fn looked_at(members: u64) -> usize {
    usize::try_from(64 / members.max(1))
        .unwrap_or(1)
        .clamp(1, 8)
}

/// What this task tells the one that follows the store, and what it is told.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The store has lost what it had.
    pub(super) lost: Notify,
    /// It can be used again: others wait to hear of this instance.
    pub(super) up: Notify,
}

/// The task.
pub(super) struct Heartbeat {
    fleet: Fleet,
    tokens: Arc<FleetTokens>,
    live: Arc<Live>,
    signals: Arc<Signals>,
    began: Instant,
    shares: Shares,
    /// When requests that were refused last made it come earlier.
    hurried: Instant,
    /// None: nothing was heard yet.
    epoch: Option<String>,
    /// Since when instances of this name are none of this fleet. None: there are no such.
    strange_since: Option<Instant>,
    strangers_told: LogThrottle,
    losses_told: LogThrottle,
    /// Heartbeats until this instance describes itself again.
    undescribed: u32,
    /// How often its keys had become others when it did so last.
    described_with: u64,
}

impl Heartbeat {
    pub(super) fn new(tokens: Arc<FleetTokens>, live: Arc<Live>, signals: Arc<Signals>) -> Self {
        let now = Instant::now();
        Self {
            fleet: tokens.fleet().clone(),
            tokens,
            live,
            signals,
            began: now,
            shares: Shares::new(now),
            hurried: now,
            epoch: None,
            strange_since: None,
            strangers_told: LogThrottle::default(),
            losses_told: LogThrottle::default(),
            undescribed: 0,
            described_with: 0,
        }
    }

    /// Beats until it is dropped.
    pub(super) async fn run(mut self) {
        self.look();
        self.divide();
        self.fleet.first_connection(FIRST_CONNECTION).await;
        let mut is_failing = false;
        let mut looking: Option<AbortOnDropHandle<()>> = None;
        loop {
            let result = self.beat().await;
            if let Err(error) = &result
                && !is_failing
            {
                tracing::debug!(
                    error = error as &dyn std::error::Error,
                    "a heartbeat came to nothing; what was heard last holds"
                );
            }
            is_failing = result.is_err();
            let members = self.shares.members();
            // What the store has lost alone, or cannot be read any more, is written again by who has it.
            if !is_failing && looking.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
                let tokens = self.tokens.clone();
                let look = async move { tokens.compare_next(looked_at(members)).await };
                looking = Some(AbortOnDropHandle::new(tokio::spawn(look)));
            }
            self.pause(members, is_failing).await;
        }
    }

    async fn pause(&mut self, members: u64, is_failing: bool) {
        let may_hurry = members <= MAX_HURRIED && !is_failing;
        // Instances that were started together do not beat together.
        let usual = interval(members).mul_f64(0.9 + fastrand::f64() / 10.0);
        let hurried = self.shares.hurry(Instant::now()).filter(|_| may_hurry);
        let pause = hurried.map_or(usual, |hurried| hurried.min(usual));
        let earliest = (self.hurried + HURRIED_EVERY).max(Instant::now() + AFTER_REFUSAL);
        let refused = async {
            sleep_until(earliest).await;
            wanted().await;
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = self.signals.up.notified() => {}
            () = refused, if may_hurry => self.hurried = Instant::now(),
        }
    }

    async fn beat(&mut self) -> Result<(), BeatError> {
        self.look();
        let members = self.shares.members();
        let demands = self.shares.demands(Instant::now());
        let key_changes = self.fleet.key_changes();
        let beat = Beat {
            members,
            describes: self.undescribed == 0 || self.described_with != key_changes,
            demands: &demands,
        };
        let heard = self.fleet.beat(beat).await;
        if heard.as_ref().is_ok_and(|heard| heard.is_described) {
            self.described_with = key_changes;
        }
        match &heard {
            Ok(heard) => self.hear(heard),
            Err(_) => self.miss(),
        }
        self.divide();
        heard.map(drop)
    }

    fn look(&mut self) {
        let proxy = self.live.current();
        self.shares.look(proxy.divisible(), Instant::now());
    }

    fn divide(&mut self) {
        let proxy = self.live.current();
        self.shares.divide(proxy.divisible(), Instant::now());
        proxy.divide_calls(self.shares.of_calls(), self.shares.is_away());
        proxy.set_shares(self.shares.reserve(), self.shares.are_ready());
    }

    /// There was no response.
    fn miss(&mut self) {
        self.shares.unheard();
        let is_down = self.fleet.state().down.is_some();
        if is_down {
            self.fleet.series().members.set(1);
        }
        if is_down || self.began.elapsed() >= FIRST_CONNECTION {
            self.shares.assume();
        }
    }

    /// Says that others are on their own, which nobody sees from what works.
    fn notice_strangers(&mut self, now: Instant) {
        let strangers = self.shares.strangers();
        if strangers == 0 {
            self.strange_since = None;
            return;
        }
        let since = *self.strange_since.get_or_insert(now);
        if now.duration_since(since) >= STRANGE && self.strangers_told.due(now).is_some() {
            tracing::warn!(
                strangers,
                name = self.fleet.name(),
                "instances that have the fleet's name have no key in common with this one: they share no tokens, freezes and limits with it; see `fleet.keys`"
            );
        }
    }

    fn hear(&mut self, heard: &Heard) {
        self.shares.heard(heard, Instant::now());
        let members = i64::try_from(self.shares.members()).unwrap_or(i64::MAX);
        self.fleet.series().members.set(members);
        self.notice_strangers(Instant::now());
        self.undescribed = match heard.is_described {
            true => (self.undescribed + 1) % DESCRIBED_EVERY,
            false => 0,
        };
        // A message about them may have been lost, or the store what was written.
        if heard.freezes != self.fleet.freezes_version() {
            self.fleet.freeze_signal().send();
        }
        // Whatever is in the store is compared when it is reached; from then on, when it lost something.
        let before = self.epoch.replace(heard.epoch.clone());
        if before.is_some_and(|before| before != heard.epoch) {
            if let Some(times) = self.losses_told.due(Instant::now()) {
                tracing::warn!(
                    times,
                    "the fleet's store has lost what it had; what this instance has is written again"
                );
            }
            self.signals.lost.notify_one();
        }
    }
}
