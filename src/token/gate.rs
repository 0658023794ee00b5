//! Gate before each token call: whoever shares a token key with others makes sure there that the endpoint is asked by
//! nobody else meanwhile.

use std::future::Future;
use std::pin::Pin;

use super::failure::Failure;

/// Looked at when a call's turn has come, right before it is made.
pub(super) trait Gate: Send + Sync {
    /// Lets the call through, or says why not: then nothing is sent.
    fn pass(&self) -> Passing<'_>;
}

/// What becomes of it.
pub(super) type Passing<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// The gate where nobody else asks for the key.
pub(super) struct OpenGate;

impl Gate for OpenGate {
    fn pass(&self) -> Passing<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}
