//! The configuration as a whole: past this type nothing is left to validate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::caller::Caller;
use crate::diagnostic::Diagnostic;
use crate::egress::Egress;
use crate::files::Files;
use crate::fleet::FleetConfig;
use crate::host::host_names;
use crate::journal::Journal;
use crate::limits::ProxyLimits;
use crate::outline::Outline;
use crate::passthrough::Passthrough;
use crate::provider::Provider;
use crate::traces::Traces;
use bursar_base::secret::{Fingerprint, Secret};
use bursar_tls as tls;
use bursar_tls::authority::Authority;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Where the admin port is.
    pub admin: SocketAddr,
    /// Whoever shows it at the admin port may make changes. None: nobody may.
    pub admin_token: Option<Secret>,
    /// Names that the admin port is asked by beside addresses and `localhost`, in lower case.
    pub admin_hosts: Vec<Box<str>>,
    /// How long new connections are still taken once draining.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish after that.
    pub drain_timeout: Duration,
    /// Bytes of request bodies kept for replays, all together.
    pub replay_memory: usize,
    /// Whether the user that the process runs as may trace it, read its memory and have it dumped.
    pub is_dumpable: bool,
    /// How much all callers together may ask for.
    pub limits: ProxyLimits,
    /// Where connections to APIs and token endpoints may go.
    pub egress: Arc<Egress>,
    /// None: there is no authentication, which only a loopback listener may do without.
    pub callers: Option<Vec<Caller>>,
    /// In the order of their names; [`Provider::index`] is the place here.
    pub providers: Vec<Arc<Provider>>,
    /// What else callers may reach.
    pub passthrough: Vec<Passthrough>,
    /// TLS on `listen`. None: there is none.
    pub tls: Option<Arc<tls::server::Tls>>,
    /// Who speaks for providers in tunnels. None: TLS in them is refused.
    pub intercept: Option<Arc<Authority>>,
    /// Where requests that move money are written down. None: nowhere.
    pub journal: Option<Journal>,
    /// With which other instances this one acts as one. None: it is on its own.
    pub fleet: Option<FleetConfig>,
    /// Which requests have spans. None: none has.
    pub traces: Option<Traces>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// What it was read from.
    pub files: Files,
    /// The keys that it was read from.
    pub outline: Outline,
    /// Of the text of its file, as it stands there.
    pub hash: Fingerprint,
}

impl Config {
    /// The names and addresses of all providers' hosts, each once; for a wildcard what it is below.
    #[must_use]
    pub fn host_names(&self) -> Vec<Box<str>> {
        host_names(self.providers.iter().flat_map(|provider| &provider.hosts))
    }
}
