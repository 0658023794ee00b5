//! Reloads of the configuration: it is read again, whole or not at all.
//!
//! One task reads and replaces; everybody else takes what is in force from [`Live`], once for each request.
//! The task acts on SIGHUP, and when a file that the configuration was made of has other content than when
//! it was read. It reads the contents only where a file's stamps have changed since the last look.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::exchange::Live;
use bursar_config::{self as config, Config, Diagnostic, Files, Stamps};
use bursar_tls::server::Tls;

/// How often the files are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a file must have been left alone, so that one that is being written is not read half-way.
const SETTLED: Duration = Duration::from_millis(200);

/// How long looking at them may take.
const LOOKING: Duration = Duration::from_secs(5);
/// How long reading all of them may take. Each file has its own limit, which is shorter; this is for many that are slow.
const READING: Duration = Duration::from_secs(30);
/// How many may hang at a time; beyond that nothing is read until one of them ends.
const MAX_HANGING: usize = 4;

/// How often the files are read in a row, where they change meanwhile.
const MAX_READINGS: usize = 5;
/// And for how long, where reading them takes its time.
const READING_AGAIN: Duration = Duration::from_secs(2);

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its file.
    pub path: PathBuf,
    /// Told when it is to be read again, whether it has changed or not.
    pub asked: Arc<Notify>,
}

/// What cannot change while Bursar runs.
#[derive(Debug)]
pub struct Unchangeable {
    listen: SocketAddr,
    admin: SocketAddr,
    connections: usize,
    tunnels: usize,
    is_dumpable: bool,
    journal: Option<config::Journal>,
    /// None: there is no TLS on `listen`.
    tls: Option<Arc<Tls>>,
}

/// The task.
#[derive(Debug)]
pub struct Reloader {
    live: Arc<Live>,
    source: Source,
    fixed: Unchangeable,
    /// As they were when they were last read, for better or worse.
    files: Files,
    /// What the configuration in force was made of.
    in_force: Files,
    /// For what reads the configuration.
    permits: Arc<Semaphore>,
    /// For looking whether it has changed: one that hangs takes nothing from reloads.
    looks: Arc<Semaphore>,
    /// The last look did not end, which was said.
    is_look_hanging: bool,
}

/// Why nothing is known of the files.
#[derive(Debug)]
enum Stuck {
    /// Reading them went badly wrong, which was logged.
    Failed,
    /// It has not ended.
    Hangs,
    /// It has not ended too often before.
    NotTried,
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => formatter.write_str("could not be read; see the log"),
            Self::Hangs => write!(
                formatter,
                "and its files were not read within {} s; does a file system hang?",
                READING.as_secs()
            ),
            Self::NotTried => write!(
                formatter,
                "was not read, because {MAX_HANGING} earlier attempts have not ended; does a file system hang?"
            ),
        }
    }
}

impl Unchangeable {
    /// As the configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            listen: config.listen,
            admin: config.admin,
            connections: config.limits.connections,
            tunnels: config.limits.tunnels,
            is_dumpable: config.is_dumpable,
            journal: config.journal.clone(),
            tls: config.tls.clone(),
        }
    }

    /// TLS on `listen`.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// What another configuration would change of it.
    fn changed_by(&self, config: &Config) -> Vec<Diagnostic> {
        let changed = [
            ("listen", self.listen != config.listen),
            ("admin", self.admin != config.admin),
            ("tls", self.tls.is_some() != config.tls.is_some()),
            (
                "limits.connections",
                self.connections != config.limits.connections,
            ),
            ("journal", self.journal != config.journal),
            ("process", self.is_dumpable != config.is_dumpable),
            ("limits.tunnels", self.tunnels != config.limits.tunnels),
        ];
        let changed = changed.into_iter().filter(|(_, is_changed)| *is_changed);
        let problem = |(key, _): (&str, bool)| Diagnostic {
            path: key.to_owned(),
            line: None,
            message: "cannot change while Bursar runs; restart it, or change it back".to_owned(),
        };
        changed.map(problem).collect()
    }
}

impl Reloader {
    /// `files` are what the configuration in force was made of.
    #[must_use]
    pub fn new(live: Arc<Live>, source: Source, fixed: Unchangeable, files: Files) -> Self {
        Self {
            live,
            source,
            fixed,
            in_force: files.clone(),
            files,
            permits: Arc::new(Semaphore::new(MAX_HANGING)),
            looks: Arc::new(Semaphore::new(1)),
            is_look_hanging: false,
        }
    }

