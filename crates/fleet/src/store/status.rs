//! Status of the store: up or down, since when and why; for `/status`, the gauge, the log and the events.
//!
//! One task writes: the one that keeps the store connected.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::{Instant, sleep};

use super::dial::Place;
use super::error::{Kind, StoreError};
use super::events::{Event, Queue};
use bursar_base::log_throttle::LogThrottles;

/// How often it is tried whether a store that is connected does all that is needed.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// What is known of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreState {
    /// None: it is connected.
    pub down: Option<Kind>,
    /// What it refuses all the same, of what instances have to do there.
    pub refuses: Option<Kind>,
    /// It is connected, and most Sentinels do not say that it is the primary: other instances may be connected to
    /// another one.
    pub is_unconfirmed: bool,
    /// Since when it is connected, or not; what it refuses meanwhile changes nothing of that.
    pub since: Instant,
    /// The command that it does not do, where that is why.
    pub command: Option<Box<str>>,
    /// When the last attempt to connect was begun that came to nothing, or has by now.
    pub failed_attempt: Option<Instant>,
    /// Where it is, without users and passwords.
    pub address: Arc<str>,
    /// The server that is connected, where that may be one of several.
    pub server: Option<Arc<str>>,
}

impl StoreState {
    /// Why it cannot be used, or not for everything.
    #[must_use]
    pub fn why(&self) -> Option<Kind> {
        self.down.or(self.refuses)
    }

    /// The same, or what else there is to know of it.
    fn notice(&self) -> Option<Kind> {
        let unconfirmed = self.is_unconfirmed.then_some(Kind::Unconfirmed);
        self.why().or(unconfirmed)
    }

    /// What there is to know in words, with the command that it does not do.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let kind = self.notice()?;
        Some(match &self.command {
            Some(command) => format!("{}: {command}", kind.describe()),
            None => kind.describe().to_owned(),
        })
    }
}

/// Whoever keeps the store connected tells it of every change.
#[derive(Debug)]
pub(super) struct Status {
    state: Mutex<StoreState>,
    up: IntGauge,
    events: Arc<Queue>,
    log: StatusLog,
    /// The same for each node of a cluster.
    nodes: LogThrottles<(Place, Kind)>,
}

/// What the log was told last, so that it is told when that is so no more. A cause is told once a minute; one that was
/// kept back is told at a later attempt, if it is still so.
#[derive(Debug)]
struct StatusLog {
    told: Mutex<Told>,
    lines: LogThrottles<Kind>,
}

#[derive(Debug)]
struct Told {
    why: Option<Kind>,
    command: Option<Box<str>>,
    is_unconfirmed: bool,
}

impl Default for StatusLog {
    fn default() -> Self {
        Self {
            told: Mutex::new(Told {
                why: Some(Kind::Starting),
                command: None,
                is_unconfirmed: false,
            }),
            lines: LogThrottles::default(),
        }
    }
}

impl StatusLog {
    /// Whether the log has to be told that the store cannot be used, and why, or that it can.
    fn is_due(&self, why: Option<Kind>, command: Option<&str>, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = (told.why, told.command.as_deref()) != (why, command);
        let is_due = is_news && why.is_none_or(|why| self.lines.is_due(why, now));
        if is_due {
            told.why = why;
            told.command = command.map(Into::into);
        }
        is_due
    }

    /// The same of what most Sentinels say.
    fn is_due_of_sentinels(&self, is_confirmed: bool, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_unconfirmed == is_confirmed
            && (is_confirmed || self.lines.is_due(Kind::Unconfirmed, now));
        if is_due {
            told.is_unconfirmed = !is_confirmed;
        }
        is_due
    }
}

impl Status {
    pub(super) fn new(address: Arc<str>, up: IntGauge, events: Arc<Queue>) -> Self {
        up.set(0);
        Self {
            state: Mutex::new(StoreState {
                down: Some(Kind::Starting),
                refuses: None,
                is_unconfirmed: false,
                since: Instant::now(),
                command: None,
                failed_attempt: None,
                address,
                server: None,
            }),
            up,
            events,
            log: StatusLog::default(),
            nodes: LogThrottles::default(),
        }
    }

    pub(super) fn state(&self) -> StoreState {
        self.lock().clone()
    }

    /// It can be used.
    pub(super) fn now_up(&self, server: Option<&Arc<str>>) {
        self.set(None, None, None);
        self.lock().server = server.cloned();
        self.up.set(1);
        self.events.add(Event::Up);
        self.log_up();
    }

    fn log_up(&self) {
        if self.log.is_due(None, None, Instant::now()) {
            let state = self.state();
            tracing::info!(store = %state.address, server = state.server.as_deref(), "the fleet's store can be used");
        }
    }

