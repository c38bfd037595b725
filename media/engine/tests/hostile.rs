//! Malformed packets, floods and changing sources. The engine counts and limits such packets, and the bridged leg does
//! not hear them.

use super::*;
use crate::g711::Law;

/// An RTP packet.
fn rtp(sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let header = crate::rtp::Header { marker: false, payload_type: 0, sequence, timestamp, ssrc, payload: 12..12 };
    let mut packet = vec![0; 12];
    header.write(&mut packet);
    packet.extend(payload);
    packet
}

fn bridged() -> MediaPair {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(5, 0x10, 0x20);
    pair.heard(Side::A);
    pair.heard(Side::B);
    pair
}

/// Returns the packets of A that the engine sent to B, without the engine's own silence.
fn loud(pair: &mut MediaPair) -> Vec<Sent> {
    pair.heard(Side::B).into_iter().filter(is_loud).collect()
}

#[test]
fn truncated_packets_and_other_rtp_versions_are_counted_and_dropped() {
    let mut pair = bridged();
    let mut whole = vec![0xB3, 0, 0, 7, 0, 0, 0, 160, 1, 2, 3, 4];
    whole.extend([9; 12]);
    whole.extend([0xBE, 0xDE, 0, 2, 5, 5, 5, 5, 5, 5, 5, 5]);
    whole.extend([0x10; 20]);
    whole.extend([0, 0, 0, 4]);
    let mut bad: Vec<Vec<u8>> = (0..36).map(|length| whole[..length].to_vec()).collect();
    for version in [0x00, 0x40, 0xC0] {
        let mut packet = rtp(1, 160, 0xAA, &[0x10; 160]);
        packet[0] = version;
        bad.push(packet);
    }
    // The bad packets: padding longer than the packet, an extension that ends after the packet, more CSRCs than octets.
    bad.extend([[&[0xA0][..], &rtp(1, 160, 0xAA, &[0xFF; 20])[1..]].concat(), rtp(1, 160, 0xAA, &[])]);
    bad.last_mut().unwrap()[0] = 0x9F;
    let (count, before) = (bad.len(), pair.core.counts);
    for packet in bad {
        pair.send(Side::A, Flow::Rtp, packet, NOW);
    }
    pair.advance(40);
    assert!(loud(&mut pair).is_empty());
    let counted = pair.core.counts.malformed - before.malformed;
    assert_eq!(counted, count as u64, "{:?}", pair.core.counts);
    pair.talk(5, 0x10, 0x20);
    assert_eq!(loud(&mut pair).len(), 5);
}

#[test]
fn payloads_of_any_length_leave_the_recording_in_time() {
    let mut pair = MediaPair::new();
    pair.bridge();
    let file = TestFile::new("odd-lengths");
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(9), spec: spec(&file, Channels::Dual, Tracks::Both) }),
    );
    let (sink, mut reader) = tap(64, TapCodec::Native);
    pair.command(Side::A, Command::Tap { op: OpId(8), tracks: Tracks::Both, sink });
    let (mut sequence, mut timestamp) = (100, 5_000);
    for length in (0..2_000).step_by(37).chain([0, 1, 2, 159, 161, 1_999, 2_000]) {
        pair.send(Side::A, Flow::Rtp, rtp(sequence, timestamp, 7, &vec![0x10; length]), NOW);
        sequence += 1;
        timestamp += length as u32;
        for _ in 0..(length / 160).max(1) {
            pair.send_audio(Side::B, 0x20, NOW);
            pair.advance(20);
        }
        while reader.pop().is_some() {}
    }
    let talked = pair.now();
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(9) }));
    pair.advance(100);
    let finished = pair.events(Side::A).into_iter().find_map(|(_, event)| match event {
        Event::RecordingFinished { duration, .. } => Some(duration),
        _ => None,
    });
    assert!(finished.unwrap().abs_diff(talked) <= milliseconds(60), "{finished:?} of {talked:?}");
    let heard = pair.heard(Side::B);
    assert!(heard.windows(2).all(|two| two[1].header().sequence == two[0].header().sequence.wrapping_add(1)));
    assert_eq!(pair.heard(Side::A).iter().filter(|sent| is_loud(sent)).count(), (talked.as_millis() / 20) as usize);
}

