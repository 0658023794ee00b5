//! Errors of the emulated providers: why they cannot be started.

use std::io;

/// Why the providers cannot be emulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate can be made.
    #[error("the sandbox has no certificates")]
    Certificate(#[from] rcgen::Error),
    /// One cannot be used.
    #[error("the sandbox's certificate is unusable")]
    Tls(#[from] rustls::Error),
    /// There is no port.
    #[error("the sandbox's providers cannot listen")]
    Listen(#[from] io::Error),
}
