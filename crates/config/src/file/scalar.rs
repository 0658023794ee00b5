//! Durations, sizes, counts and secrets as they are written in the file.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::typed::SECRET;
use bursar_base::duration;
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

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio(pub(crate) f64);

/// An IP address with its port, of which `PORT` is the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address<const PORT: u16>(pub(crate) SocketAddr);

/// A string that must not be printed.
#[derive(Debug, Clone)]
pub(crate) struct Hidden(pub(crate) Secret);

/// Why a text is not what was expected.
enum Unfit {
    Because(String),
    /// It is something else.
    Other,
}

/// Reads a value from a string with `read`; the message says what was expected, never what was found.
struct FromText<T, F> {
    expected: &'static str,
    /// Of quantities, which have one.
    units: Option<[&'static str; 3]>,
    read: F,
    result: PhantomData<T>,
}

impl<T, F> FromText<T, F> {
    fn refuse_number<E: de::Error>(&self, number: &dyn fmt::Display) -> E {
        match self.units {
            None => E::invalid_type(de::Unexpected::Other("a number"), &self.expected),
            Some([one, other, third]) => E::custom(format_args!(
                "has no unit; write {number}{one}, {number}{other} or {number}{third}"
            )),
        }
    }
}

impl<T, F: Fn(&str) -> Result<T, Unfit>> Visitor<'_> for FromText<T, F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(|unfit| {
            // A number that comes from a variable is text.
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            match unfit {
                Unfit::Because(why) => E::custom(why),
                Unfit::Other if self.units.is_some() && is_number => self.refuse_number(&text),
                Unfit::Other => E::custom(format_args!("is not {}", self.expected)),
            }
        })
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        Err(self.refuse_number(&number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        Err(self.refuse_number(&number))
    }
}

fn from_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    units: Option<[&'static str; 3]>,
    read: impl Fn(&str) -> Result<T, Unfit>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(FromText {
        expected,
        units,
        read,
        result: PhantomData,
    })
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a duration such as 250ms, 60s or 5m";
        from_text(deserializer, expected, Some(["s", "ms", "m"]), |text| {
            let time = duration::parse(text).map_err(|error| match error {
                duration::Error::Calendar => Unfit::Because(error.to_string()),
                duration::Error::Form(_) => Unfit::Other,
            });
            time.map(Self)
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a size such as 64KiB or 1MiB";
        from_text(deserializer, expected, Some(["B", "KiB", "MiB"]), |text| {
            let size: bytesize::ByteSize = text.parse().map_err(|_other| Unfit::Other)?;
            let size = usize::try_from(size.as_u64()).map_err(|_large| Unfit::Other)?;
            Ok(Self(size))
        })
    }
}

impl<'de, const PORT: u16> Deserialize<'de> for Address<PORT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor<const PORT: u16>;
        impl<const PORT: u16> Visitor<'_> for AddressVisitor<PORT> {
            type Value = Address<PORT>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    formatter,
                    "an address with a port, such as 127.0.0.1:{PORT}"
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address<PORT>, E> {
                let parsed = text.parse().map(Address);
                parsed.map_err(|_no_address| E::custom(no_address(text, PORT)))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Address<PORT>, E> {
                Err(E::custom(PORT_ALONE.replace("PORT", &PORT.to_string())))
            }
        }
        deserializer.deserialize_str(AddressVisitor)
    }
}

const PORT_ALONE: &str = "has no address; write 127.0.0.1:PORT for this machine alone, or 0.0.0.0:PORT for everybody who reaches it";

/// What to write instead of something that is no address with a port.
fn no_address(text: &str, port: u16) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (host, own_port) = match text.rsplit_once(':') {
        Some((host, own_port)) if is_number(own_port) => (host, own_port),
        _ => (text, ""),
    };
    let is_ip = |text: &str| text.parse::<IpAddr>().is_ok();
    if text.contains("://") {
        return format!("is a URL; write address and port alone, such as 127.0.0.1:{port}");
    }
    if text.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        return format!(
            "is an IPv6 address, which is written in brackets, with a port: [::1]:{port}"
        );
    }
    if is_ip(text.trim_matches(['[', ']'])) {
        return format!(
            "has no port; write 127.0.0.1:{port}, or this address with :{port} after it"
        );
    }
    if is_number(text) || ["", "*"].contains(&host) {
        return PORT_ALONE.replace("PORT", &port.to_string());
    }
    if own_port.parse::<u16>().is_err() && is_number(own_port) {
        return "has a port above 65535".to_owned();
    }
    if host.eq_ignore_ascii_case("localhost") {
        return format!("is a name; write it as an address: 127.0.0.1:{port}");
    }
    format!(
        "is no address with a port, such as 127.0.0.1:{port}; names are not looked up here, so write 0.0.0.0:{port} for every address of this machine"
    )
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

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RatioVisitor;
        impl Visitor<'_> for RatioVisitor {
            type Value = Ratio;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number from 0 to 1, such as 0.01")
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Ratio, E> {
                match (0.0..=1.0).contains(&number) {
                    true => Ok(Ratio(number)),
                    false => Err(E::custom("is not a number from 0 to 1, such as 0.01")),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Ratio, E> {
                match number {
                    0 => Ok(Ratio(0.0)),
                    1 => Ok(Ratio(1.0)),
                    _ => self.visit_f64(f64::NAN),
                }
            }

            /// `${NAME}` is text.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ratio, E> {
                self.visit_f64(text.trim().parse().unwrap_or(f64::NAN))
            }
        }
        deserializer.deserialize_any(RatioVisitor)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HiddenVisitor;
        impl<'de> Visitor<'de> for HiddenVisitor {
            type Value = Hidden;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Hidden, D::Error> {
                from_text(deserializer, "text", None, |text| {
                    Ok(Hidden(Secret::new(text.to_owned())))
                })
            }
        }
        deserializer.deserialize_newtype_struct(SECRET, HiddenVisitor)
    }
}
