//! The operations of the REST APIs. The APIs of all providers share these operations. Each effect and each policy
//! exists here once, with typed errors.
//!
//! A provider's handler parses its request, calls a function of this crate, and renders the result. If the request
//! needs no live call, the handler may call a function of `tandem_accounts` or `tandem_routing` instead.
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
