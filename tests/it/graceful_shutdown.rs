//! How it ends: by signal, in phases, with the promised exit status.

use std::io::ErrorKind;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::caller::{Caller, Reply};
use crate::support::idp::Idp;
use crate::support::metrics::admin;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::{Raw, RawUpstream};
use crate::support::upstream::Upstream;
use crate::support::{Latch, acme, eventually, soon, without_request_id};

const GET: &str = "GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n";

async fn is_draining(address: std::net::SocketAddr) -> bool {
    let reply = admin(address, "/readyz").await;
    reply.status == 503 && reply.text().contains("draining")
}

async fn is_refused(address: std::net::SocketAddr) -> bool {
    let connected = TcpStream::connect(address).await;
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// One request that is answered when the latch opens.
fn held(mut caller: Caller) -> tokio::task::JoinHandle<Reply> {
    tokio::spawn(async move { caller.send("POST", "/held", "abc").await })
}

#[tokio::test]
async fn a_signal_drains_and_the_exit_status_is_0() {
    let idp = Idp::counting().await;
    for signal in ["TERM", "INT", "QUIT"] {
        let latch = Latch::closed();
        let api = Upstream::held("done", &latch).await;
        let yaml = format!("drain_delay: 2s\n{}", acme(&api.url(), &idp.url(), ""));
        let program = Program::start(&yaml, "info").await;
        let mut idle = Raw::connect(program.listen).await;
        assert_eq!(idle.ask(GET).await.field("connection"), None);
        let (http1, http2) = (
            held(Caller::connect(program.listen).await),
            held(Caller::connect_http2(program.listen).await),
        );
        latch.reached_by(2).await;
        program.signal(signal).await;
        eventually(|| is_draining(program.admin)).await;
        // New connections are still taken, and told to leave.
        for mut caller in [idle, Raw::connect(program.listen).await] {
            let reply = caller.ask(GET).await;
            assert_eq!(
                (reply.status(), reply.field("connection")),
                (200, Some("close"))
            );
            assert_eq!(caller.read_to_end().await.unwrap(), b"");
        }
        let status = admin(program.admin, "/status").await;
        assert!(
            status.text().contains("\"draining\": true"),
            "{}",
            status.text()
        );
        eventually(|| is_refused(program.listen)).await;
        assert!(is_draining(program.admin).await);
        latch.open();
        let (http1, http2) = (http1.await.unwrap(), http2.await.unwrap());
        assert_eq!((http1.text(), http2.text()), ("done", "done"));
        assert_eq!(http1.all("connection"), ["close"]);
        let (code, log) = program.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(log.matches("bursar::access").count(), 5, "{log}");
    }
}

#[tokio::test]
async fn signals_that_do_nothing_end_nothing_before_and_during_a_drain_and_the_log_says_so() {
    let (latch, idp) = (Latch::closed(), Idp::counting().await);
    let api = Upstream::held("done", &latch).await;
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let ignored = |signal: &str, times: usize| {
        let of = format!("\"signal\":\"SIG{signal}\"");
        program.logged().matches(&of).count() == times
    };
    let caller = held(Caller::connect(program.listen).await);
    latch.reached_by(1).await;
    for times in [1, 2] {
        for signal in ["USR1", "USR2"] {
            program.signal(signal).await;
            eventually(|| async { ignored(signal, times) }).await;
        }
        if times == 1 {
            program.signal("TERM").await;
            eventually(|| is_draining(program.admin)).await;
        }
    }
    // The third one reads the configuration again, but not any more.
    program.signal("HUP").await;
    eventually(|| async { ignored("HUP", 1) }).await;
    let reads_none = "Bursar is draining, and reads no configuration any more";
    assert!(program.logged().contains(reads_none));
    assert!(program.json("/status").await["last_reload"].is_null());
    latch.open();
    assert_eq!(caller.await.unwrap().text(), "done");
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_it() {
    let (latch, idp) = (Latch::closed(), Idp::counting().await);
    let api = Upstream::held("done", &latch).await;
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let mut caller = Raw::connect(program.listen).await;
    caller
        .write("GET /held HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    latch.reached_by(1).await;
    program.signal("TERM").await;
    eventually(|| is_draining(program.admin)).await;
    program.signal("TERM").await;
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert_eq!(caller.read_message().await.status(), 503);
    caller.closed().await;
    latch.open();
}

#[tokio::test]
async fn drain_timeout_cuts_off_what_is_left() {
    let (latch, idp) = (Latch::closed(), Idp::counting().await);
    let api = Upstream::held("done", &latch).await;
    let yaml = format!("drain_timeout: 200ms\n{}", acme(&api.url(), &idp.url(), ""));
    let program = Program::start(&yaml, "info").await;
    let mut caller = Raw::connect(program.listen).await;
    caller
        .write("POST /held HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n")
        .await;
    latch.reached_by(1).await;
    program.signal("TERM").await;
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("drain_timeout is over"), "{log}");
    let line = |text: &str| {
        log.lines()
            .find(|line| line.contains(text))
            .unwrap_or_default()
    };
    let begun = line("\"message\":\"draining\"");
    assert!(
        begun.contains("\"requests\":\"acme 1\"") && begun.contains("\"drain_timeout_ms\":200"),
        "{log}"
    );
    assert!(
        line("\"message\":\"drained\"").contains("\"connections_cut_off\":1"),
        "{log}"
    );
    let response = caller.read_message().await;
    let problem: Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(problem["reason"], "draining");
    assert_eq!(problem["request_sent"], "maybe");
    assert_eq!(response.field("retry-after"), None);
    caller.closed().await;
    latch.open();
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let idp = Idp::counting().await;
    let api = Upstream::held("done", &Latch::closed()).await;
    let mut proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let (mut fresh, mut used) = (
        Raw::connect(proxy.listen).await,
        Raw::connect(proxy.listen).await,
    );
    assert_eq!(used.ask(GET).await.status(), 200);
    let mut http2 = Caller::connect_http2(proxy.listen).await;
    assert_eq!(http2.send("GET", "/x", "").await.status, 200);
    proxy.shut_down();
    soon(proxy.drained()).await;
    used.closed().await;
    fresh.closed().await;
}

#[tokio::test]
async fn after_the_delay_what_moves_money_is_refused_and_the_rest_is_served() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("done", &latch).await, Idp::counting().await);
    let mut proxy = Proxy::start(&acme(&api.url(), &idp.url(), "")).await;
    let (mut paying, mut reading) = (
        Raw::connect(proxy.listen).await,
        Raw::connect(proxy.listen).await,
    );
    let held = held(Caller::connect(proxy.listen).await);
    latch.reached_by(1).await;
    proxy.shut_down();
    eventually(|| is_refused(proxy.listen)).await;
    let reply = paying
        .ask("POST /x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(reply.status(), 503, "{reply:?}");
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert_eq!(reply.field("connection"), Some("close"));
    let problem: Value = serde_json::from_str(reply.text()).unwrap();
    assert_eq!(
        (&problem["reason"], &problem["request_sent"]),
        (&"draining".into(), &"no".into())
    );
    assert_eq!(reading.ask(GET).await.status(), 200);
    let refused = [("reason", "draining")];
    let refused = proxy.metric("bursar_refusals_total", &refused).await;
    assert_eq!(refused, 1.0);
    // What had begun is seen through, although it moves money.
    latch.open();
    assert_eq!(held.await.unwrap().text(), "done");
    soon(proxy.drained()).await;
    assert_eq!(api.count(), 2);
}

#[tokio::test]
async fn the_last_share_of_drain_timeout_is_for_what_moves_money() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("done", &latch).await, Idp::counting().await);
    let yaml = format!("drain_timeout: 16s\n{}", acme(&api.url(), &idp.url(), ""));
    let mut proxy = Proxy::start(&yaml).await;
    let (mut reading, mut reading2) = (
        Raw::connect(proxy.listen).await,
        Caller::connect_http2(proxy.listen).await,
    );
    reading.write(GET.replace("/x", "/held")).await;
    let reading2 = tokio::spawn(async move { reading2.send("GET", "/held", "").await });
    let paying = [
        held(Caller::connect(proxy.listen).await),
        held(Caller::connect_http2(proxy.listen).await),
    ];
    latch.reached_by(4).await;
    proxy.shut_down();
    assert_eq!(reading.read_message().await.status(), 503);
    reading.closed().await;
    let cut_off = reading2.await.unwrap();
    assert_eq!(
        (cut_off.status.as_u16(), &cut_off.problem()["reason"]),
        (503, &"draining".into())
    );
    latch.open();
    for paid in paying {
        assert_eq!(paid.await.unwrap().text(), "done");
    }
    soon(proxy.drained()).await;
}

