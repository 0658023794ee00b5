//! What the machine gives and does not give: file descriptors, files, memory that others look into, a log that nobody
//! reads.

mod descriptors;
mod files;
mod journal;
mod log;
mod traced;
