//! Reconnection: one server is kept connected, and whoever wants it finds the connection or that there is none.
//!
//! The state of the connection is the circuit breaker: while there is none, nobody waits for one. Its task writes
//! `current`, everybody reads it. A connection is shown once the server has run a script on it, and hidden the moment it
//! ends.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Login};
use super::dial::{Dial, Place, is_for_another_name};
use super::error::{Kind, StoreError};
use super::events::Queue;
use super::script::Script;

/// What is needed to connect to any of the store's servers.
pub(super) struct Dialer {
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// Whom a certificate may be for that is not for the place's name.
    pub(super) names: Vec<Box<str>>,
    pub(super) login: Login,
    pub(super) events: Arc<Queue>,
    /// What is subscribed to.
    pub(super) channels: Vec<String>,
    /// It shows that the server runs scripts, and takes writes.
    pub(super) probe: Probe,
    /// Does with the probe's key whatever other scripts do.
    pub(super) commands: Script,
    /// A connection on which nothing came for as long is tried with the same script.
    pub(super) silence: Duration,
}

/// A script that changes nothing, and can be run only where something can be changed.
///
/// DEL takes no memory, so that a full one is no reason to be down.
#[derive(Clone)]
pub(super) struct Probe {
    pub(super) script: Script,
    /// Of a key that is not there.
    pub(super) key: String,
    /// Of a cluster, any node will do: one that is not cut off from the others sends the script on.
    pub(super) is_node: bool,
}

/// Runs while it lives.
#[derive(Debug)]
pub(super) struct Task(AbortHandle);

impl Task {
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The connection that is in use, or why there is none.
pub(super) type Current = watch::Sender<Result<Arc<Connection>, StoreError>>;

/// Nothing has been tried yet.
pub(super) fn none_yet() -> Current {
    watch::Sender::new(Err(StoreError::unsent(Kind::Starting)))
}

impl Probe {
    pub(super) fn new(key: String, is_node: bool) -> Self {
        Self {
            script: Script::new("redis.call('DEL', KEYS[1]) return 1"),
            key,
            is_node,
        }
    }

    async fn run(&self, connection: &Connection) -> Result<(), StoreError> {
        match connection.run(&self.script, &[&self.key], &[]).await {
            Err(error) if self.is_node && error.redirect().is_some() => Ok(()),
            run => run.map(drop),
        }
    }
}

impl Dialer {
    /// A connection that is subscribed and proven.
    pub(super) async fn connect(
        &self,
        place: &Place,
        attempt: usize,
    ) -> Result<Connection, StoreError> {
        let connection = self.open(place, attempt).await?;
        // All at once: round trips are what takes long.
        let (is_resp3, subscribed, proven) = tokio::join!(
            connection.check_resp3(),
            connection.subscribe(&self.channels),
            self.probe.run(&connection),
        );
        is_resp3.and(subscribed).and(proven)?;
        Ok(connection)
    }

    /// A certificate that is for another name is fine where that is one of `names`: a cluster's nodes announce
    /// addresses, and certificates often have nothing but names.
    async fn open(&self, place: &Place, attempt: usize) -> Result<Connection, StoreError> {
        let mut opened = self.open_as(place, None, attempt).await;
        for name in &self.names {
            match &opened {
                Err(error) if is_for_another_name(error) => {
                    opened = self.open_as(place, Some(name), attempt).await;
                }
                _ => break,
            }
        }
        opened
    }

    async fn open_as(
        &self,
        place: &Place,
        name: Option<&str>,
        attempt: usize,
    ) -> Result<Connection, StoreError> {
        let dial = Dial {
            place,
            tls: self.tls.as_ref(),
            name,
            attempt,
        };
        Connection::open(dial, &self.login, Some(self.events.clone())).await
    }

    /// Waits until the connection is of no use any more, and says why. One that nothing comes on is tried.
    pub(super) async fn watch(&self, connection: &Connection) -> StoreError {
        let mut checked = Instant::now();
        loop {
            if let Ok(why) = timeout(self.silence, connection.ended()).await {
                return StoreError::unsent(why);
            }
            if connection.is_silent_since(checked)
                && let Err(error) = self.probe.run(connection).await
            {
                connection.close(error.kind());
                return error;
            }
            checked = Instant::now();
        }
    }
}
