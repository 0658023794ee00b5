//! Bursar from outside: real sockets on port 0, the real YAML parser, every peer scripted.
//!
//! What the scenarios share is in [`support`]; read its page first. `cargo test --test it NAME` runs those whose
//! path contains `NAME`, for example `circuit_breaker`.
//!
//! # Index by feature
//!
//! Requests
//! - forms (proxy, gateway, tunnel, HTTP/2), one matrix for all: [`request_forms`]; [`tunnels`] (`CONNECT`),
//!   [`intercept`] (TLS inside of tunnels), [`options_method`]
//! - targets, header fields, bodies: [`forwarding`], [`request_targets`], [`streaming`], [`chunked_bodies`], [`via`],
//!   [`trace_headers`], [`location_fields`]
//! - request smuggling and other hostile input: [`hostile_input`], [`h1spec`], [`fuzz_targets`]
//! - TLS and client certificates on the listener: [`tls_listen`]
//!
//! Callers and limits
//! - authentication, accounts, rate limits: [`callers`]; the caller's own token: [`caller_token`]; [`callers_leaving`]
//! - connections, sizes, time limits: [`limits`]; file descriptors, files, memory, the log: [`os_resources`]
//! - connections between requests: [`idle_connections`], [`delayed_ack`]
//!
//! Tokens
//! - single flight, renewal, token endpoints, `bursar check --live`: [`token`]
//! - a 401 and the second try: [`replay_after_401`], [`refused_routes`]
//!
//! Providers
//! - presets and their documentation: [`presets`], [`provider_pages`]
//! - connection pool, HTTP/2: [`connection_pool`], [`http2`], [`close_notify`]
//! - addresses, parent proxies: [`egress`]
//! - failures: [`peer_faults`], [`connect_errors`], [`circuit_breaker`]; which attempt is the last one: [`attempts`]
//!
//! Money
//! - the journal (write-ahead log): [`journal`]; [`idempotency_keys`]; [`outcomes`] (`bursar outcomes`); [`freeze`]
//!
//! Operations
//! - errors that Bursar answers itself: [`error_responses`]
//! - commands to a running Bursar, and about files: [`commands`]
//! - health, metrics, status, access log: [`admin`] (its port: [`admin_boundary`], [`admin_connections`], `/status`: [`status`], its page: [`admin_page`]), [`access_lines`], [`alerting`]; request ids and references: [`correlation`]
//! - several instances on one store: [`fleet`]
//! - alerts and dashboard of `deploy`: [`monitoring`]
//! - [`reload`], [`graceful_shutdown`], [`graceful_restart`], [`workers`]
//! - the Helm chart and the kustomizations: [`kubernetes`]
//! - spans and their export: [`traces`]
//!
//! Documentation: [`book`]; that of providers: [`provider_pages`]
//!
//! Beside real programs: [`interop`]
#![cfg(test)]

mod access_lines;
mod admin;
mod admin_boundary;
mod admin_connections;
mod admin_page;
mod alerting;
mod attempts;
mod book;
mod caller_token;
mod callers;
mod callers_leaving;
mod chunked_bodies;
mod circuit_breaker;
mod client_certificate;
mod close_notify;
mod commands;
mod connect_errors;
mod connection_pool;
mod correlation;
#[cfg(target_os = "linux")]
mod delayed_ack;
mod egress;
mod error_responses;
mod fleet;
mod forwarding;
mod freeze;
mod fuzz_targets;
mod graceful_restart;
mod graceful_shutdown;
mod h1spec;
mod hostile_input;
mod http2;
mod idempotency_keys;
mod idle_connections;
mod intercept;
mod interop;
mod journal;
mod kubernetes;
mod late_arrival;
mod limits;
mod location_fields;
mod monitoring;
mod options_method;
mod os_resources;
mod outcomes;
mod peer_faults;
mod presets;
mod provider_pages;
mod refused_routes;
mod reload;
mod replay_after_401;
mod request_forms;
mod request_targets;
mod status;
mod streaming;
mod support;
mod systemd;
mod tls_listen;
mod token;
mod trace_headers;
mod traces;
mod tunnels;
mod via;
mod workers;
