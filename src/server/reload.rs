//! Reloads of the configuration: it is read again, whole or not at all.
//!
//! One task reads and replaces; everybody else takes what is in force from [`Live`], once for each request.
//! The task acts on SIGHUP, and when a file that the configuration was made of has other content than when
//! it was read. It reads the contents only where a file's stamps have changed since the last look.

mod blocking;
mod changes;
mod look;
mod requests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::exchange::{Live, Reloaded};
use blocking::{MAX_HANGING, READING, Stuck, blocking};
use bursar_base::clock;
use bursar_config::{self as config, Changes, Config, Diagnostic, Files, Outline};
use bursar_tls::server::Tls;
use look::Look;
pub use requests::{NoOutcome, Reloads};
use requests::{Requests, Waiting};

/// How long somebody waits for a reload: for one that hangs, and for the next one.
const WAITING: Duration = Duration::from_secs(2 * 2 * READING.as_secs());

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

/// What a configuration was made of.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its files, as they were when they were read.
    pub files: Files,
    /// Its keys.
    pub outline: Outline,
}

impl Origin {
    /// Of that one.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            files: config.files.clone(),
            outline: config.outline.clone(),
        }
    }
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
    /// Its keys may.
    fleet: Option<config::FleetConfig>,
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
    in_force: Origin,
    requests: Requests,
    /// For what reads the configuration.
    permits: Arc<Semaphore>,
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
            fleet: config.fleet.clone(),
            tls: config.tls.clone(),
        }
    }

    /// TLS on `listen`.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// What another configuration would change of it. `files` are those that have other content.
    fn changed_by(&self, config: &Config, files: &[String]) -> Vec<Diagnostic> {
        let fleet = match (&self.fleet, &config.fleet) {
            (Some(old), Some(new)) => old.changed_keys(new),
            (None, None) => Vec::new(),
            (Some(_), None) | (None, Some(_)) => vec!["fleet"],
        };
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
        let keys = changed.map(|(key, _)| key).chain(fleet);
        let problems = keys.map(|key| {
            let mut problem = cannot_change(key, config, files);
            problem.message.push_str(&self.until_restart(key, config));
            problem
        });
        problems.collect()
    }

    /// What commands do not find by the file until then, because they read it themselves.
    fn until_restart(&self, key: &str, config: &Config) -> String {
        match (key, &self.journal, &config.journal) {
            ("admin", ..) => format!(
                "; until then commands that read this file, such as `bursar health`, need --admin {}",
                self.admin
            ),
            ("journal", Some(old), new) if new.as_ref().is_none_or(|new| new.path != old.path) => {
                format!(
                    "; until then the journal is in {}, and `bursar outcomes` does not find it by this file",
                    old.path.display()
                )
            }
            _ => String::new(),
        }
    }
}

impl Reloader {
    /// `in_force` is what the configuration in force was made of.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        source: Source,
        fixed: Unchangeable,
        in_force: Origin,
    ) -> (Self, Reloads) {
        let (reloads, requests) = requests::requests(WAITING);
        let reloader = Self {
            live,
            source,
            fixed,
            files: in_force.files.clone(),
            in_force,
            requests,
            permits: Arc::new(Semaphore::new(MAX_HANGING)),
        };
        (reloader, reloads)
    }

    /// Reloads whenever it is time, until it is dropped.
    pub async fn run(mut self) {
        let asked = self.source.asked.clone();
        let mut look = Look::default();
        let mut seen = None;
        loop {
            tokio::select! {
                () = asked.notified() => self.reload(Waiting::default()).await,
                waiting = self.requests.next() => self.reload(waiting).await,
                looked = look.soon(&self.files, seen.take()) => {
                    let Some((stamps, has_changed)) = looked else {
                        continue;
                    };
                    seen = Some(stamps);
                    if has_changed {
                        self.reload(Waiting::default()).await;
                    }
                }
            }
        }
    }

    /// Reads the configuration, and puts it in force unless it has problems.
    async fn reload(&mut self, mut waiting: Waiting) {
        // Whoever has asked by now is content with this reading, because it has not begun.
        self.requests.join(&mut waiting);
        let path = self.source.path.clone();
        let (read, files) = match blocking(&self.permits, READING, move || read(&path)).await {
            Ok((read, files)) => (read, Some(files)),
            Err(stuck) => (Err(vec![stuck.into()]), None),
        };
        let read = read.and_then(|config| {
            let changed = self.in_force.files.changed(&config.files);
            match self.fixed.changed_by(&config, &changed) {
                problems if problems.is_empty() => Ok(config),
                problems => Err(problems),
            }
        });
        let in_force = match read {
            Ok(config) => self
                .put_in_force(config)
                .await
                .map_err(|stuck| vec![stuck.into()]),
            Err(problems) => Err(problems),
        };
        let reloaded = match in_force {
            Ok(in_force) => self.accepted(in_force),
            Err(problems) => rejected(problems),
        };
        let is_rejected = !reloaded.problems.is_empty();
        let reloaded = self.live.current().admin_control.reloaded(reloaded);
        waiting.tell(&reloaded);
        if let Some(files) = files.filter(|_| is_rejected) {
            // What is in force may come back, and what is named now may be mended.
            let in_force = self.in_force.files.clone();
            let others = move || in_force.rescan();
            let others = blocking(&self.permits, READING, others).await;
            self.files = files.with(others.unwrap_or_default());
        }
    }

    /// What is in force now.
    fn accepted(&mut self, config: Config) -> Reloaded {
        let providers = config.providers.len();
        let Config {
            files,
            outline,
            warnings,
            ..
        } = config;
        let changes = Changes {
            files: self.in_force.files.changed(&files),
            ..self.in_force.outline.changes(&outline)
        };
        changes::log(&changes, providers);
        self.files = files.clone();
        self.in_force = Origin { files, outline };
        Reloaded {
            at: clock::wall(),
            problems: Vec::new(),
            warnings,
            changes,
        }
    }

    /// Puts a configuration in force.
    async fn put_in_force(&self, config: Config) -> Result<Config, Stuck> {
        let old = self.live.current();
        // It reads no file, so that nothing hangs; given up, it would go on, and what it has changed could not be undone.
        let made = tokio::task::spawn_blocking(move || {
            let proxy = old.succeeded_by(&config);
            let warnings = old.warnings_of(&proxy);
            (proxy, warnings, config)
        });
        let (proxy, warnings, mut config) = made.await.map_err(|_panic| Stuck::Failed)?;
        config.warnings.extend(warnings);
        for warning in &config.warnings {
            tracing::warn!(%warning, "configuration");
        }
        if let (Some(tls), Some(new)) = (&self.fixed.tls, &config.tls) {
            tls.become_like(new);
        }
        self.live.replace(proxy);
        Ok(config)
    }
}

