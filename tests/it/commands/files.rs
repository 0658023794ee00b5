//! Commands about files: `check` for programs, `init`, and what is generated.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::write;
use crate::support::acme;
use crate::support::program::run_in;
use crate::support::tls::Authority;

const API: &str = "http://127.0.0.1:1";

async fn checked(directory: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["check", "--json"], arguments].concat();
    let said = run_in(
        directory,
        &arguments,
        &[("BURSAR_TEST_SECRET", "a-long-secret-of-a-test")],
    )
    .await;
    assert_eq!(said.error, "", "{said:?}");
    (said.code, serde_json::from_str(&said.out).unwrap())
}

#[tokio::test]
async fn check_tells_programs_of_errors_and_warnings_and_strict_counts_both() {
    let directory = tempfile::tempdir().unwrap();
    let literal = acme(API, API, "");
    let good = literal.replace(crate::support::CLIENT_SECRET, "${BURSAR_TEST_SECRET}");
    let none = json!({"ok": true, "problems": []});
    write(directory.path(), &good);
    for strict in [&[][..], &["--strict"]] {
        assert_eq!(
            checked(directory.path(), strict).await,
            (Some(0), none.clone())
        );
    }
    write(directory.path(), &literal);
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(directory.path().join("proxy.yaml"), everybody).unwrap();
    for (strict, code, ok) in [(&[][..], 0, true), (&["--strict"], 2, false)] {
        let (status, report) = checked(directory.path(), strict).await;
        assert_eq!(
            (status, &report["ok"]),
            (Some(code), &json!(ok)),
            "{report:#}"
        );
        let warning = &report["problems"][0];
        assert_eq!(
            (&warning["path"], &warning["line"], &warning["severity"]),
            (
                &json!("providers.acme.client_secret"),
                &json!(6),
                &json!("warning")
            ),
            "{report:#}"
        );
        assert!(
            warning["message"].as_str().unwrap().contains("every user"),
            "{report:#}"
        );
        let said = run_in(directory.path(), &[&["check"], strict].concat(), &[]).await;
        assert_eq!(
            (said.code, said.out.is_empty()),
            (Some(code), !ok),
            "{said:?}"
        );
    }
    write(directory.path(), "listen: nowhere\n");
    let (status, report) = checked(directory.path(), &[]).await;
    assert_eq!((status, &report["ok"]), (Some(2), &json!(false)));
    let problems = report["problems"].as_array().unwrap();
    assert!(
        problems
            .iter()
            .all(|problem| problem["severity"] == "error"),
        "{report:#}"
    );
    assert_eq!(
        (&problems[0]["path"], &problems[0]["line"]),
        (&json!("listen"), &json!(1))
    );
    std::fs::remove_file(directory.path().join("proxy.yaml")).unwrap();
    let (status, report) = checked(directory.path(), &[]).await;
    assert_eq!(
        (status, &report["problems"][0]["line"]),
        (Some(2), &Value::Null)
    );
}

#[tokio::test]
async fn check_warns_of_a_journal_that_run_could_not_open_and_strict_does_not_count_that() {
    let directory = tempfile::tempdir().unwrap();
    let yaml = acme(API, API, "").replace(crate::support::CLIENT_SECRET, "${BURSAR_TEST_SECRET}");
    write(
        directory.path(),
        &format!("journal: {{path: journal}}\n{yaml}"),
    );
    let none = json!({"ok": true, "problems": []});
    let check = async || checked(directory.path(), &["--strict"]).await;
    assert_eq!(check().await, (Some(0), none));
    let journal = directory.path().join("journal");
    assert!(!journal.exists());
    std::fs::create_dir_all(journal.join("lock")).unwrap();
    let (status, report) = check().await;
    assert_eq!((status, &report["ok"]), (Some(0), &json!(true)));
    let warning = &report["problems"][0];
    assert_eq!(warning["path"], "journal.path");
    assert_eq!(warning["severity"], "warning");
    let message = warning["message"].as_str().unwrap();
    assert!(message.contains("journal/lock: it is no file"), "{message}");
}

#[tokio::test]
async fn warnings_stand_beside_errors_in_the_order_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let weak = "callers: {shop: {password: short+7731, allow: [acme]}}\n";
    let text = acme(API, API, "surprise: 1").replace("s3cret+of/acme=", "'\"s3cret+of/acme=\"'");
    write(directory.path(), &format!("{weak}{text}"));
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(directory.path().join("proxy.yaml"), closed).unwrap();
    let (status, report) = checked(directory.path(), &["--live"]).await;
    assert_eq!((status, &report["ok"]), (Some(2), &json!(false)));
    assert_eq!(report.get("live"), None, "of a wrong file nothing is tried");
    let problems = report["problems"].as_array().unwrap().iter();
    let told = problems.map(|problem| json!([problem["path"], problem["severity"]]));
    let expected = [
        ("callers.shop.password", "warning"),
        ("callers.shop.password", "warning"),
        ("providers.acme.client_secret", "warning"),
        ("providers.acme.surprise", "error"),
    ];
    assert_eq!(told.collect::<Value>(), json!(expected), "{report:#}");
    let said = run_in(directory.path(), &["check"], &[]).await;
    assert_eq!((said.code, &*said.out), (Some(2), ""), "{said:?}");
    let lines = said.error.lines().map(|line| line.contains(": warning: "));
    let is_warning = expected.map(|(_, severity)| severity == "warning");
    assert_eq!(lines.collect::<Vec<_>>(), is_warning, "{said:?}");
}

