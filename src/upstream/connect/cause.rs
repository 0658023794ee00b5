//! Cause of a failed connection, in one word, found in the chain of errors that connecting ended with.

use std::error::Error;
use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use crate::upstream::egress::Denied;
use bursar_base::process;
use bursar_telemetry::metrics::Cause;
use bursar_tls::client::Asked;

/// Of an error before TLS began.
pub(super) fn before_tls(error: &(dyn Error + 'static)) -> Cause {
    for error in chain(error) {
        match error.downcast_ref() {
            Some(Denied::Rule(_)) => return Cause::AddressNotAllowed,
            Some(Denied::Unresolved(error)) => return unresolved(error),
            None => {}
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return of_kind(error.kind()).unwrap_or(Cause::Unreachable);
        }
    }
    Cause::Unreachable
}

/// Of an error in a TLS handshake, in which the server asked for that before.
pub(super) fn in_tls(error: &(dyn Error + 'static), asked: Asked) -> Cause {
    let lacks_certificate = asked == Asked::Lacking;
    if let Some(error) = chain(error).find_map(|error| error.downcast_ref()) {
        return match error {
            rustls::Error::InvalidCertificate(error) => certificate(error),
            rustls::Error::AlertReceived(_) if lacks_certificate => Cause::TlsClientCertificate,
            rustls::Error::AlertReceived(alert) => alerted(*alert),
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Cause::TlsVersion,
            _ => Cause::TlsOther,
        };
    }
    let kinds = chain(error).filter_map(|error| error.downcast_ref());
    match kinds.map(io::Error::kind).find_map(of_kind) {
        Some(Cause::Reset) if lacks_certificate => Cause::TlsClientCertificate,
        Some(cause) => cause,
        None => Cause::TlsOther,
    }
}

/// Whether TLS ended without the close_notify that marks an end as meant (RFC 8446 section 6.1), so that more may have
/// been to come.
pub(super) fn lacks_close_notify(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| {
        let of_http2 = error.downcast_ref().and_then(h2::Error::get_io);
        let error = error.downcast_ref().or(of_http2);
        // rustls has no code for it, only these words.
        error.is_some_and(|error| {
            error.kind() == ErrorKind::UnexpectedEof && error.to_string().contains("close_notify")
        })
    })
}

/// Whether it is for a lack of file descriptors, which says nothing about the server.
pub(super) fn lacks_descriptors(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|error| error.downcast_ref())
        .any(process::lacks_descriptors)
}

/// With what is inside of an [`io::Error`], which is no source of it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error = *error;
        match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn of_kind(kind: ErrorKind) -> Option<Cause> {
    Some(match kind {
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::TimedOut => Cause::TimedOut,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Cause::Reset,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => Cause::Unreachable,
        _ => return None,
    })
}

/// The standard library has no code for it, only the words of the system's resolver (glibc's, musl's).
fn unresolved(error: &io::Error) -> Cause {
    const NOT_FOUND: [&str; 4] = [
        "not known",
        "No address associated",
        "does not resolve",
        "no usable address",
    ];
    let words = error.to_string();
    let is_said = NOT_FOUND.iter().any(|said| words.contains(said));
    match is_said || error.kind() == ErrorKind::NotFound {
        true => Cause::NameNotFound,
        false => Cause::NameFailed,
    }
}

fn certificate(error: &CertificateError) -> Cause {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::TlsExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Cause::TlsNotYetValid
        }
        // An issuer of the right name with another key is not the one that is known.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::TlsUnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Cause::TlsWrongName
        }
        CertificateError::Revoked => Cause::TlsRevoked,
        _ => Cause::TlsOther,
    }
}

/// What a server complains of that ends a handshake (RFC 8446 section 6.2).
fn alerted(alert: AlertDescription) -> Cause {
    match alert {
        AlertDescription::ProtocolVersion => Cause::TlsVersion,
        // It knows nobody of the name that was asked for (RFC 6066 section 3).
        AlertDescription::UnrecognisedName => Cause::TlsWrongName,
        // Of certificates it has seen one, or none: ours.
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate => Cause::TlsClientCertificate,
        _ => Cause::TlsOther,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resolver_says_is_told_apart_by_its_words() {
        let of = |words: &str| {
            let words = format!("failed to lookup address information: {words}");
            before_tls(&Denied::Unresolved(io::Error::other(words)))
        };
        for (words, cause) in [
            ("Name or service not known", Cause::NameNotFound),
            ("No address associated with hostname", Cause::NameNotFound),
            ("Name does not resolve", Cause::NameNotFound),
            ("Temporary failure in name resolution", Cause::NameFailed),
            (
                "Non-recoverable failure in name resolution",
                Cause::NameFailed,
            ),
            ("Try again", Cause::NameFailed),
        ] {
            assert_eq!(of(words), cause, "{words}");
        }
        let nothing = Denied::Unresolved(ErrorKind::NotFound.into());
        assert_eq!(before_tls(&nothing), Cause::NameNotFound);
    }

    #[test]
    fn what_the_network_says_is_found_wherever_it_is_in_the_chain() {
        for (kind, cause) in [
            (ErrorKind::ConnectionRefused, Cause::Refused),
            (ErrorKind::NetworkUnreachable, Cause::Unreachable),
            (ErrorKind::HostUnreachable, Cause::Unreachable),
            (ErrorKind::PermissionDenied, Cause::Unreachable),
            (ErrorKind::TimedOut, Cause::TimedOut),
        ] {
            let error = io::Error::new(kind, io::Error::other("x"));
            assert_eq!(before_tls(&error), cause, "{kind}");
        }
    }

    #[test]
    fn an_end_without_close_notify_is_told_from_all_other_ends() {
        let words = "peer closed connection without sending TLS close_notify: https://x";
        let error = |kind, words: &str| io::Error::new(kind, words.to_owned());
        let plain = error(ErrorKind::UnexpectedEof, words);
        assert!(lacks_close_notify(&plain));
        assert!(lacks_close_notify(&io::Error::other(plain)));
        let others = [
            error(ErrorKind::ConnectionReset, words),
            error(ErrorKind::UnexpectedEof, "unexpected end of file"),
            ErrorKind::UnexpectedEof.into(),
        ];
        for other in others {
            assert!(!lacks_close_notify(&other), "{other}");
        }
    }

    #[test]
    fn a_handshake_that_breaks_off_is_told_apart_by_what_the_server_asked_for() {
        let eof = io::Error::from(ErrorKind::UnexpectedEof);
        assert_eq!(in_tls(&eof, Asked::Nothing), Cause::Reset);
        assert_eq!(in_tls(&eof, Asked::Lacking), Cause::TlsClientCertificate);
        let alert = |alert| {
            let error = rustls::Error::AlertReceived(alert);
            io::Error::new(ErrorKind::InvalidData, error)
        };
        for (description, cause) in [
            (AlertDescription::HandshakeFailure, Cause::TlsOther),
            (AlertDescription::InternalError, Cause::TlsOther),
            (AlertDescription::ProtocolVersion, Cause::TlsVersion),
            (
                AlertDescription::CertificateRequired,
                Cause::TlsClientCertificate,
            ),
            (AlertDescription::UnknownCA, Cause::TlsClientCertificate),
        ] {
            let error = alert(description);
            assert_eq!(in_tls(&error, Asked::Nothing), cause, "{description:?}");
            assert_eq!(in_tls(&error, Asked::Lacking), Cause::TlsClientCertificate);
        }
        let revoked = rustls::Error::InvalidCertificate(CertificateError::Revoked);
        assert_eq!(in_tls(&revoked, Asked::Nothing), Cause::TlsRevoked);
    }
}
