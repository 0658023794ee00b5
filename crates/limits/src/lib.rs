//! Limits of what is done at a time: callers' limits and their shares, failed attempts, rate limiter, circuit breaker
//! and single flight.

pub mod caller_limits;
pub mod circuit_breaker;
pub mod failed_attempts;
pub mod network;
pub mod rate_limiter;
pub mod share;
pub mod single_flight;
