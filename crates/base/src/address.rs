//! Addresses of hosts: the rule of each, where it is not the open internet, and how hosts spell addresses.
//!
//! Pure functions of an address or a text; what follows from a rule is decided in `bursar::upstream::egress`. An
//! address of which this module says nothing is global unicast: IANA's special-purpose registries have it
//! as globally reachable, or do not have it.
//!
//! Where the standard library has a stable method, that decides. For the rest `ipnet` compares prefixes:
//! `Ipv4Addr::is_global` and its kin are unstable since 2015, `ip_network` has them but was last released
//! in 2020 and knows neither NAT64 nor 3fff::/20, and `ip_rfc` had one release.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Why no connection goes to an address, unless the operator allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `0.0.0.0/8` and `::`: this host, to many systems.
    Unspecified,
    /// This host.
    Loopback,
    /// RFC 1918, unique local (`fc00::/7`) and the former site-local addresses.
    Private,
    /// Neighbours: `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    /// Shared with a carrier's other customers: `100.64.0.0/10`.
    Cgnat,
    /// Many hosts at once.
    Multicast,
    /// Examples in documents.
    Documentation,
    /// Benchmarks of network devices.
    Benchmark,
    /// Everything else that is not the open internet, broadcast included.
    Reserved,
    /// An IPv6 address that only carries an IPv4 address to some translator.
    EmbeddedIpv4,
    /// Not an address but a spelling of one: decimal, octal, hexadecimal or shortened.
    Literal,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 12] = [
        Self::Unspecified,
        Self::Loopback,
        Self::Private,
        Self::LinkLocal,
        Self::Metadata,
        Self::Cgnat,
        Self::Multicast,
        Self::Documentation,
        Self::Benchmark,
        Self::Reserved,
        Self::EmbeddedIpv4,
        Self::Literal,
    ];

    /// Its name in YAML, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Cgnat => "cgnat",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Reserved => "reserved",
            Self::EmbeddedIpv4 => "embedded_ipv4",
            Self::Literal => "literal",
        }
    }
}

/// Most clouds use 169.254.169.254; these are the others: AWS containers and pods, Alibaba, Oracle Classic,
/// Azure's host agent, which is the one with a public address.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// AWS instances and pods, Google.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

const THIS_NETWORK: Ipv4Net = v4([0, 0, 0, 0], 8);
const CGNAT: Ipv4Net = v4([100, 64, 0, 0], 10);
const BENCHMARK_V4: Ipv4Net = v4([198, 18, 0, 0], 15);
/// Protocol assignments, the former 6to4 relays, and the former class E with broadcast.
const RESERVED_V4: [Ipv4Net; 3] = [
    v4([192, 0, 0, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([240, 0, 0, 0], 4),
];
/// The only part of IPv6 that is handed out as global unicast; the rest is reserved.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);
const SITE_LOCAL: Ipv6Net = v6([0xfec0, 0, 0, 0], 10);
const DOCUMENTATION_V6: [Ipv6Net; 2] = [v6([0x2001, 0xdb8, 0, 0], 32), v6([0x3fff, 0, 0, 0], 20)];
const BENCHMARK_V6: Ipv6Net = v6([0x2001, 2, 0, 0], 48);
/// Protocol assignments: ORCHID and their like.
const RESERVED_V6: Ipv6Net = v6([0x2001, 0, 0, 0], 23);

/// RFC 6052, RFC 8215, RFC 3056, RFC 4380.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);
const NAT64_LOCAL: Ipv6Net = v6([0x64, 0xff9b, 1, 0], 48);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0], 32);

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d]: [u16; 4], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

/// Every rule that an address falls under, each with the address that does: the address itself, and the
/// IPv4 addresses that it embeds. Nothing: it is global unicast.
pub fn rules(address: IpAddr) -> impl Iterator<Item = (IpAddr, Rule)> {
    let (own, embedded) = match address {
        IpAddr::V4(address) => (rule_v4(address), [None, None]),
        IpAddr::V6(address) => {
            let embedded = embedded(address);
            let form = embedded[0].map(|_| Rule::EmbeddedIpv4);
            // An ISATAP address is also what its prefix says.
            let own = match form {
                Some(_) if !is_isatap(address) => form,
                _ => rule_v6(address).or(form),
            };
            (own, embedded)
        }
    };
    let embedded = embedded.into_iter().flatten();
    embedded
        .filter_map(|address| Some((IpAddr::V4(address), rule_v4(address)?)))
        .chain(own.map(|rule| (address, rule)))
}

fn rule_v4(address: Ipv4Addr) -> Option<Rule> {
    let rule = if METADATA_V4.contains(&address) {
        Rule::Metadata
    } else if THIS_NETWORK.contains(&address) {
        Rule::Unspecified
    } else if address.is_loopback() {
        Rule::Loopback
    } else if address.is_private() {
        Rule::Private
    } else if address.is_link_local() {
        Rule::LinkLocal
    } else if CGNAT.contains(&address) {
        Rule::Cgnat
    } else if address.is_multicast() {
        Rule::Multicast
    } else if address.is_documentation() {
        Rule::Documentation
    } else if BENCHMARK_V4.contains(&address) {
        Rule::Benchmark
    } else if RESERVED_V4.iter().any(|net| net.contains(&address)) {
        Rule::Reserved
    } else {
        return None;
    };
    Some(rule)
}

