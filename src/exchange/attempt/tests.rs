//! Attempts with scripted servers and tokens: what is sent again, with what, and what never is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::WWW_AUTHENTICATE;
use http_body_util::Empty;

use super::*;
use crate::exchange::freezes::Payments;
use crate::exchange::route::{RouteQuery, Routes};
use crate::token::{Failure, Missing};
use crate::upstream::{ConnectError, Peer};
use bursar_base::path::Path;
use bursar_base::secret::Fingerprint;
use bursar_config::{Config, Origin};
use bursar_http::connection::{self, ConnectionState, ReadTimeouts};
use bursar_http::target::{Form, Target};
use bursar_telemetry::metrics::Metrics;
use bursar_traces::Links;

const CONFIG: &str = "
providers:
  acme: {hosts: [api.test], client_id: a, client_secret: b, token: {url: 'https://a.test/t', scopes: [x]}}
";

/// Longer than any token lives.
const YEARS: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);
/// How long a scripted response takes.
const RESPONSE: Duration = Duration::from_millis(30);
/// And a scripted token.
const TOKEN: Duration = Duration::from_millis(200);

/// Everything that happens, in order.
#[derive(Default)]
struct Story(RefCell<Vec<String>>);

impl Story {
    fn tell(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    fn count(&self, what: &str) -> usize {
        let told = self.0.borrow();
        told.iter().filter(|told| told.starts_with(what)).count()
    }
}

/// What a sending comes to.
enum Comes {
    Response(u16),
    /// A 401 that says that another token would not help.
    Insufficient,
    Fails(SendError),
}

struct Servers<'a> {
    story: &'a Story,
    sendings: RefCell<VecDeque<Comes>>,
    /// How many of the first connections take longer than a token lives.
    slow: Cell<usize>,
    /// None: every connection can be had.
    fails: Cell<Option<ConnectError>>,
    /// Set while connecting.
    freezes: Option<&'a PaymentFlag>,
    takes_http1: bool,
}

impl Client for Servers<'_> {
    type Connection = ();
    type Body = Empty<Bytes>;

    async fn connection(
        &self,
        origin: &Origin,
        need: Need,
        _now: Instant,
    ) -> Result<((), Instant), ConnectError> {
        assert_eq!(origin.authority.host(), "api.test");
        let is_new = if need.is_new { "new " } else { "" };
        self.story.tell(format!("{is_new}connection"));
        if let Some(slow) = self.slow.get().checked_sub(1) {
            self.slow.set(slow);
            tokio::time::advance(YEARS).await;
        }
        if let Some(freezes) = self.freezes {
            freezes.set(Payments::Frozen, None);
        }
        match self.fails.take() {
            Some(error) => Err(error),
            None => Ok(((), Instant::now())),
        }
    }

    fn peer((): &()) -> Option<&Arc<Peer>> {
        None
    }

    async fn send(
        &self,
        (): &mut (),
        message: Message,
        _body: Option<&CallerBody>,
        _began: Instant,
    ) -> Result<Box<Response<Empty<Bytes>>>, SendError> {
        let Message {
            outgoing,
            authorization,
            ..
        } = message;
        let field = &outgoing.headers["x-request"];
        assert_eq!(
            (&outgoing.method, outgoing.target.path(), field.as_bytes()),
            (&Method::POST, "/x", &b"1"[..])
        );
        let authorization = authorization.to_str().unwrap();
        self.story.tell(format!("send {authorization}"));
        tokio::time::advance(RESPONSE).await;
        let comes = self.sendings.borrow_mut().pop_front();
        let mut response = Box::new(Response::new(Empty::new()));
        *response.status_mut() = match comes.expect("one sending too many") {
            Comes::Response(status) => StatusCode::from_u16(status).unwrap(),
            Comes::Insufficient => {
                let challenge = HeaderValue::from_static("Bearer error=insufficient_scope");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                StatusCode::UNAUTHORIZED
            }
            Comes::Fails(error) => return Err(error),
        };
        Ok(response)
    }

    fn use_http1(&self, _origin: &Origin) -> bool {
        self.story.tell("use HTTP/1.1");
        self.takes_http1
    }
}

