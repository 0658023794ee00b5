//! How is TLS on `listen` kept current? Files, what was last read from them, and who a caller's certificate
//! says that it is.
//!
//! One task reads the files again and replaces the configuration; connections take what is there. What
//! cannot be used is logged, and the old one stays.

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

use crate::{clock, tls};

/// How often the files are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

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
    files: Files,
    current: ArcSwap<ServerConfig>,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The URIs and DNS names in its subjectAltName; a DNS name that holds a colon is none, and must not
    /// get in here, because it would pass for a URI.
    pub names: Vec<Box<str>>,
    /// None: for ever.
    pub until: Option<Instant>,
}

impl Shown {
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
    pub error: tls::Error,
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Where one of them cannot be used.
    pub fn load(files: Files) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::new(read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// For the next connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again whenever they have changed, until it is dropped.
    pub async fn keep_current(self: Arc<Self>) {
        let mut seen = None;
        loop {
            let this = self.clone();
            // A file system may take its time.
            let looked = tokio::task::spawn_blocking(move || this.look_again(seen));
            match looked.await {
                Ok(now) => seen = Some(now),
                Err(error) if error.is_panic() => {
                    tracing::error!(
                        "reading the files of `tls` failed badly; the old certificate stays"
                    );
                }
                Err(_shutting_down) => return,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn look_again(&self, seen: Option<Stamps>) -> Stamps {
        let now = self.files.stamps();
        // The first look may come after a change since the start, so it reads as well.
        if seen == Some(now) {
            return now;
        }
        match read(&self.files) {
            Ok(config) => {
                self.current.store(config);
                if seen.is_some() {
                    tracing::info!("`tls` was read again");
                }
            }
            Err(error) => {
                tracing::error!(%error, "`tls` has changed and cannot be used; the old certificate stays");
            }
        }
        now
    }
}

/// When each file was changed, and how long it is; None: it cannot be read.
type Stamps = [Option<(SystemTime, u64)>; 3];

impl Files {
    fn stamps(&self) -> Stamps {
        let files = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        files.map(|file| {
            let found = std::fs::metadata(file?).ok()?;
            Some((found.modified().ok()?, found.len()))
        })
    }
}

fn read(files: &Files) -> Result<Arc<ServerConfig>, Error> {
    let of = |key| move |error| Error { key, error };
    let chain = tls::certificates(&files.certificate).map_err(of("certificate"))?;
    let key = tls::key(&files.key).map_err(of("key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| of("certificate")(error.into()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let roots = tls::roots_from(client_ca).map_err(of("client_ca"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .allow_unauthenticated()
                .build();
            let verifier = verifier.map_err(|_no_roots| of("client_ca")(tls::Error::NoCertificate));
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
    Ok(Arc::new(config))
}

/// Who a verified certificate says that its holder is, and for how long. Its common name is no name of
/// it. A DNS name with a colon could pass for a URI, and a URI without one for a DNS name, so those are
/// left out.
///
/// # Errors
/// Where it is malformed.
pub fn shown(certificate: &CertificateDer<'_>) -> io::Result<Shown> {
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
    Ok(Shown {
        names: kept.collect(),
        // Too far away to be an instant is for ever.
        until: left.and_then(|left| Instant::now().checked_add(left)),
    })
}
