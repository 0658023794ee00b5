//! Stream to a server, as HTTP is spoken on it: it remembers read readiness, because hyper looks for something to read
//! several times for each request, mostly for nothing; it notices where a TLS 1.3 server refuses the client late; and it
//! tells a reset as one, of which the system tells the first who asks alone.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, ReadBuf};

use super::late_refusal::Watch;
use bursar_base::socket::{ResetOnClose, Socket};

/// A connection, with TLS unless the operator wrote down a loopback address.
pub type Stream = MaybeHttpsStream<Tcp>;
/// A connection without TLS, through a parent proxy perhaps.
pub type Tcp = TokioIo<Socket>;

/// What carries it.
#[must_use]
pub fn socket_of(stream: &Stream) -> &Socket {
    match stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(stream) => stream.inner().get_ref().0.inner().inner(),
    }
}

/// A stream that had nothing to give is asked again only when its socket has something.
#[derive(Debug)]
pub struct ServerStream {
    stream: Stream,
    /// Whether it had nothing. What TLS has read it may hold back, and an error, too, until it is asked once more.
    is_empty: bool,
    /// None: the server cannot refuse the client any more, because something of a response came, say.
    watch: Option<Box<Watch>>,
    /// Whether a write was told that the server has reset the connection. A read is told of an end then.
    is_reset: bool,
}

impl ServerStream {
    pub(super) fn new(stream: Stream, watch: Option<Box<Watch>>) -> Self {
        Self {
            stream,
            is_empty: false,
            watch,
            is_reset: false,
        }
    }

    /// Whether what a read is told of as an end, after so many bytes, is that of a reset.
    fn ends_by_reset(&self, read: &Poll<io::Result<()>>, bytes: usize) -> bool {
        let is_clear = matches!(self.stream, MaybeHttpsStream::Http(_));
        let is_end = match read {
            // In TLS it came with close_notify.
            Poll::Ready(Ok(())) => bytes == 0 && is_clear,
            Poll::Ready(Err(error)) => error.kind() == ErrorKind::UnexpectedEof,
            Poll::Pending => false,
        };
        self.is_reset && is_end
    }

    /// What became of a read that brought so many bytes.
    #[cold]
    fn watched(&mut self, read: &Poll<io::Result<()>>, bytes: usize) {
        match (&self.watch, read) {
            (Some(watch), Poll::Ready(Err(error))) => watch.failed(error),
            (Some(watch), Poll::Ready(Ok(()))) if bytes > 0 => {
                watch.taken();
                self.watch = None;
            }
            _ => {}
        }
    }

    /// What became of a write.
    #[inline]
    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &written {
            self.write_failed(context, error);
        }
        written
    }

    /// A server that refuses the client closes the connection, and what it said before may not have been read.
    #[cold]
    fn write_failed(&mut self, context: &mut Context<'_>, error: &io::Error) {
        self.is_reset |= error.kind() == ErrorKind::ConnectionReset;
        if let (Some(watch), MaybeHttpsStream::Https(stream)) = (&self.watch, &mut self.stream)
            && let Poll::Ready(Err(error)) = Pin::new(stream.inner_mut()).poll_fill_buf(context)
        {
            watch.failed(&error);
        }
    }
}

impl ResetOnClose for ServerStream {
    fn reset_on_close(&self) {
        socket_of(&self.stream).reset_on_close();
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (is_empty, before) = (self.is_empty, buffer.filled().len());
        let read = match &mut self.stream {
            MaybeHttpsStream::Http(stream) => {
                Pin::new(stream.inner_mut()).poll_read(context, buffer)
            }
            MaybeHttpsStream::Https(stream) => {
                let stream = stream.inner_mut();
                if is_empty {
                    let (socket, _) = stream.get_ref();
                    ready!(socket.inner().inner().tcp.poll_read_ready(context))?;
                }
                Pin::new(stream).poll_read(context, buffer)
            }
        };
        self.is_empty = read.is_pending();
        let bytes = buffer.filled().len() - before;
        if self.watch.is_some() {
            self.watched(&read, bytes);
        }
        match self.ends_by_reset(&read, bytes) {
            true => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            false => read,
        }
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            MaybeHttpsStream::Http(stream) => {
                Pin::new(stream.inner_mut()).poll_write(context, bytes)
            }
            MaybeHttpsStream::Https(stream) => {
                Pin::new(stream.inner_mut()).poll_write(context, bytes)
            }
        };
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            MaybeHttpsStream::Http(stream) => {
                Pin::new(stream.inner_mut()).poll_write_vectored(context, slices)
            }
            MaybeHttpsStream::Https(stream) => {
                Pin::new(stream.inner_mut()).poll_write_vectored(context, slices)
            }
        };
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            MaybeHttpsStream::Http(stream) => stream.inner().is_write_vectored(),
            MaybeHttpsStream::Https(stream) => stream.inner().is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            MaybeHttpsStream::Http(stream) => Pin::new(stream.inner_mut()).poll_flush(context),
            MaybeHttpsStream::Https(stream) => Pin::new(stream.inner_mut()).poll_flush(context),
        };
        self.wrote(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            MaybeHttpsStream::Http(stream) => Pin::new(stream.inner_mut()).poll_shutdown(context),
            MaybeHttpsStream::Https(stream) => Pin::new(stream.inner_mut()).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector, server};

    use super::*;

    async fn connected() -> (ServerStream, server::TlsStream<TcpStream>) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = pair.cert.der().clone();
        let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        // Its server sends nothing by itself after the handshake.
        let versions = &[&rustls::version::TLS12];
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tcp = TokioIo::new(TokioIo::new(Socket::new(tcp)));
        let (stream, accepted) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect(name, tcp),
            TlsAcceptor::from(Arc::new(server)).accept(accepted),
        );
        (
            ServerStream::new(stream.unwrap().into(), None),
            accepted.unwrap(),
        )
    }

    /// How many bytes one read brings, of at most 8 KiB, as hyper asks for them.
    async fn read(stream: &mut ServerStream) -> io::Result<usize> {
        let mut room = [0; 8192];
        let reading = poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut room);
            let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
            read.map_ok(|()| buffer.filled().len())
        });
        let reading = tokio::time::timeout(Duration::from_secs(20), reading);
        reading.await.expect("it is told of what is there")
    }

    #[tokio::test]
    async fn what_tls_holds_back_is_not_waited_for() {
        let (mut stream, mut peer) = connected().await;
        peer.write_all(&[b'a'; 12_000]).await.unwrap();
        peer.flush().await.unwrap();
        let mut left = 12_000;
        while left > 0 {
            left -= read(&mut stream).await.unwrap();
        }
        // TLS reads 4 KiB at a time: there is a whole record, and then the rest of one that nobody has encrypted.
        let (mut socket, mut session) = peer.into_inner();
        session.writer().write_all(&[b'a'; 4000]).unwrap();
        let mut wire = Vec::new();
        session.write_tls(&mut wire).unwrap();
        wire.extend_from_slice(&[0x17, 3, 3, 1, 0]);
        wire.resize(wire.len() + 256, 7);
        socket.write_all(&wire).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), 4000);
        read(&mut stream).await.unwrap_err();
    }
}
