//! The whole server as a library. It contains the composition root, for the binary and for tests that run the complete
//! server.
#![forbid(unsafe_code)]

pub mod app;
