//! Name constraints of a certificate authority (RFC 5280 section 4.2.1.10), held against the
//! configured hosts.
//!
//! Only kinds of names that a server is verified by count. Whether clients believe what the authority
//! signs for a host is another question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree};

/// Permitted where no name may be: it cannot exist (RFC 6761 section 6.4).
pub(super) const NOBODY: &str = "none.bursar.invalid";

/// How an authority may sign for too many.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wide {
    /// There are no constraints, or clients need not look at them.
    #[error("has no critical name constraints, so that it may sign for everybody")]
    Unconstrained,
    /// All of a kind are permitted, because none is (RFC 5280).
    #[error("has no name constraints for {0}, so that it may sign for all of them")]
    Every(&'static str),
    /// No configured host, nor below one.
    #[error("may sign for {0}, which is none of the configured hosts")]
    Stranger(Box<str>),
}

/// Whether a certificate permits the hosts, what is below them, and nothing else.
///
/// # Errors
/// The first thing that is too much.
pub(super) fn refuse_wide(
    certificate: &X509Certificate<'_>,
    hosts: &[Box<str>],
) -> Result<(), Wide> {
    let constraints = match certificate.name_constraints() {
        Ok(Some(constraints)) if constraints.critical => constraints.value,
        _ => return Err(Wide::Unconstrained),
    };
    let (mut names, mut addresses) = (false, false);
    for permitted in bases(constraints.permitted_subtrees.as_ref()) {
        match permitted {
            GeneralName::DNSName(name) => {
                names = true;
                if !is_within(name, hosts) {
                    return Err(Wide::Stranger(name.escape_debug().to_string().into()));
                }
            }
            GeneralName::IPAddress(range) => {
                addresses = true;
                if !hosts.iter().any(|host| is_only(range, host)) {
                    return Err(Wide::Stranger(range_text(range)));
                }
            }
            _ => {}
        }
    }
    let excludes = |all: &[u8]| {
        bases(constraints.excluded_subtrees.as_ref())
            .any(|excluded| matches!(excluded, GeneralName::IPAddress(range) if *range == all))
    };
    let addresses = addresses || (excludes(&[0; 8]) && excludes(&[0; 32]));
    match (names, addresses) {
        (false, _) => Err(Wide::Every("names")),
        (_, false) => Err(Wide::Every("addresses")),
        (true, true) => Ok(()),
    }
}

fn bases<'a, 'b>(
    subtrees: Option<&'a Vec<GeneralSubtree<'b>>>,
) -> impl Iterator<Item = &'a GeneralName<'b>> {
    subtrees.into_iter().flatten().map(|subtree| &subtree.base)
}

