use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

/// What a caller's stream brings.
#[derive(Debug, Clone)]
enum Event {
    Data(Bytes),
    Trailers,
    Broken,
    End,
}

#[derive(Debug, thiserror::Error)]
#[error("the stream broke")]
struct StreamError;

/// A caller's stream whose frames a test hands in. It panics where it is polled after its end or its error.
#[derive(Debug, Clone)]
struct Stream(Arc<Mutex<Caller>>);

#[derive(Debug, Default)]
struct Caller {
    events: VecDeque<Event>,
    is_over: bool,
    /// Whether the end is known with the last frame.
    announces_end: bool,
    /// By a known length: what is left of it.
    left: Option<u64>,
    polls: usize,
    waker: Option<Waker>,
}

impl Stream {
    /// One byte after the other has yet to come.
    fn new() -> Self {
        Self(Arc::default())
    }

    fn with_length(left: usize) -> Self {
        let stream = Self::new();
        stream.0.lock().unwrap().left = Some(left as u64);
        stream.0.lock().unwrap().announces_end = true;
        stream
    }

    fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let stream = Self::new();
        events.into_iter().for_each(|event| stream.bring(event));
        stream
    }

    fn bring(&self, event: Event) {
        let mut caller = self.0.lock().unwrap();
        caller.events.push_back(event);
        if let Some(waker) = caller.waker.take() {
            waker.wake();
        }
    }

    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let mut caller = self.0.lock().unwrap();
        caller.polls += 1;
        assert!(!caller.is_over, "nobody polls a stream that is over");
        let Some(event) = caller.events.pop_front() else {
            caller.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(match event {
            Event::Data(data) => {
                if let Some(left) = &mut caller.left {
                    *left -= data.len() as u64;
                }
                Some(Ok(Frame::data(data)))
            }
            Event::Trailers => Some(Ok(Frame::trailers(trailers()))),
            Event::Broken => {
                caller.is_over = true;
                Some(Err(StreamError))
            }
            Event::End => {
                caller.is_over = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        let caller = self.0.lock().unwrap();
        let is_next = matches!(caller.events.front(), Some(Event::End));
        caller.announces_end && (is_next || caller.left == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        let caller = self.0.lock().unwrap();
        caller.left.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

fn data(text: &'static str) -> Event {
    Event::Data(Bytes::from_static(text.as_bytes()))
}

/// With a field that no trailer may have.
fn trailers() -> HeaderMap {
    let fields = [("x-sum", "42"), ("content-length", "9")];
    let fields = fields.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    HeaderMap::from_iter(fields)
}

/// What goes on of [`trailers`].
fn cleaned() -> HeaderMap {
    let mut trailers = trailers();
    trailers.remove("content-length");
    trailers
}

fn limits(buffer: usize) -> ReplayLimits {
    ReplayLimits {
        buffer,
        memory: ReplayMemory::new(1 << 20),
    }
}

fn replay_body(stream: &Stream) -> ReplayBody<Stream> {
    replay_body_within(stream, limits(1 << 20))
}

fn replay_body_within(stream: &Stream, limits: ReplayLimits) -> ReplayBody<Stream> {
    ReplayBody::new(stream.clone(), TrailerRules::default(), limits).unwrap()
}

/// Counts how often a task was woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    fn poll(self: &Arc<Self>, sending: &mut Sending<Stream>) -> PolledFrame {
        let waker = self.clone().into();
        Pin::new(sending).poll_frame(&mut Context::from_waker(&waker))
    }

    fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll(sending: &mut Sending<Stream>) -> PolledFrame {
    Arc::<Task>::default().poll(sending)
}

/// The bytes of a frame that is there.
fn bytes(polled: PolledFrame) -> Bytes {
    let Poll::Ready(Some(Ok(frame))) = polled else {
        panic!("there is no frame, but {polled:?}");
    };
    frame.into_data().expect("they are no trailers")
}

#[track_caller]
fn assert_superseded(polled: PolledFrame) {
    let is_superseded = matches!(polled, Poll::Ready(Some(Err(RequestBodyError::Superseded))));
    assert!(is_superseded, "{polled:?}");
}

/// All that is there of a sending, up to its end, an error, or a wait.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    frames: usize,
    trailers: Option<HeaderMap>,
    error: Option<RequestBodyError>,
    waits: bool,
}

impl Received {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// That it is the whole body, which has ended as it should.
    #[track_caller]
    fn assert_whole(&self, text: &str, trailers: Option<HeaderMap>) {
        assert_eq!(self.text(), text);
        assert_eq!(self.trailers, trailers);
        assert!(self.error.is_none() && !self.waits, "{self:?}");
    }
}

fn receive(sending: &mut Sending<Stream>) -> Received {
    let mut received = Received::default();
    loop {
        match poll(sending) {
            Poll::Pending => received.waits = true,
            Poll::Ready(None) => {}
            Poll::Ready(Some(Err(error))) => received.error = Some(error),
            Poll::Ready(Some(Ok(frame))) => {
                received.frames += 1;
                match frame.into_data() {
                    Ok(data) => received.bytes.extend_from_slice(&data),
                    Err(frame) => received.trailers = frame.into_trailers().ok(),
                }
                continue;
            }
        }
        return received;
    }
}

#[test]
fn a_body_is_sent_again_from_its_first_byte() {
    let stream = Stream::of([data("hello"), data(" "), data("world"), Event::End]);
    let body = replay_body(&stream);
    for _ in 0..3 {
        let mut sending = body.begin_sending().unwrap();
        receive(&mut sending).assert_whole("hello world", None);
        assert!(
            matches!(poll(&mut sending), Poll::Ready(None)),
            "it stays ended"
        );
    }
    assert_eq!(body.bytes_read(), 11, "what is repeated is not read again");
    assert_eq!(body.whole(11).unwrap(), b"hello world");
    assert_eq!(body.whole(10), None);
}

#[test]
fn a_second_sending_goes_on_where_the_first_had_come_to() {
    let stream = Stream::of([data("hello")]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    assert_eq!(receive(&mut first).text(), "hello");
    let mut second = body.begin_sending().unwrap();
    stream.bring(data(" world"));
    stream.bring(Event::End);
    assert_eq!(bytes(poll(&mut second)), "hello");
    receive(&mut second).assert_whole(" world", None);
    assert_superseded(poll(&mut first));
}

#[test]
fn dropped_after_any_number_of_polls_a_sending_leaves_the_whole_body_to_the_next() {
    let events = [data("a"), data("bc"), data("def"), Event::Trailers];
    for first in 0..6 {
        for second in 0..6 {
            let stream = Stream::of(events.clone());
            let body = replay_body(&stream);
            for polls in [first, second] {
                let mut sending = body.begin_sending().unwrap();
                for _ in 0..polls {
                    assert!(poll(&mut sending).is_ready());
                }
            }
            let mut sending = body.begin_sending().unwrap();
            receive(&mut sending).assert_whole("abcdef", Some(cleaned()));
        }
    }
}

#[test]
fn dropped_while_it_waits_a_sending_leaves_the_wait_to_the_next() {
    let stream = Stream::of([data("a")]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    assert!(receive(&mut first).waits);
    drop(first);
    let mut second = body.begin_sending().unwrap();
    assert_eq!(bytes(poll(&mut second)), "a");
    let task = Arc::<Task>::default();
    assert!(task.poll(&mut second).is_pending());
    stream.bring(data("b"));
    assert_eq!(task.wakes(), 1);
    stream.bring(Event::End);
    receive(&mut second).assert_whole("b", None);
}

#[test]
fn of_two_sendings_polled_in_turn_the_later_one_gets_every_byte() {
    let stream = Stream::of([data("a"), data("b"), data("c"), data("d"), Event::End]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    assert_eq!(bytes(poll(&mut first)), "a");
    assert_eq!(bytes(poll(&mut first)), "b");
    let mut second = body.begin_sending().unwrap();
    for expected in ["ab", "c", "d"] {
        assert_superseded(poll(&mut first));
        assert!(!first.is_end_stream());
        assert_eq!(bytes(poll(&mut second)), expected);
    }
    assert!(matches!(poll(&mut second), Poll::Ready(None)));
    assert_superseded(poll(&mut first));
    assert!(!first.is_end_stream(), "it must not look complete");
}

#[test]
fn a_superseded_sending_neither_repeats_nor_reads() {
    let stream = Stream::of([data("a"), data("b"), Event::End]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    assert_eq!(bytes(poll(&mut first)), "a");
    let mut second = body.begin_sending().unwrap();
    let _third = body.begin_sending().unwrap();
    let polls = stream.polls();
    for sending in [&mut first, &mut second] {
        assert_superseded(poll(sending));
    }
    assert_eq!(stream.polls(), polls);
}

#[test]
fn a_sending_that_waits_is_woken_when_it_is_superseded_or_the_body_abandoned() {
    for is_abandoned in [false, true] {
        let stream = Stream::of([data("a")]);
        let body = replay_body(&stream);
        let mut sending = body.begin_sending().unwrap();
        let task = Arc::<Task>::default();
        assert!(task.poll(&mut sending).is_ready());
        assert!(task.poll(&mut sending).is_pending());
        match is_abandoned {
            true => body.abandon(),
            false => drop(body.begin_sending().unwrap()),
        }
        assert_eq!(task.wakes(), 1);
        assert_superseded(task.poll(&mut sending));
    }
}

#[test]
fn trailers_go_on_cleaned_with_every_sending() {
    let stream = Stream::of([data("a"), Event::Trailers]);
    let body = replay_body(&stream);
    for _ in 0..2 {
        let mut sending = body.begin_sending().unwrap();
        assert_eq!(bytes(poll(&mut sending)), "a");
        assert!(!sending.is_end_stream(), "trailers are still to come");
        receive(&mut sending).assert_whole("", Some(cleaned()));
        assert!(sending.is_end_stream());
    }
    assert_eq!(body.whole(1).unwrap(), b"a", "they end the body");
}

#[test]
fn at_the_limit_a_body_is_buffered_and_with_one_byte_more_it_goes_on_unbuffered() {
    let stream = Stream::of([data("abcd"), data("efgh")]);
    let limits = limits(8);
    let memory = limits.memory.clone();
    let body = replay_body_within(&stream, limits);
    let mut sending = body.begin_sending().unwrap();
    assert_eq!(receive(&mut sending).text(), "abcdefgh");
    assert_eq!(memory.used(), 8);
    drop(sending);
    let mut sending = body.begin_sending().unwrap();
    stream.bring(data("i"));
    stream.bring(Event::End);
    receive(&mut sending).assert_whole("abcdefghi", None);
    assert_eq!(memory.used(), 0);
    assert_eq!(body.begin_sending().unwrap_err(), BodyTooLarge);
    assert_eq!(body.whole(9), None);
    assert!(!body.pause(), "there is nothing to wait for");
}

#[test]
fn a_sending_that_fails_to_begin_leaves_the_one_before_it_alone() {
    let stream = Stream::of([data("ab")]);
    let body = replay_body_within(&stream, limits(1));
    let mut sending = body.begin_sending().unwrap();
    assert_eq!(bytes(poll(&mut sending)), "ab");
    assert_eq!(body.begin_sending().unwrap_err(), BodyTooLarge);
    stream.bring(data("c"));
    stream.bring(Event::End);
    receive(&mut sending).assert_whole("c", None);
}

#[test]
fn all_bodies_share_the_memory_and_give_it_back() {
    let memory = ReplayMemory::new(5);
    let new = |event: Event| {
        let stream = Stream::of([event]);
        let limits = ReplayLimits {
            buffer: 4,
            memory: memory.clone(),
        };
        let body = replay_body_within(&stream, limits);
        receive(&mut body.begin_sending().unwrap());
        body
    };
    let first = new(data("abc"));
    let second = new(data("de"));
    assert_eq!(memory.used(), 5);
    let third = new(data("f"));
    assert_eq!(third.begin_sending().unwrap_err(), BodyTooLarge);
    drop(second);
    assert_eq!(memory.used(), 3);
    first.stop_buffering();
    assert_eq!(memory.used(), 0);
    drop(first);
    assert_eq!(memory.used(), 0, "nothing is given back twice");
    memory.limit(1);
    assert!(new(data("gh")).begin_sending().is_err());
    let abandoned = new(data("i"));
    assert_eq!(memory.used(), 1);
    abandoned.abandon();
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_body_in_tiny_chunks_is_joined_and_large_frames_are_not_copied() {
    let large = Bytes::from(vec![b'x'; JOINED_BELOW]);
    let tiny = || Event::Data(Bytes::from_static(b"y"));
    let mut events = vec![tiny(), tiny(), Event::Data(large.clone())];
    events.extend((0..5).map(|_| tiny()));
    let stream = Stream::of(events);
    let body = replay_body(&stream);
    receive(&mut body.begin_sending().unwrap());
    let mut sending = body.begin_sending().unwrap();
    assert_eq!(bytes(poll(&mut sending)), "yy");
    let repeated = bytes(poll(&mut sending));
    assert_eq!(repeated.as_ptr(), large.as_ptr());
    assert_eq!(bytes(poll(&mut sending)), "yyyyy");
    assert!(poll(&mut sending).is_pending());
}

/// Of that size a frame is kept as it is.
const JOINED_BELOW: usize = 1024;

#[test]
fn hints_say_what_is_left_to_send() {
    let stream = Stream::with_length(8);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    assert_eq!(first.size_hint().exact(), Some(8));
    stream.bring(data("abc"));
    assert_eq!(bytes(poll(&mut first)), "abc");
    assert_eq!(first.size_hint().exact(), Some(5));
    let mut second = body.begin_sending().unwrap();
    assert_eq!(second.size_hint().exact(), Some(8));
    stream.bring(data("defgh"));
    assert_eq!(bytes(poll(&mut second)), "abc");
    assert_eq!(second.size_hint().exact(), Some(5));
    assert!(!second.is_end_stream());
    assert_eq!(bytes(poll(&mut second)), "defgh");
    assert_eq!(second.size_hint().exact(), Some(0));
    assert!(second.is_end_stream(), "known with the last byte");
    let mut third = body.begin_sending().unwrap();
    assert!(!third.is_end_stream(), "before it was repeated");
    assert_eq!(third.size_hint().exact(), Some(8));
    receive(&mut third).assert_whole("abcdefgh", None);
    assert!(third.is_end_stream());
    assert_eq!(third.size_hint().exact(), Some(0));
}

#[test]
fn an_unknown_length_stays_unknown_and_what_is_buffered_is_its_least() {
    let stream = Stream::of([data("abc")]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    let hint = |sending: &Sending<Stream>| {
        let hint = sending.size_hint();
        (hint.lower(), hint.upper())
    };
    assert_eq!(hint(&first), (0, None));
    receive(&mut first);
    let mut second = body.begin_sending().unwrap();
    assert_eq!(hint(&second), (3, None));
    stream.bring(Event::End);
    assert_eq!(bytes(poll(&mut second)), "abc");
    assert!(
        !second.is_end_stream(),
        "nobody knows yet that it ends here"
    );
    assert!(matches!(poll(&mut second), Poll::Ready(None)));
    assert!(second.is_end_stream());
}

#[test]
fn a_body_that_has_ended_before_its_first_byte_is_none() {
    let stream = Stream::with_length(0);
    assert!(ReplayBody::new(stream, TrailerRules::default(), limits(1)).is_none());
}

#[test]
fn a_body_that_ends_without_a_byte_is_known_to_be_empty_when_it_is_sent_again() {
    let stream = Stream::of([Event::End]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    assert!(!first.is_end_stream());
    receive(&mut first).assert_whole("", None);
    let mut second = body.begin_sending().unwrap();
    assert!(second.is_end_stream());
    receive(&mut second).assert_whole("", None);
    assert_eq!(body.whole(0).unwrap(), b"");
}

#[test]
fn a_body_that_broke_off_is_not_polled_again_and_never_looks_complete() {
    let stream = Stream::of([data("a"), Event::Broken]);
    let body = replay_body(&stream);
    let mut first = body.begin_sending().unwrap();
    let received = receive(&mut first);
    assert_eq!(received.text(), "a");
    let Some(RequestBodyError::Caller(source)) = received.error else {
        panic!("the caller is to blame, not {:?}", received.error);
    };
    assert!(source.is::<StreamError>(), "the cause can be told");
    for _ in 0..2 {
        assert_eq!(body.progress(), Progress::CallerFailed);
        let mut sending = body.begin_sending().unwrap();
        assert_eq!(bytes(poll(&mut sending)), "a");
        for _ in 0..2 {
            let polled = poll(&mut sending);
            let is_gone = matches!(polled, Poll::Ready(Some(Err(RequestBodyError::CallerGone))));
            assert!(is_gone, "{polled:?}");
        }
        assert!(!sending.is_end_stream());
    }
    assert_eq!(body.whole(1), None);
    assert!(!body.is_read());
}

#[test]
fn while_it_is_decided_about_a_replay_nothing_more_is_read() {
    for decision in ["replay", "none", "abandoned"] {
        let stream = Stream::of([data("a")]);
        let body = replay_body(&stream);
        let mut sending = body.begin_sending().unwrap();
        let task = Arc::<Task>::default();
        assert_eq!(bytes(task.poll(&mut sending)), "a");
        assert!(body.pause());
        stream.bring(data("b"));
        stream.bring(Event::End);
        let polls = stream.polls();
        for _ in 0..2 {
            assert!(task.poll(&mut sending).is_pending());
        }
        assert_eq!((stream.polls(), task.wakes()), (polls, 0));
        match decision {
            "replay" => {
                let mut replay = body.begin_sending().unwrap();
                receive(&mut replay).assert_whole("ab", None);
                assert_superseded(task.poll(&mut sending));
            }
            "none" => {
                body.stop_buffering();
                receive(&mut sending).assert_whole("b", None);
                assert!(body.begin_sending().is_err());
            }
            _ => {
                body.abandon();
                assert_superseded(task.poll(&mut sending));
            }
        }
        assert_eq!(task.wakes(), 1, "{decision}");
    }
}

#[test]
fn an_abandoned_body_is_not_sent_again() {
    let stream = Stream::of([data("a"), Event::End]);
    let body = replay_body(&stream);
    let mut sending = body.begin_sending().unwrap();
    body.abandon();
    assert_superseded(poll(&mut sending));
    assert_eq!(stream.polls(), 0);
    assert_eq!(body.begin_sending().unwrap_err(), BodyTooLarge);
}

#[tokio::test(start_paused = true)]
async fn progress_tells_whom_a_body_waits_for_and_since_when() {
    let second = || tokio::time::advance(Duration::from_secs(1));
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let stream = Stream::new();
    let body = replay_body(&stream);
    let mut sending = body.begin_sending().unwrap();
    assert_eq!(body.progress(), Progress::AwaitingProvider(at(0)));
    second().await;
    for _ in 0..2 {
        assert!(poll(&mut sending).is_pending());
        assert_eq!(body.progress(), Progress::AwaitingCaller(at(1)));
        second().await;
    }
    stream.bring(data("a"));
    assert!(poll(&mut sending).is_ready());
    assert_eq!(body.progress(), Progress::AwaitingProvider(at(3)));
    second().await;
    let mut sending = body.begin_sending().unwrap();
    assert_eq!(body.progress(), Progress::AwaitingProvider(at(4)));
    second().await;
    assert!(poll(&mut sending).is_ready());
    assert_eq!(body.progress(), Progress::AwaitingProvider(at(5)));
    stream.bring(Event::End);
    second().await;
    assert!(poll(&mut sending).is_ready());
    assert_eq!(body.progress(), Progress::Ended(at(6)));
    second().await;
    let mut sending = body.begin_sending().unwrap();
    receive(&mut sending).assert_whole("a", None);
    assert_eq!(body.progress(), Progress::Ended(at(6)), "it is still over");
}

#[derive(Debug, Clone)]
enum Step {
    /// The caller's stream brings its next event.
    Bring,
    Begin,
    /// Polls a sending; 0 is the latest.
    Poll(usize),
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Bring),
        2 => Just(Step::Begin),
        6 => (0_usize..3).prop_map(Step::Poll),
        1 => Just(Step::Pause),
    ]
}

/// A sending, and what it brought.
struct Sent {
    sending: Sending<Stream>,
    bytes: Vec<u8>,
    has_trailers: bool,
}

impl Sent {
    fn begin(body: &ReplayBody<Stream>) -> Self {
        Self {
            sending: body.begin_sending().unwrap(),
            bytes: Vec::new(),
            has_trailers: false,
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.bytes.extend_from_slice(&data),
            Err(_) => self.has_trailers = true,
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_latest_sending_brings_the_body_and_no_other_a_byte(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1500), 0..6),
        has_trailers: bool,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let whole = frames.concat();
        let mut events: VecDeque<Event> = frames.into_iter().map(|frame| Event::Data(frame.into())).collect();
        events.push_back(if has_trailers { Event::Trailers } else { Event::End });
        let stream = Stream::new();
        stream.0.lock().unwrap().left = Some(whole.len() as u64);
        let limits = limits(1 << 20);
        let memory = limits.memory.clone();
        let body = replay_body_within(&stream, limits);
        let mut sent = vec![Sent::begin(&body)];
        let mut is_paused = false;
        for step in steps {
            match step {
                Step::Bring => events.pop_front().into_iter().for_each(|event| stream.bring(event)),
                Step::Begin => {
                    sent.push(Sent::begin(&body));
                    is_paused = false;
                }
                Step::Pause => is_paused = body.pause(),
                Step::Poll(back) => {
                    let Some(index) = (sent.len() - 1).checked_sub(back) else { continue };
                    let is_latest = back == 0;
                    let one = &mut sent[index];
                    let (polls, had) = (stream.polls(), one.bytes.len());
                    match poll(&mut one.sending) {
                        Poll::Ready(Some(Ok(frame))) => one.take(frame),
                        Poll::Ready(Some(Err(RequestBodyError::Superseded))) => prop_assert!(!is_latest),
                        Poll::Ready(Some(Err(error))) => prop_assert!(false, "{error}"),
                        Poll::Ready(None) => prop_assert_eq!(&one.bytes, &whole),
                        Poll::Pending => {}
                    }
                    let is_read = stream.polls() > polls;
                    prop_assert!(is_latest || (!is_read && had == one.bytes.len()));
                    prop_assert!(!is_read || !is_paused);
                }
            }
            let latest = sent.last().unwrap();
            prop_assert!(whole.starts_with(&latest.bytes));
            let left = (whole.len() - latest.bytes.len()) as u64;
            prop_assert_eq!(latest.sending.size_hint().exact(), Some(left));
            if latest.sending.is_end_stream() {
                prop_assert_eq!((left, latest.has_trailers), (0, has_trailers));
            }
            prop_assert!(sent.iter().rev().skip(1).all(|one| !one.sending.is_end_stream()));
            prop_assert_eq!(memory.used() as u64, body.bytes_read());
        }
        events.into_iter().for_each(|event| stream.bring(event));
        let mut last = Sent::begin(&body);
        while let Poll::Ready(Some(frame)) = poll(&mut last.sending) {
            last.take(frame.unwrap());
        }
        prop_assert_eq!((last.bytes, last.has_trailers), (whole, has_trailers));
        drop((last.sending, sent, body));
        prop_assert_eq!(memory.used(), 0);
    }
}
