//! Real callers: curl, Python requests, Node axios and Java's HttpClient.

use serde_json::json;

use super::sandbox::Sandbox;
use super::*;
use crate::support::idp::{Idp, reply};
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;

/// The three responses that a caller prints: statuses and bodies.
pub(super) fn responses(text: &str) -> Vec<(u64, Value)> {
    let responses = text.lines().map(|line| {
        let response: Value = serde_json::from_str(line).unwrap();
        let body = serde_json::from_str(response["body"].as_str().unwrap()).unwrap_or_default();
        (response["status"].as_u64().unwrap(), body)
    });
    let responses: Vec<_> = responses.collect();
    assert_eq!(responses.len(), 3, "{text}");
    responses
}

/// A GET, a JSON POST and a chunked upload arrive whole, in both forms of addressing.
async fn calls_through_the_sandbox(program: &[&str]) {
    let sandbox = Sandbox::start().await;
    let proxy = format!("http://{}", sandbox.listen);
    for arguments in [
        &[&*proxy, "http://uatoneapi.payu.in/payment-links"][..],
        &["--gateway", &proxy, "uatoneapi.payu.in", "/payment-links"],
    ] {
        let responses = responses(&output(&[program, arguments].concat()).await);
        let seen = responses.iter().map(|(status, body)| {
            assert_eq!(*status, 200, "{arguments:?}: {body}");
            assert_eq!(body["path"], "/payment-links");
            assert_eq!(body["merchant"], "8123456");
            let bytes = body["received_bytes"].as_u64().unwrap();
            (body["method"].clone(), body["token_scope"].clone(), bytes)
        });
        let seen: Vec<_> = seen.collect();
        assert_eq!(seen[0], (json!("GET"), json!("read_payment_links"), 0));
        let create = (json!("POST"), json!("create_payment_links"));
        assert_eq!((&seen[1].0, &seen[1].1), (&create.0, &create.1));
        assert!((2000..2100).contains(&seen[1].2), "{}", seen[1].2);
        assert_eq!(seen[2], (create.0, create.1, 300_000));
    }
}

/// The same with a name and a password in the proxy's URL, and what a wrong one is answered.
async fn calls_with_a_password(program: &[&str], wrong: Wrong) {
    let api = Upstream::start(|request| async move {
        reply(200, &json!({"received_bytes": request.body().len()}))
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&format!(
        "callers: {{legacy: {{password: 'open.sesame_1', allow: [acme]}}}}
providers: {{acme: {{hosts: [api.test], upstream: '{}', client_id: i, client_secret: s, token: {{url: '{}'}}}}}}",
        api.url(),
        idp.url()
    ))
    .await;
    let url = |password: &str| format!("http://legacy:{password}@{}", proxy.listen);
    let gateway = url("open.sesame_1");
    for arguments in [
        &[&*gateway, "http://api.test/links"][..],
        &["--gateway", &gateway, "api.test", "/links"],
    ] {
        let responses = responses(&output(&[program, arguments].concat()).await);
        for (status, body) in &responses {
            assert_eq!(*status, 200, "{arguments:?}: {body}");
        }
        assert_eq!(responses[2].1["received_bytes"], 300_000);
    }
    for seen in api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
        assert!(seen.all("proxy-authorization").is_empty());
    }
    assert_eq!(api.count(), 6);
    if wrong == Wrong::GivesUp {
        return;
    }
    let gateway = url("wrong");
    for (arguments, refused) in [
        (&[&*gateway, "http://api.test/links"][..], 407),
        (&["--gateway", &gateway, "api.test", "/links"], 401),
    ] {
        for (status, body) in responses(&output(&[program, arguments].concat()).await) {
            assert_eq!(
                (status, &body["reason"]),
                (refused, &json!("caller_unauthenticated"))
            );
        }
    }
    assert_eq!(api.count(), 6);
}

/// What a caller does about a refusal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It says what it was answered.
    IsShown,
    /// It ends with an error of its own.
    GivesUp,
}

#[tokio::test]
async fn python_requests_calls_through_it() {
    if Needs::PythonWithRequests.are_met().await {
        calls_through_the_sandbox(&["python3", "caller.py"]).await;
        calls_with_a_password(&["python3", "caller.py"], Wrong::IsShown).await;
    }
}

#[tokio::test]
async fn node_axios_calls_through_it() {
    if Needs::NodeWithAxios.are_met().await {
        calls_through_the_sandbox(&["node", "caller.mjs"]).await;
        calls_with_a_password(&["node", "caller.mjs"], Wrong::IsShown).await;
    }
}

#[tokio::test]
async fn java_http_client_calls_through_it() {
    if Needs::Java.are_met().await {
        calls_through_the_sandbox(&["java", "Caller.java"]).await;
        calls_with_a_password(&["java", "Caller.java"], Wrong::GivesUp).await;
    }
}

#[tokio::test]
async fn curl_calls_through_it_in_every_form() {
    if !Needs::Curl.are_met().await {
        return;
    }
    let sandbox = Sandbox::start().await;
    let proxy = format!("http://{}", sandbox.listen);
    let connect_to = format!("uatoneapi.payu.in:80:{}", sandbox.listen);
    let url = "http://uatoneapi.payu.in/payment-links";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
    let upload = format!("@{}", file.display());
    // Beyond 1 MiB curl sends `Expect: 100-continue` and waits for it.
    let post = [
        "--data-binary",
        &upload,
        "-H",
        "Content-Type: application/octet-stream",
    ];
    let chunked = ["-H", "Transfer-Encoding: chunked"];
    for (arguments, version) in [
        ([&["-x", &proxy][..], &post].concat(), "1.1"),
        ([&["-x", &proxy][..], &post, &chunked].concat(), "1.1"),
        ([&["-x", &proxy, "--http1.0"][..], &post].concat(), "1.0"),
        ([&["-p", "-x", &proxy][..], &post].concat(), "1.1"),
        ([&["--connect-to", &connect_to][..], &post].concat(), "1.1"),
        (
            [
                &["--connect-to", &connect_to, "--http2-prior-knowledge"][..],
                &post,
            ]
            .concat(),
            "2",
        ),
    ] {
        let line = [
            "curl",
            "-sS",
            "--max-time",
            "60",
            "-w",
            "\n%{http_code} %{http_version}",
            url,
        ];
        let text = output(&[&line[..], &arguments].concat()).await;
        let (body, status) = text.trim_end().rsplit_once('\n').unwrap();
        let body: Value = serde_json::from_str(body.trim()).unwrap();
        assert_eq!(body["received_bytes"], 3 << 20, "{arguments:?}");
        // To an HTTP/1.0 caller hyper answers as 1.0 or 1.1, as RFC 9110 section 6.2 leaves it to.
        assert!(
            status == format!("200 {version}") || version == "1.0" && status.starts_with("200 "),
            "{arguments:?}: {status}"
        );
    }
}
