//! Log of a drain: what it waits for, and how it ended.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::exchange::Proxy;

/// How often it is said what is waited for.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// A drain that has begun.
pub(super) struct DrainLog<'a> {
    proxy: &'a Proxy,
    connections: &'a TaskTracker,
    began: Instant,
}

impl<'a> DrainLog<'a> {
    /// Says that it begins.
    pub(super) fn begin(proxy: &'a Proxy, connections: &'a TaskTracker) -> Self {
        let times = proxy.drain_times();
        tracing::info!(
            connections = connections.len(),
            requests = waited_for(proxy),
            drain_delay_ms = milliseconds(times.delay),
            drain_timeout_ms = milliseconds(times.timeout),
            "draining"
        );
        Self {
            proxy,
            connections,
            began: Instant::now(),
        }
    }

    /// Whether all connections have ended in that time; says from time to time what is waited for.
    pub(super) async fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let next = deadline.min(Instant::now() + SAY_AGAIN);
            if (tokio::time::timeout_at(next, self.connections.wait()).await).is_ok() {
                return true;
            }
            if next == deadline {
                return false;
            }
            tracing::info!(
                connections = self.connections.len(),
                requests = waited_for(self.proxy),
                "draining: waiting for requests"
            );
        }
    }

    /// Says that some of what is waited for is cut off.
    pub(super) fn warn(&self, why: &'static str) {
        tracing::warn!(
            connections = self.connections.len(),
            requests = waited_for(self.proxy),
            "{why}"
        );
    }

    /// Says how it ended, after that many connections were cut off.
    pub(super) fn end(&self, cut_off: usize) {
        tracing::info!(
            after_ms = milliseconds(self.began.elapsed()),
            connections_cut_off = cut_off,
            "drained"
        );
    }
}

/// The requests under way by provider, such as `payu 2`. None: there are none.
fn waited_for(proxy: &Proxy) -> Option<String> {
    let requests = proxy.requests_under_way();
    let requests = requests.map(|(provider, count)| format!("{provider} {count}"));
    let requests: Vec<String> = requests.collect();
    (!requests.is_empty()).then(|| requests.join(", "))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
