//! Answering machine detection on a leg, with a codec and the network between the far end and the engine.

use super::*;
use crate::g711::Law;
use crate::testing::voice::{Voice, tone};
use crate::{DetectionResult, GreetingEnd, MachineDetection, Until};

/// Sends `samples` from the far end of `side`, in the law of this far end. Then sends nothing for `silent` frames.
fn say(pair: &mut MediaPair, side: Side, samples: &[i16], silent: usize) {
    let law = if side == Side::A { Law::Mu } else { Law::A };
    for frame in samples.chunks_exact(160) {
        let mut octets = [0; 160];
        law.encode(frame, &mut octets);
        let party = if side == Side::A { &mut pair.a } else { &mut pair.b };
        let packet = party.next(party.payload_type, &octets);
        party.timestamp = party.timestamp.wrapping_add(160);
        pair.send(side, Flow::Rtp, packet, NOW);
        pair.advance(20);
    }
    pair.advance(20 * silent as u64);
}

fn detect(pair: &mut MediaPair, until: Until) {
    let spec = Box::new(MachineDetection { until, ..MachineDetection::default() });
    pair.command(Side::B, Command::DetectMachine { op: OpId(5), spec });
}

fn detection_results(pair: &mut MediaPair) -> Vec<(Duration, DetectionResult)> {
    let events = pair.events(Side::B).into_iter();
    events
        .filter_map(|(at, event)| match event {
            Event::MachineDetected { op: OpId(5), result, .. } => Some((at, result)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_answering_machine_and_its_beep_are_reported_during_a_relaying_bridge() {
    let mut pair = MediaPair::new();
    pair.bridge();
    detect(&mut pair, Until::Beep);
    let mut voice = Voice::new(11);
    let greeting = [voice.silence(500, -60.0), voice.say(4_000), voice.silence(600, -60.0)].concat();
    say(&mut pair, Side::B, &greeting, 0);
    say(&mut pair, Side::B, &tone(1_000.0, 500, -15.0), 0);
    let beeped = pair.now();
    say(&mut pair, Side::B, &voice.silence(500, -60.0), 0);
    let reported = detection_results(&mut pair);
    let results: Vec<DetectionResult> = reported.iter().map(|(_, result)| *result).collect();
    assert_eq!(results, [DetectionResult::Machine, DetectionResult::GreetingEnded { by: GreetingEnd::Beep }]);
    assert!(reported[1].0 - beeped <= milliseconds(260), "{:?} after the beep", reported[1].0 - beeped);
    // The engine relayed every packet and transcoded none.
    assert_eq!(pair.core.counts.relayed, 305);
    // The detection has ended, so further audio causes no event.
    say(&mut pair, Side::B, &greeting, 200);
    assert!(self::detection_results(&mut pair).is_empty());
}

#[test]
fn a_person_without_further_rtp_stays_a_person() {
    let mut pair = MediaPair::new();
    detect(&mut pair, Until::GreetingEnd);
    let mut voice = Voice::new(12);
    say(&mut pair, Side::B, &[voice.silence(500, -60.0), voice.say(700)].concat(), 100);
    assert!(matches!(detection_results(&mut pair)[..], [(_, DetectionResult::Human)]));
    detect(&mut pair, Until::GreetingEnd);
    pair.advance(5_200);
    assert!(matches!(detection_results(&mut pair)[..], [(_, DetectionResult::Silence)]));
}

#[test]
fn a_stopped_detection_sends_no_event() {
    let mut pair = MediaPair::new();
    detect(&mut pair, Until::FirstResult);
    pair.advance(1_000);
    pair.command(Side::B, Command::Stop { op: OpId(5) });
    pair.advance(10_000);
    assert!(detection_results(&mut pair).is_empty());
}

#[test]
fn a_tap_loses_no_frame_when_a_detection_ends() {
    let mut pair = MediaPair::new();
    let (sink, mut reader) = crate::tap(1_000, TapCodec::Native);
    pair.command(Side::B, Command::Tap { op: OpId(6), tracks: crate::Tracks::Inbound, sink });
    detect(&mut pair, Until::FirstResult);
    let mut voice = Voice::new(11);
    let speech = [voice.say(700), voice.silence(2_000, -60.0), voice.say(1_000)].concat();
    say(&mut pair, Side::B, &speech, 0);
    assert_eq!(detection_results(&mut pair).len(), 1);
    let mut octets = vec![0; speech.len()];
    Law::A.encode(&speech, &mut octets);
    let mut heard = Vec::new();
    while let Some(frame) = reader.pop() {
        heard.extend_from_slice(frame.audio());
    }
    // From the first frame that is not silence, the received audio equals the sent audio. No sample is missing or
    // added.
    let heard = &heard[100 * 160..];
    let at = octets.windows(320).position(|window| window == &heard[..320]).unwrap();
    let same = heard.iter().zip(&octets[at..]).take_while(|(heard, speech)| heard == speech).count();
    assert_eq!(same, heard.len().min(octets.len() - at));
}
