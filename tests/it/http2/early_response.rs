//! A response that is over before its request's body was sent: nobody waits for the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;

use super::{Rig, text};
use crate::support::caller::Caller;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, OK, WINDOW_UPDATE, field, frame,
};
use crate::support::raw::Raw;
use crate::support::upstream::stream;
use crate::support::{Latch, eventually, soon};

/// More than the window of a stream, and than what sockets and buffers take beside it.
const LARGE: usize = 10 << 20;
/// The window of a stream, which the provider never widens.
const WINDOW: usize = 65_535;
/// More than that.
const BEGINNING: usize = 100_000;

/// A provider that responds once so many bytes of a body have come and the latch is open, and takes no more of it.
struct Early {
    rig: Rig,
    latch: Latch,
    /// How many of its connections have ended.
    ended: Arc<AtomicUsize>,
}

impl Early {
    async fn start(keys: &str, after: usize, ends: u8) -> Self {
        let (latch, ended) = (Latch::closed(), Arc::<AtomicUsize>::default());
        let (open, count) = (latch.clone(), ended.clone());
        let serve = move |_, frames| respond(frames, after, ends, open.clone(), count.clone());
        let rig = Rig::start(keys, serve).await;
        Self { rig, latch, ended }
    }

    /// Waits until the one connection has ended, with whatever of the body was to come on it.
    async fn connection_ends(&self) {
        eventually(|| async { self.ended.load(Ordering::Relaxed) == 1 }).await;
    }
}

async fn respond(
    mut frames: Frames,
    after: usize,
    ends: u8,
    latch: Latch,
    ended: Arc<AtomicUsize>,
) {
    let mut came = 0;
    while let Some(seen) = frames.next().await {
        if seen.kind == DATA {
            came += seen.payload.len();
        }
        if seen.kind == DATA && came == after || seen.kind == HEADERS && after == 0 {
            latch.wait().await;
            let length: &[u8] = if ends == 0 { b"9" } else { b"5" };
            let head = [OK, &field(b"content-length", length)].concat();
            let mut bytes = frame(HEADERS, END_HEADERS, seen.stream, &head);
            bytes.extend(frame(DATA, ends, seen.stream, b"early"));
            frames.write(bytes).await;
        }
    }
    ended.fetch_add(1, Ordering::Relaxed);
}

/// Begins a request with a large body.
async fn upload(caller: &mut Raw) {
    let head = format!(
        "POST http://api.test/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: {LARGE}\r\n\r\n"
    );
    caller.write(head).await;
    // Until no buffer on the way takes more, so that the body waits for the provider.
    let written = caller.write_until_blocked(LARGE).await;
    assert!((BEGINNING..LARGE).contains(&written), "{written}");
}

#[tokio::test]
async fn an_upload_ends_with_a_response_that_came_before_it_was_taken() {
    let early = Early::start("", WINDOW, END_STREAM).await;
    let mut caller = Raw::connect(early.rig.proxy.listen).await;
    upload(&mut caller).await;
    early.latch.open();
    let reply = caller.read_message().await;
    assert_eq!((reply.status(), reply.text()), (200, "early"));
    assert_eq!(reply.field("connection"), Some("close"));
    // What the caller still sends is read for a while, so that this is an end and no reset.
    assert_eq!(caller.read_to_end().await.unwrap(), b"");
    early.connection_ends().await;
    early.rig.ends_with(1, 0).await;
    let line = &early.rig.proxy.access_lines(1).await[0];
    assert_eq!((text(&line["reason"]), &line["status"]), ("", &200.into()));
}

#[tokio::test]
async fn an_upload_that_is_not_taken_ends_when_its_response_stalls() {
    let early = Early::start("timeouts: {idle: 1s}", WINDOW, 0).await;
    let mut caller = Raw::connect(early.rig.proxy.listen).await;
    upload(&mut caller).await;
    early.latch.open();
    assert!(
        caller.try_read_message().await.is_err(),
        "it looks complete"
    );
    early.connection_ends().await;
    let line = &early.rig.proxy.access_lines(1).await[0];
    assert_eq!(text(&line["reason"]), "upstream_timeout");
}

#[tokio::test]
async fn an_upload_over_http_2_is_read_on_for_a_while_after_its_response() {
    let early = Early::start("", 0, END_STREAM).await;
    early.latch.open();
    let mut caller = Caller::connect_http2(early.rig.proxy.listen).await;
    let (mut sender, body) = stream();
    let request = Request::post("http://api.test/x").body(body);
    let reply = caller.request(request.unwrap()).await;
    assert_eq!(reply.text(), "early");
    let piece = Bytes::from(vec![b'x'; BEGINNING]);
    for _ in 0..9 {
        soon(sender.send_data(piece.clone())).await.unwrap();
    }
    early.rig.ends_with(1, 0).await;
    // Nothing of it waited for the server, so that only its stream was reset.
    assert_eq!(early.ended.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_response_that_has_only_begun_ends_no_upload() {
    let rig = Rig::start("", |_, mut frames| async move {
        let mut taken = 0;
        while let Some(seen) = frames.next().await {
            if seen.kind == HEADERS {
                let head = frame(HEADERS, END_HEADERS, seen.stream, OK);
                frames.write(head).await;
            }
            taken += if seen.kind == DATA {
                seen.payload.len()
            } else {
                0
            };
            if seen.flags & END_STREAM != 0 {
                let body = taken.to_string();
                let body = frame(DATA, END_STREAM, seen.stream, body.as_bytes());
                frames.write(body).await;
            } else if !seen.payload.is_empty() && seen.kind == DATA {
                let more = u32::try_from(seen.payload.len()).unwrap().to_be_bytes();
                let mut windows = frame(WINDOW_UPDATE, 0, 0, &more);
                windows.extend(frame(WINDOW_UPDATE, 0, seen.stream, &more));
                frames.write(windows).await;
            }
        }
    })
    .await;
    let reply = rig.send("POST", "/x", vec![b'x'; LARGE]).await;
    assert_eq!(reply.text(), LARGE.to_string());
    rig.ends_with(1, 0).await;
}
