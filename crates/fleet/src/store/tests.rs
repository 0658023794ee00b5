//! The store against real servers.

mod cluster;
mod odd;
mod scripted;
mod sentinel;
mod single;
mod support;
