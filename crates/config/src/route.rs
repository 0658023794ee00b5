//! Routes: which scopes a request needs, and what it means, the operator's and the presets'.

use std::sync::Arc;

use http::{HeaderName, Method};

use crate::file::ReplayRule;
use bursar_base::json_pointer::Field;
use bursar_base::path::Pattern;

/// A method and path pattern, with the scopes that it needs.
#[derive(Debug)]
pub struct Route {
    /// What logs call it, e.g. `POST /payment-links`.
    pub name: Arc<str>,
    /// None: any.
    pub methods: Option<Vec<Method>>,
    /// Its paths.
    pub path: Pattern,
    /// Whose token its requests carry.
    pub authorization: Authorization,
    /// What it says about payments.
    pub semantics: Semantics,
    /// Which of an account's merchant ids goes with its requests.
    pub merchant: Option<MerchantHeader>,
}

/// Whose token a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// Bursar's; an index into [`super::Provider::scope_sets`].
    Bursar(usize),
    /// The caller's, which must bring one.
    Caller,
    /// The caller's where it brings one, else Bursar's.
    CallerOrBursar(usize),
}

/// What a route says about payments. None: it does not say; `bursar::exchange::route::Payment` knows what then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Semantics {
    /// Whether its requests move money.
    pub moves_money: Option<bool>,
    /// Whether they may be sent again after a 401.
    pub replay: Option<ReplayRule>,
    /// The header by which the provider knows a request again.
    pub idempotency_header: Option<HeaderName>,
    /// The field of its body that says so.
    pub idempotency_field: Option<Arc<Field>>,
}

/// What a preset knows of a host.
#[derive(Debug, Default)]
pub struct HostRoutes {
    /// The API's paths there, where the host has others that are no business of Bursar's. None: the provider's.
    pub paths: Option<Vec<Pattern>>,
    /// Its routes, most specific first.
    pub routes: Vec<Route>,
}

/// A header that tells a provider which merchant is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MerchantHeader {
    /// `merchant_id`.
    Payments,
    /// `payout_merchant_id`.
    Payouts,
}

impl MerchantHeader {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Payments, Self::Payouts];

    /// The first is sent; any of them counts as sent by the caller.
    #[must_use]
    pub fn names(self) -> &'static [HeaderName] {
        static PAYMENTS: [HeaderName; 2] = [
            HeaderName::from_static("merchantid"),
            HeaderName::from_static("mid"),
        ];
        static PAYOUTS: [HeaderName; 2] = [
            HeaderName::from_static("payoutmerchantid"),
            HeaderName::from_static("pid"),
        ];
        match self {
            Self::Payments => &PAYMENTS,
            Self::Payouts => &PAYOUTS,
        }
    }

    /// Whether that is the header, in whatever spelling: many gateways take underscores for hyphens, and some
    /// frameworks take both for nothing.
    #[must_use]
    pub fn is(self, name: &HeaderName) -> bool {
        let name = name.as_str().bytes();
        let letters = || name.clone().filter(|byte| !matches!(byte, b'-' | b'_'));
        self.names()
            .iter()
            .any(|own| letters().eq(own.as_str().bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merchants_header_is_known_in_every_spelling() {
        let (payments, payouts) = (
            Some(MerchantHeader::Payments),
            Some(MerchantHeader::Payouts),
        );
        for (name, expected) in [
            ("merchantid", payments),
            ("merchant-id", payments),
            ("merchant_id", payments),
            ("mid", payments),
            ("m-id", payments),
            ("payoutmerchantid", payouts),
            ("payout-merchant_id", payouts),
            ("pid", payouts),
            ("-p--id-", payouts),
            ("merchant", None),
            ("x-merchant-id", None),
            ("midi", None),
            ("id", None),
        ] {
            let header = HeaderName::from_static(name);
            let found = MerchantHeader::ALL.into_iter().find(|own| own.is(&header));
            assert_eq!(found, expected, "{name}");
        }
    }
}
