//! Single stages of a request, as the exchange calls them.

use std::hint::black_box;
use std::path::Path as File;

use bursar::exchange::caller::Callers;
use bursar::exchange::route::{RouteQuery, Routes};
use bursar::token::{Handle, Supply as _, Tokens};
use bursar::upstream::egress::Egress;
use bursar_base::path::Path;
use bursar_config::Config;
use bursar_http::connection::Peer;
use bursar_http::headers::{self, ControlFields, Via};
use bursar_http::target::Target;
use bursar_telemetry::metrics::Metrics;
use http::request::Parts;
use http::{HeaderMap, Request, Version};
use tokio::time::Instant;

use crate::counted;
use crate::request;

const TIMES: usize = 1000;

/// Two presets and a provider with routes of its own.
const CONFIG: &str = r#"
callers:
  checkout: {password: p, allow: [acme, paylater]}
  ledger: {password: q, allow: [acme]}
providers:
  paylater: {preset: paylater, environment: sandbox, client_id: i, client_secret: s}
  quidkey: {preset: quidkey, environment: sandbox, client_id: i, client_secret: s}
  acme:
    hosts: [api.acme.test, "*.eu.acme.test"]
    client_id: i
    client_secret: s
    token: {url: "https://login.acme.test/token", scopes: [payments]}
    routes:
      - {methods: [GET], path: "/v1/payments/*", scopes: [payments]}
      - {methods: [POST], path: /v1/payments, scopes: [payments]}
      - {methods: [POST], path: "/v1/payments/*/refunds", scopes: [refunds]}
"#;

fn config(text: &str) -> Config {
    Config::parse(text, File::new("")).expect("the configuration is right")
}

/// The ordinary request, in proxy form.
fn head() -> Parts {
    let request = Request::get("http://api.acme.test/v1/payments/42?expand=all")
        .header("host", "api.acme.test")
        .header("user-agent", "side-by-side/1.0")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip")
        .header("proxy-authorization", "Basic Y2hlY2tvdXQ6cA==")
        .body(());
    request.expect("it is a request").into_parts().0
}

/// A source with a valid token, and the runtime that its renewal runs on.
fn source() -> (tokio::runtime::Runtime, Handle) {
    let runtime = request::runtime();
    let endpoint = request::token_endpoint();
    let text = format!(
        "providers: {{a: {{hosts: [a.test], client_id: i, client_secret: s, token: {{url: \"http://{endpoint}/t\"}}}}}}"
    );
    let config = config(&text);
    let source = runtime.block_on(async {
        let metrics = Metrics::new(&config).expect("every metric has a name of its own");
        let egress = Egress::new(&config.egress, &metrics);
        let source = Tokens::start(&config, &metrics, &egress, None, None)
            .source(0, 0, 0)
            .clone();
        source
            .obtain(None)
            .await
            .expect("the endpoint hands out tokens");
        source
    });
    (runtime, source)
}

pub(crate) fn token_read() -> usize {
    let (_runtime, source) = source();
    let now = Instant::now();
    counted(|| {
        for _ in 0..TIMES {
            drop(black_box(source.read(now)));
        }
    });
    TIMES
}

pub(crate) fn token_read_and_header() -> usize {
    let (_runtime, source) = source();
    let now = Instant::now();
    counted(|| {
        for _ in 0..TIMES {
            // The token stays with the request, and its value goes into the header.
            let access_token = black_box(source.read(now));
            let authorization = access_token
                .as_ref()
                .map(|access_token| access_token.authorization.clone());
            drop((black_box(authorization), access_token));
        }
    });
    TIMES
}

pub(crate) fn caller() -> usize {
    let config = config(CONFIG);
    let metrics = Metrics::new(&config).expect("every metric has a name of its own");
    let callers = Callers::new(&config, &metrics.password_hashes, None);
    let head = head();
    let form = Target::read(&head, None).expect("it has a target").form;
    let peer = Peer::at([127, 0, 0, 1].into());
    counted(|| {
        for _ in 0..TIMES {
            let caller = callers.check(black_box(&head.headers), form, &peer);
            assert!(black_box(caller).is_ok());
        }
    });
    TIMES
}

pub(crate) fn routing() -> usize {
    let config = config(CONFIG);
    let routes = Routes::new(&config);
    let metrics = Metrics::new(&config).expect("every metric has a name of its own");
    let callers = Callers::new(&config, &metrics.password_hashes, None);
    let peer = Peer::at([127, 0, 0, 1].into());
    let head = head();
    let form = Target::read(&head, None).expect("it has a target").form;
    let caller = callers.check(&head.headers, form, &peer);
    let caller = caller.expect("its password is right");
    let via = Via::unique();
    counted(|| {
        for _ in 0..TIMES {
            let target = Target::read(black_box(&head), None).expect("it has a target");
            let path = Path::new(target.path);
            let site = routes
                .match_host(&target, &path)
                .expect("the host is known");
            let wish = RouteQuery {
                method: &head.method,
                account: ControlFields::read(&head.headers, &via).account,
            };
            let destination = site.route(wish, &path, caller.allow);
            assert!(black_box(destination).is_ok());
        }
    });
    TIMES
}

pub(crate) fn request_headers() -> usize {
    let via = Via::unique();
    rewrite(&head().headers, |headers| {
        black_box(headers::clean_request(headers, false));
        via.append(headers, Version::HTTP_11);
    })
}

pub(crate) fn response_headers() -> usize {
    let answer = http::Response::builder()
        .header("date", "Fri, 20 Nov 2026 16:00:00 GMT")
        .header("server", "provider")
        .header("content-type", "application/json")
        .header("x-request-id", "0123456789abcdef")
        .header("connection", "keep-alive")
        .header("content-length", "512")
        .body(());
    let via = Via::unique();
    rewrite(answer.expect("it is an answer").headers(), |headers| {
        black_box(headers::clean_response(headers));
        via.append(headers, Version::HTTP_11);
    })
}

/// Copies are made beforehand, and dropped afterwards.
fn rewrite(headers: &HeaderMap, change: impl Fn(&mut HeaderMap)) -> usize {
    let mut copies = vec![headers.clone(); TIMES];
    counted(|| {
        for headers in &mut copies {
            change(black_box(headers));
        }
    });
    TIMES
}
