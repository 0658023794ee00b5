//! Outages of a fleet's store: a real server that is killed and starts again, with what it had or with nothing,
//! while other things go wrong, too.

use std::time::Duration;

use bursar_testkit::store::{Server, Store};
use tokio::time::Instant;

use crate::program::SECRET;
use crate::shared::Shared;

/// A store that goes away from time to time.
pub(crate) struct FleetStore {
    pub(crate) url: String,
    store: Store,
    outage: Option<Outage>,
}

struct Outage {
    since: Instant,
    until: Instant,
    is_emptied: bool,
}

impl FleetStore {
    pub(crate) async fn start(server: &Server) -> Self {
        let store = server.launch().keeping_data().start().await;
        Self {
            url: store.url(),
            store,
            outage: None,
        }
    }

    /// Kills it, for at least that time.
    pub(crate) async fn kill(&mut self, time: Duration, is_emptied: bool) {
        if self.outage.is_none() {
            let since = Instant::now();
            self.store.kill().await;
            self.outage = Some(Outage {
                since,
                until: since + time,
                is_emptied,
            });
        }
    }

    /// Starts it again where that is due; at the end it is.
    pub(crate) async fn start_again(&mut self, shared: &Shared, is_end: bool) {
        let now = Instant::now();
        let is_due = |outage: &mut Outage| is_end || now >= outage.until;
        let Some(outage) = self.outage.take_if(is_due) else {
            return;
        };
        assert!(self.store.start_again().await, "{}", self.store.log());
        if outage.is_emptied {
            self.store.flush().await;
        }
        shared.tokens().silent_since(outage.since);
    }

    /// The beginning of each secret in it that is not sealed.
    pub(crate) async fn secrets(&self) -> Vec<&'static str> {
        let dump = self.store.dump().await;
        let dump = String::from_utf8_lossy(&dump);
        let is_there = |secret: &&str| dump.contains(*secret);
        SECRET.into_iter().filter(is_there).collect()
    }
}
