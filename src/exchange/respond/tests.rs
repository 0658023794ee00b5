//! The page of the book on reasons and causes, generated from the enums and from what [`Refusal::describe`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;

use super::*;
use crate::exchange::passthrough;
use crate::exchange::tunnel_target;
use crate::token::{Failure, Missing};
use crate::upstream::{ConnectError, SendError};
use bursar_http::framing;
use bursar_limits::caller_limits::TooMany;
use bursar_limits::rate_limiter;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/reference/reasons.md");

const HEAD: &str = "# Reasons and causes

<!-- Generated; BURSAR_WRITE_BOOK=1 cargo test book -->

## Reasons

The `reason` of a response that is Bursar's own: in its body, in `Proxy-Status`, in the access line and in
`bursar_refusals_total`. [Payments](../payments.md#request_sent) says what `request_sent` means,
[Requests](../requests.md#refusals) what such a response looks like.

| `reason` | status | `request_sent` | meaning | what to do |
|---|---|---|---|---|
";

const DETAILS: &str = "
## Details

Where a reason has several meanings, the `detail` of the access line says in one word which it was. The `detail` of the
response is the text beside it. That of `bad_request` may also say what is wrong with the target, `Host` or the framing,
and that of `destination_not_allowed` [what was probably meant](../when-something-fails.md#403-on-connect).

| `reason` | `detail` in the access line | meaning | `detail` of the response |
|---|---|---|---|
";

/// Meanings that are told by others than [`detail::of`].
const ELSEWHERE: [(Reason, RefusalDetail); 16] = [
    (Reason::CallerLeft, RefusalDetail::ResponseUnread),
    (Reason::BadRequest, RefusalDetail::NoHttpInTunnel),
    (
        Reason::CallerUnauthenticated,
        RefusalDetail::CredentialsMissing,
    ),
    (
        Reason::CallerUnauthenticated,
        RefusalDetail::CredentialsMalformed,
    ),
    (Reason::CallerUnauthenticated, RefusalDetail::CallerUnknown),
    (Reason::CallerUnauthenticated, RefusalDetail::PasswordWrong),
    (Reason::CallerUnauthenticated, RefusalDetail::NotFromThere),
    (Reason::CallerUnauthenticated, RefusalDetail::TunnelOutdated),
    (Reason::DestinationNotAllowed, RefusalDetail::OtherPort),
    (
        Reason::DestinationNotAllowed,
        RefusalDetail::OtherEnvironment,
    ),
    (Reason::DestinationNotAllowed, RefusalDetail::TokenHost),
    (Reason::ConnectNotAllowed, RefusalDetail::TlsInTunnel),
    (Reason::RequestTimeout, RefusalDetail::WriteTimeout),
    (Reason::Misdirected, RefusalDetail::OtherServerName),
    (Reason::UpstreamProtocol, RefusalDetail::CutOff),
    (Reason::UpstreamTimeout, RefusalDetail::Stalled),
];

const CAUSES: &str = "
## Causes

The `cause` in an access line, in the warnings `no connection` and `no token`, in `upstreams` of `/status` and in
`bursar_upstream_connect_failures_total`: why a connection to
a server of a provider could not be had. Nothing was sent.

| `cause` | meaning | what to do |
|---|---|---|
";

#[test]
fn the_book_has_every_reason_and_cause() {
    let mut page = HEAD.to_owned();
    let described = described();
    for reason in Reason::ALL {
        let responses = &described[reason.as_str()];
        let (statuses, sent) = (&responses.statuses, &responses.sent);
        let line = format!(
            "| `{}` | {} | {} | {} | {} |",
            reason.as_str(),
            list(statuses.iter()),
            // `no` before `maybe`.
            list(sent.iter().rev()),
            reason.meaning().trim(),
            linked(reason)
        );
        writeln!(page, "{line}").unwrap();
    }
    page.push_str(DETAILS);
    let mut told = Vec::new();
    for reason in Reason::ALL {
        let name = reason.as_str();
        let details = &described[name].details;
        for (detail, text) in details {
            // Where a response has a text of its own, that is the whole row.
            let is_told = text.is_empty()
                && details
                    .iter()
                    .any(|(other, text)| other == detail && !text.is_empty());
            if is_told {
                continue;
            }
            let (word, meaning) = match detail {
                Some(detail) => (format!("`{}`", detail.as_str()), detail.meaning().trim()),
                None => ("–".to_owned(), ""),
            };
            told.extend(detail);
            writeln!(page, "| `{name}` | {word} | {meaning} | {text} |").unwrap();
        }
    }
    for detail in RefusalDetail::ALL {
        assert!(told.contains(&detail), "{detail:?} is nobody's");
    }
    page.push_str(CAUSES);
    for cause in Cause::ALL {
        let (name, meaning) = (cause.as_str(), cause.meaning().trim());
        writeln!(page, "| `{name}` | {meaning} | {} |", cure(cause)).unwrap();
    }
    if std::env::var_os("BURSAR_WRITE_BOOK").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        kept == page,
        "{PAGE} is not what the code says; renew it with BURSAR_WRITE_BOOK=1 cargo test book"
    );
}

#[test]
fn the_cause_of_a_refusal_is_told_down_the_chain() {
    let refused = || {
        let source: Box<dyn Error + Send + Sync> =
            std::io::Error::other("words of a socket").into();
        ConnectError::Failed {
            cause: Cause::Refused,
            peer: None,
            source: Some(source),
        }
    };
    let connection = ["no connection could be had", "words of a socket"];
    let chains = [
        (chain(&Refusal::Connect(refused())), &connection[..]),
        (chain(&passthrough::Error::from(refused())), &connection),
        (
            chain(&Refusal::from(passthrough::Error::from(refused()))),
            &connection,
        ),
        (
            chain(&Refusal::from(SendError::Refused)),
            &["the provider did not process the request"],
        ),
        (
            chain(&Refusal::from(framing::FramingError::Chunks)),
            &["the chunks of the body are broken"],
        ),
        (
            chain(&Refusal::from(target::Error::Malformed(
                RefusalDetail::HostInvalid,
                "it is \"x\"",
            ))),
            &["the target is malformed: it is \"x\""],
        ),
    ];
    for (chain, expected) in chains {
        assert_eq!(chain, expected);
    }
}

/// What is said below the outermost error.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = Vec::new();
    let mut source = error.source();
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts
}

fn list<'a>(values: impl Iterator<Item = &'a String>) -> String {
    let values: Vec<&str> = values.map(String::as_str).collect();
    values.join(", ")
}

