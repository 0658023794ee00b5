//! A cluster: a connection to each node that takes writes, and one for what is published.
//!
//! Which node serves which slot is learnt from the nodes: all at once from the one that is subscribed to, and a slot at a
//! time from a node that sends a script on. A node that is gone fails the scripts of its slots at once, and no others.
//! What is published on one node is passed on by all, so that any one will do for subscriptions.
//!
//! The table of slots is behind a lock, held for a look and never across an await. The cluster's own task writes it, and
//! whoever is sent on; everybody reads it.

mod slots;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::backoff::Backoff;
use super::connection::Connection;
use super::dial::{Place, STEP_TIMEOUT};
use super::error::{Kind, Redirect, StoreError};
use super::link::{Current, Dialer, Task, none_yet};
use super::script::{Arg, Script};
use super::status::Status;
use slots::{Range, SLOTS, place_of, read, slot_of};

/// A script is sent on no more often.
const MAX_REDIRECTS: usize = 5;
/// One that a cluster could not serve at the moment is sent again no more often.
const MAX_REPEATS: usize = 3;
const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// The slots are read again for a script that was sent on to a node that is gone no more often, each time from no more
/// nodes.
const MAX_RELOADS: usize = 2;
const MAX_ASKED: usize = 3;
/// A node that a script was sent on to, and that was not known before, is waited for as long.
const NEW_NODE_TIMEOUT: Duration = Duration::from_secs(1);
/// More nodes that take writes are not connected to.
const MAX_NODES: usize = 256;
/// Of the nodes that it may subscribe to, the subscriber tries no more at once, and all but the last for as long.
const MAX_TRIED: usize = 8;
const TRIED_FOR: Duration = Duration::from_secs(1);
/// While all nodes are connected, the slots are read again as often.
const RELOAD: Duration = Duration::from_secs(30);
/// While one is not, or has sent a script on.
const RELOAD_SOON: Duration = Duration::from_millis(500);

/// A cluster, as far as it is known.
pub(super) struct Cluster {
    /// To its nodes.
    dialer: Arc<Dialer>,
    table: Mutex<Table>,
    status: Arc<Status>,
    changes: Arc<Changes>,
}

/// What the subscriber is told.
#[derive(Default)]
struct Changes {
    /// A node's connection has come or gone, or slots have moved.
    happened: Notify,
    /// How often a node was connected.
    connects: AtomicUsize,
}

/// Who serves what.
struct Table {
    nodes: Vec<Arc<Node>>,
    /// For each slot a node by its number, or [`NOBODY`].
    owners: Box<[u16]>,
}

const NOBODY: u16 = u16::MAX;

/// A node that takes writes.
struct Node {
    place: Place,
    current: Current,
    /// Keeps it connected.
    _task: Task,
}

impl Cluster {
    pub(super) fn new(dialer: Dialer, status: Arc<Status>) -> Self {
        Self {
            dialer: Arc::new(dialer),
            table: Mutex::new(Table {
                nodes: Vec::new(),
                owners: vec![NOBODY; SLOTS.into()].into(),
            }),
            changes: Arc::default(),
            status,
        }
    }

