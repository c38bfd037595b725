//! The properties of a session that is opened or resumed, and the reasons why it is not.

use std::io;
use std::net::IpAddr;

use crate::command::LegId;

/// The properties of a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSpec {
    /// The key of the session. No open session or room may have this key.
    pub key: LegId,
    /// Sessions with the same affinity share a worker. So a bridge between these sessions needs no move to another
    /// worker. Give all legs of a call the same affinity.
    pub affinity: u128,
    /// What is known about the far end before its first SDP.
    pub far_end: FarEnd,
}

impl OpenSpec {
    /// Returns the properties of a session with RTP and an unknown far end.
    pub fn new(key: LegId, affinity: u128) -> OpenSpec {
        OpenSpec { key, affinity, far_end: FarEnd::Unknown }
    }
}

/// The properties of a session that continues from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeSpec {
    /// As in [`OpenSpec`].
    pub affinity: u128,
    /// The highest number of packets that the session may have sent after the snapshot: 0 if it sent nothing more. Their
    /// sequence numbers and SRTP indices are not used again, because two packets with one index would share a key stream.
    pub skipped_packets: u16,
}

/// The far end of a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// Nothing is known. The session has the usual address family, which is IPv4 if the engine has IPv4.
    Unknown,
    /// The far end's address is known. The session has the family of this address, if the engine has an address of this
    /// family.
    At(IpAddr),
    /// The far end is another session of this engine. The session's SDP contains an address of this host instead of the
    /// advertised address.
    Within,
}

impl From<Option<IpAddr>> for FarEnd {
    fn from(address: Option<IpAddr>) -> FarEnd {
        address.map_or(FarEnd::Unknown, FarEnd::At)
    }
}

/// The reason why a session or a room could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// All port pairs of the pool are in use. SIP answers 503 in this case.
    #[error("all RTP ports are in use")]
    PortsExhausted,
    /// An open session or room already has this key.
    #[error("the session key is in use")]
    KeyInUse,
    /// 10,000 rooms are open, and the engine permits no more rooms.
    #[error("too many rooms are open")]
    TooManyRooms,
    /// [`Engine::shutdown`](super::Engine::shutdown) was called.
    #[error("the media engine is shutting down")]
    ShuttingDown,
    /// The system could not create or bind a socket.
    #[error("cannot open RTP sockets on media.listen: {0}")]
    Socket(#[from] io::Error),
}