/// What the responses with one reason say.
#[derive(Default)]
struct Responses {
    statuses: BTreeSet<String>,
    sent: BTreeSet<String>,
    /// Each once, in the order of [`refusals`].
    details: Vec<(Option<RefusalDetail>, String)>,
}

fn described() -> BTreeMap<&'static str, Responses> {
    let mut described: BTreeMap<&str, Responses> = BTreeMap::new();
    for refusal in refusals() {
        let description = refusal.describe();
        let responses = described.entry(description.reason.as_str()).or_default();
        let status = description.status.as_u16();
        responses.statuses.insert(status.to_string());
        let sent = serde_json::to_value(description.sent).unwrap();
        let sent = format!("`{}`", sent.as_str().unwrap());
        responses.sent.insert(sent);
        let has_more = matches!(
            refusal,
            Refusal::Target(target::Error::Malformed(..)) | Refusal::Framing(_)
        );
        let text = match has_more {
            true => String::new(),
            false => description.detail.into_owned(),
        };
        let told = (detail::of(&refusal), text);
        if !responses.details.contains(&told) {
            responses.details.push(told);
        }
    }
    for (reason, detail) in ELSEWHERE {
        let responses = described.entry(reason.as_str()).or_default();
        responses.details.push((Some(detail), String::new()));
    }
    // Hardly anybody reads it, and without a response it may have been sent.
    let left = described.entry(Reason::CallerLeft.as_str()).or_default();
    left.sent = ["–".to_owned()].into();
    described
}

const EXCEEDED: rate_limiter::Exceeded = rate_limiter::Exceeded {
    retry_after: Duration::ZERO,
};

/// Of requests that ended before their time.
fn ended() -> [Refusal; 3] {
    [
        Refusal::CutOff { was_sent: true },
        Refusal::CutOff { was_sent: false },
        Refusal::CallerLeft,
    ]
}

