//! Hyper's part of an HTTP/1 connection: it lasts to the connection's end, or until that rests. Then it is taken apart
//! and its buffers with it, and set up again when something comes.
//!
//! No byte of a message is in it then: all that was read has been answered and the answers are written. The stream
//! knows when ([`ConnectionState::rests`]), because hyper asks it for a head only when the request before is over, and
//! flushes it only when nothing is left to be written.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use crate::server::drain_phase::{DrainPhase, until_closing, until_useless};
use bursar_http::connection::{CallerStream, ConnectionState, Transport};

/// What comes of hyper's part.
enum Step {
    Ended(hyper::Result<()>),
    /// It is of no use any more.
    CutOff,
    Rest,
}

/// Serves a connection to its end, and returns how that came and what is left of it; None: it was cut off.
pub(super) async fn drive<S, V>(
    mut stream: Box<CallerStream<S>>,
    builder: &http1::Builder,
    mut service: V,
    side: &ConnectionState,
    phase: &mut watch::Receiver<DrainPhase>,
) -> (
    Option<hyper::Result<()>>,
    http1::Parts<TokioIo<Box<CallerStream<S>>>, V>,
)
where
    S: Transport,
    V: HttpService<Incoming>,
    V::ResBody: 'static,
    <V::ResBody as Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let phases = phase.clone();
    // Made when it is needed, so that connections do not carry room for it.
    let mut over = None;
    let mut closing = pin!(until_closing(phase));
    let (mut is_closing, mut is_told) = (false, false);
    loop {
        (stream, service) = {
            // In a box, so that a connection that rests has no room for it.
            let mut connection = Box::new(builder.serve_connection(TokioIo::new(stream), service));
            let step = poll_fn(|context| {
                // First, so that a request that has arrived is not taken for none.
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                    return Poll::Ready(Step::Ended(ended));
                }
                is_closing = is_closing || closing.as_mut().poll(context).is_ready();
                if is_closing && !is_told && side.requests() > 0 {
                    is_told = true;
                    Pin::new(&mut *connection).graceful_shutdown();
                    if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                        return Poll::Ready(Step::Ended(ended));
                    }
                }
                if is_closing {
                    let over =
                        over.get_or_insert_with(|| Box::pin(until_useless(phases.clone(), side)));
                    let was_cut_off = side.is_cut_off();
                    if over.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Step::CutOff);
                    }
                    // A request that waits for its provider gets a response now.
                    if !was_cut_off
                        && side.is_cut_off()
                        && let Poll::Ready(ended) = Pin::new(&mut connection).poll(context)
                    {
                        return Poll::Ready(Step::Ended(ended));
                    }
                }
                if side.rests() {
                    return Poll::Ready(Step::Rest);
                }
                Poll::Pending
            })
            .await;
            match step {
                Step::Ended(ended) => return (Some(ended), connection.into_parts()),
                Step::CutOff => return (None, connection.into_parts()),
                Step::Rest => {
                    let parts = connection.into_parts();
                    // Empty lines begin no request. Anything else would be one that nobody knows of.
                    if parts.read_buf.iter().any(|byte| !b"\r\n".contains(byte)) {
                        return (None, parts);
                    }
                    (parts.io.into_inner(), parts.service)
                }
            }
        };
        tracing::trace!("caller connection rests");
        // Whatever ends the rest, hyper deals with it.
        tokio::select! {
            biased;
            () = poll_fn(|context| stream.poll_rested(context)) => {}
            () = &mut closing => is_closing = true,
        }
        stream.wake();
    }
}
