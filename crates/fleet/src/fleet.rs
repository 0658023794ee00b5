//! Fleet: this instance's place in it, and its connection to the store that the others use, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use crate::description::Description;
use crate::keys::Keys;
use crate::leases::{HeldLease, LeaseCount};
use crate::reply::{Reply, Unreadable};
use crate::script;
use crate::signal::Signal;
use crate::store::{Arg, Events, Kind, Script, Settings, Store, StoreError, StoreState};
use bursar_base::secret::hexadecimal;
use bursar_config::{FleetConfig, OnOutage, StoreAddress};
use bursar_telemetry::metrics::FleetSeries;

/// How often is looked whether the store was reached, where somebody waits for that.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A reply that took longer says too little of the store's clock: this process may have stood still before it asked.
const SLOWEST_CLOCK: Duration = Duration::from_secs(2);

/// The first connection to the store may take that long before it counts as an outage.
pub const FIRST_CONNECTION: Duration = Duration::from_secs(2);

/// This instance in its fleet. Clones are handles to the same one.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    store: Store,
    /// What all names in the store begin with.
    prefix: Box<str>,
    token_channel: Box<str>,
    freeze_channel: Box<str>,
    instance: Box<str>,
    description: Description,
    keys: ArcSwap<Keys>,
    config: FleetConfig,
    series: FleetSeries,
    clock: StoreClock,
    /// How often the keys may have become others.
    key_changes: AtomicU64,
    /// The version of the decisions that were read last; 0 where the store has others since.
    freezes_version: AtomicU64,
    freeze_signal: Signal,
    journal_signal: Signal,
    leases: LeaseCount,
}

/// How far the store's clock is ahead of this process's, in milliseconds: rather too far than not far enough, so that
/// nothing seems younger than it is.
struct StoreClock {
    began: Instant,
    ahead: AtomicI64,
}

