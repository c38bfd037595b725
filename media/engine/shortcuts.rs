//! When the kernel passes packets on by itself, and how that stays in the books ([`crate::shortcut`]).

use std::time::Instant;

use super::{Core, Network};
use crate::codec::Codec;
use crate::command::SessionKey;
use crate::rtp::Header;
use crate::session::Heard;
use crate::shortcut::{COPY, PLAIN, Shortcut, Way};

/// Has the kernel take the shortcut, if it can.
fn take(way: &mut Way, shortcut: Option<Shortcut>, network: &mut dyn Network) {
    if let Some(shortcut) = shortcut.filter(|shortcut| network.shorten(shortcut)) {
        way.begin(&shortcut);
    }
}

impl Core {
    /// The network may be offered shortcuts.
    pub(crate) fn offer_shortcuts(&mut self) {
        self.shortcuts = true;
    }

    /// Audio of `from` was relayed to `to`: the next may go without us.
    pub(super) fn note_relayed(
        &mut self,
        now: Instant,
        [from, to]: [usize; 2],
        header: &Header,
        codec: Codec,
        network: &mut dyn Network,
    ) {
        let Some((session, peer)) = self.sessions.get2_mut(from, to) else { return };
        if !session.way.note_plain() {
            return;
        }
        session.way.note_other();
        let shortcut = session.shortcut(peer, [from, to], header, codec, now);
        take(&mut session.way, shortcut, network);
    }

    /// Something came to `slot`, which is bridged with nobody: if it is audio that nobody hears, the next need not come.
    pub(super) fn note_unheard(
        &mut self,
        now: Instant,
        slot: usize,
        header: &Header,
        heard: Heard,
        network: &mut dyn Network,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        match heard {
            Heard::Audio(_) if session.way.note_plain() => session.way.note_other(),
            Heard::Events(_) => return session.way.note_other(),
            _ => return,
        }
        let shortcut = session.unheard(slot, header, now);
        take(&mut session.way, shortcut, network);
    }

    /// Whether the kernel has passed that packet on and this is the copy of it, which is then made what it was.
    pub(super) fn takes_copy(&mut self, slot: usize, packet: &mut [u8]) -> bool {
        let Some(first) = packet.first_mut().filter(|first| **first == COPY) else { return false };
        let copy = self.sessions.get_mut(slot).is_some_and(|session| session.way.takes_copy());
        if copy {
            *first = PLAIN;
        }
        copy
    }

    /// A key of its is being relayed.
    pub(super) fn note_event(&mut self, slot: usize) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.way.note_other();
        }
    }

    /// Both ways of `key`'s bridge lead here again, before anything about it changes.
    pub(crate) fn withdraw(&mut self, now: Instant, key: SessionKey, network: &mut dyn Network) {
        if let Some(slot) = self.slots.get(&key).copied().filter(|_| self.shortcuts) {
            self.withdraw_slot(now, slot, false, network);
        }
    }

    pub(super) fn withdraw_slot(&mut self, now: Instant, slot: usize, by_itself: bool, network: &mut dyn Network) {
        for slot in self.both_ways(slot) {
            self.end_way(now, slot, by_itself, network);
        }
    }

    /// Adds what the kernel has counted both ways to what `slot` knows.
    pub(super) fn count_both_ways(&mut self, now: Instant, slot: usize, network: &mut dyn Network) {
        for slot in self.both_ways(slot) {
            self.count_way(now, slot, network);
        }
    }

    /// One 20 ms frame of `slot`: asks what has been passed on when that is due, or about to be told.
    pub(super) fn tick_way(&mut self, now: Instant, slot: usize, network: &mut dyn Network) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let asks = session.way.tick();
        if session.is_about_to_report() {
            self.count_both_ways(now, slot, network);
        } else if asks {
            self.count_way(now, slot, network);
        }
        // Who hears nothing is sent something else before long, on the same line: that must be ours again by then.
        if self.sessions.get(slot).is_some_and(|session| session.way.is_silent()) {
            self.end_way(now, slot, true, network);
        }
    }

    fn both_ways(&self, slot: usize) -> impl Iterator<Item = usize> + use<> {
        let peer = self.sessions.get(slot).and_then(|session| session.peer).map(|peer| peer.slot);
        std::iter::once(slot).chain(peer.filter(|peer| *peer != slot))
    }

    fn end_way(&mut self, now: Instant, slot: usize, by_itself: bool, network: &mut dyn Network) {
        if !self.is_short(slot) {
            return;
        }
        let counted = network.lengthen(slot);
        self.add(now, slot, counted);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.end_way(by_itself);
        }
    }

    fn count_way(&mut self, now: Instant, slot: usize, network: &mut dyn Network) {
        if self.is_short(slot) {
            let counted = network.counted(slot);
            self.add(now, slot, counted);
        }
    }

    pub(super) fn is_short(&self, slot: usize) -> bool {
        self.sessions.get(slot).is_some_and(|session| session.way.is_short())
    }

    fn add(&mut self, now: Instant, slot: usize, counted: Option<crate::shortcut::Counted>) {
        let Some(counted) = counted else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.way.is_copied() {
            session.way.note(&counted);
            return;
        }
        let Some((packets, octets)) = session.note_passed(&counted, now) else { return };
        self.counts.packets_in += packets;
        let peer = session.peer.and_then(|peer| self.sessions.get_mut(peer.slot));
        if let Some(peer) = peer.filter(|_| packets > 0) {
            peer.note_sent(packets, octets, &counted);
            self.counts.packets_out += packets;
            self.counts.relayed += packets;
        }
    }
}
