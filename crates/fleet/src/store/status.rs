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
    /// A line a minute for each cause.
    lines: LogThrottles<Option<Kind>>,
    /// The same for each node of a cluster.
    nodes: LogThrottles<(Place, Kind)>,
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
            }),
            up,
            events,
            lines: LogThrottles::default(),
            nodes: LogThrottles::default(),
        }
    }

    pub(super) fn state(&self) -> StoreState {
        self.lock().clone()
    }

    /// It can be used.
    pub(super) fn now_up(&self) {
        let before = self.set(None, None, None);
        self.up.set(1);
        self.events.add(Event::Up);
        if before.is_some() && self.lines.is_due(None, Instant::now()) {
            tracing::info!(store = %self.address(), "the fleet's store can be used");
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
        if before != Some(kind) && self.lines.is_due(Some(kind), Instant::now()) {
            tracing::warn!(
                store = %self.address(),
                why = kind.as_str(),
                source = source_of(error),
                "the fleet's store cannot be used: {}",
                kind.describe(),
            );
        }
    }

    /// It is connected, and most Sentinels say that it is the primary, or do not.
    pub(super) fn confirmed(&self, is_confirmed: bool) {
        let before = std::mem::replace(&mut self.lock().is_unconfirmed, !is_confirmed);
        let kind = Kind::Unconfirmed;
        if is_confirmed || before || !self.lines.is_due(Some(kind), Instant::now()) {
            return;
        }
        tracing::warn!(
            store = %self.address(),
            why = kind.as_str(),
            "the fleet's store is used, but {}: other instances may use another one",
            kind.describe(),
        );
    }

    /// It is connected, and this came of trying all that instances need there.
    pub(super) fn does_all(&self, outcome: Result<(), &StoreError>) {
        let refusal = outcome.err().filter(|error| error.kind().is_refusal());
        let kind = refusal.map(StoreError::kind);
        let command = refusal.and_then(StoreError::command);
        let before = self.state();
        let is_news = (before.refuses, before.command.as_deref()) != (kind, command);
        if !is_news || (kind.is_none() && outcome.is_err()) {
            return;
        }
        self.set(None, kind, command);
        self.up.set(kind.is_none().into());
        let is_due = self.lines.is_due(kind, Instant::now());
        match refusal {
            Some(error) if is_due => tracing::warn!(
                store = %self.address(),
                why = error.kind().as_str(),
                source = source_of(error),
                "the fleet's store refuses what instances have to do there: {}",
                error.kind().describe(),
            ),
            None if is_due => {
                tracing::info!(store = %self.address(), "the fleet's store can be used");
            }
            Some(_) | None => {}
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
