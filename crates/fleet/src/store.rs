//! The store: a connection to Redis or Valkey, to one server, by way of Sentinels, or to a cluster.
//!
//! It runs scripts and passes on what is published; it knows nothing of tokens. Nobody waits for a store that is down,
//! and a script is sent once: whether it may have run is part of the error.
//!
//! The commands that are used, beside those in scripts: `HELLO` and `AUTH`, which every user may use; `SELECT` where the
//! database is not 0; `EVAL` and `EVALSHA`; `SUBSCRIBE`; `DEL` in a script, which shows that a server takes writes; of a
//! cluster `CLUSTER SLOTS` and `ASKING`; with either `WAIT`; of Sentinels `SENTINEL GET-MASTER-ADDR-BY-NAME`.

mod backoff;
mod cluster;
mod connection;
mod dial;
mod error;
mod events;
mod framing;
mod link;
mod script;
mod sentinel;
mod status;

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use redis::Value;
use rustls::ClientConfig;
use tokio::time::{Instant, sleep};

use backoff::Backoff;
use bursar_config::{StoreAddress, StoreTls, StoreUrl};
use cluster::{Cluster, Subscriber};
use connection::{Connection, Login};
use dial::Place;
use events::Queue;
use link::{Current, Dialer, Probe, Task};
use sentinel::{Sentinel, Sentinels};
use status::Status;

pub use error::{Kind, StoreError};
pub use events::{Event, Events};
pub use script::{Arg, Script};
pub use status::StoreState;

/// A connection on which nothing came for as long is tried.
const SILENCE: Duration = Duration::from_secs(5);

/// Sentinels are asked again about as often whether the server is still the primary.
const SENTINEL_RECHECK: Duration = Duration::from_secs(5);

/// Nothing else is sent on the connection of a cluster that is there for what is published.
const SUBSCRIBER_SILENCE: Duration = Duration::from_secs(1);

/// A server's certificate is tried for no more of the configuration's names.
const MAX_NAMES: usize = 4;

/// What a store is and what is wanted of it.
pub struct Settings {
    /// Where it is.
    pub address: StoreAddress,
    /// Whom it is known by.
    pub tls: Option<StoreTls>,
    /// What to subscribe to, on every connection.
    pub channels: Vec<String>,
    /// A key that nobody uses, and the user may change.
    pub probe_key: String,
    /// Does with that key whatever other scripts do.
    pub commands: Script,
    /// Whether it can be used.
    pub up: IntGauge,
}

/// A handle to the store. Its clones share the connection; it ends with the last of them.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    status: Arc<Status>,
    servers: Servers,
    events: Arc<Queue>,
    _task: Task,
}

/// Where scripts are run.
enum Servers {
    One {
        current: Current,
        /// Whether another server may take its place.
        fails_over: bool,
    },
    Cluster(Arc<Cluster>),
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.events.close();
    }
}

