//! Members on real stores.

use std::time::Duration;

use bursar_testkit::store::resp::Value;
use bursar_testkit::store::{Server, Store};
use bursar_testkit::{PATIENCE, becomes_true};
use tokio::time::{Instant, sleep};

use super::*;
use crate::tests::join;

/// Longer than a member may be silent.
const SILENT: Duration = Duration::from_millis(2200);
/// The store's clock has whole milliseconds.
const A_MOMENT: Duration = Duration::from_millis(2);
const CALLER: &str = "the-shop";

fn description() -> Description {
    Description {
        name: "host:3128".to_owned(),
        version: "1.2.3".to_owned(),
        started: 7,
    }
}

/// An instance, and what it was told last.
struct Member {
    fleet: Fleet,
    held: u32,
    epoch: String,
}

impl Member {
    async fn start(store: &Store, keys: &str) -> Self {
        let (fleet, _events) = join(store, keys, description()).await;
        Self {
            fleet,
            held: 0,
            epoch: String::new(),
        }
    }

    /// A heartbeat that wants that much, in thousandths.
    async fn wants(&mut self, want: u32) -> Heard {
        self.waits(want, None).await
    }

    /// The same of one that has waited for so long.
    async fn waits(&mut self, want: u32, waited: Option<u64>) -> Heard {
        let demands = [Demand {
            kind: LimitKind::PerSecond,
            of: CALLER,
            demand: want * 1000,
            held: self.held,
            want: want * 1000,
            grain: GRAIN,
            waited: waited.map(Duration::from_millis),
        }];
        let demands = match (want, self.held) {
            (0, 0) => &[][..],
            _ => &demands,
        };
        let beat = Beat {
            members: 5,
            describes: false,
            demands,
        };
        let heard = self.fleet.beat(beat).await.unwrap();
        self.held = heard.parts.first().map_or(0, |part| part.part);
        self.epoch.clone_from(&heard.epoch);
        heard
    }
}

/// Parts are multiples of it: ten requests.
const GRAIN: u32 = 100_000;
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER_KEY: &str = "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

async fn members(store: &Store, count: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(Member::start(store, KEY).await);
    }
    members
}

fn held(members: &[Member]) -> Vec<u32> {
    members.iter().map(|member| member.held / 1000).collect()
}

/// Past the time in which nobody is given more than it has.
async fn settle(members: &mut [Member]) {
    settle_with(members, 0).await;
}

/// The same with what they want meanwhile.
async fn settle_with(members: &mut [Member], want: u32) {
    loop {
        let mut settles_in = None;
        for member in &mut *members {
            settles_in = settles_in.max(member.wants(want).await.settles_in);
        }
        match settles_in {
            Some(left) => sleep((left + A_MOMENT).min(SETTLING / 4)).await,
            None => return,
        }
    }
}

#[tokio::test]
async fn who_beats_is_a_member_until_it_leaves_or_falls_silent_and_is_remembered() {
    for server in Server::all().await {
        let store = server.start().await;
        let mut all = members(&store, 3).await;
        let beat = Beat {
            members: 0,
            describes: true,
            demands: &[],
        };
        assert!(all[0].fleet.beat(beat).await.unwrap().is_described);
        assert_eq!(all[1].wants(0).await.members, 2);
        let heard = all[2].wants(0).await;
        assert_eq!((heard.members, heard.is_described), (3, false));
        all[1].fleet.leave().await.unwrap();
        assert_eq!(all[2].wants(0).await.members, 2);
        let silent = Instant::now();
        let alone = becomes_true(PATIENCE, async || all[2].wants(0).await.members == 1);
        assert!(alone.await);
        assert!(silent.elapsed() < Duration::from_secs(3));
        let of = |which| all[2].fleet.instances(which);
        let alive = of(Which::Alive).await.unwrap();
        let ids: Vec<&str> = alive.instances.iter().map(|one| &*one.id).collect();
        assert_eq!((alive.count, ids), (1, vec![all[2].fleet.instance()]));
        let seen = of(Which::Seen).await.unwrap();
        assert_eq!((seen.count, seen.instances.len()), (3, 3));
        let first = all[0].fleet.instance();
        let gone = seen.instances.iter().find(|one| one.id == first).unwrap();
        assert_eq!(
            (gone.is_alive, gone.description.clone()),
            (false, Some(description()))
        );
        assert!(gone.seen >= Duration::from_secs(2), "{:?}", gone.seen);
        // Its host's name is nobody's business.
        let dump = String::from_utf8_lossy(&store.dump().await).into_owned();
        assert!(!dump.contains("host:3128") && !dump.contains(CALLER));
    }
}

