//! Token response: what the endpoint said, read from a value alone, and lenient in what is accepted.
//!
//! The body is read as JSON whatever its content type says; fields that are not needed may have any type.
//! Nothing of the body gets into a [`Failure`] but the name of an error, and no name that has a part of a secret in it.

pub(super) mod coding;
mod json;
mod object;

use std::fmt;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::failure::{Detail, ErrorCode, Failure};
use bursar_base::secret::Secret;
use coding::{Decoded, Undecoded, decode};
use object::NoObject;

/// No call is put off for longer than that, whatever the endpoint asks for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// This many letters and digits in a row, some of each, are taken for a token, not for an error's name.
const TOKEN_LENGTH: usize = 20;

/// What the endpoint answered, unread.
#[derive(Debug)]
pub struct RawResponse {
    /// Its status.
    pub status: StatusCode,
    /// The `Retry-After` field, as a wait from now.
    pub retry_after: Option<Duration>,
    /// The `Content-Encoding` fields, as one list.
    pub codings: String,
    /// The body, at most 1 MiB of it.
    pub body: Body,
}

/// A response's body.
pub enum Body {
    /// All of it.
    Whole(bytes::Bytes),
    /// There is more than is read.
    TooLarge,
    /// The connection ended before it did.
    CutOff {
        /// Because TLS ended without close_notify.
        lacks_close_notify: bool,
    },
}

/// Without what may hold a token.
impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::TooLarge => "TooLarge",
            Self::CutOff { .. } => "CutOff",
        })
    }
}

/// A token, as the endpoint described it.
#[derive(Debug)]
pub(super) struct TokenResponse {
    pub(super) access_token: Secret,
    pub(super) lifetime: ExpiresIn,
    pub(super) refresh_token: Option<Secret>,
    pub(super) refresh_lifetime: ExpiresIn,
    /// The scopes granted, where the response names them.
    pub(super) scope: Option<String>,
    pub(super) oddities: Oddities,
}

/// What is odd about a token that can be used all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    /// Its lifetime is stated in no form that is known.
    is_lifetime_unreadable: bool,
    /// It began with its scheme.
    has_scheme: bool,
    /// It is said to be of another type than Bearer.
    is_of_another_type: bool,
}

impl Oddities {
    /// In words, which have nothing of the response.
    pub(super) fn remarks(self) -> impl Iterator<Item = &'static str> {
        [
            (
                self.is_lifetime_unreadable,
                "its expires_in is in no form that is known: token.default_lifetime is taken",
            ),
            (
                self.has_scheme,
                "its access_token began with `Bearer `, which was left out",
            ),
            (
                self.is_of_another_type,
                "its token_type is not Bearer, and it is sent as Bearer nevertheless",
            ),
        ]
        .into_iter()
        .filter_map(|(is_so, remark)| is_so.then_some(remark))
    }
}

/// A lifetime, as the endpoint stated it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ExpiresIn {
    /// Not at all, or not as a number.
    Unstated,
    /// Longer than nothing.
    For(Duration),
    /// Zero or less.
    Already,
}

