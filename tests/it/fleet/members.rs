//! Members of a fleet and their shares: real processes on a real store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::instances::{KEY, OTHER_KEY};
use crate::support::caller::{Caller, basic};
use crate::support::idp::{Idp, TokenCall, reply};
use crate::support::metrics::Scrape;
use crate::support::program::Program;
use crate::support::store::{Server, Store};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{PATIENCE, acme, becomes_true, eventually};

const CALLERS: &str =
    "callers:\n  shop: {password: a-long-password, allow: [acme], limits: {per_second: 50}}\n";
/// So soon everybody knows who is a member, doubled for a machine whose cores are all taken.
const KNOWN: Duration = Duration::from_secs(4);
/// How long requests are counted.
const COUNTED: Duration = Duration::from_secs(1);
/// So soon shares follow who calls, tripled for a machine whose cores are all taken.
const FOLLOWED: Duration = Duration::from_secs(6);

struct Rig {
    store: Store,
    api: Upstream,
    idp: Idp,
}

impl Rig {
    /// None: there is no store here.
    async fn start() -> Option<Self> {
        let store = Server::redis().await?.start().await;
        let api = Upstream::start(|_| async { answer(200, "") }).await;
        let idp = Idp::counting().await;
        Some(Self { store, api, idp })
    }

    async fn instance(&self) -> Program {
        self.instance_with(CALLERS).await
    }

    async fn instance_with(&self, callers: &str) -> Program {
        self.instance_of(KEY, callers).await
    }

    async fn instance_of(&self, key: &str, callers: &str) -> Program {
        let fleet = format!("fleet: {{url: '{}', keys: [{key}]}}\n", self.store.url());
        let acme = acme(&self.api.url(), &self.idp.url(), "");
        let yaml = format!("{fleet}{callers}{acme}");
        Program::start(&yaml, "info,bursar::access=off").await
    }

    /// How many names the store has that are of tokens.
    async fn tokens(&self) -> usize {
        let names = self.store.names().await;
        let of_tokens = names
            .iter()
            .filter(|(name, _)| !String::from_utf8_lossy(name).contains("{members}"));
        of_tokens.count()
    }
}

/// Waits until an instance knows of so many.
async fn knows(program: &Program, members: usize) {
    let knows = becomes_true(KNOWN, async || {
        let scrape = Scrape::of(program.admin).await;
        scrape.get("bursar_fleet_members", &[]) == u32::try_from(members).ok().map(f64::from)
    });
    assert!(knows.await, "{members} members; {}", program.logged());
}

/// Callers of one name that send as much as they can, each at an instance, and count what is let through.
struct Load {
    let_through: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    _sending: JoinSet<()>,
}

