//! Claims: whom a request that was refused names as its caller, for the log. It is looked at once nobody was found, and
//! decides nothing.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};

use super::credentials::{Credentials, basic, split};
use super::{Callers, Table, spelling};
use bursar_http::connection::Peer;
use bursar_http::target::Form;
use bursar_telemetry::metrics::RefusalDetail;

/// What a request says of its caller, without a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is wrong with it.
    pub detail: RefusalDetail,
    /// The caller with the name that it gives, if there is one.
    pub caller: Option<Arc<str>>,
}

impl Callers {
    /// What a request claims whose caller was not found.
    #[must_use]
    pub fn claim(&self, headers: &HeaderMap, form: Form, peer: &Peer) -> Claim {
        let table = self.table.as_ref();
        let claim = table.and_then(|table| table.claim(headers, form, peer));
        claim.unwrap_or(Claim {
            detail: RefusalDetail::CredentialsMissing,
            caller: None,
        })
    }
}

impl Table {
    /// None: nothing in its head.
    fn claim(&self, headers: &HeaderMap, form: Form, peer: &Peer) -> Option<Claim> {
        let by_authorization = form == Form::Origin && !headers.contains_key(PROXY_AUTHORIZATION);
        let field = if by_authorization {
            AUTHORIZATION
        } else {
            PROXY_AUTHORIZATION
        };
        let Credentials::Basic(value) = Credentials::shown(headers, &field, self.has_passwords)
        else {
            return None;
        };
        let without = |detail| Claim {
            detail,
            caller: None,
        };
        let sent = value.and_then(basic);
        let Some(sent) = sent.filter(|sent| split(sent).is_some()) else {
            return Some(without(RefusalDetail::CredentialsMalformed));
        };
        let named = spelling::readings(&sent).iter().find_map(|reading| {
            let (name, _) = split(reading)?;
            self.named(std::str::from_utf8(name).ok()?)
        });
        let Some(known) = named else {
            return Some(without(RefusalDetail::CallerUnknown));
        };
        let is_from_there = known.is_at(peer.address) && known.is_certified(peer);
        Some(Claim {
            detail: match is_from_there {
                true => RefusalDetail::PasswordWrong,
                false => RefusalDetail::NotFromThere,
            },
            caller: Some(known.name.clone()),
        })
    }
}
