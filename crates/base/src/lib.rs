//! Values and system calls that everything else rests on; none of it knows HTTP or the configuration.

pub mod address;
pub mod clock;
pub mod decision;
pub mod disk;
pub mod duration;
pub mod field_names;
pub mod json_pointer;
pub mod listing;
pub mod log_throttle;
pub mod password;
pub mod path;
pub mod port_owner;
pub mod process;
pub mod regular_file;
pub mod secret;
pub mod socket;
pub mod spelling;
pub mod terminal;
