//! Where Bursar's own connections go: which addresses, and through which parent proxy.

mod addresses;
mod parent;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use bursar_config::Names;
use tempfile::TempDir;

use crate::support::caller::{Caller, Reply};
use crate::support::idp::{self, Idp};
use crate::support::proxy::{Program, Proxy};
use crate::support::raw::Raw;
use crate::support::tls::{Authority, ClientCertificate};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{acme, soon};

const DENIED: &str = "bursar_egress_denied_total";

/// A table of names for [`Proxy::start_naming`].
fn names(table: &[(&str, &[&str])]) -> Names {
    Names::Fixed(entries(table))
}

fn entries(table: &[(&str, &[&str])]) -> HashMap<Box<str>, Vec<IpAddr>> {
    let address = |text: &&str| text.parse::<IpAddr>().unwrap();
    let entries = table.iter();
    let entries =
        entries.map(|(name, texts)| ((*name).into(), texts.iter().map(address).collect()));
    entries.collect()
}

/// An API at `api.test`, and tokens from a token endpoint on loopback; both behind TLS.
struct Scene {
    directory: TempDir,
    api: Upstream,
    idp: Idp,
}

impl Scene {
    async fn new() -> Self {
        let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
        authority.write(&directory.path().join("ca.pem"));
        let tls = || authority.server(&["http/1.1"], ClientCertificate::Ignored);
        Self {
            directory,
            api: Upstream::with_tls(tls(), |_| async { answer(200, "paid") }).await,
            idp: Idp::with_tls(tls(), |_| async { idp::token("token") }).await,
        }
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The provider's YAML, its API at that host, and further keys of the file.
    fn yaml(&self, host: &str, keys: &str) -> String {
        let api = format!("https://{host}:{}", self.api.address.port());
        let provider = acme(&api, &self.idp.url(), "tls: {ca: ca.pem}");
        format!("{provider}{keys}\n")
    }

    /// The same with a token endpoint at that host.
    fn yaml_with_token_host(&self, host: &str, token_host: &str, keys: &str) -> String {
        self.yaml(host, keys).replace(
            &self.idp.address().to_string(),
            &format!("{token_host}:{}", self.idp.address().port()),
        )
    }

    async fn start(&self, yaml: &str, table: &[(&str, &[&str])]) -> Proxy {
        Proxy::start_naming(self.directory(), yaml, names(table)).await
    }
}

async fn get(proxy: &Proxy) -> Reply {
    Caller::connect(proxy.listen)
        .await
        .send("GET", "/x", "")
        .await
}

/// The refusal of an API request for its address.
#[track_caller]
fn assert_denied(reply: &Reply) {
    assert_eq!(reply.status, 403, "{reply:?}");
    let expected = "bursar; error=destination_ip_prohibited; details=\"address_not_allowed\"";
    assert_eq!(reply.all("proxy-status"), [expected]);
    let problem = reply.problem();
    assert_eq!(problem["reason"], "address_not_allowed");
    assert_eq!(problem["request_sent"], "no");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused() {
    let scene = Scene::new().await;
    for (address, rule) in [
        ("127.0.0.1", "loopback"),
        ("10.0.0.1", "private"),
        ("169.254.169.254", "metadata"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("::1", "loopback"),
    ] {
        let table = [("api.test", &[address][..])];
        let proxy = scene.start(&scene.yaml("api.test", ""), &table).await;
        assert_denied(&get(&proxy).await);
        let labels = [("rule", rule), ("mode", "enforce")];
        assert_eq!(proxy.metric(DENIED, &labels).await, 1.0, "{address}");
        assert_eq!(proxy.metric(DENIED, &[("mode", "report")]).await, 0.0);
        let reason = [("reason", "address_not_allowed")];
        assert_eq!(proxy.metric("bursar_refusals_total", &reason).await, 1.0);
        let [line] = &proxy.access_lines(1).await[..] else {
            panic!("one line was expected");
        };
        assert_eq!(line["reason"], "address_not_allowed");
    }
    assert_eq!(scene.api.count(), 0);
}

#[tokio::test]
async fn a_name_below_a_wildcard_is_judged_whatever_it_is_called() {
    let idp = Idp::counting().await;
    let yaml = acme("https://x", &idp.url(), "").replace("    upstream: https://x\n", "");
    let yaml = yaml.replace("[api.test]", "['*.test', '*.localhost']");
    let table = [
        ("inside.test", &["192.168.0.1"][..]),
        ("a.localhost", &["127.0.0.1"]),
        ("127.0.0.1.test", &["127.0.0.1"]),
    ];
    let proxy = Proxy::start_naming(Path::new(""), &yaml, names(&table)).await;
    for (host, _) in table {
        let request = http::Request::get(format!("http://{host}/x"));
        let request = request.body(full("")).unwrap();
        assert_denied(&Caller::connect(proxy.listen).await.request(request).await);
    }
}

#[tokio::test]
async fn only_the_addresses_that_are_allowed_are_tried() {
    let scene = Scene::new().await;
    let yaml = scene.yaml("api.test", "egress: {allow_addresses: [127.0.0.1]}");
    // Were the first ones tried, the request would wait for them.
    let table = [("api.test", &["10.255.255.1", "fd00::1", "127.0.0.1"][..])];
    let proxy = scene.start(&yaml, &table).await;
    let reply = get(&proxy).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
    let private = [("rule", "private"), ("mode", "enforce")];
    assert_eq!(proxy.metric(DENIED, &private).await, 1.0);
    let loopback = [("rule", "loopback")];
    assert_eq!(proxy.metric(DENIED, &loopback).await, 0.0);
}

#[tokio::test]
async fn a_denial_is_logged_and_not_once_for_each_request() {
    const REQUESTS: usize = 50;
    let idp = Idp::counting().await;
    let program = Program::start(&acme("https://10.0.0.1", &idp.url(), ""), "info").await;
    let mut caller = Caller::connect(program.listen).await;
    for _ in 0..REQUESTS {
        assert_denied(&caller.send("GET", "/x", "").await);
    }
    program.signal("TERM").await;
    let (_, log) = program.ended().await;
    let is_denial =
        |line: &&str| line.contains("egress.allow_addresses") && line.contains("\"refused\":true");
    let denials: Vec<&str> = log.lines().filter(is_denial).collect();
    assert!(!denials.is_empty() && denials.len() < REQUESTS / 2, "{log}");
    for said in [
        "\"provider\":\"acme\"",
        "\"rule\":\"private\"",
        "\"mode\":\"enforce\"",
    ] {
        assert!(denials[0].contains(said), "{}", denials[0]);
    }
}

#[tokio::test]
async fn report_counts_and_lets_pass() {
    let scene = Scene::new().await;
    let table = [("api.test", &["127.0.0.1"][..])];
    for keys in [
        "egress: {mode: report}",
        "egress: {rules: {loopback: report}}",
    ] {
        let proxy = scene.start(&scene.yaml("api.test", keys), &table).await;
        // The second one takes the connection that is there: nothing is checked again.
        for _ in 0..2 {
            assert_eq!(get(&proxy).await.status, 200, "{keys}");
        }
        let labels = [("rule", "loopback"), ("mode", "report")];
        assert_eq!(proxy.metric(DENIED, &labels).await, 1.0);
        assert_eq!(proxy.metric(DENIED, &[("mode", "enforce")]).await, 0.0);
    }
    let other = scene.yaml("api.test", "egress: {rules: {private: report}}");
    assert_denied(&get(&scene.start(&other, &table).await).await);
}

#[tokio::test]
async fn a_literal_is_judged_without_a_resolver() {
    let scene = Scene::new().await;
    for host in [
        "10.0.0.1",
        "[fd00:ec2::254]",
        "[::ffff:127.0.0.1]",
        "192.0.2.1",
    ] {
        let proxy = scene.start(&scene.yaml(host, ""), &[]).await;
        assert_denied(&get(&proxy).await);
    }
    // No spelling of an address is a host of any provider, and none is asked for.
    let proxy = scene.start(&scene.yaml("127.0.0.1", ""), &[]).await;
    for host in [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
    ] {
        let mut caller = Raw::connect(proxy.listen).await;
        let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = soon(caller.ask(request)).await;
        assert!(
            reply.text().contains("destination_not_allowed"),
            "{reply:?}"
        );
    }
    assert_eq!(scene.api.count(), 0);
}

#[tokio::test]
async fn localhost_stays_allowed_where_the_operator_wrote_it() {
    let api = Upstream::start(|_| async { answer(200, "") }).await;
    let idp = Idp::counting().await;
    let local = |url: String| url.replace("127.0.0.1", "localhost");
    let proxy = Proxy::start(&acme(&local(api.url()), &local(idp.url()), "")).await;
    assert_eq!(get(&proxy).await.status, 200);
    assert_eq!(proxy.metric(DENIED, &[]).await, 0.0);
}

#[tokio::test]
async fn a_token_endpoint_that_leads_inside_is_not_asked() {
    let scene = Scene::new().await;
    let yaml = scene.yaml_with_token_host("127.0.0.1", "login.test", "");
    let table = [("login.test", &["127.0.0.1"][..])];
    let proxy = scene.start(&yaml, &table).await;
    let reply = get(&proxy).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.problem()["reason"], "token_unavailable");
    assert!(
        reply.problem()["detail"]
            .as_str()
            .unwrap()
            .contains("is not allowed")
    );
    let (_, status) = proxy.json("/status").await;
    let expected =
        "the token endpoint's address is not allowed (address_not_allowed, egress rule loopback)";
    assert!(status.to_string().contains(expected), "{status}");
    assert!(
        proxy
            .metric(DENIED, &[("rule", "loopback"), ("mode", "enforce")])
            .await
            >= 1.0
    );
    assert_eq!((scene.idp.calls(), scene.api.count()), (0, 0));

    let allowed = format!("{yaml}egress: {{allow_addresses: [127.0.0.0/8]}}\n");
    assert_eq!(get(&scene.start(&allowed, &table).await).await.status, 200);
}
