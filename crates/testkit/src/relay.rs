//! A TCP relay that stands for the network in between: it delays, holds back, cuts off and refuses.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::listen;

/// Pieces that are under way in one direction of a connection.
const MAX_PIECES: usize = 1024;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// What comes goes on after that long on its way to the server; what comes back goes on at once. So it is the time
    /// that a round trip takes longer.
    Delays(Duration),
    /// Nothing arrives, in either direction, and nobody is told; what was lost is sent again once it is over.
    LosesEverything,
    /// Every connection is closed at once, old ones and new ones.
    Refuses,
}

impl Network {
    /// What comes goes on.
    pub const FINE: Self = Self::Delays(Duration::ZERO);
}

/// The relay. Dropping it cuts its connections.
pub struct Relay {
    pub address: SocketAddr,
    network: watch::Sender<Network>,
    /// How often everything was cut off.
    cuts: watch::Sender<usize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Relay {
    /// In front of that server, which need not be there yet.
    pub async fn to(server: SocketAddr) -> Self {
        let (listener, address) = listen().await;
        let (network, cuts) = (watch::Sender::new(Network::FINE), watch::Sender::new(0));
        let (state, cut) = (network.subscribe(), cuts.subscribe());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *state.borrow() == Network::Refuses {
                    continue;
                }
                let (state, mut cut) = (state.clone(), cut.clone());
                cut.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        () = relay(client, server, &state) => {}
                        _cut = cut.changed() => {}
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            network,
            cuts,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// From now on it is like that.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
        if network == Network::Refuses {
            self.cut();
        }
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn relay(client: TcpStream, server: SocketAddr, state: &watch::Receiver<Network>) {
    let mut waiting = state.clone();
    passing(&mut waiting).await;
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        carry(from_client, to_server, state.clone(), true),
        carry(from_server, to_client, state.clone(), false),
    );
}

/// Waits until something arrives at all; how long it takes then.
async fn passing(state: &mut watch::Receiver<Network>) -> Option<Duration> {
    let arrives = |network: &Network| *network != Network::LosesEverything;
    let network = *state.wait_for(arrives).await.ok()?;
    match network {
        Network::Delays(delay) => Some(delay),
        Network::LosesEverything | Network::Refuses => Some(Duration::ZERO),
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<Network>,
    is_delayed: bool,
) {
    let (send, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(MAX_PIECES);
    let mut arrival = state.clone();
    let read = async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let Some(delay) = passing(&mut state).await else {
                return;
            };
            let delay = if is_delayed { delay } else { Duration::ZERO };
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if send.send(piece).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            // What is under way when everything is lost is lost with it, for now.
            if passing(&mut arrival).await.is_none() || to.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}
