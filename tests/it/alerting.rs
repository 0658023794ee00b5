//! Metrics that alerts need: refusals by provider and caller, outcomes of payments, failing tokens, doubts with their age,
//! and the configuration that is in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bursar_base::clock;
use serde_json::json;

use super::support::caller::{Caller, basic};
use super::support::idp::{self, Idp};
use super::support::metrics::Scrape;
use super::support::proxy::{Program, Proxy};
use super::support::raw::{Raw, RawUpstream};
use super::support::upstream::{Upstream, answer};
use super::support::{acme, eventually};
use crate::journal::{outcomes, with_journal};

/// A provider whose API nobody serves, beside `acme`.
fn gone(idp: &Idp) -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap();
    format!(
        "  gone: {{hosts: [gone.test], upstream: 'http://{closed}', client_id: a, client_secret: a-secret-of-gone, token: {{url: '{}'}}}}\n",
        idp.url()
    )
}

#[tokio::test]
async fn a_provider_s_502_and_one_of_bursar_s_own_are_counted_apart() {
    let api = Upstream::start(|_| async { answer(502, "") }).await;
    let idp = Idp::counting().await;
    let callers = "callers: {shop: {password: correct-horse, allow: [acme, gone]}}\n";
    let yaml = format!(
        "{callers}{}{}",
        acme(&api.url(), &idp.url(), ""),
        gone(&idp)
    );
    let proxy = Proxy::start(&yaml).await;
    let shown = basic("shop", "correct-horse");
    let shown = format!("Proxy-Authorization: {shown}\r\n");
    for (url, field, status) in [
        ("http://api.test/x", &*shown, 502),
        ("http://gone.test/x", &shown, 502),
        ("http://nobody.test/x", &shown, 403),
        ("http://api.test/x", "", 407),
    ] {
        let request = format!("GET {url} HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        let reply = Raw::connect(proxy.listen).await.ask(request).await;
        assert_eq!(reply.status(), status, "{url}");
    }
    proxy.access_lines(4).await;
    let scrape = proxy.scrape().await;
    let all = scrape.all().iter().filter(|(_, _, value)| *value > 0.0);
    let mut counted: Vec<String> = all
        .filter(|(name, ..)| ["bursar_requests_total", "bursar_refusals_total"].contains(&&**name))
        .map(|(name, labels, value)| {
            let values: Vec<&str> = labels.values().map(String::as_str).collect();
            format!("{name} {} {value}", values.join(" "))
        })
        .collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            "bursar_refusals_total anonymous none caller_unauthenticated 1",
            "bursar_refusals_total shop gone upstream_unreachable 1",
            "bursar_refusals_total shop none destination_not_allowed 1",
            "bursar_requests_total shop acme 502 1",
        ]
    );
}

