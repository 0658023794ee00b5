//! Routes on which the caller's own token goes on: in every form, alone, and not renewed by anybody here.

use bytes::Bytes;
use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::support::caller::{Caller, Reply, basic};
use crate::support::idp::Idp;
use crate::support::proxy::{Program, Proxy};
use crate::support::tls::{Authority, ClientCertificate, client};
use crate::support::upstream::{Body, Upstream, answer, full};
use crate::support::write_intercepting;
use crate::support::{acme, soon};

const KEYS: &str = "routes: [{path: /mine/**, authorization: caller}, {path: /both/**, authorization: caller_or_bursar}, {path: /ours/**, authorization: bursar}]";
const CALLERS: &str = "callers: {shop: {password: p, allow: [{provider: acme, paths: [/mine/**, /both/**, /ours/**]}]}}\n";
const TOKEN: &str = "user-token-0123456789";

/// How a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Absolute,
    Gateway,
    Http2,
    Tunnel,
    Intercepted,
    InterceptedHttp2,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Absolute,
        Self::Gateway,
        Self::Http2,
        Self::Tunnel,
        Self::Intercepted,
        Self::InterceptedHttp2,
    ];

    /// Whether who calls is known by a tunnel.
    fn is_tunnel(self) -> bool {
        matches!(
            self,
            Self::Tunnel | Self::Intercepted | Self::InterceptedHttp2
        )
    }
}

struct Rig {
    api: Upstream,
    idp: Idp,
    proxy: Proxy,
    directory: tempfile::TempDir,
}

impl Rig {
    async fn start<F>(script: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write(&directory.path().join("api.pem"));
        write_intercepting(directory.path(), &["api.test"]);
        let tls = authority.server(&["h2", "http/1.1"], ClientCertificate::Ignored);
        let (api, idp) = (Upstream::with_tls(tls, script).await, Idp::counting().await);
        let keys = format!("tls: {{ca: api.pem}}\n{KEYS}");
        let yaml = format!(
            "intercept: {{ca: {{certificate: ca.pem, key: ca.key}}}}\n{CALLERS}{}",
            acme(&api.url(), &idp.url(), &keys)
        );
        let proxy = Proxy::start_in(directory.path(), &yaml).await;
        idp.reached_by(1).await;
        Self {
            api,
            idp,
            proxy,
            directory,
        }
    }

    async fn caller(&self, way: Way) -> Caller {
        let mut outer = match way {
            Way::Http2 => return Caller::connect_http2(self.proxy.listen).await,
            _ => Caller::connect(self.proxy.listen).await,
        };
        outer.authorize(&basic("shop", "p"));
        match way {
            Way::Absolute | Way::Gateway | Way::Http2 => outer,
            Way::Tunnel => {
                let tunnel = outer.tunnel("api.test:80").await.unwrap();
                Caller::over(hyper_util::rt::TokioIo::new(tunnel)).await
            }
            Way::Intercepted | Way::InterceptedHttp2 => {
                let tunnel = outer.tunnel("api.test:443").await.unwrap();
                let is_http2 = way == Way::InterceptedHttp2;
                let alpn = if is_http2 { "h2" } else { "http/1.1" };
                let config = client(&self.directory.path().join("ca.pem"), None, &[alpn]);
                let name = ServerName::try_from("api.test").unwrap();
                let stream = hyper_util::rt::TokioIo::new(tunnel);
                let tls = TlsConnector::from(config).connect(name, stream);
                let tls = soon(tls).await.unwrap();
                match is_http2 {
                    true => Caller::over_http2(tls).await,
                    false => Caller::over(tls).await,
                }
            }
        }
    }

