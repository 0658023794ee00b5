//! Which routes does a provider refuse, whatever the token? What 401s and 403s have told about a token key.
//!
//! Some providers answer 401 where a token lacks the scope for a route (PayU), and nothing in the answer says so. A
//! renewal that helped nothing tells: the route's further 401s do not renew that generation for a while. That says
//! nothing about other routes, whose 401s renew as ever, and nothing about another generation. An answer that is no
//! refusal ends it.
//!
//! The list is behind a mutex, held for a look; requests that are not refused look at `any` alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::backoff::doubled;
use crate::clock;

/// How long a generation is left alone that was obtained because of a route's 401, and refused there again.
const SUSPECT_TIME: Duration = Duration::from_secs(10);
/// The same where the provider never took a token on that route, but did on others of the key.
const UNTAKEN_TIME: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10 * 60));
/// Of one token key; the oldest is forgotten, and costs one renewal more.
const MAX_ROUTES: usize = 64;

/// A request that a provider answered 401.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The generation that it was sent with.
    pub(super) sent: u64,
    /// Its route.
    pub(super) route: Arc<str>,
    /// Whether the provider never took a token on that route, but did on others of the key.
    pub(super) is_untaken: bool,
}

/// The routes of one token key that were refused.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Refusals {
    /// Whether the list has any.
    any: AtomicBool,
    list: Mutex<Vec<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    route: Arc<str>,
    /// What was obtained in vain, and until when it is left alone.
    lesson: Option<(u64, Instant)>,
    /// Renewals in vain since the provider took a token there.
    in_vain: u32,
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
    /// Whether that is news.
    pub(super) fn learn(&self, asked: &Asked, generation: u64, now: Instant) -> bool {
        let mut list = self.list();
        for refusal in list.iter_mut() {
            // It was obtained in vain, so it is no better for the routes that refused the one before.
            if let Some((known, _)) = &mut refusal.lesson
                && known.checked_add(1) == Some(generation)
            {
                *known = generation;
            }
        }
        let refusal = self.of(&mut list, &asked.route);
        refusal.unauthorized += 1;
        let is_known = |(known, until): (u64, Instant)| known == generation && now < until;
        if refusal.lesson.is_some_and(is_known) {
            return false;
        }
        let pause = match asked.is_untaken {
            true => doubled(UNTAKEN_TIME, refusal.in_vain),
            false => SUSPECT_TIME,
        };
        refusal.in_vain = refusal.in_vain.saturating_add(1);
        refusal.lesson = Some((generation, now + pause));
        refusal.in_vain == 1
    }

    /// Whether a 401 on that generation is one that another token would not mend.
    pub(super) fn holds(&self, asked: &Asked, now: Instant) -> bool {
        if !self.any() {
            return false;
        }
        let mut list = self.list();
        let refusal = list.iter_mut().find(|refusal| {
            refusal.route == asked.route
                && matches!(refusal.lesson, Some((known, until)) if known == asked.sent && now < until)
        });
        if let Some(refusal) = refusal {
            refusal.unauthorized += 1;
            refusal.last = clock::wall();
            return true;
        }
        false
    }

    /// Whether a generation was refused on some route again after it was obtained for it; on that one, where one
    /// is named.
    pub(super) fn is_suspect(&self, generation: u64, route: Option<&Arc<str>>) -> bool {
        let is_of = |refusal: &Refusal| {
            refusal.lesson.is_some_and(|(known, _)| known == generation)
                && route.is_none_or(|route| refusal.route == *route)
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

    /// The provider took a token on that route.
    pub(super) fn taken(&self, route: &Arc<str>) {
        let mut list = self.list();
        list.retain(|refusal| refusal.route != *route);
        self.any.store(!list.is_empty(), Ordering::Relaxed);
    }

    /// Another configuration is in force, whose routes and scopes may be others: nothing is left alone for long.
    pub(super) fn begin_again(&self, now: Instant) {
        let mut list = self.list();
        list.retain_mut(|refusal| match &mut refusal.lesson {
            Some((_, until)) if now < *until => {
                *until = (*until).min(now + SUSPECT_TIME);
                true
            }
            _ => false,
        });
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
        list.iter().map(show).collect()
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
                lesson: None,
                in_vain: 0,
                unauthorized: 0,
                forbidden: 0,
                since: now,
                last: now,
            });
            list.len() - 1
        });
        self.any.store(true, Ordering::Relaxed);
        let refusal = &mut list[place];
        refusal.last = now;
        refusal
    }
}