#[tokio::test]
async fn a_limit_is_granted_in_grains_as_far_as_nobody_has_it_and_first_to_who_has_waited_longest()
{
    for server in Server::all().await {
        let store = server.start().await;
        let mut all = members(&store, 5).await;
        settle(&mut all).await;
        all[0].wants(650).await;
        assert_eq!(held(&all), [650, 0, 0, 0, 0]);
        let heard = all[1].waits(1000, Some(0)).await;
        assert_eq!((heard.parts[0].others, held(&all)[1]), (650_000, 300));
        // The others hear of it, and a grain is kept for the one that came first.
        let heard = all[2].waits(400, Some(0)).await;
        assert_eq!((heard.parts[0].others, held(&all)[2]), (1_650_000, 0));
        assert!(all[0].wants(350).await.parts[0].is_awaited);
        all[0].wants(350).await;
        all[2].waits(400, Some(0)).await;
        assert_eq!(held(&all), [350, 300, 200, 0, 0]);
        all[1].waits(1000, Some(500)).await;
        assert_eq!(held(&all), [350, 400, 200, 0, 0]);
        // Who waits no more is not waited for, and neither is who is gone.
        all[1].wants(0).await;
        all[1].wants(0).await;
        assert!(!all[0].wants(350).await.parts[0].is_awaited);
        all[3].waits(1000, Some(60_000)).await;
        assert_eq!(held(&all), [350, 0, 200, 400, 0]);
        all[3].fleet.leave().await.unwrap();
        let whole = becomes_true(PATIENCE, async || {
            all[4].wants(1000).await;
            all[4].held == 1_000_000
        });
        // Of those that are silent, what they had.
        assert!(whole.await);
    }
}

#[tokio::test]
async fn whoever_comes_and_goes_and_whatever_it_wants_all_parts_are_the_limit_at_most() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = members(&store, 6).await;
    settle(&mut all).await;
    for round in 0..600 {
        let place = fastrand::usize(..all.len());
        match fastrand::u32(..60) {
            0 => {
                all[place].fleet.leave().await.unwrap();
                all[place].held = 0;
            }
            1 => {
                store.flush().await;
                // Nobody gets more before all may have told what they have.
                for member in &mut all {
                    member.wants(1).await;
                }
            }
            _ => {
                let waited = fastrand::bool().then(|| fastrand::u64(..1000));
                all[place].waits(fastrand::u32(..1000), waited).await;
            }
        }
        let sum: u32 = all.iter().map(|member| member.held).sum();
        assert!(sum <= 1_000_000, "round {round}: {:?}", held(&all));
    }
}

#[tokio::test]
async fn nobody_gets_more_where_the_store_stood_still_and_somebody_seems_to_be_silent() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = members(&store, 2).await;
    settle(&mut all).await;
    all[0].wants(700).await;
    sleep(SILENT / 3).await;
    all[1].wants(200).await;
    sleep(SILENT * 3 / 5).await;
    let heard = all[1].wants(1000).await;
    assert_eq!(
        (heard.members, heard.settles_in.is_some(), held(&all)),
        (1, true, vec![700, 200])
    );
}

#[tokio::test]
async fn as_much_as_can_be_told_under_as_many_keys_as_there_may_be_is_taken_off_again() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let more = (0..7).map(|key| KEY.replace("MDEy", &format!("MDE{key}")));
    let keys: Vec<String> = more.chain([KEY.to_owned()]).collect();
    let all = Member::start(&store, &keys.join(", ")).await;
    let names: Vec<String> = (0..max_limits(1)).map(|place| place.to_string()).collect();
    let demands = names.iter().map(|name| Demand {
        kind: LimitKind::InFlight,
        of: name,
        demand: 100_000,
        held: 100_000,
        want: 100_000,
        grain: GRAIN,
        waited: None,
    });
    let demands: Vec<_> = demands.collect();
    let beat = Beat {
        members: 1,
        describes: false,
        demands: &demands,
    };
    for _ in 0..3 {
        let heard = all.fleet.beat(beat).await.unwrap();
        assert_eq!(heard.parts.len(), demands.len());
        for part in heard.parts {
            assert_eq!((part.part, part.others), (100_000, 0));
        }
    }
}

