//! Control by operators while Bursar runs: its end, reloads, and frozen providers.
//!
//! What they have said lasts: a reload makes another [`AdminControl`] over the same [`ProcessState`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::freezes::{Decided, Frozen, PaymentFlag, Payments, Wish, not_passing};
use super::process_state::{ProcessState, Reloaded};
use crate::exchange::respond::Refusal;
use bursar_config::Config;
use bursar_journal as journal;
use bursar_telemetry::metrics::Reload;

/// Operators' hold on a proxy.
pub struct AdminControl {
    process_state: Arc<ProcessState>,
    /// By provider index: its name, and whether its payments pass.
    payments: Vec<(Arc<str>, Arc<PaymentFlag>)>,
    /// The names of those that the file freezes.
    frozen_in_file: Vec<Arc<str>>,
    /// None: nobody may freeze.
    admin_token: Option<Digest>,
    /// Names that the admin port is asked by, beside addresses and `localhost`.
    admin_hosts: Vec<Box<str>>,
}

impl AdminControl {
    pub(super) fn new(config: &Config, process_state: Arc<ProcessState>) -> Self {
        let names = config.providers.iter().map(|provider| &provider.name);
        let freezes = &process_state.freezes;
        let payments = names.map(|name| (name.clone(), freezes.flag(name)));
        let token = config.admin_token.as_ref();
        let frozen = config
            .providers
            .iter()
            .filter(|provider| provider.is_frozen);
        Self {
            payments: payments.collect(),
            frozen_in_file: frozen.map(|provider| provider.name.clone()).collect(),
            admin_token: token.map(|token| digest(&SHA256, token.expose().as_bytes())),
            admin_hosts: config.admin_hosts.clone(),
            process_state,
        }
    }

    /// From now on answers ask for their connection to be closed.
    pub fn drain(&self) {
        self.process_state.draining.store(true, Ordering::Relaxed);
    }

    /// From now on no request that moves money is begun.
    pub fn close(&self) {
        self.process_state.closing.store(true, Ordering::Relaxed);
    }

    /// From now on whatever is under way ends with the process, and not because its caller has left.
    pub fn end(&self) {
        self.process_state.ending.store(true, Ordering::Relaxed);
    }

    /// Whether Bursar is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.process_state.draining.load(Ordering::Relaxed)
    }

    /// Whether a request that moves money may begin.
    pub(super) fn admit_payment(&self, provider: usize) -> Result<(), Refusal> {
        if self.process_state.closing.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        self.payment_flag(provider)
            .and_then(not_passing)
            .map_or(Ok(()), Err)
    }

    /// Whether a provider's payments pass, for a request that has begun and is about to be sent.
    pub(super) fn payment_flag(&self, provider: usize) -> Option<&PaymentFlag> {
        self.payments.get(provider).map(|(_, flag)| &**flag)
    }

    /// Freezes or thaws the provider with that name, in the whole fleet where there is one, and has the journal
    /// remember it; None where there is no such provider. A provider that is gone can be thawed: its freeze would hold
    /// again if it came back.
    ///
    /// # Errors
    /// Where the journal cannot be written: then the provider is frozen, until Bursar ends at least.
    pub async fn freeze(
        &self,
        provider: &str,
        wish: Wish,
    ) -> Result<Option<Decided>, journal::Unavailable> {
        let is_left = || !wish.is_frozen && self.is_frozen_by_command(provider);
        if !self.has_provider(provider) && !is_left() {
            return Ok(None);
        }
        let freezes = &self.process_state.freezes;
        freezes.decide(provider.into(), wish).await.map(Some)
    }

    /// Whether this configuration has a provider of that name.
    #[must_use]
    pub fn has_provider(&self, name: &str) -> bool {
        self.providers().any(|provider| provider == name)
    }

    /// Whether a command freezes what has that name, be it a provider or not.
    pub(super) fn is_frozen_by_command(&self, name: &str) -> bool {
        let frozen = self.process_state.freezes.frozen(name);
        frozen.by_command.is_some()
    }

    /// Reads from the journal what was decided on providers.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn remember(&self) -> Result<(), journal::Unavailable> {
        self.process_state.freezes.remember().await
    }

    /// From now on what this configuration freezes is frozen, and nothing that another one froze; what it does not have
    /// is no provider.
    pub(super) fn put_in_force(&self) {
        let freezes = &self.process_state.freezes;
        let configured = self.payments.iter().map(|(name, _)| name.clone());
        freezes.follow_file(&self.frozen_in_file, &configured.collect());
    }

    /// Ends freezes that end by themselves, and follows what the fleet freezes and thaws, for as long as it is polled. It
    /// keeps nothing of this configuration: another one may follow.
    pub fn follow_freezes(&self) -> impl Future<Output = ()> + use<> {
        let freezes = self.process_state.freezes.clone();
        async move { freezes.follow().await }
    }

    /// Whether it is known what the fleet has frozen; where there is no fleet, it is.
    #[must_use]
    pub fn are_freezes_known(&self) -> bool {
        self.process_state.freezes.are_known()
    }

    /// Whether it is remembered after a restart what is frozen.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.process_state.journal.is_some()
    }

    /// Before the process ends: the database of the journal alone has all of it then.
    pub async fn write_journal_back(&self) {
        if let Some(journal) = &self.process_state.journal {
            journal.write_back().await;
        }
    }

    /// The names of all providers.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.payments.iter().map(|(name, _)| &**name)
    }

    /// The providers that are frozen.
    pub fn frozen(&self) -> impl Iterator<Item = &str> {
        let frozen = (self.payments.iter()).filter(|(_, flag)| flag.payments() == Payments::Frozen);
        frozen.map(|(name, _)| &**name)
    }

    /// The providers that are frozen, and who says so.
    pub fn freezes(&self) -> impl Iterator<Item = (&str, Frozen)> {
        let freezes = &self.process_state.freezes;
        self.frozen().map(|name| (name, freezes.frozen(name)))
    }

    /// The names that the admin port is asked by, beside addresses and `localhost`, in lower case.
    #[must_use]
    pub fn admin_hosts(&self) -> &[Box<str>] {
        &self.admin_hosts
    }

    /// Whether there is an `admin_token`: without one nothing can be changed.
    #[must_use]
    pub fn has_admin_token(&self) -> bool {
        self.admin_token.is_some()
    }

    /// Whether that is the `admin_token`, in constant time. False where there is none.
    #[must_use]
    pub fn is_admin_token(&self, shown: &[u8]) -> bool {
        let shown = digest(&SHA256, shown);
        let expected = self.admin_token.as_ref();
        expected.is_some_and(|expected| expected.as_ref().ct_eq(shown.as_ref()).into())
    }

    /// The configuration was read again, and is in force or rejected.
    pub fn reloaded(&self, reloaded: Reloaded) -> Arc<Reloaded> {
        let outcome = match reloaded.problems.is_empty() {
            true => Reload::Ok,
            false => Reload::Rejected,
        };
        self.process_state.metrics.reloaded(outcome);
        let reloaded = Arc::new(reloaded);
        let last = Some(reloaded.clone());
        self.process_state.last_reload.store(last);
        reloaded
    }

    /// What came of the last attempt to re-read the configuration.
    #[must_use]
    pub fn last_reload(&self) -> Option<Arc<Reloaded>> {
        self.process_state.last_reload.load_full()
    }
}

/// Without the digest.
impl std::fmt::Debug for AdminControl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AdminControl")
            .field("payments", &self.payments)
            .finish_non_exhaustive()
    }
}
