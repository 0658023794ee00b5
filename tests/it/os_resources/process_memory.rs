//! Memory of the process: the user that it runs as cannot look into it, unless the configuration says so.

use std::path::Path;

use tokio::process::Command;

use crate::support::acme;
use crate::support::metrics::{Scrape, admin};
use crate::support::proxy::Program;

/// A user without rights.
const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups";

/// What that user gets to read; None where it may not.
async fn read_as_nobody(path: &Path) -> Option<Vec<u8>> {
    let command = format!("{NOBODY} cat \"$1\"");
    let read = Command::new("sh")
        .args(["-c", &command, "sh"])
        .arg(path)
        .output();
    let read = read.await.unwrap();
    read.status.success().then_some(read.stdout)
}

/// The program as that user; None where it cannot be started so, which is a failure only where everything is required.
async fn start(yaml: &str) -> Option<Program> {
    let probe = format!("{NOBODY} {} --version", env!("CARGO_BIN_EXE_bursar"));
    let probed = Command::new("sh").args(["-c", &probe]).output().await;
    let may = probed.is_ok_and(|output| output.status.success());
    let is_required = std::env::var_os("BURSAR_REQUIRE_PEERS").is_some();
    assert!(may || !is_required, "it cannot be started as another user");
    if !may {
        return None;
    }
    let command = format!("chmod -R a+rX \"$(dirname \"$4\")\"; exec {NOBODY} \"$@\"");
    Some(Program::start_by(&command, yaml).await)
}

fn yaml() -> String {
    acme("http://127.0.0.1:1", "http://127.0.0.1:1/token", "")
}

#[tokio::test]
async fn its_own_user_cannot_look_into_it_and_it_works_all_the_same() {
    let Some(program) = start(&yaml()).await else {
        return;
    };
    for file in ["environ", "maps", "mem"] {
        assert_eq!(read_as_nobody(&program.proc(file)).await, None, "{file}");
    }
    let limits = std::fs::read_to_string(program.proc("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    assert_eq!(core.unwrap().split_whitespace().nth(4), Some("0"));
    // What the process reads about itself belongs to root now.
    let scrape = Scrape::of(program.admin).await;
    for metric in [
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_threads",
    ] {
        assert!(scrape.value(metric, &[]) > 0.0, "{metric}");
    }
    assert_eq!(admin(program.admin, "/healthz").await.status, 200);
}

#[tokio::test]
async fn the_configuration_can_open_it_to_its_user() {
    let yaml = format!("process: {{dumpable: true}}\n{}", yaml());
    let Some(program) = start(&yaml).await else {
        return;
    };
    let maps = read_as_nobody(&program.proc("maps")).await;
    assert!(maps.is_some_and(|maps| !maps.is_empty()));
}
