//! Recent refusals as `/status` shows them, with what to do.

use serde::Serialize;

use super::date::date;
use crate::exchange::advice;
use bursar_telemetry::metrics::{Cause, RecentRefusal, RefusalDetail};

/// A response of Bursar's own, or one of a provider that it cut off.
#[derive(Debug, Default, Serialize)]
pub(in crate::server) struct Refusal {
    pub(in crate::server) at: String,
    pub(in crate::server) caller: Option<String>,
    pub(in crate::server) cause: Option<&'static str>,
    /// Whose name it gave without proving it.
    pub(in crate::server) claimed_caller: Option<String>,
    pub(in crate::server) client: Option<String>,
    pub(in crate::server) detail: Option<&'static str>,
    /// Where no provider has it.
    pub(in crate::server) host: Option<String>,
    /// What the detail means.
    pub(in crate::server) meaning: &'static str,
    pub(in crate::server) provider: Option<String>,
    pub(in crate::server) reason: &'static str,
    /// As in the access log.
    pub(in crate::server) request_id: Option<String>,
    pub(in crate::server) route: Option<String>,
    pub(in crate::server) what_to_do: &'static str,
}

impl Refusal {
    pub(super) fn of(refusal: RecentRefusal) -> Self {
        let RecentRefusal {
            at,
            reason,
            detail,
            cause,
            client,
            request,
        } = refusal;
        let known = Self {
            at: date(at),
            cause: cause.map(Cause::as_str),
            client: Some(client.to_canonical().to_string()),
            detail: detail.map(RefusalDetail::as_str),
            meaning: detail
                .map_or(reason.meaning(), RefusalDetail::meaning)
                .trim(),
            reason: reason.as_str(),
            what_to_do: advice(reason),
            ..Self::default()
        };
        let Some(request) = request else {
            return known;
        };
        let text = |name: Option<std::sync::Arc<str>>| name.map(|name| name.to_string());
        Self {
            caller: text(request.caller),
            claimed_caller: text(request.claimed_caller),
            host: request.host.map(Into::into),
            provider: text(request.provider),
            request_id: Some(format!("{:032x}", request.id)),
            route: text(request.route),
            ..known
        }
    }
}
