//! The proxy: in process from YAML text, or the real program as a child.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, Once};

use bursar::server::Server;
use bursar::server::reload::Source;
use bursar::server::worker::Workers;
use bursar_config::{Config, Names};
use bursar_telemetry::access_log::{AccessLog, Format, Writing};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::metrics::{Scrape, admin};
use super::{eventually, soon};

/// The proxy in process. Dropping it begins to drain it; the rest ends with the test's runtime.
pub(crate) struct Proxy {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    lines: Lines,
    _writing: Writing,
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Proxy {
    /// Starts it on free ports.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_in(Path::new(""), yaml).await
    }

    /// The same; relative files in the text are in `directory`.
    pub(crate) async fn start_in(directory: &Path, yaml: &str) -> Self {
        Self::start_naming(directory, yaml, Names::System).await
    }

    /// The same from a file in `directory`, which is read again when it or what it names changes.
    pub(crate) async fn start_following(directory: &Path, yaml: &str) -> Self {
        let path = directory.join("proxy.yaml");
        std::fs::write(&path, with_ports(yaml)).unwrap();
        let asked = Arc::default();
        let source = Source { path, asked };
        Self::start_from(directory, yaml, Names::System, Some(source)).await
    }

    /// The same as [`Self::start_in`]; `names` says where the servers are.
    pub(crate) async fn start_naming(directory: &Path, yaml: &str, names: Names) -> Self {
        Self::start_from(directory, yaml, names, None).await
    }

    async fn start_from(
        directory: &Path,
        yaml: &str,
        names: Names,
        source: Option<Source>,
    ) -> Self {
        // Access lines are only written while somebody listens at `info`.
        static LISTENING: Once = Once::new();
        LISTENING.call_once(|| {
            tracing_subscriber::fmt()
                .with_writer(io::sink)
                .try_init()
                .unwrap();
        });
        let yaml = with_ports(yaml);
        let config = match &source {
            Some(source) => Config::load(&source.path),
            None => Config::parse(&yaml, directory),
        };
        let mut config = config.unwrap_or_else(|problems| panic!("{problems:#?}\n{yaml}"));
        Arc::get_mut(&mut config.egress).unwrap().names = names;
        let lines = Lines::default();
        let (log, writing) = AccessLog::start(lines.clone(), Format::Json);
        let server = Server::bind(&config, log, Workers::here()).await.unwrap();
        let (listen, admin) = (
            server.listen_address().unwrap(),
            server.admin_address().unwrap(),
        );
        let server = match source {
            Some(source) => server.following(source),
            None => server,
        };
        let (shutdown, stopping) = oneshot::channel();
        let running = tokio::spawn(server.run(async {
            drop(stopping.await);
        }));
        Self {
            listen,
            admin,
            shutdown: Some(shutdown),
            running,
            lines,
            _writing: writing,
        }
    }

    /// Begins to drain.
    pub(crate) fn shut_down(&mut self) {
        self.shutdown.take();
    }

    /// Waits until it has drained.
    pub(crate) async fn drained(&mut self) {
        soon(&mut self.running).await.unwrap();
    }

    pub(crate) async fn scrape(&self) -> Scrape {
        Scrape::of(self.admin).await
    }

