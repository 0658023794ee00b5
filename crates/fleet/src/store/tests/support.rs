//! Real servers on free ports, and stores that use them.

use std::process::{Child, Command, Stdio};

use bursar_testkit::{free_port, listening_at, soon};
use tempfile::TempDir;

use super::super::*;
use bursar_base::secret::Secret;

/// A Redis of its own; killed when dropped.
pub(super) struct Server {
    pub(super) port: u16,
    program: &'static str,
    directory: TempDir,
    config: Vec<String>,
    child: Option<Child>,
}

/// None: there is no such program here.
pub(super) fn is_there(program: &str) -> bool {
    let mut version = Command::new(program);
    version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let is_there = version.status().is_ok_and(|status| status.success());
    assert!(
        is_there || std::env::var_os("CI").is_none(),
        "{program} is missing"
    );
    is_there
}

impl Server {
    /// Starts one with these lines of configuration.
    pub(super) async fn start(config: &[&str]) -> Option<Self> {
        Self::start_at(free_port(), config).await
    }

    pub(super) async fn start_at(port: u16, config: &[&str]) -> Option<Self> {
        let lines = ["save \"\"", "bind 127.0.0.1", "protected-mode no"];
        let mut config: Vec<String> = lines
            .iter()
            .chain(config)
            .map(|&line| line.to_owned())
            .collect();
        if !config.iter().any(|line| line.starts_with("tls-port")) {
            config.push(format!("port {port}"));
        }
        Self::start_as("redis-server", port, config).await
    }

    pub(super) async fn start_as(
        program: &'static str,
        port: u16,
        config: Vec<String>,
    ) -> Option<Self> {
        if !is_there(program) {
            return None;
        }
        let mut server = Self {
            port,
            program,
            directory: tempfile::tempdir().unwrap(),
            config,
            child: None,
        };
        server.run().await;
        Some(server)
    }

    /// Starts it, again.
    pub(super) async fn run(&mut self) {
        let file = self.directory.path().join("server.conf");
        let mut text = self.config.join("\n");
        text.push_str(&format!("\ndir {}\n", self.directory.path().display()));
        if !file.exists() {
            std::fs::write(&file, text).unwrap();
        }
        let mut command = Command::new(self.program);
        command
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        listening_at(self.port).await;
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, name: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args(["-s", name, &process]).status();
        assert!(status.unwrap().success());
    }

    /// What `redis-cli` prints for that, as the default user.
    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) fn url(port: u16) -> StoreUrl {
    StoreUrl {
        host: "127.0.0.1".into(),
        port,
        tls: false,
        username: None,
        password: None,
        database: 0,
    }
}

pub(super) fn with_user(port: u16, username: &str, password: &str) -> StoreUrl {
    StoreUrl {
        username: Some(Secret::new(username.to_owned())),
        password: Some(Secret::new(password.to_owned())),
        ..url(port)
    }
}

pub(super) const CHANNEL: &str = "bursar:test:tokens";

pub(super) fn settings(address: StoreAddress) -> Settings {
    Settings {
        address,
        tls: None,
        channels: vec![CHANNEL.to_owned(), "bursar:test:freeze".to_owned()],
        probe_key: "bursar:test:probe".to_owned(),
        up: IntGauge::new("up", "up").unwrap(),
    }
}

pub(super) fn single(url: StoreUrl) -> Settings {
    settings(StoreAddress::Single(url))
}

pub(super) fn start(settings: Settings) -> (Store, Events) {
    Store::start(settings).unwrap()
}

/// Waits until that happens; what else does is skipped.
pub(super) async fn until(events: &mut Events, wanted: &Event) {
    let found = async {
        while let Some(event) = events.next().await {
            if event == *wanted {
                return;
            }
        }
        panic!("the store has ended");
    };
    soon(found).await;
}

/// Waits until it is down for that reason.
pub(super) async fn down_for(store: &Store, kind: Kind) {
    let deadline = Instant::now() + bursar_testkit::PATIENCE;
    while store.state().down != Some(kind) {
        assert!(
            Instant::now() < deadline,
            "{:?}, not {kind:?}",
            store.state()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Something that changes the store and says how often.
pub(super) fn count() -> Script {
    Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])")
}

pub(super) async fn counted(store: &Store, by: i64) -> Result<Value, StoreError> {
    store
        .run(&count(), &["bursar:test:{a}:count"], &[by.into()])
        .await
}
