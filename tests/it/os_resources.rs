//! What the machine gives and does not give: file descriptors, files, memory that others look into, a log that nobody
//! reads.

mod configuration_files;
mod file_descriptors;
mod journal;
mod log;
mod process_memory;
