//! The answers. `ok` is the body wherever there is one.

use super::Fate::{self, Doubtful, Whole};
use super::Vector;

/// Fields that are dropped or repaired.
const FIELDS: [&str; 22] = [
    "X-A: b\r\n",
    "Set-Cookie: w=a\u{1}b; Path=/\r\n",
    "X-A: a\u{7f}b\r\n",
    "X-A: a\u{1b}[0m\r\n",
    "X-A: a\0b\r\n",
    "X-A: a\rb\r\n",
    "X-A: a\u{b}b\r\n",
    "X-A: \u{e4}\u{ff}\r\n",
    "No colon\r\n",
    "Bad Name: x\r\n",
    "Bad\tName: x\r\n",
    ": x\r\n",
    "(x): y\r\n",
    "X-A : b\r\n",
    "X-A: b\r\n c\r\n\td\r\n",
    "X-A: b\r\n \r\n",
    "X-A: b\n",
    "X-A: b\r\r\n",
    "X-A:\r\n",
    "X-A: b\r\nX-A: c\u{1}\r\nX-A: d\r\n",
    "Connection: x-a\r\nX-A: b\u{1}\r\n",
    "Keep-Alive: timeout=5\u{1}, max=100\r\n",
];

/// All that give the length 2.
const LENGTHS: [&str; 9] = [
    "Content-Length: 2",
    "Content-Length: 02",
    "Content-Length: 2, 2",
    "Content-Length: 2 ,002",
    "Content-Length: 2\r\nContent-Length: 2",
    "Content-Length : 2",
    "Content-Length:\r\n 2",
    "Content-Length:\t2\t",
    "Transfer-Encoding: identity\r\nContent-Length: 2",
];

/// Bodies of `ok` in chunks.
const CHUNKS: [&str; 9] = [
    "2\r\nok\r\n0\r\n\r\n",
    "1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "0002\r\nok\r\n0000\r\n\r\n",
    " 2 \r\nok\r\n0\r\n\r\n",
    "2;a=b;c=\"d\"\r\nok\r\n0;e\r\n\r\n",
    "2\nok\n0\n\n",
    "2\r\nok\r\n0\r\nX-A: b\r\n\r\n",
    "2\r\nok\r\n0\r\nX-A: \u{1}\r\nNo colon\r\nBad Name: x\r\n\r\n",
    "2\r\nok\r\n0\r\nContent-Length: 7\r\nX-A: b\r\n c\r\n\r\n",
];

/// Framing that nobody can be sure of, before a body of `2\r\nok\r\n0\r\n\r\n`.
const DOUBTS: [&str; 18] = [
    "Content-Length: 2\r\nContent-Length: 3",
    "Content-Length: 2, 3",
    "Content-Length: +2",
    "Content-Length: -1",
    "Content-Length: 2.0",
    "Content-Length: 0x2",
    "Content-Length: 2 2",
    "Content-Length: ",
    "Content-Length: 9223372036854775808",
    "Content-Length: 99999999999999999999999",
    "Content-Length\u{1}: 2",
    "Content-Length: 2\u{1}",
    "Content Length: 2",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding\0: chunked\r\nContent-Length: 2",
];

const INTERIM: [&str; 6] = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 102 Processing\r\nBad Name: x\r\nNo colon\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\u{1}\r\n\r\n",
    "HTTP/1.0 100\n\n",
    "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
];

const OK: Fate = Whole(200, "ok");

fn vector(text: String, closes: bool, fate: Fate) -> Vector {
    Vector { text, closes, fate }
}

/// Every vector, in an order that stays.
pub(crate) fn all() -> Vec<Vector> {
    let mut all = heads();
    all.extend(bodies());
    all.extend(statuses());
    all
}

