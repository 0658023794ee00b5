//! The configuration changes while it runs: by signal, by file, whole or not at all.

use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::support::caller::{Caller, basic};
use crate::support::idp::{Idp, TokenCall, reply, token};
use crate::support::metrics::Scrape;
use crate::support::program::run_by_ann;
use crate::support::proxy::Program;
use crate::support::raw::Raw;
use crate::support::tls::Authority;
use crate::support::upstream::{Upstream, answer};
use crate::support::{Latch, PATIENCE, acme, becomes_true, eventually};

const TOKEN: &str = "0123456789-admin-token";
/// And its bcrypt hash.
const PASSWORD: &str = "p4ss:w0rd";
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuumKxKh3CYLemG/HQI5Yhafiu.JiVrNjy";

fn get(path: &str, password: &str) -> String {
    let credentials = basic("shop", password);
    format!("GET {path} HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: {credentials}\r\n\r\n")
}

fn shop(password: &str) -> String {
    format!("callers: {{shop: {{password: {password}, allow: [acme]}}}}\n")
}

async fn reloads(program: &Program, outcome: &str) -> f64 {
    let scrape = Scrape::of(program.admin).await;
    scrape.value("bursar_config_reloads_total", &[("outcome", outcome)])
}

#[tokio::test]
async fn a_sighup_while_the_first_configuration_is_read_ends_nothing_and_has_it_read_again() {
    let idp = Idp::counting().await;
    let mut yaml = acme("http://127.0.0.1:1", &idp.url(), "");
    // This many take a while to read.
    for number in 0..2000 {
        yaml += &format!(
            "  p{number}: {{hosts: [p{number}.test], client_id: id, client_secret: s3cret-of-{number}, token: {{url: 'http://127.0.0.1:1/t'}}}}\n"
        );
    }
    // The thread that writes the log is there from before the file is read.
    let command =
        r#"(while [ "$(ls /proc/$$/task | wc -l)" -lt 2 ]; do :; done; kill -HUP $$) & exec "$@""#;
    let program = Program::start_by(command, &yaml).await;
    eventually(|| async { reloads(&program, "ok").await == 1.0 }).await;
}

#[tokio::test]
async fn after_sighup_a_new_password_works_and_the_old_one_does_not_on_the_same_connection() {
    let (api, idp) = (
        Upstream::held("fine", &Latch::closed()).await,
        Idp::counting().await,
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("{}{acme}", shop("first")), "info").await;
    assert!(program.json("/status").await["last_reload"].is_null());
    let mut caller = Raw::connect(program.listen).await;
    for (password, status) in [("first", 200), ("second", 401)] {
        assert_eq!(caller.ask(get("/x", password)).await.status(), status);
    }
    program.rewrite(&format!("{}{acme}", shop("second")));
    program.reload().await;
    for (password, status) in [("first", 401), ("second", 200)] {
        assert_eq!(caller.ask(get("/x", password)).await.status(), status);
    }
    let reload = &program.json("/status").await["last_reload"];
    assert_eq!(reload["outcome"], "ok");
    assert!(reload["at"].as_str().unwrap().ends_with('Z'), "{reload}");
    assert_eq!(idp.calls(), 1);
    // The same upstream connection was used throughout.
    let seen = api.seen();
    assert!(seen.iter().all(|seen| seen.connection == 0), "{seen:?}");
    program.signal("TERM").await;
    let (code, log) = program.ended().await;
    assert_eq!(code, Some(0));
    assert!(log.contains("is in force"), "{log}");
    assert!(!log.contains("second\""), "{log}");
}

#[tokio::test]
async fn a_request_in_flight_finishes_under_the_configuration_that_it_began_with() {
    let latch = Latch::closed();
    let (old, new) = (
        Upstream::held("old", &latch).await,
        Upstream::held("new", &latch).await,
    );
    let idp = Idp::counting().await;
    let program = Program::start(&acme(&old.url(), &idp.url(), ""), "info").await;
    let mut held = Caller::connect(program.listen).await;
    let held = tokio::spawn(async move {
        let first = held.send("POST", "/held", "abc").await;
        (first, held.send("GET", "/x", "").await)
    });
    latch.reached_by(1).await;
    program.rewrite(&acme(&new.url(), &idp.url(), ""));
    program.reload().await;
    let mut other = Caller::connect(program.listen).await;
    assert_eq!(other.send("GET", "/x", "").await.text(), "new");
    latch.open();
    let (first, second) = held.await.unwrap();
    assert_eq!((first.text(), second.text()), ("old", "new"));
    // `upstream` is no part of the token key.
    assert_eq!(idp.calls(), 1);
}