#[tokio::test]
async fn certificates_that_have_ended_or_soon_will_are_warnings_at_their_keys() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let sign = |name: &str, lifetime: Duration| {
        let (certificate, key) = authority.sign_for(lifetime, &["bursar.test"]);
        std::fs::write(directory.path().join(format!("{name}.pem")), certificate).unwrap();
        let file = directory.path().join(format!("{name}.key"));
        std::fs::write(&file, key).unwrap();
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file, closed).unwrap();
    };
    sign("ended", Duration::ZERO);
    let days = Duration::from_secs(3 * 24 * 60 * 60);
    sign("soon", days);
    Authority::ending(days).write(&directory.path().join("ca.pem"));
    let tls = "tls: {ca: ended.pem, certificate: soon.pem, key: soon.key}";
    let text = acme("https://api.test", "https://api.test/t", tls);
    write(
        directory.path(),
        &format!("tls: {{certificate: ended.pem, key: ended.key, client_ca: ca.pem}}\n{text}"),
    );
    let (status, report) = checked(directory.path(), &[]).await;
    assert_eq!(
        (status, &report["ok"]),
        (Some(0), &json!(true)),
        "{report:#}"
    );
    let problems = report["problems"].as_array().unwrap();
    let ends = problems.iter().filter_map(|problem| {
        let message = problem["message"].as_str()?;
        let told = [
            "has ended, on",
            "ends soon, on",
            "ended on 2",
            "last one ends on",
        ];
        let told = told.into_iter().find(|told| message.contains(told))?;
        Some((problem["path"].as_str()?, told))
    });
    let expected = [
        ("tls.certificate", "has ended, on"),
        ("tls.client_ca", "last one ends on"),
        ("providers.acme.tls.ca", "ended on 2"),
        ("providers.acme.tls.certificate", "ends soon, on"),
    ];
    assert_eq!(ends.collect::<Vec<_>>(), expected, "{report:#}");
    let (status, _) = checked(directory.path(), &["--strict"]).await;
    assert_eq!(status, Some(2));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_followed_by_how_to_make_one() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["run"][..],
        &["check"],
        &["outcomes"],
        &["ca", "new", "--dir", "."],
    ] {
        let said = run_in(directory.path(), arguments, &[]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.error
                .contains("`bursar init --preset NAME --output proxy.yaml`"),
            "{arguments:?} {said:?}"
        );
    }
}

#[tokio::test]
async fn a_first_file_is_accepted_once_its_variables_are_set() {
    let presets = ["paylater", "payu", "alternative_payments", "quidkey"];
    let variables: Vec<(String, &str)> = ["PAYLATER", "PAYU", "AP", "QUIDKEY"]
        .iter()
        .flat_map(|prefix| ["CLIENT_ID", "CLIENT_SECRET"].map(|name| format!("{prefix}_{name}")))
        .map(|name| (name, "a-long-value-of-a-test"))
        .collect();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (&**name, *value))
        .collect();
    for environment in ["sandbox", "production"] {
        let directory = tempfile::tempdir().unwrap();
        for preset in presets {
            let file = format!("{preset}.yaml");
            let init = ["init", "--preset", preset, "--environment", environment];
            let printed = run_in(directory.path(), &init, &[]).await;
            let output = [&init[..], &["--output", &file]].concat();
            let said = run_in(directory.path(), &output, &[]).await;
            assert_eq!(said.code, Some(0), "{said:?}");
            assert!(said.out.contains("_CLIENT_SECRET"), "{said:?}");
            let written = std::fs::read_to_string(directory.path().join(&file)).unwrap();
            assert_eq!(written, printed.out);
            let check = ["check", "--strict", "--config", &file];
            let said = run_in(directory.path(), &check, &variables).await;
            assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
            let said = run_in(directory.path(), &check, &[]).await;
            assert!(said.error.contains("_CLIENT_ID"), "{said:?}");
        }
        let all = [
            "init", "--preset", "payu", "--preset", "quidkey", "--preset", "payu",
        ];
        let all = run_in(directory.path(), &all, &[]).await.out;
        write(directory.path(), &all);
        let said = run_in(directory.path(), &["check"], &variables).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[tokio::test]
async fn a_first_file_is_written_over_nothing() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "mine\n");
    std::os::unix::fs::symlink("nowhere", directory.path().join("link")).unwrap();
    for file in ["proxy.yaml", "link"] {
        let init = ["init", "--preset", "payu", "--output", file];
        let said = run_in(directory.path(), &init, &[]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.error.contains("is there already"), "{said:?}");
    }
    let kept = std::fs::read_to_string(directory.path().join("proxy.yaml")).unwrap();
    assert_eq!(kept, "mine\n");
    assert!(!directory.path().join("nowhere").exists());
    let said = run_in(directory.path(), &["init", "--preset", "stripe"], &[]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.error.contains("alternative_payments"), "{said:?}");
}

