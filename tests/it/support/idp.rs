//! A scripted token endpoint.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use serde_json::{Value, json};

use super::Gate;
use super::upstream::{Body, Seen, Upstream, answer};

/// A call to the token endpoint.
#[derive(Debug)]
pub(crate) struct TokenCall {
    /// Counts from 1.
    pub(crate) number: usize,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl TokenCall {
    /// A field of the form or the JSON object that was sent.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(object) => object.get(name)?.as_str().map(str::to_owned),
            Err(_) => form_urlencoded::parse(&self.body)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned()),
        }
    }
}

/// The server; [`Idp::url`] is its token URL.
pub(crate) struct Idp(Upstream);

impl Idp {
    /// Hands out `token-1`, `token-2`, … for an hour each.
    pub(crate) async fn counting() -> Self {
        Self::start(|call| async move { token(&format!("token-{}", call.number)) }).await
    }

    /// The same, once the gate is open.
    pub(crate) async fn held(gate: &Gate) -> Self {
        let gate = gate.clone();
        let script = move |call: TokenCall| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                token(&format!("token-{}", call.number))
            }
        };
        Self::start(script).await
    }

    /// Answers every call with `script`.
    pub(crate) async fn start<F>(script: impl Fn(TokenCall) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Upstream::start(numbered(script)).await)
    }

    /// The same behind TLS.
    pub(crate) async fn with_tls<F>(
        tls: Arc<ServerConfig>,
        script: impl Fn(TokenCall) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Upstream::with_tls(tls, numbered(script)).await)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/token", self.0.url())
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.0.count()
    }

    /// Every call as it arrived.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen()
    }

    /// Waits until it was called so often.
    pub(crate) async fn reached_by(&self, calls: usize) {
        self.0.reached_by(calls).await;
    }
}

fn numbered<F>(script: impl Fn(TokenCall) -> F) -> impl Fn(Request<Bytes>) -> F {
    let calls = AtomicUsize::new(0);
    move |request| {
        let (head, body) = request.into_parts();
        script(TokenCall {
            number: calls.fetch_add(1, Ordering::SeqCst) + 1,
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body,
        })
    }
}

/// A reply with an access token for an hour.
pub(crate) fn token(text: &str) -> Response<Body> {
    reply(
        200,
        &json!({"access_token": text, "token_type": "bearer", "expires_in": 3600}),
    )
}

/// A JSON reply.
pub(crate) fn reply(status: u16, body: &Value) -> Response<Body> {
    let mut reply = answer(status, body.to_string());
    let json = http::HeaderValue::from_static("application/json");
    reply.headers_mut().insert("content-type", json);
    reply
}
