//! Real callers with `https://` URLs: through interception, with nothing added but the authority.

use serde_json::json;

use super::callers::responses;
use super::*;
use crate::intercept::Intercepting;
use crate::support::idp::reply;
use crate::support::upstream::Upstream;

/// A proxy that intercepts for a caller with a password, its URL, and the authority's file.
async fn intercepting() -> (Intercepting, String, String) {
    let api = Upstream::start(|request| async move {
        reply(200, &json!({"received_bytes": request.body().len()}))
    })
    .await;
    let callers = "callers: {legacy: {password: open.sesame_1, allow: [acme]}}\n";
    let rig = Intercepting::of(api, callers).await;
    let proxy = format!("http://legacy:open.sesame_1@{}", rig.proxy.listen);
    let ca = rig.directory.path().join("ca.pem");
    let ca = ca.to_str().unwrap().to_owned();
    (rig, proxy, ca)
}

/// The three exchanges of a caller arrive with a token and whole.
async fn three_calls(rig: &Intercepting, program: &[&str], arguments: &[&str]) {
    let before = rig.api.count();
    let responses = responses(program, arguments).await;
    for (status, body) in &responses {
        assert_eq!(*status, 200, "{program:?}: {body}");
    }
    assert_eq!(responses[2].1["received_bytes"], 300_000, "{program:?}");
    assert_eq!(rig.api.count(), before + 3, "{program:?}");
    for seen in rig.api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
        assert!(seen.all("proxy-authorization").is_empty());
    }
}

const URL: &str = "https://api.test/api/links";

#[tokio::test]
async fn curl_calls_an_intercepted_provider() {
    if !Needs::Curl.are_met().await {
        return;
    }
    let (rig, proxy, ca) = intercepting().await;
    let line = [
        "curl",
        "-sS",
        "-x",
        &proxy,
        "-w",
        "\n%{http_code} %{http_version}",
    ];
    for (version, expected) in [("--http1.1", "200 1.1"), ("--http2", "200 2")] {
        let text = output(&[&line[..], &["--cacert", &ca, version, URL]].concat()).await;
        assert!(text.ends_with(expected), "{text}");
    }
    assert_eq!(rig.api.count(), 2);
    // The server name is another one than the tunnel's, and what is asked for is right.
    let to = "other.test:443:api.test:443";
    let other = [
        "-k",
        "--connect-to",
        to,
        "-H",
        "Host: api.test",
        "https://other.test/api",
    ];
    let text = output(&[&line[..], &other].concat()).await;
    assert!(
        text.contains("\"misdirected\"") && text.contains("\n421 "),
        "{text}"
    );
    // Nothing is trusted that was not added.
    let untrusting = command(&[&line[..], &[URL]].concat())
        .output()
        .await
        .unwrap();
    assert_eq!(untrusting.status.code(), Some(60), "{untrusting:?}");
    assert_eq!(rig.api.count(), 2);
}

#[tokio::test]
async fn python_requests_calls_an_intercepted_provider() {
    if Needs::PythonWithRequests.are_met().await {
        let (rig, proxy, ca) = intercepting().await;
        let ca = format!("CALLER_CA={ca}");
        three_calls(&rig, &["env", &ca, "python3", "caller.py"], &[&proxy, URL]).await;
    }
}

#[tokio::test]
async fn node_axios_calls_an_intercepted_provider() {
    if Needs::NodeWithAxios.are_met().await {
        let (rig, proxy, ca) = intercepting().await;
        let ca = format!("NODE_EXTRA_CA_CERTS={ca}");
        three_calls(&rig, &["env", &ca, "node", "caller.mjs"], &[&proxy, URL]).await;
    }
}

#[tokio::test]
async fn node_fetch_calls_a_provider_in_clear_and_intercepted() {
    if Needs::NodeWithUndici.are_met().await {
        let (rig, proxy, ca) = intercepting().await;
        let ca = format!("NODE_EXTRA_CA_CERTS={ca}");
        for url in [URL, "http://api.test/api/links"] {
            three_calls(&rig, &["env", &ca, "node", "fetch.mjs"], &[&proxy, url]).await;
        }
    }
}

#[tokio::test]
async fn java_http_client_calls_an_intercepted_provider() {
    if !Needs::Java.are_met().await {
        return;
    }
    let (rig, proxy, ca) = intercepting().await;
    let store = rig.directory.path().join("trust.p12");
    let store = store.to_str().unwrap();
    let import = [
        "keytool",
        "-importcert",
        "-noprompt",
        "-alias",
        "bursar",
        "-file",
        &ca,
    ];
    output(&[&import[..], &["-keystore", store, "-storepass", "changeit"]].concat()).await;
    let store = format!("-Djavax.net.ssl.trustStore={store}");
    let program = [
        "java",
        &store,
        "-Djavax.net.ssl.trustStorePassword=changeit",
        // Without that Java sends no password with CONNECT.
        "-Djdk.http.auth.tunneling.disabledSchemes=",
        "Caller.java",
    ];
    three_calls(&rig, &program, &[&proxy, URL]).await;
}
