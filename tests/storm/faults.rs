//! What goes wrong around Bursar, one thing after the other: every kind once in an order of the seed's
//! choice, and then at random until the time is over.

use std::sync::Arc;
use std::time::Duration;

use bursar_testkit::metrics;
use bursar_testkit::program::Program;
use fastrand::Rng;
use tokio::time::Instant;

use crate::endpoint::{GRACE, LIFE, TROUBLES, client};
use crate::outage::FleetStore;
use crate::plan::ACCOUNTS;
use crate::program::{PATIENCE, eventually, last_lines, metric, outcomes, start};
use crate::setup::Setup;
use crate::shared::{Moment, Shared};

/// A kind of trouble.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    /// While another process holds the journal: what has to be in it first has to wait.
    KillBesideWriter,
    Terminate,
    TokenTrouble,
    Revocation,
    ApiDown,
    NoDescriptors,
    /// The configuration is read again, with another secret.
    SecretChanged,
    /// With another limit.
    LimitChanged,
    /// With a mistake, of which nothing must come.
    BrokenConfiguration,
    FullDisk,
    /// Of a fleet. It starts again with what it had.
    StoreKilled,
    /// It starts again with nothing.
    StoreLost,
}

/// What is dearest comes more often.
const FAULTS: [Fault; 15] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::KillBesideWriter,
    Fault::KillBesideWriter,
    Fault::Terminate,
    Fault::TokenTrouble,
    Fault::Revocation,
    Fault::Revocation,
    Fault::ApiDown,
    Fault::NoDescriptors,
    Fault::SecretChanged,
    Fault::LimitChanged,
    Fault::BrokenConfiguration,
    Fault::FullDisk,
];

/// Where there is a store.
const STORE_FAULTS: [Fault; 4] = [
    Fault::StoreKilled,
    Fault::StoreKilled,
    Fault::StoreLost,
    Fault::StoreLost,
];

impl Fault {
    /// All that there are, each as often as it is to come.
    fn all(has_store: bool) -> Vec<Self> {
        let mut all = FAULTS.to_vec();
        if has_store {
            all.extend(STORE_FAULTS);
        }
        all
    }

    fn ends_bursar(self) -> bool {
        matches!(self, Self::Kill | Self::KillBesideWriter | Self::Terminate)
    }
}

/// A Bursar.
struct Instance {
    setup: Setup,
    program: Program,
    /// File descriptors and memory after its first start.
    at_first: (usize, u64),
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    instances: Vec<Instance>,
    /// Which of them trouble is for.
    victim: usize,
    store: Option<FleetStore>,
    rng: Rng,
    secrets: u32,
    kills: usize,
    /// A token is only seen to end by a Bursar that lives longer.
    spared_until: Option<Instant>,
}

impl Driver {
    /// Starts one Bursar, or a fleet of them.
    pub(crate) async fn start(
        shared: &Arc<Shared>,
        setups: Vec<Setup>,
        store: Option<FleetStore>,
    ) -> Self {
        for account in ACCOUNTS {
            let secret = format!("storm-secret-0-{}", client(account));
            for setup in &setups {
                setup.write_secret(account, &secret);
            }
            shared
                .tokens()
                .secrets
                .insert(client(account), vec![secret]);
        }
        let mut instances = Vec::new();
        for mut setup in setups {
            setup.prepare_start();
            let program = start(shared, &setup.config()).await;
            let process = program.process;
            instances.push(Instance {
                setup,
                program,
                at_first: (process.open_files().unwrap_or(0), process.memory().now),
            });
        }
        let mut driver = Self {
            shared: shared.clone(),
            instances,
            victim: 0,
            store,
            rng: Rng::with_seed(shared.seed),
            secrets: 0,
            kills: 0,
            spared_until: None,
        };
        for victim in 0..driver.instances.len() {
            driver.victim = victim;
            driver.open();
        }
        driver
    }

    fn program(&self) -> &Program {
        &self.instances[self.victim].program
    }

    fn setup(&mut self) -> &mut Setup {
        &mut self.instances[self.victim].setup
    }

    fn open(&self) {
        let address = Some(self.program().listen);
        let instance = &self.shared.instances()[self.victim];
        instance.address.send_replace(address);
    }

    /// Until the time is over, and every fault happened at least once.
    pub(crate) async fn storm(&mut self, until: Instant) {
        let all = Fault::all(self.store.is_some());
        let mut first = all.clone();
        self.rng.shuffle(&mut first);
        while !first.is_empty() || Instant::now() < until {
            let is_spared = self
                .spared_until
                .is_some_and(|until| Instant::now() < until);
            let may_be = |fault: &Fault| !(is_spared && fault.ends_bursar());
            let next = first.iter().position(may_be).map(|at| first.remove(at));
            let any = self.rng.choice(&all).copied().filter(may_be);
            let Some(fault) = next.or(any) else {
                continue;
            };
            self.pause(50..800).await;
            if let Some(store) = &mut self.store {
                store.start_again(&self.shared, false).await;
            }
            self.victim = self.rng.usize(..self.instances.len());
            self.shared.history().fault(&format!("{fault:?}"));
            self.cause(fault).await;
        }
    }

