//! Commands to a running Bursar: they work while its file is broken, and say what is wrong otherwise.

mod files;

use std::path::Path;

use bytes::Bytes;
use http::Response;
use tempfile::TempDir;

use crate::support::balancer::Place;
use crate::support::idp::Idp;
use crate::support::program::{Said, run_by, run_in};
use crate::support::proxy::Program;
use crate::support::raw::Raw;
use crate::support::upstream::{Body, Upstream, answer};
use crate::support::{acme, eventually, free_port};

pub(crate) const TOKEN: &str = "0123456789-admin-token";
const BROKEN: &str = "admin: 127.0.0.1:1\nproviders: {\n";

/// A Bursar with an admin token, whose file is elsewhere than `directory`.
async fn bursar() -> (Program, TempDir) {
    let idp = Idp::counting().await;
    let yaml = format!(
        "admin_token: {TOKEN}\n{}",
        acme("http://127.0.0.1:1", &idp.url(), "")
    );
    (
        Program::start(&yaml, "info").await,
        tempfile::tempdir().unwrap(),
    )
}

fn write(directory: &Path, yaml: &str) {
    std::fs::write(directory.join("proxy.yaml"), yaml).unwrap();
}

fn failed(said: &Said, code: i32, text: &str) {
    assert_eq!(said.code, Some(code), "{said:?}");
    assert!(said.error.contains(text), "{text}: {said:?}");
    assert!(
        !said.error.contains(TOKEN) && said.out.is_empty(),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_broken_file_fails_no_health_check_and_no_freeze() {
    let (program, directory) = bursar().await;
    let admin = program.admin;
    let rest =
        format!("providers: {{acme: [\n  broken: ${{BURSAR_TEST_UNSET}}\nadmin_token: {TOKEN}\n");
    write(directory.path(), &format!("admin: {admin}\n{rest}"));
    let said = run_in(directory.path(), &["health"], &[]).await;
    assert_eq!((said.code, &*said.out, &*said.error), (Some(0), "", ""));
    let latin = [b"# caf\xe9\n", format!("admin: {admin}\n{rest}").as_bytes()].concat();
    std::fs::write(directory.path().join("proxy.yaml"), latin).unwrap();
    let said = run_in(directory.path(), &["health"], &[]).await;
    assert_eq!((said.code, &*said.out, &*said.error), (Some(0), "", ""));
    let said = run_in(directory.path(), &["freeze", "acme"], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out.contains("because there is no `journal`"),
        "{said:?}"
    );
    // Without any file.
    let (admin, token) = (admin.to_string(), [("BURSAR_ADMIN_TOKEN", TOKEN)]);
    std::fs::remove_file(directory.path().join("proxy.yaml")).unwrap();
    for arguments in [
        ["health", "--admin", &admin].as_slice(),
        &["freeze", "acme", "--admin", &admin],
        &["thaw", "acme", "--admin", &format!("http://{admin}/")],
    ] {
        let said = run_in(directory.path(), arguments, &token).await;
        assert_eq!((said.code, &*said.error), (Some(0), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_variable_names_the_file_unless_the_option_does() {
    let (program, directory) = bursar().await;
    let good = directory.path().join("good.yaml");
    std::fs::copy(program.directory().join("proxy.yaml"), &good).unwrap();
    let yaml = std::fs::read_to_string(&good).unwrap();
    let yaml = yaml.replace("admin: 127.0.0.1:0", &format!("admin: {}", program.admin));
    std::fs::write(&good, yaml).unwrap();
    write(directory.path(), BROKEN);
    let good = good.to_str().unwrap();
    for (variable, arguments, code) in [
        (good, ["health"].as_slice(), 0),
        ("proxy.yaml", &["health", "--config", good], 0),
        (good, &["health", "--config", "proxy.yaml"], 1),
        ("", &["health"], 1),
        (good, &["freeze", "acme"], 0),
        (good, &["check"], 0),
        ("", &["check"], 2),
    ] {
        let environment = [("BURSAR_CONFIG", variable)];
        let said = run_in(directory.path(), arguments, &environment).await;
        assert_eq!(said.code, Some(code), "{variable} {arguments:?} {said:?}");
    }
}

#[tokio::test]
async fn after_a_token_was_changed_in_a_file_that_is_rejected_a_command_says_that_the_earlier_one_holds()
 {
    let (program, directory) = bursar().await;
    let admin = program.admin;
    write(
        directory.path(),
        &format!("admin: {admin}\nadmin_token: 0123456789-newer-token\nproviders: {{}}\n"),
    );
    let said = run_in(directory.path(), &["reload"], &[]).await;
    failed(
        &said,
        1,
        "refuses the token, which is from `admin_token` of",
    );
    failed(&said, 1, "takes the one before until");
}

#[tokio::test]
async fn after_the_admin_port_was_changed_in_a_file_that_is_rejected_bursar_says_where_it_still_is()
{
    let idp = Idp::counting().await;
    let Place { listen, admin: at } = Place::any();
    let rest = format!(
        "admin_token: {TOKEN}\n{}",
        acme("http://127.0.0.1:1", &idp.url(), "")
    );
    let yaml = format!("listen: {listen}\nadmin: {at}\n{rest}");
    let program = Program::start(&yaml, "info").await;
    let other = Place::any().admin;
    program.rewrite(&format!("listen: {listen}\nadmin: {other}\n{rest}"));
    program.reload().await;
    let reload = program.json("/status").await["last_reload"].clone();
    let message = reload["problems"][0].as_str().unwrap();
    let needed = format!("need --admin {at}");
    assert!(message.ends_with(&needed), "{message}");
    let elsewhere = "has the address from before until it is restarted: --admin says where that is";
    let before = at.to_string();
    let run = async |arguments: &[&str]| run_in(program.directory(), arguments, &[]).await;
    for arguments in [&["health"][..], &["freeze", "acme"], &["reload"]] {
        failed(&run(arguments).await, 1, elsewhere);
        let found = [arguments, &["--admin", &before]].concat();
        let said = run(&found).await;
        // What is asked for is done, or rejected once more.
        assert!(!said.error.contains("is Bursar running there?"), "{said:?}");
    }
    // Whoever says where it is knows.
    let said = run(&["health", "--admin", &other.to_string()]).await;
    assert!(
        said.error.trim().ends_with("is Bursar running there?"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_command_that_cannot_be_carried_out_says_why() {
    let (program, directory) = bursar().await;
    let run = async |arguments: &[&str], token: &str| {
        let environment = [("BURSAR_ADMIN_TOKEN", token)];
        run_in(directory.path(), arguments, &environment).await
    };
    let (right, Place { admin: free, .. }) = (program.admin.to_string(), Place::any());
    let free = free.to_string();
    let at = |admin| ["freeze", "acme", "--admin", admin];
    let nobody = run(&at(&free), TOKEN).await;
    failed(&nobody, 1, "is Bursar running there?");
    assert_eq!(nobody.error.matches("refused").count(), 1, "{nobody:?}");
    failed(
        &run(&at(&right), "0123456789-other-token").await,
        1,
        "refuses the token, which is from BURSAR_ADMIN_TOKEN",
    );
    failed(
        &run(&at(&right), "with space").await,
        2,
        "BURSAR_ADMIN_TOKEN is no `admin_token`",
    );
    failed(&run(&at(&right), "").await, 2, "proxy.yaml: cannot be read");
    let unknown = ["freeze", "other", "--admin", &right];
    failed(&run(&unknown, TOKEN).await, 2, "there are: acme");
    failed(
        &run(&["thaw", "a/b", "--admin", &right], TOKEN).await,
        2,
        "no provider has the name a/b",
    );
    failed(
        &run(&at("https://127.0.0.1:7"), TOKEN).await,
        2,
        "without TLS",
    );
    failed(
        &run(&at("127.0.0.1:0"), TOKEN).await,
        2,
        "is no address such as",
    );
    failed(
        &run(&at("nowhere.invalid"), TOKEN).await,
        1,
        "nowhere.invalid:9128",
    );
    write(directory.path(), "providers: {}\n");
    failed(&run(&at(&right), "").await, 2, "proxy.yaml has none");
    write(
        directory.path(),
        &format!("admin: {right}\nadmin_token: short\n"),
    );
    failed(&run(&["freeze", "acme"], "").await, 2, "16 to 1024");
    write(
        directory.path(),
        &format!("admin: {right}\nadmin_token: 0123456789-other-token\n"),
    );
    failed(
        &run(&["freeze", "acme"], "").await,
        1,
        "which is from `admin_token` of proxy.yaml",
    );
}

#[tokio::test]
async fn where_a_file_does_not_say_which_bursar_is_meant_none_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let token = [("BURSAR_ADMIN_TOKEN", TOKEN)];
    let changes: [&[&str]; 5] = [
        &["freeze", "acme"],
        &["thaw", "acme"],
        &["reload"],
        &["log-level", "debug"],
        &["log-level", "--restore"],
    ];
    for yaml in [
        "admin: ${BURSAR_TEST_UNSET}\n",
        "admin: 127.0.0.1:1\nadmin: 127.0.0.1:2\n",
        "",
    ] {
        write(directory.path(), yaml);
        for change in changes {
            let said = run_in(directory.path(), change, &token).await;
            failed(&said, 2, "--admin says where it is. proxy.yaml: ");
        }
    }
    let missing = ["freeze", "acme", "--config", "missing.yaml"];
    let said = run_in(directory.path(), &missing, &token).await;
    failed(&said, 2, "--admin says where it is. missing.yaml: ");
    // Whatever is asked for is asked for there.
    let admin = ["--admin", "127.0.0.1:1"];
    for arguments in [&["health"][..], &["log-level"], &["freeze", "acme"]] {
        let arguments = [arguments, &admin].concat();
        let said = run_in(directory.path(), &arguments, &token).await;
        failed(&said, 1, "127.0.0.1:1: ");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_told_on_standard_output_is_told_on_standard_error_and_done() {
    let (program, directory) = bursar().await;
    let (admin, token) = (program.admin.to_string(), [("BURSAR_ADMIN_TOKEN", TOKEN)]);
    let at = |arguments: &[&'static str]| {
        let admin = ["--admin", &admin].map(str::to_owned).into_iter();
        let arguments = arguments.iter().map(ToString::to_string);
        arguments.chain(admin).collect::<Vec<String>>()
    };
    for (arguments, text) in [
        (&["freeze", "acme"][..], "acme is frozen"),
        (&["thaw", "acme"], "acme is thawed"),
        (&["log-level", "debug"], "The log's filter is "),
        (&["log-level", "--restore"], "The log's filter is "),
        (&["reload"], "The configuration is in force"),
    ] {
        let arguments = at(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = run_by(
            "exec \"$@\" > /dev/full",
            directory.path(),
            &arguments,
            &token,
        )
        .await;
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.error.contains("cannot write to standard output"));
        assert!(said.error.contains(text), "{said:?}");
    }
    let arguments = at(&["log-level"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = run_by(
        "exec \"$@\" > /dev/full",
        directory.path(),
        &arguments,
        &token,
    )
    .await;
    failed(&said, 1, "cannot write to standard output");
}

#[tokio::test]
async fn a_rust_log_that_is_no_text_is_told_of_as_one_that_is_no_filter() {
    let directory = tempfile::tempdir().unwrap();
    let command = r#"RUST_LOG=$(printf 'info,\377=debug') exec "$@""#;
    let said = run_by(command, directory.path(), &["run"], &[]).await;
    let told = "`RUST_LOG` has parts that are ignored";
    failed(&said, 2, told);
    failed(&said, 2, "\"ignored\":\"\u{fffd}=debug\"");
}

#[tokio::test]
async fn the_directory_of_a_new_authority_is_made() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        &acme("http://127.0.0.1:1", "http://127.0.0.1:1", ""),
    );
    let arguments = ["ca", "new", "--dir", "new/and/new"];
    let said = run_in(directory.path(), &arguments, &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for file in ["ca.pem", "ca.key"] {
        assert!(directory.path().join("new/and/new").join(file).exists());
    }
}

#[tokio::test]
async fn another_program_at_the_admin_port_is_told_apart_and_gets_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let page = |kind: &'static str, body: &'static str| -> Response<Body> {
        let mut page = answer(200, body);
        page.headers_mut()
            .insert("content-type", kind.parse().unwrap());
        page
    };
    let token = [("BURSAR_ADMIN_TOKEN", TOKEN)];
    for (kind, body, text) in [
        (
            "text/html",
            "<html>ok</html>",
            "it answered 200 with text/html",
        ),
        (
            "text/plain",
            "fine\u{1b}[31m",
            "it answered 200 fine\\u{1b}[31m",
        ),
        ("application/json", "{}", "it answered 200 {}"),
    ] {
        let other = Upstream::start(move |request: http::Request<Bytes>| async move {
            assert!(request.headers().get("authorization").is_none());
            page(kind, body)
        })
        .await;
        let admin = other.address.to_string();
        for arguments in [
            ["health", "--admin", &admin].as_slice(),
            &["freeze", "acme", "--admin", &admin],
        ] {
            let said = run_in(directory.path(), arguments, &token).await;
            failed(&said, 1, "is not the admin port of a Bursar");
            failed(&said, 1, text);
        }
        assert_eq!(other.count(), 2);
    }
}

#[tokio::test]
async fn an_admin_port_on_all_addresses_of_version_6_is_asked_on_loopback() {
    let idp = Idp::counting().await;
    let listen = Place::any().listen;
    // Other addresses may have the port that addresses of a test's own share.
    let port = free_port();
    let yaml = format!(
        "listen: {listen}\nadmin: \"[::]:{port}\"\nadmin_token: {TOKEN}\n{}",
        acme("http://127.0.0.1:1", &idp.url(), "")
    );
    let program = Program::start(&yaml, "info").await;
    let said = run_in(program.directory(), &["freeze", "acme"], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let loopback = format!("[::1]:{port}");
    let said = run_in(program.directory(), &["health", "--admin", &loopback], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn reload_waits_and_says_what_changed_or_what_is_wrong() {
    let idp = Idp::counting().await;
    let Place { listen, admin } = Place::any();
    let acme = acme("http://127.0.0.1:1", &idp.url(), "");
    let yaml = format!("listen: {listen}\nadmin: {admin}\nadmin_token: {TOKEN}\n{acme}");
    let program = Program::start(&yaml, "info").await;
    let reload = async || run_in(program.directory(), &["reload"], &[]).await;
    assert_eq!(
        reload().await.out,
        "The configuration is in force; nothing has changed.\n"
    );
    // A file that is rejected keeps nothing from saying so.
    program.rewrite(&format!("{yaml}    tokens: {{}}\n    hosts2: []\n"));
    let said = reload().await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.starts_with("The configuration is rejected"),
        "{said:?}"
    );
    assert!(
        said.error.contains("providers.acme.tokens: ") && said.error.contains("line "),
        "{said:?}"
    );
    let secret = yaml.replace("client_secret: ", "client_secret: other-");
    let callers = "callers:\n  till: {password: a-password-of-a-till, allow: [acme]}\n";
    program.rewrite(&secret.replace(
        "providers:",
        &format!("{callers}drain_delay: 1s\nproviders:"),
    ));
    let said = reload().await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        "  new callers: till\n",
        "  keys that changed: drain_delay, providers.acme.client_secret\n",
        "proxy.yaml\n",
    ] {
        assert!(said.out.contains(line), "{said:?}");
    }
    eventually(|| async { program.logged().contains("keys_changed") }).await;
    let logged = program.logged();
    for field in [
        "\"callers_added\":\"till\"",
        "\"keys_changed\":\"drain_delay, providers.acme.client_secret\"",
        "\"providers_changed\":\"acme\"",
    ] {
        assert!(logged.contains(field), "{logged}");
    }
    assert!(
        !logged.contains("other-") && !logged.contains("a-password"),
        "{logged}"
    );
    assert!(!logged.contains("\"callers_removed\""), "{logged}");
}

#[tokio::test]
async fn reloads_that_are_asked_for_together_all_have_an_outcome() {
    let (program, directory) = bursar().await;
    let admin = program.admin.to_string();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (directory, admin) = (directory.path().to_owned(), admin.clone());
        asking.spawn(async move {
            let token = [("BURSAR_ADMIN_TOKEN", TOKEN)];
            run_in(&directory, &["reload", "--admin", &admin], &token).await
        });
    }
    for said in asking.join_all().await {
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[tokio::test]
async fn the_log_has_another_filter_for_a_time_and_then_its_usual_one() {
    let (program, directory) = bursar().await;
    let admin = program.admin.to_string();
    let run = async |arguments: &[&str]| {
        let arguments = [&["log-level", "--admin", &admin], arguments].concat();
        run_in(
            directory.path(),
            &arguments,
            &[("BURSAR_ADMIN_TOKEN", TOKEN)],
        )
        .await
    };
    let usual = "The log's filter is info, as usual.\n";
    assert_eq!(run(&[]).await.out, usual);
    for (arguments, code, text) in [
        (&["debgu"][..], 2, "a filter is a level"),
        (&["debug", "--for", "25h"], 2, "it has to be from 1s to 24h"),
        (&["--for", "1m"], 2, "required"),
        (&["debug", "--restore"], 2, "cannot be used"),
    ] {
        failed(&run(arguments).await, code, text);
        assert_eq!(run(&[]).await.out, usual);
    }
    // Whoever asks otherwise is told, too.
    for (query, text) in [
        ("filter=debgu", "`filter` is none"),
        ("filter=debug&for=25h", "`for` is a duration"),
    ] {
        let request = format!(
            "POST /log-level?{query} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
        );
        let refused = Raw::connect(program.admin).await.ask(request).await;
        assert_eq!(refused.status(), 400, "{query}");
        assert!(refused.text().contains(text), "{query}: {}", refused.text());
    }
    // For long, then for short: the time of the one that is replaced ends nothing.
    assert!(
        run(&["off", "--for", "2s"])
            .await
            .out
            .starts_with("The log's filter is off until 2")
    );
    let said = run(&["bursar=debug", "--for", "1h"]).await.out;
    assert!(
        said.contains("bursar=debug") && said.ends_with(", and then info again.\n"),
        "{said}"
    );
    assert_eq!(run(&[]).await.out, said);
    assert_eq!(run(&["--restore"]).await.out, usual);
    assert_eq!(run(&["--restore"]).await.out, usual);
    assert!(
        run(&["debug", "--for", "1s"])
            .await
            .out
            .contains("is debug until")
    );
    eventually(|| async { run(&[]).await.out == usual }).await;
    let logged = program.logged();
    assert_eq!(
        logged
            .matches("the log has another filter for a time")
            .count(),
        2,
        "{logged}"
    );
    assert!(!logged.contains(TOKEN), "{logged}");
}
