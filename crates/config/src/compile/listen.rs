//! From `tls` to [`Tls`].

use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::Diagnostics;
use crate::file;
use bursar_tls::server::{Files, Tls};

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
    Tls::load(&files)
        .map_err(|error| problems.add(&format!("tls.{}", error.key), error.error))
        .ok()
}
