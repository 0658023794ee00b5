//! Requests that move money, written down before they go: what is in doubt after a crash, and nothing else.

mod end_of_body;
pub(crate) mod full_disk;
mod waits;

use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use http::Request;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::{Upstream, answer, stream};
use crate::support::{Latch, acme, eventually};

/// `bursar` with arguments, and a configuration of which nothing but `journal` can be read: exit status,
/// standard output and standard error.
async fn bursar(journal: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let yaml = format!(
        "journal: {{path: {}}}\nproviders: {{acme: {{client_secret: \"${{BURSAR_TEST_UNSET}}\"}}}}\n",
        journal.display()
    );
    std::fs::write(file.path(), yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(arguments)
        .arg("--config")
        .arg(file.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

pub(crate) async fn outcomes(journal: &Path) -> Vec<Value> {
    let (status, text, error) = bursar(journal, &["outcomes", "--json"]).await;
    assert_eq!(status, Some(0), "{error}");
    serde_json::from_str(&text).unwrap()
}

/// Path and phase of each request in doubt, sorted.
async fn phases(journal: &Path) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let outcomes = outcomes(journal).await;
    let pairs = outcomes.iter();
    let mut pairs: Vec<_> = pairs
        .map(|outcome| (text(&outcome["path"]), text(&outcome["phase"])))
        .collect();
    pairs.sort();
    pairs
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(path, phase): &(&str, &str)| ((*path).to_owned(), (*phase).to_owned());
    expected.iter().map(owned).collect()
}

pub(crate) fn with_journal(yaml: &str, journal: &Path) -> String {
    format!("journal: {{path: {}}}\n{yaml}", journal.display())
}

fn sha256(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// A request in absolute form whose body is `body`, of `length` bytes in all.
fn post(path: &str, length: usize, body: &str) -> String {
    let (name, _) = path.split_once('?').unwrap_or((path, ""));
    format!(
        "POST http://api.test{path} HTTP/1.1\r\nHost: api.test\r\nIdempotency-Key: key-of{name}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// What must be in no file of the journal.
const CANARY: &str = "canary-4000056655665556";

/// An API that answers by path, and holds back what waits at the latch: `/head` and `/body` are never
/// answered, `/response` is answered in part, `/denied` is 401 for the first token.
async fn api(latch: &Latch) -> Upstream {
    let latch = latch.clone();
    Upstream::streaming(move |request| {
        let latch = latch.clone();
        async move {
            let is_first = request.headers()["authorization"] == "Bearer token-1";
            match request.uri().path() {
                "/head" | "/body" | "/read" => {
                    latch.wait().await;
                    answer(200, "")
                }
                "/response" => {
                    let (mut sender, body) = stream();
                    tokio::spawn(async move {
                        sender.send_data(Bytes::from("part")).await.unwrap();
                        latch.wait().await;
                    });
                    let mut whole = answer(200, "");
                    *whole.body_mut() = body;
                    whole
                }
                "/denied" if is_first => answer(401, "no"),
                "/denied" => {
                    latch.wait().await;
                    answer(200, "")
                }
                _ => answer(200, "done"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn after_kill_9_in_each_phase_exactly_the_requests_in_doubt_are_listed() {
    let latch = Latch::closed();
    let api = api(&latch).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let routes = "routes: [{path: \"/**\", idempotency_header: Idempotency-Key}, {path: /quiet, moves_money: false}]";
    let yaml = with_journal(&acme(&api.url(), &idp.url(), routes), &journal);
    let program = Program::start(&yaml, "info").await;
    let mut callers = Vec::new();
    // Half of a body.
    let mut caller = Raw::connect(program.listen).await;
    caller.write(post("/head", 10, "12345")).await;
    callers.push(caller);
    for path in ["/body?token=", "/denied?", "/quiet?"] {
        let mut caller = Raw::connect(program.listen).await;
        let target = format!("{path}{CANARY}");
        caller.write(post(&target, CANARY.len(), CANARY)).await;
        callers.push(caller);
    }
    let mut caller = Raw::connect(program.listen).await;
    caller
        .write("GET http://api.test/read HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    callers.push(caller);
    let mut caller = Raw::connect(program.listen).await;
    caller.write(post("/response", 3, "abc")).await;
    assert!(caller.read_head().await.starts_with("HTTP/1.1 200"));
    callers.push(caller);
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(
        caller.send("POST", "/answered", CANARY).await.text(),
        "done"
    );
    // Those that are held, and the part of an answer.
    latch.reached_by(5).await;
    // They are under way, and may well be answered.
    assert_eq!(phases(&journal).await, []);
    program.signal("KILL").await;
    program.ended().await;
    let expected = pairs(&[
        ("/body", "body_sent"),
        ("/denied", "body_sent"),
        ("/head", "head_sent"),
        ("/response", "response_lost"),
    ]);
    assert_eq!(phases(&journal).await, expected);
    assert_described(&outcomes(&journal).await);
    assert_no_secret_in(&journal);
    // The next process finds them, and whoever looked takes them off one by one.
    let program = Program::start(&yaml, "info").await;
    assert_eq!(phases(&journal).await, expected);
    assert_resolvable(&journal, &expected).await;
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
}

fn assert_described(outcomes: &[Value]) {
    for outcome in outcomes {
        let fields: Vec<&str> = outcome
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut wanted = [
            "time",
            "request_id",
            "caller",
            "provider",
            "account",
            "method",
            "path",
            "idempotency_key",
            "body_sha256",
            "phase",
            "reference",
            "caller_request_id",
            "trace_id",
        ];
        wanted.sort_unstable();
        let mut fields = fields;
        fields.sort_unstable();
        assert_eq!(fields, wanted);
        assert_eq!(
            (
                &outcome["caller"],
                &outcome["provider"],
                &outcome["account"],
                &outcome["method"]
            ),
            (
                &"anonymous".into(),
                &"acme".into(),
                &"default".into(),
                &"POST".into()
            )
        );
        let path = outcome["path"].as_str().unwrap();
        assert_eq!(outcome["idempotency_key"], format!("key-of{path}"));
        let expected: Value = match path {
            "/head" => Value::Null,
            "/response" => sha256(b"abc").into(),
            _ => sha256(CANARY.as_bytes()).into(),
        };
        assert_eq!(outcome["body_sha256"], expected, "{path}");
    }
}

fn assert_no_secret_in(journal: &Path) {
    let mut files = 0;
    for file in std::fs::read_dir(journal).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        files += 1;
        for secret in [CANARY, "token", crate::support::CLIENT_SECRET, "12345"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
    assert!(files > 1);
}

async fn assert_resolvable(journal: &Path, expected: &[(String, String)]) {
    let listed = outcomes(journal).await;
    let id = |path: &str| {
        let outcome = listed.iter().find(|outcome| outcome["path"] == path);
        outcome.unwrap()["request_id"].as_str().unwrap().to_owned()
    };
    let body = id("/body");
    let resolve = ["outcomes", "resolve", &body, "--note", "paid once"];
    let (status, text, error) = bursar(journal, &resolve).await;
    assert_eq!((status, error.as_str()), (Some(0), ""), "{text}");
    assert_eq!(phases(journal).await, expected[1..]);
    let (status, _, error) = bursar(journal, &resolve).await;
    assert_eq!(status, Some(1));
    assert!(error.contains("paid once"), "{error}");
    let (_, table, _) = bursar(journal, &["outcomes"]).await;
    assert!(table.starts_with("TIME "), "{table}");
    assert!(
        table.contains(&id("/head")) && !table.contains(&body),
        "{table}"
    );
}

#[tokio::test]
async fn what_ends_without_an_answer_is_listed_while_bursar_runs() {
    let api = RawUpstream::start(|_, mut raw| async move {
        let request = raw.read_message().await;
        if request.start().contains("/cut") {
            raw.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")
                .await;
        }
        raw.reset();
    })
    .await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    let reply = caller.send("POST", "/reset", "amount=10").await;
    assert_eq!(
        (reply.status.as_u16(), &reply.problem()["request_sent"]),
        (502, &"maybe".into())
    );
    assert_eq!(caller.send("GET", "/read", "").await.status, 502);
    let request = Request::post("http://api.test/cut").body(crate::support::upstream::full("x"));
    let mut caller = Caller::connect(proxy.listen).await;
    assert!(caller.begin(request.unwrap()).await.is_ok());
    drop(caller);
    let expected = pairs(&[("/cut", "response_lost"), ("/reset", "body_sent")]);
    eventually(|| async { phases(directory.path()).await == expected }).await;
    proxy
        .metric_becomes("bursar_journal_unresolved", &[], 2.0)
        .await;
    let lines = proxy.access_lines(3).await;
    let listed = outcomes(directory.path()).await;
    let logged = lines.iter().find(|line| line["path"] == "/reset").unwrap();
    let reset = listed
        .iter()
        .find(|outcome| outcome["path"] == "/reset")
        .unwrap();
    assert_eq!(logged["request_id"], reset["request_id"]);
}

#[tokio::test]
async fn a_request_that_never_left_is_not_in_doubt() {
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let yaml = with_journal(
        &acme("http://127.0.0.1:9", &idp.url(), ""),
        directory.path(),
    );
    let proxy = Proxy::start(&yaml).await;
    let mut caller = Caller::connect(proxy.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 502);
    let ok = [("result", "ok")];
    proxy
        .metric_becomes("bursar_journal_writes_total", &ok, 1.0)
        .await;
    assert_eq!(phases(directory.path()).await, []);
}

#[tokio::test]
async fn bodies_of_every_framing_arrive_whole_and_are_answered() {
    let api = Upstream::start(|request: Request<Bytes>| async move {
        let is_first = request.headers()["authorization"] == "Bearer token-1";
        answer(if is_first { 401 } else { 200 }, request.into_body())
    })
    .await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let large = "0123456789abcdef".repeat(20_000);
    for body in ["", "x", &large] {
        for mut caller in [
            Caller::connect(proxy.listen).await,
            Caller::connect_http2(proxy.listen).await,
        ] {
            let reply = caller.send("POST", "/pay", body.to_owned()).await;
            assert_eq!(reply.status, 200);
            assert!(reply.body == body.as_bytes());
        }
        let mut raw = Raw::connect(proxy.listen).await;
        let chunk = if body.is_empty() {
            String::new()
        } else {
            format!("{:x}\r\n{body}\r\n", body.len())
        };
        let chunked = format!(
            "POST http://api.test/pay HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
        );
        let reply = raw.ask(chunked).await;
        assert_eq!((reply.status(), reply.body.len()), (200, body.len()));
    }
    assert_eq!(phases(directory.path()).await, []);
    let failed = proxy.metric("bursar_journal_writes_total", &[("result", "failed")]);
    assert_eq!(failed.await, 0.0);
}

/// The head of such a response used to go apart, while its end waited for the journal.
#[tokio::test]
async fn a_small_response_goes_to_its_caller_in_one_piece() {
    let api = Upstream::start(|_| async { answer(200, "done") }).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let proxy = Proxy::start(&yaml).await;
    let mut caller = TcpStream::connect(proxy.listen).await.unwrap();
    for _ in 0..10 {
        let request = post("/pay", 1, "x");
        caller.write_all(request.as_bytes()).await.unwrap();
        let mut piece = vec![0; 4096];
        let length = caller.read(&mut piece).await.unwrap();
        let piece = String::from_utf8_lossy(&piece[..length]);
        assert!(
            piece.starts_with("HTTP/1.1 200 ") && piece.ends_with("\r\n\r\ndone"),
            "{piece}"
        );
    }
}

#[tokio::test]
async fn a_second_instance_is_refused_the_directory() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), &journal);
    let program = Program::start(&yaml, "info").await;
    let file = directory.path().join("proxy.yaml");
    std::fs::write(
        &file,
        format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{yaml}"),
    )
    .unwrap();
    let second = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(["run", "--config"])
        .arg(&file)
        .output();
    let second = second.await.unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{error}");
    assert!(error.contains("belongs to another Bursar"), "{error}");
    drop(program);
}

#[tokio::test]
async fn without_a_journal_start_up_says_so_and_outcomes_has_nothing_to_read() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    assert_eq!(log.matches("there is no `journal`").count(), 1, "{log}");
    let directory = tempfile::tempdir().unwrap();
    let (status, _, error) = bursar(directory.path(), &["outcomes"]).await;
    assert_eq!(status, Some(1));
    assert!(error.contains("there is no journal in"), "{error}");
    assert!(
        error.contains("one that runs has the path that it started with"),
        "{error}"
    );
}

/// A journal's directory after the end of a Bursar that had a payment under way.
async fn cut_off_by_a_drain() -> TempDir {
    let latch = Latch::closed();
    let (api, idp) = (api(&latch).await, Idp::counting().await);
    let directory = tempfile::tempdir().unwrap();
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), directory.path());
    let program = Program::start(&format!("drain_timeout: 100ms\n{yaml}"), "info").await;
    let mut caller = Raw::connect(program.listen).await;
    caller.write(post("/body", 3, "abc")).await;
    latch.reached_by(1).await;
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
    directory
}

#[tokio::test]
async fn what_draining_cuts_off_is_in_doubt() {
    let directory = cut_off_by_a_drain().await;
    let expected = pairs(&[("/body", "body_sent")]);
    assert_eq!(phases(directory.path()).await, expected);
}

#[tokio::test]
async fn after_a_clean_end_the_database_without_its_log_has_the_whole_journal() {
    let directory = cut_off_by_a_drain().await;
    let copy = tempfile::tempdir().unwrap();
    let [from, to] = [&directory, &copy].map(|place| place.path().join("journal.sqlite"));
    std::fs::copy(from, to).unwrap();
    let expected = pairs(&[("/body", "body_sent")]);
    assert_eq!(phases(copy.path()).await, expected);
}

#[tokio::test]
async fn a_reload_goes_on_with_the_same_journal() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "") }).await,
        Idp::counting().await,
    );
    let directory = tempfile::tempdir().unwrap();
    let yaml = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&with_journal(&yaml, directory.path()), "info").await;
    program.signal("HUP").await;
    eventually(|| async {
        let scrape = crate::support::metrics::Scrape::of(program.admin).await;
        scrape.get("bursar_config_reloads_total", &[("outcome", "ok")]) == Some(1.0)
    })
    .await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("POST", "/pay", "x").await.status, 200);
    let scrape = crate::support::metrics::Scrape::of(program.admin).await;
    let failed = scrape.value("bursar_journal_writes_total", &[("result", "failed")]);
    assert_eq!(failed, 0.0);
}

