//! The content of recordings.

use super::*;
use crate::encrypted::RecordingKey;
use crate::recorded::RecordedFile;
use crate::testing::voice::Voice;
use crate::wav::WavCoding;

#[test]
fn a_dual_recording_is_aligned_with_the_call_and_holes_are_concealed() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("dual");
    pair.talk(5, 0xFF, 0xD5);
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Dual, Tracks::Both) }),
    );
    let start = pair.now();
    pair.talk(25, 0xFF, 0xD5);
    // From 500 ms on, both directions have audio. Two packets of the far end are lost, and two arrive in the wrong
    // order.
    pair.command(Side::A, play(2, 10));
    for frame in 0..10u64 {
        match frame {
            3 | 4 => pair.lose(Side::A),
            6 => pair.send_audio(Side::A, 0x10, milliseconds(25)),
            _ => pair.send_audio(Side::A, 0x10, NOW),
        }
        pair.advance(20);
    }
    pair.talk(15, 0xFF, 0xD5);
    let length = pair.now() - start;
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let events = pair.events(Side::A);
    let Some(Event::RecordingFinished { duration, reason, bytes, .. }) =
        events.iter().map(|(_, event)| event).find(|event| matches!(event, Event::RecordingFinished { .. }))
    else {
        panic!("{events:?}")
    };
    assert_eq!(*reason, RecordingReason::Stopped);
    assert!(duration.abs_diff(length) <= milliseconds(20), "{duration:?} of {length:?}");
    assert_eq!(std::fs::metadata(&file.0).unwrap().len(), *bytes);
    let samples = file.samples();
    let left: Vec<bool> =
        samples.chunks_exact(320).map(|frame| frame.iter().step_by(2).any(|sample| sample.abs() > 100)).collect();
    let right: Vec<bool> = samples
        .chunks_exact(320)
        .map(|frame| frame.iter().skip(1).step_by(2).any(|sample| sample.abs() > 100))
        .collect();
    let first = left.iter().position(|loud| *loud).unwrap();
    assert!((24..=26).contains(&first), "{first}");
    assert!((10..=11).contains(&left.iter().filter(|loud| **loud).count()));
    // 40 ms are missing. The concealment of the last 30 ms fades out.
    let quietest =
        samples.iter().step_by(2).filter(|sample| sample.abs() > 100).map(|sample| sample.abs()).min().unwrap();
    let loudest = samples.iter().step_by(2).map(|sample| sample.abs()).max().unwrap();
    assert!((0.39..0.5).contains(&(f32::from(quietest) / f32::from(loudest))), "{quietest} of {loudest}");
    let first = right.iter().position(|loud| *loud).unwrap();
    assert!((24..=26).contains(&first), "{first}");
    assert!((10..=11).contains(&right.iter().filter(|loud| **loud).count()));
}

#[test]
fn a_bridged_call_is_recorded_from_both_sides_into_one_channel() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("mono");
    pair.bridge();
    pair.talk(5, 0xFF, 0xD5);
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Mono, Tracks::Both) }),
    );
    pair.talk(20, 0x10, 0x20 ^ 0x55);
    pair.close(Side::A);
    pair.advance(40);
    let samples = file.samples();
    assert!(samples.len().abs_diff(20 * 160) <= 160, "{}", samples.len());
    let (a, b) = (crate::codec::g711::ULAW_TO_LINEAR[0x10], {
        let ulaw = crate::codec::g711::ALAW_TO_ULAW[0x20 ^ 0x55];
        crate::codec::g711::ULAW_TO_LINEAR[usize::from(ulaw)]
    });
    let mixed = a.saturating_add(b);
    assert!(samples.iter().filter(|sample| **sample == mixed).count() >= 18 * 160, "{mixed}");
    // The file is complete before the session reports its end.
    let order: Vec<bool> = pair
        .events(Side::A)
        .iter()
        .filter(|(_, event)| matches!(event, Event::RecordingFinished { .. } | Event::Closed { .. }))
        .map(|(_, event)| matches!(event, Event::Closed { .. }))
        .collect();
    assert_eq!(order, [false, true]);
    assert_eq!(pair.over, [pair.a.key]);
}

