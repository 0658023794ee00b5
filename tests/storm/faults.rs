//! What goes wrong around Bursar, one thing after the other: every kind once in an order of the seed's
//! choice, and then at random until the time is over.

use std::sync::Arc;
use std::time::Duration;

use bursar_testkit::metrics;
use bursar_testkit::program::Program;
use fastrand::Rng;
use tokio::time::Instant;

use crate::endpoint::{GRACE, LIFE, TROUBLES, client};
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

impl Fault {
    fn ends_bursar(self) -> bool {
        matches!(self, Self::Kill | Self::KillBesideWriter | Self::Terminate)
    }
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    setup: Setup,
    pub(crate) program: Program,
    rng: Rng,
    secrets: u32,
    kills: usize,
    /// A token is only seen to end by a Bursar that lives longer.
    spared_until: Option<Instant>,
}

impl Driver {
    /// Starts Bursar.
    pub(crate) async fn start(shared: &Arc<Shared>, mut setup: Setup) -> Self {
        for account in ACCOUNTS {
            let secret = format!("storm-secret-0-{}", client(account));
            setup.write_secret(account, &secret);
            shared
                .tokens()
                .secrets
                .insert(client(account), vec![secret]);
        }
        setup.prepare_start();
        let program = start(shared, &setup.config()).await;
        let driver = Self {
            shared: shared.clone(),
            setup,
            program,
            rng: Rng::with_seed(shared.seed),
            secrets: 0,
            kills: 0,
            spared_until: None,
        };
        driver.open();
        driver
    }

    fn open(&self) {
        let address = Some(self.program.listen);
        self.shared.address.send_replace(address);
    }

    /// Until the time is over, and every fault happened at least once.
    pub(crate) async fn storm(&mut self, until: Instant) {
        let mut first = FAULTS.to_vec();
        self.rng.shuffle(&mut first);
        while !first.is_empty() || Instant::now() < until {
            let is_spared = self
                .spared_until
                .is_some_and(|until| Instant::now() < until);
            let may_be = |fault: &Fault| !(is_spared && fault.ends_bursar());
            let next = first.iter().position(may_be).map(|at| first.remove(at));
            let any = self.rng.choice(FAULTS).filter(may_be);
            let Some(fault) = next.or(any) else {
                continue;
            };
            self.pause(50..800).await;
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
                self.kill().await;
                self.start_again().await;
            }
            Fault::KillBesideWriter => {
                let writer = self.setup.disk.hold_journal();
                // Nobody is sent or told anything meanwhile that was not written down before; whoever is, is lost.
                tokio::time::sleep(HELD).await;
                self.kill().await;
                drop(writer);
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
                self.setup.in_flight = 2 + (self.setup.in_flight - 2 + step) % 18;
                self.setup.write_config();
                self.reload("ok").await;
            }
            Fault::BrokenConfiguration => {
                self.setup.write_broken_config();
                self.reload("rejected").await;
                self.setup.write_config();
                self.reload("ok").await;
            }
            Fault::FullDisk => self.fill_disk().await,
        }
    }

    async fn take_descriptors(&mut self) {
        let most = self.rng.usize(12..60).to_string();
        let limit = self.program.process.file_limit();
        let limit = limit.unwrap_or("1024".to_owned());
        if !self.program.process.limit_files(&most).await {
            self.skip("prlimit does not work here");
            return;
        }
        self.pause(500..2500).await;
        let is_back = self.program.process.limit_files(&limit).await;
        assert!(is_back, "descriptors cannot be given back");
    }

    fn skip(&self, why: &str) {
        self.shared.history().fault(&format!("SKIPPED: {why}"));
    }

    async fn terminate(&mut self) {
        self.shared.next_epoch();
        self.program.signal("TERM").await;
        let (code, _) = self.program.wait().await;
        if code != Some(0) {
            let what = format!("it ended with {code:?}: {:#?}", last_lines(&self.program));
            self.shared.history().violation(what);
        }
    }

    /// `kill -9`, just when something has happened; without that after a second.
    async fn kill(&mut self) {
        let moments = [Moment::Arrival, Moment::Body, Moment::Answer];
        let moment = moments[self.kills % moments.len()];
        self.kills += 1;
        self.shared.arm(moment, self.program.child.clone());
        for _ in 0..500 {
            if !self.shared.is_armed() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.shared.disarm() {
            self.shared
                .history()
                .fault(&format!("killed at {moment:?}"));
        }
        self.program.wait().await;
    }

    async fn start_again(&mut self) {
        self.pause(0..300).await;
        self.setup.prepare_start();
        self.program = start(&self.shared, &self.setup.config()).await;
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
        self.setup.write_secret(account, &secret);
        self.reload("ok").await;
        accept(vec![secret]);
    }

    /// Half of the time by a signal; else Bursar has to see the files itself.
    async fn reload(&mut self, outcome: &str) {
        let is_told = self.rng.bool();
        let program = &self.program;
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
        if !self.setup.disk.fill() {
            self.skip("mounting is not permitted here");
            return;
        }
        self.pause(500..3000).await;
        self.setup.disk.make_room();
        let program = &self.program;
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
        outcomes(&self.setup.config()).await
    }

    /// After the callers have left: nothing is under way, and nothing is kept for ever.
    pub(crate) async fn settle(&self, (descriptors, memory): (usize, u64)) -> String {
        let now = Instant::now();
        self.shared.trouble_endpoint(TROUBLES[0], now);
        self.shared.take_api_down(now);
        let program = &self.program;
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

    /// Ends Bursar for the last time.
    pub(crate) async fn end(&mut self) {
        self.terminate().await;
    }
}

/// Much longer than a write takes, and shorter than Bursar waits for it.
const HELD: Duration = Duration::from_millis(400);

/// What the allocator may keep, in KiB: replay memory, buffers of connections, and room between.
const MAX_GROWTH: u64 = 64 * 1024;
