//! Character encodings of files: UTF-8, and the name of what else a file may be in.

use zeroize::Zeroizing;

/// What editors of another age put before UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file is no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("it is UTF-16; save it as UTF-8")]
    Utf16,
    #[error(
        "it is not UTF-8: line {0} has a byte of another encoding, such as Latin-1 or Windows-1252; save it as UTF-8"
    )]
    NotUtf8(usize),
}

/// A file's text, wiped on drop as its bytes are: there may be a secret in it.
pub(super) fn decode(bytes: Vec<u8>) -> Result<Zeroizing<String>, Error> {
    if is_utf16(&bytes) {
        drop(Zeroizing::new(bytes));
        return Err(Error::Utf16);
    }
    String::from_utf8(bytes)
        .map(Zeroizing::new)
        .map_err(|other| {
            let valid = other.utf8_error().valid_up_to();
            let bytes = Zeroizing::new(other.into_bytes());
            let before = bytes.iter().take(valid);
            Error::NotUtf8(1 + before.filter(|byte| **byte == b'\n').count())
        })
}

/// The same, whatever the encoding: for what is ASCII in it, where nobody else is to be asked.
pub(super) fn decode_any(bytes: Vec<u8>) -> Zeroizing<String> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) if !is_utf16(text.as_bytes()) => return Zeroizing::new(text),
        Ok(text) => Zeroizing::new(text.into_bytes()),
        Err(other) => Zeroizing::new(other.into_bytes()),
    };
    // It is not to grow: a copy would be left behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    if is_utf16(&bytes) {
        let is_little = matches!(bytes.get(..2), Some([0xff, 0xfe] | [_, 0]));
        let unit = |pair: &[u8; 2]| match is_little {
            true => u16::from_le_bytes(*pair),
            false => u16::from_be_bytes(*pair),
        };
        let (pairs, _) = bytes.as_chunks();
        let chars = char::decode_utf16(pairs.iter().map(unit));
        text.extend(chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)));
    } else {
        // Each byte of Latin-1 is a character.
        text.extend(bytes.iter().copied().map(char::from));
    }
    text
}

/// The text without the mark that it may begin with.
pub(super) fn unmarked(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// With its mark, or ASCII whose every other byte is zero.
fn is_utf16(bytes: &[u8]) -> bool {
    let has_mark = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let is_ascii =
        |pair: &[u8]| matches!(*pair, [0, other] | [other, 0] if other.is_ascii() && other != 0);
    has_mark || (bytes.len() >= 4 && bytes.chunks_exact(2).take(64).all(is_ascii))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_encoding_is_named_with_the_line_where_it_shows() {
        let utf16 = |text: &str, to: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(to).collect()
        };
        for text in ["\u{feff}listen: ü\n", "listen: 1\n"] {
            for to in [u16::to_le_bytes, u16::to_be_bytes] {
                assert_eq!(decode(utf16(text, to)), Err(Error::Utf16));
            }
        }
        assert_eq!(decode(b"a\nb\n# f\xfcr".to_vec()), Err(Error::NotUtf8(3)));
        for text in ["", "a", "ab", "für", "\u{feff}listen: 1"] {
            assert_eq!(**decode(text.into()).unwrap(), *text);
        }
        assert_eq!(unmarked("\u{feff}a\u{feff}"), "a\u{feff}");
    }

    #[test]
    fn what_is_ascii_is_read_in_any_encoding() {
        let text = "# für\nadmin: 1\n";
        let utf16 = |to: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            let text = format!("{mark}{text}");
            text.encode_utf16().flat_map(to).collect()
        };
        for bytes in [
            text.into(),
            b"# f\xfcr\nadmin: 1\n".to_vec(),
            utf16(u16::to_le_bytes, "\u{feff}"),
            utf16(u16::to_be_bytes, "\u{feff}"),
        ] {
            assert_eq!(unmarked(&decode_any(bytes)), text);
        }
        let unmarked: Vec<u8> = "a: 1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(**decode_any(unmarked), *"a: 1\n");
        // Half a character.
        assert_eq!(
            **decode_any(vec![0xff, 0xfe, 0, 0xd8, 1]),
            *"\u{feff}\u{fffd}"
        );
    }
}
