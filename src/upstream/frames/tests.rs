use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Waker;

use proptest::prelude::*;

use super::head::*;
use super::read::*;
use super::written::PREFACE_BYTES;
use super::*;
use crate::upstream::streams::{Need, StreamPermit};
use bursar_http::hpack::{self, Decoder};

/// A server whose bytes come in pieces, and that takes no more after so many.
#[derive(Debug, Default)]
struct Server {
    pieces: VecDeque<Vec<u8>>,
    takes: usize,
    /// Whether it closes the connection after the last piece.
    closes: bool,
}

impl Read for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else {
            return match self.closes {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            };
        };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl ResetOnClose for Server {
    fn reset_on_close(&self) {}
}

impl Write for Server {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        let taken = self.takes.min(all);
        self.takes -= taken;
        Poll::Ready(match taken {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            taken => Ok(taken),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = FrameHead {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    head.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn frames(pieces: &[Vec<u8>], takes: usize) -> (Frames<Server>, Arc<Streams>) {
    let streams = Streams::new();
    let server = Server {
        pieces: pieces.iter().cloned().collect(),
        takes,
        closes: false,
    };
    let dropped = DroppedFields::unregistered().unwrap();
    (Frames::new(server, &streams, dropped), streams)
}

/// All that can be read, through a buffer of that size.
fn read(frames: &mut Frames<Server>, room: usize) -> io::Result<Vec<u8>> {
    let mut context = Context::from_waker(Waker::noop());
    let (mut all, mut space) = (Vec::new(), vec![0; room]);
    loop {
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut *frames).poll_read(&mut context, buffer.unfilled()) {
            Poll::Pending => return Ok(all),
            Poll::Ready(done) => done?,
        }
        if buffer.filled().is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(buffer.filled());
    }
}

/// What is handed on of what came in one piece.
fn handed_on(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    read(&mut frames(&[bytes], 0).0, 1000)
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::encode(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

/// The frames in these bytes, with their payloads.
fn split(mut bytes: &[u8]) -> Vec<(FrameHead, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::parse(bytes) {
        let (payload, rest) = bytes[HEAD_BYTES..].split_at(head.length);
        frames.push((head, payload.to_vec()));
        bytes = rest;
    }
    frames
}

fn names(block: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    Decoder::default()
        .decode(block, |name, _| {
            names.push(String::from_utf8_lossy(name).into_owned());
        })
        .unwrap();
    names
}

#[test]
fn a_block_in_pieces_with_padding_and_priority_goes_on_plainly() {
    let whole = block(&[(":status", "200"), ("a", "b"), ("c d", "e")]);
    let (first, rest) = whole.split_at(5);
    let mut padded = vec![3];
    padded.extend([0, 0, 0, 1, 16]);
    padded.extend(first);
    padded.extend([0; 3]);
    let mut bytes = frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &padded);
    bytes.extend(frame(CONTINUATION, 0, 1, b""));
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, rest));
    let read = split(&handed_on(bytes).unwrap());
    let (head, payload) = &read[0];
    assert_eq!((read.len(), head.kind), (1, HEADERS));
    assert_eq!(head.flags, END_STREAM | END_HEADERS);
    assert_eq!(names(payload), [":status", "a"]);
}

#[test]
fn a_large_block_goes_on_in_several_frames() {
    let large = "x".repeat(100_000);
    let whole = block(&[(":status", "200"), ("c d", "e"), ("a", &large)]);
    // Of the largest size.
    let mut parts = whole.chunks(MAX_FRAME_BYTES).peekable();
    let mut bytes = Vec::new();
    while let Some(part) = parts.next() {
        let kind = if bytes.is_empty() {
            HEADERS
        } else {
            CONTINUATION
        };
        let flags = if parts.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        bytes.extend(frame(kind, flags, 1, part));
    }
    let read = split(&handed_on(bytes).unwrap());
    let payload: Vec<u8> = read.iter().flat_map(|(_, part)| part.clone()).collect();
    assert_eq!(names(&payload), [":status", "a"]);
    let flags: Vec<u8> = read.iter().map(|(head, _)| head.flags).collect();
    assert_eq!(flags, [0, 0, 0, 0, 0, 0, END_HEADERS]);
}

#[test]
fn trailers_are_told_from_a_head_without_a_status() {
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "200")]));
    bytes.extend(frame(DATA, 0, 1, b"data"));
    bytes.extend(frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &block(&[("a", "b")]),
    ));
    bytes.extend(frame(
        HEADERS,
        END_HEADERS,
        3,
        &block(&[(":status", "103"), ("a", "b")]),
    ));
    bytes.extend(frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        3,
        &block(&[("a", "b")]),
    ));
    let (mut frames, _) = frames(&[bytes], 0);
    let read = split(&read(&mut frames, 1000).unwrap());
    let seen: Vec<_> = read
        .iter()
        .map(|(head, payload)| (head.stream, payload.len()))
        .collect();
    let status = block(&[(":status", "200")]).len();
    // Without a status h2 ends the stream.
    assert_eq!(
        seen,
        [(1, status), (1, 4), (1, block(&[("a", "b")]).len()), (3, 0)]
    );
    assert!(frames.incoming.begun.is_empty());
}

