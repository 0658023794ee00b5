//! Servers and certificates of OpenSSL that ring and webpki do not take, and what `check` says of them.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::Lines;
use tokio::process::ChildStdout;

use super::*;
use crate::support::acme;
use crate::support::idp::Idp;

const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "EC -pkeyopt ec_paramgen_curve:P-384";
const P521: &str = "EC -pkeyopt ec_paramgen_curve:P-521";
const RSA: &str = "RSA -pkeyopt rsa_keygen_bits:2048";
const HERE: &str = "subjectAltName=IP:127.0.0.1";

/// An authority, and a server's certificate that it has signed.
#[derive(Clone, Copy)]
struct Certificates {
    authority: &'static str,
    key: &'static str,
    /// What the authority signs with.
    hash: &'static str,
    /// Lines of the certificate's extensions; empty: it is of version 1.
    extensions: &'static str,
    /// Whether the authority's own certificate is of version 1.
    is_old: bool,
}

const GOOD: Certificates = Certificates {
    authority: P256,
    key: P256,
    hash: "-sha256",
    extensions: HERE,
    is_old: false,
};

/// A directory in which a command of a shell was run.
async fn made(command: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-e", "-c", command])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output();
    let output = within(command, output).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    directory
}

impl Certificates {
    const fn authority(self, authority: &'static str) -> Self {
        Self { authority, ..self }
    }

    const fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    const fn hash(self, hash: &'static str) -> Self {
        Self { hash, ..self }
    }

    const fn extensions(self, extensions: &'static str) -> Self {
        Self { extensions, ..self }
    }

    const fn old(self) -> Self {
        Self {
            is_old: true,
            ..self
        }
    }

    /// `ca.pem`, `server.pem` and `server.key`.
    async fn made(&self) -> TempDir {
        let Self {
            authority,
            key,
            hash,
            extensions,
            is_old,
        } = self;
        let ca = match is_old {
            true => "openssl req -new -key ca.key -subj /CN=ca -out ca.csr
                openssl x509 -req -in ca.csr -signkey ca.key -out ca.pem"
                .to_owned(),
            false => format!(
                "openssl req -x509 -key ca.key -subj /CN=ca -out ca.pem {hash} -addext basicConstraints=critical,CA:TRUE"
            ),
        };
        let extfile = match extensions.is_empty() {
            true => "",
            false => "-extfile extensions",
        };
        made(&format!(
            "openssl genpkey -algorithm {authority} -out ca.key
            {ca}
            openssl genpkey -algorithm {key} -out server.key
            openssl req -new -key server.key -subj /CN=127.0.0.1 -out server.csr
            printf '%s\\n' '{extensions}' > extensions
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem {hash} {extfile}
            chmod 600 server.key"
        ))
        .await
    }
}

/// `openssl s_server`; ends with this.
struct TlsServer {
    url: String,
    _lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl TlsServer {
    async fn start(directory: &Path, arguments: &str) -> Self {
        let line = format!(
            "exec openssl s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -www {arguments}"
        );
        let mut child = Command::new("sh")
            .args(["-c", &line])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = within("s_server", lines.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("no server with {arguments}"));
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.to_owned();
            }
        };
        Self {
            url: format!("https://{address}"),
            _lines: lines,
            _child: child,
        }
    }
}

