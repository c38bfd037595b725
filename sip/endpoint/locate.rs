//! The targets of a request (RFC 3263). The shell looks up host names. The request is then sent to the found targets in
//! order, until one target responds.
//!
//! ```text
//!  locate ─ an address, in the clear ──────────────────────────> located ─> first hop ─> Timer B, F; 503; no connection
//!     └─ a name, or TLS ─> Output::Resolve ─> handle_resolved ──────^          ^──────────── next hop, new branch ─┘
//! ```

use std::net::SocketAddr;
use std::time::Instant;

use crate::HashMap;
use crate::flow::{Target, Transport};
use crate::trunk_acl::TrunkName;

use super::Endpoint;
use super::core::Core;
use crate::endpoint::{OutOfDialogRequest, Output};
use crate::leg::{EndCause, LegId, Outgoing};
use crate::message::{Host, Uri};

/// Maximum number of simultaneous lookups. Above this number, a call that needs a lookup fails.
pub(crate) const MAX_LOOKUPS: usize = 256;

/// The key of a lookup. [`Output::Resolve`] contains this key, and the result of the lookup contains it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupId(pub u64);

/// A call or request that waits for a lookup.
#[derive(Debug)]
pub(super) enum PendingLookup {
    /// An outgoing call of the application.
    Invite {
        /// The key of the call's leg.
        key: LegId,
        /// The parameters of the call.
        outgoing: Box<Outgoing>,
    },
    /// A request that belongs to no leg and goes to a trunk. For each trunk, at most two such requests wait at the same
    /// time.
    OutOfDialog(OutOfDialogRequest),
}

/// The lookups in progress.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    waiting: HashMap<LookupId, PendingLookup>,
    next: u64,
}

impl Lookups {
    /// Returns whether the leg waits for a lookup.
    pub(super) fn holds(&self, leg: LegId) -> bool {
        self.waiting.values().any(|waiting| matches!(waiting, PendingLookup::Invite { key, .. } if *key == leg))
    }

    /// Finds the targets of requests to `uri`. If the targets are known at once, returns them together with `waiting`.
    /// Otherwise requests a lookup from the shell and returns `None`.
    fn start(
        &mut self,
        core: &mut Core,
        uri: &Uri,
        trunk: Option<TrunkName>,
        waiting: PendingLookup,
    ) -> Option<(PendingLookup, Result<Vec<Target>, EndCause>)> {
        let Some(destination) = uri.destination() else { return Some((waiting, Err(EndCause::Invalid))) };
        let transport = destination.transport.unwrap_or(Transport::Udp);
        if let Host::Ip(ip) = destination.host
            && !transport.is_secure()
        {
            let address = SocketAddr::new(ip, destination.port.unwrap_or(transport.default_port()));
            return Some((waiting, Ok(vec![Target { transport, address, identity: None }])));
        }
        if matches!(waiting, PendingLookup::Invite { .. }) && self.waiting.len() >= MAX_LOOKUPS {
            return Some((waiting, Err(EndCause::Overload)));
        }
        self.next += 1;
        let lookup = LookupId(self.next);
        self.waiting.insert(lookup, waiting);
        let uri = String::from_utf8_lossy(uri.text()).into_owned();
        core.outputs.push_back(Output::Resolve { lookup, uri, trunk });
        None
    }

    /// Removes the lookup of a call that was hung up. Returns whether the call waited for a lookup.
    fn abandon(&mut self, leg: LegId) -> bool {
        let is_its = |waiting: &PendingLookup| matches!(waiting, PendingLookup::Invite { key, .. } if *key == leg);
        let found = self.waiting.iter().find(|(_, waiting)| is_its(waiting)).map(|(lookup, _)| *lookup);
        found.is_some_and(|lookup| self.waiting.remove(&lookup).is_some())
    }
}

impl Endpoint {
    /// Handles the result of [`Output::Resolve`]. The result is a list of targets, best first, or the reason why there
    /// is no target. The list has at least one target.
    pub fn handle_resolved(&mut self, now: Instant, lookup: LookupId, found: Result<Vec<Target>, EndCause>) {
        if let Some(waiting) = self.lookups.waiting.remove(&lookup) {
            self.located(now, waiting, found);
        }
    }

    /// Finds the targets of requests to `uri`, then continues with `waiting`. If the URI contains an address, the
    /// function continues at once. Otherwise it continues when the shell has the result of the lookup.
    pub(super) fn locate(&mut self, now: Instant, uri: &Uri, trunk: Option<TrunkName>, waiting: PendingLookup) {
        if let Some((waiting, found)) = self.lookups.start(&mut self.core, uri, trunk, waiting) {
            self.located(now, waiting, found);
        }
    }

    fn located(&mut self, now: Instant, waiting: PendingLookup, found: Result<Vec<Target>, EndCause>) {
        match waiting {
            PendingLookup::Invite { key, outgoing } => match found {
                Ok(hops) => {
                    // Addresses are learned only if the trunk is called at its own URI, not if the target comes from a
                    // redirection.
                    let index = outgoing.next_hop.as_ref().and(outgoing.trunk.as_deref());
                    if let Some(index) = index.and_then(|trunk| self.trunks.index_of(trunk)) {
                        self.trunks.learn_hosts(&self.core, index, &hops);
                    }
                    let found = hops.len();
                    let hops = self.allowed(&outgoing, hops);
                    if hops.is_empty() && found > 0 {
                        return self.core.report_unplaced(key, EndCause::Forbidden);
                    }
                    self.place(now, key, outgoing, hops);
                }
                Err(cause) => self.core.report_unplaced(key, cause),
            },
            PendingLookup::OutOfDialog(kind) => {
                self.trunks.handle_located(&mut self.core, now, kind, found.unwrap_or_default());
                self.serve_trunks(now);
            }
        }
    }

    /// Ends a call that was hung up during the lookup of its destination.
    pub(super) fn abandon_lookup(&mut self, leg: LegId) {
        if self.lookups.abandon(leg) {
            self.core.report_unplaced(leg, EndCause::LocalHangup);
        }
    }
}
