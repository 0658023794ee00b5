//! Lenient JSON reader: it makes the best of what endpoints write, as far as it is sound.
//!
//! Strings may hold control characters, unknown escapes and halves of surrogate pairs; commas may be missing or
//! one too many. Where nothing can be made of the text any more, what was complete before counts. It goes through
//! the text once and has no recursion: what is nested deeper than anything that is needed is skipped.

use serde_json::{Map, Number, Value};

/// Deeper than that is skipped.
const MAX_DEPTH: usize = 32;

/// The value that a text begins with; and whether it was read to its end.
pub(super) fn read(text: &str) -> (Value, bool) {
    let mut reader = Reader {
        text,
        at: 0,
        open: Vec::new(),
        root: None,
    };
    let is_whole = reader.run();
    // What is open still counts.
    while reader.close().is_some() {}
    (reader.root.unwrap_or_default(), is_whole)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Open>,
    root: Option<Value>,
}

/// An object or an array that has not ended yet.
enum Open {
    Object(Map<String, Value>, Option<String>),
    Array(Vec<Value>),
}

impl<'a> Reader<'a> {
    /// Reads until the first value has ended; false where it does not, or nothing can be made of it.
    fn run(&mut self) -> bool {
        loop {
            let Some(byte) = self.next() else {
                return false;
            };
            let is_sound = match byte {
                b'{' | b'[' => self.begin(byte),
                b'}' | b']' => self.end(byte),
                // Between members, and one too many.
                b',' if !self.open.is_empty() => {
                    self.at += 1;
                    true
                }
                b'"' => self.string().is_some_and(|text| self.text_ended(text)),
                _ => self.word().is_some_and(|value| self.put(value)),
            };
            if !is_sound {
                return false;
            }
            if self.open.is_empty() && self.root.is_some() {
                return true;
            }
        }
    }

    /// The next byte that is not white space; it is not taken.
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
        self.at += space.count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn begin(&mut self, byte: u8) -> bool {
        if !self.wants_value() {
            return false;
        }
        if self.open.len() >= MAX_DEPTH {
            return self.skip() && self.put(Value::Null);
        }
        self.at += 1;
        self.open.push(match byte {
            b'{' => Open::Object(Map::new(), None),
            _ => Open::Array(Vec::new()),
        });
        true
    }

    fn end(&mut self, byte: u8) -> bool {
        let matches = match self.open.last() {
            Some(Open::Object(_, key)) => byte == b'}' && key.is_none(),
            Some(Open::Array(_)) => byte == b']',
            None => false,
        };
        self.at += 1;
        matches && self.close().is_some()
    }

    /// Ends what is open; a key without a value is not in it.
    fn close(&mut self) -> Option<()> {
        let value = match self.open.pop()? {
            Open::Object(object, _) => Value::Object(object),
            Open::Array(array) => Value::Array(array),
        };
        self.put(value);
        Some(())
    }

    fn wants_value(&self) -> bool {
        !matches!(self.open.last(), Some(Open::Object(_, None)))
    }

    /// A value has ended. Of two members with one name the later counts.
    fn put(&mut self, value: Value) -> bool {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::Array(array)) => array.push(value),
            Some(Open::Object(object, key)) => {
                let Some(key) = key.take() else {
                    return false;
                };
                object.insert(key, value);
            }
        }
        true
    }

    fn text_ended(&mut self, text: String) -> bool {
        if self.wants_value() {
            return self.put(text.into());
        }
        let is_named = self.next() == Some(b':');
        if let Some(Open::Object(_, key)) = self.open.last_mut()
            && is_named
        {
            self.at += 1;
            *key = Some(text);
        }
        is_named
    }

    /// A string from its quotation mark to the other; None where that is missing.
    fn string(&mut self) -> Option<String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.text.get(self.at..)?;
            let length = rest.find(['"', '\\'])?;
            let (plain, rest) = rest.split_at_checked(length)?;
            text.push_str(plain);
            self.at += length + 1;
            if rest.starts_with('"') {
                return Some(text);
            }
            let escaped = rest.chars().nth(1)?;
            self.at += escaped.len_utf8();
            text.push(match escaped {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => self.code_point(),
                // As ECMAScript has it, whose strings these were.
                other => other,
            });
        }
    }

    /// What comes behind `\u`; half a pair, and what is no number, becomes the replacement character.
    fn code_point(&mut self) -> char {
        let Some(unit) = self.unit(self.at) else {
            return char::REPLACEMENT_CHARACTER;
        };
        self.at += 4;
        let is_escaped = self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u");
        if (0xd800..0xdc00).contains(&unit)
            && is_escaped
            && let Some(low @ 0xdc00..0xe000) = self.unit(self.at + 2)
        {
            self.at += 6;
            let pair = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            return char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| is_number)
    }

    /// A number or a literal; null for what is neither. None where there is none, or where it might go on.
    fn word(&mut self) -> Option<Value> {
        let rest = self.text.get(self.at..)?;
        let is_end = |byte: u8| byte.is_ascii_whitespace() || b",:{}[]\"".contains(&byte);
        let length = rest.bytes().position(is_end)?;
        let word = rest.get(..length).filter(|word| !word.is_empty())?;
        self.at += length;
        Some(match word {
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            number => serde_json::from_str(number)
                .ok()
                .or_else(|| Number::from_f64(number.parse().ok()?).map(Value::Number))
                .unwrap_or_default(),
        })
    }

    /// Goes past what begins here, however deep it is.
    fn skip(&mut self) -> bool {
        let mut depth = 0_usize;
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'"' => {
                    if !self.skip_string() {
                        return false;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return true;
            }
        }
        false
    }

    fn skip_string(&mut self) -> bool {
        self.at += 1;
        let mut is_escaped = false;
        for byte in self.text.as_bytes().get(self.at..).unwrap_or_default() {
            self.at += 1;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => return true,
                _ => {}
            }
        }
        false
    }
}
