//! The certificate authority of interception: one's own, and what it signs on demand.
//!
//! It may sign for the configured hosts only: that stands in its certificate, where every client checks
//! it, and [`Authority::load`] refuses one without. Leaf certificates live in memory, for a day.

mod constraints;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData as _, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{RootCertStore, ServerConfig};
use time::OffsetDateTime;
use tokio::time::Instant;
use x509_parser::certificate::X509Certificate;

use self::constraints::NOBODY;
pub use self::constraints::Wide;
use crate::client;
use crate::unsupported;
use bursar_base::clock;
use bursar_base::log_throttle::LogThrottles;
use bursar_base::regular_file;
use bursar_base::secret::Secret;

/// How long a new authority lives.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(730 * 24 * 60 * 60);
/// How long a leaf certificate is valid; it is used for [`LEAF_USE`].
const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// After that a host gets a new one.
const LEAF_USE: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of callers may be behind by so much.
const LEAF_BACKDATED: Duration = Duration::from_secs(60 * 60);
const AUTHORITY_BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates in memory; there are more hosts only below a wildcard, and then all are made anew.
const MAX_LEAVES: usize = 1024;

/// An authority that may sign for the providers' hosts.
pub struct Authority {
    /// Its own certificate first, then what leads to a root.
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// One for all leaf certificates.
    leaf_key: KeyPair,
    not_after: OffsetDateTime,
    /// By host, in lower case. Held while one is made, so that a host's first connections share it.
    leaves: Mutex<HashMap<Box<str>, Leaf>>,
    throttles: LogThrottles<(Arc<str>, Box<str>, &'static str)>,
}

/// A server with a certificate that was made then.
type Leaf = (Instant, Arc<ServerConfig>);

/// Why an authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    Tls(#[from] client::Error),
    /// A file cannot be read.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// Whoever reads it can pose as every provider to every caller.
    #[error("can be read by its group or by others; `chmod 600` it")]
    Open,
    /// Neither PKCS#8 nor of a kind that can sign.
    #[error("is not a private key in PKCS#8 PEM")]
    Key,
    /// Not what an authority has.
    #[error("is not the certificate of an authority")]
    NoAuthority,
    /// Key and certificate are not of one kind.
    #[error("does not belong to the key")]
    Mismatch,
    /// It could sign for others than the providers.
    #[error("{0}; make one with `bursar ca new`, which is constrained to the providers' hosts")]
    Wide(#[from] Wide),
    /// Its time is over.
    #[error("has expired; make a new one with `bursar ca new`")]
    Expired,
    /// Clients would refuse what it signs, for what it says that it is for.
    #[error(
        "may not sign certificates of servers (keyUsage, extendedKeyUsage); make a new one with `bursar ca new`"
    )]
    OtherUse,
    /// Clients would refuse what it signs.
    #[error("may not sign for the provider host {0}; make a new one with `bursar ca new`")]
    MayNotSign(Box<str>),
    /// A certificate cannot be made.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

/// Which of the two files is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// The authority's certificate.
    Certificate,
    /// Its key.
    Key,
}

/// An authority that says for what it is, has to say that of servers, too (RFC 5280 section 4.2.1.12, as clients read it).
fn is_for_servers(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.extended_key_usage();
    usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.server_auth || usage.value.any))
}

impl Authority {
    /// Reads an authority that is to sign for `hosts`, and need not for those that are `further`.
    ///
    /// # Errors
    /// Where it is not fit for that, with the file that shows it.
    pub fn load(
        certificate: &Path,
        key: &Path,
        hosts: &[Box<str>],
        further: &[Box<str>],
    ) -> Result<Arc<Self>, (File, Error)> {
        let of_key = |error| (File::Key, error);
        refuse_open(key).map_err(of_key)?;
        let text = read(key).map_err(of_key)?;
        // The library's own words could quote the file.
        let key = KeyPair::from_pem(&text).map_err(|_no_key| {
            let why = client::key_of(text.as_bytes());
            of_key(match why {
                Ok(_) | Err(client::Error::NoKey) => Error::Key,
                Err(why) => Error::Tls(why),
            })
        })?;
        drop(Secret::new(text));
        let authority = Self::read(certificate, key);
        let authority = authority.and_then(|authority| {
            authority.refuse_unfit(hosts, further)?;
            Ok(Arc::new(authority))
        });
        authority.map_err(|error| (File::Certificate, error))
    }

