//! What a leg is sent in a frame: `digits > playback > source > relay | echo > silence`, packed as the peer wants it.

use super::{MARKS, MediaSession, Surroundings};
use crate::codec::g711::Law;
use crate::engine::Flow;
use crate::event::{Event, FinishReason};
use crate::rtp::dtmf::{self, DigitFrame};
use crate::rtp::{FIXED, FRAME};
use crate::timeline::Stamp;
use crate::tone::{Tone, ToneGenerator};

impl MediaSession {
    /// Sends this frame's audio, from whatever comes first.
    pub(super) fn speak(&mut self, around: &mut Surroundings<'_>) {
        let Some(plan) = &self.plan else { return };
        let law = plan.law();
        // Until it is known where to, a prompt waits; on hold it goes on unheard.
        if plan.remote.is_none() && self.latch.target().is_none() && plan.sends {
            return;
        }
        let mut octets = [0; FRAME];
        if self.digits.is_some() && self.speak_digit(law, around) {
            self.hold_source();
            return;
        }
        if let Some(playback) = &mut self.playback {
            let mut samples = [0; FRAME];
            if playback.next_frame(&mut samples) {
                law.encode(&samples, &mut octets);
                self.send_frame(&octets, around);
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
            let filled = source.next_frame(law, &mut octets, most, |name| self.emit(Event::MarkReached { op, name }));
            self.source = Some(source);
            if filled > 0 {
                self.send_frame(&octets, around);
                return;
            }
        }
        let passes = self.relayed_any && (self.peer.is_some() || self.echo);
        if self.send_silence && !passes {
            octets.fill(law.silence());
            self.send_frame(&octets, around);
        } else {
            if self.packing.frames > 0 {
                self.flush_packing(around);
            }
            if !passes {
                self.sender.pause();
                if let Some(timelines) = &mut self.timelines {
                    timelines.outbound.rest();
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
        if self.backlog.is_empty() { MARKS } else { 0 }
    }

    /// True when the frame is taken by a key press.
    fn speak_digit(&mut self, law: Law, around: &mut Surroundings<'_>) -> bool {
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
            self.flush_packing(around);
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
            let mut octets = [0; FRAME];
            law.encode(&samples, &mut octets);
            self.send_frame(&octets, around);
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
        around.network.send(around.slot, Flow::Rtp, target, &packet);
        around.counts.packets_out += 1;
        true
    }

    /// Sends one frame of the negotiated codec, or packs it with others.
    fn send_frame(&mut self, octets: &[u8; FRAME], around: &mut Surroundings<'_>) {
        let Some(plan) = &self.plan else { return };
        let (frames, sends, law) = (usize::from(plan.frames), plan.sends, plan.law());
        if self.packing.frames == 0 {
            self.packing.timestamp = self.sender.now();
        }
        let timestamp = self.packing.timestamp.wrapping_add((self.packing.frames * FRAME) as u32);
        if let Some(timelines) = &mut self.timelines {
            let stamp = Stamp { timestamp, marker: false, arrival: around.clock.units(around.now, 8_000) };
            timelines.outbound.write_octets(stamp, law, octets);
        }
        if !sends {
            self.sender.pause();
            return;
        }
        let start = FIXED + self.packing.frames * FRAME;
        if let Some(place) = self.packing.packet.get_mut(start..start + FRAME) {
            place.copy_from_slice(octets);
            self.packing.frames += 1;
        }
        if self.packing.frames >= frames {
            self.flush_packing(around);
        }
    }

    pub(super) fn flush_packing(&mut self, around: &mut Surroundings<'_>) {
        let samples = std::mem::take(&mut self.packing.frames) * FRAME;
        let (Some(plan), Some(target)) = (&self.plan, self.latch.target()) else { return };
        let header = self.sender.audio(plan.payload_type, self.packing.timestamp, samples);
        let Some(packet) = self.packing.packet.get_mut(..FIXED + samples) else { return };
        header.write(packet);
        around.network.send(around.slot, Flow::Rtp, target, packet);
        around.counts.packets_out += 1;
    }
}
