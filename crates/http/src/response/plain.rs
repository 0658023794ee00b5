//! Fast path for response heads that hyper takes as they are, and that mean one thing. Most do, so this has to be cheap:
//! it looks at eight bytes at a time. Where it says no, the head may still be in order.

/// What is known of such a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    /// The bytes of the head, its empty line included.
    pub(super) len: usize,
    /// Whether `Transfer-Encoding: chunked` frames its body.
    pub(super) is_chunked: bool,
    /// Whether that does, or a length.
    pub(super) is_framed: bool,
}

/// hyper takes 100 fields.
const MAX_LINES: usize = 96;
/// hyper takes a head that fits its buffer.
const MAX_BYTES: usize = 64 * 1024;

/// None where the bytes do not begin with a whole head of that kind.
pub(super) fn look(bytes: &[u8]) -> Option<Plain> {
    let (status, mut rest) = bytes.strip_prefix(b"HTTP/1.1 ")?.split_first_chunk::<4>()?;
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' '] = status else {
        return None;
    };
    let is_bodiless = matches!(status, b"204 " | b"304 ");
    let (mut has_length, mut is_chunked) = (false, false);
    for _ in 0..MAX_LINES {
        // The rest of the status line, and then of each field behind its colon.
        let line = behind_printable(rest).strip_prefix(b"\r\n")?;
        let (colon, value) = behind_name(line).split_first()?;
        match (line.len() - value.len() - 1, colon) {
            (0, b'\r') => {
                let len = bytes.len() - value.strip_prefix(b"\n")?.len();
                let is_framed_twice = has_length && is_chunked;
                let is_framed_in_vain = is_bodiless && (has_length || is_chunked);
                let is_plain = len <= MAX_BYTES && !is_framed_twice && !is_framed_in_vain;
                let is_framed = has_length || is_chunked;
                return is_plain.then_some(Plain {
                    len,
                    is_chunked,
                    is_framed,
                });
            }
            (0, _) => return None,
            (14, b':') if is_name(line, b"content-", 6, b"t-length") => {
                if has_length || !is_number(value) {
                    return None;
                }
                has_length = true;
            }
            (17, b':')
                if is_name(line, b"transfer", 9, b"encoding") && line.get(8) == Some(&b'-') =>
            {
                let coding = value.get(..value.len() - behind_printable(value).len())?;
                if is_chunked || !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                is_chunked = true;
            }
            (_, b':') => {}
            _ => return None,
        }
        rest = value;
    }
    None
}

/// Whether a line's name has that begin and that end, which hold letters and hyphens only.
fn is_name(line: &[u8], begin: &[u8; 8], place: usize, end: &[u8; 8]) -> bool {
    let has = |place: usize, eight: &[u8; 8]| {
        let found = line.get(place..).and_then(<[u8]>::first_chunk::<8>);
        let found = found.map(|found| u64::from_le_bytes(*found) | (0x20 * ONES));
        found == Some(u64::from_le_bytes(*eight))
    };
    has(0, begin) && has(place, end)
}

/// Whether a value is a number as a sender writes it that does so properly, and not near to where numbers end.
fn is_number(value: &[u8]) -> bool {
    let value = value.strip_prefix(b" ").unwrap_or(value);
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.count();
    let is_end = value.get(digits) == Some(&b'\r');
    let is_canonical = digits == 1 || value.first() != Some(&b'0');
    is_end && is_canonical && (1..19).contains(&digits)
}

const ONES: u64 = 0x0101_0101_0101_0101;
/// What is done to eight bytes at a time carries from one to those behind it alone, and not before the first that is
/// looked for.
const HIGHEST: u64 = 0x80 * ONES;

/// What follows the printable ASCII that the bytes begin with.
fn behind_printable(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // Less than a space, delete, or no ASCII.
        let other = word.wrapping_sub(0x20 * ONES) | word.wrapping_add(ONES) | word;
        if other & HIGHEST != 0 {
            let place = (other & HIGHEST).trailing_zeros() as usize / 8;
            return rest.get(place..).unwrap_or_default();
        }
        rest = after;
    }
    let is_printable = |byte: &&u8| matches!(**byte, b' '..=b'~');
    let printable = rest.iter().take_while(is_printable).count();
    rest.get(printable..).unwrap_or_default()
}

