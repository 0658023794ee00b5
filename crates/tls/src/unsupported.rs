//! Certificates that ring and webpki cannot work with, as far as a file shows it.
//!
//! Of an authority that is trusted the key counts, and nothing else: neither its version nor what signs it is looked at
//! (RFC 5280 section 6.1.1). A certificate of one's own must be of version 3, with a key that can sign.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

const RSA: &str = "1.2.840.113549.1.1.1";
const ELLIPTIC_CURVE: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";
/// ECDSA with SHA-512.
const ECDSA_SHA512: &str = "1.2.840.10045.4.3.4";
/// Bits that an RSA key may have.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What cannot be worked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A curve that is none of the two.
    #[error("its key is of the curve {0}; P-256 and P-384 are supported")]
    Curve(&'static str),
    /// An RSA key that is too short or too long.
    #[error("its RSA key has {0} bits; 2048 to 8192 are supported")]
    RsaBits(usize),
    /// Another kind of key.
    #[error(
        "its key is of a kind that is not supported; RSA (rsaEncryption), P-256, P-384 and Ed25519 are"
    )]
    Key,
    /// A certificate without extensions.
    #[error("it is of X.509 version 1; have one of version 3 made, with a subjectAltName")]
    Version1,
}

/// Why an authority with that certificate can vouch for nobody.
///
/// # Errors
/// Where it cannot.
pub fn check_key(certificate: &CertificateDer<'_>) -> Result<(), Unsupported> {
    // What is malformed is told by whoever reads it.
    parsed(certificate).map_or(Ok(()), |parsed| key(&parsed))
}

/// The same of a certificate that is shown to others.
///
/// # Errors
/// Where it cannot be shown.
pub(crate) fn check_own(certificate: &CertificateDer<'_>) -> Result<(), Unsupported> {
    let Some(parsed) = parsed(certificate) else {
        return Ok(());
    };
    if parsed.version() == X509Version::V1 {
        return Err(Unsupported::Version1);
    }
    key(&parsed)
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed)
}

fn key(certificate: &X509Certificate<'_>) -> Result<(), Unsupported> {
    let key = certificate.public_key();
    match &*key.algorithm.algorithm.to_id_string() {
        ED25519 => Ok(()),
        ELLIPTIC_CURVE => match &*curve(certificate) {
            P256 | P384 => Ok(()),
            P521 => Err(Unsupported::Curve("P-521")),
            _ => Err(Unsupported::Key),
        },
        RSA => match key.parsed() {
            Ok(PublicKey::RSA(key)) if !RSA_BITS.contains(&key.key_size()) => {
                Err(Unsupported::RsaBits(key.key_size()))
            }
            _ => Ok(()),
        },
        _ => Err(Unsupported::Key),
    }
}

/// The curve's identifier; empty where none is named.
fn curve(certificate: &X509Certificate<'_>) -> String {
    let parameters = certificate.public_key().algorithm.parameters.as_ref();
    let curve = parameters.and_then(|parameters| parameters.as_oid().ok());
    curve.map_or_else(String::new, |curve| curve.to_id_string())
}

/// Whether a key of P-256 has signed its own certificate with SHA-512, as it will sign others': those are refused.
#[must_use]
pub fn signs_with_sha512(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_some_and(|parsed| {
        parsed.subject() == parsed.issuer()
            && parsed.signature_algorithm.algorithm.to_id_string() == ECDSA_SHA512
            && curve(&parsed) == P256
    })
}

/// Whether it is an authority's: a server that shows it is refused.
#[must_use]
pub fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_some_and(|parsed| parsed.is_ca())
}

/// Whether it may vouch for others (RFC 5280 sections 4.2.1.3 and 4.2.1.9). Version 1 has nothing that says so, and
/// there are roots of it.
#[must_use]
pub fn may_sign(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_none_or(|parsed| {
        let usage = parsed.key_usage();
        let is_for_it =
            usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
        parsed.version() == X509Version::V1 || parsed.is_ca() && is_for_it
    })
}

/// Whether it names nobody where names are looked for. One in the common name is looked at by few.
#[must_use]
pub fn is_nameless(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_some_and(|parsed| {
        let names = parsed.subject_alternative_name();
        names.is_ok_and(|names| names.is_none_or(|names| names.value.general_names.is_empty()))
    })
}

/// Whether a server of that name, or at that address, would show it.
#[must_use]
pub fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (
        ParsedCertificate::try_from(certificate),
        ServerName::try_from(host),
    ) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn made(
        names: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate_for(algorithm).unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn keys_that_ring_can_use_are_good_for_authorities_and_for_oneself() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            let certificate = made(&["a.test"], algorithm, |_| {});
            assert_eq!(check_key(&certificate), Ok(()));
            assert_eq!(check_own(&certificate), Ok(()));
            assert!(!signs_with_sha512(&certificate));
        }
    }

    #[test]
    fn an_authority_and_a_certificate_without_a_name_are_known() {
        let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
        let plain = made(&["a.test", "10.0.0.1"], algorithm, |_| {});
        let authority = made(&["a.test"], algorithm, |parameters| {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        let nameless = made(&[], algorithm, |_| {});
        let all = [&plain, &authority, &nameless];
        assert_eq!(all.map(|one| is_authority(one)), [false, true, false]);
        assert_eq!(all.map(|one| is_nameless(one)), [false, false, true]);
        assert_eq!(all.map(|one| is_for(one, "a.test")), [true, true, false]);
        assert!(is_for(&plain, "10.0.0.1"));
        assert!(!is_for(&plain, "b.test") && !is_for(&plain, "10.0.0.2"));
        assert!(!is_for(&plain, ""));
    }
}
