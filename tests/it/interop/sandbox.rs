//! The sandbox as a new user meets it: what it prints is run by a shell and a real curl, what it leaves by the program.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use super::*;
use crate::support::program::{Launch, Program, path, run_in};

const ANY: &str = "127.0.0.1:0";

/// `bursar sandbox` as a child.
pub(super) struct Sandbox {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    /// All that it printed.
    welcome: Vec<String>,
    _child: Child,
}

impl Sandbox {
    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(options: &[&str]) -> Self {
        let listen: &[_] = match options.contains(&"--listen") {
            true => &[],
            false => &["--listen", ANY],
        };
        let arguments = [&["sandbox", "--admin", ANY], listen].concat();
        let program = [env!("CARGO_BIN_EXE_bursar")];
        let mut child = command(&[&program, &arguments[..], options].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut welcome = Vec::new();
        while !welcome
            .iter()
            .any(|line: &String| line.ends_with("/status"))
        {
            let line = within("the sandbox", lines.next_line()).await.unwrap();
            welcome.push(line.unwrap());
        }
        let address = |before: &str| -> SocketAddr {
            let mut lines = welcome.iter();
            let (_, text) = lines.find_map(|line| line.split_once(before)).unwrap();
            let text = text.split('/').next().unwrap();
            text.trim_end_matches('.').parse().unwrap()
        };
        Self {
            listen: address("in front of them at "),
            admin: address("-s http://"),
            welcome,
            _child: child,
        }
    }

    /// Where a provider revokes all tokens, and the authority that vouches for it, as the sandbox prints them.
    pub(super) fn revocation(&self, title: &str) -> (String, String) {
        let line = self.line(&format!("# Revoke every token at {title}"));
        let url = line.split(' ').next_back().unwrap();
        let (_, authority) = line.split_once("--cacert ").unwrap();
        let authority = authority.split(' ').next().unwrap();
        (url.to_owned(), authority.trim_matches('\'').to_owned())
    }

    /// The line below a heading.
    fn line(&self, heading: &str) -> &str {
        let place = self
            .welcome
            .iter()
            .position(|line| line.starts_with(heading));
        &self.welcome[place.unwrap() + 1]
    }

    /// What comes of a printed line in a shell.
    async fn run(&self, heading: &str) -> String {
        output(&["sh", "-c", self.line(heading)]).await
    }
}

/// `NAME=VALUE` lines.
fn environment(directory: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(directory.join("sandbox.env")).unwrap();
    let lines = text.lines().map(|line| line.split_once('=').unwrap());
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A Bursar that runs by what the sandbox left, on free ports.
async fn left_behind(directory: &Path, environment: &HashMap<String, String>) -> Program {
    let file = directory.join("proxy.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((key @ ("listen" | "admin"), _)) => format!("{key}: {ANY}\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let mut program = Command::new(path());
    program.envs(environment);
    Launch::by(program).run(&file).await
}

#[tokio::test]
async fn every_line_that_the_sandbox_prints_works_as_it_stands() {
    if !Needs::Curl.are_met().await {
        return;
    }
    let sandbox = Sandbox::start().await;
    let lines = sandbox
        .welcome
        .iter()
        .filter(|line| line.starts_with("curl"));
    let mut tried = 0;
    for line in lines {
        let answer = output(&["sh", "-c", &format!("set -e; {line}")]).await;
        // Neither Bursar nor a provider refuses it.
        assert!(!answer.contains("\"reason\""), "{line}: {answer}");
        assert!(!answer.contains("\"error\":"), "{line}: {answer}");
        assert!(!line.contains('\\'), "{line}");
        assert!(!answer.is_empty(), "{line}");
        tried += 1;
    }
    assert_eq!(tried, 15, "{:#?}", sandbox.welcome);
    // The tokens were revoked in between, and nobody noticed.
    let scrape = crate::support::metrics::Scrape::of(sandbox.admin).await;
    let absorbed = [("provider", "payu"), ("result", "absorbed")];
    assert_eq!(scrape.value("bursar_unauthorized_total", &absorbed), 1.0);
}

#[tokio::test]
async fn what_a_sandbox_leaves_is_good_runs_and_is_kept_by_the_next_one() {
    if !Needs::Curl.are_met().await {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("left");
    let options = ["--callers", "--journal", "--write", place.to_str().unwrap()];
    let sandbox = Sandbox::start_with(&options).await;
    let variables = environment(&place);
    let pairs: Vec<_> = variables.iter().map(|(a, b)| (&**a, &**b)).collect();
    let said = run_in(&place, &["check", "--strict", "--live"], &pairs).await;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");

    let program = left_behind(&place, &variables).await;
    let proxy = format!(
        "http://shop:{}@{}",
        variables["SHOP_PASSWORD"], program.listen
    );
    let url = "http://uatoneapi.payu.in/payment-links";
    let paid = output(&["curl", "-sSx", &proxy, url, "--json", "{\"subAmount\":10}"]).await;
    assert!(paid.contains("paymentLink generated"), "{paid}");
    assert!(place.join("journal").is_dir());

    let own = "listen: 127.0.0.1:1 # changed by hand\n";
    std::fs::write(place.join("proxy.yaml"), own).unwrap();
    drop(sandbox);
    Sandbox::start_with(&options).await;
    let kept = std::fs::read_to_string(place.join("proxy.yaml")).unwrap();
    assert_eq!(kept, own);
    assert_ne!(environment(&place), variables);
}

#[tokio::test]
async fn a_sandbox_writes_into_no_directory_with_an_authority_or_a_configuration_of_somebody_else()
{
    for name in ["ca.pem", "proxy.yaml"] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), "mine").unwrap();
        let options = ["--listen", ANY, "--admin", ANY, "--write", "."];
        let arguments = [&["sandbox"], &options[..]].concat();
        let said = run_in(directory.path(), &arguments, &[]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.error.contains("another directory"), "{said:?}");
        let files = std::fs::read_dir(directory.path()).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, [name]);
        let kept = std::fs::read_to_string(directory.path().join(name));
        assert_eq!(kept.unwrap(), "mine");
    }
}

