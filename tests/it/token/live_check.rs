//! What `bursar check --live` says of token endpoints and API hosts.

use std::path::Path;

use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::check::check_in;
use super::*;
use crate::support::parent::{Action, Parent};
use crate::support::program::run_in;
use crate::support::tls::{Authority, CA, ClientCertificate, directory};

async fn live(directory: &TempDir, yaml: &str) -> (Option<i32>, String) {
    check_in(directory, yaml, &["--live"]).await
}

#[track_caller]
fn assert_says(text: &str, line: &str) {
    let mut lines = text.lines().map(str::trim);
    assert!(lines.any(|said| said == line), "{line}\n{text}");
}

#[tokio::test]
async fn an_api_host_is_connected_to_and_its_tls_is_told() {
    let (directory, authority) = directory();
    let end = OffsetDateTime::now_utc() + Duration::days(90);
    let good = authority.server_with(&["127.0.0.1"], |certificate| certificate.not_after = end);
    let api = Upstream::with_tls(good, |_| async { answer(200, "") }).await;
    let idp = Idp::with_tls(
        authority.server(&["http/1.1"], ClientCertificate::Ignored),
        |_| async { crate::support::idp::reply(200, &json!({"access_token": "t"})) },
    );
    let idp = idp.await;
    let yaml = acme(&api.url(), &idp.url(), CA);
    let (code, text) = live(&directory, &yaml).await;
    assert_eq!(code, Some(0), "{text}");
    let date = end.date();
    let said = format!(
        "acme {}: TLS 1.3, HTTP/1.1, its certificate ends {date}T",
        api.url()
    );
    assert!(text.contains(&said), "{said}\n{text}");
    assert!(
        text.contains(&format!("; {}: 200 application/json\n", idp.url())),
        "{text}"
    );
    assert_eq!(api.count(), 0, "nothing is sent");
    let (code, text) = live(&directory, &format!("{yaml}    http: '2'\n")).await;
    assert_eq!(code, Some(1), "{text}");
    let said = format!("acme {}: FAILED: tls_other (", api.url());
    assert!(text.contains(&said), "{text}");
}

