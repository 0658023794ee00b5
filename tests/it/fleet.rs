//! A fleet of instances on real stores; `tests/peers/install` installs Redis and Valkey, and without them these tests are
//! skipped.

mod ends;
mod freezes;
mod instances;
mod live_check;
mod members;
mod one_token;
mod outages;
mod outcomes;
mod permissions;
mod secrecy;
mod setbacks;
mod stores;
