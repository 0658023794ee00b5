//! Payments in doubt of a fleet: `bursar outcomes --fleet` when instances are killed, end, come back, or the store loses
//! what it had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use super::instances::{KEY, OTHER_KEY};
use crate::support::caller::Caller;
use crate::support::idp::Idp;
use crate::support::program::{Launch, Program, Said, run_in};
use crate::support::store::{Server, Store};
use crate::support::upstream::{Upstream, answer, full};
use crate::support::{Latch, acme, eventually};

/// What has been under way for so long is mirrored, on a machine whose cores are all taken, too.
const MIRRORED: Duration = Duration::from_millis(2500);

/// When each journal was heard of.
const SEEN: &str = "bursar:bursar:{journals}:seen";

struct Rig {
    store: Store,
    api: Upstream,
    idp: Idp,
    /// Where nothing is answered until it opens.
    latch: Latch,
    directory: TempDir,
}

impl Rig {
    /// None: there is no store here.
    async fn start() -> Option<Self> {
        let store = Server::redis().await?.start().await;
        let latch = Latch::closed();
        let held = latch.clone();
        let api = Upstream::start(move |_| {
            let held = held.clone();
            async move {
                held.wait().await;
                answer(200, "paid")
            }
        });
        let rig = Self {
            store,
            api: api.await,
            idp: Idp::counting().await,
            latch,
            directory: tempfile::tempdir().unwrap(),
        };
        rig.write("operator", KEY, "");
        Some(rig)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory with a configuration.
    fn write(&self, name: &str, key: &str, rest: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        let fleet = format!("fleet: {{url: '{}', keys: ['{key}']}}\n", self.store.url());
        std::fs::write(self.path(name).join("proxy.yaml"), fleet + rest).unwrap();
    }

    /// An instance with the journal of that name.
    async fn instance(&self, name: &str) -> Program {
        self.instance_at(name, "127.0.0.1:0").await
    }

    async fn instance_at(&self, name: &str, listen: &str) -> Program {
        let rest = format!(
            "listen: {listen}\nadmin: 127.0.0.1:0\ndrain_delay: 0s\ndrain_timeout: 1s\njournal: {{path: journal}}\n{}",
            acme(&self.api.url(), &self.idp.url(), "")
        );
        self.write(name, KEY, &rest);
        let launch = Launch::default().rust_log("info,bursar::access=off");
        launch.run(&self.path(name).join("proxy.yaml")).await
    }

    /// Sends a payment that is not answered, and waits until the API has it.
    async fn pay(&self, program: &Program, path: &str, sent: usize) {
        let listen = program.listen;
        let uri = format!("http://api.test{path}");
        tokio::spawn(async move {
            loop {
                let request = Request::builder().method("POST").uri(&uri);
                let request = request.body(full("{}")).unwrap();
                let mut caller = Caller::connect(listen).await;
                match caller.begin(request).await {
                    // It does not know yet what is frozen.
                    Ok(response) if response.status() == 503 => {
                        sleep(Duration::from_millis(50)).await;
                    }
                    // Its instance may be killed.
                    Ok(_) | Err(_) => return,
                }
            }
        });
        self.latch.reached_by(sent).await;
    }

    /// What an operator sees who has nothing but the fleet's store and keys.
    async fn outcomes(&self, arguments: &[&str]) -> Said {
        let all = [&["outcomes", "--fleet"], arguments].concat();
        run_in(&self.path("operator"), &all, &[]).await
    }

    /// Says that nothing is unknown of what the store had before.
    async fn settle(&self) {
        let said = self.outcomes(&["resolve", "--lost", "--note", "new"]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    async fn list(&self) -> List {
        let said = self.outcomes(&["--json"]).await;
        let list: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
        let code = if list["complete"] == true { 0 } else { 1 };
        assert_eq!(said.code, Some(code), "{said:?}");
        List(list)
    }

    /// Waits until the list has these paths.
    async fn lists(&self, paths: &[&str]) -> List {
        let mut list = self.list().await;
        for _ in 0..10 {
            if list.paths() == paths {
                return list;
            }
            sleep(Duration::from_millis(200)).await;
            list = self.list().await;
        }
        panic!("{paths:?} {list:?}");
    }
}

#[derive(Debug)]
struct List(Value);

impl List {
    fn paths(&self) -> Vec<&str> {
        let outcomes = self.0["outcomes"].as_array().unwrap();
        let mut paths: Vec<_> = outcomes
            .iter()
            .map(|one| one["path"].as_str().unwrap())
            .collect();
        paths.sort_unstable();
        paths
    }

    fn alive(&self) -> Vec<bool> {
        let instances = self.0["instances"].as_array().unwrap();
        let mut alive: Vec<_> = instances.iter().map(|one| one["alive"] == true).collect();
        alive.sort_unstable();
        alive
    }

    fn why(&self) -> &str {
        self.0["why"].as_str().unwrap_or_default()
    }
}

async fn kill(program: Program) {
    program.process.signal("KILL").await;
    program.ended().await;
}

/// The ids of what is in doubt in a journal.
async fn local(directory: &Path) -> Vec<String> {
    let said = run_in(directory, &["outcomes", "--json"], &[]).await;
    let list: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let id = |one: &Value| one["request_id"].as_str().unwrap().to_owned();
    list.iter().map(id).collect()
}

#[tokio::test]
async fn payments_of_an_instance_that_was_killed_are_listed_elsewhere_until_they_are_resolved_where_its_journal_is()
 {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, two) = (rig.instance("one").await, rig.instance("two").await);
    rig.pay(&one, "/old", 1).await;
    sleep(MIRRORED).await;
    // Under way at an instance that is alive: nobody is in doubt.
    let list = rig.lists(&[]).await;
    assert_eq!((list.why(), list.alive()), ("", vec![true, true]));
    rig.pay(&one, "/young", 2).await;
    kill(one).await;
    let list = rig.list().await;
    assert_eq!(list.paths(), ["/old"], "{list:?}");
    assert_eq!(list.alive(), [false, true]);
    assert!(
        list.why().contains("has neither come back nor signed off"),
        "{list:?}"
    );
    // The store's clock is set back.
    let mut operator = rig.store.connect_as_operator().await;
    let heard = ["ZRANGE", SEEN, "0", "0"];
    let dead = operator.call(&heard).await.parts()[0].text();
    operator.call(&["ZINCRBY", SEEN, "600000", &dead]).await;
    let list = rig.list().await;
    assert_eq!(list.paths(), ["/old"], "{list:?}");
    assert!(list.why().contains("neither come back"), "{list:?}");
    operator.call(&["ZINCRBY", SEEN, "-600000", &dead]).await;
    let list = rig.list().await;
    let row = &list.0["outcomes"][0];
    assert_eq!(row["phase"], "body_sent");
    assert_eq!(row["instance"], list.0["instances"][0]["name"]);
    let said = rig.outcomes(&["--provider", "acme", "--since", "1h"]).await;
    assert_eq!(said.code, Some(1));
    let last = said.out.lines().last().unwrap();
    assert!(
        last.starts_with("This list may not be complete: ") && said.out.contains("/old"),
        "{said:?}"
    );
    // The journal is opened again, by another process: the same rows, and what was too young.
    let one = rig.instance("one").await;
    let list = rig.lists(&["/old", "/young"]).await;
    assert_eq!((list.why(), list.alive()), ("", vec![true, true]));
    assert_eq!(rig.outcomes(&["--fail"]).await.code, Some(3));
    assert_eq!(
        rig.outcomes(&["--fail", "--provider", "other"]).await.code,
        Some(0)
    );
    let ids = local(&rig.path("one")).await;
    let there = rig.outcomes(&["resolve", &ids[0], "--note", "paid"]).await;
    assert!(
        there.code == Some(1) && there.error.contains("which is alive; resolve it there"),
        "{there:?}"
    );
    let here = ["outcomes", "resolve", "--note", "paid", &ids[0], &ids[1]];
    assert_eq!(run_in(&rig.path("one"), &here, &[]).await.code, Some(0));
    rig.lists(&[]).await;
    drop((one, two));
}

#[tokio::test]
async fn an_instance_that_is_gone_for_good_is_taken_off_with_a_note() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, two) = (rig.instance("one").await, rig.instance("two").await);
    let name = |program: &Program| format!(":{}", program.listen.port());
    let (gone, alive) = (name(&one), name(&two));
    rig.pay(&one, "/first", 1).await;
    rig.pay(&one, "/second", 2).await;
    sleep(MIRRORED).await;
    kill(one).await;
    let list = rig.lists(&["/first", "/second"]).await;
    let full = |end: &str| {
        let instances = list.0["instances"].as_array().unwrap();
        let mut names = instances.iter().map(|one| one["name"].as_str().unwrap());
        names.find(|name| name.ends_with(end)).unwrap().to_owned()
    };
    let (gone, alive) = (full(&gone), full(&alive));
    let id = list.0["outcomes"][0]["request_id"].as_str().unwrap();
    let (beginning, _) = id.split_at(8);
    let resolve = ["resolve", beginning, "--note", "seen in the dashboard"];
    let said = rig.outcomes(&resolve).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let again = rig.outcomes(&["resolve", id, "--note", "again"]).await;
    assert!(
        again.code == Some(1) && again.error.contains(": seen in the dashboard"),
        "{again:?}"
    );
    assert_eq!(rig.list().await.paths().len(), 1);
    for (name, text) in [(&*alive, "is alive"), ("nobody:1", "there is no instance")] {
        let said = rig
            .outcomes(&["resolve", "--instance", name, "--note", "x"])
            .await;
        assert!(
            said.code == Some(1) && said.error.contains(text),
            "{said:?}"
        );
    }
    let said = rig
        .outcomes(&["resolve", "--instance", &gone, "--note", "its disk is lost"])
        .await;
    assert!(said.out.contains("with 1 requests"), "{said:?}");
    let list = rig.list().await;
    assert_eq!((list.paths().len(), list.why()), (0, ""), "{list:?}");
    drop(two);
}

