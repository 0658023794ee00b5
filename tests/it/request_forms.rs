//! One matrix: every form in which a request can arrive, and what must hold in each of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bursar_config::Names;
use http::Request;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::caller::{Caller, Reply, Stream, basic};
use crate::support::idp::{self, Idp};
use crate::support::proxy::Proxy;
use crate::support::tls::{self, Authority};
use crate::support::upstream::{Body, Upstream, answer, full};
use crate::support::{Latch, soon};

/// The forms in which a request can arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Absolute,
    Gateway,
    Http2,
    Tunnel,
    TunnelOfHttp2,
    Http2InTunnel,
    Intercepted,
    InterceptedHttp2,
    InterceptedInHttp2,
    InterceptedOnPort80,
}

impl Form {
    const ALL: [Self; 10] = [
        Self::Absolute,
        Self::Gateway,
        Self::Http2,
        Self::Tunnel,
        Self::TunnelOfHttp2,
        Self::Http2InTunnel,
        Self::Intercepted,
        Self::InterceptedHttp2,
        Self::InterceptedInHttp2,
        Self::InterceptedOnPort80,
    ];

    /// Of `CONNECT`.
    fn port(self) -> Option<u16> {
        match self {
            Self::Absolute | Self::Gateway | Self::Http2 => None,
            Self::Tunnel | Self::TunnelOfHttp2 | Self::Http2InTunnel => Some(80),
            Self::InterceptedOnPort80 => Some(80),
            Self::Intercepted | Self::InterceptedHttp2 | Self::InterceptedInHttp2 => Some(443),
        }
    }

    /// The version on the connection to the proxy.
    fn outside(self) -> &'static str {
        match self {
            Self::Http2 | Self::TunnelOfHttp2 | Self::InterceptedInHttp2 => "h2",
            _ => "http/1.1",
        }
    }

    /// The version in which the request itself comes.
    fn inside(self) -> &'static str {
        match self {
            Self::Http2 | Self::Http2InTunnel | Self::InterceptedHttp2 => "h2",
            _ => "http/1.1",
        }
    }

    fn is_intercepted(self) -> bool {
        use Form::{Intercepted, InterceptedHttp2, InterceptedInHttp2, InterceptedOnPort80};
        [
            Intercepted,
            InterceptedHttp2,
            InterceptedInHttp2,
            InterceptedOnPort80,
        ]
        .contains(&self)
    }

    /// The usual answer to a caller that is not known.
    fn unauthenticated(self) -> u16 {
        match self {
            Self::Gateway | Self::Http2 => 401,
            _ => 407,
        }
    }

    /// A connection for requests to that host; the answer where a tunnel is refused.
    async fn connect(self, dial: &Dial<'_>, host: &str) -> Result<Caller, Reply> {
        let stream = dial.stream(self.outside()).await;
        let mut outer = speak(stream, self.outside()).await;
        let Some(port) = self.port() else {
            return Ok(outer);
        };
        if let Some(credentials) = &dial.credentials {
            outer.authorize(credentials);
        }
        let stream = TokioIo::new(outer.tunnel(&format!("{host}:{port}")).await?);
        // HTTP/2 ends with its tunnels.
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(outer);
        });
        if !self.is_intercepted() {
            return Ok(speak(Box::new(stream), self.inside()).await);
        }
        let trusted = tls::client(&dial.scene.file("ca.pem"), None, &[self.inside()]);
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = soon(TlsConnector::from(trusted).connect(name, stream)).await;
        let stream = stream.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol();
        assert_eq!(agreed, Some(self.inside().as_bytes()), "{self:?}");
        Ok(speak(Box::new(stream), self.inside()).await)
    }

    fn request(self, dial: &Dial<'_>, ask: &Ask) -> Request<Body> {
        let Ask {
            method,
            host,
            path,
            account,
        } = *ask;
        let mut request = match (self, self.inside()) {
            (Self::InterceptedHttp2, _) => Request::builder().uri(format!("https://{host}{path}")),
            (Self::Absolute, _) | (_, "h2") => {
                Request::builder().uri(format!("http://{host}{path}"))
            }
            _ => Request::builder().uri(path).header("host", host),
        };
        request = request.method(method).header("authorization", "Bearer own");
        request = request.header("x-http-method-override", "DELETE");
        if !account.is_empty() {
            request = request.header("bursar-account", account);
        }
        if let Some(credentials) = dial.credentials.as_ref().filter(|_| self.port().is_none()) {
            request = request.header("proxy-authorization", credentials);
        }
        let body = if method == "POST" { "body" } else { "" };
        request.body(full(body)).unwrap()
    }

    /// The answer to a request on a connection of its own, wherever it comes from.
    async fn ask(self, dial: &Dial<'_>, ask: &Ask) -> Reply {
        // Whoever asks for `other.test` in a tunnel asks in one that leads elsewhere.
        let tunnel = if ask.host == "other.test" {
            "api.test"
        } else {
            ask.host
        };
        match self.connect(dial, tunnel).await {
            Ok(mut caller) => caller.request(self.request(dial, ask)).await,
            Err(refused) => refused,
        }
    }
}

