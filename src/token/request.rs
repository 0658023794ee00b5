//! Token request: one call to the token endpoint, in the provider's dialect.
//!
//! A call has a connection of its own: a pooled one might be dead, and then nobody could say whether a
//! refresh token was used up. No redirects, no cookies; sizes and times are limited. Whether to ask at
//! all, and with which grant, is decided elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE as BASE64_URL};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HOST, LOCATION,
    RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;

use super::call_log::{CallLog, ResponseHead};
use super::client_auth::{Credential, NoHeaderValue, Unencoded, form_encode};
use super::failure::{Detail, Failure};
use super::response::coding::MAX_BYTES;
use super::response::{self, Body, RawResponse, TokenResponse};
use crate::upstream::connect::{self, Connector, Steps, lacks_close_notify};
use bursar_base::clock;
use bursar_base::secret::Secret;
use bursar_config::{Encoding, Origin, Refresh, TokenDialect, port_of};
use bursar_http::one_shot::OneShot;
use bursar_http::read_body::{ReadError, read_limited};
use bursar_http::response::{Outstanding, Reader, ResponseError};
use bursar_telemetry::metrics::Cause;
use bursar_telemetry::metrics::DroppedFields;

/// Longer names in a response's head are not shown.
const MAX_SHOWN: usize = 100;

/// What is offered to the token endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grant<'a> {
    ClientCredentials { scopes: &'a str },
    RefreshToken(&'a Secret),
}

/// Carries requests to token endpoints. There is one over sockets; tests of renewal and back-off bring
/// one in memory, because a paused clock and sockets do not go together.
pub(super) trait Transport: Send + Sync + 'static {
    /// Sends one request and reads the response; `calls` are told how far that has come.
    fn call<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        calls: &'a CallLog,
    ) -> Pin<Box<dyn Future<Output = Result<RawResponse, Failure>> + Send + 'a>>;
}

/// Asks for a token once, and gives it up after `token.timeout`, or when `overdue` ends.
pub(super) async fn request_token(
    transport: &dyn Transport,
    dialect: &TokenDialect,
    credential: Credential<'_>,
    grant: Grant<'_>,
    calls: &CallLog,
    overdue: impl Future<Output = ()>,
) -> Result<TokenResponse, Failure> {
    let request = build(dialect, credential, grant).map_err(|NoHeaderValue| {
        Failure::Rejected(Detail::Is("the credentials fit no header"), None)
    })?;
    let mut calling = transport.call(request, calls);
    let in_time = tokio::time::timeout(dialect.timeout, calling.as_mut());
    let called = tokio::select! {
        biased;
        called = in_time => called.ok(),
        () = overdue => None,
    };
    let called = called.unwrap_or_else(|| {
        calls.give_up();
        drop(calling);
        // Where there was no connection yet, that is known now.
        Err(calls
            .cause()
            .map_or(Failure::TimedOut, Failure::NoConnection))
    });
    let is_secret = |text: &str| repeats_secret(text, dialect, credential, grant);
    calls.leave_out(is_secret);
    let raw = called?;
    response::read(&raw, &dialect.response, is_secret)
}

/// Whether a text of the response repeats a part of what the request told, as it is or as it was sent.
fn repeats_secret(
    text: &str,
    dialect: &TokenDialect,
    credential: Credential<'_>,
    grant: Grant<'_>,
) -> bool {
    let client = credential.client();
    let refresh_token = match grant {
        Grant::ClientCredentials { .. } => None,
        Grant::RefreshToken(token) => Some(token.expose()),
    };
    let params = dialect.params.iter().map(|(_, value)| value.expose());
    let plain = [client.id.expose(), client.secret.expose()];
    let plain = plain.into_iter().chain(refresh_token).chain(params);
    let is_repeated = |plain: &str| {
        response::repeats(text, plain)
            || response::repeats(text, &form_encode(plain))
            || response::repeats(text, &BASE64.encode(plain))
            || response::repeats(text, &BASE64_URL.encode(plain))
    };
    let pairs = [client.pair(), client.form_encoded_pair()];
    let mut pairs = pairs.iter().map(|pair| BASE64.encode(pair.expose()));
    plain.into_iter().any(is_repeated) || pairs.any(|pair| response::repeats(text, &pair))
}

