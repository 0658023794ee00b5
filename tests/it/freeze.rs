//! `bursar freeze` and `bursar thaw`: what moves money to one provider stops, and nothing else does.

use std::time::Duration;

use http::Request;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::balancer::Place;
use crate::support::caller::{Caller, Reply};
use crate::support::idp::Idp;
use crate::support::metrics::{Scrape, admin};
use crate::support::program::{Said, run_by_ann, run_in};
use crate::support::proxy::Program;
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{Latch, acme, eventually};

const TOKEN: &str = "0123456789-admin-token";

async fn change(program: &Program, method: &str, path: &str, authorization: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("authorization", authorization)
        .body(full(""))
        .unwrap();
    Caller::connect(program.admin).await.request(request).await
}

async fn send(program: &Program, method: &str) -> Reply {
    let mut caller = Caller::connect(program.listen).await;
    caller.send(method, "/x", "").await
}

async fn assert_only_payments_are_refused(program: &Program) {
    let refused = send(program, "POST").await;
    assert_eq!(refused.status, 503);
    let problem = refused.problem();
    assert_eq!(
        (&problem["reason"], &problem["request_sent"]),
        (&json!("frozen"), &json!("no"))
    );
    assert_eq!(refused.all("retry-after"), ["60"]);
    assert_eq!(send(program, "GET").await.text(), "fine");
    assert_eq!(program.json("/status").await["frozen"], json!(["acme"]));
    let ready = admin(program.admin, "/readyz").await;
    assert_eq!(ready.status, 200);
    let ready = ready.text();
    assert!(ready.contains("\"frozen\": true"), "{ready}");
}

#[tokio::test]
async fn a_frozen_provider_takes_reads_and_no_payments_until_it_is_thawed() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let Place { listen, admin: at } = Place::any();
    let yaml = format!(
        "listen: {listen}\nadmin: {at}\nadmin_token: {TOKEN}\njournal: {{path: journal}}\n{}",
        acme(&api.url(), &idp.url(), "")
    );
    let program = Program::start(&yaml, "debug").await;
    let is_frozen = async || {
        let scrape = Scrape::of(at).await;
        scrape.value("bursar_provider_frozen", &[("provider", "acme")])
    };
    let bursar = async |verb: &str| {
        let said = run_in(program.directory(), &[verb, "acme"], &[]).await;
        assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
        said.out
    };
    assert_eq!(
        (
            is_frozen().await,
            send(&program, "POST").await.status.as_u16()
        ),
        (0.0, 200)
    );
    assert_eq!(
        bursar("thaw").await,
        "acme was not frozen: requests that move money pass.\nNo other provider is frozen.\n"
    );
    let said = bursar("freeze").await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(
        [lines[0], lines[2]],
        [
            "acme is frozen: requests that move money are refused with 503 `frozen` until it is thawed.",
            "No other provider is frozen.",
        ]
    );
    assert!(
        lines[1].starts_with("Since ") && lines[1].contains(" by "),
        "{said}"
    );
    for _ in 0..2 {
        assert_only_payments_are_refused(&program).await;
        assert_eq!(is_frozen().await, 1.0);
        // And under the next configuration.
        program.rewrite(&format!("{yaml}    replay_buffer: 2KiB\n"));
        program.reload().await;
    }
    assert!(
        bursar("freeze")
            .await
            .starts_with("acme was frozen before and still is")
    );
    assert!(
        bursar("thaw")
            .await
            .starts_with("acme is thawed: requests that move money pass again.\n")
    );
    assert_eq!(
        (
            is_frozen().await,
            send(&program, "POST").await.status.as_u16()
        ),
        (0.0, 200)
    );
    assert_eq!(api.count(), 4);
    assert!(!program.logged().contains(TOKEN));
}