#[test]
fn replayed_packets_do_not_lengthen_a_recording() {
    let mut pair = bridged();
    let file = TestFile::new("replayed");
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(9), spec: spec(&file, Channels::Mono, Tracks::Inbound) }),
    );
    for place in 0..50u16 {
        let packet = rtp(place, u32::from(place) * 160, 7, &[0x10; 160]);
        for _ in 0..5 {
            pair.send(Side::A, Flow::Rtp, packet.clone(), NOW);
        }
        // Send an old packet again too.
        pair.send(Side::A, Flow::Rtp, rtp(place / 2, u32::from(place / 2) * 160, 7, &[0x55; 160]), NOW);
        pair.advance(20);
    }
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(9) }));
    pair.advance(100);
    assert!(file.samples().len().abs_diff(8_000) <= 480, "{}", file.samples().len());
    pair.close(Side::A);
    pair.advance(40);
    let Some((_, Event::Closed { stats, .. })) = pair.events(Side::A).pop() else { panic!() };
    assert_eq!(stats.lost, 0);
}

#[test]
fn a_new_ssrc_continues_the_relayed_stream() {
    let mut pair = bridged();
    let mut heard = Vec::new();
    for (ssrc, from, at) in [(1, 10, 1_000), (2, 50_000, 4_000_000_000), (3, 65_530, 77), (1, 300, 90_000)] {
        for place in 0..10u16 {
            let timestamp = u32::wrapping_add(at, u32::from(place) * 160);
            pair.send(Side::A, Flow::Rtp, rtp(u16::wrapping_add(from, place), timestamp, ssrc, &[0x10; 160]), NOW);
            pair.advance(20);
        }
        heard.extend(loud(&mut pair));
    }
    assert_eq!(heard.len(), 40);
    assert_one_line(&heard);
    for (place, two) in heard.windows(2).enumerate() {
        let step = two[1].header().timestamp.wrapping_sub(two[0].header().timestamp);
        assert!((160..=480).contains(&step), "{place}: {step}");
        assert_eq!(two[1].header().marker, (place + 1) % 10 == 0, "{place}");
    }
}

#[test]
fn packets_of_any_duration_and_gaps_between_them_are_relayed_unchanged() {
    let mut pair = bridged();
    for length in [10, 20, 30, 40, 60] {
        let octets = length * 8;
        // Both the sequence number and the timestamp wrap during the test.
        let (mut sequence, mut timestamp) = (65_530_u16, u32::MAX - 1_000);
        for place in 0..20 {
            let packet = rtp(sequence, timestamp, length as u32, &vec![0x10; octets]);
            pair.send(Side::A, Flow::Rtp, packet, NOW);
            pair.advance(length as u64);
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(octets as u32);
            if place == 10 {
                // The far end sends nothing for 1 s.
                timestamp = timestamp.wrapping_add(8_000);
                pair.advance(1_000);
            }
        }
        let heard = loud(&mut pair);
        assert_eq!(heard.len(), 20);
        for (place, two) in heard.windows(2).enumerate() {
            let step = two[1].header().timestamp.wrapping_sub(two[0].header().timestamp);
            assert_eq!(step as usize, octets + if place == 10 { 8_000 } else { 0 }, "{length} ms, {place}");
            assert_eq!(two[1].payload().len(), octets);
        }
    }
}

#[test]
fn a_restarted_sequence_continues_the_relayed_stream() {
    let mut pair = bridged();
    for (from, at) in [(1_000_u16, 0), (40_000, 3_200), (5, 6_400)] {
        for place in 0..10u16 {
            pair.send(Side::A, Flow::Rtp, rtp(from + place, at + u32::from(place) * 160, 7, &[0x10; 160]), NOW);
            pair.advance(20);
        }
    }
    let heard = loud(&mut pair);
    assert_eq!(heard.len(), 30);
    assert_one_line(&heard);
}

