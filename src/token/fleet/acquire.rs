//! Acquiring a token in a fleet: another instance's where there is one, else the endpoint's, under a lease.
//!
//! A lease saves calls; nothing rests on it. A second token call is harmless, and a refresh token is marked in the store
//! before it is used, so that one that may have been used is never sent again. A lease lasts for one call and
//! [`SLACK`]; each further call in a flight asks for it anew.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::flights::{Flight, Flights};
use super::key::{FleetKey, Obtained};
use super::outage::{Action, Asker, Current, NoUse, Outage, RECONNECT};
use super::wire;
use crate::token::acquire::{Acquire, Acquired, Acquiring, NotAcquired, Wanted};
use crate::token::backoff;
use crate::token::call_lease::{CallLease, Holding, NoLease};
use crate::token::endpoint_limiter::Priority;
use crate::token::failure::Failure;
use crate::token::grants::Grants;
use crate::token::refresh_token::RefreshToken;
use bursar_config::{OnOutage, Refresh};
use bursar_fleet::{Answer, Error, FIRST_CONNECTION, Failed, Found, Lease, Question};
use bursar_limits::circuit_breaker::Pause;
use bursar_telemetry::metrics::LeaseResult;

/// What a lease lasts beyond `token.timeout`: the call begins within it, and the token is published within it.
const SLACK: Duration = Duration::from_secs(2);
/// Somebody who waits for a lease's end looks that much later, so that its holder's word comes first.
const AFTER_LEASE: Duration = Duration::from_millis(50);
/// Values in the store that are of no use, and are passed over in one flight; each of the fleet's keys may have one.
const MAX_PASSED_OVER: usize = 8;
/// Leases of others that one flight waits for.
const MAX_WAITS: u32 = 8;
/// Looks at a store that is of no use, or goes and comes, in one flight; before that, [`RECONNECT`] is over mostly.
const MAX_LOOKS: u32 = 16;
/// A store that was of no use is asked again after this, by who cannot do without.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// While an outage holds a key, it is looked at again after this.
const HOLD_PAUSE: Duration = Duration::from_millis(500);

/// How one token key is asked for in a fleet.
pub(in crate::token) struct FleetAcquire {
    pub(super) key: Arc<FleetKey>,
    pub(super) grants: Grants,
    pub(super) flights: Arc<Flights>,
}

/// What a look at the store leads to.
enum Step {
    /// The flight has ended.
    Done(Result<Acquired, NotAcquired>),
    /// Look again: somebody else had a lease, or this one's is lost.
    Again,
    /// Look again: the store was of no use.
    NoStore,
}

/// One acquisition.
struct Acquisition {
    wanted: Wanted,
    no_use: NoUse,
    /// Whoever tells the others what came of it holds it until that is done.
    flight: Arc<Flight>,
}

impl Acquire for FleetAcquire {
    fn acquire<'a>(
        &'a self,
        wanted: Wanted,
        priority: &'a mut watch::Receiver<Priority>,
    ) -> Acquiring<'a> {
        Box::pin(async move {
            let Some(flight) = self.flights.begin(&self.key) else {
                return Err(Failure::LeaseLost.into());
            };
            let flight = Arc::new(flight);
            let acquisition = Acquisition {
                wanted,
                no_use: NoUse::default(),
                flight,
            };
            self.key.fleet.first_connection(FIRST_CONNECTION).await;
            let mut passed_over = Vec::new();
            passed_over.extend(self.key.known().number_of(wanted.fingerprint()));
            let (mut waits, mut looks) = (0, 0);
            while waits < MAX_WAITS && looks < MAX_LOOKS {
                if self.flights.are_ending() {
                    // Its call was not made, and another instance can make it.
                    self.key.give_up_lease().await;
                    return Err(Failure::LeaseLost.into());
                }
                // The store may have lost it since.
                if let Some(token) = self.key.adopted_meanwhile(&wanted) {
                    return Ok(token);
                }
                match self.step(&acquisition, &mut passed_over, priority).await {
                    Step::Done(result) => return result,
                    Step::Again => waits += 1,
                    Step::NoStore => looks += 1,
                }
            }
            Err(Failure::LeaseLost.into())
        })
    }
}

