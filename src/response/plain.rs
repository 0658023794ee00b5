//! Is a head one that hyper takes as it is, and that means one thing? Most are, so this has to be cheap: a look at
//! every byte with vectors, and at the name of every line. Where it says no, the head may still be in order.

/// What is known of such a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    /// The bytes of the head, its empty line included.
    pub(super) len: usize,
    /// Whether `Transfer-Encoding: chunked` frames its body.
    pub(super) is_chunked: bool,
}

/// hyper takes 100 fields.
const MAX_LINES: usize = 96;
/// hyper takes a head that fits its buffer.
const MAX_BYTES: usize = 64 * 1024;

/// None where the bytes do not begin with a whole head of that kind.
pub(super) fn look(bytes: &[u8]) -> Option<Plain> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.first_chunk::<4>()?;
    let [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' '] = status else {
        return None;
    };
    let is_bodiless = matches!(status, b"204 " | b"304 ");
    let (mut lines, mut start) = (0, 0);
    let (mut has_length, mut is_chunked) = (false, false);
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(start..end)?.strip_suffix(b"\r")?;
        lines += 1;
        if line.is_empty() {
            let len = end + 1;
            let is_clear = !(has_length && is_chunked || is_bodiless && (has_length || is_chunked));
            let is_small = lines <= MAX_LINES && len <= MAX_BYTES;
            // The two that end each line, and no others.
            let is_plain = is_clear && is_small && unprintable(bytes.get(..len)?) == 2 * lines;
            return is_plain.then_some(Plain { len, is_chunked });
        }
        if lines > 1 {
            let name = name_len(bytes.get(start..)?);
            let value = line.get(name..)?.strip_prefix(b":")?;
            match name {
                14 if is_name(line, b"content-length") => {
                    if has_length || !is_number(value) {
                        return None;
                    }
                    has_length = true;
                }
                17 if is_name(line, b"transfer-encoding") => {
                    if is_chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return None;
                    }
                    is_chunked = true;
                }
                0 => return None,
                _ => {}
            }
        }
        start = end + 1;
    }
    None
}

fn is_name(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(name))
}

/// As a sender writes it that does so properly, and not near to where numbers end.
fn is_number(value: &[u8]) -> bool {
    match value.trim_ascii() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// How many bytes are no printable ASCII.
fn unprintable(bytes: &[u8]) -> usize {
    let count = |some: &[u8]| -> u8 {
        some.iter()
            .map(|byte| u8::from(byte.wrapping_sub(0x20) > 0x5e))
            .sum()
    };
    bytes.chunks(128).map(|some| usize::from(count(some))).sum()
}

/// How many letters and hyphens the bytes begin with. Eight at a time, which says anything at all where they are not
/// all ASCII; such a head is not plain.
fn name_len(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let small = word | (0x20 * ONES);
        // The highest bit of each byte: at least `a`, beyond `z`, and another one than a hyphen.
        let letter =
            small.wrapping_add((0x80 - 0x61) * ONES) & !small.wrapping_add((0x80 - 0x7b) * ONES);
        let no_hyphen = (word ^ (0x2d * ONES)).wrapping_add(0x7f * ONES);
        let other = !letter & no_hyphen & (0x80 * ONES);
        if other != 0 {
            return place * 8 + other.trailing_zeros() as usize / 8;
        }
    }
    let is_part = |byte: &&u8| byte.is_ascii_alphabetic() || **byte == b'-';
    words.len() * 8 + rest.iter().take_while(is_part).count()
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

    #[test]
    fn a_name_is_read_to_the_first_byte_that_is_no_part_of_it() {
        for other in (0..128_u8).filter(|byte| !byte.is_ascii_alphabetic() && *byte != b'-') {
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
}
