use super::*;

fn reader() -> BlockReader {
    BlockReader::new(DroppedFields::unregistered().unwrap())
}

type Lines = Vec<(String, String)>;

fn lines(block: &[u8]) -> Lines {
    let mut lines = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut decoder = Decoder::default();
    decoder
        .decode(block, |name, value| lines.push((text(name), text(value))))
        .unwrap();
    lines
}

fn read(fields: &[(&str, &str)], has_head: bool) -> Block {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::encode(name.as_bytes(), value.as_bytes(), &mut block);
    }
    reader().read(&block, has_head).unwrap()
}

fn head(fields: &[(&str, &str)]) -> Lines {
    match read(fields, false) {
        Block::Head(block) => lines(&block),
        other => panic!("{fields:?}: {other:?}"),
    }
}

#[test]
fn one_field_that_breaks_a_rule_costs_itself_alone() {
    for (name, value) in [
        ("set-cookie", "a=\u{1}b"),
        ("x", "a\r\nb: c"),
        ("x", "\0"),
        ("x", "\u{7f}"),
        ("a b", "c"),
        ("", "c"),
        ("a:", "c"),
        ("é", "c"),
        (":path", "/"),
        (":unknown", "x"),
        ("connection", "x"),
        ("Connection", "x"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ] {
        for place in 0..=2 {
            let mut fields = vec![(":status", "200"), ("server", "x")];
            fields.insert(place, (name, value));
            let expected = [(":status", "200"), ("server", "x")];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(head(&fields), expected, "{name:?}: {value:?} at {place}");
        }
    }
}

#[test]
fn what_can_be_mended_is_mended() {
    let written = head(&[
        ("X-Upper", " a\tb \t"),
        ("Content-Length", "02, 2"),
        (":status", "201"),
        ("content-length", "2"),
        ("latin", "\u{e9}"),
    ]);
    let expected = [
        (":status", "201"),
        ("content-length", "2"),
        ("x-upper", "a\tb"),
        ("latin", "é"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(written, expected);
}

#[test]
fn a_head_is_malformed_only_where_its_status_or_its_length_is_in_doubt() {
    for fields in [
        &[("server", "x")][..],
        &[(":status", "20")],
        &[(":status", "2000")],
        &[(":status", "+20")],
        &[(":status", "200 OK")],
        &[(":status", "200"), (":status", "404")],
        &[(":status", "200"), ("content-length", "2, 3")],
        &[
            (":status", "200"),
            ("content-length", "2"),
            ("content-length", "3"),
        ],
        &[(":status", "200"), ("content-length", "-1")],
        &[(":status", "200"), ("content-length", "")],
        &[
            (":status", "200"),
            ("content-length", "18446744073709551616"),
        ],
    ] {
        assert_eq!(read(fields, false), Block::Malformed, "{fields:?}");
    }
    assert!(matches!(
        read(&[(":status", "200 "), (":status", "200")], false),
        Block::Head(_)
    ));
}

#[test]
fn a_status_below_100_is_a_500_and_a_204_has_no_length() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for status in ["000", "099"] {
        assert_eq!(head(&[(":status", status)]), [pair(":status", "500")]);
    }
    for (status, has_length) in [("204", false), ("304", true), ("200", true)] {
        let mut expected = vec![pair(":status", status)];
        expected.extend(has_length.then(|| pair("content-length", "4")));
        let fields = [("content-length", "4"), (":status", status)];
        assert_eq!(head(&fields), expected);
    }
}

#[test]
fn an_interim_head_never_goes_on_and_trailers_lose_what_breaks_a_rule() {
    let interim = [(":status", "103"), ("content-length", "x"), ("a b", "c")];
    assert_eq!(read(&interim, false), Block::Interim);
    let trailers = [
        (":status", "200"),
        ("content-length", "x"),
        ("a", "\u{1}"),
        ("b", "c"),
    ];
    let Block::Trailers(block) = read(&trailers, true) else {
        panic!("they are no trailers");
    };
    assert_eq!(lines(&block), [("b".to_owned(), "c".to_owned())]);
}

#[test]
fn a_head_may_have_256_kib_and_what_is_larger_costs_no_other_response() {
    let large = "x".repeat(200 * 1024);
    let fits = [(":status", "200"), ("a", &*large)];
    assert_eq!(head(&fits).len(), 2);
    let mut block = Vec::new();
    for (name, value) in [(":status", "200"), ("a", &*large), ("b", &*large)] {
        hpack::encode(name.as_bytes(), value.as_bytes(), &mut block);
    }
    // With indexing, so that the next block needs it.
    block.extend(b"\x40\x01c\x01d");
    let mut fields = reader();
    assert_eq!(fields.read(&block, false), Ok(Block::Malformed));
    let Ok(Block::Head(next)) = fields.read(b"\x88\xbe", false) else {
        panic!("the table is lost");
    };
    let expected = [(":status", "200"), ("c", "d")];
    assert_eq!(
        lines(&next),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}