impl TokenResponse {
    /// The scopes of `asked` that the response does not grant, space-joined; empty where it names none.
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

/// Reads a response; `pointer` leads to the object with the token. `is_secret` says of a text whether it repeats
/// something of the request that nobody may see.
pub(super) fn read(
    raw: &RawResponse,
    pointer: &str,
    is_secret: impl Fn(&str) -> bool,
) -> Result<TokenResponse, Failure> {
    let (status, retry_after) = (raw.status, raw.retry_after);
    let is_secret = |text: &str| looks_like_a_token(text) || is_secret(text);
    let object = match members(raw, is_secret) {
        Ok(object) => object,
        Err(what) => return Err(unreadable(raw, what)),
    };
    let error = error(&object, is_secret);
    let failed = object.get("success").is_some_and(is_false) || error.is_some();
    let body_retry_after = body_retry_after(&object);
    let root = Value::Object(object);
    if status.is_success() && !failed {
        let place = root.pointer(pointer).and_then(Value::as_object);
        let token = place.or(root.as_object()).map_or(Err(NO_TOKEN), token);
        if token.is_ok() || body_retry_after.is_none() {
            return token;
        }
    }
    let is_refusal = error.is_some_and(|error| error.is_one_of(&REFUSALS));
    let is_limit = error.is_some_and(|error| error.is_one_of(&LIMITS));
    if status == StatusCode::TOO_MANY_REQUESTS || is_limit || body_retry_after.is_some() {
        let asked = body_retry_after.max(retry_after).map(clamp);
        return Err(match is_refusal {
            true => Failure::LimitedOrRefused(asked),
            false => Failure::RateLimited(asked),
        });
    }
    let asked = retry_after.map(clamp);
    let detail = error.unwrap_or(Detail::Is("no error code"));
    // The code decides, not the status: PayU files everything under 401. Nor does a wait undo a refusal.
    Err(match status.as_u16() {
        code if detail.is_one_of(&SERVER_ERRORS) => match asked {
            Some(asked) => Failure::RetryLater(code, asked),
            None => Failure::ServerError(detail),
        },
        _ if detail.is_one_of(&ACCOUNT_REFUSALS) => Failure::Rejected(detail, asked),
        403 if is_refusal => Failure::Rejected(detail, asked),
        400..=499 if is_refusal && asked.is_some() => Failure::Rejected(detail, asked),
        _ if let Some(failure) = asked_to_wait(raw) => failure,
        401 | 403 => Failure::Rejected(detail, asked),
        _ if status.is_success() => Failure::Malformed(
            error.unwrap_or(Detail::Is("it reports a failure with a success status")),
        ),
        code => Failure::ErrorStatus(code, detail),
    })
}

/// Errors that say of the account itself that it is refused, at whatever status.
const ACCOUNT_REFUSALS: [&str; 3] = ["invalid_client", "unauthorized_client", "invalid_scope"];
/// Errors that refuse what was offered: these, and those that are about the grant.
const REFUSALS: [&str; 7] = [
    "invalid_client",
    "unauthorized_client",
    "invalid_scope",
    "invalid_grant",
    "invalid_request",
    "unsupported_grant_type",
    "access_denied",
];
/// Errors that are the endpoint's own.
const SERVER_ERRORS: [&str; 2] = ["server_error", "temporarily_unavailable"];
/// Errors that ask for fewer calls.
const LIMITS: [&str; 3] = ["rate_limit_exceeded", "slow_down", "too_many_requests"];

/// The longest wait that the body asks for.
fn body_retry_after(object: &Map<String, Value>) -> Option<Duration> {
    let nested = object
        .get("error")
        .and_then(|error| error.get("retry_after"));
    let waits = object.get("retry_after").into_iter().chain(nested);
    let numbers = waits.filter_map(seconds).filter(|number| *number >= 0.0);
    numbers.map(positive).max()
}

const NO_TOKEN: Failure = Failure::Malformed(Detail::Is("it has no access_token"));

/// What a response means whose body cannot be read.
fn unreadable(raw: &RawResponse, what: Detail) -> Failure {
    if raw.status == StatusCode::TOO_MANY_REQUESTS {
        return Failure::RateLimited(raw.retry_after.map(clamp));
    }
    if let Some(failure) = asked_to_wait(raw) {
        return failure;
    }
    match raw.status.as_u16() {
        // The status is the refusal (RFC 9110 section 15.5.2); 403 may be a firewall's.
        401 => Failure::Rejected(what, raw.retry_after.map(clamp)),
        code if !raw.status.is_success() => Failure::ErrorStatus(code, what),
        _ => match raw.body {
            Body::CutOff {
                lacks_close_notify: true,
            } => Failure::NoCloseNotify,
            Body::CutOff { .. } => Failure::Broken,
            Body::Whole(_) | Body::TooLarge => Failure::Malformed(what),
        },
    }
}

/// `Retry-After` counts for a server in trouble (RFC 9110 section 10.2.3), and with the 403 that some limit
/// rates with.
fn asked_to_wait(raw: &RawResponse) -> Option<Failure> {
    let asked = raw.retry_after.map(clamp)?;
    match raw.status {
        StatusCode::FORBIDDEN => Some(Failure::LimitedOrRefused(Some(asked))),
        status if status.is_server_error() => Some(Failure::RetryLater(status.as_u16(), asked)),
        _ => None,
    }
}

/// The members of the object that the body is; else what it is instead.
fn members(
    raw: &RawResponse,
    is_secret: impl Fn(&str) -> bool,
) -> Result<Map<String, Value>, Detail> {
    let body = match &raw.body {
        Body::Whole(body) => body,
        Body::TooLarge => return Err(Detail::Is("it is larger than 1 MiB")),
        Body::CutOff {
            lacks_close_notify: true,
        } => {
            return Err(Detail::Is(
                "its body breaks off: the connection ended without TLS close_notify",
            ));
        }
        Body::CutOff { .. } => return Err(Detail::Is("its body breaks off")),
    };
    let Decoded {
        body: decoded,
        trouble,
    } = decode(&raw.codings, body);
    let found = object::find(&decoded);
    let (Err(decoded), Some(trouble)) = (&found, trouble) else {
        return found.map_err(|(NoObject::Text(what) | NoObject::Bytes(what))| Detail::Is(what));
    };
    // It may not be compressed at all, whatever its label says.
    let decoded = *decoded;
    object::find(body).map_err(|plain| match (plain, decoded, trouble) {
        (NoObject::Text(what), ..) | (_, NoObject::Text(what), _) => Detail::Is(what),
        (.., Undecoded::Is(what)) => Detail::Is(what),
        (.., Undecoded::Unknown(name)) => {
            ErrorCode::new(&name).filter(|_| !is_secret(&name)).map_or(
                Detail::Is("its content coding is not known"),
                Detail::Coding,
            )
        }
    })
}

fn token(object: &Map<String, Value>) -> Result<TokenResponse, Failure> {
    let text = |name| match object.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    // Blanks around it are no part of it (RFC 6750 section 2.1), nor would they arrive.
    let access_token = text("access_token").map(|token| token.trim_matches([' ', '\t']).to_owned());
    let access_token = access_token
        .filter(|token| !token.is_empty())
        .ok_or(NO_TOKEN)?;
    let unprefixed = without_scheme(&access_token).map(str::to_owned);
    let has_scheme = unprefixed.is_some();
    let access_token = unprefixed.unwrap_or(access_token);
    // One with a character that was lost on the way would be another one.
    let is_intact = |text: &String| !text.contains(char::REPLACEMENT_CHARACTER);
    if HeaderValue::from_str(&access_token).is_err() || !is_intact(&access_token) {
        return Err(Failure::Malformed(Detail::Is(
            "it holds bytes that no header may hold",
        )));
    }
    if let Some(what) = no_token(&access_token) {
        return Err(Failure::Malformed(Detail::Is(what)));
    }
    let stated = object.get("expires_in");
    let lifetime = expires_in(stated);
    let is_bearer = |kind: &String| kind.is_empty() || kind.eq_ignore_ascii_case("bearer");
    Ok(TokenResponse {
        access_token: Secret::new(access_token),
        lifetime,
        oddities: Oddities {
            is_lifetime_unreadable: lifetime == ExpiresIn::Unstated
                && stated.is_some_and(|stated| !stated.is_null()),
            has_scheme,
            is_of_another_type: matches!(object.get("token_type"), Some(Value::String(kind)) if !is_bearer(kind)),
        },
        refresh_token: text("refresh_token").filter(is_intact).map(Secret::new),
        refresh_lifetime: expires_in(object.get("refresh_expires_in")),
        scope: object.get("scope").and_then(scope),
    })
}

/// A token after its scheme, where some put that before it.
fn without_scheme(token: &str) -> Option<&str> {
    let (scheme, token) = token.split_once([' ', '\t'])?;
    let token = token.trim_start_matches([' ', '\t']);
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Why a text is no token: RFC 6750 section 2.1 has fewer characters than these, and some servers have all of them.
fn no_token(token: &str) -> Option<&'static str> {
    match token {
        "undefined" | "null" => Some("its access_token is the word `undefined` or `null`"),
        _ if token.bytes().all(|byte| byte.is_ascii_graphic()) => None,
        _ => Some("its access_token holds white space or a character that is not printable ASCII"),
    }
}

/// Space-joined, as RFC 6749 section 3.3 has it; some send an array.
fn scope(value: &Value) -> Option<String> {
    let scopes = match value {
        Value::String(scopes) => scopes.clone(),
        Value::Array(scopes) => {
            let scopes: Option<Vec<&str>> = scopes.iter().map(Value::as_str).collect();
            scopes?.join(" ")
        }
        _ => return None,
    };
    Some(scopes).filter(|scopes| !scopes.is_empty())
}

/// The error that a response names, if it names one. What might be a secret is only known to be there.
fn error(object: &Map<String, Value>, is_secret: impl Fn(&str) -> bool) -> Option<Detail> {
    let code = match object.get("error") {
        Some(Value::String(code)) if code.is_empty() => return None,
        Some(Value::String(code)) => Some(code.as_str()),
        Some(Value::Object(error)) => error.get("code").and_then(Value::as_str),
        None => return elsewhere(object),
        Some(_) => return None,
    };
    let known = code.and_then(known_error);
    let unknown = Detail::Is("an unknown error code");
    let Some(code) = code else {
        return Some(unknown);
    };
    let is_token = |name: &str| {
        let token = object.get(name).and_then(Value::as_str);
        token.is_some_and(|token| repeats(code, token))
    };
    let is_hidden = || {
        known.is_none()
            && (is_secret(code)
                || ["access_token", "refresh_token", "id_token"]
                    .into_iter()
                    .any(is_token))
    };
    let shown = ErrorCode::new(known.unwrap_or(code)).filter(|_| !is_hidden());
    Some(shown.map_or(unknown, Detail::Code))
}

/// The error of a response that has no `error`, under the names that others give it. They may mean anything else, so that
/// only what is known is taken for one.
fn elsewhere(object: &Map<String, Value>) -> Option<Detail> {
    let mut codes = ["errorCode", "error_code", "code"]
        .into_iter()
        .filter_map(|name| object.get(name)?.as_str());
    let known = codes.find_map(known_error)?;
    ErrorCode::new(known).map(Detail::Code)
}

/// An error that means something here, in any letter case.
fn known_error(code: &str) -> Option<&'static str> {
    let mut names = REFUSALS.into_iter().chain(SERVER_ERRORS).chain(LIMITS);
    names.find(|known| known.eq_ignore_ascii_case(code))
}

