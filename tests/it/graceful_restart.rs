//! Two instances behind a TCP balancer are restarted one after the other, under load: no request fails, and
//! no payment arrives twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

use crate::support::balancer::{Balancer, Place};
use crate::support::caller::read;
use crate::support::idp::Idp;
use crate::support::metrics::admin;
use crate::support::proxy::Program;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually, soon};

/// Callers of each version of HTTP.
const CALLERS: usize = 6;
/// Restarts of each instance.
const ROUNDS: usize = 2;

/// What callers share.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    sent: AtomicUsize,
    numbers: AtomicUsize,
    /// What was not sent, and why.
    unsent: Mutex<Vec<(usize, String)>>,
}

/// Whether the client says that it had the request in hand when GOAWAY came or the connection ended, and has not sent it.
/// Other clients open another connection without a word (RFC 9113 section 6.8).
fn is_unsent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut errors = std::iter::successors(Some(error), |error| error.source());
    errors.any(|error| {
        let is_canceled = error.downcast_ref().is_some_and(hyper::Error::is_canceled);
        let is_left =
            |error: &h2::Error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        is_canceled || error.downcast_ref().is_some_and(is_left)
    })
}

impl Load {
    /// Sends until it is over: payments and reads, in turn.
    async fn call(
        self: Arc<Self>,
        client: Client<HttpConnector, Full<Bytes>>,
        balancer: SocketAddr,
    ) {
        while !self.is_over.load(Ordering::SeqCst) {
            let number = self.numbers.fetch_add(1, Ordering::SeqCst);
            let (method, body) = match number % 3 {
                0 => (Method::GET, Bytes::new()),
                _ => (Method::POST, Bytes::from(vec![b'x'; number % 2000])),
            };
            let request = Request::builder()
                .method(method)
                .uri(format!("http://{balancer}/{number}"))
                .body(Full::new(body))
                .unwrap();
            let reply = loop {
                match soon(client.request(request.clone())).await {
                    Ok(reply) => break reply,
                    Err(error) if is_unsent(&error) => {
                        let mut unsent = self.unsent.lock().unwrap();
                        unsent.push((number, format!("{error:?}")));
                    }
                    Err(error) => panic!("{number}: {error:?}"),
                }
            };
            let reply = soon(read(reply)).await;
            let reply = reply.unwrap_or_else(|error| panic!("{number}: {error:?}"));
            assert_eq!((reply.status, reply.text()), (StatusCode::OK, "paid"));
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits for so many more answers.
    async fn goes_on(&self, answers: usize) {
        let before = self.sent.load(Ordering::SeqCst);
        eventually(|| async { self.sent.load(Ordering::SeqCst) >= before + answers }).await;
    }
}

async fn is_ready(place: Place) -> bool {
    tokio::net::TcpStream::connect(place.admin).await.is_ok()
        && admin(place.admin, "/readyz").await.status == 200
}

/// Restarts instances at these places behind that balancer.
async fn restart(balancer: SocketAddr, places: [Place; 2]) {
    let api = Upstream::start(|_| async {
        tokio::task::yield_now().await;
        answer(200, "paid")
    })
    .await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let yaml = yaml.replace("[api.test]", &format!("['{balancer}']"));
    let start = async |Place { listen, admin }: Place| {
        let top = format!("listen: {listen}\nadmin: {admin}\ndrain_delay: 2s\n");
        let program = Program::start(&format!("{top}{yaml}"), "warn,bursar::server=info").await;
        eventually(|| is_ready(Place { listen, admin })).await;
        program
    };
    let mut programs = [start(places[0]).await, start(places[1]).await];
    eventually(|| async { tokio::net::TcpStream::connect(balancer).await.is_ok() }).await;
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    let http2 = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    // The balancer has to learn that there is somebody.
    tokio::time::sleep(crate::support::balancer::INTERVAL * 10).await;
    for _ in 0..CALLERS {
        let http1 = Client::builder(TokioExecutor::new()).build_http();
        callers.spawn(load.clone().call(http1, balancer));
        callers.spawn(load.clone().call(http2.clone(), balancer));
    }
    for turn in 0..2 * ROUNDS {
        load.goes_on(100).await;
        let place = places[turn % 2];
        let program = &mut programs[turn % 2];
        program.signal("TERM").await;
        let (code, log) = program.wait().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("cut off"), "{log}");
        *program = start(place).await;
        tokio::time::sleep(crate::support::balancer::INTERVAL * 10).await;
    }
    load.is_over.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let mut arrived: HashMap<String, usize> = HashMap::new();
    for seen in api.seen() {
        *arrived.entry(seen.target).or_default() += 1;
    }
    let sent = load.sent.load(Ordering::SeqCst);
    let unsent = load.unsent.lock().unwrap();
    // hyper's client takes GOAWAY for the end of a request that it has just handed to h2, which may have sent it: so
    // the client has sent it twice, not Bursar.
    let sent_again = |target: &str| {
        let number = target.trim_start_matches('/').parse();
        unsent.iter().filter(|(one, _)| Ok(*one) == number).count()
    };
    let is_more = |(target, count): &(&String, &usize)| **count > 1 + sent_again(target);
    let twice: Vec<_> = arrived.iter().filter(is_more).collect();
    assert!(twice.is_empty(), "{twice:?}, {unsent:?}");
    assert_eq!(arrived.len(), sent);
    // GOAWAY meets each HTTP/2 connection once, and the few requests in hand then.
    assert!(
        sent > 500 && unsent.len() <= 4 * ROUNDS * CALLERS,
        "{sent} {unsent:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let places = [Place::any(), Place::any()];
    let balancer = Balancer::start(&places).await;
    restart(balancer.address, places).await;
}