#[tokio::test]
async fn of_instances_of_one_name_that_are_gone_none_is_taken_off_before_its_journal_is_named() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    // As of a machine that was cloned: an instance's name is its host's with its port.
    let one = rig.instance("one").await;
    let port = one.listen.port();
    let two = rig.instance_at("two", &format!("127.0.0.2:{port}")).await;
    let three = rig.instance_at("three", &format!("127.0.0.3:{port}")).await;
    rig.pay(&one, "/one", 1).await;
    rig.pay(&two, "/two", 2).await;
    rig.pay(&three, "/three", 3).await;
    sleep(MIRRORED).await;
    kill(one).await;
    kill(two).await;
    let list = rig.lists(&["/one", "/two"]).await;
    let text = |row: usize, member: &str| list.0["outcomes"][row][member].as_str().unwrap();
    let (name, first, second) = (text(0, "instance"), text(0, "journal"), text(1, "journal"));
    assert_eq!(name, text(1, "instance"));
    let instances = list.0["instances"].as_array().unwrap();
    let gone = instances.iter().filter(|one| one["alive"] == false);
    let mut gone: Vec<_> = gone.map(|one| one["journal"].as_str().unwrap()).collect();
    let mut ids = vec![first, second];
    gone.sort_unstable();
    ids.sort_unstable();
    assert_eq!(gone, ids);
    let said = rig.outcomes(&[]).await;
    for id in [first, second] {
        // Beside its row, and where the list says why it is in doubt.
        let (short, _) = id.split_at(8);
        assert_eq!(said.out.matches(short).count(), 2, "{short} {said:?}");
    }
    let off = async |named: &str| {
        let resolve = ["resolve", "--instance", named, "--note", "its disk is lost"];
        rig.outcomes(&resolve).await
    };
    let each = [first, second].map(|id| format!("{id} (last heard of at 2"));
    for (named, expected) in [
        (
            name,
            &["any of 2 journals: ", &each[0], &each[1], ", 1 in doubt)"][..],
        ),
        (
            name,
            &["`bursar outcomes resolve --instance JOURNAL --fleet"],
        ),
        ("", &["there is no instance "]),
        (first.split_at(3).0, &["there is no instance "]),
    ] {
        let said = off(named).await;
        let has_all = expected.iter().all(|text| said.error.contains(text));
        assert!(said.code == Some(1) && has_all, "{named} {said:?}");
        assert!(said.error.contains("nothing was changed"), "{said:?}");
    }
    rig.lists(&["/one", "/two"]).await;
    let said = off(first.split_at(8).0).await;
    assert!(said.out.contains("with 1 requests"), "{said:?}");
    let left = [text(1, "path")];
    rig.lists(&left).await;
    let again = off(first).await;
    assert!(
        again.error.contains("is off the fleet's list already"),
        "{again:?}"
    );
    // One is alive, and one is off the list: a single one is left that can be meant.
    let said = off(name).await;
    assert!(said.out.contains("with 1 requests"), "{said:?}");
    assert_eq!(rig.lists(&[]).await.why(), "");
    kill(three).await;
    rig.lists(&["/three"]).await;
}

