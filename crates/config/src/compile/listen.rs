//! From `tls` to [`Tls`].

use std::path::Path;
use std::sync::Arc;

use super::provider_tls::warn_of_trusted;
use super::validity;
use crate::diagnostic::Diagnostics;
use crate::file;
use bursar_tls::client;
use bursar_tls::server::{Files, Tls};
use bursar_tls::unsupported;

pub(super) fn compile(
    tls: Option<file::ListenTls>,
    directory: &Path,
    problems: &mut Diagnostics,
) -> Option<Arc<Tls>> {
    let tls = tls?;
    let (Some(certificate), Some(key)) = (tls.certificate, tls.key) else {
        problems.add("tls", "needs `certificate` and `key`");
        return None;
    };
    let files = Files {
        certificate: directory.join(certificate),
        key: directory.join(key),
        client_ca: tls.client_ca.map(|client_ca| directory.join(client_ca)),
    };
    let loaded = Tls::load(&files)
        .map_err(|error| problems.add(&format!("tls.{}", error.key), error.error))
        .ok()?;
    warn_of_own(&files.certificate, problems);
    if let Some(client_ca) = &files.client_ca
        && let Ok(trusted) = client::roots_from(client_ca)
    {
        warn_of_trusted(&trusted, "tls.client_ca", problems);
        let own = trusted.roots.own.len();
        if own > 0 {
            let all = trusted.certificates.len();
            let message = format!(
                "{own} of its {all} certificates are not for an authority (CA:TRUE), and vouch for no caller; leave them out"
            );
            problems.warn("tls.client_ca", message);
        }
    }
    Some(loaded)
}

/// What callers may not take, although it can be shown to them.
fn warn_of_own(certificate: &Path, problems: &mut Diagnostics) {
    let chain = client::certificates(certificate).unwrap_or_default();
    let Some(own) = chain.first() else {
        return;
    };
    validity::warn_of_chain(&chain, "tls.certificate", problems);
    if unsupported::is_nameless(own) {
        let message = "has no subjectAltName, and most callers look for the host's name nowhere else, not in the common name";
        problems.warn("tls.certificate", message);
    }
    if unsupported::is_authority(own) {
        let message = "is an authority (CA:TRUE), which callers that verify with webpki do not take for a server";
        problems.warn("tls.certificate", message);
    }
}