fn reset(stream: u32, code: u8) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, code])
}

/// GOAWAY without an error.
fn leaving(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

/// A head without an end.
fn begun(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")]))
}

#[test]
fn a_response_is_cut_by_a_reset_without_an_error_only_before_its_end() {
    for code in [0, 8] {
        let cut = [begun(1), frame(DATA, 0, 1, b"pa")].concat();
        let read = handed_on([cut.clone(), reset(1, code)].concat()).unwrap();
        assert_eq!(read, [cut, reset(1, 2)].concat());
    }
    for whole in [
        [begun(1), frame(DATA, END_STREAM, 1, b"paid")].concat(),
        [begun(3), reset(3, 2)].concat(),
        Vec::new(),
    ] {
        let all = [whole, reset(1, 0)].concat();
        assert_eq!(handed_on(all.clone()).unwrap(), all);
    }
}

#[test]
fn a_goaway_without_an_error_cuts_the_responses_above_its_last_stream() {
    let before = [
        begun(1),
        begun(3),
        begun(5),
        frame(DATA, END_STREAM, 5, b"x"),
    ]
    .concat();
    let read = handed_on([before.clone(), leaving(1)].concat()).unwrap();
    assert_eq!(read, [before, reset(3, 2), leaving(1)].concat());
}

#[test]
fn the_end_of_a_connection_after_a_goaway_cuts_what_has_begun() {
    for part in [&b""[..], b"\0\0", b"\0\0\x08\x06\0\0\0\0\0ping"] {
        let before = [begun(1), leaving(1)].concat();
        let (mut frames, _) = frames(&[before.clone(), part.to_vec()], 0);
        frames.stream.closes = true;
        frames.stream.pieces.retain(|piece| !piece.is_empty());
        let expected = match part.len() {
            // h2 is inside that frame, and notices that it is not whole.
            13 => [before, part.to_vec()].concat(),
            _ => [before, reset(1, 2)].concat(),
        };
        assert_eq!(read(&mut frames, 1000).unwrap(), expected, "{part:?}");
        assert_eq!(read(&mut frames, 1000).unwrap(), b"");
    }
}

#[tokio::test]
async fn what_comes_on_streams_that_were_reset_is_not_kept() {
    let heads: Vec<_> = (0..2000).map(|number| begun(2 * number + 1)).collect();
    let (mut frames, _) = frames(&[], usize::MAX);
    let mut resets = vec![0; PREFACE_BYTES];
    (0..2000).for_each(|number| resets.extend(reset(2 * number + 1, 8)));
    for (head, reset) in heads.iter().zip(resets[PREFACE_BYTES..].chunks(13)) {
        let bytes = match frames.outgoing.passing {
            0 => reset.to_vec(),
            _ => [&resets[..PREFACE_BYTES], reset].concat(),
        };
        let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &bytes));
        assert_eq!(written.await.unwrap(), bytes.len());
        frames.stream.pieces.push_back(head.clone());
        assert_eq!(read(&mut frames, 1000).unwrap(), *head);
    }
    assert!(frames.incoming.begun.is_empty());
    assert_eq!(frames.incoming.reset.len(), MAX_RESET);
}

#[tokio::test]
async fn a_head_in_a_write_of_several_records_that_failed_may_have_been_sent() {
    for (size, is_unsent) in [(16_000, true), (20_000, false)] {
        let (mut frames, streams) = frames(&[], PREFACE_BYTES);
        let preface = [0; PREFACE_BYTES];
        let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &preface));
        assert_eq!(written.await.unwrap(), PREFACE_BYTES);
        let mut place = StreamPermit::of(&streams, Need::default());
        place.sending();
        let mut bytes = frame(HEADERS, END_HEADERS, 1, b"head");
        bytes.extend(frame(DATA, END_STREAM, 1, &vec![0; size]));
        let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &bytes));
        assert_eq!(written.await.unwrap(), bytes.len());
        assert_eq!(place.is_unsent(), is_unsent, "{size}");
    }
}

