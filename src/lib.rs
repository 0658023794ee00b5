//! Bursar: an authenticating egress proxy for payment APIs. This page is the map of the crate.
//!
//! # The life of a request
//!
//! 1. [`accept`] takes the connection, has a [`worker`] serve it, and finds out which HTTP it speaks; [`framing`]
//!    reads along, so that nothing ambiguous is taken for a request.
//! 2. [`exchange`] tells the whole story of one request, top to bottom; it is the place to start reading.
//!    It hands values from stage to stage; the stages do not know each other:
//!    1. [`target`]: which host and path does the request name, and in which form?
//!    2. [`caller`]: who sends it, and [`limit`]: is that too much?
//!    3. [`route`]: whose API is that, may this caller use it, and which scopes does it need?
//!    4. [`token`]: the token for that, read without a lock, or waited for.
//!    5. [`headers`] and [`body`]: what goes on, and what is kept in case of a 401.
//!    6. [`upstream`]: sent once, over a pooled connection, or a new one where [`egress`] lets it go; [`response`]
//!       reads what comes back before hyper does.
//!    7. [`replay`]: does the answer ask for another token and a second try?
//! 3. [`relay`] streams the provider's answer back; [`respond`] answers where Bursar itself must, and is
//!    the only place that chooses a status.
//! 4. [`access`] writes one line and counts the request, when the last byte has gone.
//!
//! # Behind the requests
//!
//! [`config`] reads `proxy.yaml` into types that cannot be wrong, and [`reload`] has it do so again when a
//! file changes; what is in force is replaced as a whole. [`token`] keeps a cell for each
//! token key, renews ahead and asks the token endpoints. [`server`] starts and drains. [`admin`] shows
//! what operators want to see, [`metrics`] what Prometheus scrapes. [`journal`] remembers how far requests
//! that move money came, and [`outcomes`] lists those in doubt. [`sandbox`] emulates the providers.
//!
//! # What is deliberately absent
//!
//! No global state, no statics that change: everything is built in [`server`] and passed on. No second
//! pipeline: absolute-form and gateway requests differ in [`target`] and nowhere else. No sending of a
//! request that the provider may have seen, except after its 401.

pub mod accept;
pub mod access;
pub mod address;
pub mod admin;
pub mod alarm;
pub mod body;
pub mod breaker;
pub mod ca;
pub mod caller;
pub mod check;
pub mod clock;
pub mod complaints;
pub mod config;
pub mod connect;
pub mod disk;
pub mod egress;
pub mod exchange;
pub mod field;
pub mod framing;
pub mod headers;
pub mod hpack;
pub mod intercept;
pub mod journal;
pub mod limit;
pub mod lines;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod outcomes;
pub mod passthrough;
pub mod password;
pub mod path;
pub mod process;
pub mod regular;
pub mod relay;
pub mod reload;
pub mod remote;
pub mod replay;
pub mod respond;
pub mod response;
pub mod route;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod socket;
pub mod stream;
pub mod target;
pub mod tls;
pub mod token;
pub mod tunnel;
pub mod upstream;
pub mod worker;
