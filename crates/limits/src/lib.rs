//! Limits of callers and circuit breakers: decisions from a value and a time.

pub mod caller_limits;
pub mod circuit_breaker;
pub mod rate_limiter;
