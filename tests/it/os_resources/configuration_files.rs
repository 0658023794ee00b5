//! What the configuration is read from: regular files, not too large, and nothing that is waited for.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::metrics::Scrape;
use crate::support::program::{Launch, run_in, with_ports};
use crate::support::proxy::Program;
use crate::support::{acme, eventually};

/// Long enough for a busy machine, and shorter than anything that hangs.
const AT_ONCE: Duration = Duration::from_secs(15);

fn yaml() -> String {
    acme("http://127.0.0.1:1", "http://127.0.0.1:1/token", "")
}

/// `bursar check`, which must not take long; its status and what it says.
fn check(config: &Path) -> (Option<i32>, String) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_bursar"));
    check.args(["check", "--config"]).arg(config);
    output(check)
}

fn output(mut check: Command) -> (Option<i32>, String) {
    let since = Instant::now();
    let Output { status, stderr, .. } = check.stdin(Stdio::null()).output().unwrap();
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_file_that_is_no_regular_file_is_refused_by_its_key_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    pipe(&at("pipe"));
    std::os::unix::fs::symlink("pipe", at("link")).unwrap();
    let keys = |text: &str| format!("{text}{}", yaml());
    for (text, expected) in [
        (
            yaml().replace("acme-id", "${file:pipe}"),
            "line 5: providers.acme.client_id: cannot read the file",
        ),
        (yaml().replace("acme-id", "${file:link}"), "it is a pipe"),
        (
            yaml().replace("acme-id", "${file:/dev/zero}"),
            "it is a device",
        ),
        (yaml().replace("acme-id", "${file:/}"), "it is a directory"),
        (
            keys("tls: {certificate: pipe, key: pipe}\n"),
            "tls.certificate: cannot be read: it is a pipe",
        ),
        (
            keys("intercept: {ca: {certificate: pipe, key: pipe}}\n"),
            "intercept.ca.key: ",
        ),
        (
            format!("{}    tls: {{ca: pipe}}\n", yaml()),
            "providers.acme.tls.ca: cannot be read: it is a pipe",
        ),
    ] {
        std::fs::write(at("proxy.yaml"), &text).unwrap();
        let (code, said) = check(&at("proxy.yaml"));
        assert_eq!(code, Some(2), "{text}\n{said}");
        assert!(said.contains(expected), "{text}\n{said}");
    }
}

#[test]
fn the_configuration_itself_is_a_regular_file_of_one_mebibyte_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    pipe(&at("pipe"));
    std::fs::write(
        at("large.yaml"),
        format!("# {}\n{}", "x".repeat(1 << 20), yaml()),
    )
    .unwrap();
    std::fs::write(at("good.yaml"), yaml()).unwrap();
    std::os::unix::fs::symlink("good.yaml", at("link.yaml")).unwrap();
    for (file, expected) in [
        (
            "pipe",
            "cannot be read: it is a pipe, and only regular files are read",
        ),
        ("", "cannot be read: it is a directory"),
        ("large.yaml", "cannot be read: it is larger than 1 MiB"),
        ("missing.yaml", "cannot be read: No such file"),
    ] {
        let (code, said) = check(&at(file));
        assert_eq!(code, Some(2), "{file}: {said}");
        assert!(said.contains(expected), "{file}: {said}");
    }
    assert_eq!(check(Path::new("/dev/zero")).0, Some(2));
    assert_eq!(check(&at("link.yaml")).0, Some(0));
    // Process substitution is a pipe.
    let mut shell = Command::new("bash");
    let command = format!(
        "{} check --config <(cat \"$0\")",
        env!("CARGO_BIN_EXE_bursar")
    );
    shell.args(["-c", &command]).arg(at("good.yaml"));
    let (code, said) = output(shell);
    assert!(code == Some(2) && said.contains("it is a pipe"), "{said}");
}

