//! TLS on `listen`: its files, what was read from them, and who a caller's certificate says that it is.
//!
//! A reload replaces what was read; connections take what is there.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::time::Instant;
use x509_parser::extensions::GeneralName;

use crate::client;
use bursar_base::clock;

/// PEM files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The listener's certificate with its chain.
    pub certificate: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Who signs for callers; None: they are not asked for certificates.
    pub client_ca: Option<PathBuf>,
}

/// TLS as it is now.
#[derive(Debug)]
pub struct Tls {
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970.
    expiry: Option<i64>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, Default)]
pub struct CertificateNames {
    /// The URIs and DNS names in its subjectAltName; a DNS name that holds a colon is none, and must not
    /// get in here, because it would pass for a URI.
    pub names: Vec<Box<str>>,
    /// None: for ever.
    pub until: Option<Instant>,
}

impl CertificateNames {
    /// None once it has expired: a connection may outlive it.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        match self.until {
            Some(until) if Instant::now() >= until => &[],
            _ => &self.names,
        }
    }
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {error}")]
pub struct Error {
    /// The key of `tls` that names the file.
    pub key: &'static str,
    /// What is wrong with it.
    pub error: client::Error,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one of them cannot be used.
    pub fn load(files: &Files) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(read(files)?);
        Ok(Arc::new(Self { current }))
    }

    /// For the next connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// When the listener's certificate ends, in seconds since 1970; None: it is malformed.
    #[must_use]
    pub fn expiry(&self) -> Option<i64> {
        self.current.load().expiry
    }

    /// From now on connections are served as `other` says.
    pub fn become_like(&self, other: &Self) {
        self.current.store(other.current.load_full());
    }
}

fn read(files: &Files) -> Result<Current, Error> {
    let of = |key| move |error| Error { key, error };
    let chain = client::own_certificates(&files.certificate).map_err(of("certificate"))?;
    let key = client::key(&files.key).map_err(of("key"))?;
    let expiry = chain.first().and_then(client::expiry);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| of("certificate")(error.into()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let trusted = client::roots_from(client_ca).map_err(of("client_ca"))?;
            // A caller's own certificate would vouch for other callers.
            let authorities = trusted.roots.authorities;
            if authorities.is_empty() {
                return Err(of("client_ca")(client::Error::NoAuthority));
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider)
                .allow_unauthenticated()
                .build();
            let verifier =
                verifier.map_err(|_no_roots| of("client_ca")(client::Error::NoCertificate));
            builder.with_client_cert_verifier(verifier?)
        }
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| of("certificate")(error.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if files.client_ca.is_some() {
        // A resumed session is not verified again: it would keep an expired client certificate alive.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Current {
        config: Arc::new(config),
        expiry,
    })
}

/// Who a verified certificate says that its holder is, and for how long. Its common name is no name of
/// it. A DNS name with a colon could pass for a URI, and a URI without one for a DNS name, so those are
/// left out.
///
/// # Errors
/// Where it is malformed.
pub fn shown(certificate: &CertificateDer<'_>) -> io::Result<CertificateNames> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|_malformed| io::Error::from(io::ErrorKind::InvalidData))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_repeated| io::Error::from(io::ErrorKind::InvalidData))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let kept = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.contains(':') => Some((*uri).into()),
        GeneralName::DNSName(name) if !name.contains(':') => Some((*name).into()),
        _ => None,
    });
    let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end));
    let left = end.map(|end| end.duration_since(clock::wall()).unwrap_or_default());
    Ok(CertificateNames {
        names: kept.collect(),
        // Too far away to be an instant is for ever.
        until: left.and_then(|left| Instant::now().checked_add(left)),
    })
}
