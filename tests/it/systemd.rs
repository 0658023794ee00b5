//! The systemd unit, judged by the real systemd-analyze, and credentials as systemd hands them over.

use std::path::Path;

use tokio::process::Command;

use crate::support::program::run_in;
use crate::support::skip;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/bursar.service");

async fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new("systemd-analyze").args(arguments).output();
    let Ok(output) = output.await else {
        skip("systemd-analyze");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some((output.status.success(), text))
}

#[tokio::test]
async fn the_unit_is_exposed_no_more_than_the_book_says() {
    let arguments = ["security", "--offline=true", "--threshold=14", UNIT];
    let Some((is_below, said)) = analyze(&arguments).await else {
        return;
    };
    assert!(is_below, "{said}");
    let page = include_str!("../../docs/src/operations/systemd.md");
    assert!(page.contains("gives it 1.4 on its scale"));
}

#[tokio::test]
async fn systemd_knows_every_line_of_the_unit() {
    // Where it finds no program at /usr/bin/bursar, it says that alone.
    let Some((_, said)) = analyze(&["verify", "--man=no", UNIT]).await else {
        return;
    };
    let about_it = said.lines().filter(|line| line.contains("bursar.service"));
    let others: Vec<_> = about_it
        .filter(|line| !line.contains("/usr/bin/bursar is not executable"))
        .collect();
    assert_eq!(others, [""; 0], "{said}");
}

const YAML: &str = "providers: {acme: {hosts: [api.test], client_id: acme, client_secret: '${credential:acme}', token: {url: 'https://login.test/'}}}";

fn write(directory: &Path, secret: &str) {
    std::fs::write(directory.join("proxy.yaml"), YAML).unwrap();
    std::fs::write(directory.join("acme"), secret).unwrap();
}

#[tokio::test]
async fn a_credential_is_read_where_systemd_puts_it_and_without_systemd_the_way_to_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    let systemd = [("CREDENTIALS_DIRECTORY", place)];
    write(directory.path(), "a-secret-of-a-test\n");
    let said = run_in(directory.path(), &["check", "--strict"], &systemd).await;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
    // What is read is the secret: a wrong one is told with its key.
    write(directory.path(), "a-secret\u{200b}-of-a-test\n");
    let said = run_in(directory.path(), &["check"], &systemd).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.error.contains("client_secret: "), "{said:?}");
    assert!(said.error.contains("invisible"), "{said:?}");
    let said = run_in(directory.path(), &["check"], &[]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.error.contains("LoadCredential=acme:PATH"), "{said:?}");
}
