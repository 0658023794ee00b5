//! Fleet of the process: what its store says goes to whom it concerns.

mod mirror;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::token::FleetTokens;
use bursar_base::{clock, process};
use bursar_fleet::Description;
use bursar_fleet::store::{Event, Events};

pub(super) use mirror::{Mirror, Mirrored};

/// What the others can tell people of this instance.
pub(super) fn describe(listen: SocketAddr) -> Description {
    let host = process::host_name();
    let started = clock::wall().duration_since(UNIX_EPOCH);
    Description {
        name: format!("{host}:{}", listen.port()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.unwrap_or_default().as_secs(),
    }
}

/// Passes on what happens at the store, for as long as there is a handle to it. Nothing here waits for the store: what
/// is published meanwhile would be missed.
pub(super) async fn follow(tokens: Arc<FleetTokens>, mut events: Events) {
    // One comparison at a time; a later one begins anew.
    let mut comparing: Option<AbortOnDropHandle<()>> = None;
    while let Some(event) = events.next().await {
        match event {
            Event::Message { channel, payload } => {
                if channel == tokens.fleet().token_channel() {
                    tokens.message(&payload);
                } else if channel == tokens.fleet().freeze_channel() {
                    tokens.fleet().freeze_signal().send();
                }
            }
            Event::Up | Event::Lost => {
                tokens.fleet().freeze_signal().send();
                drop(comparing.take());
                comparing = Some(AbortOnDropHandle::new(compare(&tokens)));
            }
            // The handle is kept: what has begun ends by itself.
            Event::Down => {}
        }
    }
}

fn compare(tokens: &Arc<FleetTokens>) -> JoinHandle<()> {
    let tokens = tokens.clone();
    tokio::spawn(async move { tokens.compare().await })
}
