//! From `intercept` to an [`Authority`].

use std::path::Path;
use std::sync::Arc;

use crate::config::file;
use crate::config::problem::Problems;
use crate::intercept::{Authority, File};

pub(super) fn compile(
    intercept: Option<file::Intercept>,
    directory: &Path,
    hosts: &[Box<str>],
    problems: &mut Problems,
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
    Authority::load(&certificate, &key, hosts)
        .map_err(|(file, error)| {
            let path = match file {
                File::Certificate => "intercept.ca.certificate",
                File::Key => "intercept.ca.key",
            };
            problems.add(path, error);
        })
        .ok()
}
