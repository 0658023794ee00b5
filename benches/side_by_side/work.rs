//! The table of work: what callers do, and how the proxy is set up for it.

use std::net::SocketAddr;
use std::path::Path;

use crate::load::{Job, Kind, PROVIDERS};
use crate::peers::Peer;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Work {
    Get,
    Post1k,
    Post64k,
    One,
    Idle,
    Down,
    Up,
    Accounts1,
    Accounts100,
    Accounts10000,
    Start,
    Storm,
    TunnelNew,
    TunnelGet,
    TwoCores,
    PostOne,
    Payment,
    PaymentOne,
    #[value(name = "get-http2")]
    GetHttp2,
    #[value(name = "post1k-http2")]
    Post1kHttp2,
    Day,
}

/// Callers that wait while others connect, in `Idle`. Bursar gives them less than half of the files that may be open, which
/// are 20,000 here and there.
const CROWD: usize = 9_000;
const BULK: usize = 200_000_000;

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET, 0.5 kB reply, 64 callers",
            Self::Post1k => "POST 1 kB, 64 callers",
            Self::Post64k => "POST 64 kB, 64 callers",
            Self::One => "GET, 1 caller",
            Self::Idle => "9,000 idle callers",
            Self::Down => "200 MB down, 1 caller",
            Self::Up => "200 MB up, 1 caller",
            Self::Accounts1 => "GET, 1 account and host",
            Self::Accounts100 => "GET, 100 accounts and hosts",
            Self::Accounts10000 => "GET, 10,000 accounts and hosts",
            Self::Start => "start with 10,000 accounts",
            Self::Storm => "401 storm, 1,000 requests in flight",
            Self::TunnelNew => "HTTPS through interception, new connections",
            Self::TunnelGet => "HTTPS through interception, keep-alive",
            Self::TwoCores => "GET, 64 callers, two cores",
            Self::PostOne => "POST 1 kB, 1 caller",
            Self::Payment => "POST 1 kB with a journal, 64 callers",
            Self::PaymentOne => "POST 1 kB with a journal, 1 caller",
            Self::GetHttp2 => "GET, provider over HTTP/2, 64 callers",
            Self::Post1kHttp2 => "POST 1 kB, provider over HTTP/2, 64 callers",
            Self::Day => "a day's mixture, 1,000 callers",
        }
    }

    pub(crate) fn spread(self) -> Option<usize> {
        match self {
            Self::Accounts1 => Some(1),
            Self::Accounts100 => Some(100),
            Self::Accounts10000 | Self::Start => Some(10_000),
            _ => None,
        }
    }

    /// Whether it is only done where it is asked for, because it takes long.
    pub(crate) fn is_long(self) -> bool {
        self == Self::Day
    }

    /// How many hosts it asks where each is a provider of its own.
    pub(crate) fn providers(self) -> Option<usize> {
        (self == Self::Day).then_some(PROVIDERS)
    }

    /// Whether the picture shows it.
    pub(crate) fn is_drawn(self) -> bool {
        matches!(self, Self::Get | Self::Post1k | Self::Post64k)
    }

    pub(crate) fn is_tunnel(self) -> bool {
        matches!(self, Self::TunnelNew | Self::TunnelGet)
    }

    /// Whether what moves money is written down.
    pub(crate) fn is_journaled(self) -> bool {
        matches!(self, Self::Payment | Self::PaymentOne | Self::Day)
    }

    /// Whether the provider speaks HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::GetHttp2 | Self::Post1kHttp2 | Self::Day)
    }

    /// Why a peer cannot do it.
    pub(crate) fn impossible(self, peer: Peer) -> Option<&'static str> {
        match (self, peer) {
            (_, Peer::Bursar) => None,
            (Self::Storm, Peer::Envoy) => None,
            (Self::Start, Peer::Envoy) => Some("it knows one account"),
            (Self::Storm | Self::Start, _) => Some("its token is fixed"),
            (Self::TunnelNew | Self::TunnelGet, _) => Some("no interception"),
            // That the floor writes nothing down shows what the rest takes.
            (Self::Day, Peer::Hyper) => None,
            (Self::Payment | Self::PaymentOne | Self::Day, _) => Some("no journal"),
            (Self::GetHttp2 | Self::Post1kHttp2, _) => Some("not set up for it"),
            (_, Peer::Hyper) if self.spread().is_some() => Some("one token"),
            _ => None,
        }
    }

    pub(crate) fn job(
        self,
        seconds: f64,
        dir: &Path,
        proxy: SocketAddr,
        control: SocketAddr,
    ) -> Job {
        let kind = match self {
            Self::Idle => Kind::Idle,
            Self::Storm => Kind::Storm,
            Self::Start => Kind::Watch,
            Self::Day => Kind::Day,
            Self::TunnelNew => Kind::Fresh,
            Self::Down | Self::Up => Kind::Count(5),
            _ => Kind::Steady,
        };
        let callers = match self {
            Self::One | Self::Down | Self::Up | Self::PostOne | Self::PaymentOne => 1,
            Self::Idle => CROWD,
            Self::Storm | Self::Day => 1000,
            Self::TunnelNew => 16,
            _ => 64,
        };
        let (path, body) = match self {
            Self::Post1k | Self::Post1kHttp2 | Self::PostOne | Self::Payment | Self::PaymentOne => {
                ("/v1/payments".to_owned(), Some(1000))
            }
            Self::Post64k => ("/v1/payments".to_owned(), Some(64_000)),
            Self::Up => ("/v1/payments".to_owned(), Some(BULK)),
            Self::Down => (format!("/bytes/{BULK}"), None),
            Self::Storm => ("/storm".to_owned(), None),
            _ => ("/v1/payments/42?expand=all".to_owned(), None),
        };
        Job {
            proxy,
            kind,
            callers,
            // Until every connection is there that the mixture needs.
            warm: if self == Self::Day { 30.0 } else { 1.0 },
            seconds,
            path,
            body,
            spread: self.spread(),
            // Written by `bursar ca new`.
            tunnel: self.is_tunnel().then(|| dir.join("intercept/ca.pem")),
            control,
        }
    }
}
