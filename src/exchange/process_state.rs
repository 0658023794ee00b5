//! State of the process, which outlives a configuration: counts, limits on everything together, and what operators
//! have said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::freezes::Freezes;
use crate::token::FleetTokens;
use bursar_config::{Changes, Diagnostic};
use bursar_http::headers::Via;
use bursar_http::replay_body::ReplayMemory;
use bursar_journal::Journal;
use bursar_limits::share::Share;
use bursar_telemetry::access_log::AccessLog;
use bursar_telemetry::metrics::Metrics;

/// An instance that has not had its shares of callers' limits so long after its start is ready all the same: a store in
/// trouble keeps nobody out.
pub const SHARES_LIMIT: Duration = Duration::from_secs(3);

/// One for each process: every [`super::Proxy`] that follows another one shares it.
#[derive(Debug)]
pub(super) struct ProcessState {
    pub(super) log: AccessLog,
    pub(super) metrics: Metrics,
    /// This instance.
    pub(super) via: Via,
    pub(super) replay_memory: Arc<ReplayMemory>,
    /// How many serve connections.
    pub(super) workers: usize,
    /// Requests being served.
    pub(super) in_flight: AtomicUsize,
    /// For tunnels to providers.
    pub(super) tunnels: Arc<Semaphore>,
    /// For tunnels to other hosts.
    pub(super) opaque_tunnels: Arc<Semaphore>,
    /// Answers ask for their connection to be closed.
    pub(super) draining: AtomicBool,
    /// None: nobody knows afterwards which requests are in doubt.
    pub(super) journal: Option<Journal>,
    /// Which providers operators have frozen.
    pub(super) freezes: Arc<Freezes>,
    /// None: there are no other instances.
    pub(super) fleet: Option<Arc<FleetTokens>>,
    /// Whether callers have found this instance's shares of their limits; without a fleet it has all of them.
    pub(super) has_shares: AtomicBool,
    /// From then on it is as if they had.
    pub(super) shares_limit: Instant,
    /// What it has of each limit without asking, in millionths: limits that a reload brings begin with it.
    pub(super) reserve: AtomicU32,
    /// No request that moves money is begun any more.
    pub(super) closing: AtomicBool,
    /// Whatever is still under way ends with the process.
    pub(super) ending: Arc<AtomicBool>,
    /// None: the configuration was never read again.
    pub(super) last_reload: ArcSwapOption<Reloaded>,
}

/// What a process has from its start to its end.
#[derive(Debug)]
pub struct Process {
    /// Where access lines go.
    pub log: AccessLog,
    /// None: nobody knows afterwards which requests are in doubt.
    pub journal: Option<Journal>,
    /// What other instances share. None: there are none.
    pub fleet: Option<Arc<FleetTokens>>,
    /// How many serve connections.
    pub workers: usize,
}

/// The last attempt to re-read the configuration.
#[derive(Debug)]
pub struct Reloaded {
    /// When it was.
    pub at: SystemTime,
    /// Why nothing has changed; empty where the configuration is in force.
    pub problems: Vec<Diagnostic>,
    /// What is allowed in what is in force now, but probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// What is different now.
    pub changes: Changes,
}

impl ProcessState {
    pub(super) fn new(metrics: &Metrics, tunnels: usize, process: Process) -> Self {
        let Process {
            log,
            journal,
            fleet,
            workers,
        } = process;
        let shared = fleet.as_ref().map(|tokens| tokens.fleet().clone());
        Self {
            freezes: Arc::new(Freezes::new(metrics, journal.clone(), shared)),
            log,
            has_shares: AtomicBool::new(fleet.is_none()),
            shares_limit: Instant::now() + SHARES_LIMIT,
            reserve: AtomicU32::new(Share::NONE.millionths()),
            fleet,
            metrics: metrics.clone(),
            via: Via::unique(),
            replay_memory: ReplayMemory::new(0),
            workers,
            in_flight: AtomicUsize::new(0),
            tunnels: Arc::new(Semaphore::new(tunnels)),
            opaque_tunnels: Arc::new(Semaphore::new(tunnels)),
            draining: AtomicBool::new(false),
            journal,
            closing: AtomicBool::new(false),
            ending: Arc::default(),
            last_reload: ArcSwapOption::empty(),
        }
    }
}
