//! The vectors over HTTP/1. `§` stands for `Host` and the password, each character for one byte.

use super::Fate::{self, Broken, Cut, Once, Refused};

/// A chunked body after these fields.
fn chunked(fields: &str) -> String {
    format!("POST /v HTTP/1.1\r\n§\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
}

/// A body of five bytes after these fields.
fn sized(fields: &str) -> String {
    format!("POST /v HTTP/1.1\r\n§\r\n{fields}\r\n\r\nhello")
}

fn get(fields: &str) -> String {
    format!("GET /v HTTP/1.1\r\n§\r\n{fields}\r\n\r\n")
}

/// These bytes as the body of a chunked request.
fn chunks(body: &str) -> String {
    format!("POST /v HTTP/1.1\r\n§\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn each(form: impl Fn(&str) -> String, cases: &[(&str, Fate)]) -> Vec<(String, Fate)> {
    cases
        .iter()
        .map(|(case, fate)| (form(case), *fate))
        .collect()
}

const LENGTHS: &[(&str, Fate)] = &[
    ("Content-Length: 5", Once("hello")),
    ("content-LENGTH:5", Once("hello")),
    ("Content-Length:\t5\t", Once("hello")),
    ("Content-Length:  5", Once("hello")),
    ("Content-Length: 05", Once("hello")),
    ("Content-Length: 5\r\nContent-Length: 5", Once("hello")),
    ("Content-Length: 5\r\nContent-Length: 6", Refused),
    ("Content-Length: 6\r\nContent-Length: 5", Refused),
    ("Content-Length: 5, 5", Refused),
    ("Content-Length: 5, 6", Refused),
    ("Content-Length: 5,", Refused),
    ("Content-Length: +5", Refused),
    ("Content-Length: -5", Refused),
    ("Content-Length: 0x5", Refused),
    ("Content-Length: 5.0", Refused),
    ("Content-Length: 5 5", Refused),
    ("Content-Length: 5;", Refused),
    ("Content-Length: \"5\"", Refused),
    ("Content-Length: 5e0", Refused),
    ("Content-Length: ", Refused),
    ("Content-Length: ٥", Refused),
    ("Content-Length: 9223372036854775808", Refused),
    ("Content-Length: 00009223372036854775808", Refused),
    ("Content-Length: 9223372036854775808, 5", Refused),
    ("Content-Length: 5, 18446744073709551621", Refused),
    ("Content-Length: 18446744073709551615", Refused),
    ("Content-Length: 18446744073709551616", Refused),
    ("Content-Length: 18446744073709551621", Refused),
    ("Content-Length: 99999999999999999999999", Refused),
    ("Content-Length : 5", Refused),
    ("Content-Length\t: 5", Refused),
    (" Content-Length: 5", Refused),
    ("Content-Length:\r\n 5", Refused),
    ("Content-Length: 5\r\n 0", Refused),
    ("Content-Length: \u{b}5", Refused),
    ("Content-Length: 5\0", Refused),
    ("Content-Length: 5\r", Refused),
    (
        "Connection: Content-Length\r\nContent-Length: 5",
        Once("hello"),
    ),
];

pub(super) fn lengths() -> Vec<(String, Fate)> {
    each(sized, LENGTHS)
}

const ENCODINGS: &[(&str, Fate)] = &[
    ("Transfer-Encoding: chunked", Once("hello")),
    ("TRANSFER-encoding: CHUNKED", Once("hello")),
    ("Transfer-Encoding:chunked", Once("hello")),
    ("Transfer-Encoding:  chunked\t ", Once("hello")),
    (
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
        Once("hello"),
    ),
    ("Transfer-Encoding: chunked\r\nContent-Length: 3", Refused),
    ("Content-Length: 3\r\nTransfer-Encoding: chunked", Refused),
    ("Content-Length: 0\r\nTransfer-Encoding: chunked", Refused),
    ("Content-Length: x\r\nTransfer-Encoding: chunked", Refused),
    ("Transfer-Encoding: chunked\r\nContent-Length: x", Refused),
    (
        "Transfer-Encoding: chunked\nContent-Length: 3\nX: y",
        Refused,
    ),
    (
        "Connection: Content-Length\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        Refused,
    ),
    ("Transfer-Encoding: chunked, chunked", Refused),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        Refused,
    ),
    (
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        Refused,
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        Refused,
    ),
    (
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        Refused,
    ),
    ("Transfer-Encoding: gzip, chunked", Refused),
    ("Transfer-Encoding: chunked, gzip", Refused),
    ("Transfer-Encoding: identity, chunked", Refused),
    ("Transfer-Encoding: , chunked", Refused),
    ("Transfer-Encoding: chunked,", Refused),
    ("Transfer-Encoding: xchunked", Refused),
    ("Transfer-Encoding: chunkedx", Refused),
    ("Transfer-Encoding: chunke", Refused),
    ("Transfer-Encoding: \"chunked\"", Refused),
    ("Transfer-Encoding: chunked;q=1", Refused),
    ("Transfer-Encoding: identity", Refused),
    ("Transfer-Encoding: ", Refused),
    ("Transfer-Encoding: \u{b}chunked", Refused),
    ("Transfer-Encoding: chunked\u{b}", Refused),
    ("Transfer-Encoding: \u{c}chunked", Refused),
    ("Transfer-Encoding: \u{a0}chunked", Refused),
    ("Transfer-Encoding: chunked\u{ff}", Refused),
    ("Transfer-Encoding: chun\0ked", Refused),
    ("Transfer-Encoding : chunked", Refused),
    ("Transfer-Encoding\t: chunked", Refused),
    ("Transfer-Encoding\u{b}: chunked", Refused),
    ("Transfer-Encoding\0: chunked", Refused),
    (" Transfer-Encoding: chunked", Refused),
    ("X: y\r\n Transfer-Encoding: chunked", Refused),
    ("X: y\rTransfer-Encoding: chunked", Refused),
    ("Transfer-Encoding:\r\n chunked", Refused),
    ("Transfer-Encoding\r\n: chunked", Refused),
    ("Transfer-Encoding: chunked\r", Refused),
    ("\u{ff}Transfer-Encoding: chunked", Refused),
];

pub(super) fn encodings() -> Vec<(String, Fate)> {
    let mut all = each(chunked, ENCODINGS);
    all.extend(each(
        sized,
        &[
            // Under another name they frame nothing here, and do where gateways take one for the other.
            ("Transfer_Encoding: chunked\r\nContent-Length: 5", Refused),
            ("transfer---encoding: chunked\r\nContent-Length: 5", Refused),
            ("Transfer.Encoding: chunked\r\nContent-Length: 5", Refused),
            ("-Transfer-Encoding: chunked\r\nContent-Length: 5", Refused),
            ("'Transfer-Encoding': chunked\r\nContent-Length: 5", Refused),
            ("TransferEncoding: chunked\r\nContent-Length: 5", Refused),
            ("Content_Length: 3\r\nContent-Length: 5", Refused),
            ("Content-Length: 5\r\ncontent--length: 3", Refused),
            ("Content-Length: 5\r\n~Content~Length: 3", Refused),
            (
                "X-Transfer-Encoding: chunked\r\nContent-Length: 5",
                Once("hello"),
            ),
            ("Content-Length-X: 3\r\nContent-Length: 5", Once("hello")),
            ("TE: chunked\r\nContent-Length: 5", Once("hello")),
        ],
    ));
    all
}

const BODIES: &[(&str, Fate)] = &[
    ("5\r\nhello\r\n0\r\n\r\n", Once("hello")),
    ("005\r\nhello\r\n000\r\n\r\n", Once("hello")),
    ("0\r\n\r\n", Once("")),
    ("5;a=b\r\nhello\r\n0;c\r\n\r\n", Once("hello")),
    ("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", Once("hello")),
    ("5 ;a\r\nhello\r\n0\r\n\r\n", Once("hello")),
    ("5 \r\nhello\r\n0\r\n\r\n", Once("hello")),
    ("5\t\r\nhello\r\n0\r\n\r\n", Once("hello")),
    ("5;a\nb\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;a\rb\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;a\n\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;\n6\r\nhello\r\n0\r\n\r\n", Broken),
    ("5\nhello\r\n0\r\n\r\n", Broken),
    ("5\rhello\r\n0\r\n\r\n", Broken),
    ("5\r\nhello\n0\r\n\r\n", Broken),
    ("5\r\nhello\r0\r\n\r\n", Broken),
    ("5\r\nhello0\r\n\r\n", Broken),
    ("5\r\nhelloXX0\r\n\r\n", Broken),
    ("5\r\nhello\r\n\r\n0\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\n\n", Broken),
    // hyper alone would take the bare LF for the end, and drop the next request as a trailer.
    ("5\r\nhello\r\n0\r\n\n", Broken),
    ("5\r\nhello\r\n0\r\nX: y\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\nX: y\r\nY: z\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\n", Broken),
    ("5\r\nhello\r\n", Broken),
    ("0x5\r\nhello\r\n0\r\n\r\n", Broken),
    ("+5\r\nhello\r\n0\r\n\r\n", Broken),
    ("-5\r\nhello\r\n0\r\n\r\n", Broken),
    (" 5\r\nhello\r\n0\r\n\r\n", Broken),
    ("5 5\r\nhello\r\n0\r\n\r\n", Broken),
    ("5,5\r\nhello\r\n0\r\n\r\n", Broken),
    ("\r\nhello\r\n0\r\n\r\n", Broken),
    ("g\r\nhello\r\n0\r\n\r\n", Broken),
    ("5\0\r\nhello\r\n0\r\n\r\n", Broken),
    ("5_\r\nhello\r\n0\r\n\r\n", Broken),
    ("FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", Broken),
    ("10000000000000000\r\nhello\r\n0\r\n\r\n", Broken),
    ("10000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("100000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\nX: y\r\n\r\n", Once("hello")),
    (
        "5\r\nhello\r\n0\r\nAuthorization: Basic x\r\n\r\n",
        Once("hello"),
    ),
    (
        "5\r\nhello\r\n0\r\nContent-Length: 50\r\nHost: evil\r\n\r\n",
        Once("hello"),
    ),
    (
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\nVia: 1.1 x\r\n\r\n",
        Once("hello"),
    ),
    ("5\r\nhello\r\n0\r\n§\r\n\r\n", Once("hello")),
    (
        "5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n§\r\n\r\n",
        Broken,
    ),
    ("5\r\nhello\r\n0\r\nX : y\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\n: y\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\nX\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\n x: y\r\n\r\n", Broken),
    ("5;a=\"\0\"\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;\u{7f}\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;\u{8}\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;a\tb\r\nhello\r\n0\r\n\r\n", Once("hello")),
    ("8000000000000000\r\nhello\r\n0\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\nX: y\rz: a\r\n\r\n", Broken),
    ("5\r\nhello\r\n0\r\nX: y\0\r\n\r\n", Broken),
    (
        "30\r\nGET /smuggled HTTP/1.1\r\nHost: api.test\r\nX: y\r\n\r\n\r\n0\r\n\r\n",
        Once("GET /smuggled HTTP/1.1\r\nHost: api.test\r\nX: y\r\n\r\n"),
    ),
];

pub(super) fn bodies() -> Vec<(String, Fate)> {
    each(chunks, BODIES)
}

const FIELDS: &[(&str, Fate)] = &[
    ("X: y", Once("")),
    ("X: a\tb", Once("")),
    ("X:", Once("")),
    ("X: \u{e9}\u{ff}", Once("")),
    ("X: a\r\n b", Refused),
    ("X: a\r\n\tb", Refused),
    ("X: a\r\n \r\nY: b", Refused),
    ("X: a\rb", Refused),
    ("X: a\r\rb", Refused),
    ("X: a\rProxy-Authorization: b", Refused),
    ("X: a\0b", Refused),
    ("X: a\u{7f}b", Refused),
    ("X: a\u{1}b", Refused),
    ("X", Refused),
    ("X y: z", Refused),
    ("X\u{ff}: z", Refused),
    ("X\0: z", Refused),
    (": z", Refused),
    ("X(: z", Refused),
    ("X/: z", Refused),
    ("X\"y\": z", Refused),
    ("Authorization: Bearer mine", Once("")),
    (
        "Authorization: Bearer a\r\nauthorization: Bearer b",
        Once(""),
    ),
    ("Authorization : Bearer mine", Refused),
    ("Authorization\r\n : Bearer mine", Refused),
    ("Connection: Authorization, Host, Via", Once("")),
    ("Connection: close, X\r\nX: y", Once("")),
    ("Connection: \u{ff}, ,", Once("")),
    (
        "Proxy-Connection: keep-alive\r\nProxy-Foo: bar\r\nKeep-Alive: 5",
        Once(""),
    ),
    ("Host: api.test", Refused),
    ("Host: evil.test", Refused),
    (
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        Once(""),
    ),
    ("Upgrade: websocket\r\nConnection: Upgrade", Once("")),
    ("Expect: 100-continue", Once("")),
    ("Expect: 200-surprise", Once("")),
];

pub(super) fn fields() -> Vec<(String, Fate)> {
    let mut all = each(get, FIELDS);
    for (start, fate) in [("http://api.test/v", Once("")), ("/v", Once(""))] {
        // Which host is meant is not all that a second one would confuse.
        all.push((format!("GET {start} HTTP/1.1\r\n§\r\n\r\n"), fate));
        for host in ["Host: api.test\r\nHost: api.test\r\n", "", "Host: a b\r\n"] {
            all.push((format!("GET {start} HTTP/1.1\r\n{host}¶\r\n\r\n"), Refused));
        }
    }
    let hosts: [(&str, Fate); 16] = [
        ("Host: api.test", Once("")),
        ("HOST:api.test", Once("")),
        ("Host: API.Test", Once("")),
        ("Host: api.test:80", Once("")),
        ("Host: api.test.", Once("")),
        ("", Refused),
        ("Host:", Refused),
        ("Host: api.test, api.test", Refused),
        ("Host: api.test,evil.test", Refused),
        ("Host: api.test evil.test", Refused),
        ("Host: api.test/x", Refused),
        ("Host: user@api.test", Refused),
        ("Host: api.test#evil", Refused),
        ("Host: api.test\\evil", Refused),
        ("Host: api.test:80:80", Refused),
        ("Host : api.test", Refused),
    ];
    let bare = |host: &str| {
        let host = if host.is_empty() {
            String::new()
        } else {
            format!("{host}\r\n")
        };
        format!("GET /v HTTP/1.1\r\n{host}¶\r\n\r\n")
    };
    all.extend(each(bare, &hosts));
    all.push((get(&format!("X: {}", "y".repeat(10_000))), Once("")));
    all.push((get(&format!("X: {}", "y".repeat(200_000))), Refused));
    all.push((get(&"A: b\r\n".repeat(300)), Refused));
    all.push((get(&"A: b\r\n".repeat(10_000)), Refused));
    all
}

const STARTS: &[(&str, Fate)] = &[
    ("GET http://api.test/v HTTP/1.1", Once("")),
    ("GET HTTP://API.test:80/v HTTP/1.1", Once("")),
    ("GET https://api.test/v HTTP/1.1", Once("")),
    ("GET http://api.test HTTP/1.1", Once("")),
    ("GET http://api.test?x HTTP/1.1", Once("")),
    ("\r\nGET /v HTTP/1.1", Once("")),
    ("GET http://evil.test/v HTTP/1.1", Refused),
    ("GET http://user@api.test/v HTTP/1.1", Refused),
    ("GET http://api.test@evil.test/v HTTP/1.1", Refused),
    ("GET http://evil.test#@api.test/v HTTP/1.1", Refused),
    ("GET http://evil.test\\@api.test/v HTTP/1.1", Refused),
    ("GET http:///v HTTP/1.1", Refused),
    ("GET http:/api.test/v HTTP/1.1", Refused),
    ("GET http://api.test:99999/v HTTP/1.1", Refused),
    ("GET ftp://api.test/v HTTP/1.1", Refused),
    ("GET //api.test/v HTTP/1.1", Once("")),
    ("GET /v#fragment HTTP/1.1", Refused),
    ("GET /v# HTTP/1.1", Refused),
    ("GET http://api.test/v#fragment HTTP/1.1", Refused),
    ("GET http://api.test/v?a#fragment HTTP/1.1", Refused),
    ("\r\nGET /v#fragment HTTP/1.1", Refused),
    ("G#T /v HTTP/1.1", Once("")),
    ("GET v HTTP/1.1", Refused),
    ("GET api.test/v HTTP/1.1", Refused),
    ("GET ?v HTTP/1.1", Refused),
    ("GET * HTTP/1.1", Refused),
    ("GET  /v HTTP/1.1", Refused),
    ("GET /v  HTTP/1.1", Refused),
    ("GET\t/v HTTP/1.1", Refused),
    ("GET /v\tHTTP/1.1", Refused),
    (" GET /v HTTP/1.1", Refused),
    ("GET /v HTTP/1.1 ", Refused),
    ("GET /v HTTP/1.1\u{b}", Refused),
    ("GET /v x HTTP/1.1", Refused),
    ("GET /v HTTP/1.1 HTTP/1.1", Refused),
    ("GET /v\0 HTTP/1.1", Refused),
    ("GET /v\u{ff} HTTP/1.1", Refused),
    ("GET /v\u{c3}\u{a9} HTTP/1.1", Refused),
    ("GET /v?\u{c3}\u{a9} HTTP/1.1", Refused),
    ("GET /v\u{7f} HTTP/1.1", Refused),
    ("GET /v\u{1} HTTP/1.1", Refused),
    ("GET /v\rHTTP/1.1", Refused),
    ("GET /v?a=\r HTTP/1.1", Refused),
    ("GET /v%0d%0aX:%20y HTTP/1.1", Refused),
    ("GET /v%00 HTTP/1.1", Refused),
    ("GET /v/..%2fw HTTP/1.1", Refused),
    ("GET /v/..%252fw HTTP/1.1", Refused),
    ("GET /v/%c0%ae%c0%ae/w HTTP/1.1", Refused),
    ("GET /v/..;/w HTTP/1.1", Refused),
    ("GET /v%20w HTTP/1.1", Once("")),
    ("GET /v%2Fw HTTP/1.1", Once("")),
    ("GET /v/Jos%C3%A9/Andr%e9 HTTP/1.1", Once("")),
    ("get /v HTTP/1.1", Once("")),
    ("GeT /v HTTP/1.1", Once("")),
    ("G(T /v HTTP/1.1", Refused),
    ("GE\u{ff}T /v HTTP/1.1", Refused),
    ("TRACE /v HTTP/1.1", Refused),
    ("PRI * HTTP/2.0", Refused),
    ("GET /v HTTP/2.0", Refused),
    ("GET /v HTTP/1.2", Refused),
    ("GET /v HTTP/0.9", Refused),
    ("GET /v HTTP/1.01", Refused),
    ("GET /v HTTP/01.1", Refused),
    ("GET /v HTTP/1,1", Refused),
    ("GET /v http/1.1", Refused),
    ("GET /v HTTPS/1.1", Refused),
    ("GET /v HTTP/1.", Refused),
    ("GET /v", Refused),
    ("GET", Refused),
    ("/v HTTP/1.1", Refused),
    ("CONNECT evil.test:443 HTTP/1.1", Refused),
    ("CONNECT /v HTTP/1.1", Refused),
    ("CONNECT api.test HTTP/1.1", Refused),
    ("GET /v HTTP/1.0", Once("")),
];

pub(super) fn starts() -> Vec<(String, Fate)> {
    let line = |line: &str| format!("{line}\r\n§\r\n\r\n");
    let mut all = each(line, STARTS);
    all.extend(
        [
            // Bytes that somebody could take for the beginning of another request.
            ("POST /v HTTP/1.0\r\n§\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Refused),
            ("POST /v HTTP/1.0\r\n§\r\nContent-Length: 5\r\n\r\nhello", Once("hello")),
            ("POST /v HTTP/1.0\r\n§\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
            ("GET /v HTTP/1.1\r\n§\r\nContent-Length: 5\r\n\r\nhello", Once("hello")),
            ("GET /v HTTP/1.1\r\n§\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Once("hello")),
            ("HEAD /v HTTP/1.1\r\n§\r\nContent-Length: 5\r\n\r\nhello", Once("hello")),
            ("GET /v HTTP/1.1\r\n§\r\nContent-Length: 99\r\n\r\nhello", Cut),
            ("GET /v HTTP/1.1\n§\n\n", Refused),
            ("GET /v HTTP/1.1\n§\r\n\r\n", Refused),
            ("GET /v HTTP/1.1\r\n§\nX: y\r\n\r\n", Refused),
            ("GET /v HTTP/1.1\r\n§\nX: y\n\r\n", Refused),
            ("GET /v HTTP/1.1\r\n§\r\nX: y\n\n", Refused),
            ("GET /v HTTP/1.1\r\n§\r\nX: y\r\n\n", Refused),
            ("GET /v HTTP/1.1\r\n§\r\n\r", Refused),
            ("GET /v HTTP/1.1\r§\r\r", Refused),
            ("CONNECT evil.test:443 HTTP/1.1\r\n§\r\n\r\nGET /smuggled HTTP/1.1\r\n§\r\n\r\n", Refused),
            ("GET /v HTTP/1.1\r\n§\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nhi", Once("hi")),
            ("POST http://other.test/v HTTP/1.1\r\n§\r\nContent-Length: 60\r\n\r\nGET /smuggled HTTP/1.1\r\n§\r\n\r\n", Refused),
            ("\r\n\r\n\r\nGET /v HTTP/1.1\r\n§\r\n\r\n", Once("")),
            ("\n\nGET /v HTTP/1.1\r\n§\r\n\r\n", Once("")),
            ("\0GET /v HTTP/1.1\r\n§\r\n\r\n", Refused),
            ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}", Refused),
        ]
        .map(|(text, fate)| (text.to_owned(), fate)),
    );
    all
}
