//! Presets: what is known of the four providers out of the box. Tables, one module for each provider, no code paths.
//!
//! A further provider is one more table. Everything but the fields marked *fixed* has a key in `proxy.yaml`
//! that overrides it. Sources are the providers' own documents; where they contradict each other, what
//! is accepted is wide and what is sent is narrow.

mod alternative_payments;
mod paylater;
mod payu;
mod quidkey;

use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::{ClientAuth, Encoding, Environment, Operation, Refresh};
use crate::route::MerchantHeader;

/// The name of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(JsonSchema))]
pub(super) enum PresetName {
    /// PayLater (Keycloak).
    Paylater,
    /// PayU India: payment links and partner API.
    Payu,
    /// Alternative Payments.
    AlternativePayments,
    /// Quidkey.
    Quidkey,
}

impl PresetName {
    /// Every preset.
    pub(super) const ALL: [Self; 4] = [
        Self::Paylater,
        Self::Payu,
        Self::AlternativePayments,
        Self::Quidkey,
    ];

    /// As the provider writes its name.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Paylater => "PayLater",
            Self::Payu => "PayU",
            Self::AlternativePayments => "Alternative Payments",
            Self::Quidkey => "Quidkey",
        }
    }
}

/// One provider.
pub(super) struct Preset {
    pub(super) sandbox: Endpoints,
    pub(super) production: Endpoints,
    pub(super) paths: &'static [&'static str],
    pub(super) encoding: Encoding,
    pub(super) client_auth: ClientAuth,
    pub(super) response: &'static str,
    pub(super) refresh: Refresh,
    pub(super) refresh_lifetime: Option<Duration>,
    /// None: a request that matches no route is refused, because no token fits it.
    pub(super) default_scopes: Option<&'static [&'static str]>,
    /// Token calls in a minute, of all accounts together.
    pub(super) calls_per_minute: NonZeroU32,
    /// Fixed: the token endpoint refuses more.
    pub(super) max_scopes: Option<usize>,
    /// Fixed: whether `merchant_id` and `payout_merchant_id` mean something.
    pub(super) has_merchants: bool,
    /// Fixed: token endpoints in other spellings than `token.url`, `token.refresh_url` and the `revoke` beside them.
    pub(super) protected: &'static [&'static str],
    /// Fixed: all that is below these is the token service's.
    pub(super) protected_below: &'static [&'static str],
    /// Fixed: what follows these paths is a secret, and masked in logs.
    pub(super) secret_below: &'static [&'static str],
}

/// Where one environment of a provider lives.
pub(super) struct Endpoints {
    pub(super) hosts: &'static [PresetHost],
    pub(super) token_url: &'static str,
    pub(super) refresh_url: Option<&'static str>,
}

/// A request host and its operations.
pub(super) struct PresetHost {
    pub(super) name: &'static str,
    pub(super) routes: &'static [&'static [PresetRoute]],
    /// Its API's paths, where it has others that are no business of Bursar's. None: the preset's.
    pub(super) paths: Option<&'static [&'static str]>,
}

/// One operation.
pub(super) struct PresetRoute {
    pub(super) methods: &'static [&'static str],
    pub(super) path: &'static str,
    /// None: the default ones.
    pub(super) scopes: Option<&'static [&'static str]>,
    /// Where the provider's own pages name several scopes: the operator may choose another.
    pub(super) operation: Option<Operation>,
    /// Whether the caller's own token is sent where it brings one.
    pub(super) takes_callers_token: bool,
    pub(super) moves_money: bool,
    /// In lower case.
    pub(super) idempotency_header: Option<&'static str>,
    /// JSON pointer.
    pub(super) idempotency_field: Option<&'static str>,
    /// Which of an account's merchant ids the operation wants.
    pub(super) merchant: Option<MerchantHeader>,
}

impl PresetHost {
    const fn new(name: &'static str, routes: &'static [&'static [PresetRoute]]) -> Self {
        Self {
            name,
            routes,
            paths: None,
        }
    }

    const fn only(self, paths: &'static [&'static str]) -> Self {
        Self {
            paths: Some(paths),
            ..self
        }
    }
}

/// An operation that creates, changes, pays or pays back what somebody owes.
const fn pays(methods: &'static [&'static str], path: &'static str) -> PresetRoute {
    PresetRoute {
        methods,
        path,
        scopes: None,
        operation: None,
        takes_callers_token: false,
        moves_money: true,
        idempotency_header: None,
        idempotency_field: None,
        merchant: None,
    }
}

/// Any other.
const fn other(methods: &'static [&'static str], path: &'static str) -> PresetRoute {
    PresetRoute {
        moves_money: false,
        ..pays(methods, path)
    }
}

impl PresetRoute {
    const fn scopes(self, scopes: &'static [&'static str]) -> Self {
        Self {
            scopes: Some(scopes),
            ..self
        }
    }

    const fn by_choice(self, operation: Operation) -> Self {
        Self {
            operation: Some(operation),
            ..self
        }
    }

    const fn or_callers_token(self) -> Self {
        Self {
            takes_callers_token: true,
            ..self
        }
    }

    const fn keyed(self, header: &'static str) -> Self {
        Self {
            idempotency_header: Some(header),
            ..self
        }
    }

    const fn keyed_in_body(self, pointer: &'static str) -> Self {
        Self {
            idempotency_field: Some(pointer),
            ..self
        }
    }

    const fn merchant(self, merchant: MerchantHeader) -> Self {
        Self {
            merchant: Some(merchant),
            ..self
        }
    }
}

impl Preset {
    pub(super) fn of(name: PresetName) -> &'static Self {
        match name {
            PresetName::Paylater => &paylater::PRESET,
            PresetName::Payu => &payu::PRESET,
            PresetName::AlternativePayments => &alternative_payments::PRESET,
            PresetName::Quidkey => &quidkey::PRESET,
        }
    }

    pub(super) fn endpoints(&self, environment: Environment) -> &Endpoints {
        match environment {
            Environment::Sandbox => &self.sandbox,
            Environment::Production => &self.production,
        }
    }
}

/// For endpoints that say nothing of a limit, or do not say which: ten a second.
const UNDOCUMENTED: NonZeroU32 = NonZeroU32::new(600).unwrap();

const READ: &[&str] = &["GET", "HEAD"];
const READ_AND_POST: &[&str] = &["GET", "HEAD", "POST"];
const WRITE: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
const EVERYTHING: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
