//! From `tls` of a provider to [`ClientTls`].

use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::validity;
use crate::diagnostic::Diagnostics;
use crate::file;
use crate::node::join;
use bursar_base::address::bare;
use bursar_tls::client::{self, ClientTls, Trusted};
use bursar_tls::roots::Roots;
use bursar_tls::system;
use bursar_tls::unsupported;

/// What compiling one provider needs of the others.
pub(super) struct Shared<'a> {
    pub(super) directory: &'a Path,
    /// Loaded once, and only if some provider wants them.
    pub(super) system: Option<(Roots, ClientTls)>,
}

/// TLS, and what a file of the operator's says of whom it trusts.
pub(super) struct ProviderTls {
    tls: ClientTls,
    trusted: Vec<CertificateDer<'static>>,
}

pub(super) fn compile(
    file: &file::Tls,
    provider: &str,
    shared: &mut Shared<'_>,
    problems: &mut Diagnostics,
) -> Option<ProviderTls> {
    let at = |key: &str| join(provider, key);
    if file.certificate.is_some() != file.key.is_some() {
        let message = "needs `certificate` and `key` together, or neither";
        problems.add(&at("tls"), message);
    }
    let path = |name: &Option<String>| name.as_ref().map(|name| shared.directory.join(name));
    let (ca, certificate, key) = (path(&file.ca), path(&file.certificate), path(&file.key));
    let mut trusted = Vec::new();
    let roots = match ca {
        Some(ca) => {
            let found = client::roots_from(&ca)
                .map_err(|error| problems.add(&at("tls.ca"), error))
                .ok()?;
            warn_of_trusted(&found, &at("tls.ca"), problems);
            trusted = found.certificates;
            found.roots
        }
        None => match &shared.system {
            Some((_, tls)) if certificate.is_none() => {
                let tls = tls.clone();
                return Some(ProviderTls { tls, trusted });
            }
            Some((roots, _)) => roots.clone(),
            None => {
                let roots = system::roots()
                    .map_err(|error| problems.add(&at("tls.ca"), error))
                    .ok()?;
                let tls = client::configure(&roots, None)
                    .map_err(|error| problems.add(&at("tls"), error))
                    .ok()?;
                shared.system.insert((roots, tls)).0.clone()
            }
        },
    };
    let identity = match (certificate, key) {
        (Some(certificate), Some(path)) => {
            let chain = client::own_certificates(&certificate)
                .map_err(|error| problems.add(&at("tls.certificate"), error));
            let key = client::key(&path).map_err(|error| problems.add(&at("tls.key"), error));
            let chain = chain.ok()?;
            validity::warn_of_chain(&chain, &at("tls.certificate"), problems);
            let key = key.ok()?;
            client::check_pair((&certificate, &chain), (&path, &key))
                .map_err(|error| problems.add(&at("tls.key"), error))
                .ok()?;
            Some((chain, key))
        }
        _ => None,
    };
    let tls = client::configure(&roots, identity)
        .map_err(|error| problems.add(&at("tls"), error))
        .ok()?;
    Some(ProviderTls { tls, trusted })
}

impl ProviderTls {
    /// For these servers. One's own certificate may be trusted as it is, but not where it is an authority's: then it is
    /// refused when the server shows it.
    pub(super) fn for_servers<'h>(
        self,
        mut hosts: impl Iterator<Item = &'h str>,
        path: &str,
        problems: &mut Diagnostics,
    ) -> ClientTls {
        let is_both = |host: &&str| {
            let mut trusted = self.trusted.iter();
            trusted.any(|known| {
                unsupported::is_authority(known) && unsupported::is_for(known, bare(host))
            })
        };
        if let Some(host) = hosts.find(is_both) {
            let message = format!(
                "has a certificate for {host} that is an authority's (CA:TRUE), and so is not taken for a server's; have it made with basicConstraints=CA:FALSE, or signed by an authority of its own"
            );
            problems.add(path, message);
        }
        self.tls
    }
}

/// Of certificates that are trusted in vain.
pub(super) fn warn_of_trusted(trusted: &Trusted, path: &str, problems: &mut Diagnostics) {
    validity::warn_of_trusted(&trusted.certificates, path, problems);
    if let Some((count, first)) = trusted.unsupported {
        let all = trusted.certificates.len();
        let message =
            format!("{count} of its {all} certificates cannot be used; of the first, {first}");
        problems.warn(path, message);
    }
    let mut certificates = trusted.certificates.iter();
    if certificates.any(unsupported::signs_with_sha512) {
        let message = "is signed with SHA-512 by a key of P-256; what that signs so, too, is refused: SHA-256 and SHA-384 are supported";
        problems.warn(path, message);
    }
}
