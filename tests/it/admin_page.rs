//! `GET /` on the admin port: what stands there, what a browser may do with it, and that nothing in it is markup of others.

use std::net::SocketAddr;

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::metrics::admin;
use crate::support::program::Program;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Upstream, answer};
use crate::support::{CLIENT_SECRET, acme, eventually, write_intercepting};

const TOKEN: &str = "0123456789-admin-token";

#[tokio::test]
async fn the_page_is_one_file_that_asks_for_nothing_and_that_nobody_keeps_or_frames() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let proxy = Proxy::start(&format!("admin_token: {TOKEN}\n{yaml}")).await;
    eventually(|| async { proxy.json("/readyz").await.0 == 200 }).await;
    let page = admin(proxy.admin, "/").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.all("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(page.all("cache-control"), ["no-store"]);
    assert_eq!(page.all("x-frame-options"), ["DENY"]);
    assert!(page.all("set-cookie").is_empty());
    let policy = page.all("content-security-policy")[0];
    for part in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");
    let html = page.text();
    assert!(html.contains("Bursar is at work, and nothing needs you: its provider is well."));
    for elsewhere in [
        " src=", "url(http", "@import", " style=", " onclick", "//cdn",
    ] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    for secret in [TOKEN, CLIENT_SECRET, "token-1", "acme-id"] {
        assert!(!html.contains(secret), "{secret}");
    }
    let head = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut raw = Raw::connect(proxy.admin).await;
    raw.write(head).await;
    assert!(raw.read_head().await.starts_with("HTTP/1.1 200 OK"));
    let posted = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let posted = Raw::connect(proxy.admin).await.ask(posted).await;
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn nothing_that_comes_from_elsewhere_is_markup_on_the_page() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("admin_token: {TOKEN}\n{yaml}"), "info").await;
    let evil = "<img/onerror=alert(1)>\"'&";
    let body = serde_json::json!({"by": evil, "reason": evil}).to_string();
    let request = format!(
        "POST /freeze/acme HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = Raw::connect(program.admin).await.ask(request).await;
    assert_eq!(reply.status(), 200);
    let host = "GET / HTTP/1.1\r\nHost: a\"><img>.test\r\n\r\n";
    let refused = Raw::connect(program.listen).await.ask(host).await;
    assert_eq!(refused.status() / 100, 4);
    for query in ["/", "/?find=%3Cimg%3E%22&tokens=2", "/?tokens=%3Cimg%3E"] {
        let page = admin(program.admin, query).await;
        let html = page.text();
        assert!(html.contains("&lt;img/onerror=alert(1)&gt;&quot;&#39;&amp;"));
        assert!(!html.contains("<img"), "{query}");
    }
}

#[tokio::test]
async fn each_of_many_providers_has_a_row_and_the_page_says_which_instance_it_is() {
    let providers: String = (0..141)
        .map(|number| {
            format!(
                "  p{number}: {{hosts: [p{number}.test], client_id: id, client_secret: s3cret-of-{number}, token: {{url: 'http://127.0.0.1:1/t'}}}}\n"
            )
        })
        .collect();
    let yaml = format!("admin_token: {TOKEN}\nproviders:\n{providers}");
    let program = Program::start(&yaml, "info").await;
    let rows = |html: &str| html.matches(" data-name=\"p").count();
    let first = admin(program.admin, "/").await;
    assert_eq!(rows(first.text()), 100);
    assert!(first.text().contains("href=\"./?providers=2#providers\""));
    assert!(!first.text().contains("are well and not shown"));
    let second = admin(program.admin, "/?providers=2&tokens=2").await;
    assert_eq!(rows(second.text()), 41);
    assert!(
        second
            .text()
            .contains("href=\"./?tokens=2&amp;providers=1#providers\"")
    );
    // Behind a proxy it may have a path of its own.
    for outside in ["href=\"/", "action=\"/"] {
        assert!(!second.text().contains(outside), "{outside}");
    }
    let status = program.json("/status").await;
    let instance = status["instance"].as_str().unwrap();
    let port = program.listen.port().to_string();
    assert!(instance.ends_with(&format!(":{port}")), "{instance}");
    let html = second.text();
    assert!(html.contains(&format!("<title>{instance}: Bursar is")));
    assert!(html.contains(&format!("<span id=\"instance\">{instance}</span>")));
}

