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
    /// every parameter of the token request are the same. A second secret that comes or goes makes no other key.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let (one, two) = (self.account(), other.account());
        self.names() == other.names()
            && self.provider.environment == other.provider.environment
            && (&one.client_id, &one.client_secret) == (&two.client_id, &two.client_secret)
            && self.provider.token.asks_like(&other.provider.token)
    }

    /// Everything that a token is asked for with, in one text: what [`Self::is_same_as`] compares. It holds the secret,
    /// but where a new token ends the one before: while some instances have a new secret already, they still take turns.
    pub(super) fn canonical(&self) -> Zeroizing<Vec<u8>> {
        let (account, token) = (self.account(), &self.provider.token);
        let uri = |uri: &Uri| uri.to_string();
        let mut text = Zeroizing::new(Vec::new());
        let mut add = |part: &str| {
            // With its length, so that no two keys have one text.
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        };
        let (provider, account_name, scopes) = self.names();
        add(provider);
        add(self.environment());
        add(account_name);
        add(scopes);
        add(account.client_id.expose());
        add(match token.single_active {
            true => "",
            false => account.client_secret.expose(),
        });
        add(&uri(&token.url));
        add(&token.refresh_url.as_ref().map(uri).unwrap_or_default());
        add(&format!(
            "{:?} {:?} {:?}",
            token.encoding, token.client_auth, token.refresh
        ));
        for (name, value) in &token.params {
            add(name);
            add(value.expose());
        }
        text
    }

    /// The environment's name; empty for none.
    pub(super) fn environment(&self) -> &'static str {
        self.provider.environment.map_or("", Environment::as_str)
    }

    /// What [`Self::differs_in_proof_from`] compares, in one text, and the secret where [`Self::canonical`] lacks it.
    pub(super) fn proof(&self) -> Zeroizing<Vec<u8>> {
        let account = self.account();
        let next = account
            .next_client_secret
            .as_ref()
            .map_or("", Secret::expose);
        let secret = match self.provider.token.single_active {
            true => account.client_secret.expose(),
            false => "",
        };
        let length = (next.len() as u64).to_be_bytes();
        let parts = [
            self.provider.tls.digest(),
            &length,
            next.as_bytes(),
            secret.as_bytes(),
        ];
        Zeroizing::new(parts.concat())
    }

    /// Whether the endpoint is shown another second secret or another certificate, and so may take what it refused: the
    /// cool-down after a refusal is no cause to wait then.
    pub(super) fn differs_in_proof_from(&self, earlier: &Self) -> bool {
        self.account().next_client_secret != earlier.account().next_client_secret
            || self.provider.tls != earlier.provider.tls
    }
}
