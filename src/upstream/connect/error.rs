//! Errors of connecting: which part of it failed, in one word and in many.

use std::sync::Arc;

use super::cause;
use crate::upstream::peer::Peer;
use bursar_base::address::Rule;
use bursar_base::terminal::plain;
use bursar_telemetry::line_writer::cut;
use bursar_telemetry::metrics::Cause;
use bursar_tls::client::Asked;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// As many bytes of an error get into the log; what is cut is marked.
const MAX_DETAILS: usize = 500;

/// What was being done when the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The name was being resolved.
    Name,
    /// TCP was being connected.
    Tcp,
    /// The parent proxy was connecting, or was being connected to.
    Parent,
    /// TLS was shaking hands.
    Tls,
}

impl Step {
    pub(super) const ALL: [Self; 4] = [Self::Name, Self::Tcp, Self::Parent, Self::Tls];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "to resolve the name",
            Self::Tcp => "to connect",
            Self::Parent => "to connect through the parent proxy",
            Self::Tls => "in the TLS handshake",
        }
    }
}

/// Why there is no connection. In any case no byte of a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address of the name may be connected to.
    #[error("no address is allowed (egress rule {})", .0.as_str())]
    NotAllowed(Rule),
    /// The name did not resolve, or no address accepted.
    #[error("cannot connect")]
    Unreachable(#[source] BoxError),
    /// The parent proxy cannot be reached, or does not connect.
    #[error("the parent proxy does not connect")]
    Parent(#[source] BoxError),
    /// The handshake failed, or the certificate is not to be trusted.
    #[error("TLS failed")]
    Tls {
        /// Why.
        #[source]
        source: BoxError,
        /// What the server asked for before.
        asked: Asked,
    },
    /// The server speaks nothing that was offered (RFC 7301 section 3.2).
    #[error("the server speaks no protocol that was offered")]
    NoProtocol,
    /// It took longer than it may.
    #[error("it took too long {}", .0.as_str())]
    TimedOut(Step),
}

/// There is none.
#[derive(Debug, thiserror::Error)]
#[error("there is no connection")]
pub struct Failed {
    /// Why.
    #[source]
    pub error: Error,
    /// Whose it would be.
    pub peer: Arc<Peer>,
}

impl Error {
    /// The same in one word.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::NotAllowed(_) => Cause::AddressNotAllowed,
            Self::Unreachable(error) => cause::before_tls(&**error),
            Self::Parent(_) | Self::TimedOut(Step::Parent) => Cause::ParentProxy,
            Self::Tls { source, asked } => cause::in_tls(&**source, *asked),
            Self::NoProtocol => Cause::TlsOther,
            Self::TimedOut(Step::Name) => Cause::NameFailed,
            Self::TimedOut(Step::Tcp | Step::Tls) => Cause::TimedOut,
        }
    }

    /// Whether the parent proxy took too long.
    #[must_use]
    pub fn is_slow_parent(&self) -> bool {
        matches!(self, Self::TimedOut(Step::Parent))
    }

    /// Whether it is for a lack of file descriptors, which says nothing about the server.
    #[must_use]
    pub fn lacks_descriptors(&self) -> bool {
        cause::lacks_descriptors(self)
    }

    /// With all that is behind it, for the log: names and addresses, no secrets. A certificate may hold any text.
    #[must_use]
    pub fn details(&self) -> String {
        details(self)
    }
}

/// An error on a connection with all that is behind it, for the log.
#[must_use]
pub fn details(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    let text = in_plain_words(&text).unwrap_or(text);
    let text = plain(&text);
    cut(&text, MAX_DETAILS).unwrap_or_else(|| text.into_owned())
}

/// What rustls and webpki say in identifiers alone, and what that means.
const WORDS: [(&str, &str); 6] = [
    (
        "UnknownIssuer",
        "no trusted authority has signed it, or the server leaves out a certificate in between",
    ),
    (
        "BadSignature",
        "a signature is not by the trusted authority of that name, or not by the certificate's key",
    ),
    ("BadEncoding", "it is malformed"),
    (
        "UnsupportedSignatureAlgorithm",
        "its key or signature is of a kind that is not supported, such as P-521, or SHA-512 by a P-256 key",
    ),
    (
        "CaUsedAsEndEntity",
        "it is an authority's, and no server may show such a one",
    ),
    (
        "UnsupportedCertVersion",
        "it is of X.509 version 1, or one that signed it is",
    ),
];

fn in_plain_words(text: &str) -> Option<String> {
    const CERTIFICATE: &str = "invalid peer certificate: ";
    let (before, said) = text.split_once(CERTIFICATE)?;
    let (identifier, meaning) = WORDS.iter().find(|(said_so, _)| said.contains(said_so))?;
    Some(format!("{before}{CERTIFICATE}{meaning} ({identifier})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_certificates_cannot_have_is_told_in_words() {
        let words = |error: rustls::CertificateError| {
            let error = rustls::Error::InvalidCertificate(error);
            details(&error)
        };
        let authority = rustls::OtherError(Arc::new(webpki_error("CaUsedAsEndEntity")));
        let said = words(rustls::CertificateError::Other(authority));
        assert_eq!(
            said,
            "invalid peer certificate: it is an authority's, and no server may show such a one (CaUsedAsEndEntity)"
        );
        let unknown = words(rustls::CertificateError::UnknownIssuer);
        assert_eq!(
            unknown,
            "invalid peer certificate: no trusted authority has signed it, or the server leaves out a certificate in between (UnknownIssuer)"
        );
        let expired = words(rustls::CertificateError::Expired);
        assert_eq!(expired, "invalid peer certificate: Expired");
    }

    fn webpki_error(said: &str) -> std::io::Error {
        std::io::Error::other(said.to_owned())
    }

    #[test]
    fn what_is_cut_of_an_error_is_marked_and_controls_are_escaped() {
        let error = |text: String| Error::Unreachable(text.into()).details();
        assert_eq!(error("a\u{1b}b".to_owned()), "cannot connect: a\\u{1b}b");
        let long = error("x".repeat(3000));
        assert!(long.ends_with("x…[3016 bytes]"), "{long}");
        assert!(long.len() <= MAX_DETAILS);
    }

    #[test]
    fn a_time_out_is_of_whoever_was_waited_for() {
        for (step, expected, words) in [
            (Step::Name, Cause::NameFailed, "resolve the name"),
            (Step::Tcp, Cause::TimedOut, "to connect"),
            (Step::Parent, Cause::ParentProxy, "parent proxy"),
            (Step::Tls, Cause::TimedOut, "TLS handshake"),
        ] {
            let error = Error::TimedOut(step);
            assert_eq!(error.cause(), expected);
            let details = error.details();
            assert!(details.ends_with(words), "{details}");
        }
    }
}