/// What `bursar check` says, and its exit status.
async fn check(directory: &Path, yaml: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let file = directory.join("proxy.yaml");
    std::fs::write(&file, yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .arg("check")
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .stdin(Stdio::null())
        .output();
    let output = within("check", output).await.unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

/// What `check --live` says of the server, which uses these certificates and is started with those arguments.
async fn told(certificates: &Certificates, arguments: &str) -> String {
    let directory = certificates.made().await;
    let server = TlsServer::start(directory.path(), arguments).await;
    let idp = Idp::counting().await;
    let yaml = acme(&server.url, &idp.url(), "tls: {ca: ca.pem}");
    let (_, text) = check(directory.path(), &yaml, &["--live"]).await;
    let said = format!("acme {}: ", server.url);
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(&said));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn what_a_server_of_openssl_does_that_rustls_does_not_take_has_its_cause() {
    if !Needs::Openssl.are_met().await {
        return;
    }
    for (certificates, arguments, expected) in [
        (GOOD, "", "TLS 1.3"),
        (GOOD, "-tls1_2", "TLS 1.2"),
        (GOOD.authority(P384), "", "TLS 1.3"),
        (GOOD.authority(RSA).hash("-sha512"), "", "TLS 1.3"),
        // Of an authority that is trusted nothing but its key is looked at.
        (GOOD.old(), "", "TLS 1.3"),
        (GOOD.hash("-sha512"), "", "FAILED: tls_other"),
        (GOOD.key(P521), "", "FAILED: tls_other"),
        (GOOD.extensions(""), "", "FAILED: tls_other"),
        (
            GOOD.extensions("basicConstraints=CA:FALSE"),
            "",
            "FAILED: tls_wrong_name",
        ),
        (
            GOOD.extensions("subjectAltName=DNS:127.0.0.1"),
            "",
            "FAILED: tls_wrong_name",
        ),
        (
            GOOD.extensions("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:TRUE"),
            "",
            "FAILED: tls_other",
        ),
        (
            GOOD,
            "-tls1_1 -cipher ALL:@SECLEVEL=0",
            "FAILED: tls_version",
        ),
        (
            GOOD.key(RSA),
            "-tls1_2 -cipher AES256-SHA",
            "FAILED: tls_other",
        ),
        (GOOD, "-Verify 1 -tls1_3", "FAILED: tls_client_certificate"),
        (GOOD, "-Verify 1 -tls1_2", "FAILED: tls_client_certificate"),
        (GOOD, "-verify 1", "TLS 1.3"),
    ] {
        let said = told(&certificates, arguments).await;
        assert!(
            said.starts_with(expected),
            "{arguments} {}: {said}",
            certificates.extensions
        );
    }
}

#[tokio::test]
async fn an_authority_between_that_has_expired_is_told_as_that() {
    if !Needs::Openssl.are_met().await {
        return;
    }
    let directory = made(&format!(
        "for name in ca between server; do openssl genpkey -algorithm {P256} -out $name.key; done
        openssl req -x509 -key ca.key -subj /CN=ca -out ca.pem -addext basicConstraints=critical,CA:TRUE
        for name in between server; do openssl req -new -key $name.key -subj /CN=$name -out $name.csr; done
        echo basicConstraints=critical,CA:TRUE > authority
        echo {HERE} > name
        openssl x509 -req -in between.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile authority -out between.pem
        openssl x509 -req -in server.csr -CA between.pem -CAkey between.key -CAcreateserial -extfile name -out server.pem"
    ))
    .await;
    let server = TlsServer::start(directory.path(), "-cert_chain between.pem").await;
    let yaml = acme(&server.url, "http://127.0.0.1:1/t", "tls: {ca: ca.pem}");
    let (_, text) = check(directory.path(), &yaml, &["--live"]).await;
    let said = format!("acme {}: FAILED: tls_expired (", server.url);
    assert!(text.contains(&said), "{text}");
}

/// A provider of which nothing is tried.
fn provider(keys: &str) -> String {
    acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", keys)
}

#[tokio::test]
async fn a_file_whose_certificates_cannot_be_worked_with_is_an_error_of_its_key() {
    if !Needs::Openssl.are_met().await {
        return;
    }
    let client = provider("tls: {certificate: server.pem, key: server.key}");
    let trusting = provider("tls: {ca: ca.pem}");
    let (plain, own) = (provider(""), "certificate: server.pem, key: server.key");
    let listen = format!("tls: {{{own}}}\n{plain}");
    let own_callers = format!("tls: {{{own}, client_ca: ca.pem}}\n{plain}");
    let short = "RSA -pkeyopt rsa_keygen_bits:1024";
    for (certificates, yaml, expected) in [
        (
            GOOD.authority(P521),
            &trusting,
            "providers.acme.tls.ca: cannot be used: its key is of the curve P-521",
        ),
        (
            GOOD.authority(P521),
            &own_callers,
            "tls.client_ca: cannot be used: its key is of the curve P-521",
        ),
        (
            GOOD.authority(short),
            &trusting,
            "providers.acme.tls.ca: cannot be used: its RSA key has 1024 bits",
        ),
        (
            GOOD.authority("ED448").hash(""),
            &trusting,
            "providers.acme.tls.ca: cannot be used: its key is of a kind",
        ),
        (
            GOOD.key(P521),
            &client,
            "providers.acme.tls.certificate: cannot be used: its key is of the curve P-521",
        ),
        (
            GOOD.key(P521),
            &listen,
            "tls.certificate: cannot be used: its key is of the curve P-521",
        ),
        (
            GOOD.extensions(""),
            &client,
            "providers.acme.tls.certificate: cannot be used: it is of X.509 version 1",
        ),
        (
            GOOD.extensions(""),
            &listen,
            "tls.certificate: cannot be used: it is of X.509 version 1",
        ),
    ] {
        let directory = certificates.made().await;
        let (code, text) = check(directory.path(), yaml, &[]).await;
        assert_eq!(code, Some(2), "{expected}: {text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test]
async fn what_may_be_taken_by_some_is_a_warning() {
    if !Needs::Openssl.are_met().await {
        return;
    }
    let listen = "tls: {certificate: server.pem, key: server.key}\n";
    let listen = format!("{listen}{}", provider(""));
    let trusting = provider("tls: {ca: ca.pem}");
    for (certificates, yaml, expected) in [
        (
            GOOD.extensions("basicConstraints=CA:FALSE"),
            &listen,
            "tls.certificate: has no subjectAltName",
        ),
        (
            GOOD.extensions("subjectAltName=DNS:bursar.test\nbasicConstraints=CA:TRUE"),
            &listen,
            "tls.certificate: is an authority (CA:TRUE)",
        ),
        (
            GOOD.hash("-sha512"),
            &trusting,
            "providers.acme.tls.ca: is signed with SHA-512 by a key of P-256",
        ),
    ] {
        let directory = certificates.made().await;
        let (code, text) = check(directory.path(), yaml, &[]).await;
        assert_eq!(code, Some(0), "{expected}: {text}");
        assert!(
            text.contains("warning") && text.contains(expected),
            "{expected}: {text}"
        );
    }
    // One of two can be worked with.
    let good = GOOD.made().await;
    let bad = GOOD.authority(P521).made().await;
    let read =
        |directory: &TempDir| std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let both = format!("{}{}", read(&good), read(&bad));
    std::fs::write(good.path().join("ca.pem"), both).unwrap();
    let (code, text) = check(good.path(), &trusting, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains(
            "1 of its 2 certificates cannot be used; of the first, its key is of the curve P-521"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_is_its_own_authority_is_told_from_one_that_is_trusted_as_it_is() {
    if !Needs::Openssl.are_met().await {
        return;
    }
    for (is_authority, expected) in [
        ("FALSE", None),
        (
            "TRUE",
            Some("providers.acme.tls.ca: has a certificate for 127.0.0.1 that is an authority's"),
        ),
    ] {
        let directory = made(&format!(
            "openssl genpkey -algorithm {P256} -out server.key
            openssl req -x509 -key server.key -subj /CN=x -out server.pem -addext basicConstraints=CA:{is_authority} -addext {HERE}"
        ))
        .await;
        let server = TlsServer::start(directory.path(), "").await;
        let idp = Idp::counting().await;
        let yaml = acme(&server.url, &idp.url(), "tls: {ca: server.pem}");
        let (code, text) = check(directory.path(), &yaml, &["--live"]).await;
        match expected {
            None => assert!(text.contains(": TLS 1.3, "), "{text}"),
            Some(expected) => {
                assert_eq!(code, Some(2), "{text}");
                assert!(text.contains(expected), "{text}");
            }
        }
    }
}