fn refusals() -> Vec<Refusal> {
    let mut refusals = vec![
        Refusal::Target(target::Error::Method(RefusalDetail::Trace)),
        Refusal::Target(target::Error::Method(RefusalDetail::ConnectTarget)),
        Refusal::Loop,
        Refusal::CallerToken(CallerToken::Missing),
        Refusal::CallerToken(CallerToken::Unusable),
        Refusal::CallerLimit(TooMany::InFlight),
        Refusal::CallerLimit(TooMany::PerSecond(EXCEEDED)),
        Refusal::Overloaded,
        Refusal::Journal(journal::Unavailable),
        Refusal::Draining,
        Refusal::Frozen,
        Refusal::FreezesUnknown,
    ];
    refusals.extend(malformed().chain(ended()));
    refusals.extend(framing::FramingError::ALL.map(Refusal::Framing));
    for form in [Form::Absolute, Form::Origin] {
        refusals.push(Refusal::Caller(caller::Error::Unauthenticated, form));
        refusals.push(Refusal::Caller(caller::Error::Busy, form));
    }
    let tunnels = [
        tunnel_target::Error::NotIntercepted,
        tunnel_target::Error::Nested,
        tunnel_target::Error::TokenHost,
        tunnel_target::Error::Misdirected,
    ];
    refusals.extend(tunnels.map(Refusal::Tunnel));
    let routes = [
        route::Error::UnknownHost,
        route::Error::TokenEndpoint,
        route::Error::OutsidePaths,
        route::Error::NotAllowed,
        route::Error::AccountNotAllowed,
        route::Error::AccountMissing,
        route::Error::NoScopes,
        route::Error::Ambiguous,
    ];
    let route = |error| Refusal::Route(error, route_detail(error, Some("NAME")));
    refusals.extend(routes.map(route));
    refusals.extend(failures().map(|failure| {
        Refusal::Token(Missing {
            failure,
            cause: failure.cause(),
            peer: peer(),
            retry_after: Duration::ZERO,
        })
    }));
    refusals.extend(Cause::ALL.map(|cause| Refusal::Connect(cause.into())));
    refusals.push(Refusal::Connect(ConnectError::NoHttp2(peer())));
    refusals.push(Refusal::Connect(ConnectError::Held {
        wait: Duration::ZERO,
        last: None,
        peer: None,
    }));
    let failed = [
        SendError::Unsent,
        SendError::Refused,
        SendError::WantsHttp1,
        SendError::Broken,
        SendError::NoCloseNotify,
        SendError::ClientRefused,
        SendError::TimedOut,
        SendError::TimedOutUnsent,
        SendError::CallerStalled,
        SendError::CallerGone,
    ];
    refusals.extend(failed.map(Refusal::Send));
    refusals.extend(Limit::ALL.map(Refusal::Limit));
    refusals
}

/// Of requests without a usable target.
fn malformed() -> impl Iterator<Item = Refusal> {
    let details = [
        RefusalDetail::HostMissing,
        RefusalDetail::HostRepeated,
        RefusalDetail::HostInvalid,
        RefusalDetail::HostsDiffer,
        RefusalDetail::TargetInvalid,
        RefusalDetail::ConnectWithBody,
        RefusalDetail::Http1Required,
        RefusalDetail::BodyBroken,
    ];
    let malformed = details.into_iter();
    malformed.map(|detail| Refusal::Target(target::Error::Malformed(detail, "")))
}

fn failures() -> [Failure; 15] {
    let words = crate::token::Detail::Is("");
    [
        Failure::Rejected(words, None),
        Failure::RateLimited(None),
        Failure::QuotaExhausted,
        Failure::CircuitOpen,
        Failure::LeaseLost,
        Failure::FleetHold,
        Failure::TimedOut,
        Failure::NotAllowed(bursar_base::address::Rule::Private),
        Failure::NoConnection(Cause::ParentProxy),
        Failure::NoConnection(Cause::Refused),
        Failure::ErrorStatus(500, words),
        Failure::ErrorStatus(404, words),
        Failure::Broken,
        Failure::NoCloseNotify,
        Failure::Malformed(words),
    ]
}

/// What to do, with what the book links.
fn linked(reason: Reason) -> String {
    let links = [
        ("`intercept`", "../interception.md"),
        ("`egress.allow_addresses`", "../configuration/egress.md"),
    ];
    let text = advice(reason).to_owned();
    links.iter().fold(text, |text, (word, page)| {
        text.replace(word, &format!("[{word}]({page})"))
    })
}

fn peer() -> Arc<Peer> {
    Peer::new("api.test:443", None)
}

fn cure(cause: Cause) -> &'static str {
    match cause {
        Cause::NameNotFound => "check the host's spelling, and DNS",
        Cause::NameFailed => "check the resolver",
        Cause::AddressNotAllowed => {
            "mend DNS, or see [Where connections go](../configuration/egress.md)"
        }
        Cause::Refused => "check host and port",
        Cause::Unreachable => {
            "check the network; or few file descriptors are left ([open files](../operations.md#open-files))"
        }
        Cause::TimedOut => "check firewalls; or raise `timeouts.connect`",
        Cause::Reset => "ask the provider; a firewall may do it, too",
        Cause::ParentProxy => "check `egress.proxy` and its log",
        Cause::TlsExpired | Cause::TlsNotYetValid => {
            "ask the provider; or this machine's clock is wrong"
        }
        Cause::TlsUnknownIssuer => "check `tls.ca`; or something on the way intercepts TLS",
        Cause::TlsWrongName => "check the host; or something on the way intercepts TLS",
        Cause::TlsRevoked => {
            "nothing gives it today: [no revocation list is read](../when-something-fails.md#the-certificate-was-revoked)"
        }
        Cause::TlsClientCertificate => "set `tls.certificate` and `tls.key`, or other ones",
        Cause::TlsVersion => "ask the provider; Bursar speaks TLS 1.2 and 1.3",
        Cause::TlsOther => {
            "check that the port speaks TLS, and with `http: \"2\"` that the server speaks HTTP/2; see [what TLS cannot do](../configuration/providers.md#tls-to-the-provider)"
        }
    }
}
