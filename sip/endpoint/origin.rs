//! The origin of a leg: how many hops it has left, and whether its call is a loop (RFC 3261 §16.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use super::dialogs::Dialogs;
use super::state::{Leg, State, tag_number};
use crate::leg::LegKey;
use crate::message::Request;

/// Hops of a call that does not say how many it has left (RFC 3261 §8.1.1.6).
const HOPS: u8 = 70;

/// A leg's place in the chain of calls that were made for each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Max-Forwards of its INVITE.
    pub(super) hops: u8,
    /// Of an outgoing leg: the incoming one it was made for. Of an incoming one: the leg of ours whose INVITE it is.
    cause: Option<LegKey>,
    /// Hash of an incoming leg's Request-URI.
    uri: u64,
}

impl Default for Origin {
    fn default() -> Self {
        Self { hops: HOPS, cause: None, uri: 0 }
    }
}

impl Dialogs {
    pub(super) fn origin_of_outgoing(&self, cause: Option<LegKey>) -> Origin {
        let hops = cause.and_then(|key| self.leg_of(key)).map_or(HOPS, |leg| leg.extensions.origin.hops);
        Origin { hops: if cause.is_some() { hops.saturating_sub(1).min(HOPS) } else { hops }, cause, uri: 0 }
    }

    pub(super) fn origin_of_incoming(&self, request: &Request) -> Origin {
        let cause = self.sender_of(request).map(|leg| leg.key);
        Origin { hops: request.max_forwards.unwrap_or(HOPS), cause, uri: hash(request.uri.text()) }
    }

    /// Whether the INVITE is one of our own that has come back for a Request-URI that it was here for before. Proxies on the
    /// way keep From and Call-ID, so it is known by them.
    pub(super) fn is_loop(&self, request: &Request) -> bool {
        let uri = hash(request.uri.text());
        let mut next = self.sender_of(request);
        // The chain gets shorter with each step; a key that comes again would be a mistake of ours.
        for _ in 0..=2 * u16::from(HOPS) {
            let Some(leg) = next else { return false };
            if leg.incoming && leg.extensions.origin.uri == uri {
                return true;
            }
            next = leg.extensions.origin.cause.and_then(|key| self.leg_of(key));
        }
        false
    }

    /// The leg of ours that sent this INVITE.
    fn sender_of(&self, request: &Request) -> Option<&Leg> {
        let slot = *self.by_tag.get(&tag_number(request.from.tag.as_deref()?)?)?;
        let leg = self.legs.get(slot)?;
        (matches!(leg.state, State::Calling(_)) && leg.dialog.call_id == request.call_id).then_some(leg)
    }

    fn leg_of(&self, key: LegKey) -> Option<&Leg> {
        self.legs.get(*self.by_key.get(&key)?)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