    /// Runs a script at the node that serves its keys.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[Arg<'_>],
    ) -> Result<Value, StoreError> {
        let slot = keys.first().map(|key| slot_of(key.as_bytes()));
        let mut redirected: Option<(Arc<Node>, bool)> = None;
        let mut sender: Option<Place> = None;
        let (mut redirects, mut repeats, mut reloads) = (0, 0, 0);
        loop {
            let (node, is_ask) = match redirected.take() {
                Some(redirected) => redirected,
                None => (self.node_of(slot)?, false),
            };
            let connection = match redirects {
                0 => node.connection_once_tried().await?,
                _ => match node.new_connection().await {
                    Ok(connection) => connection,
                    // Whoever sent the script there may not know yet that the node is gone; others do, perhaps.
                    Err(_)
                        if reloads < MAX_RELOADS
                            && self.is_moved_on(slot, &node.place, sender.as_ref()).await =>
                    {
                        reloads += 1;
                        continue;
                    }
                    Err(down) => return Err(down),
                },
            };
            let run = match is_ask {
                true => connection.run_asking(script, keys, args).await,
                false => connection.run(script, keys, args).await,
            };
            let Err(error) = run else { return run };
            if let Some(redirect) = error.redirect() {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(error);
                }
                let next = self.redirected(redirect, &node.place);
                sender = Some(node.place.clone());
                redirected = Some((next.ok_or(error.clone())?, redirect.is_ask));
            } else if error.is_momentary() && repeats < MAX_REPEATS {
                repeats += 1;
                sleep(REPEAT_AFTER).await;
            } else {
                return Err(error);
            }
        }
    }

    /// Whether another node than the one at `from` serves a slot now, by what others say than `sender`, which named it:
    /// each is asked, until one says so.
    async fn is_moved_on(&self, slot: Option<u16>, from: &Place, sender: Option<&Place>) -> bool {
        let others = self.connections().into_iter();
        let others = others.filter(|(place, _)| place != from && Some(place) != sender);
        for (place, connection) in others.take(MAX_ASKED) {
            let is_loaded = self.load(&place, &connection).await.is_ok();
            if is_loaded && self.node_of(slot).is_ok_and(|node| node.place != *from) {
                return true;
            }
        }
        false
    }

    /// Whether a replica of the node that serves a key has all that was written there.
    pub(super) async fn is_replicated(&self, key: &str) -> bool {
        let node = self.node_of(Some(slot_of(key.as_bytes())));
        match node.and_then(|node| node.connection()) {
            Ok(connection) => connection.is_replicated().await,
            Err(_down) => false,
        }
    }

    /// Whether the user may ask the node that serves a key how many replicas have a write (`WAIT`).
    pub(super) async fn may_wait(&self, key: &str) -> Result<(), StoreError> {
        let node = self.node_of(Some(slot_of(key.as_bytes())))?;
        node.connection()?.may_wait().await
    }

    /// Who serves a slot, where its connection may be gone; any node for a script without keys.
    fn node_of(&self, slot: Option<u16>) -> Result<Arc<Node>, StoreError> {
        let table = self.lock();
        let at = match slot {
            Some(slot) => table.owners.get(usize::from(slot)).copied(),
            None => Some(0),
        };
        let node = at.and_then(|at| table.nodes.get(usize::from(at)));
        node.cloned().ok_or(StoreError::unsent(Kind::Down))
    }

    /// The node that a script was sent on to by the one at `from`. None: it cannot be known.
    fn redirected(&self, redirect: &Redirect, from: &Place) -> Option<Arc<Node>> {
        let place = place_of(&redirect.host, redirect.port, from)?;
        let mut table = self.lock();
        let at = table.node_at(&place, || self.connect(place.clone()))?;
        if !redirect.is_ask {
            // One slot that has moved is seldom the only one.
            self.changes.happened.notify_one();
            if let Some(owner) = table.owners.get_mut(usize::from(redirect.slot)) {
                *owner = at;
            }
        }
        table.nodes.get(usize::from(at)).cloned()
    }

    /// Takes over who serves what; what serves nothing any more is disconnected.
    fn take_over(&self, ranges: &[Range]) {
        let mut table = self.lock();
        let before = std::mem::take(&mut table.nodes);
        table.owners.fill(NOBODY);
        for range in ranges {
            let known = before.iter().find(|node| node.place == range.place);
            let node = || {
                known
                    .cloned()
                    .unwrap_or_else(|| self.connect(range.place.clone()))
            };
            let Some(at) = table.node_at(&range.place, node) else {
                continue;
            };
            let owned = usize::from(range.first)..=usize::from(range.last);
            if let Some(owners) = table.owners.get_mut(owned) {
                owners.fill(at);
            }
        }
    }

    /// Reads who serves what from a node.
    async fn load(&self, place: &Place, connection: &Connection) -> Result<(), StoreError> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let slots = connection.ask(&command).await?;
        let ranges = read(slots, place).ok_or(StoreError::unsent(Kind::Protocol))?;
        if ranges.is_empty() {
            return Err(StoreError::unsent(Kind::ClusterDown));
        }
        self.take_over(&ranges);
        Ok(())
    }

    fn connect(&self, place: Place) -> Arc<Node> {
        let current = none_yet();
        let keeping = Keeping {
            dialer: self.dialer.clone(),
            place: place.clone(),
            current: current.clone(),
            status: self.status.clone(),
            changes: self.changes.clone(),
        };
        Arc::new(Node {
            place,
            current,
            _task: Task::spawn(keeping.keep()),
        })
    }

    /// Whether all slots are served by a node that is connected.
    fn is_whole(&self) -> bool {
        let table = self.lock();
        !table.owners.contains(&NOBODY) && table.nodes.iter().all(|node| node.is_up())
    }

    /// The nodes' connections.
    fn connections(&self) -> Vec<(Place, Arc<Connection>)> {
        let table = self.lock();
        let nodes = table.nodes.iter();
        let connected =
            nodes.filter_map(|node| Some((node.place.clone(), node.connection().ok()?)));
        connected.collect()
    }

    /// Why the node that serves a key is not connected.
    fn why(&self, key: &str) -> Option<StoreError> {
        let node = self.node_of(Some(slot_of(key.as_bytes()))).ok()?;
        node.current.borrow().as_ref().err().cloned()
    }

    fn places(&self) -> Vec<Place> {
        self.lock()
            .nodes
            .iter()
            .map(|node| node.place.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The number of the node at a place, which is added where it is not there. None: there are too many.
    fn node_at(&mut self, place: &Place, node: impl FnOnce() -> Arc<Node>) -> Option<u16> {
        let known = self.nodes.iter().position(|node| node.place == *place);
        let at = match known {
            Some(at) => at,
            None if self.nodes.len() >= MAX_NODES => return None,
            None => {
                self.nodes.push(node());
                self.nodes.len() - 1
            }
        };
        u16::try_from(at).ok()
    }
}

impl Node {
    fn connection(&self) -> Result<Arc<Connection>, StoreError> {
        let current = self.current.borrow().clone();
        current.map_err(|_why| StoreError::unsent(Kind::Down))
    }

    /// The same, where the first attempt to connect may be under way: a node that nobody has tried is not down.
    async fn connection_once_tried(&self) -> Result<Arc<Connection>, StoreError> {
        if self.is_untried() {
            let mut current = self.current.subscribe();
            let is_tried = |current: &Result<_, StoreError>| !is_starting(current);
            drop(timeout(NEW_NODE_TIMEOUT, current.wait_for(is_tried)).await);
        }
        self.connection()
    }

    fn is_untried(&self) -> bool {
        is_starting(&self.current.borrow())
    }

    /// The same, where the node may have been heard of just now.
    async fn new_connection(&self) -> Result<Arc<Connection>, StoreError> {
        let mut current = self.current.subscribe();
        // It ends where the node is dropped meanwhile, too.
        drop(timeout(NEW_NODE_TIMEOUT, current.wait_for(Result::is_ok)).await);
        self.connection()
    }

    fn is_up(&self) -> bool {
        self.current.borrow().is_ok()
    }
}

fn is_starting(current: &Result<Arc<Connection>, StoreError>) -> bool {
    matches!(current, Err(error) if error.kind() == Kind::Starting)
}

/// What keeps a node connected.
struct Keeping {
    dialer: Arc<Dialer>,
    place: Place,
    current: Current,
    status: Arc<Status>,
    changes: Arc<Changes>,
}

impl Keeping {
    /// Never ends.
    async fn keep(self) {
        let mut backoff = Backoff::default();
        loop {
            let mut up_since = None;
            let connected = self.dialer.connect(&self.place, backoff.attempt()).await;
            let error = match connected {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    up_since = Some(Instant::now());
                    self.now(Ok(connection.clone()));
                    self.dialer.watch(&connection).await
                }
                Err(error) => error,
            };
            self.status.node_down(&self.place, &error);
            let pause = backoff.pause(error.kind(), up_since);
            self.now(Err(error));
            sleep(pause).await;
        }
    }

    fn now(&self, connection: Result<Arc<Connection>, StoreError>) {
        if connection.is_ok() {
            self.changes.connects.fetch_add(1, Ordering::Relaxed);
        }
        self.current.send_modify(|current| *current = connection);
        self.changes.happened.notify_one();
    }
}

