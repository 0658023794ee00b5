//! TLS on `listen`: versions by ALPN, callers by certificate, certificates that change.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::metrics::Scrape;
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::Raw;
use crate::support::tls::{Authority, client};
use crate::support::upstream::{Upstream, answer};
use crate::support::{acme, closed_in, eventually, soon};

const TLS: &str = "tls: {certificate: server.pem, key: server.key, client_ca: ca.pem}\n";

/// A proxy with TLS, whose certificate and whose callers' are signed by one authority.
pub(crate) struct Rig {
    _api: Upstream,
    _idp: Idp,
    pub(crate) proxy: Proxy,
    authority: Authority,
    pub(crate) directory: TempDir,
}

impl Rig {
    pub(crate) async fn start(top: &str) -> Self {
        let api = Upstream::start(|_| async { answer(200, "fine") }).await;
        Self::of(api, top, "").await
    }

    async fn of(api: Upstream, top: &str, provider: &str) -> Self {
        let idp = Idp::counting().await;
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write(&directory.path().join("ca.pem"));
        write(&authority, directory.path(), "server", &["127.0.0.1"], "");
        let yaml = format!("{TLS}{top}{}", acme(&api.url(), &idp.url(), provider));
        let proxy = Proxy::start_following(directory.path(), &yaml).await;
        Self {
            _api: api,
            _idp: idp,
            proxy,
            authority,
            directory,
        }
    }

    /// A connection that shows the certificate of that name.
    async fn connect(
        &self,
        alpn: &[&str],
        shown: Option<&str>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let file = |name: &str, kind: &str| self.directory.path().join(format!("{name}.{kind}"));
        let shown = shown.map(|name| (file(name, "pem"), file(name, "key")));
        let shown = shown.as_ref().map(|(pem, key)| (&**pem, &**key));
        let config = client(&file("ca", "pem"), shown, alpn);
        let stream = TcpStream::connect(self.proxy.listen).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        soon(TlsConnector::from(config).connect(name, stream)).await
    }

