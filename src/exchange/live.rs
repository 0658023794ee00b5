//! The proxy in force: replaced as a whole by a reload, taken once by each request.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::proxy::Proxy;

/// The configuration that is in force, made into a proxy.
#[derive(Debug)]
pub struct Live(ArcSwap<Proxy>);

impl Live {
    /// That one, until it is replaced.
    #[must_use]
    pub fn new(proxy: Proxy) -> Arc<Self> {
        proxy.admin_control.put_in_force();
        Arc::new(Self(ArcSwap::from_pointee(proxy)))
    }

    /// For one request, from its head to its end.
    #[must_use]
    pub fn current(&self) -> Arc<Proxy> {
        self.0.load_full()
    }

    /// Puts another one in force. Requests under way keep theirs.
    pub fn replace(&self, proxy: Proxy) {
        proxy.admin_control.put_in_force();
        self.0.store(Arc::new(proxy));
    }
}
