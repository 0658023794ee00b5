//! Through a parent proxy.

use bursar::upstream::connect::Connector;
use bursar::upstream::egress::Egress;
use bursar_config::Config;
use bursar_telemetry::metrics::Metrics;

use super::*;
use crate::support::PATIENCE;
use crate::support::parent::{Action, Parent};

/// A parent that sends `api.test` and `login.test` to where they are.
async fn parent(scene: &Scene) -> Parent {
    let (api, idp) = (scene.api.address, scene.idp.address());
    Parent::start(move |target| {
        if target.starts_with("api.test:") {
            Action::To(api)
        } else if target.starts_with("login.test:") {
            Action::To(idp)
        } else {
            Action::Say("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned())
        }
    })
    .await
}

#[tokio::test]
async fn api_and_token_calls_go_through_the_parent_proxy() {
    let scene = Scene::new().await;
    let parent = parent(&scene).await;
    let keys = format!(
        "egress: {{proxy: 'http://us%40er:p%3Aass@{}'}}",
        parent.address
    );
    let yaml = scene.yaml_with_token_host("api.test", "login.test", &keys);
    // Its names are the parent's to resolve: there is nobody else who could.
    let proxy = scene.start(&yaml, &[]).await;
    for _ in 0..2 {
        let reply = get(&proxy).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "paid"));
    }
    let ports = (scene.api.address.port(), scene.idp.address().port());
    let head = |target: String| {
        format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic dXNAZXI6cDphc3M=\r\n\r\n"
        )
    };
    let expected = [
        head(format!("login.test:{}", ports.1)),
        head(format!("api.test:{}", ports.0)),
    ];
    assert_eq!(parent.heads(), expected);
    assert_eq!(proxy.metric(DENIED, &[]).await, 0.0);
    // What is meant for the parent stays with it.
    assert!(
        !scene.api.seen()[0]
            .headers
            .contains_key("proxy-authorization")
    );
}

#[tokio::test]
async fn the_parent_is_always_told_the_port() {
    let server = Upstream::start(|_| async { answer(200, "") }).await;
    let address = server.address;
    let parent = Parent::start(move |_| Action::To(address)).await;
    let keys = format!("egress: {{proxy: 'http://{}'}}", parent.address);
    let yaml = acme("https://api.test", "https://login.test/t", "");
    let config = Config::parse(&format!("{yaml}{keys}\n"), Path::new("")).unwrap();
    let metrics = Metrics::new(&config).unwrap();
    let egress = Egress::new(&config.egress, &metrics);
    let provider = &config.providers[0];
    let (tls, policy) = (provider.tls.api.clone(), egress.api(provider));
    let connector = Connector::new(tls, PATIENCE, policy, egress.api_proxy());
    for (url, expected) in [
        ("http://plain.test/", "CONNECT plain.test:80 "),
        ("https://secure.test/", "CONNECT secure.test:443 "),
        ("https://secure.test:8443/", "CONNECT secure.test:8443 "),
        ("https://[2606:4700::1]/", "CONNECT [2606:4700::1]:443 "),
    ] {
        // Behind it nobody speaks TLS.
        drop(soon(connector.connect(url.parse().unwrap())).await);
        assert!(
            parent.heads().last().unwrap().starts_with(expected),
            "{url}"
        );
    }
}

#[tokio::test]
async fn each_kind_of_call_may_have_a_parent_of_its_own() {
    let scene = Scene::new().await;
    let table = [
        ("api.test", &["127.0.0.1"][..]),
        ("login.test", &["127.0.0.1"]),
    ];
    for (kind, expected) in [
        ("api", "CONNECT api.test:"),
        ("token", "CONNECT login.test:"),
    ] {
        let parent = parent(&scene).await;
        let keys = format!(
            "egress: {{proxy: {{{kind}: 'http://{}'}}, allow_addresses: [127.0.0.1]}}",
            parent.address
        );
        let yaml = scene.yaml_with_token_host("api.test", "login.test", &keys);
        assert_eq!(get(&scene.start(&yaml, &table).await).await.status, 200);
        let heads = parent.heads();
        assert!(
            heads.len() == 1 && heads[0].starts_with(expected),
            "{heads:?}"
        );
        assert!(!heads[0].contains("Authorization"), "{heads:?}");
    }
}

