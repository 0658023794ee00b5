//! Sampling: which requests have spans, by whom they come and how many there are.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::receiver::{Receiver, Span};
use super::{PARENT, PARENTS_ID, PARENTS_TRACE, Rig, named};
use crate::support::caller::{Caller, basic};

#[tokio::test]
async fn a_sampled_parent_is_followed_for_known_callers_and_the_provider_hears_of_it_only_where_it_is_to()
 {
    for (trace, expected) in [("", None), ("trace: forward", Some(PARENT))] {
        let receiver = Receiver::start().await;
        let callers = "callers: {shop: {password: pw, allow: [acme]}}\n";
        let traces = format!("{callers}{}", receiver.yaml("ratio: 0"));
        let rig = Rig::ready(&traces, trace).await;
        let shop = format!("Proxy-Authorization: {}\r\n", basic("shop", "pw"));
        let unsampled = PARENT.replace("-01", "-00");
        let later = PARENT.replace("00-4", "01-4");
        let refused = [
            (shop.clone(), 200),
            (format!("{shop}traceparent: {unsampled}\r\n"), 200),
            (
                format!("{shop}traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n"),
                200,
            ),
            (
                format!("{shop}traceparent: {}\r\n", PARENT.to_uppercase()),
                200,
            ),
            (format!("{shop}traceparent: {PARENT}-more\r\n"), 200),
            (
                format!("{shop}traceparent: {}\r\n", PARENT.replace("00-4", "ff-4")),
                200,
            ),
            (format!("{shop}b3: {PARENTS_TRACE}-{PARENTS_ID}-1\r\n"), 200),
            (format!("traceparent: {PARENT}\r\n"), 407),
            (
                format!(
                    "Proxy-Authorization: {}\r\ntraceparent: {PARENT}\r\n",
                    basic("shop", "no")
                ),
                407,
            ),
        ];
        let count = refused.len();
        for (fields, status) in refused {
            assert_eq!(rig.ask(&fields).await, status, "{fields}");
        }
        let whole = format!("{shop}traceparent: {PARENT}\r\ntracestate: a=b\r\n");
        assert_eq!(rig.ask(&whole).await, 200);
        let seen = rig.api.seen().pop().unwrap();
        assert_eq!(seen.all("traceparent"), Vec::from_iter(expected));
        assert_eq!(
            rig.ask(&format!("{shop}traceparent: {later}-more\r\n"))
                .await,
            200
        );
        let lines = rig.proxy.access_lines(count + 2).await;
        assert_eq!(lines[count]["trace_id"], json!(PARENTS_TRACE));
        let rig = rig.ended().await;
        let spans = receiver.received(4).await;
        let own: Vec<&Span> = spans
            .iter()
            .filter(|span| span.kind == SpanKind::Server)
            .collect();
        assert_eq!(own.len(), 2);
        for own in own {
            assert_eq!(
                (own.trace.as_str(), own.parent.as_str()),
                (PARENTS_TRACE, PARENTS_ID)
            );
            assert_eq!(own.says("bursar.caller"), json!("shop"));
            // Sampled, and the parent is another program's.
            assert_eq!(own.flags, 0x301);
        }
        drop(rig);
    }
}

#[tokio::test]
async fn without_callers_nobody_is_known_and_what_is_sampled_all_the_same_begins_a_trace() {
    let receiver = Receiver::start().await;
    let parent = format!("traceparent: {PARENT}\r\n");
    let rig = Rig::ready(&receiver.yaml("per_second: 1000"), "").await;
    for _ in 0..20 {
        assert_eq!(rig.ask(&parent).await, 200);
    }
    let line = rig.proxy.access_lines(20).await.pop().unwrap();
    assert_eq!(line["trace_id"], json!(PARENTS_TRACE));
    rig.ended().await;
    assert_eq!(receiver.count(), 0);
    let rig = Rig::ready(&receiver.yaml("ratio: 1"), "").await;
    assert_eq!(rig.ask(&parent).await, 200);
    let spans = receiver.received(2).await;
    assert!(spans.iter().all(|span| span.trace != PARENTS_TRACE));
    assert!(named(&spans, "GET default").parent.is_empty());
    let line = rig.proxy.access_lines(1).await.pop().unwrap();
    assert_eq!(line["trace_id"], json!(spans[0].trace));
}

#[tokio::test]
async fn no_more_requests_have_spans_than_may_have() {
    let receiver = Receiver::start().await;
    let rig = Rig::ready(&receiver.yaml("ratio: 1, per_second: 5"), "").await;
    let mut caller = Caller::connect(rig.proxy.listen).await;
    let start = tokio::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    let most = 5 + 5 * (seconds + 1);
    rig.ended().await;
    let count = receiver
        .spans()
        .iter()
        .filter(|span| span.kind == SpanKind::Server)
        .count();
    assert!((5..=most).contains(&count), "{count}");
}

#[tokio::test]
async fn who_fails_to_authenticate_leaves_spans_to_those_who_do_not() {
    let receiver = Receiver::start().await;
    let callers = "callers: {shop: {password: pw, allow: [acme]}}\n";
    let traces = format!("{callers}{}", receiver.yaml("ratio: 1, per_second: 100"));
    let rig = Rig::ready(&traces, "").await;
    let start = tokio::time::Instant::now();
    let mut stranger = Caller::connect(rig.proxy.listen).await;
    for _ in 0..300 {
        assert_eq!(stranger.send("GET", "/x", "").await.status, 407);
    }
    // A tenth of 100 at once, and then as many in a second.
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    let most = 10 + 10 * (seconds + 1);
    let shop = format!("Proxy-Authorization: {}\r\n", basic("shop", "pw"));
    for _ in 0..50 {
        assert_eq!(rig.ask(&shop).await, 200);
    }
    rig.ended().await;
    let spans = receiver.spans();
    let of = |caller: &str| {
        let own = spans.iter().filter(|span| span.kind == SpanKind::Server);
        own.filter(|span| span.says("bursar.caller") == caller)
            .count()
    };
    assert_eq!(of("shop"), 50);
    let strangers = of("anonymous");
    assert!(
        (1..=most).contains(&strangers),
        "{strangers} in {seconds} s"
    );
}
