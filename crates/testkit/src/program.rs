//! The real program as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use crate::metrics::{Scrape, admin};
use crate::process::Process;
use crate::{PATIENCE, becomes_true, eventually};

/// `bursar run` as a child process; killed where it is still alive at the end.
pub struct Program {
    /// Where it takes requests.
    pub listen: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    /// What the system says of it.
    pub process: Process,
    /// To be killed by whoever holds it.
    pub child: Arc<Mutex<Child>>,
    log: Arc<Mutex<Log>>,
    reading: JoinHandle<()>,
    patience: Duration,
    /// Where its configuration is, if it was made for it.
    directory: Option<TempDir>,
}

/// What it has logged.
#[derive(Default)]
struct Log {
    addresses: Option<(SocketAddr, SocketAddr)>,
    kept: String,
}

/// The program that cargo has built: cargo says where it is, and it is beside the test that runs.
///
/// # Panics
/// Where this program has no place.
#[must_use]
pub fn path() -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().unwrap();
        let directory = own.parent().and_then(Path::parent);
        directory.unwrap().join("bursar")
    };
    std::env::var_os("CARGO_BIN_EXE_bursar").map_or_else(beside, PathBuf::from)
}

/// What a command of the program has said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub code: Option<i32>,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub error: String,
}

/// Runs a command of the program to its end, in that directory and with further variables in its environment.
pub async fn run_in(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    run(Command::new(path()), directory, arguments, environment).await
}