impl FleetAcquire {
    /// Looks at the store, and does what follows.
    async fn step(
        &self,
        acquisition: &Acquisition,
        passed_over: &mut Vec<u64>,
        priority: &mut watch::Receiver<Priority>,
    ) -> Step {
        let (known, wanted) = (self.key.known(), &acquisition.wanted);
        // Listened to before the store is asked, so that nothing is missed in between.
        let changed = known.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        loop {
            let question = Question {
                known: passed_over,
                highest: known.highest(),
                lease: Some(self.lease_time()),
                wants_refresh_token: self.key.dialect().refresh != Refresh::None,
                is_awaited: *priority.borrow() != Priority::Startup,
            };
            let answer = self.key.fleet.ask(self.key.entry(), question).await;
            if !matches!(answer, Ok(Answer::Nothing(_)) | Err(_)) {
                acquisition.no_use.is_over();
            }
            match answer {
                Ok(Answer::Value(found)) => {
                    let number = found.number;
                    if let Some(token) = self.take_over(wanted, found) {
                        return Step::Done(Ok(token));
                    }
                    if passed_over.len() >= MAX_PASSED_OVER {
                        return Step::Done(Err(Failure::TimedOut.into()));
                    }
                    passed_over.push(number);
                }
                // Its holder can neither share a token there nor give the lease back, perhaps.
                Ok(Answer::Held(_)) if self.is_refused_and_mints() => {
                    return self.without_store(acquisition, priority).await;
                }
                Ok(Answer::Held(left)) => {
                    self.wait_for_holder(left, changed).await;
                    return Step::Again;
                }
                Ok(Answer::Failed {
                    failure,
                    awaited,
                    background,
                }) => {
                    let failure = wire::read(failure.as_deref().map_or(&[], Vec::as_slice));
                    let pause = Pause {
                        awaited,
                        background,
                    };
                    return Step::Done(Err(NotAcquired {
                        failure,
                        pause: Some(pause.from(Instant::now())),
                    }));
                }
                Ok(Answer::Won(lease)) => {
                    return self.call(lease, acquisition, passed_over, priority).await;
                }
                Ok(Answer::Nothing(_)) | Err(_) => {
                    return self.without_store(acquisition, priority).await;
                }
            }
        }
    }

    /// Whether the store refuses some of what instances have to do there, and each asks for itself then.
    fn is_refused_and_mints(&self) -> bool {
        let fleet = &self.key.fleet;
        let on_outage = fleet.on_outage(self.key.dialect().single_active);
        fleet.state().refuses.is_some() && on_outage == OnOutage::Mint
    }

    fn listens_since(&self) -> Instant {
        self.key.fleet.state().since
    }

    fn lease_time(&self) -> Duration {
        self.key.dialect().timeout + SLACK
    }

    /// Asks the endpoint under a lease, and tells the others what came of it.
    async fn call(
        &self,
        lease: Lease,
        acquisition: &Acquisition,
        passed_over: &[u64],
        priority: &mut watch::Receiver<Priority>,
    ) -> Step {
        let (known, wanted) = (self.key.known(), &acquisition.wanted);
        known.saw(lease.number);
        let _held = self.key.fleet.hold_lease();
        let refresh = match &lease.refresh {
            Some(refresh) if !known.may_use_refresh(refresh.number, self.listens_since()) => None,
            // Its mark has to outlive the server, or it could be used once more.
            Some(_) if !self.key.fleet.is_mark_kept(self.key.entry()).await => None,
            Some(refresh) => {
                known.refresh_is_used(refresh.number);
                let token = refresh.value.refresh_token.clone();
                token.map(|token| RefreshToken::of_fleet(token, refresh.issued))
            }
            None => None,
        };
        let refresh = refresh.or_else(|| known.take_unshared());
        self.grants.refresh_token.put(refresh);
        let lease = FleetLease {
            key: &self.key,
            flights: &self.flights,
            lease_time: self.lease_time(),
            passed_over,
            state: Mutex::new(FleetLeaseState {
                lease,
                calls: 0,
                is_lost: false,
            }),
        };
        let result = self.grants.acquire_through(wanted, priority, &lease).await;
        let state = lease.state.into_inner();
        let left = self.grants.refresh_token.take(Instant::now());
        let none = match result {
            Ok(token) => {
                self.share(state.lease.number, &token, left, acquisition);
                return Step::Done(Ok(token));
            }
            Err(none) => none,
        };
        // Certainly not sent, and nobody else sends it: it is marked, or was never shared.
        known.keep_unshared(left);
        match state.calls {
            // Nothing was sent: another instance asks now, or has asked.
            0 if state.is_lost => Step::Again,
            // It was held up for longer than its lease, and goes on to nothing else.
            _ if state.is_lost => Step::Done(self.look(wanted, passed_over).await),
            _ => Step::Done(Err(self.give_back(none, acquisition))),
        }
    }