    /// Reloads whenever it is time, until it is dropped.
    pub async fn run(mut self) {
        let mut seen = None;
        loop {
            let asked = self.source.asked.clone();
            tokio::select! {
                () = asked.notified() => self.reload().await,
                looked = self.look_soon(seen.take()) => {
                    let Some((stamps, has_changed)) = looked else {
                        continue;
                    };
                    seen = Some(stamps);
                    if has_changed {
                        self.reload().await;
                    }
                }
            }
        }
    }

    /// Once it is time. May be given up at any time.
    async fn look_soon(&mut self, seen: Option<Stamps>) -> Option<(Stamps, bool)> {
        tokio::time::sleep(LOOK_AGAIN).await;
        let looked = self.look(seen).await;
        let is_hanging = matches!(looked, Err(Stuck::Hangs | Stuck::NotTried));
        if is_hanging != std::mem::replace(&mut self.is_look_hanging, is_hanging) {
            if is_hanging {
                tracing::error!(
                    "the configuration's files could not be looked at within {} s, and until they can be, changes are not \
                     noticed without SIGHUP; does a file system hang?",
                    LOOKING.as_secs()
                );
            } else {
                tracing::info!("the configuration's files can be looked at again");
            }
        }
        looked.ok().flatten()
    }

    /// The files' stamps, and whether a content has changed. None: they are being written.
    async fn look(&self, seen: Option<Stamps>) -> Result<Option<(Stamps, bool)>, Stuck> {
        let files = self.files.clone();
        let stamps = move || files.stamps_or_hang();
        let stamps = blocking(&self.looks, LOOKING, stamps).await?;
        if seen.as_ref() == Some(&stamps) {
            return Ok(Some((stamps, false)));
        }
        tokio::time::sleep(SETTLED).await;
        let files = self.files.clone();
        let look = move || (files.rescan_or_hang(), files.stamps_or_hang());
        let (now, settled) = blocking(&self.looks, LOOKING, look).await?;
        Ok((settled == stamps).then(|| (stamps, now != self.files)))
    }

    /// Reads the configuration, and puts it in force unless it has problems.
    async fn reload(&mut self) {
        let path = self.source.path.clone();
        let (read, files) = match blocking(&self.permits, READING, move || read(&path)).await {
            Ok(read) => read,
            Err(stuck) => {
                let problem = Diagnostic {
                    path: String::new(),
                    line: None,
                    message: stuck.to_string(),
                };
                tracing::error!(%problem, "the configuration is rejected; the old one stays in force");
                return self.live.current().admin_control.reloaded(vec![problem]);
            }
        };
        let read = read.and_then(|config| match self.fixed.changed_by(&config) {
            problems if problems.is_empty() => Ok(config),
            problems => Err(problems),
        });
        let problems = match read {
            Ok(config) => {
                if !self.put_in_force(config).await {
                    return;
                }
                self.in_force = files.clone();
                self.files = files;
                Vec::new()
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "the configuration has changed and is rejected; the old one stays in force");
                }
                // Both before files are read again, which may take its time.
                self.live.current().admin_control.reloaded(problems);
                // What is in force may come back, and what is named now may be mended.
                let in_force = self.in_force.clone();
                let others = move || in_force.rescan();
                let others = blocking(&self.permits, READING, others).await;
                self.files = files.with(others.unwrap_or_default());
                return;
            }
        };
        self.live.current().admin_control.reloaded(problems);
    }

    /// Whether that went well.
    async fn put_in_force(&self, config: Config) -> bool {
        let old = self.live.current();
        let made = blocking(&self.permits, READING, move || {
            (old.succeeded_by(&config), config)
        });
        let Ok((proxy, config)) = made.await else {
            return false;
        };
        for warning in &config.warnings {
            tracing::warn!(%warning, "configuration");
        }
        if let (Some(tls), Some(new)) = (&self.fixed.tls, &config.tls) {
            tls.become_like(new);
        }
        self.live.replace(proxy);
        tracing::info!(
            providers = config.providers.len(),
            "the configuration was read again and is in force"
        );
        true
    }
}

