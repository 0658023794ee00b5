//! What libraries say of PEM and certificates in bytes and identifiers, in words. Nothing of a file is quoted: it may be a
//! key.

use rustls::pki_types::pem;
use rustls::{CertificateError, Error};

/// What is wrong with a file.
pub(crate) fn of_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let (what, marker) = match &**end_marker {
                b"CERTIFICATE" => ("a certificate", "CERTIFICATE"),
                b"PRIVATE KEY" => ("a private key", "PRIVATE KEY"),
                b"EC PRIVATE KEY" => ("a private key", "EC PRIVATE KEY"),
                b"RSA PRIVATE KEY" => ("a private key", "RSA PRIVATE KEY"),
                _ => {
                    return "ends in the middle of a section of PEM: its -----END line is missing"
                        .to_owned();
                }
            };
            format!("ends in the middle of {what}: -----END {marker}----- is missing")
        }
        pem::Error::IllegalSectionStart { .. } => {
            "is broken PEM: a line begins with -----BEGIN and does not end with -----".to_owned()
        }
        pem::Error::Base64Decode(_) => {
            "is broken PEM: what stands between -----BEGIN and -----END is not base64".to_owned()
        }
        other => format!("cannot be read as PEM: {other}"),
    }
}

/// What is wrong with a certificate or key of one's own.
pub(crate) fn of_rustls(error: &Error) -> String {
    match error {
        // It says of every certificate that it is a peer's.
        Error::InvalidCertificate(CertificateError::BadEncoding) => {
            "a certificate in it is malformed".to_owned()
        }
        Error::InvalidCertificate(other) => format!("a certificate in it is refused: {other}"),
        Error::General(what) => what.clone(),
        other => other.to_string(),
    }
}
