//! Resamples the room's mix and encodes it in the participants' codecs. For participants that hear the same mix in the
//! same codec, the mix is encoded once. A participant that hears its own mix needs an encoder of its own.
//!
//! Resamplers and the encoders of G.722 and Opus have state. A participant that changes from a shared mix to its own
//! mix continues with a copy of the shared state. The participant changes back when the state of its own encoder is
//! close enough to the shared state.

use crate::codec::{Codec, Encoder, LONGEST_PAYLOAD, SampleRate};
use crate::mixer::{Kind, Mix, Mixer};
use crate::resample::Resampler;

/// The number of successive frames with equal audio after which two resamplers have the same state.
const EQUAL_RESAMPLER_FRAMES: u16 = 2;
/// The number of successive frames with equal audio after which two encoders with state have nearly the same state.
/// They last 1 s. After that, a participant changes back to the shared mix at the next quiet frame (a mean magnitude of
/// -41 dBFS), or after 30 s at the latest. At this time, the outputs of two G.722 encoders still differ. The difference
/// is 28 dB below a loud tone.
const EQUAL_ENCODER_FRAMES: u16 = 50;
const QUIET: f32 = 300.0;
const FORCED_CHANGE_FRAMES: u16 = 1_500;

/// The audio of one frame for one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MixedFrame<'a> {
    /// The samples at the sample rate of the codec, which is `rate`.
    pub(crate) samples: &'a [i16],
    pub(crate) rate: SampleRate,
    /// The payload, which contains the same samples in encoded form.
    pub(crate) payload: &'a [u8],
}

/// The encoders of a room.
#[derive(Default)]
pub(super) struct Outlets {
    shared: Vec<Shared>,
    /// The participants, indexed by slot.
    legs: Vec<Option<Leg>>,
    frame: u64,
}

/// A mix that several participants hear, in one codec.
struct Shared {
    kind: Kind,
    chain: Chain,
}

struct Leg {
    codec: Codec,
    /// The kind of mix that the participant hears: a shared mix, or its own mix.
    mix_kind: Kind,
    own: Option<Box<Chain>>,
    /// The number of successive frames in which the participant's own mix was equal to a shared mix.
    equal_frames: u16,
    /// The number of the last frame in which the participant got audio.
    frame: u64,
}

/// Converts the room's samples to a payload.
struct Chain {
    codec: Codec,
    resampler: Resampler,
    encoder: Encoder,
    samples: Vec<i16>,
    payload: Vec<u8>,
    length: usize,
    /// The number of the frame in `samples` and `payload`.
    frame: u64,
    /// The number of samples in a frame at the room's rate.
    room: usize,
}

impl Outlets {
    pub(super) fn join(&mut self, slot: usize) {
        if self.legs.len() <= slot {
            self.legs.resize_with(slot + 1, || None);
        }
        self.leave(slot);
    }

    pub(super) fn leave(&mut self, slot: usize) {
        if let Some(leg) = self.legs.get_mut(slot) {
            *leg = None;
        }
    }

    /// Decides which participants change between a shared mix and their own mix. Call this after each mix. No audio of
    /// this frame is encoded yet, so all encoders still have the state after the last frame.
    pub(super) fn handle_mix(&mut self, mixer: &Mixer) {
        self.frame += 1;
        let last = self.frame - 1;
        let (silent, quiet) = (mixer.is_silent(), mixer.level() < QUIET);
        for (slot, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg.as_mut().filter(|leg| leg.frame == last) else { continue };
            let wanted = match mixer.kind_for(slot) {
                Kind::Silence if silent => Kind::Shared,
                Kind::Silence => Kind::Own,
                kind => kind,
            };
            if wanted == leg.mix_kind {
                leg.equal_frames = 0;
                continue;
            }
            let (codec, mix_kind) = (leg.codec, leg.mix_kind);
            let shared = |kind: Kind| move |one: &&mut Shared| one.kind == kind && one.chain.codec == codec;
            if mix_kind == Kind::Own {
                leg.equal_frames = leg.equal_frames.saturating_add(1);
                let due = if has_state(codec) {
                    leg.equal_frames >= FORCED_CHANGE_FRAMES || (leg.equal_frames >= EQUAL_ENCODER_FRAMES && quiet)
                } else {
                    leg.equal_frames >= EQUAL_RESAMPLER_FRAMES
                };
                if !due {
                    continue;
                }
                (leg.mix_kind, leg.equal_frames) = (wanted, 0);
                // If no participant used the shared encoder, the shared encoder continues with the state of this
                // participant's encoder.
                if let Some(own) = &leg.own
                    && let Some(shared) = self.shared.iter_mut().find(shared(wanted))
                    && shared.chain.frame != last
                {
                    shared.chain.follow(own, last);
                }
                continue;
            }
            let own = leg.own.get_or_insert_with(|| Box::new(Chain::new(codec, mixer.rate())));
            if let Some(shared) = self.shared.iter_mut().find(shared(mix_kind)) {
                own.follow(&shared.chain, last);
            }
            leg.mix_kind = Kind::Own;
            leg.equal_frames = 0;
        }
    }