/// Files as Kubernetes mounts them: links to `..data`, which is a link that is replaced.
fn mount(directory: &Path, version: &str, files: &[(&str, &str)]) {
    std::fs::create_dir(directory.join(version)).unwrap();
    for (name, content) in files {
        std::fs::write(directory.join(version).join(name), content).unwrap();
        let link = directory.join(name);
        if !link.exists() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    symlink(version, directory.join("..data_tmp")).unwrap();
    std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

/// Two accounts whose secrets are in files, for an endpoint whose tokens name them.
async fn with_secret_files(api: &Upstream, directory: TempDir) -> (Program, Idp) {
    let idp = Idp::start(|call: TokenCall| async move {
        let secret = call.field("client_secret").unwrap();
        match secret.as_str() {
            wrong if wrong.starts_with("wrong") => {
                reply(401, &serde_json::json!({"error": "invalid_client"}))
            }
            secret => token(secret),
        }
    });
    let idp = idp.await;
    let account =
        |name: &str| format!("{name}: {{client_id: {name}, client_secret: '${{file:{name}}}'}}");
    let accounts = format!("accounts: {{{}, {}}}", account("left"), account("right"));
    let yaml = acme(&api.url(), &idp.url(), &accounts);
    let yaml = yaml.lines().filter(|line| !line.starts_with("    client_"));
    let yaml: String = yaml.map(|line| format!("{line}\n")).collect();
    (Program::start_in(directory, &yaml, "debug").await, idp)
}

async fn sent(program: &Program, api: &Upstream, account: &str) -> String {
    let request = http::Request::get("http://api.test/x").header("bursar-account", account);
    let request = request.body(crate::support::upstream::full("")).unwrap();
    let reply = Caller::connect(program.listen).await.request(request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = api.seen();
    seen.last().unwrap().all("authorization")[0].to_owned()
}

#[tokio::test]
async fn a_secret_that_kubernetes_swaps_is_fetched_with_at_once_and_the_others_are_not() {
    let api = Upstream::held("fine", &Latch::closed()).await;
    let directory = tempfile::tempdir().unwrap();
    mount(
        directory.path(),
        "..1",
        &[("left", "l1"), ("right", "r1\n")],
    );
    let (program, idp) = with_secret_files(&api, directory).await;
    assert_eq!(sent(&program, &api, "left").await, "Bearer l1");
    assert_eq!(sent(&program, &api, "right").await, "Bearer r1");
    assert_eq!(idp.calls(), 2);
    mount(
        program.directory(),
        "..2",
        &[("left", "l2"), ("right", "r1\n")],
    );
    // Nobody asks for it.
    idp.reached_by(3).await;
    let is_used = async || sent(&program, &api, "left").await == "Bearer l2";
    assert!(becomes_true(PATIENCE, is_used).await);
    assert_eq!(sent(&program, &api, "right").await, "Bearer r1");
    // A swap that changes nothing is no reload, and no call.
    mount(
        program.directory(),
        "..3",
        &[("left", "l2"), ("right", "r1\n")],
    );
    program.reload().await;
    assert_eq!((reloads(&program, "ok").await, idp.calls()), (2.0, 3));
    // The count of calls goes on.
    let scrape = Scrape::of(program.admin).await;
    let fetched = |account| {
        let labels = [("account", account), ("outcome", "ok")];
        scrape.value("bursar_token_fetches_total", &labels)
    };
    assert_eq!((fetched("left"), fetched("right")), (2.0, 1.0));
    let log = program.logged();
    for secret in ["l1", "l2", "r1"] {
        assert!(!log.contains(&format!("\"{secret}")), "{log}");
    }
}

#[tokio::test]
async fn with_a_secret_that_is_refused_the_token_before_is_used_until_another_secret_works() {
    let api = Upstream::held("fine", &Latch::closed()).await;
    let directory = tempfile::tempdir().unwrap();
    mount(directory.path(), "..1", &[("left", "l1"), ("right", "r1")]);
    let (program, idp) = with_secret_files(&api, directory).await;
    assert_eq!(sent(&program, &api, "left").await, "Bearer l1");
    let failing = async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.value(
            "bursar_token_renewal_failing",
            &[("provider", "acme"), ("account", "left"), ("scopes", "")],
        )
    };
    // Twice, so that the second reload finds a token that the first one's secret did not bring.
    for (version, secret) in [("..2", "wrong"), ("..3", "wrong, too")] {
        let calls = idp.calls();
        let files = [("left", secret), ("right", "r1")];
        mount(program.directory(), version, &files);
        program.reload().await;
        assert_eq!(sent(&program, &api, "left").await, "Bearer l1");
        assert_eq!(failing().await, 1.0);
        assert!(idp.calls() > calls, "it was not tried");
    }
    assert!(
        program
            .logged()
            .contains("requests go on with the one before it")
    );
    mount(
        program.directory(),
        "..4",
        &[("left", "l2"), ("right", "r1")],
    );
    program.reload().await;
    let is_used = async || sent(&program, &api, "left").await == "Bearer l2";
    assert!(becomes_true(PATIENCE, is_used).await);
    assert_eq!(failing().await, 0.0);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_until_it_is_mended() {
    let (api, idp) = (
        Upstream::held("fine", &Latch::closed()).await,
        Idp::counting().await,
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("{}{acme}", shop("first")), "info").await;
    let mut caller = Raw::connect(program.listen).await;
    assert_eq!(caller.ask(get("/x", "first")).await.status(), 200);
    let broken = "callers: {shop: {password: pa55word, allow: [acme], certificate: x.test}}\n";
    program.rewrite(&format!("{broken}surprise: pa55word\n{acme}"));
    eventually(|| async { reloads(&program, "rejected").await == 1.0 }).await;
    assert_eq!(caller.ask(get("/x", "first")).await.status(), 200);
    let status = program.json("/status").await;
    let reload = &status["last_reload"];
    assert_eq!(reload["outcome"], "rejected");
    let problems = reload["problems"].to_string();
    assert!(problems.contains("surprise"), "{problems}");
    assert!(!status.to_string().contains("pa55word"), "{status}");
    assert!(!program.logged().contains("pa55word"));
    assert!(program.logged().contains("surprise"));
    program.rewrite(&format!("{}{acme}", shop("second")));
    eventually(|| async { reloads(&program, "ok").await == 1.0 }).await;
    assert_eq!(caller.ask(get("/x", "second")).await.status(), 200);
    assert_eq!(
        program.json("/status").await["last_reload"]["problems"],
        serde_json::json!([])
    );
    assert_eq!((reloads(&program, "rejected").await, idp.calls()), (1.0, 1));
}

#[tokio::test]
async fn what_cannot_change_while_it_runs_is_named() {
    let (api, idp) = (
        Upstream::held("fine", &Latch::closed()).await,
        Idp::counting().await,
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("{}{acme}", shop("first")), "info").await;
    let yaml = format!(
        "listen: 127.0.0.1:1\nadmin: 127.0.0.1:2\n{}{acme}",
        shop("second")
    );
    std::fs::write(program.directory().join("proxy.yaml"), yaml).unwrap();
    program.reload().await;
    let problems = &program.json("/status").await["last_reload"]["problems"];
    for (place, key) in ["listen: ", "admin: "].iter().enumerate() {
        let problem = problems[place].as_str().unwrap();
        assert!(
            problem.starts_with(key) && problem.contains("restart"),
            "{problem}"
        );
    }
    let mut caller = Raw::connect(program.listen).await;
    assert_eq!(caller.ask(get("/x", "first")).await.status(), 200);
}

#[tokio::test]
async fn tls_on_the_listener_cannot_be_switched_on_while_it_runs() {
    let (api, idp) = (
        Upstream::held("fine", &Latch::closed()).await,
        Idp::counting().await,
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&acme, "info").await;
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["127.0.0.1"], "");
    std::fs::write(program.directory().join("server.pem"), certificate).unwrap();
    std::fs::write(program.directory().join("server.key"), key).unwrap();
    program.rewrite(&format!(
        "tls: {{certificate: server.pem, key: server.key}}\n{acme}"
    ));
    program.reload().await;
    assert_eq!(reloads(&program, "rejected").await, 1.0);
    let problems = &program.json("/status").await["last_reload"]["problems"];
    let problem = problems[0].as_str().unwrap();
    assert!(
        problem.starts_with("tls: ") && problem.contains("restart"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_callers_new_limits_hold_from_the_reload_on() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("fine", &latch).await, Idp::counting().await);
    let acme = acme(&api.url(), &idp.url(), "");
    let yaml = |in_flight: u32| {
        format!(
            "callers: {{shop: {{password: {PASSWORD}, limits: {{in_flight: {in_flight}}}, allow: [acme]}}}}\n{acme}"
        )
    };
    let program = Program::start(&yaml(1), "info").await;
    let mut held = Raw::connect(program.listen).await;
    held.write(get("/held", PASSWORD)).await;
    latch.reached_by(1).await;
    let mut caller = Raw::connect(program.listen).await;
    assert_eq!(caller.ask(get("/x", PASSWORD)).await.status(), 429);
    program.rewrite(&yaml(2));
    program.reload().await;
    assert_eq!(caller.ask(get("/x", PASSWORD)).await.status(), 200);
    program.rewrite(&yaml(1));
    program.reload().await;
    let mut second = Raw::connect(program.listen).await;
    second.write(get("/held", PASSWORD)).await;
    latch.reached_by(2).await;
    assert_eq!(caller.ask(get("/x", PASSWORD)).await.status(), 429);
    latch.open();
    assert_eq!(held.read_message().await.status(), 200);
    assert_eq!(second.read_message().await.status(), 200);
}

#[tokio::test]
async fn callers_keep_their_hashes_and_their_limits() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("fine", &latch).await, Idp::counting().await);
    let callers = format!(
        "callers: {{shop: {{password: '{BCRYPT}', limits: {{in_flight: 1}}, allow: [acme]}}}}\n"
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("{callers}{acme}"), "info").await;
    let mut held = Raw::connect(program.listen).await;
    held.write(get("/held", PASSWORD)).await;
    latch.reached_by(1).await;
    program.rewrite(&format!("replay_memory: 1MiB\n{callers}{acme}"));
    program.reload().await;
    let mut caller = Raw::connect(program.listen).await;
    assert_eq!(caller.ask(get("/x", PASSWORD)).await.status(), 429);
    latch.open();
    assert_eq!(held.read_message().await.status(), 200);
    assert_eq!(held.ask(get("/x", PASSWORD)).await.status(), 200);
    let scrape = Scrape::of(program.admin).await;
    assert_eq!(scrape.value("bursar_password_hashes_total", &[]), 1.0);
}

#[tokio::test]
async fn what_a_reload_takes_away_is_not_shown_as_held_any_more() {
    let down = Idp::start(|_| async { answer(503, "<html>down</html>") }).await;
    let idp = Idp::counting().await;
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = format!("http://{}", nobody.local_addr().unwrap());
    let other = "  other:\n    hosts: [other.test]\n    client_id: id\n    client_secret: s\n";
    let other = format!(
        "{other}    upstream: {nowhere}\n    breaker: {{failures: 1, pause: 1h}}\n    token: {{url: '{}'}}\n",
        idp.url()
    );
    let yaml = |idp: &Idp| acme(&nowhere, &idp.url(), "");
    let program = Program::start(&format!("{}{other}", yaml(&down)), "info").await;
    let held = async |name: &str, provider: &str| {
        let scrape = Scrape::of(program.admin).await;
        scrape.value(name, &[("provider", provider)])
    };
    let (token, upstream) = ("bursar_token_breaker_open", "bursar_upstream_breaker_open");
    eventually(|| async { held(token, "acme").await == 1.0 }).await;
    let request = http::Request::get("http://other.test/x");
    let request = request.body(crate::support::upstream::full("")).unwrap();
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.request(request).await.status, 502);
    assert_eq!(held(upstream, "other").await, 1.0);
    program.rewrite(&yaml(&idp));
    program.reload().await;
    eventually(|| async { held(token, "acme").await == 0.0 }).await;
    eventually(|| async { held(upstream, "other").await == 0.0 }).await;
}

