//! Controls of the process that the admin port has beside the proxy in force, and what it shows beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::last_hour::LastHour;
use super::log_level::LogLevel;
use super::reload::Reloads;
use bursar_base::clock;
use bursar_tls::server::Tls;

/// What can be asked for at the admin port.
#[derive(Debug, Clone)]
pub(super) struct Controls {
    /// None: the configuration is never read again.
    pub(super) reloads: Option<Reloads>,
    /// None: the log is somebody else's.
    pub(super) log_level: Option<LogLevel>,
    /// What the process shows.
    pub(super) shown: Arc<Shown>,
}

/// What is the same from the start of the process to its end.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) instance: String,
    pub(super) started: SystemTime,
    pub(super) last_hour: LastHour,
    /// Where the journal is. None: there is none.
    pub(super) journal: Option<PathBuf>,
    /// TLS on `listen`. None: there is none.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Shown {
    /// Of a process that starts now.
    pub(super) fn new(instance: String, journal: Option<PathBuf>, tls: Option<Arc<Tls>>) -> Self {
        let started = clock::wall();
        Self {
            instance,
            started,
            last_hour: LastHour::since(started),
            journal,
            tls,
        }
    }
}
