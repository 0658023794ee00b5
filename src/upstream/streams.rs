//! Stream accounting of an HTTP/2 connection: how much it carries and how much more it may. Its pool decides by it, its
//! frames tell it.
//!
//! A worker's pool reads and reserves under its lock; the connection's driver, on the same worker, writes what the
//! server says. A request gives back its part when it is over. Each number stands for itself, so nothing orders them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

use super::peer::Peer;
use super::upload::Hold;

/// Requests on one connection, however many the server would take: their windows together are the connection's, so
/// that no answer waits because nobody reads another.
pub(super) const MAX_STREAMS: u16 = 100;
/// Of every connection, until the server says otherwise (RFC 9113 section 6.9.2).
const FIRST_WINDOW: i64 = 65_535;
/// So much must be left where a body is larger than any window.
const LEAST_WINDOW: i64 = 16 * 1024;
/// How long the server may not read before further requests go elsewhere, in milliseconds. A network that is busy is shorter.
const STUCK_AFTER_MS: u64 = 200;
const NOT_BLOCKED: u64 = u64::MAX;

/// An HTTP/2 connection, as the pool sees it.
#[derive(Debug)]
pub(super) struct Streams {
    /// None in tests.
    peer: Option<Arc<Peer>>,
    open: AtomicUsize,
    /// How many the server wants at most; 1 until its settings came.
    limit: AtomicUsize,
    has_settings: AtomicBool,
    /// Whether the server has sent GOAWAY.
    is_leaving: AtomicBool,
    /// Whether nothing may be written any more.
    is_abandoned: AtomicBool,
    begun: Instant,
    /// Since when what was written waits for the server to read, in milliseconds from `begun`; [`NOT_BLOCKED`] where it does
    /// not.
    blocked_since: AtomicU64,
    /// Heads of requests of which something was written.
    heads: AtomicU64,
    /// Bytes of bodies that the server takes on this connection.
    window: AtomicI64,
    /// Bytes of the bodies of open requests.
    uploads: AtomicU64,
    payments: AtomicUsize,
    /// Whether the connection is to be closed with its last request: something waits to be sent, or is on its way, whose
    /// request is over.
    ends_with_last: AtomicBool,
    /// Wakes whoever reads from the server, to close the connection.
    waker: AtomicWaker,
}

/// What a request asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Bytes of its body; the largest number where nobody knows.
    pub upload: u64,
    /// Whether it moves money. Then the server's settings must have come: they are the first that it sends (RFC 9113 section
    /// 3.4), and one that ends a connection before says nothing of what it has processed.
    pub moves_money: bool,
    /// Whether no other payment may be on the connection.
    pub is_alone: bool,
    /// Whether the connection must be a new one: those that are open have failed it.
    pub is_new: bool,
}

/// One request's place on a connection.
#[derive(Debug)]
pub(super) struct StreamPermit {
    streams: Arc<Streams>,
    need: Need,
    /// What was written when it was sent.
    heads: u64,
    /// None: it has no body, or was not sent yet.
    body: Option<Hold>,
    has_responded: bool,
    /// Whether it was handed over, and nothing is known of it since.
    is_awaited: bool,
}

impl Streams {
    #[cfg(test)]
    pub(super) fn new() -> Arc<Self> {
        Self::with(None)
    }

    /// Of a connection to that server.
    pub(super) fn to(peer: Arc<Peer>) -> Arc<Self> {
        Self::with(Some(peer))
    }

    fn with(peer: Option<Arc<Peer>>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(1),
            has_settings: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            begun: Instant::now(),
            blocked_since: AtomicU64::new(NOT_BLOCKED),
            heads: AtomicU64::new(0),
            window: AtomicI64::new(FIRST_WINDOW),
            uploads: AtomicU64::new(0),
            payments: AtomicUsize::new(0),
            ends_with_last: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Whether the server takes no more requests.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether nothing may be written any more, and the connection is to be closed.
    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }

