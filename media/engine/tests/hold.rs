//! Hold and resume, requested by a leg's far end. The tests use the method of RFC 3264 §8.4 and the older method of RFC
//! 2543.

use super::*;

const MEDIA: &str = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

fn hold(pair: &mut MediaPair, how: &str) {
    pair.offer(Side::A, &format!("{MEDIA}{how}\r\n"));
}

fn loud(sent: &[Sent]) -> usize {
    sent.iter().filter(|sent| is_loud(sent)).count()
}

fn unknown() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 9], 9_000))
}

#[test]
fn a_held_leg_gets_music_or_silence_without_a_gap_and_then_the_bridge_again() {
    for (how, music) in [("a=sendonly", true), ("a=inactive", false), ("c=IN IP4 0.0.0.0", true), ("a=recvonly", false)]
    {
        let mut pair = MediaPair::new();
        pair.bridge();
        pair.talk(20, 0x10, 0x20);
        pair.heard(Side::A);
        pair.heard(Side::B);
        hold(&mut pair, how);
        pair.talk(20, 0x11, 0x20);
        let (a, b) = (pair.heard(Side::A), pair.heard(Side::B));
        assert_eq!(loud(&b), if music { 20 } else { 0 }, "{how}");
        assert!((20..=22).contains(&b.len()), "{how}: {}", b.len());
        assert_one_line(&b);
        assert_eq!(loud(&a), if how == "a=recvonly" { 20 } else { 0 }, "{how}");
        // The far end on hold sends nothing at all.
        for _ in 0..20 {
            pair.send_audio(Side::B, 0x20, NOW);
            pair.advance(20);
        }
        if !music {
            assert!((20..=22).contains(&pair.heard(Side::B).len()), "{how}");
        }
        hold(&mut pair, "a=sendrecv");
        pair.heard(Side::A);
        pair.heard(Side::B);
        pair.talk(20, 0x10, 0x20);
        let (a, b) = (pair.heard(Side::A), pair.heard(Side::B));
        assert_eq!((loud(&a), loud(&b)), (20, 20), "{how}");
        assert_one_line(&b);
    }
}

#[test]
fn no_unknown_source_replaces_a_far_end_on_hold() {
    for how in ["a=inactive", "a=recvonly", "c=IN IP4 0.0.0.0", "c=IN IP4 0.0.0.0\r\na=inactive"] {
        let mut pair = MediaPair::new();
        pair.bridge();
        pair.talk(20, 0x10, 0x20);
        hold(&mut pair, how);
        pair.heard(Side::B);
        for sequence in 0..50 {
            let mut packet = pair.a.next(0, &[0x15; 160]);
            packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            pair.send_from(Side::A, Flow::Rtp, unknown(), packet, NOW);
            pair.advance(20);
        }
        assert_eq!(loud(&pair.heard(Side::B)), 0, "{how}");
        hold(&mut pair, "a=sendrecv");
        pair.heard(Side::A);
        pair.talk(20, 0x10, 0x20);
        let (a, b) = (pair.heard(Side::A), pair.heard(Side::B));
        assert_eq!((loud(&a), loud(&b)), (20, 20), "{how}");
        assert!(a.iter().all(|sent| sent.to != unknown()), "{how}");
    }
}

#[test]
fn a_far_end_behind_a_nat_is_reached_after_a_hold() {
    for how in ["a=inactive", "c=IN IP4 0.0.0.0", "a=sendonly"] {
        let mut pair = MediaPair::new();
        pair.bridge();
        let mapped = SocketAddr::from(([127, 0, 0, 2], 61_000));
        for _ in 0..40 {
            let packet = pair.a.next(0, &[0x10; 160]);
            pair.send_from(Side::A, Flow::Rtp, mapped, packet, NOW);
            pair.advance(20);
        }
        hold(&mut pair, how);
        pair.advance(200);
        hold(&mut pair, "a=sendrecv");
        pair.heard(Side::A);
        for _ in 0..10 {
            pair.send_audio(Side::B, 0x20, NOW);
            pair.advance(20);
        }
        let a = pair.heard(Side::A);
        assert_eq!(loud(&a), 10, "{how}");
        assert!(a.iter().all(|sent| sent.to == mapped), "{how}");
    }
}

#[test]
fn recordings_keep_both_directions_aligned_through_a_hold() {
    for how in ["a=inactive", "a=recvonly", "c=IN IP4 0.0.0.0\r\na=inactive"] {
        let file = TestFile::new(&format!("hold-{}", how.len()));
        let mut pair = MediaPair::new();
        pair.bridge();
        pair.talk(10, 0x10, 0x20);
        pair.command(
            Side::A,
            Command::Recording(RecordingCommand::Start {
                op: OpId(1),
                spec: spec(&file, Channels::Dual, Tracks::Both),
            }),
        );
        pair.talk(50, 0x10, 0x20);
        hold(&mut pair, how);
        for _ in 0..100 {
            pair.send_audio(Side::B, 0x20, NOW);
            pair.advance(20);
        }
        hold(&mut pair, "a=sendrecv");
        pair.talk(50, 0x10, 0x20);
        pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
        pair.advance(1_000);
        let samples = file.samples();
        let frames = samples.len() / 320;
        assert!((199..=201).contains(&frames), "{how}: {frames}");
        let reported: Vec<(bool, bool)> = samples
            .chunks_exact(320)
            .map(|frame| {
                let loud =
                    |channel: usize| frame.iter().skip(channel).step_by(2).any(|sample| sample.unsigned_abs() > 500);
                (loud(0), loud(1))
            })
            .collect();
        let between = |range: std::ops::Range<usize>, right: bool| {
            reported[range].iter().filter(|(on_left, on_right)| if right { *on_right } else { *on_left }).count()
        };
        let (left, right) = (false, true);
        assert!(between(0..49, left) >= 48 && between(152..199, left) >= 46, "{how}: {reported:?}");
        assert_eq!(between(52..149, left), 0, "{how}");
        assert!(between(0..49, right) >= 48 && between(152..199, right) >= 46, "{how}");
        assert_eq!(between(52..149, right), if how == "a=recvonly" { 97 } else { 0 }, "{how}");
    }
}
