//! Copies all messages of the driver to the [`Ladder`] and to a capture server (Homer).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::capture::Capture;
use crate::endpoint::{Arrival, Endpoint, Output};
use crate::ladder::{Ladder, TracedMessage};

/// Receives every message once. If there is neither a ladder nor a capture server, this type does no work.
#[derive(Debug, Default)]
pub(super) struct MessageCopier {
    ladder: Option<Arc<Ladder>>,
    capture: Option<Capture>,
}

impl MessageCopier {
    pub(super) fn new(ladder: Option<Arc<Ladder>>, capture: Option<Capture>) -> Self {
        Self { ladder, capture }
    }

    /// Copies a received message before the endpoint handles the message.
    pub(super) fn received(&self, now: Instant, arrival: &Arrival, endpoint: &Endpoint) {
        if self.has_no_target() {
            return;
        }
        let Arrival { source, local, transport, data, .. } = arrival;
        let message = TracedMessage {
            at: now,
            sent: false,
            transport: *transport,
            local: *local,
            peer: *source,
            data: data.clone(),
        };
        self.copy(message, endpoint);
    }

    /// Copies a message before it is sent.
    pub(super) fn sent(&self, now: impl FnOnce() -> Instant, output: &Output, endpoint: &Endpoint) {
        if self.has_no_target() {
            return;
        }
        let Output::Transmit { destination, local, transport, data, .. } = output else { return };
        let local = local.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let message = TracedMessage {
            at: now(),
            sent: true,
            transport: *transport,
            local,
            peer: *destination,
            data: data.clone(),
        };
        self.copy(message, endpoint);
    }

    fn has_no_target(&self) -> bool {
        self.ladder.is_none() && self.capture.is_none()
    }

    fn copy(&self, message: TracedMessage, endpoint: &Endpoint) {
        if let Some(capture) = &self.capture {
            capture.take(message.clone());
        }
        if let Some(ladder) = &self.ladder {
            let peer = message.peer.ip();
            ladder.record(message, || endpoint.is_unknown(peer));
        }
    }
}
