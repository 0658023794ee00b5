//! From `intercept` to an [`Authority`].

use std::path::Path;
use std::sync::Arc;

use super::validity;
use crate::diagnostic::Diagnostics;
use crate::file;
use crate::host::host_names;
use crate::provider::Provider;
use bursar_tls::authority::{Authority, File};

pub(super) fn compile(
    intercept: Option<file::Intercept>,
    directory: &Path,
    providers: &[Arc<Provider>],
    problems: &mut Diagnostics,
) -> Option<Arc<Authority>> {
    let ca = intercept?.ca.unwrap_or_default();
    let (Some(certificate), Some(key)) = (ca.certificate, ca.key) else {
        problems.add(
            "intercept.ca",
            "needs `certificate` and `key`; `bursar ca new` makes them",
        );
        return None;
    };
    let (certificate, key) = (directory.join(certificate), directory.join(key));
    let hosts = host_names(providers.iter().flat_map(|provider| &provider.hosts));
    let further = host_names(
        providers
            .iter()
            .flat_map(|provider| provider.further_hosts()),
    );
    let authority = Authority::load(&certificate, &key, &hosts, &further)
        .map_err(|(file, error)| {
            let path = match file {
                File::Certificate => "intercept.ca.certificate",
                File::Key => "intercept.ca.key",
            };
            problems.add(path, error);
        })
        .ok()?;
    validity::warn_of_authority(authority.expiry(), "intercept.ca.certificate", problems);
    Some(authority)
}