    /// Takes what another instance has obtained meanwhile, or is about to.
    async fn look(&self, wanted: &Wanted, passed_over: &[u64]) -> Result<Acquired, NotAcquired> {
        for _ in 0..MAX_WAITS {
            let known = self.key.known();
            let changed = known.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let question = Question::look(passed_over, known.highest());
            match self.key.fleet.ask(self.key.entry(), question).await {
                Ok(Answer::Value(found)) => {
                    return self
                        .take_over(wanted, found)
                        .ok_or(Failure::TimedOut.into());
                }
                Ok(Answer::Held(left)) => self.wait_for_holder(left, changed).await,
                Ok(_) | Err(_) => break,
            }
        }
        Err(Failure::TimedOut.into())
    }

    /// Waits until somebody else's lease is over, or something of the entry has changed.
    async fn wait_for_holder(&self, left: Duration, changed: impl Future<Output = ()>) {
        let end = Instant::now() + left.min(self.lease_time()) + AFTER_LEASE;
        self.grants.calls.set_leased_by_another(true);
        tokio::select! {
            _ = timeout_at(end, changed) => {}
            () = self.flights.ending() => {}
        }
        self.grants.calls.set_leased_by_another(false);
    }

    /// The token in a value, where it is of use; where it was pushed meanwhile, it is counted already.
    fn take_over(&self, wanted: &Wanted, found: Found) -> Option<Acquired> {
        let token = self.key.accept(wanted, found)?;
        if self.key.current_fingerprint() != Some(token.fingerprint()) {
            self.key.fleet.series().adoptions.inc();
        }
        Some(token)
    }

    /// Tells the others of a token, while the requests that wait for it go on.
    fn share(
        &self,
        number: u64,
        token: &Acquired,
        refresh: Option<RefreshToken>,
        acquisition: &Acquisition,
    ) {
        self.key.known().obtained(token.fingerprint());
        let is_refused = acquisition.wanted.is_refused;
        let secret = self.key.secret(self.grants.secret.name());
        let dialect = self.key.dialect();
        let Some(obtained) = Obtained::from(token, refresh, is_refused, secret, dialect) else {
            return;
        };
        let (key, flight) = (self.key.clone(), acquisition.flight.clone());
        tokio::spawn(async move {
            key.publish(number, obtained).await;
            drop(flight);
        });
    }

    /// Gives the lease back, and tells the others what the endpoint said, and for how long not to ask.
    fn give_back(&self, none: NotAcquired, acquisition: &Acquisition) -> NotAcquired {
        let now = Instant::now();
        let until = none.pause.unwrap_or_else(|| {
            let is_same = |failed: &(Failure, u32)| backoff::is_same_kind(failed.0, none.failure);
            let earlier = acquisition
                .wanted
                .failed
                .filter(is_same)
                .map_or(0, |(_, times)| times);
            backoff::pause(none.failure, earlier, fastrand::f64()).from(now)
        });
        let told = wire::write(none.failure);
        let (key, flight) = (self.key.clone(), acquisition.flight.clone());
        // Nobody waits for that. Where it fails the lease ends by itself.
        tokio::spawn(async move {
            let failed = match &told {
                Some(failure) => Failed {
                    failure,
                    awaited: until.awaited.saturating_duration_since(now),
                    background: until.background.saturating_duration_since(now),
                },
                None => Failed::default(),
            };
            drop(key.fleet.report_failure(key.entry(), failed).await);
            drop(flight);
        });
        NotAcquired {
            failure: none.failure,
            pause: Some(until),
        }
    }

