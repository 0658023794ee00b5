//! The commands of the program beside its main one.

pub mod ca;
pub mod check;
pub mod outcomes;
pub mod remote;
pub mod sandbox;