fn build(
    dialect: &TokenDialect,
    credential: Credential<'_>,
    grant: Grant<'_>,
) -> Result<Request<Full<Bytes>>, NoHeaderValue> {
    let mut request = Unencoded::default();
    let mut url = &dialect.url;
    match grant {
        // The provider's refresh endpoint takes the token and nothing else.
        Grant::RefreshToken(token) if dialect.refresh == Refresh::Endpoint => {
            url = dialect.refresh_url.as_ref().unwrap_or(url);
            request.fields.push(("refresh_token", token.expose()));
        }
        Grant::RefreshToken(token) => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.expose()),
            ];
            request.fields.extend(fields);
            credential.authenticate(&mut request)?;
        }
        Grant::ClientCredentials { scopes } => {
            request.fields.push(("grant_type", "client_credentials"));
            if !scopes.is_empty() {
                request.fields.push(("scope", scopes));
            }
            let params = dialect.params.iter();
            let params = params.map(|(name, value)| (name.as_str(), value.expose()));
            request.fields.extend(params);
            credential.authenticate(&mut request)?;
        }
    }
    encode(url, dialect.encoding, request)
}

fn encode(
    url: &Uri,
    encoding: Encoding,
    unencoded: Unencoded<'_>,
) -> Result<Request<Full<Bytes>>, NoHeaderValue> {
    let (content_type, body) = encode_body(encoding, &unencoded.fields);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, host(url).ok_or(NoHeaderValue)?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // Without it any content coding is as good as none (RFC 9110 section 12.5.3).
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("bursar/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(authorization) = unencoded.authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    Ok(request)
}

/// `Host`: without a dot at the end of the name, and without the scheme's own port.
fn host(url: &Uri) -> Option<HeaderValue> {
    let scheme = url.scheme()?.clone();
    let origin = Origin::new(scheme, url.host()?, port_of(url)).ok()?;
    HeaderValue::from_str(origin.authority.as_str()).ok()
}

fn encode_body(encoding: Encoding, fields: &[(&str, &str)]) -> (&'static str, Bytes) {
    match encoding {
        Encoding::Form => {
            let body = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(fields)
                .finish();
            ("application/x-www-form-urlencoded", body.into())
        }
        Encoding::Json => {
            let object: serde_json::Map<_, _> = fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect();
            (
                "application/json",
                serde_json::Value::Object(object).to_string().into(),
            )
        }
    }
}

/// Token calls over sockets.
pub(super) struct HttpTransport {
    pub(super) connector: Connector,
    pub(super) dropped: Arc<DroppedFields>,
}

impl Transport for HttpTransport {
    fn call<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        calls: &'a CallLog,
    ) -> Pin<Box<dyn Future<Output = Result<RawResponse, Failure>> + Send + 'a>> {
        Box::pin(self.exchange(request, calls))
    }
}

