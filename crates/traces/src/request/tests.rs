//! Spans of requests: names, attributes, and which of them are errors.

use super::*;
use crate::span::Value;

fn trace(method: &Method) -> Box<RequestTrace> {
    let sampled = Sampled {
        context: SpanContext {
            trace_id: 1,
            span_id: 2,
        },
        parent: Some(3),
    };
    let head = RequestHead {
        came: Instant::now(),
        method,
        version: Version::HTTP_2,
        is_tls: true,
    };
    RequestTrace::new(sampled, &head)
}

fn end() -> RequestEnd<'static> {
    RequestEnd {
        request_id: 0xab,
        caller: "shop",
        client: IpAddr::from([10, 0, 0, 1]),
        provider: Some("acme"),
        account: Some("default"),
        route: Some("GET,PUT /links/*"),
        host: Some("api.test"),
        status: Some(StatusCode::OK),
        is_own: false,
        reason: None,
        detail: None,
        cause: None,
        is_replayed: false,
    }
}

fn own(method: &Method, end: &RequestEnd<'_>) -> Span {
    let mut spans = trace(method).finish(end, Duration::from_millis(5));
    assert_eq!(spans.len(), 1);
    spans.pop().unwrap()
}

fn error(span: &Span) -> Option<String> {
    let (_, value) = span
        .attributes
        .all
        .iter()
        .find(|(key, _)| *key == name::ERROR_TYPE)?;
    assert!(span.attributes.is_error);
    match value {
        Value::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

fn server() -> Server {
    Server {
        host: "api.test".to_owned(),
        port: 443,
        is_tls: true,
    }
}

#[test]
fn a_span_is_named_by_a_known_method_and_the_paths_pattern_of_its_route() {
    let custom = Method::from_bytes(b"SECRET-WORD").unwrap();
    for (method, route, expected) in [
        (&Method::GET, Some("GET,PUT /links/*"), "GET /links/*"),
        (&Method::GET, Some("/links/*"), "GET /links/*"),
        (&Method::POST, Some("default"), "POST default"),
        (
            &Method::CONNECT,
            Some("passthrough *.a.test"),
            "CONNECT passthrough *.a.test",
        ),
        (&Method::GET, None, "GET"),
        (&custom, None, "HTTP"),
        (&custom, Some("/x"), "HTTP /x"),
    ] {
        let span = own(method, &RequestEnd { route, ..end() });
        assert_eq!(span.name, expected);
        assert!(!format!("{span:?}").contains("SECRET"));
    }
}

#[test]
fn a_request_fails_by_5xx_or_without_a_whole_response_and_not_by_what_its_caller_did_wrong() {
    let status = |status: u16| Some(StatusCode::from_u16(status).unwrap());
    for (number, is_own, reason, expected) in [
        (Some(200), false, None, None),
        (Some(404), false, None, None),
        (Some(500), false, None, Some("500")),
        (Some(403), true, Some("route_not_allowed"), None),
        (Some(429), true, Some("caller_limit_exceeded"), None),
        (
            Some(504),
            true,
            Some("upstream_timeout"),
            Some("upstream_timeout"),
        ),
        (
            Some(200),
            false,
            Some("upstream_protocol"),
            Some("upstream_protocol"),
        ),
        (None, false, Some("caller_left"), Some("caller_left")),
    ] {
        let end = RequestEnd {
            status: number.and_then(status),
            is_own,
            reason,
            ..end()
        };
        let span = own(&Method::GET, &end);
        assert_eq!(error(&span).as_deref(), expected, "{number:?} {reason:?}");
        assert_eq!(span.attributes.is_error, expected.is_some());
    }
}

#[test]
fn every_sending_after_the_first_is_counted_and_fails_from_400_on() {
    let mut trace = trace(&Method::POST);
    for status in [401, 200] {
        trace.begin_sending(Instant::now(), server());
        let received = Received {
            status: StatusCode::from_u16(status).unwrap(),
            version: Version::HTTP_11,
        };
        trace.end_sending(Ok(received), None);
    }
    trace.begin_sending(Instant::now(), server());
    let failed = Failed {
        error: "no_connection",
        cause: Some("refused"),
    };
    trace.end_sending(Err(failed), None);
    let spans = trace.finish(&end(), Duration::ZERO);
    let counts: Vec<_> = spans
        .iter()
        .map(|span| {
            let found = span
                .attributes
                .all
                .iter()
                .find(|(key, _)| *key == name::RESEND_COUNT);
            (
                span.kind,
                found.map(|(_, value)| value.clone()),
                error(span),
            )
        })
        .collect();
    let counted = |count| Some(Value::Number(count));
    let error = |text: &str| Some(text.to_owned());
    assert_eq!(
        counts,
        [
            (Kind::Client, None, error("401")),
            (Kind::Client, counted(1), None),
            (Kind::Client, counted(2), error("no_connection")),
            (Kind::Server, None, None),
        ]
    );
}

#[test]
fn what_was_begun_ends_with_the_request_and_belongs_to_it() {
    let mut trace = trace(&Method::POST);
    let flight = SpanContext::root();
    let links = trace.begin_waiting(Instant::now());
    links.add(flight);
    links.add(flight);
    trace.begin_sending(Instant::now(), server());
    let end = RequestEnd {
        status: None,
        reason: Some("caller_left"),
        ..end()
    };
    let spans = trace.finish(&end, Duration::ZERO);
    let [wait, sending, own] = &spans[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(
        (wait.kind, &wait.links[..]),
        (Kind::Internal, &[flight][..])
    );
    for child in [wait, sending] {
        assert_eq!(error(child).as_deref(), Some("caller_left"));
        assert_eq!(child.context.trace_id, own.context.trace_id);
        assert_eq!(child.parent.unwrap().span_id, own.context.span_id);
    }
    assert!(own.parent.unwrap().is_remote && !wait.parent.unwrap().is_remote);
}

#[test]
fn a_request_has_no_more_spans_than_it_may() {
    let mut trace = trace(&Method::GET);
    for _ in 0..100 {
        trace.begin_waiting(Instant::now());
        trace.end_waiting(Ok(()));
    }
    let spans = trace.finish(&end(), Duration::ZERO);
    assert_eq!(spans.len(), MAX_CHILDREN + 1);
}
