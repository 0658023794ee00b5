//! What did the token endpoint say? Pure reading of its answers, lenient in what is accepted.
//!
//! The body is read as JSON whatever its content type says; fields that are not needed may have any type.
//! Nothing of the body gets into a [`Failure`] but error codes that OAuth itself defines.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::address::Rule;
use crate::metrics::FetchOutcome;
use crate::secret::Secret;

/// No call is put off for longer than that, whatever the endpoint asks for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// A token, as the endpoint described it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) access_token: Secret,
    pub(super) lifetime: Stated,
    pub(super) refresh_token: Option<Secret>,
    pub(super) refresh_lifetime: Stated,
    /// The scopes granted, where the reply names them.
    pub(super) scope: Option<String>,
}

/// A lifetime, as the endpoint stated it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stated {
    /// Not at all, or not as a number.
    Nothing,
    /// Longer than nothing.
    For(Duration),
    /// Zero or less.
    Over,
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint refuses the account.
    Rejected(&'static str),
    /// The endpoint wants fewer calls; with the wait that it asked for.
    RateLimited(Option<Duration>),
    /// The endpoint answered an error that says nothing about the account.
    Status(u16),
    /// The endpoint says, at whatever status, that the trouble is its own.
    InTrouble(&'static str),
    /// The endpoint did not answer in time.
    TimedOut,
    /// No address of it is allowed: nothing was sent.
    NotAllowed(Rule),
    /// It could not be reached: nothing was sent.
    Unreachable,
    /// The parent proxy did not connect: nothing was sent.
    Parent,
    /// TLS failed: nothing was sent.
    Tls,
    /// The connection broke after the request was sent.
    Broken,
    /// The answer is no token; with what it is instead.
    Malformed(&'static str),
    /// The token was already expired when it came.
    BornExpired,
    /// Not called yet: the budget of calls is used up.
    OverBudget,
    /// Not called: the endpoint fails, and is only probed.
    Held,
}

impl Reply {
    /// The scopes of `asked` that the reply does not grant, space-joined; empty where it names none.
    pub(super) fn missing_scopes(&self, asked: &str) -> String {
        let Some(granted) = &self.scope else {
            return String::new();
        };
        let is_missing =
            |scope: &&str| !granted.split_whitespace().any(|granted| granted == *scope);
        let missing: Vec<&str> = asked.split_whitespace().filter(is_missing).collect();
        missing.join(" ")
    }
}

impl Failure {
    /// What the call is counted as.
    pub(super) fn outcome(self) -> FetchOutcome {
        match self {
            Self::Rejected(_) => FetchOutcome::Rejected,
            Self::RateLimited(_) => FetchOutcome::RateLimited,
            Self::Malformed(_) | Self::BornExpired => FetchOutcome::Malformed,
            Self::Status(_)
            | Self::InTrouble(_)
            | Self::TimedOut
            | Self::NotAllowed(_)
            | Self::Unreachable
            | Self::Parent
            | Self::Tls
            | Self::Broken
            | Self::OverBudget
            | Self::Held => FetchOutcome::Unavailable,
        }
    }

    /// Whether another secret of the account may be what the endpoint wants. It says nothing about the secret
    /// where it names something else.
    pub(super) fn is_about_secret(self) -> bool {
        matches!(self, Self::Rejected(code) if !matches!(
            code,
            "invalid_scope" | "invalid_grant" | "invalid_request" | "unsupported_grant_type"
        ))
    }

    /// Whether the endpoint itself is in trouble, whoever asks.
    pub(super) fn is_outage(self) -> bool {
        match self {
            Self::Status(status) => status >= 500,
            Self::InTrouble(_)
            | Self::TimedOut
            | Self::NotAllowed(_)
            | Self::Unreachable
            | Self::Parent
            | Self::Tls
            | Self::Broken => true,
            Self::Rejected(_)
            | Self::RateLimited(_)
            | Self::Malformed(_)
            | Self::BornExpired
            | Self::OverBudget
            | Self::Held => false,
        }
    }

    /// Whether the request cannot have reached the endpoint.
    pub(super) fn is_unsent(self) -> bool {
        matches!(
            self,
            Self::NotAllowed(_) | Self::Unreachable | Self::Parent | Self::Tls
        )
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rejected(code) => {
                write!(formatter, "the token endpoint refuses the account ({code})")
            }
            Self::RateLimited(_) => {
                formatter.write_str("the token endpoint limits the rate of calls")
            }
            Self::Status(status) => write!(formatter, "the token endpoint answered {status}"),
            Self::InTrouble(code) => {
                write!(formatter, "the token endpoint says that it fails ({code})")
            }
            Self::TimedOut => formatter.write_str("the token endpoint did not answer in time"),
            Self::NotAllowed(rule) => write!(
                formatter,
                "the token endpoint's address is not allowed (egress rule {})",
                rule.as_str()
            ),
            Self::Parent => {
                formatter.write_str("the parent proxy does not connect to the token endpoint")
            }
            Self::Unreachable => formatter.write_str("the token endpoint cannot be reached"),
            Self::Tls => formatter.write_str("TLS to the token endpoint failed"),
            Self::Broken => formatter.write_str("the token endpoint broke the connection"),
            Self::Malformed(what) => {
                write!(formatter, "the token endpoint's answer is no token: {what}")
            }
            Self::BornExpired => {
                formatter.write_str("the token endpoint handed out an expired token")
            }
            Self::OverBudget => formatter
                .write_str("token.calls_per_minute is used up; the call waits for its turn"),
            Self::Held => formatter.write_str(
                "the token endpoint failed too often; calls are held until a probe succeeds",
            ),
        }
    }
}

/// Reads an answer; `pointer` leads to the object with the token, `retry_after` is the header's value.
pub(super) fn read(
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
    pointer: &str,
) -> Result<Reply, Failure> {
    let root = match serde_json::from_slice(body) {
        Ok(Value::Object(root)) => Value::Object(root),
        Ok(_) | Err(_) if status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::RateLimited(retry_after.map(clamp)));
        }
        Ok(_) | Err(_) if !status.is_success() => return Err(Failure::Status(status.as_u16())),
        Ok(_) => return Err(Failure::Malformed("it is JSON, but not an object")),
        Err(_) if body.is_empty() => return Err(Failure::Malformed("the body is empty")),
        Err(_) => return Err(Failure::Malformed("the body is not JSON")),
    };
    let empty = Map::new();
    let object = root.as_object().unwrap_or(&empty);
    let error = error_code(object);
    let failed = object.get("success") == Some(&Value::Bool(false)) || error.is_some();
    let nested = object
        .get("error")
        .and_then(|error| error.get("retry_after"));
    let body_retry_after = object.get("retry_after").or(nested).and_then(seconds);
    if status.is_success() && !failed {
        let place = root.pointer(pointer).and_then(Value::as_object);
        let token = token(place.unwrap_or(object));
        if token.is_ok() || body_retry_after.is_none() {
            return token;
        }
    }
    if status == StatusCode::TOO_MANY_REQUESTS
        || error == Some("rate_limit_exceeded")
        || body_retry_after.is_some()
    {
        let asked = body_retry_after.map(positive).or(retry_after);
        return Err(Failure::RateLimited(asked.map(clamp)));
    }
    // The code decides, not the status: PayU files everything under 401.
    match error {
        Some(code @ ("invalid_client" | "unauthorized_client" | "invalid_scope")) => {
            Err(Failure::Rejected(code))
        }
        Some(code @ ("server_error" | "temporarily_unavailable")) => Err(Failure::InTrouble(code)),
        code if matches!(status.as_u16(), 401 | 403) => {
            Err(Failure::Rejected(code.unwrap_or("no error code")))
        }
        _ if status.is_success() => Err(Failure::Malformed(
            "it reports a failure with a success status",
        )),
        _ => Err(Failure::Status(status.as_u16())),
    }
}

