//! Packets that the kernel relays. The tests check when the offload begins and when it ends. They also check that an
//! observer outside cannot see whether packets are offloaded.

use super::*;

const PCMU: &str = "m=audio 4000 RTP/AVP 0 13 101\r\na=rtpmap:101 telephone-event/8000\r\n";
/// An m-line like the usual PCMU m-line, but with another payload type for telephone-events.
const OTHER: &str = "m=audio 4000 RTP/AVP 0 13 96\r\na=rtpmap:96 telephone-event/8000\r\n";

/// Two bridged legs that have sent audio until the kernel relayed both directions.
fn short() -> MediaPair {
    let mut pair = MediaPair::with_kernel(PCMU, OTHER);
    pair.bridge();
    pair.talk(60, 1, 2);
    assert!(pair.is_offloaded(Side::A) && pair.is_offloaded(Side::B));
    pair
}

/// Sends a digit of 60 ms from A, in the same way as phones do.
fn send_digit(pair: &mut MediaPair) {
    for (marker, end, duration) in [(true, 0, 160u16), (false, 0, 320), (false, 0x80, 480), (false, 0x80, 480)] {
        let [high, low] = duration.to_be_bytes();
        let mut packet = pair.a.next(101, &[5, end | 10, high, low]);
        packet[1] |= if marker { 0x80 } else { 0 };
        pair.send(Side::A, Flow::Rtp, packet, NOW);
        pair.send_audio(Side::B, 2, NOW);
        pair.advance(20);
    }
    pair.a.timestamp = pair.a.timestamp.wrapping_add(640);
}

/// Runs a varied call. Returns everything that is visible from outside, and the number of packets that the kernel
/// relayed.
fn seen(kernel: bool, delay: Duration) -> (Vec<String>, u64) {
    let mut pair = if kernel { MediaPair::with_kernel(PCMU, OTHER) } else { MediaPair::between(PCMU, OTHER) };
    pair.bridge();
    pair.talk(70, 1, 2);
    for frame in 0..600 {
        // One in ten packets of A is lost, sometimes two in a row. Some packets of B are late.
        if frame % 10 == 3 || frame % 50 == 4 {
            pair.lose(Side::A);
        } else {
            pair.send_audio(Side::A, frame as u8, NOW);
        }
        let late = if frame % 40 == 7 { delay } else { NOW };
        pair.send_audio(Side::B, frame as u8, late);
        pair.advance(20);
    }
    send_digit(&mut pair);
    pair.talk(200, 3, 4);
    // A sends nothing for 3 s while its timestamps advance. Then A continues.
    for _ in 0..150 {
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        pair.send_audio(Side::B, 5, NOW);
        pair.advance(20);
    }
    pair.talk(200, 6, 7);
    pair.command(Side::A, play(1, 20));
    pair.talk(200, 8, 9);
    pair.command(Side::A, Command::Unbridge);
    pair.talk(20, 8, 9);
    pair.bridge();
    pair.talk(100, 8, 9);
    let passed = pair.passed();
    pair.close(Side::A);
    pair.close(Side::B);
    pair.advance(100);
    let mut seen = Vec::new();
    for side in [Side::A, Side::B] {
        for Sent { at, packet, .. } in pair.heard(side) {
            seen.push(format!("{side:?} {at:?} hears {packet:?}"));
        }
        for Sent { at, packet, .. } in pair.reports(side) {
            seen.push(format!("{side:?} {at:?} gets {packet:?}"));
        }
        for (at, event) in pair.events(side) {
            // A late packet adds to the jitter twice: once with the packet before it and once with the packet after it.
            // After an offload, the first packet that arrives at the engine has no earlier packet to compare with. So
            // the test does not compare the jitter.
            let Event::Closed { stats, .. } = event else {
                seen.push(format!("{side:?} {at:?} {event:?}"));
                continue;
            };
            let stats = crate::Stats { jitter_ms: 0.0, mos: None, ..*stats };
            seen.push(format!("{side:?} {at:?} {stats:?}"));
        }
    }
    (seen, passed)
}