/// A script could not be run, or its reply is none.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be reached, or refuses.
    #[error("the fleet's store cannot be used")]
    Store(#[from] StoreError),
    /// The reply has another form.
    #[error("the fleet's store answers something else")]
    Unreadable(#[from] Unreadable),
}

impl Fleet {
    /// Begins to connect to the store; what happens there comes out of the events. Must be called inside a runtime.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn start(
        config: &FleetConfig,
        description: Description,
        series: FleetSeries,
    ) -> Result<(Self, Events), bursar_tls::client::Error> {
        let prefix = format!("bursar:{}:", config.name);
        let token_channel = channel(&prefix, "tokens", &config.store);
        let freeze_channel = channel(&prefix, "freezes", &config.store);
        let channels = vec![token_channel.clone(), freeze_channel.clone()];
        let (store, events) = Store::start(Settings {
            address: config.store.clone(),
            tls: config.tls.clone(),
            channels,
            probe_key: format!("{prefix}{{probe}}"),
            commands: script::COMMANDS.clone(),
            up: series.store_up.clone(),
        })?;
        let inner = Inner {
            store,
            prefix: prefix.into(),
            token_channel: token_channel.into(),
            freeze_channel: freeze_channel.into(),
            instance: random_text().into(),
            description,
            keys: ArcSwap::from_pointee(keys(config)),
            config: FleetConfig {
                // They are in use elsewhere, and may be changed.
                keys: Vec::new(),
                ..config.clone()
            },
            series,
            clock: StoreClock {
                began: Instant::now(),
                ahead: AtomicI64::new(0),
            },
            key_changes: AtomicU64::new(0),
            freezes_version: AtomicU64::new(0),
            freeze_signal: Signal::default(),
            journal_signal: Signal::default(),
            leases: LeaseCount::default(),
        };
        Ok((Self(Arc::new(inner)), events))
    }

    /// Another configuration is in force; only its keys may be others. What operators have decided is written under the
    /// first of them at once, before instances start that have no other.
    pub fn change_keys(&self, config: &FleetConfig) {
        self.0.keys.store(Arc::new(keys(config)));
        self.0.key_changes.fetch_add(1, Ordering::Relaxed);
        self.0.freeze_signal.send();
    }

    /// How often the keys may have become others.
    #[must_use]
    pub fn key_changes(&self) -> u64 {
        self.0.key_changes.load(Ordering::Relaxed)
    }

    /// The fleet's keys.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.0.keys.load_full()
    }

    /// This instance: a name that no other one has, nor this one after a restart.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The channel on which tokens are published.
    #[must_use]
    pub fn token_channel(&self) -> &str {
        &self.0.token_channel
    }

    /// The channel on which it is said that somebody has frozen or thawed a provider.
    #[must_use]
    pub fn freeze_channel(&self) -> &str {
        &self.0.freeze_channel
    }

    /// When to read again what operators have decided on providers.
    #[must_use]
    pub fn freeze_signal(&self) -> &Signal {
        &self.0.freeze_signal
    }

    /// What operators have decided was read in this version last; where the store has another one, it is to be read again.
    #[must_use]
    pub fn freezes_version(&self) -> u64 {
        self.0.freezes_version.load(Ordering::Relaxed)
    }

    pub(crate) fn set_freezes_version(&self, version: u64) {
        self.0.freezes_version.store(version, Ordering::Relaxed);
    }

    /// The store knows of this instance's journal.
    #[must_use]
    pub fn journal_signal(&self) -> &Signal {
        &self.0.journal_signal
    }

    /// What is counted.
    #[must_use]
    pub fn series(&self) -> &FleetSeries {
        &self.0.series
    }

    /// What happens while the store cannot be used to a token key whose new tokens end the ones before, or do not.
    #[must_use]
    pub fn on_outage(&self, single_active: bool) -> OnOutage {
        self.0.config.on_outage(single_active)
    }

    /// A lease is held for as long as what this returns.
    #[must_use]
    pub fn hold_lease(&self) -> HeldLease {
        self.0.leases.hold()
    }

    /// How many leases this instance holds.
    #[must_use]
    pub fn leases_held(&self) -> usize {
        self.0.leases.held()
    }

    /// What all names in the store begin with after `bursar:`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// Whether the store can be used.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.0.store.state()
    }

    /// Waits until the store was reached for the first time, or could not be; at most so long.
    pub async fn first_connection(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.state().down == Some(Kind::Starting) && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the store can be used; at most so long.
    pub async fn is_up_within(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.state().down.is_some() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until an attempt to connect to the store has failed that was begun after that.
    pub async fn fails_again(&self, after: Instant) {
        let fails_after = |begun| begun >= after;
        while !self.state().failed_attempt.is_some_and(fails_after) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the store can be used, or cannot be: of a cluster, whose first node may be gone, at most so long.
    pub async fn connection(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.first_connection(limit).await;
        while self.0.store.tries_another_server() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs a script about one name; its reply without the store's time, which every script tells first.
    pub(crate) async fn run(
        &self,
        script: &Script,
        name: &str,
        arguments: &[Arg<'_>],
    ) -> Result<Reply, RunError> {
        let asked = Instant::now();
        let value = self
            .0
            .store
            .run(script, &[&self.key(name)], arguments)
            .await?;
        let mut reply = Reply::new(value)?;
        self.0.clock.set(reply.number()?, asked);
        Ok(reply)
    }

    /// Whether what was written under a name outlives the server that has it.
    pub(crate) async fn is_replicated(&self, name: &str) -> bool {
        self.0.store.is_replicated(&self.key(name)).await
    }

    /// Whether the user may ask how many replicas have a write under a name (`WAIT`), where that is asked.
    pub(crate) async fn may_wait(&self, name: &str) -> Result<(), StoreError> {
        self.0.store.may_wait(&self.key(name)).await
    }

    fn key(&self, name: &str) -> String {
        format!("{}{{{name}}}", self.0.prefix)
    }

    /// How long ago something happened, by the store's clock; rather longer than shorter.
    #[must_use]
    pub fn since(&self, at: u64) -> Duration {
        self.0.clock.since(at)
    }
}

impl StoreClock {
    fn at(&self, instant: Instant) -> i64 {
        let elapsed = instant.saturating_duration_since(self.began).as_millis();
        i64::try_from(elapsed).unwrap_or(i64::MAX)
    }

    /// The store, asked then, has just said what time it is.
    fn set(&self, now: u64, asked: Instant) {
        if asked.elapsed() > SLOWEST_CLOCK {
            return;
        }
        let now = i64::try_from(now).unwrap_or_default();
        let ahead = now.saturating_sub(self.at(asked));
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    fn since(&self, at: u64) -> Duration {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let now = self.at(Instant::now()).saturating_add(ahead);
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(now.saturating_sub(at)).unwrap_or_default())
    }
}

/// What is published is heard in all databases of a server: another one than 0 has channels of its own. A fleet's name
/// has no colon.
fn channel(prefix: &str, kind: &str, store: &StoreAddress) -> String {
    match store {
        StoreAddress::Single(url) if url.database > 0 => {
            format!("{prefix}{kind}:{}", url.database)
        }
        StoreAddress::Single(_) | StoreAddress::Sentinel(_) | StoreAddress::Cluster(_) => {
            format!("{prefix}{kind}")
        }
    }
}

/// A text that no other instance has, nor this one at another time.
#[must_use]
pub fn random_text() -> String {
    let mut bytes = [0; 8];
    // Without random bytes no key could be made either; this then differs by its process and time.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bytes = (u64::from(std::process::id()) ^ fastrand::u64(..)).to_be_bytes();
    }
    let digits = bytes.into_iter().flat_map(hexadecimal);
    digits.map(char::from).collect()
}

fn keys(config: &FleetConfig) -> Keys {
    Keys::new(config.keys.iter().map(|key| key.expose()))
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fleet").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Event;
    use crate::tests::{KEY, join_at};
    use bursar_testkit::soon;
    use bursar_testkit::store::Server;

    #[tokio::test(start_paused = true)]
    async fn what_the_stores_clock_says_ago_is_never_too_short_and_a_slow_reply_changes_nothing() {
        let clock = StoreClock {
            began: Instant::now(),
            ahead: AtomicI64::new(0),
        };
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let asked = Instant::now();
        pass(1).await;
        // Right when it was asked, for all that is known.
        clock.set(1_000_000, asked);
        assert_eq!(clock.since(1_000_000), Duration::from_secs(1));
        let asked = Instant::now();
        pass(27).await;
        // It was asked only at the end of that.
        clock.set(1_027_000, asked);
        assert_eq!(clock.since(1_027_000), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_fleet_hears_nothing_of_one_in_another_database_and_in_database_0_channels_have_no_number()
     {
        let Some(server) = Server::redis().await else {
            return;
        };
        let store = server.start().await;
        let of = |path: &str| format!("{}{path}", store.url());
        let join = async |path: &str| join_at(&of(path), KEY, Description::default()).await;
        let (zero, mut heard) = join("").await;
        let (one, mut heard_beside) = join("/1").await;
        let (other, _events) = join("/1").await;
        assert_eq!(join("/0").await.0.token_channel(), zero.token_channel());
        assert_eq!(zero.token_channel(), "bursar:bursar:tokens");
        assert_eq!(one.token_channel(), other.token_channel());
        let mut operator = store.connect_as_operator().await;
        for (channel, payload) in [
            (other.freeze_channel(), "other"),
            (other.token_channel(), "other"),
            ("bursar:bursar:tokens", "old"),
            ("bursar:bursar:freezes", "old"),
            (one.freeze_channel(), "end"),
        ] {
            operator.call(&["PUBLISH", channel, payload]).await;
        }
        let next = async |events: &mut Events, count: usize| {
            let mut found = Vec::new();
            while found.len() < count {
                if let Some(Event::Message { channel, payload }) = soon(events.next()).await {
                    let payload = String::from_utf8_lossy(&payload).into_owned();
                    found.push((channel, payload));
                }
            }
            found
        };
        let message = |channel: &str, payload: &str| (channel.to_owned(), payload.to_owned());
        assert_eq!(
            next(&mut heard, 2).await,
            [
                message("bursar:bursar:tokens", "old"),
                message("bursar:bursar:freezes", "old")
            ]
        );
        assert_eq!(
            next(&mut heard_beside, 3).await,
            [
                message("bursar:bursar:freezes:1", "other"),
                message("bursar:bursar:tokens:1", "other"),
                message("bursar:bursar:freezes:1", "end")
            ]
        );
    }
}
