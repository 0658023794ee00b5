//! Whom the system trusts, or `SSL_CERT_FILE` and `SSL_CERT_DIR` of the environment instead.
//!
//! What a variable names is all that is trusted, and has to be there: whoever sets one wants nobody else to be trusted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_native_certs::{ErrorKind, load_certs_from_paths};

use crate::client::{self, Error};
use crate::roots::Roots;

/// Names a file of certificates.
const FILE: &str = "SSL_CERT_FILE";
/// Names directories of such files, with colons in between.
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// The system's roots, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. A variable that is empty counts as unset.
///
/// # Errors
/// Where there are none, or where what a variable names cannot be read or holds none.
pub fn roots() -> Result<Roots, Error> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let found = match (variable(FILE), variable(DIRECTORIES)) {
        (None, None) => installed(),
        (file, directories) => named(file, directories)?,
    };
    let mut roots = RootCertStore::empty();
    // That one of them is malformed is no reason to trust none of the others.
    roots.add_parsable_certificates(found);
    match roots.is_empty() {
        true => Err(Error::NoSystemRoots),
        false => Ok(roots.into()),
    }
}

/// Those of the distribution.
fn installed() -> Vec<CertificateDer<'static>> {
    // Not by `load_native_certs`, which takes an empty variable for the name of a file.
    let places = openssl_probe::probe();
    let mut found = load_certs_from_paths(places.cert_file.as_deref(), None).certs;
    for directory in &places.cert_dir {
        found.extend(load_certs_from_paths(None, Some(directory)).certs);
    }
    once(found)
}

/// Those that the variables name.
fn named(
    file: Option<OsString>,
    directories: Option<OsString>,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut found = Vec::new();
    if let Some(file) = file {
        let path = PathBuf::from(file);
        found = in_file(&path).map_err(|error| error.of_variable(FILE, path))?;
    }
    if let Some(directories) = directories {
        for path in std::env::split_paths(&directories) {
            // As between two colons.
            if !path.as_os_str().is_empty() {
                let more = in_directory(&path);
                found.extend(more.map_err(|error| error.of_variable(DIRECTORIES, path))?);
            }
        }
        // Where there is a file, a directory may be empty.
        if !has_any(&found) {
            return Err(Error::NoCertificate.of_variable(DIRECTORIES, directories.into()));
        }
    }
    Ok(once(found))
}

fn in_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = client::pem(path)?;
    let found = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    let found: Vec<_> = found.collect();
    if !has_any(&found) {
        // Which may know more of what is wrong.
        client::roots_of(&text)?;
        return Err(Error::NoCertificate);
    }
    Ok(found)
}

/// A file in it that cannot be used is passed over: there may be any.
fn in_directory(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = load_certs_from_paths(None, Some(path));
    for error in read.errors {
        match error.kind {
            ErrorKind::Io { inner, path: of } if of == path => {
                return Err(Error::File(inner.into()));
            }
            _ => {}
        }
    }
    Ok(read.certs)
}

fn has_any(found: &[CertificateDer<'static>]) -> bool {
    let (added, _) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    added > 0
}

/// A bundle mostly lies among the certificates that it is made of.
fn once(mut found: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    found.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::make;

    fn authority(host: &str) -> String {
        make(&[host.into()]).unwrap().0
    }

    fn count(file: Option<&Path>, directories: Option<&str>) -> Result<usize, String> {
        let found = named(file.map(Into::into), directories.map(Into::into));
        found
            .map(|found| found.len())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_variables_name_is_all_that_is_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let (file, hashed) = (
            directory.path().join("corp.pem"),
            directory.path().join("d"),
        );
        std::fs::create_dir(&hashed).unwrap();
        let (one, other) = (authority("one.test"), authority("other.test"));
        std::fs::write(&file, &one).unwrap();
        std::fs::write(hashed.join("1.0"), &one).unwrap();
        std::fs::write(hashed.join("2.0"), &other).unwrap();
        std::fs::write(hashed.join("README"), "none").unwrap();
        std::fs::write(hashed.join("half"), other.get(..100).unwrap()).unwrap();
        let directories = format!(":{}:", hashed.display());
        assert_eq!(count(Some(&file), None), Ok(1));
        assert_eq!(count(None, Some(&directories)), Ok(2));
        assert_eq!(count(Some(&file), Some(&directories)), Ok(2));
    }

    #[test]
    fn what_a_variable_names_and_cannot_be_used_is_an_error_that_names_both() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let good = authority("one.test");
        std::fs::write(path("good.pem"), &good).unwrap();
        std::fs::write(path("text.pem"), "none").unwrap();
        std::fs::write(path("half.pem"), good.get(..100).unwrap()).unwrap();
        std::fs::create_dir(path("empty")).unwrap();
        for (name, expected) in [
            ("missing.pem", "cannot be read: No such file"),
            ("text.pem", "holds no certificate"),
            ("half.pem", "ends in the middle of a certificate"),
            ("empty", "cannot be read: it is a directory"),
        ] {
            let error = count(Some(&path(name)), path("good").to_str()).unwrap_err();
            let expected = format!(
                "SSL_CERT_FILE names {}, which {expected}",
                path(name).display()
            );
            assert!(error.starts_with(&expected), "{error}");
        }
        for (name, expected) in [
            ("missing", "cannot be read: No such file"),
            ("good.pem", "cannot be read: Not a directory"),
        ] {
            let error = count(Some(&path("good.pem")), path(name).to_str()).unwrap_err();
            let expected = format!(
                "SSL_CERT_DIR names {}, which {expected}",
                path(name).display()
            );
            assert!(error.starts_with(&expected), "{error}");
        }
        let error = count(None, path("empty").to_str()).unwrap_err();
        assert!(
            error.ends_with("empty, which holds no certificate"),
            "{error}"
        );
        assert_eq!(
            count(Some(&path("good.pem")), path("empty").to_str()),
            Ok(1)
        );
    }

    #[test]
    fn a_malformed_certificate_in_a_bundle_leaves_the_others_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bundle.pem");
        let malformed = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let good = authority("one.test");
        std::fs::write(
            &file,
            format!("{malformed}{good}{}", good.get(..100).unwrap()),
        )
        .unwrap();
        assert_eq!(count(Some(&file), None), Ok(1));
    }
}
