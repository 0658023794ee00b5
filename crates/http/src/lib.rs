//! HTTP/1.1 and what is common to all versions: framing, header fields, bodies, connections, targets, tunnels.

pub mod connection;
pub mod deadline_timer;
pub mod detect;
pub mod framing;
pub mod headers;
pub mod hpack;
pub mod lingering_body;
pub mod numbers;
pub mod one_shot;
pub mod read_body;
pub mod replay_body;
pub mod response;
pub mod target;
pub mod tunnel;
