use http::HeaderMap;

use super::*;

fn framing(bytes: &str) -> (Framing, Result<(), Broken>) {
    let mut framing = Framing::new();
    let read = framing.read(bytes.as_bytes());
    (framing, read)
}

#[test]
fn an_options_without_a_path_is_told_from_one_with_a_path_however_it_is_split() {
    let pathless = ["http://a", "HTTP://a.test.:8080", "https://[::1]:3"];
    let others = [
        "http://a/",
        "http://a?x=/",
        "http://a/?",
        "*",
        "/",
        "/a/",
        "/a/b",
        "a:1",
    ];
    let long = format!("http://{}.test", "a".repeat(100));
    let mut bytes = String::new();
    let mut expected = 0;
    for target in pathless.into_iter().chain(others).chain([&*long]) {
        for method in ["OPTIONS", "GET", "OPTIONSX"] {
            bytes.push_str(&format!("{method} {target} HTTP/1.1\r\nHost: a/?\r\n\r\n"));
            let is_pathless = !others.contains(&target) && method == "OPTIONS";
            expected = expected << 1 | u64::from(is_pathless);
        }
    }
    assert_eq!(framing(&bytes).0.pathless(), expected);
    let mut split = Framing::new();
    for byte in bytes.as_bytes() {
        split.read(&[*byte]).unwrap();
    }
    assert_eq!(split.pathless(), expected);
}

