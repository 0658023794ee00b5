use proptest::prelude::*;

use super::*;

/// The first rule that an address falls under.
fn rule(text: &str) -> Option<Rule> {
    let address = text.parse().unwrap_or_else(|_| panic!("{text}"));
    rules(address).next().map(|(_, rule)| rule)
}

#[test]
fn every_range_is_judged_at_both_edges() {
    use Rule::*;
    // The last address before, the first, the last, and the first after; with what is beside the range.
    for (before, first, last, after, expected) in [
        (
            (None, ""),
            "0.0.0.0",
            "0.255.255.255",
            (None, "1.0.0.0"),
            Unspecified,
        ),
        (
            (None, "9.255.255.255"),
            "10.0.0.0",
            "10.255.255.255",
            (None, "11.0.0.0"),
            Private,
        ),
        (
            (None, "100.63.255.255"),
            "100.64.0.0",
            "100.127.255.255",
            (None, "100.128.0.0"),
            Cgnat,
        ),
        (
            (None, "126.255.255.255"),
            "127.0.0.0",
            "127.255.255.255",
            (None, "128.0.0.0"),
            Loopback,
        ),
        (
            (None, "169.253.255.255"),
            "169.254.0.0",
            "169.254.255.255",
            (None, "169.255.0.0"),
            LinkLocal,
        ),
        (
            (Some(LinkLocal), "169.254.169.253"),
            "169.254.169.254",
            "169.254.169.254",
            (Some(LinkLocal), "169.254.169.255"),
            Metadata,
        ),
        (
            (None, "172.15.255.255"),
            "172.16.0.0",
            "172.31.255.255",
            (None, "172.32.0.0"),
            Private,
        ),
        (
            (None, "191.255.255.255"),
            "192.0.0.0",
            "192.0.0.191",
            (Some(Metadata), "192.0.0.192"),
            Reserved,
        ),
        (
            (Some(Metadata), "192.0.0.192"),
            "192.0.0.193",
            "192.0.0.255",
            (None, "192.0.1.0"),
            Reserved,
        ),
        (
            (None, "192.0.1.255"),
            "192.0.2.0",
            "192.0.2.255",
            (None, "192.0.3.0"),
            Documentation,
        ),
        (
            (None, "192.88.98.255"),
            "192.88.99.0",
            "192.88.99.255",
            (None, "192.88.100.0"),
            Reserved,
        ),
        (
            (None, "192.167.255.255"),
            "192.168.0.0",
            "192.168.255.255",
            (None, "192.169.0.0"),
            Private,
        ),
        (
            (None, "198.17.255.255"),
            "198.18.0.0",
            "198.19.255.255",
            (None, "198.20.0.0"),
            Benchmark,
        ),
        (
            (None, "198.51.99.255"),
            "198.51.100.0",
            "198.51.100.255",
            (None, "198.51.101.0"),
            Documentation,
        ),
        (
            (None, "203.0.112.255"),
            "203.0.113.0",
            "203.0.113.255",
            (None, "203.0.114.0"),
            Documentation,
        ),
        (
            (None, "223.255.255.255"),
            "224.0.0.0",
            "239.255.255.255",
            (Some(Reserved), "240.0.0.0"),
            Multicast,
        ),
        (
            (Some(Multicast), "239.255.255.255"),
            "240.0.0.0",
            "255.255.255.255",
            (None, ""),
            Reserved,
        ),
        (
            (Some(Cgnat), "100.100.100.199"),
            "100.100.100.200",
            "100.100.100.200",
            (Some(Cgnat), "100.100.100.201"),
            Metadata,
        ),
        (
            (None, "168.63.129.15"),
            "168.63.129.16",
            "168.63.129.16",
            (None, "168.63.129.17"),
            Metadata,
        ),
        (
            (Some(Unspecified), "::"),
            "::1",
            "::1",
            (Some(Unspecified), "::2"),
            Loopback,
        ),
        (
            (Some(Reserved), "63:ffff::"),
            "64:ff9a::",
            "64:ff9a:ffff::",
            (Some(Unspecified), "64:ff9b::"),
            Reserved,
        ),
        (
            (Some(Unspecified), "::0.0.1.0"),
            "100::",
            "100::ffff:ffff:ffff:ffff",
            (Some(Reserved), "101::"),
            Reserved,
        ),
        (
            (None, "2606:4700::1"),
            "4000::",
            "5f00:ffff::",
            (Some(Reserved), "6000::"),
            Reserved,
        ),
        (
            (Some(Reserved), "2001:1::"),
            "2001:2::",
            "2001:2:0:ffff:ffff:ffff:ffff:ffff",
            (Some(Reserved), "2001:2:1::"),
            Benchmark,
        ),
        (
            (Some(Benchmark), "2001:2::"),
            "2001:3::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            (None, "2001:200::"),
            Reserved,
        ),
        (
            (None, "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"),
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            (None, "2001:db9::"),
            Documentation,
        ),
        (
            (None, "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            (None, "3fff:1000::"),
            Documentation,
        ),
        (
            (Some(Reserved), "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            (Some(Reserved), "fe00::"),
            Private,
        ),
        (
            (Some(Private), "fd00:ec2::253"),
            "fd00:ec2::254",
            "fd00:ec2::254",
            (Some(Private), "fd00:ec2::255"),
            Metadata,
        ),
        (
            (Some(Reserved), "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            (Some(Private), "fec0::"),
            LinkLocal,
        ),
        (
            (Some(LinkLocal), "febf::"),
            "fec0::",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            (Some(Multicast), "ff00::"),
            Private,
        ),
        (
            (Some(Private), "feff::"),
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            (None, ""),
            Multicast,
        ),
    ] {
        for (text, expected) in [
            (first, Some(expected)),
            (last, Some(expected)),
            (before.1, before.0),
            (after.1, after.0),
        ] {
            if !text.is_empty() {
                assert_eq!(rule(text), expected, "{text}");
            }
        }
    }
}

#[test]
fn the_open_internet_falls_under_no_rule() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "99.255.255.255",
        "192.0.1.1",
        "192.31.196.1",
        "223.255.255.254",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700::1111",
        "2a00::1",
        "2620:4f:8000::1",
    ] {
        assert_eq!(rule(text), None, "{text}");
    }
}

#[test]
fn every_embedding_form_is_a_rule_of_its_own() {
    for text in [
        "::8.8.8.8",
        "::ffff:8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:808:8:800::",
        "2002:808:808::1",
        "2001:0:808:808:0:0:f7f7:f7f7",
        "2606:4700::5efe:8.8.8.8",
        "2606:4700::200:5efe:8.8.8.8",
    ] {
        assert_eq!(rule(text), Some(Rule::EmbeddedIpv4), "{text}");
    }
    assert_eq!(rule("fe80::5efe:8.8.8.8"), Some(Rule::LinkLocal));
    assert_eq!(
        rule("2001:0:7f00:1:0:0:f7f7:f7f7"),
        Some(Rule::Loopback),
        "Teredo's server"
    );
    assert_eq!(
        rule("64:ff9b:1:a9fe:a9:fe00::1"),
        Some(Rule::Unspecified),
        "two readings"
    );
}

/// Every form that carries this address to a translator, a tunnel or the kernel.
fn embeddings(address: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
        Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
    ]
}

