//! Token key in a fleet: its entry in the store, and what this instance knows of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::token::access_token::{CachedToken, Freshness};
use crate::token::acquire::{Acquired, Origin, Wanted};
use crate::token::known_entry::Known;
use crate::token::refresh_token::RefreshToken;
use crate::token::response::{ExpiresIn, Oddities, TokenResponse};
use crate::token::source::{KeyState, Source};
use crate::token::token_key::TokenKey;
use bursar_base::secret::{Fingerprint, Secret};
use bursar_config::{SecretName, TokenDialect};
use bursar_fleet::{
    Answer, Error, Failed, Fleet, Found, Names, Publication, Published, Question, TokenEntry,
    TokenValue,
};
use bursar_telemetry::metrics::LeaseResult;

/// A token key that the fleet shares.
pub(in crate::token) struct FleetKey {
    pub(super) fleet: Fleet,
    pub(super) key: TokenKey,
    /// Everything that a token is asked for with, in one text.
    canonical: Zeroizing<Vec<u8>>,
    /// What the client proves itself with beside that.
    proof: Zeroizing<Vec<u8>>,
    pub(super) state: Arc<KeyState>,
    /// The secret of others that was told of last, by its keyed hash.
    told_of: Mutex<Option<String>>,
}

impl FleetKey {
    pub(in crate::token) fn new(fleet: &Fleet, key: &TokenKey, state: &Arc<KeyState>) -> Self {
        Self {
            fleet: fleet.clone(),
            canonical: key.canonical(),
            proof: key.proof(),
            key: key.clone(),
            state: state.clone(),
            told_of: Mutex::default(),
        }
    }