    /// It cannot, or not any more: an attempt has ended that was begun then.
    pub(super) fn now_down(&self, error: &StoreError, begun: Instant) {
        let kind = error.kind();
        let before = self.set(Some(kind), None, error.command());
        self.lock().failed_attempt = Some(begun);
        self.up.set(0);
        if before.is_none() {
            self.events.add(Event::Down);
        }
        if self.log.is_due(Some(kind), error.command(), Instant::now()) {
            tracing::warn!(
                store = %self.address(),
                server = error.server(),
                why = kind.as_str(),
                source = source_of(error),
                "the fleet's store cannot be used: {}",
                kind.describe(),
            );
        }
    }

    /// It is connected, and most Sentinels say that it is the primary, or do not.
    pub(super) fn confirmed(&self, is_confirmed: bool) {
        self.lock().is_unconfirmed = !is_confirmed;
        if !self.log.is_due_of_sentinels(is_confirmed, Instant::now()) {
            return;
        }
        let (kind, state) = (Kind::Unconfirmed, self.state());
        if is_confirmed {
            tracing::info!(store = %state.address, server = state.server.as_deref(), "most Sentinels say again that the fleet's store is the primary");
        } else {
            tracing::warn!(
                store = %state.address,
                server = state.server.as_deref(),
                why = kind.as_str(),
                "the fleet's store is used, but {}: other instances may use another one",
                kind.describe(),
            );
        }
    }

    /// It is connected, and this came of trying all that instances need there.
    pub(super) fn does_all(&self, outcome: Result<(), &StoreError>) {
        let refusal = outcome.err().filter(|error| error.kind().is_refusal());
        let kind = refusal.map(StoreError::kind);
        let command = refusal.and_then(StoreError::command);
        if kind.is_none() && outcome.is_err() {
            return;
        }
        let before = self.state();
        if (before.refuses, before.command.as_deref()) != (kind, command) {
            self.set(None, kind, command);
            self.up.set(kind.is_none().into());
        }
        let Some(error) = refusal else {
            self.log_up();
            return;
        };
        if self.log.is_due(kind, command, Instant::now()) {
            tracing::warn!(
                store = %before.address,
                server = before.server.as_deref(),
                why = error.kind().as_str(),
                source = source_of(error),
                "the fleet's store refuses what instances have to do there: {}",
                error.kind().describe(),
            );
        }
    }

    /// Tries now and then whether the store does all that instances need, for as long as it is connected.
    pub(super) async fn follow<F: Future<Output = Result<(), StoreError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Infallible {
        loop {
            sleep(TRY_EVERY).await;
            self.does_all(attempt().await.as_ref().copied());
        }
    }

    /// A node of a cluster cannot be used; the others can.
    pub(super) fn node_down(&self, place: &Place, error: &StoreError) {
        let kind = error.kind();
        if self.nodes.is_due((place.clone(), kind), Instant::now()) {
            tracing::warn!(
                store = %self.address(),
                node = %place,
                why = kind.as_str(),
                source = source_of(error),
                "a node of the fleet's store cannot be used: {}",
                kind.describe(),
            );
        }
    }

    fn address(&self) -> Arc<str> {
        self.lock().address.clone()
    }

    /// What was before.
    fn set(
        &self,
        down: Option<Kind>,
        refuses: Option<Kind>,
        command: Option<&str>,
    ) -> Option<Kind> {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.down, down);
        state.refuses = refuses;
        state.command = command.map(Into::into);
        state.server = state.server.take().filter(|_| down.is_none());
        if before.is_none() != down.is_none() {
            state.since = Instant::now();
            state.is_unconfirmed = false;
        }
        before
    }

    fn lock(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn source_of(error: &StoreError) -> Option<String> {
    std::error::Error::source(error).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_what_is_so_within_a_minute_and_none_is_told_twice() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let log = StatusLog::default();
        let [refused, silent] = [Kind::WritesRefused, Kind::TimedOut].map(Some);
        for (why, seconds, is_due) in [
            (None, 0, true),
            (None, 100, false),
            (refused, 101, true),
            (refused, 102, false),
            (None, 103, true),
            // Again, and for longer.
            (refused, 104, false),
            (silent, 105, true),
            (refused, 150, false),
            (refused, 162, true),
            (None, 163, true),
            // It came and went meanwhile.
            (refused, 164, false),
            (None, 165, false),
        ] {
            assert_eq!(log.is_due(why, None, after(seconds)), is_due, "{seconds}");
        }
        for (is_confirmed, seconds, is_due) in [
            (true, 0, false),
            (false, 1, true),
            (false, 2, false),
            (true, 3, true),
            (false, 4, false),
            (false, 62, true),
        ] {
            let told = log.is_due_of_sentinels(is_confirmed, after(seconds));
            assert_eq!(told, is_due, "{seconds}");
        }
    }
}