#[tokio::test]
async fn what_the_store_loses_is_written_again_and_who_was_gone_then_is_named_until_he_is_back() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, two) = (rig.instance("one").await, rig.instance("two").await);
    rig.pay(&one, "/one", 1).await;
    rig.pay(&two, "/two", 2).await;
    sleep(MIRRORED).await;
    kill(one).await;
    kill(two).await;
    // In doubt in a journal whose instance is alive.
    let two = rig.instance("two").await;
    eventually(|| async { rig.list().await.alive() == [false, true] }).await;
    rig.lists(&["/one", "/two"]).await;
    let mut operator = rig.store.connect_as_operator().await;
    operator.call(&["FLUSHALL"]).await;
    let list = rig.lists(&["/two"]).await;
    assert_eq!(list.alive(), [false, true], "{list:?}");
    assert!(list.why().contains("neither come back nor"), "{list:?}");
    let one = rig.instance("one").await;
    let list = rig.lists(&["/one", "/two"]).await;
    assert_eq!(list.why(), "");
    drop((one, two));
}

#[tokio::test]
async fn a_store_that_loses_everything_again_and_again_is_told_of_once_a_minute() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let one = rig.instance("one").await;
    let is_written = async || {
        let names = rig.store.names().await;
        let has = |part: &[u8]| {
            let mut names = names.iter();
            names.any(|(name, _)| name.windows(part.len()).any(|found| found == part))
        };
        has(b"{members}") && has(b"{journals}")
    };
    for _ in 0..4 {
        eventually(is_written).await;
        rig.store.flush().await;
    }
    eventually(is_written).await;
    let log = one.logged();
    for line in [
        "what this instance has is written again",
        "what is in doubt here is written again",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
}

