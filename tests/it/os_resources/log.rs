//! Log lines: none too long, none in part, whoever reads them or does not.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::idp::Idp;
use crate::support::metrics::Scrape;
use crate::support::proxy::Program;
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

/// Container runtimes cut lines at 16,384 bytes, with what they put before them.
const LONGEST: usize = 16_000;
const DROPPED: &str = "bursar_log_lines_dropped_total";

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n")
}

async fn yaml() -> (Upstream, Idp, String) {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    (api, idp, yaml)
}

#[tokio::test]
async fn no_line_is_longer_than_container_runtimes_take_whoever_sends_what() {
    let (_api, _idp, yaml) = yaml().await;
    let program = Program::start(&yaml, "info").await;
    let long = |text: &str, count| text.repeat(count);
    let heads = [
        format!("GET http://api.test/{}", long("a", 30_000)),
        format!("GET http://api.test/{}", long("\"", 12_000)),
        format!("GET http://api.test/{}", long("é", 12_000)),
        format!("TRACE http://api.test/{}", long("a", 60_000)),
        format!("GET http://{}.test/x", long("a", 30_000)),
        format!("CONNECT {}:443", long("a", 30_000)),
        format!("{} http://api.test/", long("M", 20_000)),
    ];
    for head in &heads {
        let mut caller = Raw::connect(program.listen).await;
        caller
            .write(format!(
                "{head} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"
            ))
            .await;
        drop(caller.read_to_end().await);
    }
    let access = || {
        let log = program.logged();
        let lines = log.lines().filter(|line| line.contains("bursar::access"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // The parser refuses what is no target; those have no line.
    eventually(|| async { access().len() >= 5 }).await;
    for line in access() {
        assert!(line.len() < LONGEST, "{}", line.len());
        let line: Value = serde_json::from_str(&line).unwrap();
        // Of the one whose host is long.
        if line["path"] == "/x" {
            continue;
        }
        let is_cut = |field: &str| {
            line[field]
                .as_str()
                .is_some_and(|text| text.ends_with(" bytes]"))
        };
        assert!(is_cut("path") || is_cut("method"), "{line}");
        assert!(line["status"].is_number());
    }
}

#[tokio::test]
async fn what_libraries_say_at_the_level_trace_is_cut_as_well() {
    let (_api, _idp, yaml) = yaml().await;
    let program = Program::start(&yaml, "trace").await;
    let field = format!(
        "X-Long: {}\r\n",
        "\u{1}\"".replace('\u{1}', "\t").repeat(20_000)
    );
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: api.test\r\n{field}\r\n",
        "a".repeat(40_000)
    );
    assert_eq!(
        Raw::connect(program.listen)
            .await
            .ask(request)
            .await
            .status(),
        200
    );
    eventually(|| async { program.logged().contains("bursar::access") }).await;
    let log = program.logged();
    for line in log.lines() {
        assert!(line.len() < LONGEST, "{} {:.200}", line.len(), line);
        let read: Result<Value, _> = serde_json::from_str(line);
        assert!(read.is_ok(), "{line:.200}");
    }
}

/// The program, which writes its log to that.
struct Logging {
    child: Child,
    listen: SocketAddr,
    admin: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Logging {
    fn start(yaml: &str, log: impl Into<Stdio>) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_bursar")), yaml, log)
    }

    fn start_by(mut program: Command, yaml: &str, log: impl Into<Stdio>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("proxy.yaml");
        // The log does not say where, because nobody reads it.
        let [listen, admin] = [(); 2].map(|()| {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap()
        });
        std::fs::write(&file, format!("listen: {listen}\nadmin: {admin}\n{yaml}")).unwrap();
        program
            .args(["run", "--config"])
            .arg(&file)
            .env("RUST_LOG", "info");
        let child = program.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Self {
            child,
            listen,
            admin,
            _directory: directory,
        }
    }

    async fn is_up(&self) {
        eventually(|| async { tokio::net::TcpStream::connect(self.listen).await.is_ok() }).await;
    }

    async fn dropped(&self) -> f64 {
        Scrape::of(self.admin).await.value(DROPPED, &[])
    }

    async fn ask(&self, count: usize, path: &str) {
        let mut caller = Raw::connect(self.listen).await;
        for _ in 0..count {
            assert_eq!(caller.ask(request(path)).await.status(), 200);
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Has others find that what they write to does not block: that holds for all who have it open.
fn set_nonblocking(pipe: &impl std::os::fd::AsFd) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
}

/// All lines up to the request for `/last`, each of which must be whole; how many are of requests.
fn requests_in(log: PipeReader) -> usize {
    let lines = BufReader::new(log).lines().map(Result::unwrap);
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).expect("a whole line"));
    let mut requests = lines.filter(|line| line["target"] == "bursar::access");
    requests
        .by_ref()
        .take_while(|line| line["path"] != "/last")
        .count()
}

#[tokio::test]
async fn a_pipe_that_does_not_block_gets_whole_lines_and_what_is_lost_is_counted() {
    let (_api, _idp, yaml) = yaml().await;
    let (reader, writer) = std::io::pipe().unwrap();
    set_nonblocking(&writer);
    let program = Logging::start(&yaml, writer);
    program.is_up().await;
    assert_eq!(program.dropped().await, 0.0);
    let path = format!("/{}", "a".repeat(8000));
    // More than the pipe and the memory for lines hold.
    let (mut asked, mut asked_last) = (0, 0);
    while program.dropped().await == 0.0 {
        program.ask(200, &path).await;
        asked += 200;
        assert!(asked < 10_000);
    }
    let reading = tokio::task::spawn_blocking(move || requests_in(reader));
    // Until there is room again, these are lost, too.
    while !reading.is_finished() {
        program.ask(1, "/last").await;
        asked_last += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let written = reading.await.unwrap();
    let known = written as f64 + program.dropped().await;
    let asked = f64::from(asked);
    assert!(
        (asked..=asked + f64::from(asked_last)).contains(&known),
        "{known} of {asked} and {asked_last}"
    );
}

#[tokio::test]
async fn requests_do_not_wait_for_a_log_that_cannot_be_written() {
    let (_api, _idp, yaml) = yaml().await;
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    let stays = Logging::start(&yaml, closed);
    stays.is_up().await;
    drop(reader);
    let full = Logging::start(&yaml, full);
    full.is_up().await;
    for program in [full, stays] {
        program.ask(50, "/x").await;
        eventually(|| async { program.dropped().await >= 50.0 }).await;
    }
}

#[tokio::test]
async fn a_log_that_has_reached_the_limit_of_a_files_size_loses_lines_and_nothing_else() {
    let (_api, _idp, yaml) = yaml().await;
    let mut limited = Command::new("sh");
    let limit = "ulimit -f 8; exec \"$@\"";
    limited.args(["-c", limit, "sh", env!("CARGO_BIN_EXE_bursar")]);
    let program = Logging::start_by(limited, &yaml, tempfile::tempfile().unwrap());
    program.is_up().await;
    program.ask(100, "/x").await;
    eventually(|| async { program.dropped().await >= 50.0 }).await;
    program.ask(1, "/x").await;
}

#[tokio::test]
async fn a_reader_that_stops_holds_no_request_up_and_gets_every_line_later() {
    let (_api, _idp, yaml) = yaml().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let program = Logging::start(&yaml, writer);
    program.is_up().await;
    let path = format!("/{}", "a".repeat(8000));
    program.ask(200, &path).await;
    let id = program.child.id().to_string();
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let ended = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(ended.unwrap().success());
    let text = tokio::time::timeout(crate::support::PATIENCE, reading)
        .await
        .unwrap()
        .unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let requests = lines
        .iter()
        .filter(|line| line["target"] == "bursar::access");
    assert_eq!(requests.count(), 200);
}

#[tokio::test]
async fn a_pipe_that_does_not_block_and_that_nobody_reads_ends_in_a_whole_line() {
    let (_api, _idp, yaml) = yaml().await;
    for path in ["/short", &format!("/{}", "a".repeat(8000))] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        set_nonblocking(&writer);
        let mut program = Logging::start(&yaml, writer);
        program.is_up().await;
        // More than the pipe holds.
        program.ask(400, path).await;
        let id = program.child.id().to_string();
        let ended = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(ended.unwrap().success());
        let ended = tokio::task::spawn_blocking(move || program.child.wait());
        ended.await.unwrap().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n'), "{path}");
    }
}
