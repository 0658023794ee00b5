//! What two public test suites ask of any HTTP/1.1 server, in our own words: `dropseed/h1spec` and
//! `uNetworking/h1spec`. A provider that echoes bodies stands behind the proxy.

use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Message, Raw};
use crate::support::upstream::{Upstream, answer};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Echo {
    _api: Upstream,
    _idp: Idp,
    proxy: Proxy,
}

impl Echo {
    async fn start() -> Self {
        let api = Upstream::start(|request| async move { answer(200, request.into_body()) }).await;
        let idp = Idp::counting().await;
        let yaml = format!(
            "providers: {{acme: {{hosts: [localhost, example.com], upstream: '{}', client_id: i, client_secret: s, token: {{url: '{}'}}}}}}",
            api.url(),
            idp.url()
        );
        Self {
            proxy: Proxy::start(&yaml).await,
            _api: api,
            _idp: idp,
        }
    }

    async fn caller(&self) -> Raw {
        Raw::connect(self.proxy.listen).await
    }

    /// The first answer to these bytes.
    async fn ask(&self, request: &str) -> Message {
        self.caller().await.ask(bytes(request)).await
    }
}

/// Each character is one byte.
fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|char| u8::try_from(u32::from(char)).unwrap())
        .collect()
}

fn example(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_request_in_pieces_is_waited_for() {
    let echo = Echo::start().await;
    let request = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for end in 1..request.len() {
        let mut caller = echo.caller().await;
        let (first, rest) = request.split_at(end);
        caller.write(first).await;
        // Were it answered or closed already, the rest would find no answer.
        let reply = caller.ask(rest).await;
        assert_eq!(reply.status(), 200, "{first:?}");
    }
}

#[tokio::test]
async fn a_valid_request_is_served() {
    let echo = Echo::start().await;
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\n";
    for (request, body) in [
        (example(""), ""),
        (
            "GET / HTTP/1.1\r\nhoSt:\texample.com\r\nempty:\r\n\r\n".to_owned(),
            "",
        ),
        (example("X-Empty-Header: \r\n"), ""),
        // Without a body there is nothing to continue with.
        (example("Expect: 100-continue\r\n"), ""),
        (format!("{post}Content-Length: 5\r\n\r\nhello"), "hello"),
        (
            format!("{post}Transfer-Encoding: chunked\r\n\r\nc\r\nHellO world1\r\n0\r\n\r\n"),
            "HellO world1",
        ),
        (
            "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            "",
        ),
    ] {
        let reply = echo.ask(&request).await;
        assert_eq!((reply.status(), reply.text()), (200, body), "{request:?}");
    }
    let reply = echo.ask("CONNECT example.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(reply.await.status(), 403);
    let reply = echo
        .ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(reply.status(), 204);
}

#[tokio::test]
async fn an_invalid_request_is_400_and_the_last_one() {
    let echo = Echo::start().await;
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{rest}");
    let chunked = "\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for request in [
        "GET / \r\n\r\n".to_owned(),
        "GET /\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET / HTTP/2.0\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned(),
        "Extra lineGET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: local\0host\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: localhost\r\n  continued\r\n\r\n".to_owned(),
        example("X-Invalid[]: test\r\n"),
        example("Bad Header: value\r\n"),
        example("X-Bad-Control-Char: test\u{7}\r\n"),
        example("\rSome-Header: Test\r\n"),
        example("Content-Length: -123456789123456789123456789\r\n"),
        example("Content-Length: -1234\r\n"),
        example("Content-Length: abc\r\n"),
        post("Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!"),
        post("Content-Length: xyz\r\n\r\nhello"),
        post("Transfer-Encoding: nonsense\r\n\r\nhello"),
        post(&format!("Transfer-Encoding: chunked, gzip{chunked}")),
        post(&format!(
            "Transfer-Encoding: chunked\r\nContent-Length: 5{chunked}"
        )),
        post(&format!(
            "content-LengtH: 5\r\nTransFer-Encoding: chunked{chunked}"
        )),
        post("Transfer-Encoding: chunked\r\n\r\nZ\r\nhello\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n"),
        format!("POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked{chunked}"),
    ] {
        let mut caller = echo.caller().await;
        caller.write(bytes(&format!("{request}{GET}"))).await;
        let reply = caller.read_message().await;
        assert_eq!(reply.status(), 400, "{request:?}");
        let after = caller.read_to_end().await.unwrap();
        assert_eq!(after, b"", "{request:?}");
    }
    // These are clear enough for the connection to go on.
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: bad host\r\n\r\n",
    ] {
        let mut caller = echo.caller().await;
        assert_eq!(caller.ask(request).await.status(), 400, "{request:?}");
        assert_eq!(caller.ask(GET).await.status(), 200, "{request:?}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_or_closed_as_the_request_says() {
    let echo = Echo::start().await;
    let mut caller = echo.caller().await;
    assert_eq!(caller.ask(GET).await.status(), 200);
    assert_eq!(caller.ask(GET).await.status(), 200);
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n",
    ] {
        let mut caller = echo.caller().await;
        assert_eq!(caller.ask(request).await.status(), 200);
        assert_eq!(caller.read_to_end().await.unwrap(), b"");
    }
}

#[tokio::test]
async fn an_answer_says_where_it_ends() {
    let echo = Echo::start().await;
    let mut caller = echo.caller().await;
    caller
        .write("HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(caller.read_head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(caller.read_to_end().await.unwrap(), b"");
    let reply = echo.ask("get / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(reply.field("content-length").is_some(), "{reply:?}");
}

#[tokio::test]
async fn expect_is_answered_before_the_body() {
    let echo = Echo::start().await;
    let mut caller = echo.caller().await;
    caller
        .write("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(caller.read_head().await, "HTTP/1.1 100 Continue");
    let reply = caller.ask("hello").await;
    assert_eq!((reply.status(), reply.text()), (200, "hello"));
}

#[tokio::test]
async fn what_is_very_long_or_very_much_harms_nobody() {
    let echo = Echo::start().await;
    let long = "a".repeat(9000);
    let many: String = (0..101).map(|n| format!("X-H-{n}: value\r\n")).collect();
    for (request, statuses) in [
        (
            format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            [200, 414],
        ),
        (example(&many), [200, 431]),
        (example(&format!("X-Big: {long}\r\n")), [200, 431]),
    ] {
        let status = echo.ask(&request).await.status();
        assert!(statuses.contains(&status), "{status}");
        assert_eq!(echo.ask(GET).await.status(), 200);
    }
}
