//! A TCP stream that costs the system little: one plain write where one will do.
//!
//! A message's head and body come in slices, and so does what TLS has to send. The system has more to do for a
//! vectored write than for a plain one; where there is little, to put the slices together costs less than that.
//!
//! And a peer that leaves Nagle's algorithm on gets its acknowledgement at once, where somebody waits for more.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// Slices that are longer together are not put together. Most messages of APIs are shorter with their heads. Beyond
/// 16 KiB copying has been seen to cost what it saves, and this much is on the stack.
const MAX_JOINED_BYTES: usize = 4096;

/// A connection that can end so that nothing more of what was written arrives.
///
/// The system goes on sending what a peer has not acknowledged after a connection was closed, for a quarter of an hour
/// where the network is broken. Whoever waited for a response was told long before that there was none.
pub trait ResetOnClose {
    /// Has the system drop what it has not delivered, and tell the peer so by a reset, as soon as the connection is closed.
    fn reset_on_close(&self);
}

impl ResetOnClose for TcpStream {
    fn reset_on_close(&self) {
        // Where the system refuses, a plain close is all that is left.
        drop(self.set_zero_linger());
    }
}

impl<S: ResetOnClose> ResetOnClose for Socket<S> {
    fn reset_on_close(&self) {
        self.tcp.reset_on_close();
    }
}

impl<S: ResetOnClose> ResetOnClose for TokioIo<S> {
    fn reset_on_close(&self) {
        self.inner().reset_on_close();
    }
}

/// Nothing is on its way in memory.
impl ResetOnClose for DuplexStream {
    fn reset_on_close(&self) {}
}

/// A TCP connection, to a caller or to a server.
#[derive(Debug)]
pub struct Socket<S = TcpStream> {
    /// What it is to the system.
    pub tcp: S,
    /// Whether bytes were read since they were last acknowledged at once.
    has_news: bool,
}

impl<S> Socket<S> {
    /// Nothing was read of it yet.
    pub fn new(tcp: S) -> Self {
        Self {
            tcp,
            has_news: false,
        }
    }
}

impl Socket {
    /// Has the system acknowledge what was read, if anything was since the last time; else it may wait tens of
    /// milliseconds for something to send along. It does so again after what is written next.
    pub fn acknowledge(&mut self) {
        if std::mem::take(&mut self.has_news) {
            // Where the system refuses, it acknowledges later.
            #[cfg(target_os = "linux")]
            drop(self.tcp.set_quickack(true));
        }
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.tcp.connected()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        self.has_news |= buffer.filled().len() > before;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); MAX_JOINED_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        let stream = Pin::new(&mut self.tcp);
        match join(slices, &mut room) {
            Some(bytes) => stream.poll_write(context, bytes),
            None => stream.poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// The bytes of all slices in one; None: the room is too small for them.
fn join<'a>(slices: &'a [IoSlice<'_>], room: &'a mut ReadBuf<'_>) -> Option<&'a [u8]> {
    if let [only] = slices {
        return Some(only);
    }
    for slice in slices {
        if slice.len() > room.remaining() {
            return None;
        }
        room.put_slice(slice);
    }
    Some(room.filled())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes that many bytes of each write, and keeps them with how many slices they came in.
    struct Narrow {
        width: usize,
        taken: Vec<u8>,
        writes: Vec<usize>,
    }

    impl Narrow {
        fn take(&mut self, slices: &[&[u8]]) -> Poll<io::Result<usize>> {
            let bytes = slices.concat();
            let taken = bytes.len().min(self.width);
            self.taken.extend_from_slice(&bytes[..taken]);
            self.writes.push(slices.len());
            Poll::Ready(Ok(taken))
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(&[bytes])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
            self.take(&slices)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes all slices, the way hyper does. How many slices each write of the connection was given.
    async fn written(width: usize, slices: &[&[u8]]) -> Vec<usize> {
        let mut socket = Socket::new(Narrow {
            width,
            taken: Vec::new(),
            writes: Vec::new(),
        });
        let mut all: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut left = &mut all[..];
        while left.iter().any(|slice| !slice.is_empty()) {
            let taken = socket.write_vectored(left).await.unwrap();
            IoSlice::advance_slices(&mut left, taken);
        }
        assert_eq!(socket.tcp.taken, slices.concat());
        socket.tcp.writes
    }

    #[tokio::test]
    async fn few_bytes_are_written_at_once_and_many_as_they_come() {
        let (head, rest) = (&[b'h'; 300][..], &[b'b'; MAX_JOINED_BYTES - 300][..]);
        let long = &[b'l'; MAX_JOINED_BYTES + 1][..];
        for (slices, writes) in [
            (&[head, b"body"][..], 1),
            (&[b"", head, b"", b"1\r\n", b"b", b"\r\n", b""], 1),
            (&[head, rest], 1),
            (&[long], 1),
            (&[head, rest, b"!"], 3),
            (&[head, b"", long], 3),
        ] {
            assert_eq!(written(usize::MAX, slices).await, [writes], "{writes}");
        }
    }

    #[tokio::test]
    async fn what_is_taken_in_part_goes_on_where_that_part_ended() {
        let long = vec![b'l'; MAX_JOINED_BYTES];
        let writes = written(1000, &[b"head", b"", &long, b"end"]).await;
        assert_eq!(writes, [4, 1, 1, 1, 1]);
        assert_eq!(written(3, &[b"head", b"body"]).await, [1, 1, 1]);
    }
}