#[test]
fn reports_and_statistics_are_the_same_with_and_without_offload() {
    let ((with, passed), (without, none)) = (seen(true, NOW), seen(false, NOW));
    assert_eq!(none, 0);
    assert!(passed > 1_500, "{passed}");
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with, without);
    }
    assert_eq!(with.len(), without.len());
    // The packet is so late that the next packet overtakes it. If the engine relayed both packets, its media clock is
    // then one frame ahead. So only the counters are equal.
    let counts = |kernel| -> Vec<String> {
        let (seen, _) = seen(kernel, milliseconds(30));
        seen.into_iter().filter(|line| line.contains("Stats")).collect()
    };
    assert_eq!(counts(true).len(), 2);
    assert_eq!(counts(true), counts(false));
}

#[test]
fn after_a_second_of_plain_audio_the_offload_continues_the_stream_without_a_gap() {
    let mut pair = MediaPair::with_kernel(PCMU, OTHER);
    pair.bridge();
    pair.talk(45, 1, 2);
    assert!(!pair.is_offloaded(Side::A) && !pair.is_offloaded(Side::B), "not before");
    pair.talk(100, 1, 2);
    assert!(pair.passed() > 150);
    send_digit(&mut pair);
    assert!(!pair.is_offloaded(Side::A) && !pair.is_offloaded(Side::B), "both ways lead here again");
    pair.talk(30, 1, 2);
    for side in [Side::A, Side::B] {
        let heard = pair.heard(side);
        let relayed = heard.iter().position(is_loud).unwrap();
        assert_one_line(&heard[relayed..]);
    }
    let dtmf = Event::Dtmf { digit: '5', duration_ms: 20, method: crate::dtmf::DtmfMethod::Event };
    assert!(pair.events(Side::A).into_iter().any(|(_, event)| event == dtmf));
    pair.talk(100, 1, 2);
    assert!(pair.is_offloaded(Side::A), "and again");
}

#[test]
fn every_command_ends_the_offload_first() {
    let file = TestFile::new("rule");
    let record = RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Dual, Tracks::Both) };
    let (sink, _reader) = tap(16, TapCodec::Native);
    let (source, _writer) = source(crate::g711::Law::Mu, milliseconds(1_000));
    let orders = [
        play(1, 5),
        Command::Tone { op: OpId(1), tone: Tone::Ringback(crate::Country::De) },
        Command::SendDigits { op: OpId(1), digits: "5".into(), duration_ms: 100 },
        Command::Recording(record),
        Command::Tap { op: OpId(1), tracks: Tracks::Both, sink },
        Command::Source { op: OpId(1), source },
        Command::Mute { inbound: true },
        Command::Echo(true),
        Command::Suppress { direction: Tracks::Inbound, on: true },
        Command::Unbridge,
    ];
    for order in orders {
        let what = format!("{order:?}");
        let mut pair = short();
        pair.command(Side::A, order);
        assert!(!pair.is_offloaded(Side::A) && !pair.is_offloaded(Side::B), "{what}");
        if !what.starts_with("Play") && !what.starts_with("SendDigits") {
            pair.talk(110, 1, 2);
            let both = pair.is_offloaded(Side::A) && pair.is_offloaded(Side::B);
            // Commands that only read audio use copies of the packets.
            assert_eq!(both, what.starts_with("Recording") || what.starts_with("Tap"), "{what} goes on");
        }
    }
    let mut pair = short();
    pair.offer(Side::B, "m=audio 4000 RTP/AVP 0 13 96\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n");
    assert!(!pair.is_offloaded(Side::A) && !pair.is_offloaded(Side::B), "hold");
    let mut pair = short();
    pair.close(Side::B);
    assert!(!pair.is_offloaded(Side::A) && !pair.is_offloaded(Side::B), "the end");
}

/// Requests the leg's statistics.
fn stats(pair: &mut MediaPair, side: Side) -> crate::Stats {
    pair.command(side, Command::ReportStats);
    let Some((_, Event::Stats { stats, .. })) = pair.events(side).pop() else { panic!() };
    *stats
}

