//! Bodies that are not plainly a JSON object.

use std::io::Write as _;

use super::*;

#[test]
fn what_can_be_read_is_read() {
    let json = r#"{"access_token":"t","expires_in":3600}"#;
    for (name, before, after) in [
        ("a byte-order mark", "\u{feff}", ""),
        ("two of them", "\u{feff}\u{feff}", ""),
        ("white space", " \r\n\t", "\n"),
        ("a comma behind it", "", ","),
        (
            "a page behind it",
            "",
            "<html><body>{\"error\":\"x\"}</body></html>",
        ),
        ("a second object", "", r#"{"error":"invalid_client"}"#),
        ("a bracket too many", "", "}}"),
        ("what keeps it from being a script", ")]}',\n", ""),
        ("a loop", "while(1);", ""),
        ("a loop of the other kind", "for (;;);", ""),
        ("an empty object", "{}&&", ""),
        ("a function call", "callback(", ");"),
        ("a comment", "/*-secure-\n", "*/"),
        (
            "a warning of PHP's",
            "<br />\n<b>Warning</b>: x in <b>/a.php</b> on line <b>3</b><br />\n",
            "",
        ),
        (
            "a warning in plain text",
            "PHP Notice:  x in /a.php on line 3\n",
            "",
        ),
        ("an array", "[", "]"),
    ] {
        let body = format!("{before}{json}{after}");
        assert_eq!(token_in("", body.clone()), "t", "{name}");
        let response = at(200, &body).unwrap();
        assert_eq!(
            response.lifetime,
            ExpiresIn::For(Duration::from_secs(3600)),
            "{name}"
        );
        // An error is found as a token is.
        let body = format!("{before}{}{after}", r#"{"error":"invalid_client"}"#);
        assert_eq!(
            failure(400, &body),
            Failure::Rejected(code("invalid_client"), None),
            "{name}"
        );
    }
    let twice = Value::from(json).to_string();
    assert_eq!(token_in("", twice), "t");
}

#[test]
fn an_object_that_is_not_sound_gives_what_came_before() {
    for (name, body) in [
        ("a comma at its end", r#"{"access_token":"t",}"#),
        ("commas too many", r#"{,"a":[1,,2,],,"access_token":"t"}"#),
        ("no comma", r#"{"a":1 "access_token":"t"}"#),
        (
            "a line break in a string",
            "{\"a\":\"x\ny\u{1}\",\"access_token\":\"t\"}",
        ),
        ("an unknown escape", r#"{"a":"\x\_\'","access_token":"t"}"#),
        (
            "half a surrogate pair",
            r#"{"a":"\ud83d","b":"\ud83dx","access_token":"t"}"#,
        ),
        (
            "an escape without digits",
            r#"{"a":"\uZZ","access_token":"t"}"#,
        ),
        (
            "a name twice",
            r#"{"access_token":"old","access_token":"t"}"#,
        ),
        (
            "another language's literals",
            r#"{"a":None,"b":NaN,"c":undefined,"access_token":"t"}"#,
        ),
        (
            "a null that is empty",
            r#"{"error":null,"error_description":"","access_token":"t"}"#,
        ),
        ("it breaks off", r#"{"access_token":"t","scope":"a b"#),
        ("it goes wrong", r#"{"access_token":"t",'scope':'a'}"#),
        ("an unpaired bracket", r#"{"access_token":"t","a":[1}"#),
        ("escapes", r#"{"\u0061ccess_token":"\u0074"}"#),
        (
            "deep",
            r#"{"data":{"access_token":"t","a":{"b":{"c":[[{}]]}}}}"#,
        ),
    ] {
        assert_eq!(token_in("", body), "t", "{name}");
    }
    // A number that might go on is none.
    let response = at(200, r#"{"access_token":"t","expires_in":36"#).unwrap();
    assert_eq!(response.lifetime, ExpiresIn::Unstated);
    let response = at(200, r#"{"access_token":"t","expires_in":03600}"#).unwrap();
    assert_eq!(response.lifetime, ExpiresIn::For(Duration::from_secs(3600)));
    let body = r#"{"retry_after":"7","error":"slow_down","x":"#;
    let seven = Some(Duration::from_secs(7));
    assert_eq!(failure(400, body), Failure::RateLimited(seven));
}

#[test]
fn a_hundred_thousand_brackets_take_no_time() {
    let begun = tokio::time::Instant::now();
    let many = |bracket: &str| bracket.repeat(100_000);
    for deep in [many("["), many("{\"a\":"), many("[{\"a\":")] {
        let said = instead("", deep.clone());
        assert!(said.starts_with("it "), "{said}");
        // Deeper than anything that is looked for, it is gone past.
        let ends: String = deep
            .chars()
            .rev()
            .filter_map(|bracket| match bracket {
                '[' => Some(']'),
                '{' => Some('}'),
                _ => None,
            })
            .collect();
        let deep = deep
            .strip_suffix(':')
            .map_or(deep.clone(), |open| format!("{open}:1"));
        let body = format!(r#"{{"a":{deep}{ends},"access_token":"t"}}"#);
        assert_eq!(token_in("", body), "t");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn text_is_read_in_the_character_set_that_it_shows() {
    let json = r#"{"access_token":"t","scope":"é"}"#;
    let units: Vec<u16> = json.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for body in [
        little.clone(),
        big.clone(),
        [&[0xff, 0xfe][..], &little].concat(),
        [&[0xfe, 0xff][..], &big].concat(),
    ] {
        let response = read_it(&raw(200, "", body)).unwrap();
        assert_eq!(response.access_token.expose(), "t");
        assert_eq!(response.scope.as_deref(), Some("é"));
    }
    // ISO-8859-1 in a text that nobody needs, and in one that somebody does.
    let body = b"{\"access_token\":\"t\",\"owner\":\"M\xfcller\"}".to_vec();
    assert_eq!(token_in("", body), "t");
    let body = b"{\"access_token\":\"t\xfc\"}".to_vec();
    assert_eq!(instead("", body), "it holds bytes that no header may hold");
    let body = b"{\"access_token\":\"t\",\"refresh_token\":\"r\xfc\"}".to_vec();
    assert!(
        read_it(&raw(200, "", body))
            .unwrap()
            .refresh_token
            .is_none()
    );
}

#[test]
fn a_form_is_read_as_json_is() {
    let response = at(
        200,
        "access_token=a%2Bb&expires_in=3600&refresh_token=r&token_type=bearer&scope=",
    )
    .unwrap();
    assert_eq!(response.access_token.expose(), "a+b");
    assert_eq!(response.lifetime, ExpiresIn::For(Duration::from_secs(3600)));
    assert_eq!(
        response.refresh_token.as_ref().map(Secret::expose),
        Some("r")
    );
    assert_eq!(token_in("", "access_token=t\n"), "t");
    for (status, body, expected) in [
        (
            400,
            "error=invalid_client&error_description=no+such+client",
            Failure::Rejected(code("invalid_client"), None),
        ),
        (401, "error=nope", Failure::Rejected(code("nope"), None)),
        (
            400,
            "error=unsupported_grant_type",
            Failure::ErrorStatus(400, code("unsupported_grant_type")),
        ),
        (
            400,
            "error=slow_down&retry_after=9",
            Failure::RateLimited(Some(Duration::from_secs(9))),
        ),
    ] {
        assert_eq!(failure(status, body), expected, "{body}");
    }
    // What people read is no form.
    let body = "access_token=t is not what you get";
    assert_eq!(instead("", body), "the body is plain text");
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Stored, as RFC 7932 section 9.2 lets one: a window of 16 bits, a block of that many bytes, and the last one.
fn brotli(data: &[u8]) -> Vec<u8> {
    // Window (1 bit), not the last block (1), 4 nibbles (2), the length less one (16), uncompressed (1).
    let length = u32::try_from(data.len() - 1).unwrap();
    let bits = (length << 4) | (1 << 20);
    let head = &bits.to_le_bytes()[..3];
    [head, data, &[3]].concat()
}

const PLAIN: &[u8] = br#"{"access_token":"t","expires_in":3600}"#;

#[test]
fn a_content_coding_that_nobody_asked_for_is_undone() {
    let (gzip_, zlib_) = (gzip(PLAIN), zlib(PLAIN));
    for (codings, body) in [
        ("gzip", gzip_.clone()),
        ("x-gzip", gzip_.clone()),
        ("GZIP", gzip_.clone()),
        (" gzip ,", gzip_.clone()),
        ("identity, gzip, ", gzip_.clone()),
        ("deflate", zlib_.clone()),
        ("deflate", deflate(PLAIN)),
        ("br", brotli(PLAIN)),
        ("deflate, gzip", gzip(&zlib_)),
        ("gzip, gzip", gzip(&gzip_)),
        ("br, gzip", gzip(&brotli(PLAIN))),
        // Some proxies take the label off.
        ("", gzip_.clone()),
        ("", zlib_.clone()),
        ("identity", gzip_.clone()),
        // A label that is wrong.
        ("gzip", zlib_.clone()),
        ("deflate", gzip_.clone()),
        ("br", gzip_.clone()),
        ("zstd", gzip_.clone()),
        ("gzip", PLAIN.to_vec()),
        ("br", PLAIN.to_vec()),
        ("deflate", PLAIN.to_vec()),
        ("identity", PLAIN.to_vec()),
        ("", PLAIN.to_vec()),
        ("utf-8", PLAIN.to_vec()),
        ("gzip, gzip", gzip_.clone()),
        // Two members, and bytes behind them.
        ("gzip", [gzip(&PLAIN[..9]), gzip(&PLAIN[9..])].concat()),
        ("gzip", [&gzip_[..], b"\0\0\0"].concat()),
        // Without its checksum, but with all that it is a checksum of.
        ("gzip", gzip_[..gzip_.len() - 8].to_vec()),
        ("gzip", gzip_[..gzip_.len() - 3].to_vec()),
    ] {
        assert_eq!(token_in(codings, body), "t", "{codings}");
    }
}

#[test]
fn a_content_coding_that_cannot_be_undone_is_named() {
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x03][..], PLAIN].concat();
    let whole = gzip(PLAIN);
    let mut damaged = whole.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 0xff;
    let layers = (0..6).fold(PLAIN.to_vec(), |body, _| gzip(&body));
    for (codings, body, what) in [
        ("zstd", zstd.clone(), "its content coding zstd is not known"),
        ("Zstd", zstd.clone(), "its content coding Zstd is not known"),
        ("", zstd.clone(), "its content coding zstd is not known"),
        (
            "compress",
            vec![0x1f, 0x9d, 0x90, 1],
            "its content coding compress is not known",
        ),
        (
            "dcb",
            vec![0xff, 0x44, 0x43, 0x42],
            "its content coding dcb is not known",
        ),
        (
            "zstd, gzip",
            gzip(&zstd),
            "its content coding zstd is not known",
        ),
        (
            "s3cr3t-0f-acme",
            vec![0xff, 1],
            "its content coding is not known",
        ),
        (
            "gzip",
            whole[..12].to_vec(),
            "its compressed body breaks off",
        ),
        (
            "gzip",
            whole[..4].to_vec(),
            "its compressed body breaks off",
        ),
        ("gzip", damaged, "its compressed body is damaged"),
        (
            "gzip",
            gzip(&vec![b' '; 2 << 20]),
            "it is larger than 1 MiB",
        ),
        (
            "gzip, gzip",
            gzip(&gzip(&vec![b' '; 8 << 20])),
            "it is larger than 1 MiB",
        ),
        (
            "deflate",
            zlib(&vec![b' '; 2 << 20]),
            "it is larger than 1 MiB",
        ),
        ("gzip", layers, "it has too many content codings"),
        ("gzip", b"<html>".to_vec(), "the body is an HTML page"),
        ("zstd", b"<html>".to_vec(), "the body is an HTML page"),
        ("gzip", gzip(b"<html>"), "the body is an HTML page"),
        ("gzip", gzip(b""), "the body is empty"),
        ("gzip", vec![], "the body is empty"),
    ] {
        assert_eq!(instead(codings, body), what, "{codings}");
    }
    // An error is read, too.
    let body = gzip(br#"{"error":"invalid_client"}"#);
    let refused = read_it(&raw(401, "gzip", body)).unwrap_err();
    assert_eq!(refused, Failure::Rejected(code("invalid_client"), None));
}

#[test]
fn a_string_in_what_is_skipped_ends_at_its_own_quotation_mark() {
    let deep = |inner: &str| {
        let (open, close) = ("[".repeat(50), "]".repeat(50));
        json::read(&format!("{{\"a\": {open}{inner}{close}, \"b\": 1}}"))
    };
    for inner in [
        r#""plain]]""#,
        r#""a \" quoted ]]""#,
        r#""a backslash \\""#,
        r#""both \\\" ]]""#,
        r#"{"x": "]]\"]]"}"#,
    ] {
        let (value, is_whole) = deep(inner);
        assert!(is_whole && value["b"] == 1, "{inner}: {value}");
    }
    let (_, is_whole) = deep(r#""unended"#);
    assert!(!is_whole);
}

#[test]
fn what_comes_behind_a_gzip_file_does_not_count_unless_it_is_another_one() {
    let (first, second) = PLAIN.split_at(9);
    for body in [
        [gzip(PLAIN), b"junk".to_vec()].concat(),
        [gzip(first), gzip(second)].concat(),
        [gzip(first), gzip(second), vec![0; 64]].concat(),
    ] {
        assert_eq!(token_in("gzip", body), token_in("", PLAIN));
    }
}
