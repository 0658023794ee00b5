//! Correlation fields: how a caller's own records know a request. They go into the access line and the journal, so what
//! is not plain text stays out of them.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::repeated::only;

/// The flag of `traceparent` that says so.
const SAMPLED: u128 = 0x01;
/// A reference or a request id is no longer.
const MAX_BYTES: usize = 256;

/// What a caller knows a request by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Correlation {
    /// `Bursar-Reference`, e.g. the number of an order.
    pub reference: Option<Identifier>,
    /// `X-Request-Id`, where it is usable.
    pub request_id: Option<Identifier>,
    /// What `traceparent` says.
    pub trace: Option<TraceParent>,
}

/// The caller's place in a trace, as W3C's Trace Context has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id; not 0.
    pub trace_id: u128,
    /// The id of the caller's span; not 0.
    pub span_id: u64,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// A value of 1 to 256 visible ASCII characters, or what is wrong with it.
pub type Identifier = Result<HeaderValue, Unusable>;

/// Why an identifier is not noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There are several.
    #[error("repeated")]
    Repeated,
    /// It has no characters.
    #[error("empty")]
    Empty,
    /// It has more than 256 characters.
    #[error("too_long")]
    TooLong,
    /// It has other characters than visible ASCII; a space is none.
    #[error("not_visible_ascii")]
    NotVisibleAscii,
}

impl Unusable {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::NotVisibleAscii => "not_visible_ascii",
        }
    }
}

/// What a field says that identifies something.
pub(super) fn identifier(headers: &HeaderMap, name: &HeaderName) -> Identifier {
    let value = only(headers, name).ok_or(Unusable::Repeated)?;
    match value.as_bytes() {
        [] => Err(Unusable::Empty),
        bytes if bytes.len() > MAX_BYTES => Err(Unusable::TooLong),
        bytes if !bytes.iter().all(u8::is_ascii_graphic) => Err(Unusable::NotVisibleAscii),
        _ => Ok(value.clone()),
    }
}

/// The trace and the caller's span, as W3C's Trace Context has them: version, id and span's id, flags, all in lowercase
/// digits. What is not exactly that says nothing.
pub(super) fn trace_parent(headers: &HeaderMap, name: &HeaderName) -> Option<TraceParent> {
    let value = only(headers, name)?.as_bytes();
    let (version, rest) = value.split_first_chunk::<2>()?;
    let (id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<32>()?;
    let (span, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
    let (flags, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<2>()?;
    // Later versions may have more behind another hyphen.
    let is_ended = rest.is_empty() || (version != b"00" && rest.starts_with(b"-"));
    let is_digits = |bytes: &[u8]| bytes.iter().all(|byte| digit(*byte).is_some());
    if !is_ended || version == b"ff" || !is_digits(version) {
        return None;
    }
    let (trace_id, span_id) = (number(id)?, number(span)?);
    Some(TraceParent {
        trace_id,
        span_id: u64::try_from(span_id).ok()?,
        is_sampled: number(flags)? & SAMPLED != 0,
    })
    .filter(|_| trace_id != 0 && span_id != 0)
}

fn number(digits: &[u8]) -> Option<u128> {
    digits
        .iter()
        .try_fold(0, |number, byte| Some(number << 4 | digit(*byte)?))
}

fn digit(byte: u8) -> Option<u128> {
    match byte {
        b'0'..=b'9' => Some(u128::from(byte - b'0')),
        b'a'..=b'f' => Some(u128::from(byte - b'a') + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn an_identifier_is_one_plain_word_and_everything_else_says_what_it_is() {
        let name = HeaderName::from_static("bursar-reference");
        let longest = [b'x'; 256];
        type Case<'a> = (&'a [&'a [u8]], Result<&'a [u8], Unusable>);
        let cases: [Case<'_>; 10] = [
            (&[b"order-17"], Ok(b"order-17")),
            (&[b"!~,;\"\\"], Ok(b"!~,;\"\\")),
            (&[&longest], Ok(&longest)),
            (&[&[b'x'; 257]], Err(Unusable::TooLong)),
            (&[b""], Err(Unusable::Empty)),
            (&[b"a, b"], Err(Unusable::NotVisibleAscii)),
            (&[b"a\tb"], Err(Unusable::NotVisibleAscii)),
            (&[b"caf\xc3\xa9"], Err(Unusable::NotVisibleAscii)),
            (&[b"a", b"a"], Err(Unusable::Repeated)),
            (&[b"", b"a"], Err(Unusable::Repeated)),
        ];
        for (values, expected) in cases {
            let found = identifier(&map("bursar-reference", values), &name);
            let expected = expected.map(|bytes| HeaderValue::from_bytes(bytes).unwrap());
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn a_trace_is_named_by_a_whole_traceparent_and_nothing_less() {
        let name = HeaderName::from_static("traceparent");
        let id = |value: &str| trace_parent(&map("traceparent", &[value.as_bytes()]), &name);
        let whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent {
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span_id: 0x00f0_67aa_0ba9_02b7,
            is_sampled: true,
        };
        let expected = Some(parent);
        assert_eq!(id(whole), expected);
        assert_eq!(id(&whole.replace("00-4", "cc-4")), expected);
        let later = whole.replace("00-4", "cc-4");
        assert_eq!(id(&format!("{later}-more")), expected);
        for (flags, is_sampled) in [("-00", false), ("-02", false), ("-03", true), ("-ff", true)] {
            let parent = TraceParent {
                is_sampled,
                ..parent
            };
            assert_eq!(id(&whole.replace("-01", flags)), Some(parent), "{flags}");
        }
        for broken in [
            "",
            "00",
            whole.strip_suffix('1').unwrap(),
            &whole.to_uppercase(),
            &whole.replace("00-4", "ff-4"),
            &format!("{whole}-more"),
            &format!("{later}more"),
            &whole.replace("-01", "-0g"),
            &whole.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &whole.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &whole.replace('-', "_"),
            &format!("{whole}, {whole}"),
        ] {
            assert_eq!(id(broken), None, "{broken}");
        }
        let twice = map("traceparent", &[whole.as_bytes(), whole.as_bytes()]);
        assert_eq!(trace_parent(&twice, &name), None);
    }
}
