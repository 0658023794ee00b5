//! Authentication of callers: Basic credentials (RFC 7617), the connection's address and certificate names, against
//! the configured callers. All that is configured for a caller must hold.
//!
//! A wrong password takes the same time whether the name is known or not and wherever it differs. Where
//! any password is kept as a hash, each failure costs as many hashes as the most expensive caller's, for each of the
//! few readings of a password that is not ASCII.

mod claim;
mod credentials;
mod password_hashing;
mod ready;
mod spelling;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use prometheus::IntCounter;
use ring::digest::{Digest, SHA256, digest};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::time::Instant;
use zeroize::Zeroizing;

use bursar_base::password::Password;
use bursar_config::{self as config, Allow, Config};
use bursar_http::connection::Peer;
use bursar_http::headers::only;
use bursar_http::target::Form;
use bursar_limits::caller_limits::Limits;
use bursar_limits::share::{Divisible, LimitKind, Share};
use bursar_telemetry::metrics::ANONYMOUS;
pub use claim::Claim;
use claim::Named;
use credentials::{Credentials, basic, split};
use password_hashing::{Hashed, Hashing, Tag};
use ready::Ready;

/// Everybody who may call.
#[derive(Debug)]
pub struct Callers {
    /// None: everybody may.
    table: Option<Table>,
    anonymous: Arc<str>,
}

#[derive(Debug)]
struct Table {
    callers: Vec<Known>,
    by_name: HashMap<Arc<str>, usize>,
    /// The callers without a password but with a certificate, by its name.
    by_certificate: HashMap<Box<str>, Vec<usize>>,
    /// The callers with addresses and nothing else: first and last address, in their order, never
    /// overlapping.
    by_address: Vec<(IpAddr, IpAddr, usize)>,
    /// The most passwords that one caller has in clear; as many are compared for everybody.
    most_passwords: usize,
    /// What the passwords are compared with that are not there.
    nobody: Digest,
    has_passwords: bool,
    /// None: no password is kept as a hash.
    hashing: Option<Arc<Hashing>>,
    ready: Ready,
}

struct Known {
    /// After a reload the same one, not just an equal one, where whoever was verified still would be.
    name: Arc<str>,
    /// Of equal length for all, so that comparing tells nothing about the length.
    passwords: Vec<Digest>,
    hashes: Arc<[Hashed]>,
    addresses: Vec<IpNet>,
    certificate: Option<Box<str>>,
    allow: Vec<Allow>,
    limits: Option<Arc<Limits>>,
}

/// A caller that was verified.
#[derive(Debug, Clone, Copy)]
pub struct Principal<'a> {
    /// For metrics and logs.
    pub name: &'a Arc<str>,
    /// None: everything, because there is no authentication.
    pub allow: Option<&'a [Allow]>,
    /// None: there are none.
    pub limits: Option<&'a Arc<Limits>>,
    /// Whether `Authorization` was the caller's credential at Bursar, and none for the provider.
    pub by_authorization: bool,
}

/// Why nobody is known to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Credentials, address or certificate are missing or wrong.
    #[error("credentials, address or certificate are missing or wrong")]
    Unauthenticated,
    /// Too many passwords wait for their hashes.
    #[error("too many passwords wait for their hashes")]
    Busy,
}

/// What a look at the request leaves open.
#[derive(Debug)]
pub enum Undecided<'a> {
    /// Nothing: nobody known.
    Unauthenticated,
    /// Hashes have to be computed; see [`Callers::verify_password`].
    Password(PendingPassword<'a>),
}

/// A password that takes a hash to be checked.
pub struct PendingPassword<'a> {
    /// None: whatever the hash says, it is wrong.
    known: Option<&'a Known>,
    hashing: &'a Arc<Hashing>,
    tag: Tag,
    /// In the readings to be tried.
    passwords: Vec<spelling::Bytes>,
    address: IpAddr,
    by_authorization: bool,
}

/// Finds out who sends a request. Waits only where a password has to be hashed.
///
/// # Errors
/// Where nobody known does.
pub async fn verify<'a>(
    callers: &'a Callers,
    headers: &HeaderMap,
    form: Form,
    peer: &Peer,
) -> Result<Principal<'a>, Error> {
    match callers.check(headers, form, peer) {
        Ok(caller) => Ok(caller),
        Err(Undecided::Unauthenticated) => Err(Error::Unauthenticated),
        Err(Undecided::Password(password)) => {
            Box::pin(async move {
                let _verifying = peer.verifying();
                callers.verify_password(password).await
            })
            .await
        }
    }
}