/// Keeps one node subscribed, and the table of slots up to date.
pub(super) struct Subscriber {
    pub(super) cluster: Arc<Cluster>,
    pub(super) dialer: Dialer,
    /// The nodes that the configuration names; never empty.
    pub(super) seeds: Vec<Place>,
    pub(super) status: Arc<Status>,
}

impl Subscriber {
    /// Never ends.
    pub(super) async fn keep(self) {
        let mut backoff = Backoff::default();
        // Instances are not all subscribed to one node.
        let mut turn = 2 * fastrand::usize(..self.seeds.len().max(1));
        loop {
            let begun = Instant::now();
            let mut up_since = None;
            let error = match self.begin(turn, backoff.attempt()).await {
                Ok((place, connection)) => {
                    up_since = Some(Instant::now());
                    self.status.now_up(None);
                    let error = self.follow(&place, &connection).await;
                    connection.close(error.kind());
                    error
                }
                Err(error) => error,
            };
            turn = turn.wrapping_add(1);
            self.status.now_down(&error, begun);
            sleep(backoff.pause(error.kind(), up_since)).await;
        }
    }

    /// Subscribes to the node whose turn it is, and waits until a script has been run where it belongs.
    async fn begin(&self, turn: usize, attempt: usize) -> Result<(Place, Connection), StoreError> {
        // Known nodes may all be gone, and have new addresses: every other turn is for one of the configuration, whose
        // name is looked up anew.
        let known = self.cluster.places();
        let places = match turn % 2 == 1 && !known.is_empty() {
            true => &known,
            false => &self.seeds,
        };
        let at = (turn / 2).checked_rem(places.len()).unwrap_or(0);
        let (place, connection) = self.connect(places, at, attempt).await?;
        self.cluster.load(&place, &connection).await?;
        self.prove(&place, &connection).await?;
        Ok((place, connection))
    }

