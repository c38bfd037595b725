//! What a leg is sent in a frame: `digits > playback > source > input > relay | echo > silence`, packed as the peer wants it.

use super::frame_encoder::FrameEncoder;
use super::{Context, LONGEST, MARKS, MediaSession};
use crate::codec::SampleRate;
use crate::codec::g711::Law;
use crate::engine::Flow;
use crate::event::{Event, FinishReason};
use crate::room::Said;
use crate::rtp::dtmf::{self, DigitFrame};
use crate::rtp::{FIXED, FRAME};
use crate::source::Spoken;
use crate::timeline::Stamp;
use crate::tone::{Tone, ToneGenerator};

/// Octets by which the buffer of what is packed grows.
const ROOM: usize = 256;

/// Frames after which a leg that is bridged to one that says nothing is sent a packet of silence, for a router on its way or a
/// peer that waits for it: a second, as nearly all have begun to speak by then.
const OPEN: u8 = 50;
/// Frames from there to the next one, to keep the way open: half a second.
const KEEP_OPEN: u8 = 25;
/// Frames without a relayed packet after which the other side counts as saying nothing: two seconds, more than pauses in speech.
const FELL_SILENT: u8 = 100;

/// A frame from elsewhere to be said.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// What the bridge's other side sounds like, 20 ms at that rate.
    Bridge(&'a [i16], SampleRate),
    /// A room's mix, in our codec.
    Room(Said<'a>),
}

impl MediaSession {
    /// Third pass of a frame: sends its audio, from whatever comes first.
    pub(super) fn speak(&mut self, input: Option<Input<'_>>, cx: &mut Context<'_>) {
        let Some(plan) = &self.plan else { return };
        let law = plan.codec.law().unwrap_or(Law::Mu);
        // Until it is known where to, a prompt waits; on hold it goes on unheard.
        if plan.remote.is_none() && self.latch.target().is_none() && plan.sends {
            return;
        }
        if self.digits.is_some() && self.speak_digit(cx) {
            self.hold_source();
            return;
        }
        if let Some(playback) = &mut self.playback {
            let mut samples = [0; FRAME];
            if playback.next_frame(&mut samples) {
                self.say_samples(&samples, SampleRate::Hz8000, cx);
                self.hold_source();
                return;
            }
            let op = playback.op;
            self.playback = None;
            self.emit(Event::Finished { op, reason: FinishReason::Completed });
        }
        if let Some(mut source) = self.source.take() {
            let op = source.op;
            let most = self.most_marks();
            let spoken = source.next_frame(most, |name| self.emit(Event::MarkReached { op, name }));
            self.source = Some(source);
            match spoken {
                Some(Spoken::Octets(law, octets)) => return self.say_octets(law, &octets, cx),
                Some(Spoken::Samples(samples, rate)) => {
                    return self.say_samples(samples.get(..rate.frame()).unwrap_or_default(), rate, cx);
                }
                None => {}
            }
        }
        self.fresh &= input.is_none();
        match input {
            Some(Input::Bridge(samples, rate)) => return self.say_samples(samples, rate, cx),
            Some(Input::Room(said)) => return self.say_mixed(said, cx),
            None => {}
        }
        let mut passes = self.relayed_any && (self.bridged_with.is_some() || self.echo);
        if passes && self.hush >= FELL_SILENT {
            (self.relayed_any, passes, self.fresh, self.hush) = (false, false, true, OPEN - 1);
        }
        // One that is bridged to somebody who says nothing needs no more than that its way stays open.
        self.fresh &= !passes;
        let waits = self.fresh && self.tracks.is_none();
        self.hush = match (passes, waits) {
            (true, _) => self.hush + 1,
            (false, true) if self.hush < OPEN => self.hush + 1,
            (false, true) => OPEN - KEEP_OPEN + 1,
            (false, false) => 0,
        };
        if self.send_silence && !passes && (!waits || self.packing.frames > 0 || self.hush == OPEN) {
            self.say_octets(law, &[law.silence(); FRAME], cx);
        } else {
            if self.packing.frames > 0 {
                self.flush_packing(cx);
            }
            if !passes {
                self.sender.pause();
                if let Some(tracks) = &mut self.tracks {
                    tracks.outbound.rest();
                }
            }
        }
    }

    fn hold_source(&mut self) {
        if let Some(mut source) = self.source.take() {
            let op = source.op;
            source.hold(self.most_marks(), |name| self.emit(Event::MarkReached { op, name }));
            self.source = Some(source);
        }
    }

    /// How many marks may be told in this frame: none while the sink is full.
    fn most_marks(&self) -> usize {
        if self.events.backlog() == 0 { MARKS } else { 0 }
    }

    /// True when the frame is taken by a key press.
    fn speak_digit(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(digits) = &mut self.digits else { return false };
        let clock_rate = self.plan.as_ref().and_then(|plan| plan.events).map_or(8_000, |events| events.clock_rate);
        let frame = digits.sender.next_frame(clock_rate);
        let (event, end, duration, offset, first) = match frame {
            DigitFrame::Gap => return false,
            DigitFrame::Done => {
                let op = digits.op;
                self.digits = None;
                self.emit(Event::Finished { op, reason: FinishReason::Completed });
                return false;
            }
            DigitFrame::Event { event, end, duration, offset, first } => (event, end, duration, offset, first),
        };
        if self.packing.frames > 0 {
            self.flush_packing(cx);
        }
        let (Some(plan), Some(digits)) = (&self.plan, &mut self.digits) else { return false };
        let Some(payload_type) = plan.events.map(|events| events.payload_type) else {
            // In the audio itself; the retransmitted ends are the gap.
            if first {
                let key = dtmf::key(event).unwrap_or('0');
                let milliseconds = digits.sender.duration_ms();
                digits.tone = Some(ToneGenerator::new(Tone::Key { key, milliseconds }));
            }
            let mut samples = [0; FRAME];
            if let Some(tone) = &mut digits.tone {
                tone.next_frame(&mut samples);
            }
            self.say_samples(&samples, SampleRate::Hz8000, cx);
            return true;
        };
        if first {
            digits.timestamp = self.sender.now();
        }
        let (Some(target), true) = (self.latch.target(), plan.sends) else { return true };
        let header = self.sender.event(payload_type, digits.timestamp.wrapping_add(offset), first);
        let mut packet = [0; FIXED + 4];
        header.write(&mut packet);
        if let Some(payload) = packet.last_chunk_mut::<4>() {
            let [high, low] = duration.to_be_bytes();
            // Volume 10: -10 dBm0, as phones send.
            *payload = [event, if end { 0x8A } else { 0x0A }, high, low];
        }
        self.srtp.send(Flow::Rtp, target, &packet, cx);
        cx.counts.packets_out += 1;
        true
    }

    /// Says a frame of G.711.
    fn say_octets(&mut self, law: Law, octets: &[u8; FRAME], cx: &mut Context<'_>) {
        let Some(to) = self.plan.as_ref().and_then(|plan| plan.codec.law()) else {
            let mut samples = [0; FRAME];
            law.decode(octets, &mut samples);
            return self.say_samples(&samples, SampleRate::Hz8000, cx);
        };
        let mut octets = *octets;
        law.transcode(to, &mut octets);
        let stamp = self.stamp(cx);
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_octets(stamp, to, &octets);
        }
        self.pack(&octets, cx);
    }

    /// Says a frame of PCM.
    fn say_samples(&mut self, samples: &[i16], rate: SampleRate, cx: &mut Context<'_>) {
        let Some(plan) = &self.plan else { return };
        let codec = plan.codec;
        if let (Some(law), SampleRate::Hz8000) = (codec.law(), rate) {
            let mut octets = [0; FRAME];
            law.encode(samples, &mut octets);
            return self.say_octets(law, &octets, cx);
        }
        let stamp = self.stamp(cx);
        let voice = match &mut self.voice {
            Some(voice) if voice.codec() == codec => voice,
            other => other.insert(Box::new(FrameEncoder::new(codec))),
        };
        let mut octets = [0; LONGEST];
        let length = voice.encode(samples, rate, &mut octets);
        let Some(octets) = octets.get(..length) else { return };
        if let Some(tracks) = &mut self.tracks {
            match (codec.law(), octets.first_chunk::<FRAME>()) {
                (Some(law), Some(octets)) => tracks.outbound.handle_octets(stamp, law, octets),
                _ => tracks.outbound.handle_samples(stamp, voice.samples()),
            }
        }
        self.pack(octets, cx);
    }

    /// Says a frame that is encoded already.
    fn say_mixed(&mut self, said: Said<'_>, cx: &mut Context<'_>) {
        let law = self.plan.as_ref().and_then(|plan| plan.codec.law());
        if let (Some(law), Some(octets)) = (law, said.payload.first_chunk::<FRAME>()) {
            return self.say_octets(law, octets, cx);
        }
        let stamp = self.stamp(cx);
        if let Some(tracks) = &mut self.tracks {
            tracks.outbound.handle_samples(stamp, said.samples);
        }
        self.pack(said.payload, cx);
    }

    /// Of the frame that is about to be packed.
    fn stamp(&mut self, cx: &Context<'_>) -> Stamp {
        if self.packing.frames == 0 {
            self.packing.timestamp = self.sender.now();
        }
        let timestamp = self.packing.timestamp.wrapping_add(self.packing.frames as u32 * self.sender.frame());
        Stamp { timestamp, marker: false, arrival: cx.clock.units(cx.now, 8_000) }
    }

    /// Sends one frame of the negotiated codec, or packs it with others.
    fn pack(&mut self, octets: &[u8], cx: &mut Context<'_>) {
        let Some(plan) = &self.plan else { return };
        let frames = usize::from(plan.frames);
        if !plan.sends {
            self.sender.pause();
            return;
        }
        let start = FIXED + self.packing.octets;
        let packet = &mut self.packing.packet;
        let end = start + octets.len();
        if packet.len() < end && end <= FIXED + LONGEST {
            // With room to spare: Opus makes each as long as it must be.
            packet.resize(end.next_multiple_of(ROOM).min(FIXED + LONGEST), 0);
        }
        if let Some(place) = packet.get_mut(start..start + octets.len()) {
            place.copy_from_slice(octets);
            self.packing.octets += octets.len();
            self.packing.frames += 1;
        }
        // A frame more of the same size must find room.
        if self.packing.frames >= frames || self.packing.octets + octets.len() > LONGEST {
            self.flush_packing(cx);
        }
    }

    pub(super) fn flush_packing(&mut self, cx: &mut Context<'_>) {
        let units = std::mem::take(&mut self.packing.frames) as u32 * self.sender.frame();
        let octets = std::mem::take(&mut self.packing.octets);
        let (Some(plan), Some(target)) = (&self.plan, self.latch.target()) else { return };
        let header = self.sender.audio(plan.payload_type, self.packing.timestamp, units, octets);
        let Some(packet) = self.packing.packet.get_mut(..FIXED + octets) else { return };
        header.write(packet);
        self.srtp.send(Flow::Rtp, target, packet, cx);
        cx.counts.packets_out += 1;
    }
}
