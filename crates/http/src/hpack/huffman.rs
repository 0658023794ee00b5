//! HPACK's Huffman code (RFC 7541 section 5.2 and appendix B). The code is canonical: the lengths of its words are the
//! whole table.

use super::error::Malformed;

/// Of the words for the 256 bytes. Those of one length are numbered in the order of their bytes.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The words of one length.
#[derive(Clone, Copy)]
struct Words {
    first: u32,
    count: u32,
    /// Where their bytes begin in [`BYTES`].
    at: usize,
}

/// By length.
const WORDS: [Words; LONGEST + 1] = words();
/// In the order of their words.
const BYTES: [u8; 256] = bytes();

const fn words() -> [Words; LONGEST + 1] {
    let none = Words {
        first: 0,
        count: 0,
        at: 0,
    };
    let mut words = [none; LONGEST + 1];
    let mut byte = 0;
    while byte < 256 {
        words[LENGTHS[byte] as usize].count += 1;
        byte += 1;
    }
    let mut length = 1;
    while length <= LONGEST {
        let shorter = words[length - 1];
        words[length].first = (shorter.first + shorter.count) << 1;
        words[length].at = shorter.at + shorter.count as usize;
        length += 1;
    }
    words
}

const fn bytes() -> [u8; 256] {
    let (mut bytes, mut at, mut length) = ([0; 256], 0, 0);
    while length <= LONGEST {
        let mut byte = 0_u8;
        loop {
            if LENGTHS[byte as usize] as usize == length {
                bytes[at] = byte;
                at += 1;
            }
            if byte == u8::MAX {
                break;
            }
            byte += 1;
        }
        length += 1;
    }
    bytes
}

/// Appends what `coded` says.
///
/// # Errors
/// Where that is no code, or does not end as a string must.
pub(super) fn decode(coded: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut rest = coded.iter();
    let (mut bits, mut count) = (0_u64, 0);
    loop {
        while count <= 56 {
            let Some(byte) = rest.next() else {
                break;
            };
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        let Some((byte, length)) = next(bits, count) else {
            // What is left is the beginning of the word for the end, and less than a byte of it.
            let padding = (1 << count.min(63)) - 1;
            let is_end = count < 8 && bits & padding == padding;
            return if is_end { Ok(()) } else { Err(Malformed) };
        };
        decoded.push(byte);
        count -= length;
    }
}

/// The byte that the last `count` of these bits begin with, and how many bits that takes.
fn next(bits: u64, count: usize) -> Option<(u8, usize)> {
    for length in SHORTEST..=LONGEST.min(count) {
        let word = bits >> (count - length) & ((1 << length) - 1);
        let words = WORDS.get(length)?;
        let number = word.checked_sub(u64::from(words.first));
        if let Some(number) = number.filter(|number| *number < u64::from(words.count)) {
            let byte = BYTES.get(words.at + usize::try_from(number).ok()?)?;
            return Some((*byte, length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        for (coded, text) in [
            (&b"\x64\x02"[..], "302"),
            (b"\xae\xc3\x77\x1a\x4b", "private"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                b"\x94\xe7\x82\x1d\xd7\xf2\xe6\xc7\xb3\x35\xdf\xdf\xcd\x5b\x39\x60\xd5\xaf\x27\x08\x7f\x36\x72\xc1\xab\x27\x0f\xb5\x29\x1f\x95\x87\x31\x60\x65\xc0\x03\xed\x4e\xe5\xb1\x06\x3d\x50\x07",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
            (b"", ""),
        ] {
            assert_eq!(decoded(coded).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn every_byte_has_its_word() {
        for byte in 0..=u8::MAX {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let place = BYTES.iter().position(|other| *other == byte).unwrap();
            let words = WORDS[length];
            let word = u64::from(words.first) + (place - words.at) as u64;
            // Filled up with ones to whole bytes.
            let padding = (8 - length % 8) % 8;
            let word = ((word + 1) << padding) - 1;
            let coded = &word.to_be_bytes()[8 - (length + padding) / 8..];
            assert_eq!(decoded(coded).unwrap(), [byte], "{byte}");
        }
    }

    #[test]
    fn what_does_not_end_as_a_string_must_is_refused() {
        // A byte of padding, padding of zeros, the word for the end, a word that breaks off.
        for coded in [
            &b"\xff"[..],
            b"\x64\x02\xff",
            b"\x00\x00\x00",
            b"\xff\xff\xff\xff",
            b"\xff\xff",
        ] {
            assert!(decoded(coded).is_err(), "{coded:?}");
        }
    }
}