#[test]
fn statistics_leave_the_offload_in_place_and_contain_the_packets_of_the_kernel() {
    let mut pair = short();
    let before = [Side::A, Side::B].map(|side| stats(&mut pair, side));
    for reading in 1..=20 {
        pair.talk(10, 1, 2);
        for (side, before) in [Side::A, Side::B].into_iter().zip(&before) {
            let now = stats(&mut pair, side);
            assert_eq!((now.packets_in, now.lost), (60 + reading * 10, 0));
            assert_eq!(now.packets_out, before.packets_out + reading * 10);
            assert!(pair.is_offloaded(Side::A) && pair.is_offloaded(Side::B));
        }
    }
    let mut pair = played(true);
    pair.talk(10, 1, 2);
    assert_eq!(stats(&mut pair, Side::A).packets_in, 110);
    assert!(pair.is_dropped(Side::A));
}

#[test]
fn statistics_do_not_change_the_time_after_which_a_leg_counts_as_silent() {
    let until_silent = |frames_between_statistics: usize| {
        let mut pair = short();
        let began = pair.now();
        let mut frames = 0_usize;
        while pair.is_offloaded(Side::A) && frames < 100 {
            pair.send_audio(Side::B, 2, NOW);
            pair.advance(20);
            frames += 1;
            if frames.is_multiple_of(frames_between_statistics) {
                stats(&mut pair, Side::A);
                stats(&mut pair, Side::B);
            }
        }
        assert!(pair.is_offloaded(Side::B));
        pair.now() - began
    };
    let without = until_silent(usize::MAX);
    assert!(without >= milliseconds(800) && without <= milliseconds(1_200), "{without:?}");
    for frames_between_statistics in [1, 7, 15, 19, 20, 25] {
        assert_eq!(until_silent(frames_between_statistics), without, "{frames_between_statistics}");
    }
}

#[test]
fn packets_that_need_the_engine_are_never_offloaded() {
    let g722 = "m=audio 4000 RTP/AVP 9\r\n";
    let pcma = "m=audio 4000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\n";
    let deaf = "m=audio 4000 RTP/AVP 0\r\n";
    for (a, b) in [(PCMU, pcma), (PCMU, g722), (deaf, OTHER), (PCMU, deaf)] {
        let mut pair = MediaPair::with_kernel(a, b);
        pair.bridge();
        pair.talk(200, 1, 2);
        let both = pair.is_offloaded(Side::A) && pair.is_offloaded(Side::B);
        assert!(!both, "{a} {b}");
    }
    let mut pair = MediaPair::with_kernel(PCMU, OTHER);
    pair.talk(200, 1, 2);
    assert_eq!(pair.passed(), 0, "and without a bridge there is nowhere to pass it on to");
}

/// Returns a leg that plays audio and whose own audio has no reader.
fn played(kernel: bool) -> MediaPair {
    let mut pair = if kernel { MediaPair::with_kernel(PCMU, OTHER) } else { MediaPair::between(PCMU, OTHER) };
    pair.command(
        Side::A,
        Command::Play { op: OpId(1), audio: tone(1), loops: None, elapsed: std::time::Duration::ZERO },
    );
    pair.talk(100, 1, 2);
    assert_eq!(pair.is_dropped(Side::A), kernel);
    pair.events(Side::A);
    pair.heard(Side::A);
    pair
}

#[test]
fn packets_without_a_reader_are_dropped_by_the_kernel_and_counted() {
    let [with, without] = [true, false].map(|kernel| {
        let mut pair = played(kernel);
        for frame in 0..500 {
            match frame % 50 {
                7 => pair.lose(Side::A),
                9 => {}
                _ => pair.send_audio(Side::A, 1, NOW),
            }
            pair.advance(20);
        }
        assert!(pair.is_dropped(Side::A) == kernel);
        assert_eq!(pair.heard(Side::A).len(), 500, "the prompt");
        pair.close(Side::A);
        let written: Vec<Vec<u8>> = pair.reports(Side::A).into_iter().map(|sent| sent.packet).collect();
        let Some((_, Event::Closed { stats, .. })) = pair.events(Side::A).pop() else { panic!() };
        assert_eq!((stats.packets_in, stats.lost), (100 + 480, 10));
        (crate::Stats { jitter_ms: 0.0, mos: None, ..*stats }, written)
    });
    assert_eq!(with, without);
}

