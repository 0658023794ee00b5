//! Tokens of all accounts: the sources, by provider and scopes, and what keeps their tokens fresh.
//!
//! A request reads its source ([`Supply::read`]), waits for a flight where there is no token
//! ([`Supply::obtain`]) and asks what a 401 means ([`Supply::recover`]). The rest happens behind its back:
//! renewal ahead of expiry ([`scheduler`]), whether a flight may start ([`renewal_policy`]), where its token comes from
//! ([`acquire`], [`grants`]), the providers' dialects ([`request`], [`client_auth`], [`response`]), pauses after failures
//! ([`backoff`]), and what all calls to one endpoint share ([`endpoint_limiter`]).

mod access_token;
mod acquire;
mod backoff;
mod build;
mod call_lease;
mod call_log;
mod check;
mod client_auth;
mod endpoint_limiter;
mod failure;
mod fleet;
mod grants;
mod handle;
mod known_entry;
mod metrics;
mod next_token;
mod refresh_token;
mod refusals;
mod renewal_policy;
mod request;
mod response;
mod scheduler;
mod secret_in_use;
mod snapshot;
mod source;
mod timing;
mod token_key;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use access_token::{AccessToken, Missing, Recovery};
pub use call_log::{LastCall, ResponseHead};
pub use endpoint_limiter::EndpointSnapshot;
pub use failure::{Detail, ErrorCode, Failure};
pub use fleet::FleetTokens;
pub use handle::{Handle, Supply};
pub use refusals::RefusedRoute;
pub use response::{Body, RawResponse};
pub use snapshot::{Snapshot, TokenSnapshot};
pub use source::Source;
pub use token_key::TokenKey;

use crate::upstream::egress::Egress;
use build::Builder;
use bursar_base::secret::Secret;
use bursar_config::Config;
use bursar_limits::share::Share;
use bursar_telemetry::metrics::Metrics;
use bursar_traces::Tracer;
use endpoint_limiter::EndpointLimiter;
use metrics::InForce;
use scheduler::run_schedule;
use source::ScheduledRenewal;

/// The token in a response of a token endpoint to a request with that secret: what fuzzing gets to see of [`response`].
///
/// # Errors
/// Where there is none.
#[doc(hidden)]
pub fn read_response(raw: &RawResponse, pointer: &str, secret: &str) -> Result<Secret, Failure> {
    response::read(raw, pointer, |text| response::repeats(text, secret))
        .map(|reply| reply.access_token)
}

/// The tokens of all accounts.
#[derive(Debug)]
pub struct Tokens {
    /// By provider index.
    limiters: Vec<Arc<EndpointLimiter>>,
    /// By provider index; of each provider all scope sets of its first account, then of its second, ….
    sources: Vec<ProviderSources>,
    /// What Prometheus sees: these, once they are in force.
    in_force: InForce,
    /// Whether earlier ones were ready: a new secret makes nobody unready.
    were_ready: bool,
    /// None: nobody else shares them.
    fleet: Option<Arc<FleetTokens>>,
}

/// What there was before these tokens.
enum Before<'a> {
    /// Nothing, and these are shared with that fleet.
    Nothing(Option<Arc<FleetTokens>>),
    /// Those of the configuration before.
    Tokens(&'a Tokens),
}

/// The tokens of one provider.
#[derive(Debug)]
struct ProviderSources {
    scope_sets: usize,
    sources: Vec<Handle>,
}

impl Tokens {
    /// Makes a source per token key and starts to obtain the tokens that are wanted at start-up. Must be
    /// called inside a runtime.
    #[must_use]
    pub fn start(
        config: &Config,
        metrics: &Metrics,
        egress: &Egress,
        fleet: Option<Arc<FleetTokens>>,
        tracer: Option<&Tracer>,
    ) -> Self {
        let (sender, schedule) = Self::schedule(config);
        let before = Before::Nothing(fleet);
        let tokens = Self::new(config, metrics, egress, &sender, before, tracer);
        tokens.run(&sender, schedule);
        tokens
    }

    /// The same for another configuration. Token keys that stay keep their tokens, flights and back-off; those
    /// that are gone are not renewed any more.
    #[must_use]
    pub fn succeeded_by(
        &self,
        config: &Config,
        metrics: &Metrics,
        egress: &Egress,
        tracer: Option<&Tracer>,
    ) -> Self {
        let (sender, schedule) = Self::schedule(config);
        let before = Before::Tokens(self);
        let tokens = Self::new(config, metrics, egress, &sender, before, tracer);
        tokens.run(&sender, schedule);
        tokens
    }

