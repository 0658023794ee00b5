//! Why a connection could not be had: one word, for API and token calls alike.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bursar_config::Names;
use rustls::ServerConfig;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::acme;
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::parent::{Action, Parent};
use crate::support::proxy::{Program, Proxy};
use crate::support::tls::{Authority, CA, directory};
use crate::support::upstream::{Upstream, answer, full};

/// A server at `https://127.0.0.1:PORT` that does that with each connection.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    url
}

async fn tls(config: Arc<ServerConfig>) -> String {
    server(move |stream| {
        let config = config.clone();
        async move {
            let accepted = tokio_rustls::TlsAcceptor::from(config).accept(stream).await;
            if let Ok(mut stream) = accepted {
                drop(stream.read(&mut [0; 1024]).await);
            }
        }
    })
    .await
}

/// One that reads the first bytes of a handshake and answers with these.
async fn answering(bytes: &'static [u8]) -> String {
    server(move |mut stream| async move {
        drop(stream.read(&mut [0; 4096]).await);
        drop(stream.write_all(bytes).await);
        // Closed with all read, so that it is no reset.
        drop(stream.shutdown().await);
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await
}

/// What became of a request, once where its provider is at `url`, and once where its token endpoint is.
struct Told {
    /// Of the server, with its port.
    host: String,
    api: Shown,
    token: Shown,
    last_error: String,
}

/// Where operators look.
struct Shown {
    line: Value,
    /// What `/status` has of the server.
    server: Value,
    failures: HashMap<String, f64>,
}

async fn shown(proxy: &Proxy, host: &str) -> Shown {
    let line = proxy.access_lines(1).await.remove(0);
    let (_, status) = proxy.json("/status").await;
    let servers = status["upstreams"].as_array().unwrap();
    let mut servers = servers.iter();
    let server = servers.find(|server| server["host"] == host);
    let scrape = proxy.scrape().await;
    let failures = scrape.all().iter().filter_map(|(name, labels, value)| {
        let is_meant = name == "bursar_upstream_connect_failures_total" && *value > 0.0;
        is_meant.then(|| (labels["cause"].clone(), *value))
    });
    Shown {
        line,
        server: server.cloned().unwrap_or_default(),
        failures: failures.collect(),
    }
}

async fn told(directory: &Path, url: &str, lines: &str, top: &str) -> Told {
    let names = || {
        let address = |text: &str| vec![text.parse().unwrap()];
        let table = [("known.test", address("127.0.0.1"))];
        Names::Fixed(
            table
                .map(|(name, addresses)| (name.into(), addresses))
                .into_iter()
                .collect::<HashMap<_, _>>(),
        )
    };
    let lines = format!("token.wait: 5s\n{lines}");
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let yaml = format!("{top}{}", acme(url, &idp.url(), &lines));
    let proxy = Proxy::start_naming(directory, &yaml, names()).await;
    drop(
        Caller::connect(proxy.listen)
            .await
            .send("GET", "/a", "")
            .await,
    );
    let host = server_name(url);
    let shown_api = shown(&proxy, &host).await;
    let yaml = format!("{top}{}", acme(&api.url(), &format!("{url}/token"), &lines));
    let proxy = Proxy::start_naming(directory, &yaml, names()).await;
    drop(
        Caller::connect(proxy.listen)
            .await
            .send("GET", "/a", "")
            .await,
    );
    let shown_token = shown(&proxy, &host).await;
    let (_, status) = proxy.json("/status").await;
    let last_error = status["tokens"][0]["last_error"].to_string();
    Told {
        host,
        api: shown_api,
        token: shown_token,
        last_error,
    }
}

#[track_caller]
fn assert_told(told: &Told, cause: &str, reason: &str) {
    for (shown, reason) in [(&told.api, reason), (&told.token, "token_unavailable")] {
        let Shown {
            line,
            server,
            failures,
        } = shown;
        assert_eq!(
            (&line["cause"], &line["reason"]),
            (&cause.into(), &reason.into()),
            "{line}"
        );
        assert_eq!(line["upstream_host"], told.host, "{line}");
        let is_addressed = !matches!(cause, "name_not_found" | "address_not_allowed");
        assert_eq!(line["upstream_address"].is_string(), is_addressed, "{line}");
        assert_eq!(
            (&server["healthy"], &server["cause"]),
            (&false.into(), &cause.into()),
            "{server}"
        );
        assert_eq!(server["provider"], "acme");
        assert!(server["since"].is_string(), "{server}");
        assert_eq!(failures.keys().collect::<Vec<_>>(), [cause]);
    }
    assert!(told.last_error.contains(cause), "{}", told.last_error);
}

/// The host of a URL with its port.
fn server_name(url: &str) -> String {
    let host = url.strip_prefix("https://").unwrap();
    match host.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:443"),
    }
}

/// The lines of a log that say this.
fn said(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["message"] == message)
        .collect()
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_has_a_word_of_its_own() {
    let (directory, authority) = directory();
    let (now, day) = (OffsetDateTime::now_utc(), Duration::from_secs(86_400));
    let here = ["127.0.0.1"];
    let expired = authority.server_with(&here, |certificate| certificate.not_after = now - day);
    let early = authority.server_with(&here, |certificate| certificate.not_before = now + day);
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let unknown = Authority::new().server_with(&here, |_| {});
    for (config, cause) in [
        (expired, "tls_expired"),
        (early, "tls_not_yet_valid"),
        (elsewhere, "tls_wrong_name"),
        (unknown, "tls_unknown_issuer"),
        (authority.server_of_tls12(), "tls_client_certificate"),
    ] {
        let told = told(directory.path(), &tls(config).await, CA, "").await;
        assert_told(&told, cause, "upstream_tls");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_otherwise_says_how() {
    let (directory, _) = directory();
    let reset = server(|mut stream| async move {
        drop(stream.read(&mut [0; 16]).await);
        stream.set_zero_linger().unwrap();
    });
    for (url, cause) in [
        (answering(b"\x15\x03\x01\x00\x02\x02\x46").await, "tls_version"),
        // TLS 1.1, as an old server says hello.
        (answering(b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x0200000000000000000000000000000000\x00\x00\x2f\x00").await, "tls_version"),
        (answering(b"\x15\x03\x03\x00\x02\x02\x28").await, "tls_other"),
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, "tls_other"),
        // It knows no server of that name.
        (answering(b"\x15\x03\x03\x00\x02\x02\x70").await, "tls_wrong_name"),
        (answering(b"").await, "reset"),
        (reset.await, "reset"),
    ] {
        let told = told(directory.path(), &url, CA, "").await;
        assert_told(&told, cause, "upstream_tls");
    }
}

#[tokio::test]
async fn silence_in_a_handshake_is_a_time_out() {
    let (directory, _) = directory();
    let silent = server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let silent = silent.await;
    // Whichever time is over first, that of connecting or that of the token call.
    for times in [
        "timeouts: {connect: 200ms}",
        "timeouts: {connect: 1s}\ntoken.timeout: 200ms",
    ] {
        let told = told(directory.path(), &silent, &format!("{CA}\n{times}"), "").await;
        assert_told(&told, "timed_out", "upstream_timeout");
    }
}

#[tokio::test]
async fn what_happens_before_tls_has_words_too() {
    let (directory, _) = directory();
    // Bound, so that nobody else takes the port, but nobody listens.
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = port.local_addr().unwrap();
    let parent =
        format!("egress: {{proxy: {{api: 'http://{nobody}', token: 'http://{nobody}'}}}}\n");
    for (url, top, cause, reason) in [
        (
            format!("https://{nobody}"),
            "",
            "refused",
            "upstream_unreachable",
        ),
        (
            "https://unknown.test".to_owned(),
            "",
            "name_not_found",
            "upstream_unreachable",
        ),
        (
            "https://10.0.0.1".to_owned(),
            "",
            "address_not_allowed",
            "address_not_allowed",
        ),
        (
            "https://unknown.test".to_owned(),
            &*parent,
            "parent_proxy",
            "upstream_unreachable",
        ),
    ] {
        let told = told(directory.path(), &url, CA, top).await;
        assert_told(&told, cause, reason);
    }
}

#[tokio::test]
async fn a_parent_proxy_that_does_not_connect_is_told_by_its_own_word_whatever_it_says() {
    let (directory, _) = directory();
    for said in [
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "",
    ] {
        let parent = Parent::start(move |_| Action::Say(said.to_owned())).await;
        let url = format!("http://{}", parent.address);
        let top = format!("egress: {{proxy: {{api: '{url}', token: '{url}'}}}}\n");
        let told = told(directory.path(), "https://unknown.test", CA, &top).await;
        assert_told(&told, "parent_proxy", "upstream_unreachable");
        // The connection goes to the parent.
        for shown in [&told.api, &told.token] {
            assert_eq!(shown.line["upstream_address"], parent.address.to_string());
        }
    }
}

#[tokio::test]
async fn the_log_says_why_once_a_minute_for_each_host_and_cause() {
    let (directory, authority) = directory();
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let (api, idp) = (tls(elsewhere.clone()).await, Idp::counting().await);
    let yaml = acme(&api, &idp.url(), CA);
    let program = Program::start_in(directory, &yaml, "info").await;
    for _ in 0..3 {
        let reply = Caller::connect(program.listen)
            .await
            .send("GET", "/a", "")
            .await;
        assert_eq!(reply.problem()["reason"], "upstream_tls");
    }
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    let said = said(&log, "no connection");
    let [said] = &said[..] else { panic!("{log}") };
    assert_eq!(said["level"], "WARN");
    assert_eq!(said["provider"], "acme");
    assert_eq!(said["cause"], "tls_wrong_name");
    assert_eq!(format!("https://{}", said["host"].as_str().unwrap()), api);
    let error = said["error"].as_str().unwrap();
    assert!(
        error.contains("not valid for") && error.contains("other.test"),
        "{error}"
    );
}

#[tokio::test]
async fn who_waits_in_a_pause_is_told_why_the_last_token_call_failed() {
    let (directory, authority) = directory();
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let idp = tls(elsewhere).await;
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let lines = format!("token.wait: 200ms\n{CA}");
    let yaml = acme(&api.url(), &format!("{idp}/token"), &lines);
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    // Until the endpoint has failed so often that nobody waits for the next call.
    for requests in 1.. {
        let mut caller = Caller::connect(proxy.listen).await;
        drop(caller.send("GET", "/a", "").await);
        let line = proxy.access_lines(requests).await.pop().unwrap();
        assert_eq!(line["cause"], "tls_wrong_name", "{line}");
        assert_eq!(line["upstream_host"], server_name(&idp), "{line}");
        if line["upstream_address"].is_null() {
            break;
        }
        assert!(requests < 30, "there is no pause");
    }
}

#[tokio::test]
async fn the_log_says_once_a_minute_that_there_is_no_token_and_why() {
    let (directory, authority) = directory();
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let idp = tls(elsewhere).await;
    let accounts = "accounts: {red: {client_id: r, client_secret: sssssssss}, blue: {client_id: b, client_secret: sssssssss}}";
    let lines = format!("token.wait: 1s\n{CA}\n{accounts}");
    let yaml = acme("http://127.0.0.1:1", &format!("{idp}/token"), &lines);
    let program = Program::start_in(directory, &yaml, "info").await;
    for account in ["red", "blue", "default"] {
        let mut caller = Caller::connect(program.listen).await;
        let request = http::Request::get("http://api.test/a")
            .header("bursar-account", account)
            .body(full(""));
        let reply = caller.request(request.unwrap()).await;
        assert_eq!(reply.problem()["reason"], "token_unavailable");
    }
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    let said = said(&log, "no token");
    let [said] = &said[..] else { panic!("{log}") };
    assert_eq!(
        (&said["level"], &said["cause"], &said["host"]),
        (
            &"WARN".into(),
            &"tls_wrong_name".into(),
            &server_name(&idp).into()
        )
    );
}

#[tokio::test]
async fn a_server_that_can_be_reached_again_is_healthy_and_its_certificates_end_is_known() {
    let (directory, authority) = directory();
    let end = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
    let good = authority.server_with(&["127.0.0.1"], |certificate| certificate.not_after = end);
    let bad = authority.server_with(&["other.test"], |_| {});
    let configs = [bad, good];
    let connections = std::sync::atomic::AtomicUsize::new(0);
    let api = server(move |stream| {
        let number = connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let config = configs[number.min(1)].clone();
        async move {
            let accepted = tokio_rustls::TlsAcceptor::from(config).accept(stream).await;
            if let Ok(mut stream) = accepted {
                drop(stream.read(&mut [0; 1024]).await);
                drop(stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await);
                drop(stream.read(&mut [0; 1024]).await);
            }
        }
    })
    .await;
    let idp = Idp::counting().await;
    let proxy = Proxy::start_in(directory.path(), &acme(&api, &idp.url(), CA)).await;
    let mut since = Vec::new();
    for (number, cause) in [Value::from("tls_wrong_name"), Value::Null]
        .into_iter()
        .enumerate()
    {
        let mut caller = Caller::connect(proxy.listen).await;
        drop(caller.send("GET", "/a", "").await);
        let line = proxy.access_lines(number + 1).await.pop().unwrap();
        assert_eq!(line["upstream_address"], server_name(&api), "{line}");
        let (_, status) = proxy.json("/status").await;
        let servers = status["upstreams"].as_array().unwrap();
        let mut servers = servers.iter();
        let server = servers
            .find(|server| server["host"] == server_name(&api))
            .unwrap();
        assert_eq!(
            (&server["cause"], &server["healthy"]),
            (&cause, &cause.is_null().into())
        );
        since.push(server["since"].as_str().unwrap().to_owned());
    }
    assert!(since[0] < since[1], "{since:?}");
    let labels = [("provider", "acme"), ("host", &*server_name(&api))];
    let expiry = proxy.metric(
        "bursar_upstream_certificate_expiry_timestamp_seconds",
        &labels,
    );
    assert_eq!(expiry.await, end.unix_timestamp() as f64);
}
