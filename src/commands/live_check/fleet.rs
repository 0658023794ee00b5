//! Fleet of a configuration that is checked: its store, and the tokens that it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use bursar::token::FleetTokens;
use bursar_config::{Config, Provider};
use bursar_fleet::store::{Event, Events};
use bursar_fleet::{Description, Fleet, REHEARSAL};
use bursar_telemetry::metrics::Metrics;

/// The first connection to the store may take that long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// So long a message may take.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// The fleet, for the time of the check.
pub(super) struct Checked {
    pub(super) tokens: Arc<FleetTokens>,
    heard: Arc<Heard>,
    _following: AbortOnDropHandle<()>,
}

/// What this check has published has arrived on both channels.
#[derive(Default)]
struct Heard {
    tokens: Notify,
    freezes: Notify,
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
    let heard = Arc::<Heard>::default();
    let following = tokio::spawn(follow(tokens.clone(), heard.clone(), events));
    Ok(Some(Checked {
        tokens,
        heard,
        _following: AbortOnDropHandle::new(following),
    }))
}

/// Passes on what instances publish: a token that one of them is just obtaining.
async fn follow(tokens: Arc<FleetTokens>, heard: Arc<Heard>, mut events: Events) {
    while let Some(event) = events.next().await {
        let Event::Message { channel, payload } = event else {
            continue;
        };
        let is_tokens = channel == tokens.fleet().token_channel();
        match (payload == REHEARSAL, is_tokens) {
            (true, true) => heard.tokens.notify_one(),
            (true, false) => heard.freezes.notify_one(),
            (false, true) => tokens.message(&payload),
            (false, false) => {}
        }
    }
}

impl Checked {
    /// Whether a token call ends nobody's token: the store tells which token the fleet has, or several live side by side.
    pub(super) fn may_ask(&self, provider: &Provider) -> bool {
        !provider.token.single_active || self.tokens.fleet().state().down.is_none()
    }

    /// Where the store is, and why it cannot be used, or not for everything that instances have to do there.
    pub(super) async fn store(&self) -> (String, Option<String>) {
        let store = self.tokens.fleet().state();
        let why = match store.down {
            Some(_) => store.describe(),
            None => self.rehearse().await,
        };
        (store.address.to_string(), why)
    }

    async fn rehearse(&self) -> Option<String> {
        let refused = match self.tokens.fleet().rehearse().await {
            Ok(refused) => refused,
            Err(error) => return Some(format!("{:#}", anyhow::Error::from(error))),
        };
        if !refused.is_empty() {
            let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
            return Some(refused.join("; "));
        }
        let heard = async {
            self.heard.tokens.notified().await;
            self.heard.freezes.notified().await;
        };
        let heard = timeout(HEARD_WITHIN, heard).await;
        let none = "what is published there does not arrive";
        heard.is_err().then(|| none.to_owned())
    }
}
