//! Tables of presets: what one says of a provider, its hosts and its operations.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::file::{ClientAuth, Encoding, Environment, Operation, Refresh};
use crate::route::MerchantHeader;

/// One provider.
pub(crate) struct Preset {
    pub(crate) sandbox: Endpoints,
    pub(crate) production: Endpoints,
    pub(crate) paths: &'static [&'static str],
    pub(crate) encoding: Encoding,
    pub(crate) client_auth: ClientAuth,
    pub(crate) response: &'static str,
    pub(crate) refresh: Refresh,
    pub(crate) refresh_lifetime: Option<Duration>,
    /// None: a request that matches no route is refused, because no token fits it.
    pub(crate) default_scopes: Option<&'static [&'static str]>,
    /// Token calls in a minute, of all accounts together.
    pub(crate) calls_per_minute: NonZeroU32,
    /// Fixed: the token endpoint refuses more.
    pub(crate) max_scopes: Option<usize>,
    /// Fixed: whether `merchant_id` and `payout_merchant_id` mean something.
    pub(crate) has_merchants: bool,
    /// Fixed: token endpoints in other spellings than `token.url`, `token.refresh_url` and the `revoke` beside them.
    pub(crate) protected: &'static [&'static str],
    /// Fixed: all that is below these is the token service's.
    pub(crate) protected_below: &'static [&'static str],
    /// Fixed: what follows these paths is a secret, and masked in logs.
    pub(crate) secret_below: &'static [&'static str],
}

/// Where one environment of a provider lives.
pub(crate) struct Endpoints {
    pub(crate) hosts: &'static [PresetHost],
    pub(crate) token_url: &'static str,
    pub(crate) refresh_url: Option<&'static str>,
}

/// A request host and its operations.
pub(crate) struct PresetHost {
    pub(crate) name: &'static str,
    pub(crate) routes: &'static [&'static [PresetRoute]],
    /// Its API's paths, where it has others that are no business of Bursar's. None: the preset's.
    pub(crate) paths: Option<&'static [&'static str]>,
}

/// One operation.
pub(crate) struct PresetRoute {
    pub(crate) methods: &'static [&'static str],
    pub(crate) path: &'static str,
    /// None: the default ones.
    pub(crate) scopes: Option<&'static [&'static str]>,
    /// Where the provider's own pages name several scopes: the operator may choose another.
    pub(crate) operation: Option<Operation>,
    /// Whether the caller's own token is sent where it brings one.
    pub(crate) takes_callers_token: bool,
    pub(crate) moves_money: bool,
    /// In lower case.
    pub(crate) idempotency_header: Option<&'static str>,
    /// JSON pointer.
    pub(crate) idempotency_field: Option<&'static str>,
    /// Which of an account's merchant ids the operation wants.
    pub(crate) merchant: Option<MerchantHeader>,
}

impl PresetHost {
    pub(super) const fn new(name: &'static str, routes: &'static [&'static [PresetRoute]]) -> Self {
        Self {
            name,
            routes,
            paths: None,
        }
    }

    pub(super) const fn only(self, paths: &'static [&'static str]) -> Self {
        Self {
            paths: Some(paths),
            ..self
        }
    }
}

/// An operation that creates, changes, pays or pays back what somebody owes.
pub(super) const fn pays(methods: &'static [&'static str], path: &'static str) -> PresetRoute {
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
pub(super) const fn other(methods: &'static [&'static str], path: &'static str) -> PresetRoute {
    PresetRoute {
        moves_money: false,
        ..pays(methods, path)
    }
}

impl PresetRoute {
    pub(super) const fn scopes(self, scopes: &'static [&'static str]) -> Self {
        Self {
            scopes: Some(scopes),
            ..self
        }
    }

    pub(super) const fn by_choice(self, operation: Operation) -> Self {
        Self {
            operation: Some(operation),
            ..self
        }
    }

    pub(super) const fn or_callers_token(self) -> Self {
        Self {
            takes_callers_token: true,
            ..self
        }
    }

    pub(super) const fn keyed(self, header: &'static str) -> Self {
        Self {
            idempotency_header: Some(header),
            ..self
        }
    }

    pub(super) const fn keyed_in_body(self, pointer: &'static str) -> Self {
        Self {
            idempotency_field: Some(pointer),
            ..self
        }
    }

    pub(super) const fn merchant(self, merchant: MerchantHeader) -> Self {
        Self {
            merchant: Some(merchant),
            ..self
        }
    }
}

impl Preset {
    pub(crate) fn endpoints(&self, environment: Environment) -> &Endpoints {
        match environment {
            Environment::Sandbox => &self.sandbox,
            Environment::Production => &self.production,
        }
    }
}

/// For endpoints that say nothing of a limit, or do not say which: ten a second.
pub(super) const UNDOCUMENTED: NonZeroU32 = NonZeroU32::new(600).unwrap();

pub(super) const READ: &[&str] = &["GET", "HEAD"];
pub(super) const READ_AND_POST: &[&str] = &["GET", "HEAD", "POST"];
pub(super) const WRITE: &[&str] = &["POST", "PUT", "PATCH", "DELETE"];
pub(super) const EVERYTHING: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