    pub(super) fn entry(&self) -> TokenEntry<'_> {
        TokenEntry {
            canonical: &self.canonical,
            context: self.key.environment(),
            proof: &self.proof,
        }
    }

    pub(super) fn known(&self) -> &Known {
        &self.state.fleet
    }

    pub(super) fn dialect(&self) -> &TokenDialect {
        &self.key.provider.token
    }

    /// Its names in the store.
    pub(super) fn names(&self) -> Names {
        self.fleet.token_names(self.entry())
    }

    /// Whose token it is now: nobody's, where the key is gone.
    fn source(&self) -> Option<Arc<Source>> {
        self.state.renewer().upgrade()
    }

    /// Whether there is a token that others may use.
    pub(super) fn has_token(&self) -> bool {
        let token = self.state.token.load();
        let token = token.as_ref();
        token.is_some_and(|token| {
            !token.is_of_earlier_secret && token.freshness(Instant::now()) != Freshness::Expired
        })
    }

    /// Names the token that there is.
    pub(super) fn current_fingerprint(&self) -> Option<Fingerprint> {
        let token = self.state.token.load();
        token.as_ref().map(|token| token.fingerprint)
    }

    /// The token in a value of the store, where it is of use to who wants one.
    pub(super) fn accept(&self, wanted: &Wanted, found: Found) -> Option<Acquired> {
        self.known().saw(found.number);
        let value = found.value?;
        self.compare_secrets(value.secret.as_deref());
        let token = acquired(value, found.issued)?;
        let fingerprint = token.fingerprint();
        let is_better = wanted.is_met_by(&token, self.dialect(), Instant::now());
        if is_better || wanted.fingerprint() == Some(fingerprint) {
            self.known().has(found.number, fingerprint);
        }
        is_better.then_some(token)
    }

    /// The token that was adopted since a flight began, where it is what that wants.
    pub(super) fn adopted_meanwhile(&self, wanted: &Wanted) -> Option<Acquired> {
        let current = self.state.token.load();
        let current = current.as_ref()?;
        let token = acquired(value_of(current, None)?, current.issued)?;
        let is_better = wanted.is_met_by(&token, self.dialect(), Instant::now());
        is_better.then_some(token)
    }

    /// What the fleet is told of the secret that a token was obtained with: nothing, where it names the token.
    pub(super) fn secret(&self, name: SecretName) -> Option<String> {
        let secret = self.key.account().secret(name)?;
        let names = self.fleet.secret_names(secret.expose().as_bytes());
        let first = names.all().next().map(str::to_owned);
        first.filter(|_| self.key.is_single_active())
    }

    #[cfg(test)]
    pub(super) fn is_told_of_another_secret(&self) -> bool {
        self.told_of.lock().unwrap().is_some()
    }

    /// A token is of use whatever secret it was obtained with. But an instance whose own secret is wrong would notice
    /// nothing as long as others obtain its tokens, so that it says where theirs is another one.
    fn compare_secrets(&self, of_value: Option<&str>) {
        let Some(of_value) = of_value else { return };
        let account = self.key.account();
        let mut own = SecretName::ALL
            .into_iter()
            .filter_map(|name| account.secret(name));
        let is_it = |secret: &Secret| {
            let names = self.fleet.secret_names(secret.expose().as_bytes());
            names.all().any(|name| name == of_value)
        };
        if own.any(is_it) {
            return;
        }
        let mut told_of = self.told_of.lock().unwrap_or_else(PoisonError::into_inner);
        if told_of.as_deref() == Some(of_value) {
            return;
        }
        *told_of = Some(of_value.to_owned());
        tracing::warn!(provider = %self.key.provider.name, account = %account.name, "another instance of the fleet obtained the token with a secret that this one does not have: while a secret is being changed that passes, else one of the two files is wrong");
    }

    /// Takes over a token that another instance obtained, where it is of more use than the one that is there.
    pub(super) fn adopt(&self, found: Found) -> bool {
        let Some(source) = self.source() else {
            return false;
        };
        let wanted = Wanted::instead_of(source.current().as_deref(), false);
        let token = self.accept(&wanted, found);
        let is_adopted = token.is_some_and(|token| source.adopt(&token));
        if is_adopted {
            self.fleet.series().adoptions.inc();
        }
        is_adopted
    }

    /// Writes a token that was obtained here, for the others.
    pub(super) async fn publish(&self, number: u64, obtained: Obtained) {
        let Some(obtained) = self.publish_as(number, obtained).await else {
            return;
        };
        // Two instances asked at a time, because the store had lost the lease of one, and this one's token is of more use.
        self.publish_as(self.known().next_number(), obtained).await;
    }

    /// Writes it under that number; returns it where the store has one that is of less use under a higher number.
    async fn publish_as(&self, number: u64, obtained: Obtained) -> Option<Obtained> {
        let fingerprint = Fingerprint::of(obtained.value.access_token.expose());
        let since = self.fleet.state().since;
        let publication = Publication {
            number,
            issued: obtained.issued,
            lifetime: obtained.lifetime,
            value: &obtained.value,
        };
        match self.fleet.publish(self.entry(), publication).await {
            Ok(Published::Now { was_late }) => {
                self.known().has(number, fingerprint);
                self.known().is_fresh(number, since);
                if was_late {
                    self.fleet.series().leased(LeaseResult::Lost);
                }
            }
            Ok(Published::Older(found)) => {
                self.fleet.series().leased(LeaseResult::Lost);
                self.known().saw(found.number);
                let is_adopted = self.adopt(found);
                let is_current = self.current_fingerprint() == Some(fingerprint);
                let is_known = self.known().number_of(Some(fingerprint)).is_some();
                return (!is_adopted && is_current && !is_known).then_some(obtained);
            }
            Err(error) => {
                // It may have got there: then another instance may use its refresh token.
                let refresh = obtained.value.refresh_token;
                let refresh = refresh.filter(|_| error.is_unsent());
                let refresh =
                    refresh.map(|refresh| RefreshToken::of_fleet(refresh, obtained.issued));
                self.known().keep_unshared(refresh);
                tracing::debug!(provider = %self.key.provider.name, account = %self.key.account().name, %error, "a token was not shared with the fleet");
            }
        }
        None
    }

    /// Gives back whatever lease this instance has, without a word on why.
    pub(super) async fn give_up_lease(&self) {
        let given_up = self.fleet.report_failure(self.entry(), Failed::default());
        // Where that fails the lease ends by itself.
        drop(given_up.await);
    }

    /// Compares what this instance has with what the store has, after it was away: what ends later wins.
    pub(super) async fn compare(&self) -> Result<(), Error> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        let current = source.current();
        let fingerprint = current.as_ref().map(|token| token.fingerprint);
        let known = self.known().number_of(fingerprint);
        let known: Vec<u64> = known.into_iter().collect();
        let question = Question::look(&known, self.known().highest());
        let number = match self.fleet.ask(self.entry(), question).await? {
            Answer::Value(found) => {
                let (number, is_readable) = (found.number, found.value.is_some());
                let is_adopted = self.adopt(found);
                if is_adopted || is_readable && self.known().number_of(fingerprint).is_some() {
                    return Ok(());
                }
                number
            }
            Answer::Nothing(nothing) if nothing.is_first => return Ok(()),
            Answer::Nothing(nothing) => nothing.number,
            Answer::Failed { .. } | Answer::Held(_) | Answer::Won(_) => return Ok(()),
        };
        let is_valid =
            |token: &Arc<CachedToken>| token.freshness(Instant::now()) != Freshness::Expired;
        let Some(current) = current.filter(is_valid) else {
            return Ok(());
        };
        if let Some(obtained) = Obtained::again(&current, self.known().take_unshared()) {
            self.known().saw(number);
            self.publish(self.known().next_number(), obtained).await;
        }
        Ok(())
    }
}

