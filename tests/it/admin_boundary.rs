//! Who may ask the admin port, and from which page.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::program::run_in;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::{Message, Raw};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

const TOKEN: &str = "0123456789-admin-token";

async fn yaml(lines: &str) -> (Upstream, Idp, String) {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let acme = acme(&api.url(), &idp.url(), "");
    let yaml = format!("admin_token: {TOKEN}\n{lines}\n{acme}");
    (api, idp, yaml)
}

async fn ask(admin: SocketAddr, request: &str, fields: &str) -> Message {
    let request = format!("{request} HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n");
    Raw::connect(admin).await.ask(request).await
}

/// A POST from there with these fields.
async fn post(admin: SocketAddr, path: &str, fields: &str) -> Message {
    let fields = format!("Host: {admin}\r\n{fields}");
    ask(admin, &format!("POST {path}"), &fields).await
}

#[tokio::test]
async fn whatever_is_asked_by_a_name_that_is_not_listed_is_misdirected_and_nothing_is_told_or_changed()
 {
    let (_api, _idp, yaml) = yaml("admin_hosts: [bursar.payments.svc, Admin.Test]").await;
    let proxy = Proxy::start(&yaml).await;
    let at = proxy.admin;
    let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
    for path in [
        "GET /healthz",
        "GET /readyz",
        "GET /status",
        "GET /metrics",
        "GET /",
        "GET /nothing",
        "HEAD /status",
        "POST /freeze/acme",
        "POST /log-level?filter=debug",
        "OPTIONS /freeze/acme",
        "GET http://evil.test/status",
    ] {
        for host in ["evil.test", "evil.test:9128", "x.bursar.payments.svc"] {
            let fields = format!("Host: {host}\r\n{authorization}");
            let refused = match path.starts_with("HEAD") {
                true => {
                    let mut raw = Raw::connect(at).await;
                    raw.write(format!("{path} HTTP/1.1\r\n{fields}\r\n")).await;
                    let head = raw.read_head().await;
                    assert!(head.starts_with("HTTP/1.1 421 "), "{path} {host}: {head}");
                    continue;
                }
                false => ask(at, path, &fields).await,
            };
            assert_eq!(refused.status(), 421, "{path} {host}");
            assert!(refused.text().contains("`admin_hosts`"));
            assert!(!refused.text().contains("evil"));
        }
    }
    let refused = proxy
        .metric("bursar_admin_refusals_total", &[("reason", "host")])
        .await;
    assert_eq!(refused, 33.0);
    assert_eq!(proxy.json("/status").await.1["frozen"], json!([]));
    for host in [
        at.to_string(),
        "localhost".to_owned(),
        "[::1]:9128".to_owned(),
        "bursar.payments.svc:9128".to_owned(),
        "admin.test".to_owned(),
    ] {
        let reply = ask(at, "GET /status", &format!("Host: {host}\r\n")).await;
        assert_eq!(reply.status(), 200, "{host}");
        assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert_eq!(
            reply.field("cross-origin-resource-policy"),
            Some("same-origin")
        );
    }
    // A load balancer's probe.
    let old = Raw::connect(at)
        .await
        .ask("GET /healthz HTTP/1.0\r\n\r\n")
        .await;
    assert_eq!(old.status(), 200);
    for fields in ["", "Host: localhost\r\nHost: localhost\r\n"] {
        assert_eq!(ask(at, "GET /status", fields).await.status(), 400);
    }
}

#[tokio::test]
async fn the_names_that_the_port_may_be_asked_by_change_with_a_reload() {
    let (_api, _idp, yaml) = yaml("").await;
    let program = Program::start(&yaml, "info").await;
    let by_name = async || {
        let reply = ask(program.admin, "GET /healthz", "Host: bursar.svc\r\n").await;
        reply.status()
    };
    assert_eq!(by_name().await, 421);
    let is_told = |logged: &str| {
        logged.contains("`admin_hosts` lists the names") && logged.contains("bursar.svc")
    };
    eventually(|| async { is_told(&program.logged()) }).await;
    program.rewrite(&format!("admin_hosts: [bursar.svc]\n{yaml}"));
    program.reload().await;
    eventually(|| async { by_name().await == 200 }).await;
}

#[tokio::test]
async fn no_page_of_another_origin_changes_anything_whatever_token_it_has() {
    let (_api, _idp, yaml) = yaml("").await;
    let proxy = Proxy::start(&yaml).await;
    let at = proxy.admin;
    let send = async |path: &str, field: &str| {
        let fields = format!("Authorization: Bearer {TOKEN}\r\n{field}\r\n");
        post(at, path, &fields).await
    };
    for field in [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: null",
        "Origin: http://evil.test",
        "Origin: http://localhost:1",
        "Sec-Fetch-Site: same-origin\r\nOrigin: http://evil.test",
    ] {
        for path in ["/freeze/acme", "/reload", "/log-level?filter=off", "/x"] {
            let refused = send(path, field).await;
            assert_eq!(refused.status(), 403, "{path} {field}");
        }
        // Reading is not what this is about; no page of another origin is shown the response.
        let fields = format!("Host: {at}\r\n{field}\r\n");
        let read = ask(at, "GET /status", &fields).await;
        assert_eq!(read.status(), 200, "{field}");
        assert_eq!(read.field("access-control-allow-origin"), None);
    }
    assert_eq!(proxy.json("/status").await.1["frozen"], json!([]));
    let refused = proxy
        .metric("bursar_admin_refusals_total", &[("reason", "origin")])
        .await;
    assert_eq!(refused, 24.0);
    let own = format!("Sec-Fetch-Site: same-origin\r\nOrigin: http://{at}");
    for field in ["Sec-Fetch-Site: none", &*own, "X: y"] {
        assert_eq!(send("/freeze/acme", field).await.status(), 200, "{field}");
    }
}

#[tokio::test]
async fn the_letter_case_of_the_scheme_does_not_matter() {
    let (_api, _idp, yaml) = yaml("").await;
    let proxy = Proxy::start(&yaml).await;
    let status = async |authorization: &str| {
        let field = format!("Authorization: {authorization}\r\n");
        post(proxy.admin, "/freeze/acme", &field).await.status()
    };
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        assert_eq!(status(&format!("{scheme} {TOKEN}")).await, 200, "{scheme}");
    }
    let twice = format!("Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}");
    for other in [format!("Basic {TOKEN}"), format!("Bearer{TOKEN}"), twice] {
        assert_eq!(status(&other).await, 401, "{other}");
    }
}

#[tokio::test]
async fn commands_ask_an_admin_port_by_its_address_whatever_name_leads_there() {
    let (_api, _idp, yaml) = yaml("").await;
    let program = Program::start(&yaml, "info").await;
    let named = format!("localhost:{}", program.admin.port());
    let token = [("BURSAR_ADMIN_TOKEN", TOKEN)];
    let said = run_in(
        program.directory(),
        &["freeze", "acme", "--admin", &named],
        &token,
    )
    .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("POST", "/x", "").await.status, 503);
}