    /// The same; whoever asks is woken when it changes.
    pub(super) fn poll_abandoned(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.is_abandoned()
    }

    fn abandon(&self) {
        self.leave();
        self.is_abandoned.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Whether the server's settings have come.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings.load(Ordering::Relaxed)
    }

    /// Whether they have, and let it have a request.
    pub(super) fn takes_requests(&self) -> bool {
        self.has_settings() && self.limit.load(Ordering::Relaxed) > 0
    }

    /// How many requests the server's settings allow at once; None: any number.
    pub(super) fn limit(&self, streams: Option<u32>) {
        let most = usize::from(MAX_STREAMS);
        let limit = streams.map_or(most, |limit| most.min(limit as usize));
        self.limit.store(limit, Ordering::Relaxed);
        self.has_settings.store(true, Ordering::Relaxed);
    }

    /// What was written waits for the server to read from now on, or does not any more.
    pub(super) fn block(&self, is_blocked: bool) {
        let was_blocked = self.blocked_since.load(Ordering::Relaxed) != NOT_BLOCKED;
        if is_blocked != was_blocked {
            let since = if is_blocked { self.age() } else { NOT_BLOCKED };
            self.blocked_since.store(since, Ordering::Relaxed);
        }
    }

    /// Whether a request would wait behind what was written, for longer than a server that reads needs.
    fn is_stuck(&self) -> bool {
        let since = self.blocked_since.load(Ordering::Relaxed);
        since != NOT_BLOCKED && self.age().saturating_sub(since) >= STUCK_AFTER_MS
    }

    /// In milliseconds.
    fn age(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(NOT_BLOCKED - 1)
    }

    pub(super) fn head_written(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    /// More bytes of bodies may be sent, or fewer.
    pub(super) fn widen(&self, bytes: i64) {
        self.window.fetch_add(bytes, Ordering::Relaxed);
    }

    fn has_room(&self, need: Need) -> bool {
        self.open.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed)
            && !(need.is_alone && self.payments.load(Ordering::Relaxed) > 0)
            && (self.has_settings() || !need.moves_money)
            && !self.is_stuck()
            && self.takes(need.upload)
    }

    /// Whether a body can be sent without those of other requests being read: the server may let any of them lie.
    fn takes(&self, upload: u64) -> bool {
        if upload == 0 {
            return true;
        }
        let window = self.window.load(Ordering::Relaxed);
        match self.uploads.load(Ordering::Relaxed) {
            // It may have the window for itself.
            0 => window >= LEAST_WINDOW.min(upload.try_into().unwrap_or(i64::MAX)),
            uploads => {
                let all = uploads.saturating_add(upload);
                u64::try_from(window).is_ok_and(|window| all <= window)
            }
        }
    }
}

impl StreamPermit {
    /// None where the connection carries as much as it may.
    pub(super) fn on(streams: &Arc<Streams>, need: Need) -> Option<Self> {
        streams.has_room(need).then(|| Self::of(streams, need))
    }

    /// That of the request for which the connection was made.
    pub(super) fn of(streams: &Arc<Streams>, need: Need) -> Self {
        // So that a sum of all requests' is no more than can be counted.
        let upload = need.upload.min(1 << 40);
        streams.open.fetch_add(1, Ordering::Relaxed);
        streams.uploads.fetch_add(upload, Ordering::Relaxed);
        streams
            .payments
            .fetch_add(usize::from(need.is_alone), Ordering::Relaxed);
        Self {
            streams: streams.clone(),
            need: Need { upload, ..need },
            heads: 0,
            body: None,
            has_responded: false,
            is_awaited: false,
        }
    }

    /// The server at the connection's other end.
    pub(super) fn peer(&self) -> Option<&Arc<Peer>> {
        self.streams.peer.as_ref()
    }

