//! One leg of a call: the negotiation of its media, the routes on which it is placed, the branches that ring for it, and
//! its digits. The crate is pure, and speaks neither SIP nor any other protocol. A driver translates the signals of a
//! protocol, and carries out the outputs.
//!
//! ```text
//!   SignalEvent (from SIP, another leg, a browser) ──┐           ┌── SignalCommand, Place  (to the same)
//!   what the call orders (ring, accept, end ...) ────┼──► Leg ───┼── LegEvent              (to the call)
//!   time ────────────────────────────────────────────┘    │      └── next timeout
//!                                                      Describe: the media session writes and reads the descriptions
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod attempt;
pub mod dtmf;
mod ending;
pub mod fork;
pub mod internal;
mod leg;
pub mod offer_answer;
pub mod signal;
mod snapshot;
#[cfg(test)]
mod testing;

pub use ending::ELSEWHERE;
pub use leg::{Leg, Output, Placement, RouteFailed, SignallingState};
pub use snapshot::LegSnapshot;