    fn read(certificate: &Path, key: KeyPair) -> Result<Self, Error> {
        let chain = client::certificates(certificate)?;
        let pem = read(certificate)?;
        let own = chain.first().ok_or(Error::NoAuthority)?;
        let parsed = parse(own)?;
        if !parsed.is_ca() {
            return Err(Error::NoAuthority);
        }
        if !unsupported::may_sign(own) || !is_for_servers(&parsed) {
            return Err(Error::OtherUse);
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::Mismatch);
        }
        let not_after = parsed.validity().not_after.to_datetime();
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(own, key)?,
            leaf_key: KeyPair::generate()?,
            chain,
            // Nothing but certificates is shown to others, whatever else the file holds.
            pem: only_certificates(&pem),
            not_after,
            leaves: Mutex::default(),
            throttles: LogThrottles::default(),
        })
    }

    fn refuse_unfit(&self, hosts: &[Box<str>], further: &[Box<str>]) -> Result<(), Error> {
        if self.not_after <= now() {
            return Err(Error::Expired);
        }
        for host in hosts {
            if !further.contains(host) && !self.may_sign_for(host)? {
                return Err(Error::MayNotSign(host.clone()));
            }
        }
        let own = self.chain.first().ok_or(Error::NoAuthority)?;
        Ok(constraints::refuse_wide(&parse(own)?, hosts)?)
    }

    /// Whether a client that trusts the authority would believe what it signs for a host.
    fn may_sign_for(&self, host: &str) -> Result<bool, Error> {
        let leaf = self.sign(host)?;
        let mut roots = RootCertStore::empty();
        let own = self.chain.first().cloned();
        let added = own.is_some_and(|own| roots.add(own).is_ok());
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(default_provider()),
        );
        let (true, Ok(verifier), Ok(name)) = (
            added,
            verifier.build(),
            ServerName::try_from(host.to_owned()),
        ) else {
            return Ok(false);
        };
        let since_1970 = clock::wall().duration_since(std::time::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since_1970.unwrap_or_default());
        Ok(verifier
            .verify_server_cert(&leaf, &[], &name, &[], now)
            .is_ok())
    }

    fn sign(&self, host: &str) -> Result<CertificateDer<'static>, Error> {
        let mut parameters = CertificateParams::new([host.to_owned()])?;
        parameters.distinguished_name = named("Bursar");
        parameters.serial_number = Some(serial()?);
        parameters.not_before = now() - LEAF_BACKDATED;
        parameters.not_after = (now() + LEAF_LIFETIME).min(self.not_after);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(certificate.der().clone())
    }

    /// A server at that host, with HTTP/2 and HTTP/1.1 by ALPN. A host has one for a day.
    ///
    /// # Errors
    /// Where the certificate cannot be made.
    pub fn server(&self, host: &str) -> Result<Arc<ServerConfig>, Error> {
        let host = host.to_ascii_lowercase();
        let now = Instant::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, server)) = leaves.get(&*host)
            && now.duration_since(*since) < LEAF_USE
        {
            return Ok(server.clone());
        }
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        let mut chain = vec![self.sign(&host)?];
        chain.extend(self.chain.iter().cloned());
        let key = PrivateKeyDer::try_from(self.leaf_key.serialize_der());
        let key = key.map_err(|_never| Error::Key)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(client::Error::Rustls)?;
        let server = builder.with_no_client_auth().with_single_cert(chain, key);
        let mut server = server.map_err(client::Error::Rustls)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A cache of sessions for each host would outweigh everything else.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let server = Arc::new(server);
        leaves.insert(host.into(), (now, server.clone()));
        drop(leaves);
        Ok(server)
    }

    /// Whether it is time to say that TLS with a caller failed at a host, and why; it is said once a minute.
    #[must_use]
    pub fn may_complain(&self, caller: &Arc<str>, host: &str, why: &'static str) -> bool {
        let what = (caller.clone(), host.to_ascii_lowercase().into(), why);
        self.throttles.is_due(what, Instant::now())
    }

    /// Whether it is the same as another one: its certificate belongs to one key alone.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    /// Its certificate, for callers to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// When it expires, in seconds since 1970.
    #[must_use]
    pub fn expiry(&self) -> i64 {
        self.not_after.unix_timestamp()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A new authority's certificate and key as PEM; it may sign for `hosts` and what is below them.
///
/// # Errors
/// Where a host is no name.
pub fn make(hosts: &[Box<str>]) -> Result<(String, Secret), Error> {
    let mut permitted = Vec::new();
    let mut excluded = Vec::new();
    for host in hosts {
        permitted.push(match host.parse::<IpAddr>() {
            Ok(address @ IpAddr::V4(_)) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 32))
            }
            Ok(address @ IpAddr::V6(_)) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 128))
            }
            Err(_) => GeneralSubtree::DnsName(host.to_string()),
        });
    }
    // What is not constrained at all is permitted (RFC 5280 section 4.2.1.10), so each kind is.
    let is_name = |subtree: &GeneralSubtree| matches!(subtree, GeneralSubtree::DnsName(_));
    if permitted.iter().all(is_name) {
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(
            [0; 4], 0,
        )));
        excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(
            [0; 16], 0,
        )));
    }
    if !permitted.iter().any(is_name) {
        permitted.push(GeneralSubtree::DnsName(NOBODY.to_owned()));
    }
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named("Bursar, for the providers of one configuration");
    parameters.serial_number = Some(serial()?);
    parameters.not_before = now() - AUTHORITY_BACKDATED;
    parameters.not_after = now() + AUTHORITY_LIFETIME;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    });
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    let key = Secret::new(authority.key().serialize_pem());
    Ok((authority.pem(), key))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|_malformed| Error::NoAuthority)?;
    Ok(parsed)
}

