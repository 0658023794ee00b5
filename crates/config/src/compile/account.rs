//! From the credentials in a provider's part of the file to its [`Account`]s.

use std::collections::BTreeMap;

use http::HeaderValue;

use crate::account::{Account, DEFAULT_ACCOUNT, Merchant};
use crate::diagnostic::Diagnostics;
use crate::file::{self, ClientAuth};
use crate::node::join;
use crate::secret_check;
use bursar_base::secret::Secret;

/// The names of a provider's accounts as the file has them, ascending: [`accounts`] keeps that order.
pub(super) fn names(file: &file::Provider) -> Vec<String> {
    let mut names: Vec<String> = file
        .accounts
        .iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    if has_own(file) {
        names.push(DEFAULT_ACCOUNT.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether the provider's own keys are an account.
fn has_own(file: &file::Provider) -> bool {
    file.client_id.is_some()
        || file.client_secret.is_some()
        || file.next_client_secret.is_some()
        || file.accounts.is_none()
}

/// What a provider's preset and `token` say that matters to accounts.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) has_merchants: bool,
    pub(super) client_auth: ClientAuth,
}

/// Takes the accounts out of a provider's part of the file.
pub(super) fn accounts(
    file: &mut file::Provider,
    path: &str,
    rules: Rules,
    problems: &mut Diagnostics,
) -> Vec<Account> {
    let has_own = has_own(file);
    let listed = file.accounts.take();
    if listed.as_ref().is_some_and(BTreeMap::is_empty) {
        problems.add(
            &join(path, "accounts"),
            "is empty; name at least one account, or leave it out",
        );
    }
    let own = file::Account {
        client_id: file.client_id.take(),
        client_secret: file.client_secret.take(),
        next_client_secret: file.next_client_secret.take(),
        merchant_id: file.merchant_id.take(),
        payout_merchant_id: file.payout_merchant_id.take(),
    };
    let mut accounts = BTreeMap::new();
    if has_own {
        accounts.insert(DEFAULT_ACCOUNT.to_owned(), (own, path.to_owned()));
    } else {
        for (key, id) in merchant_ids(&own) {
            if id.is_some() {
                let path = join(path, key);
                problems.add(
                    &path,
                    "belongs to an account; move it to each of `accounts`",
                );
            }
        }
    }
    for (name, account) in listed.into_iter().flatten() {
        let path = join(&join(path, "accounts"), &name);
        let word = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if name.is_empty() || !name.chars().all(word) {
            problems.add(
                &path,
                "an account's name may hold letters, digits, `_`, `-` and `.`",
            );
        }
        if accounts.contains_key(&name) {
            problems.add(&path, "is the account that the provider's own `client_id` and `client_secret` make; keep one of the two");
        }
        accounts.insert(name, (account, path));
    }
    let compiled = accounts.into_iter().filter_map(|(name, (account, path))| {
        if !rules.has_merchants {
            refuse_merchant_ids(&account, &path, problems);
        }
        compile(&name, account, &path, rules.client_auth, problems)
    });
    let mut compiled: Vec<Account> = compiled.collect();
    bind(&mut compiled);
    compiled
}

/// The two ids, by their keys.
fn merchant_ids(account: &file::Account) -> [(&'static str, &Option<String>); 2] {
    [
        ("merchant_id", &account.merchant_id),
        ("payout_merchant_id", &account.payout_merchant_id),
    ]
}

fn refuse_merchant_ids(account: &file::Account, path: &str, problems: &mut Diagnostics) {
    for (key, id) in merchant_ids(account) {
        if id.is_some() {
            problems.add(
                &join(path, key),
                "has no effect here; only the payu preset has a merchant header",
            );
        }
    }
}

/// Where there are several accounts, each is a merchant, so the caller of one must not name another, for whatever kind
/// of operation.
fn bind(accounts: &mut [Account]) {
    let has_id = |account: &Account| account.merchant.is_some();
    if accounts.len() < 2 || !accounts.iter().any(has_id) {
        return;
    }
    for account in accounts {
        account.merchant.get_or_insert_default().is_binding = true;
    }
}

fn compile(
    name: &str,
    file: file::Account,
    path: &str,
    client_auth: ClientAuth,
    problems: &mut Diagnostics,
) -> Option<Account> {
    let id_path = join(path, "client_id");
    let client_id = credential(&id_path, file.client_id, problems);
    let has_colon = |id: &Secret| id.expose().contains(':');
    if client_auth == ClientAuth::Basic && client_id.as_ref().is_some_and(has_colon) {
        problems.warn(&id_path, "holds a colon, where a server takes the id to end (RFC 7617 section 2); `client_auth: basic_form` escapes it, for servers that decode it");
    }
    let client_secret = credential(&join(path, "client_secret"), file.client_secret, problems);
    let next_path = join(path, "next_client_secret");
    let next_client_secret = file
        .next_client_secret
        .and_then(|next| credential(&next_path, Some(next), problems));
    if let (Some(one), Some(next)) = (&client_secret, &next_client_secret)
        && one.expose() == next.expose()
    {
        problems.warn(&next_path, "is the same as `client_secret`");
    }
    let [id, payout_id] = [
        ("merchant_id", file.merchant_id),
        ("payout_merchant_id", file.payout_merchant_id),
    ]
    .map(|(key, id)| id.and_then(|id| merchant_id(&join(path, key), &id, problems)));
    let merchant = (id.is_some() || payout_id.is_some()).then(|| {
        let mut merchant = Box::<Merchant>::default();
        merchant.payments = id;
        merchant.payouts = payout_id;
        merchant
    });
    Some(Account {
        name: name.into(),
        client_id: client_id?,
        client_secret: client_secret?,
        next_client_secret,
        merchant,
    })
}

fn credential(
    path: &str,
    value: Option<file::Hidden>,
    problems: &mut Diagnostics,
) -> Option<Secret> {
    match value {
        Some(file::Hidden(secret)) if !secret.expose().is_empty() => Some(secret),
        Some(_) => {
            problems.add(path, "is empty");
            None
        }
        None => {
            problems.add(path, "is missing");
            None
        }
    }
}

fn merchant_id(path: &str, id: &str, problems: &mut Diagnostics) -> Option<HeaderValue> {
    if id.is_empty() {
        problems.add(path, "is empty");
        return None;
    }
    if let Some(fault) = secret_check::fault_of_any(id) {
        problems.add(path, fault);
        return None;
    }
    if !id.is_ascii() {
        problems.warn(
            path,
            "holds a character that is not printable ASCII; is it what the provider gave out?",
        );
    }
    let value = HeaderValue::from_str(id);
    if value.is_err() {
        problems.add(path, "holds characters that no header may hold");
    }
    value.ok()
}
