//! Access lines: who asked from where, for which host, in which form, and which of the meanings of a reason it was.

use http::Request;
use serde_json::{Value, json};

use super::support::caller::{Caller, basic};
use super::support::idp::Idp;
use super::support::proxy::{Program, Proxy};
use super::support::raw::Raw;
use super::support::upstream::{Upstream, answer, full};
use super::support::{Rig, acme, eventually};

/// Fields of a line.
fn fields<const N: usize>(line: &Value, names: [&str; N]) -> [Value; N] {
    names.map(|name| line[name].clone())
}

#[tokio::test]
async fn a_line_tells_where_from_for_which_host_and_in_which_form() {
    let rig = Rig::start(|_| async { answer(200, "") }).await;
    let cases = [
        (
            "GET http://Api.test/x HTTP/1.1\r\nHost: other.test\r\n",
            "absolute",
            json!("Api.test"),
        ),
        (
            "GET /x HTTP/1.1\r\nHost: API.test:80\r\n",
            "origin",
            json!("API.test"),
        ),
        (
            "GET http://nobody.test:81/x HTTP/1.1\r\nHost: a\r\n",
            "absolute",
            json!("nobody.test"),
        ),
        (
            "GET /x HTTP/1.1\r\nHost: user:secret@nobody.test\r\n",
            "origin",
            json!("nobody.test"),
        ),
        ("GET /x HTTP/1.0\r\n", "origin", Value::Null),
        (
            "CONNECT nobody.test:443 HTTP/1.1\r\nHost: nobody.test:443\r\n",
            "authority",
            json!("nobody.test"),
        ),
        (
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n",
            "authority",
            json!("::1"),
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: api.test\r\n",
            "asterisk",
            json!("api.test"),
        ),
    ];
    for (at, (head, form, host)) in cases.iter().enumerate() {
        Raw::connect(rig.proxy.listen)
            .await
            .ask(format!("{head}\r\n"))
            .await;
        let line = rig.proxy.access_lines(at + 1).await.pop().unwrap();
        let found = fields(&line, ["client", "form", "host"]);
        assert_eq!(
            found,
            [json!("127.0.0.1"), json!(form), host.clone()],
            "{head}"
        );
    }
    let mut http2 = Caller::connect_http2(rig.proxy.listen).await;
    let request = Request::get("http://api.test/x").version(http::Version::HTTP_2);
    assert_eq!(
        http2.request(request.body(full("")).unwrap()).await.status,
        200
    );
    let line = rig.proxy.access_lines(cases.len() + 1).await.pop().unwrap();
    assert_eq!(fields(&line, ["form", "host"]), ["origin", "api.test"]);
}

const CALLERS: &str = "callers:
  shop: {password: correct-horse, allow: [{provider: acme, paths: ['/api/shop/**']}]}
  till: {password: battery-staple, addresses: [192.0.2.1], allow: [acme]}
";
const SHOP: &str = "Proxy-Authorization: Basic c2hvcDpjb3JyZWN0LWhvcnNl\r\n";

