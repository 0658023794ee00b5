//! Routes that a provider refuses whatever the token, and the quarantine of tokens that were renewed for them in vain.
//!
//! Some providers answer 401 where a token lacks the scope for a route (PayU), and nothing in the response says so. A
//! renewal that helped nothing tells: the route's further 401s do not renew that generation for 10 seconds, even where
//! the route's name stands for other requests too, which are not refused. Other routes' 401s still renew it, so that
//! a refused route hides no revocation from them. Nothing is said about another generation.
//!
//! Where a refresh token may have brought the generation, that is what is thought to be at fault first: nothing is said of
//! the route before a token of client credentials was refused there, too.
//!
//! The list is behind a mutex, held for a look; requests that are not refused look at `any` alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::access_token::CachedToken;
use bursar_base::clock;

/// How long a generation is left alone that was obtained because of a route's 401, and refused there again.
const QUARANTINE: Duration = Duration::from_secs(10);
/// How long it is remembered of a route that answers otherwise too, so that its 401s are not accepted for revocations.
/// And how long no refresh token is dropped for a route that refuses what client credentials bring, too.
const MEMORY: Duration = Duration::from_secs(5 * 60);
/// Of one token key; the oldest is forgotten, and costs one renewal more.
const MAX_ROUTES: usize = 64;

/// A request that a provider answered 401.
#[derive(Debug, Clone)]
pub(super) struct Unauthorized {
    /// The generation that it was sent with.
    pub(super) sent: u64,
    /// Its route.
    pub(super) route: Arc<str>,
    /// Whether it waits for the next token. Where it does not, the route's next request shows what that is worth.
    pub(super) is_replayed: bool,
}

/// The routes of one token key that were refused.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Refusals {
    /// Whether the list has any.
    any: AtomicBool,
    list: Mutex<Vec<Refusal>>,
}

/// A generation that was obtained in vain, and until when the route's 401s do not renew it.
#[derive(Debug, Clone, Copy)]
struct Quarantine {
    generation: u64,
    until: Instant,
}

/// What a token tells that was obtained because of a route's 401, and refused there again, or was the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InVain {
    /// It may be the refresh token's fault: client credentials are to be tried next.
    RefreshToken,
    /// The route refuses whatever the token; whether that is news.
    Route { is_news: bool },
}

#[derive(Debug)]
struct Refusal {
    route: Arc<str>,
    quarantine: Option<Quarantine>,
    /// What was refused here, and may have been a refresh token's fault.
    refreshed: Option<u64>,
    /// When a token of client credentials was refused here.
    client_credentials: Option<Instant>,
    /// What was obtained for a request that was not replayed, until the provider takes it there.
    untried: Option<u64>,
    unauthorized: u64,
    forbidden: u64,
    since: SystemTime,
    last: SystemTime,
}

/// A route that the provider refuses with the scopes of a token key.
#[derive(Debug, Clone)]
pub struct RefusedRoute {
    /// Its name.
    pub route: Arc<str>,
    /// 401s that went to callers because another token did not help.
    pub unauthorized: u64,
    /// 403s.
    pub forbidden: u64,
    /// When the first came.
    pub since: SystemTime,
    /// When the last came.
    pub last: SystemTime,
}

impl Refusals {
    fn list(&self) -> MutexGuard<'_, Vec<Refusal>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are any at all.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// A generation that was obtained because of the route's 401 was refused there again, or was the old token.
    pub(super) fn renewed_in_vain(
        &self,
        unauthorized: &Unauthorized,
        may_be_refreshed: bool,
        now: Instant,
    ) -> InVain {
        let generation = unauthorized.sent;
        let quarantine = Quarantine {
            generation,
            until: now + QUARANTINE,
        };
        let mut list = self.list();
        for other in list
            .iter_mut()
            .filter(|other| other.route != unauthorized.route)
        {
            // It was obtained in vain, so it is no better for the routes that refused it or the one before.
            if let Some(known) = &mut other.quarantine
                && (known.generation.checked_add(1) == Some(generation)
                    || (known.generation == generation && now >= known.until))
            {
                *known = quarantine;
            }
        }
        let refusal = self.of(&mut list, &unauthorized.route);
        if !may_be_refreshed {
            refusal.client_credentials = Some(now);
        } else if !refusal.refuses_client_credentials(now) {
            refusal.refreshed = Some(generation);
            return InVain::RefreshToken;
        }
        refusal.unauthorized += 1;
        let is_news = refusal.quarantine.is_none();
        if !refusal.quarantines(generation, now) {
            refusal.quarantine = Some(quarantine);
        }
        InVain::Route { is_news }
    }

