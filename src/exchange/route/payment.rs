//! Payments: what a request means for money, by what its routes say.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use bursar_base::json_pointer::Field;
use bursar_config::{ReplayRule, Semantics};

/// What a request means for money. What its route does not say is as the preset's route for it says; where
/// that does not either, all methods but those that only read move money, and a replay is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment<'a> {
    /// Whether it moves money.
    pub moves_money: bool,
    /// Whether it may be sent again after a 401.
    pub replay: ReplayRule,
    /// The header by which the provider knows it again.
    pub idempotency_header: Option<&'a HeaderName>,
    /// The field of its body by which it does.
    pub idempotency_field: Option<&'a Arc<Field>>,
}

impl<'a> Payment<'a> {
    /// The first that says something counts.
    pub(super) fn of(method: &Method, said: [Option<&'a Semantics>; 2]) -> Self {
        let said = || said.into_iter().flatten();
        Self {
            moves_money: said()
                .find_map(|said| said.moves_money)
                .unwrap_or(!method.is_safe()),
            replay: said().find_map(|said| said.replay).unwrap_or_default(),
            idempotency_header: said().find_map(|said| said.idempotency_header.as_ref()),
            idempotency_field: said().find_map(|said| said.idempotency_field.as_ref()),
        }
    }

    /// Where two readings of one request differ. A key counts where the stricter of them has it.
    pub(super) fn stricter(self, other: Self) -> Self {
        let (stricter, milder) = match other.replay > self.replay {
            true => (other, self),
            false => (self, other),
        };
        let has_key = |it: &Self| it.idempotency_header.is_some() || it.idempotency_field.is_some();
        let keyed = if has_key(&stricter) { stricter } else { milder };
        Self {
            moves_money: self.moves_money || other.moves_money,
            replay: stricter.replay,
            ..keyed
        }
    }

    /// The request's key in a header; one without a value is none, and neither are two.
    #[must_use]
    pub fn key<'h>(&self, headers: &'h HeaderMap) -> Option<&'h http::HeaderValue> {
        let mut keys = headers.get_all(self.idempotency_header?).iter();
        match (keys.next(), keys.next()) {
            (Some(key), None) if !key.is_empty() => Some(key),
            _ => None,
        }
    }

    /// Whether a request with such headers, and no key in its body, may be sent again after a 401.
    #[must_use]
    pub fn may_be_replayed(&self, headers: &HeaderMap) -> bool {
        match self.replay {
            ReplayRule::Always => true,
            ReplayRule::IfKeyed => self.key(headers).is_some(),
            ReplayRule::Never => false,
        }
    }
}
