//! Failure of a token call: what it means for those who wait, for counting, and in words.
//!
//! Nothing of a response gets into it but the name of an error, which [`ErrorCode`] bounds.

use std::fmt;
use std::time::Duration;

use bursar_base::address::Rule;
use bursar_http::response::ResponseError;
use bursar_telemetry::metrics::{Cause, FetchOutcome};

/// What to do where the endpoint refuses the request itself.
const REQUEST_ADVICE: &str = ": it refuses the request itself; check token.url, token.encoding, token.client_auth and token.params";

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint refuses the account; with the wait that it asked for.
    Rejected(Detail, Option<Duration>),
    /// The endpoint wants fewer calls; with the wait that it asked for.
    RateLimited(Option<Duration>),
    /// The same in a response that may refuse what was offered, too: at 403, or beside the name of a refusal.
    LimitedOrRefused(Option<Duration>),
    /// The endpoint is in trouble, and asked for that wait.
    RetryLater(u16, Duration),
    /// The endpoint answered an error that says nothing about the account.
    ErrorStatus(u16, Detail),
    /// The endpoint says, at whatever status, that the trouble is its own.
    ServerError(Detail),
    /// The endpoint did not answer in time.
    TimedOut,
    /// No address of it is allowed: nothing was sent.
    NotAllowed(Rule),
    /// There is no connection: nothing was sent.
    NoConnection(Cause),
    /// The connection broke after the request was sent.
    Broken,
    /// The same, because TLS ended without close_notify.
    NoCloseNotify,
    /// The response is no token; with what it is instead.
    Malformed(Detail),
    /// The token was already expired when it came.
    AlreadyExpired,
    /// Not called yet: the quota of calls is used up.
    QuotaExhausted,
    /// Not called: the endpoint fails, and is only probed.
    CircuitOpen,
    /// Not called: another instance of the fleet asks, or has asked meanwhile.
    LeaseLost,
    /// Not called: the fleet's store cannot be used, and the endpoint is for whoever asked last.
    FleetHold,
}

/// What a response without a token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// This error's name.
    Code(ErrorCode),
    /// A body with a content coding of this name, which is not known here.
    Coding(ErrorCode),
    /// What these words say.
    Is(&'static str),
    /// No response of HTTP, or none that says where it ends.
    Unframed(ResponseError),
}

/// The name of an error, as a response gave it: one word of letters, digits, `_`, `-` and `.`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    text: [u8; Self::MAX],
    length: u8,
}

impl ErrorCode {
    /// A longer one is no name.
    const MAX: usize = 64;

    /// None for a text that is no name. RFC 6749 section 5.2 allows more characters, spaces too; but a sentence may
    /// tell what was sent.
    pub(super) fn new(text: &str) -> Option<Self> {
        let is_of_a_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(is_of_a_name) {
            return None;
        }
        let mut code = Self {
            text: [0; Self::MAX],
            length: 0,
        };
        for (to, from) in code.text.iter_mut().zip(text.bytes()) {
            *to = from;
            code.length += 1;
        }
        Some(code)
    }

    pub(super) fn as_str(&self) -> &str {
        let (text, _) = self.text.split_at(usize::from(self.length));
        std::str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl Detail {
    /// Whether it is the error of that name.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Self::Code(code) if code.as_str() == name)
    }

    pub(super) fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => formatter.write_str(code.as_str()),
            Self::Coding(code) => write!(
                formatter,
                "its content coding {} is not known",
                code.as_str()
            ),
            Self::Is(what) => formatter.write_str(what),
            Self::Unframed(error) => error.fmt(formatter),
        }
    }
}

impl Failure {
    /// What the call is counted as.
    #[must_use]
    pub fn outcome(self) -> FetchOutcome {
        match self {
            Self::Rejected(..) => FetchOutcome::Rejected,
            failure if failure.is_about_grant() => FetchOutcome::Rejected,
            Self::RateLimited(_) | Self::LimitedOrRefused(_) => FetchOutcome::RateLimited,
            Self::Malformed(_) | Self::AlreadyExpired => FetchOutcome::Malformed,
            Self::RetryLater(..)
            | Self::ErrorStatus(..)
            | Self::ServerError(_)
            | Self::TimedOut
            | Self::NotAllowed(_)
            | Self::NoConnection(_)
            | Self::Broken
            | Self::NoCloseNotify
            | Self::QuotaExhausted
            | Self::CircuitOpen
            | Self::LeaseLost
            | Self::FleetHold => FetchOutcome::Unavailable,
        }
    }

    /// Whether another secret of the account may be what the endpoint wants. It says nothing about the secret
    /// where it names something else.
    pub(super) fn is_about_secret(self) -> bool {
        matches!(self, Self::Rejected(detail, _) if !detail.is_one_of(&[
            "invalid_scope", "invalid_grant", "invalid_request", "unsupported_grant_type",
        ]))
    }

    /// Whether the endpoint refuses the grant: the refresh token, or the client's credentials where nothing else is offered.
    pub(super) fn is_about_grant(self) -> bool {
        matches!(self, Self::Rejected(detail, _) | Self::ErrorStatus(400, detail) if detail.is("invalid_grant"))
    }

    /// What it is where client credentials were all that was offered: what refuses the grant refuses the account.
    pub(super) fn of_client_credentials(self) -> Self {
        match self {
            Self::ErrorStatus(400, detail) if self.is_about_grant() => Self::Rejected(detail, None),
            other => other,
        }
    }