    fn schedule(
        config: &Config,
    ) -> (
        mpsc::Sender<ScheduledRenewal>,
        mpsc::Receiver<ScheduledRenewal>,
    ) {
        let count: usize = config
            .providers
            .iter()
            .map(|provider| provider.accounts.len() * provider.scope_sets.len())
            .sum();
        // A source asks once for a token and once for its successor before the loop has read either.
        mpsc::channel(2 * count + 16)
    }

    fn run(
        &self,
        sender: &mpsc::Sender<ScheduledRenewal>,
        schedule: mpsc::Receiver<ScheduledRenewal>,
    ) {
        let at = Instant::now();
        let is_new = |source: &&Arc<Source>| source.at_startup && !source.ever_had_a_token();
        for source in self.all().filter(is_new) {
            let source = Arc::downgrade(source);
            // The queue holds more than these, and the loop paces them.
            drop(sender.try_send(ScheduledRenewal { source, at }));
        }
        tokio::spawn(run_schedule(schedule));
    }

    /// Makes a source per token key, and nothing happens by itself.
    #[must_use]
    pub fn asleep(
        config: &Config,
        metrics: &Metrics,
        egress: &Egress,
        fleet: Option<Arc<FleetTokens>>,
    ) -> Self {
        let (schedule, _) = mpsc::channel(1);
        let before = Before::Nothing(fleet);
        Self::new(config, metrics, egress, &schedule, before, None)
    }

    fn new(
        config: &Config,
        metrics: &Metrics,
        egress: &Egress,
        schedule: &mpsc::Sender<ScheduledRenewal>,
        before: Before<'_>,
        tracer: Option<&Tracer>,
    ) -> Self {
        let (old, fleet) = match before {
            Before::Nothing(fleet) => (None, fleet),
            Before::Tokens(old) => (Some(old), old.fleet.clone()),
        };
        let mut builder = Builder::new(metrics, egress, schedule, fleet.clone(), tracer);
        if let Some(old) = old {
            builder.take_over(old.all(), &old.limiters);
        }
        let limiters = config
            .providers
            .iter()
            .map(|provider| builder.limiter(provider));
        let limiters: Vec<Arc<EndpointLimiter>> = limiters.collect();
        let providers = config.providers.iter().zip(&limiters);
        let sources = providers.map(|(provider, limiter)| ProviderSources {
            scope_sets: provider.scope_sets.len(),
            sources: builder
                .sources(provider, limiter)
                .into_iter()
                .map(Handle::from)
                .collect(),
        });
        let sources = sources.collect();
        let shared = builder.retire_the_rest();
        if let Some(fleet) = &fleet {
            fleet.follow(&shared);
        }
        let tokens = Self {
            limiters,
            sources,
            in_force: old.map(|old| old.in_force.clone()).unwrap_or_default(),
            were_ready: old.is_some_and(Self::are_ready),
            fleet,
        };
        tokens
            .in_force
            .store(Arc::new(tokens.all().cloned().collect()));
        tokens
    }

    /// What there is to show of the token endpoints, by provider.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointSnapshot> {
        self.limiters.iter().map(|limiter| limiter.snapshot())
    }

    /// This instance has that share of each quota of token calls while the fleet's store is away, and it is or is not.
    pub fn divide(&self, share: Share, is_away: bool) {
        let now = Instant::now();
        for limiter in &self.limiters {
            limiter.divide(share, is_away, now);
        }
    }

    /// What Prometheus sees of them.
    ///
    /// # Errors
    /// Where a family is declared twice.
    pub fn series(&self) -> Result<Box<dyn prometheus::core::Collector>, prometheus::Error> {
        Ok(Box::new(metrics::TokenSeries::new(self.in_force.clone())?))
    }

    /// The source for requests to a provider, for one of its accounts, that need one of its scope sets;
    /// all are indices that the same configuration gave.
    #[must_use]
    pub fn source(&self, provider: usize, account: usize, scopes: usize) -> &Handle {
        let ProviderSources {
            scope_sets,
            sources,
        } = &self.sources[provider];
        &sources[account * scope_sets + scopes]
    }

    /// Every source.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Source>> {
        let handles = self.sources.iter().flat_map(|provider| &provider.sources);
        handles.map(|handle| &**handle)
    }

    /// Whether at least one account that wants a token at start-up has had one, or none wants one; and from
    /// then on.
    #[must_use]
    pub fn are_ready(&self) -> bool {
        let mut wanting = self.all().filter(|source| source.at_startup).peekable();
        self.were_ready
            || wanting.peek().is_none()
            || wanting.any(|source| source.ever_had_a_token())
    }
}
