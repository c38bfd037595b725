//! What is seen of the messages on their way through the driver: the rings of [`Ladder`], and a Homer server's copy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::{Arrival, Endpoint, Output};
use crate::ladder::{Ladder, Seen};

/// Sees every message once. Costs nothing when nobody wants to see.
#[derive(Debug, Default)]
pub(super) struct Witness {
    ladder: Option<Arc<Ladder>>,
}

impl Witness {
    pub(super) fn new(ladder: Option<Arc<Ladder>>) -> Self {
        Self { ladder }
    }

    /// Before the endpoint has it.
    pub(super) fn received(&self, now: Instant, arrival: &Arrival, endpoint: &Endpoint) {
        let Some(ladder) = &self.ladder else { return };
        let Arrival { source, local, transport, data, .. } = arrival;
        let seen =
            Seen { at: now, sent: false, transport: *transport, local: *local, peer: *source, data: data.clone() };
        ladder.record(seen, || endpoint.is_unknown(source.ip()));
    }

    /// Before the network has it.
    pub(super) fn sent(&self, now: impl FnOnce() -> Instant, output: &Output, endpoint: &Endpoint) {
        let Some(ladder) = &self.ladder else { return };
        let Output::Transmit { destination, local, transport, data, .. } = output else { return };
        let local = local.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let seen = Seen { at: now(), sent: true, transport: *transport, local, peer: *destination, data: data.clone() };
        ladder.record(seen, || endpoint.is_unknown(destination.ip()));
    }
}