#[test]
fn a_flood_is_counted_and_limited_to_the_packet_budget() {
    let mut pair = bridged();
    let before = pair.core.counts.relayed;
    let mut sequence = 0_u16;
    for _ in 0..50 {
        for _ in 0..200 {
            pair.send(Side::A, Flow::Rtp, rtp(sequence, u32::from(sequence) * 160, 7, &[0x10; 160]), NOW);
            sequence = sequence.wrapping_add(1);
        }
        pair.send_audio(Side::B, 0x20, NOW);
        pair.advance(20);
    }
    let passed = pair.core.counts.relayed - before - 50;
    assert!(passed < 1_000, "{passed} of 10,000 in a second");
    assert_eq!(pair.heard(Side::A).iter().filter(|sent| is_loud(sent)).count(), 50, "the other way is as it was");
    pair.close(Side::A);
    pair.advance(40);
    let Some((_, Event::Closed { stats, .. })) = pair.events(Side::A).pop() else { panic!() };
    assert_eq!(stats.dropped_flood + passed, 10_000);
}

#[test]
fn unknown_sources_before_and_after_the_far_end_are_not_relayed() {
    let mut pair = MediaPair::new();
    pair.bridge();
    let unknown: SocketAddr = "127.0.0.66:4000".parse().unwrap();
    let spray = |pair: &mut MediaPair, sequence: u16| {
        for place in 0..20u16 {
            let packet = rtp(sequence.wrapping_add(place), u32::from(place) * 160, 0xBAD, &[0x55; 160]);
            pair.send_from(Side::A, Flow::Rtp, unknown, packet, NOW);
        }
    };
    // Before the far end's first packet, the engine accepts packets from strangers, because it cannot distinguish a
    // stranger from a far end behind a router.
    for turn in 0..400 {
        spray(&mut pair, turn * 20);
        pair.send_audio(Side::B, 0x20, NOW);
        pair.advance(20);
    }
    assert!(!loud(&mut pair).is_empty());
    // But B's audio goes only to the address in A's SDP, although the unknown sources have sent packets for a long time.
    let toward_a = pair.heard(Side::A);
    assert!(toward_a.len() > 390 && toward_a.iter().all(|sent| sent.to == pair.a.address));
    // As soon as the far end sends packets, the engine refuses the strangers, although they have sent packets for eight
    // seconds.
    for turn in 0..500 {
        pair.send_audio(Side::A, 0x10, NOW);
        spray(&mut pair, 10_000 + turn * 20);
        pair.send_audio(Side::B, 0x20, NOW);
        pair.advance(20);
    }
    let heard = loud(&mut pair);
    let theirs = heard.iter().filter(|sent| sent.payload()[0] == crate::codec::g711::ULAW_TO_ALAW[0x55]).count();
    assert_eq!((heard.len() - theirs, theirs), (500, 0));
    let toward_a = pair.heard(Side::A);
    assert!(toward_a.iter().rev().take(490).all(|sent| sent.to == pair.a.address));
    pair.close(Side::A);
    pair.advance(40);
    let Some((_, Event::Closed { stats, .. })) = pair.events(Side::A).pop() else { panic!() };
    assert_eq!(stats.dropped_unknown_source, 500 * 20);
}

