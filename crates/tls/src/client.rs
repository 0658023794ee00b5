//! Client configurations of rustls from PEM: whom Bursar trusts, and who it is to servers.
//!
//! Certificates are always verified; there is no switch to turn that off. What rustls calls dangerous is a verifier that is not
//! its own: [`Verifier`] asks rustls's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use crate::roots::{Roots, Verifier};
use crate::unsupported::{self, Unsupported};
use crate::words;
use bursar_base::regular_file;

/// No bundle of certificates is longer.
pub(crate) const MAX_BUNDLE_BYTES: u64 = 16 << 20;

/// The configurations of a provider. They share trust and client certificate.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// For API requests: HTTP/2 and HTTP/1.1 by ALPN.
    pub api: Arc<ClientConfig>,
    /// For API requests over HTTP/2 alone.
    pub http2: Arc<ClientConfig>,
    /// For token calls, one call to a connection, and API requests over HTTP/1.1 alone.
    pub http1: Arc<ClientConfig>,
    /// Of roots, certificates and key: from equal ones equal configurations are made.
    digest: [u8; 32],
    /// When the client certificate ends, in seconds since 1970. None: there is none.
    pub expiry: Option<i64>,
}

impl ClientTls {
    /// Names whom it trusts and what it shows.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// A client certificate with its chain and key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    File(#[from] regular_file::Error),
    /// It holds broken PEM.
    #[error("{}", words::of_pem(.0))]
    Pem(#[from] pem::Error),
    /// Nobody gives the password.
    #[error(
        "is encrypted; write it without a password (`openssl pkey -in KEY -out NEW`), readable by Bursar alone"
    )]
    Encrypted,
    /// The file is fine but holds nothing of use.
    #[error("holds no certificate")]
    NoCertificate,
    /// The same of a key.
    #[error("holds no private key")]
    NoKey,
    /// It holds certificates that nothing can be done with.
    #[error("cannot be used: {0}")]
    Unsupported(#[from] Unsupported),
    /// A certificate or a key is of a kind that rustls does not take.
    #[error("cannot be used: {}", words::of_rustls(.0))]
    Rustls(#[from] rustls::Error),
    /// They do not belong together.
    #[error(
        "the private key in {} is not the key of the certificate in {}", key.display(), certificate.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
    /// Whoever it has vouches for nobody else.
    #[error(
        "holds no certificate of an authority (CA:TRUE, and for signing certificates where it says what it is for)"
    )]
    NoAuthority,
    /// The distribution has none, and no variable names any.
    #[error("no system roots found; install ca-certificates, set SSL_CERT_FILE, or set tls.ca")]
    NoSystemRoots,
    /// A variable of the environment names what cannot be used.
    #[error("{variable} names {}, which {error}", path.display())]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
        /// Why that cannot be used.
        error: Box<Self>,
    },
}

impl Error {
    pub(crate) fn of_variable(self, variable: &'static str, path: PathBuf) -> Self {
        Self::Variable {
            variable,
            path,
            error: Box::new(self),
        }
    }
}

/// Who is trusted.
#[derive(Debug)]
pub struct Trusted {
    /// For verifying.
    pub roots: Roots,
    /// What stands in the file.
    pub certificates: Vec<CertificateDer<'static>>,
    /// How many of them can vouch for nobody, and why the first cannot.
    pub unsupported: Option<(usize, Unsupported)>,
}

/// The roots in a PEM file.
///
/// # Errors
/// Where it cannot be read, or holds none that can be worked with.
pub fn roots_from(path: &Path) -> Result<Trusted, Error> {
    roots_of(&pem(path)?)
}

/// The roots in PEM text.
///
/// # Errors
/// Where it holds none that can be worked with.
pub fn roots_of(pem: &[u8]) -> Result<Trusted, Error> {
    let mut authorities = RootCertStore::empty();
    let certificates = certificates_of(pem)?;
    let (mut own, mut unsupported) = (Vec::new(), Vec::new());
    for certificate in &certificates {
        if unsupported::may_sign(certificate) {
            authorities.add(certificate.clone())?;
        } else {
            RootCertStore::empty().add(certificate.clone())?;
            own.push(certificate.clone());
        }
        unsupported.extend(unsupported::check_key(certificate).err());
    }
    let first = unsupported.first().copied();
    match first {
        Some(first) if unsupported.len() == certificates.len() => Err(Error::Unsupported(first)),
        _ => Ok(Trusted {
            roots: Roots {
                authorities: Arc::new(authorities),
                own,
            },
            certificates,
            unsupported: first.map(|first| (unsupported.len(), first)),
        }),
    }
}

/// A certificate chain from a PEM file, which is to be shown to others.
///
/// # Errors
/// Where it cannot be read, or holds none that can be shown.
pub fn own_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = certificates(path)?;
    if let Some(own) = chain.first() {
        unsupported::check_own(own)?;
    }
    Ok(chain)
}

/// The text of a PEM file, whatever it holds.
///
/// # Errors
/// Where it cannot be read.
pub fn pem(path: &Path) -> Result<regular_file::Content, Error> {
    Ok(regular_file::read(path, MAX_BUNDLE_BYTES)?)
}

