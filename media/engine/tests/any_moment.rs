//! A call that continues from data at any moment. Both far ends must receive what they would have received without the
//! interruption.

use super::encrypted::{Encrypted, GCM, KEY, NEW_KEY};
use super::*;
use crate::session::RunningOperations;
use crate::snapshot::{SessionSnapshot, SessionSnapshotError};

/// The length of the scripted call in ms.
const LENGTH: u64 = 2_600;

/// All that leaves the engine in a run of the scripted call.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The RTP packets to each far end, with their times.
    packets: [Vec<(Duration, SocketAddr, Vec<u8>)>; 2],
    /// The times and lengths of the RTCP packets to each far end. The last bits of their NTP time depend on the clock.
    reports: [Vec<(Duration, usize)>; 2],
    events: [Vec<(Duration, Event)>; 2],
}

/// A call with SRTP on leg A and plain RTP on leg B.
struct Call {
    both: Encrypted,
    /// The timestamp of the digit that A's far end sends.
    digit_began: u32,
}

impl Call {
    fn new(key: &str) -> Call {
        let mut both = Encrypted::new(key);
        both.pair.command(Side::A, Command::Unbridge);
        Call { both, digit_began: 0 }
    }

    /// Does what the script says for this millisecond. Then one millisecond passes.
    fn step(&mut self, ms: u64) {
        let both = &mut self.both;
        match ms {
            5 => both.pair.command(Side::A, play(1, 18)),
            200 => both.pair.bridge(),
            610 => {
                let (digits, duration_ms) = ("12".to_owned(), 100);
                both.pair.command(Side::B, Command::SendDigits { op: OpId(2), digits, duration_ms });
            }
            1_010 => both.pair.command(Side::A, Command::Mute { inbound: true }),
            1_090 => both.pair.command(Side::A, Command::Mute { inbound: false }),
            1_210 => both
                .pair
                .offer(Side::B, "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=inactive\r\n"),
            1_330 => both.pair.offer(Side::B, "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n"),
            1_430 => both.rekey(NEW_KEY),
            1_515 => {
                let stranger = "127.0.0.9:4000".parse().unwrap();
                let packet = both.pair.b.next(8, &[0x33; 160]);
                both.pair.send_from(Side::B, Flow::Rtp, stranger, packet, NOW);
            }
            1_600 => both.pair.command(Side::A, Command::ReportNextPacket),
            1_850 => both.pair.command(Side::A, Command::Unbridge),
            1_900 => both.pair.command(Side::B, Command::Tone { op: OpId(3), tone: Tone::Beep { milliseconds: 300 } }),
            2_300 => both.pair.command(Side::A, Command::Echo(true)),
            _ => {}
        }
        if ms % 20 == 3 {
            let packet = match ms {
                // A digit of A's far end takes the place of its audio. The digit has three end packets.
                400..500 => {
                    let count = (ms - 400) / 20;
                    let audio = both.pair.a.timestamp;
                    if count == 0 {
                        self.digit_began = audio;
                    }
                    let duration = (count + 1).min(3) as u16 * 160;
                    let [high, low] = duration.to_be_bytes();
                    both.pair.a.timestamp = self.digit_began;
                    let packet = both.next(101, &[5, if count < 2 { 0x0A } else { 0x8A }, high, low]);
                    both.pair.a.timestamp = audio.wrapping_add(160);
                    packet
                }
                _ => both.next(0, &[0x10 + (ms / 20 % 8) as u8; 160]),
            };
            both.pair.send(Side::A, Flow::Rtp, packet, NOW);
        }
        if ms % 20 == 11 && !(700..760).contains(&ms) {
            both.pair.send_audio(Side::B, 0x20 + (ms / 20 % 8) as u8, milliseconds(ms % 3));
        }
        both.pair.advance(1);
    }
}

/// Runs the scripted call. `interrupt` is called after each millisecond.
fn run(key: &str, mut interrupt: impl FnMut(u64, &mut MediaPair)) -> Outcome {
    let mut call = Call::new(key);
    for ms in 0..LENGTH {
        call.step(ms);
        interrupt(ms, &mut call.both.pair);
    }
    let pair = &mut call.both.pair;
    pair.close(Side::A);
    pair.close(Side::B);
    pair.advance(100);
    let packets = [Side::A, Side::B].map(|side| pair.heard(side));
    let reports = [Side::A, Side::B].map(|side| pair.reports(side));
    Outcome {
        packets: packets.map(|sent| sent.into_iter().map(|sent| (sent.at, sent.to, sent.packet)).collect()),
        reports: reports.map(|sent| sent.into_iter().map(|sent| (sent.at, sent.packet.len())).collect()),
        events: [Side::A, Side::B].map(|side| pair.events(side)),
    }
}