#[test]
fn text_that_would_take_a_parser_long_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    let laughs = |levels: usize| {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..levels {
            let before = format!("*a{}, ", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        text
    };
    for (name, text) in [
        ("lists", "[".repeat(100_000)),
        ("a mebibyte of lists", "[".repeat(1 << 20)),
        ("closed lists", "[".repeat(100_000) + &"]".repeat(100_000)),
        ("mappings", "{a: ".repeat(100_000)),
        ("blocks", "- ".repeat(100_000)),
        ("keys", "? ".repeat(100_000)),
        ("mixed", "[{".repeat(50_000)),
        ("comments between", "[ #]\n".repeat(50_000)),
        ("a nested value", format!("a: {}", "[".repeat(100_000))),
        ("aliases", laughs(20)),
        ("anchors", "&a ".repeat(100_000)),
        ("tags", "!".repeat(100_000)),
        ("one long word", "x".repeat(1 << 20)),
        ("one long key", format!("{}: 1", "k".repeat(900_000))),
        ("quotes", "\"".repeat(100_000)),
        (
            "many keys",
            (0..60_000)
                .map(|number| format!("k{number}: 1\n"))
                .collect(),
        ),
        ("open lists on lines", "[\n".repeat(100_000)),
        ("commas", format!("[{}]", ",".repeat(100_000))),
    ] {
        std::fs::write(&file, text).unwrap();
        let (code, said) = check(&file);
        assert_eq!(code, Some(2), "{name}: {said:.300}");
    }
}

/// A file that is mounted; unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    /// None where mounting is not permitted; the test is skipped then, unless everything is required.
    fn file(from: &Path, to: &Path) -> Option<Self> {
        let mount = Command::new("mount")
            .arg("--bind")
            .args([from, to])
            .output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        let is_required = std::env::var_os("BURSAR_REQUIRE_PEERS").is_some();
        assert!(is_mounted || !is_required, "mounting is not permitted");
        is_mounted.then(|| Self(to.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test]
async fn a_reload_warns_of_a_mounted_file_that_was_replaced_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let token = "0123456789-admin-token";
    std::fs::write(
        at("host.yaml"),
        with_ports(&format!("admin_token: {token}\n{}", yaml())),
    )
    .unwrap();
    std::fs::write(at("mounted.yaml"), "").unwrap();
    let Some(mounted) = Mounted::file(&at("host.yaml"), &at("mounted.yaml")) else {
        return;
    };
    let program = Launch::default().run(&mounted.0).await;
    let admin = program.admin.to_string();
    let reload = ["reload", "--admin", &admin];
    let environment = [("BURSAR_ADMIN_TOKEN", token)];
    let reload = async || run_in(directory.path(), &reload, &environment).await;
    let warning =
        "mounted.yaml was replaced, and what is mounted is the old one; mount its directory";
    let said = reload().await;
    assert!(
        said.code == Some(0) && !said.error.contains(warning),
        "{said:?}"
    );
    std::fs::write(at("next.yaml"), "").unwrap();
    std::fs::rename(at("next.yaml"), at("host.yaml")).unwrap();
    let said = reload().await;
    assert!(
        said.code == Some(0) && said.error.contains(warning),
        "{said:?}"
    );
    eventually(|| async { program.logged().contains(warning) }).await;
}

#[tokio::test]
async fn a_reload_that_meets_a_pipe_is_rejected_and_the_next_one_goes_through() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("id"), "one").unwrap();
    let text = yaml().replace("acme-id", "${file:id}");
    let program = Program::start_in(directory, &text, "info").await;
    let id = program.directory().join("id");
    let reloads = async |outcome| {
        let scrape = Scrape::of(program.admin).await;
        scrape.value("bursar_config_reloads_total", &[("outcome", outcome)])
    };
    std::fs::remove_file(&id).unwrap();
    pipe(&id);
    program.signal("HUP").await;
    eventually(|| async { reloads("rejected").await >= 1.0 }).await;
    let status = program.json("/status").await;
    let problem = status["last_reload"]["problems"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(problem.contains("it is a pipe"), "{problem}");
    std::fs::remove_file(&id).unwrap();
    std::fs::write(&id, "two").unwrap();
    program.signal("HUP").await;
    eventually(|| async { reloads("ok").await >= 1.0 }).await;
}
