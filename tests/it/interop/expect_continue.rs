//! java.net.http.HttpClient with `expectContinue(true)`, which waits for ever for an answer that comes without a
//! `100 Continue`.

use super::https::trusting_java;
use super::{Needs, output};
use crate::intercept::intercepting;
use crate::support::acme;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::RawUpstream;
use crate::support::upstream::{Upstream, answer};

/// What the client prints for a POST of so many bytes to each target.
async fn post(proxy: &str, bytes: &str, targets: &[&str]) -> Vec<String> {
    post_with("java", proxy, bytes, targets).await
}

/// The same with that command.
async fn post_with(java: &str, proxy: &str, bytes: &str, targets: &[&str]) -> Vec<String> {
    let java: Vec<&str> = java.split(' ').collect();
    let line = ["Expecting.java", proxy, bytes];
    let text = output(&[&java, &line[..], targets].concat()).await;
    text.lines().map(str::to_owned).collect()
}

/// An API that responds to a head before the body was sent, with as many bytes as the target's last segment says.
async fn early() -> RawUpstream {
    RawUpstream::start(|_, mut raw| async move {
        let head = raw.read_head().await;
        let (path, _) = head.split_once(" HTTP/").unwrap();
        let (_, bytes) = path.rsplit_once('/').unwrap();
        let body = "e".repeat(bytes.parse().unwrap());
        raw.write(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n{body}"
        ))
        .await;
        raw.closed().await;
    })
    .await
}

/// The status of what it prints, and whether there was a body.
fn statuses(lines: &[String]) -> Vec<(&str, bool)> {
    lines
        .iter()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(status, length)| (status, length != "0"))
        .collect()
}

#[tokio::test]
async fn java_reads_every_answer_to_what_it_expects_to_continue() {
    if !Needs::Java.are_met().await {
        return;
    }
    let api = Upstream::start(|request| async move { answer(200, request.into_body()) }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let open = Proxy::start(&yaml).await;
    let url = format!("http://{}", open.listen);
    let targets = [
        "http://api.test/x",
        "http://other.test/x",
        "http://api.test/token",
    ];
    // The larger one is still on its way when it is refused.
    for bytes in ["2000", "900000"] {
        let lines = post(&url, bytes, &targets).await;
        let expected = [("200", true), ("403", true), ("403", true)];
        assert_eq!(statuses(&lines), expected, "{lines:?}");
        assert_eq!(lines[0], format!("200 {bytes}"));
    }
    // Who calls is asked by a 407, and the request comes again.
    let callers = "callers: {till: {password: pw, allow: [acme]}}";
    let closed = Proxy::start(&format!("{callers}\n{yaml}")).await;
    let url = format!("http://{}", closed.listen);
    let lines = post(&url, "2000", &["http://api.test/x"]).await;
    assert_eq!(statuses(&lines), [("407", true)], "{lines:?}");
    let url = format!("http://till:pw@{}", closed.listen);
    let lines = post(&url, "2000", &["http://api.test/x"]).await;
    assert_eq!(lines, ["200 2000"]);
}

#[tokio::test]
async fn java_reads_a_providers_answer_that_comes_before_the_body_was_sent() {
    if !Needs::Java.are_met().await {
        return;
    }
    let api = early().await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let url = format!("http://{}", proxy.listen);
    let lines = post(&url, "2000", &["http://api.test/5"]).await;
    assert_eq!(lines, ["200 5"]);
}

#[tokio::test]
async fn java_reads_early_responses_over_http1_in_an_intercepted_tunnel() {
    if !Needs::Java.are_met().await {
        return;
    }
    let api = early().await;
    let (proxy, _idp, directory) = intercepting(&api.url(), "").await;
    let java = trusting_java(directory.path()).await;
    let java = format!("{java} -Dversion=HTTP_1_1");
    let targets = [
        "https://api.test/api/1",
        "https://api.test/api/1024",
        "https://api.test/api/0",
        // Refused by Bursar.
        "https://api.test/elsewhere/5",
    ];
    let url = format!("http://{}", proxy.listen);
    for bytes in ["1", "2000"] {
        let lines = post_with(&java, &url, bytes, &targets).await;
        assert_eq!(lines[..3], ["200 1", "200 1024", "200 0"]);
        assert_eq!(statuses(&lines)[3..], [("403", true)], "{lines:?}");
    }
}

#[tokio::test]
async fn java_is_told_at_once_to_use_http1_where_it_expects_to_continue_over_http2() {
    if !Needs::Java.are_met().await {
        return;
    }
    let api = Upstream::start(|request| async move { answer(200, request.into_body()) }).await;
    let (proxy, _idp, directory) = intercepting(&api.url(), "").await;
    let java = trusting_java(directory.path()).await;
    let url = format!("http://{}", proxy.listen);
    let targets = ["https://api.test/api/1", "https://api.test/elsewhere"];
    let told = "java.io.IOException: Received RST_STREAM: Use HTTP/1.1 for request";
    assert_eq!(post_with(&java, &url, "2000", &targets).await, [told, told]);
    assert_eq!(api.count(), 0);
    // And that works.
    let java = format!("{java} -Dversion=HTTP_1_1");
    let lines = post_with(&java, &url, "2000", &targets[..1]).await;
    assert_eq!(lines, ["200 2000"]);
    assert_eq!(api.count(), 1);
}
