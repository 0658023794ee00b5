//! The proxy in process, from YAML text.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, Once};

use bursar::server::Server;
use bursar::server::reload::Source;
use bursar::server::worker::Workers;
use bursar_config::{Config, Names};
use bursar_telemetry::access_log::{AccessLog, Format, Writing};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use super::program::Program;

use super::metrics::{Scrape, admin};
use super::program::with_ports;
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
        let stopping = async { drop(stopping.await) };
        let running = tokio::spawn(server.run(stopping, std::future::pending()));
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
