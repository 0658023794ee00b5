//! The configuration of Bursar: from `proxy.yaml` to types that cannot be wrong; past this crate nothing is left
//! to validate.
//!
//! The file becomes a tree that knows lines (`yaml`), references are resolved (`expand`), the tree is read (`typed`) as
//! plain data (`file`), and one pass (`compile`) turns that into the types here. Every problem is collected; any problem at
//! all means that there is no configuration.

mod account;
mod admin_keys;
mod caller;
mod compile;
mod config;
mod defaults;
mod diagnostic;
mod egress;
mod encoding;
mod excerpt;
mod expand;
mod extension;
mod file;
mod file_permissions;
mod files;
mod fleet;
mod host;
mod journal;
mod known_host;
mod known_keys;
mod limits;
mod load;
mod node;
mod outline;
mod passthrough;
mod presets;
mod provider;
mod route;
mod secret_check;
mod traces;
mod typed;
mod yaml;

pub use account::{Account, AccountIndex, DEFAULT_ACCOUNT, Merchant, SecretName};
pub use admin_keys::AdminKeys;
pub use caller::{Allow, Caller};
pub use config::Config;
pub use diagnostic::{Diagnostic, Problem, Severity};
pub use egress::{Egress, Names, NoProxy, ParentProxy};
pub use file::{
    ClientAuth, Encoding, Environment, Http, Mode, OnFailure, OnOutage, Refresh, ReplayRule,
};
pub use files::{Files, Stamps};
pub use fleet::{FleetConfig, FleetKey, Sentinel, StoreAddress, StoreTls, StoreUrl};
pub use host::{Host, Origin, port_of};
pub use journal::Journal;
pub use known_host::KnownHost;
pub use limits::{Limits, ProxyLimits, UnknownConnections};
pub use load::Rejected;
pub use outline::{Changes, NameChanges, Outline};
pub use passthrough::Passthrough;
pub use provider::{BreakerLimits, Provider, Timeouts, TokenDialect};
pub use route::{Authorization, HostRoutes, MerchantHeader, Route, Semantics};
pub use traces::Traces;

#[cfg(test)]
mod tests;
