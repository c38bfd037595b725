//! The whole server as a library. It contains the composition root, for the binary and for tests that run the complete
//! server.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
