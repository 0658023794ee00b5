//! Dialing: TCP, and TLS above it where it is wanted.
//!
//! It knows nothing of Redis. Every step has a timeout of its own, so that a network with long delays is slow and not
//! broken.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, InvalidMessage, OtherError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::{Kind, StoreError};
use bursar_tls::client::{Asked, Noticed};

/// A name's addresses are found, and one of them takes the connection, within this time; so is each later step.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// What bytes are read from and written to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// A name or an address.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// How to connect.
pub(super) struct Dial<'a> {
    pub(super) place: &'a Place,
    /// None: without TLS.
    pub(super) tls: Option<&'a Arc<ClientConfig>>,
    /// Whom the certificate has to be for. None: whoever the place names.
    pub(super) name: Option<&'a str>,
    /// With which of a name's addresses to begin, so that one that is gone does not keep all attempts to itself.
    pub(super) attempt: usize,
}

/// A connection that nothing was said on yet.
pub(super) struct Dialed {
    pub(super) stream: Box<dyn Stream>,
    /// The server has asked for a client certificate. With TLS 1.3 it says only later that it wants one.
    pub(super) lacks_certificate: bool,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

/// Connects.
pub(super) async fn dial(dial: Dial<'_>) -> Result<Dialed, StoreError> {
    let connecting = timeout(STEP_TIMEOUT, tcp(dial.place, dial.attempt)).await;
    let tcp = connecting
        .map_err(|_elapsed| StoreError::timed_out("TCP"))?
        .map_err(|error| StoreError::unsent(Kind::Unreachable).because(error))?;
    // Where that fails, small commands are slower.
    drop(tcp.set_nodelay(true));
    let Some(config) = dial.tls else {
        return Ok(Dialed {
            stream: Box::new(tcp),
            lacks_certificate: false,
        });
    };
    let name = dial.name.unwrap_or(&dial.place.host).to_owned();
    let name =
        ServerName::try_from(name).map_err(|_invalid| StoreError::unsent(Kind::Certificate))?;
    let noticed = Noticed::default();
    let handshake = TlsConnector::from(config.clone()).connect(name, tcp);
    let handshake = noticed.during(handshake);
    let shaken = timeout(STEP_TIMEOUT, handshake)
        .await
        .map_err(|_elapsed| StoreError::timed_out("TLS").with_kind(Kind::TlsTimedOut))?;
    let lacks_certificate = noticed.asked() == Asked::Lacking;
    let stream = shaken.map_err(|error| {
        let kind = match (fault(&error), lacks_certificate) {
            (Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))), _)
                if is_of_authority(why) =>
            {
                Kind::AuthorityCertificate
            }
            (Some(rustls::Error::InvalidCertificate(_)), _) => Kind::Certificate,
            (Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)), _) => {
                Kind::NoTls
            }
            (Some(rustls::Error::AlertReceived(_)), true) => Kind::ClientCertificate,
            _ => Kind::Tls,
        };
        StoreError::unsent(kind).because(error)
    })?;
    Ok(Dialed {
        stream: Box::new(stream),
        lacks_certificate,
    })
}

/// Whether a certificate is fine but for somebody else.
pub(super) fn is_for_another_name(error: &StoreError) -> bool {
    let Some(io) = error.io() else { return false };
    matches!(
        fault(io),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    )
}

/// Whether that is webpki's word for an authority's certificate that a server shows.
fn is_of_authority(why: &OtherError) -> bool {
    why.to_string().contains("CaUsedAsEndEntity")
}

fn fault(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The first of a name's addresses that takes the connection.
async fn tcp(place: &Place, attempt: usize) -> io::Result<TcpStream> {
    let found = tokio::net::lookup_host((&*place.host, place.port)).await?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    let begin = attempt.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(begin);
    TcpStream::connect(&*addresses).await
}