/// Continues both sessions from data, and gives the handles of the running operations.
fn resume(pair: &mut MediaPair) {
    let running = pair.resume_elsewhere(NOW, 0);
    for (side, RunningOperations { playback, .. }) in [Side::A, Side::B].into_iter().zip(running) {
        match playback {
            Some(OpId(1)) => pair.command(side, play(1, 18)),
            Some(op) => pair.command(side, Command::Tone { op, tone: Tone::Beep { milliseconds: 300 } }),
            None => {}
        }
    }
}

/// Asserts that two outcomes are equal. The message names only the first difference.
fn assert_same(interrupted: &Outcome, whole: &Outcome, moment: &str) {
    for side in 0..2 {
        let packets = interrupted.packets[side].iter().zip(&whole.packets[side]);
        for (number, (one, other)) in packets.enumerate() {
            assert_eq!(one, other, "{moment}: packet {number} to leg {side}");
        }
        assert_eq!(interrupted.packets[side].len(), whole.packets[side].len(), "{moment}: packets to leg {side}");
    }
    assert_eq!(interrupted.events, whole.events, "{moment}");
    assert_eq!(interrupted.reports, whole.reports, "{moment}");
}

#[test]
fn the_scripted_call_has_audio_digits_and_events_in_both_directions() {
    let whole = run(KEY, |_, _| {});
    let event = |side: usize, wanted: &Event| whole.events[side].iter().any(|(_, event)| event == wanted);
    assert!(whole.packets.iter().all(|packets| packets.len() > 80));
    assert!(event(0, &finished(1, FinishReason::Completed)) && event(1, &finished(2, FinishReason::Completed)));
    assert!(event(1, &finished(3, FinishReason::Completed)) && event(0, &Event::NextPacket));
    let digits = whole.events[0].iter().filter(|(_, event)| matches!(event, Event::Dtmf { digit: '5', .. }));
    assert_eq!(digits.count(), 1);
}

#[test]
fn a_call_that_is_resumed_from_snapshots_at_any_moment_sends_the_same_packets_and_events() {
    for (key, every) in [(KEY, 3), (GCM, 17)] {
        let whole = run(key, |_, _| {});
        for moment in (0..LENGTH).step_by(every) {
            let interrupted = run(key, |ms, pair| {
                if ms == moment {
                    resume(pair);
                }
            });
            assert_same(&interrupted, &whole, &format!("{moment} ms"));
        }
    }
}

#[test]
fn a_call_that_is_resumed_from_snapshots_in_each_millisecond_sends_the_same_packets_and_events() {
    let whole = run(KEY, |_, _| {});
    assert_same(&run(KEY, |_, pair| resume(pair)), &whole, "each millisecond");
}

#[test]
fn after_a_pause_before_the_resume_the_far_ends_receive_one_stream_with_later_timestamps() {
    for (pause, skipped) in [(0, 0), (400, 0), (3_001, 128)] {
        let mut both = Encrypted::new(KEY);
        both.talk(30);
        let before = both.heard_by_a();
        both.pair.resume_elsewhere(milliseconds(pause), skipped);
        for _ in 0..pause / 20 {
            both.pair.lose(Side::A);
            both.pair.lose(Side::B);
        }
        both.talk(30);
        // The far end decrypts each packet, so no index was used again and the roll-over counter is right.
        let after = both.heard_by_a();
        let (last, first) = (before.last().unwrap().header(), after[0].header());
        assert_eq!(first.ssrc, last.ssrc);
        // B's packets of the pause are lost, and a relayed stream shows losses.
        let lost = (pause / 20) as u16;
        assert_eq!(first.sequence, last.sequence.wrapping_add(1 + skipped + lost), "{pause} ms");
        let passed = first.timestamp.wrapping_sub(last.timestamp);
        assert!(passed.abs_diff(pause as u32 * 8 + 160) <= 160, "{pause} ms: {passed} units");
        assert_one_line(&after);
        assert!(after.iter().filter(|sent| is_loud(sent)).count() >= 29, "the bridge continues");
    }
}

#[test]
fn a_resumed_session_removes_a_bridge_that_ends_before_the_other_session_is_resumed() {
    let mut pair = MediaPair::new();
    let other = LegId(3);
    pair.core.insert(Box::new(MediaSession::new(other, 3, Arc::new(|_, _| Ok(())), true)));
    pair.command(Side::A, Command::Bridge { with: other });
    let [running, _] = pair.resume_elsewhere(NOW, 0);
    assert_eq!(running.bridged_with, Some(other));
    assert_eq!(pair.state(Side::A).running().bridged_with, Some(other));
    pair.command(Side::A, Command::Unbridge);
    assert_eq!(pair.state(Side::A).running().bridged_with, None);
}

