//! The origin of a leg: the number of hops that are left for the leg, and the legs that caused it. Loops are detected
//! with this information (RFC 3261 §16.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::dialogs::Dialogs;
use super::state::{State, tag_number};
use crate::keys::LegSlot;
use crate::leg::LegId;
use crate::message::Request;

/// Number of hops of a call without Max-Forwards (RFC 3261 §8.1.1.6).
const HOPS: u8 = 70;

/// A leg's position in a chain of legs. Each leg in the chain caused the next leg.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Value of Max-Forwards in the INVITE.
    pub(super) hops: u8,
    /// The leg that caused this leg. For an outgoing leg, this is the incoming leg that led to the call. For an
    /// incoming leg, this is the outgoing leg that sent the INVITE, if the INVITE came from this server.
    cause: Option<LegSlot>,
    /// Hash of the Request-URI. The field is used only for an incoming leg.
    uri: u64,
}

impl Default for Origin {
    fn default() -> Self {
        Self { hops: HOPS, cause: None, uri: 0 }
    }
}

impl Origin {
    /// Returns the origin of a leg that continues after a restart. Its chain of legs is not known any more.
    pub(super) fn with_hops(hops: u8) -> Self {
        Self { hops, ..Self::default() }
    }
}

impl Dialogs {
    pub(super) fn origin_of_outgoing(&self, cause: Option<LegId>) -> Origin {
        let slot = cause.and_then(|key| self.id_of(key));
        let hops = slot.and_then(|slot| self.legs.get(slot)).map_or(HOPS, |leg| leg.extensions.origin.hops);
        Origin { hops: if cause.is_some() { hops.saturating_sub(1).min(HOPS) } else { hops }, cause: slot, uri: 0 }
    }

    pub(super) fn origin_of_incoming(&self, request: &Request) -> Origin {
        let cause = self.sender_of(request);
        Origin { hops: request.max_forwards.unwrap_or(HOPS), cause, uri: hash(request.uri.text()) }
    }

    /// Returns whether the INVITE is in a loop. An INVITE is in a loop if this server sent it, and if an earlier leg of
    /// the chain already had the same Request-URI. The server recognises its own INVITE by From and Call-ID, which
    /// proxies do not change.
    pub(super) fn is_loop(&self, request: &Request) -> bool {
        let uri = hash(request.uri.text());
        let mut next = self.sender_of(request);
        // The chain becomes shorter with each step. The limit only protects against a key that repeats by mistake.
        for _ in 0..=2 * u16::from(HOPS) {
            let Some(leg) = next.and_then(|slot| self.legs.get(slot)) else { return false };
            if leg.incoming && leg.extensions.origin.uri == uri {
                return true;
            }
            next = leg.extensions.origin.cause;
        }
        false
    }

    /// Returns the leg that sent the INVITE, if this server sent it.
    fn sender_of(&self, request: &Request) -> Option<LegSlot> {
        let slot = *self.by_tag.get(&tag_number(request.from.tag.as_deref()?)?)?;
        let leg = self.legs.get(slot)?;
        (matches!(leg.state, State::Calling(_)) && leg.dialog.call_id == request.call_id).then_some(slot)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
