//! Default values of the configuration, in one place: the parser, the JSON schema and, through that, the
//! documentation have them from here.
//!
//! Words are not here but in their enums, as `#[default]`. What a preset has instead is in [`super::presets`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3128);
pub(super) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9128);
pub(super) const DRAIN_DELAY: Duration = Duration::ZERO;
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const REPLAY_MEMORY: usize = 256 << 20;
pub(super) const DUMPABLE: bool = false;

pub(super) mod limits {
    use std::num::NonZeroU32;
    use std::time::Duration;

    pub(crate) const CONNECTIONS: NonZeroU32 = NonZeroU32::new(32_768).unwrap();
    pub(crate) const REQUESTS: NonZeroU32 = NonZeroU32::new(16_384).unwrap();
    pub(crate) const TUNNELS: NonZeroU32 = NonZeroU32::new(8192).unwrap();
    pub(crate) const STREAMS: NonZeroU32 = NonZeroU32::new(128).unwrap();
    pub(crate) const HEADERS: NonZeroU32 = NonZeroU32::new(100).unwrap();
    /// Above the largest target that hyper takes, or its 414 would never be seen.
    pub(crate) const HEADER_SIZE: usize = 128 << 10;
    pub(crate) const TARGET_SIZE: usize = 64 << 10;
    pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
    pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
}

pub(super) mod journal {
    use std::time::Duration;

    pub(crate) const SYNC: bool = true;
    pub(crate) const MAX_SIZE: usize = 64 << 20;
    pub(crate) const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
}

pub(super) mod fleet {
    pub(crate) const NAME: &str = "bursar";
    /// Of a server that a URL names without one.
    pub(crate) const PORT: u16 = 6379;
    pub(crate) const SENTINEL_PORT: u16 = 26379;
}

pub(super) mod traces {
    use std::num::NonZeroU32;

    pub(crate) const RATIO: f64 = 0.0;
    pub(crate) const PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();
}

pub(super) mod passthrough {
    pub(crate) const PORTS: [u16; 1] = [443];
}

pub(super) mod provider {
    pub(crate) const PATHS: [&str; 1] = ["/**"];
    pub(crate) const REPLAY_BUFFER: usize = 1 << 20;
}

pub(super) mod token {
    use std::num::NonZeroU32;
    use std::time::Duration;

    /// JSON pointer to the root.
    pub(crate) const RESPONSE: &str = "";
    pub(crate) const SCOPES: [&str; 0] = [];
    pub(crate) const MARGIN: Duration = Duration::from_secs(60);
    pub(crate) const LIFETIME: Duration = Duration::from_secs(300);
    pub(crate) const CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6000).unwrap();
    pub(crate) const SINGLE_ACTIVE: bool = false;
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
    pub(crate) const WAIT: Duration = Duration::from_secs(5);
}

pub(super) mod breaker {
    use std::num::NonZeroU32;
    use std::time::Duration;

    pub(crate) const FAILURES: NonZeroU32 = NonZeroU32::new(5).unwrap();
    pub(crate) const PAUSE: Duration = Duration::from_secs(10);
}

pub(super) mod timeouts {
    use std::time::Duration;

    pub(crate) const CONNECT: Duration = Duration::from_secs(5);
    pub(crate) const HEAD: Duration = Duration::from_secs(60);
    pub(crate) const IDLE: Duration = Duration::from_secs(60);
    pub(crate) const POOL_IDLE: Duration = Duration::from_secs(30);
    pub(crate) const POOL_AGE: Duration = Duration::from_secs(600);
}