    /// Another instance's token follows that generation: it is no better for the routes that are left alone now, and
    /// where it was obtained because of a 401 there too, they are left alone for as long again. That holds where they were
    /// left alone until lately as well: their time is over at all instances at once, and one of them has tried since.
    pub(super) fn succeed(&self, before: u64, next: &CachedToken, now: Instant) {
        if !self.any() {
            return;
        }
        let mut list = self.list();
        let quarantines = list
            .iter_mut()
            .filter_map(|refusal| refusal.quarantine.as_mut());
        for known in quarantines.filter(|known| known.generation == before) {
            if next.after_unauthorized && now < known.until + QUARANTINE {
                known.until = now + QUARANTINE;
            }
            if now < known.until {
                known.generation = next.generation;
            }
        }
    }

    /// Whether a 401 on that generation is one that another token would not mend.
    pub(super) fn declines(&self, unauthorized: &Unauthorized, now: Instant) -> bool {
        if !self.any() {
            return false;
        }
        let mut list = self.list();
        let refusal = list.iter_mut().find(|refusal| {
            refusal.route == unauthorized.route && refusal.quarantines(unauthorized.sent, now)
        });
        if let Some(refusal) = refusal {
            refusal.unauthorized += 1;
            refusal.last = clock::wall();
            return true;
        }
        false
    }

    /// Whether that generation was obtained for a request of the route that was not replayed, and no other request
    /// of the route was answered otherwise since.
    pub(super) fn is_untried(&self, unauthorized: &Unauthorized) -> bool {
        let is_of = |refusal: &Refusal| {
            refusal.route == unauthorized.route && refusal.untried == Some(unauthorized.sent)
        };
        self.any() && self.list().iter().any(is_of)
    }

    /// That generation was obtained for a request that is not replayed.
    pub(super) fn try_next(&self, route: &Arc<str>, generation: u64) {
        self.of(&mut self.list(), route).untried = Some(generation);
    }

    /// Whether a generation is left alone for now, on whatever route; on that one, where one is named.
    pub(super) fn is_quarantined(
        &self,
        generation: u64,
        route: Option<&Arc<str>>,
        now: Instant,
    ) -> bool {
        let is_of = |refusal: &Refusal| {
            refusal.quarantines(generation, now)
                && route.is_none_or(|route| refusal.route == *route)
        };
        self.any() && self.list().iter().any(is_of)
    }

    /// Whether some route refused that generation, and a refresh token may have been at fault.
    pub(super) fn is_refreshed_in_vain(&self, generation: u64) -> bool {
        let is_of = |refusal: &Refusal| refusal.refreshed == Some(generation);
        self.any() && self.list().iter().any(is_of)
    }

    /// Whether the route refused a token of client credentials lately.
    pub(super) fn is_refused_to_client_credentials(&self, route: &Arc<str>, now: Instant) -> bool {
        let is_of =
            |refusal: &Refusal| refusal.route == *route && refusal.refuses_client_credentials(now);
        self.any() && self.list().iter().any(is_of)
    }

    /// Whether it is known that a 401 may be for a missing scope, or for a refresh token: the token was obtained in vain,
    /// or the route refused one that was.
    pub(super) fn explains(&self, unauthorized: &Unauthorized) -> bool {
        let is_of = |refusal: &Refusal| {
            refusal.refreshed == Some(unauthorized.sent)
                || refusal.quarantine.is_some_and(|known| {
                    known.generation == unauthorized.sent || refusal.route == unauthorized.route
                })
        };
        self.any() && self.list().iter().any(is_of)
    }

    /// The provider says outright that a token lacks a scope for the route.
    pub(super) fn insufficient(&self, route: &Arc<str>) {
        self.of(&mut self.list(), route).unauthorized += 1;
    }

    /// The provider answered 403.
    pub(super) fn forbidden(&self, route: &Arc<str>) {
        self.of(&mut self.list(), route).forbidden += 1;
    }

