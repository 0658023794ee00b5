//! What is said of a file of certificates or keys that cannot be used.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Config;

const FLEET: &str = "fleet: {url: 'rediss://store:6379', keys: ['MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY='], tls: {ca: half.pem}}";

/// Files of two authorities, whole, cut in the middle, and what else is no such file.
fn write(directory: &Path) {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (certificate, key) = bursar_tls::authority::make(&["api.test".into()]).unwrap();
    let (other, _) = bursar_tls::authority::make(&["api.test".into()]).unwrap();
    write("own.pem", &certificate);
    write("own.key", key.expose());
    write("other.pem", &other);
    write("half.pem", certificate.get(..200).unwrap());
    write("half.key", key.expose().get(..60).unwrap());
    write("text.key", "none");
    std::fs::copy(directory.join("own.key"), directory.join("der.key")).unwrap();
    std::fs::write(directory.join("der.key"), b"\x30\x81\xff").unwrap();
    write("bad.pem", &certificate.replacen("MII", "\u{1}*7", 1));
    write(
        "line.pem",
        &certificate.replacen("CERTIFICATE-----", "CERTIFICATE", 1),
    );
}

/// The problems of a configuration, without the directory's name.
fn problems(directory: &Path, top: &str, tls: &str) -> Vec<String> {
    let text = format!(
        "{top}\nproviders: {{acme: {{hosts: [api.test], client_id: a, client_secret: hR7wq2, token: {{url: 'https://a/t'}}, tls: {{{tls}}}}}}}"
    );
    let found = Config::parse(&text, directory).map(drop).unwrap_err();
    let directory = format!("{}/", directory.display());
    let said = found.iter().map(ToString::to_string);
    said.map(|said| said.replace(&directory, "")).collect()
}

const HALF: &str = "ends in the middle of a certificate: -----END CERTIFICATE----- is missing";
const HALF_KEY: &str = "ends in the middle of a private key: -----END PRIVATE KEY----- is missing";
const MISMATCH: &str = "the private key in own.key is not the key of the certificate in other.pem";
const BASE64: &str = "is broken PEM: what stands between -----BEGIN and -----END is not base64";
const LINE: &str = "is broken PEM: a line begins with -----BEGIN and does not end with -----";

#[track_caller]
fn assert_said(top: &str, tls: &str, expected: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path());
    let found = problems(directory.path(), top, tls);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (problem, (key, said)) in found.iter().zip(expected) {
        let expected = format!("{key}: {said}");
        assert!(problem.contains(&expected), "{expected}\n{found:?}");
    }
}

#[test]
fn what_is_wrong_with_a_providers_certificates_and_keys_is_told_in_words() {
    for (files, key, said) in [
        ("ca: half.pem", "ca", HALF),
        ("ca: bad.pem", "ca", BASE64),
        ("ca: line.pem", "ca", LINE),
        ("certificate: half.pem, key: own.key", "certificate", HALF),
        ("certificate: own.pem, key: half.key", "key", HALF_KEY),
        ("certificate: other.pem, key: own.key", "key", MISMATCH),
        (
            "certificate: own.pem, key: text.key",
            "key",
            "holds no private key",
        ),
    ] {
        let files = match files.starts_with("ca:") {
            true => files.to_owned(),
            false => format!("ca: own.pem, {files}"),
        };
        assert_said("", &files, &[(&format!("acme.tls.{key}"), said)]);
    }
    let both = "ca: own.pem, certificate: half.pem, key: half.key";
    assert_said(
        "",
        both,
        &[("acme.tls.certificate", HALF), ("acme.tls.key", HALF_KEY)],
    );
}

#[test]
fn what_is_wrong_with_bursars_own_certificates_and_keys_is_told_in_words() {
    for (files, key, said) in [
        ("certificate: half.pem, key: own.key", "certificate", HALF),
        ("certificate: own.pem, key: half.key", "key", HALF_KEY),
        ("certificate: other.pem, key: own.key", "key", MISMATCH),
        (
            "certificate: own.pem, key: own.key, client_ca: half.pem",
            "client_ca",
            HALF,
        ),
    ] {
        let tls = format!("tls: {{{files}}}");
        assert_said(&tls, "ca: own.pem", &[(&format!(" tls.{key}"), said)]);
    }
    for (files, key, said) in [
        ("certificate: half.pem, key: own.key", "certificate", HALF),
        ("certificate: own.pem, key: half.key", "key", HALF_KEY),
        (
            "certificate: own.pem, key: der.key",
            "key",
            "cannot be read: it is not text in UTF-8",
        ),
    ] {
        let intercept = format!("intercept: {{ca: {{{files}}}}}");
        assert_said(
            &intercept,
            "ca: own.pem",
            &[(&format!("intercept.ca.{key}"), said)],
        );
    }
    assert_said(FLEET, "ca: own.pem", &[("fleet.tls.ca", HALF)]);
}
