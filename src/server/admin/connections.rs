//! Connection limit of the admin port. A new connection is always taken: where there are too many, one is closed for it,
//! of the address that has most the one with which nothing has happened for longest.
//!
//! So whoever fills the port closes their own connections, and a probe, which lives for milliseconds, is answered even
//! from behind the same address. No address has a part of its own, because there may be many peers behind it. What a right
//! `admin_token` has begun is closed last.
//!
//! The task that accepts adds connections and chooses; each connection's task changes its own entry and removes it. One
//! lock orders them, and nobody holds it for longer than a look at the list.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use bursar_limits::network::owner;

/// Connections at once.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// All that are open.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    entries: Vec<Entry>,
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    owner: IpAddr,
    /// When it was accepted, or its last request began or was responded to. Bytes of a head that is not complete count
    /// for nothing.
    since: Instant,
    /// Whether a right token is acted on.
    is_trusted: bool,
    closing: Arc<Notify>,
}

/// An open connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Connection {
    all: Arc<Connections>,
    number: u64,
    closing: Arc<Notify>,
}

/// A new connection.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// From where the one was that is closed for it. None: there was room.
    pub(super) closed: Option<IpAddr>,
}

impl Connections {
    /// Adds one, and has another one closed where there are too many.
    pub(super) fn open(self: &Arc<Self>, address: IpAddr, now: Instant) -> Opened {
        let closing = Arc::<Notify>::default();
        let mut list = self.list();
        let mut closed = None;
        if list.entries.len() >= MAX_CONNECTIONS
            && let Some(index) = surplus(&list.entries)
        {
            let entry = list.entries.swap_remove(index);
            entry.closing.notify_one();
            closed = Some(entry.owner);
        }
        let number = list.next_number;
        list.next_number += 1;
        list.entries.push(Entry {
            number,
            owner: owner(address),
            since: now,
            is_trusted: false,
            closing: closing.clone(),
        });
        let connection = Connection {
            all: self.clone(),
            number,
            closing,
        };
        Opened { connection, closed }
    }

    /// A panic while it was held leaves a list that was right.
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of them is closed for a new one.
fn surplus(entries: &[Entry]) -> Option<usize> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for entry in entries {
        *counts.entry(entry.owner).or_default() += 1;
    }
    let count = |entry: &Entry| counts.get(&entry.owner).copied().unwrap_or_default();
    let rank = |entry: &Entry| {
        (
            !entry.is_trusted,
            count(entry),
            std::cmp::Reverse(entry.since),
        )
    };
    let ranked = entries.iter().enumerate();
    let last = ranked.max_by_key(|(_, entry)| rank(entry));
    last.map(|(index, _)| index)
}

impl Connection {
    /// Waits until it has to make room.
    pub(super) async fn closing(&self) {
        self.closing.notified().await;
    }

    /// A request has come, or is responded to.
    pub(super) fn touch(&self, now: Instant) {
        self.change(|entry| {
            entry.since = now;
            entry.is_trusted = false;
        });
    }

    /// The request has shown the right token.
    pub(super) fn trust(&self) {
        self.change(|entry| entry.is_trusted = true);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let mut list = self.all.list();
        let mut entries = list.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.number == self.number) {
            change(entry);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut list = self.all.list();
        let mut entries = list.entries.iter();
        if let Some(index) = entries.position(|entry| entry.number == self.number) {
            list.entries.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Opens them all, a second after each other; says which were closed, by their index.
    struct Opening {
        all: Arc<Connections>,
        now: Instant,
        open: Vec<Connection>,
    }

    impl Opening {
        fn new() -> Self {
            Self {
                all: Arc::default(),
                now: Instant::now(),
                open: Vec::new(),
            }
        }

        fn open(&mut self, address: &str) -> Option<IpAddr> {
            self.now += Duration::from_secs(1);
            let opened = self.all.open(address.parse().unwrap(), self.now);
            self.open.push(opened.connection);
            opened.closed
        }

        fn fill(&mut self, address: &str) {
            while self.all.list().entries.len() < MAX_CONNECTIONS {
                assert_eq!(self.open(address), None);
            }
        }

        fn is_open(&self, index: usize) -> bool {
            let number = self.open[index].number;
            let list = self.all.list();
            list.entries.iter().any(|entry| entry.number == number)
        }
    }

    #[tokio::test]
    async fn where_there_are_too_many_the_one_that_has_waited_longest_makes_room() {
        let mut all = Opening::new();
        all.fill("10.0.0.1");
        all.now += Duration::from_secs(1);
        all.open[0].touch(all.now);
        let closed = all.open("10.0.0.1");
        assert_eq!(closed, Some("10.0.0.1".parse().unwrap()));
        assert!(all.is_open(0) && !all.is_open(1) && all.is_open(2));
        all.open[1].closing().await;
        // It does so once.
        drop(all.open.remove(1));
        assert_eq!(all.all.list().entries.len(), MAX_CONNECTIONS);
        drop(all.open.remove(1));
        assert_eq!(all.all.list().entries.len(), MAX_CONNECTIONS - 1);
        assert_eq!(all.open("10.0.0.1"), None);
    }

    #[tokio::test]
    async fn whoever_has_most_of_them_makes_room_for_all_others() {
        let mut all = Opening::new();
        for address in ["10.0.0.2", "10.0.0.3", "2001:db8::1"] {
            all.open(address);
        }
        all.fill("10.0.0.1");
        for address in ["10.0.0.2", "10.0.0.4", "2001:db8:0:1::1", "10.0.0.1"] {
            assert_eq!(all.open(address), Some("10.0.0.1".parse().unwrap()));
        }
        assert!((0..3).all(|index| all.is_open(index)));
        // A /64 is one address.
        for host in 0..MAX_CONNECTIONS {
            all.open(&format!("2001:db8:0:2::{host:x}"));
        }
        let last = all.open("2001:db8:0:2::1");
        assert_eq!(last, Some("2001:db8:0:2::".parse().unwrap()));
        assert!((0..3).all(|index| all.is_open(index)));
    }

    #[tokio::test]
    async fn what_a_right_token_has_begun_makes_room_last() {
        let mut all = Opening::new();
        all.fill("10.0.0.1");
        for trusted in &all.open[..MAX_CONNECTIONS - 1] {
            trusted.trust();
        }
        all.open("10.0.0.1");
        assert!((0..MAX_CONNECTIONS - 1).all(|index| all.is_open(index)));
        let last = all.open.last().unwrap();
        last.trust();
        all.open("10.0.0.2");
        assert!(!all.is_open(0));
        // Its next request counts as any other.
        all.now += Duration::from_secs(1);
        all.open[1].touch(all.now);
        all.open[MAX_CONNECTIONS + 1].trust();
        all.open("10.0.0.2");
        assert!(!all.is_open(1) && all.is_open(2));
    }
}
