//! How does Bursar start and end? Ports first, then tokens; and draining in its phases.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::accept::{Phase, accept};
use crate::access::AccessLog;
use crate::admin;
use crate::config::Config;
use crate::exchange::Proxy;
use crate::listen::Tls;
use crate::metrics::Metrics;

/// A proxy whose ports are bound.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    admin: TcpListener,
    proxy: Arc<Proxy>,
    tls: Option<Arc<Tls>>,
    drain_delay: Duration,
    drain_timeout: Duration,
}

/// Why Bursar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or not ours to take.
    #[error("cannot listen on {address} (`{key}`): {source}")]
    Bind {
        /// The key of the file that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A metric is declared twice.
    #[error("cannot set up the metrics")]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Binds both ports and begins to obtain tokens.
    ///
    /// # Errors
    /// Where a port cannot be bound.
    pub async fn bind(config: &Config, log: AccessLog) -> Result<Self, Error> {
        let listener = bind("listen", config.listen).await?;
        let admin = bind("admin", config.admin).await?;
        let metrics = Metrics::new(config)?;
        let proxy = Proxy::new(config, &metrics, log);
        metrics.register(proxy.tokens.series()?)?;
        Ok(Self {
            listener,
            admin,
            proxy: Arc::new(proxy),
            tls: config.tls.clone(),
            drain_delay: config.drain_delay,
            drain_timeout: config.drain_timeout,
        })
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
        if !listen.ip().is_loopback() && self.tls.is_none() {
            tracing::warn!(
                "`listen` is not a loopback address and has no TLS: callers' passwords cross the network in clear"
            );
        }
        Ok(())
    }

    /// Serves until `shutdown`, then drains: `Connection: close` and `/readyz` 503 at once, new
    /// connections for `drain_delay`, requests in flight for `drain_timeout`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (phase, phases) = watch::channel(Phase::Serving);
        let connections = TaskTracker::new();
        let admin = tokio::spawn(admin::serve(self.admin, self.proxy.clone()));
        let reading = self.tls.clone().map(Tls::keep_current);
        let _reading = reading.map(|reading| AbortOnDropHandle::new(tokio::spawn(reading)));
        let accepting = tokio::spawn(accept(
            (self.listener, self.tls.clone()),
            self.proxy.clone(),
            phases,
            connections.clone(),
        ));
        shutdown.await;
        tracing::info!("draining");
        self.proxy.drain();
        phase.send_replace(Phase::Delay);
        tokio::time::sleep(self.drain_delay).await;
        phase.send_replace(Phase::Closing);
        // It ends at once, and the listener with it.
        drop(accepting.await);
        connections.close();
        if tokio::time::timeout(self.drain_timeout, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = connections.len(),
                "drain_timeout is over; the rest is cut off"
            );
        }
        admin.abort();
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Bind {
            key,
            address,
            source,
        })
}