struct Tokens<'a> {
    story: &'a Story,
    /// The generation that is there. None: it takes [`Supply::obtain`].
    generation: Cell<Option<u64>>,
    /// What a 401 comes to; None: the next generation.
    recovers: RefCell<Option<Recovery>>,
    /// Whether no token can be obtained.
    fails: bool,
}

fn token(generation: u64) -> AccessToken {
    let field = format!("Bearer {generation}").parse().unwrap();
    let fingerprint = Fingerprint::of(&generation.to_string());
    let mut access_token = AccessToken::of_caller(field, fingerprint, Instant::now());
    access_token.generation = generation;
    access_token
}

impl Tokens<'_> {
    fn next(&self) -> AccessToken {
        let next = self.generation.get().unwrap_or_default() + 1;
        self.generation.set(Some(next));
        token(next)
    }
}

impl Supply for Tokens<'_> {
    fn read(&self, _now: Instant) -> Option<AccessToken> {
        // A year later there is none.
        self.generation.take().map(token)
    }

    async fn obtain(&self, _links: Option<&mut Links>) -> Result<AccessToken, Missing> {
        self.story.tell("obtain");
        tokio::time::advance(TOKEN).await;
        if self.fails {
            return Err(Missing {
                failure: Failure::TimedOut,
                cause: None,
                peer: Peer::new("login.test:443", None),
                retry_after: TOKEN,
            });
        }
        self.generation.set(Some(9));
        Ok(self.next())
    }

    fn record_status(&self, sent: u64, route: &Arc<str>, status: StatusCode) {
        self.story
            .tell(format!("answered {sent} {route} {}", status.as_u16()));
    }

    async fn recover(&self, sent: u64, route: &Arc<str>, _links: Option<&mut Links>) -> Recovery {
        self.story.tell(format!("recover {sent} {route}"));
        tokio::time::advance(TOKEN).await;
        let scripted = self.recovers.take();
        scripted.unwrap_or_else(|| Recovery::Replay(token(sent + 1)))
    }

    fn renew(&self, sent: u64, route: &Arc<str>) {
        self.story.tell(format!("renew {sent} {route}"));
    }

    fn replay_refused(&self, generation: u64, route: &Arc<str>) {
        self.story
            .tell(format!("replay refused {generation} {route}"));
    }

    fn insufficient(&self, route: &Arc<str>) {
        self.story.tell(format!("insufficient {route}"));
    }
}

/// What there is, and what came of it.
struct Case {
    sendings: Vec<Comes>,
    slow: usize,
    connect_error: Option<ConnectError>,
    freezes: bool,
    takes_http1: bool,
    recovers: Option<Recovery>,
    has_token: bool,
    token_fails: bool,
    by_caller: bool,
    may_be_replayed: bool,
}

struct Came {
    status: Result<u16, Refusal>,
    story: Story,
    record: AttemptRecord,
    /// Of 401s and replays, those that were counted.
    counted: Vec<String>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            sendings: Vec::new(),
            slow: 0,
            connect_error: None,
            freezes: false,
            takes_http1: true,
            recovers: None,
            has_token: true,
            token_fails: false,
            by_caller: false,
            may_be_replayed: true,
        }
    }
}

