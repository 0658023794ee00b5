//! Spellings of credentials: which text their bytes stand for. RFC 7617 says UTF-8, older programs send ISO-8859-1, and
//! either may have an accent as a character of its own.
//!
//! It compares nothing. How many readings there are depends on what was sent and on nothing that is known.

use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

/// Bytes of credentials, or of a part of them.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// What Windows has where ISO-8859-1 has control characters, which no password has.
const WINDOWS_1252: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// Credentials in UTF-8 as they came; composed; and taken for ISO-8859-1. One reading of ASCII, three at most.
pub(super) fn readings(sent: &[u8]) -> Vec<Bytes> {
    let mut readings = vec![Zeroizing::new(sent.to_vec())];
    if sent.is_ascii() {
        return readings;
    }
    if let Ok(text) = std::str::from_utf8(sent) {
        add(&mut readings, composed(text));
    }
    add(&mut readings, composed(&latin1(sent)));
    readings
}

/// The same for what can only be tried: what somebody who made a hash of it may have typed, as they came, composed
/// and decomposed.
pub(super) fn typed(sent: &[u8]) -> Vec<Bytes> {
    let mut readings = vec![Zeroizing::new(sent.to_vec())];
    if sent.is_ascii() {
        return readings;
    }
    let text = text(sent);
    add(&mut readings, composed(&text));
    let decomposed = Zeroizing::new(text.nfd().collect::<String>().into_bytes());
    add(&mut readings, decomposed);
    readings
}

/// One text for all bytes that stand for it.
pub(super) fn canonical(sent: &[u8]) -> Bytes {
    match sent.is_ascii() {
        true => Zeroizing::new(sent.to_vec()),
        false => composed(&text(sent)),
    }
}

/// Another spelling of a configured text than its own.
pub(super) fn other(text: &str) -> Option<Bytes> {
    (!is_nfc(text)).then(|| composed(text))
}

fn add(readings: &mut Vec<Bytes>, reading: Bytes) {
    if !readings.contains(&reading) {
        readings.push(reading);
    }
}

fn composed(text: &str) -> Bytes {
    Zeroizing::new(text.nfc().collect::<String>().into_bytes())
}

fn text(sent: &[u8]) -> Zeroizing<String> {
    match std::str::from_utf8(sent) {
        Ok(text) => Zeroizing::new(text.to_owned()),
        Err(_not_utf8) => latin1(sent),
    }
}

fn latin1(sent: &[u8]) -> Zeroizing<String> {
    let char = |byte: &u8| match byte.checked_sub(0x80) {
        Some(at) if at < 32 => WINDOWS_1252[usize::from(at)],
        _ => char::from(*byte),
    };
    Zeroizing::new(sent.iter().map(char).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few_readings_and_one_of_ascii() {
        for (sent, count, tried) in [
            (&b"shop:p:ss"[..], 1, 1),
            ("shop:pässwörd".as_bytes(), 2, 2),
            ("shop:pa\u{308}ss".as_bytes(), 3, 2),
            (b"shop:p\xe4ss", 2, 3),
            (b"\x80\xff\xc0", 2, 3),
        ] {
            assert_eq!(
                (readings(sent).len(), typed(sent).len()),
                (count, tried),
                "{sent:?}"
            );
        }
    }

    #[test]
    fn the_same_text_is_the_same_however_it_is_sent() {
        let expected = "shop:pä€".as_bytes();
        for sent in [
            "shop:pä€".as_bytes(),
            "shop:pa\u{308}€".as_bytes(),
            b"shop:p\xe4\x80",
        ] {
            assert_eq!(*canonical(sent), expected);
            assert!(readings(sent).iter().any(|reading| **reading == *expected));
        }
        assert_eq!(other("pä"), None);
        assert_eq!(
            other("pa\u{308}").as_deref().map(Vec::as_slice),
            Some("pä".as_bytes())
        );
    }
}
