//! TLS on `listen`, as scanners see it.

use super::*;
use crate::tls_listen::Rig;

/// Most of a scan is waiting for answers that do not come.
const SCAN: Duration = Duration::from_secs(300);

async fn scan(line: &[&str]) -> String {
    let output = tokio::time::timeout(SCAN, command(line).output()).await;
    let output = output.expect("the scan ends").unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The attributes of an XML element by name.
fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let (_, value) = element.split_once(&format!(" {name}=\"")).unwrap();
    value.split('"').next().unwrap()
}

#[tokio::test]
async fn sslscan_finds_only_new_protocols_and_strong_ciphers() {
    if !Needs::Sslscan.are_met().await {
        return;
    }
    let rig = Rig::start("").await;
    let report = scan(&["sslscan", "--xml=-", &rig.proxy.listen.to_string()]).await;
    let elements = |name: &str| {
        let begins = format!("<{name} ");
        let lines = report.lines().map(str::trim);
        let lines: Vec<_> = lines.filter(|line| line.starts_with(&begins)).collect();
        assert!(!lines.is_empty(), "{name}: {report}");
        lines
    };
    let enabled = |element: &&&str| attribute(element, "enabled") == "1";
    let protocols = elements("protocol");
    let protocols = protocols.iter().filter(enabled);
    let protocols = protocols.map(|element| attribute(element, "version"));
    assert_eq!(protocols.collect::<Vec<_>>(), ["1.2", "1.3"], "{report}");
    for cipher in elements("cipher") {
        let name = attribute(cipher, "cipher");
        let bits: u32 = attribute(cipher, "bits").parse().unwrap();
        let is_aead = ["_GCM_", "-GCM-", "CHACHA20"]
            .iter()
            .any(|aead| name.contains(aead));
        let is_forward_secret = name.starts_with("TLS_") || name.starts_with("ECDHE-");
        assert!(is_aead && is_forward_secret && bits >= 128, "{cipher}");
        assert_ne!(attribute(cipher, "strength"), "weak", "{cipher}");
    }
    assert_eq!(attribute(elements("renegotiation")[0], "supported"), "0");
    for heartbleed in elements("heartbleed") {
        assert_eq!(attribute(heartbleed, "vulnerable"), "0");
    }
    // Where sslscan can ask at all.
    assert!(!report.contains("<compression supported=\"1\""), "{report}");
}

#[tokio::test]
async fn testssl_finds_no_old_protocol_no_renegotiation_and_no_compression() {
    if !Needs::Testssl.are_met().await {
        return;
    }
    let rig = Rig::start("").await;
    let file = rig.directory.path().join("report.json");
    let line = ["testssl", "--quiet", "--color", "0", "--warnings", "off"];
    let checks = ["-p", "-R", "-C", "-I", "--jsonfile", file.to_str().unwrap()];
    let listen = rig.proxy.listen.to_string();
    let output = scan(&[&line[..], &checks, &[&listen]].concat()).await;
    let report = std::fs::read(&file).unwrap_or_default();
    let report: Vec<Value> = serde_json::from_slice(&report).unwrap_or_default();
    let finding = |id: &str| {
        let finding = report.iter().find(|finding| finding["id"] == id);
        let finding = finding.unwrap_or_else(|| panic!("no {id}: {output}"));
        (
            finding["severity"].as_str().unwrap(),
            finding["finding"].as_str().unwrap(),
        )
    };
    for (id, severity, found) in [
        ("SSLv2", "OK", "not offered"),
        ("SSLv3", "OK", "not offered"),
        ("TLS1", "INFO", "not offered"),
        ("TLS1_1", "INFO", "not offered"),
        ("TLS1_2", "OK", "offered"),
        ("TLS1_3", "OK", "offered"),
        ("ALPN_HTTP2", "OK", "h2"),
        ("CCS", "OK", "not vulnerable"),
        ("secure_client_renego", "OK", "not vulnerable"),
        ("CRIME_TLS", "OK", "not vulnerable"),
    ] {
        let (severity_found, text) = finding(id);
        assert!(
            severity_found == severity && text.contains(found),
            "{id}: {severity_found} {text}"
        );
    }
    let grave = ["LOW", "MEDIUM", "HIGH", "CRITICAL"];
    for finding in &report {
        assert!(
            !grave.contains(&finding["severity"].as_str().unwrap()),
            "{finding}"
        );
    }
}