/// Whether a text and a secret have some part in common. A short secret is in too much to say anything, unless it
/// is a word of the text.
pub(super) fn repeats(text: &str, secret: &str) -> bool {
    const LONG: usize = 6;
    let (text, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let (text, secret) = (text.as_bytes(), secret.as_bytes());
    if secret.len() < LONG {
        let mut words = text.split(|byte| !byte.is_ascii_alphanumeric());
        return text == secret || !secret.is_empty() && words.any(|word| word == secret);
    }
    let mut parts = text.windows(LONG);
    parts.any(|part| secret.windows(LONG).any(|other| other == part))
}

fn looks_like_a_token(text: &str) -> bool {
    let mut runs = text.split(|character: char| !character.is_ascii_alphanumeric());
    runs.any(|run| {
        let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
        run.len() >= TOKEN_LENGTH && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
    })
}

fn is_false(value: &Value) -> bool {
    match value {
        Value::Bool(success) => !success,
        // In a form.
        Value::String(success) => success == "false",
        _ => false,
    }
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

fn expires_in(value: Option<&Value>) -> ExpiresIn {
    match value.and_then(seconds) {
        None => ExpiresIn::Unstated,
        Some(number) if number <= 0.0 => ExpiresIn::Already,
        Some(number) => ExpiresIn::For(positive(number)),
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
