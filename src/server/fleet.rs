//! Fleet of the process: what its store says goes to whom it concerns, and the others hear that this instance is alive.

mod heartbeat;
mod mirror;
mod shares;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::exchange::Live;
use crate::token::FleetTokens;
use bursar_base::{clock, process};
use bursar_config::FleetConfig;
use bursar_fleet::store::{Event, Events};
use bursar_fleet::{Description, Fleet, REHEARSAL};
use bursar_telemetry::metrics::FleetSeries;
use heartbeat::{Heartbeat, Signals};
pub(super) use mirror::{Mirror, Mirrored};

/// At the end nobody waits for the store any longer; the others then find out by themselves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// This process's place in its fleet.
#[derive(Debug)]
pub(super) struct Member {
    tokens: Arc<FleetTokens>,
    signals: Arc<Signals>,
}

/// A member that is heard of until it leaves.
#[derive(Debug)]
pub(super) struct Beating {
    fleet: Fleet,
    heartbeat: AbortOnDropHandle<()>,
}

impl Member {
    /// Begins to connect to the fleet's store.
    pub(super) fn join(
        config: &FleetConfig,
        series: FleetSeries,
        listen: SocketAddr,
    ) -> Result<Self, bursar_tls::client::Error> {
        let (fleet, events) = Fleet::start(config, describe(listen), series)?;
        let tokens = FleetTokens::new(fleet);
        let signals = Arc::<Signals>::default();
        tokio::spawn(follow(tokens.clone(), events, signals.clone()));
        Ok(Self { tokens, signals })
    }

    /// What it shares.
    pub(super) fn tokens(&self) -> &Arc<FleetTokens> {
        &self.tokens
    }

    /// From now on it is heard of.
    pub(super) fn beat(&self, live: &Arc<Live>) -> Beating {
        let fleet = self.tokens.fleet().clone();
        let heartbeat = Heartbeat::new(self.tokens.clone(), live.clone(), self.signals.clone());
        Beating {
            fleet,
            heartbeat: AbortOnDropHandle::new(tokio::spawn(heartbeat.run())),
        }
    }
}

impl Beating {
    /// The others do without this instance from now on.
    pub(super) async fn leave(self) {
        drop(self.heartbeat);
        let left = tokio::time::timeout(LEAVE_TIMEOUT, self.fleet.leave()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!("the fleet finds out by itself that this instance has ended");
        }
    }
}

/// What people know an instance by.
pub(super) fn instance_name(port: u16) -> String {
    format!("{}:{port}", process::host_name())
}

/// What the others can tell people of this instance.
fn describe(listen: SocketAddr) -> Description {
    let started = clock::wall().duration_since(UNIX_EPOCH);
    Description {
        name: instance_name(listen.port()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.unwrap_or_default().as_secs(),
    }
}

/// Passes on what happens at the store, for as long as there is a handle to it. Nothing here waits for the store: what
/// is published meanwhile would be missed.
async fn follow(tokens: Arc<FleetTokens>, mut events: Events, signals: Arc<Signals>) {
    // One comparison at a time; a later one begins anew.
    let mut comparing: Option<AbortOnDropHandle<()>> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = signals.lost.notified() => Some(Event::Lost),
        };
        if matches!(event, Some(Event::Up)) {
            signals.up.notify_one();
        }
        match event {
            Some(Event::Message { channel, payload }) => {
                if channel == tokens.fleet().token_channel() {
                    tokens.message(&payload);
                } else if channel == tokens.fleet().freeze_channel() && payload != REHEARSAL {
                    tokens.fleet().freeze_signal().send();
                }
            }
            Some(Event::Up | Event::Lost) => {
                tokens.interrupted();
                tokens.fleet().freeze_signal().send();
                drop(comparing.take());
                comparing = Some(AbortOnDropHandle::new(compare(&tokens)));
            }
            // The handle is kept: what has begun ends by itself.
            Some(Event::Down) => tokens.interrupted(),
            None => return,
        }
    }
}

fn compare(tokens: &Arc<FleetTokens>) -> JoinHandle<()> {
    let tokens = tokens.clone();
    tokio::spawn(async move { tokens.compare().await })
}