/// What follows the letters and hyphens that the bytes begin with.
fn behind_name(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let small = word | (0x20 * ONES);
        // At least `a`, and not beyond `z`.
        let letter =
            small.wrapping_add((0x80 - 0x61) * ONES) & !small.wrapping_add((0x80 - 0x7b) * ONES);
        let no_hyphen = (word ^ (0x2d * ONES)).wrapping_add(0x7f * ONES);
        let other = !letter & no_hyphen | word;
        if other & HIGHEST != 0 {
            let place = (other & HIGHEST).trailing_zeros() as usize / 8;
            return rest.get(place..).unwrap_or_default();
        }
        rest = after;
    }
    let is_part = |byte: &&u8| byte.is_ascii_alphabetic() || **byte == b'-';
    let part = rest.iter().take_while(is_part).count();
    rest.get(part..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(head: &str) -> Option<bool> {
        let plain = look(format!("{head}\r\n\r\nbody").as_bytes())?;
        assert_eq!(plain.len, head.len() + 4);
        Some(plain.is_chunked)
    }

    #[test]
    fn a_common_head_is_plain() {
        for head in [
            "HTTP/1.1 200 OK",
            "HTTP/1.1 503 ",
            "HTTP/1.1 204 No Content\r\nServer: x",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Y:",
            "HTTP/1.1 200 OK\r\nA: b\r\ncontent-length:12\r\nStrict-Transport-Security: max-age=1; a",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"",
            "HTTP/1.1 200 OK\r\nTransferXEncoding: chunked",
            "HTTP/1.1 200 OK\r\nContentXLength: 1\r\nContent-Length: 2",
        ] {
            assert_eq!(plain(head), Some(false), "{head}");
        }
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nDate: now";
        assert_eq!(plain(head), Some(true));
    }

    #[test]
    fn whatever_hyper_would_refuse_or_take_otherwise_is_not() {
        for head in [
            "HTTP/1.0 200 OK",
            "HTTP/1.1 100 Continue",
            "HTTP/1.1 600 x",
            "HTTP/1.1 200",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 200 O\x01K",
            "HTTP/1.1 200 OK\nA: b",
            "HTTP/1.1 200 OK\r\nA b: c",
            "HTTP/1.1 200 OK\r\nA : c",
            "HTTP/1.1 200 OK\r\n: c",
            "HTTP/1.1 200 OK\r\nno colon",
            "HTTP/1.1 200 OK\r\nA: b\r\n c",
            "HTTP/1.1 200 OK\r\nA: b\rc",
            "HTTP/1.1 200 OK\r\nA: b\r",
            "HTTP/1.1 200 OK\r\nA: b\x7fc",
            "HTTP/1.1 200 OK\r\nA: b\0c",
            "HTTP/1.1 200 OK\r\nContent-Length: 02",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(plain(head), None, "{head:?}");
        }
        assert_eq!(look(b"HTTP/1.1 200 OK\r\nA: b\r\n"), None);
        assert_eq!(look(b""), None);
    }

    fn name_len(bytes: &[u8]) -> usize {
        bytes.len() - behind_name(bytes).len()
    }

    fn printable(bytes: &[u8]) -> usize {
        bytes.len() - behind_printable(bytes).len()
    }

    #[test]
    fn a_name_is_read_to_the_first_byte_that_is_no_part_of_it() {
        for other in (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphabetic() && *byte != b'-') {
            for len in 0..20 {
                let mut bytes = b"Az-".repeat(7)[..len].to_vec();
                bytes.push(other);
                assert_eq!(name_len(&bytes), len, "{other}");
                bytes.extend_from_slice(b"-abcdefgh: ijkl");
                assert_eq!(name_len(&bytes), len, "{other}");
            }
        }
        assert_eq!(name_len(b"abcdefghijk"), 11);
    }
    #[test]
    fn a_value_is_read_to_the_first_byte_that_is_not_printed() {
        for other in (0..=u8::MAX).filter(|byte| !(b' '..=b'~').contains(byte)) {
            for len in 0..40 {
                let mut bytes = b" az~".repeat(10)[..len].to_vec();
                bytes.push(other);
                assert_eq!(printable(&bytes), len, "{other}");
                bytes.extend_from_slice(b"-abcdefgh: ijkl and more");
                assert_eq!(printable(&bytes), len, "{other}");
            }
        }
        assert_eq!(printable(b"abcdefghijk"), 11);
    }
}
