//! Roots of trust: authorities, which vouch for others, and servers' own certificates, which vouch for themselves alone.
//!
//! webpki takes any root for an authority, whatever the certificate says of itself (RFC 5280 section 6.1 has no certificates as
//! trust anchors). So whoever has the key of a server that is trusted as it is could sign for other servers.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Who is trusted.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Those that vouch for others.
    pub authorities: Arc<RootCertStore>,
    /// Those that vouch for themselves.
    pub own: Vec<CertificateDer<'static>>,
}

impl From<RootCertStore> for Roots {
    fn from(authorities: RootCertStore) -> Self {
        Self {
            authorities: Arc::new(authorities),
            own: Vec::new(),
        }
    }
}

/// Verifies servers' certificates.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// None: there are none.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<(CertificateDer<'static>, Arc<WebPkiServerVerifier>)>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// # Errors
    /// Where a certificate cannot be read.
    pub(crate) fn new(roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let verifier = |roots: Arc<RootCertStore>| {
            let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
            let built = builder.build();
            built.map_err(|error| Error::General(error.to_string()))
        };
        let authorities = Some(&roots.authorities).filter(|roots| !roots.is_empty());
        let authorities = authorities.cloned().map(verifier).transpose()?;
        let own = roots.own.iter().map(|own| {
            let mut alone = RootCertStore::empty();
            alone.add(own.clone())?;
            Ok((own.clone(), verifier(Arc::new(alone))?))
        });
        Ok(Self {
            authorities,
            own: own.collect::<Result<_, Error>>()?,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let own = self.own.iter().find(|(own, _)| own == end_entity);
        let verifier = own.map(|(_, verifier)| verifier);
        let verifier = verifier
            .or(self.authorities.as_ref())
            .ok_or(CertificateError::UnknownIssuer)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;
    use crate::client::roots_of;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn issuer(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        change(&mut parameters);
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    }

    fn signed(issuer: &Issuer, name: &str) -> CertificateDer<'static> {
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = parameters.signed_by(&key, issuer).unwrap();
        signed.der().clone()
    }

    fn takes(roots: &Roots, certificate: &CertificateDer<'_>, name: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(roots, &provider).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let verified = verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now());
        verified.is_ok()
    }

    #[test]
    fn a_servers_own_certificate_vouches_for_that_server_alone() {
        let authority = issuer("authority.test", |parameters| {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        let by_authority = signed(&authority, "one.test");
        let of_others: [fn(&mut CertificateParams); 3] = [
            |parameters| parameters.is_ca = IsCa::ExplicitNoCa,
            |parameters| parameters.is_ca = IsCa::NoCa,
            |parameters| {
                parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            },
        ];
        for (at, change) in of_others.into_iter().enumerate() {
            let own = issuer("own.test", change);
            let by_own = signed(&own, "one.test");
            for text in [own.pem(), own.pem() + &authority.pem()] {
                let roots = roots_of(text.as_bytes()).unwrap().roots;
                assert_eq!(roots.own, [own.der().clone()], "{at}");
                assert!(!takes(&roots, &by_own, "one.test"), "{at}");
                // webpki takes no authority's certificate for a server's.
                assert_eq!(takes(&roots, own.der(), "own.test"), at < 2, "{at}");
                assert!(!takes(&roots, own.der(), "one.test"), "{at}");
                let has_authority = !roots.authorities.is_empty();
                assert_eq!(takes(&roots, &by_authority, "one.test"), has_authority);
            }
        }
    }

    #[test]
    fn a_callers_own_certificate_vouches_for_no_caller() {
        let authority = issuer("authority.test", |parameters| {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        let own = issuer("own.test", |parameters| {
            parameters.is_ca = IsCa::ExplicitNoCa
        });
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let load = |client_ca: String| {
            crate::server::Tls::load(&crate::server::Files {
                certificate: file("server.pem", own.pem()),
                key: file("server.key", own.key().serialize_pem()),
                client_ca: Some(file("client_ca.pem", client_ca)),
            })
        };
        let error = load(own.pem()).unwrap_err();
        assert_eq!(error.key, "client_ca");
        assert!(error.to_string().contains("no certificate of an authority"));
        load(own.pem() + &authority.pem()).unwrap();
    }
}
