//! Token source: the current token of one token key, and its renewal.
//!
//! Readers take the token from an arc-swap: no lock, no allocation, and they set at most a flag. All else is behind
//! `policy`, a mutex that is never held across an await: the single flight that may be under way, when the next one
//! may start, and what 401s have told ([`super::renewal_policy`] decides it). There is one flight at a time,
//! because whoever starts one finds none and leaves it there under the same lock; it ends under that lock, too, when its
//! token is published. A token that another instance of the fleet obtained is adopted under that lock, flight or not.
//! What a flight asks for a token is an [`Acquire`], and what requests ask is [`Supply`](super::Supply).
//!
//! A reload makes a new source for a token key that stays, and both have one [`KeyState`]: token, policy and so the
//! flight. Which of them looks after the renewal is in there too; for a key that is gone, none does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::access_token::{CachedToken, Freshness, Missing};
use super::acquire::{Acquire, Acquired, NotAcquired, Origin, Wanted};
use super::call_log::{CallLog, LatestCall};
use super::endpoint_limiter::{EndpointLimiter, Priority};
use super::failure::Failure;
use super::known_entry::Known;
use super::next_token::{Cached, Next};
use super::refresh_token::RefreshTokenSlot;
use super::refusals::{InVain, Refusals, Unauthorized};
use super::renewal_policy::{
    Decision, EndpointState, FlightResult, Joined, RenewalPolicy, RenewalReason, UnderWay,
};
use super::secret_in_use::SecretInUse;
use super::token_key::TokenKey;
use crate::upstream::{Peer, server_name};
use bursar_config::{SecretName, TokenDialect};
use bursar_limits::single_flight::{Joiner, Leader, NoResult};
use bursar_telemetry::metrics::{Cause, FetchOutcome, GrantLabel};
use bursar_traces::{FlightEnd, FlightTrace, Links, Tracer};

/// What the log and the admin port say of a key whose young tokens are refused again and again.
const CONTENTION: &str = "instances are revoking each other: the provider refuses young tokens, as it does where each new one ends the one before; give each instance an account of its own, or make them one `fleet` and set `token.single_active: true` for the provider";
/// The same where there is a fleet.
const CONTENTION_IN_FLEET: &str = "instances are revoking each other: the provider refuses young tokens, as it does where each new one ends the one before; set `token.single_active: true` for the provider";
/// The same where the fleet knows that new tokens end the ones before.
const CONTENTION_WITH_OTHERS: &str = "somebody else revokes the fleet's tokens: the provider refuses young ones although `token.single_active` is set; an instance with another `name` or `keys` of the fleet, another name of the provider or account, other `params`, or an earlier version asks for itself, and where there is none, give the fleet an account of its own";

/// The token of one key: provider, account and scopes.
pub struct Source {
    /// Index among all sources; the scheduler's name for it.
    pub(super) id: usize,
    /// What the token is for.
    pub key: TokenKey,
    /// Whether its token is obtained before anybody asks for it.
    pub at_startup: bool,
    pub(super) state: Arc<KeyState>,
    pub(super) acquirer: Box<dyn Acquire>,
    /// Whether a fleet has its token in common.
    pub(super) is_shared: bool,
    pub(super) calls: CallLog,
    pub(super) secret: Arc<SecretInUse>,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) schedule: mpsc::Sender<ScheduledRenewal>,
    /// None: flights have no spans.
    pub(super) tracer: Option<Tracer>,
}

/// What a token key keeps for as long as it is configured.
#[derive(Default)]
#[repr(C)]
pub(super) struct KeyState {
    pub(super) token: ArcSwapOption<CachedToken>,
    /// Beside it, because every response is compared with it.
    pub(super) refusals: Refusals,
    policy: Mutex<RenewalPolicy>,
    pub(super) latest_call: Arc<LatestCall>,
    pub(super) refresh_token: Arc<RefreshTokenSlot>,
    /// Whose scheduled renewals count: the latest source's.
    renewer: Mutex<Weak<Source>>,
    /// What is known of its entry in the fleet's store.
    pub(super) fleet: Known,
}

