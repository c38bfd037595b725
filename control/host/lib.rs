//! What the server takes from its host and not from a caller: the clocks, private directories, and hashes.
#![forbid(unsafe_code)]

pub mod clock;
pub mod directory;
pub mod hash;
pub mod jwt;
