//! What SIP and HTTP share: Digest authentication, and the purpose of IP addresses.
#![forbid(unsafe_code)]

pub mod address;
pub mod digest;