async fn speak(stream: Box<dyn Stream>, version: &str) -> Caller {
    match version {
        "h2" => Caller::over_http2(stream).await,
        _ => Caller::over(stream).await,
    }
}

/// What is asked for. An account that is empty is not named.
#[derive(Debug, Clone, Copy)]
struct Ask {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    account: &'static str,
}

const fn get(host: &'static str, path: &'static str) -> Ask {
    Ask {
        method: "GET",
        host,
        path,
        account: "default",
    }
}

const fn on_behalf_of(account: &'static str) -> Ask {
    Ask {
        account,
        ..get("api.test", "/api/x?q=1")
    }
}

const fn with(method: &'static str, path: &'static str) -> Ask {
    Ask {
        method,
        ..get("api.test", path)
    }
}

/// Who asks, and how the connection to the proxy is made.
struct Dial<'a> {
    scene: &'a Scene,
    proxy: &'a Proxy,
    credentials: Option<String>,
    /// TLS to the proxy, with that certificate or without one.
    tls: Option<Option<&'static str>>,
}

impl<'a> Dial<'a> {
    /// In clear; `caller` is a name and a password, or empty.
    fn clear(scene: &'a Scene, proxy: &'a Proxy, caller: &str) -> Self {
        let credentials = caller.split_once(':');
        let credentials = credentials.map(|(name, password)| basic(name, password));
        Self {
            scene,
            proxy,
            credentials,
            tls: None,
        }
    }

    async fn stream(&self, alpn: &str) -> Box<dyn Stream> {
        let stream = TcpStream::connect(self.proxy.listen).await.unwrap();
        let Some(shown) = self.tls else {
            return Box::new(stream);
        };
        let files =
            shown.map(|name| ["pem", "key"].map(|kind| self.scene.file(&format!("{name}.{kind}"))));
        let files = files
            .as_ref()
            .map(|[certificate, key]| (&**certificate, &**key));
        let config = tls::client(&self.scene.file("peers.pem"), files, &[alpn]);
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Box::new(
            soon(TlsConnector::from(config).connect(name, stream))
                .await
                .unwrap(),
        )
    }
}