#[tokio::test]
async fn what_a_provider_may_take_for_a_payment_is_refused_while_it_is_frozen() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let keys = "frozen: true\nroutes: [{methods: [GET], path: /refund, moves_money: true}]";
    let program = Program::start(&acme(&api.url(), &idp.url(), keys), "info").await;
    let mut caller = Caller::connect(program.listen).await;
    for (method, path, status) in [
        ("GET", "/refund", 503),
        ("HEAD", "/refund", 503),
        ("GET", "/Refund?id=1", 503),
        ("GET", "/refund.json", 503),
        ("GET", "/index.php/refund/", 503),
        ("GET", "/refunds", 200),
        ("HEAD", "/refunds", 200),
    ] {
        let reply = caller.send(method, path, "").await;
        assert_eq!(reply.status, status, "{method} {path}");
    }
    assert_eq!(api.count(), 2);
}

#[tokio::test]
async fn a_payment_that_waits_for_its_token_is_not_sent_after_a_freeze() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let latch = Latch::closed();
    let idp = Idp::held(&latch).await;
    let yaml = format!("admin_token: {TOKEN}\n{}", acme(&api.url(), &idp.url(), ""));
    let program = Program::start(&yaml, "info").await;
    let listen = program.listen;
    let ask = |method: &'static str| {
        tokio::spawn(async move { Caller::connect(listen).await.send(method, "/x", "").await })
    };
    let (paying, reading) = (ask("POST"), ask("GET"));
    eventually(|| async {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_requests_in_flight", &[("provider", "acme")]) == 2.0
    })
    .await;
    let right = format!("Bearer {TOKEN}");
    let frozen = change(&program, "POST", "/freeze/acme", &right).await;
    assert_eq!(frozen.status, 200);
    latch.open();
    let refused = paying.await.unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.problem()["reason"], "frozen");
    assert_eq!(reading.await.unwrap().text(), "fine");
    assert_eq!(api.count(), 1);
}

#[tokio::test]
async fn a_freeze_survives_a_restart_where_there_is_a_journal() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = format!(
        "admin_token: {TOKEN}\njournal: {{path: {}}}\n{}",
        directory.path().join("journal").display(),
        acme(&api.url(), &idp.url(), "")
    );
    let right = format!("Bearer {TOKEN}");
    for (frozen, path) in [
        (false, "/freeze/acme"),
        (true, "/thaw/acme"),
        (false, "/freeze/acme"),
    ] {
        let program = Program::start(&yaml, "info").await;
        let status = if frozen { 503 } else { 200 };
        assert_eq!(send(&program, "POST").await.status, status);
        assert_eq!(change(&program, "POST", path, &right).await.status, 200);
        program.signal("TERM").await;
        assert_eq!(program.ended().await.0, Some(0));
    }
}

#[tokio::test]
async fn the_admin_port_changes_nothing_without_the_token() {
    let (api, idp) = (
        Upstream::start(|_| async { answer(200, "fine") }).await,
        Idp::counting().await,
    );
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("admin_token: {TOKEN}\n{acme}"), "debug").await;
    let right = format!("Bearer {TOKEN}");
    for (method, path, authorization, status) in [
        ("POST", "/freeze/acme", "", 401),
        ("POST", "/freeze/acme", "Bearer ", 401),
        ("POST", "/freeze/acme", "Bearer 0123456789-admin-tokeN", 401),
        ("POST", "/freeze/acme", TOKEN, 401),
        ("POST", "/freeze/other", &right, 404),
        ("POST", "/freeze/", &right, 404),
        ("POST", "/status", &right, 405),
        ("PUT", "/freeze/acme", &right, 405),
        ("GET", "/freeze/acme", &right, 405),
        ("POST", "/nope", &right, 404),
    ] {
        let reply = change(&program, method, path, authorization).await;
        assert_eq!(reply.status, status, "{method} {path} {authorization}");
        assert!(!reply.text().contains(TOKEN));
        assert_eq!(send(&program, "POST").await.status, 200);
    }
    assert_eq!(
        change(&program, "POST", "/freeze/acme", &right)
            .await
            .status,
        200
    );
    assert_eq!(send(&program, "POST").await.status, 503);
    assert!(
        !program.logged().contains("admin-token"),
        "{}",
        program.logged()
    );
    let without = Program::start(&acme, "info").await;
    let reply = change(&without, "POST", "/freeze/acme", &right).await;
    assert_eq!((reply.status.as_u16(), reply.all("allow")), (405, vec![""]));
}

