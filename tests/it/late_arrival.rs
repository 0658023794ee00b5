//! Payments that are told as unknown do not arrive afterwards, from what the system still had to send: their connection is
//! reset, which drops that, instead of being closed.
//!
//! A server that does not read is what a network that has stopped is to a sender: the request is written, and waits.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::task::AbortOnDropHandle;

use crate::support::frames::{SETTINGS, frame};
use crate::support::idp::Idp;
use crate::support::program::Program;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::{Latch, acme, soon};

/// Of the socket that receives, so that little has arrived before anybody reads.
const RECEIVED: u32 = 4096;
/// More than that, and less than a sender's system takes at once.
const BODY: usize = 60 << 10;

/// How a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Http1,
    Http1Tls,
    Http2,
}

const WAYS: [Way; 3] = [Way::Http1, Way::Http1Tls, Way::Http2];

/// A provider that takes a connection and reads nothing of it until it may.
struct Provider {
    url: String,
    lines: String,
    authority: Authority,
    /// Opens with the first byte of a request.
    reached: Latch,
    reads: Latch,
    /// How its only connection ends.
    end: AbortOnDropHandle<io::Result<usize>>,
}

impl Provider {
    /// Bursar knows it with these lines.
    fn start(way: Way, lines: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVED).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(8).unwrap();
        let address = listener.local_addr().unwrap();
        let (authority, reached, reads) = (Authority::new(), Latch::closed(), Latch::closed());
        let tls = authority.server(&["http/1.1"], ClientCertificate::Ignored);
        let (begun, may_read) = (reached.clone(), reads.clone());
        let serving = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            if way == Way::Http2 {
                stream.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
            }
            let mut stream = match way {
                Way::Http1Tls => Either::Left(TlsAcceptor::from(tls).accept(stream).await.unwrap()),
                _ => Either::Right(stream),
            };
            let tcp = match &stream {
                Either::Left(stream) => stream.get_ref().0,
                Either::Right(stream) => stream,
            };
            tcp.peek(&mut [0]).await.unwrap();
            begun.open();
            may_read.wait().await;
            soon(stream.read_to_end(&mut Vec::new())).await
        };
        let scheme = if way == Way::Http1Tls {
            "https"
        } else {
            "http"
        };
        let version = if way == Way::Http2 {
            "http: \"2\"\n"
        } else {
            ""
        };
        Self {
            lines: format!("{version}{lines}"),
            url: format!("{scheme}://{address}"),
            authority,
            reached,
            reads,
            end: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    /// The program before it, with further lines of its file.
    async fn behind(&self, idp: &Idp, lines: &str) -> Program {
        let directory = tempfile::tempdir().unwrap();
        self.authority.write(&directory.path().join("ca.pem"));
        let provider = format!("tls: {{ca: ca.pem}}\n{}", self.lines);
        let yaml = acme(&self.url, &idp.url(), &provider);
        Program::start_in(directory, &format!("{lines}\n{yaml}"), "info").await
    }

    /// It reads all that comes. Whether its connection is reset then.
    async fn ends_in_reset(self) -> bool {
        self.reads.open();
        let end = soon(self.end).await.unwrap();
        end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// A payment that is on its way.
async fn paying(program: &Program) -> Raw {
    let mut caller = Raw::connect(program.listen).await;
    let head = format!(
        "POST http://api.test/pay HTTP/1.1\r\nHost: api.test\r\nContent-Length: {BODY}\r\n\r\n"
    );
    caller
        .write([head.as_bytes(), &[b'x'; BODY]].concat())
        .await;
    caller
}

/// What the caller is told.
async fn told(mut caller: Raw) -> (u16, Value) {
    let response = caller.read_message().await;
    let problem: Value = serde_json::from_str(response.text()).unwrap();
    (response.status(), problem["request_sent"].clone())
}

#[tokio::test]
async fn the_connection_of_a_payment_that_timed_out_ends_in_reset() {
    for way in WAYS {
        let idp = Idp::counting().await;
        let provider = Provider::start(way, "timeouts: {head: 1s}");
        let program = provider.behind(&idp, "").await;
        let caller = paying(&program).await;
        assert_eq!(told(caller).await, (504, "maybe".into()), "{way:?}");
        assert!(provider.ends_in_reset().await, "{way:?}");
    }
}

#[tokio::test]
async fn the_connection_of_a_payment_that_the_end_of_the_program_cuts_off_ends_in_reset() {
    for way in WAYS {
        let idp = Idp::counting().await;
        let provider = Provider::start(way, "");
        let program = provider.behind(&idp, "drain_timeout: 200ms").await;
        let caller = paying(&program).await;
        provider.reached.wait().await;
        program.signal("TERM").await;
        assert_eq!(told(caller).await, (503, "maybe".into()), "{way:?}");
        program.ended().await;
        assert!(provider.ends_in_reset().await, "{way:?}");
    }
}
