//! What `/status` says beside tokens: refusals with what to do, payments in doubt, the last hour, reloads, certificates.

use serde_json::{Value, json};

use crate::support::caller::{Caller, basic};
use crate::support::idp::Idp;
use crate::support::metrics::admin;
use crate::support::program::{Program, run_in};
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};
use crate::tls_listen;

async fn status(program: &Program) -> Value {
    program.json("/status").await
}

fn counts(status: &Value) -> [u64; 4] {
    let minutes = status["last_hour"].as_array().unwrap();
    let names = ["requests", "absorbed_401s", "refusals", "payments_in_doubt"];
    names.map(|name| minutes.iter().map(|one| one[name].as_u64().unwrap()).sum())
}

#[tokio::test]
async fn the_last_refusals_are_told_with_what_to_do_and_without_what_might_be_secret() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "frozen: true");
    let program = Program::start(&yaml, "info").await;
    let mut caller = Caller::connect(program.listen).await;
    let refused = caller
        .send("POST", "/secret-path?secret=query", "secret-body")
        .await;
    assert_eq!(refused.status, 503);
    let id = refused.problem()["request_id"].clone();
    for number in 0..60 {
        let request = format!("GET http://host{number}.test/secret HTTP/1.1\r\nHost: x\r\n\r\n");
        let reply = Raw::connect(program.listen).await.ask(request).await;
        assert_eq!(reply.status(), 403);
    }
    // A request is counted, and told of, once its response has gone: which of two workers is first is not known.
    eventually(|| async { counts(&status(&program).await)[0] == 61 }).await;
    let garbage = Raw::connect(program.listen)
        .await
        .ask("GET / HTTP/1.1\r\nA B\r\n\r\n")
        .await;
    assert_eq!(garbage.status(), 400);
    eventually(|| async { counts(&status(&program).await)[0] == 62 }).await;
    let mut caller = Caller::connect(program.listen).await;
    let refused = caller.send("POST", "/secret-path", "").await;
    assert_eq!(refused.status, 503);
    eventually(|| async { counts(&status(&program).await) == [63, 0, 63, 0] }).await;
    let shown = status(&program).await;
    let refusals = shown["recent_refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 50);
    for (field, expected) in [
        ("reason", json!("frozen")),
        ("provider", json!("acme")),
        ("caller", json!("anonymous")),
        ("client", json!("127.0.0.1")),
        ("host", Value::Null),
        ("request_id", refused.problem()["request_id"].clone()),
        (
            "what_to_do",
            json!("ask the operators, who have stopped payments to this provider"),
        ),
    ] {
        assert_eq!(refusals[0][field], expected, "{field}");
    }
    assert!(refusals.iter().all(|one| one["request_id"] != id));
    assert_eq!(refusals[1]["reason"], "bad_request");
    for (field, expected) in [
        ("reason", "destination_not_allowed"),
        ("detail", "host_unknown"),
        ("meaning", "Nobody has the host."),
        ("host", "host59.test"),
    ] {
        assert_eq!(refusals[2][field], expected, "{field}");
    }
    assert!(!shown.to_string().contains("secret-"), "{shown}");
}

#[tokio::test]
async fn of_a_host_that_is_none_the_query_is_neither_logged_nor_shown() {
    let (api, idp) = (RawUpstream::resetting().await, Idp::counting().await);
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "debug").await;
    let request = "GET /x HTTP/1.1\r\nHost: api.test?card=4111111111111111\r\n\r\n";
    let reply = Raw::connect(program.listen).await.ask(request).await;
    assert_eq!(reply.status(), 400);
    eventually(|| async { program.logged().contains("\"host\":\"api.test\"") }).await;
    let shown = status(&program).await;
    assert_eq!(shown["recent_refusals"][0]["host"], "api.test");
    assert!(!shown.to_string().contains("4111"), "{shown}");
    assert!(!program.logged().contains("4111"), "{}", program.logged());
}

