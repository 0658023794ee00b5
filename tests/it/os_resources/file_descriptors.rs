//! Few file descriptors, many connections, and callers that do not say who they are.

use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::support::caller::basic;
use crate::support::idp::Idp;
use crate::support::metrics::{Scrape, admin};
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::Raw;
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, eventually, soon};

const GET: &str = "GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n";
const CALLERS: &str = "callers: {till: {password: pass-word, allow: [acme]}}\n";

async fn servers() -> (Upstream, Idp) {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    (api, Idp::counting().await)
}

fn authorized() -> String {
    let basic = basic("till", "pass-word");
    GET.replace("\r\n\r\n", &format!("\r\nAuthorization: {basic}\r\n\r\n"))
}

/// From one of the addresses of loopback.
async fn connect_from(address: &str, proxy: SocketAddr) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    Raw::over(soon(socket.connect(proxy)).await.unwrap())
}

/// How many connections there are descriptors for, as the log says.
fn served(program: &Program) -> usize {
    let log = program.logged();
    let warned = log.split("\"served\":").nth(1).unwrap();
    let digits: String = warned.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_allows() {
    let (api, idp) = servers().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let program = Program::start_by("ulimit -Sn 70; ulimit -Hn 1500; exec \"$@\"", &yaml).await;
    let limits = std::fs::read_to_string(program.proc("limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3);
    assert_eq!((words.next(), words.next()), (Some("1500"), Some("1500")));
    // The reserve is 256, each connection may need two, and some are open.
    let served = served(&program);
    assert!((560..622).contains(&served), "{served}");
}

#[tokio::test]
async fn with_few_descriptors_there_is_room_for_the_admin_port_tokens_and_providers() {
    let (api, idp) = servers().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    // 50 of them are the reserve; half of what is left is callers', and as many for providers.
    let program = Program::start_with_files(200, &yaml, "info").await;
    let served = served(&program);
    assert!((30..75).contains(&served), "{served}");
    let mut callers = Vec::new();
    for _ in 0..400 {
        callers.push(TcpStream::connect(program.listen).await.unwrap());
    }
    let reached = async |limit| {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_limit_reached_total", &[("limit", limit)])
    };
    eventually(|| async { reached("connections").await > 0.0 }).await;
    assert_eq!(admin(program.admin, "/healthz").await.status, 200);
    let mut first = Raw::over(callers.remove(0));
    assert_eq!(first.ask(GET).await.status(), 200);
    let scrape = Scrape::of(program.admin).await;
    assert_eq!(
        scrape.value("bursar_connections", &[("side", "caller")]),
        served as f64
    );
}

#[tokio::test]
async fn callers_beyond_the_descriptors_are_answered_and_those_before_reach_the_provider() {
    let (open, opened) = watch::channel(false);
    let api = Upstream::start(move |_| {
        let mut opened = opened.clone();
        async move {
            drop(opened.wait_for(|is_open| *is_open).await);
            answer(200, "fine")
        }
    })
    .await;
    let idp = Idp::counting().await;
    let program = Program::start_with_files(200, &acme(&api.url(), &idp.url(), ""), "info").await;
    let mut callers = Vec::new();
    for _ in 0..served(&program) {
        let mut caller = Raw::connect(program.listen).await;
        caller.write(GET).await;
        callers.push(caller);
    }
    let waiting = || async {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_connections", &[("side", "upstream")]) >= callers.len() as f64
    };
    eventually(waiting).await;
    for _ in 0..5 {
        let mut further = Raw::connect(program.listen).await;
        assert_eq!(further.read_message().await.status(), 503);
    }
    open.send_replace(true);
    for caller in &mut callers {
        assert_eq!(caller.read_message().await.status(), 200);
    }
}

#[tokio::test]
async fn a_lack_of_descriptors_opens_no_breaker_and_makes_no_caller_wait() {
    let (api, idp) = servers().await;
    let yaml = acme(&api.url(), &idp.url(), "breaker: {failures: 2, pause: 1h}");
    // Otherwise nobody else may count what is open.
    let yaml = format!("process: {{dumpable: true}}\n{yaml}");
    let program = Program::start_with_files(400, &yaml, "info").await;
    let is_ready = || async { admin(program.admin, "/readyz").await.status == 200 };
    eventually(is_ready).await;
    let mut callers = Vec::new();
    for _ in 0..40 {
        let mut caller = Raw::connect(program.listen).await;
        let nowhere = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(caller.ask(nowhere).await.status(), 204);
        callers.push(caller);
    }
    let open = program.open_files();
    // All that are free are of the reserve, and of its second half: no request may have them.
    program.limit_files(open + 3).await;
    for caller in &mut callers[..8] {
        assert_eq!(caller.ask(GET).await.status(), 502);
    }
    let mut further = Raw::connect(program.listen).await;
    assert_eq!(further.read_message().await.status(), 503);
    let limits = [("limit", "accept")];
    let reached = Scrape::of(program.admin).await;
    assert!(reached.value("bursar_limit_reached_total", &limits) >= 1.0);
    // None is free.
    program.limit_files(open / 2).await;
    for caller in &mut callers[..8] {
        assert_eq!(caller.ask(GET).await.status(), 502);
    }
    program.limit_files(400).await;
    for caller in &mut callers[..8] {
        assert_eq!(caller.ask(GET).await.status(), 200);
    }
}

#[tokio::test]
async fn one_address_has_a_share_of_the_connections_until_its_caller_is_known() {
    let (api, idp) = servers().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let top = "limits: {connections: 100, unknown_connections: 2}";
    let proxy = Proxy::start(&format!("{top}\n{CALLERS}{yaml}")).await;
    let limits = [("limit", "unknown_connections")];
    let here = || connect_from("127.0.0.1", proxy.listen);
    let mut first = here().await;
    let mut second = here().await;
    // A wrong password is no caller.
    assert_eq!(first.ask(GET).await.status(), 401);
    assert_eq!(here().await.read_message().await.status(), 503);
    assert_eq!(
        proxy.metric("bursar_limit_reached_total", &limits).await,
        1.0
    );
    let mut elsewhere = connect_from("127.0.0.2", proxy.listen).await;
    assert_eq!(elsewhere.ask(authorized()).await.status(), 200);
    assert_eq!(second.ask(authorized()).await.status(), 200);
    let mut third = here().await;
    assert_eq!(third.ask(authorized()).await.status(), 200);
    let mut fourth = here().await;
    assert_eq!(here().await.read_message().await.status(), 503);
    // One that ends makes room as well.
    drop(first);
    eventually(|| async {
        let mut another = here().await;
        another.write(authorized()).await;
        another
            .try_read_message()
            .await
            .is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    assert_eq!(fourth.ask(authorized()).await.status(), 200);
}

#[tokio::test]
async fn one_address_has_all_connections_that_it_wants_until_half_of_all_are_open() {
    let (api, idp) = servers().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let proxy = Proxy::start(&format!("limits: {{connections: 200}}\n{CALLERS}{yaml}")).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect_from("127.0.0.1", proxy.listen).await);
    }
    // More than an eighth, and more than the 64 that it always has: the first came before all of them.
    let mut one_more = connect_from("127.0.0.1", proxy.listen).await;
    assert_eq!(one_more.read_message().await.status(), 503);
    for caller in &mut silent {
        assert_eq!(caller.ask(GET).await.status(), 401);
    }
    let mut elsewhere = connect_from("127.0.0.2", proxy.listen).await;
    assert_eq!(elsewhere.ask(authorized()).await.status(), 200);
}

#[tokio::test]
async fn without_callers_everybody_is_one_and_waits_for_nobody() {
    let (api, idp) = servers().await;
    let yaml = acme(&api.url(), &idp.url(), "");
    let proxy = Proxy::start(&format!("limits: {{connections: 80}}\n{yaml}")).await;
    let mut idle = Vec::new();
    for _ in 0..79 {
        idle.push(Raw::connect(proxy.listen).await);
    }
    assert_eq!(
        Raw::connect(proxy.listen).await.ask(GET).await.status(),
        200
    );
}

#[tokio::test]
async fn thousands_of_connections_wait_to_be_accepted() {
    let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let longest: usize = longest.trim().parse().unwrap();
    let (api, idp) = servers().await;
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    program.signal("STOP").await;
    // More than the 1,024 that are usual.
    let mut waiting = Vec::new();
    for _ in 0..1500.min(longest) {
        waiting.push(soon(TcpStream::connect(program.listen)).await.unwrap());
    }
    program.signal("CONT").await;
    let mut last = Raw::over(waiting.pop().unwrap());
    assert_eq!(last.ask(GET).await.status(), 200);
    drop(waiting);
}