#[test]
fn a_moved_far_end_is_followed_after_the_probation_and_reported() {
    let mut pair = MediaPair::new();
    pair.bridge();
    let slot = pair.a.slot;
    pair.core.sessions[slot].set_relatch_probation(Some(milliseconds(1_000)));
    pair.talk(50, 0x10, 0x20);
    let moved: SocketAddr = "127.0.0.9:5000".parse().unwrap();
    loud(&mut pair);
    let mut passed = Vec::new();
    for _ in 0..100 {
        let packet = pair.a.next(0, &[0x10; 160]);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        pair.send_from(Side::A, Flow::Rtp, moved, packet, NOW);
        pair.advance(20);
        passed.push(!loud(&mut pair).is_empty());
    }
    // The old source is silent for 1 s. Then the first four of the five required packets of the new source are refused.
    let first = passed.iter().position(|passed| *passed).unwrap();
    assert!((52..=56).contains(&first) && passed[first..].iter().all(|passed| *passed), "{first}");
    let reported = pair.events(Side::A);
    assert_eq!(
        reported.iter().filter(|(_, event)| *event == Event::SourceMoved { to: moved }).count(),
        1,
        "{reported:?}"
    );
    pair.heard(Side::A);
    pair.send_audio(Side::B, 0x20, NOW);
    pair.advance(20);
    assert!(pair.heard(Side::A).iter().all(|sent| sent.to == moved));
}

#[test]
fn two_seconds_of_delayed_packets_are_all_relayed() {
    let mut pair = bridged();
    for place in 0..100u16 {
        pair.send(Side::A, Flow::Rtp, rtp(place, u32::from(place) * 160, 7, &[0x10; 160]), NOW);
    }
    pair.advance(20);
    assert_eq!(loud(&mut pair).len(), 100);
}

#[test]
fn wrong_or_too_many_reports_change_no_audio() {
    let mut pair = bridged();
    let unknown: SocketAddr = "127.0.0.66:4001".parse().unwrap();
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2];
    report.extend([0xFF; 20]);
    for length in 0..report.len() {
        pair.send(Side::A, Flow::Rtcp, report[..length].to_vec(), NOW);
    }
    for (at, value) in [(0, 0x01), (0, 0xC1), (0, 0x9F), (3, 0xFF), (1, 0)] {
        let mut packet = report.clone();
        packet[at] = value;
        pair.send(Side::A, Flow::Rtcp, packet, NOW);
    }
    for _ in 0..5_000 {
        pair.send(Side::A, Flow::Rtcp, report.clone(), NOW);
        pair.send_from(Side::A, Flow::Rtcp, unknown, report.clone(), NOW);
    }
    pair.talk(10, 0x10, 0x20);
    assert_eq!(loud(&mut pair).len(), 10);
    assert!(pair.events(Side::A).iter().all(|(_, event)| matches!(event, Event::FirstPacket)));
    pair.advance(6_000);
    let reports = pair.reports(Side::A);
    assert!(reports.len() <= 2 && reports.iter().all(|sent| sent.to.ip() == pair.a.address.ip()));
}

#[test]
fn a_stream_that_sends_30_s_at_once_is_played_in_30_s_without_effect_on_the_other_leg() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(60));
    pair.command(Side::A, Command::Source { op: OpId(3), source });
    writer.audio(Bytes::from(vec![0x11; 240_000])).unwrap();
    writer.mark("end".into());
    let mut count = 0;
    for _ in 0..1_510 {
        pair.send_audio(Side::B, 0x20, NOW);
        pair.advance(20);
        let heard = pair.heard(Side::A);
        assert!(heard.len() <= 1);
        count += heard.iter().filter(|sent| sent.payload()[0] == 0x11).count();
        assert!(pair.heard(Side::B).len() <= 1);
    }
    assert_eq!(count, 1_500);
    let events = pair.events(Side::A);
    let (at, _) = events.iter().find(|(_, event)| matches!(event, Event::MarkReached { .. })).unwrap();
    assert!(at.abs_diff(Duration::from_secs(30)) <= milliseconds(60), "{at:?}");
}

#[test]
fn audio_after_ten_silent_minutes_is_still_played() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(1));
    pair.command(Side::A, Command::Source { op: OpId(3), source });
    pair.advance(600_000);
    let heard = pair.heard(Side::A);
    assert_eq!(heard.len(), 30_000);
    assert!(heard.iter().all(|sent| !is_loud(sent)));
    writer.audio(Bytes::from(vec![0x11; 160])).unwrap();
    pair.advance(40);
    assert_eq!(pair.heard(Side::A).iter().filter(|sent| is_loud(sent)).count(), 1);
}
