//! The RTP stream to a leg. All audio sources share one sequence of numbers and one timeline.

use super::PacketKind;
use serde::{Deserialize, Serialize};

use super::capture::Capture;
use super::frame_encoder::FrameEncoder;
use super::relay_state::RelayState;
use crate::codec::SampleRate;
use crate::codec::g711::Law;
use crate::network::Context;
use crate::room::MixedFrame;
use crate::rtp::sender::Sender;
use crate::rtp::{FIXED, FRAME, Header, dtmf};
use crate::sdp::{AudioPlan, Events};
use crate::timeline::Stamp;
use crate::transport::Transport;

/// The longest payload that we send, in octets. It is the payload of 20 ms of L16 at 16,000 Hz, with 640 octets. The
/// payload of 60 ms of G.711 has only 480 octets.
const LONGEST: usize = 640;
/// The highest number of frames in a packet.
const MAX_FRAMES: usize = 3;
/// The number of octets by which the buffer of a packet grows.
const ROOM: usize = 256;

/// The state of the RTP stream to a leg.
pub(super) struct Outbound {
    pub(super) sender: Sender,
    pub(super) relay: RelayState,
    packing: Packing,
    /// The encoder. It is created for the first frame that needs it ([`FrameEncoder`]).
    pub(super) encoder: Option<Box<FrameEncoder>>,
    /// The number of the other leg's packets that were not relayed.
    pub(super) not_relayed: u64,
}

/// The frames of a packet that is not complete yet.
struct Packing {
    /// The buffer of the packet. It is as long as the longest packet that the session has sent, and at most `FIXED +
    /// LONGEST`.
    packet: Vec<u8>,
    frames: usize,
    octets: usize,
    timestamp: u32,
}

/// An RTP stream as data.
#[derive(Serialize, Deserialize)]
pub(super) struct OutboundState {
    sender: Sender,
    relay: RelayState,
    /// The payload of the packet that is not complete yet, the number of its frames, and its timestamp.
    packed: Vec<u8>,
    frames: usize,
    timestamp: u32,
    not_relayed: u64,
}

impl Outbound {
    pub(super) fn state(&self) -> OutboundState {
        let Packing { packet, frames, octets, timestamp } = &self.packing;
        OutboundState {
            sender: self.sender.clone(),
            relay: self.relay,
            packed: packet.get(FIXED..FIXED + octets).unwrap_or_default().to_vec(),
            frames: *frames,
            timestamp: *timestamp,
            not_relayed: self.not_relayed,
        }
    }

    /// Creates the stream from data ([`Sender::resume`]). If frames were missed, the incomplete packet is dropped.
    pub(super) fn resume(state: OutboundState, missed: u32, skipped: u16) -> Outbound {
        let OutboundState { mut sender, relay, packed, frames, timestamp, not_relayed } = state;
        sender.resume(missed, skipped);
        let mut packing = Packing { packet: Vec::new(), frames: 0, octets: 0, timestamp };
        if missed == 0 && (1..MAX_FRAMES).contains(&frames) && packed.len() <= LONGEST {
            (packing.frames, packing.octets) = (frames, packed.len());
            packing.packet.resize(FIXED, 0);
            packing.packet.extend_from_slice(&packed);
        }
        Outbound { sender, relay, packing, encoder: None, not_relayed }
    }

    /// Creates the state. `seed` determines the random initial SSRC, sequence number and timestamp.
    pub(super) fn new(seed: u64) -> Outbound {
        Outbound {
            sender: Sender::new(seed),
            relay: RelayState::default(),
            packing: Packing { packet: Vec::new(), frames: 0, octets: 0, timestamp: 0 },
            encoder: None,
            not_relayed: 0,
        }
    }

    /// Applies the clock rate of a new plan. If a packet is not complete, its frames are dropped, because they belong
    /// to the old plan.
    pub(super) fn apply(&mut self, plan: &AudioPlan) {
        self.sender.set_clock_rate(plan.codec.clock_rate());
        (self.packing.frames, self.packing.octets) = (0, 0);
    }

    /// Whether frames wait for the rest of their packet.
    pub(super) fn is_packing(&self) -> bool {
        self.packing.frames > 0
    }

    /// Counts a packet of the other leg that was not relayed.
    pub(super) fn note_not_relayed(&mut self, from: &Header, cx: &mut Context<'_>) {
        self.count_not_relayed(cx);
        self.sender.skip(from);
    }

    fn count_not_relayed(&mut self, cx: &mut Context<'_>) {
        self.not_relayed += 1;
        cx.counts.dropped += 1;
    }
}

/// The outbound path: the leg's stream together with the plan, the transport and the readers.
pub(super) struct Output<'a> {
    pub(super) audio: &'a AudioPlan,
    pub(super) outbound: &'a mut Outbound,
    pub(super) transport: &'a mut Transport,
    pub(super) capture: &'a mut Capture,
}

