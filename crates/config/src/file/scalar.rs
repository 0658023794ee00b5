//! Durations, sizes, counts and secrets as they are written in the file.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use bursar_base::secret::Secret;

/// The most that a limit may be; more is no limit.
const MAX_COUNT: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// A duration such as `250ms`, `60s` or `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// A size such as `64KiB` or `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// A whole number from 1 to 1000000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) NonZeroU32);

/// A string that must not be printed.
#[derive(Debug, Clone)]
pub(crate) struct Hidden(pub(crate) Secret);

/// Reads a value from a string with `read`; the message says what was expected, never what was found.
struct FromText<T, F> {
    expected: &'static str,
    read: F,
    result: PhantomData<T>,
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for FromText<T, F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::custom(format_args!("is not {}", self.expected)))
    }
}

fn from_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(FromText {
        expected,
        read,
        result: PhantomData,
    })
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(
            deserializer,
            "a duration such as 250ms, 60s or 5m",
            |text| humantime::parse_duration(text).ok().map(Self),
        )
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a size such as 64KiB or 1MiB", |text| {
            let size: bytesize::ByteSize = text.parse().ok()?;
            usize::try_from(size.as_u64()).ok().map(Self)
        })
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number from 1 to 1000000")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                let count = u32::try_from(number).ok().and_then(NonZeroU32::new);
                let count = count.filter(|count| *count <= MAX_COUNT);
                count
                    .map(Count)
                    .ok_or_else(|| E::custom("is not a whole number from 1 to 1000000"))
            }

            /// `${NAME}` is text.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                self.visit_i64(text.parse().unwrap_or_default())
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "text", |text| {
            Some(Self(Secret::new(text.to_owned())))
        })
    }
}
