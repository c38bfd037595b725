//! Measures the mixing of a room for each frame of 20 ms: `cargo bench -p tandem-media --bench mixer`. One core must
//! mix a frame of all its rooms within 20 ms.

mod measure;
#[path = "../../media/testing/voice.rs"]
#[allow(dead_code, clippy::indexing_slicing, reason = "it is the tests'")]
mod voice;

use std::hint::black_box;

use tandem_media::{LegId, Mix, Mixer, Participation, Resampler, SampleRate, g711};

/// The number of different voices. The speakers use the voices in turn.
const VOICES: usize = 13;
/// The number of frames after which a voice repeats. These are 1.6 s of speech and a pause. Without the pause the
/// speech would count as noise.
const FRAMES: usize = 100;

fn main() {
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
        for participants in [3, 10, 50, 250] {
            for speaking in [participants, 5, 1] {
                if speaking <= participants {
                    room(rate, participants, speaking, false);
                    // At another rate, a narrowband codec would need resampling.
                    if rate == SampleRate::Hz8000 {
                        room(rate, participants, speaking, true);
                    }
                }
            }
        }
    }
}

/// Runs a room: adds a frame of each participant, mixes the room, and reads the mix of each participant. If `encodes`
/// is set, each mix is encoded as PCMU, and a mix that several participants share is encoded once. Participants that do
/// not speak send the idle noise of a line.
fn room(rate: SampleRate, participants: usize, speaking: usize, encodes: bool) {
    let mut mixer = Mixer::new(rate);
    mixer.start();
    for key in 0..participants {
        mixer.join(LegId(key as u128), Participation::default());
    }
    let voices: Vec<Vec<i16>> = (1..=VOICES).map(|seed| say(seed as u32, rate)).collect();
    let idle: Vec<i16> = (0..rate.frame() as i32).map(|n| (n * 7_919 % 9 - 4) as i16).collect();
    let mut octets = [0u8; SampleRate::Hz8000.frame()];
    let mut turn = |frame: usize| {
        for slot in 0..participants {
            let voice = voices.get(slot % VOICES).filter(|_| slot < speaking);
            // The speakers pause at different times.
            let at = (frame + slot * 17) % FRAMES * rate.frame();
            mixer.add_frame(slot, rate, voice.and_then(|voice| voice.get(at..at + rate.frame())).unwrap_or(&idle));
        }
        mixer.mix();
        let mut shared = false;
        for slot in 0..participants {
            match mixer.mix_for(slot) {
                Mix::Own(samples) if encodes => encode(samples, &mut octets),
                Mix::Shared(samples) if encodes && !std::mem::replace(&mut shared, true) => {
                    encode(samples, &mut octets);
                }
                mix => {
                    black_box(mix);
                }
            }
        }
    };
    let kilohertz = rate.hertz() / 1_000;
    let encoded = if encodes { ", encoded" } else { "" };
    let mut frame = 0;
    measure::case(&format!("room, {kilohertz} kHz, {speaking} of {participants} speak{encoded}"), 1, || {
        turn(frame);
        frame += 1;
    });
}

/// Returns [`FRAMES`] frames of a voice.
fn say(seed: u32, rate: SampleRate) -> Vec<i16> {
    let mut voice = voice::Voice::new(seed);
    let mut speech = voice.say(FRAMES * 16);
    speech.extend(voice.silence(FRAMES * 4, -70.0));
    let mut resampler = Resampler::new(SampleRate::Hz8000, rate);
    let mut frame = vec![0; rate.frame()];
    let mut at_rate = Vec::new();
    for piece in speech.chunks_exact(SampleRate::Hz8000.frame()) {
        resampler.process(piece, &mut frame);
        at_rate.extend_from_slice(&frame);
    }
    at_rate
}

fn encode(samples: &[i16], octets: &mut [u8]) {
    for (octet, sample) in octets.iter_mut().zip(samples) {
        *octet = g711::linear_to_ulaw(*sample);
    }
    black_box(octets);
}