fn rule_v6(address: Ipv6Addr) -> Option<Rule> {
    let rule = if METADATA_V6.contains(&address) {
        Rule::Metadata
    } else if address.is_unspecified() {
        Rule::Unspecified
    } else if address.is_loopback() {
        Rule::Loopback
    } else if address.is_unique_local() || SITE_LOCAL.contains(&address) {
        Rule::Private
    } else if address.is_unicast_link_local() {
        Rule::LinkLocal
    } else if address.is_multicast() {
        Rule::Multicast
    } else if DOCUMENTATION_V6.iter().any(|net| net.contains(&address)) {
        Rule::Documentation
    } else if BENCHMARK_V6.contains(&address) {
        Rule::Benchmark
    } else if RESERVED_V6.contains(&address) || !GLOBAL_V6.contains(&address) {
        Rule::Reserved
    } else {
        return None;
    };
    Some(rule)
}

/// The IPv4 addresses that a translator or tunnel would read from an IPv6 address; the first place is
/// empty where it is no such address.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bytes = address.octets();
    let at = |places: [usize; 4]| Some(Ipv4Addr::from(places.map(|place| bytes[place])));
    let last = at([12, 13, 14, 15]);
    let is_zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == 0);
    if is_zero(0..12) {
        // IPv4-compatible (RFC 4291), apart from the two that mean something else.
        let other = address.is_unspecified() || address.is_loopback();
        return [last.filter(|_| !other), None];
    }
    let is_mapped = is_zero(0..10) && bytes[10..12] == [0xff, 0xff];
    // IPv4-translated, RFC 7915's forerunner: ::ffff:0:a.b.c.d.
    let is_translated = is_zero(0..8) && bytes[8..12] == [0xff, 0xff, 0, 0];
    if is_mapped || is_translated || NAT64.contains(&address) {
        [last, None]
    } else if NAT64_LOCAL.contains(&address) {
        // The operator of the translator chose a prefix length (RFC 6052 section 2.2), 96 or 48 as far as
        // it is known; where the zeros do not tell, both readings are checked.
        if is_zero(6..12) {
            [last, None]
        } else if is_zero(11..16) {
            [at([6, 7, 9, 10]), None]
        } else {
            [last, at([6, 7, 9, 10])]
        }
    } else if SIX_TO_FOUR.contains(&address) {
        [at([2, 3, 4, 5]), None]
    } else if TEREDO.contains(&address) {
        // The client's address is inverted; the server is a party to it.
        let client = last.map(|address| Ipv4Addr::from_bits(!address.to_bits()));
        [client, at([4, 5, 6, 7])]
    } else if is_isatap(address) {
        [last, None]
    } else {
        [None, None]
    }
}

/// RFC 5214 section 6.1: it can stand below any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.octets()[8..12], [0 | 2, 0, 0x5e, 0xfe])
}

/// What a host's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// A name, to be resolved.
    Name,
    /// An address as RFC 3986 writes it; IPv6 with or without brackets.
    Address(IpAddr),
    /// What `inet_aton` would take for an address, but no name can be: decimal, octal, hexadecimal or
    /// shortened. None: not even that, and no resolver may be asked what it thinks.
    Odd(Option<Ipv4Addr>),
}

impl Spelling {
    /// Reads a host, with or without a trailing dot.
    #[must_use]
    pub fn of(host: &str) -> Self {
        if let Ok(address) = bare(host).parse() {
            return Self::Address(address);
        }
        let name = undotted(host);
        let last = name.rsplit('.').next().unwrap_or_default();
        // No top-level domain is a number; the URL standard draws the line here, too.
        let is_number = !last.is_empty()
            && (last.bytes().all(|byte| byte.is_ascii_digit()) || hexadecimal(last).is_some());
        if is_number {
            Self::Odd(parse_odd(name))
        } else {
            Self::Name
        }
    }
}

/// A host without the brackets of IPv6.
#[must_use]
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

/// A host without the dot at its end, which tells resolvers that its name is complete and nobody else anything
/// (RFC 1034 section 3.1).
#[must_use]
pub fn undotted(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The digits after `0x`; none are needed.
fn hexadecimal(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X"))?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(digits)
}

/// One to four numbers in any base; the last one fills what is left (`127.1`).
fn parse_odd(name: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| {
        let (digits, radix) = match (hexadecimal(text), text.strip_prefix('0')) {
            (Some(""), _) => return Some(0),
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) if !digits.is_empty() => (digits, 8),
            (None, _) => (text, 10),
        };
        // `from_str_radix` takes a sign.
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(digits, radix).ok().filter(|_| is_plain)
    };
    let numbers: Vec<u32> = name.split('.').map(number).collect::<Option<_>>()?;
    let (last, heads) = numbers.split_last()?;
    let shift = 32_u32.checked_sub(u32::try_from(heads.len()).ok()?.checked_mul(8)?)?;
    if shift < 8 || (shift < 32 && last >> shift != 0) {
        return None;
    }
    let mut bits = *last;
    for (place, head) in (0..).zip(heads) {
        bits |= u32::from(u8::try_from(*head).ok()?) << (24 - 8 * place);
    }
    Some(Ipv4Addr::from_bits(bits))
}

#[cfg(test)]
mod tests;
