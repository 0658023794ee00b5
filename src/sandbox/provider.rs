//! How do the providers behave? Emulations, one per row of [`DIALECTS`].
//!
//! Modelled on the providers' own documents: PayLater's Keycloak (form, refresh token grant with client
//! authentication and rotation, `invalid_client`), PayU's token service (Doorkeeper-shaped: a scope per
//! operation, `created_at`, remaining `expires_in`, revocation with an empty answer), Alternative
//! Payments (HTTP Basic, 403 for bad credentials) and Quidkey (JSON, wrapped replies, a refresh endpoint
//! that takes the token alone). They are for trying Bursar and for its tests; nothing real can be had.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::path::Pattern;

/// Larger bodies are cut off.
const MAX_BODY_BYTES: usize = 512 << 20;
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How one provider differs from the others.
#[derive(Debug)]
pub(super) struct Dialect {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) client_id: &'static str,
    pub(super) client_secret: &'static str,
    pub(super) token_path: &'static str,
    pub(super) refresh_path: Option<&'static str>,
    revoke_path: Option<&'static str>,
    credentials: Credentials,
    /// How long refresh tokens live; None: there are none.
    refresh_lifetime: Option<Duration>,
    /// Whether a refresh hands out a new refresh token, and the old one is over.
    rotates: bool,
    /// Whether replies are wrapped in `data`.
    wraps: bool,
    bad_credentials: (u16, &'static str),
    unauthorized: &'static str,
    /// Method, path and the scope that a token must have; none: any token will do.
    scopes: &'static [(&'static str, &'static str, &'static str)],
    /// Further keys of the provider in the sandbox's configuration.
    pub(super) extra_configuration: &'static str,
    /// The end of a `curl` line.
    pub(super) example: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    Form,
    Json,
    Basic,
}

/// What follows `curl` and the proxy's address.
pub(super) const PAYU_EXAMPLE: &str =
    "http://uatoneapi.payu.in/payment-links --json '{\"subAmount\":10}'";

/// The four.
pub(super) static DIALECTS: [Dialect; 4] = [
    Dialect {
        name: "paylater",
        title: "PayLater: create a checkout",
        client_id: "merchant-900",
        client_secret: "sandbox-paylater+t/x",
        token_path: "/auth/realms/api/protocol/openid-connect/token",
        refresh_path: None,
        revoke_path: None,
        credentials: Credentials::Form,
        refresh_lifetime: Some(Duration::from_secs(1800)),
        rotates: true,
        wraps: false,
        bad_credentials: (
            401,
            r#"{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}"#,
        ),
        unauthorized: r#"{"error":"Invalid API Key"}"#,
        scopes: &[],
        extra_configuration: "",
        example: "http://connect.uat.paylaterapp.com/api/paylater/merchant-portal/v2/web-checkout --json '{\"order_id\":\"1001\"}'",
    },
    Dialect {
        name: "payu",
        title: "PayU: create a payment link (its token has just the scope for that)",
        client_id: "5f0c1d7e9a3b",
        client_secret: "sandbox-payu",
        token_path: "/oauth/token",
        refresh_path: None,
        revoke_path: Some("/oauth/revoke"),
        credentials: Credentials::Form,
        refresh_lifetime: None,
        rotates: false,
        wraps: false,
        bad_credentials: (
            401,
            r#"{"error":"invalid_client","error_description":"Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method."}"#,
        ),
        unauthorized: r#"{"status":401,"error":"Unauthorized","message":"Access is denied"}"#,
        scopes: &[
            ("POST", "/payment-links", "create_payment_links"),
            ("GET", "/payment-links/**", "read_payment_links"),
            ("PUT", "/payment-links/*", "update_payment_links"),
            ("POST", "/payment-links/*/share", "read_payment_links"),
            ("POST", "/api/v3/merchants", "refer_merchant"),
        ],
        extra_configuration: ", merchant_id: \"8123456\"",
        example: PAYU_EXAMPLE,
    },
    Dialect {
        name: "alternative_payments",
        title: "Alternative Payments: list invoices",
        client_id: "ap_id",
        client_secret: "sandbox:alternative",
        token_path: "/oauth/token",
        refresh_path: None,
        revoke_path: None,
        credentials: Credentials::Basic,
        refresh_lifetime: None,
        rotates: false,
        wraps: false,
        bad_credentials: (403, r#"{"message":"Invalid credentials"}"#),
        unauthorized: r#"{"error":{"message":"missing or expired access_token"}}"#,
        scopes: &[],
        extra_configuration: "",
        example: "http://public-api.demo.alternativepayments.io/invoices",
    },
    Dialect {
        name: "quidkey",
        title: "Quidkey: request a payment",
        client_id: "11111111-2222-3333-4444-555555555555",
        client_secret: "sandbox-quidkey",
        token_path: "/api/v1/oauth2/token",
        refresh_path: Some("/api/v1/oauth2/refresh"),
        revoke_path: None,
        credentials: Credentials::Json,
        refresh_lifetime: Some(Duration::from_secs(24 * 60 * 60)),
        rotates: false,
        wraps: true,
        bad_credentials: (
            401,
            r#"{"success":false,"error":{"code":"INVALID_CREDENTIALS","message":"client id or secret is wrong"}}"#,
        ),
        unauthorized: r#"{"success":false,"error":{"code":"INVALID_TOKEN","message":"expired"}}"#,
        scopes: &[],
        extra_configuration: "",
        example: "http://core-dev.quidkey.com/api/v1/payment-requests -H 'Idempotency-Key: 1001' --json '{\"amount\":10}'",
    },
];

/// A running emulation.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) dialect: &'static Dialect,
    pub(super) address: SocketAddr,
}