/// A token that was obtained here, to be written.
pub(super) struct Obtained {
    value: TokenValue,
    issued: Instant,
    lifetime: Duration,
}

impl Obtained {
    /// The token that there is, for a store that has none.
    fn again(current: &CachedToken, refresh: Option<RefreshToken>) -> Option<Self> {
        Some(Self {
            value: value_of(current, refresh)?,
            issued: current.issued,
            lifetime: current.lifetime(),
        })
    }

    /// What was acquired from the endpoint, and the refresh token that is left.
    pub(super) fn from(
        acquired: &Acquired,
        refresh: Option<RefreshToken>,
        after_unauthorized: bool,
        secret: Option<String>,
        dialect: &TokenDialect,
    ) -> Option<Self> {
        let lifetime = match acquired.response.lifetime {
            ExpiresIn::For(lifetime) => Some(lifetime),
            ExpiresIn::Unstated => None,
            ExpiresIn::Already => return None,
        };
        Some(Self {
            value: TokenValue {
                access_token: acquired.response.access_token.clone(),
                lifetime,
                scope: acquired.response.scope.clone(),
                after_unauthorized,
                refresh_token: refresh.map(|token| token.for_fleet(acquired.issued)),
                secret,
            },
            issued: acquired.issued,
            lifetime: lifetime.unwrap_or(dialect.default_lifetime),
        })
    }
}

/// A token that there is, as the fleet shares it. None: it is no text.
fn value_of(current: &CachedToken, refresh: Option<RefreshToken>) -> Option<TokenValue> {
    Some(TokenValue {
        access_token: current.text()?,
        lifetime: Some(current.lifetime()),
        scope: None,
        after_unauthorized: current.after_unauthorized,
        refresh_token: refresh.map(|token| token.for_fleet(current.issued)),
        // Not known any more.
        secret: None,
    })
}

/// What the fleet shares, as if the endpoint had just said it. None: it holds what no token holds.
fn acquired(value: TokenValue, issued: Instant) -> Option<Acquired> {
    let lifetime = match value.lifetime {
        Some(lifetime) if lifetime.is_zero() => return None,
        Some(lifetime) => ExpiresIn::For(lifetime),
        None => ExpiresIn::Unstated,
    };
    Some(Acquired {
        response: TokenResponse {
            access_token: value.access_token,
            lifetime,
            refresh_token: None,
            refresh_lifetime: ExpiresIn::Unstated,
            scope: value.scope,
            oddities: Oddities::default(),
        },
        issued,
        origin: Origin::Fleet {
            after_unauthorized: value.after_unauthorized,
        },
    })
}