    /// With a password where no tunnel says who calls.
    async fn send(&self, way: Way, path: &str, headers: &[(&str, &str)]) -> Reply {
        let uri = match way {
            Way::Absolute | Way::Http2 => format!("http://api.test{path}"),
            Way::InterceptedHttp2 => format!("https://api.test{path}"),
            Way::Gateway | Way::Tunnel | Way::Intercepted => path.to_owned(),
        };
        let mut request = Request::post(uri);
        if !matches!(way, Way::Absolute | Way::Http2 | Way::InterceptedHttp2) {
            request = request.header("host", "api.test");
        }
        let names_caller = headers
            .iter()
            .any(|(_, value)| *value == basic("shop", "p"));
        if !way.is_tunnel() && !names_caller {
            request = request.header("proxy-authorization", basic("shop", "p"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(full("")).unwrap();
        self.caller(way).await.request(request).await
    }

    async fn replaced(&self) -> f64 {
        let labels = [("provider", "acme"), ("caller", "shop")];
        let scrape = self.proxy.scrape().await;
        scrape
            .get("bursar_caller_credentials_replaced_total", &labels)
            .unwrap_or_default()
    }
}

fn fine(_: Request<Bytes>) -> std::future::Ready<Response<Body>> {
    std::future::ready(answer(200, ""))
}

#[tokio::test]
async fn the_callers_token_goes_on_in_every_form_and_nothing_else_of_its_credentials() {
    let rig = Rig::start(fine).await;
    let bearer = format!("Bearer {TOKEN}");
    for way in Way::ALL {
        for path in ["/mine/x", "/both/x"] {
            let before = rig.api.count();
            let reply = rig.send(way, path, &[("authorization", &bearer)]).await;
            assert_eq!(reply.status, 200, "{way:?} {path} {reply:?}");
            let seen = &rig.api.seen()[before..];
            assert_eq!(seen.len(), 1, "{way:?}");
            assert_eq!(seen[0].all("authorization"), [&*bearer], "{way:?} {path}");
            assert!(seen[0].all("proxy-authorization").is_empty(), "{way:?}");
        }
    }
    assert_eq!(rig.replaced().await, 0.0);
    assert_eq!(rig.idp.calls(), 1);
    // Six came through tunnels, each of which has a line of its own.
    let lines = rig.proxy.access_lines(18).await;
    let fingerprint = bursar_base::secret::Fingerprint::of(TOKEN);
    for line in lines.iter().filter(|line| line["method"] == "POST") {
        assert_eq!(line["token_fingerprint"], fingerprint.as_str(), "{line}");
        assert!(!line.to_string().contains(TOKEN), "{line}");
    }
}

#[tokio::test]
async fn a_request_without_a_token_of_its_own_is_refused_or_gets_bursars() {
    let rig = Rig::start(fine).await;
    let password = basic("shop", "p");
    for way in Way::ALL {
        // At a gateway that one names the caller; elsewhere it is for nobody.
        let basic = [("authorization", &*password)];
        let basic = match way {
            Way::Absolute => &[("authorization", "Basic eDp5")],
            _ => &basic,
        };
        for headers in [&[][..], basic] {
            let before = rig.api.count();
            let refused = rig.send(way, "/mine/x", headers).await;
            assert_eq!(refused.status, 403, "{way:?} {headers:?} {refused:?}");
            let problem = refused.problem();
            assert_eq!(problem["reason"], "caller_token_missing", "{way:?}");
            assert_eq!(problem["request_sent"], "no");
            assert_eq!(rig.api.count(), before, "{way:?} {headers:?}");
            let reply = rig.send(way, "/both/x", headers).await;
            assert_eq!(reply.status, 200, "{way:?} {headers:?} {reply:?}");
            let seen = &rig.api.seen()[before];
            assert_eq!(seen.all("authorization"), ["Bearer token-1"], "{way:?}");
        }
    }
    let reply = rig
        .send(
            Way::Absolute,
            "/ours/x",
            &[("authorization", "Bearer mine")],
        )
        .await;
    assert_eq!(reply.status, 200);
    let seen = rig.api.seen().pop().unwrap();
    assert_eq!(seen.all("authorization"), ["Bearer token-1"]);
}

#[tokio::test]
async fn what_is_not_one_token_beyond_doubt_goes_nowhere() {
    let rig = Rig::start(fine).await;
    for headers in [
        &[("authorization", "Bearer a"), ("authorization", "Bearer a")][..],
        &[
            ("authorization", "Bearer a"),
            ("authorization", "Basic eDp5"),
        ],
        &[
            ("authorization", "Basic eDp5"),
            ("authorization", "Bearer a"),
        ],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer a, Bearer b")],
        &[("authorization", "Bearer a b")],
        &[
            ("authorization", "Bearer a"),
            ("connection", "authorization"),
        ],
    ] {
        for path in ["/mine/x", "/both/x"] {
            let refused = rig.send(Way::Absolute, path, headers).await;
            assert_eq!(refused.status, 400, "{path} {headers:?} {refused:?}");
            assert_eq!(refused.problem()["reason"], "bad_request");
        }
    }
    assert_eq!(rig.api.count(), 0);
    // Whose request it is comes first, and what it may do.
    let stranger = [
        ("proxy-authorization", "Basic eDp5"),
        ("authorization", "Bearer a"),
    ];
    let request = stranger.iter().fold(
        Request::post("http://api.test/mine/x"),
        |request, (name, value)| request.header(*name, *value),
    );
    let mut caller = Caller::connect(rig.proxy.listen).await;
    let refused = caller.request(request.body(full("")).unwrap()).await;
    assert_eq!(refused.status, 407);
    let refused = rig
        .send(Way::Absolute, "/other", &[("authorization", "Bearer a")])
        .await;
    assert_eq!(refused.problem()["reason"], "route_not_allowed");
    assert_eq!(rig.api.count(), 0);
}

#[tokio::test]
async fn a_401_on_the_callers_token_is_relayed_and_renews_nothing() {
    let rig = Rig::start(|_| async {
        let mut reply = answer(401, "{\"status\":\"Unauthorized\"}");
        let challenge = http::HeaderValue::from_static("Bearer error=\"invalid_token\"");
        reply.headers_mut().insert("www-authenticate", challenge);
        reply
    })
    .await;
    for path in ["/mine/x", "/both/x"] {
        let reply = rig
            .send(Way::Http2, path, &[("authorization", "Bearer mine")])
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.text()),
            (401, "{\"status\":\"Unauthorized\"}")
        );
        assert_eq!(
            reply.all("www-authenticate"),
            ["Bearer error=\"invalid_token\""]
        );
    }
    assert_eq!((rig.api.count(), rig.idp.calls()), (2, 1));
    // Bursar's own is renewed as ever.
    rig.send(Way::Http2, "/both/x", &[]).await;
    assert_eq!((rig.api.count(), rig.idp.calls()), (4, 2));
}

#[tokio::test]
async fn the_callers_token_is_in_no_log() {
    let (api, idp) = (Upstream::start(fine).await, Idp::counting().await);
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{}",
        acme(&api.url(), &idp.url(), KEYS)
    );
    let program = Program::start(&yaml, "debug,bursar=trace").await;
    for path in ["/mine/x", "/both/x", "/ours/x"] {
        let request = Request::post(format!("http://api.test{path}"))
            .header("authorization", format!("Bearer {TOKEN}"));
        let mut caller = Caller::connect(program.listen).await;
        let reply = caller.request(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, 200, "{path}");
    }
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    assert!(log.contains("/both/x"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}