/// An API that echoes, refuses the first token at `/api/401`, and answers `/api/held` when the latch is
/// open; and tokens that are called after their client.
struct Scene {
    api: Upstream,
    idp: Idp,
    latch: Latch,
    directory: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let latch = Latch::closed();
        let (held, refused) = (latch.clone(), Arc::new(AtomicBool::new(false)));
        let api = Upstream::start(move |request: Request<bytes::Bytes>| {
            let (held, refused) = (held.clone(), refused.clone());
            async move {
                match request.uri().path() {
                    "/api/held" => held.wait().await,
                    "/api/401" if !refused.swap(true, Ordering::SeqCst) => return answer(401, ""),
                    _ => {}
                }
                answer(200, request.into_body())
            }
        })
        .await;
        let idp = Idp::start(|call| async move {
            let client = call.field("client_id").unwrap();
            idp::token(&format!("{client}-{}", call.number))
        });
        let directory = tempfile::tempdir().unwrap();
        let hosts = ["api.test", "other.test", "inner.test"];
        crate::support::write_intercepting(directory.path(), &hosts);
        let authority = Authority::new();
        authority.write(&directory.path().join("peers.pem"));
        for (name, san) in [("server", "127.0.0.1"), ("till", "till.corp")] {
            let (certificate, key) = authority.sign(&[san], "");
            std::fs::write(directory.path().join(format!("{name}.pem")), certificate).unwrap();
            std::fs::write(directory.path().join(format!("{name}.key")), key).unwrap();
        }
        Self {
            api,
            idp: idp.await,
            latch,
            directory,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A proxy with these lines of `proxy.yaml`, where `inner.test` is a private address.
    async fn proxy(&self, top: &str) -> Proxy {
        let (api, token) = (self.api.url(), self.idp.url());
        let yaml = format!(
            "{top}
intercept: {{ca: {{certificate: ca.pem, key: ca.key}}}}
providers:
  acme:
    hosts: [api.test, other.test]
    upstream: {api}
    token: {{url: '{token}'}}
    client_id: own
    client_secret: s
    accounts: {{red: {{client_id: red, client_secret: s}}, blue: {{client_id: blue, client_secret: s}}}}
  inner: {{hosts: [inner.test], client_id: inner, client_secret: s, token: {{url: '{token}'}}}}
"
        );
        let names = [("inner.test".into(), vec!["10.0.0.1".parse().unwrap()])];
        let names = Names::Fixed(names.into_iter().collect());
        Proxy::start_naming(self.directory.path(), &yaml, names).await
    }
}

const CALLERS: &str = "callers:
  shop:
    password: p
    allow:
      - {provider: acme, methods: [GET, POST], paths: ['/api/**', '/token'], accounts: [default, red]}
      - inner
  few: {password: f, limits: {in_flight: 1}, allow: [acme]}
  far: {password: a, addresses: [192.0.2.0/24], allow: [acme]}";

/// What a request by `shop` meets: 200 and the client whose token goes on, or the status and the reason.
const FACTS: [(Ask, u16, &str); 14] = [
    (on_behalf_of("default"), 200, "own"),
    (on_behalf_of("red"), 200, "red"),
    (with("POST", "/api/x"), 200, "own"),
    (with("POST", "/api/401"), 200, "own"),
    (on_behalf_of("blue"), 403, "route_not_allowed"),
    (on_behalf_of("nobody"), 403, "route_not_allowed"),
    (on_behalf_of(""), 403, "route_not_allowed"),
    (with("DELETE", "/api/x"), 403, "route_not_allowed"),
    (with("GET", "/other"), 403, "route_not_allowed"),
    (with("GET", "/api/../other"), 403, "route_not_allowed"),
    (with("POST", "//%74oken;x"), 403, "token_endpoint_protected"),
    (with("TRACE", "/api/x"), 405, "method_not_allowed"),
    (get("other.test", "/api/x"), 421, "misdirected"),
    (
        Ask {
            account: "",
            ..get("inner.test", "/api/x")
        },
        403,
        "address_not_allowed",
    ),
];

#[tokio::test]
async fn what_holds_in_one_form_holds_in_every_form() {
    for form in Form::ALL {
        let scene = Scene::new().await;
        let proxy = scene.proxy(CALLERS).await;
        let shop = Dial::clear(&scene, &proxy, "shop:p");
        for (ask, status, expected) in FACTS {
            let before = scene.api.count();
            let reply = form.ask(&shop, &ask).await;
            let what = format!("{form:?} {ask:?}: {reply:?}");
            // Outside of tunnels there is nothing that a host could disagree with.
            let (status, expected) = match (status, form.port()) {
                (421, None) => (200, "own"),
                _ => (status, expected),
            };
            assert_eq!(reply.status, status, "{what}");
            let seen = scene.api.seen().split_off(before);
            if status != 200 {
                assert_eq!(reply.problem()["reason"], expected, "{what}");
                assert!(seen.is_empty(), "{what}: {seen:?}");
                continue;
            }
            // One request, or that and its replay with another token.
            let mut tokens: Vec<_> = seen
                .iter()
                .map(|seen| seen.all("authorization").concat())
                .collect();
            let count = if ask.path == "/api/401" { 2 } else { 1 };
            assert_eq!(tokens.len(), count, "{what}");
            tokens.dedup();
            assert_eq!(tokens.len(), count, "{what}: {tokens:?}");
            for (seen, token) in seen.iter().zip(&tokens) {
                assert!(
                    token.starts_with(&format!("Bearer {expected}-")),
                    "{what}: {token}"
                );
                assert_eq!(
                    (&*seen.target, seen.method.as_str()),
                    (ask.path, ask.method)
                );
                for gone in [
                    "bursar-account",
                    "proxy-authorization",
                    "x-http-method-override",
                ] {
                    assert!(seen.all(gone).is_empty(), "{what}: {gone}");
                }
                assert_eq!(seen.all("authorization").len(), 1, "{what}");
                assert_eq!(seen.body.as_deref().unwrap(), &*reply.body, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_is_served_in_any_form_without_what_the_caller_is_known_by() {
    let scene = Scene::new().await;
    let proxy = scene.proxy(CALLERS).await;
    for form in Form::ALL {
        for caller in ["", "shop:wrong", "nobody:p", "far:a"] {
            let reply = form
                .ask(&Dial::clear(&scene, &proxy, caller), &FACTS[0].0)
                .await;
            assert_eq!(reply.status, form.unauthenticated(), "{form:?} {caller}");
            assert_eq!(reply.problem()["reason"], "caller_unauthenticated");
            let challenge = match reply.status.as_u16() {
                401 => "www-authenticate",
                _ => "proxy-authenticate",
            };
            assert_eq!(reply.all(challenge).len(), 1, "{form:?} {reply:?}");
        }
    }
    assert_eq!(scene.api.count(), 0);
}

#[tokio::test]
async fn a_caller_is_known_by_certificate_or_address_in_every_form() {
    let scene = Scene::new().await;
    let proxy = scene
        .proxy(
            "tls: {certificate: server.pem, key: server.key, client_ca: peers.pem}
callers:
  till: {certificate: till.corp, allow: [{provider: acme, accounts: [red]}]}
  here: {addresses: [127.0.0.0/8], allow: [{provider: acme, accounts: [blue]}]}",
        )
        .await;
    for form in Form::ALL {
        for (shown, allowed, denied) in [(Some("till"), "red", "blue"), (None, "blue", "red")] {
            let dial = Dial {
                tls: Some(shown),
                ..Dial::clear(&scene, &proxy, "")
            };
            let reply = form.ask(&dial, &on_behalf_of(allowed)).await;
            assert_eq!(reply.status, 200, "{form:?} {shown:?} {reply:?}");
            let seen = scene.api.seen().pop().unwrap();
            let token = seen.all("authorization").concat();
            assert!(
                token.starts_with(&format!("Bearer {allowed}-")),
                "{form:?} {token}"
            );
            let reply = form.ask(&dial, &on_behalf_of(denied)).await;
            assert_eq!(reply.status, 403, "{form:?} {shown:?} {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_callers_limit_is_the_same_one_in_every_form() {
    let scene = Scene::new().await;
    let proxy = scene.proxy(CALLERS).await;
    let few = Dial::clear(&scene, &proxy, "few:f");
    // Tunnels themselves do not count.
    let mut connections = Vec::new();
    for form in Form::ALL {
        connections.push((form, form.connect(&few, "api.test").await.unwrap()));
    }
    let mut holding = Form::Gateway.connect(&few, "api.test").await.unwrap();
    let held = Form::Gateway.request(&few, &get("api.test", "/api/held"));
    let holding = tokio::spawn(async move { holding.request(held).await });
    scene.latch.reached_by(1).await;
    for (form, caller) in &mut connections {
        let reply = caller.request(form.request(&few, &FACTS[0].0)).await;
        assert_eq!(reply.status, 429, "{form:?} {reply:?}");
        assert_eq!(
            reply.problem()["reason"],
            "caller_limit_exceeded",
            "{form:?}"
        );
        assert_eq!(reply.all("retry-after"), ["1"], "{form:?}");
        // Another caller is not concerned.
        let reply = form
            .ask(&Dial::clear(&scene, &proxy, "shop:p"), &FACTS[0].0)
            .await;
        assert_eq!(reply.status, 200, "{form:?}");
    }
    scene.latch.open();
    assert_eq!(soon(holding).await.unwrap().status, 200);
}