    /// The certificate that the listener shows.
    async fn certificate(&self) -> CertificateDer<'static> {
        let stream = self.connect(&[], None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
}

fn write(authority: &Authority, directory: &Path, name: &str, sans: &[&str], common_name: &str) {
    let (certificate, key) = authority.sign(sans, common_name);
    std::fs::write(directory.join(format!("{name}.pem")), certificate).unwrap();
    std::fs::write(directory.join(format!("{name}.key")), key).unwrap();
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls_and_nothing_in_clear() {
    let rig = Rig::start("").await;
    let stream = rig.connect(&["h2", "http/1.1"], None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let reply = Caller::over_http2(stream).await.send("GET", "/x", "").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "fine"));
    for alpn in [&["http/1.1"][..], &[]] {
        let stream = rig.connect(alpn, None).await.unwrap();
        let mut caller = Caller::over(stream).await;
        for _ in 0..2 {
            let reply = caller.send("GET", "/x", "").await;
            assert_eq!((reply.status.as_u16(), reply.text()), (200, "fine"));
        }
    }
    // A tunnel inside.
    let stream = rig.connect(&["h2"], None).await.unwrap();
    let mut caller = Caller::over_http2(stream).await;
    let tunnel = caller.tunnel("api.test:80").await.unwrap();
    let mut inside = Caller::over(hyper_util::rt::TokioIo::new(tunnel)).await;
    assert_eq!(inside.send("GET", "/x", "").await.status, 200);
    let mut clear = Raw::connect(rig.proxy.listen).await;
    clear
        .write("GET http://api.test/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    let answer = clear.read_to_end().await.unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_caller_is_known_by_the_names_in_its_certificate_and_never_by_the_common_name() {
    let callers = "callers: {shop: {certificate: 'spiffe://corp/shop', allow: [acme]}, till: {certificate: till.corp, allow: [acme]}}\n";
    let rig = Rig::start(callers).await;
    let directory = rig.directory.path();
    write(
        &rig.authority,
        directory,
        "shop",
        &["spiffe://corp/shop"],
        "x",
    );
    write(&rig.authority, directory, "till", &["Till.corp"], "x");
    write(
        &rig.authority,
        directory,
        "posing",
        &["other.corp"],
        "till.corp",
    );
    write(
        &rig.authority,
        directory,
        "uri",
        &["spiffe://corp/shop2"],
        "spiffe://corp/shop",
    );
    for (shown, status) in [
        (Some("shop"), 200),
        (Some("till"), 200),
        (Some("posing"), 407),
        (Some("uri"), 407),
        (None, 407),
    ] {
        let stream = rig.connect(&[], shown).await.unwrap();
        let reply = Caller::over(stream).await.send("GET", "/x", "").await;
        assert_eq!(reply.status, status, "{shown:?}");
    }
    let lines = rig.proxy.access_lines(5).await;
    let callers: Vec<_> = lines
        .iter()
        .map(|line| line["caller"].as_str().unwrap())
        .collect();
    assert_eq!(
        callers,
        ["shop", "till", "anonymous", "anonymous", "anonymous"]
    );
    // One that somebody else signed ends the handshake.
    write(
        &Authority::new(),
        directory,
        "shop",
        &["spiffe://corp/shop"],
        "x",
    );
    let served = match rig.connect(&[], Some("shop")).await {
        Err(_) => false,
        Ok(stream) => {
            let mut caller = Caller::over(stream).await;
            let request = http::Request::get("http://api.test/x");
            let request = request.body(crate::support::upstream::full("")).unwrap();
            caller.begin(request).await.is_ok()
        }
    };
    assert!(!served);
}

#[tokio::test]
async fn a_connection_that_outlives_its_callers_certificate_is_nobodys() {
    let callers = "callers: {shop: {certificate: 'spiffe://corp/shop', allow: [acme]}}\n";
    let rig = Rig::start(callers).await;
    let (certificate, key) = rig
        .authority
        .sign_for(Duration::from_secs(10), &["spiffe://corp/shop"]);
    std::fs::write(rig.directory.path().join("shop.pem"), certificate).unwrap();
    std::fs::write(rig.directory.path().join("shop.key"), key).unwrap();
    let connect = async |alpn: &[&str]| rig.connect(alpn, Some("shop")).await.unwrap();
    let mut outer = Caller::over_http2(connect(&["h2"]).await).await;
    let tunnel = outer.tunnel("api.test:80").await.unwrap();
    let inside = Caller::over(hyper_util::rt::TokioIo::new(tunnel)).await;
    let mut callers = [Caller::over(connect(&[]).await).await, inside];
    for caller in &mut callers {
        assert_eq!(caller.send("GET", "/x", "").await.status, 200);
    }
    for caller in &mut callers {
        let expired = soon(async {
            loop {
                let reply = caller.send("GET", "/x", "").await;
                if reply.status != 200 {
                    return reply;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(expired.await.status, 407);
    }
}

#[tokio::test]
async fn whom_no_authority_of_a_reload_vouches_for_is_nobody_on_open_connections_and_in_tunnels() {
    let callers = "callers: {shop: {certificate: 'spiffe://corp/shop', allow: [acme]}}\n";
    let rig = Rig::start(callers).await;
    let directory = rig.directory.path();
    let names = ["spiffe://corp/shop"];
    write(&rig.authority, directory, "shop", &names, "");
    let other = Authority::new();
    write(&other, directory, "new", &names, "");
    let mut outer = Caller::over_http2(rig.connect(&["h2"], Some("shop")).await.unwrap()).await;
    let tunnel = outer.tunnel("api.test:80").await.unwrap();
    let inside = Caller::over(hyper_util::rt::TokioIo::new(tunnel)).await;
    let open = Caller::over(rig.connect(&[], Some("shop")).await.unwrap()).await;
    let mut callers = [open, outer, inside];
    // Over HTTP/2 a request does not name Bursar as its proxy.
    const KNOWN: [u16; 3] = [200; 3];
    const UNKNOWN: [u16; 3] = [407, 401, 407];
    let expect = async |callers: &mut [Caller; 3], statuses| {
        for (caller, status) in callers.iter_mut().zip(statuses) {
            assert_eq!(caller.send("GET", "/x", "").await.status, status);
        }
    };
    expect(&mut callers, KNOWN).await;
    // Both are trusted, then the new one alone, then both again.
    let own = std::fs::read_to_string(directory.join("ca.pem")).unwrap();
    other.write(&directory.join("other.pem"));
    let other = std::fs::read_to_string(directory.join("other.pem")).unwrap();
    let both = format!("{own}{other}");
    for (reloads, (authorities, statuses)) in [(&both, KNOWN), (&other, UNKNOWN), (&both, KNOWN)]
        .into_iter()
        .enumerate()
    {
        std::fs::write(directory.join("ca.pem"), authorities).unwrap();
        let reloads = f64::from(u8::try_from(reloads).unwrap() + 1);
        let accepted = [("outcome", "ok")];
        let counter = "bursar_config_reloads_total";
        rig.proxy.metric_becomes(counter, &accepted, reloads).await;
        expect(&mut callers, statuses).await;
    }
    let mut new = Caller::over(rig.connect(&[], Some("new")).await.unwrap()).await;
    assert_eq!(new.send("GET", "/x", "").await.status, 200);
}

#[tokio::test]
async fn a_certificate_that_changes_is_taken_up_and_a_broken_one_is_not() {
    let rig = Rig::start("").await;
    let first = rig.certificate().await;
    let directory = rig.directory.path();
    std::fs::write(directory.join("server.pem"), "broken").unwrap();
    write(&rig.authority, directory, "next", &["127.0.0.1"], "");
    assert_eq!(rig.certificate().await, first);
    for file in ["key", "pem"] {
        let (from, to) = (format!("next.{file}"), format!("server.{file}"));
        std::fs::rename(directory.join(from), directory.join(to)).unwrap();
    }
    let next = CertificateDer::from_pem_file(directory.join("server.pem")).unwrap();
    eventually(|| async { rig.certificate().await == next }).await;
}

#[tokio::test]
async fn until_when_bursars_own_certificates_are_valid_is_a_metric_that_follows_reloads() {
    let idp = Idp::counting().await;
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let path = directory.path().to_owned();
    authority.write(&path.join("ca.pem"));
    let write_for = |name: &str, days: u64| {
        let lifetime = Duration::from_secs(days * 24 * 60 * 60);
        let (certificate, key) = authority.sign_for(lifetime, &["127.0.0.1"]);
        std::fs::write(path.join(format!("{name}.pem")), certificate).unwrap();
        std::fs::write(path.join(format!("{name}.key")), key).unwrap();
    };
    let days = async |program: &Program, kind: &str, provider: &str| {
        let now = bursar_base::clock::wall();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let scrape = Scrape::of(program.admin).await;
        let labels = [("kind", kind), ("provider", provider)];
        let expiry = scrape.get("bursar_certificate_expiry_timestamp_seconds", &labels)?;
        Some(((expiry - now.as_secs_f64()) / 86_400.0).round())
    };
    write_for("server", 100);
    write_for("client", 50);
    let client = "tls: {certificate: client.pem, key: client.key}";
    let acme = |lines| format!("{TLS}{}", acme("https://127.0.0.1:1", &idp.url(), lines));
    let program = Program::start_in(directory, &acme(client), "info").await;
    assert_eq!(days(&program, "listen", "none").await, Some(100.0));
    assert_eq!(days(&program, "client", "acme").await, Some(50.0));
    write_for("server", 200);
    eventually(|| async { days(&program, "listen", "none").await == Some(200.0) }).await;
    program.rewrite(&acme(""));
    eventually(|| async { days(&program, "client", "acme").await.is_none() }).await;
    assert_eq!(days(&program, "listen", "none").await, Some(200.0));
}

#[tokio::test]
async fn a_handshake_that_stalls_is_closed_long_before_a_request_that_does() {
    let rig = Rig::start("").await;
    for begins in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(rig.proxy.listen).await.unwrap();
        stream.write_all(begins).await.unwrap();
        let open = [("side", "caller")];
        rig.proxy
            .metric_becomes("bursar_connections", &open, 1.0)
            .await;
        let waited = closed_in(&mut stream).await;
        assert!(waited.as_secs() >= 5 && waited.as_secs() < 30, "{waited:?}");
        rig.proxy
            .metric_becomes("bursar_connections", &open, 0.0)
            .await;
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_disconnected_all_the_same() {
    let api = Upstream::start(|_| async { answer(200, vec![b'x'; 32 << 20]) }).await;
    let rig = Rig::of(api, "", "timeouts: {idle: 500ms}").await;
    let mut deaf = rig.connect(&["http/1.1"], None).await.unwrap();
    let get = b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n";
    deaf.write_all(get).await.unwrap();
    deaf.flush().await.unwrap();
    let limit = [("limit", "write_timeout")];
    rig.proxy
        .metric_becomes("bursar_limit_reached_total", &limit, 1.0)
        .await;
    let side = [("side", "caller")];
    rig.proxy
        .metric_becomes("bursar_connections", &side, 0.0)
        .await;
}