impl Case {
    fn of(sendings: impl IntoIterator<Item = Comes>) -> Self {
        Self {
            sendings: sendings.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The request is `POST /x` with a field of its own.
    async fn run(self) -> Came {
        let config = Config::parse(CONFIG, FilePath::new("")).unwrap();
        let metrics = Metrics::new(&config).unwrap();
        let routes = Routes::new(&config);
        let path = Path::new("/x");
        let target = Target {
            is_complete: false,
            form: Form::Absolute,
            host: "api.test",
            port: 443,
            path: "/x",
        };
        let matched = routes.match_host(&target, &path).unwrap();
        let query = RouteQuery {
            method: &Method::POST,
            account: None,
        };
        let destination = matched.route(query, &path, None).unwrap();
        let request = Request::post("/x").header("x-request", "1").body(());
        let (mut head, ()) = request.unwrap().into_parts();
        let outgoing = OutgoingRequest::new(&mut head);
        let (story, payments, mut record) = (
            Story::default(),
            PaymentFlag::default(),
            AttemptRecord::default(),
        );
        let servers = Servers {
            story: &story,
            sendings: RefCell::new(self.sendings.into()),
            slow: Cell::new(self.slow),
            fails: Cell::new(self.connect_error),
            freezes: self.freezes.then_some(&payments),
            takes_http1: self.takes_http1,
        };
        let tokens = Tokens {
            story: &story,
            generation: Cell::new(self.has_token.then_some(1)),
            recovers: RefCell::new(self.recovers),
            fails: self.token_fails,
        };
        let caller = caller();
        let answered = Attempt {
            client: &servers,
            series: &metrics.provider(&config.providers[0]),
            payments: Some(&payments),
            destination,
            authorizer: match self.by_caller {
                true => Authorizer::Caller(Box::new(token(0))),
                false => Authorizer::Bursar(&tokens),
            },
            saved: outgoing.save(),
            outgoing: Some(outgoing),
            body: None,
            may_be_replayed: self.may_be_replayed,
            key_field: None,
            entry: None,
            record: &mut record,
            caller: &caller,
        }
        .send_with_replay()
        .await;
        assert!(servers.sendings.borrow().is_empty(), "not all were sent");
        Came {
            status: answered.map(|answered| answered.response.status().as_u16()),
            story,
            record,
            counted: counted(&metrics),
        }
    }
}

/// A connection whose caller stays.
fn caller() -> Arc<ConnectionState> {
    let limits = ReadTimeouts {
        idle: Duration::MAX,
        head: Duration::MAX,
    };
    let peer = connection::Peer::at([127, 0, 0, 1].into());
    ConnectionState::new(None, peer, 0, limits, &Arc::default())
}

/// The labels of 401s and replays that were counted, each as often.
fn counted(metrics: &Metrics) -> Vec<String> {
    let scrape = String::from_utf8(metrics.scrape().unwrap()).unwrap();
    let mut counted = Vec::new();
    for line in scrape.lines() {
        let is_one = ["bursar_unauthorized_total{", "bursar_replays_total{"];
        if !is_one.iter().any(|name| line.starts_with(name)) {
            continue;
        }
        let (labels, count) = line.rsplit_once(' ').unwrap();
        let (_, result) = labels.split_once("result=\"").unwrap();
        let result = result.split('"').next().unwrap();
        let count: usize = count.parse().unwrap();
        counted.extend(std::iter::repeat_n(result.to_owned(), count));
    }
    counted.sort();
    counted
}

fn told(came: &Came) -> Vec<String> {
    came.story.0.borrow().clone()
}

#[tokio::test(start_paused = true)]
async fn a_response_goes_to_the_caller_and_its_source_hears_of_it() {
    for status in [200, 403, 500] {
        let came = Case::of([Comes::Response(status)]).run().await;
        let expected = [
            "connection",
            "send Bearer 1",
            &format!("answered 1 default {status}"),
        ];
        assert_eq!(told(&came), expected);
        assert_eq!(came.status.unwrap(), status);
        assert!(came.counted.is_empty() && !came.record.is_replayed());
        assert_eq!(came.record.upstream(), RESPONSE);
        assert_eq!(came.record.token(), Some((1, token(1).fingerprint)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_renews_and_replays_with_the_token_that_came() {
    let came = Case::of([Comes::Response(401), Comes::Response(201)]);
    let came = came.run().await;
    let expected = [
        "connection",
        "send Bearer 1",
        "recover 1 default",
        "connection",
        "send Bearer 2",
        "answered 2 default 201",
    ];
    assert_eq!(told(&came), expected);
    assert_eq!(came.status.unwrap(), 201);
    assert_eq!(came.counted, ["absorbed", "ok"]);
    assert!(came.record.is_replayed());
    assert_eq!(came.record.token_wait(), TOKEN);
    assert_eq!(came.record.upstream(), 2 * RESPONSE);
    assert_eq!(came.record.token().unwrap().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_401_goes_to_the_caller_and_is_not_replayed() {
    let came = Case::of([Comes::Response(401), Comes::Insufficient]);
    let came = came.run().await;
    assert_eq!(came.status.as_ref().unwrap(), &401);
    assert_eq!(told(&came).last().unwrap(), "replay refused 2 default");
    assert_eq!(
        (came.story.count("send"), came.story.count("recover")),
        (2, 1)
    );
    assert_eq!(came.counted, ["surfaced", "unauthorized_again"]);
}

#[tokio::test(start_paused = true)]
async fn a_401_that_leads_to_no_replay_goes_to_the_caller_and_says_why() {
    let unauthorized = || Case::of([Comes::Response(401)]);
    let recovered = |recovery| Case {
        recovers: Some(recovery),
        ..unauthorized()
    };
    let forbidden = Case {
        may_be_replayed: false,
        ..unauthorized()
    };
    let of_caller = Case {
        by_caller: true,
        ..unauthorized()
    };
    for (case, last, why) in [
        (forbidden, "renew 1 default", "not_allowed"),
        (of_caller, "send Bearer 0", "not_allowed"),
        (
            Case::of([Comes::Insufficient]),
            "insufficient default",
            "not_allowed",
        ),
        (
            recovered(Recovery::Unchanged),
            "recover 1 default",
            "token_unchanged",
        ),
        (
            recovered(Recovery::RenewedTooOften),
            "recover 1 default",
            "token_too_young",
        ),
        (
            recovered(Recovery::Unavailable),
            "recover 1 default",
            "token_unavailable",
        ),
    ] {
        let came = case.run().await;
        assert_eq!(came.status.as_ref().unwrap(), &401, "{last} {why}");
        assert_eq!(told(&came).last().unwrap(), last);
        assert_eq!(came.story.count("send"), 1, "{last} {why}");
        let mut expected = [why, "surfaced"];
        expected.sort_unstable();
        assert_eq!(came.counted, expected, "{last}");
        assert!(!came.record.is_replayed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_fails_is_the_callers_failure_and_absorbs_the_401() {
    let came = Case::of([Comes::Response(401), Comes::Fails(SendError::Broken)]);
    let came = came.run().await;
    assert!(matches!(came.status, Err(Refusal::Send(SendError::Broken))));
    assert_eq!(came.counted, ["absorbed", "failed"]);
    assert_eq!(came.story.count("answered"), 0);
    assert!(came.record.is_replayed());
    // What was never sent a second time was not replayed.
    let unsent = (0..=MAX_UNSENT).map(|_| Comes::Fails(SendError::Unsent));
    let came = Case::of([Comes::Response(401)].into_iter().chain(unsent))
        .run()
        .await;
    assert!(matches!(came.status, Err(Refusal::Send(SendError::Unsent))));
    assert_eq!(came.counted, ["absorbed", "failed"]);
    assert!(!came.record.is_replayed());
}

#[tokio::test(start_paused = true)]
async fn what_was_certainly_not_processed_is_sent_again_and_only_so_often() {
    let unsent = |count: usize| (0..count).map(|_| Comes::Fails(SendError::Unsent));
    let most = unsent(MAX_UNSENT).chain([Comes::Response(200)]);
    let came = Case::of(most).run().await;
    assert_eq!(came.status.as_ref().unwrap(), &200);
    // A server that ends one connection may be ending all of them, so from the third on they are new.
    let expected = (2, MAX_UNSENT - 1);
    let connections = (came.story.count("connection"), came.story.count("new"));
    assert_eq!(connections, expected);
    assert_eq!(came.story.count("send"), MAX_UNSENT + 1);
    assert!(came.counted.is_empty() && !came.record.is_replayed());
    let came = Case::of(unsent(MAX_UNSENT + 1)).run().await;
    assert!(matches!(came.status, Err(Refusal::Send(SendError::Unsent))));
    assert_eq!(came.story.count("send"), MAX_UNSENT + 1);
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_as_many_tries_as_the_first_sending() {
    let refused = || (0..MAX_UNSENT).map(|_| Comes::Fails(SendError::Refused));
    let all = refused()
        .chain([Comes::Response(401)])
        .chain(refused())
        .chain([Comes::Response(200)]);
    let came = Case::of(all).run().await;
    assert_eq!(came.status.as_ref().unwrap(), &200);
    assert_eq!(came.story.count("send Bearer 1"), MAX_UNSENT + 1);
    assert_eq!(came.story.count("send Bearer 2"), MAX_UNSENT + 1);
    assert_eq!(came.counted, ["absorbed", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_may_have_seen_or_took_too_long_for_is_never_sent_again() {
    for error in [
        SendError::Broken,
        SendError::NoCloseNotify,
        SendError::ClientRefused,
        SendError::TimedOut,
        SendError::TimedOutUnsent,
        SendError::CallerStalled,
        SendError::CallerGone,
    ] {
        let expected = std::mem::discriminant(&error);
        let came = Case::of([Comes::Fails(error)]).run().await;
        let Err(Refusal::Send(error)) = &came.status else {
            panic!("a refusal by sending");
        };
        assert_eq!(std::mem::discriminant(error), expected);
        assert_eq!(
            (came.story.count("send"), came.story.count("recover")),
            (1, 0)
        );
        assert_eq!(came.record.upstream(), RESPONSE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_wanted_over_http_1_1_is_sent_so_where_that_may_be() {
    for takes_http1 in [true, false] {
        let second = takes_http1.then_some(Comes::Response(200));
        let first = Comes::Fails(SendError::WantsHttp1);
        let case = Case {
            takes_http1,
            ..Case::of(std::iter::once(first).chain(second))
        };
        let came = case.run().await;
        assert_eq!(came.status.is_ok(), takes_http1);
        assert_eq!(came.story.count("use HTTP/1.1"), 1);
        assert_eq!(came.story.count("send"), 1 + usize::from(takes_http1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_while_a_connection_is_made_is_replaced_before_it_is_sent() {
    let case = Case {
        slow: 1,
        ..Case::of([Comes::Response(200)])
    };
    let came = case.run().await;
    let expected = [
        "connection",
        "obtain",
        "send Bearer 10",
        "answered 10 default 200",
    ];
    assert_eq!(told(&came), expected);
    assert_eq!(came.record.token().unwrap().0, 10);
    assert_eq!(came.record.token_wait(), TOKEN);
    let case = Case {
        slow: 1,
        token_fails: true,
        ..Case::default()
    };
    let came = case.run().await;
    assert!(matches!(came.status, Err(Refusal::Token(_))));
    assert_eq!(came.story.count("send"), 0);
    assert_eq!(came.record.token(), None);
}

#[tokio::test(start_paused = true)]
async fn a_401_to_a_token_that_was_replaced_on_the_way_recovers_from_that_one() {
    let case = Case {
        slow: 1,
        ..Case::of([Comes::Response(401), Comes::Response(200)])
    };
    let came = case.run().await;
    assert_eq!(came.story.count("recover 10 default"), 1);
    assert_eq!(told(&came).last().unwrap(), "answered 11 default 200");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_or_a_connection_nothing_is_sent() {
    let case = Case {
        has_token: false,
        token_fails: true,
        ..Case::default()
    };
    let came = case.run().await;
    assert!(matches!(came.status, Err(Refusal::Token(_))));
    assert_eq!(told(&came), ["obtain"]);
    assert_eq!(came.record.token_wait(), TOKEN);
    let case = Case {
        connect_error: Some(ConnectError::NoDescriptors(Peer::new("api.test:443", None))),
        ..Case::default()
    };
    let came = case.run().await;
    assert!(matches!(
        came.status,
        Err(Refusal::Connect(ConnectError::NoDescriptors(_)))
    ));
    assert_eq!(told(&came), ["connection"]);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_while_a_connection_is_made_stops_a_payment() {
    let case = Case {
        freezes: true,
        ..Case::default()
    };
    let came = case.run().await;
    assert!(matches!(came.status, Err(Refusal::Frozen)));
    assert_eq!(told(&came), ["connection"]);
}
