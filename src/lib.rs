//! Tandem as one piece: the composition root, for the binary and for tests that run the whole server.
#![forbid(unsafe_code)]

pub mod app;