    /// A metric's value now.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape().await.value(name, labels)
    }

    /// Waits until a metric has that value.
    pub(crate) async fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(|| async { self.scrape().await.get(name, labels) == Some(value) }).await;
    }

    /// The body of `/readyz` or `/status`, and the status.
    pub(crate) async fn json(&self, path: &str) -> (u16, Value) {
        let reply = admin(self.admin, path).await;
        let body = serde_json::from_slice(&reply.body).unwrap();
        (reply.status.as_u16(), body)
    }

    /// Waits until that many access lines are written, and returns them.
    pub(crate) async fn access_lines(&self, count: usize) -> Vec<Value> {
        eventually(|| async { self.written().len() >= count }).await;
        let lines = self.written();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    fn written(&self) -> Vec<Value> {
        let text = self.lines.0.lock().unwrap().clone();
        let text = String::from_utf8(text).unwrap();
        // A line that is being written has no end yet.
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// `bursar run` as a child process; killed where it is still alive at the end.
pub(crate) struct Program {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
    directory: TempDir,
}

/// On free ports, unless the text says where.
fn with_ports(yaml: &str) -> String {
    if yaml.starts_with("listen: ") {
        return yaml.to_owned();
    }
    format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{yaml}")
}

impl Program {
    /// Starts it with a `RUST_LOG` on free ports, and waits until it listens.
    pub(crate) async fn start(yaml: &str, rust_log: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), yaml, rust_log).await
    }

    /// The same; relative files in the text are in `directory`.
    pub(crate) async fn start_in(directory: TempDir, yaml: &str, rust_log: &str) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_bursar"));
        Self::start_as(program, directory, yaml, rust_log).await
    }

    /// The same with further variables in its environment.
    pub(crate) async fn start_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_bursar"));
        program.envs(environment.iter().copied());
        Self::start_as(program, tempfile::tempdir().unwrap(), yaml, "info").await
    }

    /// The same with so many file descriptors at most.
    pub(crate) async fn start_with_files(files: u32, yaml: &str, rust_log: &str) -> Self {
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n {files} && exec \"$@\"");
        shell.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_bursar")]);
        Self::start_as(shell, tempfile::tempdir().unwrap(), yaml, rust_log).await
    }

    /// The same, started by that command of a shell, in which `"$@"` stands for it.
    pub(crate) async fn start_by(command: &str, yaml: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", command, "sh", env!("CARGO_BIN_EXE_bursar")]);
        Self::start_as(shell, tempfile::tempdir().unwrap(), yaml, "info").await
    }

    async fn start_as(
        mut program: Command,
        directory: TempDir,
        yaml: &str,
        rust_log: &str,
    ) -> Self {
        let file = directory.path().join("proxy.yaml");
        std::fs::write(&file, with_ports(yaml)).unwrap();
        let mut child = program
            .args(["run", "--config"])
            .arg(&file)
            .env("RUST_LOG", rust_log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log: Arc<Mutex<String>> = Arc::default();
        let all = log.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut all = all.lock().unwrap();
                all.push_str(&line);
                all.push('\n');
            }
        });
        let addresses = || {
            let log = log.lock().unwrap();
            let lines = log.lines();
            let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let line = lines.find(|line| line["message"] == "listening")?;
            let address = |key: &str| line[key].as_str()?.parse::<SocketAddr>().ok();
            address("listen").zip(address("admin"))
        };
        eventually(|| async { addresses().is_some() }).await;
        let (listen, admin) = addresses().unwrap();
        Self {
            listen,
            admin,
            child,
            log,
            reading,
            directory,
        }
    }

    /// Where its configuration is.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces its configuration in one step.
    pub(crate) fn rewrite(&self, yaml: &str) {
        let next = self.directory().join("proxy.yaml.next");
        std::fs::write(&next, with_ports(yaml)).unwrap();
        std::fs::rename(next, self.directory().join("proxy.yaml")).unwrap();
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let threads =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id().unwrap())).unwrap();
        // One may have ended meanwhile.
        let name = |thread: io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
        };
        let names = threads.filter_map(name);
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// A file about it in `/proc`.
    pub(crate) fn proc(&self, file: &str) -> std::path::PathBuf {
        Path::new("/proc")
            .join(self.child.id().unwrap().to_string())
            .join(file)
    }

    /// How many file descriptors are open; it has to be dumpable for that.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Lets it have no more file descriptors than those from now on.
    pub(crate) async fn limit_files(&self, most: usize) {
        let id = self.child.id().unwrap().to_string();
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &id, &format!("--nofile={most}:")]);
        assert!(prlimit.status().await.unwrap().success());
    }

    /// What it has logged so far.
    pub(crate) fn logged(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The body of `/readyz` or `/status`.
    pub(crate) async fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&admin(self.admin, path).await.body).unwrap()
    }

    /// Has it read its configuration again, and waits until it has.
    pub(crate) async fn reload(&self) {
        let count = async || {
            let scrape = Scrape::of(self.admin).await;
            scrape.value("bursar_config_reloads_total", &[])
        };
        let before = count().await;
        self.signal("HUP").await;
        eventually(|| async { count().await > before }).await;
    }

    /// Sends a signal, e.g. `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.await.unwrap().success());
    }

    /// Waits for its end: the exit status, and all that it logged.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        self.wait().await
    }

    /// The same.
    pub(crate) async fn wait(&mut self) -> (Option<i32>, String) {
        let status = soon(self.child.wait()).await.unwrap();
        soon(&mut self.reading).await.unwrap();
        let log = self.log.lock().unwrap().clone();
        (status.code(), log)
    }
}