/// A subtree holds the name and everything below it, so it may begin at a host or further down.
fn is_within(name: &str, hosts: &[Box<str>]) -> bool {
    let name = name.to_ascii_lowercase();
    // Without the name itself, as many clients have it.
    let name = name.strip_prefix('.').unwrap_or(&name);
    let is_below = |host: &str| {
        let host = host.to_ascii_lowercase();
        let above = name.strip_suffix(&*host);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    name == NOBODY || hosts.iter().any(|host| is_below(host))
}

/// An address and its mask, which has to be full.
fn is_only(range: &[u8], host: &str) -> bool {
    let own = match host.parse() {
        Ok(IpAddr::V4(address)) => [address.octets(), [0xff; 4]].concat(),
        Ok(IpAddr::V6(address)) => [address.octets(), [0xff; 16]].concat(),
        Err(_) => return false,
    };
    range == own
}

fn range_text(range: &[u8]) -> Box<str> {
    let (address, mask) = range.split_at(range.len() / 2);
    let text = |bytes: &[u8]| {
        let four = <[u8; 4]>::try_from(bytes).map(|four| Ipv4Addr::from(four).to_string());
        let sixteen = <[u8; 16]>::try_from(bytes).map(|all| Ipv6Addr::from(all).to_string());
        four.or(sixteen)
            .unwrap_or_else(|_odd| "no address".to_owned())
    };
    format!("{}/{}", text(address), text(mask)).into()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CidrSubnet, CustomExtension, GeneralSubtree, KeyPair, NameConstraints,
    };

    use super::*;

    const HOSTS: [&str; 3] = ["api.test", "eu.test", "192.0.2.1"];

    fn check(parameters: &CertificateParams) -> Result<(), Wide> {
        let certificate = parameters
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        refuse_wide(&parsed, &HOSTS.map(Into::into))
    }

    fn constrained(permitted: &[GeneralSubtree], excluded: &[GeneralSubtree]) -> Result<(), Wide> {
        let mut parameters = CertificateParams::default();
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted.to_vec(),
            excluded_subtrees: excluded.to_vec(),
        });
        check(&parameters)
    }

    fn name(text: &str) -> GeneralSubtree {
        GeneralSubtree::DnsName(text.to_owned())
    }

    fn range(address: &str, prefix: u8) -> GeneralSubtree {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            address.parse().unwrap(),
            prefix,
        ))
    }

    fn no_address() -> [GeneralSubtree; 2] {
        [range("0.0.0.0", 0), range("::", 0)]
    }

    #[test]
    fn an_authority_for_the_hosts_or_some_of_them_is_not_too_wide() {
        let host = range("192.0.2.1", 32);
        for permitted in [
            &[name("api.test"), name("eu.test"), host.clone()][..],
            &[name("API.test"), host.clone()],
            &[name("x.api.test"), name(".eu.test"), host.clone()],
            &[name(NOBODY), host],
        ] {
            assert_eq!(constrained(permitted, &[]), Ok(()), "{permitted:?}");
        }
        assert_eq!(constrained(&[name("api.test")], &no_address()), Ok(()));
    }

    #[test]
    fn an_authority_for_anybody_else_is_too_wide_and_it_is_said_for_whom() {
        for stranger in [
            "",
            ".",
            "test",
            ".test",
            "other.test",
            "xapi.test",
            "api.test.evil.test",
        ] {
            let bare = stranger.into();
            let permitted = [name("api.test"), name(stranger)];
            assert_eq!(
                constrained(&permitted, &no_address()),
                Err(Wide::Stranger(bare))
            );
        }
        for (address, prefix, text) in [
            ("192.0.2.1", 31, "192.0.2.0/255.255.255.254"),
            ("192.0.2.2", 32, "192.0.2.2/255.255.255.255"),
            ("0.0.0.0", 0, "0.0.0.0/0.0.0.0"),
            ("::", 0, "::/::"),
        ] {
            let found = constrained(&[name("api.test"), range(address, prefix)], &[]);
            assert!(
                matches!(&found, Err(Wide::Stranger(_))),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn a_kind_of_name_that_is_not_constrained_is_too_wide() {
        let [all_of_4, all_of_6] = no_address();
        for excluded in [&[][..], &[all_of_4], &[all_of_6], &[range("0.0.0.0", 1)]] {
            let found = constrained(&[name("api.test")], excluded);
            assert_eq!(found, Err(Wide::Every("addresses")), "{excluded:?}");
        }
        let found = constrained(&[range("192.0.2.1", 32)], &[]);
        assert_eq!(found, Err(Wide::Every("names")));
    }

    #[test]
    fn constraints_that_are_missing_or_need_not_be_understood_do_not_count() {
        let mut parameters = CertificateParams::default();
        assert_eq!(check(&parameters), Err(Wide::Unconstrained));
        // Permitted: api.test; excluded: all addresses.
        let [mut der, excluded] = [
            b"\xa0\x0c\x30\x0a\x82\x08api.test".to_vec(),
            [
                &b"\xa1\x30\x30\x0a\x87\x08"[..],
                &[0; 8],
                b"\x30\x22\x87\x20",
                &[0; 32],
            ]
            .concat(),
        ];
        der.extend(excluded);
        der.splice(0..0, [0x30, u8::try_from(der.len()).unwrap()]);
        for (is_critical, expected) in [(true, Ok(())), (false, Err(Wide::Unconstrained))] {
            let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], der.clone());
            extension.set_criticality(is_critical);
            parameters.custom_extensions = vec![extension];
            assert_eq!(check(&parameters), expected);
        }
    }
}
