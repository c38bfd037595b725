//! The operations of the REST APIs. The APIs of all providers share these operations. Each effect and each policy
//! exists here once, with typed errors.
//!
//! A provider's handler parses its request, calls a function of this crate, and renders the result. Only this crate
//! writes numbers, verified caller IDs, applications, connections, trunks, accounts and keys.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod applications;
pub mod calls;
pub mod commands;
pub mod conferences;
pub mod connections;
pub mod keys;
pub mod messages;
pub mod notices;
pub mod numbers;
pub mod outbound_profiles;
pub mod phones;
pub mod queues;
pub mod recordings;
pub mod sip_domains;
#[cfg(test)]
mod testing;
pub mod trunks;
pub mod usage;
pub mod verification;
pub mod verified_callers;
