//! Late refusal of a client by a TLS 1.3 server: of the certificate that it showed, or because it had none.
//!
//! The client's handshake is over before the server has looked at its certificate (RFC 8446 section 2), so a refusal comes
//! when a request may have been written already. The server has read none of it then: it takes no application data
//! before the client is authenticated. So a connection on which a certificate was asked for is watched until something of
//! a response comes. Where there was none to show, the server has a moment for its word before anything is sent.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use super::egress::DialPolicy;
use super::peer::Peer;
use bursar_telemetry::metrics::Cause;

/// How long a server that got no certificate has for its word: twice the handshake's time, within these limits. Most
/// say at once that they are content, by a ticket.
const LEAST_WAIT: Duration = Duration::from_millis(250);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Waits until the server has shown whether it does without a certificate; true: it has shown that it does. A server
/// that says nothing may still refuse.
///
/// # Errors
/// Where it ends the connection, in whatever way.
pub(super) async fn confirmed<S>(stream: &mut TlsStream<S>, handshake: Duration) -> io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let confirming = poll_fn(|context| {
        let read = Pin::new(&mut *stream).poll_fill_buf(context);
        let read = read.map_ok(|bytes| !bytes.is_empty());
        match read {
            Poll::Ready(Ok(true)) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(false)) => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // One is sent once the handshake is over for the server, too.
            Poll::Pending if stream.get_ref().1.tls13_tickets_received() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    });
    let wait = (2 * handshake).clamp(LEAST_WAIT, LONGEST_WAIT);
    match tokio::time::timeout(wait, confirming).await {
        Ok(confirmed) => confirmed.map(|()| true),
        Err(_elapsed) => Ok(false),
    }
}

/// A connection whose server may still refuse the client.
#[derive(Debug)]
pub(crate) struct Watch {
    peer: Arc<Peer>,
    policy: DialPolicy,
}

impl Watch {
    pub(super) fn new(peer: &Arc<Peer>, policy: &DialPolicy) -> Self {
        Self {
            peer: peer.clone(),
            policy: policy.clone(),
        }
    }

    /// Something of a response came: the client is taken.
    pub(super) fn taken(&self) {
        self.policy.set_health(&self.peer.host, None);
    }

    /// Reading failed before anything of a response came.
    pub(super) fn failed(&self, error: &io::Error) {
        let Some(alert) = alert(error).filter(refuses_client) else {
            return;
        };
        let cause = Cause::TlsClientCertificate;
        let host = &self.peer.host;
        self.policy.set_health(host, Some(cause));
        self.policy.failed(host, cause, || {
            format!("TLS failed: the server refused the client after the handshake: {alert:?}")
        });
        self.peer.refuse();
    }
}

fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Whether an alert can only end a handshake, and by way of what the client showed of itself (RFC 8446 section 6.2). Any
/// other may come after a request, too.
fn refuses_client(alert: &AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::InsufficientSecurity
            | AlertDescription::CertificateRequired
    )
}