#[tokio::test]
async fn what_is_asked_for_in_a_query_is_refused_and_not_dropped() {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let acme = acme(&api.url(), &idp.url(), "");
    let program = Program::start(&format!("admin_token: {TOKEN}\n{acme}"), "info").await;
    for path in [
        "/freeze/acme?for=30m&reason=x",
        "/freeze/acme?x",
        "/thaw/acme?reason=x",
        "/reload?x=1",
        "/log-level/restore?for=1m",
    ] {
        let refused = post(&program, path, "").await;
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.text().starts_with("there is no query here"));
    }
    assert_eq!(program.json("/status").await["frozen"], json!([]));
    assert_eq!(post(&program, "/freeze/acme?", "").await.status, 200);
}

#[tokio::test]
async fn who_froze_a_provider_and_why_is_told_and_outlasts_a_restart_and_nothing_of_it_steers_a_terminal()
 {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = format!(
        "admin_token: {TOKEN}\njournal: {{path: {}}}\n{}",
        directory.path().join("journal").display(),
        acme(&api.url(), &idp.url(), "")
    );
    let program = Program::start(&yaml, "info").await;
    let admin = program.admin.to_string();
    let bursar = async |user: &str, arguments: &[&str]| {
        let arguments = [arguments, &["--admin", &admin]].concat();
        let environment = [
            ("BURSAR_ADMIN_TOKEN", TOKEN),
            ("USER", user),
            ("SUDO_USER", ""),
        ];
        run_in(program.directory(), &arguments, &environment).await
    };
    let long = "x".repeat(201);
    for reason in ["a\u{1b}[2J", "a\nb", "a\u{202e}b", &long] {
        let said = bursar("ann", &["freeze", "acme", "--reason", reason]).await;
        assert_eq!((said.code, &*said.out), (Some(2), ""), "{said:?}");
        assert!(said.error.contains("--reason is "), "{said:?}");
        let body = json!({"reason": reason}).to_string();
        let refused = post(&program, "/freeze/acme", &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text().starts_with("`reason` is "));
    }
    let huge = format!("{{\"by\": \"{}\"}}", "x".repeat(5000));
    for body in [
        "{\"by\": \"a\\u0000\"}",
        "{\"by\": 1}",
        "{\"who\": \"a\"}",
        "garbage",
        &huge,
    ] {
        let refused = post(&program, "/freeze/acme", body).await;
        assert_eq!(refused.status, 400, "{body}");
    }
    assert_eq!(send(&program, "POST").await.status, 200);
    // A user's name is made to fit.
    let said = bursar(
        "a\u{1b}n\nn",
        &["freeze", "acme", "--reason", "  #17: Störung "],
    )
    .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains(" by a\\u{1b}n\\nn@"), "{said:?}");
    assert!(said.out.contains(": #17: Störung\n"), "{said:?}");
    let before = program.json("/status").await["freezes"].clone();
    assert_eq!(before[0]["reason"], "#17: Störung");
    // Without a reason the first one stays, with one it is another.
    bursar("bob", &["freeze", "acme"]).await;
    assert_eq!(program.json("/status").await["freezes"], before);
    bursar("bob", &["freeze", "acme", "--reason", "other"]).await;
    let after = program.json("/status").await["freezes"].clone();
    assert_eq!(after[0]["since"], before[0]["since"]);
    assert_eq!(after[0]["reason"], "other");
    assert!(after[0]["by"].as_str().unwrap().starts_with("bob@"));
    let logged = program.logged();
    assert!(
        logged.contains("#17: Störung") && !logged.contains('\u{1b}'),
        "{logged}"
    );
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
    let program = Program::start(&yaml, "info").await;
    assert_eq!(program.json("/status").await["freezes"], after);
    assert_eq!(send(&program, "POST").await.status, 503);
}

async fn post(program: &Program, path: &str, body: &str) -> Reply {
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(full(body.to_owned()))
        .unwrap();
    Caller::connect(program.admin).await.request(request).await
}

