//! Token key: the provider, the account and the scopes that a token is for.

use std::sync::Arc;

use http::Uri;
use zeroize::Zeroizing;

use bursar_base::secret::Secret;
use bursar_config::{Account, Environment, Provider};

/// What a token is asked for with.
#[derive(Debug, Clone)]
pub struct TokenKey {
    /// Whose it is.
    pub provider: Arc<Provider>,
    /// Whose credentials: an index into the provider's accounts.
    account: usize,
    /// Sorted and space-joined; empty for none.
    pub scopes: Arc<str>,
}

impl TokenKey {
    /// The key for one of a provider's accounts, by its index.
    pub(super) fn new(provider: &Arc<Provider>, account: usize, scopes: &Arc<str>) -> Self {
        Self {
            provider: provider.clone(),
            account,
            scopes: scopes.clone(),
        }
    }

    /// Whose credentials they are.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.provider.accounts[self.account]
    }

    /// The names of provider and account, and the scopes: no two keys of one configuration share them.
    pub(super) fn names(&self) -> (&str, &str, &str) {
        (&self.provider.name, &self.account().name, &self.scopes)
    }

    /// Whether a token of one configuration's key serves another's: provider, environment, account, credentials and
    /// every parameter of the token request are the same. A second secret that comes or goes makes no other key, and
    /// neither does another secret where a new token would end the one before.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let ignores_secret = self.is_single_active() && other.is_single_active();
        self.is_same_but_for_secret(other)
            && (ignores_secret || self.account().client_secret == other.account().client_secret)
    }

    /// Whether nothing but the secret may make it another key.
    pub(super) fn is_same_but_for_secret(&self, other: &Self) -> bool {
        self.names() == other.names()
            && self.provider.environment == other.provider.environment
            && self.account().client_id == other.account().client_id
            && self.provider.token.asks_like(&other.provider.token)
    }

    /// Whether there is one token at a time, whatever the client proves itself with.
    pub(super) fn is_single_active(&self) -> bool {
        self.provider.token.single_active
    }

    /// What names the token in a fleet: everything that it is asked for with, in one text. It holds the secret, but not
    /// where each new token ends the one before: instances with different secrets, as while one is changed, would be two
    /// fleets then that end each other's tokens. [`Self::proof`] has the rest.
    pub(super) fn canonical(&self) -> Zeroizing<Vec<u8>> {
        let (account, token) = (self.account(), &self.provider.token);
        let is_single_active = self.is_single_active();
        let mut text = Parts::default();
        if is_single_active {
            // No provider's name is empty.
            text.add("");
        }
        let (provider, account_name, scopes) = self.names();
        text.add(provider);
        text.add(self.environment());
        text.add(account_name);
        text.add(scopes);
        text.add(account.client_id.expose());
        if is_single_active {
            text.add(&token.url.to_string());
        } else {
            text.add(account.client_secret.expose());
            text.add(&token.url.to_string());
            self.add_ways_to_ask(&mut text);
        }
        for (name, value) in &token.params {
            text.add(name);
            text.add(value.expose());
        }
        text.0
    }

    /// How the endpoint is asked, beside what is asked for.
    fn add_ways_to_ask(&self, text: &mut Parts) {
        let token = &self.provider.token;
        let refresh_url = token.refresh_url.as_ref().map(Uri::to_string);
        text.add(&refresh_url.unwrap_or_default());
        text.add(&format!(
            "{:?} {:?} {:?}",
            token.encoding, token.client_auth, token.refresh
        ));
    }

    /// The environment's name; empty for none.
    pub(super) fn environment(&self) -> &'static str {
        self.provider.environment.map_or("", Environment::as_str)
    }

    /// What the client proves itself with and [`Self::canonical`] has not: a refusal of it is none of another one. It
    /// holds secrets.
    pub(super) fn proof(&self) -> Zeroizing<Vec<u8>> {
        let account = self.account();
        let next = account.next_client_secret.as_ref();
        let next = next.map_or("", Secret::expose);
        let certificate = self.provider.tls.digest();
        if !self.is_single_active() {
            return Zeroizing::new([certificate, next.as_bytes()].concat());
        }
        let mut text = Parts(Zeroizing::new(certificate.to_vec()));
        text.add(account.client_secret.expose());
        text.add(next);
        self.add_ways_to_ask(&mut text);
        text.0
    }

    /// Whether the endpoint is shown another secret or another certificate, and so may take what it refused: the
    /// cool-down after a refusal is no cause to wait then.
    pub(super) fn differs_in_proof_from(&self, earlier: &Self) -> bool {
        let (account, before) = (self.account(), earlier.account());
        account.client_secret != before.client_secret
            || account.next_client_secret != before.next_client_secret
            || self.provider.tls != earlier.provider.tls
    }
}

/// Parts of a text, each with its length before it, so that no two lists of them have one text.
#[derive(Default)]
struct Parts(Zeroizing<Vec<u8>>);

impl Parts {
    fn add(&mut self, part: &str) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part.as_bytes());
    }
}
