//! Controls of the process that the admin port has beside the proxy in force.

use super::log_level::LogLevel;
use super::reload::Reloads;

/// What can be asked for at the admin port.
#[derive(Debug, Clone)]
pub(super) struct Controls {
    /// None: the configuration is never read again.
    pub(super) reloads: Option<Reloads>,
    /// None: the log is somebody else's.
    pub(super) log_level: Option<LogLevel>,
}
