//! Which token is it now, and who renews it? One source per token key.
//!
//! Readers take the token from an arc-swap: no lock, no allocation, and they set at most a flag. All else
//! is behind `policy`, a mutex that is never held across an await: whether a flight is under way, when the
//! next may start, and what 401s have told ([`super::renewal_policy`] decides it). Only the flight publishes a token,
//! and there is one flight at a time, because whoever starts one finds none in the policy and leaves one
//! there under the same lock. Waiters hold the flight's channel, not the policy; one that gives up cancels
//! nothing. What a flight asks the endpoint is [`super::grants`]'s.
//!
//! A reload makes a new source for a token key that stays, and both have one [`State`]: token, policy and so the
//! flight. Which of them looks after the renewal is in there too; for a key that is gone, none does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use prometheus::Histogram;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::access_token::{
    AccessToken, CachedToken, Freshness, LAST_SECOND, Lifespan, Missing, Recovery, reserve,
};
use super::endpoint_limiter::{EndpointLimiter, Priority};
use super::failure::{Detail, Failure};
use super::grants::{Acquired, FetchCounts, GrantState, Grants};
use super::refusals::{Refusals, Unauthorized};
use super::renewal_policy::{
    Calls, Decision, Flight, FlightResult, Joined, RenewalPolicy, RenewalReason,
};
use super::request::Transport;
use super::response::ExpiresIn;
use super::secret_in_use::SecretInUse;
use super::snapshot::{Snapshot, TokenSnapshot};
use bursar_config::{Account, Provider, SecretName, TokenDialect};
use bursar_telemetry::metrics::{FetchOutcome, GrantLabel};

/// What the log and the admin port say of a key whose young tokens are refused again and again.
pub const CONTENTION: &str = "instances are revoking each other: the provider refuses young tokens, as it does where each new one ends the one before; give each instance an account of its own";

/// The token of one key: provider, account and scopes.
pub struct Source {
    /// Index among all sources; the renewal loop's name for it.
    pub(super) id: usize,
    /// Whose it is.
    pub provider: Arc<Provider>,
    /// Whose credentials: a place in the provider's accounts.
    account: usize,
    /// Sorted and space-joined; empty for none.
    pub scopes: Arc<str>,
    /// Whether its token is obtained before anybody asks for it.
    pub at_startup: bool,
    pub(super) state: Arc<State>,
    limiter: Arc<EndpointLimiter>,
    grants: Grants,
    schedule: mpsc::Sender<ScheduledRenewal>,
}

/// What a token key keeps for as long as it is configured.
#[derive(Default)]
#[repr(C)]
pub(super) struct State {
    token: ArcSwapOption<CachedToken>,
    /// Beside it, because every response is compared with it.
    pub(super) refusals: Refusals,
    policy: Mutex<RenewalPolicy>,
    grant_state: Arc<Mutex<GrantState>>,
    /// Whose scheduled renewals count: the latest source's.
    renewer: Mutex<Weak<Source>>,
}

impl State {
    /// See [`Source::read`]; the source is only looked at where it has to renew.
    pub(super) fn read(&self, now: Instant, source: &Source) -> Option<AccessToken> {
        let token = self.token.load();
        let token = token.as_ref()?;
        match token.freshness(now) {
            Freshness::Fresh => Some(token.access_token()),
            Freshness::Stale => {
                // Taken first: the renewal loop looks at whether it is used.
                let access_token = token.access_token();
                if token.ask_for_renewal() {
                    source.schedule_renewal(now);
                }
                Some(access_token)
            }
            Freshness::Expired => None,
        }
    }
}

/// When a source is to be renewed ahead of its token's end.
pub(super) struct ScheduledRenewal {
    pub(super) source: Weak<Source>,
    pub(super) at: Instant,
}

/// What a source is made of.
pub(super) struct Parts {
    pub(super) id: usize,
    pub(super) provider: Arc<Provider>,
    pub(super) account: usize,
    pub(super) scopes: Arc<str>,
    pub(super) at_startup: bool,
    pub(super) secret: Arc<SecretInUse>,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) schedule: mpsc::Sender<ScheduledRenewal>,
    pub(super) fetches: Arc<FetchCounts>,
    pub(super) fetch_durations: [Histogram; GrantLabel::COUNT],
}

impl Parts {
    pub(super) fn credentials(&self) -> &Account {
        &self.provider.accounts[self.account]
    }
}

