//! Network of an address: the addresses that count as one, because whoever has one of them has them all.

use std::net::{IpAddr, Ipv6Addr};

/// The part of an IPv6 address that its holder cannot choose.
const IPV6_NETWORK: u128 = !0 << 64;

/// Whose connections count as one's: of IPv6 a /64, because its holder has all addresses in it.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
    }
}
