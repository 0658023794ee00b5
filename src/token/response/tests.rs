mod bodies;

use serde_json::json;

use super::*;
use bursar_telemetry::metrics::FetchOutcome;

/// A body that breaks off otherwise than by a missing close_notify.
const CUT_OFF: Body = Body::CutOff {
    lacks_close_notify: false,
};

/// A secret of the request.
const SECRET: &str = "s3cr3t-0f-acme";

fn raw(status: u16, codings: &str, body: impl Into<Vec<u8>>) -> RawResponse {
    RawResponse {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: None,
        codings: codings.to_owned(),
        body: Body::Whole(body.into().into()),
    }
}

fn read_it(raw: &RawResponse) -> Result<TokenResponse, Failure> {
    read(raw, "/data", |text| repeats(text, SECRET))
}

fn at(status: u16, body: &str) -> Result<TokenResponse, Failure> {
    read_it(&raw(status, "", body))
}

fn code(name: &str) -> Detail {
    Detail::Code(ErrorCode::new(name).unwrap())
}

/// The token in a response of 200.
fn token_in(codings: &str, body: impl Into<Vec<u8>>) -> String {
    let response = read_it(&raw(200, codings, body)).unwrap();
    response.access_token.expose().to_owned()
}

/// What a response of 200 is instead of a token.
fn instead(codings: &str, body: impl Into<Vec<u8>>) -> String {
    match read_it(&raw(200, codings, body)) {
        Err(Failure::Malformed(detail)) => detail.to_string(),
        other => panic!("{other:?}"),
    }
}

fn failure(status: u16, body: &str) -> Failure {
    at(status, body).unwrap_err()
}

#[test]
fn every_providers_reply_is_understood() {
    let seconds = |number| ExpiresIn::For(Duration::from_secs(number));
    for (body, token, lifetime, refresh, refresh_lifetime) in [
        (
            r#"{"access_token":"eyA","expires_in":300,"refresh_expires_in":1800,"refresh_token":"eyR","token_type":"Bearer","not-before-policy":0,"session_state":"6b1f","scope":"profile email"}"#,
            "eyA",
            seconds(300),
            Some("eyR"),
            seconds(1800),
        ),
        (
            r#"{"access_token":"eyA","expires_in":300,"refresh_expires_in":0,"token_type":"Bearer"}"#,
            "eyA",
            seconds(300),
            None,
            ExpiresIn::Already,
        ),
        (
            r#"{"access_token":"5f0c","token_type":"Bearer","expires_in":7011,"scope":"create_payment_links","created_at":1763036368}"#,
            "5f0c",
            seconds(7011),
            None,
            ExpiresIn::Unstated,
        ),
        (
            r#"{"access_token":"a1b2","expires_in":3600,"token_type":"bearer"}"#,
            "a1b2",
            seconds(3600),
            None,
            ExpiresIn::Unstated,
        ),
        (
            r#"{"success":true,"data":{"access_token":"eyQ","refresh_token":"eyQR","token_type":"Bearer","expires_in":900}}"#,
            "eyQ",
            seconds(900),
            Some("eyQR"),
            ExpiresIn::Unstated,
        ),
        (
            r#"{"success":true,"access_token":"flat","expires_in":"900"}"#,
            "flat",
            seconds(900),
            None,
            ExpiresIn::Unstated,
        ),
        (
            r#"{"access_token":" odd\t","scope":["a"],"token_type":7,"refresh_token":{},"error":null,"expires_in":true}"#,
            "odd",
            ExpiresIn::Unstated,
            None,
            ExpiresIn::Unstated,
        ),
    ] {
        let response = at(200, body).unwrap();
        assert_eq!(response.access_token.expose(), token, "{body}");
        assert_eq!(response.lifetime, lifetime, "{body}");
        assert_eq!(
            response.refresh_token.as_ref().map(Secret::expose),
            refresh,
            "{body}"
        );
        assert_eq!(response.refresh_lifetime, refresh_lifetime, "{body}");
    }
}

