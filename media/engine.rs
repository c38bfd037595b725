//! The pure core of a worker. The core owns the worker's sessions and rooms. Its input is packets, commands and the
//! media clock. The core owns no socket and reads no clock. In the product, [`crate::worker`] drives the core. In
//! tests, the module `testing` drives the core on a virtual clock.

mod offload;
mod rooms;

pub(crate) use rooms::RoomSeat;
use rooms::Rooms;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::HashMap;
use slab::Slab;

use crate::codec::LONGEST_FRAME;
use crate::command::{Command, LegId, Track};
use crate::event::Event;
use crate::network::{Context, Counts, Flow, MediaClock, Network};
use crate::room::RoomKey;
use crate::sdp::MediaPlan;
use crate::session::{BridgedLeg, Input, MediaSession, PacketKind, Resumed, SessionState};
use crate::suppress::budget::{Change, SuppressedTrack, SuppressionBudget};
use crate::writer::{Done, WriterHandle};

/// The time between two ticks. The sessions form four groups, and each tick serves one group. So the load is even, and
/// each session is served every 20 ms.
pub(crate) const TICK: Duration = Duration::from_millis(5);
const GROUPS: usize = 4;
/// The maximum delay after which the worker still serves overdue frames. After a longer delay, for example because the
/// host was suspended, the worker skips the overdue frames.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The result of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    /// The session is not on this worker.
    Unknown,
    /// The other session of a `Bridge` command is not on this worker.
    BridgedLegElsewhere(LegId),
    /// The room of a `Join` command is not on this worker. The outcome contains the command.
    RoomElsewhere(RoomKey, Command),
}

/// The sessions and rooms of one worker.
pub(crate) struct Core {
    /// The sessions. Each session is boxed, because sessions are large and move between workers.
    sessions: Slab<Box<MediaSession>>,
    slots: HashMap<LegId, usize>,
    /// The session slots of each group. Each tick serves one group.
    groups: [Vec<usize>; GROUPS],
    rooms: Rooms,
    /// Whether the network can offload packets to the kernel.
    can_offload: bool,
    next_tick: Instant,
    group: usize,
    clock: MediaClock,
    /// `budget` is the CPU time that noise suppression may use. `spent` is the CPU time that noise suppression has used
    /// in this tick.
    budget: SuppressionBudget,
    spent: Duration,
    /// The CPU time that transcoding has used since the last [`Core::take_transcoding`].
    transcoding: Duration,
    pub(crate) counts: Counts,
    writer: WriterHandle,
    done: Done,
}

impl Core {
    pub(crate) fn new(now: Instant, ntp: u64, budget: SuppressionBudget, writer: WriterHandle, done: Done) -> Core {
        Core {
            sessions: Slab::new(),
            slots: HashMap::default(),
            groups: Default::default(),
            rooms: Rooms::default(),
            can_offload: false,
            next_tick: now + TICK,
            group: 0,
            clock: MediaClock::new(now, ntp),
            budget,
            spent: Duration::ZERO,
            transcoding: Duration::ZERO,
            counts: Counts::default(),
            writer,
            done,
        }
    }