impl Callers {
    /// Digests the passwords, which are not needed after that; `hashes` counts computed hashes. What is known
    /// of callers of `old` that have not changed is taken over.
    #[must_use]
    pub fn new(config: &Config, hashes: &IntCounter, old: Option<&Self>) -> Self {
        let callers = config.callers.as_deref();
        let old = old.and_then(|old| old.table.as_ref());
        Self {
            table: callers.map(|callers| Table::new(callers, hashes, old)),
            anonymous: ANONYMOUS.into(),
        }
    }

    /// What instances divide among themselves: each caller's name, and its limits.
    pub(super) fn divisible(&self) -> impl Iterator<Item = (LimitKind, &str, &dyn Divisible)> {
        let known = self.table.iter().flat_map(|table| &table.callers);
        known.flat_map(|known| {
            let limits = known.limits.iter().flat_map(|limits| limits.divisible());
            limits.map(|(kind, limit)| (kind, &*known.name, limit))
        })
    }

    /// The name of each caller, and what it may reach. None: everything, because there is no authentication.
    pub(super) fn allowed(&self) -> impl Iterator<Item = (&str, Option<&[Allow]>)> {
        let everybody = self.table.is_none().then_some((&*self.anonymous, None));
        let known = self.table.iter().flat_map(|table| &table.callers);
        let known = known.map(|known| (&*known.name, Some(&*known.allow)));
        everybody.into_iter().chain(known)
    }

    /// Limits that are new have the share of the one before, or what this instance has of each: others may use the rest.
    pub(super) fn divide_as(&self, old: Option<&Self>, reserve: Share) {
        let old = old.and_then(|old| old.table.as_ref());
        let now = Instant::now();
        for known in self.table.iter().flat_map(|table| &table.callers) {
            let Some(limits) = &known.limits else {
                continue;
            };
            let before = old.and_then(|old| old.named(&known.name)?.limits.as_ref());
            if before.is_some_and(|before| Arc::ptr_eq(before, limits)) {
                continue;
            }
            for (kind, limit) in limits.divisible() {
                let mut before = before.iter().flat_map(|before| before.divisible());
                let share = before.find(|(other, _)| *other == kind);
                limit.divide(share.map_or(reserve, |(_, limit)| limit.share()), now);
            }
        }
    }

    /// Whoever calls where there is no authentication.
    fn everybody(&self) -> Principal<'_> {
        Principal {
            name: &self.anonymous,
            allow: None,
            limits: None,
            by_authorization: false,
        }
    }

    /// The caller with that name, who was verified before: when a tunnel was opened. Since then its
    /// certificate may have expired, or a reload have changed where it may call from or taken the password
    /// away that it may have shown; then `name` is another [`Known::name`].
    ///
    /// # Errors
    /// Where there is none.
    pub fn verified(&self, name: &Arc<str>, peer: &Peer) -> Result<Principal<'_>, Error> {
        let Some(table) = &self.table else {
            return Ok(self.everybody());
        };
        table
            .named(name)
            .filter(|known| Arc::ptr_eq(&known.name, name))
            .filter(|known| known.is_at(peer.address) && known.is_certified(peer))
            .map(|known| known.principal(false))
            .ok_or(Error::Unauthenticated)
    }

    /// Finds out who sends a request. `Proxy-Authorization` decides alone where it is present; where the
    /// request does not name Bursar as its proxy, `Authorization: Basic` will do.
    ///
    /// # Errors
    /// Where nobody known does, or it takes a hash to tell.
    pub fn check(
        &self,
        headers: &HeaderMap,
        form: Form,
        peer: &Peer,
    ) -> Result<Principal<'_>, Undecided<'_>> {
        let Some(table) = &self.table else {
            return Ok(self.everybody());
        };
        let by_authorization = is_in_authorization(headers, form);
        let field = field(by_authorization);
        if let Some(known) = table.by_field(headers, &field, peer) {
            return Ok(known.principal(by_authorization));
        }
        match Credentials::shown(headers, &field, table.has_passwords) {
            Credentials::Basic(value) => {
                table.by_password(value.and_then(basic), by_authorization, peer)
            }
            Credentials::Connection => {
                let found = table
                    .by_certificate(peer)
                    .or_else(|| table.by_address(peer.address));
                found
                    .map(|known| known.principal(false))
                    .ok_or(Undecided::Unauthenticated)
            }
        }
    }

    /// What a request claims whose caller was not found.
    #[must_use]
    pub fn claim(&self, headers: &HeaderMap, form: Form, peer: &Peer) -> Claim {
        let table = self.table.as_ref();
        let has_passwords = table.is_some_and(|table| table.has_passwords);
        let field = field(is_in_authorization(headers, form));
        let shown = Credentials::shown(headers, &field, has_passwords);
        claim::of_credentials(shown, |name| {
            let known = table?.named(name)?;
            Some(Named {
                name: known.name.clone(),
                is_from_there: known.is_at(peer.address) && known.is_certified(peer),
            })
        })
    }

    /// Computes the hashes that it takes.
    ///
    /// # Errors
    /// Where the password is wrong, or too many wait already.
    pub async fn verify_password<'a>(
        &'a self,
        attempt: PendingPassword<'a>,
    ) -> Result<Principal<'a>, Error> {
        let hashes = attempt.known.map(|known| known.hashes.clone());
        let is_right = attempt
            .hashing
            .verify(attempt.tag, hashes, attempt.passwords, attempt.address)
            .await
            .map_err(|password_hashing::Busy| Error::Busy)?;
        match attempt.known {
            Some(known) if is_right => Ok(known.principal(attempt.by_authorization)),
            _ => Err(Error::Unauthenticated),
        }
    }
}

