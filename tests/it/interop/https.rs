//! Real callers with `https://` URLs: through interception, with nothing added but the authority.

use std::path::Path;

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

/// What a program calls.
const URL: &str = "https://api.test/api/links";
const IN_CLEAR: &str = "http://api.test/api/links";

/// A program with the authority added makes its three calls over TLS, in the version of HTTP that it
/// offers, and in clear. In its command `{proxy}`, `{ca}` and `{url}` stand for what it is told.
async fn calls(needs: Needs, version: &str, program: &str) {
    if needs.are_met().await {
        let (rig, proxy, ca) = intercepting().await;
        let program = program.replace("{proxy}", &proxy).replace("{ca}", &ca);
        three_calls(&rig, version, &program).await;
    }
}

async fn three_calls(rig: &Intercepting, version: &str, program: &str) {
    for (url, version) in [(URL, version), (IN_CLEAR, "1.1")] {
        let before = rig.api.count();
        let line = program.replace("{url}", url);
        let line: Vec<&str> = line.split(' ').collect();
        let text = output(&line).await;
        let responses = responses(&text);
        for (status, body) in &responses {
            assert_eq!(*status, 200, "{line:?}: {body}");
        }
        assert_eq!(responses[2].1["received_bytes"], 300_000, "{line:?}");
        assert_eq!(rig.api.count(), before + 3, "{line:?}");
        // Not every client says which version it spoke.
        for said in text.split("\"HTTP/").skip(1) {
            assert!(said.starts_with(version), "{line:?}: {text}");
        }
    }
    for seen in rig.api.seen() {
        assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
        assert!(seen.all("proxy-authorization").is_empty());
    }
}

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
    let program = "env CALLER_CA={ca} python3 caller.py {proxy} {url}";
    calls(Needs::PythonWithRequests, "1.1", program).await;
}

#[tokio::test]
async fn python_aiohttp_calls_an_intercepted_provider() {
    let program = "env HTTP_PROXY={proxy} HTTPS_PROXY={proxy} SSL_CERT_FILE={ca} python3 caller_aiohttp.py {url}";
    calls(Needs::PythonWithAiohttp, "1.1", program).await;
}

#[tokio::test]
async fn node_axios_calls_an_intercepted_provider() {
    let program = "env NODE_EXTRA_CA_CERTS={ca} node caller.mjs {proxy} {url}";
    calls(Needs::NodeWithAxios, "1.1", program).await;
}

#[tokio::test]
async fn node_undici_calls_an_intercepted_provider() {
    let program = "env NODE_EXTRA_CA_CERTS={ca} node fetch.mjs {url} {proxy}";
    calls(Needs::NodeWithUndici, "1.1", program).await;
}

#[tokio::test]
async fn node_fetch_calls_an_intercepted_provider() {
    let program = "env NODE_USE_ENV_PROXY=1 HTTP_PROXY={proxy} HTTPS_PROXY={proxy} NODE_EXTRA_CA_CERTS={ca} node_modules/.bin/node fetch.mjs {url}";
    calls(Needs::Node24, "1.1", program).await;
}

#[tokio::test]
async fn go_calls_an_intercepted_provider() {
    let program = "env HTTP_PROXY={proxy} HTTPS_PROXY={proxy} SSL_CERT_FILE={ca} ./go-caller {url}";
    calls(Needs::Go, "2.0", program).await;
}

#[tokio::test]
async fn php_curl_calls_an_intercepted_provider() {
    let program =
        "env http_proxy={proxy} https_proxy={proxy} php -d curl.cainfo={ca} caller_curl.php {url}";
    calls(Needs::Php, "2.0", program).await;
}

#[tokio::test]
async fn php_streams_call_an_intercepted_provider() {
    let program = "php -d openssl.cafile={ca} caller_streams.php {proxy} {url}";
    calls(Needs::Php, "1.1", program).await;
}

#[tokio::test]
async fn ruby_net_http_calls_an_intercepted_provider() {
    let program = "env http_proxy={proxy} SSL_CERT_FILE={ca} ruby caller.rb {url}";
    calls(Needs::Ruby, "1.1", program).await;
}

/// The command of a Java that trusts the authority in a directory.
pub(super) async fn trusting_java(directory: &Path) -> String {
    let [ca, store] =
        ["ca.pem", "trust.p12"].map(|name| directory.join(name).display().to_string());
    let import = format!(
        "keytool -importcert -noprompt -alias bursar -file {ca} -keystore {store} -storepass changeit"
    );
    output(&import.split(' ').collect::<Vec<_>>()).await;
    format!("java -Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit")
}

#[tokio::test]
async fn java_http_client_calls_an_intercepted_provider() {
    if !Needs::Java.are_met().await {
        return;
    }
    let (rig, proxy, _ca) = intercepting().await;
    let java = trusting_java(rig.directory.path()).await;
    // Without the last option Java sends no password with CONNECT.
    let program =
        format!("{java} -Djdk.http.auth.tunneling.disabledSchemes= Caller.java {proxy} {{url}}");
    three_calls(&rig, "2.0", &program).await;
}
