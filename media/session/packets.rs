//! Packets of a leg: what comes from its peer, and what is relayed to it.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Context, MediaSession, PacketKind};
use crate::dtmf::Form;
use crate::engine::{Flow, Pin};
use crate::event::Event;
use crate::latch::Admission;
use crate::rtp::reports::Verdict;
use crate::rtp::{FIXED, Header, dtmf, is_rtcp, noise};
use crate::timeline::Stamp;

impl Context<'_> {
    /// Of a packet that comes now.
    fn stamp(&self, header: &Header) -> Stamp {
        let arrival = self.clock.units(self.now, 8_000);
        Stamp { timestamp: header.timestamp, marker: header.marker, arrival }
    }
}

impl MediaSession {
    /// Takes one datagram of the RTP port. Returns what it is when it should be relayed.
    pub(crate) fn handle_rtp(
        &mut self,
        from: SocketAddr,
        packet: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Option<(Header, PacketKind)> {
        if is_rtcp(packet) {
            self.handle_rtcp(from, packet, cx);
            return None;
        }
        // Nobody's packets tell where a peer is that has said it sends none.
        if self.plan.as_ref().is_some_and(|plan| !plan.receives) {
            self.stats.dropped_held += 1;
            cx.counts.dropped += 1;
            return None;
        }
        let packet = self.open(false, packet, cx)?;
        let (Some(header), Some(plan)) = (Header::parse(packet), &self.plan) else {
            self.stats.dropped_malformed += 1;
            cx.counts.malformed += 1;
            return None;
        };
        let number = header.payload_type;
        let heard = match (plan.codec_of(number), plan.events_of(number)) {
            (Some(codec), _) => PacketKind::Audio(codec),
            (None, Some(clock_rate)) => PacketKind::Events(clock_rate),
            (None, None) if plan.comfort_noise == Some(number) => PacketKind::Noise,
            (None, None) => {
                self.stats.dropped_payload_type += 1;
                cx.counts.dropped += 1;
                return None;
            }
        };
        match self.latch.admits(from, header.ssrc, header.sequence, cx.now) {
            Admission::Peer => {}
            Admission::Moved => {
                self.moved(from);
                if std::mem::take(&mut self.pinned) {
                    cx.network.pin(cx.slot, None);
                }
            }
            Admission::Stranger => {
                self.stats.dropped_stranger += 1;
                self.stats.stranger.get_or_insert(from);
                cx.counts.dropped += 1;
                return None;
            }
        }
        if !self.budget.take() {
            self.stats.dropped_flood += 1;
            cx.counts.dropped += 1;
            return None;
        }
        let first = self.receiver.packets == 0;
        if !self.pinned && self.latch.is_settled(cx.now) {
            self.pinned = true;
            cx.network.pin(cx.slot, Some(Pin { peer: from, only: self.latch.is_exclusive() }));
        }
        let arrival = cx.clock.units(cx.now, self.receiver.rate());
        let new = self.receiver.handle(&header, arrival);
        cx.counts.packets_in += 1;
        if first {
            self.emit(Event::FirstPacket);
        }
        let payload = packet.get_mut(header.payload.clone())?;
        match heard {
            PacketKind::Events(clock_rate) => {
                let press = self.detector.handle(&header, payload, clock_rate);
                let begins = press.map(|(digit, _)| digit);
                let told = self.ear.as_mut().is_some_and(|ear| !ear.handle_event(cx.now, begins));
                if let Some((digit, duration_ms)) = press.filter(|_| !told) {
                    self.tell_press(digit, duration_ms, Form::Event);
                }
                // A muted leg's keys are reported but not passed on.
                (!self.muted).then_some((header, heard))
            }
            PacketKind::Noise => {
                if let (Some(tracks), Some(level), false) = (&mut self.tracks, noise::level(payload), self.muted) {
                    tracks.inbound.handle_comfort_noise(cx.stamp(&header), level);
                }
                (!self.muted).then_some((header, heard))
            }
            PacketKind::Audio(codec) => {
                if self.muted {
                    // What is not G.711 is left out: its peer is then sent frames.
                    payload.fill(codec.law()?.silence());
                }
                if let Some(tracks) = &mut self.tracks {
                    if !tracks.inbound.takes(codec) {
                        tracks.inbound.follow(codec, codec.sample_rate(), self.unread.frames);
                    }
                    if new {
                        tracks.inbound.restart();
                    }
                    tracks.inbound.handle_packet(cx.stamp(&header), codec, header.sequence, payload);
                }
                Some((header, heard))
            }
        }
    }

    /// What a datagram holds, of the peer's; counts it when it is not.
    fn open<'a>(&mut self, rtcp: bool, packet: &'a mut [u8], cx: &mut Context<'_>) -> Option<&'a mut [u8]> {
        match self.srtp.open(rtcp, packet) {
            Ok(length) => packet.get_mut(..length),
            Err(_) => {
                self.stats.dropped_srtp += 1;
                cx.counts.dropped += 1;
                None
            }
        }
    }

    /// Tells a press, unless there are more than a hand can make.
    pub(super) fn tell_press(&mut self, digit: char, duration_ms: u32, form: Form) {
        if self.presses.take() {
            self.emit(Event::Dtmf { digit, duration_ms, form });
        } else {
            self.stats.dropped_presses += 1;
        }
    }

    /// The peer has taken another address.
    fn moved(&mut self, to: SocketAddr) {
        self.rtcp_learnt = None;
        self.emit(Event::SourceMoved { to });
    }

    /// Whether the packet after the newest may well be here too.
    pub(crate) fn is_followed(&self) -> bool {
        self.receiver.is_followed()
    }

    /// Takes note of the codec that the peer speaks. True when what it says cannot be relayed any more.
    pub(crate) fn note_spoken(&mut self, kind: PacketKind) -> bool {
        match (kind, &self.plan) {
            (PacketKind::Audio(codec), Some(plan)) if !self.strays && !plan.passes(codec) => {
                self.strays = true;
                true
            }
            _ => false,
        }
    }

    /// Whether a report from there is none of the host's that talks RTP; its port is what it is, behind NAT.
    pub(crate) fn is_stranger(&self, from: SocketAddr) -> bool {
        let ours = [self.latch.target(), self.latch.learnt()];
        ours.iter().any(Option::is_some) && ours.iter().flatten().all(|ours| ours.ip() != from.ip())
    }

    /// Whether RTP from there is nobody's of this call.
    pub(crate) fn refuses(&self, from: SocketAddr, now: Instant) -> bool {
        self.latch.refuses(from, now)
    }

    /// Takes one datagram of the RTCP port.
    pub(crate) fn handle_rtcp(&mut self, from: SocketAddr, packet: &mut [u8], cx: &mut Context<'_>) {
        if self.is_stranger(from) {
            self.stats.dropped_stranger += 1;
            cx.counts.dropped += 1;
            return;
        }
        let Some(packet) = self.open(true, packet, cx) else { return };
        let now = cx.clock.ntp(cx.now) >> 16;
        let clock_rate = self.plan.as_ref().map_or(8_000, |plan| plan.codec.clock_rate());
        match self.reports.handle(packet, &mut self.receiver, &self.sender, clock_rate, now) {
            Verdict::Taken => {
                if self.latch.target().is_some() {
                    self.rtcp_learnt = Some(from);
                }
                self.judge_what_the_peer_hears();
            }
            Verdict::Foreign => {
                self.stats.dropped_rtcp += 1;
                cx.counts.dropped += 1;
            }
            Verdict::Malformed => {
                self.stats.dropped_malformed += 1;
                cx.counts.malformed += 1;
            }
        }
    }

    /// Sends another session's packet (or, for echo, its own) to this session's peer, patched in place. `framed`: the
    /// audio comes in frames, at the tick.
    pub(crate) fn relay(
        &mut self,
        from: &Header,
        kind: PacketKind,
        framed: bool,
        packet: &mut [u8],
        cx: &mut Context<'_>,
    ) {
        let source_speaks = self.source.as_ref().is_some_and(|source| source.speaks);
        let busy = self.playback.is_some() || self.digits.is_some() || source_speaks;
        let target = self.latch.target();
        let (Some(plan), Some(target), false) = (&self.plan, target, busy) else {
            return self.not_relayed(cx);
        };
        let (payload_type, units) = match kind {
            PacketKind::Audio(codec) if plan.passes(codec) => {
                (Some(plan.payload_type), codec.units(packet.get(from.payload.clone()).unwrap_or_default()))
            }
            PacketKind::Audio(_) => (None, 0),
            PacketKind::Noise => (plan.comfort_noise, 0),
            PacketKind::Events(clock_rate) if framed || plan.events.is_some_and(|to| to.clock_rate != clock_rate) => {
                return self.pass_event(from, clock_rate, packet, cx);
            }
            PacketKind::Events(_) => (plan.events.map(|events| events.payload_type), 0),
        };
        let (Some(payload_type), true) = (payload_type, plan.sends) else { return self.not_relayed(cx) };
        if self.packing.frames > 0 {
            self.flush_packing(cx);
        }
        let Some(plan) = &self.plan else { return };
        let Some(header) = self.sender.relayed(from, payload_type, units) else {
            return self.not_relayed(cx);
        };
        let Some(payload) = packet.get_mut(header.payload.clone()) else { return };
        if let PacketKind::Audio(codec) = kind {
            if let (Some(law), Some(to)) = (codec.law(), plan.codec.law()) {
                law.transcode(to, payload);
            }
            if let Some(tracks) = &mut self.tracks {
                tracks.outbound.handle_packet(cx.stamp(&header), plan.codec, header.sequence, payload);
            }
        }
        // CSRCs, extensions and padding end here: the plain header goes right before the payload.
        let start = header.payload.start - FIXED;
        let Some(packet) = packet.get_mut(start..header.payload.end) else { return };
        header.write(packet);
        if !cx.sent {
            self.srtp.send(Flow::Rtp, target, packet, cx);
        }
        cx.counts.packets_out += 1;
        cx.counts.relayed += 1;
        self.relayed_any |= !framed;
        self.hush = 0;
    }

    /// Passes a telephone-event on among audio that has a timestamp line of its own, at the clock of this peer's events.
    fn pass_event(&mut self, from: &Header, clock_rate: u32, packet: &[u8], cx: &mut Context<'_>) {
        let payload = packet.get(from.payload.clone()).and_then(|payload| payload.first_chunk::<4>());
        let (Some(plan), Some(target), Some(payload)) = (&self.plan, self.latch.target(), payload) else { return };
        let (Some(to), true) = (plan.events, plan.sends) else { return self.not_relayed(cx) };
        let first = self.passed_event.is_none_or(|(timestamp, _)| timestamp != from.timestamp);
        if first {
            self.passed_event = Some((from.timestamp, self.sender.now()));
        }
        let Some((_, timestamp)) = self.passed_event else { return };
        let mut out = [0; FIXED + 4];
        self.sender.event(to.payload_type, timestamp, first).write(&mut out);
        if let Some(place) = out.last_chunk_mut::<4>() {
            *place = *payload;
            dtmf::rescale(place, clock_rate, to.clock_rate);
        }
        self.srtp.send(Flow::Rtp, target, &out, cx);
        cx.counts.packets_out += 1;
    }

    fn not_relayed(&mut self, cx: &mut Context<'_>) {
        self.stats.not_relayed += 1;
        cx.counts.dropped += 1;
        // What comes next starts a new stretch.
        self.sender.pause();
    }
}
