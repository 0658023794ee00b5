//! A scripted token endpoint.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::upstream::{Body, Seen, Upstream, answer};
use crate::{Latch, listen};

/// A call to the token endpoint.
#[derive(Debug)]
pub struct TokenCall {
    /// Counts from 1.
    pub number: usize,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl TokenCall {
    /// A field of the form or the JSON object that was sent.
    pub fn field(&self, name: &str) -> Option<String> {
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(object) => object.get(name)?.as_str().map(str::to_owned),
            Err(_) => form_urlencoded::parse(&self.body)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned()),
        }
    }
}

/// The server; [`Idp::url`] is its token URL.
pub struct Idp(Upstream);

impl Idp {
    /// Hands out `token-1`, `token-2`, … for an hour each.
    pub async fn counting() -> Self {
        Self::start(|call| async move { token(&format!("token-{}", call.number)) }).await
    }

    /// The same, once the latch is open.
    pub async fn held(latch: &Latch) -> Self {
        let latch = latch.clone();
        let script = move |call: TokenCall| {
            let latch = latch.clone();
            async move {
                latch.wait().await;
                token(&format!("token-{}", call.number))
            }
        };
        Self::start(script).await
    }

    /// Answers every call with `script`.
    pub async fn start<F>(script: impl Fn(TokenCall) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Upstream::start(numbered(script)).await)
    }

    /// The same behind TLS.
    pub async fn with_tls<F>(
        tls: Arc<ServerConfig>,
        script: impl Fn(TokenCall) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Upstream::with_tls(tls, numbered(script)).await)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub fn url(&self) -> String {
        format!("{}/token", self.0.url())
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.0.count()
    }

    /// Every call as it arrived.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen()
    }

    /// Waits until it was called so often.
    pub async fn reached_by(&self, calls: usize) {
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
pub fn token(text: &str) -> Response<Body> {
    reply(
        200,
        &json!({"access_token": text, "token_type": "bearer", "expires_in": 3600}),
    )
}

/// A JSON reply.
pub fn reply(status: u16, body: &Value) -> Response<Body> {
    let mut reply = answer(status, body.to_string());
    let json = http::HeaderValue::from_static("application/json");
    reply.headers_mut().insert("content-type", json);
    reply
}

/// A token endpoint that costs as little as it can, for benchmarks: a new token at every call, good for `lifetime`.
pub async fn cheap(lifetime: Duration) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut count = 0_u64;
        while let Ok((mut stream, _)) = listener.accept().await {
            count += 1;
            let seconds = lifetime.as_secs_f64();
            let body = format!(r#"{{"access_token":"token-{count:0>60}","expires_in":{seconds}}}"#);
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            tokio::spawn(async move {
                let mut request = [0; 4096];
                // The request is short and comes in one piece; what it says does not matter here.
                drop(stream.read(&mut request).await);
                drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
            });
        }
    });
    address
}