#[tokio::test]
async fn an_instance_that_has_ended_in_order_leaves_a_complete_list() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, two) = (rig.instance("one").await, rig.instance("two").await);
    rig.pay(&one, "/cut-off", 1).await;
    one.process.signal("TERM").await;
    one.ended().await;
    let list = rig.list().await;
    assert_eq!((list.paths(), list.why()), (vec!["/cut-off"], ""));
    assert_eq!(list.alive(), [false, true]);
    // With nothing in doubt nothing is left of it.
    two.process.signal("TERM").await;
    two.ended().await;
    assert_eq!(rig.list().await.alive(), [false]);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_said_to_be_so() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let said = rig.outcomes(&[]).await;
    assert!(
        said.code == Some(1) && said.out.contains("knows of no instance"),
        "{said:?}"
    );
    let one = rig.instance("one").await;
    rig.pay(&one, "/sealed", 1).await;
    sleep(MIRRORED).await;
    kill(one).await;
    rig.lists(&["/sealed"]).await;
    rig.write("operator", OTHER_KEY, "");
    let list = rig.list().await;
    assert!(
        list.paths().is_empty() && list.why().contains("no key in `fleet.keys` opens"),
        "{list:?}"
    );
    rig.store.kill().await;
    let said = rig.outcomes(&[]).await;
    assert!(
        said.code == Some(1) && said.error.contains("cannot be used"),
        "{said:?}"
    );
    let list = rig.list().await;
    assert!(list.why().contains("cannot be used"), "{list:?}");
    let resolve = rig.outcomes(&["resolve", "abcd", "--note", "x"]).await;
    assert_eq!(resolve.code, Some(1), "{resolve:?}");
    let without = tempfile::tempdir().unwrap();
    std::fs::write(without.path().join("proxy.yaml"), "providers: {}\n").unwrap();
    let said = run_in(without.path(), &["outcomes", "--fleet"], &[]).await;
    assert!(
        said.code == Some(1) && said.error.contains("has no `fleet`"),
        "{said:?}"
    );
}

