//! Token key: the provider, the account and the scopes that a token is for.

use std::sync::Arc;

use bursar_config::{Account, Provider};

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

    /// Whether the endpoint is shown another second secret or another certificate, and so may take what it refused: the
    /// cool-down after a refusal is no cause to wait then.
    pub(super) fn differs_in_proof_from(&self, earlier: &Self) -> bool {
        self.account().next_client_secret != earlier.account().next_client_secret
            || self.provider.tls != earlier.provider.tls
    }
}
