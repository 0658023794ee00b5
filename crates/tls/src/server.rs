//! TLS on `listen`: its files, what was read from them, and who a caller's certificate says that it is.
//!
//! A reload replaces what was read: connections take what is there, and a certificate that was shown before is verified
//! again once other authorities sign for callers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
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

/// TLS for one connection.
#[derive(Debug, Clone)]
pub struct Current {
    /// For the handshake.
    pub config: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970.
    expiry: Option<i64>,
    /// None: callers are not asked for certificates.
    client_ca: Option<Arc<ClientCa>>,
}

/// Who signs for callers.
#[derive(Debug)]
struct ClientCa {
    authorities: Vec<TrustAnchor<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, Default)]
pub struct CertificateNames {
    /// The URIs and DNS names in its subjectAltName; a DNS name that holds a colon is none, and must not
    /// get in here, because it would pass for a URI.
    pub names: Vec<Box<str>>,
    /// None: for ever.
    pub until: Option<Instant>,
    /// None: nothing vouches for it but the handshake.
    pub chain: Option<Arc<ShownChain>>,
}

impl CertificateNames {
    /// None once it has expired, or no authority vouches for it any more: a connection may outlive both.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        let has_expired = self.until.is_some_and(|until| Instant::now() >= until);
        let is_vouched = || self.chain.as_ref().is_none_or(|chain| chain.is_vouched());
        match !has_expired && is_vouched() {
            true => &self.names,
            false => &[],
        }
    }
}

/// The certificates that a caller has shown, the first of which is its own.
#[derive(Debug)]
pub struct ShownChain {
    certificates: Vec<CertificateDer<'static>>,
    tls: Arc<Tls>,
    verified: ArcSwap<Verified>,
}

#[derive(Debug)]
struct Verified {
    /// None: nobody is asked for certificates any more.
    by: Option<Arc<ClientCa>>,
    is_vouched: bool,
}

impl ShownChain {
    /// Whether an authority of now vouches for it. It is verified once for each reload that changes them.
    fn is_vouched(&self) -> bool {
        let current = self.tls.current.load();
        let same = |verified: &Verified| match (&verified.by, &current.client_ca) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let verified = self.verified.load();
        if same(&verified) {
            return verified.is_vouched;
        }
        let by = current.client_ca.clone();
        let is_vouched = match (&by, self.certificates.split_first()) {
            (Some(client_ca), Some((own, others))) => {
                let now = UnixTime::now();
                let vouched = client_ca.verifier.verify_client_cert(own, others, now);
                vouched.is_ok()
            }
            _ => false,
        };
        self.verified.store(Arc::new(Verified { by, is_vouched }));
        is_vouched
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

impl ClientCa {
    fn new(
        authorities: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, client::Error> {
        if authorities.is_empty() {
            return Err(client::Error::NoAuthority);
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider)
            .allow_unauthenticated()
            .build();
        Ok(Self {
            authorities: authorities.roots.clone(),
            verifier: verifier.map_err(|_no_roots| client::Error::NoCertificate)?,
        })
    }
}

impl Current {
    /// Who a caller is by the certificates that it has shown in a handshake of this `config`, and for as long as the
    /// authorities of `tls` vouch for it.
    ///
    /// # Errors
    /// Where its certificate is malformed.
    pub fn shown(
        &self,
        certificates: Option<&[CertificateDer<'static>]>,
        tls: &Arc<Tls>,
    ) -> io::Result<CertificateNames> {
        let Some(certificates @ [own, ..]) = certificates else {
            return Ok(CertificateNames::default());
        };
        let chain = ShownChain {
            certificates: certificates.to_vec(),
            tls: tls.clone(),
            verified: ArcSwap::from_pointee(Verified {
                by: self.client_ca.clone(),
                is_vouched: true,
            }),
        };
        Ok(CertificateNames {
            chain: Some(Arc::new(chain)),
            ..names(own)?
        })
    }
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
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// When the listener's certificate ends, in seconds since 1970; None: it is malformed.
    #[must_use]
    pub fn expiry(&self) -> Option<i64> {
        self.current.load().expiry
    }

    /// From now on connections are served as `other` says.
    pub fn become_like(&self, other: &Self) {
        let mut next = Current::clone(&other.current.load());
        let current = self.current.load();
        if let (Some(old), Some(new)) = (&current.client_ca, &next.client_ca)
            && old.authorities == new.authorities
        {
            // What it vouched for need not be verified again.
            next.client_ca = Some(old.clone());
        }
        self.current.store(Arc::new(next));
    }
}

fn read(files: &Files) -> Result<Current, Error> {
    let of = |key| move |error| Error { key, error };
    let chain = client::own_certificates(&files.certificate).map_err(of("certificate"))?;
    let key = client::key(&files.key).map_err(of("key"))?;
    client::check_pair((&files.certificate, &chain), (&files.key, &key)).map_err(of("key"))?;
    let expiry = chain.first().and_then(client::expiry);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| of("certificate")(error.into()))?;
    let client_ca = files.client_ca.as_ref().map(|client_ca| {
        let trusted = client::roots_from(client_ca)?;
        // A caller's own certificate would vouch for other callers.
        ClientCa::new(trusted.roots.authorities, provider)
    });
    let client_ca = client_ca.transpose().map_err(of("client_ca"))?;
    let builder = match &client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => builder.with_client_cert_verifier(client_ca.verifier.clone()),
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| of("certificate")(error.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if client_ca.is_some() {
        // A resumed session is not verified again: it would keep an expired client certificate alive.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Current {
        config: Arc::new(config),
        expiry,
        client_ca: client_ca.map(Arc::new),
    })
}

/// Who a verified certificate says that its holder is, and for how long. Its common name is no name of
/// it. A DNS name with a colon could pass for a URI, and a URI without one for a DNS name, so those are
/// left out.
fn names(certificate: &CertificateDer<'_>) -> io::Result<CertificateNames> {
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
        chain: None,
    })
}