fn recorded(pair: &mut MediaPair) -> (Duration, RecordingReason, Duration) {
    let events = pair.events(Side::A);
    events
        .into_iter()
        .find_map(|(at, event)| match event {
            Event::RecordingFinished { reason, duration, .. } => Some((at, reason, duration)),
            _ => None,
        })
        .expect("a finished recording")
}

#[test]
fn a_recording_ends_at_its_maximum_length_to_the_frame() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("length");
    let spec = RecordSpec { max_length: Some(milliseconds(500)), ..spec(&file, Channels::Mono, Tracks::Inbound) };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
    pair.talk(50, 0x10, 0x20);
    let (at, reason, duration) = recorded(&mut pair);
    assert_eq!((reason, duration), (RecordingReason::MaxLength, milliseconds(500)));
    assert!(at <= milliseconds(680), "{at:?}");
    assert_eq!(file.samples().len(), 4_000);
}

#[test]
fn sent_silence_and_missing_packets_end_a_recording() {
    for packets in [true, false] {
        let mut pair = MediaPair::new();
        let file = TestFile::new("silence");
        let spec =
            RecordSpec { silence_timeout: Some(milliseconds(1_000)), ..spec(&file, Channels::Mono, Tracks::Inbound) };
        pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
        pair.talk(30, 0xFF, 0xD5);
        hear(&mut pair, &Voice::new(9).say(400));
        let spoke = pair.now();
        if packets {
            pair.talk(80, 0xFF, 0xD5);
        } else {
            pair.advance(1_600);
        }
        let (at, reason, _) = recorded(&mut pair);
        assert_eq!(reason, RecordingReason::Silence);
        let after = at - spoke;
        assert!((milliseconds(960)..milliseconds(1_240)).contains(&after), "{packets}: {after:?}");
    }
}

/// Sends `samples` from A.
fn hear(pair: &mut MediaPair, samples: &[i16]) {
    for frame in samples.chunks_exact(160) {
        let mut octets = [0; 160];
        crate::g711::Law::Mu.encode(frame, &mut octets);
        let packet = pair.a.next(0, &octets);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        pair.send(Side::A, Flow::Rtp, packet, NOW);
        pair.advance(20);
    }
}

#[test]
fn noise_counts_as_silence_and_quiet_speech_does_not() {
    let mut voice = Voice::new(5);
    let noise = voice.silence(12_000, -35.0);
    let quiet: Vec<i16> = voice.say(6_000).into_iter().map(|sample| sample / 24).collect();
    for (samples, ends) in [(noise, true), (quiet, false)] {
        let mut pair = MediaPair::new();
        let file = TestFile::new("noisy");
        let spec =
            RecordSpec { silence_timeout: Some(milliseconds(2_000)), ..spec(&file, Channels::Mono, Tracks::Inbound) };
        pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
        hear(&mut pair, &samples);
        let over = pair.events(Side::A).into_iter().find_map(|(at, event)| match event {
            Event::RecordingFinished { reason, .. } => Some((at, reason)),
            _ => None,
        });
        assert_eq!(over.is_some(), ends, "{over:?}");
        if let Some((at, reason)) = over {
            assert_eq!(reason, RecordingReason::Silence);
            assert!(at <= milliseconds(3_500), "after {at:?}");
        }
    }
}

#[test]
fn a_recording_is_as_long_as_the_time_between_its_commands_to_half_a_frame() {
    for (wait, length) in [(3, 1_000), (17, 1_009), (9, 1_011), (1, 1_019), (13, 991), (6, 130), (6, 30)] {
        let mut pair = MediaPair::new();
        let file = TestFile::new("exact");
        pair.talk(20, 0x10, 0xD5);
        pair.advance(wait);
        let spec = spec(&file, Channels::Dual, Tracks::Both);
        pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
        pair.advance(length);
        pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
        pair.advance(100);
        let (_, _, duration) = recorded(&mut pair);
        assert!(duration.abs_diff(milliseconds(length)) <= milliseconds(10), "{duration:?} of {length} ms");
    }
}

