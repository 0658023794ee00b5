//! Which token goes on this request? All cells, by provider and scopes, and what keeps them young.
//!
//! A request reads its cell ([`Cell::read`]), waits for a flight where there is no token
//! ([`Cell::obtain`]) and asks what a 401 means ([`Cell::recover`]). The rest happens behind its back:
//! renewal ahead ([`renewal`]), who may fly ([`desk`]), the ladder of grants ([`ladder`]), the providers'
//! dialects ([`fetch`], [`reply`]), pauses after failures ([`backoff`]), and what all calls to one endpoint
//! share ([`guard`]).

mod backoff;
mod cell;
mod desk;
mod fetch;
mod guard;
mod ladder;
mod lease;
mod refresh;
mod renewal;
mod reply;
mod secrets;
mod series;
mod snapshot;

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use cell::{CONTENTION, Cell, Missing, Recovery};
pub use fetch::{Answer, Transport};
pub use guard::GuardSnapshot;
pub use lease::Lease;
pub use reply::Failure;
pub use snapshot::{Snapshot, TokenSnapshot};

use crate::config::{Config, Provider};
use crate::connect::Connector;
use crate::egress::Egress;
use crate::metrics::{GrantLabel, Metrics};
use crate::secret::Secret;
use cell::Parts;
use guard::Guard;
use renewal::{Appointment, keep_appointments};
use secrets::SecretInUse;

/// The token in an answer of a token endpoint: what fuzzing gets to see of [`reply`].
///
/// # Errors
/// Where there is none.
#[doc(hidden)]
pub fn read_reply(status: StatusCode, body: &[u8], pointer: &str) -> Result<Secret, Failure> {
    reply::read(status, None, body, pointer).map(|reply| reply.access_token)
}

/// The tokens of all accounts.
#[derive(Debug)]
pub struct Tokens {
    /// By provider index.
    guards: Vec<Arc<Guard>>,
    /// By provider index; of each provider all scope sets of its first account, then of its second, ….
    cells: Vec<Cells>,
}

/// The tokens of one provider.
#[derive(Debug)]
struct Cells {
    scope_sets: usize,
    cells: Vec<Arc<Cell>>,
}

impl Tokens {
    /// Makes a cell per token key and starts to obtain the tokens that are wanted at start-up. Must be
    /// called inside a runtime.
    #[must_use]
    pub fn start(config: &Config, metrics: &Metrics, egress: &Egress) -> Self {
        let count: usize = config
            .providers
            .iter()
            .map(|provider| provider.accounts.len() * provider.scope_sets.len())
            .sum();
        // A cell asks once for a token and once for its successor before the loop has read either.
        let (sender, appointments) = mpsc::channel(2 * count + 16);
        let tokens = Self::new(config, metrics, egress, &sender);
        let at = Instant::now();
        for cell in tokens.all().filter(|cell| cell.at_startup) {
            let cell = Arc::downgrade(cell);
            // The queue holds more than these, and the loop paces them.
            drop(sender.try_send(Appointment { cell, at }));
        }
        tokio::spawn(keep_appointments(appointments));
        tokens
    }

    /// Makes a cell per token key, and nothing happens by itself.
    #[must_use]
    pub fn asleep(config: &Config, metrics: &Metrics, egress: &Egress) -> Self {
        Self::new(config, metrics, egress, &mpsc::channel(1).0)
    }

    fn new(
        config: &Config,
        metrics: &Metrics,
        egress: &Egress,
        appointments: &mpsc::Sender<Appointment>,
    ) -> Self {
        let guards = config.providers.iter().map(|provider| {
            let calls = provider.token.calls_per_minute;
            let series = metrics.tokens.guard(&provider.name);
            Arc::new(Guard::new(&provider.name, calls, series))
        });
        let guards: Vec<Arc<Guard>> = guards.collect();
        let mut ids = 0..;
        let cells = config
            .providers
            .iter()
            .zip(&guards)
            .map(|(provider, guard)| {
                let connect_timeout = provider.timeouts.connect;
                let transport: Arc<dyn Transport> = Arc::new(fetch::Sockets {
                    connector: Connector::new(
                        provider.tls.token.clone(),
                        connect_timeout,
                        egress.token(provider),
                        egress.token_proxy(),
                    ),
                    connect_timeout,
                });
                let histogram = |grant| metrics.tokens.fetch_duration(&provider.name, grant);
                let fetch_durations = GrantLabel::ALL.map(histogram);
                let scope_sets = provider.scope_sets.len();
                let secrets: Vec<Arc<SecretInUse>> = provider
                    .accounts
                    .iter()
                    .map(|_account| Arc::default())
                    .collect();
                let places = (0..provider.accounts.len() * scope_sets)
                    .map(|place| (place / scope_sets, place % scope_sets));
                let cells = places.zip(&mut ids).map(|((account, set), id)| {
                    Arc::new(Cell::new(Parts {
                        id,
                        provider: provider.clone(),
                        account,
                        scopes: provider.scope_sets[set].clone(),
                        at_startup: provider.default_scopes == Some(set),
                        secret: secrets[account].clone(),
                        guard: guard.clone(),
                        transport: transport.clone(),
                        appointments: appointments.clone(),
                        fetch_durations: fetch_durations.clone(),
                    }))
                });
                Cells {
                    scope_sets,
                    cells: cells.collect(),
                }
            });
        let cells = cells.collect();
        Self { guards, cells }
    }

    /// Each provider once.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.cells
            .iter()
            .filter_map(|cells| cells.cells.first())
            .map(|cell| &cell.provider)
    }

    /// What there is to show of the token endpoints, by provider.
    pub fn guards(&self) -> impl Iterator<Item = GuardSnapshot> {
        self.guards.iter().map(|guard| guard.snapshot())
    }

    /// What Prometheus sees of them.
    ///
    /// # Errors
    /// Where a family is declared twice.
    pub fn series(&self) -> Result<Box<dyn prometheus::core::Collector>, prometheus::Error> {
        Ok(Box::new(series::TokenSeries::new(
            self.all().cloned().collect(),
        )?))
    }

    /// The cell for requests to a provider, for one of its accounts, that need one of its scope sets;
    /// all are indices that the same configuration gave.
    #[must_use]
    pub fn cell(&self, provider: usize, account: usize, scopes: usize) -> &Arc<Cell> {
        let Cells { scope_sets, cells } = &self.cells[provider];
        &cells[account * scope_sets + scopes]
    }

    /// Every cell.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.cells.iter().flat_map(|provider| &provider.cells)
    }

    /// Whether at least one account that wants a token at start-up has had one, or none wants one.
    #[must_use]
    pub fn are_ready(&self) -> bool {
        let mut wanting = self.all().filter(|cell| cell.at_startup).peekable();
        wanting.peek().is_none() || wanting.any(|cell| cell.ever_had_a_token())
    }
}
