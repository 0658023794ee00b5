//! Body reading: a whole body within a limit, and the first look at one whose sender waits for `100 Continue`.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// It is larger than the limit.
    #[error("the body is too large")]
    TooLarge,
    /// The stream broke.
    #[error("the body broke off")]
    Broken(#[source] E),
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// Where it is larger, or breaks off.
pub async fn read_limited<B>(mut body: B, limit: usize) -> Result<Bytes, ReadError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() {
            if read.len() + data.len() > limit {
                return Err(ReadError::TooLarge);
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// Has a caller over HTTP/1.1 be told to send its body, which it expects, before anything is decided. hyper reads the
/// body, and says `100 Continue`, only once somebody has asked. False, which is not to be: something was there before.
pub async fn trigger_continue<B: Body + Unpin>(body: &mut B) -> bool {
    let ask = poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context)));
    let is_untouched = ask.await.is_pending();
    // hyper says it when it is polled again, and not if there is a response by then.
    tokio::task::yield_now().await;
    is_untouched
}
