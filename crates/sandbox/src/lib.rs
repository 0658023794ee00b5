//! Emulated providers: the four on loopback, to try the proxy with. They know nothing of the proxy, and no build of it
//! that holds real secrets need contain them.
//!
//! There is one file for each provider; [`provider`] has what they share.

mod alternative_payments;
mod call;
mod certificates;
mod error;
mod issuing;
mod paylater;
mod payu;
mod provider;
mod quidkey;

use std::time::Duration;

use certificates::Certificates;
pub use error::Error;
pub use payu::EXAMPLE as PAYU_EXAMPLE;
pub use provider::{Dialect, Provider};

/// The four.
static DIALECTS: [&Dialect; 4] = [
    &paylater::DIALECT,
    &payu::DIALECT,
    &alternative_payments::DIALECT,
    &quidkey::DIALECT,
];

/// The running providers.
#[derive(Debug)]
pub struct Providers {
    /// The certificate of the authority that vouches for all of them, as PEM.
    pub ca_pem: String,
    /// They.
    pub all: Vec<Provider>,
}

/// Starts the providers; their access tokens have that lifetime.
///
/// # Errors
/// Where certificates cannot be made, or there is no port.
pub async fn start(token_lifetime: Duration) -> Result<Providers, Error> {
    let certificates = Certificates::new()?;
    let mut all = Vec::new();
    for dialect in DIALECTS {
        let tls = certificates.server()?;
        all.push(Provider::start(dialect, tls, token_lifetime).await?);
    }
    Ok(Providers {
        ca_pem: certificates.ca_pem(),
        all,
    })
}

#[cfg(test)]
mod tests;
