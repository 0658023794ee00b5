//! Situations of the process itself: its end, a port that is taken, a journal that cannot be written.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tokio::net::TcpStream;

use super::places::{access_text, request, response_text, shortened};
use super::{Shown, normalised};
use crate::support::idp::Idp;
use crate::support::metrics::{Scrape, admin};
use crate::support::program::run_in;
use crate::support::proxy::Program;
use crate::support::raw::{Message, Raw};
use crate::support::upstream::{Upstream, answer};
use crate::support::{Latch, acme, eventually};

pub(super) async fn all() -> Vec<Shown> {
    let (one, two) = tokio::join!(draining(), cut_off());
    let (three, four) = tokio::join!(port_taken(), journal_unavailable());
    vec![one, two, three, four]
}

/// A program before a provider that responds when the latch opens, with one payment under way.
struct Paying {
    program: Program,
    latch: Latch,
    paying: Raw,
    _peers: (Upstream, Idp),
}

impl Paying {
    async fn start(top: &str) -> Self {
        let latch = Latch::closed();
        let (api, idp) = (Upstream::held("done", &latch).await, Idp::counting().await);
        let yaml = format!("{top}\n{}", acme(&api.url(), &idp.url(), ""));
        let program = Program::start(&yaml, "trace").await;
        let mut paying = Raw::connect(program.listen).await;
        paying.write(request("POST", "api.test/held", "")).await;
        latch.reached_by(1).await;
        Self {
            program,
            latch,
            paying,
            _peers: (api, idp),
        }
    }
}

/// A payment that comes while one is waited for, and the end once that has its response.
async fn draining() -> Shown {
    let Paying {
        program,
        latch,
        mut paying,
        _peers,
    } = Paying::start("drain_timeout: 9s").await;
    let mut late = Raw::connect(program.listen).await;
    let connections = async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_connections", &[("side", "caller")])
    };
    eventually(|| async { connections().await == 2.0 }).await;
    program.signal("TERM").await;
    eventually(|| is_refused(program.listen)).await;
    let refused = late.ask(request("POST", "api.test/late", "")).await;
    let ready = admin(program.admin, "/readyz").await;
    let ready = format!(
        "/readyz      {} {}\n",
        ready.status.as_u16(),
        why_not(ready.text())
    );
    latch.open();
    assert_eq!(paying.read_message().await.text(), "done");
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let line = access_line(&log, &refused);
    let text = [response_text(Some(&refused)), line, ready, drain_text(&log)].concat();
    shown("draining", &text, log)
}

/// What is under way when `drain_timeout` is over.
async fn cut_off() -> Shown {
    let Paying {
        program,
        latch,
        mut paying,
        _peers,
    } = Paying::start("drain_timeout: 200ms").await;
    program.signal("TERM").await;
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let response = paying.read_message().await;
    latch.open();
    let lines = lines(&log);
    let line = lines.iter().find(|line| line["target"] == "bursar::access");
    let text = [
        response_text(Some(&response)),
        access_text(line.unwrap()),
        drain_text(&log),
    ];
    shown("drain_timeout", &text.concat(), log)
}

/// A start at a port that this test has.
async fn port_taken() -> Shown {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let yaml = acme("http://127.0.0.1:1", "http://127.0.0.1:1/t", "");
    let yaml = format!(
        "listen: {}\nadmin: 127.0.0.1:0\n{yaml}",
        taken.local_addr().unwrap()
    );
    std::fs::write(directory.path().join("proxy.yaml"), yaml).unwrap();
    let said = run_in(directory.path(), &["run"], &[("RUST_LOG", "error")]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let own = own_process();
    assert!(said.error.contains(&own), "{own}: {said:?}");
    let text = said.error.replace(&own, "N (NAME)");
    let lines = lines(&text);
    let text: String = (lines.iter())
        .map(|line| format!("{}\n", shortened(line)))
        .collect();
    shown("port_taken", &text, said.error)
}

/// A payment while somebody else has the journal's file.
async fn journal_unavailable() -> Shown {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let yaml = format!(
        "journal: {{path: {}}}\n{}",
        journal.display(),
        acme(&api.url(), &idp.url(), "")
    );
    let program = Program::start(&yaml, "trace").await;
    let other = rusqlite::Connection::open(journal.join("journal.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut raw = Raw::connect(program.listen).await;
    let refused = raw.ask(request("POST", "api.test/payments", "")).await;
    assert_eq!(refused.status(), 503, "{refused:?}");
    other.execute_batch("ROLLBACK").unwrap();
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    let warnings: String = (lines(&log).iter())
        .filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|said| said.contains("journal"))
        })
        .filter(|line| line["level"] == "WARN" || line["level"] == "ERROR")
        .map(|line| format!("log          {}\n", shortened(line)))
        .collect();
    let line = access_line(&log, &refused);
    let text = [response_text(Some(&refused)), line, warnings].concat();
    let text = text.replace(&own_process(), "N (NAME)");
    shown("journal_unavailable", &text, log)
}

/// As it names what has a port or a file.
fn own_process() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    format!("{} ({})", std::process::id(), name.trim())
}

fn shown(name: &'static str, text: &str, printed: String) -> Shown {
    Shown {
        name,
        block: Some(normalised(text, Path::new("/"))),
        printed,
    }
}

fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn access_line(log: &str, response: &Message) -> String {
    let id = response.field("bursar-request-id").unwrap();
    let lines = lines(log);
    let is_it = |line: &&Value| line["target"] == "bursar::access" && line["request_id"] == id;
    access_text(lines.iter().find(is_it).unwrap())
}

/// What the log says of a drain.
fn drain_text(log: &str) -> String {
    let lines = lines(log);
    let of_drain = lines.iter().filter(|line| {
        let said = line["message"].as_str().unwrap_or_default();
        line["target"] != "bursar::access" && said.contains("drain") && line["level"] != "TRACE"
    });
    let text = of_drain.map(|line| {
        let mut line = shortened(line);
        // How long it took, and which of the probes' connections were closed already.
        for name in ["after_ms", "connections", "connections_cut_off"] {
            if line.get(name).is_some() {
                line[name] = "N".into();
            }
        }
        format!("log          {line}\n")
    });
    text.collect()
}

/// Why it is not ready.
fn why_not(body: &str) -> Value {
    let mut body: Value = serde_json::from_str(body).unwrap();
    body.as_object_mut().unwrap().remove("providers");
    body
}

async fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err()
}