#[tokio::test]
async fn a_name_that_came_with_a_wrong_password_is_no_caller_but_one_that_is_claimed() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let callers = "callers: {shop: {password: correct-horse-battery, allow: [acme]}}";
    let yaml = format!("{callers}\n{}", acme(&api.url(), &idp.url(), ""));
    let program = Program::start(&yaml, "info").await;
    let shown = basic("shop", "guessed");
    let request = format!(
        "GET http://api.test/x HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {shown}\r\n\r\n"
    );
    let reply = Raw::connect(program.listen).await.ask(request).await;
    assert_eq!(reply.status(), 407);
    eventually(|| async { counts(&status(&program).await)[0] == 1 }).await;
    let shown = status(&program).await;
    let refusal = &shown["recent_refusals"][0];
    assert_eq!(refusal["reason"], "caller_unauthenticated");
    assert_eq!(refusal["caller"], Value::Null);
    assert_eq!(refusal["claimed_caller"], "shop");
    let page = admin(program.admin, "/").await;
    let said = "nobody known at 127.0.0.1, who claims to be shop";
    assert!(page.text().contains(said), "{}", page.text());
    assert!(!page.text().contains("from shop"));
    // As `bursar --version` has it.
    let version = concat!(env!("CARGO_PKG_VERSION"), " (");
    assert!(shown["version"].as_str().unwrap().starts_with(version));
    assert!(page.text().contains(version));
}

#[tokio::test]
async fn payments_in_doubt_are_told_with_the_command_that_takes_each_off_the_list() {
    let api = RawUpstream::resetting().await;
    let idp = Idp::counting().await;
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("journal: {{path: journal}}\n{acme}"), "info").await;
    let none = status(&program).await;
    assert_eq!(none["payments_in_doubt"], json!({"count": 0, "oldest": []}));
    let mut caller = Caller::connect(program.listen).await;
    let reply = caller.send("POST", "/pay", "x").await;
    assert_eq!(reply.problem()["request_sent"], "maybe", "{reply:?}");
    eventually(|| async { status(&program).await["payments_in_doubt"]["count"] == 1 }).await;
    let shown = status(&program).await;
    let payment = &shown["payments_in_doubt"]["oldest"][0];
    let id = reply.problem()["request_id"].as_str().unwrap().to_owned();
    assert_eq!(payment["request_id"], *id);
    assert_eq!(
        payment["resolve"],
        format!("bursar outcomes resolve {id} --note TEXT")
    );
    assert_eq!(
        (&payment["path"], &payment["provider"]),
        (&json!("/pay"), &json!("acme"))
    );
    assert_eq!(counts(&shown), [1, 0, 1, 1]);
    let arguments = ["outcomes", "resolve", &id, "--note", "paid"];
    let said = run_in(program.directory(), &arguments, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(status(&program).await["payments_in_doubt"]["count"], 0);
    // Without a journal nobody knows.
    let without = Program::start(&acme, "info").await;
    assert_eq!(status(&without).await["payments_in_doubt"], Value::Null);
}

#[tokio::test]
async fn reloads_certificates_and_absorbed_401s_are_counted() {
    let api = Upstream::start(|request| async move {
        let token = request.headers()["authorization"].to_str().unwrap();
        answer(if token.ends_with("-1") { 401 } else { 200 }, "")
    })
    .await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    crate::support::write_intercepting(directory.path(), &["api.test"]);
    let plain = acme(&api.url(), &idp.url(), "");
    let program = Program::start_in(directory, &plain, "info").await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    eventually(|| async { counts(&status(&program).await) == [1, 1, 0, 0] }).await;
    let intercept = "intercept: {ca: {certificate: ca.pem, key: ca.key}}";
    program.rewrite(&format!("{intercept}\n{plain}"));
    program.reload().await;
    program.rewrite("nonsense");
    program.signal("HUP").await;
    eventually(|| async { status(&program).await["reloads"]["rejected"] == 1 }).await;
    let shown = status(&program).await;
    assert_eq!(shown["reloads"]["ok"], 1);
    assert_eq!(shown["certificates"][0]["kind"], "intercept");
    for time in ["at", "started"] {
        assert!(humantime::parse_rfc3339(shown[time].as_str().unwrap()).is_ok());
    }
    let tls = tls_listen::Rig::start("").await;
    let (_, shown) = tls.proxy.json("/status").await;
    assert_eq!(shown["certificates"][0]["kind"], "listen");
}
