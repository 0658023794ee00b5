//! Claims: whom a request that was refused names as its caller, for the log. It is looked at once nobody was found, and
//! decides nothing.

use std::sync::Arc;

use super::credentials::{Credentials, basic, split};
use super::spelling;
use bursar_telemetry::metrics::RefusalDetail;

/// What a request says of its caller, without a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is wrong with it.
    pub detail: RefusalDetail,
    /// The caller with the name that it gives, if there is one.
    pub caller: Option<Arc<str>>,
}

/// A configured caller whose name a request gives.
pub(super) struct Named {
    pub(super) name: Arc<str>,
    /// Whether it calls from that address, with that certificate.
    pub(super) is_from_there: bool,
}

/// What credentials claim that came in place of a caller's, who `named` finds by name.
pub(super) fn of_credentials(
    shown: Credentials<'_>,
    named: impl Fn(&str) -> Option<Named>,
) -> Claim {
    let without = |detail| Claim {
        detail,
        caller: None,
    };
    let Credentials::Basic(value) = shown else {
        return without(RefusalDetail::CredentialsMissing);
    };
    let sent = value.and_then(basic);
    let Some(sent) = sent.filter(|sent| split(sent).is_some()) else {
        return without(RefusalDetail::CredentialsMalformed);
    };
    let found = spelling::readings(&sent).iter().find_map(|reading| {
        let (name, _) = split(reading)?;
        named(std::str::from_utf8(name).ok()?)
    });
    let Some(found) = found else {
        return without(RefusalDetail::CallerUnknown);
    };
    Claim {
        detail: match found.is_from_there {
            true => RefusalDetail::PasswordWrong,
            false => RefusalDetail::NotFromThere,
        },
        caller: Some(found.name),
    }
}