#[tokio::test]
async fn the_meanings_of_a_reason_are_told_apart_and_so_is_who_guesses_whose_password() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let yaml = acme(&api.url(), &idp.url(), "paths: [/api/**]");
    let proxy = Proxy::start(&format!("{CALLERS}{yaml}")).await;
    let shows = |name: &str, password: &str| {
        let value = basic(name, password);
        format!(
            "GET http://api.test/api/shop HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {value}\r\n"
        )
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: api.test\r\n{SHOP}");
    let none = Value::Null;
    let cases = [
        (shows("shop", "correct-horse"), none.clone(), none.clone()),
        (
            shows("shop", "Correct-horse"),
            json!("password_wrong"),
            json!("shop"),
        ),
        (shows("shop", ""), json!("password_wrong"), json!("shop")),
        (
            shows("nobody", "correct-horse"),
            json!("caller_unknown"),
            none.clone(),
        ),
        (
            shows("till", "battery-staple"),
            json!("not_from_there"),
            json!("till"),
        ),
        (
            "GET http://api.test/api/shop HTTP/1.1\r\nHost: a\r\n".to_owned(),
            json!("credentials_missing"),
            none.clone(),
        ),
        (
            "GET http://api.test/api/shop HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic !\r\n"
                .to_owned(),
            json!("credentials_malformed"),
            none.clone(),
        ),
        (
            format!("GET http://api.test/api/shop HTTP/1.1\r\nHost: a\r\n{SHOP}{SHOP}"),
            json!("credentials_malformed"),
            none.clone(),
        ),
        (
            "GET /api/shop HTTP/1.1\r\nHost: api.test\r\nAuthorization: Basic c2hvcDp4\r\n"
                .to_owned(),
            json!("password_wrong"),
            json!("shop"),
        ),
        (
            get("http://nobody.test/"),
            json!("host_unknown"),
            none.clone(),
        ),
        (
            get("http://api.test:81/"),
            json!("other_port"),
            none.clone(),
        ),
        (
            get("http://api.test/other"),
            json!("outside_paths"),
            none.clone(),
        ),
        (
            get("http://api.test/api/till"),
            json!("not_in_allow"),
            none.clone(),
        ),
        (
            get("ftp://api.test/api"),
            json!("target_invalid"),
            none.clone(),
        ),
        (
            format!("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n{SHOP}"),
            json!("not_intercepted"),
            none.clone(),
        ),
        (
            format!("CONNECT nobody.test:443 HTTP/1.1\r\nHost: nobody.test:443\r\n{SHOP}"),
            json!("host_unknown"),
            none.clone(),
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n".to_owned(),
            json!("host_repeated"),
            none.clone(),
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"
                .to_owned(),
            json!("length_beside_encoding"),
            none.clone(),
        ),
        (
            "TRACE /x HTTP/1.1\r\nHost: a\r\n".to_owned(),
            json!("trace"),
            none,
        ),
    ];
    for (at, (head, detail, claimed)) in cases.iter().enumerate() {
        Raw::connect(proxy.listen)
            .await
            .ask(format!("{head}\r\n"))
            .await;
        let line = proxy.access_lines(at + 1).await.pop().unwrap();
        let found = fields(&line, ["detail", "claimed_caller"]);
        assert_eq!(found, [detail.clone(), claimed.clone()], "{head}");
        let text = line.to_string();
        for secret in ["orrect-horse", "battery", "nobody\""] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_for_a_caller_with_a_hash_is_told_the_same_way() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let hash = "$2b$04$abcdefghijklmnopqrstuumKxKh3CYLemG/HQI5Yhafiu.JiVrNjy";
    let callers = format!("callers: {{shop: {{password: '{hash}', allow: [acme]}}}}\n");
    let proxy = Proxy::start(&format!("{callers}{}", acme(&api.url(), &idp.url(), ""))).await;
    for (name, detail, claimed) in [
        ("shop", "password_wrong", json!("shop")),
        ("nobody", "caller_unknown", Value::Null),
    ] {
        let shown = basic(name, "x");
        let request = format!(
            "GET http://api.test/x HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {shown}\r\n\r\n"
        );
        let reply = Raw::connect(proxy.listen).await.ask(request).await;
        assert_eq!(reply.status(), 407);
        let lines = || async { proxy.access_lines(if name == "shop" { 1 } else { 2 }).await };
        let line = lines().await.pop().unwrap();
        assert_eq!(
            fields(&line, ["detail", "claimed_caller"]),
            [json!(detail), claimed]
        );
    }
}

#[tokio::test]
async fn what_bursar_itself_answers_with_5xx_is_a_warning_and_nothing_else_is() {
    let api = Upstream::start(|_| async { answer(503, "") }).await;
    let idp = Idp::counting().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    let gone = format!(
        "{{hosts: [gone.test], upstream: 'http://{closed}', client_id: a, client_secret: bbbbbbbb, token: {{url: '{}'}}}}",
        idp.url()
    );
    let yaml = format!("{}  gone: {gone}\n", acme(&api.url(), &idp.url(), ""));
    let program = Program::start(&yaml, "info,bursar::access=warn").await;
    for (url, status) in [
        ("http://api.test/x", 503),
        ("http://nobody.test/", 403),
        ("http://gone.test/x", 502),
    ] {
        let mut raw = Raw::connect(program.listen).await;
        let reply = raw
            .ask(format!("GET {url} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(reply.status(), status);
    }
    eventually(|| async { program.logged().contains("\"message\":\"request\"") }).await;
    let logged = program.logged();
    let lines: Vec<Value> = logged
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let requests: Vec<&Value> = lines
        .iter()
        .filter(|line| line["message"] == "request")
        .collect();
    assert_eq!(requests.len(), 1, "{logged}");
    let found = fields(requests[0], ["level", "status", "reason", "detail", "host"]);
    let expected = [
        json!("WARN"),
        json!(502),
        json!("upstream_unreachable"),
        json!("no_connection"),
        json!("gone.test"),
    ];
    assert_eq!(found, expected);
}