#[tokio::test]
async fn rows_move_to_a_new_key_and_come_back_after_the_store_was_away() {
    let Some(mut rig) = Rig::start().await else {
        return;
    };
    let one = rig.instance("one").await;
    rig.pay(&one, "/kept", 1).await;
    sleep(MIRRORED).await;
    kill(one).await;
    let one = rig.instance("one").await;
    rig.lists(&["/kept"]).await;
    let file = rig.path("one").join("proxy.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let both = format!("keys: ['{OTHER_KEY}', '{KEY}']");
    std::fs::write(&file, text.replace(&format!("keys: ['{KEY}']"), &both)).unwrap();
    // All the time it is listed under one name at least.
    let mut operator = rig.store.connect_as_operator().await;
    let (done, mut is_done) = tokio::sync::oneshot::channel::<()>();
    let least = tokio::spawn(async move {
        let mut least = i64::MAX;
        while is_done.try_recv().is_err() {
            let count = operator.call(&["ZCARD", SEEN]).await;
            least = least.min(count.text().parse().unwrap());
        }
        least
    });
    one.reload().await;
    rig.write("operator", OTHER_KEY, "");
    eventually(|| async { rig.list().await.paths() == ["/kept"] }).await;
    done.send(()).unwrap();
    assert_eq!(least.await.unwrap(), 1);
    assert_eq!(rig.list().await.why(), "");
    rig.store.kill().await;
    assert!(rig.store.start_again().await);
    let list = rig.lists(&["/kept"]).await;
    assert_eq!(list.why(), "");
    drop(one);
}

#[tokio::test]
async fn rows_that_the_store_loses_alone_are_written_again_or_said_to_be_lost() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let (one, two) = (rig.instance("one").await, rig.instance("two").await);
    rig.pay(&one, "/signed-off", 1).await;
    rig.pay(&two, "/alive", 2).await;
    sleep(MIRRORED).await;
    one.process.signal("TERM").await;
    one.ended().await;
    kill(two).await;
    let two = rig.instance("two").await;
    let list = rig.lists(&["/alive", "/signed-off"]).await;
    assert_eq!(list.why(), "");
    // What may be evicted, or on another server of a cluster than the list of journals.
    let mut operator = rig.store.connect_as_operator().await;
    let names = operator.call(&["KEYS", "bursar:bursar:{????????????????????????????????}"]);
    let names: Vec<String> = names.await.parts().iter().map(|name| name.text()).collect();
    assert!(names.len() >= 2, "{names:?}");
    for name in &names {
        operator.call(&["DEL", name]).await;
    }
    let list = rig.list().await;
    assert_eq!(list.paths(), ["/alive"], "{list:?}");
    assert!(list.why().contains("the store has lost 1 of"), "{list:?}");
    let one = rig.instance("one").await;
    let list = rig.lists(&["/alive", "/signed-off"]).await;
    assert_eq!(list.why(), "");
    drop((one, two));
}

#[tokio::test]
async fn an_instance_that_is_killed_with_its_first_payment_is_named() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let _one = rig.instance("one").await;
    let two = rig.instance("two").await;
    rig.pay(&two, "/first", 1).await;
    kill(two).await;
    let list = rig.list().await;
    assert_eq!(list.alive(), [false, true], "{list:?}");
    assert!(list.why().contains("neither come back nor"), "{list:?}");
}

#[tokio::test]
async fn a_fleet_that_is_new_has_a_complete_list() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let _both = (rig.instance("one").await, rig.instance("two").await);
    eventually(|| async { rig.list().await.alive() == [true, true] }).await;
    assert_eq!(rig.list().await.why(), "");
}

#[tokio::test]
async fn what_a_store_had_before_it_was_emptied_is_doubted_until_somebody_says_that_it_is_settled()
{
    let Some(rig) = Rig::start().await else {
        return;
    };
    let two = rig.instance("two").await;
    let one = rig.instance("one").await;
    rig.pay(&one, "/lost", 1).await;
    sleep(MIRRORED).await;
    kill(one).await;
    rig.lists(&["/lost"]).await;
    kill(two).await;
    rig.store
        .connect_as_operator()
        .await
        .call(&["FLUSHALL"])
        .await;
    // Its journal knows that there was something, and not what.
    let two = rig.instance("two").await;
    eventually(|| async { rig.list().await.alive() == [true] }).await;
    let list = rig.list().await;
    assert!(
        list.why().contains("nobody knows what the store had"),
        "{list:?}"
    );
    rig.settle().await;
    assert_eq!(rig.list().await.why(), "");
    let again = rig
        .outcomes(&["resolve", "--lost", "--note", "again"])
        .await;
    assert!(
        again.code == Some(1)
            && again.error.contains("it was settled at")
            && again.error.contains(": new"),
        "{again:?}"
    );
    let two_alone = ["outcomes", "resolve", "--lost", "--note", "x"];
    let here = run_in(&rig.path("two"), &two_alone, &[]).await;
    assert_eq!(here.code, Some(2), "{here:?}");
    drop(two);
}

#[tokio::test]
async fn instances_whose_journal_is_a_copy_of_another_have_their_own_rows_each() {
    let Some(rig) = Rig::start().await else {
        return;
    };
    let one = rig.instance("one").await;
    one.process.signal("TERM").await;
    one.ended().await;
    let (from, to) = (rig.path("one/journal"), rig.path("two/journal"));
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let (one, two) = (rig.instance("one").await, rig.instance("two").await);
    rig.pay(&one, "/original", 1).await;
    rig.pay(&two, "/copy", 2).await;
    sleep(MIRRORED).await;
    kill(one).await;
    kill(two).await;
    let list = rig.lists(&["/copy", "/original"]).await;
    assert_eq!(list.alive(), [false, false], "{list:?}");
}