#[tokio::test]
async fn programs_read_of_each_attempt_what_people_read() {
    let directory = tempfile::tempdir().unwrap();
    let refusing = Idp::start(|_| async {
        crate::support::idp::reply(401, &json!({"error": "invalid_client"}))
    });
    let refusing = refusing.await;
    let yaml = format!(
        "providers: {{acme: {{hosts: ['*.shop.test'], client_id: i, client_secret: '{CLIENT_SECRET}', token: {{url: '{}', scopes: [read]}}}}}}\n",
        refusing.url()
    );
    let (code, people) = live(&directory, &yaml).await;
    let (json_code, programs) = check_in(&directory, &yaml, &["--live", "--json"]).await;
    assert_eq!((code, json_code), (Some(1), Some(1)), "{programs}");
    let report: serde_json::Value = serde_json::from_str(&programs).unwrap();
    assert_eq!(report["ok"], false, "{report:#}");
    let expected = json!([
        {"provider": "acme", "account": null, "scopes": null, "url": "https://*.shop.test", "ok": null, "message": "not tried, because it stands for many hosts", "cause": null, "status": null, "content_type": null, "redirect_host": null},
        {"provider": "acme", "account": "default", "scopes": "read", "url": refusing.url(), "ok": false, "message": format!("the token endpoint refuses the account (invalid_client); {}: 401 application/json", refusing.url()), "cause": null, "status": 401, "content_type": "application/json", "redirect_host": null},
    ]);
    assert_eq!(report["live"], expected, "{report:#}");
    for tried in report["live"].as_array().unwrap() {
        assert!(
            people.contains(tried["message"].as_str().unwrap()),
            "{people}"
        );
    }
    let idp = Idp::counting().await;
    let yaml = acme("http://127.0.0.1:9", &idp.url(), "");
    let (code, programs) = check_in(&directory, &yaml, &["--live", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&programs).unwrap();
    assert_eq!(code, Some(1), "{programs}");
    let rows = report["live"].as_array().unwrap();
    let told = rows
        .iter()
        .map(|row| json!([row["url"], row["ok"], row["cause"]]));
    let expected = json!([
        [idp.url(), true, null],
        ["http://127.0.0.1:9", false, "refused"],
    ]);
    assert_eq!(told.collect::<serde_json::Value>(), expected, "{report:#}");
}

#[tokio::test]
async fn why_an_api_host_or_a_token_endpoint_cannot_be_reached_is_told_by_its_cause() {
    let (directory, authority) = directory();
    let here = ["127.0.0.1"];
    let day = Duration::days(1);
    let expired = authority.server_with(&here, |certificate| {
        certificate.not_after = OffsetDateTime::now_utc() - day;
    });
    let elsewhere = authority.server_with(&["other.test"], |_| {});
    let wanting = authority.server(&["h2", "http/1.1"], ClientCertificate::Required);
    for (config, cause) in [
        (expired, "tls_expired"),
        (elsewhere, "tls_wrong_name"),
        (wanting, "tls_client_certificate"),
    ] {
        let server = Upstream::with_tls(config, |_| async { answer(200, "") }).await;
        let url = format!("{}/token", server.url());
        let (code, text) = live(&directory, &acme(&server.url(), &url, CA)).await;
        assert_eq!(code, Some(1), "{text}");
        let api = format!("acme {}: FAILED: {cause} (TLS failed: ", server.url());
        assert!(text.contains(&api), "{text}");
        let token = format!(
            "acme default: FAILED: the token endpoint cannot be reached ({cause}); {url}: {cause} ("
        );
        assert!(text.contains(&token), "{text}");
    }
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = nobody.local_addr().unwrap();
    let yaml = acme(
        &format!("http://{nobody}"),
        &format!("https://{nobody}/t"),
        CA,
    );
    let (code, text) = live(&directory, &yaml).await;
    assert_eq!(code, Some(1), "{text}");
    for said in [
        format!("acme http://{nobody}: FAILED: refused (cannot connect: "),
        format!("; https://{nobody}/t: refused (cannot connect: "),
    ] {
        assert!(text.contains(&said), "{text}");
    }
}

#[tokio::test]
async fn a_client_certificate_that_the_server_refuses_is_told_of_the_api_too() {
    let (directory, authority) = directory();
    let path = |name: &str| directory.path().join(name);
    Authority::new().write_client(&path("client.pem"), &path("client.key"));
    let wanting = authority.server(&["h2", "http/1.1"], ClientCertificate::Required);
    let server = Upstream::with_tls(wanting, |_| async { answer(200, "") }).await;
    let keys = "tls: {ca: ca.pem, certificate: client.pem, key: client.key}";
    let url = format!("{}/token", server.url());
    let (_, text) = live(&directory, &acme(&server.url(), &url, keys)).await;
    let said = format!("acme {}: FAILED: tls_client_certificate (", server.url());
    assert!(text.contains(&said), "{text}");
}

#[tokio::test]
async fn a_redirect_is_told_with_the_host_it_leads_to_and_a_page_by_its_type() {
    let directory = tempfile::tempdir().unwrap();
    for (location, expected) in [
        (
            "https://sso.other.test:8443/login?secret=x",
            "302 text/html, a redirect to sso.other.test:8443",
        ),
        ("/login", "302 text/html, a redirect"),
        // Whatever repeats a secret is left out.
        ("https://s3cret+of.test/", "302 text/html, a redirect"),
    ] {
        let idp = Idp::start(move |_| async move {
            let mut reply = answer(302, "<html>");
            let headers = reply.headers_mut();
            headers.insert("location", location.parse().unwrap());
            headers.insert("content-type", "text/html; charset=utf-8".parse().unwrap());
            reply
        });
        let idp = idp.await;
        let yaml = acme(&format!("http://{}", idp.address()), &idp.url(), "");
        let (code, text) = live(&directory, &yaml).await;
        assert_eq!(code, Some(1), "{text}");
        let said = format!("; {}: {expected}\n", idp.url());
        assert!(text.contains(&said), "{said}{text}");
    }
}

#[tokio::test]
async fn api_hosts_are_reached_through_the_parent_proxy_and_a_wildcard_is_left_out() {
    let (directory, authority) = directory();
    let config = authority.server(&["h2"], ClientCertificate::Ignored);
    let api = Upstream::with_tls(config, |_| async { answer(200, "") }).await;
    let address = api.address;
    let parent = Parent::start(move |target| match target {
        "api.test:443" => Action::To(address),
        _ => Action::Say("HTTP/1.1 403 Forbidden\r\n\r\n".to_owned()),
    })
    .await;
    let idp = Idp::counting().await;
    let yaml = format!(
        "egress: {{proxy: {{api: 'http://{}'}}}}\nproviders: {{acme: {{hosts: [api.test, closed.test, '*.shop.test'], client_id: i, client_secret: '{CLIENT_SECRET}', token: {{url: '{}'}}, {CA}}}}}\n",
        parent.address,
        idp.url()
    );
    let (code, text) = live(&directory, &yaml).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("acme https://api.test: TLS 1.3, HTTP/2, "),
        "{text}"
    );
    assert!(
        text.contains(
            "acme https://closed.test: FAILED: parent_proxy (the parent proxy does not connect: "
        ),
        "{text}"
    );
    assert_says(
        &text,
        "acme *.shop.test: not tried, because it stands for many hosts",
    );
}

#[tokio::test]
async fn a_server_that_only_the_system_trusts_gets_no_secret_where_ssl_cert_file_names_others() {
    let (directory, authority) = directory();
    let idp = Idp::with_tls(
        authority.server(&["http/1.1"], ClientCertificate::Ignored),
        |_| async { crate::support::idp::reply(200, &json!({"access_token": "t"})) },
    );
    let idp = idp.await;
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    Authority::new().write(Path::new(&path("corp.pem")));
    std::fs::create_dir(path("hashed")).unwrap();
    authority.write(Path::new(&path("hashed/0.pem")));
    let yaml = acme(&format!("http://{}", idp.address()), &idp.url(), "");
    std::fs::write(path("proxy.yaml"), yaml).unwrap();
    let missing = format!("SSL_CERT_FILE names {}, which cannot be read", path("none"));
    for (file, directories, code, said, calls) in [
        (path("corp.pem"), String::new(), 1, "tls_unknown_issuer", 0),
        // Beside one that is fine.
        (path("none"), path("hashed"), 2, &*missing, 0),
        // One that is empty counts as unset.
        (String::new(), String::new(), 1, "tls_unknown_issuer", 0),
        (path("ca.pem"), String::new(), 0, "a token for", 1),
        (String::new(), path("hashed"), 0, "a token for", 2),
    ] {
        let environment = [("SSL_CERT_FILE", &*file), ("SSL_CERT_DIR", &*directories)];
        let found = run_in(directory.path(), &["check", "--live"], &environment).await;
        assert_eq!(found.code, Some(code), "{found:?}");
        let text = found.out + &found.error;
        assert!(text.contains(said), "{said}\n{text}");
        assert_eq!(idp.calls(), calls, "{text}");
        if code == 2 {
            let started = run_in(directory.path(), &["run"], &environment).await;
            assert_eq!(started.code, Some(2), "{started:?}");
            assert!(started.error.contains(said), "{started:?}");
        }
    }
}
