//! Addresses of a server: which are left to be tried, and TCP to one of several.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::TcpStream;
use tower_service::Service;

use super::error::BoxError;
use bursar_base::address::{Spelling, undotted};

/// Dead peers are noticed although nothing is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The URL's host as the resolver is asked for it: a dot ends a name, and no address.
pub(super) fn resolved_host(url: &Uri) -> &str {
    let host = url.host().unwrap_or_default();
    match Spelling::of(undotted(host)) {
        Spelling::Name => host,
        _ => undotted(host),
    }
}

pub(super) fn at_port(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    let addresses = addresses.into_iter();
    let addresses = addresses.map(|address| SocketAddr::new(address, port));
    addresses.collect()
}

/// The addresses that are left after one, those of the other family first: what is wrong on the way is often wrong for
/// all of a family.
pub(super) fn others(mut addresses: Vec<SocketAddr>, tried: Option<SocketAddr>) -> Vec<SocketAddr> {
    let place = addresses.iter().position(|address| Some(*address) == tried);
    let (Some(tried), Some(place)) = (tried, place) else {
        return Vec::new();
    };
    // Those of the same family are tried in turn, so the ones before it were tried in vain.
    let mut left = addresses.split_off(place);
    left.remove(0);
    addresses.retain(|address| address.is_ipv4() != tried.is_ipv4());
    addresses.extend(left);
    addresses.sort_by_key(|address| address.is_ipv4() == tried.is_ipv4());
    addresses
}

/// TCP to one of these addresses, both families at once (RFC 8305).
///
/// # Errors
/// The last one's, where none can be connected to within the limit.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, BoxError> {
    let mut tcp = HttpConnector::new_with_resolver(Resolved(addresses.into()));
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(limit));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    Ok(tcp.call(ADDRESSES.clone()).await?.into_inner())
}

/// What the connector asks for the addresses of [`ADDRESSES`]: they are known already.
#[derive(Debug, Clone)]
struct Resolved(Vec<SocketAddr>);

/// Stands for them.
static ADDRESSES: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("http://addresses/"));

impl Service<Name> for Resolved {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_address_the_other_family_comes_first_and_none_of_its_own_before_it() {
        let of = |texts: &[&str]| -> Vec<SocketAddr> {
            let parsed = texts.iter().map(|text| text.parse().unwrap());
            at_port(parsed.collect(), 443)
        };
        let all = of(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3", "10.0.0.3"]);
        for (tried, left) in [
            (
                "::1",
                &["10.0.0.1", "10.0.0.2", "10.0.0.3", "::2", "::3"][..],
            ),
            ("::2", &["10.0.0.1", "10.0.0.2", "10.0.0.3", "::3"]),
            ("10.0.0.2", &["::1", "::2", "::3", "10.0.0.3"]),
            ("10.0.0.3", &["::1", "::2", "::3"]),
            ("10.0.0.4", &[]),
        ] {
            let tried = of(&[tried]);
            assert_eq!(others(all.clone(), tried.first().copied()), of(left));
        }
        assert!(others(all, None).is_empty());
    }
}