#[test]
fn a_digit_of_a_leg_whose_audio_is_dropped_is_reported_at_once_and_its_audio_is_dropped_again() {
    let mut pair = played(true);
    let began = pair.now();
    send_digit(&mut pair);
    let events = pair.events(Side::A);
    let [(at, Event::Dtmf { digit: '5', duration_ms: 20, .. })] = &events[..] else { panic!("{events:?}") };
    assert!(*at - began <= milliseconds(1), "{:?}", *at - began);
    assert!(!pair.is_dropped(Side::A), "another may follow");
    pair.talk(110, 1, 2);
    assert!(pair.is_dropped(Side::A));
}

#[test]
fn a_new_reader_gets_every_later_packet() {
    let file = TestFile::new("listen");
    let record = RecordingCommand::Start { op: OpId(2), spec: spec(&file, Channels::Mono, Tracks::Inbound) };
    let (sink, _reader) = tap(16, TapCodec::Native);
    let orders = [
        Command::Recording(record),
        Command::Tap { op: OpId(2), tracks: Tracks::Both, sink },
        Command::Echo(true),
        Command::DetectMachine { op: OpId(2), spec: Default::default() },
    ];
    for order in orders {
        let what = format!("{order:?}");
        let mut pair = played(true);
        pair.command(Side::A, order);
        assert!(!pair.is_dropped(Side::A), "{what}");
        pair.talk(100, 1, 2);
        assert!(!pair.is_dropped(Side::A), "{what} goes on");
        if what.starts_with("DetectMachine") {
            pair.command(Side::A, Command::Stop { op: OpId(2) });
            pair.talk(60, 1, 2);
            assert!(pair.is_dropped(Side::A), "the leg has no reader any more");
        }
    }
    // If several prompts follow each other, the offload does not count as ended early.
    let mut pair = played(true);
    for op in 2..10 {
        pair.command(
            Side::A,
            Command::Play { op: OpId(op), audio: tone(1), loops: None, elapsed: std::time::Duration::ZERO },
        );
        pair.talk(60, 1, 2);
        assert!(pair.is_dropped(Side::A));
    }
    let mut pair = played(true);
    pair.command(Side::A, Command::Stop { op: OpId(1) });
    assert!(pair.is_dropped(Side::B));
    pair.bridge();
    assert!(!pair.is_dropped(Side::A) && !pair.is_dropped(Side::B));
    pair.heard(Side::B);
    pair.talk(10, 1, 2);
    assert_eq!(pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 10);
}

#[test]
fn other_payload_types_and_ssrcs_end_an_offload_and_repeated_ends_delay_the_next() {
    let mut pair = short();
    let stray = |pair: &mut MediaPair| {
        let mut packet = pair.a.next(0, &[9; 160]);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        packet[11] ^= 1;
        pair.send(Side::A, Flow::Rtp, packet, NOW);
        pair.advance(20);
    };
    let mut waits = Vec::new();
    for _ in 0..4 {
        stray(&mut pair);
        assert!(!pair.is_offloaded(Side::A) && !pair.is_offloaded(Side::B));
        let began = pair.now();
        while !pair.is_offloaded(Side::A) {
            pair.talk(1, 1, 2);
        }
        waits.push((pair.now() - began + milliseconds(100)).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16]);
    // An offload of more than 10 s resets the waiting time.
    pair.talk(520, 1, 2);
    stray(&mut pair);
    pair.talk(60, 1, 2);
    assert!(pair.is_offloaded(Side::A));
    pair.a.sequence = pair.a.sequence.wrapping_add(5_000);
    pair.talk(2, 1, 2);
    assert!(!pair.is_offloaded(Side::A), "a leap");
}

