//! Fleet: several instances that act as one, on Redis or Valkey.
//!
//! The store is a cache and a meeting point, never an authority: a request never waits for it, and safety does not rest
//! on its locks.

pub mod keys;
pub mod store;
