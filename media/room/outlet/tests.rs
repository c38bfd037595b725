use super::*;
use crate::codec::Decoder;
use crate::command::LegId;
use crate::room::{Hold, Participation};

/// A room with participants. Each participant has a codec, and the decoder that the participant's phone would use.
struct Set {
    mixer: Mixer,
    outlets: Outlets,
    codecs: Vec<Codec>,
    decoders: Vec<Decoder>,
}

impl Set {
    fn new(rate: SampleRate, codecs: &[Codec]) -> Set {
        let mut mixer = Mixer::new(rate);
        mixer.start();
        let mut outlets = Outlets::default();
        for number in 0..codecs.len() {
            let slot = mixer.join(LegId(number as u128), Participation::default()).unwrap();
            outlets.join(slot);
        }
        let decoders = codecs.iter().map(|codec| Decoder::new(*codec, rate)).collect();
        Set { mixer, outlets, codecs: codecs.to_vec(), decoders }
    }

    /// Runs one frame. `audio` contains the audio of participants, at the sample rates of their codecs. Returns the
    /// decoded audio of each participant, and whether the participant heard its own mix.
    fn step(&mut self, audio: &[(usize, &[i16])]) -> Vec<(Vec<i16>, bool)> {
        for (slot, samples) in audio {
            self.mixer.add_frame(*slot, self.codecs[*slot].sample_rate(), samples);
        }
        self.mixer.mix();
        self.outlets.handle_mix(&self.mixer);
        (0..self.codecs.len())
            .map(|slot| {
                let audio = self.outlets.frame_for(&mut self.mixer, slot, self.codecs[slot]).unwrap();
                let mut samples = vec![0; SampleRate::Hz48000.frame()];
                let length = self.decoders[slot].decode(audio.payload, &mut samples).unwrap();
                samples.truncate(length);
                let own = self.outlets.legs[slot].as_ref().unwrap().mix_kind == Kind::Own;
                (samples, own)
            })
            .collect()
    }
}

fn sine(rate: SampleRate, hertz: f32, loudness: f32, frame: usize) -> Vec<i16> {
    let length = rate.frame();
    (0..length)
        .map(|n| {
            let time = (frame * length + n) as f32 / rate.hertz() as f32;
            (loudness * (time * hertz * std::f32::consts::TAU).sin()) as i16
        })
        .collect()
}

