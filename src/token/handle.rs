//! Where do requests find a cell? Behind a handle that has the cell's token beside it.
//!
//! With ten thousand accounts everything of an account is out of the processor's cache when a request comes for
//! it: who finds a fresh token here does not look at the cell.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use tokio::time::Instant;

use super::cell::{Cell, State};
use super::lease::Lease;

/// A cell, and its token.
#[derive(Clone)]
pub struct Handle {
    state: Arc<State>,
    cell: Arc<Cell>,
}

impl Handle {
    /// As [`Cell::read`].
    #[must_use]
    pub fn read(&self, now: Instant) -> Option<Lease> {
        self.state.read(now, &self.cell)
    }
}

impl From<Arc<Cell>> for Handle {
    fn from(cell: Arc<Cell>) -> Self {
        let state = cell.state.clone();
        Self { state, cell }
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