#[test]
fn requests_are_counted_whatever_their_bodies_hold() {
    const LOOKS_LIKE_ONE: &str = "GET / HTTP/1.1\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: x\r\ncontent-length:\t18 \r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let body = "12;a=\"b\"\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\nX: y\r\n\r\n";
    for (bytes, heads) in [
        (String::new(), 0),
        ("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(), 1),
        (LOOKS_LIKE_ONE.repeat(3), 3),
        (format!("{sized}{LOOKS_LIKE_ONE}{LOOKS_LIKE_ONE}"), 2),
        (format!("{chunked}{body}{LOOKS_LIKE_ONE}"), 2),
        (format!("{chunked}0\r\n\r\n{chunked}"), 2),
        (
            "CONNECT a:1 HTTP/1.1\r\n\r\n".to_owned() + LOOKS_LIKE_ONE,
            1,
        ),
        (
            "CONNECTED / HTTP/1.1\r\n\r\n".to_owned() + LOOKS_LIKE_ONE,
            2,
        ),
        ("G#T / HTTP/1.1\r\n\r\n".to_owned(), 1),
    ] {
        let (framing, read) = framing(&bytes);
        assert_eq!(
            (framing.heads(), framing.doubt(), read),
            (heads, None, Ok(())),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_has_two_readings_is_in_doubt_with_all_that_follows() {
    let before = "GET / HTTP/1.1\r\n\r\n";
    let long = format!("/ HTTP/1.1\r\nContent-Length:{}5", " ".repeat(80));
    let dashes = format!("/ HTTP/1.1\r\ntransfer{}encoding: x", "-".repeat(80));
    for (head, doubt) in [
        (
            "/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: x",
            FramingError::LengthBesideEncoding,
        ),
        (
            "/ HTTP/1.1\r\nContent-Length: 0\r\ntransfer-encoding: x",
            FramingError::LengthBesideEncoding,
        ),
        (
            "/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
            FramingError::Encoding,
        ),
        (
            "/ HTTP/1.1\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
            FramingError::Encoding,
        ),
        ("/ HTTP/1.1\r\nContent-Length: +5", FramingError::Length),
        (
            "/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6",
            FramingError::Length,
        ),
        (&long, FramingError::Length),
        (
            "/ HTTP/1.1\r\nContent-Length: 9223372036854775808",
            FramingError::Length,
        ),
        (
            "/ HTTP/1.1\r\ntransfer---encoding: x",
            FramingError::Disguise,
        ),
        ("/ HTTP/1.1\r\n_content_length_: 1", FramingError::Disguise),
        (
            "/ HTTP/1.1\r\nTransfer.Encoding: chunked\r\nContent-Length: 1",
            FramingError::Disguise,
        ),
        (&dashes, FramingError::Disguise),
        ("/ HTTP/1.1\nX: y", FramingError::BareLf),
        ("/ HTTP/1.1\r\nX: y\nZ: y", FramingError::BareLf),
        ("/ HTTP/1.1\r\nX: y\n", FramingError::BareLf),
        ("/x#y HTTP/1.1", FramingError::Fragment),
    ] {
        let (framing, read) = framing(&format!("{before}POST {head}\r\n\r\n{before}"));
        assert_eq!(
            (framing.doubt(), read),
            (Some((1, doubt)), Ok(())),
            "{head}"
        );
    }
}

#[test]
fn an_empty_line_begins_no_request_however_slowly_it_comes() {
    for (bytes, awaits) in [
        ("", Awaits::Request),
        ("\r", Awaits::Request),
        ("\r\n\r\n\r", Awaits::Request),
        ("G", Awaits::Head),
        ("GET / HTTP/1.1\r\n\r", Awaits::Head),
        (
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n1",
            Awaits::Body,
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n12",
            Awaits::Request,
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            Awaits::Body,
        ),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", Awaits::Nothing),
    ] {
        assert_eq!(framing(bytes).0.awaits(), awaits, "{bytes:?}");
    }
}

#[test]
fn a_chunked_body_is_broken_at_the_first_byte_that_may_not_be_there() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (intact, broken) in [
        ("5", "\nhello\r\n0\r\n\r\n"),
        ("5;a", "\n\r\nhello\r\n0\r\n\r\n"),
        ("1\r\nx", "\n0\r\n\r\n"),
        ("1\r\nx\r\n0\r\n", "\nGET / HTTP/1.1\r\n\r\n"),
        ("0\r\nX: y", "\n\r\n"),
        ("0\r\nX: y\r\n", "\n"),
        ("0\r\nX: y\r", "z\r\n\r\n"),
        ("0\r\n\r", "\r\n"),
        ("0\r\nX", " : y\r\n\r\n"),
        ("0\r\nX: y\r\n", " z\r\n\r\n"),
        ("0\r\n", ": y\r\n\r\n"),
        ("0\r\nX: ", "\0\r\n\r\n"),
        ("5;", "\0\r\nhello"),
        ("7FFFFFFFFFFFFFFF", "0\r\n"),
        ("800000000000000", "0\r\n"),
        ("", ";\r\n"),
    ] {
        let intact = format!("{head}{intact}");
        let (mut framing, read) = framing(&format!("{intact}{broken}"));
        let intact = intact.len();
        assert_eq!(read, Err(Broken { intact }), "{broken:?}");
        assert_eq!(framing.read(b"x"), Err(Broken { intact: 0 }));
        assert!(framing.is_broken());
        assert_eq!(
            (framing.heads(), framing.doubt()),
            (1, Some((0, FramingError::Chunks)))
        );
    }
}

#[test]
fn the_verdict_does_not_depend_on_how_the_bytes_are_split() {
    for text in [
        "POST / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        "POST / HTTP/1.1\r\nA: b\r\n\n",
        "\nPOST / HTTP/1.1\r\nTransfer_Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
    ] {
        let (whole, _) = framing(text);
        for piece in 1..text.len() {
            let mut framing = Framing::new();
            for piece in text.as_bytes().chunks(piece) {
                framing.read(piece).unwrap();
            }
            let both = [&whole, &framing].map(|one| (one.heads(), one.doubt(), one.awaits()));
            assert_eq!(both[0], both[1], "{text:?} in pieces of {piece}");
        }
    }
}

#[test]
fn a_name_is_a_disguise_or_another_one() {
    let refused = |name: &'static str| {
        let mut fields = HeaderMap::new();
        fields.insert("content-length", http::HeaderValue::from_static("1"));
        fields.insert(name, http::HeaderValue::from_static("1"));
        refuse_disguise(&fields).is_err()
    };
    for name in [
        "content-length",
        "content-type",
        "content",
        "te",
        "trailer",
        "x-content-length",
        "content-length-x",
        "-",
    ] {
        assert!(!refused(name), "{name}");
    }
    for name in [
        "content_length",
        "content--length",
        "contentlength",
        "transfer_encoding",
        "transfer-encoding-",
        "'transfer-encoding",
    ] {
        assert!(refused(name), "{name}");
    }
}
