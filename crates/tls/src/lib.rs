//! TLS: the server's side, the client's side, and the certificate authority of interception.

pub mod authority;
pub mod client;
pub mod roots;
pub mod server;
pub mod system;
pub mod unsupported;
mod words;
