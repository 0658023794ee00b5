//! Bursar from outside: real sockets on port 0, the real YAML parser, every peer scripted.
//!
//! What the scenarios share is in [`support`]; read its page first.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod caller_token;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod causes;
#[cfg(test)]
mod chunks;
#[cfg(test)]
mod close_notify;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod freeze;
#[cfg(test)]
mod fuzzed;
#[cfg(test)]
mod h1spec;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod intercept;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod locations;
#[cfg(test)]
mod machine;
#[cfg(all(test, target_os = "linux"))]
mod nagle;
#[cfg(test)]
mod options;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod pooling;
#[cfg(test)]
mod presets;
#[cfg(test)]
mod provider_pages;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod refused_routes;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod resting;
#[cfg(test)]
mod rolling;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod support;
#[cfg(test)]
mod targets;
#[cfg(test)]
mod tls_listen;
#[cfg(test)]
mod token;
#[cfg(test)]
mod tracing;
#[cfg(test)]
mod via;
#[cfg(test)]
mod workers;
