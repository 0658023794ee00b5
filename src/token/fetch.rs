//! How is the token endpoint asked? One call, in the provider's dialect.
//!
//! A call has a connection of its own: a pooled one might be dead, and then nobody could say whether a
//! refresh token was used up. No redirects, no cookies; sizes and times are limited. Whether to ask at
//! all, and with which grant, is decided elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::reply::{self, Failure, Reply};
use crate::body::read_limited;
use crate::clock;
use crate::config::{ClientAuth, Encoding, Origin, Refresh, TokenDialect};
use crate::connect::{self, Connector};
use crate::metrics::DroppedFields;
use crate::response::{Outstanding, Reader};
use crate::secret::Secret;

/// The most that is read of an answer.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// What is offered to the token endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grant<'a> {
    ClientCredentials { scopes: &'a str },
    RefreshToken(&'a Secret),
}

/// Who asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) id: &'a Secret,
    pub(super) secret: &'a Secret,
}

/// What the endpoint answered, unread.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The `Retry-After` field, as a wait from now.
    pub retry_after: Option<Duration>,
    /// The body, at most 1 MiB of it.
    pub body: Bytes,
}

/// Carries requests to token endpoints. There is one over sockets; tests of renewal and back-off bring
/// one in memory, because a paused clock and sockets do not go together.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and reads the answer.
    fn call(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + '_>>;
}

/// Asks for a token once.
pub(super) async fn fetch(
    transport: &dyn Transport,
    dialect: &TokenDialect,
    credentials: Credentials<'_>,
    grant: Grant<'_>,
) -> Result<Reply, Failure> {
    let request = request(dialect, credentials, grant)
        .ok_or(Failure::Rejected("the credentials fit no header"))?;
    let answer = tokio::time::timeout(dialect.timeout, transport.call(request))
        .await
        .unwrap_or(Err(Failure::TimedOut))?;
    reply::read(
        answer.status,
        answer.retry_after,
        &answer.body,
        &dialect.response,
    )
}

/// None where the credentials hold bytes that no header may hold.
fn request(
    dialect: &TokenDialect,
    credentials: Credentials<'_>,
    grant: Grant<'_>,
) -> Option<Request<Full<Bytes>>> {
    let alone = dialect.refresh == Refresh::Endpoint && matches!(grant, Grant::RefreshToken(_));
    let url = match &dialect.refresh_url {
        Some(url) if alone => url,
        _ => &dialect.url,
    };
    let mut fields: Vec<(&str, &str)> = Vec::new();
    let mut authorization = None;
    if alone {
        // The provider's refresh endpoint takes the token and nothing else.
        if let Grant::RefreshToken(token) = grant {
            fields.push(("refresh_token", token.expose()));
        }
    } else {
        match grant {
            Grant::ClientCredentials { scopes } => {
                fields.push(("grant_type", "client_credentials"));
                if !scopes.is_empty() {
                    fields.push(("scope", scopes));
                }
                fields.extend(
                    dialect
                        .params
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.expose())),
                );
            }
            Grant::RefreshToken(token) => {
                fields.push(("grant_type", "refresh_token"));
                fields.push(("refresh_token", token.expose()));
            }
        }
        let (id, secret) = (credentials.id.expose(), credentials.secret.expose());
        match dialect.client_auth {
            ClientAuth::Body => fields.extend([("client_id", id), ("client_secret", secret)]),
            ClientAuth::Basic => authorization = Some(basic(id, secret)?),
            ClientAuth::BasicForm => {
                authorization = Some(basic(&form_encode(id), &form_encode(secret))?)
            }
        }
    }
    let (content_type, body) = encode(dialect.encoding, &fields);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, host(url)?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("bursar/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    Some(request)
}

/// `Host`: without a dot at the end of the name, and without the scheme's own port.
fn host(url: &Uri) -> Option<HeaderValue> {
    let scheme = url.scheme()?.clone();
    let own_port = if scheme == Scheme::HTTP { 80 } else { 443 };
    let port = url.port_u16().unwrap_or(own_port);
    let origin = Origin::new(scheme, url.host()?, port).ok()?;
    HeaderValue::from_str(origin.authority.as_str()).ok()
}

fn encode(encoding: Encoding, fields: &[(&str, &str)]) -> (&'static str, Bytes) {
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

fn basic(id: &str, secret: &str) -> Option<HeaderValue> {
    let pair = Secret::new(format!("{id}:{secret}"));
    let text = Secret::new(format!("Basic {}", BASE64.encode(pair.expose())));
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn form_encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Token calls over sockets.
pub(super) struct Sockets {
    pub(super) connector: Connector,
    /// For name, TCP and TLS: a call that takes longer than that was certainly never sent.
    pub(super) connect_timeout: Duration,
    pub(super) dropped: Arc<DroppedFields>,
}

impl Transport for Sockets {
    fn call(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + '_>> {
        Box::pin(self.exchange(request))
    }
}

impl Sockets {
    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let url = request.uri().clone();
        let connecting = self.connector.connect(url.clone());
        let connected = tokio::time::timeout(self.connect_timeout, connecting).await;
        let stream = connected
            .map_err(|_elapsed| Failure::Unreachable)?
            .map_err(|error| match error {
                connect::Error::NotAllowed(rule) => Failure::NotAllowed(rule),
                connect::Error::Unreachable(_) => Failure::Unreachable,
                connect::Error::Parent(_) => Failure::Parent,
                connect::Error::Tls(_) => Failure::Tls,
            })?;
        let outstanding = Outstanding::new();
        outstanding.begin(request.method());
        let stream = TokioIo::new(stream);
        let stream = Reader::new(stream, outstanding.clone(), self.dropped.clone());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_closed| Failure::Unreachable)?;
        // It ends with the exchange: dropping the sender and the response closes it.
        let driver = tokio::spawn(connection);
        *request.uri_mut() = origin_form(&url);
        let answered = async {
            let mut response = sender
                .send_request(request)
                .await
                .map_err(|_broken| Failure::Broken)?;
            outstanding.complete(&mut response);
            let (head, body) = response.into_parts();
            let body = read_limited(body, MAX_REPLY_BYTES)
                .await
                .map_err(|error| match error {
                    crate::body::ReadError::TooLarge => {
                        Failure::Malformed("it is larger than 1 MiB")
                    }
                    crate::body::ReadError::Broken(_) => Failure::Broken,
                })?;
            Ok(Answer {
                status: head.status,
                retry_after: retry_after(&head.headers),
                body,
            })
        }
        .await;
        driver.abort();
        answered
    }
}

fn origin_form(url: &Uri) -> Uri {
    url.path_and_query()
        .cloned()
        .map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(clock::wall()).unwrap_or_default())
}