#[test]
fn a_resumed_session_sends_the_digits_that_remain_and_no_digit_twice() {
    let digits = |pair: &mut MediaPair| {
        let (digits, duration_ms) = ("12345".to_owned(), 100);
        pair.command(Side::A, Command::SendDigits { op: OpId(9), digits, duration_ms });
    };
    let mut pair = MediaPair::new();
    digits(&mut pair);
    pair.advance(430);
    pair.resume_elsewhere(NOW, 0);
    digits(&mut pair);
    pair.advance(1_500);
    let ends = pair.heard(Side::A).into_iter().filter(|sent| sent.header().payload_type == 101).map(|sent| {
        let payload = sent.payload();
        (payload[0], payload[1] & 0x80 != 0)
    });
    let mut sent: Vec<u8> = ends.filter(|(_, is_end)| *is_end).map(|(event, _)| event).collect();
    sent.dedup();
    assert_eq!(sent, [1, 2, 3, 4, 5]);
    // More digits of the same operation follow.
    let more = |pair: &mut MediaPair| {
        pair.command(Side::A, Command::SendDigits { op: OpId(10), digits: "1".to_owned(), duration_ms: 100 });
    };
    more(&mut pair);
    more(&mut pair);
    pair.advance(1_000);
    let began =
        pair.heard(Side::A).into_iter().filter(|sent| sent.header().payload_type == 101 && sent.header().marker);
    assert_eq!(began.count(), 2);
}

#[test]
fn an_unknown_source_cannot_take_over_a_resumed_session() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(30, 0x10, 0x20);
    pair.resume_elsewhere(milliseconds(100), 0);
    pair.heard(Side::B);
    for _ in 0..20 {
        let packet = pair.a.next(0, &[0x44; 160]);
        pair.send_from(Side::A, Flow::Rtp, "127.0.0.9:4000".parse().unwrap(), packet, NOW);
        pair.advance(20);
    }
    let heard = pair.heard(Side::B);
    assert!(heard.iter().all(|sent| sent.payload()[0] != crate::codec::g711::ULAW_TO_ALAW[0x44]), "the latch holds");
}

#[test]
fn a_snapshot_shows_no_secret_and_a_malformed_or_undecryptable_snapshot_is_refused() {
    let both = &mut Encrypted::new(KEY);
    let (key, negotiation) = (both.pair.a.key, both.pair.a.negotiation.clone());
    let snapshot = SessionSnapshot { session: both.pair.state(Side::A), negotiation };
    assert_eq!(format!("{snapshot:?}"), format!("SessionSnapshot({key}, ..)"));
    let octets = snapshot.write(|plain| plain).unwrap();
    let decrypt = |encrypted: &[u8]| Some(encrypted.to_vec());
    assert_eq!(SessionSnapshot::read(&octets, decrypt).unwrap().key(), key);
    let error = |octets: &[u8]| SessionSnapshot::read(octets, decrypt).unwrap_err();
    assert_eq!(error(b"TANDEM"), SessionSnapshotError::NoSnapshot);
    assert_eq!(error(&octets[..7]), SessionSnapshotError::NoSnapshot);
    assert_eq!(SessionSnapshot::read(&octets, |_| None).unwrap_err(), SessionSnapshotError::NotDecrypted);
    let mut newer = octets.clone();
    newer[7] += 1;
    assert_eq!(error(&newer), SessionSnapshotError::Version(newer[7]));
    // A snapshot that is torn at any octet is refused.
    for length in 8..octets.len() {
        assert_eq!(error(&octets[..length]), SessionSnapshotError::Malformed, "{length}");
    }
}

#[test]
fn a_recording_continues_its_limits_in_a_new_file() {
    let (first, second) = (TestFile::new("resumed-1"), TestFile::new("resumed-2"));
    let mut pair = MediaPair::new();
    let start = |file: &TestFile| {
        let spec = RecordSpec { max_length: Some(milliseconds(2_000)), ..spec(file, Channels::Mono, Tracks::Inbound) };
        Command::Recording(RecordingCommand::Start { op: OpId(9), spec })
    };
    pair.command(Side::A, start(&first));
    pair.talk(50, 0x10, 0x20);
    let [running, _] = pair.resume_elsewhere(NOW, 0);
    let [position] = running.recordings[..] else { panic!("{running:?}") };
    assert_eq!((position.op, position.paused), (OpId(9), false));
    // The recorder is 140 ms behind, and it reads up to eight frames at a time.
    assert!((700..=1_000).contains(&position.recorded.as_millis()), "{position:?}");
    pair.command(Side::A, start(&second));
    pair.talk(80, 0x10, 0x20);
    let finished = pair.events(Side::A).into_iter().find_map(|(_, event)| match event {
        Event::RecordingFinished { op: OpId(9), reason: RecordingReason::MaxLength, recorded, .. } => Some(recorded),
        _ => None,
    });
    assert_eq!(finished.map(|recorded| recorded + position.recorded), Some(milliseconds(2_000)));
}
