//! The connection of a WebRTC leg: ICE (RFC 8445), consent (RFC 7675), and the keys of DTLS-SRTP (RFC 5764). This crate
//! is pure: the caller gives datagrams and the time, and sends what the connection returns.
//!
//! ```text
//!                    +--------------------------- Connection ----------------------------+
//!   datagram ------->| first octet (RFC 7983): STUN -> Agent    -> route, consent        |----> transmit
//!   time ----------->|                         DTLS -> Handshake -> certificate, keys    |----> event
//!   remote, -------->|                         RTP  -> the caller                        |
//!   candidates       +-------------------------------------------------------------------+
//! ```
//!
//! The crates `is`, `dimpl` (browsers) and `rtc-dtls` (phones) do the work. No other crate of the workspace names them, so
//! another implementation can replace them here. SRTP itself, SDP and sockets are not part of this crate.
//!
//! Nothing from the network changes a connection before it is authentic: a STUN message needs our password, a DTLS record
//! needs a source that has passed a STUN check, and a certificate needs the fingerprint of the signalling. Other
//! datagrams are counted ([`Counts`]).

mod checks;
mod connection;
mod fingerprint;
mod handshake;
mod identity;

pub use connection::{
    Connection, Counts, Credentials, Datagram, Event, Failure, FarEnd, LocalAddress, Protocol, Remote, Role, Route,
    Transmit, checked_ufrag, is_stun,
};
pub use fingerprint::{Fingerprint, Hash};
pub use handshake::{CertificateKind, Keys, Suite};
pub use identity::{Identity, IdentityError};

#[cfg(test)]
mod tests;
