//! The legs behind a shared port. This module is pure.
//!
//! A check names the user name (`ufrag`) of its leg. All other packets are known by their source, once the leg has received
//! an authentic check from there.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tandem_webrtc::Protocol;

use crate::HashMap;
use crate::command::LegId;

/// The highest number of user names of one leg. After an ICE restart, checks for the name before may still come.
const MAX_UFRAGS: usize = 2;
/// The highest number of sources of one leg: its far end's candidates, and the sources that have passed a check.
const MAX_SOURCES: usize = 96;

/// The source of a packet.
pub(super) type Source = (Protocol, SocketAddr);

/// The legs of user names and sources. The number of legs limits its size.
#[derive(Debug, Default)]
pub(super) struct Routes {
    ufrags: std::collections::HashMap<Box<str>, LegId>,
    /// The standard library's hash protects against addresses that an attacker chooses.
    sources: std::collections::HashMap<Source, LegId>,
    legs: HashMap<LegId, Leg>,
}

#[derive(Debug, Default)]
struct Leg {
    ufrags: VecDeque<Box<str>>,
    sources: VecDeque<Source>,
}

impl Routes {
    pub(super) fn announce(&mut self, key: LegId, ufrag: &str) {
        if self.ufrags.get(ufrag) == Some(&key) {
            return;
        }
        let leg = self.legs.entry(key).or_default();
        if leg.ufrags.len() >= MAX_UFRAGS
            && let Some(oldest) = leg.ufrags.pop_front()
        {
            self.ufrags.remove(&oldest);
        }
        leg.ufrags.push_back(ufrag.into());
        self.ufrags.insert(ufrag.into(), key);
    }

    /// Adds a source that another leg may have, and then keeps.
    pub(super) fn note_target(&mut self, ufrag: &str, source: Source) {
        if !self.sources.contains_key(&source) {
            self.admit(ufrag, source);
        }
    }

    /// Adds a source. If it was a source of another leg, this leg loses it: a port of a NAT was given to another browser.
    pub(super) fn admit(&mut self, ufrag: &str, source: Source) {
        let Some(key) = self.ufrags.get(ufrag).copied() else { return };
        let before = self.sources.insert(source, key);
        if before == Some(key) {
            return;
        }
        if let Some(leg) = before.and_then(|before| self.legs.get_mut(&before)) {
            leg.sources.retain(|one| *one != source);
        }
        let Some(leg) = self.legs.get_mut(&key) else { return };
        if leg.sources.len() >= MAX_SOURCES
            && let Some(oldest) = leg.sources.pop_front()
        {
            self.sources.remove(&oldest);
        }
        leg.sources.push_back(source);
    }

    pub(super) fn rename(&mut self, key: LegId, to: LegId) {
        let Some(leg) = self.legs.remove(&key) else { return };
        for ufrag in &leg.ufrags {
            self.ufrags.insert(ufrag.clone(), to);
        }
        for source in &leg.sources {
            self.sources.insert(*source, to);
        }
        self.legs.insert(to, leg);
    }

    pub(super) fn forget(&mut self, key: LegId) {
        let Some(leg) = self.legs.remove(&key) else { return };
        for ufrag in &leg.ufrags {
            self.ufrags.remove(ufrag);
        }
        for source in &leg.sources {
            self.sources.remove(source);
        }
    }

    pub(super) fn has(&self, source: Source) -> bool {
        self.sources.contains_key(&source)
    }

    /// Returns the leg of a packet.
    pub(super) fn find(&self, source: Source, packet: &[u8]) -> Option<LegId> {
        let ufrag = tandem_webrtc::checked_ufrag(packet);
        let named = ufrag.and_then(|ufrag| self.ufrags.get(ufrag));
        named.or_else(|| self.sources.get(&source)).copied()
    }
}
