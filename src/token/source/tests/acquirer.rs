//! Tokens from elsewhere than an endpoint: what a source makes of whatever its acquirer brings.

use super::super::super::refresh_token::RefreshToken;
use super::super::super::refusals::Unauthorized;
use super::super::super::response::{ExpiresIn, Oddities, TokenResponse};
use super::*;
use bursar_base::secret::{Fingerprint, Secret};
use bursar_fleet::RefreshValue;
use bursar_limits::circuit_breaker::Until;

/// From the endpoint.
const OF_ENDPOINT: Origin = Origin::Endpoint(GrantLabel::ClientCredentials);
/// From another instance.
const OF_FLEET: Origin = Origin::Fleet {
    after_unauthorized: false,
};

/// Brings what it was told to, one after the other, and the last one for ever; each takes a second.
struct Scripted {
    script: Vec<Result<&'static str, NotAcquired>>,
    /// The priority that each acquisition had at its end.
    priorities: Arc<Mutex<Vec<Priority>>>,
    /// The token that each was to replace.
    replaced: Arc<Mutex<Vec<Option<Fingerprint>>>>,
    origin: Origin,
}

impl Acquire for Scripted {
    fn acquire<'a>(
        &'a self,
        wanted: Wanted,
        priority: &'a mut watch::Receiver<Priority>,
    ) -> Acquiring<'a> {
        Box::pin(async move {
            let issued = Instant::now();
            self.replaced.lock().unwrap().push(wanted.fingerprint());
            pass(1.0).await;
            let number = {
                let mut priorities = self.priorities.lock().unwrap();
                priorities.push(*priority.borrow());
                priorities.len() - 1
            };
            let text = self.script[number.min(self.script.len() - 1)]?;
            Ok(acquired(text, issued, self.origin))
        })
    }
}

fn acquired(text: &str, issued: Instant, origin: Origin) -> Acquired {
    Acquired {
        response: TokenResponse {
            access_token: Secret::new(text.to_owned()),
            lifetime: ExpiresIn::For(Duration::from_secs(300)),
            refresh_token: None,
            refresh_lifetime: ExpiresIn::Unstated,
            scope: None,
            oddities: Oddities::default(),
        },
        issued,
        origin,
    }
}

/// A source with that acquirer, whose endpoint is never called.
fn source(
    script: impl Into<Vec<Result<&'static str, NotAcquired>>>,
) -> (Arc<Source>, Arc<Mutex<Vec<Priority>>>) {
    let rig = rig("wait: 5s", in_turn([Said::Panics]));
    let priorities = Arc::<Mutex<Vec<Priority>>>::default();
    let mut source = (rig.make)(0, Arc::default());
    source.acquirer = Box::new(Scripted {
        script: script.into(),
        priorities: priorities.clone(),
        replaced: Arc::default(),
        origin: OF_ENDPOINT,
    });
    (source.start(), priorities)
}

#[tokio::test(start_paused = true)]
async fn a_tokens_age_counts_from_when_it_was_issued_and_not_from_when_it_came() {
    let (source, _) = source([Ok("shared")]);
    let token = source.obtain().await.unwrap();
    assert_eq!((text(&token).as_str(), token.generation), ("shared", 1));
    let shown = source.snapshot(Instant::now()).token.unwrap();
    assert_eq!(shown.age, Duration::from_secs(1));
    assert_eq!(shown.remaining(), Some(Duration::from_secs(299)));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_acquirer_knows_of_takes_the_place_of_the_sources_own_back_off() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let known = NotAcquired {
        failure: Failure::TimedOut,
        pause: Some(Until {
            background: at(60),
            awaited: at(31),
        }),
    };
    let (source, acquired) = source([Err(known), Ok("t")]);
    let missing = source.obtain().await.unwrap_err();
    assert_eq!(missing.failure, Failure::TimedOut);
    assert_eq!(missing.retry_after, Duration::from_secs(30));
    pass(20.0).await;
    let missing = source.obtain().await.unwrap_err();
    assert_eq!(missing.retry_after, Duration::from_secs(10));
    assert_eq!(acquired.lock().unwrap().len(), 1);
    // Near enough to its end to be waited for.
    pass(8.0).await;
    source.obtain().await.unwrap();
    assert_eq!(Instant::now(), at(32));
}