#[test]
fn pauses_are_omitted_and_trimming_removes_silent_ends() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("trim");
    let spec = RecordSpec { trim: true, ..spec(&file, Channels::Mono, Tracks::Inbound) };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
    pair.talk(20, 0xFF, 0xD5);
    pair.talk(10, 0x10, 0xD5);
    pair.talk(10, 0xFF, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Pause { op: OpId(1), silence: false }));
    pair.talk(50, 0x10, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Resume { op: OpId(1) }));
    pair.talk(10, 0x10, 0xD5);
    pair.talk(20, 0xFF, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let (_, _, duration) = recorded(&mut pair);
    assert!(duration.abs_diff(milliseconds(600)) <= milliseconds(60), "{duration:?}");
    let samples = file.samples();
    assert!(samples[..160].iter().any(|sample| sample.abs() > 100));
    assert!(samples.iter().rev().take(160).any(|sample| sample.abs() > 100));
}

#[test]
fn a_recording_with_only_silence_is_not_trimmed_away() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("nothing");
    let spec = RecordSpec { trim: true, ..spec(&file, Channels::Mono, Tracks::Inbound) };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
    pair.talk(50, 0xFF, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let (_, _, duration) = recorded(&mut pair);
    assert!(duration.abs_diff(milliseconds(1_000)) <= milliseconds(60), "{duration:?}");
    assert!(file.samples().iter().all(|sample| sample.abs() < 10));
}

#[test]
fn a_pause_with_silence_keeps_its_duration() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("silence");
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Mono, Tracks::Inbound) }),
    );
    pair.talk(20, 0x10, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Pause { op: OpId(1), silence: true }));
    pair.talk(20, 0x10, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Resume { op: OpId(1) }));
    pair.talk(20, 0x10, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let (_, _, duration) = recorded(&mut pair);
    assert!(duration.abs_diff(milliseconds(1_200)) <= milliseconds(60), "{duration:?}");
    let silent = file.samples().iter().filter(|sample| **sample == 0).count();
    assert!((18 * 160..22 * 160).contains(&silent), "{silent}");
}

#[test]
fn a_recording_that_was_cut_off_is_playable_and_repaired() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("cut");
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Dual, Tracks::Both) }),
    );
    pair.talk(100, 0x10, 0x20);
    // This is the file after a kill -9, with half a sample more at its end.
    let cut = TestFile::new("cut-copy");
    let mut octets = std::fs::read(&file.0).unwrap();
    // The file lacks the buffered half second, and the audio that has not reached the buffer.
    assert!(octets.len() as u64 >= 44 + (2_000 - 700) * 32, "{}", octets.len());
    octets.push(7);
    std::fs::write(&cut.0, &octets).unwrap();
    let duration = crate::repair_recording(&cut.0, None).unwrap();
    assert!(duration >= milliseconds(1_300), "{duration:?}");
    assert_eq!(cut.samples().len() as u128, duration.as_millis() * 16);
    std::fs::write(&cut.0, b"RIFF0000WAVEfmt something else that is no recording").unwrap();
    assert!(crate::repair_recording(&cut.0, None).is_err());
}

#[test]
fn a_recording_that_cannot_be_written_ends_with_an_error() {
    let mut pair = MediaPair::new();
    let spec = RecordSpec {
        path: "/proc/nowhere/call.wav".into(),
        ..spec(&TestFile::new("no"), Channels::Mono, Tracks::Both)
    };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
    pair.talk(5, 0x10, 0x20);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    assert!(matches!(recorded(&mut pair).1, RecordingReason::Error(_)));
}

