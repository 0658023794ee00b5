//! From the limits of the file to [`ProxyLimits`] and [`Limits`].

use std::num::NonZeroU32;

use super::value::positive;
use crate::defaults::limits as defaults;
use crate::diagnostic::Diagnostics;
use crate::file::{self, Count, Size, Time};
use crate::limits::{Limits, ProxyLimits, UnknownConnections};

const KIB: usize = 1024;
/// hyper reads no smaller buffers, and nobody needs larger heads.
const HEADER_SIZES: (usize, usize) = (8 * KIB, 1024 * KIB);
/// hyper takes no more.
const MAX_TARGET_SIZE: usize = 64 * KIB;

/// Every missing key has its default.
pub(super) fn proxy(
    limits: file::Limits,
    has_callers: bool,
    problems: &mut Diagnostics,
) -> ProxyLimits {
    let count = |count: Option<Count>, default: NonZeroU32| {
        count.map_or(default, |Count(count)| count).get()
    };
    let header_size = limits
        .header_size
        .map_or(defaults::HEADER_SIZE, |Size(size)| size);
    let (least, most) = HEADER_SIZES;
    if !(least..=most).contains(&header_size) {
        problems.add("limits.header_size", "is not between 8KiB and 1MiB");
    }
    let target_size = limits
        .target_size
        .map_or(defaults::TARGET_SIZE, |Size(size)| size);
    if !(1..=MAX_TARGET_SIZE).contains(&target_size) {
        problems.add("limits.target_size", "is not between 1B and 64KiB");
    }
    let mut timeout = |key: &str, value: Option<Time>, default| {
        positive(&format!("limits.{key}"), value, default, problems)
    };
    ProxyLimits {
        connections: count(limits.connections, defaults::CONNECTIONS) as usize,
        unknown_connections: match limits.unknown_connections {
            Some(Count(count)) => UnknownConnections::AtMost(count.get() as usize),
            None if has_callers => UnknownConnections::Share,
            None => UnknownConnections::Any,
        },
        requests: count(limits.requests, defaults::REQUESTS) as usize,
        tunnels: count(limits.tunnels, defaults::TUNNELS) as usize,
        streams: count(limits.streams, defaults::STREAMS),
        headers: count(limits.headers, defaults::HEADERS) as usize,
        header_size: u32::try_from(header_size).unwrap_or(u32::MAX),
        target_size,
        head_timeout: timeout("head_timeout", limits.head_timeout, defaults::HEAD_TIMEOUT),
        idle_timeout: timeout("idle_timeout", limits.idle_timeout, defaults::IDLE_TIMEOUT),
    }
}

/// A missing key is no limit.
pub(super) fn caller(limits: file::CallerLimits) -> Limits {
    let count = |count: Option<Count>| count.map(|Count(count)| count);
    Limits {
        in_flight: count(limits.in_flight),
        per_second: count(limits.per_second),
        connections: count(limits.connections),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn problems(limits: &str) -> Vec<String> {
        let provider = "providers: {a: {hosts: [a], client_id: a, client_secret: b, token: {url: https://a/t}}}";
        let text = format!("limits: {limits}\n{provider}");
        let problems = Config::parse(&text, Path::new(""))
            .err()
            .unwrap_or_default();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn limits_that_cannot_be_kept_are_problems() {
        for (limits, problem) in [
            (
                "{connections: 0}",
                "limits.connections: is not a whole number",
            ),
            (
                "{streams: 1000001}",
                "limits.streams: is not a whole number",
            ),
            (
                "{header_size: 4KiB}",
                "limits.header_size: is not between 8KiB and 1MiB",
            ),
            (
                "{header_size: 2MiB}",
                "limits.header_size: is not between 8KiB and 1MiB",
            ),
            (
                "{target_size: 65KiB}",
                "limits.target_size: is not between 1B and 64KiB",
            ),
            (
                "{target_size: 0B}",
                "limits.target_size: is not between 1B and 64KiB",
            ),
            ("{head_timeout: 0s}", "limits.head_timeout: must be longer"),
            ("{idle_timeout: 0s}", "limits.idle_timeout: must be longer"),
            (
                "{body_timeout: 1s}",
                "limits.body_timeout: is not a known key",
            ),
        ] {
            let found = problems(limits);
            assert!(
                matches!(&*found, [found] if found.contains(problem)),
                "{limits}: {found:?}"
            );
        }
        assert_eq!(
            problems("{header_size: 8KiB, target_size: 1KiB, headers: 1}"),
            [""; 0]
        );
    }
}