impl Table {
    fn new(callers: &[config::Caller], hashes: &IntCounter, old: Option<&Self>) -> Self {
        let known = callers.iter();
        let known =
            known.map(|caller| Known::new(caller, old.and_then(|old| old.named(&caller.name))));
        let known: Vec<Known> = known.collect();
        let names = || known.iter().map(|known| &known.name).zip(0..);
        let other = |(name, place): (&Arc<str>, usize)| {
            let other = String::from_utf8(spelling::other(name)?.to_vec()).ok()?;
            Some((other.into(), place))
        };
        let mut by_name: HashMap<Arc<str>, usize> = names().filter_map(other).collect();
        by_name.extend(names().map(|(name, place)| (name.clone(), place)));
        let mut by_certificate: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut by_address = Vec::new();
        for (place, caller) in callers.iter().enumerate() {
            match &caller.certificate {
                _ if !caller.passwords.is_empty() => {}
                Some(name) => by_certificate.entry(name.clone()).or_default().push(place),
                None => {
                    let ranges = IpNet::aggregate(&caller.addresses);
                    let ends = |range: IpNet| (range.network(), range.broadcast(), place);
                    by_address.extend(ranges.into_iter().map(ends));
                }
            }
        }
        by_address.sort_unstable();
        Self {
            by_name,
            by_certificate,
            by_address,
            most_passwords: known
                .iter()
                .map(|known| known.passwords.len())
                .max()
                .unwrap_or_default(),
            nobody: hash(&[]),
            has_passwords: callers.iter().any(|caller| !caller.passwords.is_empty()),
            hashing: Hashing::new(
                known.iter().map(|known| &*known.hashes),
                hashes,
                old.and_then(|old| old.hashing.as_deref()),
            ),
            callers: known,
            ready: Ready::new(callers),
        }
    }

    /// The caller whose password the field holds, in the form in which clients send it.
    fn by_field(&self, headers: &HeaderMap, field: &HeaderName, peer: &Peer) -> Option<&Known> {
        let place = self.ready.find(only(headers, field)?.as_bytes())?;
        let known = self.callers.get(place)?;
        (known.is_at(peer.address) && known.is_certified(peer)).then_some(known)
    }

    fn named(&self, name: &str) -> Option<&Known> {
        self.callers.get(*self.by_name.get(name)?)
    }

    fn by_password(
        &self,
        credentials: Option<Zeroizing<Vec<u8>>>,
        by_authorization: bool,
        peer: &Peer,
    ) -> Result<Principal<'_>, Undecided<'_>> {
        let sent = credentials.ok_or(Undecided::Unauthenticated)?;
        let (mut found, mut equal) = (None, None);
        for reading in spelling::readings(&sent) {
            let (name, password) = split(&reading).ok_or(Undecided::Unauthenticated)?;
            let name = std::str::from_utf8(name).ok();
            let known = name.and_then(|name| self.named(name));
            let is_equal = self.is_password(known, password);
            // Who calls from elsewhere is as unknown as anybody.
            let known = known.filter(|known| known.is_at(peer.address) && known.is_certified(peer));
            equal = equal.or(known.filter(|_| is_equal));
            found = found.or(known);
        }
        if let Some(known) = equal {
            return Ok(known.principal(by_authorization));
        }
        let hashing = self.hashing.as_ref().ok_or(Undecided::Unauthenticated)?;
        let tag = hashing.tag(&spelling::canonical(&sent));
        match found {
            Some(known) if password_hashing::is_remembered(&known.hashes, &tag) => {
                Ok(known.principal(by_authorization))
            }
            _ => Err(Undecided::Password(PendingPassword {
                known: found,
                hashing,
                tag,
                passwords: split(&sent).map_or_else(Vec::new, |(_, sent)| spelling::typed(sent)),
                address: peer.address,
                by_authorization,
            })),
        }
    }

