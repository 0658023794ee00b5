//! Two client secrets: which one is tried, and when the other.

use super::*;
use bursar_config::SecretName;

const TWO: &str = "client_secret: old, next_client_secret: new";

/// Takes this secret alone, and refuses the other with that response.
fn takes(secret: &'static str, refusal: Said) -> impl Fn(&Call) -> Said + Send + Sync {
    move |call| match call.secret == secret {
        true => with_refresh(),
        false => refusal.clone(),
    }
}

fn refusals() -> [Said; 7] {
    [
        refuses(401, "invalid_client"),
        refuses(400, "unauthorized_client"),
        refuses(200, "invalid_client"),
        Said::Respond(403, r#"{"message":"Invalid credentials"}"#.into()),
        Said::Respond(401, "<html>who are you?</html>".into()),
        Said::Respond(401, String::new()),
        Said::RespondAfter(
            403,
            Duration::from_secs(3),
            r#"{"error":"invalid_client"}"#.into(),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_refused_secret_is_followed_by_the_other_one_in_the_same_flight() {
    for refusal in refusals() {
        let rigs = rigs_of(2, TWO, "", takes("new", refusal));
        assert_eq!(rigs[0].source.secret_in_use(), SecretName::Current);
        assert_eq!(rigs[0].obtain().await.unwrap(), "t2");
        assert_eq!(rigs[0].source.secret_in_use(), SecretName::Next);
        // Other tokens of the account begin with the one that works.
        assert_eq!(rigs[1].obtain().await.unwrap(), "t3");
        assert_eq!(rigs[0].secrets(), ["old", "new", "new"]);
        assert_eq!(rigs[0].start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_rotated_in_the_midst_of_it_without_a_request_that_fails() {
    let script = |call: &Call| {
        let works = if call.at.as_secs() < 1000 {
            "old"
        } else {
            "new"
        };
        takes(works, refuses(401, "invalid_client"))(call)
    };
    let rig = rigs_of(1, TWO, "", script).pop().unwrap();
    for second in 0..2000 {
        rig.until(f64::from(second)).await;
        rig.obtain().await.unwrap();
    }
    let secrets = rig.secrets();
    let changed = secrets.iter().position(|secret| secret == "new").unwrap();
    assert!(secrets[changed..].iter().all(|secret| secret == "new"));
    // One refusal in all.
    assert_eq!(rig.outcome(FetchOutcome::Rejected), 1);
}

#[tokio::test(start_paused = true)]
async fn two_refused_secrets_are_two_calls_and_then_a_cool_down() {
    for refusal in refusals() {
        let rig = rigs_of(1, TWO, "", in_turn([refusal])).pop().unwrap();
        for _ in 0..5 {
            assert!(matches!(rig.obtain().await, Err(Failure::Rejected(..))));
        }
        assert_eq!(rig.secrets(), ["old", "new"]);
        pass(5.0).await;
        drop(rig.obtain().await);
        assert_eq!(rig.secrets(), ["old", "new", "old", "new"]);
        assert_eq!(rig.source.secret_in_use(), SecretName::Current);
    }
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_secret_does_not_have_the_other_one_tried() {
    for said in [
        refuses(400, "invalid_scope"),
        refuses(401, "invalid_scope"),
        refuses(401, "invalid_request"),
        Said::Respond(500, "oops".into()),
        Said::Respond(403, "<html>a firewall</html>".into()),
        Said::RetryAfter(429, Duration::from_secs(60)),
    ] {
        let rig = rigs_of(1, TWO, "wait: 1ms", in_turn([said])).pop().unwrap();
        drop(rig.obtain().await);
        assert_eq!(rig.secrets(), ["old"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_other_secret_is_not_taken_for_the_right_one_where_nothing_is_said_about_it() {
    let script = [refuses(401, "invalid_client"), Said::Fails(Failure::Broken)];
    let rig = rigs_of(1, TWO, "wait: 1ms", in_turn(script)).pop().unwrap();
    drop(rig.obtain().await);
    assert_eq!(rig.secrets(), ["old", "new"]);
    assert_eq!(rig.source.secret_in_use(), SecretName::Current);
    // It is known where it is the scope that is refused.
    let script = [
        refuses(401, "invalid_client"),
        refuses(400, "invalid_scope"),
    ];
    let rig = rigs_of(1, TWO, "", in_turn(script)).pop().unwrap();
    assert_eq!(rig.obtain().await, Err(rejected("invalid_scope")));
    assert_eq!(rig.source.secret_in_use(), SecretName::Next);
}

/// Where nothing else is offered, the grant is the client's credentials.
#[tokio::test(start_paused = true)]
async fn the_other_secret_is_tried_where_the_grant_is_refused_that_is_the_secret_itself() {
    for status in [400, 401] {
        let script = [refuses(status, "invalid_grant"), lives(300)];
        let rig = rigs_of(1, TWO, "", in_turn(script)).pop().unwrap();
        drop(rig.obtain().await);
        assert_eq!(rig.secrets(), ["old", "new"], "{status}");
        assert_eq!(rig.source.secret_in_use(), SecretName::Next, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_is_offered_again_only_where_the_client_was_refused() {
    let refused_by = |refusal: Said| {
        move |call: &Call| match call.number {
            1 => with_refresh(),
            2 => refusal.clone(),
            _ => lives(300),
        }
    };
    let rig = |refusal| {
        let rigs = rigs_of(1, TWO, "refresh: grant", refused_by(refusal));
        rigs.into_iter().next().unwrap()
    };
    let client = rig(refuses(401, "invalid_client"));
    assert_eq!(word(&client.renew().await), "t3");
    assert_eq!(client.grants(), ["client_credentials", "r1", "r1"]);
    assert_eq!(client.secrets(), ["old", "old", "new"]);
    // Doorkeeper of old answers every error with 401.
    for refusal in [
        refuses(401, "invalid_grant"),
        Said::Respond(401, "{}".into()),
        Said::Respond(401, "<html>".into()),
    ] {
        let token = rig(refusal);
        assert_eq!(word(&token.renew().await), "t3");
        assert_eq!(
            token.grants(),
            ["client_credentials", "r1", "client_credentials"]
        );
        assert_eq!(token.secrets(), ["old", "old", "old"]);
    }
}
