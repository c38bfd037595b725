//! Noise suppression between two legs.

use super::*;

/// Sends `frames` frames. A sends noise, and B sends silence.
fn hiss(pair: &mut MediaPair, frames: usize) {
    let mut state = 1u32;
    for _ in 0..frames {
        let mut payload = [0; 160];
        for octet in &mut payload {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *octet = crate::g711::linear_to_ulaw(((state >> 16) as i32 - 32_768) as i16 / 20);
        }
        let packet = pair.a.next(0, &payload);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        pair.send(Side::A, Flow::Rtp, packet, NOW);
        pair.send_audio(Side::B, 0xD5, NOW);
        pair.advance(20);
    }
}

/// The root mean square of the A-law audio that was sent to a leg.
fn loudness(sent: &[Sent]) -> f32 {
    let table = &crate::g711::ALAW_TO_LINEAR;
    let octets: Vec<u8> = sent.iter().flat_map(|sent| sent.payload().to_vec()).collect();
    let power: f32 = octets.iter().map(|octet| f32::from(table[usize::from(*octet)]).powi(2)).sum();
    (power / octets.len().max(1) as f32).sqrt()
}

fn suppress(direction: Tracks, on: bool) -> Command {
    Command::Suppress { direction, on }
}

#[test]
fn suppression_starts_during_a_bridge_and_afterwards_packets_are_relayed_again() {
    for (side, direction) in [(Side::A, Tracks::Inbound), (Side::B, Tracks::Outbound)] {
        let mut pair = MediaPair::new();
        pair.bridge();
        hiss(&mut pair, 50);
        let noise = loudness(&pair.heard(Side::B));
        pair.command(side, suppress(direction, true));
        hiss(&mut pair, 200);
        pair.heard(Side::B);
        hiss(&mut pair, 50);
        let sent = pair.heard(Side::B);
        assert_one_line(&sent);
        assert!(sent.len().abs_diff(50) <= 1, "{} packets", sent.len());
        assert!(loudness(&sent) < noise / 10.0, "{} of {noise}", loudness(&sent));
        let relayed = pair.core.counts.relayed;
        pair.command(side, suppress(direction, false));
        hiss(&mut pair, 50);
        pair.heard(Side::B);
        hiss(&mut pair, 50);
        assert!((loudness(&pair.heard(Side::B)) / noise - 1.0).abs() < 0.1);
        assert!(pair.core.counts.relayed > relayed + 180, "packets are relayed again, both ways");
    }
}

#[test]
fn a_tap_gets_the_suppressed_direction() {
    let mut pair = MediaPair::new();
    let (sink, mut reader) = tap(10, TapCodec::Pcmu);
    pair.command(Side::A, Command::Tap { op: OpId(1), tracks: Tracks::Inbound, sink });
    pair.command(Side::A, suppress(Tracks::Inbound, true));
    let mut last = Vec::new();
    for _ in 0..300 {
        hiss(&mut pair, 1);
        while let Some(frame) = reader.pop() {
            last = frame.audio().to_vec();
        }
    }
    let table = &crate::g711::ULAW_TO_LINEAR;
    let loudest = last.iter().map(|octet| table[usize::from(*octet)].unsigned_abs()).max().unwrap();
    assert!(loudest < 200, "{loudest}");
}

#[test]
fn a_thread_without_cpu_time_sheds_suppression_reports_it_and_keeps_the_audio() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.command(Side::A, suppress(Tracks::Inbound, true));
    hiss(&mut pair, 100);
    assert_eq!(pair.events(Side::A).into_iter().filter(|(_, event)| *event != Event::FirstPacket).count(), 0);
    // Suppression now needs 15 ms of each 20 ms. This is more than 60 %.
    pair.set_cost(milliseconds(15));
    pair.heard(Side::B);
    hiss(&mut pair, 100);
    let reported: Vec<Event> = pair.events(Side::A).into_iter().map(|(_, event)| event).collect();
    assert_eq!(reported, [Event::SuppressionShed { track: Track::Inbound }]);
    let sent = pair.heard(Side::B);
    assert_one_line(&sent);
    assert!(sent.len().abs_diff(100) <= 1, "{} packets", sent.len());
    pair.set_cost(NOW);
    hiss(&mut pair, 150);
    let reported: Vec<Event> = pair.events(Side::A).into_iter().map(|(_, event)| event).collect();
    assert_eq!(reported, [Event::SuppressionResumed { track: Track::Inbound }]);
}