fn rms(samples: &[i16]) -> f64 {
    (samples.iter().map(|one| f64::from(*one).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

/// Returns the level of the best sine at this frequency relative to all other audio, in dB.
fn purity(samples: &[i16], rate: SampleRate, hertz: f64) -> f64 {
    let (mut cosine, mut sine, mut total) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let angle = n as f64 * hertz * std::f64::consts::TAU / f64::from(rate.hertz());
        cosine += f64::from(*sample) * angle.cos();
        sine += f64::from(*sample) * angle.sin();
        total += f64::from(*sample).powi(2);
    }
    let tone = (cosine * cosine + sine * sine) * 2.0 / samples.len() as f64;
    10.0 * (tone / (total - tone).max(1.0)).log10()
}

const ALL: [Codec; 6] = [
    Codec::Pcmu,
    Codec::Pcma,
    Codec::G722,
    Codec::Opus,
    Codec::L16(SampleRate::Hz8000),
    Codec::L16(SampleRate::Hz48000),
];

#[test]
fn every_codec_gets_every_other_codec_in_a_room_of_any_rate() {
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
        for (speaker, codec) in ALL.iter().enumerate() {
            let mut set = Set::new(rate, &ALL);
            let from = codec.sample_rate();
            let mut heard = vec![Vec::new(); ALL.len()];
            for frame in 0..40 {
                let audio = sine(from, 400.0, 6_000.0, frame);
                for (slot, (samples, _)) in set.step(&[(speaker, &audio)]).into_iter().enumerate() {
                    if frame >= 20 {
                        heard[slot].extend(samples);
                    }
                }
            }
            for (slot, samples) in heard.iter().enumerate() {
                let level = 20.0 * (rms(samples).max(1.0) / (6_000.0 / 2f64.sqrt())).log10();
                let what = format!("{:?} hears {codec:?} at {rate:?}: {level:.1} dB", ALL[slot]);
                if slot == speaker {
                    assert!(rms(samples) < 20.0, "{what}");
                    continue;
                }
                let at = set.decoders[slot].rate();
                assert!((-1.0..1.0).contains(&level), "{what}");
                let pure = purity(samples, at, 400.0);
                assert!(pure > if ALL[slot] == Codec::Opus { 15.0 } else { 30.0 }, "{what}: {pure:.1} dB");
            }
        }
    }
}

#[test]
fn silent_participants_with_one_codec_share_one_encoding() {
    let codecs = [[Codec::G722; 40], [Codec::Pcmu; 40]].concat();
    let mut set = Set::new(SampleRate::Hz16000, &codecs);
    for frame in 0..30 {
        let audio = sine(SampleRate::Hz16000, 300.0, 5_000.0, frame);
        let heard = set.step(&[(0, &audio)]);
        assert!(heard[1..40].iter().all(|one| one == &heard[1]) && heard[40..].iter().all(|one| one == &heard[40]));
        assert!(heard[0].1 && !heard[1].1);
    }
    assert_eq!(set.outlets.shared.len(), 2);
    assert_eq!(set.outlets.legs.iter().flatten().filter(|leg| leg.own.is_some()).count(), 1);
}

/// Compares the decoded audio of two participants that hear the same mix, and returns three values. The first value is
/// the largest difference in a frame within 100 ms after a change between the shared mix and a participant's own mix.
/// The second value is the largest difference in all other frames, which is the noise of two encoders. The third value
/// is the number of changes.
fn seams(codec: Codec, room: SampleRate) -> (f64, f64, usize) {
    // Participant 0 speaks all the time, participant 1 speaks now and then, and participant 2 only listens. All hear
    // participant 0.
    let mut set = Set::new(room, &[codec; 3]);
    let rate = codec.sample_rate();
    let (mut at_seams, mut else_where, mut changes, mut changed, mut before) = (0.0f64, 0.0f64, 0, 0, false);
    for frame in 0..1_500 {
        let speech = sine(rate, 250.0, 5_000.0, frame);
        let word = sine(rate, 330.0, 3_000.0, frame);
        let quiet = frame % 750 > 700;
        let mut audio: Vec<(usize, &[i16])> = Vec::new();
        if !quiet {
            audio.push((0, &speech));
        }
        if (100..120).contains(&(frame % 750)) {
            audio.push((1, &word));
        }
        let heard = set.step(&audio);
        if heard[1].1 != before {
            (changes, changed) = (changes + 1, frame);
        }
        before = heard[1].1;
        // While participant 1 is silent, it hears the same audio as participant 2, whichever encoder is used.
        if !(100..140).contains(&(frame % 750)) {
            let difference: Vec<i16> = heard[1].0.iter().zip(&heard[2].0).map(|(a, b)| a.saturating_sub(*b)).collect();
            let worst = if frame < changed + 5 { &mut at_seams } else { &mut else_where };
            *worst = worst.max(rms(&difference));
        }
    }
    (at_seams, else_where, changes)
}

#[test]
fn a_change_between_the_shared_and_an_own_mix_causes_no_discontinuity() {
    for room in [SampleRate::Hz8000, SampleRate::Hz16000] {
        for codec in [Codec::Pcmu, Codec::L16(SampleRate::Hz16000), Codec::G722] {
            let (at_seams, else_where, changes) = seams(codec, room);
            println!("{codec:?} at {room:?}: {at_seams:.1} at {changes} changes, else {else_where:.1}");
            assert!(changes >= 4, "{codec:?} changed {changes} times");
            let allowed = if codec == Codec::G722 { (20.0, 20.0) } else { (0.0, 0.0) };
            assert!(at_seams <= allowed.0 && else_where <= allowed.1, "{codec:?} in a room at {room:?}");
        }
    }
}

#[test]
fn a_participant_gets_the_right_mix_after_hold_and_a_change_of_codec() {
    let mut set = Set::new(SampleRate::Hz8000, &[Codec::Pcmu, Codec::Pcma, Codec::Pcmu]);
    let say = [4_000; 160];
    let last = |heard: &[(Vec<i16>, bool)]| heard.iter().map(|one| one.0[159]).collect::<Vec<i16>>();
    (0..3).for_each(|_| drop(set.step(&[(0, &say)])));
    let heard = last(&set.step(&[(0, &say)]));
    assert_eq!((heard[0], heard[1] > 3_900, heard[2] > 3_900), (0, true, true));
    set.mixer.change(2, Participation { hold: Hold::Silence, ..Participation::default() });
    (0..5).for_each(|_| drop(set.step(&[(0, &say)])));
    assert_eq!(last(&set.step(&[(0, &say)]))[2], 0);
    set.mixer.change(2, Participation::default());
    set.codecs[2] = Codec::G722;
    set.decoders[2] = Decoder::new(Codec::G722, SampleRate::Hz8000);
    for _ in 0..20 {
        set.mixer.add_frame(0, SampleRate::Hz8000, &say);
        set.mixer.mix();
        set.outlets.handle_mix(&set.mixer);
        let audio = set.outlets.frame_for(&mut set.mixer, 2, Codec::G722).unwrap();
        assert_eq!((audio.samples.len(), audio.payload.len()), (320, 160));
    }
    assert!(set.outlets.frame_for(&mut set.mixer, 2, Codec::G722).unwrap().samples[319] > 3_900);
    set.outlets.leave(2);
    assert!(set.outlets.frame_for(&mut set.mixer, 99, Codec::Pcmu).is_none());
}
