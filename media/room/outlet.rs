//! The room's mix as participants are sent it: at the codec's rate, encoded. Once for all who hear the same in the same
//! codec, and for each who hears something of its own.
//!
//! Resamplers and the encoders of G.722 and Opus remember. So whoever turns from what all hear to something of its own
//! goes on from the state of the shared encoding, and turns back when its own has caught up with that.

use crate::codec::{Codec, Encoder, LONGEST_PAYLOAD, SampleRate};
use crate::mixer::{Kind, Mix, Mixer};
use crate::resample::Resampler;

/// Frames of the same sound after which a resampler has forgotten what it heard before.
const FORGOTTEN: u16 = 2;
/// Frames after which an encoder that remembers has nearly done so, 1 s. The next quiet one (a mean magnitude of -41 dBFS)
/// is the one to change at, or any after 30 s: two states of G.722 are then still 28 dB below a loud tone apart.
const ALIKE: u16 = 50;
const QUIET: f32 = 300.0;
const ENOUGH: u16 = 1_500;

/// What a participant is sent in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    /// At `rate`, that of its codec.
    pub(crate) samples: &'a [i16],
    pub(crate) rate: SampleRate,
    /// The same, encoded.
    pub(crate) payload: &'a [u8],
}

/// All of a room.
#[derive(Default)]
pub(super) struct Outlets {
    shared: Vec<Shared>,
    /// By slot.
    legs: Vec<Option<Leg>>,
    frame: u64,
}

/// Something that many hear, in one codec.
struct Shared {
    kind: Kind,
    chain: Chain,
}

struct Leg {
    codec: Codec,
    /// What it is sent: what all hear, of that kind, or its own.
    hears: Kind,
    own: Option<Box<Chain>>,
    /// Frames for which its own was what all hear.
    alike: u16,
    /// The last frame that it was sent something in.
    frame: u64,
}

/// From the room's samples to a payload.
struct Chain {
    codec: Codec,
    resampler: Resampler,
    encoder: Encoder,
    samples: Vec<i16>,
    payload: Vec<u8>,
    length: usize,
    /// The frame that it holds.
    frame: u64,
    /// Samples of a frame of the room.
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

    /// After each mix: who goes on from where. Nothing is encoded yet, so all stand where the last frame ended.
    pub(super) fn handle_mix(&mut self, mixer: &Mixer) {
        self.frame += 1;
        let last = self.frame - 1;
        let (silent, quiet) = (mixer.is_silent(), mixer.level() < QUIET);
        for (slot, leg) in self.legs.iter_mut().enumerate() {
            let Some(leg) = leg.as_mut().filter(|leg| leg.frame == last) else { continue };
            let wanted = match mixer.kind_for(slot) {
                Kind::Silence if silent => Kind::Whole,
                Kind::Silence => Kind::Own,
                kind => kind,
            };
            if wanted == leg.hears {
                leg.alike = 0;
                continue;
            }
            let (codec, hears) = (leg.codec, leg.hears);
            let shared = |kind: Kind| move |one: &&mut Shared| one.kind == kind && one.chain.codec == codec;
            if hears == Kind::Own {
                leg.alike = leg.alike.saturating_add(1);
                let due = if remembers(codec) {
                    leg.alike >= ENOUGH || (leg.alike >= ALIKE && quiet)
                } else {
                    leg.alike >= FORGOTTEN
                };
                if !due {
                    continue;
                }
                (leg.hears, leg.alike) = (wanted, 0);
                // When nobody listened to what all hear, that goes on from here.
                if let Some(own) = &leg.own
                    && let Some(shared) = self.shared.iter_mut().find(shared(wanted))
                    && shared.chain.frame != last
                {
                    shared.chain.follow(own, last);
                }
                continue;
            }
            let own = leg.own.get_or_insert_with(|| Box::new(Chain::new(codec, mixer.rate())));
            if let Some(shared) = self.shared.iter_mut().find(shared(hears)) {
                own.follow(&shared.chain, last);
            }
            leg.hears = Kind::Own;
            leg.alike = 0;
        }
    }

    /// What somebody is sent of the last mix.
    pub(super) fn say(&mut self, mixer: &mut Mixer, slot: usize, codec: Codec) -> Option<Said<'_>> {
        let (now, rate) = (self.frame, mixer.rate());
        let place = self.legs.get_mut(slot)?;
        // It begins, or begins anew: after another codec, or after it was sent something else.
        if place.as_ref().is_none_or(|leg| leg.codec != codec || leg.frame + 1 < now) {
            let hears = match mixer.kind_for(slot) {
                Kind::Silence if mixer.is_silent() => Kind::Whole,
                Kind::Silence => Kind::Own,
                kind => kind,
            };
            *place = Some(Leg { codec, hears, own: None, alike: 0, frame: now });
        }
        let leg = place.as_mut()?;
        leg.frame = now;
        let hears = leg.hears;
        if hears == Kind::Own {
            let chain = leg.own.get_or_insert_with(|| Box::new(Chain::new(codec, rate)));
            if chain.frame != now {
                chain.reset_unless_live(now);
                match mixer.mix_for(slot) {
                    Mix::Silence => chain.step(None, now),
                    Mix::Whole(samples) | Mix::Music(samples) | Mix::Own(samples) => chain.step(Some(samples), now),
                }
            }
            return Some(chain.said());
        }
        let index = self.shared.iter().position(|one| one.kind == hears && one.chain.codec == codec);
        let index = index.unwrap_or_else(|| {
            self.shared.push(Shared { kind: hears, chain: Chain::new(codec, rate) });
            self.shared.len() - 1
        });
        let chain = &mut self.shared.get_mut(index)?.chain;
        if chain.frame != now {
            chain.reset_unless_live(now);
            chain.step(Some(if hears == Kind::Music { mixer.music() } else { mixer.whole() }), now);
        }
        Some(chain.said())
    }
}

impl Chain {
    fn new(codec: Codec, room: SampleRate) -> Chain {
        // What the session's own tracks, for recorders and taps, have of it.
        let encoder = Encoder::new(codec, codec.sample_rate());
        let rate = encoder.rate();
        // An Opus packet of 20 ms is never longer than its samples at 48 kHz would be, but may be than those at 8 kHz.
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

    /// Nobody heard the frame before.
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

    fn said(&self) -> Said<'_> {
        Said {
            samples: &self.samples,
            rate: self.encoder.rate(),
            payload: self.payload.get(..self.length).unwrap_or_default(),
        }
    }
}

/// Whether an encoder's next payload depends on those before.
fn remembers(codec: Codec) -> bool {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::L16(_) => false,
        Codec::G722 | Codec::Opus => true,
    }
}

#[cfg(test)]
mod tests;