impl Source {
    /// A source for a new key.
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        Self::with(Arc::default(), parts)
    }

    /// A source for the key of this one, under another configuration; from now on it looks after the renewal.
    pub(super) fn succeeded_by(&self, parts: Parts) -> Arc<Self> {
        if self.shows_otherwise(&parts) {
            self.policy().forget_refusal();
        }
        self.state.refusals.reset(Instant::now());
        let source = Self::with(self.state.clone(), parts);
        let token = source.state.token.load_full().map(|token| token.renew_at);
        let backing_off = source.policy().backing_off.map(|(_, until)| until.alone);
        let wanted = source.at_startup.then(Instant::now);
        if let Some(at) = token.max(backing_off).or(wanted) {
            source.schedule_renewal(at);
        }
        source
    }

    /// Its key is gone: nobody renews it any more. Requests that are under way may still ask for a token.
    pub(super) fn retire(&self) {
        *self.renewer() = Weak::new();
    }

    fn with(state: Arc<State>, parts: Parts) -> Arc<Self> {
        let source = Arc::new(Self {
            id: parts.id,
            grants: Grants {
                provider: parts.provider.clone(),
                account: parts.account,
                scopes: parts.scopes.clone(),
                secret: parts.secret,
                limiter: parts.limiter.clone(),
                transport: parts.transport,
                grant_state: state.grant_state.clone(),
                fetches: parts.fetches,
                fetch_durations: parts.fetch_durations,
            },
            provider: parts.provider,
            account: parts.account,
            scopes: parts.scopes,
            at_startup: parts.at_startup,
            state,
            limiter: parts.limiter,
            schedule: parts.schedule,
        });
        *source.renewer() = Arc::downgrade(&source);
        source
    }

    /// Held for a look.
    fn renewer(&self) -> MutexGuard<'_, Weak<Self>> {
        let renewer = self.state.renewer.lock();
        renewer.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the renewal is this source's, and not a later one's of the same key, or nobody's.
    pub(super) fn is_renewer(&self) -> bool {
        std::ptr::eq(self.renewer().as_ptr(), self)
    }

    /// Whether the parts are for the same token key: provider, environment, account, credentials and every
    /// parameter of the token request. A second secret that comes or goes is no other key.
    pub(super) fn has_key_of(&self, parts: &Parts) -> bool {
        let (one, two) = (self.account(), parts.credentials());
        (&self.provider.name, &one.name, &self.scopes)
            == (&parts.provider.name, &two.name, &parts.scopes)
            && self.provider.environment == parts.provider.environment
            && (&one.client_id, &one.client_secret) == (&two.client_id, &two.client_secret)
            && self.dialect().asks_like(&parts.provider.token)
    }

    /// Whether the parts give the endpoint another reason to refuse the account, or none: the cool-down after a
    /// refusal is no cause to wait then.
    fn shows_otherwise(&self, parts: &Parts) -> bool {
        self.account().next_client_secret != parts.credentials().next_client_secret
            || self.provider.tls != parts.provider.tls
    }

    /// The names of provider and account, and the scopes: no two keys of one configuration share them.
    pub(super) fn place(&self) -> (&str, &str, &str) {
        (&self.provider.name, &self.account().name, &self.scopes)
    }

    /// What the sources of its account share.
    pub(super) fn shared(&self) -> (&Arc<FetchCounts>, &Arc<SecretInUse>) {
        self.grants.shared()
    }

    /// Whether there is a valid token: what [`Self::read`] costs before it takes anything, for the benchmark.
    #[doc(hidden)]
    #[must_use]
    pub fn is_valid(&self, now: Instant) -> bool {
        let token = self.state.token.load();
        let token = token.as_ref();
        token.is_some_and(|token| token.freshness(now) != Freshness::Expired)
    }

    /// The valid token, if there is one: without a lock, without an allocation, without waiting.
    #[must_use]
    pub fn read(&self, now: Instant) -> Option<AccessToken> {
        self.state.read(now, self)
    }

    /// The valid token; where there is none, what the flight brings within `token.wait`.
    ///
    /// # Errors
    /// Where the flight fails, none may start for now, or the wait is over.
    pub async fn obtain(self: &Arc<Self>) -> Result<AccessToken, Missing> {
        let deadline = Instant::now() + self.dialect().wait;
        loop {
            let now = Instant::now();
            if let Some(access_token) = self.read(now) {
                return Ok(access_token);
            }
            if now >= deadline {
                return Err(self.missing(Failure::TimedOut, now));
            }
            match self.join(RenewalReason::Request) {
                Joined::Newer(_) | Joined::RenewedTooOften => {}
                Joined::Flight(flight) => match wait_for(flight, deadline).await {
                    Ok(token) if token.freshness(Instant::now()) != Freshness::Expired => {
                        return Ok(token.access_token());
                    }
                    Ok(_) | Err(Failure::AlreadyExpired) => {}
                    Err(failure) => return Err(self.missing(failure, Instant::now())),
                },
                // Shorter than the request may wait: what the next flight brings is the answer to it.
                Joined::BackingOff(failure, until)
                    if failure.is_transient() && until < deadline =>
                {
                    tokio::time::sleep_until(until).await;
                }
                Joined::BackingOff(failure, until) => {
                    return Err(Missing {
                        failure,
                        retry_after: until.saturating_duration_since(now),
                    });
                }
            }
        }
    }

    /// What to do about a 401.
    pub(super) async fn recover_from(self: &Arc<Self>, unauthorized: Unauthorized) -> Recovery {
        let deadline = Instant::now() + self.dialect().wait;
        loop {
            let result = match self.join(RenewalReason::Unauthorized(unauthorized.clone())) {
                Joined::Newer(token) => Ok(token),
                Joined::Flight(flight) => wait_for(flight, deadline).await,
                Joined::RenewedTooOften => return Recovery::RenewedTooOften,
                // The old token at its very end. The next one is a second away, as in `obtain`.
                Joined::BackingOff(Failure::AlreadyExpired, until) if until < deadline => {
                    tokio::time::sleep_until(until).await;
                    continue;
                }
                Joined::BackingOff(..) => return Recovery::Unavailable,
            };
            return match result {
                Ok(token) if token.generation == unauthorized.sent => {
                    // The flight learnt it for the route that it was for.
                    if !self.state.refusals.is_quarantined(
                        unauthorized.sent,
                        Some(&unauthorized.route),
                        Instant::now(),
                    ) {
                        self.quarantine(&unauthorized, unauthorized.sent);
                    }
                    Recovery::Unchanged
                }
                Ok(token) if token.freshness(Instant::now()) != Freshness::Expired => {
                    Recovery::Replay(token.access_token())
                }
                Err(Failure::AlreadyExpired) => continue,
                Ok(_) | Err(_) => Recovery::Unavailable,
            };
        }
    }

    /// Renews because of a 401 without anybody waiting: the request was too large to be replayed.
    pub(super) fn renew_after(self: &Arc<Self>, unauthorized: Unauthorized) {
        // Whatever comes of it is for the next request.
        drop(self.join(RenewalReason::Unauthorized(unauthorized)));
    }

    /// A replay was answered 401 again. Where the generation that it was sent with was obtained because of a
    /// 401, another one would be no better for its route.
    pub(super) fn replay_was_refused(&self, unauthorized: &Unauthorized) {
        let current = self.state.token.load();
        let is_recovered = |token: &Arc<CachedToken>| {
            token.generation == unauthorized.sent && token.after_unauthorized
        };
        if current.as_ref().is_some_and(is_recovered) {
            self.quarantine(unauthorized, unauthorized.sent);
        }
    }

    fn quarantine(&self, unauthorized: &Unauthorized, generation: u64) {
        if self
            .state
            .refusals
            .quarantine(unauthorized, generation, Instant::now())
        {
            tracing::warn!(provider = %self.provider.name, account = %self.account().name, scopes = %self.scopes, route = %unauthorized.route, "the provider answers 401 on this route whatever the token: it may lack a scope");
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
        if due && let Joined::BackingOff(_, until) = self.join(reason) {
            // A reader asked during the pause after a failure, and its renewal replaced the one that
            // was made for the pause's end.
            self.schedule_renewal(until);
        }
    }

    /// Asks the token endpoint once and says in words what came back, never the token.
    ///
    /// # Errors
    /// Where no token came.
    pub async fn call_once(&self) -> Result<String, Failure> {
        let (_sender, mut priority) = watch::channel(Priority::Request);
        let acquired = self.grants.acquire(&mut priority).await?;
        let token = self.publish(&mut self.policy(), acquired, &RenewalReason::Request)?;
        let lifetime = token.ends.duration_since(token.issued).as_secs();
        let less = match token.missing_scopes.as_str() {
            "" => String::new(),
            missing => format!(", but not granted: {missing}"),
        };
        let with = match self.account().next_client_secret {
            Some(_) => format!(" with {}", self.grants.secret_in_use().as_str()),
            None => String::new(),
        };
        Ok(format!(
            "a token for {lifetime} s{with}, fingerprint {}{less}",
            token.fingerprint
        ))
    }

    /// Whether there is or was a token.
    #[must_use]
    pub fn ever_had_a_token(&self) -> bool {
        self.state.token.load().is_some()
    }

    /// What there is to show.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let token = self.state.token.load_full().map(|token| TokenSnapshot {
            generation: token.generation,
            fingerprint: token.fingerprint,
            age: now.saturating_duration_since(token.issued),
            lifetime: token.ends.duration_since(token.issued),
            is_valid: token.freshness(now) != Freshness::Expired,
            missing_scopes: token.missing_scopes.clone(),
        });
        let policy = self.policy();
        Snapshot {
            token,
            failing: policy
                .backing_off
                .map(|(failure, _)| failure)
                .or_else(|| self.grants.is_waiting().then(|| self.limiter.wait(now).0))
                .map(|failure| failure.to_string()),
            is_contended: policy.is_contended(now),
            contentions: policy.contentions,
            last: self.grants.last(),
            secret_in_use: self.grants.secret_in_use(),
            last_error: policy.last_error.clone(),
            refused_routes: self.state.refusals.snapshot(),
        }
    }

    /// How many token calls for the account with that grant ended so.
    #[must_use]
    pub fn fetches(&self, grant: GrantLabel, outcome: FetchOutcome) -> u64 {
        self.grants.fetches(grant, outcome)
    }

    /// The secret of its account that the endpoint took last.
    #[must_use]
    pub fn secret_in_use(&self) -> SecretName {
        self.grants.secret_in_use()
    }

    /// Whose credentials they are.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.provider.accounts[self.account]
    }

    fn dialect(&self) -> &TokenDialect {
        &self.provider.token
    }

    /// The policy is consistent whenever the lock is free, so a panic elsewhere does not spoil it.
    fn policy(&self) -> MutexGuard<'_, RenewalPolicy> {
        self.state
            .policy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, failure: Failure, now: Instant) -> Missing {
        if failure == Failure::TimedOut && self.grants.is_waiting() {
            // The endpoint was not asked at all.
            let (failure, retry_after) = self.limiter.wait(now);
            return Missing {
                failure,
                retry_after,
            };
        }
        let until = self
            .policy()
            .backing_off
            .map_or(now, |(_, until)| until.wanted);
        Missing {
            failure,
            retry_after: until.saturating_duration_since(now),
        }
    }

    /// Joins the flight that is under way, or starts one where that is allowed.
    fn join(self: &Arc<Self>, reason: RenewalReason) -> Joined {
        let now = Instant::now();
        let calls = Calls {
            refusals: &self.state.refusals,
            held_until: self.limiter.open_until_for(now, reason.is_wanted()),
            are_waiting: self.grants.is_waiting(),
        };
        let mut policy = self.policy();
        let current = self.state.token.load_full();
        let was_contended = policy.is_contended(now);
        match policy.decide(current.as_ref(), (&reason, now), calls) {
            Decision::Join(joined) => joined,
            Decision::Start(priority) => {
                if policy.is_contended(now) && !was_contended {
                    tracing::warn!(provider = %self.provider.name, account = %self.account().name, scopes = %self.scopes, "{CONTENTION}");
                }
                let (done, result) = watch::channel(None);
                let (raise, priority) = watch::channel(priority);
                policy.flight = Some(Flight {
                    result: result.clone(),
                    priority: raise,
                });
                tokio::spawn(self.clone().run_flight(reason, priority, done));
                Joined::Flight(result)
            }
        }
    }

    /// One trip to the token endpoint: the grants, what follows from it, and the news to all waiters.
    async fn run_flight(
        self: Arc<Self>,
        reason: RenewalReason,
        mut priority: watch::Receiver<Priority>,
        done: watch::Sender<Option<FlightResult>>,
    ) {
        let acquired = self.grants.acquire(&mut priority).await;
        let (result, next_renewal) = {
            let mut policy = self.policy();
            // Under one lock, so that nobody joins a flight that has ended already.
            policy.flight = None;
            let result = acquired.and_then(|acquired| self.publish(&mut policy, acquired, &reason));
            let next_renewal = match &result {
                Ok(token) => {
                    policy.backing_off = None;
                    policy.failures = 0;
                    token.renew_at
                }
                // Nobody need ask again for a token that was wanted before.
                Err(failure) => {
                    let now = Instant::now();
                    let held = self.limiter.open_until(now).filter(|_| failure.is_outage());
                    policy.back_off(*failure, now, held)
                }
            };
            (result, next_renewal)
        };
        if let Err(failure) = &result {
            tracing::warn!(provider = %self.provider.name, account = %self.account().name, scopes = %self.scopes, %failure, "no token");
        }
        self.schedule_renewal(next_renewal);
        done.send_replace(Some(result));
    }

    /// Makes the response's token the source's.
    fn publish(
        &self,
        policy: &mut RenewalPolicy,
        acquired: Acquired,
        reason: &RenewalReason,
    ) -> FlightResult {
        let Acquired {
            response,
            issued,
            label,
        } = acquired;
        let now = Instant::now();
        let lifetime = match response.lifetime {
            // One that ended on its way here would be asked for again at once, and might for ever.
            ExpiresIn::For(lifetime) if lifetime > now.duration_since(issued) => lifetime,
            ExpiresIn::Unstated => self.dialect().default_lifetime,
            ExpiresIn::For(_) | ExpiresIn::Already => {
                self.grants.count(label, Failure::AlreadyExpired.outcome());
                return Err(Failure::AlreadyExpired);
            }
        };
        let left = lifetime.saturating_sub(now.duration_since(issued));
        let span = Lifespan {
            issued,
            lifetime,
            margin: self.dialect().margin,
            reserve: reserve(left),
        };
        let malformed = Failure::Malformed(Detail::Is("it declines bytes that no header may hold"));
        let mut token = CachedToken::new(&response.access_token, policy.generations + 1, span)
            .ok_or(malformed)?;
        let current = self.state.token.load_full();
        match current.filter(|current| current.is_same_as(&token)) {
            // In its last second: the next one comes after that.
            Some(current) if left <= LAST_SECOND && token.ends <= current.ends + LAST_SECOND => {
                self.grants.count(label, Failure::AlreadyExpired.outcome());
                return Err(Failure::AlreadyExpired);
            }
            // The same token again is no renewal: it is used to its real end, and asked for then.
            Some(current) => {
                token.generation = current.generation;
                token.after_unauthorized = current.after_unauthorized;
                token.renew_at = token.expires;
                if let RenewalReason::Unauthorized(unauthorized) = reason {
                    self.quarantine(unauthorized, token.generation);
                }
                self.grants.count(label, FetchOutcome::Unchanged);
            }
            None => {
                policy.generations = token.generation;
                if let RenewalReason::Unauthorized(unauthorized) = reason {
                    token.after_unauthorized = true;
                    if !unauthorized.is_replayed {
                        self.state
                            .refusals
                            .try_next(&unauthorized.route, token.generation);
                    }
                }
                self.grants.count(label, FetchOutcome::Ok);
            }
        }
        token.missing_scopes = response.missing_scopes(&self.scopes);
        if !token.missing_scopes.is_empty() {
            tracing::warn!(provider = %self.provider.name, account = %self.account().name, scopes = %self.scopes, missing = %token.missing_scopes, "the token endpoint granted fewer scopes than were unauthorized for");
        }
        let token = Arc::new(token);
        self.state.token.store(Some(token.clone()));
        tracing::debug!(provider = %self.provider.name, account = %self.account().name, scopes = %self.scopes, generation = token.generation, fingerprint = %token.fingerprint, "token obtained");
        Ok(token)
    }

    fn schedule_renewal(&self, at: Instant) {
        let source = self.renewer().clone();
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
async fn wait_for(
    mut flight: watch::Receiver<Option<FlightResult>>,
    deadline: Instant,
) -> FlightResult {
    match timeout_at(deadline, flight.wait_for(Option::is_some)).await {
        Ok(Ok(result)) => result.clone().unwrap_or(Err(Failure::Broken)),
        // The flight's task is gone: the process is ending.
        Ok(Err(_)) => Err(Failure::Broken),
        Err(_) => Err(Failure::TimedOut),
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Source")
            .field("provider", &self.provider.name)
            .field("account", &self.account().name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