/// With a journal in the program's own directory.
async fn journalled(lines: &str) -> (Upstream, Idp, String) {
    let api = Upstream::start(|_| async { answer(200, "fine") }).await;
    let idp = Idp::counting().await;
    let acme = acme(&api.url(), &idp.url(), lines);
    let yaml = format!("admin_token: {TOKEN}\njournal: {{path: journal}}\n{acme}");
    (api, idp, yaml)
}

async fn ask(program: &Program, arguments: &[&str]) -> Said {
    run_by_ann(program, TOKEN, arguments).await
}

async fn is_paid(program: &Program) -> bool {
    let reply = send(program, "POST").await;
    match reply.status.as_u16() {
        200 => true,
        _ => {
            assert_eq!(reply.problem()["reason"], "frozen");
            false
        }
    }
}

#[tokio::test]
async fn a_freeze_for_a_time_ends_by_itself_and_a_later_one_without_a_time_does_not() {
    let (_api, _idp, yaml) = journalled("").await;
    let program = Program::start(&yaml, "info").await;
    let frozen = async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_provider_frozen", &[("provider", "acme")])
    };
    for time in ["0s", "999ms", "366d", "soon", "-1s"] {
        let said = ask(&program, &["freeze", "acme", &format!("--for={time}")]).await;
        assert_ne!(said.code, Some(0), "{said:?}");
        let body = json!({"for": time}).to_string();
        assert_eq!(post(&program, "/freeze/acme", &body).await.status, 400);
    }
    let thaw = post(&program, "/thaw/acme", "{\"for\": \"1m\"}").await;
    assert_eq!(thaw.status, 400);
    assert!(is_paid(&program).await);

    let begun = Instant::now();
    let arguments = ["freeze", "acme", "--for", "2s", "--reason", "#17"];
    let said = ask(&program, &arguments).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!is_paid(&program).await);
    let freeze = program.json("/status").await["freezes"][0].clone();
    let time = |key: &str| humantime::parse_rfc3339(freeze[key].as_str().unwrap()).unwrap();
    let until = time("until");
    assert_eq!(
        until.duration_since(time("since")).unwrap(),
        Duration::from_secs(2)
    );
    let printed = format!(
        "until {}, or until it is thawed",
        freeze["until"].as_str().unwrap()
    );
    assert!(said.out.contains(&printed), "{}", said.out);
    eventually(|| is_paid(&program)).await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(frozen().await, 0.0);
    let status = program.json("/status").await;
    assert_eq!(
        (&status["frozen"], &status["freezes"]),
        (&json!([]), &json!([]))
    );
    let is_told = async || program.logged().contains("the time of its freeze is over");
    eventually(is_told).await;
    let again = ask(&program, &["thaw", "acme"]).await;
    assert!(again.out.starts_with("acme was not frozen"), "{again:?}");

    // The last word counts, and it says nothing of an end.
    ask(&program, &["freeze", "acme", "--for", "1s"]).await;
    let said = ask(&program, &["freeze", "acme"]).await;
    assert!(
        said.out.contains("`frozen` until it is thawed."),
        "{said:?}"
    );
    let later = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < later {
        assert!(!is_paid(&program).await);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_freeze_for_a_time_goes_on_after_a_restart_and_ends_when_it_should() {
    let (_api, _idp, yaml) = journalled("").await;
    let directory = tempfile::tempdir().unwrap();
    let yaml = yaml.replace(
        "path: journal",
        &format!("path: {}", directory.path().join("journal").display()),
    );
    let end = async |program: Program| {
        program.signal("TERM").await;
        assert_eq!(program.ended().await.0, Some(0));
    };
    let program = Program::start(&yaml, "info").await;
    ask(&program, &["freeze", "acme", "--for", "6s"]).await;
    let before = program.json("/status").await["freezes"].clone();
    end(program).await;
    let program = Program::start(&yaml, "info").await;
    assert_eq!(program.json("/status").await["freezes"], before);
    assert!(!is_paid(&program).await);
    eventually(|| is_paid(&program)).await;
    let until = humantime::parse_rfc3339(before[0]["until"].as_str().unwrap()).unwrap();
    assert!(bursar_base::clock::wall() >= until);
    end(program).await;
    let program = Program::start(&yaml, "info").await;
    assert!(is_paid(&program).await);
    assert!(!program.logged().contains("is frozen since before"));
}

#[tokio::test]
async fn what_the_file_freezes_no_thaw_changes_and_it_goes_with_the_line_in_the_file() {
    let (_api, _idp, yaml) = journalled("frozen: true").await;
    let program = Program::start(&yaml, "info").await;
    let is_told = async || program.logged().contains("the configuration freezes it");
    eventually(is_told).await;
    assert_only_payments_are_refused(&program).await;
    let freeze = program.json("/status").await["freezes"][0].clone();
    assert_eq!(
        (&freeze["in_file"], &freeze["by"]),
        (&json!(true), &json!(null))
    );
    assert!(freeze["since"].is_string());

    let said = ask(&program, &["thaw", "acme"]).await;
    assert_eq!((said.code, &*said.error), (Some(1), ""), "{said:?}");
    assert!(
        said.out.starts_with(
            "acme stays frozen, because the configuration says so (`providers.acme.frozen`): "
        ),
        "{}",
        said.out
    );
    assert!(said.out.contains(" by the configuration\n"), "{}", said.out);
    let refused = post(&program, "/thaw/acme", "").await;
    assert_eq!(refused.status, 409);
    let state: serde_json::Value = serde_json::from_str(refused.text()).unwrap();
    assert_eq!(
        (&state["frozen"], &state["in_file"], &state["by"]),
        (&json!(true), &json!(true), &json!(null))
    );
    assert!(!is_paid(&program).await);

    // A command freezes it, too, and that stays.
    let said = ask(
        &program,
        &["freeze", "acme", "--reason", "#17", "--for", "1h"],
    )
    .await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out
            .contains("for as long as the configuration says so"),
        "{said:?}"
    );
    program.rewrite(&yaml.replace("frozen: true", "frozen: false"));
    program.reload().await;
    assert!(!is_paid(&program).await);
    let freeze = program.json("/status").await["freezes"][0].clone();
    assert_eq!(
        (&freeze["in_file"], &freeze["reason"]),
        (&json!(false), &json!("#17"))
    );
    let said = ask(&program, &["thaw", "acme"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(is_paid(&program).await);

    // And back in the file.
    program.rewrite(&yaml);
    program.reload().await;
    assert!(!is_paid(&program).await);
    program.rewrite(&yaml.replace("frozen: true", ""));
    program.reload().await;
    assert!(is_paid(&program).await);
}

#[tokio::test]
async fn a_freeze_that_takes_the_place_of_another_says_what_that_was_and_who_asks_by_no_command_is_an_address()
 {
    let (_api, _idp, yaml) = journalled("").await;
    let program = Program::start(&yaml, "info").await;
    let first = ["freeze", "acme", "--reason", "double charges"];
    let said = ask(&program, &first).await;
    assert!(!said.out.contains("Before,"), "{said:?}");
    let said = ask(&program, &["freeze", "acme"]).await;
    assert!(!said.out.contains("Before,"), "{said:?}");
    let said = ask(&program, &["freeze", "acme", "--for", "1h"]).await;
    let before = "Before, it was frozen until a thaw by ";
    assert!(said.out.contains(before), "{said:?}");
    assert!(said.out.contains(": double charges\n"), "{said:?}");
    eventually(|| async { program.logged().contains("was_frozen_by") }).await;
    assert_eq!(post(&program, "/thaw/acme", "").await.status, 200);
    assert_eq!(post(&program, "/freeze/acme", "").await.status, 200);
    let freeze = program.json("/status").await["freezes"][0].clone();
    assert_eq!(freeze["by"], "somebody at 127.0.0.1");
    assert_eq!(
        (&freeze["by_command"], &freeze["in_file"]),
        (&json!(true), &json!(false))
    );
}

#[tokio::test]
async fn a_time_that_no_freeze_can_take_is_wrong_on_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    for time in ["0s", "100ms", "366d", "1y", "1M", "90x"] {
        let arguments = ["freeze", "acme", "--for", time];
        let said = run_in(directory.path(), &arguments, &[]).await;
        assert_eq!(said.code, Some(2), "{time}: {said:?}");
    }
}

/// What a reload warns of, which is put in force, about providers.
async fn reload_warnings(program: &Program) -> Vec<String> {
    let said = ask(program, &["reload"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let lines = said.error.lines();
    let warnings = lines.filter_map(|line| line.strip_prefix("warning: providers."));
    warnings.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_reload_that_lets_the_payments_of_a_frozen_provider_pass_elsewhere_warns_of_that() {
    let (_api, _idp, yaml) = journalled("").await;
    let program = Program::start(&yaml, "info").await;
    ask(&program, &["freeze", "acme"]).await;
    assert!(!is_paid(&program).await);

    // Renamed: the freeze has the old name.
    let renamed = yaml.replace("  acme:", "  acme-in:");
    program.rewrite(&renamed);
    let gone = "acme: is frozen, and is no provider any more: its freeze holds nothing back, and holds again when there is a provider of that name, unless `bursar thaw acme` takes it back";
    let taken = |taker: &str| {
        format!(
            "acme: is frozen, and {taker}, which is not, has its host api.test now: requests that move money pass there; `bursar freeze {taker}` stops them"
        )
    };
    let warnings = reload_warnings(&program).await;
    assert_eq!(warnings, [gone, &*taken("acme-in")]);
    for warning in warnings {
        let is_logged = || async { program.logged().contains(&warning) };
        eventually(is_logged).await;
    }
    assert!(is_paid(&program).await);
    let metrics = admin(program.admin, "/metrics").await.text().to_owned();
    let series = |provider: &str| {
        let name = format!("bursar_provider_frozen{{provider=\"{provider}\"}}");
        metrics.contains(&name)
    };
    assert_eq!((series("acme"), series("acme-in")), (false, true));

    // Back again it holds, and no reload warns any more.
    program.rewrite(&yaml);
    assert!(reload_warnings(&program).await.is_empty());
    assert!(!is_paid(&program).await);

    // The host alone goes to another one: not frozen, and frozen by the file.
    let other = renamed.replacen("providers:\n", "", 1);
    let other = other.get(other.find("  acme-in:").unwrap()..).unwrap();
    let moved = format!("{}{other}", yaml.replace("[api.test]", "[old.test]"));
    program.rewrite(&moved);
    assert_eq!(reload_warnings(&program).await, [taken("acme-in")]);
    program.rewrite(&yaml);
    program.reload().await;
    program.rewrite(&format!("{moved}    frozen: true\n"));
    assert!(reload_warnings(&program).await.is_empty());
    assert!(!is_paid(&program).await);

    // What is gone can be thawed, once.
    program.rewrite(&renamed);
    program.reload().await;
    let said = ask(&program, &["thaw", "acme"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let forgotten = "acme is no provider of the configuration; its freeze is forgotten.\n";
    assert!(said.out.starts_with(forgotten), "{said:?}");
    assert_eq!(ask(&program, &["thaw", "acme"]).await.code, Some(2));
    assert_eq!(ask(&program, &["freeze", "acme"]).await.code, Some(2));
    program.rewrite(&yaml);
    program.reload().await;
    assert!(is_paid(&program).await);
}

#[tokio::test]
async fn a_start_says_of_a_freeze_that_its_provider_is_gone() {
    let (_api, _idp, yaml) = journalled("").await;
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let yaml = yaml.replace("path: journal", &format!("path: {}", journal.display()));
    let program = Program::start(&yaml, "info").await;
    ask(&program, &["freeze", "acme"]).await;
    program.signal("TERM").await;
    assert_eq!(program.ended().await.0, Some(0));
    let renamed = yaml.replace("  acme:", "  acme-in:");
    let program = Program::start(&renamed, "info").await;
    let is_told = async || {
        let told = "is frozen since before the start, and is no provider of this configuration";
        program.logged().contains(told)
    };
    eventually(is_told).await;
    assert!(is_paid(&program).await);
}
