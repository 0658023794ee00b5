//! Passthrough: servers that callers may reach without a token.

use std::sync::Arc;

use crate::host::Host;

/// Servers that callers may reach without a token.
#[derive(Debug, Clone)]
pub struct Passthrough {
    /// Without a port.
    pub host: Host,
    /// At least one.
    pub ports: Vec<u16>,
    /// None: everybody who may call at all.
    pub callers: Option<Vec<Arc<str>>>,
}
