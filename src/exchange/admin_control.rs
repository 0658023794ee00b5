//! Control by operators while Bursar runs: its end, reloads, and frozen providers.
//!
//! What they have said lasts: a reload makes another [`AdminControl`] over the same [`ProcessState`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::process_state::{ProcessState, Reloaded};
use crate::exchange::respond::Refusal;
use bursar_base::clock;
use bursar_config::Config;
use bursar_journal as journal;
use bursar_telemetry::metrics::Reload;

/// Operators' hold on a proxy.
pub struct AdminControl {
    process_state: Arc<ProcessState>,
    /// By provider index: its name, and whether it is frozen.
    frozen: Vec<(Arc<str>, Arc<AtomicBool>)>,
    /// None: nobody may freeze.
    admin_token: Option<Digest>,
}

impl AdminControl {
    pub(super) fn new(config: &Config, process_state: Arc<ProcessState>) -> Self {
        let names = config.providers.iter().map(|provider| &provider.name);
        let frozen = names.map(|name| (name.clone(), process_state.frozen(name)));
        let token = config.admin_token.as_ref();
        Self {
            frozen: frozen.collect(),
            admin_token: token.map(|token| digest(&SHA256, token.expose().as_bytes())),
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
        let frozen = self.frozen_flag(provider);
        if frozen.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Refusal::Frozen);
        }
        Ok(())
    }

    /// Set while a provider is frozen, for a request that has begun and is about to be sent.
    pub(super) fn frozen_flag(&self, provider: usize) -> Option<&AtomicBool> {
        self.frozen.get(provider).map(|(_, flag)| &**flag)
    }

    /// Freezes or thaws the provider with that name, and has the journal remember it; false where there is no
    /// such provider.
    ///
    /// # Errors
    /// Where the journal cannot be written: then the provider is frozen, until Bursar ends at least.
    pub async fn freeze(
        &self,
        provider: &str,
        is_frozen: bool,
    ) -> Result<bool, journal::Unavailable> {
        let Some((name, _)) = self.frozen.iter().find(|(name, _)| **name == *provider) else {
            return Ok(false);
        };
        let at_once = || {
            if is_frozen {
                self.process_state.freeze(name, true);
            }
        };
        // Before an earlier thaw is written down, and again after it.
        at_once();
        let _deciding = self.process_state.deciding.lock().await;
        at_once();
        match &self.process_state.journal {
            Some(journal) if is_frozen => journal.freeze(name, clock::wall()).await?,
            Some(journal) => journal.thaw(name).await?,
            None => {}
        }
        self.process_state.freeze(name, is_frozen);
        tracing::warn!(
            provider,
            is_frozen,
            "an operator decides on requests that move money"
        );
        Ok(true)
    }

    /// Freezes the providers that the journal remembers.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn remember(&self) -> Result<(), journal::Unavailable> {
        let Some(journal) = &self.process_state.journal else {
            return Ok(());
        };
        for frozen in journal.frozen().await? {
            tracing::warn!(provider = %frozen.provider, "is frozen since before the start");
            self.process_state.freeze(&frozen.provider.into(), true);
        }
        Ok(())
    }

    /// Whether it is remembered after a restart what is frozen.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.process_state.journal.is_some()
    }

    /// The names of all providers, and whether they are frozen.
    pub fn providers(&self) -> impl Iterator<Item = (&str, bool)> {
        let flags = self.frozen.iter();
        flags.map(|(name, flag)| (&**name, flag.load(Ordering::Relaxed)))
    }

    /// Whether that is the `admin_token`, in constant time. None: there is none.
    #[must_use]
    pub fn is_admin_token(&self, shown: &[u8]) -> Option<bool> {
        let expected = self.admin_token.as_ref()?;
        let shown = digest(&SHA256, shown);
        Some(expected.as_ref().ct_eq(shown.as_ref()).into())
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
            .field("frozen", &self.frozen)
            .finish_non_exhaustive()
    }
}
