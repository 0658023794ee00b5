//! State that all sides of the storm share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::{Tokens, Trouble};
use crate::history::History;

/// When Bursar may be killed, so that whatever is done a moment too late is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A provider has just read the head of a request that moves money.
    Arrival,
    /// A provider has just read all of one.
    Body,
    /// A caller has just read all of an answer.
    Answer,
}

/// Killed by whoever sees the moment.
type Armed = Option<(Moment, Arc<Mutex<Child>>)>;

pub(crate) struct Shared {
    pub(crate) seed: u64,
    /// Counts the starts of Bursar; raised before one is ended.
    epoch: AtomicU64,
    /// Where Bursar listens now.
    pub(crate) address: watch::Sender<Option<SocketAddr>>,
    /// Whether callers are to end.
    pub(crate) is_over: watch::Sender<bool>,
    armed: Mutex<Armed>,
    history: Mutex<History>,
    tokens: Mutex<Tokens>,
    endpoint: Mutex<(Trouble, Instant)>,
    api_down: Mutex<Instant>,
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            seed,
            epoch: AtomicU64::new(0),
            address: watch::Sender::new(None),
            is_over: watch::Sender::new(false),
            armed: Mutex::default(),
            history: Mutex::default(),
            tokens: Mutex::default(),
            endpoint: Mutex::new((Trouble::Down, now)),
            api_down: Mutex::new(now),
        }
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// From now on the Bursar that there was may end.
    pub(crate) fn next_epoch(&self) {
        self.address.send_replace(None);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Bursar is killed at that moment.
    pub(crate) fn arm(&self, moment: Moment, child: Arc<Mutex<Child>>) {
        *self.armed.lock().unwrap() = Some((moment, child));
    }

    /// Now is that moment.
    pub(crate) fn at(&self, moment: Moment) {
        let mut armed = self.armed.lock().unwrap();
        if armed.as_ref().is_some_and(|(wanted, _)| *wanted == moment) {
            self.fire(armed.take());
        }
    }

    /// The moment need not be waited for any longer. Says whether it has come already.
    pub(crate) fn disarm(&self) -> bool {
        let armed = self.armed.lock().unwrap().take();
        let has_come = armed.is_none();
        self.fire(armed);
        has_come
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.lock().unwrap().is_some()
    }

    fn fire(&self, armed: Armed) {
        if let Some((_, child)) = armed {
            self.next_epoch();
            child.lock().unwrap().start_kill().unwrap();
        }
    }

    /// What is wrong with the token endpoint now.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let (trouble, until) = *self.endpoint.lock().unwrap();
        (Instant::now() < until).then_some(trouble)
    }

    pub(crate) fn trouble_endpoint(&self, trouble: Trouble, until: Instant) {
        *self.endpoint.lock().unwrap() = (trouble, until);
    }

    /// Whether providers reset every new connection.
    pub(crate) fn is_api_down(&self) -> bool {
        Instant::now() < *self.api_down.lock().unwrap()
    }

    pub(crate) fn take_api_down(&self, until: Instant) {
        *self.api_down.lock().unwrap() = until;
    }
}
