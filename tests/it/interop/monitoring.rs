//! Rules, alerts and the dashboard of `deploy` by promtool, amtool and a real Prometheus that scrapes busy instances.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::prometheus;
use super::*;
use crate::monitoring::{self, ROOT};
use crate::support::caller::basic;
use crate::support::idp::{self, Idp};
use crate::support::program::Program;
use crate::support::raw::Raw;
use crate::support::store::{Server as StoreServer, Store};
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, becomes_true, eventually, write_intercepting};

const RULES: &str = "deploy/prometheus/alerts.yml";
const ALERTMANAGER: &str = "deploy/alertmanager.example.yml";
const RUNBOOK: &str = include_str!("../../../docs/src/operations/runbook.md");

/// The lines of the runbook's blocks of a language.
fn shown(language: &str) -> impl Iterator<Item = &'static str> {
    let blocks = RUNBOOK.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(move |block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.flat_map(str::lines)
}

/// A tool's output, from the root of the tree; the test fails where the tool does.
async fn run(line: &[&str]) -> String {
    let output = within(line[0], command(line).current_dir(ROOT).output()).await;
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{line:?}: {said}");
    said
}

#[tokio::test]
async fn promtool_sees_each_alert_fire_when_it_has_to_and_not_otherwise() {
    if !Needs::Promtool.are_met().await {
        return;
    }
    run(&["promtool", "check", "rules", RULES]).await;
    for tests in monitoring::tests() {
        run(&["promtool", "test", "rules", &tests]).await;
    }
}

#[tokio::test]
async fn alertmanager_wakes_whoever_is_on_call_for_what_is_critical_alone() {
    if !Needs::Amtool.are_met().await {
        return;
    }
    run(&["amtool", "check-config", ALERTMANAGER]).await;
    let config = format!("--config.file={ALERTMANAGER}");
    for rule in monitoring::rules() {
        let Some(severity) = rule.severity else {
            continue;
        };
        let receiver = match &*severity {
            "critical" => "on-call",
            _ => "office",
        };
        let (severity, name) = (
            format!("severity={severity}"),
            format!("alertname={}", rule.name),
        );
        let test = [
            "amtool", "config", "routes", "test", &config, &severity, &name,
        ];
        assert!(
            run(&test).await.lines().any(|line| line == receiver),
            "{name}"
        );
    }
}

/// Panels whose metric is not there while all is well, or in a test; and why.
const ABSENT: [(&str, &str); 1] = [(
    "instance:bursar_scraped_late:info",
    "only of a process that has run for an hour and was not scraped",
)];

/// A provider with everything that goes wrong, and instances of a fleet in front of it.
struct Busy {
    _store: Store,
    _api: Upstream,
    _idps: [Idp; 2],
    programs: Vec<Program>,
}

impl Busy {
    async fn start(store: Store) -> Self {
        let authority = Authority::new();
        let tls = authority.server(&["http/1.1"], ClientCertificate::Ignored);
        let flaky = Arc::new(AtomicUsize::new(0));
        let api = Upstream::with_tls(tls, move |request| {
            let flaky = flaky.clone();
            async move {
                match request.uri().path() {
                    // The second try of each is taken.
                    "/flaky" if flaky.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
                        answer(401, "")
                    }
                    "/denied" => answer(401, ""),
                    "/lost" => std::future::pending().await,
                    "/broken" => answer(503, ""),
                    _ => answer(200, "fine"),
                }
            }
        });
        let api = api.await;
        // Its tokens have ended before the next request, and sometimes there is none.
        let brief = Idp::start(|call| async move {
            let text = format!("token-{}", call.number);
            match call.number % 4 {
                0 => idp::reply(500, &json!({})),
                _ => idp::reply(200, &json!({"access_token": text, "expires_in": 1})),
            }
        });
        let idps = [Idp::counting().await, brief.await];
        let yaml = yaml(&store, &api, &idps);
        let mut programs = Vec::new();
        for _ in 0..2 {
            let directory = tempfile::tempdir().unwrap();
            authority.write(&directory.path().join("api.pem"));
            let client = ["client.pem", "client.key"].map(|file| directory.path().join(file));
            authority.write_client(&client[0], &client[1]);
            write_intercepting(directory.path(), &["api.test", "brief.test", "gone.test"]);
            programs.push(Program::start_in(directory, &yaml, "info").await);
        }
        Self {
            _store: store,
            _api: api,
            _idps: idps,
            programs,
        }
    }
}