#[tokio::test]
async fn a_long_text_of_somebody_else_in_a_members_place_does_not_hold_up_the_server() {
    for server in Server::all().await {
        let store = server.start().await;
        let mut all = members(&store, 2).await;
        all[0].wants(1).await;
        all[1].wants(1).await;
        let mut operator = store.connect_as_operator().await;
        let long = vec![b'x'; 100_000];
        let mut spoilt = 0;
        for (name, _) in store.names().await {
            let fields = operator.call(&[&b"HKEYS"[..], &name]).await;
            for field in fields.parts() {
                let field = field.text();
                if field.starts_with('i') {
                    let set = [&b"HSET"[..], &name, field.as_bytes(), &long];
                    operator.call(&set).await;
                    spoilt += 1;
                }
            }
        }
        assert!(spoilt > 0);
        let began = Instant::now();
        all[0].fleet.leave().await.unwrap();
        assert_eq!(all[1].wants(0).await.members, 1);
        // Far from what it took, and from what a busy machine takes.
        assert!(began.elapsed() < Duration::from_secs(15));
    }
}

#[tokio::test]
async fn who_begins_after_all_have_left_has_what_it_wants_at_once() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = members(&store, 3).await;
    let (before, after) = all.split_at_mut(2);
    settle(before).await;
    before[0].wants(600).await;
    before[1].wants(400).await;
    for member in &mut *before {
        member.fleet.leave().await.unwrap();
    }
    after[0].wants(1000).await;
    assert_eq!(held(after), [1000]);
}

#[tokio::test]
async fn a_new_fleet_has_what_it_wants_once_others_would_have_been_heard_of_again() {
    for server in Server::all().await {
        let store = server.start().await;
        let mut all = members(&store, 2).await;
        let begun = Instant::now();
        let settles_in = all[0].wants(600).await.settles_in.unwrap();
        assert!(settles_in <= SETTLING, "{settles_in:?}");
        all[1].wants(400).await;
        assert_eq!(held(&all), [0, 0]);
        settle(&mut all).await;
        assert!(begun.elapsed() >= settles_in, "{settles_in:?}");
        all[0].wants(600).await;
        all[1].wants(400).await;
        assert_eq!(held(&all), [600, 400]);
    }
}

#[tokio::test]
async fn however_many_were_started_without_the_store_none_is_left_with_nothing_when_it_is_back() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = members(&store, 40).await;
    for member in &mut all {
        member.held = 200_000;
    }
    // Ten times the limit, until they have heard of each other.
    for member in &mut all {
        assert!(member.wants(500).await.settles_in.is_some());
    }
    assert!(
        held(&all).iter().all(|held| *held == 200),
        "{:?}",
        held(&all)
    );
    for _ in 0..2 {
        for member in &mut all {
            member.held = member.held.min(GRAIN / 5);
            member.wants(20).await;
        }
    }
    settle_with(&mut all, 20).await;
    assert!(
        held(&all).iter().all(|held| *held == 20),
        "{:?}",
        held(&all)
    );
}

#[tokio::test]
async fn a_store_that_lost_everything_has_another_epoch_and_nobody_gets_more_until_all_were_heard()
{
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = members(&store, 2).await;
    settle(&mut all).await;
    all[0].wants(600).await;
    all[1].wants(400).await;
    for _ in 0..2 {
        all[0].wants(600).await;
        all[1].wants(400).await;
    }
    assert_eq!(held(&all), [600, 400]);
    let before = all[0].epoch.clone();
    store.flush().await;
    all[0].wants(600).await;
    assert_ne!(all[0].epoch, before);
    assert_eq!(held(&all), [600, 400]);
    all[1].wants(400).await;
    assert_eq!(all[1].epoch, all[0].epoch);
    assert_eq!(held(&all), [600, 400]);
    // What others left there is nothing, and means that something was lost.
    let mut operator = store.connect_as_operator().await;
    let names = ["", ":alive", ":seen", ":instances", ":decisions"];
    for name in names.map(|name| format!("bursar:bursar:{{members}}{name}")) {
        operator.call(&["DEL", &name]).await;
        operator.call(&["LPUSH", &name, "garbage"]).await;
    }
    let heard = all[0].wants(600).await;
    assert_ne!(heard.epoch, all[1].epoch);
    assert_eq!(
        (heard.members, heard.freezes, held(&all)),
        (1, 0, vec![600, 400])
    );
    let decisions = "bursar:bursar:{members}:decisions";
    operator.call(&["DEL", decisions]).await;
    operator.call(&["HSET", decisions, "n", "1"]).await;
    assert_eq!(all[0].wants(600).await.freezes, 1);
}