#[test]
fn what_breaks_off_a_block_or_has_none_ends_the_connection() {
    let status = block(&[(":status", "200")]);
    let begun = frame(HEADERS, 0, 1, &status);
    for end in [
        frame(DATA, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 3, b""),
        frame(HEADERS, END_HEADERS, 1, b""),
        frame(6, 0, 0, &[0; 8]),
    ] {
        assert!(
            handed_on([begun.clone(), end.clone()].concat()).is_err(),
            "{end:?}"
        );
    }
    for alone in [
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0]),
        frame(HEADERS, END_HEADERS | PADDED, 1, b""),
        frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4]),
        frame(HEADERS, END_HEADERS, 1, &[0x80]),
    ] {
        assert!(handed_on(alone.clone()).is_err(), "{alone:?}");
    }
}

#[test]
fn a_block_without_an_end_is_not_kept_for_ever() {
    let mut bytes = frame(HEADERS, 0, 1, b"");
    for _ in 0..60_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, b""));
    }
    assert!(handed_on(bytes).is_err());
}

#[test]
fn settings_windows_and_goaway_are_told_to_the_pool() {
    let setting = |key: u16, value: u32| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let mut bytes = frame(
        SETTINGS,
        0,
        0,
        &[setting(4, 9), setting(MAX_CONCURRENT_STREAMS, 2)].concat(),
    );
    bytes.extend(frame(SETTINGS, 0, 0, &setting(1, 0)));
    bytes.extend(frame(WINDOW_UPDATE, 0, 1, &[0, 1, 0, 0]));
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]));
    let expected = bytes.clone();
    let (mut frames, streams) = frames(&[bytes], 0);
    assert_eq!(read(&mut frames, 7).unwrap(), expected);
    let upload = |upload| Need {
        upload,
        ..Need::default()
    };
    let _first = StreamPermit::on(&streams, upload(100_000)).unwrap();
    assert!(StreamPermit::on(&streams, upload(32_000)).is_none());
    let _second = StreamPermit::on(&streams, upload(31_000)).unwrap();
    assert!(StreamPermit::on(&streams, upload(0)).is_none());
    assert!(!streams.is_leaving());
}

#[test]
fn settings_without_a_limit_leave_it_to_bursar() {
    let (mut frames, streams) = frames(&[frame(SETTINGS, 0, 0, b"")], 0);
    read(&mut frames, 1000).unwrap();
    let places = std::iter::from_fn(|| StreamPermit::on(&streams, Need::default()));
    let places: Vec<_> = places.collect();
    assert_eq!(places.len(), 100);
}

#[test]
fn the_last_stream_of_a_second_goaway_is_never_higher() {
    let goaway = |last: u32| {
        frame(
            GOAWAY,
            0,
            0,
            &[&last.to_be_bytes()[..], &[0, 0, 0, 0], b"debug"].concat(),
        )
    };
    let bytes = [goaway(0x7fff_ffff), goaway(5), goaway(7), goaway(3)].concat();
    let (mut frames, streams) = frames(&[bytes], 0);
    let expected = [goaway(0x7fff_ffff), goaway(5), goaway(5), goaway(3)].concat();
    assert_eq!(read(&mut frames, 1000).unwrap(), expected);
    assert!(streams.is_leaving());
}

#[tokio::test]
async fn what_came_before_a_write_failed_is_read_and_then_the_failure() {
    let goaway = frame(GOAWAY, 0, 0, &[0; 8]);
    let (mut frames, streams) = frames(std::slice::from_ref(&goaway), PREFACE_BYTES);
    let preface = [0; PREFACE_BYTES];
    let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &preface)).await;
    assert_eq!(written.unwrap(), PREFACE_BYTES);
    let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"x");
    for _ in 0..2 {
        let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &head)).await;
        assert_eq!(written.unwrap(), head.len());
    }
    let mut place = StreamPermit::of(&streams, Need::default());
    place.sending();
    assert!(place.is_unsent());
    let mut space = [0; 100];
    let mut buffer = ReadBuf::new(&mut space);
    poll_fn(|context| Pin::new(&mut frames).poll_read(context, buffer.unfilled()))
        .await
        .unwrap();
    assert_eq!(buffer.filled(), goaway);
    let mut buffer = ReadBuf::new(&mut space);
    let ended =
        poll_fn(|context| Pin::new(&mut frames).poll_read(context, buffer.unfilled())).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_is_written_is_counted_wherever_it_is_cut() {
    let mut bytes = vec![0; PREFACE_BYTES];
    bytes.extend(frame(SETTINGS, 0, 0, &[0; 6]));
    for stream in [1, 3] {
        bytes.extend(frame(HEADERS, END_HEADERS, stream, b"head"));
        bytes.extend(frame(DATA, 0, stream, &[0; 20_000]));
    }
    for size in [1, 7, 30_000] {
        let (mut frames, streams) = frames(&[], usize::MAX);
        let mut before = StreamPermit::of(&streams, Need::default());
        before.sending();
        for part in bytes.chunks(size) {
            let (one, two) = part.split_at(part.len() / 2);
            let slices = [IoSlice::new(one), IoSlice::new(two)];
            let written =
                poll_fn(|context| Pin::new(&mut frames).poll_write_vectored(context, &slices));
            assert_eq!(written.await.unwrap(), part.len());
        }
        assert!(!before.is_unsent());
        let upload = |upload| Need {
            upload,
            ..Need::default()
        };
        assert!(StreamPermit::on(&streams, upload(1)).is_none());
        streams.limit(None);
        let _held = StreamPermit::on(&streams, upload(1)).unwrap();
        assert!(
            StreamPermit::on(&streams, upload(25_535)).is_none(),
            "{size}"
        );
        assert!(
            StreamPermit::on(&streams, upload(25_534)).is_some(),
            "{size}"
        );
    }
}