/// Where a value is in another file, nobody has touched the configuration: that file is named.
fn cannot_change(key: &str, config: &Config, changed: &[String]) -> Diagnostic {
    let named = config.outline.files_of(key);
    let mut named: Vec<&str> = named
        .filter(|file| changed.iter().any(|one| one == file))
        .collect();
    named.dedup();
    let message = match named.is_empty() {
        true => "cannot change while Bursar runs; restart it, or change it back".to_owned(),
        false => format!(
            "cannot change while Bursar runs, and is another one because of {}; restart one instance after the other, or bring the file's content back",
            named.join(" and ")
        ),
    };
    Diagnostic {
        path: key.to_owned(),
        line: None,
        message,
    }
}

fn rejected(problems: Vec<Diagnostic>) -> Reloaded {
    for problem in &problems {
        tracing::error!(%problem, "the configuration is rejected; the old one stays in force");
    }
    Reloaded {
        at: clock::wall(),
        problems,
        warnings: Vec::new(),
        changes: Changes::default(),
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

    #[test]
    fn a_password_of_the_store_that_was_replaced_in_its_file_is_named_by_key_and_file() {
        const FLEET: &str =
            "fleet: {url: 'redis://:${file:password}@127.0.0.1', keys: ['${file:key}']}";
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, content) in [
            ("id", "i"),
            ("secret", "s"),
            ("password", "old"),
            ("key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"),
            ("proxy.yaml", &*format!("{YAML}\n{FLEET}")),
        ] {
            std::fs::write(at(name), content).unwrap();
        }
        let load = || Config::load(&at("proxy.yaml")).unwrap();
        let in_force = load();
        let problems = || {
            let now = load();
            let changed = in_force.files.changed(&now.files);
            Unchangeable::of(&in_force).changed_by(&now, &changed)
        };
        // Keys may change, and so may the other secrets.
        std::fs::write(at("key"), "NDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE").unwrap();
        std::fs::write(at("secret"), "t").unwrap();
        assert_eq!(problems(), []);
        std::fs::write(at("password"), "new-passw0rd").unwrap();
        let problems = problems();
        let [problem] = &*problems else {
            panic!("{problems:?}");
        };
        let text = problem.to_string();
        let file = at("password").display().to_string();
        let begins = format!(
            "fleet.url: cannot change while Bursar runs, and is another one because of {file}; "
        );
        assert!(text.starts_with(&begins), "{text}");
        assert!(!text.contains("passw0rd"), "{text}");
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
            let problems = Unchangeable::of(&config("")).changed_by(&config(text), &[]);
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
            (
                "fleet: {url: 'redis://127.0.0.1', keys: [MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE]}",
                &["fleet"],
            ),
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

    #[test]
    fn what_commands_do_not_find_by_a_file_that_is_rejected_is_said_with_the_key() {
        let config = |text: &str| {
            let yaml = YAML.replace("${file:id}", "a");
            let text = format!("{text}\n{}", yaml.replace("${file:secret}", "b"));
            Config::parse(&text, Path::new("")).unwrap()
        };
        let old = Unchangeable::of(&config("admin: 127.0.0.1:7\njournal: {path: old}"));
        let said = |text: &str| {
            let problems = old.changed_by(&config(text), &[]);
            let texts = problems.iter().map(ToString::to_string);
            texts.collect::<Vec<_>>().join("\n")
        };
        let at = "; until then commands that read this file, such as `bursar health`, need --admin 127.0.0.1:7";
        let journal = "; until then the journal is in old, and `bursar outcomes` does not find it by this file";
        let has = |text: &str| [at, journal].map(|part| said(text).contains(part));
        assert_eq!(has("journal: {path: old}"), [true, false]);
        assert_eq!(has("admin: 127.0.0.1:7"), [false, true]);
        assert_eq!(
            has("admin: 127.0.0.1:7\njournal: {path: new}"),
            [false, true]
        );
        assert_eq!(
            has("admin: 127.0.0.1:7\njournal: {path: old, max_size: 70MiB}"),
            [false; 2]
        );
    }
}