#[tokio::test]
async fn instances_whose_first_keys_differ_share_a_limit_by_the_key_that_they_have_in_common() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = vec![
        Member::start(&store, KEY).await,
        Member::start(&store, &format!("{OTHER_KEY}, {KEY}")).await,
    ];
    settle(&mut all).await;
    for _ in 0..4 {
        all[0].wants(500).await;
        all[1].wants(500).await;
    }
    assert_eq!(held(&all), [500, 500]);
}

/// What it costs is written at the head of `members.rs`; `-- --ignored --nocapture` shows it.
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement talks to a person")]
async fn what_a_heartbeat_costs_among_a_thousand() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let member = Member::start(&store, KEY).await;
    let mut operator = store.connect_as_operator().await;
    for place in 0..1000 {
        let id = format!("{place:016x}");
        let Value::Array(time) = operator.call(&["TIME"]).await else {
            panic!("no time");
        };
        let Value::Bytes(seconds) = &time[0] else {
            panic!("no time");
        };
        let ahead = format!("{}009", String::from_utf8_lossy(seconds));
        operator
            .call(&["ZADD", "bursar:bursar:{members}:alive", &ahead, &id])
            .await;
    }
    let names: Vec<String> = (0..100).map(|place| format!("caller-{place}")).collect();
    for limits in [0, 10, 100] {
        operator.call(&["CONFIG", "RESETSTAT"]).await;
        let demands = names.iter().take(limits).map(|name| Demand {
            kind: LimitKind::PerSecond,
            of: name,
            demand: 1000,
            held: 1000,
            want: 1000,
            grain: 1,
            waited: None,
        });
        let demands: Vec<_> = demands.collect();
        let beat = Beat {
            members: 1000,
            describes: false,
            demands: &demands,
        };
        let mut count = 0;
        for _ in 0..2000 {
            count = member.fleet.beat(beat).await.unwrap().members;
        }
        let info = operator.call(&["INFO", "all"]).await.text();
        let lines = info
            .lines()
            .filter(|line| line.starts_with("cmdstat_evalsha") || line.starts_with("total_net_"));
        println!(
            "{limits} limits, {count} members: {:?}",
            lines.collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn others_are_heard_once_all_of_them_have_beaten_since_and_the_store_is_not_just_back() {
    let Some(server) = Server::redis().await else {
        return;
    };
    let store = server.start().await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Member::start(&store, KEY).await);
    }
    let heard = async |all: &[Member], began: Instant| {
        all[0]
            .fleet
            .are_others_heard(began.elapsed())
            .await
            .unwrap()
    };
    // Nobody was heard of before: others may yet come back.
    let began = Instant::now();
    assert!(!heard(&all, began).await);
    for member in &mut all {
        assert!(member.wants(0).await.settles_in.is_some());
    }
    assert!(!heard(&all, began).await);
    let mut are_back = true;
    while are_back {
        sleep(Duration::from_millis(200)).await;
        are_back = false;
        for member in &mut all {
            are_back |= member.wants(0).await.settles_in.is_some();
        }
    }
    // Instants of the store are whole milliseconds: what comes before and what comes after is further apart.
    sleep(Duration::from_millis(20)).await;
    let began = Instant::now();
    sleep(Duration::from_millis(20)).await;
    for member in 1..3 {
        assert!(!heard(&all, began).await, "{member}");
        all[member].wants(0).await;
    }
    assert!(heard(&all, began).await);
}