#[tokio::test]
async fn another_budget_of_token_calls_does_not_begin_anew() {
    let (api, idp) = (
        Upstream::held("fine", &Latch::closed()).await,
        Idp::counting().await,
    );
    let yaml = |calls: u32| {
        let lines = format!(
            "token.calls_per_minute: {calls}\ntoken.wait: 100ms\nroutes: [{{path: /other, scopes: [other]}}]"
        );
        acme(&api.url(), &idp.url(), &lines)
    };
    let program = Program::start(&yaml(1), "info").await;
    idp.reached_by(1).await;
    program.rewrite(&yaml(2));
    program.reload().await;
    let mut caller = Caller::connect(program.listen).await;
    assert_eq!(caller.send("GET", "/other", "").await.status, 503);
    let endpoint = &program.json("/status").await["token_endpoints"][0];
    assert_eq!((&endpoint["calls_per_minute"], idp.calls()), (&2.into(), 1));
}

/// A request for a host, and what became of it.
async fn status(program: &Program, fields: &str, target: &str) -> u16 {
    let mut caller = Raw::connect(program.listen).await;
    let authorization = basic("shop", PASSWORD);
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: {authorization}\r\n{fields}\r\n"
    );
    caller.ask(request).await.status()
}

#[tokio::test]
async fn limits_and_lists_hold_from_the_reload_on() {
    let latch = Latch::closed();
    let (api, idp) = (Upstream::held("old", &latch).await, Idp::counting().await);
    let new = Upstream::held("new", &latch).await;
    let callers =
        |allow: &str| format!("callers: {{shop: {{password: {PASSWORD}, allow: [{allow}]}}}}\n");
    let plain = |lines: &str| acme(&api.url(), &idp.url(), lines);
    let away = format!(
        "passthrough: [{{host: localhost, ports: [{}], callers: [shop]}}]\n",
        new.address.port()
    );
    let start = format!("{}{}", callers("acme"), plain(""));
    let program = Program::start(&start, "info").await;
    let target = "http://api.test/x";
    let elsewhere = &format!("http://localhost:{}/x", new.address.port());
    let seven = &"A: b\r\n".repeat(7);
    for (yaml, fields, target, before, after) in [
        (
            format!("limits: {{headers: 5}}\n{start}"),
            &**seven,
            target,
            200,
            431,
        ),
        (
            format!("limits: {{target_size: 10B}}\n{start}"),
            "",
            target,
            200,
            414,
        ),
        (
            format!("{}{}", callers("{provider: acme, paths: [/y]}"), plain("")),
            "",
            target,
            200,
            403,
        ),
        (
            format!("{}{}", callers("acme"), plain("paths: [/y]")),
            "",
            target,
            200,
            403,
        ),
        (format!("{away}{start}"), "", elsewhere, 403, 200),
        (
            format!("{}{}", callers("acme"), plain("timeouts: {head: 100ms}")),
            "",
            "http://api.test/held",
            0,
            504,
        ),
    ] {
        if before > 0 {
            assert_eq!(status(&program, fields, target).await, before, "{yaml}");
        }
        program.rewrite(&yaml);
        program.reload().await;
        assert_eq!(status(&program, fields, target).await, after, "{yaml}");
        program.rewrite(&start);
        program.reload().await;
        if before > 0 {
            assert_eq!(status(&program, fields, target).await, before, "{start}");
        }
    }
    latch.open();
}

