//! Telemetry: log, access lines' writer and metrics.

pub mod access_log;
pub mod line_writer;
pub mod log;
pub mod metrics;
