//! Bursar: an authenticating egress proxy for payment APIs. This page is the map of the crate.
//!
//! # The life of a request
//!
//! 1. [`server::accept`] takes the connection, has a [`server::worker`] serve it, and finds out which version of
//!    HTTP it speaks; [`bursar_http::framing`] reads along, so that nothing ambiguous is taken for a request.
//! 2. [`exchange`] tells the whole story of one request, top to bottom, and begins with it; it is the place to start
//!    reading.
//!    It hands values from stage to stage; the stages do not know each other:
//!    1. [`bursar_http::target`]: which host and path does the request name, and in which form?
//!    2. [`exchange::caller`]: who sends it, and [`bursar_limits::caller_limits`]: is that too much?
//!    3. [`exchange::route`]: whose API is that, may this caller use it, and which scopes does it need?
//!    4. [`token`]: the token for that, read without a lock, or waited for.
//!    5. [`bursar_http::headers`] and [`bursar_http::replay_body`]: what goes on, and what is kept in case of a 401.
//!    6. [`upstream`]: sent once, over a pooled connection, or a new one where [`upstream::egress`] lets it go;
//!       [`bursar_http::response`] reads what comes back before hyper does.
//!    7. [`exchange::replay`]: does the response ask for another token and a second try?
//! 3. [`exchange::relay`] streams the provider's response back; [`exchange::respond`] answers where Bursar itself
//!    must, and is the only place that chooses a status.
//! 4. [`exchange::ActiveRequest`] is what a request holds, and its record; dropped with the last byte, it counts the
//!    request and writes its line, in one place and in order.
//!
//! # Behind the requests
//!
//! [`bursar_config`] reads `proxy.yaml` into types that cannot be wrong, and [`server::reload`] has it do so again when a
//! file changes; what is in force is replaced as a whole. [`token`] keeps a source for each token key, renews ahead
//! and asks the token endpoints. [`server`] starts and drains; [`server::admin`] shows what operators want to see,
//! [`bursar_telemetry`] what they and Prometheus read, [`bursar_traces`] sends spans. [`bursar_journal`] remembers how far requests that move money came.
//! The program's own part is `src/main.rs`, with what it does beside serving in `src/commands`: it lists requests in
//! doubt, makes an authority, checks a file, and starts the sandbox. The emulated providers are a crate of their own
//! that knows nothing of the proxy, `crates/sandbox`; the feature `sandbox` leaves both out.
//!
//! # Who may know whom
//!
//! Imports go downwards only, in this order: the program, `server`, `exchange`, `token`, `upstream`, `http`, and
//! the crates below, `traces`, `journal`, `limits`, `telemetry`, `config`, `tls`, `base`. CI refuses a cycle.
//!
//! # What is deliberately absent
//!
//! No global state, no statics that change: everything is built in [`server`] and passed on. No second
//! pipeline: absolute-form and gateway requests differ in [`bursar_http::target`] and nowhere else. No sending of a
//! request that the provider may have seen, except after its 401.

pub mod exchange;
pub mod server;
pub mod token;
pub mod upstream;