    /// Asks the endpoint although the store cannot say whether somebody else does, or holds on.
    async fn without_store(
        &self,
        acquisition: &Acquisition,
        priority: &mut watch::Receiver<Priority>,
    ) -> Step {
        let known = self.key.known();
        let action = match self.key.fleet.on_outage(self.key.dialect().single_active) {
            OnOutage::Hold => self.outage(acquisition).action(),
            OnOutage::Mint => Action::Ask,
        };
        match action {
            Action::Ask => {}
            Action::Hold => {
                let pause: Pause = HOLD_PAUSE.into();
                return Step::Done(Err(NotAcquired {
                    failure: Failure::FleetHold,
                    pause: Some(pause.from(Instant::now())),
                }));
            }
            Action::Wait => {
                tokio::select! {
                    () = self.reconnected(acquisition) => {}
                    () = self.flights.ending() => {}
                }
                return Step::NoStore;
            }
        }
        self.grants.refresh_token.put(known.take_unshared());
        let result = self
            .grants
            .acquire_through(&acquisition.wanted, priority, &NoLease)
            .await;
        let left = self.grants.refresh_token.take(Instant::now());
        match &result {
            Ok(token) => {
                known.obtained_alone(token.fingerprint());
                self.share(known.next_number(), token, left, acquisition);
            }
            Err(_) => known.keep_unshared(left),
        }
        Step::Done(result)
    }

    /// Waits until the store can be used again, or a little, where it can and was of no use.
    async fn reconnected(&self, acquisition: &Acquisition) {
        sleep(LOOK_AGAIN).await;
        let left = RECONNECT.saturating_sub(self.outage(acquisition).away_for);
        self.key.fleet.is_up_within(left).await;
    }

    /// The outage of the store as this flight sees it: a store that is there, and of no use, is away since it was asked in
    /// vain for the first time in a row.
    fn outage(&self, acquisition: &Acquisition) -> Outage {
        let (state, wanted) = (self.key.fleet.state(), &acquisition.wanted);
        let since = match state.down {
            Some(_) => state.since,
            None => acquisition.no_use.since(Instant::now()),
        };
        let (known, fingerprint) = (self.key.known(), wanted.fingerprint());
        let now = Instant::now();
        Outage {
            away_for: since.elapsed(),
            lease_time: self.lease_time(),
            asker: match known.is_own(fingerprint) {
                true if known.is_alone_with(fingerprint) => Asker::Alone,
                true => Asker::Own,
                false => Asker::Other,
            },
            age: wanted.token_age(now),
            current: match wanted.has_live_token(now) {
                true if wanted.is_refused => Current::Refused,
                true => Current::Usable,
                false => Current::Ended,
            },
        }
    }
}

/// Lets a call through while the lease lasts for it, or is had again.
struct FleetLease<'a> {
    key: &'a FleetKey,
    flights: &'a Flights,
    lease_time: Duration,
    passed_over: &'a [u64],
    state: Mutex<FleetLeaseState>,
}

struct FleetLeaseState {
    lease: Lease,
    calls: u32,
    is_lost: bool,
}

impl CallLease for FleetLease<'_> {
    fn hold(&self) -> Holding<'_> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            let now = Instant::now();
            if self.flights.are_ending() {
                return Err(Failure::LeaseLost);
            }
            if now + self.key.dialect().timeout <= state.lease.until {
                state.calls += 1;
                return Ok(());
            }
            // Who was held up in the middle of a call goes on to nothing else.
            let is_overrun = now >= state.lease.until && state.calls > 0;
            if !is_overrun && let Ok(Answer::Won(lease)) = self.ask_again(state.lease.number).await
            {
                state.lease.number = lease.number;
                state.lease.until = lease.until;
                state.calls += 1;
                return Ok(());
            }
            state.is_lost = true;
            self.key.fleet.series().leased(LeaseResult::Lost);
            Err(Failure::LeaseLost)
        })
    }
}

impl FleetLease<'_> {
    async fn ask_again(&self, highest: u64) -> Result<Answer, Error> {
        let question = Question {
            lease: Some(self.lease_time),
            is_awaited: true,
            ..Question::look(self.passed_over, highest)
        };
        self.key.fleet.ask(self.key.entry(), question).await
    }
}