    /// Compares with as many passwords as any caller has.
    fn is_password(&self, found: Option<&Known>, password: &[u8]) -> bool {
        if self.most_passwords == 0 {
            // Nobody has one in clear.
            return false;
        }
        let given = hash(password);
        let passwords = found.map_or(&[][..], |known| &known.passwords);
        let mut is_equal = Choice::from(0);
        for place in 0..self.most_passwords {
            let expected = passwords.get(place);
            let exists = Choice::from(u8::from(expected.is_some()));
            let expected = expected.unwrap_or(&self.nobody);
            is_equal |= exists & expected.as_ref().ct_eq(given.as_ref());
        }
        is_equal.into()
    }

    /// The caller that the certificate and the address stand for; nobody where there are several.
    fn by_certificate(&self, peer: &Peer) -> Option<&Known> {
        let mut found: Option<usize> = None;
        for name in peer.shown.names() {
            let key = if name.contains(':') {
                name.clone()
            } else {
                name.to_ascii_lowercase().into_boxed_str()
            };
            for place in self.by_certificate.get(&key).into_iter().flatten() {
                let known = self.callers.get(*place)?;
                if !known.is_at(peer.address) {
                    continue;
                }
                if found.is_some_and(|found| found != *place) {
                    return None;
                }
                found = Some(*place);
            }
        }
        self.callers.get(found?)
    }

    fn by_address(&self, address: IpAddr) -> Option<&Known> {
        let after = self
            .by_address
            .partition_point(|(first, _, _)| *first <= address);
        let (_, last, place) = self.by_address.get(after.checked_sub(1)?)?;
        (address <= *last).then(|| self.callers.get(*place))?
    }
}

impl Known {
    fn new(caller: &config::Caller, old: Option<&Self>) -> Self {
        let remembered = old.map_or(&[][..], |old| &old.hashes);
        let mut passwords = Vec::new();
        let mut hashes = Vec::new();
        for password in &caller.passwords {
            match password {
                Password::Plain(text) => {
                    let other = spelling::other(text.expose());
                    passwords.push(hash(text.expose().as_bytes()));
                    passwords.extend(other.map(|other| hash(&other)));
                }
                Password::Hashed(hash) => hashes.push(Hashed::new(hash.clone(), remembered)),
            }
        }
        let same = old.filter(|old| old.is_still_known_by(&passwords, &hashes));
        Self {
            name: same.map_or(&caller.name, |old| &old.name).clone(),
            passwords,
            hashes: hashes.into(),
            addresses: caller.addresses.clone(),
            certificate: caller.certificate.clone(),
            allow: caller.allow.clone(),
            limits: match old.and_then(|old| old.limits.as_ref()) {
                Some(limits) if limits.are(caller.limits) => Some(limits.clone()),
                _ => Limits::new(caller.limits),
            },
        }
    }

    /// Whether whoever was known by a password, or without one, would be known by these as well.
    fn is_still_known_by(&self, passwords: &[Digest], hashes: &[Hashed]) -> bool {
        let is_kept = |old: &Digest| passwords.iter().any(|new| new.as_ref() == old.as_ref());
        let had_any = !self.passwords.is_empty() || !self.hashes.is_empty();
        let has_any = !passwords.is_empty() || !hashes.is_empty();
        had_any == has_any
            && self.passwords.iter().all(is_kept)
            && self.hashes.iter().all(|old| old.is_one_of(hashes))
    }

    fn is_at(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|range| range.contains(&address))
    }

    /// A URI is compared as it is, a DNS name without regard to case.
    fn is_certified(&self, peer: &Peer) -> bool {
        let Some(wanted) = &self.certificate else {
            return true;
        };
        let is_wanted = |name: &str| {
            if wanted.contains(':') {
                *name == **wanted
            } else {
                name.eq_ignore_ascii_case(wanted)
            }
        };
        peer.shown.names().iter().any(|name| is_wanted(name))
    }

    fn principal(&self, by_authorization: bool) -> Principal<'_> {
        Principal {
            name: &self.name,
            allow: Some(&self.allow),
            limits: self.limits.as_ref(),
            by_authorization,
        }
    }
}

/// Without the digests: a weak password could be found by them.
impl fmt::Debug for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Known")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingPassword<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PendingPassword")
            .field("known", &self.known)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whether a request says in `Authorization` who sends it.
fn is_in_authorization(headers: &HeaderMap, form: Form) -> bool {
    form == Form::Origin && !headers.contains_key(PROXY_AUTHORIZATION)
}

const fn field(by_authorization: bool) -> HeaderName {
    match by_authorization {
        true => AUTHORIZATION,
        false => PROXY_AUTHORIZATION,
    }
}

fn hash(password: &[u8]) -> Digest {
    digest(&SHA256, password)
}

#[cfg(test)]
mod tests;
