//! From the limits of the file to [`ProxyLimits`] and [`Limits`].

use std::time::Duration;

use super::value::positive;
use crate::config::file::{self, Count, Size, Time};
use crate::config::problem::Problems;
use crate::config::{Limits, ProxyLimits};

const KIB: usize = 1024;
/// hyper reads no smaller buffers, and nobody needs larger heads.
const HEADER_SIZES: (usize, usize) = (8 * KIB, 1024 * KIB);
/// Above the largest target that hyper takes, or its 414 would never be seen.
const DEFAULT_HEADER_SIZE: usize = 128 * KIB;
/// hyper takes no more.
const MAX_TARGET_SIZE: usize = 64 * KIB;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Every missing key has its default.
pub(super) fn proxy(limits: file::Limits, problems: &mut Problems) -> ProxyLimits {
    let count =
        |count: Option<Count>, default: u32| count.map_or(default, |Count(count)| count.get());
    let header_size = limits
        .header_size
        .map_or(DEFAULT_HEADER_SIZE, |Size(size)| size);
    let (least, most) = HEADER_SIZES;
    if !(least..=most).contains(&header_size) {
        problems.add("limits.header_size", "is not between 8KiB and 1MiB");
    }
    let target_size = limits
        .target_size
        .map_or(MAX_TARGET_SIZE, |Size(size)| size);
    if !(1..=MAX_TARGET_SIZE).contains(&target_size) {
        problems.add("limits.target_size", "is not between 1B and 64KiB");
    }
    let mut timeout = |key: &str, value: Option<Time>| {
        positive(&format!("limits.{key}"), value, DEFAULT_TIMEOUT, problems)
    };
    ProxyLimits {
        connections: count(limits.connections, 32_768) as usize,
        requests: count(limits.requests, 16_384) as usize,
        tunnels: count(limits.tunnels, 8192) as usize,
        streams: count(limits.streams, 128),
        headers: count(limits.headers, 100) as usize,
        header_size: u32::try_from(header_size).unwrap_or(u32::MAX),
        target_size,
        head_timeout: timeout("head_timeout", limits.head_timeout),
        idle_timeout: timeout("idle_timeout", limits.idle_timeout),
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
