//! The shell: sockets, connections, name lookups, and the one task that owns the [`Endpoint`](crate::Endpoint).
//!
//! ```text
//!  UDP sockets ─────────────┐
//!  stream readers ─bounded─>│ driver task: Endpoint ──> sink(Event)
//!  Handle::send ──bounded──>│     └──> UDP try_send, stream write queues (never waited for)
//! ```
//!
//! The driver waits only for its next input. If the kernel does not accept a datagram at once, the datagram is dropped,
//! and its transaction retransmits it later. If the write queue of a stream is full, the stream is closed.

mod capture;
mod driver;
mod framing;
mod handle;
mod icmp;
mod message_copier;
mod resolver;
mod stream;
mod tls;
mod websocket;

pub use driver::{Prepared, StartError, prepare, start};
pub use handle::{Busy, Handle, Statistics};
pub use stream::Octets;
pub use tls::{BadFile, OwnCertificate, faults, own_certificates};

#[cfg(test)]
mod tests;
