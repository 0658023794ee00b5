use proptest::prelude::*;

use super::*;

/// The first rule that an address falls under.
fn rule(text: &str) -> Option<Rule> {
    let address = text.parse().unwrap_or_else(|_| panic!("{text}"));
    rules(address).next().map(|(_, rule)| rule)
}

/// The last address before a range and its rule, the range and its rule, the first address after it and
/// its rule.
const RANGES: &str = "\
- none | 0.0.0.0 0.255.255.255 unspecified | 1.0.0.0 none
9.255.255.255 none | 10.0.0.0 10.255.255.255 private | 11.0.0.0 none
100.63.255.255 none | 100.64.0.0 100.127.255.255 cgnat | 100.128.0.0 none
126.255.255.255 none | 127.0.0.0 127.255.255.255 loopback | 128.0.0.0 none
169.253.255.255 none | 169.254.0.0 169.254.255.255 link_local | 169.255.0.0 none
169.254.169.253 link_local | 169.254.169.254 169.254.169.254 metadata | 169.254.169.255 link_local
172.15.255.255 none | 172.16.0.0 172.31.255.255 private | 172.32.0.0 none
191.255.255.255 none | 192.0.0.0 192.0.0.191 reserved | 192.0.0.192 metadata
192.0.0.192 metadata | 192.0.0.193 192.0.0.255 reserved | 192.0.1.0 none
192.0.1.255 none | 192.0.2.0 192.0.2.255 documentation | 192.0.3.0 none
192.88.98.255 none | 192.88.99.0 192.88.99.255 reserved | 192.88.100.0 none
192.167.255.255 none | 192.168.0.0 192.168.255.255 private | 192.169.0.0 none
198.17.255.255 none | 198.18.0.0 198.19.255.255 benchmark | 198.20.0.0 none
198.51.99.255 none | 198.51.100.0 198.51.100.255 documentation | 198.51.101.0 none
203.0.112.255 none | 203.0.113.0 203.0.113.255 documentation | 203.0.114.0 none
223.255.255.255 none | 224.0.0.0 239.255.255.255 multicast | 240.0.0.0 reserved
239.255.255.255 multicast | 240.0.0.0 255.255.255.255 reserved | - none
100.100.100.199 cgnat | 100.100.100.200 100.100.100.200 metadata | 100.100.100.201 cgnat
168.63.129.15 none | 168.63.129.16 168.63.129.16 metadata | 168.63.129.17 none
:: unspecified | ::1 ::1 loopback | ::2 unspecified
63:ffff:: reserved | 64:ff9a:: 64:ff9a:ffff:: reserved | 64:ff9b:: unspecified
::0.0.1.0 unspecified | 100:: 100::ffff:ffff:ffff:ffff reserved | 101:: reserved
1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved | 2000:: 2000:ffff:: none | 2001:200:: none
3ffe:: none | 4000:: 5f00:ffff:: reserved | 6000:: reserved
2001:1:: reserved | 2001:2:: 2001:2:0:ffff:ffff:ffff:ffff:ffff benchmark | 2001:2:1:: reserved
2001:2:: benchmark | 2001:3:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff reserved | 2001:200:: none
2001:db7:ffff:ffff:ffff:ffff:ffff:ffff none | 2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff documentation | 2001:db9:: none
3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff none | 3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff documentation | 3fff:1000:: none
fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved | fc00:: fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff private | fe00:: reserved
fd00:ec2::253 private | fd00:ec2::254 fd00:ec2::254 metadata | fd00:ec2::255 private
fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved | fe80:: febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff link_local | fec0:: private
febf:: link_local | fec0:: feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff private | ff00:: multicast
feff:: private | ff00:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff multicast | - none
";

#[test]
fn every_range_is_judged_at_both_edges() {
    for line in RANGES.lines() {
        let words: Vec<&str> = line
            .split([' ', '|'])
            .filter(|word| !word.is_empty())
            .collect();
        let [before, its, first, last, expected, after, next] = words[..] else {
            panic!("{line}");
        };
        let cases = [
            (before, its),
            (first, expected),
            (last, expected),
            (after, next),
        ];
        for (text, expected) in cases.into_iter().filter(|(text, _)| *text != "-") {
            assert_eq!(rule(text).map_or("none", Rule::as_str), expected, "{text}");
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
