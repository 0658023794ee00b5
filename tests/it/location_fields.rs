//! Where answers lead: `Location` and `Content-Location` in every form of a request.

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::caller::{Caller, Stream};
use crate::support::idp::Idp;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::tls::{self, Authority, ClientCertificate};
use crate::support::upstream::{Upstream, full};
use crate::support::{Rig, soon};

const OWN: &str = "https://api.test/next?a=b#f";
const OWN_IN_CLEAR: &str = "http://api.test/next?a=b#f";

/// An API that answers with the status and the fields that the path and the query name.
async fn api() -> Upstream {
    Upstream::start(|request: Request<Bytes>| async move {
        let status = request.uri().path().trim_start_matches('/');
        let mut answer = Response::builder().status(status.parse::<u16>().unwrap());
        for (name, value) in form_urlencoded::parse(request.uri().query().unwrap().as_bytes()) {
            answer = answer.header(&*name, &*value);
        }
        answer.body(full("")).unwrap()
    })
    .await
}

fn path(status: u16, fields: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields);
    format!("/{status}?{}", query.finish())
}

/// Two proxies, of which one speaks TLS, with the same providers: `acme` has a host of its own port, too, and one only
/// there, and pages for people.
struct Scene {
    _api: Upstream,
    _idp: Idp,
    directory: TempDir,
    clear: Proxy,
    over_tls: Proxy,
}

impl Scene {
    async fn new() -> Self {
        let (api, idp) = (api().await, Idp::counting().await);
        let directory = tempfile::tempdir().unwrap();
        let hosts = ["api.test", "only.test", "other.test", "shops.test"];
        crate::support::write_intercepting(directory.path(), &hosts);
        let authority = Authority::new();
        authority.write(&directory.path().join("peers.pem"));
        let (certificate, key) = authority.sign(&["127.0.0.1"], "");
        std::fs::write(directory.path().join("server.pem"), certificate).unwrap();
        std::fs::write(directory.path().join("server.key"), key).unwrap();
        let (url, token) = (api.url(), idp.url());
        let yaml = format!(
            "intercept: {{ca: {{certificate: ca.pem, key: ca.key}}}}
providers:
  acme:
    hosts: [api.test, 'api.test:8443', 'only.test:443', '*.shops.test']
    paths: ['/', '/*']
    upstream: {url}
    token: {{url: '{token}'}}
    client_id: a
    client_secret: s
  other: {{hosts: [other.test], upstream: '{url}', client_id: o, client_secret: s, token: {{url: '{token}'}}}}
"
        );
        let start = |top: &str| {
            let yaml = format!("{top}{yaml}");
            let directory = directory.path().to_owned();
            async move { Proxy::start_in(&directory, &yaml).await }
        };
        let clear = start("").await;
        let over_tls = start("tls: {certificate: server.pem, key: server.key}\n").await;
        Self {
            _api: api,
            _idp: idp,
            directory,
            clear,
            over_tls,
        }
    }

    async fn clear(&self) -> TcpStream {
        TcpStream::connect(self.clear.listen).await.unwrap()
    }

    async fn over_tls(&self, alpn: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.over_tls.listen).await.unwrap();
        self.secure(stream, ("peers.pem", "127.0.0.1"), alpn).await
    }

    async fn secure<S: Stream>(
        &self,
        stream: S,
        (ca, name): (&str, &'static str),
        alpn: &str,
    ) -> TlsStream<S> {
        let config = tls::client(&self.directory.path().join(ca), None, &[alpn]);
        let name = ServerName::try_from(name).unwrap();
        let connecting = TlsConnector::from(config).connect(name, stream);
        soon(connecting).await.unwrap()
    }

    /// What an answer to a request in absolute form says for a provider's `Location`.
    async fn location(&self, location: &str) -> String {
        let path = path(302, &[("location", location)]);
        let target = format!("http://api.test{path}");
        over_http1(self.clear().await, &target).await
    }
}

async fn over_http1(stream: impl Stream, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: api.test\r\n\r\n");
    let answer = Raw::over(stream).ask(request).await;
    answer.field("location").unwrap().to_owned()
}

async fn over_http2(stream: impl Stream, target: &str) -> String {
    let request = Request::get(target).body(full("")).unwrap();
    let answer = Caller::over_http2(stream).await.request(request).await;
    let [location] = answer.all("location")[..] else {
        panic!("{:?}", answer.headers)
    };
    location.to_owned()
}

#[tokio::test]
async fn what_came_as_http_is_led_to_http_and_what_came_as_https_is_not() {
    let scene = Scene::new().await;
    let path = path(302, &[("location", OWN)]);
    let (http, https) = (
        format!("http://api.test{path}"),
        format!("https://api.test{path}"),
    );
    let clear = || scene.clear();
    for (name, location, expected) in [
        (
            "absolute",
            over_http1(clear().await, &http).await,
            OWN_IN_CLEAR,
        ),
        (
            "absolute https",
            over_http1(clear().await, &https).await,
            OWN,
        ),
        (
            "gateway",
            over_http1(clear().await, &path).await,
            OWN_IN_CLEAR,
        ),
        (
            "HTTP/2",
            over_http2(clear().await, &http).await,
            OWN_IN_CLEAR,
        ),
        ("HTTP/2 https", over_http2(clear().await, &https).await, OWN),
        (
            "absolute over TLS",
            over_http1(scene.over_tls("http/1.1").await, &http).await,
            OWN_IN_CLEAR,
        ),
        (
            "gateway over TLS",
            over_http1(scene.over_tls("http/1.1").await, &path).await,
            OWN,
        ),
        (
            "HTTP/2 over TLS",
            over_http2(scene.over_tls("h2").await, &https).await,
            OWN,
        ),
    ] {
        assert_eq!(location, expected, "{name}");
    }
    for (port, alpn, expected) in [
        (80, None, OWN_IN_CLEAR),
        (443, Some("http/1.1"), OWN),
        (443, Some("h2"), OWN),
        (80, Some("http/1.1"), OWN),
    ] {
        let mut outer = Caller::over(scene.clear().await).await;
        let tunnel = outer.tunnel(&format!("api.test:{port}")).await;
        let tunnel = TokioIo::new(tunnel.unwrap_or_else(|_| panic!("no tunnel")));
        let location = match alpn {
            None => over_http1(tunnel, &path).await,
            Some(alpn) => {
                let stream = scene.secure(tunnel, ("ca.pem", "api.test"), alpn).await;
                match alpn {
                    "h2" => over_http2(stream, &https).await,
                    _ => over_http1(stream, &path).await,
                }
            }
        };
        assert_eq!(location, expected, "tunnel to {port} {alpn:?}");
    }
}

