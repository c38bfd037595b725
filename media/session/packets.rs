//! The path of a packet through a session. The packet was received from the far end, or is sent to the far end because
//! it is relayed.

use std::net::SocketAddr;
use std::time::Instant;

use super::inbound::DropReason;
use super::outbound::Output;
use super::{MediaSession, PacketKind};
use crate::event::Event;
use crate::network::{Context, Flow};
use crate::rtp::receiver::Choice;
use crate::rtp::reports::ReportCheck;
use crate::rtp::{Header, noise};
use crate::timeline::Stamp;
use crate::transport::{Admission, Datagram};

impl Context<'_> {
    /// Returns the stamp of a packet that arrives now.
    pub(super) fn stamp(&self, header: &Header) -> Stamp {
        let arrival = self.clock.units(self.now, 8_000);
        Stamp { timestamp: header.timestamp, marker: header.marker, arrival }
    }
}

impl MediaSession {
    /// Handles one datagram from a socket of the session. If the packet should be relayed, returns its header and kind.
    pub(crate) fn handle_datagram(
        &mut self,
        flow: Flow,
        from: SocketAddr,
        packet: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Option<(Header, PacketKind)> {
        let receives = self.audio().is_none_or(|audio| audio.receives);
        let handled = match self.transport.handle_datagram(flow, from, packet, receives, cx) {
            Ok(Datagram::Rtp(packet)) => self.handle_rtp(from, packet, cx),
            Ok(Datagram::Rtcp(packet)) => self.handle_rtcp(from, packet, cx).map(|()| None),
            Ok(Datagram::Handled) => {
                self.note_connection();
                Ok(None)
            }
            Err(refusal) => Err(refusal.into()),
        };
        match handled {
            Ok(received) => received,
            Err(why) => {
                self.inbound.note_dropped(why, from, cx.counts);
                None
            }
        }
    }

    /// Checks that a packet is RTP from this leg's far end, and handles it. If the packet may be relayed, returns its
    /// header and kind.
    #[inline]
    fn handle_rtp(
        &mut self,
        from: SocketAddr,
        packet: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Result<Option<(Header, PacketKind)>, DropReason> {
        let (Some(header), Some(plan)) = (Header::parse(packet), self.audio()) else {
            return Err(DropReason::Malformed);
        };
        let number = header.payload_type;
        let kind = match (plan.codec_of(number), plan.events_of(number)) {
            (Some(codec), _) => PacketKind::Audio(codec),
            (None, Some(clock_rate)) => PacketKind::Events(clock_rate),
            (None, None) if plan.comfort_noise == Some(number) => PacketKind::Noise,
            (None, None) => return Err(DropReason::PayloadType),
        };
        match self.transport.admit(from, &header, cx) {
            Admission::FarEnd => {}
            Admission::Moved => {
                self.routing.moved = true;
                self.events.send(Event::SourceMoved { to: from });
            }
            Admission::UnknownSource => return Err(DropReason::UnknownSource),
        }
        if !self.inbound.budget.take() {
            return Err(DropReason::Flood);
        }
        self.transport.note_accepted(from, cx);
        let receiver = &mut self.inbound.receiver;
        let first = receiver.packets == 0;
        let arrival = cx.clock.units(cx.now, receiver.rate());
        let choice = match kind {
            PacketKind::Events(_) => {
                receiver.handle_event(&header, arrival);
                Choice::Heard { begins: false }
            }
            PacketKind::Audio(_) | PacketKind::Noise => receiver.handle_audio(&header, arrival),
        };
        self.gap_watch.note_packet(matches!(kind, PacketKind::Noise));
        cx.counts.packets_in += 1;
        if first {
            self.events.send(Event::FirstPacket);
        }
        let Choice::Heard { begins: new_source } = choice else { return Err(DropReason::OtherSource) };
        if std::mem::take(&mut self.inbound.reports_next) {
            self.events.send(Event::NextPacket);
        }
        let Some(payload) = packet.get_mut(header.payload.clone()) else { return Ok(None) };
        let passes = self.take_payload(&header, kind, new_source, payload, cx);
        Ok(passes.then_some((header, kind)))
    }

    /// Handles the payload of a received packet. If the leg is muted, silence overwrites the payload. Returns whether
    /// the packet may be relayed.
    #[inline]
    fn take_payload(
        &mut self,
        header: &Header,
        kind: PacketKind,
        new_source: bool,
        payload: &mut [u8],
        cx: &mut Context<'_>,
    ) -> bool {
        let muted = self.inbound.muted;
        match kind {
            PacketKind::Audio(codec) => {
                if muted {
                    // Muted audio in a codec other than G.711 is dropped. The bridged leg gets frames in this case.
                    let Some(law) = codec.law() else { return false };
                    payload.fill(law.silence());
                }
                self.capture.handle_inbound_packet(header, codec, new_source, payload, cx);
                true
            }
            PacketKind::Events(clock_rate) => {
                // The digits of a muted leg are reported, but not forwarded.
                let passes = self.digit_input.handle_event(header, payload, clock_rate, cx.now, &mut self.events);
                passes && !muted
            }
            PacketKind::Noise => {
                if let (Some(level), false) = (noise::level(payload), muted) {
                    self.capture.handle_comfort_noise(header, level, cx);
                }
                !muted
            }
        }
    }

    fn handle_rtcp(&mut self, from: SocketAddr, packet: &[u8], cx: &Context<'_>) -> Result<(), DropReason> {
        let now = cx.clock.ntp(cx.now) >> 16;
        let clock_rate = self.audio().map_or(8_000, |audio| audio.codec.clock_rate());
        let (receiver, sender) = (&mut self.inbound.receiver, &self.outbound.sender);
        match self.quality.reports.handle(packet, receiver, sender, clock_rate, now) {
            ReportCheck::Accepted => {
                self.transport.note_rtcp_source(from);
                self.quality.judge_outbound(self.outbound.encoder.as_deref_mut(), &mut self.events);
                Ok(())
            }
            ReportCheck::Foreign => Err(DropReason::ForeignRtcp),
            ReportCheck::Malformed => Err(DropReason::Malformed),
        }
    }

    /// Whether RTCP from `from` comes from a host that is not the source of RTP.
    pub(crate) fn is_unknown_rtcp_source(&self, from: SocketAddr) -> bool {
        self.transport.is_unknown_rtcp_source(from)
    }

    /// Whether RTP from `from` is refused, independent of its content.
    pub(crate) fn refuses(&self, from: SocketAddr, now: Instant) -> bool {
        self.transport.refuses(from, now)
    }

    /// Whether another packet may wait behind the newest packet.
    pub(crate) fn is_followed(&self) -> bool {
        self.inbound.receiver.is_followed()
    }

    /// Checks the codec and the length of a packet that is to be relayed. Returns true for the first packet that cannot
    /// be relayed. From then on, the bridged leg gets this leg's audio as frames.
    pub(crate) fn note_codec(&mut self, kind: PacketKind, header: &Header, packet: &[u8]) -> bool {
        let (PacketKind::Audio(codec), Some(audio)) = (kind, self.audio()) else { return false };
        let is_too_long = |longest: u8| {
            let payload = packet.get(header.payload.clone()).unwrap_or_default();
            codec.units(payload) > codec.clock_rate() / 1_000 * u32::from(longest)
        };
        let passes = audio.passes(codec) && !self.routing.max_packet_ms.is_some_and(is_too_long);
        let changes = !passes && !self.routing.codec_mismatch;
        self.routing.codec_mismatch |= changes;
        changes
    }

    /// Sends another leg's packet to this leg's far end. For echo, the packet comes from the leg itself. The packet is
    /// changed in place. `transcoded` says that the other leg's audio is sent as frames, at the tick.
    ///
    /// While this leg hears a playback or a stream, the other leg's audio is not sent, but its digits are. While digits
    /// are sent to this leg, the other leg's digits are not sent: a stream has one telephone-event at a time.
    pub(crate) fn relay(
        &mut self,
        from: &Header,
        kind: PacketKind,
        transcoded: bool,
        packet: &mut [u8],
        cx: &mut Context<'_>,
    ) {
        let target = self.transport.target();
        let is_busy = self.playout.is_busy();
        let passes = match kind {
            PacketKind::Events(_) => !self.playout.sends_events(),
            PacketKind::Audio(_) | PacketKind::Noise => !is_busy,
        };
        let (Some(plan), Some(target), true) = (&self.plan, target, passes) else {
            return self.outbound.note_not_relayed(from, cx);
        };
        let (outbound, transport, capture) = (&mut self.outbound, &mut self.transport, &mut self.capture);
        let mut output = Output { audio: &plan.audio, outbound, transport, capture };
        let packet = match kind {
            PacketKind::Events(clock_rate) => output.rewrite_event(from, clock_rate, transcoded || is_busy, packet, cx),
            PacketKind::Audio(_) | PacketKind::Noise => output.rewrite(from, kind, packet, cx),
        };
        if let Some(packet) = packet {
            output.transport.send_rtp(target, packet, cx);
        }
    }

    /// Handles the copy of a packet that the kernel has already sent to this leg's far end. Updates the leg's stream,
    /// and passes the audio to the leg's readers.
    pub(crate) fn note_sent_by_kernel(
        &mut self,
        from: &Header,
        kind: PacketKind,
        packet: &mut [u8],
        cx: &mut Context<'_>,
    ) {
        let target = self.transport.target();
        let (Some(plan), Some(_), false) = (&self.plan, target, self.playout.is_busy()) else {
            return self.outbound.note_not_relayed(from, cx);
        };
        let (outbound, transport, capture) = (&mut self.outbound, &mut self.transport, &mut self.capture);
        Output { audio: &plan.audio, outbound, transport, capture }.rewrite(from, kind, packet, cx);
    }
}