/// A certificate chain from a PEM file.
///
/// # Errors
/// Where it cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates_of(&pem(path)?)
}

fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(Error::NoCertificate);
    }
    Ok(found)
}

/// A private key from a PEM file.
///
/// # Errors
/// Where it cannot be read, or holds none.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    key_of(&pem(path)?)
}

pub(crate) fn key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    // PKCS #8 and the form before it (RFC 1421 section 4.6.1.1) say so in clear.
    let says = |text: &[u8]| memchr::memmem::find(pem, text).is_some();
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(_) if says(b"BEGIN ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED") => {
            Err(Error::Encrypted)
        }
        Err(pem::Error::NoItemsFound) => Err(Error::NoKey),
        Err(error) => Err(error.into()),
    }
}

/// Whether a key is that of a chain's first certificate; the paths are those of the files that they were read from.
///
/// # Errors
/// Where it is not, or is of no kind that can be used.
pub fn check_pair(
    (certificate, chain): (&Path, &[CertificateDer<'static>]),
    (path, key): (&Path, &PrivateKeyDer<'static>),
) -> Result<(), Error> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Error::Mismatch {
            key: path.to_owned(),
            certificate: certificate.to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// The configurations that trust `roots` and present `identity`.
///
/// # Errors
/// Where the identity's key and certificate do not belong together.
pub fn configure(roots: &Roots, identity: Option<Identity>) -> Result<ClientTls, Error> {
    let digest = digest(roots, identity.as_ref());
    let own = identity.as_ref().and_then(|(chain, _)| chain.first());
    let expiry = own.and_then(expiry);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(roots, &provider)?));
    let mut api = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    api.client_auth_cert_resolver = Arc::new(Noticing(api.client_auth_cert_resolver));
    let (mut http1, mut http2) = (api.clone(), api.clone());
    api.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    http2.alpn_protocols = vec![b"h2".to_vec()];
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(ClientTls {
        api: Arc::new(api),
        http2: Arc::new(http2),
        http1: Arc::new(http1),
        digest,
        expiry,
    })
}

/// What a server has asked its client for in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Asked {
    /// For no certificate.
    #[default]
    Nothing,
    /// For one, and there was one to show.
    Shown,
    /// For one, and there was none to show, or none of the wanted kind.
    Lacking,
}

tokio::task_local! {
    /// What the server of a handshake has asked for. The resolver is shared by all handshakes, because sessions are
    /// resumed only with the same one; it is called while the handshake is polled.
    static ASKED: Arc<AtomicU8>;
}

/// Shakes hands, and says what the server asked for meanwhile.
#[derive(Debug, Default)]
pub struct Noticed(Arc<AtomicU8>);

impl Noticed {
    /// Shakes hands.
    pub async fn during<T>(&self, handshake: impl Future<Output = T>) -> T {
        ASKED.scope(self.0.clone(), handshake).await
    }

    /// What was asked for so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        match self.0.load(Ordering::Relaxed) {
            shown if shown == Asked::Shown as u8 => Asked::Shown,
            lacking if lacking == Asked::Lacking as u8 => Asked::Lacking,
            _ => Asked::Nothing,
        }
    }
}

/// Shows what another one shows, and notes what that is.
#[derive(Debug)]
struct Noticing(Arc<dyn ResolvesClientCert>);

impl ResolvesClientCert for Noticing {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.resolve(issuers, schemes);
        let asked = match &shown {
            Some(_) => Asked::Shown,
            None => Asked::Lacking,
        };
        let noted = ASKED.try_with(|noticed| noticed.store(asked as u8, Ordering::Relaxed));
        debug_assert!(noted.is_ok());
        shown
    }

    fn has_certs(&self) -> bool {
        self.0.has_certs()
    }
}

/// Whoever has to replace a certificate wants to know so long before its end.
pub const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it begins to be.
    pub begin: i64,
    /// When it ends.
    pub end: i64,
}

/// From when to when a certificate is valid; None: it is malformed.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some(Validity {
        begin: validity.not_before.timestamp(),
        end: validity.not_after.timestamp(),
    })
}

/// When a certificate ends, in seconds since 1970; None: it is malformed.
#[must_use]
pub fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    validity(certificate).map(|validity| validity.end)
}

fn digest(roots: &Roots, identity: Option<&Identity>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    };
    for root in &roots.authorities.roots {
        add(&root.subject);
        add(&root.subject_public_key_info);
        add(root.name_constraints.as_deref().unwrap_or_default());
    }
    // What is trusted as it is, is told from authorities, and those from a chain.
    add(&[]);
    roots.own.iter().for_each(|own| add(own));
    if let Some((chain, key)) = identity {
        // Roots and chain are told apart.
        add(&[]);
        chain.iter().for_each(|certificate| add(certificate));
        add(key.secret_der());
    }
    let mut digest = [0; 32];
    let found = context.finish();
    digest
        .iter_mut()
        .zip(found.as_ref())
        .for_each(|(to, from)| *to = *from);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_key_is_told_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFHzBJ\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,7C\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = key(&path).unwrap_err();
            assert!(error.to_string().starts_with("is encrypted"), "{error}");
        }
    }
}
