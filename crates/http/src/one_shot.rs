//! One-shot HTTP/1.1 client: a connection for a single request, which ends with it.

use std::future::Future;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use tokio_util::task::AbortOnDropHandle;

/// A connection that has carried no request yet. It is closed when this is dropped, and the response's body breaks off
/// then where it is not at its end.
#[derive(Debug)]
pub struct OneShot {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

impl OneShot {
    /// Speaks HTTP on a new connection.
    ///
    /// # Errors
    /// Where that is closed already.
    pub async fn over<S>(stream: S) -> hyper::Result<Self>
    where
        S: Read + Write + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(stream).await?;
        Ok(Self {
            sender,
            _driver: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }

    /// Sends its request, whose target is in origin form and whose `Host` is set.
    ///
    /// # Errors
    /// Where no response comes.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> {
        self.sender.send_request(request)
    }
}
