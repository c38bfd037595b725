//! The events of the server, and the bus that carries them to readers in this process: the console, `tandem dev`, the
//! gateways, verification calls. In a cluster, the events of other nodes come to the readers that ask for them
//! ([`Filter::everywhere`]): `app/events.rs` carries them over NATS.
//!
//! ```text
//!   call tasks, conferences, queues, trunks, phones, problems ──publish──► Bus ──Filter──► Subscription ──► a reader
//! ```
//!
//! A publisher never waits for a reader. A reader that is too slow misses the oldest events and receives their number
//! ([`Item::Missed`]). So the bus is no place for records and webhooks: these must not miss an event.
#![forbid(unsafe_code)]

mod bus;
mod event;
mod filter;

pub use bus::{Bus, Item, NodeNames, Subscription, TooManySubscriptions};
pub use event::{
    Event, LegQuality, PhoneEvent, ProblemEvent, QueueChange, QueueEvent, ResourceEvent, ResourceKind, TrunkEvent,
    VerbChange,
};
pub use filter::{Filter, Kind, Topic};

#[cfg(test)]
mod tests;