#[tokio::test]
async fn payments_are_counted_by_their_outcome_with_and_without_a_journal() {
    for has_journal in [false, true] {
        let api = Upstream::start(|request| async move {
            match request.uri().path() {
                "/lost" => std::future::pending().await,
                "/denied" => answer(401, "no"),
                _ => answer(200, "done"),
            }
        });
        let (api, idp) = (api.await, Idp::counting().await);
        let directory = tempfile::tempdir().unwrap();
        let yaml = acme(&api.url(), &idp.url(), "timeouts: {head: 300ms}") + &gone(&idp);
        let yaml = match has_journal {
            true => with_journal(&yaml, directory.path()),
            false => yaml,
        };
        let proxy = Proxy::start(&yaml).await;
        for (method, url, status) in [
            ("POST", "http://api.test/pay", 200),
            ("POST", "http://api.test/denied", 401),
            ("POST", "http://api.test/lost", 504),
            ("GET", "http://api.test/pay", 200),
            ("POST", "http://gone.test/pay", 502),
            ("POST", "http://nobody.test/pay", 403),
        ] {
            let request =
                format!("{method} {url} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
            let reply = Raw::connect(proxy.listen).await.ask(request).await;
            assert_eq!(reply.status(), status, "{method} {url}");
        }
        proxy.access_lines(6).await;
        let scrape = proxy.scrape().await;
        for (provider, expected) in [("acme", [2.0, 0.0, 1.0]), ("gone", [0.0, 1.0, 0.0])] {
            let count = |outcome| {
                let labels = [
                    ("provider", provider),
                    ("account", "default"),
                    ("outcome", outcome),
                ];
                scrape.value("bursar_payments_total", &labels)
            };
            let found = ["answered", "not_sent", "in_doubt"].map(count);
            assert_eq!(found, expected, "{provider}, journal: {has_journal}");
        }
        if has_journal {
            assert_eq!(outcomes(directory.path()).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_payment_whose_response_breaks_off_is_counted_in_doubt() {
    let api = RawUpstream::start(|_, mut raw| async move {
        raw.read_message().await;
        raw.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
            .await;
        raw.reset();
    });
    let (api, idp) = (api.await, Idp::counting().await);
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.write("POST http://api.test/pay HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        .await;
    let doubt = [("provider", "acme"), ("outcome", "in_doubt")];
    proxy
        .metric_becomes("bursar_payments_total", &doubt, 1.0)
        .await;
}

#[tokio::test]
async fn a_wanted_token_that_cannot_be_had_is_told_until_there_is_one() {
    let works = Arc::new(AtomicBool::new(false));
    let working = works.clone();
    let idp = Idp::start(move |_| {
        let works = working.load(Ordering::Relaxed);
        async move {
            match works {
                true => idp::token("t"),
                false => idp::reply(500, &json!({})),
            }
        }
    });
    let (idp, api) = (
        idp.await,
        Upstream::start(|_| async { answer(200, "") }).await,
    );
    let proxy = Proxy::start(&acme(&api.url(), &idp.url(), "token.scopes: [a]")).await;
    let token = [
        ("provider", "acme"),
        ("account", "default"),
        ("scopes", "a"),
    ];
    proxy
        .metric_becomes("bursar_token_renewal_failing", &token, 1.0)
        .await;
    works.store(true, Ordering::Relaxed);
    proxy
        .metric_becomes("bursar_token_renewal_failing", &token, 0.0)
        .await;
}

#[tokio::test]
async fn doubts_have_a_provider_and_an_age_while_there_are_some() {
    let api = Upstream::start(|_| async { std::future::pending().await }).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = acme(&api.url(), &idp.url(), "timeouts: {head: 300ms}") + &gone(&idp);
    let proxy = Proxy::start(&with_journal(&yaml, directory.path())).await;
    let oldest = "bursar_journal_oldest_unresolved_timestamp_seconds";
    let (acme, gone) = ([("provider", "acme")], [("provider", "gone")]);
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.value("bursar_journal_unresolved", &acme), 0.0);
    assert_eq!(scrape.get(oldest, &[]), None);
    let before = now();
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 504);
    proxy
        .metric_becomes("bursar_journal_unresolved", &acme, 1.0)
        .await;
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.value("bursar_journal_unresolved", &gone), 0.0);
    let since = scrape.value(oldest, &acme);
    assert!((before - 1.0..=now()).contains(&since), "{since}");
    assert_eq!(scrape.get(oldest, &gone), None);
    let id = outcomes(directory.path()).await[0]["request_id"]
        .as_str()
        .unwrap()
        .to_owned();
    bursar_journal::resolve(directory.path(), &[&id], "paid", clock::wall()).unwrap();
    proxy
        .metric_becomes("bursar_journal_unresolved", &acme, 0.0)
        .await;
    eventually(|| async { proxy.scrape().await.get(oldest, &[]).is_none() }).await;
}

fn now() -> f64 {
    let since = clock::wall().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

/// The hash of the file that is in force.
fn hash(scrape: &Scrape) -> String {
    let all = scrape.all().iter();
    let info = all.filter(|(name, ..)| name == "bursar_config_info");
    let [(_, labels, 1.0)] = info.collect::<Vec<_>>()[..] else {
        panic!("there is one file in force");
    };
    labels["hash"].clone()
}

#[tokio::test]
async fn which_configuration_is_in_force_shows_and_a_rejected_one_changes_nothing_of_it() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let yaml = acme(&api.url(), &idp.url(), "");
    let started = now();
    let program = Program::start(&yaml, "info").await;
    let scrape = Scrape::of(program.admin).await;
    let first = hash(&scrape);
    assert_eq!(first.len(), 12);
    assert_eq!(
        scrape.value("bursar_config_last_reload_successful", &[]),
        1.0
    );
    let at = scrape.value("bursar_config_last_reload_timestamp_seconds", &[]);
    assert!((started - 1.0..=now()).contains(&at), "{at}");
    for (text, is_successful) in [
        (format!("{yaml}listne: 1\n"), 0.0),
        (format!("# another\n{yaml}"), 1.0),
    ] {
        let before = hash(&Scrape::of(program.admin).await);
        program.rewrite(&text);
        program.reload().await;
        let scrape = Scrape::of(program.admin).await;
        assert_eq!(
            scrape.value("bursar_config_last_reload_successful", &[]),
            is_successful
        );
        assert_eq!(hash(&scrape) == before, is_successful == 0.0);
        let now_at = scrape.value("bursar_config_last_reload_timestamp_seconds", &[]);
        assert!(now_at >= at);
    }
}

#[tokio::test]
async fn who_tries_the_admin_token_is_counted() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let token = "admin_token: an-admin-token-of-32-characters!\n";
    let proxy = Proxy::start(&format!("{token}{}", acme(&api.url(), &idp.url(), ""))).await;
    let count = [("reason", "token")];
    assert_eq!(
        proxy.metric("bursar_admin_refusals_total", &count).await,
        0.0
    );
    let request = "POST /freeze/acme HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Length: 0\r\n\r\n";
    let reply = Raw::connect(proxy.admin).await.ask(request).await;
    assert_eq!(reply.status(), 401);
    assert_eq!(
        proxy.metric("bursar_admin_refusals_total", &count).await,
        1.0
    );
}
