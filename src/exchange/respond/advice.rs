//! Advice on refusals: what whoever meets a reason can do, in one line, for `/status` and the book.

#![warn(clippy::wildcard_enum_match_arm)]

use bursar_telemetry::metrics::Reason;

/// What whoever gets it can do, or has to have done.
#[must_use]
pub fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::BadRequest => {
            "mend the target, `Host` or framing; `maybe` where the request's body broke off"
        }
        Reason::CallerUnauthenticated => {
            "send the caller's name and password, from one of its `addresses` where it has some; 407 in proxy form and for `CONNECT`, else 401"
        }
        Reason::CallerLimitExceeded => "wait for `Retry-After`; see `limits` of the caller",
        Reason::DestinationNotAllowed => {
            "add the host to some provider's `hosts`, or to `passthrough`"
        }
        Reason::RouteNotAllowed => {
            "`detail` says which: outside `paths`, outside the caller's `allow`, no account or a wrong one in `Bursar-Account`, no scopes known, or an ambiguous spelling"
        }
        Reason::CallerTokenMissing => {
            "send the caller's own token as `Authorization: Bearer` (`authorization: caller` of the route)"
        }
        Reason::TokenEndpointProtected => "do not ask for tokens",
        Reason::ConnectNotAllowed => {
            "use `http://` URLs, or `intercept`. In the log at status 200: TLS came in a tunnel for plain HTTP, which was closed"
        }
        Reason::MethodNotAllowed => {
            "send another method; there is no `TRACE`, and no `CONNECT` to a path"
        }
        Reason::RequestTimeout => "send the whole request; the caller stopped in the middle",
        Reason::TargetTooLong => "shorten the target, or raise `limits.target_size`",
        Reason::HeadersTooLarge => {
            "send fewer or shorter headers, or raise `limits.headers` or `limits.header_size`"
        }
        Reason::Misdirected => "inside a tunnel, ask for the host that `CONNECT` named, in TLS too",
        Reason::AddressNotAllowed => "mend DNS, or add the address to `egress.allow_addresses`",
        Reason::UpstreamUnreachable => {
            "check name, network, `upstream` and `egress.proxy`; safe to send again"
        }
        Reason::UpstreamUnavailable => "wait for `Retry-After`; the provider's `breaker` is open",
        Reason::UpstreamTls => "check `tls.ca` and the provider's certificate; safe to send again",
        Reason::UpstreamProtocol => {
            "look before you send it again; `no` where the provider said that it did not process the request"
        }
        Reason::CredentialsRejected => {
            "check `client_id`, `client_secret` and scopes with `bursar check --live`"
        }
        Reason::TokenUnavailable => "wait for `Retry-After`; `/status` has the token's last error",
        Reason::Overloaded => {
            "wait for `Retry-After`; see `limits`, and the limits of passwords that wait"
        }
        Reason::JournalUnavailable => {
            "free its disk, resolve what `bursar outcomes` lists, or end the process that reads it for long; the log says which it is"
        }
        Reason::Draining => {
            "send it again on a new connection; this Bursar begins nothing more that moves money. With `request_sent` `maybe` it was under way when `drain_timeout` was over: look before you send it again"
        }
        Reason::Frozen => "ask the operators, who have stopped payments to this provider",
        Reason::UpstreamTimeout => {
            "`no` while connecting: safe to send again. `maybe` while waiting for the response: look first"
        }
        Reason::Loop => "mend `upstream`, which leads back to this instance",
        Reason::CallerLeft => {
            "in the log and in metrics alone, as 499: nobody was left to be answered; see whether the caller's own time limit is too short"
        }
    }
}
