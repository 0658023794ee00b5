use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::*;

const IDLE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("the stream broke")]
struct StreamError;

#[derive(Debug, Clone)]
enum Event {
    Data(Bytes),
    Trailers,
    Broken,
    End,
}

/// A provider's stream whose frames a test hands in. It panics where it is polled after its end or its error.
#[derive(Debug, Clone, Default)]
struct Stream(Arc<Mutex<Provider>>);

#[derive(Debug, Default)]
struct Provider {
    events: VecDeque<Event>,
    /// By a known length: what is left of it.
    left: Option<u64>,
    /// Whether the end is known without being asked for, as HTTP/1.1 knows it by the length.
    announces_end: bool,
    is_over: bool,
    waker: Option<Waker>,
}

impl Stream {
    fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let stream = Self::default();
        events.into_iter().for_each(|event| stream.bring(event));
        stream
    }

    /// As HTTP/1.1 has it where the length is known, or HTTP/2, which says the end apart.
    fn with_length(left: u64, announces_end: bool) -> Self {
        let stream = Self::default();
        let mut provider = stream.0.lock().unwrap();
        provider.left = Some(left);
        provider.announces_end = announces_end;
        drop(provider);
        stream
    }

    fn bring(&self, event: Event) {
        let mut provider = self.0.lock().unwrap();
        provider.events.push_back(event);
        if let Some(waker) = provider.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let mut provider = self.0.lock().unwrap();
        assert!(!provider.is_over, "nobody polls a stream that is over");
        let Some(event) = provider.events.pop_front() else {
            provider.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(match event {
            Event::Data(data) => {
                if let Some(left) = &mut provider.left {
                    *left -= data.len() as u64;
                }
                Some(Ok(Frame::data(data)))
            }
            Event::Trailers => {
                let fields = ["x-sum", "x-own", "content-length"];
                let fields = fields
                    .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
                Some(Ok(Frame::trailers(HeaderMap::from_iter(fields))))
            }
            Event::Broken => {
                provider.is_over = true;
                Some(Err(StreamError))
            }
            Event::End => {
                provider.is_over = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let provider = self.0.lock().unwrap();
        provider.announces_end && provider.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.lock().unwrap().left;
        left.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

/// What a body has told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    sent: usize,
    reasons: Vec<Reason>,
    limits: Vec<Limit>,
    broke_off: Vec<String>,
    released: usize,
    dropped: usize,
}

#[derive(Debug)]
struct Fake {
    told: Arc<Mutex<Told>>,
    is_http2: bool,
    /// The journal's word on the end.
    commit: Mutex<Option<oneshot::Receiver<bool>>>,
}

impl Fake {
    fn new(is_http2: bool, commit: Option<oneshot::Receiver<bool>>) -> Self {
        Self {
            told: Arc::default(),
            is_http2,
            commit: Mutex::new(commit),
        }
    }
}

/// A write to the journal.
#[derive(Debug)]
struct Write(oneshot::Receiver<bool>);

impl Future for Write {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|written| written == Ok(true))
    }
}

impl RelayContext for Fake {
    type Commit = Write;

    fn add_sent(&mut self, bytes: usize) {
        self.told.lock().unwrap().sent += bytes;
    }

    fn fail(&mut self, reason: Reason, _detail: RefusalDetail) {
        self.told.lock().unwrap().reasons.push(reason);
    }

    fn count_limit(&self, limit: Limit) {
        self.told.lock().unwrap().limits.push(limit);
    }

    fn complete(&mut self) -> Option<Write> {
        self.commit.lock().unwrap().take().map(Write)
    }

    fn is_http2(&self) -> bool {
        self.is_http2 && self.told.lock().unwrap().released == 0
    }

    fn broke_off(&self, error: &(dyn Error + 'static)) {
        self.told.lock().unwrap().broke_off.push(error.to_string());
    }

    fn release_connection(&mut self) {
        self.told.lock().unwrap().released += 1;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.told.lock().unwrap().dropped += 1;
    }
}

type Relay = RelayBody<Stream, Fake>;

fn relay(stream: &Stream, context: Fake) -> Box<Relay> {
    let named = vec![HeaderName::from_static("x-own")];
    RelayBody::new(stream.clone(), named, context, IDLE)
}

/// A body, and what it tells.
fn rig(stream: &Stream) -> (Box<Relay>, Arc<Mutex<Told>>) {
    let context = Fake::new(false, None);
    let told = context.told.clone();
    (relay(stream, context), told)
}

fn data(text: &'static str) -> Event {
    Event::Data(Bytes::from_static(text.as_bytes()))
}

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, CutOff>>>;

fn poll(relay: &mut Relay) -> PolledFrame {
    relay.poll_frame(&mut Context::from_waker(Waker::noop()))
}

fn bytes(polled: PolledFrame) -> Bytes {
    let Poll::Ready(Some(Ok(frame))) = polled else {
        panic!("there is no frame, but {polled:?}");
    };
    frame.into_data().expect("they are no trailers")
}

#[tokio::test]
async fn frames_pass_are_counted_and_release_the_connection_at_the_end() {
    for (stream, is_announced) in [
        (Stream::with_length(5, true), true),
        (Stream::default(), false),
    ] {
        let (mut relay, told) = rig(&stream);
        stream.bring(data("he"));
        assert_eq!(bytes(poll(&mut relay)), "he");
        assert!(poll(&mut relay).is_pending());
        stream.bring(data("llo"));
        assert_eq!(bytes(poll(&mut relay)), "llo");
        assert_eq!(relay.is_end_stream(), is_announced);
        if !is_announced {
            stream.bring(Event::End);
            assert!(matches!(poll(&mut relay), Poll::Ready(None)));
            assert!(relay.is_end_stream());
        }
        drop(relay);
        let expected = Told {
            sent: 5,
            released: 1,
            dropped: 1,
            ..Told::default()
        };
        assert_eq!(*told.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn the_connection_of_a_body_that_is_dropped_early_is_not_released() {
    for polls in 0..3 {
        let stream = Stream::with_length(3, true);
        let (mut relay, told) = rig(&stream);
        for text in ["a", "b", "c"] {
            stream.bring(data(text));
        }
        for _ in 0..polls {
            assert!(poll(&mut relay).is_ready());
        }
        drop(relay);
        let told = told.lock().unwrap();
        assert_eq!((told.sent, told.released, told.dropped), (polls, 0, 1));
    }
}

#[tokio::test]
async fn a_response_without_a_body_releases_its_connection_at_once() {
    let (relay, told) = rig(&Stream::with_length(0, true));
    assert!(relay.is_end_stream());
    assert_eq!(told.lock().unwrap().released, 1);
}

#[tokio::test]
async fn the_end_waits_for_the_journal_whatever_it_says() {
    for (announces_end, is_written) in [(true, true), (true, false), (false, true)] {
        let stream = Stream::with_length(3, announces_end);
        let (write, commit) = oneshot::channel();
        let context = Fake::new(false, Some(commit));
        let mut relay = relay(&stream, context);
        stream.bring(data("a"));
        assert_eq!(bytes(poll(&mut relay)), "a", "it is not the last");
        stream.bring(data("bc"));
        assert!(poll(&mut relay).is_pending());
        assert!(!relay.is_end_stream());
        write.send(is_written).unwrap();
        assert_eq!(bytes(poll(&mut relay)), "bc");
        assert_eq!(relay.is_end_stream(), announces_end);
    }
}

#[tokio::test]
async fn an_end_that_nobody_announces_waits_for_the_journal_too() {
    let stream = Stream::of([data("a"), Event::End]);
    let (write, commit) = oneshot::channel();
    let context = Fake::new(false, Some(commit));
    let mut relay = relay(&stream, context);
    assert_eq!(bytes(poll(&mut relay)), "a");
    assert!(poll(&mut relay).is_pending());
    assert!(!relay.is_end_stream(), "it has to be asked again");
    write.send(true).unwrap();
    assert!(matches!(poll(&mut relay), Poll::Ready(None)));
    assert!(relay.is_end_stream());
}

#[tokio::test]
async fn a_small_body_that_is_there_is_gathered_once_the_journal_has_its_end() {
    for announces_end in [true, false] {
        let stream = Stream::with_length(3, announces_end);
        stream.bring(data("abc"));
        let (write, commit) = oneshot::channel();
        let mut relay = relay(&stream, Fake::new(false, Some(commit)));
        {
            let mut gathering = std::pin::pin!(relay.gather());
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..3 {
                assert!(gathering.as_mut().poll(&mut context).is_pending());
            }
            write.send(true).unwrap();
            assert!(gathering.as_mut().poll(&mut context).is_ready());
        }
        assert!(!relay.is_end_stream(), "its bytes have not gone");
        assert_eq!(relay.size_hint().exact(), Some(3));
        assert_eq!(bytes(poll(&mut relay)), "abc");
        assert_eq!(relay.is_end_stream(), announces_end);
    }
}

#[tokio::test]
async fn what_is_not_there_yet_holds_no_head_back_and_follows() {
    let stream = Stream::with_length(3, true);
    let (_write, commit) = oneshot::channel();
    let mut relay = relay(&stream, Fake::new(false, Some(commit)));
    relay.gather().await;
    stream.bring(data("a"));
    relay.gather().await;
    assert_eq!(relay.size_hint().exact(), Some(3));
    assert_eq!(bytes(poll(&mut relay)), "a");
    stream.bring(data("bc"));
    assert!(poll(&mut relay).is_pending(), "the journal has no end yet");
}

#[tokio::test]
async fn a_break_that_is_seen_while_gathering_leaves_time_for_the_head() {
    let stream = Stream::of([Event::Broken]);
    let (mut relay, _told) = rig(&stream);
    relay.gather().await;
    assert!(poll(&mut relay).is_pending(), "hyper writes the head");
    assert!(matches!(
        poll(&mut relay),
        Poll::Ready(Some(Err(CutOff::Broken(_))))
    ));
}

#[tokio::test]
async fn a_response_without_a_body_ends_once_the_journal_has_it() {
    let (write, commit) = oneshot::channel();
    let context = Fake::new(false, Some(commit));
    let mut relay = relay(&Stream::with_length(0, true), context);
    assert!(!relay.is_end_stream());
    assert!(poll(&mut relay).is_pending());
    write.send(true).unwrap();
    assert!(matches!(poll(&mut relay), Poll::Ready(None)));
    assert!(relay.is_end_stream());
}

#[tokio::test]
async fn trailers_go_on_without_what_was_for_this_hop() {
    let stream = Stream::of([Event::Trailers]);
    let (mut relay, _) = rig(&stream);
    let Poll::Ready(Some(Ok(frame))) = poll(&mut relay) else {
        panic!("there are trailers");
    };
    let trailers = frame.into_trailers().unwrap();
    let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-sum"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_cut_off_and_each_byte_gives_it_more_time() {
    let stream = Stream::default();
    let (mut relay, told) = rig(&stream);
    let start = Instant::now();
    for _ in 0..3 {
        let waiting = poll_fn(|context| relay.poll_frame(context));
        let early = tokio::time::timeout(IDLE - Duration::from_secs(1), waiting);
        early.await.unwrap_err();
        stream.bring(data("a"));
        assert_eq!(bytes(poll(&mut relay)), "a");
    }
    let error = poll_fn(|context| relay.poll_frame(context)).await;
    assert!(matches!(error, Some(Err(CutOff::Stalled))), "{error:?}");
    assert_eq!(start.elapsed(), (IDLE - Duration::from_secs(1)) * 3 + IDLE);
    let told = told.lock().unwrap();
    assert_eq!(
        (&*told.reasons, told.released),
        (&[Reason::UpstreamTimeout][..], 0)
    );
}

#[tokio::test]
async fn before_it_hears_that_a_body_broke_off_hyper_may_write_what_it_has() {
    let stream = Stream::of([data("a"), Event::Broken]);
    let (mut relay, told) = rig(&stream);
    assert_eq!(bytes(poll(&mut relay)), "a");
    let task = Arc::<Task>::default();
    let waker = task.clone().into();
    let first = relay.poll_frame(&mut Context::from_waker(&waker));
    assert!(first.is_pending());
    assert_eq!(task.0.load(Ordering::Relaxed), 1, "it is to look again");
    let Poll::Ready(Some(Err(error))) = poll(&mut relay) else {
        panic!("then it hears of it");
    };
    assert!(matches!(error, CutOff::Broken(_)), "{error:?}");
    let source = error.source().map(ToString::to_string);
    assert_eq!(source.as_deref(), Some("the stream broke"));
    assert!(!relay.is_end_stream());
    drop(relay);
    let expected = Told {
        sent: 1,
        reasons: vec![Reason::UpstreamProtocol],
        broke_off: vec!["the stream broke".to_owned()],
        dropped: 1,
        ..Told::default()
    };
    assert_eq!(*told.lock().unwrap(), expected);
}

#[tokio::test]
async fn over_http2_an_end_before_the_length_is_no_end() {
    let stream = Stream::with_length(2, false);
    stream.bring(data("a"));
    stream.bring(Event::End);
    let context = Fake::new(true, None);
    let told = context.told.clone();
    let mut relay = relay(&stream, context);
    assert_eq!(bytes(poll(&mut relay)), "a");
    let error = poll_fn(|context| relay.poll_frame(context)).await;
    assert!(matches!(error, Some(Err(CutOff::Short))), "{error:?}");
    let told = told.lock().unwrap();
    assert_eq!(
        (&*told.reasons, told.released),
        (&[Reason::UpstreamProtocol][..], 0)
    );
}

#[tokio::test]
async fn over_http2_a_reset_behind_every_byte_ends_the_body_without_the_journal() {
    let stream = Stream::with_length(1, false);
    let (_write, commit) = oneshot::channel();
    let context = Fake::new(true, Some(commit));
    let told = context.told.clone();
    let mut relay = relay(&stream, context);
    stream.bring(Event::Data(Bytes::new()));
    assert_eq!(bytes(poll(&mut relay)), "");
    stream.0.lock().unwrap().left = None;
    stream.bring(Event::End);
    assert!(matches!(poll(&mut relay), Poll::Ready(None)));
    let told = told.lock().unwrap();
    assert_eq!((told.reasons.len(), told.released), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pumped_body_goes_in_pieces_and_ends_as_it_should() {
    let stream = Stream::of([
        Event::Data(Bytes::from(vec![b'x'; PIECE_BYTES * 2 + 1])),
        Event::Trailers,
        Event::End,
    ]);
    let (relay, told) = rig(&stream);
    let mut body = relay.pump();
    let mut sizes = Vec::new();
    while let Some(frame) = body.frame().await {
        sizes.push(frame.unwrap().into_data().map_or(0, |data| data.len()));
    }
    assert_eq!(sizes, [PIECE_BYTES, PIECE_BYTES, 1, 0]);
    assert!(body.is_end_stream());
    tokio::task::yield_now().await;
    let told = told.lock().unwrap();
    assert_eq!((told.released, told.dropped, told.reasons.len()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pumped_body_that_nobody_takes_is_cut_off() {
    let frames = (0..5).map(|_| data("a"));
    let stream = Stream::of(frames);
    let (relay, told) = rig(&stream);
    let mut body = relay.pump();
    tokio::time::sleep(IDLE * 2).await;
    let expected = Told {
        // One is on its way, and one waits to be.
        sent: 2,
        reasons: vec![Reason::RequestTimeout],
        limits: vec![Limit::WriteTimeout],
        dropped: 1,
        ..Told::default()
    };
    assert_eq!(*told.lock().unwrap(), expected);
    body.frame().await.unwrap().unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, CutOff::Untaken), "{error:?}");
    assert!(!body.is_end_stream(), "that was not all");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_lets_go_of_a_pumped_body_ends_it_at_once() {
    let stream = Stream::default();
    let (relay, told) = rig(&stream);
    drop(relay.pump());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let expected = Told {
        dropped: 1,
        ..Told::default()
    };
    assert_eq!(*told.lock().unwrap(), expected);
}
