//! The lease under which a token call is made: whoever shares a token key with others holds it, so that nobody else asks
//! the endpoint meanwhile.

use std::future::Future;
use std::pin::Pin;

use super::failure::Failure;

/// Looked at when a call's turn has come, right before it is made.
pub(super) trait CallLease: Send + Sync {
    /// Holds it for one call, or says why not: then nothing is sent.
    fn hold(&self) -> Holding<'_>;
}

/// What becomes of it.
pub(super) type Holding<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Where nobody else asks for the key, none is needed.
pub(super) struct NoLease;

impl CallLease for NoLease {
    fn hold(&self) -> Holding<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}
