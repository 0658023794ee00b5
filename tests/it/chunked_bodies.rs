//! A chunked body that is broken on its way: refused then and there, and never taken for whole.

use tempfile::TempDir;

use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::{Raw, RawUpstream};
use crate::support::{acme, eventually};

const HEAD: &str =
    "POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A provider that says what each connection brought, and when it ended; the proxy with a journal before it.
struct Broken {
    api: RawUpstream,
    _idp: Idp,
    proxy: Proxy,
    _directory: TempDir,
}

impl Broken {
    /// The provider reads to the end of the connection, and answers nothing.
    async fn start() -> Self {
        Self::with(|_, mut raw| async move { raw.closed().await }).await
    }

    async fn with<F>(script: impl Fn(usize, Raw) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let api = RawUpstream::start(script).await;
        let idp = Idp::counting().await;
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join("journal");
        let yaml = acme(&api.url(), &idp.url(), "");
        let yaml = format!("journal: {{path: {}}}\n{yaml}", journal.display());
        Self {
            api,
            _idp: idp,
            proxy: Proxy::start(&yaml).await,
            _directory: directory,
        }
    }

    /// Requests in doubt.
    async fn doubts(&self) -> f64 {
        self.proxy.metric("bursar_journal_unresolved", &[]).await
    }

    fn arrived(&self) -> String {
        String::from_utf8(self.api.captured().concat()).unwrap()
    }
}

#[tokio::test]
async fn what_is_broken_where_it_begins_is_refused_before_anything_is_sent() {
    let rig = Broken::start().await;
    for body in [
        "5\r\nhello\r\nXX",
        "5\r\nhelloX",
        "5;a=\0\r\n",
        "5\nhello\r\n",
        "Z",
        "5\r\nhello\r\n0\r\nX : y",
    ] {
        let mut caller = Raw::connect(rig.proxy.listen).await;
        let reply = caller.ask(format!("{HEAD}{body}")).await;
        assert_eq!(reply.status(), 400, "{body:?}");
        assert_eq!(reply.field("connection"), Some("close"));
        let text = reply.text();
        assert!(text.contains("\"bad_request\""), "{text}");
        assert!(text.contains("\"request_sent\":\"no\""), "{text}");
        assert_eq!(caller.read_to_end().await.unwrap(), b"");
    }
    assert_eq!(rig.api.connections(), 0);
    assert_eq!(rig.doubts().await, 0.0);
}

#[tokio::test]
async fn what_is_broken_later_is_refused_without_another_byte_and_cut_off_at_the_provider() {
    for (first, broken) in [
        ("5\r\nhello\r\n", "XX"),
        ("5\r\nhel", "loX"),
        ("5\r\nhello\r\n", "3\r\nabc\r\n5;\0"),
        ("5\r\nhello\r\n", "0\r\nX: y\r\n z"),
    ] {
        let rig = Broken::start().await;
        let mut caller = Raw::connect(rig.proxy.listen).await;
        caller.write(format!("{HEAD}{first}")).await;
        eventually(|| async { rig.arrived().contains("hel") }).await;
        // The caller waits now, for as long as it takes.
        let reply = caller.ask(broken).await;
        assert_eq!(reply.status(), 400, "{broken:?}");
        let text = reply.text();
        assert!(text.contains("\"request_sent\":\"maybe\""), "{text}");
        assert_eq!(caller.read_to_end().await.unwrap(), b"");
        let open = [("side", "upstream")];
        rig.proxy
            .metric_becomes("bursar_connections", &open, 0.0)
            .await;
        // Without the last chunk it is no whole request to anybody.
        assert!(!rig.arrived().contains("\r\n0\r\n"), "{}", rig.arrived());
        eventually(|| async { rig.doubts().await == 1.0 }).await;
    }
}

#[tokio::test]
async fn an_answer_to_half_a_request_does_not_hide_that_it_was_broken() {
    // It answers what it never got whole.
    let rig = Broken::with(|_, mut raw| async move {
        raw.read_head().await;
        raw.closed().await;
        raw.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    caller.write(HEAD).await;
    eventually(|| async { rig.arrived().contains("\r\n\r\n") }).await;
    let reply = caller.ask("5\r\nhello\r\nXX").await;
    assert_eq!(reply.status(), 400);
}

#[tokio::test]
async fn requests_before_a_broken_one_are_answered() {
    let rig = Broken::with(|_, mut raw| async move {
        while raw.try_read_message().await.is_ok() {
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let mut caller = Raw::connect(rig.proxy.listen).await;
    let good = format!("{HEAD}5\r\nhello\r\n0\r\n\r\n");
    caller
        .write(format!("{good}{good}{HEAD}5\r\nhello\r\nXX{good}"))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(caller.read_message().await.status());
    }
    assert_eq!(statuses, [200, 200, 400]);
    assert_eq!(caller.read_to_end().await.unwrap(), b"");
    assert_eq!(rig.api.count("POST /x"), 2);
}