fn assert_embeddings_are_judged_by(address: Ipv4Addr) {
    let own = rules(IpAddr::V4(address)).next();
    for embedding in embeddings(address) {
        let found: Vec<_> = rules(IpAddr::V6(embedding)).collect();
        let form = (IpAddr::V6(embedding), Rule::EmbeddedIpv4);
        let expected: Vec<_> = own.into_iter().chain([form]).collect();
        assert_eq!(found, expected, "{embedding}");
    }
    // The two lowest are :: and ::1.
    if address.to_bits() > 1 {
        let compatible = Ipv6Addr::from_bits(u128::from(address.to_bits()));
        let first = rules(IpAddr::V6(compatible)).next();
        assert_eq!(
            first.map(|(_, rule)| rule),
            own.map(|(_, rule)| rule).or(Some(Rule::EmbeddedIpv4))
        );
    }
}

#[test]
fn every_ipv4_rule_holds_in_every_embedding() {
    for text in [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "8.8.8.8",
    ] {
        assert_embeddings_are_judged_by(text.parse().unwrap());
    }
}

#[test]
fn hosts_are_names_addresses_or_neither() {
    let v4 = |text: &str| Some(text.parse::<Ipv4Addr>().unwrap());
    for (host, expected) in [
        ("127.0.0.1", Spelling::Address("127.0.0.1".parse().unwrap())),
        ("::1", Spelling::Address("::1".parse().unwrap())),
        ("[::1]", Spelling::Address("::1".parse().unwrap())),
        ("127.1", Spelling::Odd(v4("127.0.0.1"))),
        ("127.0.1", Spelling::Odd(v4("127.0.0.1"))),
        ("127.0.0.1.", Spelling::Odd(v4("127.0.0.1"))),
        ("2130706433", Spelling::Odd(v4("127.0.0.1"))),
        ("017700000001", Spelling::Odd(v4("127.0.0.1"))),
        ("0x7f000001", Spelling::Odd(v4("127.0.0.1"))),
        ("0X7F.1", Spelling::Odd(v4("127.0.0.1"))),
        ("0177.0.0.1", Spelling::Odd(v4("127.0.0.1"))),
        ("0x7f.0.0x.1", Spelling::Odd(v4("127.0.0.1"))),
        ("127.0.0.01", Spelling::Odd(v4("127.0.0.1"))),
        ("0", Spelling::Odd(v4("0.0.0.0"))),
        ("4294967295", Spelling::Odd(v4("255.255.255.255"))),
        ("4294967296", Spelling::Odd(None)),
        ("1.2.3.256", Spelling::Odd(None)),
        ("1.2.65536", Spelling::Odd(None)),
        ("256.1", Spelling::Odd(None)),
        ("1.2.3.4.5", Spelling::Odd(None)),
        ("08.1.1.1", Spelling::Odd(None)),
        ("1..1", Spelling::Odd(None)),
        ("+1.1", Spelling::Odd(None)),
        ("a.1", Spelling::Odd(None)),
        ("a.0x", Spelling::Odd(None)),
        ("localhost", Spelling::Name),
        ("1.example", Spelling::Name),
        ("0x7f.example.", Spelling::Name),
        ("0xg", Spelling::Name),
        ("api.acme.example", Spelling::Name),
        ("", Spelling::Name),
    ] {
        assert_eq!(Spelling::of(host), expected, "{host}");
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_and_its_embeddings_have_one_verdict(bits: u32) {
        assert_embeddings_are_judged_by(Ipv4Addr::from_bits(bits));
    }

    #[test]
    fn every_odd_spelling_of_an_address_means_that_address(bits: u32) {
        let address = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = address.octets();
        let rest = bits & 0xff_ffff;
        for text in [
            format!("{bits}"), format!("0{bits:o}"), format!("0x{bits:x}"), format!("{a}.{rest}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"), format!("0x{a:X}.{b}.0x{:x}", rest & 0xffff),
        ] {
            prop_assert_eq!(Spelling::of(&text), Spelling::Odd(Some(address)), "{}", text);
        }
        prop_assert_eq!(Spelling::of(&address.to_string()), Spelling::Address(IpAddr::V4(address)));
    }

    #[test]
    fn no_text_is_too_odd(text: String) {
        let _ = Spelling::of(&text);
    }
}
