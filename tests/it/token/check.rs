//! `bursar check` and `bursar check --live`, the real program.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use super::secrets::knows_only;
use super::*;
use crate::support::soon;

/// Exit status and everything that `bursar` printed.
async fn bursar(arguments: &[&str], directory: &Path) -> (Option<i32>, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon(output).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// `bursar check` with further arguments on this text.
async fn check(yaml: &str, arguments: &[&str]) -> (Option<i32>, String) {
    check_in(&tempfile::tempdir().unwrap(), yaml, arguments).await
}

/// The same; relative files in the text are in the directory.
pub(super) async fn check_in(
    directory: &TempDir,
    yaml: &str,
    arguments: &[&str],
) -> (Option<i32>, String) {
    std::fs::write(directory.path().join("proxy.yaml"), yaml).unwrap();
    let result = bursar(&[&["check"], arguments].concat(), directory.path()).await;
    assert!(!result.1.contains(CLIENT_SECRET), "{}", result.1);
    result
}

/// The server of a token endpoint: something for an API's connections to go to.
fn base(idp: &Idp) -> String {
    format!("http://{}", idp.address())
}

#[tokio::test]
async fn check_says_what_is_wrong_and_binds_nothing() {
    let good = acme("https://api.example", "https://login.example/token", "");
    let (code, text) = check(&good, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("api.test"), "{text}");
    let (code, text) = check(&good.replace("hosts:", "hosst:"), &[]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("line 3") && text.contains("providers.acme"),
        "{text}"
    );
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["check"][..],
        &["check", "--config", "none.yaml"],
        &["check", "--lvie"],
        &[],
    ] {
        let (code, text) = bursar(arguments, directory.path()).await;
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn check_live_obtains_one_token_per_account_and_prints_none() {
    let idp = Idp::counting().await;
    let yaml = acme(&base(&idp), &idp.url(), "");
    let (code, text) = check(&yaml, &["--live"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("acme default: a token for 3600 s"), "{text}");
    assert!(!text.contains("token-1"), "{text}");
    assert_eq!(idp.calls(), 1);
}

#[tokio::test]
async fn check_live_fails_where_an_account_gets_no_token() {
    for (status, body, said) in [
        (
            401,
            r#"{"error":"invalid_client"}"#,
            "refuses the account (invalid_client)",
        ),
        (200, r#"{"access_token":"no\nheader"}"#, "no token"),
        (500, "internal s3cret+of/acme=", "answered 500"),
    ] {
        let idp = Idp::start(move |_| async move { answer(status, body) }).await;
        let yaml = acme(&base(&idp), &idp.url(), "");
        let (code, text) = check(&yaml, &["--live"]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn check_live_says_which_of_two_secrets_worked() {
    let idp = knows_only("n3xt").await;
    let yaml = acme(&base(&idp), &idp.url(), "next_client_secret: n3xt");
    let (code, text) = check(&yaml, &["--live"]).await;
    assert_eq!(code, Some(0), "{text}");
    let said = "acme default: a token for 3600 s with next_client_secret";
    assert!(text.contains(said), "{text}");
    assert!(!text.contains("n3xt"), "{text}");
    assert_eq!(idp.calls(), 2);
}

#[tokio::test]
async fn check_live_tells_of_every_account() {
    let good = Idp::counting().await;
    let bad = Idp::start(|_| async { answer(403, r#"{"message":"Invalid credentials"}"#) }).await;
    let provider = |name: &str, idp: &Idp| {
        let url = idp.url();
        format!(
            "  {name}: {{preset: {name}, environment: sandbox, upstream: '{}', client_id: i, client_secret: '{CLIENT_SECRET}', token: {{url: '{url}'}}}}\n",
            base(idp)
        )
    };
    let accounts = [
        provider("alternative_payments", &bad),
        provider("payu", &good),
    ];
    let (code, text) = check(&format!("providers:\n{}", accounts.concat()), &["--live"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("alternative_payments default: FAILED"),
        "{text}"
    );
    // PayU has no default scopes: one operation's stand for the account.
    assert!(
        text.contains("payu default [create_payment_links]: a token"),
        "{text}"
    );
    assert_eq!((good.calls(), bad.calls()), (1, 1));
}

#[tokio::test]
async fn check_live_obtains_a_token_for_each_account_of_a_provider() {
    let idp = Idp::start(|call| async move {
        match &*call.field("client_id").unwrap() {
            "red" => answer(403, r#"{"message":"Invalid credentials"}"#),
            id => token(id),
        }
    });
    let idp = idp.await;
    let lines = format!(
        "accounts: {{red: {{client_id: red, client_secret: '{CLIENT_SECRET}'}}, blue: {{client_id: blue, client_secret: '{CLIENT_SECRET}'}}}}"
    );
    let yaml = acme(&base(&idp), &idp.url(), &lines);
    let (code, text) = check(&yaml, &["--live"]).await;
    assert_eq!(code, Some(1), "{text}");
    for said in [
        "acme blue: a token",
        "acme default: a token",
        "acme red: FAILED",
    ] {
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(idp.calls(), 3);
}
