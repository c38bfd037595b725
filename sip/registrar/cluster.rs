//! The bindings of the other nodes of a cluster. The phone of such a binding has its flow to another node. A call to the
//! phone has a Route value that names this node and the flow (`endpoint::edge`).
//!
//! ```text
//!           REGISTER at another node                REGISTER here
//!   own binding ── learn ──> foreign binding ──────────────────────> own binding, under the same id
//!                                 └── forget, or its time is over ──> gone
//! ```
//!
//! Each node sees the registrations of a phone in another order. The CSeq numbers of one Call-ID tell the order (RFC 3261
//! §10.3), so that the nodes agree which node has the phone.

use std::time::Instant;

use bytes::Bytes;

use super::{Binding, BindingId, Change, Entry, Holder, Register, Registrar, is_open};
use crate::flow::Flow;
use crate::message::Uri;

/// The first part of the user that names a flow in a Route value. The second part is the id of the binding in 32
/// hexadecimal digits.
const FLOW: &str = "flow-";

impl BindingId {
    /// Returns the user by which a Route value names the flow of the binding.
    pub(crate) fn flow_user(self) -> String {
        format!("{FLOW}{:032x}", self.0)
    }

    /// Returns the binding whose flow a Route value names.
    pub(crate) fn of_flow_user(user: &str) -> Option<Self> {
        let digits = user.strip_prefix(FLOW)?;
        let is_id = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_id.then(|| u128::from_str_radix(digits, 16).ok())?.map(Self)
    }
}

impl Registrar {
    /// Adds or replaces a binding of another node. Calls go along `flow`, with the Route value `route` if there is one.
    /// Returns no change if a newer binding is known, or if there is no room.
    pub(crate) fn learn(&mut self, now: Instant, binding: Binding, flow: Flow, route: Option<Bytes>) -> Vec<Change> {
        let Some(contact) = Uri::parse(binding.contact.as_bytes()).filter(|_| !binding.expires_in.is_zero()) else {
            return Vec::new();
        };
        let twin = || self.find(&binding.aor, &contact, binding.instance.as_deref());
        let known = self.entry(binding.id).or_else(twin);
        if known.is_some_and(|known| known.is_newer_than(&binding)) {
            return Vec::new();
        }
        // The phone may have registered here before this server knew of the binding. Then it has two bindings.
        let replaced = known.filter(|known| known.binding.id == binding.id || known.is_older_than(&binding));
        let replaced = replaced.map(|known| known.binding.id);
        if replaced.is_none() && self.len() >= self.config.max_bindings {
            return Vec::new();
        }
        let other = replaced.filter(|id| *id != binding.id);
        let mut changes: Vec<Change> = other.and_then(|id| self.end(now, id)).into_iter().collect();
        let aor = binding.aor.clone();
        changes.push(Change::Learned(Box::new(binding.clone())));
        self.insert(now, binding, flow, Holder::Node { route });
        changes.extend(self.make_room(now, &aor));
        changes
    }

    /// Removes a binding of another node. Returns `None` if there is no such binding.
    pub(crate) fn forget(&mut self, now: Instant, id: BindingId) -> Option<Change> {
        self.entry(id).filter(|entry| !entry.is_own())?;
        self.end(now, id)
    }

    /// Removes a binding that its phone has ended with this REGISTER. If another node has the binding, this server first
    /// makes it an own binding: only the owner of a binding reports its end.
    pub(super) fn unregister(&mut self, now: Instant, id: BindingId, register: &Register) -> Vec<Change> {
        match self.end(now, id) {
            Some(Change::Forgotten(binding)) => {
                let (sip_call_id, cseq) = (register.sip_call_id.clone(), register.cseq);
                let binding = Box::new(Binding { sip_call_id, cseq, ..*binding });
                vec![Change::Refreshed(binding.clone()), Change::Unbound(binding)]
            }
            change => change.into_iter().collect(),
        }
    }

    /// Returns the flow to the phone of an own binding. Returns `None` if there is no such binding, or if its connection
    /// is closed and the phone has no address at which it accepts another one.
    pub(crate) fn own_flow(&self, now: Instant, id: BindingId) -> Option<Flow> {
        let entry = self.entry(id).filter(|entry| entry.is_own() && entry.expires > now)?;
        let flow = entry.target().flow;
        let is_usable = is_open(flow) || entry.binding.direct.is_some() && !flow.transport.is_websocket();
        is_usable.then_some(flow)
    }

    /// Returns the flow of an own binding that was registered from this address and port, over a stream or not.
    pub(crate) fn flow_from(&self, flow: Flow) -> Option<Flow> {
        let ids = self.sources.get(&flow.peer)?;
        let is_stream = flow.transport.is_reliable();
        let flows = ids.iter().filter_map(|id| self.entry(*id)).map(|entry| entry.flow);
        flows.into_iter().find(|own| own.transport.is_reliable() == is_stream)
    }

    /// Returns whether an own binding was registered from the host of this flow.
    pub(crate) fn is_host_of(&self, id: BindingId, flow: Flow) -> bool {
        self.entry(id).is_some_and(|entry| entry.is_own() && entry.binding.source.ip() == flow.peer.ip())
    }
}

impl Entry {
    /// Returns whether the phone has sent the REGISTER of this binding after that of another binding. An own binding is
    /// newer than a foreign one of the same REGISTER.
    fn is_newer_than(&self, other: &Binding) -> bool {
        let own = &self.binding;
        own.sip_call_id == other.sip_call_id && (own.cseq > other.cseq || own.cseq == other.cseq && self.is_own())
    }

    fn is_older_than(&self, other: &Binding) -> bool {
        self.binding.sip_call_id == other.sip_call_id && self.binding.cseq <= other.cseq
    }
}
