//! Callers' trace headers: they end here, unless the provider's `trace` says otherwise.

use super::support::Rig;
use super::support::raw::Raw;
use super::support::upstream::answer;

/// As they are written, and as gateways that read `-` and `_` alike would take others.
const NAMES: [&str; 14] = [
    "traceparent",
    "Tracestate",
    "BAGGAGE",
    "b3",
    "X-B3-TraceId",
    "x-b3-spanid",
    "X-B3-Flags",
    "uber-trace-id",
    "uberctx-customer",
    "X-Cloud-Trace-Context",
    "X-Amzn-Trace-Id",
    "x_b3_traceid",
    "X_Amzn_Trace_Id",
    "uber_trace_id",
];

async fn seen_with(provider: &str) -> (usize, usize) {
    let rig = Rig::with(provider, |_| async { answer(200, "x") }).await;
    let mut raw = Raw::connect(rig.proxy.listen).await;
    let fields: String = NAMES.map(|name| format!("{name}: 1-2\r\n")).concat();
    let request = format!(
        "POST http://api.test/x HTTP/1.1\r\nHost: a\r\nX-Request-Id: r\r\n{fields}Trailer: X-Sum, {}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n{fields}X-Sum: s\r\n\r\n",
        NAMES.join(", ")
    );
    assert_eq!(raw.ask(request).await.status(), 200);
    let seen = rig.api.only();
    assert_eq!(seen.all("x-request-id"), ["r"]);
    let trailers = seen.trailers.unwrap();
    assert_eq!(trailers["x-sum"], "s");
    let count = |headers: &http::HeaderMap| {
        let found = NAMES.iter().filter(|name| headers.contains_key(**name));
        found.count()
    };
    (count(&seen.headers), count(&trailers))
}

#[tokio::test]
async fn a_caller_s_trace_reaches_a_provider_where_it_is_forwarded_and_nowhere_else() {
    assert_eq!(seen_with("").await, (0, 0));
    assert_eq!(
        seen_with("trace: forward").await,
        (NAMES.len(), NAMES.len())
    );
}
