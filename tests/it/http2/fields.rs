//! One field that breaks a rule costs neither its answer nor its connection.

use super::Rig;
use crate::support::caller::Caller;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, OK, field, frame,
};

/// An answer whose head has these fields besides its status, with a body and trailers.
fn with(stream: u32, fields: &[u8], trailers: &[u8]) -> Vec<u8> {
    let mut bytes = frame(HEADERS, 0, stream, OK);
    bytes.extend(frame(CONTINUATION, END_HEADERS, stream, fields));
    bytes.extend(frame(DATA, 0, stream, b"paid"));
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers));
    bytes
}

/// Answers each request on one connection with the next of these.
async fn rig(answers: Vec<Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>>) -> Rig {
    let answers = std::sync::Arc::new(answers);
    Rig::start("http: \"2\"", move |number, mut frames| {
        let answers = answers.clone();
        async move {
            assert_eq!(number, 0, "there is a second connection");
            for answer in answers.iter() {
                let Some(stream) = frames.request().await else {
                    return;
                };
                frames.write(answer(stream)).await;
            }
            frames.next().await;
        }
    })
    .await
}

const BROKEN: [(&[u8], &[u8]); 9] = [
    (b"set-cookie", b"a=\x01b"),
    (b"x-a", b"a\rb"),
    (b"a b", b"c"),
    (b"\xe9", b"c"),
    (b":path", b"/"),
    (b":unknown", b"c"),
    (b"connection", b"x-kept"),
    (b"transfer-encoding", b"chunked"),
    (b"keep-alive", b"timeout=5"),
];

#[tokio::test]
async fn a_broken_field_is_dropped_and_counted_and_the_rest_goes_on() {
    let mut answers: Vec<Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>> = Vec::new();
    for (name, value) in BROKEN {
        answers.push(Box::new(move |stream| {
            let kept = field(b"X-Kept", b" kept ");
            let fields = [field(name, value), kept].concat();
            let trailers = [field(name, value), field(b"x-trailer", b"kept")].concat();
            with(stream, &fields, &trailers)
        }));
    }
    let rig = rig(answers).await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    for (name, _) in BROKEN {
        let reply = caller.send("POST", "/pay", "x").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
        assert_eq!(reply.all("x-kept"), ["kept"], "{name:?}");
        let trailers = reply.trailers.unwrap();
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers["x-trailer"], "kept");
    }
    rig.ends_with(BROKEN.len(), 0).await;
    let provider = [("provider", "acme")];
    let name = "bursar_upstream_fields_dropped_total";
    let dropped = rig.proxy.metric(name, &provider).await;
    assert_eq!(dropped, 2.0 * BROKEN.len() as f64);
}

#[tokio::test]
async fn what_a_server_has_in_its_table_is_dropped_whenever_it_is_named() {
    // A cookie with a control byte, added to the table, and then named by its number alone.
    let added = [b"\x40", &field(b"set-cookie", b"a=\x01b")[1..]].concat();
    let rig = rig(vec![
        Box::new(move |stream| with(stream, &added, b"\x40\x01t\x01u")),
        Box::new(|stream| with(stream, b"\xbf\xbe", b"")),
        Box::new(|stream| with(stream, b"\x7f\x00\x01b", b"\xbe")),
    ])
    .await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    let first = caller.send("POST", "/pay", "x").await;
    assert_eq!(first.all("set-cookie"), [""; 0]);
    let second = caller.send("POST", "/pay", "x").await;
    assert_eq!(
        (second.all("set-cookie"), second.all("t")),
        (vec![], vec!["u"])
    );
    let third = caller.send("POST", "/pay", "x").await;
    assert_eq!(third.all("t"), [""; 0]);
    assert_eq!(third.all("set-cookie"), ["b"]);
    assert_eq!(third.text(), "paid");
}

#[tokio::test]
async fn a_bad_interim_answer_never_costs_the_final_one() {
    let rig = rig(vec![Box::new(|stream| {
        let interim = [
            field(b":status", b"103"),
            field(b"a b", b"\x01"),
            field(b"content-length", b"x"),
        ];
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &interim.concat());
        bytes.extend(with(stream, b"", b""));
        bytes
    })])
    .await;
    let mut caller = Caller::connect(rig.proxy.listen).await;
    let reply = caller.send("POST", "/pay", "x").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
}

#[tokio::test]
async fn a_doubtful_status_or_length_costs_its_own_answer_alone() {
    let odd = [
        field(b":status", b"2000"),
        field(b":status", b"abc"),
        field(b"server", b"x"),
        [OK.to_vec(), field(b"content-length", b"4, 5")].concat(),
    ];
    let lengths = [&b"4, 4"[..], b"04", b" 4"];
    let mut answers: Vec<Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>> = Vec::new();
    for head in odd {
        answers.push(Box::new(move |stream| {
            let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
            bytes.extend(frame(DATA, END_STREAM, stream, b"paid"));
            bytes
        }));
    }
    for length in lengths {
        answers.push(Box::new(move |stream| {
            with(stream, &field(b"content-length", length), b"")
        }));
    }
    let rig = rig(answers).await;
    let mut caller = Caller::connect_http2(rig.proxy.listen).await;
    for _ in 0..4 {
        let reply = caller.send("GET", "/x", "").await;
        assert_eq!(reply.status, 502);
        assert_eq!(super::text(&reply.problem()["reason"]), "upstream_protocol");
    }
    for _ in lengths {
        let reply = caller.send("GET", "/x", "").await;
        assert_eq!(
            (reply.text(), reply.all("content-length")),
            ("paid", vec!["4"])
        );
    }
}

#[tokio::test]
async fn a_head_of_200_kib_goes_on() {
    let rig = rig(vec![Box::new(|stream| {
        let large = [field(b"x-large", &[b'x'; 120])].concat();
        let mut bytes = frame(HEADERS, 0, stream, OK);
        for _ in 0..16 {
            bytes.extend(frame(CONTINUATION, 0, stream, &large.repeat(100)));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, stream, b""));
        bytes.extend(frame(DATA, END_STREAM, stream, b"paid"));
        bytes
    })])
    .await;
    let mut caller = crate::support::raw::Raw::connect(rig.proxy.listen).await;
    caller
        .write("GET http://api.test/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    let reply = caller.read_message().await;
    assert_eq!(reply.status(), 200);
    assert!(reply.head.len() > 190_000, "{}", reply.head.len());
}