impl KeyState {
    /// Held for a look.
    pub(super) fn renewer(&self) -> MutexGuard<'_, Weak<Source>> {
        self.renewer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flight that is about to begin.
struct Flight {
    reason: RenewalReason,
    wanted: Wanted,
    priority: watch::Receiver<Priority>,
    leader: Leader<FlightResult>,
    /// None: nobody is sampled.
    trace: Option<Arc<FlightTrace>>,
}

/// When a source is to be renewed ahead of its token's end.
pub(super) struct ScheduledRenewal {
    pub(super) source: Weak<Source>,
    pub(super) at: Instant,
}

impl Source {
    /// From now on it looks after the renewal of its key.
    pub(super) fn start(self) -> Arc<Self> {
        let source = Arc::new(self);
        *source.state.renewer() = Arc::downgrade(&source);
        source
    }

    /// The same where nothing but the secret makes its key another one than that of an earlier source.
    pub(super) fn replace(self, earlier: &Self) -> Arc<Self> {
        let token = {
            let earlier_policy = earlier.policy();
            earlier.current().or_else(|| earlier_policy.earlier.clone())
        };
        self.policy().earlier = token;
        self.start()
    }

    /// The same for the key of an earlier source, whose state it has, under another configuration.
    pub(super) fn succeed(self, earlier: &Self) -> Arc<Self> {
        if self.key.differs_in_proof_from(&earlier.key) {
            self.policy().forget_refusal();
        }
        self.state.refusals.reset(Instant::now());
        let source = self.start();
        let token = source.state.token.load_full().map(|token| token.renew_at);
        let backing_off = source
            .policy()
            .backing_off
            .map(|(_, until)| until.background);
        let wanted = source.at_startup.then(Instant::now);
        if let Some(at) = token.max(backing_off).or(wanted) {
            source.schedule_renewal(at);
        }
        source
    }

    /// The token from before a reload with another secret, where that has brought none: a secret that is wrong, or an
    /// endpoint that is away, must not end what works. From now on it is the key's token, whose renewal is due.
    pub(super) fn fall_back(&self, now: Instant) {
        let mut policy = self.policy();
        let Some(earlier) = policy.earlier.take() else {
            return;
        };
        if self.current().is_some() || earlier.freshness(now) == Freshness::Expired {
            return;
        }
        policy.generations = earlier.generation;
        let token = Arc::new(earlier.of_earlier_secret(now));
        tracing::warn!(provider = %self.key.provider.name, account = %self.key.account().name, scopes = %self.key.scopes, fingerprint = %token.fingerprint, ends_in_s = token.ends.saturating_duration_since(now).as_secs(), "the `client_secret` of the last reload has brought no token: requests go on with the one before it until that ends");
        self.state.token.store(Some(token));
    }

    /// Its key is gone: nobody renews it any more. Requests that are under way may still ask for a token.
    pub(super) fn retire(&self) {
        *self.state.renewer() = Weak::new();
    }

    /// Whether the renewal is this source's, and not a later one's of the same key, or nobody's.
    pub(super) fn is_renewer(&self) -> bool {
        std::ptr::eq(self.state.renewer().as_ptr(), self)
    }

    /// Whether there is a valid token: what reading it costs before it is taken, for the benchmark.
    #[doc(hidden)]
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        let token = self.state.token.load();
        let token = token.as_ref();
        token.is_some_and(|token| token.freshness(now) != Freshness::Expired)
    }

    /// A generation that was obtained because of a 401 was refused on the same route, or was the old token.
    pub(super) fn renewed_in_vain(&self, unauthorized: &Unauthorized, may_be_refreshed: bool) {
        let refusals = &self.state.refusals;
        let what = refusals.renewed_in_vain(unauthorized, may_be_refreshed, Instant::now());
        if what == InVain::RefreshToken {
            self.state.refresh_token.distrust();
        }
        if what == (InVain::Route { is_news: true }) {
            let why = match self.dialect().single_active {
                true => {
                    "it may lack a scope, or somebody else's token calls end the tokens of this account"
                }
                false => "it may lack a scope",
            };
            tracing::warn!(provider = %self.key.provider.name, account = %self.key.account().name, scopes = %self.key.scopes, route = %unauthorized.route, "the provider answers 401 on this route whatever the token: {why}");
        }
    }

    /// What the renewal loop does when this source's time has come: a token that nobody used since it was
    /// obtained is left to expire.
    pub(super) fn renew_if_due(self: &Arc<Self>) {
        if !self.is_renewer() {
            return;
        }
        let now = Instant::now();
        let due = match self.state.token.load().as_ref() {
            Some(token) => token.freshness(now) != Freshness::Fresh && token.is_used(),
            None => self.at_startup,
        };
        // A token that ages is used, or it would not be due.
        let reason = match self.ever_had_a_token() {
            true => RenewalReason::Renewal,
            false => RenewalReason::Startup,
        };
        if due && let Joined::BackingOff(_, until) = self.join(reason, None) {
            // A reader asked during the pause after a failure, and its renewal replaced the one that
            // was made for the pause's end.
            self.schedule_renewal(until);
        }
    }