#[tokio::test]
async fn requests_go_to_another_server_from_the_reload_on() {
    let latch = Latch::closed();
    let (old, idp) = (Upstream::held("old", &latch).await, Idp::counting().await);
    let new = Upstream::held("new", &latch).await;
    let yaml = |api: &Upstream| format!("{}{}", shop(PASSWORD), acme(&api.url(), &idp.url(), ""));
    let program = Program::start(&yaml(&old), "info").await;
    let answered = async || {
        let mut caller = Raw::connect(program.listen).await;
        caller.ask(get("/x", PASSWORD)).await.text().to_owned()
    };
    assert_eq!(answered().await, "old");
    // A connection to the old one is open, and not used any more.
    program.rewrite(&yaml(&new));
    program.reload().await;
    assert_eq!(answered().await, "new");
}

#[tokio::test]
async fn how_much_is_kept_for_replays_changes_with_a_reload() {
    let (api, idp) = (
        Upstream::start(|request| async move {
            let is_first = request.headers()["authorization"] == "Bearer token-1";
            answer(if is_first { 401 } else { 200 }, "")
        })
        .await,
        Idp::counting().await,
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("replay_memory: 1MiB\n{acme}"), "info").await;
    program.rewrite(&format!("replay_memory: 2B\n{acme}"));
    program.reload().await;
    let mut caller = Caller::connect(program.listen).await;
    // Three bytes are too many by now.
    assert_eq!(caller.send("POST", "/x", "abc").await.status, 401);
    assert_eq!(api.count(), 1);
}