#[test]
fn a_head_whose_body_is_still_to_come_waits_one_turn_and_no_other_does() {
    let (mut frames, streams) = frames(&[], usize::MAX);
    let mut before = StreamPermit::of(&streams, Need::default());
    before.sending();
    let mut context = Context::from_waker(Waker::noop());
    let mut write = |bytes: &[u8], body: &[u8]| {
        let slices = [IoSlice::new(bytes), IoSlice::new(body)];
        let written = Pin::new(&mut frames).poll_write_vectored(&mut context, &slices);
        written.map(Result::unwrap)
    };
    let without_body = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"head");
    let mut bytes = vec![0; PREFACE_BYTES];
    bytes.extend(&without_body);
    assert_eq!(write(&bytes, b""), Poll::Ready(bytes.len()));
    assert!(!before.is_unsent());
    before.sending();
    let mut bytes = without_body;
    bytes.extend(frame(HEADERS, END_HEADERS, 3, b"head"));
    assert_eq!(write(&bytes, b""), Poll::Pending);
    assert!(before.is_unsent());
    // There was none to hand over yet.
    assert_eq!(write(&bytes, b""), Poll::Ready(bytes.len()));
    assert!(!before.is_unsent());
    // There was one.
    assert_eq!(write(&bytes, b""), Poll::Pending);
    let mut data = frame(DATA, END_STREAM, 3, &[0; 1000]);
    let body = data.split_off(HEAD_BYTES);
    bytes.extend(data);
    assert_eq!(write(&bytes, &body), Poll::Ready(bytes.len() + body.len()));
    let next = frame(HEADERS, END_HEADERS, 5, b"head");
    assert_eq!(write(&next, b""), Poll::Pending);
    assert_eq!(write(&next, b""), Poll::Ready(next.len()));
    // In the middle of a frame nothing looks like a head.
    let long = frame(DATA, 0, 3, &frame(HEADERS, END_HEADERS, 5, b""));
    let (one, two) = long.split_at(HEAD_BYTES);
    assert_eq!(write(one, b""), Poll::Ready(one.len()));
    assert_eq!(write(two, b""), Poll::Ready(two.len()));
}

#[tokio::test]
async fn a_head_that_waits_when_the_server_closes_is_never_written() {
    let (mut frames, streams) = frames(&[], usize::MAX);
    frames.stream.closes = true;
    let mut bytes = vec![0; PREFACE_BYTES];
    bytes.extend(frame(SETTINGS, 0, 0, &[0; 6]));
    let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &bytes));
    assert_eq!(written.await.unwrap(), bytes.len());
    let mut request = StreamPermit::of(&streams, Need::default());
    request.sending();
    let head = frame(HEADERS, END_HEADERS, 1, b"head");
    let mut context = Context::from_waker(Waker::noop());
    let waits = Pin::new(&mut frames).poll_write(&mut context, &head);
    assert!(waits.is_pending());
    assert!(read(&mut frames, 100).unwrap().is_empty());
    let taken = frames.stream.takes;
    let written = poll_fn(|context| Pin::new(&mut frames).poll_write(context, &head));
    assert_eq!(written.await.unwrap(), head.len());
    assert_eq!(frames.stream.takes, taken);
    assert!(request.is_unsent());
}

proptest! {
    #[test]
    fn nothing_panics_and_no_byte_is_waited_for_in_vain(
        parts in prop::collection::vec((any::<u8>(), any::<u8>(), 0_u32..5, prop::collection::vec(any::<u8>(), 0..40)), 0..10),
        junk in prop::collection::vec(any::<u8>(), 0..30),
        cut in 1_usize..50,
    ) {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|(kind, flags, stream, payload)| frame(kind % 12, *flags, *stream, payload)).collect();
        bytes.extend(junk);
        let pieces: Vec<_> = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
        let in_pieces = read(&mut frames(&pieces, 0).0, cut);
        let at_once = read(&mut frames(&[bytes], 0).0, 100_000);
        prop_assert_eq!(in_pieces.ok(), at_once.ok());
    }
}
