//! The commands of the program beside its main one.

pub(crate) mod after_help;
pub(crate) mod ca;
pub(crate) mod check;
pub(crate) mod config_file;
pub(crate) mod control;
mod duration;
pub(crate) mod generated;
pub(crate) mod init;
pub(crate) mod live_check;
pub(crate) mod log_level;
pub(crate) mod operator;
pub(crate) mod outcomes;
pub(crate) mod output;
pub(crate) mod remote;
#[cfg(feature = "sandbox")]
pub(crate) mod sandbox;
pub(crate) mod signals;
pub(crate) mod start_error;
