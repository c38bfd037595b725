//! A recording of one hour with packet loss. The clock of a far end differs from ours.

use super::*;
use crate::recorded::RecordedFile;
use crate::wav::WavCoding;

/// The time between two markers in seconds.
const EVERY: f64 = 30.0;
/// The length of a marker in seconds.
const MARKER: f64 = 0.2;
/// The value of a marker's samples.
const LOUD: i16 = 8_000;

/// A far end that sends a marker every 30 s of real time, and quiet noise between the markers.
struct Speaker {
    side: Side,
    law: crate::codec::g711::Law,
    /// The duration of one sample of the far end's clock, in seconds of real time.
    sample: f64,
    sent_samples: u64,
    noise: u32,
}

impl Speaker {
    fn noise(&mut self) -> u32 {
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.noise >> 16
    }

    /// Sends the packets that are due. All packets near a marker arrive, and three percent of the other packets are
    /// lost.
    fn speak(&mut self, pair: &mut MediaPair) {
        while (self.sent_samples + 160) as f64 * self.sample <= pair.now().as_secs_f64() {
            let (mut samples, mut marked) = ([0; 160], false);
            for (at, sample) in (self.sent_samples..).zip(&mut samples) {
                let within = (at as f64 * self.sample) % EVERY;
                // The loop below loses no packet near a marker.
                marked |= !(1.0..EVERY - 1.0).contains(&within);
                *sample = if within < MARKER { LOUD } else { (self.noise() % 64) as i16 - 32 };
            }
            self.sent_samples += 160;
            if !marked && self.noise() % 100 < 3 {
                pair.lose(self.side);
                continue;
            }
            let mut octets = [0; 160];
            self.law.encode(&samples, &mut octets);
            let party = if self.side == Side::A { &mut pair.a } else { &mut pair.b };
            let packet = party.next(party.payload_type, &octets);
            party.timestamp = party.timestamp.wrapping_add(160);
            pair.send(self.side, Flow::Rtp, packet, NOW);
        }
    }
}

/// The positions of the markers in a channel, in samples.
fn markers(samples: &[i16], channel: usize) -> Vec<i64> {
    let loud = |at: usize| samples.get(2 * at + channel).is_some_and(|sample| *sample > LOUD / 2);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < samples.len() / 2 {
        if loud(at) {
            found.push(at as i64);
            at += 16_000;
        }
        at += 1;
    }
    found
}

#[test]
fn an_hour_with_loss_and_drift_is_recorded_with_the_exact_number_of_frames() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("hour");
    pair.bridge();
    let a =
        Speaker { side: Side::A, law: crate::codec::g711::Law::Mu, sample: 1.0 / 8_000.8, sent_samples: 0, noise: 1 };
    let b =
        Speaker { side: Side::B, law: crate::codec::g711::Law::A, sample: 1.0 / 8_000.0, sent_samples: 0, noise: 2 };
    let mut speakers = [a, b];
    let mut live = |pair: &mut MediaPair, seconds: u64| {
        for _ in 0..seconds {
            for _ in 0..200 {
                speakers.iter_mut().for_each(|speaker| speaker.speak(pair));
                pair.pass(1, milliseconds(5));
            }
            // Discard the packets that the engine has sent.
            for side in [Side::A, Side::B] {
                drop((pair.heard(side), pair.reports(side)));
            }
        }
    };
    live(&mut pair, 10);
    let spec = RecordSpec { coding: WavCoding::Mulaw, ..RecordSpec::new(&file.0, Channels::Dual) };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec.clone() }));
    let began = pair.now();
    live(&mut pair, 3_600);
    let length = pair.now() - began;
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let events = pair.events(Side::A);
    let duration = events.iter().find_map(|(_, event)| match event {
        Event::RecordingFinished { duration, .. } => Some(*duration),
        _ => None,
    });
    let duration = duration.expect("a finished recording");
    assert!(duration.abs_diff(length) <= milliseconds(20), "{duration:?} of {length:?}");

    let mut read = RecordedFile::open(&file.0, None).unwrap();
    let mut octets = vec![0; read.len() as usize];
    assert_eq!(read.read_at(0, &mut octets).unwrap(), octets.len());
    let mut samples = Vec::new();
    spec.coding.decode(&octets[spec.form().header(0).len()..], &mut samples);
    let (left, right) = (markers(&samples, 0), markers(&samples, 1));
    assert_eq!((left.len(), right.len()), (120, 120));
    let apart = left.iter().zip(&right).map(|(left, right)| left - right);
    let worst = apart.max_by_key(|apart| apart.abs()).unwrap();
    println!("{duration:?} of {length:?}; the channels are {worst} samples apart at most");
    assert!(worst.abs() <= 160, "{worst}");
    // The recording is also aligned with the call: a marker is never early, and it is late by no more than the time
    // until its packet is complete.
    let off = (1..).zip(&right).map(|(number, at)| at - ((f64::from(number) * EVERY - 10.0) * 8_000.0) as i64);
    let off: Vec<i64> = off.collect();
    assert!(off.iter().all(|off| (0..=320).contains(off)), "{off:?}");
}