#[tokio::test]
async fn without_an_admin_token_the_page_offers_no_change_and_a_provider_in_trouble_comes_first() {
    let api = RawUpstream::resetting().await;
    let idp = Idp::counting().await;
    let acme = acme(&api.url(), &idp.url(), "");
    let bad = acme
        .strip_prefix("providers:\n")
        .unwrap()
        .replace("acme:", "zeta:")
        .replace("api.test", "zeta.test")
        .replace(&idp.url(), "http://127.0.0.1:1/t");
    let yaml = format!("journal: {{path: journal}}\n{acme}{bad}");
    let program = Program::start(&yaml, "info").await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 502);
    eventually(|| async {
        let page = admin(program.admin, "/").await;
        let sentence = "Bursar is at work, but 1 payment is in doubt, and zeta is in trouble.";
        page.text().contains(sentence)
    })
    .await;
    let page = admin(program.admin, "/").await;
    let html = page.text();
    let section = html.split("id=\"providers\"").nth(1).unwrap();
    assert!(section.find("zeta").unwrap() < section.find("acme").unwrap());
    assert!(section.contains("has no <code>admin_token</code>"));
    assert!(!html.contains("<button type=\"button\" hidden"));
    assert!(html.contains("bursar outcomes resolve "));
}

/// Waits until the page begins with that.
async fn says(admin_port: SocketAddr, sentence: &str) {
    eventually(|| async {
        let page = admin(admin_port, "/").await;
        page.text().contains(sentence)
    })
    .await;
}

#[tokio::test]
async fn the_page_says_first_that_no_connection_can_be_made_to_an_api() {
    let idp = Idp::counting().await;
    let proxy = Proxy::start(&acme("http://127.0.0.1:1", &idp.url(), "")).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 502);
    let sentence = "Bursar is at work, but no connection can be made to 127.0.0.1:1 of acme.";
    says(proxy.admin, sentence).await;
}

#[tokio::test]
async fn the_page_says_first_that_the_journal_cannot_be_written_until_it_can() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let (idp, directory) = (Idp::counting().await, tempfile::tempdir().unwrap());
    let acme = acme(&api.url(), &idp.url(), "");
    let journal = directory.path().join("journal");
    let yaml = format!("journal: {{path: {}}}\n{acme}", journal.display());
    let proxy = Proxy::start(&yaml).await;
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(&journal, &elsewhere).unwrap();
    says(
        proxy.admin,
        "but its journal can be neither written nor read",
    )
    .await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 503);
    std::fs::rename(&elsewhere, &journal).unwrap();
    says(proxy.admin, "Bursar is at work, and nothing needs you").await;
}

#[tokio::test]
async fn without_a_journal_the_page_says_first_what_ended_in_doubt_within_the_last_hour() {
    let (api, idp) = (RawUpstream::resetting().await, Idp::counting().await);
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    for _ in 0..2 {
        let mut caller = Caller::connect(proxy.listen).await;
        assert_eq!(caller.send("POST", "/pay", "x").await.status, 502);
    }
    let sentence = "Bursar is at work, but 2 payments have ended in doubt within the last hour.";
    says(proxy.admin, sentence).await;
}

#[tokio::test]
async fn the_page_tells_of_a_store_that_is_down_a_file_that_is_rejected_and_when_certificates_end()
{
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    write_intercepting(directory.path(), &["api.test"]);
    let acme = acme(&api.url(), &idp.url(), "");
    let top = "intercept: {ca: {certificate: ca.pem, key: ca.key}}\nfleet: {url: 'redis://127.0.0.1:1', keys: [MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=]}\n";
    let program = Program::start_in(directory, &format!("{top}{acme}"), "info").await;
    program.rewrite("<b>: nonsense");
    program.signal("HUP").await;
    let sentence = "Bursar is at work, but the fleet&#39;s store cannot be used, and the changed configuration is rejected, so the old one is in force.";
    eventually(|| async {
        let page = admin(program.admin, "/").await;
        page.text().contains(sentence)
    })
    .await;
    let page = admin(program.admin, "/").await;
    let html = page.text();
    for part in [
        "Cannot be used</span>, <code>127.0.0.1:1</code>",
        "(this one)",
        "Rejected</span>",
        "authority of <code>intercept</code>",
        "Valid</span>",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("<b>:"));
}
