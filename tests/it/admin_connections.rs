//! What somebody who reaches the admin port can do by connections and by guesses: nothing that keeps probes from their
//! responses, or the right token from being looked at.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::idp::Idp;
use crate::support::metrics::{Scrape, admin};
use crate::support::program::{Program, run_in};
use crate::support::raw::{Message, Raw};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually};

const TOKEN: &str = "0123456789-admin-token";
const WRONG: &str = "wrong-token-0123456789";
/// More than the port has connections.
const MANY: usize = 80;
/// Without room it would take as long as a head may: 5 s.
const SOON: Duration = Duration::from_secs(4);

async fn program() -> (Upstream, Idp, Program) {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let yaml = format!("admin_token: {TOKEN}\n{}", acme(&api.url(), &idp.url(), ""));
    let program = Program::start(&yaml, "info").await;
    eventually(|| async { admin(program.admin, "/readyz").await.status == 200 }).await;
    (api, idp, program)
}

fn frozen_with(token: &str) -> String {
    format!(
        "POST /freeze/acme HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    )
}

async fn freeze(admin: SocketAddr, token: &str) -> Message {
    Raw::connect(admin).await.ask(frozen_with(token)).await
}

/// What somebody holds connections with.
#[derive(Debug, Clone, Copy)]
enum Way {
    NothingSent,
    HeadByteByByte,
    Idle,
    WrongTokens,
    ResponsesUnread,
}

/// Holds one for as long as it is held by Bursar.
async fn hold(mut stream: TcpStream, way: Way) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let get = "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut byte = [0];
    match way {
        Way::NothingSent => {}
        Way::HeadByteByByte => {
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            for byte in get.as_bytes().iter().take(get.len() - 1) {
                pace.tick().await;
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        }
        Way::Idle => {
            let get = get.replace("/status", "/healthz");
            drop(stream.write_all(get.as_bytes()).await);
            while stream
                .read(&mut byte)
                .await
                .is_ok_and(|read| read > 0 && byte != *b"k")
            {}
        }
        Way::WrongTokens => drop(stream.write_all(frozen_with(WRONG).as_bytes()).await),
        Way::ResponsesUnread => {
            // Until it is not read any more.
            let all = get.repeat(100);
            while stream.write_all(all.as_bytes()).await.is_ok() {}
            return;
        }
    }
    while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

async fn is_answered(program: &Program, way: Way) {
    for path in ["/healthz", "/readyz", "/metrics"] {
        let reply = timeout(SOON, admin(program.admin, path)).await;
        let reply = reply.unwrap_or_else(|_late| panic!("{way:?}: {path}"));
        assert_eq!(reply.status, 200, "{way:?}: {path}");
    }
    let at = program.admin.to_string();
    let said = run_in(program.directory(), &["health", "--admin", &at], &[]).await;
    assert_eq!(said.code, Some(0), "{way:?}: {said:?}");
}

#[tokio::test]
async fn probes_are_answered_whatever_connections_somebody_at_the_same_address_holds() {
    let (_api, _idp, program) = program().await;
    let closed = async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.value(
            "bursar_limit_reached_total",
            &[("limit", "admin_connections")],
        )
    };
    for way in [
        Way::NothingSent,
        Way::HeadByteByByte,
        Way::Idle,
        Way::WrongTokens,
        Way::ResponsesUnread,
    ] {
        let before = closed().await;
        let mut held = JoinSet::new();
        for _ in 0..MANY {
            // Connected before any probe is.
            let stream = TcpStream::connect(program.admin).await.unwrap();
            held.spawn(hold(stream, way));
        }
        // Wrong tokens are told so; those of them that wait are few.
        if !matches!(way, Way::WrongTokens) {
            eventually(|| async { closed().await > before }).await;
        }
        is_answered(&program, way).await;
        is_answered(&program, way).await;
    }
    let logged = program.logged();
    let lines = logged.matches("the admin port has too many connections");
    assert_eq!(lines.count(), 1, "{logged}");
}

/// Guesses until those who guess are told late.
async fn guess_until_it_is_slow(admin: SocketAddr) {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        assert_eq!(freeze(admin, WRONG).await.status(), 401);
        // It waited for its window, which others begin later and later.
        if asked.elapsed() > Duration::from_millis(1200) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[tokio::test]
async fn neither_many_guesses_at_a_time_nor_closing_early_makes_them_faster_and_the_right_token_is_looked_at()
 {
    let (_api, _idp, program) = program().await;
    let at = program.admin;
    guess_until_it_is_slow(at).await;
    // A window ends 0.1 s after its first guess, and the next one begins 3 s later.
    let mut waiting = Raw::connect(at).await;
    loop {
        waiting.write(frozen_with(WRONG)).await;
        let told = timeout(Duration::from_millis(500), waiting.read_message()).await;
        match told {
            Ok(told) => assert_eq!(told.status(), 401),
            Err(_waits) => break,
        }
    }
    // Whoever does not wait has not made an attempt, not even with the right token.
    let mut left = Raw::connect(at).await;
    left.write(frozen_with(TOKEN)).await;
    left.reset();
    let mut guesses = JoinSet::new();
    for _ in 0..40 {
        guesses.spawn(freeze(at, WRONG));
    }
    let guessed = guesses.join_all().await;
    let looked_at = guessed.iter().filter(|told| told.status() == 401).count();
    assert!(looked_at <= 8, "{looked_at}");
    for told in guessed.iter().filter(|told| told.status() != 401) {
        assert_eq!(told.status(), 429);
        // A window is over before the second that a field could name.
        assert!(told.field("retry-after").is_none());
        assert!(told.text().contains("try again at once"));
    }
    let status = program.json("/status").await;
    assert_eq!(status["frozen"], json!([]));
    // Whoever goes on with the right one is looked at, however many guess beside it.
    let guessing = async {
        loop {
            let mut guesses = JoinSet::new();
            for _ in 0..10 {
                guesses.spawn(freeze(at, WRONG));
            }
            guesses.join_all().await;
        }
    };
    let named = at.to_string();
    let arguments = ["freeze", "acme", "--admin", &named];
    let environment = [("BURSAR_ADMIN_TOKEN", TOKEN)];
    let freezing = run_in(program.directory(), &arguments, &environment);
    let said = tokio::select! {
        said = freezing => said,
        () = guessing => unreachable!(),
    };
    assert_eq!(said.code, Some(0), "{said:?}");
    let status = program.json("/status").await;
    assert_eq!(status["frozen"], json!(["acme"]));
    // One line, whatever a minute brings.
    let logged = program.logged();
    let lines = logged
        .lines()
        .filter(|line| line.contains("the admin port"));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("127.0.0.1"), "{lines:?}");
    assert!(lines[0].contains("without the `admin_token`"), "{lines:?}");
    assert!(!logged.contains("wrong-token"));
}