#[tokio::test]
async fn a_reload_by_which_requests_have_to_name_an_account_warns_of_that_and_of_nothing_else() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let acme = format!("admin_token: {TOKEN}\n{}", acme(&api.url(), &idp.url(), ""));
    let callers = "callers:\n  shop: {password: first, allow: [acme]}\n  till: {password: other-one, allow: [{provider: acme, account: default}]}\n";
    let outlet = "    accounts: {outlet: {client_id: o, client_secret: 0utlet-s3cret}}\n";
    let program = Program::start(&format!("{callers}{acme}"), "info").await;
    let status = async |password: &str| {
        let mut caller = Raw::connect(program.listen).await;
        caller.ask(get("/x", password)).await.status()
    };
    let warnings = async || {
        let said = run_by_ann(&program, TOKEN, &["reload"]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let lines = said.error.lines();
        let warnings = lines.filter_map(|line| line.strip_prefix("warning: providers.acme: "));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(status("first").await, 200);
    program.rewrite(&format!("{callers}{acme}{outlet}"));
    let warning = "there are several accounts for shop now, so that each request has to name one in the header Bursar-Account, and is refused with 403 where it does not; `account` in a caller's `allow` binds it to one";
    assert_eq!(warnings().await, [warning]);
    assert_eq!(status("first").await, 403);
    eventually(|| async { program.logged().contains(warning) }).await;
    // One more account, and another caller of all of them, change nothing for those who were there.
    let more = outlet.replace(
        "}}\n",
        "}, third: {client_id: t, client_secret: th1rd-s3cret}}\n",
    );
    let third = callers.replace(
        "  till",
        "  new: {password: a-third-one, allow: [acme]}\n  till",
    );
    program.rewrite(&format!("{third}{acme}{more}"));
    assert!(warnings().await.is_empty());
    // Without callers everybody is concerned.
    program.rewrite(&acme);
    program.reload().await;
    program.rewrite(&format!("{acme}{outlet}"));
    assert!(warnings().await[0].starts_with("there are several accounts for anonymous now"));
}

#[tokio::test]
async fn without_the_file_of_ssl_cert_file_a_reload_is_rejected() {
    let (directory, _) = crate::support::tls::directory();
    let ca = directory.path().join("ca.pem");
    let idp = Idp::counting().await;
    let acme = acme("http://127.0.0.1:1", &idp.url(), "");
    let environment = [
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
        ("SSL_CERT_DIR", ""),
    ];
    let program = Program::start_with(&acme, &environment).await;
    std::fs::remove_file(&ca).unwrap();
    program.reload().await;
    assert_eq!(reloads(&program, "rejected").await, 1.0);
    let said = format!("SSL_CERT_FILE names {}, which cannot be read", ca.display());
    assert!(program.logged().contains(&said), "{}", program.logged());
}