/// Reads the configuration from files that were the same from first to last: of two that are swapped together,
/// not one before and the other after. What never rests is taken as it came, and looked at again soon.
fn read(path: &Path) -> (Result<Config, Vec<Diagnostic>>, Files) {
    read_by(|files| Config::load_noting(path, files))
}

fn read_by(
    mut load: impl FnMut(&mut Files) -> Result<Config, Vec<Diagnostic>>,
) -> (Result<Config, Vec<Diagnostic>>, Files) {
    let mut readings = 1;
    let began = tokio::time::Instant::now();
    loop {
        let mut files = Files::default();
        let config = load(&mut files);
        let is_enough = readings == MAX_READINGS || began.elapsed() >= READING_AGAIN;
        if is_enough || files.rescan() == files {
            return (config, files);
        }
        readings += 1;
    }
}

/// A file system may take its time, and so may thousands of accounts. What hangs is left behind.
async fn blocking<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stuck> {
    let permit = permits.clone().try_acquire_owned();
    let permit = permit.map_err(|_none_left| Stuck::NotTried)?;
    let working = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    match tokio::time::timeout(patience, working).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            if error.is_panic() {
                tracing::error!(
                    "reading the configuration failed badly; the old one stays in force"
                );
            }
            Err(Stuck::Failed)
        }
        Err(_elapsed) => Err(Stuck::Hangs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bursar_config::SecretName;

    const YAML: &str = "providers: {acme: {hosts: [api.test], client_id: '${file:id}', client_secret: '${file:secret}', token: {url: 'https://a.test/'}}}";

    #[test]
    fn two_files_that_are_swapped_while_they_are_read_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let write = |version: &str| {
            std::fs::write(at("id"), format!("id-{version}")).unwrap();
            std::fs::write(at("secret"), format!("secret-{version}")).unwrap();
        };
        std::fs::write(at("proxy.yaml"), YAML).unwrap();
        write("old");
        let mut is_first = true;
        let (config, _) = read_by(|files| {
            let config = Config::load_noting(&at("proxy.yaml"), files);
            if std::mem::take(&mut is_first) {
                write("new");
            }
            config
        });
        let account = &config.unwrap().providers[0].accounts[0];
        let secret = account.secret(SecretName::Current).unwrap();
        assert_eq!(
            (account.client_id.expose(), secret.expose()),
            ("id-new", "secret-new")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_hangs_lets_the_next_one_through_until_too_many_hang() {
        let permits = Arc::new(Semaphore::new(MAX_HANGING));
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        for _ in 0..MAX_HANGING {
            let held = held.clone();
            let hanging = blocking(&permits, READING, move || {
                let _never = held.lock().unwrap().recv();
            });
            let time = tokio::time::advance(READING + Duration::from_secs(1));
            let (result, ()) = tokio::join!(hanging, time);
            assert!(matches!(result, Err(Stuck::Hangs)));
        }
        assert!(matches!(
            blocking(&permits, READING, || ()).await,
            Err(Stuck::NotTried)
        ));
        drop(hold);
        let _all = permits
            .acquire_many(u32::try_from(MAX_HANGING).unwrap())
            .await
            .unwrap();
    }

    #[test]
    fn whatever_cannot_change_while_it_runs_is_named_and_nothing_else() {
        let keys = |text: &str| {
            let config = |text: &str| {
                let text = format!(
                    "{text}\n{}",
                    YAML.replace("${file:id}", "a")
                        .replace("${file:secret}", "b")
                );
                Config::parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{error:?}"))
            };
            let problems = Unchangeable::of(&config("")).changed_by(&config(text));
            problems
                .into_iter()
                .map(|problem| problem.path)
                .collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("listen: 127.0.0.1:1", &["listen"][..]),
            ("admin: 127.0.0.1:1", &["admin"]),
            ("limits: {connections: 7}", &["limits.connections"]),
            ("limits: {tunnels: 7}", &["limits.tunnels"]),
            ("journal: {path: x}", &["journal"]),
            ("process: {dumpable: true}", &["process"]),
            (
                "admin: 127.0.0.1:1\nprocess: {dumpable: true}",
                &["admin", "process"],
            ),
            (
                "limits: {requests: 7, headers: 7, streams: 7, idle_timeout: 7s}\nreplay_memory: 7B\ndrain_timeout: 7s",
                &[],
            ),
            ("", &[]),
        ] {
            assert_eq!(keys(text), expected, "{text}");
        }
    }
}
