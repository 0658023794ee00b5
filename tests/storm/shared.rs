//! State that all sides of the storm share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::{Tokens, Trouble};
use crate::history::History;
use crate::plan::NAMES;

/// One of the Bursars: which start of it this is, and where it listens.
pub(crate) struct Instance {
    /// Counts its starts; raised before it is ended.
    epoch: AtomicU64,
    /// Where it listens now.
    pub(crate) address: watch::Sender<Option<SocketAddr>>,
}

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

/// Killed by whoever sees the moment of a request that was sent to it.
struct Armed {
    moment: Moment,
    instance: usize,
    child: Arc<Mutex<Child>>,
}

pub(crate) struct Shared {
    pub(crate) seed: u64,
    instances: Vec<Instance>,
    /// Whether callers are to end.
    pub(crate) is_over: watch::Sender<bool>,
    armed: Mutex<Option<Armed>>,
    history: Mutex<History>,
    tokens: Mutex<Tokens>,
    endpoint: Mutex<(Trouble, Instant)>,
    api_down: Mutex<Instant>,
}

impl Instance {
    fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            address: watch::Sender::new(None),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }
}

impl Shared {
    pub(crate) fn new(seed: u64, instances: usize) -> Self {
        let now = Instant::now();
        Self {
            seed,
            instances: (0..instances).map(|_| Instance::new()).collect(),
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

    pub(crate) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// The one that a caller sends to. Each has callers of every name.
    pub(crate) fn instance_of(&self, caller: u32) -> &Instance {
        &self.instances[self.number_of_instance(caller)]
    }

    fn number_of_instance(&self, caller: u32) -> usize {
        caller as usize / NAMES % self.instances.len()
    }

    /// From now on the instance that there was may end.
    pub(crate) fn next_epoch(&self, instance: usize) {
        let ending = &self.instances[instance];
        ending.address.send_replace(None);
        ending.epoch.fetch_add(1, Ordering::SeqCst);
        self.tokens().instance_ended();
    }

    /// That instance is killed at that moment.
    pub(crate) fn arm(&self, moment: Moment, instance: usize, child: Arc<Mutex<Child>>) {
        *self.armed.lock().unwrap() = Some(Armed {
            moment,
            instance,
            child,
        });
    }

    /// Now is that moment for a request of that caller.
    pub(crate) fn at(&self, moment: Moment, caller: u32) {
        let instance = self.number_of_instance(caller);
        let is_now = |armed: &mut Armed| armed.moment == moment && armed.instance == instance;
        let mut armed = self.armed.lock().unwrap();
        let now = armed.take_if(is_now);
        self.fire(now);
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

    fn fire(&self, armed: Option<Armed>) {
        if let Some(armed) = armed {
            self.next_epoch(armed.instance);
            armed.child.lock().unwrap().start_kill().unwrap();
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
