//! A plain TCP balancer that looks at `/readyz`, and where the instances behind it are.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::listen;

/// How often an instance is asked.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Where an instance of the proxy is, in all its lives.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

impl Place {
    /// An address of this machine that nobody else has.
    pub fn any() -> Self {
        let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..=254));
        let at = |port| SocketAddr::from((Ipv4Addr::new(127, a, b, c), port));
        Self {
            listen: at(3128),
            admin: at(9128),
        }
    }
}

struct Instance {
    place: Place,
    is_ready: AtomicBool,
}

/// The balancer. What it was given it hands on once: it does not try another instance.
pub struct Balancer {
    pub address: SocketAddr,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Balancer {
    pub async fn start(places: &[Place]) -> Self {
        let instances = places.iter().map(|place| {
            Arc::new(Instance {
                place: *place,
                is_ready: AtomicBool::new(false),
            })
        });
        let instances: Vec<Arc<Instance>> = instances.collect();
        let (listener, address) = listen().await;
        let checks = instances.iter().cloned().map(|instance| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    let ready = tokio::time::timeout(INTERVAL * 10, is_ready(instance.place));
                    let ready = ready.await.unwrap_or(false);
                    instance.is_ready.store(ready, Ordering::SeqCst);
                    tokio::time::sleep(INTERVAL).await;
                }
            }))
        });
        let mut tasks: Vec<_> = checks.collect();
        tasks.push(AbortOnDropHandle::new(tokio::spawn(accept(
            listener, instances,
        ))));
        Self {
            address,
            _tasks: tasks,
        }
    }
}

async fn is_ready(Place { admin, .. }: Place) -> bool {
    let Ok(mut stream) = TcpStream::connect(admin).await else {
        return false;
    };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    stream.write_all(request.as_bytes()).await.is_ok()
        && stream.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(b"HTTP/1.1 200 ")
}

async fn accept(listener: TcpListener, instances: Vec<Arc<Instance>>) {
    let turn = AtomicUsize::new(0);
    while let Ok((mut caller, _)) = listener.accept().await {
        let ready = instances
            .iter()
            .filter(|instance| instance.is_ready.load(Ordering::SeqCst));
        let ready: Vec<_> = ready.collect();
        if let Some(count) = std::num::NonZeroUsize::new(ready.len()) {
            let listen = ready[turn.fetch_add(1, Ordering::SeqCst) % count]
                .place
                .listen;
            tokio::spawn(async move {
                if let Ok(mut instance) = TcpStream::connect(listen).await {
                    // A connection that breaks is for the callers to notice.
                    drop(copy_bidirectional(&mut caller, &mut instance).await);
                }
            });
        }
    }
}
