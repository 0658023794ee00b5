//! The export of spans: whatever the receiver does, at a reload, and at the end of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message as _;
use serde_json::json;

use super::receiver::Receiver;
use super::{Rig, ask, named};
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::program::with_ports;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::RawUpstream;
use crate::support::tls::{self, Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually, free_port};

/// What a receiver does, and how many of its spans are lost.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answers(u16, &'static str),
    RejectsOne,
    /// Once, and asks for a second's pause.
    IsBusy,
    IsSlow,
}

#[tokio::test]
async fn whatever_the_receiver_does_no_request_fails_and_what_is_lost_is_counted() {
    let checks = [
        (Does::Answers(400, ""), 10.0),
        (Does::Answers(500, "no"), 10.0),
        (Does::Answers(200, "<html>welcome</html>"), 10.0),
        (Does::Answers(200, ""), 0.0),
        (Does::RejectsOne, 1.0),
        (Does::IsBusy, 0.0),
        (Does::IsSlow, 0.0),
    ];
    let all = checks.map(|(does, lost)| tokio::spawn(receives(does, lost)));
    for check in all {
        check.await.unwrap();
    }
}

async fn receives(does: Does, lost: f64) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let receiver = Receiver::answering(move |_| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match does {
                Does::Answers(status, body) => answer(status, body),
                Does::RejectsOne => {
                    let said = ExportTraceServiceResponse {
                        partial_success: Some(ExportTracePartialSuccess {
                            rejected_spans: 1,
                            error_message: "too old".to_owned(),
                        }),
                    };
                    answer(200, said.encode_to_vec())
                }
                Does::IsBusy if call == 0 => {
                    let mut busy = answer(503, "");
                    busy.headers_mut()
                        .insert("retry-after", "1".parse().unwrap());
                    busy
                }
                Does::IsBusy => answer(200, ""),
                Does::IsSlow => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    answer(200, "")
                }
            }
        }
    })
    .await;
    let rig = Rig::ready(&receiver.yaml("ratio: 1"), "").await;
    let mut caller = Caller::connect(rig.proxy.listen).await;
    for _ in 0..5 {
        assert_eq!(caller.send("GET", "/x", "").await.status, 200, "{does:?}");
    }
    // A request is two spans; they may come in two batches, each of which loses one.
    eventually(|| async { receiver.spans().len() >= 10 }).await;
    if let Does::RejectsOne = does {
        let batches = receiver.count() as f64;
        rig.proxy
            .metric_becomes("bursar_spans_dropped_total", &[], batches)
            .await;
    } else {
        rig.proxy
            .metric_becomes("bursar_spans_dropped_total", &[], lost)
            .await;
    }
    if let Does::IsBusy = does {
        eventually(|| async { receiver.spans().len() == 20 || receiver.count() >= 2 }).await;
        assert_eq!(
            rig.proxy.metric("bursar_spans_dropped_total", &[]).await,
            0.0
        );
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_hangs_or_hangs_up_holds_neither_requests_nor_the_end_up() {
    let gone = format!("http://127.0.0.1:{}", free_port());
    let hangs = Receiver::answering(|_| std::future::pending()).await;
    let hangs_up = RawUpstream::start(|_, mut raw| async move {
        drop(raw.try_read_head().await);
        raw.reset();
    })
    .await;
    let endpoints = [
        format!("traces: {{endpoint: '{gone}', ratio: 1}}\n"),
        hangs.yaml("ratio: 1"),
        format!("traces: {{endpoint: '{}', ratio: 1}}\n", hangs_up.url()),
    ];
    let checks = endpoints.map(|traces| {
        tokio::spawn(async move {
            let rig = Rig::ready(&traces, "").await;
            let mut caller = Caller::connect(rig.proxy.listen).await;
            for _ in 0..20 {
                assert_eq!(caller.send("GET", "/x", "").await.status, 200);
            }
            let start = tokio::time::Instant::now();
            rig.ended().await;
            // The last export may take two seconds.
            start.elapsed()
        })
    });
    for check in checks {
        let took = check.await.unwrap();
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[tokio::test]
async fn a_reload_changes_what_is_sampled_and_where_spans_go() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let api = Upstream::start(|_| async { answer(200, "x") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let with = |traces: &str| format!("{traces}{yaml}");
    let proxy = Proxy::start_following(directory.path(), &with("")).await;
    eventually(|| async { proxy.json("/readyz").await.0 == 200 }).await;
    let file = directory.path().join("proxy.yaml");
    let reloads = "bursar_config_reloads_total";
    let steps = [
        ("", &first, 0),
        (&*first.yaml("ratio: 0"), &first, 0),
        (&*first.yaml("ratio: 1"), &first, 2),
        (&*second.yaml("ratio: 1"), &second, 2),
        ("", &second, 2),
    ];
    for (at, (traces, receiver, count)) in steps.into_iter().enumerate() {
        if at > 0 {
            let text = with_ports(&with(traces));
            std::fs::write(&file, text).unwrap();
            proxy
                .metric_becomes(reloads, &[("outcome", "ok")], at as f64)
                .await;
        }
        assert_eq!(ask(&proxy, "").await, 200);
        receiver.received(count).await;
    }
    assert_eq!(first.spans().len(), 2);
    assert_eq!(proxy.metric(reloads, &[("outcome", "rejected")]).await, 0.0);
}

#[tokio::test]
async fn the_program_trusts_the_systems_roots_and_exports_the_last_spans_before_it_ends() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    authority.write(&ca);
    let receiver = Receiver::with_tls(authority.server(&["http/1.1"], ClientCertificate::Ignored));
    let receiver = receiver.await;
    let api = Upstream::start(|_| async { answer(200, "x") }).await;
    let idp = Idp::counting().await;
    let yaml = format!(
        "{}{}",
        receiver.yaml("ratio: 1"),
        acme(&api.url(), &idp.url(), "")
    );
    let environment = [
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
        ("OTEL_SERVICE_NAME", "egress"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1"),
    ];
    let program = Program::start_with(&yaml, &environment).await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    end_with_all_exported(program).await;
    let spans = receiver.spans();
    let own = named(&spans, "GET default");
    assert_eq!(own.resource["service.name"], json!("egress"));
    assert_eq!(own.resource["k8s.pod.name"], json!("pod-1"));
}

#[tokio::test]
async fn a_variable_of_opentelemetry_that_does_not_count_is_warned_of() {
    let idp = Idp::counting().await;
    let provider = acme("http://127.0.0.1:1", &idp.url(), "");
    let yaml = format!("traces: {{endpoint: 'http://127.0.0.1:1'}}\n{provider}");
    let command = r#"OTEL_SERVICE_NAME=$(printf 'a\377') OTEL_RESOURCE_ATTRIBUTES="a=$(printf '%02000d' 0),$(printf 'n%d=v,' $(seq 70))" exec "$@""#;
    let program = Program::start_by(command, &yaml).await;
    let logged = program.logged();
    for said in [
        "OTEL_SERVICE_NAME is not text: it does not count",
        "OTEL_RESOURCE_ATTRIBUTES has more than 64 pairs: further ones do not count",
        "an attribute of the environment for spans is longer than 1024 bytes: it does not count",
    ] {
        assert!(logged.contains(said), "{said}\n{logged}");
    }
}

#[tokio::test]
async fn a_reload_has_spans_go_to_who_is_trusted_by_then() {
    let (directory, _trusted_first) = tls::directory();
    let ca = directory.path().join("ca.pem");
    let authority = Authority::new();
    let receiver = Receiver::with_tls(authority.server(&["http/1.1"], ClientCertificate::Ignored));
    let receiver = receiver.await;
    let api = Upstream::start(|_| async { answer(200, "x") }).await;
    let idp = Idp::counting().await;
    let provider = acme(&api.url(), &idp.url(), "");
    let yaml = format!("{}{provider}", receiver.yaml("ratio: 1"));
    let environment = [("SSL_CERT_FILE", ca.to_str().unwrap())];
    let program = Program::start_with(&yaml, &environment).await;
    authority.write(&ca);
    program.reload().await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    end_with_all_exported(program).await;
    named(&receiver.spans(), "GET default");
}

/// Ends it, by when all of its spans have gone.
async fn end_with_all_exported(program: Program) {
    program.signal("TERM").await;
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("spans were not exported"), "{log}");
}
