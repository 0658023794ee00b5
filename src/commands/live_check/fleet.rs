//! Fleet of a configuration that is checked: its store, and the tokens that it has.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use bursar::token::FleetTokens;
use bursar_config::{Config, Provider};
use bursar_fleet::store::{Event, Events};
use bursar_fleet::{Description, Fleet};
use bursar_telemetry::metrics::Metrics;

/// The first connection to the store may take that long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The fleet, for the time of the check.
pub(super) struct Checked {
    pub(super) tokens: Arc<FleetTokens>,
    _following: AbortOnDropHandle<()>,
}

/// Connects to the store, where there is a fleet; whether that can be used or not.
///
/// # Errors
/// Where TLS to it cannot be set up.
pub(super) async fn join(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<Checked>> {
    let (Some(settings), Some(series)) = (&config.fleet, &metrics.fleet) else {
        return Ok(None);
    };
    let (fleet, events) = Fleet::start(settings, Description::default(), series.clone())?;
    fleet.connection(CONNECT_TIMEOUT).await;
    let tokens = FleetTokens::new(fleet);
    let following = tokio::spawn(follow(tokens.clone(), events));
    Ok(Some(Checked {
        tokens,
        _following: AbortOnDropHandle::new(following),
    }))
}

/// Passes on what instances publish: a token that one of them is just obtaining.
async fn follow(tokens: Arc<FleetTokens>, mut events: Events) {
    while let Some(event) = events.next().await {
        if let Event::Message { channel, payload } = event
            && channel == tokens.fleet().token_channel()
        {
            tokens.message(&payload);
        }
    }
}

impl Checked {
    /// Whether a token call ends nobody's token: the store tells which token the fleet has, or several live side by side.
    pub(super) fn may_ask(&self, provider: &Provider) -> bool {
        !provider.token.single_active || self.tokens.fleet().state().down.is_none()
    }

    /// Where the store is, and why it cannot be used, if it cannot.
    pub(super) fn store(&self) -> (String, Option<&'static str>) {
        let store = self.tokens.fleet().state();
        (
            store.address.to_string(),
            store.down.map(|kind| kind.describe()),
        )
    }
}