#[tokio::test]
async fn only_a_place_of_the_same_provider_changes() {
    let scene = Scene::new().await;
    for (location, expected) in [
        (OWN, OWN_IN_CLEAR),
        ("HTTPS://API.test:443/next", "http://API.test/next"),
        ("https://api.test", "http://api.test"),
        ("https://api.test?x", "http://api.test?x"),
        ("https://api.test:8443/next", "http://api.test:8443/next"),
        ("https://a.shops.test/next", "http://a.shops.test/next"),
    ] {
        assert_eq!(scene.location(location).await, expected);
    }
    for location in [
        "/next",
        "//api.test/next",
        "http://api.test/next",
        "https://other.test/next",
        "https://shop.test/?r=https://api.test/next",
        "https://api.test.evil.test/next",
        "https://u@api.test/next",
        "https://api.test:444/next",
        // Asked for in clear, that would be no provider's.
        "https://only.test/next",
        // A page for people: callers would not get it.
        "https://api.test/pay/1",
    ] {
        assert_eq!(scene.location(location).await, location);
    }
}

#[tokio::test]
async fn whatever_the_status_both_fields_change_unless_they_are_repeated() {
    let scene = Scene::new().await;
    for status in [200, 201, 202, 303, 307] {
        let path = path(status, &[("location", OWN), ("content-location", OWN)]);
        let request = format!("GET http://api.test{path} HTTP/1.1\r\nHost: api.test\r\n\r\n");
        let answer = Raw::over(scene.clear().await).ask(request).await;
        assert_eq!(answer.status(), status);
        for name in ["location", "content-location"] {
            assert_eq!(answer.field(name), Some(OWN_IN_CLEAR), "{status} {name}");
        }
    }
    let path = path(
        302,
        &[("location", OWN), ("location", "https://api.test/other")],
    );
    let request = Request::get(format!("http://api.test{path}"))
        .body(full(""))
        .unwrap();
    let mut caller = Caller::connect_http2(scene.clear.listen).await;
    let answer = caller.request(request).await;
    assert_eq!(answer.all("location"), [OWN, "https://api.test/other"]);
}

#[tokio::test]
async fn a_gateways_caller_is_led_to_the_name_that_it_used() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(&directory.path().join("peers.pem"));
    let tls = authority.server(&["http/1.1"], ClientCertificate::Ignored);
    let script = |request: Request<Bytes>| async move {
        let location = request.headers()["x-location"].clone();
        let answer = Response::builder().status(302).header("location", location);
        answer.body(full("")).unwrap()
    };
    let (api, idp) = (Upstream::with_tls(tls, script).await, Idp::counting().await);
    let yaml = format!(
        "providers: {{acme: {{hosts: [api.test, 'acme.gateway.test:3128'], upstream: '{}', tls: {{ca: peers.pem}},
            client_id: a, client_secret: s, token: {{url: '{}'}}}}}}
",
        api.url(),
        idp.url()
    );
    let proxy = Proxy::start_in(directory.path(), &yaml).await;
    let upstream = format!("{}/next", api.url());
    for (asked, location, expected) in [
        (
            "acme.gateway.test:3128",
            &*upstream,
            "http://acme.gateway.test:3128/next",
        ),
        ("api.test", &*upstream, "http://api.test/next"),
        ("api.test", OWN, OWN_IN_CLEAR),
        (
            "api.test",
            "https://127.0.0.1:1/next",
            "https://127.0.0.1:1/next",
        ),
    ] {
        let fields = format!("Host: {asked}\r\nX-Location: {location}");
        for target in ["/x".to_owned(), format!("http://{asked}/x")] {
            let mut caller = Raw::connect(proxy.listen).await;
            let answer = caller.ask(format!("GET {target} HTTP/1.1\r\n{fields}\r\n\r\n"));
            assert_eq!(
                answer.await.field("location"),
                Some(expected),
                "{target} {asked}"
            );
        }
        let fields = format!("GET https://{asked}/x HTTP/1.1\r\n{fields}\r\n\r\n");
        let answer = Raw::connect(proxy.listen).await.ask(fields).await;
        assert_eq!(answer.field("location"), Some(location));
    }
}

#[tokio::test]
async fn cookies_stay_secure() {
    let cookie = "id=1; Secure; HttpOnly; Domain=api.test";
    let rig = Rig::of(api().await, Idp::counting().await, "").await;
    let answer = rig
        .get(&path(302, &[("location", OWN), ("set-cookie", cookie)]))
        .await;
    assert_eq!(answer.all("location"), [OWN_IN_CLEAR]);
    assert_eq!(answer.all("set-cookie"), [cookie]);
}