    /// Returns the audio of the last mix for a participant.
    pub(super) fn frame_for(&mut self, mixer: &mut Mixer, slot: usize, codec: Codec) -> Option<MixedFrame<'_>> {
        let (now, rate) = (self.frame, mixer.rate());
        let place = self.legs.get_mut(slot)?;
        // The participant's stream starts here. It starts again after a change of codec, and after frames that did not
        // come from the room.
        if place.as_ref().is_none_or(|leg| leg.codec != codec || leg.frame + 1 < now) {
            let mix_kind = match mixer.kind_for(slot) {
                Kind::Silence if mixer.is_silent() => Kind::Shared,
                Kind::Silence => Kind::Own,
                kind => kind,
            };
            *place = Some(Leg { codec, mix_kind, own: None, equal_frames: 0, frame: now });
        }
        let leg = place.as_mut()?;
        leg.frame = now;
        let mix_kind = leg.mix_kind;
        if mix_kind == Kind::Own {
            let chain = leg.own.get_or_insert_with(|| Box::new(Chain::new(codec, rate)));
            if chain.frame != now {
                chain.reset_unless_live(now);
                match mixer.mix_for(slot) {
                    Mix::Silence => chain.step(None, now),
                    Mix::Shared(samples) | Mix::Music(samples) | Mix::Own(samples) => chain.step(Some(samples), now),
                }
            }
            return Some(chain.mixed_frame());
        }
        let index = self.shared.iter().position(|one| one.kind == mix_kind && one.chain.codec == codec);
        let index = index.unwrap_or_else(|| {
            self.shared.push(Shared { kind: mix_kind, chain: Chain::new(codec, rate) });
            self.shared.len() - 1
        });
        let chain = &mut self.shared.get_mut(index)?.chain;
        if chain.frame != now {
            chain.reset_unless_live(now);
            chain.step(Some(if mix_kind == Kind::Music { mixer.music() } else { mixer.shared_mix() }), now);
        }
        Some(chain.mixed_frame())
    }
}

impl Chain {
    fn new(codec: Codec, room: SampleRate) -> Chain {
        // The session's own tracks have this rate, for recorders and taps.
        let encoder = Encoder::new(codec, codec.sample_rate());
        let rate = encoder.rate();
        // An Opus packet of 20 ms can have more octets than its samples at 8,000 Hz, but not more than its samples at
        // 48,000 Hz.
        let longest = if codec == Codec::Opus { 1_275 } else { rate.frame() * 2 };
        Chain {
            codec,
            resampler: Resampler::new(room, rate),
            encoder,
            samples: vec![0; rate.frame()],
            payload: vec![0; longest.min(LONGEST_PAYLOAD)],
            length: 0,
            frame: 0,
            room: room.frame(),
        }
    }

    fn follow(&mut self, other: &Chain, frame: u64) {
        self.resampler = other.resampler.clone();
        self.encoder.follow(&other.encoder);
        self.frame = frame;
    }

    /// Resets the resampler and the encoder if the previous frame was not encoded.
    fn reset_unless_live(&mut self, now: u64) {
        if self.frame + 1 != now {
            self.resampler.reset();
            self.encoder.reset();
        }
    }

    fn step(&mut self, samples: Option<&[i16]>, now: u64) {
        const SILENCE: [i16; SampleRate::Hz48000.frame()] = [0; SampleRate::Hz48000.frame()];
        let silence = SILENCE.get(..self.room).unwrap_or_default();
        self.resampler.process(samples.unwrap_or(silence), &mut self.samples);
        self.length = self.encoder.encode(&self.samples, &mut self.payload);
        self.frame = now;
    }

    fn mixed_frame(&self) -> MixedFrame<'_> {
        MixedFrame {
            samples: &self.samples,
            rate: self.encoder.rate(),
            payload: self.payload.get(..self.length).unwrap_or_default(),
        }
    }
}

/// Whether the next payload of the codec's encoder depends on earlier payloads.
fn has_state(codec: Codec) -> bool {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::L16(_) => false,
        Codec::G722 | Codec::Opus => true,
    }
}

#[cfg(test)]
mod tests;
