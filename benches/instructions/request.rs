//! Whole requests, from the caller's bytes to the answer's, in one thread of Bursar.
//!
//! A connection of Bursar is made of sockets and nothing else, so these go over loopback. The caller and
//! the provider have a thread of their own, in which nothing is counted, and send one request at a time.
//! No TLS: what cryptography costs depends on the processor.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use bursar::server::Server;
use bursar::server::worker::Workers;
use bursar_config::Config;
use bursar_telemetry::access_log::{AccessLog, Format};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::counted;

const TIMES: usize = 300;
/// Before anything is counted: connections are made, tokens are there.
const WARM: usize = 20;

pub(crate) fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be started")
}

/// Hands out tokens that outlive the measurement.
pub(crate) fn token_endpoint() -> SocketAddr {
    let body = format!(r#"{{"access_token":"token-{:060}","expires_in":86400}}"#, 1);
    serve(&body)
}

/// A server with one answer to everything.
fn serve(body: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = listener.local_addr().expect("it has an address");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 16:00:00 GMT\r\nServer: provider\r\nContent-Type: application/json\r\n\
         X-Request-Id: 0123456789abcdef\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                while read_message(&mut stream).is_some() {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Reads a head and the body that it tells of. None: the connection is over.
fn read_message(stream: &mut TcpStream) -> Option<()> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(piece.get(..read)?);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
        if bytes.len() >= end + 4 + length.unwrap_or(0) {
            return Some(());
        }
    }
}

/// What is sent, and how Bursar is set up for it.
struct Scenario {
    method: &'static str,
    path: &'static str,
    /// Bytes.
    body: usize,
    /// Its name and password, as in `Proxy-Authorization: Basic`.
    credentials: &'static str,
    /// As in `callers`.
    password: &'static str,
    /// Further routes, before those that are asked for.
    routes: String,
    /// Further keys of the file.
    keys: String,
}

fn a_get() -> Scenario {
    Scenario {
        method: "GET",
        path: "/v1/payments/42?expand=all",
        body: 0,
        credentials: "Yzpw",
        password: "p",
        routes: String::new(),
        keys: String::new(),
    }
}

fn a_post() -> Scenario {
    Scenario {
        method: "POST",
        path: "/v1/payments",
        body: 1000,
        ..a_get()
    }
}

pub(crate) fn get() -> usize {
    a_get().run()
}

/// With spans, but not of these requests.
pub(crate) fn get_unsampled() -> usize {
    let keys = "traces: {endpoint: \"http://127.0.0.1:9\", ratio: 0.000001}\n";
    a_get().with(keys).run()
}

/// In a fleet. Its store is not there, which is all the same to a request.
pub(crate) fn get_in_fleet() -> usize {
    let keys = "fleet: {url: 'redis://127.0.0.1:9', keys: [MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=]}\n";
    a_get().with(keys).run()
}

/// By a caller whose password is a hash.
pub(crate) fn get_hashed() -> usize {
    Scenario {
        credentials: "YzpwNHNzOncwcmQ=",
        password: "'$argon2id$v=19$m=64,t=1,p=1$c29tZSBzYWx0IDEyMzQ1Ng$GGf0dqYV+OgO/c3CKWH7z/h6l1+sBs6rf82iDRK2m/c'",
        ..a_get()
    }
    .run()
}

/// With twenty more routes.
pub(crate) fn get_routed() -> usize {
    let route =
        |at| format!("      - {{methods: [GET], path: \"/v{at}/*/refunds\", scopes: [refunds]}}\n");
    Scenario {
        routes: (0..20).map(route).collect(),
        ..a_get()
    }
    .run()
}

pub(crate) fn post() -> usize {
    a_post().run()
}

/// A payment that is written down, as far as the request's own thread does it.
pub(crate) fn post_with_journal() -> usize {
    let directory = tempfile::tempdir().expect("there is room");
    let journal = directory.path().display();
    a_post()
        .with(&format!("journal: {{path: '{journal}', sync: false}}\n"))
        .run()
}

impl Scenario {
    fn with(self, keys: &str) -> Self {
        Self {
            keys: keys.to_owned(),
            ..self
        }
    }

    fn run(self) -> usize {
        let Self {
            method,
            path,
            body,
            credentials,
            password,
            routes,
            keys,
        } = self;
        let fields = match body {
            0 => String::new(),
            _ => format!("Content-Type: application/json\r\nContent-Length: {body}\r\n"),
        };
        let mut request = format!(
            "{method} http://api.acme.test{path} HTTP/1.1\r\nHost: api.acme.test\r\nUser-Agent: side-by-side/1.0\r\n\
             Accept: application/json\r\nAccept-Encoding: gzip\r\nProxy-Authorization: Basic {credentials}\r\n{fields}\r\n"
        )
        .into_bytes();
        request.resize(request.len() + body, b'0');
        let (provider, endpoint) = (serve(&"x".repeat(512)), token_endpoint());
        let text = format!(
            "{keys}listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\ncallers: {{c: {{password: {password}, allow: [acme]}}}}\n\
             providers:\n  acme:\n    hosts: [api.acme.test]\n    upstream: http://{provider}\n    client_id: i\n    client_secret: s\n    \
             token: {{url: \"http://{endpoint}/t\", scopes: [payments]}}\n    \
             routes:\n{routes}      - {{methods: [GET], path: \"/v1/payments/*\", scopes: [payments]}}\n      \
             - {{methods: [POST], path: /v1/payments, scopes: [payments]}}\n"
        );
        count(request, &text)
    }
}

/// Sends the request, again and again.
fn count(request: Vec<u8>, text: &str) -> usize {
    let config = Config::parse(text, Path::new("")).expect("the configuration is right");
    let runtime = runtime();
    let address = start(config, &runtime);
    let (warm, is_warm) = oneshot::channel();
    let (go, may_go) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("Bursar listens");
        stream.set_nodelay(true).expect("it is a TCP connection");
        let mut send = |times| {
            for _ in 0..times {
                stream.write_all(&request).expect("Bursar reads");
                read_message(&mut stream).expect("Bursar answers");
            }
        };
        send(WARM);
        warm.send(()).expect("it is waited for");
        may_go.blocking_recv().expect("it will be said");
        send(TIMES);
        done.send(()).expect("it is waited for");
    });
    runtime.block_on(is_warm).expect("requests are answered");
    go.send(()).expect("it is waited for");
    counted(|| runtime.block_on(is_done)).expect("requests are answered");
    TIMES
}

/// Starts Bursar on a thread of its own, where nothing is counted either: not what it does in the background, but only the
/// requests, which are served on `serving`.
fn start(config: Config, serving: &Runtime) -> SocketAddr {
    let workers = {
        let _entered = serving.enter();
        Workers::here()
    };
    let (bound, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (log, _writing) = AccessLog::start(std::io::sink(), Format::Json);
        runtime().block_on(async {
            let server = Server::bind(&config, log, workers).await;
            let server = server.expect("loopback ports are free");
            let listen = server.listen_address().expect("it has an address");
            bound.send(listen).expect("it is waited for");
            let never = std::future::pending;
            server.run(never(), never()).await;
        });
    });
    address.recv().expect("it starts")
}
