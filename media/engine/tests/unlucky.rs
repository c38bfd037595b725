//! Commands, plans and packets in an unlucky order.

use super::codecs::{G722, Hum, OPUS};
use super::*;
use crate::codec::Codec;

/// 20 ms frames of a mono file from its first loud one to its last, and how many of them are silent.
fn loud_and_silent(file: &TestFile, channel: usize, channels: usize) -> (usize, usize) {
    let samples: Vec<i16> = file.samples().into_iter().skip(channel).step_by(channels).collect();
    let loud: Vec<bool> =
        samples.chunks(160).map(|frame| frame.iter().any(|sample| sample.unsigned_abs() > 1_000)).collect();
    let first = loud.iter().position(|loud| *loud).unwrap();
    let last = loud.iter().rposition(|loud| *loud).unwrap();
    (last - first + 1, loud[first..=last].iter().filter(|loud| !**loud).count())
}

#[test]
fn a_session_that_is_closing_is_bridged_with_nobody() {
    let mut pair = MediaPair::new();
    pair.talk(5, 0x10, 0x20);
    // Its sink is full, so that it stays a while.
    pair.set_full(Who::B, true);
    pair.close(Who::B);
    pair.bridge();
    let before = pair.core.counts;
    for _ in 0..5 {
        pair.say(Who::A, 0x10, NOW);
        pair.advance(20);
    }
    pair.set_full(Who::B, false);
    pair.advance(100);
    assert_eq!(pair.over, [pair.b.key]);
    // Whoever has its place next.
    pair.core.insert(MediaSession::new(SessionKey(3), 3, Arc::new(|_, _| Ok(())), true));
    pair.say(Who::A, 0x10, NOW);
    pair.advance(20);
    let after = pair.core.counts;
    assert_eq!((after.relayed, after.dropped), (before.relayed, before.dropped));
}

#[test]
fn a_peer_that_sends_another_codec_than_it_is_sent_is_heard_all_the_same() {
    for (a_media, b_media, said) in [
        ("m=audio 4000 RTP/AVP 9 0\r\n", G722, Codec::Pcmu),
        ("m=audio 4000 RTP/AVP 111 8\r\na=rtpmap:111 opus/48000/2\r\n", OPUS, Codec::Pcma),
    ] {
        let mut pair = MediaPair::between(a_media, b_media);
        pair.bridge();
        pair.a.payload_type = said.static_payload_type().unwrap();
        let codec = if b_media == G722 { Codec::G722 } else { Codec::Opus };
        let (mut a, mut b) = (Hum::new(said, 440.0), Hum::new(codec, 1_000.0));
        super::codecs::hum(&mut pair, &mut a, &mut b, 60);
        let (length, share) = super::codecs::tone(&pair.heard(Who::B), codec, 440.0);
        assert!(length >= 14_000 && share > 0.9, "{share} of {length}");
    }
}

#[test]
fn a_recording_goes_on_through_a_change_of_codec_without_a_hole() {
    for (media, codec) in [(G722, Codec::G722), (OPUS, Codec::Opus)] {
        let mut pair = MediaPair::with("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
        let file = TestFile::new(&format!("change-{codec:?}"));
        pair.command(Who::A, play(1, 200));
        pair.command(Who::A, Command::Record { op: OpId(2), spec: spec(&file, Channels::Dual, Tracks::Both) });
        let mut hum = Hum::new(Codec::Pcmu, 440.0);
        for _ in 0..50 {
            hum.say(&mut pair, Who::A);
            pair.advance(20);
        }
        pair.offer(Who::A, media);
        pair.a.payload_type = pair.a.negotiation.plan().unwrap().payload_type;
        let mut hum = Hum::new(codec, 440.0);
        for _ in 0..50 {
            hum.say(&mut pair, Who::A);
            pair.advance(20);
        }
        pair.command(Who::A, Command::StopRecording { op: OpId(2) });
        pair.advance(20);
        assert_eq!(file.samples().len(), 100 * 320, "{codec:?}");
        for channel in 0..2 {
            let (all, silent) = loud_and_silent(&file, channel, 2);
            assert!(all >= 98 && silent <= 2, "{silent} of {all} silent, side {channel}, {codec:?}");
        }
    }
}

#[test]
fn a_short_prompt_between_relayed_packets_is_recorded_as_it_was() {
    let mut pair = MediaPair::between(OPUS, OPUS);
    let file = TestFile::new("short-prompt");
    pair.bridge();
    let mut b = Hum::new(Codec::Opus, 440.0);
    for _ in 0..20 {
        b.say(&mut pair, Who::B);
        pair.advance(20);
    }
    pair.command(Who::A, Command::Record { op: OpId(2), spec: spec(&file, Channels::Mono, Tracks::Outbound) });
    for frame in 0..40 {
        if frame == 10 {
            pair.command(
                Who::A,
                Command::Play { op: OpId(1), audio: Arc::new(Audio::new(vec![0; 640])), loops: NonZeroU32::new(1) },
            );
        }
        b.say(&mut pair, Who::B);
        pair.advance(20);
    }
    pair.command(Who::A, Command::StopRecording { op: OpId(2) });
    pair.advance(20);
    let (all, silent) = loud_and_silent(&file, 0, 1);
    assert!((3..=5).contains(&silent), "{silent} of {all}");
}

#[test]
fn a_leg_that_is_bridged_again_and_again_is_recorded_in_about_its_length() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("regrouped");
    pair.command(Who::B, Command::Record { op: OpId(2), spec: spec(&file, Channels::Mono, Tracks::Both) });
    let mut keys = Vec::new();
    for key in 3..9 {
        let session = MediaSession::new(SessionKey(key), 3, Arc::new(|_, _| Ok(())), true);
        pair.core.insert(session);
        keys.push(SessionKey(key));
    }
    let began = pair.now();
    for round in 0..24usize {
        // B is the one that is regrouped.
        let with = pair.b.key;
        pair.core.handle_command(keys[round % keys.len()], Command::Bridge { with });
        pair.advance(95 + round as u64 % 17);
    }
    let talked = pair.now() - began;
    pair.command(Who::B, Command::StopRecording { op: OpId(2) });
    pair.advance(20);
    let recorded = file.samples().len() as u64 / 8;
    // 24 moves of 10 ms each that all fell one way would be 240.
    assert!(milliseconds(recorded).abs_diff(talked) <= milliseconds(40), "{recorded} of {talked:?}");
}
