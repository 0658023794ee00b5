//! Numbers of heads: the status of a response and the length of a body, by the same rules in every version of HTTP.
//!
//! Whoever reads them says how large a length may be, and what happens where there is no telling.

/// The largest length that all parsers can hold.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// Digits and nothing else; a sign is none.
#[must_use]
pub fn digits(text: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        let shifted = number.checked_mul(10).filter(|_| digit < 10)?;
        shifted.checked_add(digit.into())
    };
    let number = text.iter().try_fold(0, add);
    number.filter(|_| !text.is_empty())
}

/// A status of three digits. Below 100 they are no status, and count as 5xx (RFC 9110 section 15).
#[must_use]
pub fn status(code: &[u8]) -> Option<u16> {
    match code {
        [b'0', b'0'..=b'9', b'0'..=b'9'] => Some(500),
        [_, _, _] => u16::try_from(digits(code)?).ok(),
        _ => None,
    }
}

/// What a response's length is after another value of the field: one number, however often and with however many zeros
/// it is written (RFC 9110 section 8.6). None: there is no telling.
#[must_use]
pub fn same_length(known: Option<u64>, value: &[u8], max: u64) -> Option<u64> {
    let mut elements = value.split(|byte| *byte == b',').map(trim);
    let first = digits(elements.next()?)?;
    let length = known.unwrap_or(first);
    let is_same = |element: &[u8]| digits(element) == Some(length);
    (length <= max && first == length && elements.all(is_same)).then_some(length)
}

/// Without spaces and tabs, and nothing else that is taken for white space elsewhere (RFC 9110 section 5.6.3).
#[must_use]
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_three_digits_and_below_100_counts_as_500() {
        for (code, expected) in [
            ("200", Some(200)),
            ("999", Some(999)),
            ("099", Some(500)),
            ("000", Some(500)),
            ("20", None),
            ("2000", None),
            ("0x1", None),
            ("+20", None),
            ("", None),
        ] {
            assert_eq!(status(code.as_bytes()), expected, "{code}");
        }
    }

    #[test]
    fn a_length_is_one_number_however_often_it_is_written() {
        for (known, value, expected) in [
            (None, "12", Some(12)),
            (None, "012 ,\t12", Some(12)),
            (Some(12), "12", Some(12)),
            (Some(12), "13", None),
            (None, "12,13", None),
            (None, "12,", None),
            (None, "", None),
            (None, "+12", None),
            (None, "100", Some(100)),
            (None, "101", None),
            (None, "99999999999999999999", None),
        ] {
            assert_eq!(
                same_length(known, value.as_bytes(), 100),
                expected,
                "{value}"
            );
        }
    }
}
