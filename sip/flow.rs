//! The path of a message: the transport, the addresses and the connection.

use std::net::SocketAddr;

/// A transport of SIP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP: one message in each datagram. Requests are retransmitted.
    Udp,
    /// TCP: Content-Length separates the messages (RFC 3261 §18.3).
    Tcp,
    /// TLS over TCP, with the framing of TCP (RFC 3261 §26.2.1).
    Tls,
    /// WebSocket: one message in each WebSocket message (RFC 7118). Clients connect to the server. The server never
    /// opens a WebSocket connection.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// All transports.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Returns whether the transport itself delivers messages in order or reports a failure. For such a transport, the
    /// retransmission timers are off.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Returns the name of the transport in a Via header: `UDP`, `TCP`, `TLS`, `WS` or `WSS`.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// Returns the value for the `transport` parameter of a URI. The same word is the scheme in `sip.listen`. The value
    /// `tls` is deprecated (RFC 3261 §26.2.2), but most implementations write it. RFC 7118 uses `ws` for both WebSocket
    /// transports, so this value does not show whether TLS is used.
    #[must_use]
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Returns the transport with this name. The name comes from the `transport` parameter of a URI or from a scheme in
    /// `sip.listen`. Letter case is ignored.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss]
            .into_iter()
            .find(|transport| transport.parameter().eq_ignore_ascii_case(name))
    }

    /// Returns whether the transport is a WebSocket.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Returns whether the transport is encrypted, as `sips:` requires.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Returns the port for a URI that has no port (RFC 3261 §19.1.2, RFC 7118 §8.1).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// The number of a stream connection. The shell gives each connection a number, and never uses a number twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The number of an identity that a TLS server must prove (RFC 5922). The identity also decides which client
/// certificate this server shows. The shell assigns the number. A connection is used only for the identity for which it
/// was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u32);

/// The path to a far end: the transport and the address. If the transport uses connections, the path also contains the
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) transport: Transport,
    pub(crate) peer: SocketAddr,
    /// Index of the local socket in the endpoint's list of sockets.
    pub(crate) local: usize,
    /// The stream connection that is used while it is open.
    pub(crate) connection: Option<ConnectionId>,
    /// The identity that the far end must prove if a new TLS connection is opened.
    pub(crate) identity: Option<Identity>,
    /// Whether the whole dialog uses this path and ignores the far end's Contact. The field is true if the path leads
    /// through a NAT, or if the path is a phone's connection.
    pub(crate) pinned: bool,
    /// Whether the dialog was made with a `sips:` URI, so that the local Contact must be a `sips:` URI too (RFC 3261
    /// §12.1.1).
    pub(crate) secure: bool,
}

/// An address to which a request can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The transport for requests to this address.
    pub transport: Transport,
    /// The IP address and port.
    pub address: SocketAddr,
    /// The identity that the far end must prove if a TLS connection is opened.
    pub identity: Option<Identity>,
}