#[tokio::test]
async fn what_no_proxy_names_is_reached_directly() {
    let scene = Scene::new().await;
    let parent = parent(&scene).await;
    let keys = format!(
        "egress: {{proxy: 'http://{}', no_proxy: ['*.test'], allow_addresses: [127.0.0.1]}}",
        parent.address
    );
    let yaml = scene.yaml_with_token_host("api.test", "login.test", &keys);
    let table = [
        ("api.test", &["127.0.0.1"][..]),
        ("login.test", &["127.0.0.1"]),
    ];
    assert_eq!(get(&scene.start(&yaml, &table).await).await.status, 200);
    // And so is what the operator wrote down as loopback.
    let keys = format!("egress: {{proxy: 'http://{}'}}", parent.address);
    assert_eq!(
        get(&scene.start(&scene.yaml("127.0.0.1", &keys), &[]).await)
            .await
            .status,
        200
    );
    assert_eq!(parent.heads(), [""; 0]);
}

#[tokio::test]
async fn the_parents_own_name_and_literals_are_judged() {
    let scene = Scene::new().await;
    let parent = parent(&scene).await;
    let port = parent.address.port();
    let named = format!("egress: {{proxy: 'http://proxy.test:{port}'}}");
    let yaml = scene.yaml("api.test", &named);
    let table = [("proxy.test", &["127.0.0.1"][..])];
    assert_denied(&get(&scene.start(&yaml, &table).await).await);
    let literal = format!("egress: {{proxy: 'http://127.0.0.1:{port}'}}");
    for host in ["10.0.0.1", "[::ffff:127.0.0.1]"] {
        assert_denied(&get(&scene.start(&scene.yaml(host, &literal), &[]).await).await);
    }
    assert_eq!(parent.heads(), [""; 0]);
    let allowed = named.replace("}", ", allow_addresses: [127.0.0.1]}");
    assert_eq!(
        get(&scene.start(&scene.yaml("api.test", &allowed), &table).await)
            .await
            .status,
        200
    );
    assert_eq!(parent.heads().len(), 1);
}

#[tokio::test]
async fn a_parent_that_does_not_connect_is_named_in_the_refusal() {
    let scene = Scene::new().await;
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000));
    for said in [
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\n\r\n<p>no</p>",
        "HTTP/1.1 502 Bad Gateway\r\n\r\n",
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "",
        &endless,
    ] {
        let text = said.to_owned();
        let parent = Parent::start(move |_| Action::Say(text.clone())).await;
        let keys = format!("egress: {{proxy: 'http://{}'}}", parent.address);
        let proxy = scene.start(&scene.yaml("api.test", &keys), &[]).await;
        let reply = get(&proxy).await;
        assert_eq!(reply.status, 502, "{said}");
        let problem = reply.problem();
        assert_eq!(problem["reason"], "upstream_unreachable");
        assert_eq!(problem["request_sent"], "no");
        assert!(
            problem["detail"].as_str().unwrap().contains("egress.proxy"),
            "{problem}"
        );
    }
    assert_eq!(scene.api.count(), 0);
}

#[tokio::test]
async fn a_parent_that_hangs_or_is_gone_does_not_hold_anybody_up() {
    let scene = Scene::new().await;
    let parent = Parent::start(|_| Action::Hang).await;
    let address = parent.address;
    let keys = format!("    timeouts: {{connect: 200ms}}\negress: {{proxy: 'http://{address}'}}");
    let yaml = scene.yaml("api.test", &keys);
    let proxy = scene.start(&yaml, &[]).await;
    let reply = get(&proxy).await;
    assert_eq!(reply.status, 504);
    assert_eq!(reply.problem()["request_sent"], "no");
    // The status says that it took too long, and the cause where.
    let (_, status) = proxy.json("/status").await;
    let servers = status["upstreams"].as_array().unwrap();
    let cause = servers.iter().find_map(|server| server["cause"].as_str());
    assert_eq!(cause, Some("parent_proxy"), "{status}");
    drop(parent);
    let reply = get(&proxy).await;
    assert_eq!(reply.status, 502);
    assert_eq!(reply.problem()["reason"], "upstream_unreachable");
}

#[tokio::test]
async fn a_token_call_that_the_parent_does_not_carry_is_unavailable() {
    let scene = Scene::new().await;
    let parent = Parent::start(|_| Action::Say("HTTP/1.1 407 No\r\n\r\n".to_owned())).await;
    let keys = format!("egress: {{proxy: {{token: 'http://{}'}}}}", parent.address);
    let yaml = scene.yaml_with_token_host("127.0.0.1", "login.test", &keys);
    let proxy = scene.start(&yaml, &[]).await;
    let reply = get(&proxy).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.problem()["reason"], "token_unavailable");
    let (_, status) = proxy.json("/status").await;
    let expected = "the parent proxy does not connect to the token endpoint";
    assert!(status.to_string().contains(expected), "{status}");
}