    /// The provider took that generation on that route. What was learnt stays, because a route's name may stand for
    /// requests that are refused and others that are not; it is not shown any more.
    pub(super) fn accepted(&self, route: &Arc<str>, generation: u64, now: Instant) {
        let mut list = self.list();
        list.retain_mut(|refusal| {
            // A late response to an older one says nothing.
            let is_late = refusal.newest().is_some_and(|newest| generation < newest);
            if refusal.route != *route || is_late {
                return true;
            }
            (refusal.unauthorized, refusal.forbidden) = (0, 0);
            (refusal.untried, refusal.refreshed) = (None, None);
            let quarantine = refusal.quarantine;
            quarantine.is_some_and(|known| now < known.until + MEMORY)
                || refusal.refuses_client_credentials(now)
        });
        self.any.store(!list.is_empty(), Ordering::Relaxed);
    }

    /// Another configuration is in force, whose routes and scopes may be others.
    pub(super) fn reset(&self, now: Instant) {
        let mut list = self.list();
        list.retain(|refusal| refusal.quarantine.is_some_and(|known| now < known.until));
        self.any.store(!list.is_empty(), Ordering::Relaxed);
    }

    /// What there is to show.
    pub(super) fn snapshot(&self) -> Vec<RefusedRoute> {
        let list = self.list();
        let show = |refusal: &Refusal| RefusedRoute {
            route: refusal.route.clone(),
            unauthorized: refusal.unauthorized,
            forbidden: refusal.forbidden,
            since: refusal.since,
            last: refusal.last,
        };
        let is_refused = |refusal: &&Refusal| refusal.unauthorized + refusal.forbidden > 0;
        list.iter().filter(is_refused).map(show).collect()
    }

    /// The route's entry, a new one where there is none.
    fn of<'a>(&self, list: &'a mut Vec<Refusal>, route: &Arc<str>) -> &'a mut Refusal {
        let now = clock::wall();
        let place = list.iter().position(|refusal| refusal.route == *route);
        let place = place.unwrap_or_else(|| {
            if list.len() >= MAX_ROUTES {
                list.remove(0);
            }
            list.push(Refusal {
                route: route.clone(),
                quarantine: None,
                refreshed: None,
                client_credentials: None,
                untried: None,
                unauthorized: 0,
                forbidden: 0,
                since: now,
                last: now,
            });
            list.len() - 1
        });
        self.any.store(true, Ordering::Relaxed);
        let refusal = &mut list[place];
        if refusal.unauthorized + refusal.forbidden == 0 {
            refusal.since = now;
        }
        refusal.last = now;
        refusal
    }
}

impl Refusal {
    /// Whether the route's 401s do not renew that generation now.
    fn quarantines(&self, generation: u64, now: Instant) -> bool {
        self.quarantine
            .is_some_and(|known| known.generation == generation && now < known.until)
    }

    /// Whether the route refused a token of client credentials lately.
    fn refuses_client_credentials(&self, now: Instant) -> bool {
        self.client_credentials
            .is_some_and(|then| now < then + MEMORY)
    }

    /// The newest generation that anything is known about.
    fn newest(&self) -> Option<u64> {
        self.untried
            .max(self.refreshed)
            .max(self.quarantine.map(|known| known.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::access_token::Lifespan;
    use bursar_base::secret::Secret;

    #[test]
    fn another_instances_token_begins_a_quarantine_anew_unless_it_ended_long_ago() {
        let route: Arc<str> = "payouts".into();
        let refused = |sent| Unauthorized {
            sent,
            route: route.clone(),
            is_replayed: true,
        };
        let begun = Instant::now();
        for (after, is_anew) in [(0, true), (10, true), (19, true), (21, false), (600, false)] {
            let refusals = Refusals::default();
            refusals.renewed_in_vain(&refused(1), false, begun);
            let now = begun + Duration::from_secs(after);
            let span = Lifespan {
                issued: now,
                lifetime: Duration::from_secs(300),
                margin: Duration::ZERO,
                reserve: Duration::ZERO,
            };
            let mut next = CachedToken::new(&Secret::new("t".into()), 2, span).unwrap();
            next.after_unauthorized = true;
            refusals.succeed(1, &next, now);
            assert_eq!(refusals.declines(&refused(2), now), is_anew, "{after} s");
        }
    }
}