#[test]
fn a_silent_leg_is_not_offloaded_any_more_before_the_bridged_leg_gets_silence() {
    let mut pair = short();
    pair.heard(Side::B);
    for _ in 0..60 {
        pair.send_audio(Side::B, 2, NOW);
        pair.advance(20);
    }
    assert!(!pair.is_offloaded(Side::A) && pair.is_offloaded(Side::B));
    assert!(pair.heard(Side::B).is_empty());
    pair.advance(1_500);
    let heard = pair.heard(Side::B);
    assert!(!heard.is_empty() && !heard.iter().any(is_loud));
    pair.talk(100, 1, 2);
    assert!(pair.is_offloaded(Side::A));
}

/// Runs a recorded call with losses, a digit, and an offload that ends during the recording. Returns the packets,
/// reports and events of the call, and the recorded file.
fn recorded(kernel: bool) -> (Vec<String>, Vec<u8>) {
    let mut pair = if kernel { MediaPair::with_kernel(PCMU, OTHER) } else { MediaPair::between(PCMU, OTHER) };
    let file = TestFile::new(if kernel { "copied" } else { "relayed" });
    pair.bridge();
    pair.talk(70, 1, 2);
    let spec = spec(&file, Channels::Dual, Tracks::Both);
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
    pair.talk(110, 3, 4);
    assert_eq!((pair.is_offloaded(Side::A), pair.is_offloaded(Side::B)), (kernel, kernel));
    let before = pair.passed();
    for frame in 0..300 {
        if frame % 10 == 3 {
            pair.lose(Side::A);
        } else {
            pair.send_audio(Side::A, frame as u8, NOW);
        }
        pair.send_audio(Side::B, 200 - frame as u8 % 100, NOW);
        pair.advance(20);
    }
    assert_eq!(pair.passed() - before, if kernel { 570 } else { 0 });
    send_digit(&mut pair);
    pair.talk(210, 5, 6);
    assert_eq!(pair.is_offloaded(Side::A), kernel);
    // When the offload ends, the copy of this packet is still on its way to the engine.
    pair.send_audio(Side::A, 7, NOW);
    pair.command(Side::B, Command::Mute { inbound: true });
    pair.talk(50, 8, 9);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(100);
    let mut seen = Vec::new();
    for side in [Side::A, Side::B] {
        pair.close(side);
        pair.advance(20);
        seen.extend(pair.heard(side).iter().map(|Sent { at, packet, .. }| format!("{side:?} {at:?} hears {packet:?}")));
        seen.extend(
            pair.reports(side).iter().map(|Sent { at, packet, .. }| format!("{side:?} {at:?} gets {packet:?}")),
        );
        let name = |event: String| event.replace("copied", "relayed");
        seen.extend(pair.events(side).into_iter().map(|(at, event)| name(format!("{side:?} {at:?} {event:?}"))));
    }
    (seen, std::fs::read(&file.0).unwrap())
}

#[test]
fn an_offloaded_recorded_call_has_the_same_samples() {
    let ((with, copied), (without, relayed)) = (recorded(true), recorded(false));
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with, without);
    }
    assert_eq!(with.len(), without.len());
    assert!(copied.len() > 4 * 8_000 * 9, "{}", copied.len());
    assert!(copied == relayed);
}

#[test]
fn an_unexpected_kernel_copy_counts_as_a_malformed_packet() {
    let mut pair = short();
    let mut forged = pair.a.next(0, &[9; 160]);
    forged[0] = crate::offload::COPY;
    pair.send(Side::A, Flow::Rtp, forged, NOW);
    pair.advance(20);
    pair.close(Side::A);
    pair.advance(20);
    let events = pair.events(Side::A);
    let stats =
        events.iter().find_map(|(_, event)| if let Event::Closed { stats, .. } = event { Some(stats) } else { None });
    assert_eq!(stats.unwrap().dropped_malformed, 1);
}
