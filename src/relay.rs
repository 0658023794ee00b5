//! How does an answer get back to the caller? Streamed as it comes, timed, and counted.
//!
//! The body holds on to everything that must live as long as the answer: the record, which is written
//! when the body is dropped, and the upstream connection, which goes back to its pool at the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::access::Record;
use crate::metrics::Reason;
use crate::upstream::{Connection, Upstream};

/// The body of every answer.
#[derive(Debug)]
pub enum Answer {
    /// Bursar's own.
    Own {
        /// None once it is sent.
        body: Option<Bytes>,
        /// Written when the answer is over.
        record: Option<Box<Record>>,
    },
    /// The provider's.
    Relay(Box<Relay>),
}

/// A provider's body on its way to the caller.
#[derive(Debug)]
pub struct Relay {
    source: Incoming,
    record: Box<Record>,
    /// None once it went back.
    connection: Option<(Connection, Arc<Upstream>)>,
    idle: Option<Pin<Box<Sleep>>>,
    last_byte: Instant,
    idle_timeout: Duration,
}

/// Why a provider's body was cut off. The caller sees a connection that ends early.
#[derive(Debug, thiserror::Error)]
pub enum CutOff {
    /// The provider's connection broke.
    #[error("the provider's answer broke off")]
    Broken(#[source] hyper::Error),
    /// The provider sent no byte for too long.
    #[error("the provider's answer stalled")]
    Stalled,
}

impl Relay {
    /// Relays what a connection brings; the connection goes back to its pool at the end.
    #[must_use]
    pub fn new(
        source: Incoming,
        record: Box<Record>,
        connection: Connection,
        upstream: Arc<Upstream>,
    ) -> Self {
        let idle_timeout = upstream.idle_timeout();
        let mut relay = Self {
            source,
            record,
            connection: Some((connection, upstream)),
            idle: None,
            last_byte: Instant::now(),
            idle_timeout,
        };
        if relay.source.is_end_stream() {
            relay.end();
        }
        relay
    }

    fn end(&mut self) {
        if let Some((connection, upstream)) = self.connection.take() {
            upstream.give_back(connection);
        }
    }

    /// Bytes may keep away for `timeouts.idle`. The timer is only set when they do, and then is as good
    /// for the bytes after.
    fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.last_byte + self.idle_timeout;
            let idle = self
                .idle
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            ready!(idle.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            idle.as_mut().reset(deadline);
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.source).poll_frame(context) else {
            ready!(self.poll_stalled(context));
            self.record.reason(Reason::UpstreamTimeout);
            return Poll::Ready(Some(Err(CutOff::Stalled)));
        };
        self.last_byte = Instant::now();
        match frame {
            Some(Ok(frame)) => {
                self.record.sent(frame.data_ref().map_or(0, Bytes::len));
                if self.source.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.record.reason(Reason::UpstreamProtocol);
                Poll::Ready(Some(Err(CutOff::Broken(error))))
            }
            None => {
                self.end();
                Poll::Ready(None)
            }
        }
    }
}

impl Answer {
    /// Whether the provider has answered before the request's body was read to its end, so that bytes of
    /// it may be left over.
    #[must_use]
    pub fn is_early(&self) -> bool {
        match self {
            Self::Own { .. } => false,
            Self::Relay(relay) => relay.record.is_body_read() == Some(false),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Own { body, record } => {
                let body = body.take();
                if let (Some(body), Some(record)) = (&body, record) {
                    record.sent(body.len());
                }
                Poll::Ready(body.map(|body| Ok(Frame::data(body))))
            }
            Self::Relay(relay) => relay.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { body, .. } => body.is_none(),
            Self::Relay(relay) => relay.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { body, .. } => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Relay(relay) => relay.source.size_hint(),
        }
    }
}