impl HttpTransport {
    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        calls: &CallLog,
    ) -> Result<RawResponse, Failure> {
        let url = request.uri().clone();
        calls.begin(&url);
        let mut connecting = Connecting {
            connector: &self.connector,
            url: &url,
            steps: Steps::default(),
            calls,
            has_ended: false,
        };
        let connected = connecting.connected().await.map_err(|failed| {
            let connect::Failed { error, peer } = &*failed;
            calls.not_connected(peer, error.cause(), error.details());
            match error {
                connect::Error::NotAllowed(rule) => Failure::NotAllowed(*rule),
                error => Failure::NoConnection(error.cause()),
            }
        })?;
        let peer = connected.peer.clone();
        calls.connected(&peer);
        let unsent = |cause, error: &dyn std::error::Error| {
            calls.not_connected(&peer, cause, connect::details(error));
            Failure::NoConnection(cause)
        };
        let outstanding = Outstanding::new();
        outstanding.begin(request.method());
        let stream = connected.into_server_stream();
        let stream = Reader::new(stream, outstanding.clone(), self.dropped.clone());
        // It ends with the exchange.
        let mut connection = OneShot::over(TokioIo::new(stream))
            .await
            .map_err(|error| unsent(Cause::Reset, &error))?;
        *request.uri_mut() = origin_form(&url);
        let responding = connection.send(request).await;
        let mut response = responding.map_err(|error| match lacks_close_notify(&error) {
            _ if peer.is_refused() => unsent(Cause::TlsClientCertificate, &error),
            true => Failure::NoCloseNotify,
            false => ResponseError::behind(&error).map_or(Failure::Broken, |error| {
                Failure::Malformed(Detail::Unframed(error))
            }),
        })?;
        outstanding.complete(&mut response);
        calls.responded(shown(&response));
        let (head, body) = response.into_parts();
        let body = match read_limited(body, MAX_BYTES).await {
            Ok(body) => Body::Whole(body),
            Err(ReadError::TooLarge) => Body::TooLarge,
            Err(ReadError::Broken(error)) => Body::CutOff {
                lacks_close_notify: lacks_close_notify(&error),
            },
        };
        Ok(RawResponse {
            status: head.status,
            retry_after: retry_after(&head.headers),
            codings: codings(&head.headers),
            body,
        })
    }
}

/// Connects for a call, which may be given up for its time before connecting has an end of its own. Then that is told as
/// it is told of a connection that timed out by itself.
struct Connecting<'a> {
    connector: &'a Connector,
    url: &'a Uri,
    steps: Steps,
    calls: &'a CallLog,
    has_ended: bool,
}

impl Connecting<'_> {
    async fn connected(&mut self) -> Result<connect::Connected, Box<connect::Failed>> {
        let connecting = self.connector.connect_by(self.url, &self.steps);
        let connected = connecting.await;
        self.has_ended = true;
        connected
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        if !self.has_ended && self.calls.is_given_up() {
            let connect::Failed { error, peer } = &*self.connector.timed_out(self.url, &self.steps);
            self.calls
                .not_connected(peer, error.cause(), error.details());
        }
    }
}

/// What can be shown of a response's head. It may hold anything, so only what has the form of a media type, or of a
/// host, is.
fn shown<B>(response: &http::Response<B>) -> ResponseHead {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let media_type = text(CONTENT_TYPE).and_then(|value| {
        let is_of_a_type = |byte: u8| byte.is_ascii_alphanumeric() || b"/+-.".contains(&byte);
        let media_type = value.split(';').next().unwrap_or_default().trim();
        let is_one = media_type.len() <= MAX_SHOWN && media_type.bytes().all(is_of_a_type);
        is_one.then(|| media_type.to_ascii_lowercase().into())
    });
    let location: Option<Uri> = text(LOCATION).and_then(|value| value.trim().parse().ok());
    let authority = location.as_ref().and_then(Uri::authority);
    let redirect_host = authority.and_then(|authority| {
        let host = authority.host();
        let host = match authority.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        (host.len() <= MAX_SHOWN).then(|| host.into())
    });
    ResponseHead {
        status: response.status(),
        media_type,
        redirect_host: redirect_host.filter(|_| response.status().is_redirection()),
    }
}

fn origin_form(url: &Uri) -> Uri {
    url.path_and_query()
        .cloned()
        .map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// The longest wait that the fields ask for (RFC 9110 section 10.2.3): seconds, of which some send fractions or a
/// list, or a date. A date is by the server's clock, which `Date` tells, and not by the one here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let now = date.unwrap_or_else(clock::wall);
    let fields = headers.get_all(RETRY_AFTER).iter();
    let texts = fields.filter_map(|field| {
        field
            .to_str()
            .ok()
            .map(|text| text.trim().trim_matches('"'))
    });
    let read = |text: &str| match httpdate::parse_http_date(text) {
        Ok(until) => Some(until.duration_since(now).unwrap_or_default()),
        Err(_no_date) => text
            .split(',')
            .filter_map(|part| seconds(part.trim()))
            .max(),
    };
    texts.filter_map(read).max()
}