/// What a provider remembers.
#[derive(Debug)]
struct Service {
    dialect: &'static Dialect,
    lifetime: Duration,
    issued: Mutex<Issued>,
}

#[derive(Debug, Default)]
struct Issued {
    access: HashMap<String, (Instant, String)>,
    refresh: HashMap<String, Instant>,
}

impl Provider {
    pub(super) async fn start(
        dialect: &'static Dialect,
        tls: Arc<ServerConfig>,
        lifetime: Duration,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let service = Arc::new(Service {
            dialect,
            lifetime,
            issued: Mutex::default(),
        });
        tokio::spawn(async move {
            let tls = TlsAcceptor::from(tls);
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        drop(tokio::spawn(serve(service.clone(), tls.clone(), stream)))
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Self { dialect, address })
    }
}

async fn serve(service: Arc<Service>, tls: TlsAcceptor, stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    // A caller that leaves is no news.
    if is_http2 {
        drop(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(io, answer)
                .await,
        );
    } else {
        drop(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, answer)
                .await,
        );
    }
}

impl Service {
    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let dialect = self.dialect;
        let mut body = Limited::new(body, MAX_BODY_BYTES);
        let is_post = head.method == http::Method::POST;
        let own = [
            Some(dialect.token_path),
            dialect.refresh_path,
            dialect.revoke_path,
            Some("/sandbox/revoke"),
        ];
        if !own.into_iter().flatten().any(|own| own == path) {
            let mut bytes = 0;
            while let Some(Ok(frame)) = body.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
            return self.api(&head, bytes);
        }
        let mut fields = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            fields.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        match path.as_str() {
            _ if !is_post => plain(405, "{}"),
            "/sandbox/revoke" => {
                let revoked = std::mem::take(&mut self.issued().access).len();
                reply(200, &json!({ "revoked": revoked }))
            }
            path if Some(path) == dialect.revoke_path => self.revoke(&fields),
            path if Some(path) == dialect.refresh_path => self.refresh_endpoint(&fields),
            _ => self.token(&head.headers, &fields),
        }
    }

    /// The API: every path answers, if the token is good.
    fn api(&self, head: &Parts, bytes: usize) -> Response<Full<Bytes>> {
        let now = Instant::now();
        let authorization = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let scope = token.and_then(|token| {
            let issued = self.issued();
            issued
                .access
                .get(token)
                .filter(|(expires, _)| now < *expires)
                .map(|(_, scope)| scope.clone())
        });
        let Some(scope) = scope else {
            return plain(401, self.dialect.unauthorized);
        };
        let needed = self.dialect.scopes.iter().find(|(method, path, _)| {
            head.method == *method
                && Pattern::parse(path).is_ok_and(|pattern| pattern.matches(head.uri.path()))
        });
        // PayU answers a missing scope with 401, too.
        if needed.is_some_and(|(_, _, needed)| !scope.split(' ').any(|scope| scope == *needed)) {
            return plain(401, self.dialect.unauthorized);
        }
        reply(
            200,
            &json!({
                "provider": self.dialect.name,
                "method": head.method.as_str(),
                "path": head.uri.path(),
                "token_scope": scope,
                "merchant": head.headers.get("merchantid").and_then(|value| value.to_str().ok()),
                "received_bytes": bytes,
            }),
        )
    }

    fn token(&self, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        let dialect = self.dialect;
        let fields: HashMap<String, String> = match dialect.credentials {
            Credentials::Json => serde_json::from_slice(body).unwrap_or_default(),
            Credentials::Form | Credentials::Basic => {
                form_urlencoded::parse(body).into_owned().collect()
            }
        };
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let authenticated = match dialect.credentials {
            Credentials::Basic => {
                let expected =
                    BASE64.encode(format!("{}:{}", dialect.client_id, dialect.client_secret));
                headers
                    .get(AUTHORIZATION)
                    .is_some_and(|value| *value == format!("Basic {expected}"))
            }
            Credentials::Form | Credentials::Json => {
                field("client_id") == dialect.client_id
                    && field("client_secret") == dialect.client_secret
            }
        };
        if !authenticated {
            return plain(dialect.bad_credentials.0, dialect.bad_credentials.1);
        }
        match field("grant_type") {
            "client_credentials" => {
                let known =
                    |scope: &str| dialect.scopes.iter().any(|(_, _, known)| *known == scope);
                let scope = field("scope");
                let scopes = scope.split_whitespace().count();
                if !dialect.scopes.is_empty()
                    && (scopes == 0 || scopes > 3 || !scope.split_whitespace().all(known))
                {
                    return plain(
                        400,
                        r#"{"error":"invalid_scope","error_description":"The requested scope is invalid, unknown, or malformed."}"#,
                    );
                }
                self.issue(scope, dialect.refresh_lifetime.is_some())
            }
            "refresh_token" if dialect.rotates => {
                if !self.take_refresh(field("refresh_token")) {
                    return plain(
                        400,
                        r#"{"error":"invalid_grant","error_description":"Token is not active"}"#,
                    );
                }
                self.issue("", true)
            }
            _ => plain(
                400,
                r#"{"error":"unsupported_grant_type","error_description":"Unsupported grant_type"}"#,
            ),
        }
    }

    /// Quidkey's: the refresh token alone, which stays as it is.
    fn refresh_endpoint(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let fields: HashMap<String, String> = serde_json::from_slice(body).unwrap_or_default();
        let token = fields.get("refresh_token").map_or("", String::as_str);
        let known = self
            .issued()
            .refresh
            .get(token)
            .is_some_and(|expires| Instant::now() < *expires);
        if known {
            self.issue("", false)
        } else {
            plain(401, self.dialect.unauthorized)
        }
    }

    fn revoke(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let fields: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        if fields
            .get("client_secret")
            .is_none_or(|secret| secret != self.dialect.client_secret)
        {
            return plain(
                self.dialect.bad_credentials.0,
                self.dialect.bad_credentials.1,
            );
        }
        if let Some(token) = fields.get("token") {
            self.issued().access.remove(token);
        }
        plain(200, "")
    }

    fn take_refresh(&self, token: &str) -> bool {
        self.issued()
            .refresh
            .remove(token)
            .is_some_and(|expires| Instant::now() < expires)
    }

    fn issue(&self, scope: &str, with_refresh_token: bool) -> Response<Full<Bytes>> {
        let dialect = self.dialect;
        let now = Instant::now();
        let token = format!("{}-{:032x}", dialect.name, fastrand::u128(..));
        let mut fields = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.lifetime.as_secs(),
        });
        let mut issued = self.issued();
        issued.access.retain(|_, (expires, _)| now < *expires);
        issued.refresh.retain(|_, expires| now < *expires);
        issued
            .access
            .insert(token, (now + self.lifetime, scope.to_owned()));
        if let (Some(lifetime), true) = (dialect.refresh_lifetime, with_refresh_token) {
            let token = format!("{}-refresh-{:032x}", dialect.name, fastrand::u128(..));
            fields["refresh_token"] = json!(token);
            if dialect.rotates {
                fields["refresh_expires_in"] = json!(lifetime.as_secs());
                fields["not-before-policy"] = json!(0);
            }
            issued.refresh.insert(token, now + lifetime);
        }
        drop(issued);
        if !dialect.scopes.is_empty() {
            let created = clock::wall()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            fields["scope"] = json!(scope);
            fields["created_at"] = json!(created.as_secs());
        }
        if dialect.wraps {
            return reply(200, &json!({ "success": true, "data": fields }));
        }
        reply(200, &fields)
    }
}

fn reply(status: u16, value: &Value) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from(format!("{value}\n"))));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn plain(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