#[test]
fn a_pause_omits_exactly_the_audio_during_the_pause() {
    for silence in [false, true] {
        let mut pair = MediaPair::new();
        let file = TestFile::new(if silence { "exact-silence" } else { "exact-skip" });
        pair.talk(5, 0xFF, 0xD5);
        pair.command(
            Side::A,
            Command::Recording(RecordingCommand::Start {
                op: OpId(1),
                spec: spec(&file, Channels::Mono, Tracks::Inbound),
            }),
        );
        pair.talk(20, 0x10, 0xD5);
        pair.command(Side::A, Command::Recording(RecordingCommand::Pause { op: OpId(1), silence }));
        pair.talk(20, 0x00, 0xD5);
        pair.command(Side::A, Command::Recording(RecordingCommand::Resume { op: OpId(1) }));
        pair.talk(20, 0x20, 0xD5);
        // `Resume` comes before the pause has reached the recorder.
        pair.command(Side::A, Command::Recording(RecordingCommand::Pause { op: OpId(1), silence }));
        pair.talk(1, 0x00, 0xD5);
        pair.command(Side::A, Command::Recording(RecordingCommand::Resume { op: OpId(1) }));
        pair.talk(20, 0x30, 0xD5);
        // `Stop` comes before the end of the pause has reached the recorder.
        pair.command(Side::A, Command::Recording(RecordingCommand::Pause { op: OpId(1), silence }));
        pair.talk(1, 0x00, 0xD5);
        pair.command(Side::A, Command::Recording(RecordingCommand::Resume { op: OpId(1) }));
        pair.talk(1, 0x40, 0xD5);
        pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
        pair.advance(5);
        let samples = file.samples();
        let count = |octet: u8| {
            let sample = crate::codec::g711::ULAW_TO_LINEAR[usize::from(octet)];
            samples.iter().filter(|one| **one == sample).count() as f32 / 160.0
        };
        let original = [0x10, 0x20, 0x30, 0x40, 0xFF].map(count);
        assert_eq!(count(0x00), 0.0, "{original:?}");
        // At the start and at the end of the pause, less than one frame more is lost.
        let silent = if silence { 22.0..25.1 } else { 0.0..1.0 };
        let expected = [19.0..20.1, 18.0..20.1, 18.0..20.1, 0.0..1.1, silent];
        assert!(
            expected.iter().zip(original).all(|(expected, original)| expected.contains(&original)),
            "{silence}: {original:?}"
        );
    }
}

#[test]
fn a_beep_before_a_recording_is_not_in_it() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("beep");
    pair.talk(5, 0xFF, 0xD5);
    pair.command(Side::A, Command::Tone { op: OpId(1), tone: crate::tone::Tone::Beep { milliseconds: 300 } });
    let spec = RecordSpec { after: Some(OpId(1)), ..spec(&file, Channels::Dual, Tracks::Both) };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(2), spec }));
    pair.talk(15, 0x10, 0xD5);
    pair.talk(20, 0x20, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(2) }));
    pair.advance(5);
    let (_, _, duration) = recorded(&mut pair);
    assert_eq!(duration, milliseconds(400));
    let samples = file.samples();
    let original = crate::codec::g711::ULAW_TO_LINEAR[0x20];
    // The recording starts at a frame of our clock, and not at a packet of the far end.
    assert!(samples.iter().step_by(2).skip(160).take(18 * 160).all(|sample| *sample == original));
    assert!(samples.iter().skip(1).step_by(2).all(|sample| *sample == 0));
}