#[test]
fn expires_in_may_be_a_number_a_float_or_a_numeric_string() {
    for (value, expected) in [
        ("3600", ExpiresIn::For(Duration::from_secs(3600))),
        ("1.5", ExpiresIn::For(Duration::from_millis(1500))),
        ("\"3600\"", ExpiresIn::For(Duration::from_secs(3600))),
        ("0", ExpiresIn::Already),
        ("-5", ExpiresIn::Already),
        ("\"0\"", ExpiresIn::Already),
        ("null", ExpiresIn::Unstated),
        ("\"soon\"", ExpiresIn::Unstated),
        ("\"NaN\"", ExpiresIn::Unstated),
        ("[]", ExpiresIn::Unstated),
        ("1e300", ExpiresIn::For(Duration::MAX)),
    ] {
        let response = at(
            200,
            &format!(r#"{{"access_token":"t","expires_in":{value}}}"#),
        )
        .unwrap();
        assert_eq!(response.lifetime, expected, "{value}");
    }
}

#[test]
fn a_success_status_without_a_token_is_a_failure_that_says_what_came_instead() {
    let latin1 = b"Zugriff verweigert: Schl\xfcssel".to_vec();
    for (body, what) in [
        (&b""[..], "the body is empty"),
        (b" \r\n", "the body is empty"),
        (b"<html>", "the body is an HTML page"),
        (b"\n<!DOCTYPE HTML PUBLIC>", "the body is an HTML page"),
        (
            br#"<html><script>x={"access_token":"t"}</script>"#,
            "the body is an HTML page",
        ),
        (b"<?xml version='1.0'?><error code='7'/>", "the body is XML"),
        (b"[]", "it is JSON, but not an object"),
        (br#"["access_token"]"#, "it is JSON, but not an object"),
        (
            br#"[{"access_token":"a"},{"access_token":"b"}]"#,
            "it is JSON, but not an object",
        ),
        (b"null", "it is JSON, but not an object"),
        (br#""t""#, "it is JSON, but not an object"),
        (
            br#"{"access_tok"#,
            "it is JSON that breaks off or is garbled",
        ),
        (
            br#"{"access_token":"t"#,
            "it is JSON that breaks off or is garbled",
        ),
        (b"{}", "it has no access_token"),
        (br#"{"access_token":""}"#, "it has no access_token"),
        (br#"{"access_token":" \t "}"#, "it has no access_token"),
        (br#"{"access_token":["t"]}"#, "it has no access_token"),
        (b"Service temporarily unavailable", "the body is plain text"),
        (b"expires_in=3600&scope=a", "the body is plain text"),
        (&latin1, "the body is not UTF-8"),
        (b"\x00\x00\x01\x02", "the body is binary"),
        (
            br#"{"access_token":"a\r\nb"}"#,
            "it holds bytes that no header may hold",
        ),
    ] {
        assert_eq!(instead("", body), what, "{}", String::from_utf8_lossy(body));
    }
    for body in [
        r#"{"success":false,"access_token":"t"}"#,
        r#"{"success":False,"data":{"access_token":"t"}}"#,
        "success=false&access_token=t",
    ] {
        assert_eq!(
            instead("", body),
            "it reports a failure with a success status",
            "{body}"
        );
    }
    for (body, name) in [
        (
            r#"{"success":false,"error":{"code":"INVALID_TOKEN","message":"expired"}}"#,
            "INVALID_TOKEN",
        ),
        (
            r#"{"error":"invalid_grant","access_token":"t"}"#,
            "invalid_grant",
        ),
        (
            "error=bad_verification_code&error_description=x",
            "bad_verification_code",
        ),
    ] {
        assert_eq!(failure(200, body), Failure::Malformed(code(name)), "{body}");
    }
}

#[test]
fn an_account_is_refused_by_code_or_by_any_object_at_401_or_403_or_by_any_401() {
    let no_code = Detail::Is("no error code");
    for (status, body, detail) in [
        (400, r#"{"error":"invalid_client"}"#, code("invalid_client")),
        (
            401,
            r#"{"error":"unauthorized_client"}"#,
            code("unauthorized_client"),
        ),
        (200, r#"{"error":"invalid_scope"}"#, code("invalid_scope")),
        (
            400,
            r#"{"errorCode":"invalid_client","errorSummary":"x"}"#,
            code("invalid_client"),
        ),
        (400, r#"{"code":"INVALID_CLIENT"}"#, code("invalid_client")),
        (401, r#"{"code":"E0000004"}"#, no_code),
        (403, r#"{"message":"Invalid credentials"}"#, no_code),
        (
            403,
            r#"[{"message":"Session expired","errorCode":"INVALID_SESSION_ID"}]"#,
            no_code,
        ),
        (
            401,
            r#"{"success":false,"error":{"code":"NOPE"}}"#,
            code("NOPE"),
        ),
        (401, "{}", no_code),
        (401, "", Detail::Is("the body is empty")),
        (401, "<html>", Detail::Is("the body is an HTML page")),
        (401, "Bad credentials", Detail::Is("the body is plain text")),
        (401, "[]", Detail::Is("it is JSON, but not an object")),
    ] {
        assert_eq!(
            failure(status, body),
            Failure::Rejected(detail, None),
            "{status} {body}"
        );
    }
    for body in [Body::TooLarge, CUT_OFF] {
        let raw = RawResponse {
            body,
            ..raw(401, "", "")
        };
        assert!(matches!(read_it(&raw), Err(Failure::Rejected(..))));
    }
}

#[test]
fn trouble_of_the_endpoints_own_is_no_refusal_at_any_status() {
    for (status, body, name) in [
        (401, r#"{"error":"server_error"}"#, "server_error"),
        (403, r#"{"error":"server_error"}"#, "server_error"),
        (
            401,
            r#"{"error":"temporarily_unavailable","error_description":"x"}"#,
            "temporarily_unavailable",
        ),
        (
            400,
            r#"{"error":{"code":"TEMPORARILY_UNAVAILABLE"}}"#,
            "temporarily_unavailable",
        ),
        (200, r#"{"error":"server_error"}"#, "server_error"),
    ] {
        let failure = failure(status, body);
        assert_eq!(failure, Failure::ServerError(code(name)), "{status} {body}");
        assert!(failure.is_outage() && !failure.is_about_secret());
        assert_eq!(failure.outcome(), FetchOutcome::Unavailable);
    }
    let asked = asking(401, r#"{"error":"server_error"}"#);
    assert_eq!(asked, Failure::RetryLater(401, Duration::from_secs(3)));
    // And a refusal is one, whatever status it is filed under.
    for status in [200, 400, 401, 429, 500, 503] {
        for name in ["invalid_client", "unauthorized_client", "invalid_scope"] {
            let expected = match status {
                429 => Failure::LimitedOrRefused(None),
                _ => Failure::Rejected(code(name), None),
            };
            let body = format!("{{\"error\":\"{name}\"}}");
            assert_eq!(failure(status, &body), expected, "{status} {name}");
        }
    }
}

#[test]
fn a_page_of_html_says_nothing_about_the_account() {
    let page = Detail::Is("the body is an HTML page");
    assert_eq!(
        failure(403, "<html>blocked</html>"),
        Failure::ErrorStatus(403, page)
    );
    assert_eq!(
        failure(500, r#"{"error":"busy"}"#),
        Failure::ErrorStatus(500, code("busy"))
    );
    assert_eq!(
        failure(302, ""),
        Failure::ErrorStatus(302, Detail::Is("the body is empty"))
    );
    let cut_off = |status| {
        let raw = RawResponse {
            body: CUT_OFF,
            ..raw(status, "", "")
        };
        read_it(&raw).unwrap_err()
    };
    assert_eq!(cut_off(200), Failure::Broken);
    assert_eq!(
        cut_off(502),
        Failure::ErrorStatus(502, Detail::Is("its body breaks off"))
    );
}

#[test]
fn a_misconfigured_account_shows_the_errors_name_and_never_a_secret() {
    for name in [
        "unsupported_grant_type",
        "invalid_request",
        "invalid_target",
        "MANDATE_MISSING",
        "E-1001",
        "auth.key_expired",
        "AADSTS7000215",
        // Known, whatever of it is in a secret.
        "access_denied",
    ] {
        let body = json!({ "error": name }).to_string();
        assert_eq!(failure(400, &body), Failure::ErrorStatus(400, code(name)));
        let text = failure(400, &body).to_string();
        let told =
            format!("the token endpoint answered 400 ({name}): it refuses the request itself");
        assert!(text.starts_with(&told), "{text}");
    }
    let long = "x".repeat(500);
    for hidden in [
        SECRET,
        "bad secret S3CR3T-0F-ACME!",
        // A part of it.
        "s3cr3t-0f",
        "bad_s3cr3t-_given",
        "x.3T-0F-A.x",
        "bad secret s3cr3t-0f-ac*** given",
        // A sentence.
        "Bad credentials",
        // Somebody's token.
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln",
        "5f0c6a1b2d3e4f5061728394a5b6c7d8",
        "control\u{7}",
        "a\"quote",
        "é",
    ] {
        for body in [
            json!({ "error": hidden }),
            json!({ "error": { "code": hidden } }),
            json!({ "error": hidden.to_owned() + &long }),
        ] {
            let text = failure(400, &body.to_string()).to_string();
            let told = "the token endpoint answered 400 (an unknown error code): it refuses the request itself; check token.url, token.encoding, token.client_auth and token.params";
            assert_eq!(text, told, "{body}");
        }
    }
    let shown = failure(400, &json!({ "error": "x".repeat(64) }).to_string()).to_string();
    assert_eq!(shown.matches('x').count(), 64);
    let token = r#"{"error":"tok-en","access_token":"tok-en"}"#;
    assert!(!failure(200, token).to_string().contains("tok-en"));
    // A short secret is in too many words.
    assert!(!repeats("unsupported_grant_type", "s") && repeats("s", "s"));
    assert!(repeats("bad_hush-given", "hush") && !repeats("hushed", "hush"));
    assert!(!repeats("anything", "") && !repeats("", "secret"));
}

#[test]
fn a_rate_limit_is_known_by_status_code_or_body_at_any_status() {
    let seconds = |number| Some(Duration::from_secs(number));
    assert_eq!(failure(429, "slow down"), Failure::RateLimited(None));
    for (status, body, wait) in [
        (
            401,
            r#"{"error":"rate_limit_exceeded","retry_after":45}"#,
            seconds(45),
        ),
        (200, r#"{"success":false,"retry_after":"7"}"#, seconds(7)),
        (
            400,
            r#"{"error":{"code":"x","retry_after":7.0}}"#,
            seconds(7),
        ),
        (403, r#"{"retry_after":99999}"#, seconds(900)),
        (400, r#"{"error":"rate_limit_exceeded"}"#, None),
    ] {
        assert_eq!(failure(status, body), Failure::RateLimited(wait), "{body}");
    }
    assert_eq!(asking(429, ""), Failure::RateLimited(seconds(3)));
    assert_eq!(
        asking(429, r#"{"retry_after":9}"#),
        Failure::RateLimited(seconds(9))
    );
}

/// What a response with `Retry-After: 3` means.
fn asking(status: u16, body: &str) -> Failure {
    let retry_after = Some(Duration::from_secs(3));
    let raw = RawResponse {
        retry_after,
        ..raw(status, "", body)
    };
    read_it(&raw).unwrap_err()
}

#[test]
fn retry_after_counts_at_every_5xx_and_403_as_at_429() {
    let three = Duration::from_secs(3);
    for body in ["", "<html>", "{}", r#"{"error":"firewall"}"#, "busy"] {
        let expected = Failure::LimitedOrRefused(Some(three));
        assert_eq!(asking(403, body), expected, "{body}");
    }
    for body in ["", "<html>", r#"{"error":"server_error"}"#, "busy"] {
        for status in [500, 501, 502, 503, 504, 522, 599] {
            assert_eq!(
                asking(status, body),
                Failure::RetryLater(status, three),
                "{body}"
            );
        }
        assert_eq!(
            asking(429, body),
            Failure::RateLimited(Some(three)),
            "{body}"
        );
    }
    assert!(matches!(asking(400, ""), Failure::ErrorStatus(400, _)));
    assert!(matches!(asking(401, ""), Failure::Rejected(..)));
    assert!(matches!(asking(200, ""), Failure::Malformed(_)));
    let body = Body::TooLarge;
    let raw = RawResponse {
        retry_after: Some(MAX_RETRY_AFTER * 2),
        body,
        ..raw(503, "", "")
    };
    assert_eq!(
        read_it(&raw).unwrap_err(),
        Failure::RetryLater(503, MAX_RETRY_AFTER)
    );
}

#[test]
fn a_refusal_stays_one_where_a_wait_is_asked_for() {
    let asked = Some(Duration::from_secs(3));
    for status in [400, 401, 403, 500, 503] {
        for name in ["invalid_client", "unauthorized_client", "invalid_scope"] {
            let body = json!({ "error": name }).to_string();
            let expected = Failure::Rejected(code(name), asked);
            assert_eq!(asking(status, &body), expected, "{status}");
        }
    }
    for status in [400, 401, 403] {
        for name in ["invalid_grant", "invalid_request", "access_denied"] {
            let body = json!({ "error": name }).to_string();
            let expected = Failure::Rejected(code(name), asked);
            assert_eq!(asking(status, &body), expected, "{status}");
        }
    }
    let body = r#"{"error":"server_error"}"#;
    assert_eq!(
        asking(403, body),
        Failure::RetryLater(403, Duration::from_secs(3))
    );
    for body in [r#"{"error":"slow_down"}"#, r#"{"error":"SLOW_DOWN"}"#] {
        assert_eq!(asking(403, body), Failure::RateLimited(asked));
        assert_eq!(failure(400, body), Failure::RateLimited(None));
    }
    // No call before the wait is over, and yet the grant may be refused.
    for (status, body) in [
        (429, r#"{"error":"invalid_grant"}"#),
        (400, r#"{"error":"invalid_grant","retry_after":1}"#),
    ] {
        assert_eq!(asking(status, body), Failure::LimitedOrRefused(asked));
    }
}

#[test]
fn of_two_waits_the_longer_one_counts_and_none_below_zero() {
    for (wait, expected) in [
        ("9", 9),
        ("1", 3),
        ("0", 3),
        ("-5", 3),
        ("\"-5\"", 3),
        ("\"6s\"", 3),
        ("null", 3),
        ("1e300", 900),
    ] {
        let expected = Failure::RateLimited(Some(Duration::from_secs(expected)));
        let body = format!(r#"{{"retry_after":{wait}}}"#);
        assert_eq!(asking(429, &body), expected, "{body}");
        let body = format!(r#"{{"retry_after":2,"error":{{"retry_after":{wait}}}}}"#);
        assert_eq!(asking(429, &body), expected, "{body}");
    }
    let body = r#"{"retry_after":-5}"#;
    assert_eq!(
        asking(400, body),
        Failure::ErrorStatus(400, Detail::Is("no error code"))
    );
}

#[test]
fn a_token_beside_a_retry_after_is_a_token() {
    assert!(at(200, r#"{"access_token":"t","retry_after":5}"#).is_ok());
}

#[test]
fn scopes_that_were_not_granted_are_named() {
    let missing = |granted: &str, asked: &str| {
        let body = json!({"data": {"access_token": "t", "scope": granted}}).to_string();
        at(200, &body).unwrap().missing_scopes(asked)
    };
    for (granted, asked, expected) in [
        ("a b", "a b", ""),
        ("b a", "a", ""),
        ("a b", "a c b d", "c d"),
        ("ab", "a", "a"),
    ] {
        assert_eq!(missing(granted, asked), expected, "{granted} {asked}");
    }
    let array = at(200, r#"{"access_token":"t","scope":["a","b"]}"#).unwrap();
    assert_eq!(array.missing_scopes("a c"), "c");
    // Where it says nothing of them they are those that were asked for (RFC 6749 section 5.1).
    let silent = at(200, "{\"data\": {\"access_token\": \"t\"}}").unwrap();
    assert_eq!(silent.missing_scopes("a"), "");
}

#[test]
fn a_scheme_before_a_token_is_no_part_of_it() {
    for (text, token) in [
        ("Bearer t", "t"),
        ("bearer  t", "t"),
        (" BEARER\tt ", "t"),
        ("Bearert", "Bearert"),
        ("Bearer", "Bearer"),
    ] {
        let body = json!({ "access_token": text }).to_string();
        assert_eq!(token_in("", body), token, "{text:?}");
    }
    // More than a JSON Web Token has.
    let odd = "a.b-c_d~e+f/g==\"'{}[],;:!@#$%^&*()|\\<>?`";
    assert_eq!(
        token_in("", json!({ "access_token": odd }).to_string()),
        odd
    );
}

#[test]
fn what_no_header_carries_as_it_is_is_no_token() {
    const WORD: &str = "its access_token is the word `undefined` or `null`";
    const TEXT: &str =
        "its access_token holds white space or a character that is not printable ASCII";
    for (text, what) in [
        ("undefined", WORD),
        ("null", WORD),
        ("Bearer null", WORD),
        ("Bearer Bearer t", TEXT),
        ("a b", TEXT),
        ("a\tb", TEXT),
        ("a\u{e9}", TEXT),
        ("a\u{a0}", TEXT),
        ("a\u{200b}", TEXT),
        ("\u{feff}a", TEXT),
    ] {
        let body = json!({ "access_token": text }).to_string();
        assert_eq!(instead("", body), what, "{text:?}");
    }
}