#[tokio::test(start_paused = true)]
async fn without_such_a_pause_the_source_backs_off_by_itself() {
    let (source, _) = source([Err(NotAcquired::from(Failure::Broken)), Ok("t")]);
    let missing = source.obtain().await.unwrap_err();
    assert_eq!(missing.failure, Failure::Broken);
    assert!(missing.retry_after <= Duration::from_millis(200));
    assert!(source.obtain().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_becomes_as_urgent_as_the_most_urgent_who_joins() {
    let (source, priorities) = source([Ok("t")]);
    source.schedule_renewal(Instant::now());
    pass(0.5).await;
    assert!(source.obtain().await.is_ok());
    assert_eq!(*priorities.lock().unwrap(), [Priority::Request]);
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_replaces_the_token_that_it_was_decided_for_whatever_is_adopted_before_it_begins()
 {
    let rig = rig("wait: 5s", in_turn([Said::Panics]));
    let replaced = Arc::<Mutex<Vec<Option<Fingerprint>>>>::default();
    let mut source = (rig.make)(0, Arc::default());
    source.acquirer = Box::new(Scripted {
        script: vec![Ok("first"), Ok("third")],
        priorities: Arc::default(),
        replaced: replaced.clone(),
        origin: OF_ENDPOINT,
    });
    let source = source.start();
    source.obtain().await.unwrap();
    let refused = RenewalReason::Unauthorized(Unauthorized {
        sent: 1,
        route: "route".into(),
        is_replayed: true,
    });
    let Joined::Flight(flight, _) = source.join(refused, None) else {
        panic!("no flight");
    };
    // Nothing has run in between.
    assert!(source.adopt(&acquired("second", Instant::now(), OF_FLEET)));
    let deadline = Instant::now() + Duration::from_secs(5);
    assert!(wait_for(flight, deadline).await.is_ok());
    let first = Fingerprint::of("first");
    assert_eq!(*replaced.lock().unwrap(), [None, Some(first)]);
}

#[tokio::test(start_paused = true)]
async fn a_401_on_a_token_that_the_flight_under_way_takes_itself_is_followed_by_another_flight() {
    let rig = rig("wait: 5s", in_turn([Said::Panics]));
    let mut source = (rig.make)(0, Arc::default());
    source.acquirer = Box::new(Scripted {
        script: vec![Ok("first"), Ok("second"), Ok("third")],
        priorities: Arc::default(),
        replaced: Arc::default(),
        origin: OF_FLEET,
    });
    let source = source.start();
    source.obtain().await.unwrap();
    let (of_first, of_second) = tokio::join!(source.recover(1), async {
        pass(0.5).await;
        assert!(source.adopt(&acquired("second", Instant::now(), OF_FLEET)));
        source.recover(2).await
    });
    assert_eq!([word(&of_first), word(&of_second)], ["second", "third"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_endpoint_gives_as_well_as_another_instance_is_no_sign_that_none_helps() {
    let (source, _) = source([Ok("first"), Ok("second"), Ok("third")]);
    source.obtain().await.unwrap();
    let (of_first, ()) = tokio::join!(source.recover(1), async {
        pass(0.5).await;
        assert!(source.adopt(&acquired("second", Instant::now(), OF_FLEET)));
    });
    assert_eq!(word(&of_first), "second");
    // The first that is refused of that token.
    assert_eq!(word(&source.recover(2).await), "third");
}

#[tokio::test(start_paused = true)]
async fn a_401_that_another_instances_token_ends_is_neither_contention_nor_a_renewal() {
    let rig = rig("wait: 5s", in_turn([Said::Panics]));
    let mut source = (rig.make)(0, Arc::default());
    let tokens = [
        "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10", "t11", "t12",
    ];
    source.acquirer = Box::new(Scripted {
        script: tokens.map(Ok).into(),
        priorities: Arc::default(),
        replaced: Arc::default(),
        origin: OF_FLEET,
    });
    let source = source.start();
    source.obtain().await.unwrap();
    // More than 401s may renew in a minute.
    for (sent, token) in (1..).zip(&tokens[1..]) {
        assert_eq!(word(&source.recover(sent).await), **token);
    }
    assert!(!source.policy().is_contended(Instant::now()));
    assert_eq!(source.policy().contentions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_refused_whatever_the_token_is_left_alone_with_another_instances_too() {
    let (source, acquired_so_far) = source([Ok("first"), Ok("second"), Ok("third")]);
    source.obtain().await.unwrap();
    assert_eq!(word(&source.recover(1).await), "second");
    source.replay_refused(2);
    // Another instance renews for its own 401 on that route, and again.
    // The last one after the time in which it is left alone.
    for (sent, text, after) in [
        (3, "of one", 6.0),
        (4, "of another", 6.0),
        (5, "of a third", 11.0),
    ] {
        pass(after).await;
        let origin = Origin::Fleet {
            after_unauthorized: true,
        };
        assert!(source.adopt(&acquired(text, Instant::now(), origin)));
        assert_eq!(word(&source.recover(sent).await), "too young");
    }
    assert_eq!(acquired_so_far.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_before_another_instances_token_do_not_count_after_it() {
    let refused = NotAcquired::from(rejected("invalid_client"));
    let (source, _) = source([Err(refused)]);
    let mut pauses = Vec::new();
    for _ in 0..2 {
        let missing = source.obtain().await.unwrap_err();
        pauses.push(missing.retry_after.as_secs());
        tokio::time::sleep(missing.retry_after).await;
    }
    assert_eq!(pauses, [5, 10]);
    assert!(source.adopt(&acquired("shared", Instant::now(), OF_FLEET)));
    assert_eq!(source.policy().failures, 0);
    // It has expired.
    pass(301.0).await;
    assert_eq!(source.obtain().await.unwrap_err().retry_after.as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_refuses_another_instances_token_is_left_alone_and_costs_no_refresh_token() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    rig.obtain().await.unwrap();
    let origin = Origin::Fleet {
        after_unauthorized: true,
    };
    assert!(
        rig.source
            .adopt(&acquired("shared", Instant::now(), origin))
    );
    rig.source.replay_refused(2);
    assert_eq!(word(&rig.source.recover(2).await), "too young");
    assert_eq!(word(&rig.source.recover_on("another", 2).await), "t2");
    assert_eq!(rig.grants(), ["client_credentials", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn the_refresh_token_that_comes_after_another_instances_token_is_another_one() {
    let rig = rig("refresh: grant", in_turn([with_refresh()]));
    assert_eq!(word(&rig.renew().await), "t2");
    rig.source.replay_refused(2);
    assert!(
        rig.source
            .adopt(&acquired("shared", Instant::now(), OF_FLEET))
    );
    let slot = &rig.source.state.refresh_token;
    assert!(slot.take(Instant::now()).is_none(), "it is distrusted");
    let shared = RefreshValue {
        text: Secret::new("shared".to_owned()),
        lifetime: None,
    };
    slot.put(Some(RefreshToken::of_fleet(shared, Instant::now())));
    assert_eq!(word(&rig.source.recover_on("another", 3).await), "t3");
    assert_eq!(rig.grants(), ["client_credentials", "r1", "shared"]);
}