impl Store {
    /// Begins to connect, in a task of its own.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn start(settings: Settings) -> Result<(Self, Events), bursar_tls::client::Error> {
        let events = Arc::<Queue>::default();
        let tls = settings.tls.map(|tls| client_config(&tls)).transpose()?;
        let address = shown(&settings.address).into();
        let status = Arc::new(Status::new(address, settings.up, events.clone()));
        let dialer = |(login, is_tls): (Login, bool), is_node| Dialer {
            tls: tls.clone().filter(|_| is_tls),
            names: Vec::new(),
            login,
            events: events.clone(),
            channels: settings.channels.clone(),
            probe: Probe::new(settings.probe_key.clone(), is_node),
            commands: settings.commands.clone(),
            silence: SILENCE,
        };
        let keep_one = |finder: Finder, dialer| {
            let (current, fails_over) = (link::none_yet(), finder.fails_over());
            let task = Task::spawn(keep(dialer, finder, current.clone(), status.clone()));
            let server = Servers::One {
                current,
                fails_over,
            };
            (server, task)
        };
        let (servers, task) = match &settings.address {
            StoreAddress::Single(url) => {
                let finder = Finder::Fixed(place_of(url));
                keep_one(finder, dialer((login_of(url), url.tls), false))
            }
            StoreAddress::Sentinel(address) => {
                let (finder, login, is_tls) = sentinels(address, tls.as_ref());
                let dialer = Dialer {
                    names: names(&address.urls),
                    ..dialer((login, is_tls), false)
                };
                keep_one(finder, dialer)
            }
            StoreAddress::Cluster(urls) => {
                keep_cluster(urls, status.clone(), |login| dialer(login, true))
            }
        };
        let inner = Inner {
            status,
            servers,
            events: events.clone(),
            _task: task,
        };
        Ok((Self(Arc::new(inner)), Events::of(events)))
    }

    /// Runs a script whose keys are all in one hash slot. Of a cluster, that needs nothing but the node that serves it.
    ///
    /// # Errors
    /// Where there is no connection, at once. Where the server does not respond in time, or with an error.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[Arg<'_>],
    ) -> Result<Value, StoreError> {
        let current = match &self.0.servers {
            Servers::One { current, .. } => current.borrow().clone(),
            Servers::Cluster(cluster) => return cluster.run(script, keys, args).await,
        };
        let connection = current.map_err(|_why| StoreError::unsent(Kind::Down))?;
        connection.run(script, keys, args).await
    }

    /// Whether what was written to a key outlives its server: a replica has it, or there is none that could take its
    /// place.
    pub async fn is_replicated(&self, key: &str) -> bool {
        match &self.0.servers {
            Servers::One {
                fails_over: false, ..
            } => true,
            Servers::One { current, .. } => {
                let current = current.borrow().clone();
                match current {
                    Ok(connection) => connection.is_replicated().await,
                    Err(_down) => false,
                }
            }
            Servers::Cluster(cluster) => cluster.is_replicated(key).await,
        }
    }

    /// Whether the user may ask how many replicas have a write of a key (`WAIT`), where that is asked.
    ///
    /// # Errors
    /// Where it may not, or there is no connection.
    pub async fn may_wait(&self, key: &str) -> Result<(), StoreError> {
        match &self.0.servers {
            Servers::One {
                fails_over: false, ..
            } => Ok(()),
            Servers::One { current, .. } => {
                let current = current.borrow().clone();
                current?.may_wait().await
            }
            Servers::Cluster(cluster) => cluster.may_wait(key).await,
        }
    }

    /// Whether it is down, and the next attempt is at another server of it.
    #[must_use]
    pub fn tries_another_server(&self) -> bool {
        let down = self.state().down;
        matches!(self.0.servers, Servers::Cluster(_)) && down.is_some_and(|kind| !kind.lasts())
    }

    /// What is known of it now.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.0.status.state()
    }
}

/// Where the server is that is kept connected.
enum Finder {
    Fixed(Place),
    Sentinels(Sentinels),
}

impl Finder {
    /// Whether another server may take its place.
    const fn fails_over(&self) -> bool {
        matches!(self, Self::Sentinels(_))
    }

    /// That server, where the store's address does not name it.
    fn shown(&self, place: &Place) -> Option<Arc<str>> {
        self.fails_over().then(|| place.to_string().into())
    }

    /// Before each attempt.
    async fn find(&self, attempt: usize) -> Result<Place, StoreError> {
        match self {
            Self::Fixed(place) => Ok(place.clone()),
            Self::Sentinels(sentinels) => sentinels.primary(attempt).await,
        }
    }

    /// Waits until the server is another one.
    async fn replaced(&self, current: &Place, status: &Status) -> StoreError {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Sentinels(sentinels) => {
                let confirmed = |is_confirmed| status.confirmed(is_confirmed);
                sentinels.replaced(current, confirmed).await;
            }
        }
        StoreError::unsent(Kind::FailedOver)
    }
}

/// Keeps one server connected.
async fn keep(dialer: Dialer, finder: Finder, current: Current, status: Arc<Status>) {
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let mut up_since = None;
        let error = match connect(&dialer, &finder, backoff.attempt()).await {
            Ok((place, connection)) => {
                up_since = Some(Instant::now());
                current.send_modify(|current| *current = Ok(connection.clone()));
                let server = finder.shown(&place);
                status.now_up(server.as_ref());
                let attempt = || try_all(&dialer, &connection, finder.fails_over());
                let error = tokio::select! {
                    error = dialer.watch(&connection) => error,
                    error = finder.replaced(&place, &status) => error,
                    never = status.follow(attempt) => match never {},
                };
                connection.close(error.kind());
                error.at(server)
            }
            Err(error) => error,
        };
        current.send_modify(|current| *current = Err(error.clone()));
        status.now_down(&error, begun);
        sleep(backoff.pause(error.kind(), up_since)).await;
    }
}

