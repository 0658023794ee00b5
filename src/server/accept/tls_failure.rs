//! Failures of TLS with callers in tunnels, and what is probably behind them: a caller says it in an alert, or not at all.

use std::io;

use rustls::{AlertDescription, Error};

/// What is probably wrong, and what to do.
pub(super) fn probable_cause(error: &io::Error) -> &'static str {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::AlertReceived(alert)) => of_alert(*alert),
        Some(Error::PeerIncompatible(_)) => {
            "the caller offers no TLS version, cipher suite or signature that Bursar has; it needs TLS 1.2 or later"
        }
        Some(_) => "what the caller sent is no TLS",
        None if error.kind() == io::ErrorKind::TimedOut => {
            "the caller did not go on with the handshake in time"
        }
        // Many libraries hang up in the middle, and say nothing.
        None => {
            "the caller closed the connection; probably it does not trust the authority: give it /ca.pem"
        }
    }
}

fn of_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => {
            "the caller does not trust the authority: give it /ca.pem"
        }
        AlertDescription::UnsupportedCertificate => {
            "the caller does not take certificates of this kind: ECDSA with P-256"
        }
        AlertDescription::CertificateExpired => {
            "to the caller the certificate has expired; is its clock, or this machine's, right?"
        }
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity => {
            "the caller and Bursar have no TLS version or cipher suite in common"
        }
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => {
            "the caller closed the connection; probably it does not trust the authority: give it /ca.pem"
        }
        _ => "the caller broke the handshake off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_that_trusts_nobody_does_is_told_from_other_failures() {
        let tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let alert = |alert| tls(Error::AlertReceived(alert));
        for (error, said) in [
            (alert(AlertDescription::UnknownCA), "give it /ca.pem"),
            (alert(AlertDescription::BadCertificate), "give it /ca.pem"),
            (
                alert(AlertDescription::CertificateUnknown),
                "give it /ca.pem",
            ),
            (alert(AlertDescription::CertificateExpired), "clock"),
            (alert(AlertDescription::HandshakeFailure), "in common"),
            (
                alert(AlertDescription::InternalError),
                "broke the handshake off",
            ),
            (tls(Error::DecryptError), "no TLS"),
            (io::ErrorKind::UnexpectedEof.into(), "give it /ca.pem"),
            (io::ErrorKind::ConnectionReset.into(), "give it /ca.pem"),
            (io::ErrorKind::TimedOut.into(), "in time"),
        ] {
            assert!(probable_cause(&error).contains(said), "{error:?}");
        }
    }
}
