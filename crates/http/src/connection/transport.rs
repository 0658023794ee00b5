//! Transports of callers' bytes: TCP, TLS over it, or a stream of an HTTP/2 connection.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use bursar_base::socket::{ResetOnClose, Socket};

/// What carries a caller's bytes.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// Closing resets the connection from now on, as far as the transport can say so.
    fn reset_on_close(&self);

    /// Tells the caller at once what has come of it, if anything has since the last time.
    fn acknowledge(&mut self);
}

impl Transport for Socket {
    fn reset_on_close(&self) {
        ResetOnClose::reset_on_close(self);
    }

    fn acknowledge(&mut self) {
        Self::acknowledge(self);
    }
}

impl<S: Transport> Transport for TlsStream<S> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }

    fn acknowledge(&mut self) {
        self.get_mut().0.acknowledge();
    }
}

/// A stream of an HTTP/2 connection, which others share.
impl Transport for TokioIo<Upgraded> {
    fn reset_on_close(&self) {}

    // Its frames are the connection's, which is read all the time.
    fn acknowledge(&mut self) {}
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn reset_on_close(&self) {
        (**self).reset_on_close();
    }

    fn acknowledge(&mut self) {
        (**self).acknowledge();
    }
}