    /// Connects to one of the places, that one first: where one is gone, another one does as well. All but the last have
    /// little time.
    async fn connect(
        &self,
        places: &[Place],
        first: usize,
        attempt: usize,
    ) -> Result<(Place, Connection), StoreError> {
        let (before, from) = places.split_at(first.min(places.len()));
        let mut left: Vec<&Place> = from.iter().chain(before).take(MAX_TRIED).collect();
        let last = left.pop().ok_or(StoreError::unsent(Kind::Unreachable))?;
        for place in left {
            match timeout(TRIED_FOR, self.dialer.connect(place, attempt)).await {
                Ok(Ok(connection)) => return Ok((place.clone(), connection)),
                Ok(Err(error)) => self.status.node_down(place, &error),
                Err(_elapsed) => self
                    .status
                    .node_down(place, &StoreError::unsent(Kind::TimedOut)),
            }
        }
        let connection = self.dialer.connect(last, attempt).await?;
        Ok((last.clone(), connection))
    }

    async fn prove(&self, place: &Place, connection: &Connection) -> Result<(), StoreError> {
        let probe = &self.dialer.probe;
        let mut last = StoreError::unsent(Kind::Down);
        let deadline = Instant::now() + STEP_TIMEOUT;
        while Instant::now() < deadline {
            match self.cluster.run(&probe.script, &[&probe.key], &[]).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == Kind::Down => {
                    last = self.cluster.why(&probe.key).unwrap_or(error);
                    let again = deadline.min(Instant::now() + RELOAD_SOON);
                    let changed = self.cluster.changes.happened.notified();
                    if timeout_at(again, changed).await.is_err() {
                        // Its node is gone, perhaps, and another one takes its place.
                        drop(self.cluster.load(place, connection).await);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Keeps the table up to date until the subscription has ended.
    async fn follow(&self, place: &Place, connection: &Connection) -> StoreError {
        let mut watching = pin!(self.dialer.watch(connection));
        let key = &*self.dialer.probe.key;
        let attempt = || async move {
            let tried = self.cluster.run(&self.dialer.commands, &[key], &[]).await?;
            StoreError::first_of(&tried)?;
            self.cluster.may_wait(key).await
        };
        let mut trying = pin!(self.status.follow(attempt));
        let mut next = Instant::now() + self.reload_after();
        let connects = || self.cluster.changes.connects.load(Ordering::Relaxed);
        let mut connected = connects();
        let mut turn = 0_usize;
        loop {
            tokio::select! {
                error = &mut watching => return error,
                never = &mut trying => match never {},
                () = self.cluster.changes.happened.notified() => {
                    let before = std::mem::replace(&mut connected, connects());
                    if connected != before {
                        self.status.now_up(None);
                    }
                    next = next.min(Instant::now() + RELOAD_SOON);
                }
                () = sleep_until(next) => {
                    // One that is cut off knows nothing new, so that all are asked in turn.
                    let others = self.cluster.connections();
                    let other = turn.checked_rem(others.len() + 1).and_then(|at| others.get(at));
                    turn = turn.wrapping_add(1);
                    let loaded = match other {
                        Some((place, connection)) => self.cluster.load(place, connection).await,
                        None => self.cluster.load(place, connection).await,
                    };
                    if let Err(error) = loaded {
                        tracing::debug!(why = error.kind().as_str(), "the cluster's slots could not be read");
                    }
                    next = Instant::now() + self.reload_after();
                }
            }
        }
    }

    fn reload_after(&self) -> Duration {
        match self.cluster.is_whole() {
            true => RELOAD.mul_f64(0.5 + fastrand::f64() / 2.0),
            false => RELOAD_SOON,
        }
    }
}
