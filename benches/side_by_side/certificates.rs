//! An authority for the provider, and who trusts it.

use std::path::Path;
use std::sync::Arc;

use bursar_testkit::tls::Authority;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;

/// Writes `ca.pem`, `server.pem` and `server.key`.
pub(crate) fn write(dir: &Path) -> anyhow::Result<()> {
    // A name of its own, or its certificates would look as if they had signed themselves.
    let authority = Authority::named("side by side");
    authority.write(&dir.join("ca.pem"));
    let (certificate, key) = authority.sign(&["api.bench.test", "127.0.0.1"], "");
    std::fs::write(dir.join("server.pem"), certificate)?;
    std::fs::write(dir.join("server.key"), key)?;
    Ok(())
}

/// Trusts one authority. `resume`: whether handshakes may be short ones.
pub(crate) fn connector(ca: &Path, resume: bool) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}