#[test]
fn every_coding_records_both_directions_in_one_or_two_channels_encrypted_or_not() {
    let key = RecordingKey::new([7; 32]);
    for coding in [WavCoding::Pcm, WavCoding::Mulaw, WavCoding::Alaw] {
        for (channels, key) in [
            (Channels::Mono, None),
            (Channels::Dual, None),
            (Channels::Mono, Some(key.clone())),
            (Channels::Dual, Some(key.clone())),
        ] {
            let mut pair = MediaPair::new();
            let file = TestFile::new("coding");
            pair.bridge();
            pair.talk(5, 0xFF, 0xD5);
            let spec = RecordSpec { coding, key: key.clone(), trim: true, ..RecordSpec::new(&file.0, channels) };
            pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec.clone() }));
            pair.talk(10, 0xFF, 0xD5);
            pair.talk(40, 0x20, 0x20 ^ 0x55);
            pair.talk(15, 0xFF, 0xD5);
            pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
            pair.advance(5);
            let (_, _, duration) = recorded(&mut pair);
            assert!((milliseconds(800)..=milliseconds(840)).contains(&duration), "{duration:?} {spec:?}");
            let mut read = RecordedFile::open(&file.0, key.as_ref()).unwrap();
            let form = spec.form();
            let mut wav = vec![0; read.len() as usize];
            assert_eq!(read.read_at(0, &mut wav).unwrap(), wav.len());
            assert_eq!(wav.len() as u64, form.header(0).len() as u64 + duration.as_millis() as u64 / 20 * form.frame());
            assert_eq!(wav[..4], *b"RIFF");
            let mut samples = Vec::new();
            form.coding.decode(&wav[form.header(0).len()..], &mut samples);
            let left = crate::codec::g711::ULAW_TO_LINEAR[0x20];
            let right = crate::codec::g711::ALAW_TO_LINEAR[0x20 ^ 0x55];
            let near = |sample: i16, original: i16| sample.abs_diff(original) <= 600;
            match channels {
                Channels::Mono => {
                    let both = samples.iter().filter(|one| near(**one, left.saturating_add(right)));
                    assert!(both.count() >= 39 * 160, "{spec:?}");
                }
                Channels::Dual => {
                    let both = samples.chunks(2).filter(|both| near(both[0], left) && near(both[1], right));
                    assert!(both.count() >= 39 * 160, "{spec:?}");
                }
            }
            // The file itself contains no plain audio, but any part of it can be read with the key.
            let stored = std::fs::read(&file.0).unwrap();
            assert_eq!(stored.starts_with(b"RIFF"), key.is_none());
            for at in [0, 43, 57, 58, 59, wav.len() - 700, wav.len() - 1, wav.len()] {
                let mut part = vec![0; 600];
                let count = read.read_at(at as u64, &mut part).unwrap();
                assert_eq!(part[..count], wav[at..wav.len().min(at + 600)]);
            }
        }
    }
}

#[test]
fn an_encrypted_recording_that_was_cut_off_keeps_all_that_was_written() {
    let key = RecordingKey::new([7; 32]);
    let mut pair = MediaPair::new();
    let file = TestFile::new("sealed-cut");
    let spec = RecordSpec { key: Some(key.clone()), ..spec(&file, Channels::Dual, Tracks::Both) };
    pair.command(Side::A, Command::Recording(RecordingCommand::Start { op: OpId(1), spec }));
    pair.talk(100, 0x10, 0x20);
    let cut = TestFile::new("sealed-cut-copy");
    let mut octets = std::fs::read(&file.0).unwrap();
    octets.extend([9; 100]);
    std::fs::write(&cut.0, &octets).unwrap();
    let duration = crate::repair_recording(&cut.0, Some(&key)).unwrap();
    assert!(duration >= milliseconds(1_300), "{duration:?}");
    assert_eq!(crate::repair_recording(&cut.0, None).unwrap(), duration);
    let read = |key: Option<&RecordingKey>| RecordedFile::open(&cut.0, key);
    assert_eq!(u128::from(read(Some(&key)).unwrap().len()), 44 + duration.as_millis() * 32);
    for wrong in [None, Some(RecordingKey::new([8; 32]))] {
        let Err(error) = read(wrong.as_ref()) else { panic!("opened with {wrong:?}") };
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("recordings.encryption_key"), "{error}");
    }
    // A chunk that was changed cannot be read.
    octets[1_000] ^= 1;
    std::fs::write(&cut.0, &octets).unwrap();
    let mut changed = read(Some(&key)).unwrap();
    assert_eq!(changed.read_at(100, &mut [0; 10]).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(changed.read_at(10_000, &mut [0; 10]).unwrap(), 10);
}

