//! Bursar
pub mod clock;
pub mod config;
pub mod path;
pub mod secret;
pub mod tls;
