//! Lenient decoding, as some servers do it: percent signs, `%uXXXX` as IIS has it, overlong UTF-8, and the characters
//! that some system takes for a dot, a slash or a letter of ASCII.
//!
//! It knows no paths: text comes in and text goes out.

/// Decodes once; None where nothing changes.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut has_changed = false;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, escaped(after)) {
            (b'%', Some((char, after))) => {
                has_changed = true;
                match char {
                    Escaped::Byte(byte) => bytes.push(byte),
                    Escaped::Char(char) => {
                        bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                after
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    has_changed.then(|| fold(&bytes))
}

enum Escaped {
    Byte(u8),
    Char(char),
}

/// What stands behind a percent sign, and what follows it.
fn escaped(rest: &[u8]) -> Option<(Escaped, &[u8])> {
    if let Some(rest) = rest.strip_prefix(b"u").or(rest.strip_prefix(b"U")) {
        let (digits, rest) = rest.split_first_chunk::<4>()?;
        let char = char::from_u32(number(digits)?).unwrap_or(char::REPLACEMENT_CHARACTER);
        return Some((Escaped::Char(char), rest));
    }
    let (digits, rest) = rest.split_first_chunk::<2>()?;
    let byte = u8::try_from(number(digits)?).ok()?;
    Some((Escaped::Byte(byte), rest))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| {
        Some(number * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// Bytes as text, with all that is taken for ASCII as ASCII.
fn fold(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let valid = match std::str::from_utf8(bytes) {
            Ok(valid) => valid,
            Err(error) => {
                let (valid, _) = bytes.split_at(error.valid_up_to());
                std::str::from_utf8(valid).unwrap_or_default()
            }
        };
        for char in valid.chars() {
            push_folded(&mut text, char);
        }
        let rest = bytes.get(valid.len()..).unwrap_or_default();
        let Some((_, after)) = rest.split_first() else {
            return text;
        };
        bytes = match overlong(rest) {
            Some((char, after)) => {
                text.push(char);
                after
            }
            None => {
                text.push(char::REPLACEMENT_CHARACTER);
                after
            }
        };
    }
    text
}

/// A character of ASCII in more bytes than its one (RFC 3629 section 10), and what follows it. Of two bytes the second
/// need not be one that continues, where a dot or a slash comes of it: IIS once took `%c0%2f` and `%c1%1c`.
fn overlong(bytes: &[u8]) -> Option<(char, &[u8])> {
    let (lead, rest) = bytes.split_first()?;
    let more = match lead {
        0xc0 | 0xc1 => 1,
        0xe0 => 2,
        0xf0 => 3,
        0xf8 => 4,
        0xfc => 5,
        _ => return None,
    };
    let (more, rest) = rest.split_at_checked(more)?;
    let first = match lead {
        0xc1 => 1,
        _ => 0,
    };
    let value = more.iter().fold(first, |value: u32, byte| {
        value << 6 | u32::from(byte & 0x3f)
    });
    let char = char::from_u32(value).filter(char::is_ascii)?;
    let continues = more.iter().all(|byte| byte & 0xc0 == 0x80);
    let is_loose = matches!(lead, 0xc0 | 0xc1) && "./\\%;".contains(char);
    (continues || is_loose).then_some((char, rest))
}

/// Fullwidth forms, and what is taken for a dot, a slash, a space or nothing by one system or another.
fn push_folded(text: &mut String, char: char) {
    let as_ascii = match char {
        '\u{ff01}'..='\u{ff5e}' => {
            let char = char::from_u32(u32::from(char) - 0xfee0);
            text.push(char.unwrap_or(char::REPLACEMENT_CHARACTER));
            return;
        }
        '\u{2024}' | '\u{fe52}' | '\u{3002}' | '\u{ff61}' => ".",
        '\u{2025}' => "..",
        '\u{2026}' | '\u{fe19}' => "...",
        '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{2571}' => "/",
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' | '\u{2572}' => "\\",
        '\u{fe54}' | '\u{037e}' => ";",
        '\u{fe55}' | '\u{2236}' => ":",
        '\u{fe56}' => "?",
        '\u{fe5f}' => "#",
        '\u{fe69}' => "$",
        '\u{fe6a}' => "%",
        '\u{212a}' => "K",
        '\u{017f}' => "s",
        '\u{0131}' => "i",
        '\u{00ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => "",
        other if other.is_whitespace() && !other.is_ascii() && !is_line_end(other) => " ",
        other => {
            text.push(other);
            return;
        }
    };
    text.push_str(as_ascii);
}

/// A character that no path has, and that may end one for some server.
pub(super) fn is_control(char: char) -> bool {
    char.is_control() || is_line_end(char)
}

fn is_line_end(char: char) -> bool {
    matches!(char, '\u{85}' | '\u{2028}' | '\u{2029}')
}