impl Output<'_> {
    // ---- relay ----

    /// Changes another leg's packet of audio or comfort noise in place to a packet of this stream. For echo, the packet
    /// comes from the leg itself. Returns the packet to send, or `None` if the packet cannot be relayed.
    pub(super) fn rewrite<'p>(
        &mut self,
        from: &Header,
        kind: PacketKind,
        packet: &'p mut [u8],
        cx: &mut Context<'_>,
    ) -> Option<&'p mut [u8]> {
        let plan = self.audio;
        let (payload_type, units) = match kind {
            PacketKind::Audio(codec) if plan.passes(codec) => {
                (Some(plan.payload_type), codec.units(packet.get(from.payload.clone()).unwrap_or_default()))
            }
            PacketKind::Audio(_) => (None, 0),
            PacketKind::Noise => (plan.comfort_noise, 0),
            PacketKind::Events(_) => (None, 0),
        };
        let (Some(payload_type), true) = (payload_type, plan.sends) else {
            self.outbound.note_not_relayed(from, cx);
            return None;
        };
        self.flush(cx);
        let Some(header) = self.outbound.sender.relayed(from, payload_type, units) else {
            self.outbound.count_not_relayed(cx);
            return None;
        };
        let payload = packet.get_mut(header.payload.clone())?;
        if let PacketKind::Audio(codec) = kind {
            if let (Some(law), Some(to)) = (codec.law(), plan.codec.law()) {
                law.transcode(to, payload);
            }
            self.capture.handle_outbound_packet(&header, plan.codec, payload, cx);
        }
        self.outbound.relay.note_relayed(0);
        write_relayed(&header, packet, cx)
    }

    /// Changes another leg's telephone-event packet in place to a packet of this stream. The duration is converted to
    /// the clock rate of this leg's events. `transcoded` says that the other leg's audio is sent as frames, at the tick.
    /// Returns the packet to send, or `None` if the packet cannot be relayed.
    pub(super) fn rewrite_event<'p>(
        &mut self,
        from: &Header,
        clock_rate: u32,
        transcoded: bool,
        packet: &'p mut [u8],
        cx: &mut Context<'_>,
    ) -> Option<&'p mut [u8]> {
        let event = packet.get(from.payload.clone()).and_then(|payload| payload.first_chunk::<4>());
        let (Some([event, flags, ..]), Some(events), true) = (event, self.audio.events, self.audio.sends) else {
            self.outbound.note_not_relayed(from, cx);
            return None;
        };
        if !transcoded {
            self.flush(cx);
        }
        let clock_rates = (clock_rate, events.clock_rate);
        let event = (*event, flags & 0x80 != 0);
        let Some(header) = self.outbound.sender.relayed_event(from, events.payload_type, event, clock_rates) else {
            self.outbound.count_not_relayed(cx);
            return None;
        };
        if clock_rate != events.clock_rate {
            dtmf::rescale(packet.get_mut(header.payload.clone())?, clock_rate, events.clock_rate);
        }
        if !transcoded {
            self.outbound.relay.note_relayed(0);
        }
        write_relayed(&header, packet, cx)
    }

    // ---- telephone-events ----

    /// Sends a telephone-event packet, if a target is known and the plan permits sending. `timestamp` is the start of
    /// the event. `first` says that this is the first packet of the event.
    pub(super) fn send_event(
        &mut self,
        events: Events,
        timestamp: u32,
        first: bool,
        payload: [u8; 4],
        cx: &mut Context<'_>,
    ) {
        let (Some(target), true) = (self.transport.target(), self.audio.sends) else { return };
        let mut packet = [0; FIXED + 4];
        self.outbound.sender.event(events.payload_type, timestamp, first).write(&mut packet);
        if let Some(place) = packet.last_chunk_mut::<4>() {
            *place = payload;
        }
        self.transport.send_rtp(target, &packet, cx);
        cx.counts.packets_out += 1;
    }

    // ---- frames ----

    /// Sends a frame of G.711.
    pub(super) fn send_octets(&mut self, law: Law, octets: &[u8; FRAME], cx: &mut Context<'_>) {
        let Some(to) = self.audio.codec.law() else {
            let mut samples = [0; FRAME];
            law.decode(octets, &mut samples);
            return self.send_samples(&samples, SampleRate::Hz8000, cx);
        };
        let mut octets = *octets;
        law.transcode(to, &mut octets);
        let stamp = self.stamp(cx);
        self.capture.handle_outbound_octets(stamp, to, &octets);
        self.pack(&octets, cx);
    }

    /// Sends a frame of PCM.
    pub(super) fn send_samples(&mut self, samples: &[i16], rate: SampleRate, cx: &mut Context<'_>) {
        let codec = self.audio.codec;
        if let (Some(law), SampleRate::Hz8000) = (codec.law(), rate) {
            let mut octets = [0; FRAME];
            law.encode(samples, &mut octets);
            return self.send_octets(law, &octets, cx);
        }
        let stamp = self.stamp(cx);
        let encoder = match &mut self.outbound.encoder {
            Some(encoder) if encoder.codec() == codec => encoder,
            other => other.insert(Box::new(FrameEncoder::new(codec, rate))),
        };
        let mut octets = [0; LONGEST];
        let length = encoder.encode(samples, rate, &mut octets);
        let Some(octets) = octets.get(..length) else { return };
        match (codec.law(), octets.first_chunk::<FRAME>()) {
            (Some(law), Some(octets)) => self.capture.handle_outbound_octets(stamp, law, octets),
            _ => self.capture.handle_outbound_samples(stamp, || encoder.samples()),
        }
        self.pack(octets, cx);
    }

    /// Sends a frame of a room's mix. The frame is already encoded.
    pub(super) fn send_mixed(&mut self, mixed: MixedFrame<'_>, cx: &mut Context<'_>) {
        if let (Some(law), Some(octets)) = (self.audio.codec.law(), mixed.payload.first_chunk::<FRAME>()) {
            return self.send_octets(law, octets, cx);
        }
        let stamp = self.stamp(cx);
        self.capture.handle_outbound_samples(stamp, || mixed.samples);
        self.pack(mixed.payload, cx);
    }

    /// Records that nothing is sent in this frame.
    pub(super) fn start_pause(&mut self) {
        self.outbound.sender.pause();
        self.capture.handle_outbound_pause();
    }

    /// Returns the stamp of the next frame.
    fn stamp(&mut self, cx: &Context<'_>) -> Stamp {
        let Outbound { packing, sender, .. } = &mut *self.outbound;
        if packing.frames == 0 {
            packing.timestamp = sender.now();
        }
        let timestamp = packing.timestamp.wrapping_add(packing.frames as u32 * sender.frame());
        Stamp { timestamp, marker: false, arrival: cx.clock.units(cx.now, 8_000) }
    }

    /// Adds a frame in the agreed codec to the current packet, and sends the packet when it is complete.
    fn pack(&mut self, octets: &[u8], cx: &mut Context<'_>) {
        let Outbound { packing, sender, .. } = &mut *self.outbound;
        if !self.audio.sends {
            sender.pause();
            return;
        }
        let start = FIXED + packing.octets;
        let end = start + octets.len();
        if packing.packet.len() < end && end <= FIXED + LONGEST {
            // The buffer is longer than needed, because Opus frames have different lengths.
            packing.packet.resize(end.next_multiple_of(ROOM).min(FIXED + LONGEST), 0);
        }
        if let Some(place) = packing.packet.get_mut(start..end) {
            place.copy_from_slice(octets);
            packing.octets += octets.len();
            packing.frames += 1;
        }
        // The packet is sent now if another frame of this size does not fit.
        if packing.frames >= usize::from(self.audio.frames) || packing.octets + octets.len() > LONGEST {
            self.flush_now(cx);
        }
    }

    /// Sends the frames that wait, in a packet that is not full.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        if self.outbound.is_packing() {
            self.flush_now(cx);
        }
    }

    fn flush_now(&mut self, cx: &mut Context<'_>) {
        let Outbound { packing, sender, .. } = &mut *self.outbound;
        let units = std::mem::take(&mut packing.frames) as u32 * sender.frame();
        let octets = std::mem::take(&mut packing.octets);
        let Some(target) = self.transport.target() else { return };
        let count = self.audio.packets_per_frame();
        let (units, octets) = (units / u32::from(count), octets / usize::from(count));
        for number in 0..count {
            let timestamp = packing.timestamp.wrapping_add(u32::from(number) * units);
            let header = sender.audio(self.audio.payload_type, timestamp, units, octets);
            // The header of a later packet replaces the end of the previous packet, which has been sent.
            let start = usize::from(number) * octets;
            let Some(packet) = packing.packet.get_mut(start..start + FIXED + octets) else { return };
            header.write(packet);
            self.transport.send_rtp(target, packet, cx);
            cx.counts.packets_out += 1;
        }
    }
}

/// Writes the header of a relayed packet, and returns the packet to send. CSRCs, extensions and padding are not relayed.
/// So a plain header is written right before the payload.
fn write_relayed<'p>(header: &Header, packet: &'p mut [u8], cx: &mut Context<'_>) -> Option<&'p mut [u8]> {
    let packet = packet.get_mut(header.payload.start - FIXED..header.payload.end)?;
    header.write(packet);
    cx.counts.packets_out += 1;
    cx.counts.relayed += 1;
    Some(packet)
}