#[tokio::test]
async fn a_payment_over_http2_that_is_cut_off_has_a_response_that_says_so() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("done", &latch).await, Idp::counting().await);
    let yaml = format!("drain_timeout: 200ms\n{}", acme(&api.url(), &idp.url(), ""));
    let mut proxy = Proxy::start(&yaml).await;
    let paying = held(Caller::connect_http2(proxy.listen).await);
    latch.reached_by(1).await;
    proxy.shut_down();
    let problem = paying.await.unwrap().problem();
    assert_eq!(
        (&problem["reason"], &problem["request_sent"]),
        (&"draining".into(), &"maybe".into())
    );
    soon(proxy.drained()).await;
    latch.open();
}

#[tokio::test]
async fn a_passed_through_request_that_is_cut_off_may_have_been_sent() {
    let latch = Latch::closed();
    let other = Upstream::held("done", &latch).await;
    let port = other.url().rsplit(':').next().unwrap().to_owned();
    let (api, idp) = (Upstream::held("", &latch).await, Idp::counting().await);
    let yaml = format!(
        "drain_timeout: 200ms\npassthrough: [{{host: localhost, ports: [{port}]}}]\n{}",
        acme(&api.url(), &idp.url(), "")
    );
    let mut proxy = Proxy::start(&yaml).await;
    let mut caller = Raw::connect(proxy.listen).await;
    let post = format!(
        "POST http://localhost:{port}/held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    );
    caller.write(post).await;
    latch.reached_by(1).await;
    proxy.shut_down();
    let response = caller.read_message().await;
    let problem: Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!(problem["request_sent"], "maybe");
    assert_eq!(response.field("retry-after"), None);
    soon(proxy.drained()).await;
    latch.open();
}

#[tokio::test]
async fn connections_that_are_of_no_use_do_not_hold_up_the_end() {
    let server = RawUpstream::start(|_, mut raw| async move {
        drop(raw.read_to_end().await);
    })
    .await;
    let port = server.address.port();
    let (api, idp) = (
        Upstream::held("done", &Latch::closed()).await,
        Idp::counting().await,
    );
    let yaml = format!(
        "drain_timeout: 600s\npassthrough: [{{host: localhost, ports: [{port}]}}]\n{}",
        acme(&api.url(), &idp.url(), "")
    );
    let mut proxy = Proxy::start(&yaml).await;
    let mut tunnel = Raw::connect(proxy.listen).await;
    let connect = format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    tunnel.write(connect).await;
    assert_eq!(
        without_request_id(&tunnel.read_head().await),
        "HTTP/1.1 200 OK"
    );
    let mut half = Raw::connect(proxy.listen).await;
    half.write("GET /x HTTP/1.1\r\nHo").await;
    let mut second_half = Raw::connect(proxy.listen).await;
    assert_eq!(second_half.ask(GET).await.status(), 200);
    second_half.write("GET /x HTTP/1.1\r\nHo").await;
    // HTTP/2 that says nothing after its settings, not even to a ping.
    let mut mute = Raw::connect(proxy.listen).await;
    mute.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    assert_eq!(mute.read_exact(9).await[3], 4);
    proxy
        .metric_becomes("bursar_connections", &[("side", "caller")], 4.0)
        .await;
    proxy.shut_down();
    soon(proxy.drained()).await;
    for mut raw in [half, second_half, tunnel] {
        raw.closed().await;
    }
}

#[tokio::test]
async fn connections_that_wait_to_be_accepted_are_served() {
    let (api, idp) = (
        Upstream::held("done", &Latch::closed()).await,
        Idp::counting().await,
    );
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let warm = Raw::connect(program.listen).await.ask(GET).await;
    assert_eq!(warm.status(), 200);
    program.signal("STOP").await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut caller = Raw::connect(program.listen).await;
        caller.write(GET).await;
        waiting.push(caller);
    }
    program.signal("TERM").await;
    program.signal("CONT").await;
    for mut caller in waiting {
        // Those that are accepted before the signal is looked at are not told to close their connection.
        assert_eq!(caller.read_message().await.status(), 200);
    }
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_wrong_file_ends_with_2_and_every_problem() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    let yaml = "listen: nowhere\nadmin: 127.0.0.1:0\nproviders:\n  acme:\n    hosts: []\n    client_id: ${BURSAR_TEST_UNSET}\n    client_secret: s3cret\n    surprise: 1\n    token: {margin: soon}\n";
    std::fs::write(&file, yaml).unwrap();
    let missing = directory.path().join("none.yaml");
    for (arguments, expected) in [
        (
            vec!["run", "--config", file.to_str().unwrap()],
            &["listen", "hosts", "BURSAR_TEST_UNSET", "surprise", "margin"][..],
        ),
        (
            vec!["check", "--config", file.to_str().unwrap()],
            &["listen", "hosts", "BURSAR_TEST_UNSET", "surprise", "margin"],
        ),
        (
            vec!["run", "--config", missing.to_str().unwrap()],
            &["none.yaml", "bursar init --preset"],
        ),
        (vec!["run", "--no-such-argument"], &["--no-such-argument"]),
        (vec![], &["Usage"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bursar"))
            .args(&arguments)
            .stdin(Stdio::null())
            .output();
        let output = soon(output).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        for word in expected {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// What a start that fails says: lines of JSON, as its log would be.
async fn failed_start(yaml: &str) -> (Option<i32>, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    let output = command.args(["run", "--config"]).arg(&file).output();
    let output = soon(output).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), lines.collect())
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_once_and_by_which_process() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let acme = acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", "");
    let yaml = format!("listen: {address}\nadmin: 127.0.0.1:0\n{acme}");
    let (code, lines) = failed_start(&yaml).await;
    let errors: Vec<&Value> = lines
        .iter()
        .filter(|line| line["level"] == "ERROR")
        .collect();
    assert_eq!((code, errors.len()), (Some(1), 1), "{lines:?}");
    let message = errors[0]["message"].as_str().unwrap();
    let id = std::process::id();
    let start = format!("cannot listen on {address} (`listen`), which process {id} (");
    assert!(message.starts_with(&start), "{message}");
    assert_eq!(message.matches("in use").count(), 1, "{message}");
}

#[tokio::test]
async fn what_is_wrong_with_the_file_at_the_start_is_json_where_the_log_is() {
    let (code, lines) =
        failed_start("listen: 3128\nadmin_token: \" s3cret\"\nproviders: {}\n").await;
    assert_eq!(code, Some(2), "{lines:?}");
    let told = lines
        .iter()
        .map(|line| (&line["level"], &line["key"], &line["line"]));
    let expected = [
        ("listen", json!(1)),
        ("admin_token", json!(2)),
        ("providers", json!(3)),
    ];
    let level = json!("ERROR");
    for ((found, key, line), (expected, at)) in told.zip(&expected) {
        assert_eq!(
            (found, key, line),
            (&level, &json!(expected), at),
            "{lines:?}"
        );
    }
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    assert!(
        lines[0]["problem"]
            .as_str()
            .unwrap()
            .contains("has no address"),
        "{lines:?}"
    );
    assert!(!format!("{lines:?}").contains("s3cret"), "{lines:?}");
}
