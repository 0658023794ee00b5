use super::*;

fn at(status: u16, body: &str) -> Result<Reply, Failure> {
    read(
        StatusCode::from_u16(status).unwrap(),
        None,
        body.as_bytes(),
        "/data",
    )
}

fn failure(status: u16, body: &str) -> Failure {
    at(status, body).unwrap_err()
}

#[test]
fn every_providers_reply_is_understood() {
    let seconds = |number| Stated::For(Duration::from_secs(number));
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
            Stated::Over,
        ),
        (
            r#"{"access_token":"5f0c","token_type":"Bearer","expires_in":7011,"scope":"create_payment_links","created_at":1763036368}"#,
            "5f0c",
            seconds(7011),
            None,
            Stated::Nothing,
        ),
        (
            r#"{"access_token":"a1b2","expires_in":3600,"token_type":"bearer"}"#,
            "a1b2",
            seconds(3600),
            None,
            Stated::Nothing,
        ),
        (
            r#"{"success":true,"data":{"access_token":"eyQ","refresh_token":"eyQR","token_type":"Bearer","expires_in":900}}"#,
            "eyQ",
            seconds(900),
            Some("eyQR"),
            Stated::Nothing,
        ),
        (
            r#"{"success":true,"access_token":"flat","expires_in":"900"}"#,
            "flat",
            seconds(900),
            None,
            Stated::Nothing,
        ),
        (
            r#"{"access_token":"odd","scope":["a"],"token_type":7,"refresh_token":{},"error":null,"expires_in":true}"#,
            "odd",
            Stated::Nothing,
            None,
            Stated::Nothing,
        ),
    ] {
        let reply = at(200, body).unwrap();
        assert_eq!(reply.access_token.expose(), token, "{body}");
        assert_eq!(reply.lifetime, lifetime, "{body}");
        assert_eq!(
            reply.refresh_token.as_ref().map(Secret::expose),
            refresh,
            "{body}"
        );
        assert_eq!(reply.refresh_lifetime, refresh_lifetime, "{body}");
    }
}

#[test]
fn expires_in_may_be_a_number_a_float_or_a_numeric_string() {
    for (value, expected) in [
        ("3600", Stated::For(Duration::from_secs(3600))),
        ("1.5", Stated::For(Duration::from_millis(1500))),
        ("\"3600\"", Stated::For(Duration::from_secs(3600))),
        ("0", Stated::Over),
        ("-5", Stated::Over),
        ("\"0\"", Stated::Over),
        ("null", Stated::Nothing),
        ("\"soon\"", Stated::Nothing),
        ("\"NaN\"", Stated::Nothing),
        ("[]", Stated::Nothing),
        ("1e300", Stated::For(Duration::MAX)),
    ] {
        let reply = at(
            200,
            &format!(r#"{{"access_token":"t","expires_in":{value}}}"#),
        )
        .unwrap();
        assert_eq!(reply.lifetime, expected, "{value}");
    }
}

#[test]
fn a_success_status_without_a_token_is_a_failure() {
    assert_eq!(failure(200, ""), Failure::Malformed("the body is empty"));
    assert_eq!(
        failure(200, "<html>"),
        Failure::Malformed("the body is not JSON")
    );
    assert_eq!(
        failure(200, "[]"),
        Failure::Malformed("it is JSON, but not an object")
    );
    assert_eq!(
        failure(200, "{}"),
        Failure::Malformed("it has no access_token")
    );
    assert_eq!(
        failure(200, r#"{"access_token":""}"#),
        Failure::Malformed("it has no access_token")
    );
    for body in [
        r#"{"success":false,"access_token":"t"}"#,
        r#"{"success":false,"error":{"code":"INVALID_TOKEN","message":"expired"}}"#,
        r#"{"error":"invalid_grant","access_token":"t"}"#,
    ] {
        assert_eq!(
            failure(200, body),
            Failure::Malformed("it reports a failure with a success status"),
            "{body}"
        );
    }
}

#[test]
fn an_account_is_refused_by_code_or_by_any_object_at_401_or_403() {
    for (status, body, code) in [
        (400, r#"{"error":"invalid_client"}"#, "invalid_client"),
        (
            401,
            r#"{"error":"unauthorized_client"}"#,
            "unauthorized_client",
        ),
        (200, r#"{"error":"invalid_scope"}"#, "invalid_scope"),
        (403, r#"{"message":"Invalid credentials"}"#, "no error code"),
        (
            401,
            r#"{"success":false,"error":{"code":"NOPE"}}"#,
            "an unknown error code",
        ),
        (401, "{}", "no error code"),
    ] {
        assert_eq!(
            failure(status, body),
            Failure::Rejected(code),
            "{status} {body}"
        );
    }
}

#[test]
fn trouble_of_the_endpoints_own_is_no_refusal_at_any_status() {
    for (status, body, code) in [
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
        assert_eq!(failure, Failure::InTrouble(code), "{status} {body}");
        assert!(failure.is_outage() && !failure.is_about_secret());
        assert_eq!(failure.outcome(), FetchOutcome::Unavailable);
    }
    // And a refusal is one, whatever status it is filed under.
    for status in [200, 400, 401, 429, 500, 503] {
        for code in ["invalid_client", "unauthorized_client", "invalid_scope"] {
            let expected = match status {
                429 => Failure::RateLimited(None),
                _ => Failure::Rejected(code),
            };
            let body = format!("{{\"error\":\"{code}\"}}");
            assert_eq!(failure(status, &body), expected, "{status} {code}");
        }
    }
}

#[test]
fn a_page_of_html_says_nothing_about_the_account() {
    assert_eq!(failure(403, "<html>blocked</html>"), Failure::Status(403));
    assert_eq!(failure(401, ""), Failure::Status(401));
    assert_eq!(failure(500, r#"{"error":"busy"}"#), Failure::Status(500));
    assert_eq!(failure(302, ""), Failure::Status(302));
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
        (403, r#"{"retry_after":99999}"#, seconds(900)),
        (400, r#"{"error":"rate_limit_exceeded"}"#, None),
    ] {
        assert_eq!(failure(status, body), Failure::RateLimited(wait), "{body}");
    }
    let header = |body: &str| {
        read(
            StatusCode::TOO_MANY_REQUESTS,
            seconds(3),
            body.as_bytes(),
            "",
        )
    };
    assert_eq!(header("").unwrap_err(), Failure::RateLimited(seconds(3)));
    assert_eq!(
        header(r#"{"retry_after":9}"#).unwrap_err(),
        Failure::RateLimited(seconds(9))
    );
}

#[test]
fn a_token_beside_a_retry_after_is_a_token() {
    assert!(at(200, r#"{"access_token":"t","retry_after":5}"#).is_ok());
}