fn token(object: &Map<String, Value>) -> Result<Reply, Failure> {
    let text = |name| match object.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let access_token = text("access_token").ok_or(Failure::Malformed("it has no access_token"))?;
    if HeaderValue::from_str(&access_token).is_err() {
        return Err(Failure::Malformed("it holds bytes that no header may hold"));
    }
    Ok(Reply {
        access_token: Secret::new(access_token),
        lifetime: stated(object.get("expires_in")),
        refresh_token: text("refresh_token").map(Secret::new),
        refresh_lifetime: stated(object.get("refresh_expires_in")),
        scope: text("scope"),
    })
}

/// The error code where OAuth (RFC 6749 section 5.2) or a provider's document defines it; another one is
/// only known to be there, because an unknown text might be anything.
fn error_code(object: &Map<String, Value>) -> Option<&'static str> {
    const KNOWN: [&str; 10] = [
        "invalid_client",
        "unauthorized_client",
        "invalid_scope",
        "invalid_grant",
        "invalid_request",
        "unsupported_grant_type",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
        "rate_limit_exceeded",
    ];
    let code = match object.get("error")? {
        Value::String(code) => code.as_str(),
        Value::Object(error) => error
            .get("code")
            .and_then(Value::as_str)
            .unwrap_or("unknown"),
        _ => return None,
    };
    if code.is_empty() {
        return None;
    }
    Some(
        KNOWN
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(code))
            .unwrap_or("an unknown error code"),
    )
}

/// A number, a float or a numeric string, in seconds.
fn seconds(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn stated(value: Option<&Value>) -> Stated {
    match value.and_then(seconds) {
        None => Stated::Nothing,
        Some(number) if number <= 0.0 => Stated::Over,
        Some(number) => Stated::For(positive(number)),
    }
}

fn positive(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn clamp(asked: Duration) -> Duration {
    asked.min(MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests;
