//! Answers of token endpoints that break a rule a little: what is read all the same, and how the rest is named.

use std::io::Write as _;

use serde_json::Value;

use super::secrets::knows_only;
use super::*;
use crate::support::idp::reply;
use crate::support::proxy::Program;
use crate::support::raw::RawUpstream;

/// An endpoint that always gives this answer.
async fn saying(status: u16, fields: &[(&'static str, &str)], body: impl Into<Bytes>) -> Idp {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let body = body.into();
    let script = move |_| {
        let mut answer = Response::builder().status(status);
        for (name, value) in &fields {
            answer = answer.header(*name, value);
        }
        let answer = answer.body(full(body.clone())).unwrap();
        async move { answer }
    };
    Idp::start(script).await
}

async fn rig(idp: Idp) -> Rig {
    Rig::of(api().await, idp, "token.wait: 300ms").await
}

/// What `/status` says of the last error.
async fn last_error(proxy: &Proxy) -> String {
    let (_, status) = proxy.json("/status").await;
    status["tokens"][0]["last_error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const TOKEN: &str = r#"{"access_token":"t","expires_in":3600}"#;

#[tokio::test]
async fn an_answer_that_is_compressed_is_a_token_labelled_or_not() {
    for fields in [&[("content-encoding", "gzip")][..], &[]] {
        let rig = rig(saying(200, fields, gzip(TOKEN)).await).await;
        assert_eq!(rig.get("/a").await.status, 200, "{fields:?}");
        assert_eq!(rig.api.only().all("authorization"), ["Bearer t"]);
        assert_eq!(rig.idp.seen()[0].all("accept-encoding"), ["identity"]);
    }
}

#[tokio::test]
async fn what_an_answer_is_instead_of_a_token_is_in_status() {
    let zstd = &b"\x28\xb5\x2f\xfd\x04\x00\x01"[..];
    let bomb = gzip(&" ".repeat(4 << 20));
    for (fields, body, named) in [
        (
            &[("content-encoding", "zstd")][..],
            zstd.to_vec(),
            "content coding zstd",
        ),
        (&[("content-encoding", "gzip")], bomb, "larger than 1 MiB"),
        (
            &[("content-type", "application/json")],
            b"<!doctype html><p>s3cret".to_vec(),
            "HTML page",
        ),
        (&[], b"".to_vec(), "empty"),
    ] {
        let rig = rig(saying(200, fields, body).await).await;
        assert_unavailable(&rig.get("/a").await);
        let error = last_error(&rig.proxy).await;
        assert!(
            error.contains(named) && !error.contains("s3cret"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_response_that_does_not_say_where_it_ends_is_in_status_as_what_it_is() {
    let ends_twice = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok";
    for (bytes, named) in [
        (&b"SSH-2.0-x\r\n\r\n"[..], "the response has no status line"),
        (ends_twice, "Content-Length is not one number"),
    ] {
        let (api, endpoint) = (api().await, RawUpstream::answering(bytes).await);
        let acme = acme(&api.url(), &endpoint.url(), "token.wait: 300ms");
        let proxy = Proxy::start(&acme).await;
        assert_eq!(send(&proxy, "GET", "http://api.test/a").await.status, 503);
        let said = last_error(&proxy).await;
        assert!(said.contains(named), "{said}");
        assert_eq!(outcomes(&proxy).await[0].0, "malformed", "{named}");
    }
}

#[tokio::test]
async fn a_form_is_a_token_whatever_its_content_type() {
    for content_type in [
        "text/html; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/json",
    ] {
        let fields = [("content-type", content_type)];
        let body = "access_token=t&expires_in=3600&token_type=bearer";
        let rig = rig(saying(200, &fields, body).await).await;
        assert_eq!(rig.get("/a").await.status, 200, "{content_type}");
        assert_eq!(rig.api.only().all("authorization"), ["Bearer t"]);
    }
}

#[tokio::test]
async fn utf_16_a_byte_order_mark_and_a_page_behind_the_object_cost_nothing() {
    let wide: Vec<u8> = TOKEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content_type, body) in [
        ("application/json; charset=utf-16le", wide.clone()),
        (
            "application/json; charset=utf-16",
            [&[0xff, 0xfe][..], &wide].concat(),
        ),
        (
            "application/json",
            ["\u{feff}", TOKEN].concat().into_bytes(),
        ),
        (
            "application/json",
            [TOKEN, "\n<!-- served by x --><html>"]
                .concat()
                .into_bytes(),
        ),
        ("application/json", [")]}',\n", TOKEN].concat().into_bytes()),
    ] {
        let rig = rig(saying(200, &[("content-type", content_type)], body).await).await;
        assert_eq!(rig.get("/a").await.status, 200, "{content_type}");
    }
}

#[tokio::test]
async fn the_pause_that_a_token_endpoint_asks_for_is_kept_and_callers_are_told() {
    let date = |seconds| {
        let at = bursar_base::clock::wall() + std::time::Duration::from_secs(seconds);
        httpdate::fmt_http_date(at)
    };
    for (status, asked) in [
        (503, "120".to_owned()),
        (503, date(120)),
        (502, "119.5".to_owned()),
        (500, " 120 ".to_owned()),
        (403, "120".to_owned()),
        (429, date(120)),
    ] {
        let rig = rig(saying(status, &[("retry-after", &asked)], "<html>").await).await;
        for _ in 0..5 {
            let reply = rig.get("/a").await;
            assert_unavailable(&reply);
            let told: u64 = reply.all("retry-after")[0].parse().unwrap();
            assert!((100..=120).contains(&told), "{status} {asked}: {told}");
        }
        assert_eq!(rig.idp.calls(), 1, "{status} {asked}");
    }
}

#[tokio::test]
async fn an_account_that_is_misconfigured_shows_the_errors_name_and_no_secret() {
    for name in [
        "unsupported_grant_type",
        "invalid_target",
        "ACME-1042_TENANT_SUSPENDED",
    ] {
        let body = json!({ "error": name, "error_description": CLIENT_SECRET }).to_string();
        let rig = rig(saying(400, &[], body).await).await;
        assert_unavailable(&rig.get("/a").await);
        let error = last_error(&rig.proxy).await;
        let told =
            format!("the token endpoint answered 400 ({name}): it refuses the request itself");
        assert!(error.starts_with(&told), "{error}");
    }
    // An endpoint that repeats what it was sent.
    let idp = Idp::start(|call| async move {
        let secret = call.field("client_secret").unwrap();
        reply(400, &json!({ "error": format!("bad secret {secret}") }))
    });
    let rig = rig(idp.await).await;
    assert_unavailable(&rig.get("/a").await);
    let error = last_error(&rig.proxy).await;
    let told =
        "the token endpoint answered 400 (an unknown error code): it refuses the request itself";
    assert!(
        error.starts_with(told) && !error.contains(CLIENT_SECRET),
        "{error}"
    );
}

#[tokio::test]
async fn a_401_without_json_has_the_other_secret_tried_once() {
    let idp = Idp::start(|call| async move {
        match call.field("client_secret").as_deref() {
            Some("n3xt") => token("t"),
            _ => answer(401, "<html>Unauthorized</html>"),
        }
    });
    let rig = Rig::of(api().await, idp.await, "next_client_secret: n3xt").await;
    assert_eq!(rig.get("/a").await.status, 200);
    assert_eq!(rig.idp.calls(), 2);
    let rig = Rig::of(
        api().await,
        knows_only("n3ither").await,
        "next_client_secret: n3xt",
    )
    .await;
    let reply = rig.get("/a").await;
    assert_eq!(reply.problem()["reason"], "credentials_rejected");
    assert_eq!(rig.idp.calls(), 2);
}

#[tokio::test]
async fn client_credentials_that_are_refused_as_a_grant_are_refused_credentials() {
    let body = r#"{"error":"invalid_grant"}"#;
    let rig = rig(saying(400, &[], body).await).await;
    for _ in 0..2 {
        let reply = rig.get("/a").await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.problem()["reason"], "credentials_rejected");
    }
    // The second request was told at once.
    assert_eq!(rig.idp.calls(), 1);
}

/// What `/status` remarks about the token.
async fn remarks(proxy: &Proxy) -> Value {
    let (_, status) = proxy.json("/status").await;
    status["tokens"][0]["remarks"].clone()
}

#[tokio::test]
async fn what_is_odd_about_a_token_that_is_used_is_in_status() {
    const LIFETIME: &str =
        "its expires_in is in no form that is known: token.default_lifetime is taken";
    const SCHEME: &str = "its access_token began with `Bearer `, which was left out";
    const TYPE: &str = "its token_type is not Bearer, and it is sent as Bearer nevertheless";
    for (members, expected) in [
        (r#""expires_in":"3600s""#, json!([LIFETIME])),
        (r#""expires_in":"2026-12-01T00:00:00Z""#, json!([LIFETIME])),
        (r#""expires_in":true"#, json!([LIFETIME])),
        (r#""expires_in":60,"token_type":"mac""#, json!([TYPE])),
        (
            r#""token_type":"DPoP","expires_in":"1 h""#,
            json!([LIFETIME, TYPE]),
        ),
        (r#""expires_in":"3600","token_type":"bearer""#, json!([])),
        (r#""expires_in":null,"token_type":null"#, json!([])),
        (r#""token_type":"""#, json!([])),
    ] {
        let body = format!(r#"{{"access_token":"t",{members}}}"#);
        let rig = rig(saying(200, &[], body).await).await;
        assert_eq!(rig.get("/a").await.status, 200, "{members}");
        assert_eq!(remarks(&rig.proxy).await, expected, "{members}");
    }
    let rig = rig(saying(200, &[], r#"{"access_token":"Bearer t"}"#).await).await;
    assert_eq!(rig.get("/a").await.status, 200);
    assert_eq!(rig.api.only().all("authorization"), ["Bearer t"]);
    assert_eq!(remarks(&rig.proxy).await, json!([SCHEME]));
}

#[tokio::test]
async fn what_is_odd_about_tokens_is_warned_of_once() {
    let idp = Idp::start(|call| async move {
        let token = format!("t{}", call.number);
        reply(
            200,
            &json!({"access_token": token, "expires_in": "3600s", "token_type": "mac"}),
        )
    });
    let api = Upstream::start(|request| async move {
        let is_new = request.headers()["authorization"] == "Bearer t2";
        answer(if is_new { 200 } else { 401 }, "")
    });
    let (api, idp) = (api.await, idp.await);
    let program = Program::start(&acme(&api.url(), &idp.url(), ""), "info").await;
    let request = Request::get("http://api.test/x").body(full("")).unwrap();
    let reply = Caller::connect(program.listen).await.request(request).await;
    assert_eq!((reply.status.as_u16(), idp.calls()), (200, 2));
    let count = |what: &str| program.logged().matches(what).count();
    eventually(|| async { count("\"message\":\"request\"") == 1 }).await;
    for what in ["expires_in is in no form", "token_type is not Bearer"] {
        assert_eq!(count(what), 1, "{}", program.logged());
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_the_request_itself_is_told_from_one_that_fails() {
    for (status, body) in [
        (400, r#"{"error":"invalid_request"}"#),
        (400, r#"{"error":"unsupported_grant_type"}"#),
        (404, "<html>not here"),
        (405, ""),
        (415, r#"{"error":"x"}"#),
    ] {
        let rig = rig(saying(status, &[], body).await).await;
        let reply = rig.get("/a").await;
        assert_unavailable(&reply);
        assert_eq!(
            reply.problem()["detail"],
            "the provider's token endpoint refuses the request itself; check token.url, token.encoding, token.client_auth and token.params",
            "{status} {body}"
        );
        let line = &rig.proxy.access_lines(1).await[0];
        assert_eq!(line["detail"], "request_refused");
        let said = last_error(&rig.proxy).await;
        let expected = format!("the token endpoint answered {status}");
        assert!(
            said.contains(&expected) && said.contains("check token.url"),
            "{said}"
        );
    }
    for (status, body) in [
        (400, r#"{"error":"server_error"}"#),
        (422, "{}"),
        (500, "{}"),
    ] {
        let rig = rig(saying(status, &[], body).await).await;
        let reply = rig.get("/a").await;
        assert_unavailable(&reply);
        let detail = &reply.problem()["detail"];
        assert_eq!(
            *detail, "the provider's token endpoint fails",
            "{status} {body}"
        );
    }
}