    /// Whether the worker has neither sessions nor rooms.
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.rooms.is_empty()
    }

    /// Whether the next ticks may be late without harm. This is so if the worker has no room and all sessions are idle.
    pub(crate) fn is_idle(&self) -> bool {
        self.rooms.is_empty() && self.sessions.iter().all(|(_, session)| session.is_idle())
    }

    /// Returns the CPU time that transcoding has used since the last call.
    pub(crate) fn take_transcoding(&mut self) -> Duration {
        std::mem::take(&mut self.transcoding)
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Adds a session. The session is new or comes from another worker. Returns the slot that identifies the session to
    /// the [`Network`].
    pub(crate) fn insert(&mut self, session: Box<MediaSession>) -> usize {
        let groups = self.groups.iter().enumerate();
        let group = groups.min_by_key(|(_, group)| group.len()).map_or(0, |(number, _)| number);
        self.insert_in(group, session)
    }

    fn insert_in(&mut self, group: usize, mut session: Box<MediaSession>) -> usize {
        let key = session.key;
        let place = self.sessions.vacant_entry();
        let slot = place.key();
        session.set_slot(slot);
        place.insert(session);
        if let Some(group) = self.groups.get_mut(group) {
            group.push(slot);
        }
        self.slots.insert(key, slot);
        self.enter_budget(slot);
        slot
    }

    /// Returns a session as data. Returns `None` if the session is closing or not on this worker.
    pub(crate) fn snapshot(&mut self, now: Instant, key: LegId, network: &mut dyn Network) -> Option<SessionState> {
        let slot = self.slots.get(&key).copied()?;
        self.count_offload(now, key, network);
        let group = self.groups.iter().position(|group| group.contains(&slot))?;
        let ahead = (group + GROUPS - self.group - 1) % GROUPS;
        let next_frame = self.next_tick.saturating_duration_since(now) + TICK * ahead as u32;
        self.sessions.get(slot)?.state(now, next_frame, &self.clock)
    }

    /// Adds a session that continues from data. Returns its slot. If the session was bridged, the bridge continues as
    /// soon as the other session is on this worker.
    pub(crate) fn resume(&mut self, now: Instant, resumed: Resumed) -> usize {
        let (mut session, next_frame) = MediaSession::resume(resumed, now, &self.clock);
        session.schedule.arrive(now);
        let until_tick = self.next_tick.saturating_duration_since(now);
        let ahead = next_frame.saturating_sub(until_tick).as_nanos().div_ceil(TICK.as_nanos());
        let group = (self.group + 1 + usize::try_from(ahead).unwrap_or_default()) % GROUPS;
        let (key, awaited) = (session.key, session.routing.awaited);
        let slot = self.insert_in(group, Box::new(session));
        if let Some(other) = awaited {
            self.continue_bridge(key, other);
        }
        slot
    }

    fn continue_bridge(&mut self, a: LegId, b: LegId) {
        let (Some(at), Some(other)) = (self.slots.get(&a).copied(), self.slots.get(&b).copied()) else { return };
        let Some((session, bridged)) = self.sessions.get2_mut(at, other) else { return };
        if bridged.routing.awaited != Some(a) || bridged.is_closing() {
            return;
        }
        session.continue_bridge(BridgedLeg { key: b, slot: other });
        bridged.continue_bridge(BridgedLeg { key: a, slot: at });
        self.join_group(other, at);
        self.review(at);
    }

    /// Removes a session that moves to another worker. The session's bridge ends.
    pub(crate) fn remove(
        &mut self,
        now: Instant,
        key: LegId,
        network: &mut dyn Network,
    ) -> Option<(usize, Box<MediaSession>)> {
        self.revoke_offload(now, key, network);
        self.unbridge(key);
        self.leave_room(key);
        let slot = self.slots.remove(&key)?;
        self.leave_budget(key);
        self.leave_group(slot);
        Some((slot, self.sessions.try_remove(slot)?))
    }

    /// Gives a session another key. The session's bridge ends, and the session leaves its room.
    pub(crate) fn rename(&mut self, now: Instant, key: LegId, to: LegId, network: &mut dyn Network) {
        self.revoke_offload(now, key, network);
        self.unbridge(key);
        self.leave_room(key);
        self.leave_budget(key);
        let Some(slot) = self.slots.remove(&key) else { return };
        if let Some(session) = self.sessions.get_mut(slot) {
            session.rename(to);
        }
        self.slots.insert(to, slot);
        self.enter_budget(slot);
    }

    /// Updates the suppression budget for the session in `slot`. Directions with noise suppression are added to the
    /// budget. The other directions are removed from the budget.
    fn enter_budget(&mut self, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        for track in [Track::Inbound, Track::Outbound] {
            if session.is_suppressed(track) {
                session.set_shed(track, !self.budget.add((session.key, track)));
            } else {
                self.budget.remove((session.key, track));
            }
        }
    }

    fn leave_budget(&mut self, key: LegId) {
        [Track::Inbound, Track::Outbound].into_iter().for_each(|track| self.budget.remove((key, track)));
    }

    fn leave_group(&mut self, slot: usize) {
        for group in &mut self.groups {
            if let Some(place) = group.iter().position(|other| *other == slot) {
                group.swap_remove(place);
            }
        }
    }

    /// Moves the session in `slot` to the group of the session in `other`. Then each session's frame is sent to the
    /// other session in the same tick. The clock of the moved session shifts by at most 15 ms.
    fn join_group(&mut self, slot: usize, other: usize) {
        if let Some(to) = self.groups.iter().position(|group| group.contains(&other)) {
            self.move_to_group(slot, to);
        }
    }

    fn move_to_group(&mut self, slot: usize, to: usize) {
        let Some(from) = self.groups.iter().position(|group| group.contains(&slot)) else { return };
        if from == to {
            return;
        }
        self.leave_group(slot);
        if let Some(group) = self.groups.get_mut(to) {
            group.push(slot);
        }
        // The number of ticks since the last time that the session was served, and the number of ticks until the next
        // time.
        let (since, until) = ((self.group + GROUPS - from) % GROUPS, (to + GROUPS - self.group - 1) % GROUPS + 1);
        let Some(session) = self.sessions.get_mut(slot) else { return };
        // The number of frames must match the elapsed time. Otherwise each move would make recordings shorter.
        session.schedule.change_group((since + until) as i32, GROUPS as i32);
    }

    pub(crate) fn has(&self, key: LegId) -> bool {
        self.slots.contains_key(&key)
    }

    /// Returns the slot of a session on this worker.
    pub(crate) fn slot(&self, key: LegId) -> Option<usize> {
        self.slots.get(&key).copied()
    }

    /// Applies a negotiated plan to a session. Returns false if there is no such session.
    pub(crate) fn apply(&mut self, now: Instant, key: LegId, plan: MediaPlan, network: &mut dyn Network) -> bool {
        self.revoke_offload(now, key, network);
        let Some(slot) = self.slots.get(&key) else { return false };
        let Some(session) = self.sessions.get_mut(*slot) else { return false };
        let mut cx = Context { now, clock: &self.clock, network: &mut *network, counts: &mut self.counts };
        if session.apply(plan, &mut cx) {
            network.pin(*slot, None);
        }
        // A held leg sends no packets, so the engine sends silence to the leg bridged with it.
        let abandoned = session.is_held().then(|| session.routing.bridged_with().map(|bridged| bridged.slot)).flatten();
        let slot = *slot;
        if let Some(bridged) = abandoned.and_then(|bridged| self.sessions.get_mut(bridged)) {
            bridged.stop_expecting_packets();
        }
        self.review(slot);
        true
    }

    /// Decides whether two bridged sessions exchange packets or frames. The caller must call this function after every
    /// change that can affect the decision.
    fn review(&mut self, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(bridged) = session.routing.bridged_with().filter(|bridged| bridged.slot != slot) else {
            return session.set_transcoded(false);
        };
        let Some((session, bridged)) = self.sessions.get2_mut(slot, bridged.slot) else { return };
        session.routing.max_packet_ms = bridged.max_packet_ms();
        bridged.routing.max_packet_ms = session.max_packet_ms();
        let (framed, bridged_framed) = (session.must_transcode(bridged), bridged.must_transcode(session));
        session.set_transcoded(framed);
        bridged.set_transcoded(bridged_framed);
        if framed {
            bridged.stop_expecting_packets();
        }
        if bridged_framed {
            session.stop_expecting_packets();
        }
    }

    /// Handles one datagram from a session's socket. A relayed packet is rewritten in the same buffer. Returns true if
    /// the caller should read the socket again. This is so if the packet was late or is not audio.
    pub(crate) fn handle_packet(
        &mut self,
        now: Instant,
        slot: usize,
        flow: Flow,
        from: SocketAddr,
        packet: &mut [u8],
        network: &mut dyn Network,
    ) -> bool {
        let sent_by_kernel = self.can_offload && flow == Flow::Rtp && self.takes_copy(slot, packet);
        if self.can_offload && !sent_by_kernel {
            self.check_offload(now, slot, flow, from, packet, network);
        }
        let Some(session) = self.sessions.get_mut(slot).filter(|session| !session.is_closing()) else { return false };
        let mut cx = Context { now, clock: &self.clock, network: &mut *network, counts: &mut self.counts };
        let Some((header, kind)) = session.handle_datagram(flow, from, packet, &mut cx) else { return true };
        let (session, mut cx) = if std::mem::take(&mut session.routing.moved) {
            // The kernel would send the bridged leg's packets to the old address.
            self.revoke_offload_at(now, slot, true, network);
            let Some(session) = self.sessions.get_mut(slot) else { return true };
            (session, Context { now, clock: &self.clock, network: &mut *network, counts: &mut self.counts })
        } else {
            (session, cx)
        };
        let more = matches!(kind, PacketKind::Events(_)) || session.is_followed();
        let bridged_with = session.routing.bridged_with();
        if bridged_with.is_some() && session.note_codec(kind, &header, packet) {
            self.review(slot);
            return more;
        }
        let transcoded = session.routing.transcoded;
        let in_frames = transcoded && matches!(kind, PacketKind::Audio(_) | PacketKind::Noise);
        if session.routing.echo {
            if sent_by_kernel {
                session.note_sent_by_kernel(&header, kind, packet, &mut cx);
            } else {
                session.relay(&header, kind, false, packet, &mut cx);
            }
        } else if let Some(other) = bridged_with.filter(|_| !in_frames) {
            // A leg with echo hears only itself, so it gets no packets of the bridged leg.
            if let Some(other) = self.sessions.get_mut(other.slot).filter(|other| !other.routing.echo) {
                if sent_by_kernel {
                    other.note_sent_by_kernel(&header, kind, packet, &mut cx);
                } else {
                    other.relay(&header, kind, transcoded, packet, &mut cx);
                }
            }
            if self.can_offload && !sent_by_kernel {
                match kind {
                    PacketKind::Audio(codec) => self.note_relayed(now, [slot, other.slot], &header, codec, network),
                    PacketKind::Noise => {}
                    PacketKind::Events(_) => self.note_event(slot),
                }
            }
        } else if self.can_offload && !sent_by_kernel && bridged_with.is_none() {
            self.note_unheard(now, slot, &header, kind, network);
        }
        more
    }

    /// Gives a number to a command about the session's bridge or room, and returns the number. Returns `None` for other
    /// commands.
    pub(crate) fn note_routing_command(&mut self, key: LegId, command: &Command) -> Option<u32> {
        match command {
            Command::Bridge { .. } | Command::Unbridge | Command::Join { .. } | Command::Leave => {}
            _ => return None,
        }
        let session = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot))?;
        session.routing.command_number = session.routing.command_number.wrapping_add(1);
        Some(session.routing.command_number)
    }

    /// Whether `number` belongs to the newest command about the session's bridge or room. Returns true if the session
    /// is not on this worker.
    pub(crate) fn is_newest_routing_command(&self, key: LegId, number: u32) -> bool {
        let session = self.slots.get(&key).and_then(|slot| self.sessions.get(*slot));
        session.is_none_or(|session| session.routing.command_number == number)
    }

    pub(crate) fn handle_command(
        &mut self,
        now: Instant,
        key: LegId,
        command: Command,
        network: &mut dyn Network,
    ) -> Outcome {
        match command {
            // This command only reads, so the offload continues.
            Command::ReportStats => self.count_offload(now, key, network),
            _ => self.revoke_offload(now, key, network),
        }
        let Some(session) = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot)) else {
            return Outcome::Unknown;
        };
        match command {
            Command::Bridge { with } if with == key => Outcome::Done,
            Command::Bridge { with } => {
                if !self.slots.contains_key(&with) {
                    return Outcome::BridgedLegElsewhere(with);
                }
                self.revoke_offload(now, with, network);
                self.bridge(key, with);
                Outcome::Done
            }
            Command::Unbridge => {
                self.unbridge(key);
                Outcome::Done
            }
            Command::Join { .. } if session.is_closing() => Outcome::Done,
            Command::Join { room, participation } => self.join_room(key, room, participation),
            Command::Leave => {
                self.leave_room(key);
                Outcome::Done
            }
            command => {
                let suppresses = matches!(command, Command::Suppress { .. });
                let reframes = suppresses || matches!(command, Command::Mute { .. });
                let echoes = matches!(command, Command::Echo(_));
                session.handle_command(command, self.clock.units(now, 8_000), &self.writer, &self.done);
                if echoes
                    && let Some(bridged) =
                        session.routing.bridged_with().and_then(|bridged| self.sessions.get_mut(bridged.slot))
                {
                    bridged.stop_expecting_packets();
                }
                if reframes && let Some(slot) = self.slots.get(&key).copied() {
                    if suppresses {
                        self.enter_budget(slot);
                    }
                    self.review(slot);
                }
                Outcome::Done
            }
        }
    }

    fn bridge(&mut self, a: LegId, b: LegId) {
        if self.bridged_leg_of(a).is_some_and(|bridged| bridged.key == b) {
            return;
        }
        for key in [a, b] {
            self.unbridge(key);
            self.leave_room(key);
        }
        // A closing session cannot be bridged, because its slot will belong to another session.
        if [a, b].iter().any(|key| self.slots.get(key).is_none_or(|slot| self.is_closing(*slot))) {
            return;
        }
        self.set_bridged_with(a, Some(b));
        self.set_bridged_with(b, Some(a));
        if let (Some(a), Some(b)) = (self.slots.get(&a).copied(), self.slots.get(&b).copied()) {
            self.join_group(b, a);
            self.review(a);
        }
    }

    fn is_closing(&self, slot: usize) -> bool {
        self.sessions.get(slot).is_none_or(|session| session.is_closing())
    }

    fn unbridge(&mut self, key: LegId) {
        if let Some(session) = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot)) {
            session.routing.awaited = None;
        }
        if let Some(bridged) = self.bridged_leg_of(key) {
            self.set_bridged_with(key, None);
            self.set_bridged_with(bridged.key, None);
            for key in [key, bridged.key] {
                if let Some(session) = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot)) {
                    session.set_transcoded(false);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_bridged(&self, key: LegId) -> bool {
        self.bridged_leg_of(key).is_some()
    }

    fn bridged_leg_of(&self, key: LegId) -> Option<BridgedLeg> {
        self.slots
            .get(&key)
            .and_then(|slot| self.sessions.get(*slot))
            .and_then(|session| session.routing.bridged_with())
    }

    fn set_bridged_with(&mut self, key: LegId, bridged: Option<LegId>) {
        let bridged = bridged.and_then(|key| self.slots.get(&key).map(|slot| BridgedLeg { key, slot: *slot }));
        if let Some(session) = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot)) {
            session.set_bridged_with(bridged);
        }
    }

    /// Ends a session. The session is removed at a later tick, when the session's recordings are complete.
    pub(crate) fn close(&mut self, now: Instant, key: LegId, network: &mut dyn Network) {
        self.revoke_offload(now, key, network);
        self.unbridge(key);
        self.leave_room(key);
        let Some(slot) = self.slots.get(&key).copied() else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let mut cx = Context { now, clock: &self.clock, network, counts: &mut self.counts };
        session.close(&self.writer, &mut cx);
        network.release(slot);
        session.report_closed();
    }

    /// Ends all rooms and closes all sessions.
    pub(crate) fn close_all(&mut self, now: Instant, network: &mut dyn Network) {
        self.end_rooms();
        let keys: Vec<LegId> = self.slots.keys().copied().collect();
        for key in keys {
            self.close(now, key, network);
        }
    }

    /// Passes an event about the end of a recording to the session of the recording. Returns false if the session is
    /// not on this worker.
    pub(crate) fn handle_recorded(&mut self, key: LegId, event: Event) -> bool {
        let session = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot));
        session.map(|session| session.handle_recorded(event)).is_some()
    }

    /// The time of the next tick, even if the tick serves no session.
    pub(crate) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// The time at which [`Core::handle_tick`] next has work: the tick that serves a session or a room, or an earlier
    /// timeout of a transport.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let transports = self.sessions.iter().filter_map(|(_, session)| session.transport_timeout()).min();
        let tick = self.next_served_tick();
        transports.map_or(tick, |timeout| timeout.min(tick))
    }

    fn next_served_tick(&self) -> Instant {
        let ticks = (1..=GROUPS).find(|ahead| {
            self.group(self.group + ahead).is_some_and(|group| !group.is_empty())
                || self.rooms.are_in(self.group + ahead)
        });
        self.next_tick + TICK * (ticks.unwrap_or(GROUPS) as u32 - 1)
    }

    fn group(&self, number: usize) -> Option<&Vec<usize>> {
        self.groups.get(number % GROUPS)
    }

    /// Serves every tick that is due. For each session that has ended, `over` is called with the session's key.
    pub(crate) fn handle_tick(&mut self, now: Instant, network: &mut dyn Network, mut over: impl FnMut(LegId)) {
        self.handle_transport_timeouts(now, network);
        let late = now.saturating_duration_since(self.next_tick);
        if late > CATCH_UP {
            self.miss(u32::try_from(late.as_nanos() / (TICK * GROUPS as u32).as_nanos()).unwrap_or(u32::MAX));
        }
        while self.next_tick <= now {
            let due = self.next_tick;
            self.next_tick += TICK;
            self.group = (self.group + 1) % GROUPS;
            self.serve(due, network, &mut over);
            self.keep_budget(now, now.saturating_duration_since(due));
        }
    }

    /// Lets each transport do the work that is due. A pair of ports has no timeout, so that this costs nothing. With
    /// thousands of transports that have timeouts, keep a list of these sessions.
    fn handle_transport_timeouts(&mut self, now: Instant, network: &mut dyn Network) {
        for (_, session) in &mut self.sessions {
            if session.transport_timeout().is_some_and(|timeout| timeout <= now) {
                let mut cx = Context { now, clock: &self.clock, network: &mut *network, counts: &mut self.counts };
                session.handle_transport_timeout(&mut cx);
            }
        }
    }

    /// Skips `frames` frames in every session and room. Recordings get silence for these frames.
    fn miss(&mut self, frames: u32) {
        self.next_tick += TICK * GROUPS as u32 * frames;
        for (_, session) in &mut self.sessions {
            session.miss(frames, &self.writer);
        }
        self.rooms.miss(frames);
    }

    /// Stops noise suppression when CPU time is short, so that no audio becomes late. Starts noise suppression again
    /// when there is enough CPU time.
    fn keep_budget(&mut self, now: Instant, late: Duration) {
        let mut shed = |(key, track): SuppressedTrack, shed| {
            if let Some(session) = self.slots.get(&key).and_then(|slot| self.sessions.get_mut(*slot)) {
                session.set_shed(track, shed);
            }
        };
        match self.budget.handle_tick(now, std::mem::take(&mut self.spent), late) {
            Change::Nothing => {}
            Change::Shed(names) => names.iter().for_each(|name| shed(*name, true)),
            Change::Resume(name) => shed(name, false),
        }
    }

    /// Serves one group of sessions in a tick. There are four passes. The first pass reads the inbound frames, and the
    /// second mixes the rooms. The third sends a frame on each leg, and the fourth feeds recorders and taps.
    fn serve(&mut self, now: Instant, network: &mut dyn Network, over: &mut impl FnMut(LegId)) {
        let Some(group) = self.groups.get_mut(self.group).map(std::mem::take) else { return };
        let units = self.clock.units(now, 8_000);
        for slot in &group {
            if let Some(session) = self.sessions.get_mut(*slot).filter(|session| session.schedule.is_due(now)) {
                if !session.is_suppressed(Track::Inbound) {
                    let began = session.routing.transcoded.then(|| network.stopwatch());
                    session.read_inbound_frame(now, units);
                    self.transcoding += began.map_or(Duration::ZERO, |began| network.stopwatch().saturating_sub(began));
                    continue;
                }
                let began = network.stopwatch();
                let ended = session.read_inbound_frame(now, units);
                self.spent += network.stopwatch().saturating_sub(began);
                if ended {
                    self.enter_budget(*slot);
                    self.review(*slot);
                }
            }
        }
        self.mix_rooms(now);
        let (mut ended, mut failed) = (0, 0);
        for slot in &group {
            let slot = *slot;
            if self.can_offload {
                self.tick_offload(now, slot, network);
            }
            let mut cx = Context { now, clock: &self.clock, network, counts: &mut self.counts };
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            if !session.schedule.begin(now) {
                continue;
            }
            let bridged = session.routing.bridged_with().map(|bridged| bridged.slot).filter(|bridged| *bridged != slot);
            let echo = session.routing.echo;
            let framed = bridged.filter(|bridged| {
                self.sessions.get(*bridged).is_some_and(|bridged| bridged.routing.transcoded && !bridged.routing.echo)
            });
            let framed = framed.filter(|_| !echo);
            let (well, uncleaned) = match framed.and_then(|bridged| self.sessions.get2_mut(slot, bridged)) {
                Some((session, bridged)) => {
                    let heard = bridged.take_inbound_frame().map(|(samples, rate)| Input::Bridge(samples, rate));
                    let began = cx.network.stopwatch();
                    let spoken = speak(session, heard, &self.writer, &mut cx, &mut self.spent);
                    self.transcoding += cx.network.stopwatch().saturating_sub(began);
                    spoken
                }
                None => {
                    let Some(session) = self.sessions.get_mut(slot) else { continue };
                    let mixed = session.routing.room().zip(session.codec());
                    let mixed = mixed.and_then(|(place, codec)| self.rooms.frame_for(place, codec));
                    speak(session, mixed, &self.writer, &mut cx, &mut self.spent)
                }
            };
            if uncleaned {
                self.enter_budget(slot);
                self.review(slot);
            }
            let Some(session) = self.sessions.get(slot) else { continue };
            ended += usize::from(session.is_over());
            failed += usize::from(!well);
        }
        if let Some(place) = self.groups.get_mut(self.group) {
            *place = group;
        }
        if ended + failed > 0 {
            self.sweep(now, network, over);
        }
    }

    /// Removes the sessions of the current group that have ended. Closes the sessions of the group that have too many
    /// waiting events because the event sink is full.
    fn sweep(&mut self, now: Instant, network: &mut dyn Network, over: &mut impl FnMut(LegId)) {
        let group = self.groups.get(self.group).cloned().unwrap_or_default();
        for slot in group {
            let Some(session) = self.sessions.get(slot) else { continue };
            let key = session.key;
            if session.is_over() {
                self.slots.remove(&key);
                self.leave_budget(key);
                self.leave_group(slot);
                self.sessions.remove(slot);
                over(key);
            } else if session.is_flooded() {
                self.close(now, key, network);
            }
        }
    }
}

/// Runs the third and fourth pass of a session. If outbound noise suppression is on, the function first suppresses the
/// noise in the session's input. Returns whether the session continues, and whether suppression has ended.
fn speak(
    session: &mut MediaSession,
    input: Option<Input<'_>>,
    writer: &WriterHandle,
    cx: &mut Context<'_>,
    spent: &mut Duration,
) -> (bool, bool) {
    if input.is_none() || !session.is_suppressed(Track::Outbound) {
        return (session.handle_tick(input, writer, cx), false);
    }
    let mut frame = [0; LONGEST_FRAME];
    let began = cx.network.stopwatch();
    let (input, last) = session.suppress_input(input, &mut frame);
    *spent += cx.network.stopwatch().saturating_sub(began);
    (session.handle_tick(input, writer, cx), last)
}

#[cfg(test)]
mod tests;