/// Sends `frames` different frames from A, from frame `number` on. Each frame arrives 20 ms after the previous frame.
/// The clock does not advance during this call.
fn say_later(pair: &mut MediaPair, number: u64, frames: u64) {
    for frame in 0..frames {
        pair.send_audio(Side::A, 0x10 + ((number + frame) % 64) as u8, milliseconds(20 * frame));
    }
}

#[test]
fn a_blocked_worker_loses_no_audio_of_a_recording() {
    for stall in [15, 25, 32] {
        let mut pair = MediaPair::new();
        let file = TestFile::new("stood-still");
        pair.command(
            Side::A,
            Command::Recording(RecordingCommand::Start {
                op: OpId(1),
                spec: spec(&file, Channels::Dual, Tracks::Both),
            }),
        );
        for number in 0..100 {
            say_later(&mut pair, number, 1);
            pair.advance(20);
        }
        say_later(&mut pair, 100, stall);
        pair.pass(1, milliseconds(20 * stall));
        for number in 100 + stall..300 {
            say_later(&mut pair, number, 1);
            pair.advance(20);
        }
        pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
        pair.advance(5);
        let (_, _, duration) = recorded(&mut pair);
        assert!(duration.abs_diff(milliseconds(6_000)) <= milliseconds(20), "{duration:?}");
        let left: Vec<i16> = file.samples().into_iter().step_by(2).collect();
        let original = |number: usize| [crate::codec::g711::ULAW_TO_LINEAR[0x10 + number % 64]; 160];
        // The recording may start inside the first packet.
        let from = left.windows(160).position(|window| window == original(1)).unwrap();
        let original = (1..300).flat_map(original);
        let wrong = left[from..].iter().zip(original).filter(|(heard, original)| **heard != *original).count();
        assert_eq!(wrong, 0, "of {} after {stall} frames", left.len() - from);
    }
}

#[test]
fn frames_that_a_blocked_worker_missed_are_recorded_as_silence_and_counted() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("missed");
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Dual, Tracks::Both) }),
    );
    pair.talk(100, 0x10, 0xD5);
    pair.pass(1, milliseconds(3_000));
    pair.a.timestamp = pair.a.timestamp.wrapping_add(150 * 160);
    pair.talk(100, 0x20, 0xD5);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let events = pair.events(Side::A);
    let reported = events.iter().find_map(|(_, event)| match event {
        Event::RecordingFinished { duration, dropped, .. } => Some((*duration, *dropped)),
        _ => None,
    });
    let (duration, dropped) = reported.unwrap();
    assert!(duration.abs_diff(milliseconds(7_000)) <= milliseconds(20), "{duration:?}");
    assert!((milliseconds(2_960)..=milliseconds(3_000)).contains(&dropped), "{dropped:?}");
    // Audio from the time after the stall is at its correct position.
    let original = crate::codec::g711::ULAW_TO_LINEAR[0x20];
    let first = file.samples().into_iter().step_by(2).position(|sample| sample == original).unwrap();
    assert!((first as i64 / 8 - 5_000).abs() <= 20, "{first}");
}

#[test]
fn a_lossy_call_fills_whole_pieces_and_drops_no_audio() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("lossy-pieces");
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start { op: OpId(1), spec: spec(&file, Channels::Dual, Tracks::Both) }),
    );
    pair.set_writing(false);
    // The buffers hold linear samples for this time, although every fifth packet is concealed.
    for frame in 0..65 {
        if frame % 5 == 4 {
            pair.lose(Side::A);
        } else {
            pair.send_audio(Side::A, 0x10, NOW);
        }
        pair.advance(20);
    }
    pair.set_writing(true);
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(1) }));
    pair.advance(5);
    let events = pair.events(Side::A);
    let dropped = events.iter().find_map(|(_, event)| match event {
        Event::RecordingFinished { dropped, .. } => Some(*dropped),
        _ => None,
    });
    assert_eq!(dropped, Some(Duration::ZERO));
}
