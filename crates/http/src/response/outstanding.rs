//! Outstanding request of a connection: what its response depends on, and what was read of the response here.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Response};

/// The request that a connection is to answer next, and what was read of the answer here. The one who sends requests
/// and the reader of responses share it: there is no more than one request at a time, so what either writes
/// is written before the other looks, because a request and its answer pass between them.
#[derive(Debug, Default)]
pub struct Outstanding {
    request: AtomicU8,
    has_fields: AtomicBool,
    fields: Mutex<HeaderMap>,
}

/// No request since the last one that the reader knows of.
const NONE: u8 = 0;
const HEAD: u8 = 1;
const OTHER: u8 = 2;

impl Outstanding {
    /// For a connection.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A request is about to be sent.
    pub fn begin(&self, method: &Method) {
        let request = if *method == Method::HEAD { HEAD } else { OTHER };
        self.request.store(request, Ordering::Relaxed);
    }

    /// Adds the fields that hyper did not see to its response.
    pub fn complete<B>(&self, response: &mut Response<B>) {
        if self.has_fields.load(Ordering::Relaxed) {
            self.has_fields.store(false, Ordering::Relaxed);
            let fields = std::mem::take(&mut *self.lock());
            let all = response.headers_mut();
            // There are no more than a map holds: hyper has seen three at most.
            all.extend(fields);
        }
    }

    /// Whether the request that has just begun to be written is a `HEAD`; None where none has.
    pub(super) fn take_request(&self) -> Option<bool> {
        match self.request.load(Ordering::Relaxed) {
            NONE => None,
            request => {
                self.request.store(NONE, Ordering::Relaxed);
                Some(request == HEAD)
            }
        }
    }

    pub(super) fn put(&self, fields: HeaderMap) {
        *self.lock() = fields;
        self.has_fields.store(true, Ordering::Relaxed);
    }

    /// A panic while it was locked left a whole map.
    fn lock(&self) -> std::sync::MutexGuard<'_, HeaderMap> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
