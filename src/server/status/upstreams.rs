//! Servers of providers as `/status` shows them.

use serde::Serialize;

use super::date::date;
use crate::upstream::ServerHealth;
use bursar_telemetry::metrics::Cause;

/// How the last connection to a server went, for requests or for token calls.
#[derive(Debug, Serialize)]
pub(in crate::server) struct UpstreamServer {
    pub(in crate::server) cause: Option<&'static str>,
    pub(in crate::server) healthy: bool,
    pub(in crate::server) host: String,
    pub(in crate::server) provider: String,
    pub(in crate::server) since: String,
    /// When the last connection was had, or not: for the page alone.
    #[serde(skip)]
    pub(in crate::server) last: String,
}

impl UpstreamServer {
    pub(super) fn of(server: ServerHealth) -> Self {
        Self {
            cause: server.cause.map(Cause::as_str),
            healthy: server.cause.is_none(),
            host: server.host.into(),
            provider: server.provider.to_string(),
            since: date(server.since),
            last: date(server.last),
        }
    }
}
