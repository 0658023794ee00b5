//! Characters of a request target that a URI has percent-encoded only (RFC 3986 section 2), and that old programs write as
//! they are. hyper refuses them; servers take them.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::framing::StartLine;

/// The bytes, with such characters of their first line, which is a request's start line, percent-encoded. None: there are
/// none, as mostly.
pub(super) fn encoded(bytes: &[u8], begun: StartLine) -> Option<Bytes> {
    let empty = bytes.iter().take_while(|byte| b"\r\n".contains(byte));
    // Empty lines before a request are skipped (RFC 9112 section 2.2).
    let start = if begun.is_new { empty.count() } else { 0 };
    let (before, line) = bytes.split_at_checked(start)?;
    let end = memchr::memchr(b'\n', line).unwrap_or(line.len());
    let (line, after) = line.split_at_checked(end)?;
    if memchr::memchr3(b'"', b'<', b'>', line).is_none() && memchr::memchr(b'`', line).is_none() {
        return None;
    }
    let mut encoded = BytesMut::with_capacity(bytes.len() + 64);
    encoded.put_slice(before);
    let StartLine {
        mut in_target,
        mut has_query,
        ..
    } = begun;
    for byte in line {
        in_target |= *byte == b' ';
        has_query |= *byte == b'?';
        match byte {
            b'<' if in_target => encoded.put_slice(b"%3C"),
            b'>' if in_target => encoded.put_slice(b"%3E"),
            b'"' if in_target && has_query => encoded.put_slice(b"%22"),
            b'`' if in_target && !has_query => encoded.put_slice(b"%60"),
            other => encoded.put_u8(*other),
        }
    }
    encoded.put_slice(after);
    Some(encoded.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Framing;

    /// What hyper gets of these reads.
    fn after(reads: &[&str]) -> String {
        let mut framing = Framing::new();
        let mut all = Vec::new();
        for read in reads {
            let bytes = read.as_bytes();
            let encoded = framing.start_line().and_then(|begun| encoded(bytes, begun));
            let bytes = encoded.as_deref().unwrap_or(bytes);
            framing.read(bytes).unwrap();
            all.extend_from_slice(bytes);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn every_visible_character_is_one_that_hyper_takes_and_none_is_encoded_that_it_takes_as_it_is()
    {
        for byte in (b'!'..=b'~').filter(|byte| *byte != b'#') {
            for place in ["/a", "/a?b="] {
                let target = format!("{place}{}c", char::from(byte));
                let line = after(&[&format!("GET {target} HTTP/1.1\r\n")]);
                let came = line.split(' ').nth(1).unwrap();
                let is_taken = target.parse::<http::Uri>().is_ok();
                assert_eq!(came == target, is_taken, "{target}");
                assert!(came.parse::<http::Uri>().is_ok(), "{came}");
            }
        }
    }

    #[test]
    fn it_is_the_same_however_the_bytes_are_split_and_nothing_else_changes() {
        let head = "\r\nGET http://a.test/<`\"`>?q=\"<`>\" HTTP/1.1\r\nX: \"<`>\"\r\n\r\n";
        let expected =
            "\r\nGET http://a.test/%3C%60\"%60%3E?q=%22%3C`%3E%22 HTTP/1.1\r\nX: \"<`>\"\r\n\r\n";
        assert_eq!(after(&[head]), expected);
        for at in 1..head.len() {
            let (first, rest) = head.split_at(at);
            assert_eq!(after(&[first, rest]), expected, "{at}");
        }
        // A body is none of it.
        let post = "POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\n";
        assert_eq!(after(&[post, "<\"`?\"<>`"]), format!("{post}<\"`?\"<>`"));
    }
}
