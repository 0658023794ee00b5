//! Where do requests find a cell? Behind a handle that has the cell's token beside it.
//!
//! With ten thousand accounts everything of an account is out of the processor's cache when a request comes for
//! it: who finds a fresh token here does not look at the cell.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use tokio::time::Instant;

use super::cell::{Cell, State};
use super::lease::{Lease, Recovery};
use super::refusals::Asked;

/// A cell, and its token.
pub struct Handle {
    state: Arc<State>,
    cell: Arc<Cell>,
    /// On which routes the provider took a token since the configuration is in force: bits by their places.
    taken: AtomicU64,
}

/// A request's route, for what is learnt about it.
#[derive(Debug, Clone, Copy)]
pub struct RouteRef<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// Its place among its provider's.
    pub place: usize,
}

impl RouteRef<'_> {
    /// Beyond 64 some routes share a bit: then less is learnt about them.
    fn bit(self) -> u64 {
        1 << (self.place % 64)
    }
}

impl Handle {
    /// As [`Cell::read`].
    #[must_use]
    pub fn read(&self, now: Instant) -> Option<Lease> {
        self.state.read(now, &self.cell)
    }

    /// The provider's answer is not a 401.
    pub fn answered(&self, route: RouteRef<'_>, status: StatusCode) {
        let is_known = self.taken.load(Ordering::Relaxed) & route.bit() != 0;
        if is_known && !self.state.refusals.any() && status != StatusCode::FORBIDDEN {
            return;
        }
        self.note(route, status);
    }

    #[cold]
    fn note(&self, route: RouteRef<'_>, status: StatusCode) {
        match status.as_u16() {
            403 => self.state.refusals.forbidden(route.name),
            // Said by what stands before the API, perhaps.
            407 | 408 | 429 | 500.. => {}
            _ => {
                self.taken.fetch_or(route.bit(), Ordering::Relaxed);
                self.state.refusals.taken(route.name);
            }
        }
    }

    fn asked(&self, sent: u64, route: RouteRef<'_>) -> Asked {
        let taken = self.taken.load(Ordering::Relaxed);
        Asked {
            sent,
            route: route.name.clone(),
            is_untaken: taken != 0 && taken & route.bit() == 0,
        }
    }

    /// What to do about a 401 that a request with generation `sent` was answered with.
    pub async fn recover(&self, sent: u64, route: RouteRef<'_>) -> Recovery {
        self.cell.recover_from(self.asked(sent, route)).await
    }

    /// Renews because of a 401 without anybody waiting: the request cannot be replayed.
    pub fn renew(&self, sent: u64, route: RouteRef<'_>) {
        self.cell.renew_after(self.asked(sent, route));
    }

    /// A replay with that generation was answered 401 again.
    pub fn replay_refused(&self, generation: u64, route: RouteRef<'_>) {
        self.cell.replay_was_refused(&self.asked(generation, route));
    }

    /// The provider says that a token lacks a scope for the route.
    pub fn insufficient(&self, route: RouteRef<'_>) {
        self.state.refusals.insufficient(route.name);
    }
}

/// What was taken on which routes is each one's own from then on.
impl Clone for Handle {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            cell: self.cell.clone(),
            taken: AtomicU64::new(self.taken.load(Ordering::Relaxed)),
        }
    }
}

impl From<Arc<Cell>> for Handle {
    fn from(cell: Arc<Cell>) -> Self {
        let state = cell.state.clone();
        let taken = AtomicU64::new(0);
        Self { state, cell, taken }
    }
}

impl Deref for Handle {
    type Target = Arc<Cell>;

    fn deref(&self) -> &Arc<Cell> {
        &self.cell
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(formatter)
    }
}