/// By itself rcgen derives it from the key, which all leaf certificates share; clients refuse two of one issuer with
/// one serial number. Positive, 16 octets long, and random in all but two bits (RFC 5280 section 4.1.2.2).
fn serial() -> Result<SerialNumber, Error> {
    let mut octets = [0; 16];
    let filled = SystemRandom::new().fill(&mut octets);
    filled.map_err(|_unspecified| rcgen::Error::RingUnspecified)?;
    let [first, ..] = &mut octets;
    *first = *first & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&octets))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from(clock::wall())
}

fn only_certificates(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let mut kept = String::new();
    for part in pem.split("-----BEGIN CERTIFICATE-----").skip(1) {
        if let Some((body, _)) = part.split_once(END) {
            kept.push_str("-----BEGIN CERTIFICATE-----");
            kept.push_str(body);
            kept.push_str(END);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(unix)]
fn refuse_open(key: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(key).map_err(Error::Read)?;
    if is_open(found.mode(), found.uid(), bursar_base::process::user_id()) {
        Err(Error::Open)
    } else {
        Ok(())
    }
}

/// Whether others than the user may read a file of that mode and owner. Root's may be readable for a group: there is no
/// other way for a user to be given a file of root's, and Kubernetes mounts secrets like that (`fsGroup`).
#[cfg(unix)]
fn is_open(mode: u32, owner: u32, user: u32) -> bool {
    const ROOT: u32 = 0;
    let others = if owner == ROOT && user != ROOT {
        0o037
    } else {
        0o077
    };
    mode & others != 0
}

#[cfg(not(unix))]
fn refuse_open(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// A PEM file's text.
fn read(path: &Path) -> Result<String, Error> {
    let content = regular_file::read(path, client::MAX_BUNDLE_BYTES);
    let mut content = content.map_err(|error| match error {
        regular_file::Error::System(error) => Error::Read(error),
        other => Error::Read(std::io::Error::other(other)),
    })?;
    String::from_utf8(std::mem::take(&mut *content))
        .map_err(|_other| Error::Read(std::io::Error::other("it is not text in UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        let (certificate, key) = make(&["api.test".into()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, certificate).unwrap();
        Authority::read(&file, KeyPair::from_pem(key.expose()).unwrap()).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_for_the_user_alone_or_root_s_for_a_group_of_the_user_s() {
        const USER: u32 = 65532;
        for (mode, owner, user, expected) in [
            (0o600, USER, USER, false),
            (0o400, 0, 0, false),
            (0o640, USER, USER, true),
            (0o640, 0, 0, true),
            (0o440, 0, USER, false),
            (0o640, 0, USER, false),
            (0o660, 0, USER, true),
            (0o444, 0, USER, true),
            (0o440, 1000, USER, true),
        ] {
            let found = is_open(0o100_000 | mode, owner, user);
            assert_eq!(found, expected, "{mode:o} of {owner} for {user}");
        }
    }

    #[test]
    fn connections_that_come_first_all_at_once_share_one_certificate() {
        let authority = authority();
        let servers: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| authority.server("api.test").unwrap()));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert!(
            servers
                .iter()
                .all(|server| Arc::ptr_eq(server, &servers[0]))
        );
        assert_eq!(authority.leaves.lock().unwrap().len(), 1);
    }

    #[test]
    fn there_are_never_more_certificates_in_memory_than_the_limit() {
        let authority = authority();
        for number in 0..=MAX_LEAVES {
            authority.server(&format!("{number}.api.test")).unwrap();
            assert!(authority.leaves.lock().unwrap().len() <= MAX_LEAVES);
        }
    }

    #[test]
    fn no_two_certificates_have_one_serial_number() {
        // Another authority is another issuer, and a restart has the same one with another leaf key.
        let (certificate, key) = make(&["api.test".into()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, certificate).unwrap();
        let mut serials = std::collections::HashSet::new();
        for _ in 0..3 {
            let key = KeyPair::from_pem(key.expose()).unwrap();
            let authority = Authority::read(&file, key).unwrap();
            for host in ["api.test", "api.test", "x.api.test"] {
                let leaf = authority.sign(host).unwrap();
                let serial = parse(&leaf).unwrap().raw_serial().to_vec();
                assert_eq!(serial.len(), 16);
                // Positive, and with no octet to spare.
                assert!((0x40..0x80).contains(&serial[0]), "{serial:x?}");
                assert!(serials.insert(serial));
            }
            let own = parse(&authority.chain[0]).unwrap().raw_serial().to_vec();
            serials.insert(own);
        }
        assert_eq!(serials.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_gets_a_new_certificate_after_a_day() {
        let authority = authority();
        let first = authority.server("api.test").unwrap();
        tokio::time::advance(LEAF_USE - Duration::from_secs(1)).await;
        assert!(Arc::ptr_eq(&first, &authority.server("API.test").unwrap()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!Arc::ptr_eq(&first, &authority.server("api.test").unwrap()));
    }

    #[test]
    fn an_authority_that_says_that_it_is_for_something_else_is_refused() {
        use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        use KeyUsagePurpose::{DigitalSignature, KeyCertSign};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        for (usages, further, is_fit) in [
            (vec![], vec![], true),
            (vec![KeyCertSign], vec![ServerAuth, ClientAuth], true),
            (vec![KeyCertSign], vec![Any], true),
            (vec![DigitalSignature], vec![], false),
            (vec![KeyCertSign], vec![ClientAuth], false),
        ] {
            let mut parameters = CertificateParams::default();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            parameters.key_usages = usages;
            parameters.extended_key_usages = further;
            let key = KeyPair::generate().unwrap();
            let own = parameters.self_signed(&key).unwrap();
            std::fs::write(&path, own.pem()).unwrap();
            let read = Authority::read(&path, key);
            assert_eq!(!matches!(read, Err(Error::OtherUse)), is_fit);
        }
    }
}