fn yaml(store: &Store, api: &Upstream, [idp, brief]: &[Idp; 2]) -> String {
    let (store, api, brief) = (store.url(), api.url(), brief.url());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = closed.local_addr().unwrap();
    let acme = acme(
        &api,
        &idp.url(),
        "tls: {ca: api.pem, certificate: client.pem, key: client.key}\ntimeouts: {head: 300ms}",
    );
    format!(
        "admin_token: an-admin-token-of-32-characters!
fleet: {{url: '{store}', keys: [MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=]}}
journal: {{path: journal, sync: false}}
intercept: {{ca: {{certificate: ca.pem, key: ca.key}}}}
callers:
  shop: {{password: correct-horse, allow: [acme, brief, gone]}}
  hasty: {{password: battery-staple, allow: [acme], limits: {{per_second: 1}}}}
{acme}
  brief: {{hosts: [brief.test], upstream: '{api}', tls: {{ca: api.pem}}, client_id: a, client_secret: a-secret-of-brief, token: {{url: '{brief}'}}}}
  gone: {{hosts: [gone.test], upstream: 'http://{closed}', client_id: a, client_secret: a-secret-of-gone, token: {{url: '{}'}}}}
",
        idp.url()
    )
}

/// Some of everything, over and over.
async fn keep_busy(listen: SocketAddr) {
    let shop = basic("shop", "correct-horse");
    let hasty = basic("hasty", "battery-staple");
    let wrong = basic("shop", "wrong");
    loop {
        for (line, caller) in [
            ("GET http://api.test/", &shop),
            ("POST http://api.test/", &shop),
            ("GET http://api.test/flaky", &shop),
            ("GET http://api.test/denied", &shop),
            ("POST http://api.test/lost", &shop),
            ("GET http://api.test/broken", &shop),
            ("GET http://brief.test/", &shop),
            ("GET http://gone.test/", &shop),
            ("POST http://gone.test/", &shop),
            ("GET http://api.test/", &hasty),
            ("GET http://api.test/", &hasty),
            ("GET http://api.test/", &wrong),
        ] {
            let request = format!(
                "{line} HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {caller}\r\nContent-Length: 0\r\n\r\n"
            );
            let mut raw = Raw::connect(listen).await;
            raw.write(request).await;
            // Some are told nothing, at the end of the test.
            drop(raw.try_read_message().await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A freeze of `gone`, a reload that is rejected, and one that is not.
async fn operate(program: &Program) {
    let freeze = "POST /freeze/gone HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer an-admin-token-of-32-characters!\r\nContent-Length: 0\r\n\r\n";
    let reply = Raw::connect(program.admin).await.ask(freeze).await;
    assert_eq!(reply.status(), 200);
    let file = program.directory().join("proxy.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    for end in ["listne: 1\n", "# another\n"] {
        program.rewrite(&format!("{text}{end}"));
        program.reload().await;
    }
}

/// A Prometheus with the rules that scrapes these instances.
async fn observe(directory: &Path, programs: &[Program]) -> (Child, String) {
    let targets = programs.iter().enumerate().map(|(number, program)| {
        json!({"targets": [program.admin.to_string()], "labels": {"pod": format!("bursar-{number}")}})
    });
    let targets: Vec<Value> = targets.collect();
    let config = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [Path::new(ROOT).join(RULES)],
        "scrape_configs": [{"job_name": "bursar", "static_configs": targets}],
    });
    let file = directory.join("prometheus.yml");
    std::fs::write(&file, config.to_string()).unwrap();
    let running = prometheus::start(&file).await;
    let origin = &running.1;
    eventually(|| async { prometheus::query(origin, "sum(up)").await == [2.0] }).await;
    running
}

/// What has to return series: the expressions of the dashboard and the runbook, what is recorded, and the selectors of all
/// rules.
fn wanted() -> Vec<String> {
    let mut wanted: Vec<String> = shown("promql").map(str::to_owned).collect();
    assert!(wanted.len() > 5, "{wanted:?}");
    for panel in monitoring::panels() {
        wanted.extend(monitoring::expressions(&panel).map(|expression| {
            expression
                .replace("$__rate_interval", "20s")
                .replace("$__range", "1m")
                .replace("$job", "bursar")
                .replace("$instance", ".+")
                .replace("$provider", ".+")
        }));
    }
    for rule in monitoring::rules() {
        let is_absent = ABSENT.iter().any(|(absent, _)| *absent == rule.name);
        if rule.severity.is_none() && !is_absent {
            wanted.push(format!("{}{{job=\"bursar\"}}", rule.name));
        }
        wanted.extend(monitoring::selectors(&rule.expression));
    }
    wanted
}

/// What the runbook asks `/status` and the log; some of it only where the journal is in trouble.
async fn what_the_runbook_asks_is_answered(directory: &Path, program: &Program) {
    let log = directory.join("bursar.log");
    let mut count = 0;
    for line in shown("sh").filter(|line| line.contains("jq ")) {
        let question = line.replace("ADMIN", &program.admin.to_string());
        let is_answered = becomes_true(PATIENCE, async || {
            std::fs::write(&log, program.logged()).unwrap();
            let mut asked = command(&["sh", "-c", &question]);
            let output = within(&question, asked.current_dir(directory).output()).await;
            let output = output.unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && error.is_empty(),
                "{line}: {error}"
            );
            !output.stdout.is_empty() || line.contains("\"journal\"")
        });
        assert!(is_answered.await, "nothing comes of {line}");
        count += 1;
    }
    assert!(count > 8, "{count}");
}

#[tokio::test]
async fn every_expression_returns_series_in_a_real_prometheus_that_scrapes_busy_instances() {
    for needs in [Needs::Prometheus, Needs::Curl, Needs::Jq] {
        if !needs.are_met().await {
            return;
        }
    }
    let Some(store) = StoreServer::redis().await else {
        return;
    };
    let busy = Busy::start(store.start().await).await;
    let directory = tempfile::tempdir().unwrap();
    let (_child, origin) = observe(directory.path(), &busy.programs).await;
    let working = busy
        .programs
        .iter()
        .map(|program| AbortOnDropHandle::new(tokio::spawn(keep_busy(program.listen))));
    let working: Vec<_> = working.collect();
    operate(&busy.programs[0]).await;
    let mut missing = wanted();
    let all_are_there = becomes_true(PATIENCE, async || {
        let mut left = Vec::new();
        for expression in missing.drain(..) {
            let values = prometheus::query(&origin, &expression).await;
            if values.iter().all(|value| value.is_nan()) {
                left.push(expression);
            }
        }
        missing = left;
        missing.is_empty()
    });
    assert!(all_are_there.await, "nothing comes of {missing:#?}");
    let reply = direct(&origin, "GET", "/api/v1/rules").await;
    let reply: Value = serde_json::from_slice(&reply.body).unwrap();
    let groups = reply["data"]["groups"].as_array().unwrap().iter();
    for rule in groups.flat_map(|group| group["rules"].as_array().unwrap()) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    what_the_runbook_asks_is_answered(directory.path(), &busy.programs[0]).await;
    drop(working);
}