    async fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        let pause = Duration::from_millis(self.rng.u64(milliseconds));
        tokio::time::sleep(pause).await;
    }

    async fn cause(&mut self, fault: Fault) {
        let now = Instant::now();
        match fault {
            Fault::Kill => {
                self.kill(Duration::from_secs(1)).await;
                self.start_again().await;
            }
            Fault::KillBesideWriter => {
                let writer = self.setup().disk.hold_journal();
                // Nobody is sent or told anything meanwhile that was not written down before; whoever is, is lost.
                tokio::time::sleep(HELD).await;
                self.kill(HELD).await;
                drop(writer);
                if now.elapsed() > WRITE_PATIENCE {
                    self.skip("the journal was held for too long");
                }
                self.start_again().await;
            }
            Fault::Terminate => {
                self.terminate().await;
                self.start_again().await;
            }
            Fault::TokenTrouble => {
                let trouble = TROUBLES[self.rng.usize(..TROUBLES.len())];
                self.shared
                    .history()
                    .fault(&format!("token endpoint: {trouble:?}"));
                let is_long = self.rng.bool() || self.spared_until.is_none();
                let until = now + if is_long { LIFE + GRACE + LIFE } else { LIFE };
                self.shared.trouble_endpoint(trouble, until);
                if is_long {
                    self.spared_until = Some(until);
                }
            }
            Fault::Revocation => {
                for account in ACCOUNTS {
                    if self.rng.bool() {
                        self.shared.tokens().revoke(account);
                    }
                }
            }
            Fault::ApiDown => {
                let until = now + Duration::from_millis(self.rng.u64(100..1000));
                self.shared.take_api_down(until);
            }
            Fault::NoDescriptors => self.take_descriptors().await,
            Fault::SecretChanged => self.change_secret().await,
            Fault::LimitChanged => {
                // Never the same again: that would be no change.
                let step = self.rng.u32(1..18);
                let setup = self.setup();
                setup.in_flight = 2 + (setup.in_flight - 2 + step) % 18;
                setup.write_config();
                self.reload("ok").await;
            }
            Fault::BrokenConfiguration => {
                self.setup().write_broken_config();
                self.reload("rejected").await;
                self.setup().write_config();
                self.reload("ok").await;
            }
            Fault::FullDisk => self.fill_disk().await,
            Fault::StoreKilled => self.kill_store(false).await,
            Fault::StoreLost => self.kill_store(true).await,
        }
    }

    async fn take_descriptors(&mut self) {
        let most = self.rng.usize(12..60).to_string();
        let process = self.program().process;
        let limit = process.file_limit();
        let limit = limit.unwrap_or("1024".to_owned());
        let begun = Instant::now();
        if !process.limit_files(&most).await {
            self.skip("prlimit does not work here");
            return;
        }
        self.pause(500..2500).await;
        let is_back = process.limit_files(&limit).await;
        assert!(is_back, "descriptors cannot be given back");
        // It may have had none for the store.
        self.shared.tokens().silent_since(begun);
    }

    async fn kill_store(&mut self, is_emptied: bool) {
        let time = Duration::from_millis(self.rng.u64(300..4000));
        if let Some(store) = &mut self.store {
            store.kill(time, is_emptied).await;
        }
    }

    fn skip(&self, why: &str) {
        self.shared.history().fault(&format!("SKIPPED: {why}"));
    }

    async fn terminate(&mut self) {
        self.shared.next_epoch(self.victim);
        let program = &mut self.instances[self.victim].program;
        program.signal("TERM").await;
        let (code, _) = program.wait().await;
        if code != Some(0) {
            let what = format!("it ended with {code:?}: {:#?}", last_lines(program));
            self.shared.history().violation(what);
        }
    }

    /// `kill -9`, just when something has happened; without that after a while.
    async fn kill(&mut self, patience: Duration) {
        let moments = [Moment::Arrival, Moment::Body, Moment::Answer];
        let moment = moments[self.kills % moments.len()];
        self.kills += 1;
        let child = self.program().child.clone();
        self.shared.arm(moment, self.victim, child);
        let deadline = Instant::now() + patience;
        while self.shared.is_armed() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.shared.disarm() {
            self.shared
                .history()
                .fault(&format!("killed at {moment:?}"));
        }
        self.instances[self.victim].program.wait().await;
    }

    async fn start_again(&mut self) {
        self.pause(0..300).await;
        let instance = &mut self.instances[self.victim];
        instance.setup.prepare_start();
        instance.program = start(&self.shared, &instance.setup.config()).await;
        self.open();
    }

    /// The provider takes both secrets until Bursar has the new one.
    async fn change_secret(&mut self) {
        let account = ACCOUNTS[self.rng.usize(..3)];
        self.secrets += 1;
        let secret = format!("storm-secret-{}-{}", self.secrets, client(account));
        let shared = self.shared.clone();
        let accept = |secrets: Vec<String>| {
            shared.tokens().secrets.insert(client(account), secrets);
        };
        let old = shared.tokens().secrets[&client(account)].clone();
        accept([old, vec![secret.clone()]].concat());
        for victim in 0..self.instances.len() {
            self.victim = victim;
            self.setup().write_secret(account, &secret);
            self.reload("ok").await;
        }
        accept(vec![secret]);
    }

    /// Half of the time by a signal; else Bursar has to see the files itself.
    async fn reload(&mut self, outcome: &str) {
        let is_told = self.rng.bool();
        let program = self.program();
        let labels = [("outcome", outcome)];
        let count = async || metric(program, "bursar_config_reloads_total", &labels).await;
        let before = count().await;
        if is_told {
            program.signal("HUP").await;
        }
        let is_done = eventually(async || count().await > before).await;
        if !is_done {
            let what = format!(
                "no reload is counted as {outcome}, told: {is_told}: {:#?}",
                last_lines(program)
            );
            self.shared.history().violation(what);
        }
    }

    /// What was answered meanwhile is in the journal soon after there is room again.
    async fn fill_disk(&mut self) {
        if !self.setup().disk.fill() {
            self.skip("mounting is not permitted here");
            return;
        }
        self.pause(500..3000).await;
        self.setup().disk.make_room();
        let program = self.program();
        let labels = [("result", "ok")];
        let written = async || metric(program, "bursar_journal_writes_total", &labels).await;
        let before = written().await;
        let is_over = eventually(async || written().await > before).await;
        if !is_over {
            let what = format!(
                "nothing is written after there is room: {:#?}",
                last_lines(program)
            );
            self.shared.history().violation(what);
        }
    }

    /// What is in doubt.
    pub(crate) async fn outcomes(&self) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        for instance in &self.instances {
            all.extend(outcomes(&instance.setup.config()).await);
        }
        all
    }

    /// After the callers have left: nothing is under way, and nothing is kept for ever.
    pub(crate) async fn settle(&mut self) -> String {
        let now = Instant::now();
        self.shared.trouble_endpoint(TROUBLES[0], now);
        self.shared.take_api_down(now);
        if let Some(store) = &mut self.store {
            store.start_again(&self.shared, true).await;
            for secret in store.secrets().await {
                let what = format!("in the store: {secret}");
                self.shared.history().violation(what);
            }
        }
        let mut text = Vec::new();
        for instance in &self.instances {
            text.push(self.settle_one(instance).await);
        }
        text.join("\n")
    }

    async fn settle_one(&self, instance: &Instance) -> String {
        let program = &instance.program;
        let (descriptors, memory) = instance.at_first;
        let in_flight = "bursar_requests_in_flight";
        let mut violations = Vec::new();
        if !eventually(async || metric(program, in_flight, &[]).await == Some(0.0)).await {
            violations.push("requests stay in flight".to_owned());
        }
        // The admin port, token calls under way.
        let open = || program.process.open_files().unwrap_or(0);
        if !eventually(async || open() <= descriptors + 4).await {
            let now = open();
            violations.push(format!(
                "{now} descriptors are open, {descriptors} were at first"
            ));
        }
        let at_end = program.process.memory().now;
        if at_end > memory + MAX_GROWTH {
            violations.push(format!("{at_end} KiB of memory, {memory} KiB at first"));
        }
        let metrics = metrics::text(program.admin, PATIENCE).await;
        if metrics.is_ok_and(|text| text.contains("storm-")) {
            violations.push("a secret is in the metrics".to_owned());
        }
        self.shared.history().violations.append(&mut violations);
        format!(
            "descriptors {descriptors} -> {}, memory {memory} -> {at_end} KiB",
            open()
        )
    }

    /// Ends all for the last time.
    pub(crate) async fn end(&mut self) {
        for victim in 0..self.instances.len() {
            self.victim = victim;
            self.terminate().await;
        }
    }
}

/// Much longer than a write takes, and shorter than Bursar waits for it.
const HELD: Duration = Duration::from_millis(400);
/// How long Bursar waits for another process that writes the journal.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// What the allocator may keep, in KiB: replay memory, buffers of connections, and room between.
const MAX_GROWTH: u64 = 64 * 1024;