/// Tries all that instances need there; where another server may take this one's place, they ask for its replicas, too.
async fn try_all(
    dialer: &Dialer,
    connection: &Connection,
    fails_over: bool,
) -> Result<(), StoreError> {
    let keys = [&*dialer.probe.key];
    let tried = connection.run(&dialer.commands, &keys, &[]).await?;
    StoreError::first_of(&tried)?;
    match fails_over {
        true => connection.may_wait().await,
        false => Ok(()),
    }
}

/// Keeps a cluster's nodes connected.
fn keep_cluster(
    urls: &[StoreUrl],
    status: Arc<Status>,
    dialer: impl Fn((Login, bool)) -> Dialer,
) -> (Servers, Task) {
    let seeds: Vec<Place> = urls.iter().map(place_of).collect();
    let login = || urls.first().map(|url| (login_of(url), url.tls));
    let dialer = || Dialer {
        names: names(urls),
        ..dialer(login().unwrap_or_default())
    };
    let nodes = Dialer {
        channels: Vec::new(),
        ..dialer()
    };
    let cluster = Arc::new(Cluster::new(nodes, status.clone()));
    let subscriber = Subscriber {
        cluster: cluster.clone(),
        dialer: Dialer {
            silence: SUBSCRIBER_SILENCE,
            ..dialer()
        },
        seeds,
        status,
    };
    let task = Task::spawn(subscriber.keep());
    (Servers::Cluster(cluster), task)
}

async fn connect(
    dialer: &Dialer,
    finder: &Finder,
    attempt: usize,
) -> Result<(Place, Arc<Connection>), StoreError> {
    let place = finder.find(attempt).await?;
    let connection = dialer.connect(&place, attempt).await;
    let connection = connection.map_err(|error| error.at(finder.shown(&place)))?;
    Ok((place, Arc::new(connection)))
}

/// Sentinels have users of their own, and all or none of all servers speak TLS.
fn sentinels(
    address: &bursar_config::Sentinel,
    tls: Option<&Arc<ClientConfig>>,
) -> (Finder, Login, bool) {
    let sentinel = |url: &StoreUrl| {
        Arc::new(Sentinel {
            place: place_of(url),
            login: login_of(url),
            tls: tls.cloned().filter(|_| url.tls),
        })
    };
    let finder = Finder::Sentinels(Sentinels {
        sentinels: address.urls.iter().map(sentinel).collect(),
        master: (*address.master).into(),
        recheck: SENTINEL_RECHECK,
    });
    let login = Login {
        username: address.username.clone(),
        password: address.password.clone(),
        database: 0,
    };
    (finder, login, address.urls.iter().any(|url| url.tls))
}

/// The hosts that the configuration names. What Sentinels and nodes announce are often addresses, and certificates are
/// for names: a certificate for one of these is as good.
fn names(urls: &[StoreUrl]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = urls.iter().map(|url| url.host.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(MAX_NAMES);
    names
}

/// The store's address, without users and passwords.
fn shown(address: &StoreAddress) -> String {
    let all = |urls: &[StoreUrl]| {
        let places = urls.iter().map(|url| place_of(url).to_string());
        places.collect::<Vec<_>>().join(",")
    };
    match address {
        StoreAddress::Single(url) => place_of(url).to_string(),
        StoreAddress::Sentinel(sentinel) => {
            format!("{} by {}", sentinel.master, all(&sentinel.urls))
        }
        StoreAddress::Cluster(urls) => all(urls),
    }
}

fn client_config(tls: &StoreTls) -> Result<Arc<ClientConfig>, bursar_tls::client::Error> {
    let made = bursar_tls::client::configure(&tls.roots, None)?;
    let mut config = (*made.http1).clone();
    // Nobody speaks HTTP here.
    config.alpn_protocols.clear();
    Ok(Arc::new(config))
}

fn place_of(url: &StoreUrl) -> Place {
    Place {
        host: url.host.clone(),
        port: url.port,
    }
}

fn login_of(url: &StoreUrl) -> Login {
    Login {
        username: url.username.clone(),
        password: url.password.clone(),
        database: url.database,
    }
}

#[cfg(test)]
mod tests;
