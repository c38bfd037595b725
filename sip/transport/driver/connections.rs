//! Stream connections of the driver. The functions handle events of connections, decide whether to accept a connection,
//! and select the connection for a message.

use super::super::stream::{Accepted, Connection, ConnectionKey, Link, StreamEvent};
use super::super::tls::ExpectedServer;
use crate::config::Config;
use crate::flow::{ConnectionId, Transport};
use crate::guard::GuardDecision;
use crate::trunk_acl::TrunkName;
use bytes::Bytes;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;

use super::{Driver, instant};

impl Driver {
    pub(super) fn stream_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Accepted(Accepted { peer, .. })
                if self.guard.admit(instant(), peer.ip()) != GuardDecision::Accept =>
            {
                tracing::debug!(%peer, "connection dropped: its source is banned or exceeds its rate");
            }
            StreamEvent::Accepted(accepted) => self.accept(accepted),
            StreamEvent::Message(arrival) if arrival.certified_trunk.is_some() => self.arrival(arrival),
            StreamEvent::Message(arrival) => match self.guard.admit(instant(), arrival.source.ip()) {
                GuardDecision::Accept => self.arrival(arrival),
                GuardDecision::RateLimited | GuardDecision::Banned if self.endpoint.awaits(&arrival.data) => {
                    self.arrival(arrival);
                }
                GuardDecision::RateLimited => {}
                GuardDecision::Banned => {
                    if let Some((id, connection)) =
                        arrival.connection.and_then(|id| Some((id, self.connections.get(&id)?)))
                    {
                        connection.abort();
                        self.forget(id);
                    }
                }
            },
            StreamEvent::Certified(id) => {
                if let Some(connection) = self.connections.get(&id) {
                    connection.trust();
                }
            }
            StreamEvent::Closed { id, transport, peer, why } => {
                self.forget(id);
                self.endpoint.handle_transport_error(instant(), transport, peer, why);
                self.flush();
            }
        }
    }

    pub(super) fn accept(&mut self, accepted: Accepted) {
        let Accepted { stream, transport, peer, local } = accepted;
        let unknown_source = self.endpoint.is_unknown(peer.ip());
        if self.connections.len() >= self.max_connections
            || unknown_source && self.has_enough_unknown_sources(peer.ip())
        {
            tracing::debug!(%peer, stranger = unknown_source, "too many connections");
            return;
        }
        // The side that opened a connection sends the keep-alives (RFC 5626 §4.4.1). Browsers cannot send pings, so the
        // server sends the keep-alives on WebSocket connections.
        let ours = matches!(transport, Transport::Ws | Transport::Wss);
        let link = self.link(transport, peer, local, self.keep_alive.filter(|_| ours));
        link.unknown_source.store(unknown_source, Ordering::Relaxed);
        let id = link.id;
        let connection = Connection::accepted(stream, link, Arc::clone(&self.tls));
        self.connections.insert(id, connection);
        self.connections_by_peer.insert((transport, peer, None), id);
    }

    pub(super) fn link(
        &mut self,
        transport: Transport,
        peer: SocketAddr,
        local: SocketAddr,
        keep_alive: Option<Duration>,
    ) -> Link {
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        let (idle, events) = (self.idle, self.stream_sender.clone());
        Link {
            id,
            transport,
            peer,
            local,
            certified_trunk: None,
            from_page: false,
            idle,
            unknown_source: Arc::default(),
            keep_alive,
            events,
        }
    }

    /// Returns whether unknown sources already have their maximum number of connections. All unknown sources together
    /// may have a quarter of all connections. Each source address may have a sixteenth of all connections. Calls from
    /// unknown sources are usually refused. But unknown sources still need connections, because a far end that the
    /// server has called may be an unknown source.
    pub(super) fn has_enough_unknown_sources(&self, source: IpAddr) -> bool {
        let all = self.max_connections.div_ceil(4);
        let (mut unknown_sources, mut from_source) = (0, 0);
        for connection in self.connections.values().filter(|connection| connection.is_unknown_source()) {
            unknown_sources += 1;
            from_source += usize::from(connection.key.1.ip() == source);
        }
        unknown_sources >= all || from_source >= all.div_ceil(4)
    }

    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.aliases.retain(|_, other| *other != id);
        if let Some(connection) = self.connections.remove(&id)
            && self.connections_by_peer.get(&connection.key) == Some(&id)
        {
            self.connections_by_peer.remove(&connection.key);
        }
    }

    /// Sends a message over the given connection if the connection is still open. Otherwise uses another connection to
    /// the same far end, or opens a new connection.
    pub(super) fn send_stream(
        &mut self,
        key: ConnectionKey,
        local: Option<SocketAddr>,
        connection: Option<ConnectionId>,
        data: Bytes,
    ) {
        let known = connection
            .filter(|id| self.connections.contains_key(id))
            .or_else(|| self.connections_by_peer.get(&key).copied())
            .or_else(|| self.alias_of(key));
        let id = match known.map_or_else(|| self.open(key, local), Ok) {
            Ok(id) => id,
            Err(why) => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                self.endpoint.handle_transport_error(instant(), key.0, key.1, why);
                return;
            }
        };
        let Some(connection) = self.connections.get(&id) else { return };
        let Err(lost) = connection.send(data) else {
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        let (transport, peer, _) = connection.key;
        if let TrySendError::Full(_) = lost {
            tracing::warn!(%peer, "far end reads too slowly: closing the connection");
            connection.abort();
            self.endpoint.handle_transport_error(instant(), transport, peer, io::ErrorKind::BrokenPipe);
        }
        self.forget(id);
    }

    /// Stores the address on which the opener of a connection accepts connections. Later requests to this address use
    /// the connection as if the server had opened the connection (RFC 5923 §5).
    pub(super) fn alias(&mut self, connection: ConnectionId, address: SocketAddr, trunk: TrunkName) {
        let key = (address, trunk);
        if self.aliases.get(&key) != Some(&connection) && self.connections.contains_key(&connection) {
            self.aliases.retain(|_, other| *other != connection);
            self.aliases.insert(key, connection);
        }
    }

    pub(super) fn alias_of(&self, (transport, address, identity): ConnectionKey) -> Option<ConnectionId> {
        if self.aliases.is_empty() || transport != Transport::Tls {
            return None;
        }
        let trunk = self.identities.get(identity?)?.trunk?;
        self.aliases.get(&(address, trunk)).copied()
    }

    pub(super) fn open(
        &mut self,
        key: ConnectionKey,
        local: Option<SocketAddr>,
    ) -> Result<ConnectionId, io::ErrorKind> {
        let (transport, peer, identity) = key;
        if self.connections.len() >= self.max_connections {
            return Err(io::ErrorKind::QuotaExceeded);
        }
        let tls = match transport {
            Transport::Udp | Transport::Tcp => None,
            Transport::Tls => {
                let server = match identity {
                    Some(identity) => self.identities.get(identity).ok_or(io::ErrorKind::NotFound)?,
                    // A request in a dialog whose connection is closed has no identity.
                    None => ExpectedServer { host: peer.ip().to_string(), trunk: self.endpoint.trunk_at(peer.ip()) },
                };
                Some(self.tls.client(&server).ok_or(io::ErrorKind::InvalidInput)?)
            }
            // Browsers can be reached only through connections that they opened.
            Transport::Ws | Transport::Wss => return Err(io::ErrorKind::NotConnected),
        };
        let link = self.link(transport, peer, peer, self.keep_alive);
        let id = link.id;
        self.connections.insert(id, Connection::open(link, identity, local, tls));
        self.connections_by_peer.insert(key, id);
        Ok(id)
    }
}

pub(super) fn keep_alive(config: &Config) -> Option<Duration> {
    Some(Duration::from_secs(config.keep_alive_seconds)).filter(|every| !every.is_zero())
}

pub(super) fn idle(config: &Config) -> Duration {
    Duration::from_secs(config.connection_idle_seconds.max(1))
}
