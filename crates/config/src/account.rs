//! Accounts: a merchant's credentials at a provider, and the header that goes with them.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use http::HeaderValue;
use smol_str::SmolStr;

use crate::route::MerchantHeader;
use bursar_base::secret::Secret;

/// The account that a provider's own `client_id` and `client_secret` make.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Where a provider's accounts are, by name. It holds places and no names, so that it is small, and what is
/// looked at to compare names is what the request needs of its account.
#[derive(Debug)]
pub struct AccountIndex {
    table: HashTable<u32>,
    hasher: RandomState,
}

impl AccountIndex {
    /// Of these.
    #[must_use]
    pub fn of(accounts: &[Account]) -> Self {
        let hasher = RandomState::default();
        let mut table = HashTable::with_capacity(accounts.len());
        let hash = |at: &u32| hasher.hash_one(&*accounts[*at as usize].name);
        for (at, _) in (0..).zip(accounts) {
            table.insert_unique(hash(&at), at, hash);
        }
        Self { table, hasher }
    }

    /// The place of an account among those.
    #[must_use]
    pub fn find(&self, accounts: &[Account], name: &str) -> Option<usize> {
        let is_it = |at: &u32| *accounts[*at as usize].name == *name;
        let at = self.table.find(self.hasher.hash_one(name), is_it)?;
        Some(*at as usize)
    }
}

/// One set of credentials at a provider. What every request reads comes first, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Account {
    /// Its name, also in metrics and logs; [`DEFAULT_ACCOUNT`] for the provider's own credentials.
    pub name: SmolStr,
    /// Goes into a header where the caller sent none of its names. Most accounts have none.
    pub merchant: Option<Box<Merchant>>,
    /// Its id at the token endpoint.
    pub client_id: Secret,
    /// Its secret there.
    pub client_secret: Secret,
    /// Another one: the endpoint knows at least one of both.
    pub next_client_secret: Option<Secret>,
}

impl Account {
    /// One of its secrets, where it has that one.
    #[must_use]
    pub fn secret(&self, name: SecretName) -> Option<&Secret> {
        match name {
            SecretName::Current => Some(&self.client_secret),
            SecretName::Next => self.next_client_secret.as_ref(),
        }
    }
}

/// Which of an account's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretName {
    /// The one that every account has.
    Current,
    /// The one that is to replace it.
    Next,
}

impl SecretName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Current, Self::Next];

    /// As its key is written in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "client_secret",
            Self::Next => "next_client_secret",
        }
    }

    /// The one that is tried where this one is refused.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Current => Self::Next,
            Self::Next => Self::Current,
        }
    }
}

/// Which merchant an account is, where the provider's API is told so by headers.
#[derive(Debug, Default)]
pub struct Merchant {
    /// For payments.
    pub payments: Option<HeaderValue>,
    /// For payouts.
    pub payouts: Option<HeaderValue>,
    /// Whether no caller may name another one, of either kind, because the provider has several accounts, and some
    /// account has an id of some kind.
    pub is_binding: bool,
}

impl Merchant {
    /// The id that a header is for.
    #[must_use]
    pub fn id(&self, header: MerchantHeader) -> Option<&HeaderValue> {
        match header {
            MerchantHeader::Payments => self.payments.as_ref(),
            MerchantHeader::Payouts => self.payouts.as_ref(),
        }
    }
}