#[tokio::test]
async fn a_sandbox_that_finds_its_port_taken_leaves_a_directory_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("left");
    let at = place.to_str().unwrap();
    let taken = std::net::TcpListener::bind(ANY).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let in_vain = ["sandbox", "--listen", &taken, "--admin", ANY, "--write", at];
    let said = run_in(directory.path(), &in_vain, &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    // Others may be left by one that runs.
    let options = ["--listen", "[::1]:0", "--callers", "--write", at];
    let first = match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => Sandbox::start_with(&options).await,
        Err(_without_ipv6) => Sandbox::start_with(&options[2..]).await,
    };
    let certificate = || std::fs::read(place.join("ca.pem")).unwrap();
    let before = (certificate(), environment(&place));
    // On other ports, too.
    let beside = ["sandbox", "--listen", ANY, "--admin", ANY, "--write", at];
    let said = run_in(directory.path(), &beside, &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.error.contains("another sandbox writes to"), "{said:?}");
    assert!(before == (certificate(), environment(&place)));
    drop(first);
    // What is kept may ask for a caller's password.
    let _next = Sandbox::start_with(&["--write", at]).await;
    let variables = environment(&place);
    let pairs: Vec<_> = variables.iter().map(|(a, b)| (&**a, &**b)).collect();
    let said = run_in(&place, &["check", "--strict"], &pairs).await;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{said:?}");
}

#[tokio::test]
async fn a_sandbox_whose_tokens_would_have_ended_before_they_are_used_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    for time in ["0s", "999ms"] {
        let arguments = ["sandbox", "--listen", ANY, "--admin", ANY];
        let arguments = [&arguments[..], &["--token-lifetime", time]].concat();
        let said = run_in(directory.path(), &arguments, &[]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.error.contains("1s at least"), "{said:?}");
    }
}

#[tokio::test]
async fn of_an_authority_with_one_file_a_sandbox_says_which_is_missing_and_an_empty_directory_gets_both()
 {
    for (left, missing) in [("ca.pem", "ca.key"), ("ca.key", "ca.pem")] {
        let directory = tempfile::tempdir().unwrap();
        let intercept = directory.path().join("intercept");
        std::fs::create_dir(&intercept).unwrap();
        let options = [
            "--listen",
            ANY,
            "--admin",
            ANY,
            "--intercept",
            "--write",
            ".",
        ];
        std::fs::write(intercept.join(left), "mine").unwrap();
        let arguments = [&["sandbox"], &options[..]].concat();
        let said = run_in(directory.path(), &arguments, &[]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let expected = format!("intercept/{missing}; put that back");
        assert!(said.error.contains(&expected), "{said:?}");
        let kept = std::fs::read_to_string(intercept.join(left));
        assert_eq!(kept.unwrap(), "mine");
        std::fs::remove_file(intercept.join(left)).unwrap();
        let at = directory.path().to_str().unwrap();
        let _sandbox = Sandbox::start_with(&["--intercept", "--write", at]).await;
        for name in [left, missing] {
            assert!(intercept.join(name).is_file(), "{name}");
        }
        let names = std::fs::read_dir(directory.path()).unwrap();
        assert_eq!(names.count(), 4, "no directory on the way is left");
    }
}

#[tokio::test]
async fn callers_a_journal_and_interception_work_by_the_lines_that_a_sandbox_prints() {
    if !Needs::Curl.are_met().await {
        return;
    }
    let sandbox = Sandbox::start_with(&["--callers", "--journal", "--intercept"]).await;
    let proxy = format!("http://{}", sandbox.listen);
    let url = "http://public-api.demo.alternativepayments.io/invoices";
    let nobody = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-x"];
    assert_eq!(
        output(&[&nobody, &[&*proxy, url][..]].concat()).await,
        "407"
    );
    let invoices = sandbox.run("# Alternative Payments: list invoices").await;
    assert!(invoices.contains("\"provider\":\"alternative_payments\""));
    let over_tls = sandbox.run("# PayU by an https:// URL").await;
    assert!(over_tls.contains("paymentLink generated"), "{over_tls}");
    let frozen = sandbox.run("# Refuse what moves money to PayU").await;
    assert!(frozen.contains("payu is frozen"), "{frozen}");
    let outcomes = sandbox.run("# Payments in doubt").await;
    assert!(outcomes.contains("No request is in doubt"), "{outcomes}");
    let metrics = sandbox.run("# What the tokens do").await;
    assert!(metrics.lines().count() >= 3, "{metrics}");
    assert!(
        !metrics.lines().any(|line| line.ends_with(" 0")),
        "{metrics}"
    );
}