fn seconds(text: &str) -> Option<Duration> {
    let is_number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let number = Some(text).filter(|text| text.bytes().all(is_number))?;
    // More than there is room for is more than is waited.
    Some(Duration::try_from_secs_f64(number.parse().ok()?).unwrap_or(Duration::MAX))
}

/// All content codings, in the order of their making.
fn codings(headers: &HeaderMap) -> String {
    let fields = headers.get_all(CONTENT_ENCODING).iter();
    let texts: Vec<&str> = fields.filter_map(|field| field.to_str().ok()).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::client_auth::ClientSecret;
    use bursar_config::{ClientAuth, Config, SecretName};

    #[test]
    fn retry_after_is_read_in_every_form_that_says_a_time() {
        let of = |texts: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
            }
            retry_after(&headers)
        };
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (text, expected) in [
            ("120", seconds(120.0)),
            (" 7\t", seconds(7.0)),
            ("1.5", seconds(1.5)),
            ("\"30\"", seconds(30.0)),
            ("0", seconds(0.0)),
            ("30, 45", seconds(45.0)),
            ("99999999999999999999999999", Some(Duration::MAX)),
            ("-5", None),
            ("", None),
            ("soon", None),
            ("1e3", None),
            ("inf", None),
        ] {
            assert_eq!(of(&[text]), expected, "{text}");
        }
        assert_eq!(of(&["5", "soon", "60"]), seconds(60.0));
        assert_eq!(of(&[]), None);
        let past = [
            "Thu, 01 Jan 1970 00:00:10 GMT",
            "Thursday, 01-Jan-70 00:00:10 GMT",
            "Thu Jan  1 00:00:10 1970",
        ];
        for date in past {
            assert_eq!(of(&[date]), seconds(0.0), "{date}");
        }
        let soon = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(90));
        let wait = of(&[&soon]).unwrap().as_secs();
        assert!((80..=90).contains(&wait), "{wait}");
    }

    #[test]
    fn a_date_to_retry_after_is_by_the_clock_of_the_server() {
        let of = |date: &'static str| {
            let mut headers = HeaderMap::new();
            let until = HeaderValue::from_static("Sun, 29 Nov 2026 12:02:00 GMT");
            headers.insert(RETRY_AFTER, until);
            headers.insert(DATE, HeaderValue::from_static(date));
            retry_after(&headers)
        };
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        assert_eq!(of("Sun, 29 Nov 2026 12:00:00 GMT"), minutes(2));
        assert_eq!(of("Sun, 29 Nov 2026 12:03:00 GMT"), minutes(0));
    }

    #[test]
    fn what_was_told_is_known_again_in_every_form_in_which_it_may_have_been_sent() {
        let yaml = "providers: {acme: {hosts: [a.test], client_id: '+/+/+/id', client_secret: '?>?>?>?>?>?>', token: {url: 'https://b.test/', params: {extra: '==/==/=='}}}}";
        let config = Config::parse(yaml, std::path::Path::new("")).unwrap();
        let provider = &config.providers[0];
        let account = &provider.accounts[0];
        let client = ClientSecret {
            id: &account.client_id,
            secret: account.secret(SecretName::Current).unwrap(),
        };
        let credential = Credential::of_secret(client, ClientAuth::Body);
        let refresh_token = Secret::new("//=//=//".to_owned());
        let told = |text: &str, grant: Grant<'_>| {
            let text = format!("error: {text}.");
            repeats_secret(&text, &provider.token, credential, grant)
        };
        let grant = Grant::RefreshToken(&refresh_token);
        let all = ["+/+/+/id", "?>?>?>?>?>?>", "==/==/==", "//=//=//"];
        for plain in all {
            for text in [
                plain.to_owned(),
                form_encode(plain),
                BASE64.encode(plain),
                BASE64_URL.encode(plain),
            ] {
                assert!(told(&text, grant), "{plain} {text}");
            }
        }
        let pair = BASE64.encode("+/+/+/id:?>?>?>?>?>?>");
        assert!(told(&pair, grant));
        assert!(!told("invalid_client", grant));
        // No refresh token was told.
        let without = Grant::ClientCredentials { scopes: "" };
        assert!(!told("//=//=//", without) && told("==/==/==", without));
    }
}
