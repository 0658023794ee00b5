//! Start and end of the process: ports first, then tokens; and draining in its phases.

pub mod accept;
pub mod admin;
mod controls;
mod drain_log;
pub mod drain_phase;
mod fleet;
mod last_hour;
pub mod log_level;
mod page;
pub mod reload;
mod status;
pub mod worker;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::exchange::{DrainTimes, Live, Process, Proxy};
use accept::{AcceptOptions, accept};
use bursar_base::port_owner::PortOwner;
use bursar_base::process::{self, Budget};
use bursar_config::{self as config, Config};
use bursar_journal::{self as journal, Journal};
use bursar_telemetry::access_log::AccessLog;
use bursar_telemetry::log::LogFilter;
use bursar_telemetry::metrics::Metrics;
use controls::{Controls, Shown};
use drain_log::DrainLog;
use drain_phase::{DrainPhase, LAST_RESPONSES};
use fleet::{Member, Mirror, Mirrored};
use log_level::LogLevel;
use reload::{Origin, Reloader, Source, Unchangeable};
use worker::Workers;

/// The share of `drain_timeout` after which what moves no money is cut off.
const SHARE_OF_OTHERS: f64 = 0.75;

/// Connections that wait to be accepted, at each port; the system keeps no more than net.core.somaxconn.
const BACKLOG: u32 = 4096;

/// A proxy whose ports are bound.
#[derive(Debug)]
pub struct Server {
    /// Accepts for all workers: a socket of its own for each would share out few connections badly.
    listener: TcpListener,
    admin: TcpListener,
    live: Arc<Live>,
    /// None: there are no other instances.
    fleet: Option<Member>,
    /// None: there is no fleet, or no journal.
    mirror: Option<Mirror>,
    workers: Workers,
    fixed: Unchangeable,
    origin: Origin,
    budget: Budget,
    /// None: the configuration is never read again.
    source: Option<Source>,
    /// None: the log is somebody else's.
    log_level: Option<LogLevel>,
    /// Where the journal is. None: there is none.
    journal: Option<PathBuf>,
}