fn heads() -> Vec<Vector> {
    let mut all = Vec::new();
    for field in FIELDS {
        let length = format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 2\r\n\r\nok");
        let chunks = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{field}\r\n2\r\nok\r\n0\r\n\r\n"
        );
        let end = format!("HTTP/1.1 200 OK\r\n{field}\r\nok");
        all.extend([
            vector(length, false, OK),
            vector(chunks, false, OK),
            vector(end, true, OK),
        ]);
    }
    for field in DOUBTS {
        let text = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        all.push(vector(text, false, Doubtful));
    }
    for interim in INTERIM {
        for length in ["2", "02"] {
            let last = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok");
            all.push(vector(format!("{interim}{last}"), false, OK));
            all.push(vector(format!("{}{last}", interim.repeat(40)), false, OK));
        }
    }
    all
}

fn bodies() -> Vec<Vector> {
    let mut all = Vec::new();
    for length in LENGTHS {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            all.push(vector(
                format!("{version} 200 OK\r\n{length}\r\n\r\nok"),
                false,
                OK,
            ));
        }
        all.push(vector(
            format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\nok and more"),
            false,
            OK,
        ));
        let none = format!("HTTP/1.1 304 Not Modified\r\n{length}\r\n\r\n");
        all.push(vector(none, false, Whole(304, "")));
        let none = format!("HTTP/1.1 204 No Content\r\n{length}\r\n\r\n");
        all.push(vector(none, false, Whole(204, "")));
    }
    for chunks in CHUNKS {
        for encoding in [
            "chunked",
            "Chunked",
            "\tchunked \t",
            "identity, chunked",
            "chunked\r\nContent-Length: 9",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {encoding}\r\n\r\n{chunks}");
            all.push(vector(text, false, OK));
        }
        let old = format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        all.push(vector(old, true, OK));
        let folded = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n{chunks}");
        all.push(vector(folded, false, OK));
    }
    for unended in [
        "2\r\nok\r\n0\r\n",
        "2\r\nok\r\n0\r\nX-A: b\r\n",
        "2\r\nok\r\n0\r\nX-A",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{unended}");
        all.push(vector(text, true, OK));
    }
    all
}

fn statuses() -> Vec<Vector> {
    let mut all = Vec::new();
    for (line, fate) in [
        ("HTTP/1.1 200", OK),
        ("HTTP/1.1 200 ", OK),
        ("HTTP/1.1  200 OK", OK),
        ("HTTP/1.1\t200\tOK", OK),
        ("http/1.1 200 OK", OK),
        ("HTTP/1.2 200 OK", OK),
        ("HTTP/2.0 200 OK", OK),
        ("HTTP/2 200", OK),
        ("HTTP/0.9 200 OK", OK),
        ("ICY 200 OK", OK),
        ("HTTP/1.1 200OK", OK),
        ("HTTP/1.1 200 O\u{1}K", OK),
        ("HTTP/1.1 200 O\rK", OK),
        ("HTTP/1.1 200 \u{e4}\u{f6}", OK),
        ("\r\nHTTP/1.1 200 OK", OK),
        ("HTTP/1.1 205 Reset Content", Whole(205, "ok")),
        ("HTTP/1.1 600 x", Whole(600, "ok")),
        ("HTTP/1.1 999 x", Whole(999, "ok")),
        ("HTTP/1.1 099 x", Whole(500, "ok")),
        ("HTTP/1.1 000", Whole(500, "ok")),
        ("HTTP/1.1 20 OK", Doubtful),
        ("HTTP/1.1 2000 OK", Doubtful),
        ("HTTP/1.1 2OO OK", Doubtful),
        ("HTTP/1.1 -200 OK", Doubtful),
        ("HTTP/1.1200 OK", Doubtful),
        ("HTTP/1.1 OK", Doubtful),
        ("HTTP/x.y 200 OK", Doubtful),
        ("SSH-2.0-x", Doubtful),
        ("<html>", Doubtful),
        ("\u{15}\u{3}\u{1}\0\u{2}\u{2}(", Doubtful),
    ] {
        let text = format!("{line}\r\nContent-Length: 2\r\n\r\nok");
        all.push(vector(text, false, fate));
    }
    all
}