#[tokio::test]
async fn while_its_files_are_elsewhere_no_payment_is_sent_and_then_as_before() {
    let api = Upstream::start(|_| async { answer(200, "paid") }).await;
    let (idp, directory) = (Idp::counting().await, tempfile::tempdir().unwrap());
    let (journal, elsewhere) = (
        directory.path().join("journal"),
        directory.path().join("old"),
    );
    let yaml = with_journal(&acme(&api.url(), &idp.url(), ""), &journal);
    let proxy = Proxy::start(&yaml).await;
    let pay = async || {
        let mut caller = Caller::connect(proxy.listen).await;
        let reply = caller.send("POST", "/pay", "x").await;
        match reply.status.as_u16() {
            200 => Value::Null,
            _ => reply.problem()["reason"].clone(),
        }
    };
    assert_eq!(pay().await, Value::Null);
    let log = "journal.sqlite-wal";
    let database = "journal.sqlite";
    for moved in [None, Some(database), Some(log)] {
        let (from, to) = match moved {
            None => (journal.clone(), elsewhere.clone()),
            Some(file) => (journal.join(file), elsewhere.join(file)),
        };
        std::fs::rename(&from, &to).unwrap();
        eventually(|| async { pay().await == "journal_unavailable" }).await;
        let sent = api.count();
        assert_eq!(pay().await, "journal_unavailable");
        assert_eq!(api.count(), sent);
        std::fs::rename(&to, &from).unwrap();
        eventually(|| async { pay().await.is_null() }).await;
        std::fs::create_dir_all(&elsewhere).unwrap();
    }
    assert!(outcomes(&journal).await.is_empty());
}
