//! Network of an address: the addresses that count as one, because whoever has one of them has them all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The same where people and their programs are told apart, and not callers: all addresses of the loopback network are
/// one's, because whoever is on this machine has them all.
#[must_use]
pub fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        address => network(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_this_machine_has_all_of_its_loopback_addresses() {
        let owner = |address: &str| owner(address.parse().unwrap()).to_string();
        for (address, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.3.2.1", "127.0.0.1"),
            ("::ffff:127.3.2.1", "127.0.0.1"),
            ("10.3.2.1", "10.3.2.1"),
            ("::ffff:10.3.2.1", "10.3.2.1"),
            ("::1", "::"),
            ("2001:db8::1:2:3:4", "2001:db8::"),
        ] {
            assert_eq!(owner(address), expected, "{address}");
        }
    }
}
