//! java.net.http.HttpClient with `expectContinue(true)`, which waits for ever for an answer with content that comes
//! without a `100 Continue`.

use super::{Needs, output};
use crate::support::acme;
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::RawUpstream;
use crate::support::upstream::{Upstream, answer};

/// What the client prints for a POST of so many bytes to each target.
async fn post(proxy: &str, bytes: &str, targets: &[&str]) -> Vec<String> {
    let line = ["java", "Expecting.java", proxy, bytes];
    let text = output(&[&line[..], targets].concat()).await;
    text.lines().map(str::to_owned).collect()
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
    let api = RawUpstream::start(|_, mut raw| async move {
        raw.read_head().await;
        raw.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")
            .await;
        raw.closed().await;
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let url = format!("http://{}", proxy.listen);
    let lines = post(&url, "2000", &["http://api.test/x"]).await;
    assert_eq!(lines, ["200 5"]);
}