    /// Whether there is or was a token.
    #[must_use]
    pub fn ever_had_a_token(&self) -> bool {
        self.state.token.load().is_some()
    }

    /// How many token calls for the account with that grant ended so.
    #[must_use]
    pub fn fetches(&self, grant: GrantLabel, outcome: FetchOutcome) -> u64 {
        self.calls.count(grant, outcome)
    }

    /// The secret of its account that the endpoint took last.
    #[must_use]
    pub fn secret_in_use(&self) -> SecretName {
        self.secret.name()
    }

    /// What to do about contention.
    #[must_use]
    pub fn contention(&self) -> &'static str {
        match (self.is_shared, self.dialect().single_active) {
            (false, _) => CONTENTION,
            (true, false) => CONTENTION_IN_FLEET,
            (true, true) => CONTENTION_WITH_OTHERS,
        }
    }

    pub(super) fn dialect(&self) -> &TokenDialect {
        &self.key.provider.token
    }

    /// The policy is consistent whenever the lock is free, so a panic elsewhere does not spoil it.
    pub(super) fn policy(&self) -> MutexGuard<'_, RenewalPolicy> {
        self.state
            .policy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn missing(&self, failure: Failure, now: Instant) -> Missing {
        if failure == Failure::TimedOut && self.calls.is_waiting() {
            // The endpoint was not asked at all.
            let (failure, retry_after) = self.limiter.wait(now);
            return self.missing_without_call(failure, retry_after);
        }
        if failure == Failure::TimedOut && self.calls.is_leased_by_another() {
            return self.missing_without_call(Failure::LeaseLost, Duration::ZERO);
        }
        let failure = match self.calls.likely_cause() {
            // The call that was waited for has no more come to a connection than the one before it.
            Some(cause) if failure == Failure::TimedOut => Failure::NoConnection(cause),
            _ => failure,
        };
        let until = self
            .policy()
            .backing_off
            .map_or(now, |(_, until)| until.awaited);
        Missing {
            failure,
            cause: failure.cause(),
            peer: self.token_server(),
            retry_after: until.saturating_duration_since(now),
        }
    }

    /// The same where no call was made for it.
    pub(super) fn missing_without_call(&self, failure: Failure, retry_after: Duration) -> Missing {
        // Where calls are held, the reason is the endpoint's.
        let of_endpoint = || match failure {
            Failure::CircuitOpen => self.limiter.cause(),
            _ => None,
        };
        Missing {
            failure,
            cause: failure.cause().or_else(of_endpoint),
            peer: Peer::new(&self.token_server().host, None),
            retry_after,
        }
    }

    /// That of the last call.
    fn token_server(&self) -> Arc<Peer> {
        let last = self.calls.last_call().map(|call| call.peer);
        last.unwrap_or_else(|| Peer::new(&server_name(&self.dialect().url), None))
    }

    /// Tells the log that there is no token: once a minute for each cause, or for each account and failure.
    fn complain(&self, failure: Failure) {
        let account = &self.key.account().name;
        let host = &self.token_server().host;
        let cause = failure.cause().map(Cause::as_str);
        let what = match cause {
            Some(cause) => format!("{host} {cause}"),
            None => format!("{account}: {failure}"),
        };
        if self.limiter.is_due(what) {
            tracing::warn!(provider = %self.key.provider.name, %account, scopes = %self.key.scopes, %host, cause, %failure, "no token");
        }
    }

    /// Joins the flight that is under way, or starts one where that is allowed. Where there are links, whoever joins is
    /// sampled, and so is the flight, which is added to them.
    pub(super) fn join(
        self: &Arc<Self>,
        reason: RenewalReason,
        links: Option<&mut Links>,
    ) -> Joined {
        let now = Instant::now();
        let endpoint = EndpointState {
            refusals: &self.state.refusals,
            refresh_token: &self.state.refresh_token,
            open_until: self.limiter.open_until_for(now, reason.is_awaited()),
            are_waiting: self.calls.is_waiting(),
        };
        let mut policy = self.policy();
        let current = self.state.token.load_full();
        let was_contended = policy.is_contended(now);
        let joined = match policy.decide(current.as_ref(), &reason, now, endpoint) {
            Decision::Join(joined) => joined,
            Decision::Start(priority) => {
                if policy.is_contended(now) && !was_contended {
                    tracing::warn!(provider = %self.key.provider.name, account = %self.key.account().name, scopes = %self.key.scopes, "{}", self.contention());
                }
                let (raise, priority) = watch::channel(priority);
                let trace = self.tracer.as_ref().map(|_| Arc::<FlightTrace>::default());
                self.calls.begin_flight(trace.clone());
                let replaces = current.as_ref().map_or(0, |token| token.generation);
                let (leader, joiner) = policy.flight.lead(UnderWay {
                    priority: raise,
                    trace: trace.clone(),
                    replaces,
                });
                // Decided for this token: the flight may begin when another one has been adopted already.
                let is_unauthorized = matches!(reason, RenewalReason::Unauthorized(_));
                let mut wanted = Wanted::instead_of(current.as_deref(), is_unauthorized);
                let failed = policy
                    .backing_off
                    .map(|(failure, _)| (failure, policy.failures));
                wanted.failed = failed;
                if let RenewalReason::Unauthorized(unauthorized) = &reason {
                    let (refusals, route) = (&self.state.refusals, &unauthorized.route);
                    wanted.may_drop_refresh_token =
                        !refusals.is_refused_to_client_credentials(route, now);
                }
                let flight = Flight {
                    reason,
                    wanted,
                    priority,
                    leader,
                    trace,
                };
                tokio::spawn(self.clone().run_flight(flight));
                Joined::Flight(joiner, replaces)
            }
        };
        if let (Joined::Flight(..), Some(links)) = (&joined, links) {
            policy.link(links);
        }
        joined
    }

    /// One flight: the grants, what follows from it, and the news to all waiters.
    async fn run_flight(self: Arc<Self>, flight: Flight) {
        let Flight {
            reason,
            wanted,
            mut priority,
            leader,
            trace,
        } = flight;
        let acquired = self.acquirer.acquire(wanted, &mut priority).await;
        let now = Instant::now();
        let (result, next_renewal) = {
            let mut policy = self.policy();
            // Under one lock, so that nobody joins a flight that has ended already.
            policy.flight.end();
            let result = acquired.and_then(|acquired| {
                let published = self.publish(&mut policy, &acquired, &reason);
                published.map_err(NotAcquired::from)
            });
            // Another instance's may have been adopted meanwhile.
            let result = result.or_else(|none| {
                let current = self.current().filter(|token| {
                    wanted.fingerprint() != Some(token.fingerprint)
                        && token.freshness(now) == Freshness::Fresh
                });
                current.ok_or(none)
            });
            let next_renewal = match &result {
                Ok(token) => {
                    policy.succeeded();
                    token.renew_at
                }
                // Nobody need ask again for a token that was wanted before.
                Err(none) => policy.back_off(*none, Instant::now()),
            };
            let result = result.map_err(|none| none.failure);
            (result, next_renewal)
        };
        if let Err(failure) = &result {
            self.complain(*failure);
        }
        self.schedule_renewal(next_renewal);
        if let Some(trace) = trace {
            self.export(&trace, &reason, &result);
        }
        leader.finish(result);
    }

    /// Hands over the spans of a flight that is over.
    fn export(&self, trace: &Arc<FlightTrace>, reason: &RenewalReason, result: &FlightResult) {
        self.calls.end_flight(trace);
        let Some(tracer) = self.tracer.as_ref().filter(|_| trace.is_sampled()) else {
            return;
        };
        let generation = result.as_ref().map(|token| token.generation);
        tracer.put(trace.finish(&FlightEnd {
            provider: &self.key.provider.name,
            account: &self.key.account().name,
            scopes: &self.key.scopes,
            reason: reason.as_str(),
            result: generation.map_err(|failure| failure.outcome().as_str()),
        }));
    }

    /// Makes what was acquired the key's token.
    pub(super) fn publish(
        &self,
        policy: &mut RenewalPolicy,
        acquired: &Acquired,
        reason: &RenewalReason,
    ) -> FlightResult {
        let current = self.current();
        let next = Next {
            generation: policy.generations + 1,
            current: current.as_deref(),
        };
        let (mut token, outcome) = match next.cached(acquired, self.dialect(), Instant::now()) {
            Ok(Cached::New(token)) => (token, FetchOutcome::Ok),
            Ok(Cached::Unchanged(token)) => (token, FetchOutcome::Unchanged),
            Err(failure) => {
                self.count(acquired.origin, failure.outcome());
                return Err(failure);
            }
        };
        self.count(acquired.origin, outcome);
        token.may_be_refreshed = match acquired.origin {
            Origin::Endpoint(grant) => grant == GrantLabel::RefreshToken,
            // The fleet does not say. Were it thought to be, each instance would drop a refresh token for the same route.
            Origin::Fleet { .. } => false,
        };
        if let Origin::Fleet { after_unauthorized } = acquired.origin {
            if matches!(reason, RenewalReason::Unauthorized(_)) {
                policy.was_replaced_by_fleet();
            }
            if let (FetchOutcome::Unchanged, Some(current)) = (outcome, &current) {
                // It was pushed while the flight looked.
                return Ok(current.clone());
            }
            token.after_unauthorized = after_unauthorized;
            self.state.refresh_token.trust_next();
            policy.adopted(&token, Instant::now());
            if let Some(current) = &current {
                let refusals = &self.state.refusals;
                refusals.succeed(current.generation, &token, Instant::now());
            }
        }
        if outcome == FetchOutcome::Ok {
            policy.generations = token.generation;
        }
        match reason {
            RenewalReason::Unauthorized(unauthorized) if outcome == FetchOutcome::Unchanged => {
                // Else it was adopted meanwhile, and nobody has refused it.
                if token.generation == unauthorized.sent {
                    self.renewed_in_vain(unauthorized, token.may_be_refreshed);
                }
            }
            RenewalReason::Unauthorized(unauthorized) => {
                token.after_unauthorized = true;
                if !unauthorized.is_replayed {
                    let refusals = &self.state.refusals;
                    refusals.try_next(&unauthorized.route, token.generation);
                }
            }
            RenewalReason::Startup | RenewalReason::Renewal | RenewalReason::Request => {}
        }
        token.missing_scopes = acquired.response.missing_scopes(&self.key.scopes);
        if !token.missing_scopes.is_empty() {
            tracing::warn!(provider = %self.key.provider.name, account = %self.key.account().name, scopes = %self.key.scopes, missing = %token.missing_scopes, "the token endpoint granted fewer scopes than were asked for");
        }
        token.oddities = acquired.response.oddities;
        let known = current.map(|current| current.oddities);
        if known.unwrap_or_default() != token.oddities {
            for remark in token.oddities.remarks() {
                tracing::warn!(provider = %self.key.provider.name, account = %self.key.account().name, scopes = %self.key.scopes, "the token is used, but {remark}");
            }
        }
        let token = Arc::new(token);
        self.state.token.store(Some(token.clone()));
        tracing::debug!(provider = %self.key.provider.name, account = %self.key.account().name, scopes = %self.key.scopes, generation = token.generation, fingerprint = %token.fingerprint, "token obtained");
        Ok(token)
    }

    /// Takes over a token that another instance obtained; false where it is none.
    pub(super) fn adopt(&self, acquired: &Acquired) -> bool {
        let mut policy = self.policy();
        let published = self.publish(&mut policy, acquired, &RenewalReason::Renewal);
        let Ok(token) = published else { return false };
        policy.succeeded();
        drop(policy);
        self.schedule_renewal(token.renew_at);
        true
    }

    /// The token that there is, valid or not.
    pub(super) fn current(&self) -> Option<Arc<CachedToken>> {
        self.state.token.load_full()
    }

    /// Counts a token call.
    fn count(&self, origin: Origin, outcome: FetchOutcome) {
        match origin {
            Origin::Endpoint(grant) => self.calls.ended(grant, outcome),
            Origin::Fleet { .. } => {}
        }
    }

    pub(super) fn schedule_renewal(&self, at: Instant) {
        let source = self.state.renewer().clone();
        let Some(renewer) = source.upgrade() else {
            return;
        };
        let renewal = ScheduledRenewal { source, at };
        // The queue holds more than all sources together can ask for at a time. Were it full, the token
        // would be renewed when a request finds it expired.
        drop(renewer.schedule.try_send(renewal));
    }
}

/// Waits for what a flight brings.
pub(super) async fn wait_for(flight: Joiner<FlightResult>, deadline: Instant) -> FlightResult {
    match flight.wait_until(deadline).await {
        Ok(result) => result,
        // It panicked, or the process is ending.
        Err(NoResult::Abandoned) => Err(Failure::Broken),
        Err(NoResult::TimedOut) => Err(Failure::TimedOut),
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Source")
            .field("provider", &self.key.provider.name)
            .field("account", &self.key.account().name)
            .field("scopes", &self.key.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