    /// Whether the endpoint refuses the request itself, which is the configuration's fault mostly.
    #[must_use]
    pub fn is_about_request(self) -> bool {
        matches!(self, Self::ErrorStatus(400 | 404 | 405 | 415, _)) && !self.is_about_grant()
    }

    /// Whether the endpoint says of the client, and of nothing else, that it is refused.
    pub(super) fn is_about_client(self) -> bool {
        matches!(self, Self::Rejected(detail, _) if detail.is_one_of(&["invalid_client", "unauthorized_client"]))
    }

    /// Whether the endpoint itself fails, whatever the request.
    pub(super) fn is_outage(self) -> bool {
        match self {
            Self::ErrorStatus(status, _) => status >= 500,
            Self::RetryLater(..)
            | Self::ServerError(_)
            | Self::TimedOut
            | Self::NotAllowed(_)
            | Self::NoConnection(_)
            | Self::Broken
            | Self::NoCloseNotify => true,
            Self::Rejected(..)
            | Self::RateLimited(_)
            | Self::LimitedOrRefused(_)
            | Self::Malformed(_)
            | Self::AlreadyExpired
            | Self::QuotaExhausted
            | Self::CircuitOpen
            | Self::LeaseLost
            | Self::FleetHold => false,
        }
    }

    /// Whether the endpoint said when it wants to be asked again.
    pub(super) fn asks_for_pause(self) -> bool {
        matches!(
            self,
            Self::RateLimited(_) | Self::LimitedOrRefused(_) | Self::RetryLater(..)
        )
    }

    /// Whether the request cannot have reached the endpoint.
    pub(super) fn is_unsent(self) -> bool {
        self.cause().is_some()
    }

    /// Why there is no connection, if that is why.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::NotAllowed(_) => Some(Cause::AddressNotAllowed),
            Self::NoConnection(cause) => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(detail, _) => {
                write!(
                    formatter,
                    "the token endpoint refuses the account ({detail})"
                )
            }
            Self::RateLimited(_) | Self::LimitedOrRefused(_) => {
                formatter.write_str("the token endpoint limits the rate of calls")
            }
            Self::RetryLater(status, asked) => write!(
                formatter,
                "the token endpoint answered {status} and asks for a pause of {} s",
                asked.as_secs_f64().ceil()
            ),
            Self::ErrorStatus(status, detail) => {
                let advice = self.is_about_request().then_some(REQUEST_ADVICE);
                let advice = advice.unwrap_or_default();
                write!(formatter, "the token endpoint answered {status} ({detail}){advice}")
            }
            Self::ServerError(detail) => {
                write!(
                    formatter,
                    "the token endpoint says that it fails ({detail})"
                )
            }
            Self::TimedOut => formatter.write_str("the token endpoint did not answer in time"),
            Self::NotAllowed(rule) => write!(
                formatter,
                "the token endpoint's address is not allowed (address_not_allowed, egress rule {})",
                rule.as_str()
            ),
            Self::NoConnection(Cause::ParentProxy) => formatter.write_str(
                "the parent proxy does not connect to the token endpoint (parent_proxy)",
            ),
            Self::NoConnection(cause) => write!(
                formatter,
                "the token endpoint cannot be reached ({})",
                cause.as_str()
            ),
            Self::Broken => formatter.write_str("the token endpoint broke the connection"),
            Self::NoCloseNotify => formatter.write_str(
                "the token endpoint's response is cut off: the connection ended without TLS close_notify",
            ),
            Self::Malformed(Detail::Code(code)) => write!(
                formatter,
                "the token endpoint's response is no token: it reports the error {} with a success status",
                code.as_str()
            ),
            Self::Malformed(detail) => {
                write!(
                    formatter,
                    "the token endpoint's response is no token: {detail}"
                )
            }
            Self::AlreadyExpired => {
                formatter.write_str("the token endpoint handed out an expired token")
            }
            Self::QuotaExhausted => formatter
                .write_str("token.calls_per_minute is used up; the call waits for its turn"),
            Self::CircuitOpen => formatter.write_str(
                "the token endpoint failed too often; calls are held until a probe succeeds",
            ),
            Self::LeaseLost => {
                formatter.write_str("another instance of the fleet asks the token endpoint")
            }
            Self::FleetHold => formatter.write_str(
                "the fleet's store cannot be used, and this instance has not obtained the last token since its start (fleet.on_outage: hold)",
            ),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_is_one_word_of_at_most_64_characters() {
        let shown = |text| ErrorCode::new(text).map(|code| code.as_str().to_owned());
        const LONG: &str = "a_name.that-has_64.characters_is.just-short_enough.to-be_shown.x";
        assert_eq!(LONG.len(), 64);
        for good in [
            "invalid_target",
            "AADSTS7000215",
            "E-1001",
            "auth.invalid_key",
            LONG,
        ] {
            assert_eq!(shown(good).as_deref(), Some(good));
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            "a\"b",
            "a\\b",
            "line\nbreak",
            "\u{e9}",
            "\u{1b}[31m",
            "Invalid credentials",
            "topsecret***",
            "urn:x:y",
            "a%20b",
            &long,
        ] {
            assert_eq!(shown(bad), None, "{bad:?}");
        }
        let code = ErrorCode::new("slow_down").unwrap();
        assert_eq!(format!("{code:?}"), "\"slow_down\"");
    }
}