    /// Its request is being handed over.
    pub(super) fn sending(&mut self) {
        self.heads = self.streams.heads.load(Ordering::Relaxed);
        self.is_awaited = true;
    }

    /// That is its body.
    pub(super) fn set_body(&mut self, body: Option<Hold>) {
        self.body = body;
    }

    /// The head of its response has come.
    pub(super) fn responded(&mut self) {
        self.has_responded = true;
        self.is_awaited = false;
    }

    /// No response will come.
    pub(super) fn failed(&mut self) {
        self.is_awaited = false;
    }

    /// Whether its request was not sent and never will be: its head still waits for the server to let it go, and the
    /// connection, which carries no other request, is given up.
    pub(super) fn abandon(&self) -> bool {
        let is_alone = self.streams.open.load(Ordering::Relaxed) == 1;
        let is_abandoned = is_alone && self.is_unsent();
        if is_abandoned {
            self.streams.abandon();
        }
        is_abandoned
    }

    /// Whether no head of a request was written since then, so that its own was not.
    pub(super) fn is_unsent(&self) -> bool {
        self.heads == self.streams.heads.load(Ordering::Relaxed)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let Self { streams, need, .. } = self;
        let is_stuck = self.has_responded && self.body.as_ref().is_some_and(Hold::is_stuck);
        // What cancels it is sent behind it, and may never come where it has not come.
        let is_given_up = self.is_awaited && need.moves_money;
        if is_stuck || is_given_up {
            streams.leave();
            streams.ends_with_last.store(true, Ordering::Relaxed);
        }
        let was_open = streams.open.fetch_sub(1, Ordering::Relaxed);
        if was_open == 1 && streams.ends_with_last.load(Ordering::Relaxed) {
            streams.abandon();
        }
        streams.uploads.fetch_sub(need.upload, Ordering::Relaxed);
        streams
            .payments
            .fetch_sub(usize::from(need.is_alone), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::upload::UploadBody;

    const fn upload(upload: u64) -> Need {
        Need {
            upload,
            is_alone: false,
            moves_money: false,
            is_new: false,
        }
    }

    #[test]
    fn a_connection_is_given_up_for_a_request_that_waits_on_it_alone_and_was_not_sent() {
        let streams = Streams::new();
        let mut first = StreamPermit::of(&streams, upload(0));
        first.sending();
        let second = StreamPermit::of(&streams, upload(0));
        assert!(!first.abandon() && !streams.is_abandoned());
        drop(second);
        streams.head_written();
        assert!(!first.abandon());
        first.sending();
        assert!(first.abandon() && streams.is_abandoned() && streams.is_leaving());
    }

    #[test]
    fn a_connection_with_a_body_that_is_stuck_after_its_response_is_closed_with_its_last_request() {
        let streams = Streams::new();
        streams.limit(None);
        let mut body = UploadBody::new("x".to_owned());
        let mut first = StreamPermit::on(&streams, upload(1)).unwrap();
        first.set_body(body.watch());
        first.responded();
        drop(body);
        drop(first);
        // Without a response hyper ends what sends the body.
        let mut body = UploadBody::new("x".to_owned());
        let mut unanswered = StreamPermit::on(&streams, upload(1)).unwrap();
        unanswered.set_body(body.watch());
        drop(unanswered);
        assert!(!streams.is_leaving() && !streams.is_abandoned());
        let mut second = StreamPermit::on(&streams, upload(1)).unwrap();
        second.set_body(body.watch());
        second.responded();
        let third = StreamPermit::on(&streams, upload(0)).unwrap();
        drop(second);
        assert!(streams.is_leaving() && !streams.is_abandoned());
        drop(third);
        assert!(streams.is_abandoned());
    }

    #[test]
    fn uploads_share_a_window_only_where_all_of_them_fit() {
        let streams = Streams::new();
        streams.limit(None);
        let _small = StreamPermit::on(&streams, upload(60_000)).unwrap();
        assert!(StreamPermit::on(&streams, upload(6000)).is_none());
        let beside = StreamPermit::on(&streams, upload(5535)).unwrap();
        assert!(StreamPermit::on(&streams, upload(1)).is_none());
        assert!(StreamPermit::on(&streams, upload(0)).is_some());
        drop(beside);
        streams.widen(1_000_000);
        assert!(StreamPermit::on(&streams, upload(500_000)).is_some());
        assert!(StreamPermit::on(&streams, upload(u64::MAX)).is_none());
    }

    #[test]
    fn an_upload_without_a_known_length_has_the_window_for_itself() {
        let streams = Streams::new();
        streams.limit(None);
        let unknown = StreamPermit::on(&streams, upload(u64::MAX)).unwrap();
        assert!(StreamPermit::on(&streams, upload(1)).is_none());
        drop(unknown);
        streams.widen(-60_000);
        assert!(StreamPermit::on(&streams, upload(u64::MAX)).is_none());
        assert!(StreamPermit::on(&streams, upload(5535)).is_some());
    }

    #[test]
    fn one_payment_at_a_time_beside_any_number_of_reads() {
        let payment = Need {
            is_alone: true,
            ..Need::default()
        };
        let streams = Streams::new();
        streams.limit(Some(3));
        let paying = StreamPermit::on(&streams, payment).unwrap();
        assert!(StreamPermit::on(&streams, payment).is_none());
        let reading = (0..2).map(|_| StreamPermit::on(&streams, Need::default()));
        let _reading: Vec<_> = reading.map(Option::unwrap).collect();
        assert!(StreamPermit::on(&streams, Need::default()).is_none());
        drop(paying);
        assert!(StreamPermit::on(&streams, payment).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_takes_no_request_while_its_server_does_not_read_for_long() {
        let streams = Streams::new();
        streams.limit(None);
        let half = std::time::Duration::from_millis(STUCK_AFTER_MS / 2);
        streams.block(true);
        assert!(StreamPermit::on(&streams, Need::default()).is_some());
        tokio::time::advance(half).await;
        // Since the first of them.
        streams.block(true);
        tokio::time::advance(half).await;
        assert!(StreamPermit::on(&streams, Need::default()).is_none());
        streams.block(false);
        assert!(StreamPermit::on(&streams, Need::default()).is_some());
    }

    #[test]
    fn a_connection_is_open_while_it_carries_a_request_and_no_longer() {
        let streams = Streams::new();
        assert!(!streams.is_open());
        let (first, second) = (
            StreamPermit::of(&streams, Need::default()),
            StreamPermit::of(&streams, Need::default()),
        );
        drop(first);
        assert!(streams.is_open());
        drop(second);
        assert!(!streams.is_open());
    }

    #[test]
    fn before_its_settings_a_connection_takes_one_request_that_does_not_need_them() {
        let streams = Streams::new();
        let moves_money = Need {
            moves_money: true,
            ..Need::default()
        };
        assert!(!streams.has_settings() && !streams.takes_requests());
        assert!(StreamPermit::on(&streams, moves_money).is_none());
        let only = StreamPermit::on(&streams, Need::default()).unwrap();
        assert!(StreamPermit::on(&streams, Need::default()).is_none());
        drop(only);
        streams.limit(Some(0));
        assert!(streams.has_settings() && !streams.takes_requests());
        assert!(StreamPermit::on(&streams, moves_money).is_none());
        streams.limit(Some(1));
        assert!(streams.takes_requests());
        assert!(StreamPermit::on(&streams, moves_money).is_some());
    }

    #[test]
    fn a_request_is_unsent_until_a_head_is_written() {
        let streams = Streams::new();
        streams.head_written();
        let mut place = StreamPermit::of(&streams, Need::default());
        place.sending();
        assert!(place.is_unsent());
        streams.head_written();
        assert!(!place.is_unsent());
    }
}
