//! Callers: who may send requests, and which.

use std::sync::Arc;

use http::Method;
use ipnet::IpNet;

use crate::limits::Limits;
use bursar_base::password::Password;
use bursar_base::path::Pattern;

/// A program that may send requests.
#[derive(Debug)]
pub struct Caller {
    /// Its name, also in metrics and logs.
    pub name: Arc<str>,
    /// One of them is enough. Empty: it is known by the rest alone.
    pub passwords: Vec<Password>,
    /// Where it calls from. Empty: anywhere.
    pub addresses: Vec<IpNet>,
    /// A name in its client certificate: a URI as it is, or a DNS name in lower case.
    pub certificate: Option<Box<str>>,
    /// How much it may ask for.
    pub limits: Limits,
    /// What it may reach. Empty: nothing.
    pub allow: Vec<Allow>,
}

/// Requests that a caller may send.
#[derive(Debug, Clone)]
pub struct Allow {
    /// [`Provider::index`](crate::Provider::index).
    pub provider: usize,
    /// None: any.
    pub methods: Option<Vec<Method>>,
    /// None: any.
    pub paths: Option<Vec<Pattern>>,
    /// Places in [`Provider::accounts`](crate::Provider::accounts), ascending. None: any.
    pub accounts: Option<Box<[usize]>>,
}

impl Allow {
    /// Whether requests may be sent for that account, a place in [`Provider::accounts`](crate::Provider::accounts).
    #[must_use]
    pub fn has_account(&self, account: usize) -> bool {
        self.accounts
            .as_ref()
            .is_none_or(|accounts| accounts.binary_search(&account).is_ok())
    }
}