#[tokio::test]
async fn schema_completions_and_man_pages_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let schema = run_in(directory.path(), &["schema"], &[]).await.out;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.schema.json");
    assert_eq!(schema, std::fs::read_to_string(kept).unwrap());
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = run_in(directory.path(), &["completions", shell], &[]).await;
        assert!(
            said.out.contains("outcomes") && said.out.contains("resolve"),
            "{shell}"
        );
    }
    let said = run_in(directory.path(), &["man", "pages/1"], &[]).await;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
    for page in ["bursar.1", "bursar-check.1", "bursar-outcomes-resolve.1"] {
        let text = std::fs::read_to_string(directory.path().join("pages/1").join(page));
        assert!(text.unwrap().contains(".TH"), "{page}");
    }
    let page = |name| std::fs::read_to_string(directory.path().join("pages/1").join(name)).unwrap();
    let freeze = page("bursar-freeze.1");
    for line in [
        ".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\nIt is frozen",
        ".SH \"ENVIRONMENT\"\n.TP\n\\fBBURSAR_ADMIN_TOKEN\\fR\n",
        ".SH \"FILES\"\n",
    ] {
        assert!(freeze.contains(line), "{line}: {freeze}");
    }
    assert!(!freeze.contains("EXTRA"), "{freeze}");
    assert!(page("bursar-run.1").contains(".SH \"SIGNALS\"\n"));
    assert!(page("bursar-outcomes-resolve.1").contains("\\fIID\\fR..."));
    let help = run_in(directory.path(), &["freeze", "--help"], &[])
        .await
        .out;
    assert!(help.contains("BURSAR_ADMIN_TOKEN") && help.contains("Exit status:"));
    write(directory.path(), "");
    let said = run_in(directory.path(), &["man", "proxy.yaml"], &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.error.contains("cannot write the pages to proxy.yaml"),
        "{said:?}"
    );
}

#[tokio::test]
async fn nothing_in_a_file_steers_the_terminal_that_shows_what_is_wrong_with_it() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        "\"lis\\eten\\u009b31m\": 1\nlisten: \"\\e[2Jx\"\nproviders: {\"a\\e[31m\\nb\": {hosts: [\"\\e[7m.test\"]}}\n",
    );
    let steers = |char: char| char.is_control() && char != '\n';
    let said = run_in(directory.path(), &["check"], &[]).await;
    assert!(
        said.code == Some(2) && said.error.contains("\\u{1b}"),
        "{said:?}"
    );
    assert!(!said.error.contains(steers), "{:?}", said.error);
    let said = run_in(directory.path(), &["check", "--json"], &[]).await;
    assert!(!said.out.contains(steers), "{:?}", said.out);
    serde_json::from_str::<Value>(&said.out).unwrap();
}

#[tokio::test]
async fn the_version_names_a_commit_of_this_repository() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = run_in(here, &["--version"], &[]).await;
    let version = concat!("bursar ", env!("CARGO_PKG_VERSION"), " (");
    let Some(commit) = said.out.strip_prefix(version) else {
        panic!("{said:?}");
    };
    let commit: String = commit.chars().take_while(char::is_ascii_hexdigit).collect();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        let output = command.args(arguments).current_dir(here).output();
        output.is_ok_and(|output| output.status.success())
    };
    // Without a repository there is none to name.
    if git(&["rev-parse", "HEAD"]) {
        assert_eq!(commit.len(), 12, "{said:?}");
        assert!(git(&["cat-file", "-e", &commit]), "{said:?}");
    }
}

#[tokio::test]
async fn the_configuration_beside_the_compose_file_is_good() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/compose/bursar");
    let environment = [
        ("BURSAR_ADMIN_TOKEN", "0123456789-admin-token"),
        ("PAYU_CLIENT_ID", "a-client-of-a-test"),
        ("PAYU_CLIENT_SECRET", "a-secret-of-a-test"),
        ("SHOP_PASSWORD", "a-password-of-a-test"),
    ];
    let said = run_in(&place, &["check", "--strict"], &environment).await;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
}