impl Load {
    fn at(programs: &[&Program]) -> Self {
        let [let_through, sent]: [Arc<AtomicUsize>; 2] = Default::default();
        let mut sending = JoinSet::new();
        for program in programs {
            let (address, count, sent) = (program.listen, let_through.clone(), sent.clone());
            sending.spawn(async move {
                let mut caller = Caller::connect(address).await;
                loop {
                    let request = Request::builder()
                        .uri("http://api.test/")
                        .header("proxy-authorization", basic("shop", "a-long-password"));
                    // The instance may be killed meanwhile.
                    let Ok(response) = caller.begin(request.body(full("")).unwrap()).await else {
                        return;
                    };
                    sent.fetch_add(1, Ordering::Relaxed);
                    if response.status() == 200 {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    drop(crate::support::caller::read(response).await);
                    sleep(Duration::from_millis(8)).await;
                }
            });
        }
        Self {
            let_through,
            sent,
            _sending: sending,
        }
    }

    fn counts(&self) -> [usize; 2] {
        [&self.let_through, &self.sent].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What happens in a second at each.
async fn per_second<const COUNT: usize>(loads: [&Load; COUNT]) -> [PerSecond; COUNT] {
    let (before, begun) = (loads.map(Load::counts), Instant::now());
    sleep(COUNTED).await;
    let (after, seconds) = (loads.map(Load::counts), begun.elapsed().as_secs_f64());
    std::array::from_fn(|at| {
        let [let_through, sent] = [0, 1].map(|place: usize| {
            f64::from(u32::try_from(after[at][place] - before[at][place]).unwrap()) / seconds
        });
        PerSecond { let_through, sent }
    })
}

/// Requests in a second.
#[derive(Debug, Clone, Copy)]
struct PerSecond {
    let_through: f64,
    /// With those that were refused. On a machine whose cores are all taken they may be few.
    sent: f64,
}

impl PerSecond {
    fn and(self, other: Self) -> Self {
        Self {
            let_through: self.let_through + other.let_through,
            sent: self.sent + other.sent,
        }
    }

    /// The whole limit is let through, or all where that is less.
    fn is_whole(self) -> bool {
        self.let_through >= 40.0_f64.min(self.sent * 0.75)
    }

    /// No more than half above the limit, while shares move.
    #[track_caller]
    fn assert_bound(self) {
        assert!(self.let_through <= 75.0, "{self:?}");
    }
}

/// Waits until these have all of the limit among them, and each its part.
async fn have_all<const COUNT: usize>(loads: [&Load; COUNT]) {
    let deadline = Instant::now() + FOLLOWED;
    let least = 30.0 / f64::from(u32::try_from(COUNT).unwrap());
    let mut counted = Vec::new();
    while Instant::now() < deadline {
        let each = per_second(loads).await;
        counted.push(each);
        let all = each.into_iter().reduce(PerSecond::and).unwrap();
        all.assert_bound();
        let has_part = |one: &PerSecond| one.let_through > least.min(one.sent / 2.0);
        if all.is_whole() && each.iter().all(has_part) {
            return;
        }
    }
    panic!("{counted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_a_second_of_a_caller_pass_five_instances_wherever_it_calls_and_whoever_comes_and_goes()
 {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let mut programs = Vec::new();
    for _ in 0..5 {
        programs.push(rig.instance().await);
    }
    for program in &programs {
        knows(program, 5).await;
    }
    // Two of five.
    let load = Load::at(&[&programs[0], &programs[1]]);
    have_all([&load]).await;
    // One of the two dies; its callers go to another one.
    let dead = programs.remove(1);
    dead.process.signal("KILL").await;
    dead.ended().await;
    let more = Load::at(&[&programs[1]]);
    have_all([&load, &more]).await;
    knows(&programs[0], 4).await;
    drop((load, more));
    // All of it is for a new one that all others leave it to.
    let new = rig.instance().await;
    let load = Load::at(&[&new]);
    have_all([&load]).await;
    // What was heard last holds while the store is away.
    let mut rig = rig;
    rig.store.kill().await;
    let spread = Load::at(&[&programs[0], &programs[1], &programs[2]]);
    eventually(|| async { new.json("/status").await["fleet"]["store"]["up"] == false }).await;
    // A burst that follows a quiet second is not counted.
    let _first = per_second([&load, &spread]).await;
    let [one, others] = per_second([&load, &spread]).await;
    assert!(one.is_whole(), "{one:?}");
    one.and(others).assert_bound();
}

/// Waits until it is ready, and says how its first request of a caller with limits went.
async fn first_request(program: &Program) -> u16 {
    let is_ready = async || program.json("/readyz").await["ready"] == true;
    assert!(
        becomes_true(PATIENCE, is_ready).await,
        "{}",
        program.logged()
    );
    let mut caller = Caller::connect(program.listen).await;
    let request = Request::builder()
        .uri("http://api.test/")
        .header("proxy-authorization", basic("shop", "a-long-password"));
    let response = caller.begin(request.body(full("")).unwrap()).await;
    response.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_ready_refuses_nobody_for_want_of_a_share_first_of_all_joining_or_without_the_store()
{
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let mut programs = Vec::new();
    // All of a new fleet, one that joins it, and one after all of them were killed.
    let all = tokio::join!(rig.instance(), rig.instance(), rig.instance());
    programs.extend(<[Program; 3]>::from(all));
    for program in &programs {
        assert_eq!(first_request(program).await, 200, "{}", program.logged());
    }
    programs.push(rig.instance().await);
    assert_eq!(first_request(&programs[3]).await, 200);
    for program in &programs {
        program.process.signal("KILL").await;
    }
    let next = rig.instance().await;
    assert_eq!(first_request(&next).await, 200, "{}", next.logged());
    // Of a limit that is less than the instances one is let through by each.
    rig.store.kill().await;
    let callers = CALLERS.replace("per_second: 50", "in_flight: 1");
    for _ in 0..2 {
        let program = rig.instance_with(&callers).await;
        assert_eq!(first_request(&program).await, 200, "{}", program.logged());
        programs.push(program);
    }
}

#[tokio::test]
async fn of_callers_with_one_request_in_flight_at_three_instances_one_is_and_each_has_its_turn() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let [now, most]: [Arc<AtomicUsize>; 2] = Default::default();
    rig.api = Upstream::start({
        let most = most.clone();
        move |_| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                let is = now.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(is, Ordering::Relaxed);
                sleep(Duration::from_millis(100)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                answer(200, "")
            }
        }
    })
    .await;
    let callers = CALLERS.replace("per_second: 50", "in_flight: 1");
    let mut programs = Vec::new();
    for _ in 0..3 {
        programs.push(rig.instance_with(&callers).await);
    }
    let loads: Vec<Load> = programs.iter().map(|one| Load::at(&[one])).collect();
    let had = |load: &Load| load.let_through.load(Ordering::Relaxed) > 0;
    let have_had_turns = becomes_true(PATIENCE, async || loads.iter().all(had));
    assert!(have_had_turns.await, "{}", programs[0].logged());
    assert_eq!(most.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn status_shows_the_members_and_the_store_and_one_that_ends_is_none_at_once() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, other) = (rig.instance().await, rig.instance().await);
    knows(&one, 2).await;
    let status = one.json("/status").await;
    let fleet = &status["fleet"];
    assert_eq!(fleet["name"], "bursar");
    assert_eq!(fleet["breaker"], "closed");
    assert_eq!(fleet["leases_held"], 0);
    assert_eq!(fleet["store"]["address"], rig.store.address.to_string());
    assert_eq!(fleet["store"]["up"], true);
    assert!(fleet["store"]["why"].is_null());
    let members = fleet["members"].as_array().unwrap();
    let of_this = |is: bool| {
        let mut found = members
            .iter()
            .filter(|member| member["this_instance"] == is);
        let found = (found.next().unwrap(), found.next());
        assert!(found.1.is_none(), "{members:?}");
        found.0["name"].as_str().unwrap().to_owned()
    };
    for (is, program) in [(true, &one), (false, &other)] {
        let port = format!(":{}", program.listen.port());
        assert!(of_this(is).ends_with(&port), "{members:?}");
    }
    other.process.signal("TERM").await;
    other.ended().await;
    let status = one.json("/status").await;
    let members = status["fleet"]["members"].as_array().unwrap().len();
    assert_eq!(members, 1, "{status}");
    let mut rig = rig;
    rig.store.kill().await;
    eventually(|| async { one.json("/status").await["fleet"]["breaker"] == "open" }).await;
    let status = one.json("/status").await;
    assert_eq!(status["fleet"]["store"]["up"], false);
    assert!(status["fleet"]["store"]["why"].is_string(), "{status}");
    assert_eq!(status["fleet"]["members"].as_array().unwrap().len(), 1);
    // Nor does the metric say that anybody else was heard of lately.
    rig.store.start_again().await;
    let other = rig.instance().await;
    knows(&one, 2).await;
    rig.store.kill().await;
    knows(&one, 1).await;
    drop(other);
}

#[tokio::test]
async fn who_has_the_fleets_name_and_none_of_its_keys_is_no_member_and_both_say_so() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, other) = (rig.instance().await, rig.instance().await);
    let stranger = rig.instance_of(OTHER_KEY, CALLERS).await;
    for (program, members) in [(&one, 2), (&other, 2), (&stranger, 1)] {
        let says = || {
            program
                .logged()
                .contains("have no key in common with this one")
        };
        assert!(
            becomes_true(PATIENCE, async || says()).await,
            "{}",
            program.logged()
        );
        knows(program, members).await;
        let status = program.json("/status").await;
        let shown = status["fleet"]["members"].as_array().unwrap().len();
        assert_eq!(shown, members, "{status}");
    }
    assert_eq!(rig.idp.calls(), 2);
}

#[tokio::test]
async fn what_a_store_forgets_while_it_is_connected_is_written_again_within_two_seconds() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let programs = [rig.instance().await, rig.instance().await];
    for program in &programs {
        knows(program, 2).await;
    }
    eventually(|| async { rig.tokens().await == 1 }).await;
    for _ in 0..3 {
        rig.store.flush().await;
        let is_back = becomes_true(KNOWN, async || rig.tokens().await == 1);
        assert!(is_back.await, "{}", programs[0].logged());
        knows(&programs[0], 2).await;
    }
    // A new instance asks for none.
    let new = rig.instance().await;
    knows(&new, 3).await;
    eventually(|| async { new.json("/readyz").await["ready"] == true }).await;
    assert_eq!(rig.idp.calls(), 1);
}

#[tokio::test]
async fn token_calls_of_all_instances_together_are_no_more_than_one_may_make() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    // Nobody can be served for long by such tokens, and each instance has a client of its own.
    rig.idp = Idp::start(|call: TokenCall| async move {
        let token = format!("token-{}", call.number);
        reply(
            200,
            &serde_json::json!({"access_token": token, "token_type": "bearer", "expires_in": 1}),
        )
    })
    .await;
    let mut programs = Vec::new();
    for client in 0..4 {
        let fleet = format!("fleet: {{url: '{}', keys: [{KEY}]}}\n", rig.store.url());
        let acme = acme(&rig.api.url(), &rig.idp.url(), "token.calls_per_minute: 60");
        let acme = acme.replace("acme-id", &format!("acme-{client}"));
        programs.push(Program::start(&format!("{fleet}{acme}"), "info,bursar::access=off").await);
    }
    let mut sending = JoinSet::new();
    for program in &programs {
        let address = program.listen;
        sending.spawn(async move {
            let mut caller = Caller::connect(address).await;
            loop {
                drop(caller.send("GET", "/", "").await);
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    // A burst of three each, at most.
    eventually(|| async { rig.idp.calls() >= 12 }).await;
    let before = rig.idp.calls();
    sleep(Duration::from_secs(8)).await;
    let calls = rig.idp.calls() - before;
    // 46 in a minute beside what is left of the bursts; on their own they would be four times as many.
    assert!((3..=14).contains(&calls), "{calls} calls in 8 s");
}

/// Scopes that each instance has a token of its own for, asked for by one request each.
const SCOPES: usize = 180;

/// Asks at an instance for the tokens of these scopes until they are there.
fn ask(program: &Program, scopes: std::ops::Range<usize>) -> JoinSet<()> {
    let mut asking = JoinSet::new();
    for scope in scopes {
        let address = program.listen;
        asking.spawn(async move {
            let mut caller = Caller::connect(address).await;
            while caller.send("GET", &format!("/{scope}"), "").await.status != 200 {
                sleep(Duration::from_millis(100)).await;
            }
        });
    }
    asking
}

#[tokio::test]
async fn wherever_tokens_are_asked_for_the_fleet_makes_as_many_calls_as_one_instance_would() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let routes = (0..SCOPES).map(|at| format!("{{path: /{at}, scopes: ['{at}']}}"));
    let routes = routes.collect::<Vec<_>>().join(", ");
    let lines = format!("token.calls_per_minute: 240\ntoken.timeout: 1s\nroutes: [{routes}]");
    let acme = acme(&rig.api.url(), &rig.idp.url(), &lines);
    let yaml = format!(
        "fleet: {{url: '{}', keys: [{KEY}]}}\n{acme}",
        rig.store.url()
    );
    let mut programs = Vec::new();
    for _ in 0..3 {
        programs.push(Program::start(&yaml, "info,bursar::access=off").await);
    }
    for program in &programs {
        knows(program, 3).await;
    }
    let begun = Instant::now();
    let before = rig.idp.calls();
    // More than one may make at once; then others, at another one; then the rest, at all of them: who has the lease of a
    // token waits for longer than that lasts.
    let mut asking = vec![ask(&programs[0], 0..50)];
    sleep(Duration::from_secs(1)).await;
    asking.push(ask(&programs[1], 50..100));
    sleep(Duration::from_secs(1)).await;
    asking.extend(programs.iter().map(|program| ask(program, 100..SCOPES)));
    sleep(Duration::from_secs(6)).await;
    let calls = f64::from(u32::try_from(rig.idp.calls() - before).unwrap());
    // Of 240 a quarter may come at once, of which requests leave 20 to what is more urgent, and 181 at an even pace.
    let paced = begun.elapsed().as_secs_f64() * 181.0 / 60.0;
    let one = 40.0 + paced;
    let range = 0.8 * one..=one + 2.0;
    assert!(
        range.contains(&calls),
        "{calls} calls, one would make {one}"
    );
}
