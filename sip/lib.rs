//! SIP over UDP, TCP, TLS and WebSocket (RFC 3261, RFC 7118). Transactions, dialogs and legs do no I/O. The I/O layer
//! is [`transport`], which owns the sockets.
//!
//! ```text
//!   datagrams, frames ──> transport::Driver ──> Endpoint ──> Event ──> the application (one sink)
//!                                ^                 │  ^
//!                                └── Output::Transmit │
//!                     the application ──> Handle::send(Command)
//! ```
//!
//! [`Endpoint`] reads no clock and owns no socket. Its randomness comes from a seed. Its inputs are bytes, commands and
//! `now`. Its results are [`Output`]s and the next timeout. SDP bodies pass through the endpoint unchanged and are not
//! parsed.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod advertise;
mod challenge;
mod compose;
mod config;
mod dialog;
mod dialog_state;
mod digest;
mod directory;
mod endpoint;
mod flow;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod gruu;
mod guard;
mod header;
mod hep;
mod info;
mod keys;
mod ladder;
mod leg;
mod message;
mod negotiated_timer;
mod overload;
mod prack;
mod probe;
mod recording;
mod redact;
mod registrar;
mod registration;
pub mod stir;
mod throttle;
mod timer;
mod tls_fault;
mod transaction;
pub mod transport;
mod trunk;
mod trunk_acl;
mod validity;
mod waiting;

#[cfg(test)]
mod testing;

pub use advertise::{Advertise, Advertised, AdvertisedPort, NotAdvertisable};
pub use compose::{escape_user, reason_phrase};
pub use config::{Certificate, Config, Timers, TrunkTls, UnknownSources};
pub use dialog_state::{DialogState, DialogStateError, ResumeError};
pub use digest::Credentials;
pub use directory::{Directory, Domain, Ha1, User};
pub use endpoint::{Arrival, Endpoint, LookupId, OutOfDialogRequest, Output, parse_listen};
pub use flow::{ConnectionId, Identity, Target, Transport};
#[cfg(feature = "fuzz")]
pub use fuzz::{fuzz_endpoint, fuzz_message, fuzz_phones};
pub use guard::{Ban, Bans, Guard, GuardCounts, GuardDecision, Offence};
pub use header::{Header, is_own_header};
pub use info::Info;
pub use ladder::{Fill, Ladder, Trace, TracedMessage};
pub use leg::{Caller, Command, EndCause, Event, Incoming, LegId, Outgoing, Refer, Referred, RefusedRequest};
pub use message::{Party, header_values};
pub use prack::Prack;
pub use redact::redact;
pub use registrar::{Aor, Binding, BindingId, BindingRef, Change, DigestAlgorithm, KeepAlive, RegistrarConfig};
pub use throttle::Throttle;
pub use tls_fault::{TlsFault, TransportFault};
pub use trunk::{Health, KnownBy, Register, Registered, Trunk, TrunkFault, TrunkSlice, TrunkStatus, TrunkTrouble};
pub use trunk_acl::{TrunkAcl, TrunkName};
pub use waiting::PendingCallGuard;

/// A hash map with a fast hash function. The hash function is several times cheaper than the standard function. But if
/// an attacker can choose the keys, the attacker can make the map slow. So use this map only for keys that this server
/// creates, or that are already hashed with a secret.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// A hash set with the same hash function as [`HashMap`]. The same restriction applies to its keys.
pub(crate) type HashSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
