//! Opaque tunnel: the copy both ways between a caller and a server that `CONNECT` has joined, and its time limits.
//!
//! It knows neither policy nor HTTP: what a provider's tunnel carries is served by `bursar::server::accept`, as
//! every other connection is. Nothing of what an opaque tunnel carries is looked at or logged.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;
use tokio_util::io::{InspectReader, InspectWriter};

use crate::connection::Transport;

/// From the answer to `CONNECT` to the first bytes of a provider's tunnel. Then it is closed.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(60);
/// An opaque tunnel is closed after this long without a byte in either direction.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// The same when Bursar is about to end.
const LEAVING_IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// An opaque tunnel is closed after this long in any case.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// A caller's side of an opaque tunnel. Nobody knows whether the caller's system holds something back until what came
/// before is acknowledged (see [`bursar_base::socket`]), so whatever is read is acknowledged at once.
pub struct QuickAck<S> {
    stream: S,
    /// Whether the server's end was passed on, so that all of its bytes are with the system.
    has_ended: bool,
}

impl<S: Transport> QuickAck<S> {
    /// Of that caller.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            has_ended: false,
        }
    }

    /// The tunnel is cut off: closing resets the connection from now on, unless the caller gets all anyway.
    pub fn cut_off(&self) {
        if !self.has_ended {
            self.stream.reset_on_close();
        }
    }
}

impl<S: Transport> AsyncRead for QuickAck<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            self.stream.acknowledge();
        }
        read
    }
}

impl<S: Transport> AsyncWrite for QuickAck<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.has_ended |= matches!(ended, Poll::Ready(Ok(())));
        ended
    }
}

/// How an opaque tunnel ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides have closed.
    Closed,
    /// One side broke off.
    Broken(io::Error),
    /// No byte for [`IDLE_TIMEOUT`], or for less when Bursar is about to end.
    Idle,
    /// It was open for [`TOTAL_TIMEOUT`].
    TooLong,
    /// Bursar ends.
    Left,
}

impl Ended {
    /// Whether more may have been to come: a side that is told of an end would take what it got for all.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        match self {
            Self::Broken(_) | Self::TooLong | Self::Left => true,
            Self::Closed | Self::Idle => false,
        }
    }
}

/// Copies both ways until both sides have closed; one side's end is passed on, and the other way stays
/// open. Bursar is about to end once `leaving` is over, and ends once `last` is. Returns the bytes to and from the server, too.
pub async fn copy(
    mut caller: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    leaving: impl Future<Output = ()>,
    last: impl Future<Output = ()>,
) -> (Ended, u64, u64) {
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let count =
        |bytes: &[u8], way: &AtomicU64| way.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let counted = || [&sent, &received].map(|way| way.load(Ordering::Relaxed));
    let server = InspectWriter::new(server, |bytes: &[u8]| _ = count(bytes, &sent));
    let mut server = InspectReader::new(server, |bytes: &[u8]| _ = count(bytes, &received));
    let ended = {
        let mut copying = pin!(copy_bidirectional(&mut caller, &mut server));
        let mut over = pin!(tokio::time::sleep(TOTAL_TIMEOUT));
        let (mut leaving, mut last) = (pin!(leaving), pin!(last));
        let (mut limit, mut is_leaving) = (IDLE_TIMEOUT, false);
        let mut seen = (counted(), Instant::now());
        loop {
            tokio::select! {
                copied = &mut copying => break match copied {
                    Ok(_) => Ended::Closed,
                    Err(error) => Ended::Broken(error),
                },
                () = &mut over => break Ended::TooLong,
                () = &mut last => break Ended::Left,
                // Looking now and then costs less than a timer that every byte sets anew.
                () = tokio::time::sleep(limit / 10) => {}
                () = &mut leaving, if !is_leaving => {
                    (limit, is_leaving) = (LEAVING_IDLE_TIMEOUT, true);
                    seen.1 = Instant::now();
                }
            }
            let now = Instant::now();
            if counted() != seen.0 {
                seen = (counted(), now);
            } else if now.duration_since(seen.1) >= limit {
                break Ended::Idle;
            }
        }
    };
    let [sent, received] = counted();
    (ended, sent, received)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use bursar_base::socket::Socket;

    #[tokio::test]
    async fn a_caller_that_was_told_of_the_servers_end_is_not_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for has_ended in [false, true] {
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            let mut caller = connecting.await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            let mut tunnelled = QuickAck::new(Socket::new(accepted));
            tunnelled.write_all(b"all").await.unwrap();
            if has_ended {
                tunnelled.shutdown().await.unwrap();
            }
            tunnelled.cut_off();
            drop(tunnelled);
            let mut got = Vec::new();
            let read = caller.read_to_end(&mut got).await;
            assert_eq!(read.is_ok(), has_ended, "{read:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_without_a_byte_is_closed_and_one_with_bytes_is_not() {
        let ((mut caller, inner), (outer, mut server)) =
            (tokio::io::duplex(64), tokio::io::duplex(64));
        let started = Instant::now();
        let copying = tokio::spawn(copy(inner, outer, pending(), pending()));
        for _ in 0..4 {
            tokio::time::sleep(IDLE_TIMEOUT * 3 / 4).await;
            server.write_all(b"tick").await.unwrap();
            caller.read_exact(&mut [0; 4]).await.unwrap();
        }
        let (ended, sent, received) = copying.await.unwrap();
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        assert_eq!((sent, received), (0, 16));
        let idle = started.elapsed().checked_sub(IDLE_TIMEOUT * 3).unwrap();
        assert!(
            idle >= IDLE_TIMEOUT && idle < IDLE_TIMEOUT * 3 / 2,
            "{idle:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_tunnel_ends_soon_when_bursar_is_about_to_and_a_busy_one_goes_on() {
        let ((mut caller, inner), (outer, mut server)) =
            (tokio::io::duplex(64), tokio::io::duplex(64));
        let started = Instant::now();
        let leaving = tokio::time::sleep(LEAVING_IDLE_TIMEOUT * 5);
        let copying = tokio::spawn(copy(inner, outer, leaving, pending()));
        tokio::time::sleep(LEAVING_IDLE_TIMEOUT * 5).await;
        for _ in 0..4 {
            tokio::time::sleep(LEAVING_IDLE_TIMEOUT * 3 / 4).await;
            server.write_all(b"tick").await.unwrap();
            caller.read_exact(&mut [0; 4]).await.unwrap();
        }
        let (ended, ..) = copying.await.unwrap();
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        let idle = started.elapsed() - LEAVING_IDLE_TIMEOUT * 8;
        assert!(
            idle >= LEAVING_IDLE_TIMEOUT && idle < LEAVING_IDLE_TIMEOUT * 3 / 2,
            "{idle:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_after_its_time() {
        let ((mut caller, inner), (outer, mut server)) =
            (tokio::io::duplex(64), tokio::io::duplex(64));
        let started = Instant::now();
        let copying = tokio::spawn(copy(inner, outer, pending(), pending()));
        while !copying.is_finished() {
            // It may be over just now.
            drop(caller.write_all(b"x").await);
            drop(server.read(&mut [0; 1]).await);
            tokio::time::sleep(IDLE_TIMEOUT / 2).await;
        }
        let (ended, ..) = copying.await.unwrap();
        assert!(matches!(ended, Ended::TooLong), "{ended:?}");
        assert!(started.elapsed() >= TOTAL_TIMEOUT);
    }
}
