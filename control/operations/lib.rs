//! The operations of the REST APIs, the same for every provider: each effect and each policy once, with typed errors. A
//! provider's handler parses its request, calls a function of this crate (or of `tandem_accounts` and
//! `tandem_routing`, where no live call is needed), and renders the result.
#![forbid(unsafe_code)]

pub mod calls;
pub mod conferences;
pub mod messages;
pub mod phones;
pub mod queues;
pub mod recordings;
pub mod sip_domains;
pub mod trunks;
pub mod usage;
