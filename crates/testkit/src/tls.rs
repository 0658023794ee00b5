//! Certificates for one test: an authority, servers and callers that it vouches for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The provider's lines that trust the authority of [`directory`].
pub const CA: &str = "tls: {ca: ca.pem}";

/// A directory with an authority's certificate in `ca.pem`.
#[must_use]
pub fn directory() -> (TempDir, Authority) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(&directory.path().join("ca.pem"));
    (directory, authority)
}

/// Whether a server wants its peer to show a certificate of the same authority.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    Ignored,
    /// It is asked for one, and may do without.
    Optional,
    Required,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One without a name.
    #[must_use]
    pub fn new() -> Self {
        Self::of(CertificateParams::default())
    }

    /// One with a name.
    pub fn named(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        Self::of(parameters)
    }

    /// One that ends after so long.
    pub fn ending(lifetime: Duration) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.not_after = time::OffsetDateTime::now_utc() + lifetime;
        Self::of(parameters)
    }

    fn of(mut parameters: CertificateParams) -> Self {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    /// Writes its certificate to a file, for `tls.ca`.
    pub fn write(&self, file: &Path) {
        std::fs::write(file, self.0.pem()).unwrap();
    }

    /// Its key.
    pub fn key_pem(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// A certificate and its key as PEM; a name with a colon is a URI.
    pub fn sign(&self, names: &[&str], common_name: &str) -> (String, String) {
        self.sign_with(names, common_name, |_| {})
    }

    /// The same, valid for a while only.
    pub fn sign_for(&self, lifetime: Duration, names: &[&str]) -> (String, String) {
        self.sign_with(names, "", |parameters| {
            parameters.not_after = time::OffsetDateTime::now_utc() + lifetime;
        })
    }

    fn sign_with(
        &self,
        names: &[&str],
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let (uris, names): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        let uris = uris
            .into_iter()
            .map(|uri| SanType::URI(uri.try_into().unwrap()));
        parameters.subject_alt_names.extend(uris);
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, common_name);
        change(&mut parameters);
        let pair = KeyPair::generate().unwrap();
        let signed = parameters.signed_by(&pair, &self.0).unwrap();
        (signed.pem(), pair.serialize_pem())
    }

    /// Writes a client's certificate and key, for `tls.certificate` and `tls.key`.
    pub fn write_client(&self, certificate: &Path, key: &Path) {
        let pair = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(["bursar.test".to_owned()]).unwrap();
        let signed = parameters.signed_by(&pair, &self.0).unwrap();
        std::fs::write(certificate, signed.pem()).unwrap();
        std::fs::write(key, pair.serialize_pem()).unwrap();
    }

    /// A server at 127.0.0.1, `api.test` and `login.test` that speaks these protocols.
    pub fn server(&self, alpn: &[&str], client: ClientCertificate) -> Arc<ServerConfig> {
        let (chain, key) = self.identity();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if client == ClientCertificate::Ignored {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match client {
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
                ClientCertificate::Ignored | ClientCertificate::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().unwrap())
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A server whose certificate is for these names, and otherwise changed.
    pub fn server_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign_with(names, "", change);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }

    /// A server of TLS 1.2 that wants a client certificate.
    pub fn server_of_tls12(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.identity();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }

    fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let pair = KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "api.test", "login.test"].map(str::to_owned);
        let parameters = CertificateParams::new(names).unwrap();
        let signed = parameters.signed_by(&pair, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        (vec![signed.der().clone()], key)
    }
}

/// A client that trusts an authority and nobody else, and shows a certificate with its key, perhaps.
pub fn client(ca: &Path, shown: Option<(&Path, &Path)>, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}
