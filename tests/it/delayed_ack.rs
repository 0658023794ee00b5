//! Callers that leave Nagle's algorithm on, as python-requests does to a proxy: their system holds back what they
//! write until what they wrote before is acknowledged, and ours takes its time over that unless it is asked.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::intercept::{Intercepting, tunnel};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Upstream, answer};
use crate::support::{Rig, acme};

/// The least by which Linux delays an acknowledgement that nothing is sent with.
const DELAY: Duration = Duration::from_millis(40);
/// So many have to be faster; one could be by accident.
const FAST: usize = 5;
/// Of so many, however busy the machine is. Without what is tested here all are slow but the first few of a
/// connection, which Linux acknowledges at once by itself.
const TRIES: usize = 100;
const BY_ITSELF: usize = 20;

/// Counts what is not held back.
#[derive(Default)]
struct Tries {
    fast: usize,
    all: Vec<Duration>,
}

impl Tries {
    /// Whether it takes further ones to tell.
    fn go_on(&self) -> bool {
        assert!(self.all.len() < TRIES, "all wait: {:?}", self.all);
        self.fast < FAST
    }

    fn since(&mut self, begun: Instant) {
        let taken = begun.elapsed();
        self.fast += usize::from(taken < DELAY / 2);
        self.all.push(taken);
    }
}

/// Requests on one connection, each in two writes.
async fn no_body_is_held_back<S: AsyncRead + AsyncWrite + Unpin>(mut caller: Raw<S>, target: &str) {
    let head = format!("POST {target} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\n");
    let mut tries = Tries::default();
    let mut number = 0;
    while tries.go_on() {
        let begun = Instant::now();
        caller.write(&head).await;
        caller.write("body").await;
        assert_eq!(caller.read_message().await.status(), 200);
        number += 1;
        if number > BY_ITSELF {
            tries.since(begun);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_written_after_its_head_is_not_held_back() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let stream = TcpStream::connect(rig.proxy.listen).await.unwrap();
    no_body_is_held_back(Raw::over(stream), "http://api.test/x").await;
}

#[tokio::test]
async fn nor_is_one_in_an_intercepted_tunnel() {
    let rig = Intercepting::start("").await;
    let stream = rig.tunnel("api.test:443").await;
    let stream = rig.tls(stream, "api.test", &[]).await.unwrap();
    no_body_is_held_back(Raw::over(stream), "/api").await;
}

#[tokio::test]
async fn nor_is_what_goes_through_an_opaque_tunnel() {
    let server = RawUpstream::start(|_, mut raw| async move {
        while raw.try_read_message().await.is_ok() {
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let port = server.address.port();
    let proxy = Proxy::start(&format!(
        "passthrough: [{{host: localhost, ports: [{port}]}}]\n{}",
        acme(&api.url(), &idp.url(), "")
    ))
    .await;
    let stream = tunnel(proxy.listen, &format!("localhost:{port}")).await;
    no_body_is_held_back(Raw::over(stream), "/x").await;
}

#[tokio::test]
async fn the_first_request_of_a_tunnel_is_not_held_back_by_the_end_of_the_handshake() {
    let rig = Intercepting::start("").await;
    let mut tries = Tries::default();
    while tries.go_on() {
        let stream = rig.tunnel("api.test:443").await;
        let stream = rig.tls(stream, "api.test", &[]).await.unwrap();
        let mut caller = Raw::over(stream);
        let begun = Instant::now();
        let reply = caller.ask("GET /api HTTP/1.1\r\nHost: api.test\r\n\r\n");
        assert_eq!(reply.await.status(), 200);
        tries.since(begun);
    }
}