/// The same by that command of a shell, in which `"$@"` stands for the program and its arguments.
pub async fn run_by(
    command: &str,
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Said {
    run(shell(command), directory, arguments, environment).await
}

/// Runs a command to a program, as its user `ann` who has the admin token.
pub async fn run_by_ann(program: &Program, token: &str, arguments: &[&str]) -> Said {
    let admin = program.admin.to_string();
    let arguments = [arguments, &["--admin", &admin]].concat();
    let environment = [
        ("BURSAR_ADMIN_TOKEN", token),
        ("USER", "ann"),
        ("SUDO_USER", ""),
    ];
    run_in(program.directory(), &arguments, &environment).await
}

async fn run(
    mut command: Command,
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Said {
    command
        .args(arguments)
        .current_dir(directory)
        .env_remove("BURSAR_CONFIG")
        .env_remove("BURSAR_ADMIN_TOKEN")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("it does not end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        error: text(output.stderr),
    }
}

/// The configuration on free ports, unless it says where.
#[must_use]
pub fn with_ports(yaml: &str) -> String {
    if yaml.starts_with("listen: ") {
        return yaml.to_owned();
    }
    format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{yaml}")
}

/// Says of a line of the log whether it is kept.
type Keep = Box<dyn FnMut(&str) -> bool + Send>;

/// How the program is started.
pub struct Launch {
    command: Command,
    rust_log: String,
    patience: Duration,
    keep: Keep,
}

impl Default for Launch {
    fn default() -> Self {
        Self::by(Command::new(path()))
    }
}

impl Launch {
    /// By another command, to which the arguments of the program are added.
    #[must_use]
    pub fn by(command: Command) -> Self {
        Self {
            command,
            rust_log: "info".to_owned(),
            patience: PATIENCE,
            keep: Box::new(|_| true),
        }
    }

    /// With that `RUST_LOG`.
    #[must_use]
    pub fn rust_log(mut self, rust_log: &str) -> Self {
        rust_log.clone_into(&mut self.rust_log);
        self
    }

    /// With so much time to begin and to end.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Shows every line of the log, and keeps those for which that is true.
    #[must_use]
    pub fn keeping(mut self, keep: impl FnMut(&str) -> bool + Send + 'static) -> Self {
        self.keep = Box::new(keep);
        self
    }

    /// Starts it, and waits until it listens.
    pub async fn run(mut self, config: &Path) -> Program {
        let mut child = self
            .command
            .args(["run", "--config"])
            .arg(config)
            .env("RUST_LOG", self.rust_log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let process = Process::new(child.id().unwrap());
        let log: Arc<Mutex<Log>> = Arc::default();
        let stderr = child.stderr.take().unwrap();
        let reading = tokio::spawn(read(stderr, log.clone(), self.keep));
        let addresses = || log.lock().unwrap().addresses;
        let mut has_ended = false;
        let listens = becomes_true(self.patience, async || {
            has_ended = child.try_wait().is_ok_and(|status| status.is_some());
            addresses().is_some() || has_ended
        });
        assert!(
            listens.await && !has_ended,
            "it does not start: {}",
            log.lock().unwrap().kept
        );
        let (listen, admin) = addresses().unwrap();
        Program {
            listen,
            admin,
            process,
            child: Arc::new(Mutex::new(child)),
            log,
            reading,
            patience: self.patience,
            directory: None,
        }
    }

    /// The same with that configuration on free ports; relative files in it are in `directory`.
    pub async fn run_in(self, directory: TempDir, yaml: &str) -> Program {
        let file = directory.path().join("proxy.yaml");
        std::fs::write(&file, with_ports(yaml)).unwrap();
        let program = self.run(&file).await;
        Program {
            directory: Some(directory),
            ..program
        }
    }
}

async fn read(stderr: ChildStderr, log: Arc<Mutex<Log>>, mut keep: Keep) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let is_kept = keep(&line);
        let mut log = log.lock().unwrap();
        if log.addresses.is_none() && line.contains("\"listening\"") {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            let address = |key: &str| line[key].as_str()?.parse().ok();
            log.addresses = address("listen").zip(address("admin"));
        }
        if is_kept {
            log.kept.push_str(&line);
            log.kept.push('\n');
        }
    }
}

impl Program {
    /// Starts it with a `RUST_LOG` on free ports, and waits until it listens.
    pub async fn start(yaml: &str, rust_log: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), yaml, rust_log).await
    }

    /// The same; relative files in the text are in `directory`.
    pub async fn start_in(directory: TempDir, yaml: &str, rust_log: &str) -> Self {
        let launch = Launch::default().rust_log(rust_log);
        launch.run_in(directory, yaml).await
    }

    /// The same with further variables in its environment.
    pub async fn start_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let mut program = Command::new(path());
        program.envs(environment.iter().copied());
        let launch = Launch::by(program);
        launch.run_in(tempfile::tempdir().unwrap(), yaml).await
    }

    /// The same with at most that many file descriptors.
    pub async fn start_with_files(files: u32, yaml: &str, rust_log: &str) -> Self {
        let limited = format!("ulimit -n {files} && exec \"$@\"");
        let launch = Launch::by(shell(&limited)).rust_log(rust_log);
        launch.run_in(tempfile::tempdir().unwrap(), yaml).await
    }

    /// The same, started by that command of a shell, in which `"$@"` stands for it.
    pub async fn start_by(command: &str, yaml: &str) -> Self {
        let launch = Launch::by(shell(command));
        launch.run_in(tempfile::tempdir().unwrap(), yaml).await
    }

    /// Where its configuration is.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Replaces its configuration in one step.
    pub fn rewrite(&self, yaml: &str) {
        let next = self.directory().join("proxy.yaml.next");
        std::fs::write(&next, with_ports(yaml)).unwrap();
        std::fs::rename(next, self.directory().join("proxy.yaml")).unwrap();
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        self.process.threads()
    }

    /// A file about it in `/proc`.
    pub fn proc(&self, file: &str) -> PathBuf {
        self.process.file(file)
    }

    /// Lets it have no more file descriptors than those from now on.
    pub async fn limit_files(&self, most: usize) {
        let is_done = self.process.limit_files(&most.to_string()).await;
        assert!(is_done, "file descriptors cannot be limited");
    }

    /// Sends a signal, e.g. `TERM`.
    pub async fn signal(&self, name: &str) {
        self.process.signal(name).await;
    }

    /// How many file descriptors are open; it has to be dumpable for that.
    pub fn open_files(&self) -> usize {
        self.process.open_files().unwrap()
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        self.log.lock().unwrap().kept.clone()
    }

    /// The body of `/readyz` or `/status`.
    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&admin(self.admin, path).await.body).unwrap()
    }

    /// Has it read its configuration again, and waits until it has.
    pub async fn reload(&self) {
        let count = async || {
            let scrape = Scrape::of(self.admin).await;
            scrape.value("bursar_config_reloads_total", &[])
        };
        let before = count().await;
        self.process.signal("HUP").await;
        eventually(|| async { count().await > before }).await;
    }

    /// Waits for its end: the exit status, and all that it logged.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        self.wait().await
    }

    /// The same.
    pub async fn wait(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        let child = &self.child;
        becomes_true(self.patience, async || {
            status = child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        })
        .await;
        let status = status.expect("it does not end");
        let reading = tokio::time::timeout(self.patience, &mut self.reading);
        reading.await.expect("its log does not end").unwrap();
        (status.code(), self.logged())
    }
}

/// A shell that runs the command, in which `"$@"` stands for the program and its arguments.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command, "sh"]).arg(path());
    shell
}