/// Why Bursar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or not ours to take.
    #[error("cannot listen on {address} (`{key}`){why}")]
    Bind {
        /// The key of the file that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Who has it, or what it needs, where that is known; it begins with a comma.
        why: String,
        /// What the system says.
        source: io::Error,
    },
    /// TLS to the fleet's store cannot be set up.
    #[error("cannot set up TLS to the fleet's store (`fleet.tls`)")]
    Fleet(#[from] bursar_tls::client::Error),
    /// The journal does not say which providers are frozen.
    #[error("cannot read from the journal which providers are frozen")]
    Frozen(#[from] journal::Unavailable),
    /// The journal cannot be used.
    #[error("cannot open the journal (`journal.path`)")]
    Journal(#[from] journal::Error),
    /// A metric is declared twice.
    #[error("cannot set up the metrics")]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Binds both ports and begins to obtain tokens. Connections are for `workers`, all else for the runtime that
    /// this is called in.
    ///
    /// # Errors
    /// Where a port cannot be bound.
    pub async fn bind(config: &Config, log: AccessLog, workers: Workers) -> Result<Self, Error> {
        let descriptors = process::raise_descriptor_limit();
        let listener = bind("listen", config.listen)?;
        let admin = bind("admin", config.admin)?;
        let metrics = Metrics::new(config)?;
        log.show_dropped(&metrics.log_lines_dropped);
        let journal = match config.journal.clone() {
            Some(settings) => Some(open(settings, &metrics).await?),
            None => None,
        };
        let fleet = join_fleet(config, &metrics, &listener)?;
        let mirror = mirrored(config, journal.as_ref(), fleet.as_ref()).map(Mirror::start);
        let process = Process {
            log,
            journal,
            fleet: fleet.as_ref().map(|member| member.tokens().clone()),
            workers: workers.count(),
        };
        let proxy = Proxy::new(config, &metrics, process);
        proxy.admin_control.remember().await?;
        metrics.register(proxy.tokens.series()?)?;
        let budget = Budget::now();
        warn_of_few(descriptors, budget, config);
        Ok(Self {
            listener,
            admin,
            live: Live::new(proxy),
            fleet,
            mirror,
            workers,
            fixed: Unchangeable::of(config),
            origin: Origin::of(config),
            budget,
            source: None,
            log_level: None,
            journal: config.journal.as_ref().map(|journal| journal.path.clone()),
        })
    }

    /// Reads the configuration again when one of its files changes, or somebody asks.
    #[must_use]
    pub fn following(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Has that log filtered otherwise for a time, where somebody asks.
    #[must_use]
    pub fn filtering(mut self, log: LogFilter) -> Self {
        self.log_level = Some(LogLevel::new(log));
        self
    }

    /// Where callers connect; the port is the real one where 0 was configured.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn listen_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the admin port is.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Says in the log where it listens, and what is risky about that.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn announce(&self, config: &Config) -> io::Result<()> {
        let (listen, admin) = (self.listen_address()?, self.admin_address()?);
        tracing::info!(%listen, %admin, providers = config.providers.len(), "listening");
        if !listen.ip().is_loopback() && self.fixed.tls().is_none() {
            tracing::warn!(
                "`listen` is not a loopback address and has no TLS: callers' passwords cross the network in clear"
            );
        }
        if config.journal.is_none() {
            tracing::info!(
                "there is no `journal`: nobody knows after a crash which requests that move money are in doubt"
            );
        }
        Ok(())
    }

    /// Serves until `shutdown`, then drains: `Connection: close` and `/readyz` 503 at once, new
    /// connections for `drain_delay`, requests in flight for `drain_timeout`: those that move money for all
    /// of it. What is under way then, or when it is to end `at_once`, is cut off: it gets a response that says what
    /// became of it.
    pub async fn run(self, shutdown: impl Future<Output = ()>, at_once: impl Future<Output = ()>) {
        let _ending = Ending(self.live.clone());
        let tls = self.fixed.tls().cloned();
        let (phase, phases) = watch::channel(DrainPhase::Serving);
        let connections = TaskTracker::new();
        let source = self.source.map(|source| {
            let live = self.live.clone();
            Reloader::new(live, source, self.fixed, self.origin)
        });
        let (reloader, reloads) = source.unzip();
        let reloading =
            reloader.map(|reloader| AbortOnDropHandle::new(tokio::spawn(reloader.run())));
        // Where the system does not say which port that is, the host's name has to do.
        let port = self.listener.local_addr().map(|listen| listen.port());
        let instance = fleet::instance_name(port.unwrap_or_default());
        let shown = Arc::new(Shown::new(instance, self.journal, tls.clone()));
        let sampling = tokio::spawn(follow(shown.clone(), self.live.clone()));
        let sampling = AbortOnDropHandle::new(sampling);
        let controls = Controls {
            reloads,
            log_level: self.log_level,
            shown,
        };
        let admin = tokio::spawn(admin::serve(self.admin, self.live.clone(), controls));
        let following = self.live.current().admin_control.follow_freezes();
        let following = AbortOnDropHandle::new(tokio::spawn(following));
        let beating = self.fleet.as_ref().map(|fleet| fleet.beat(&self.live));
        let accepting = tokio::spawn(accept(
            AcceptOptions {
                listener: self.listener,
                tls,
                budget: self.budget,
            },
            self.live.clone(),
            phases,
            self.workers,
            connections.clone(),
        ));
        shutdown.await;
        drop(reloading);
        let proxy = self.live.current();
        let log = DrainLog::begin(&proxy, &connections);
        proxy.admin_control.drain();
        phase.send_replace(DrainPhase::Delay);
        let is_over = tokio::select! {
            is_over = drain(&proxy, &phase, accepting, &connections, &log) => is_over,
            () = at_once => false,
        };
        let cut_off = if is_over { 0 } else { connections.len() };
        if !is_over {
            log.warn("drain_timeout is over, or a second signal came; the rest is cut off");
            proxy.admin_control.close();
            connections.close();
            phase.send_replace(DrainPhase::CutOffAll);
            log.wait(LAST_RESPONSES).await;
        }
        log.end(cut_off);
        write_the_last(self.mirror, self.fleet.as_ref()).await;
        proxy.admin_control.write_journal_back().await;
        drop((following, sampling));
        if let Some(beating) = beating {
            beating.leave().await;
        }
        proxy.end_traces().await;
        admin.abort();
    }
}

/// Waits as long as it may for what is under way; whether that is over.
async fn drain(
    proxy: &Proxy,
    phase: &watch::Sender<DrainPhase>,
    accepting: JoinHandle<()>,
    connections: &TaskTracker,
    log: &DrainLog<'_>,
) -> bool {
    let DrainTimes { delay, timeout } = proxy.drain_times();
    tokio::time::sleep(delay).await;
    proxy.admin_control.close();
    phase.send_replace(DrainPhase::Closing);
    // It takes what waits already, and the listener ends with it.
    let _ = accepting.await;
    connections.close();
    let others = timeout.mul_f64(SHARE_OF_OTHERS);
    if log.wait(others).await {
        return true;
    }
    log.warn("three quarters of drain_timeout are over; what moves no money is cut off");
    phase.send_replace(DrainPhase::CutOff);
    log.wait(timeout.saturating_sub(others)).await
}

/// The fleet's store gets what is in doubt here, and tokens that are about to come.
async fn write_the_last(mirror: Option<Mirror>, fleet: Option<&Member>) {
    let mirrored = async {
        if let Some(mirror) = mirror {
            mirror.end().await;
        }
    };
    let published = async {
        if let Some(fleet) = fleet {
            fleet.tokens().end().await;
        }
    };
    tokio::join!(mirrored, published);
}

/// Looks at what is counted once a minute.
async fn follow(shown: Arc<Shown>, live: Arc<Live>) {
    shown.last_hour.follow(&live).await;
}

/// Says at the end, however it comes, that what is still under way ends with the process.
struct Ending(Arc<Live>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.current().admin_control.end();
    }
}

/// Files are opened and locks are waited for on a thread of their own.
async fn open(settings: config::Journal, metrics: &Metrics) -> Result<Journal, Error> {
    let (directory, series) = (settings.path.clone(), metrics.journal.clone());
    let opening = tokio::task::spawn_blocking(move || Journal::open(&settings, series));
    let opened = opening.await.map_err(|error| journal::Error::Directory {
        path: directory,
        source: error.into(),
    })?;
    Ok(opened?)
}

/// What the fleet's store is to have of the journal.
fn mirrored(
    config: &Config,
    journal: Option<&Journal>,
    fleet: Option<&Member>,
) -> Option<Mirrored> {
    let fleet = fleet?.tokens().fleet();
    Some(Mirrored {
        fleet: fleet.clone(),
        journal: journal?.clone(),
        directory: config.journal.as_ref()?.path.clone(),
        instance: fleet.description().clone(),
    })
}

/// Begins to connect to the fleet's store, where there is a fleet.
fn join_fleet(
    config: &Config,
    metrics: &Metrics,
    listener: &TcpListener,
) -> Result<Option<Member>, Error> {
    let (Some(settings), Some(series)) = (&config.fleet, &metrics.fleet) else {
        return Ok(None);
    };
    let listen = listener.local_addr().unwrap_or(config.listen);
    Ok(Some(Member::join(settings, series.clone(), listen)?))
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A restart does not wait for the connections of the process before to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| Error::Bind {
        key,
        address,
        why: why_not(&source, address),
        source,
    })
}

/// What stands in the way of an address, as far as the system tells.
fn why_not(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => match PortOwner::of(address) {
            Some(owner) => format!(", which {owner} has"),
            None => ", which another process has".to_owned(),
        },
        io::ErrorKind::AddrNotAvailable => ", which is no address of this machine".to_owned(),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            ", because ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => String::new(),
    }
}

/// Says where the system allows less than the configuration asks for.
fn warn_of_few(descriptors: u64, budget: Budget, config: &Config) {
    let wanted = config.limits.connections;
    let served = budget.connections(wanted);
    if served < wanted {
        tracing::warn!(
            descriptors,
            wanted,
            served,
            "too few files may be open for `limits.connections`; raise `ulimit -n` (systemd: LimitNOFILE), or lower the key"
        );
    }
    let longest = process::longest_backlog();
    if let Some(longest) = longest.filter(|longest| *longest < BACKLOG) {
        tracing::info!(
            wanted = BACKLOG,
            longest,
            "the system lets fewer connections wait to be accepted; see net.core.somaxconn"
        );
    }
}
