//! Commands, plans and packets in unusual orders.

use super::codecs::{G722, Hum, OPUS};
use super::*;
use crate::codec::Codec;

/// The number of runs of the random test.
const SEEDS: u32 = 12;

/// Returns two numbers about a channel. The first number is the number of 20 ms frames from the first loud frame to the
/// last loud frame. The second number is the number of silent frames among these frames.
fn loud_and_silent(file: &TestFile, channel: usize, channels: usize) -> (usize, usize) {
    let samples: Vec<i16> = file.samples().into_iter().skip(channel).step_by(channels).collect();
    let loud: Vec<bool> =
        samples.chunks(160).map(|frame| frame.iter().any(|sample| sample.unsigned_abs() > 1_000)).collect();
    let first = loud.iter().position(|loud| *loud).unwrap();
    let last = loud.iter().rposition(|loud| *loud).unwrap();
    (last - first + 1, loud[first..=last].iter().filter(|loud| !**loud).count())
}

#[test]
fn a_closing_session_is_not_bridged() {
    let mut pair = MediaPair::new();
    pair.talk(5, 0x10, 0x20);
    // The session's sink is full, so the session does not end at once.
    pair.set_full(Side::B, true);
    pair.close(Side::B);
    pair.bridge();
    let before = pair.core.counts;
    for _ in 0..5 {
        pair.send_audio(Side::A, 0x10, NOW);
        pair.advance(20);
    }
    pair.set_full(Side::B, false);
    pair.advance(100);
    assert_eq!(pair.over, [pair.b.key]);
    // Another session gets the slot of the closed session.
    pair.core.insert(Box::new(MediaSession::new(LegId(3), 3, Arc::new(|_, _| Ok(())), true)));
    pair.send_audio(Side::A, 0x10, NOW);
    pair.advance(20);
    let after = pair.core.counts;
    assert_eq!((after.relayed, after.dropped), (before.relayed, before.dropped));
}

#[test]
fn a_far_end_that_sends_another_codec_than_it_receives_is_relayed() {
    for (a_media, b_media, sent_codec) in [
        ("m=audio 4000 RTP/AVP 9 0\r\n", G722, Codec::Pcmu),
        ("m=audio 4000 RTP/AVP 111 8\r\na=rtpmap:111 opus/48000/2\r\n", OPUS, Codec::Pcma),
    ] {
        let mut pair = MediaPair::between(a_media, b_media);
        pair.bridge();
        pair.a.payload_type = sent_codec.static_payload_type().unwrap();
        let codec = if b_media == G722 { Codec::G722 } else { Codec::Opus };
        let (mut a, mut b) = (Hum::new(sent_codec, 440.0), Hum::new(codec, 1_000.0));
        super::codecs::hum(&mut pair, &mut a, &mut b, 60);
        let (length, share) = super::codecs::tone(&pair.heard(Side::B), codec, 440.0);
        assert!(length >= 14_000 && share > 0.9, "{share} of {length}");
    }
}

#[test]
fn a_recording_continues_through_a_change_of_codec_without_a_gap() {
    for (media, codec) in [(G722, Codec::G722), (OPUS, Codec::Opus)] {
        let mut pair = MediaPair::with("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
        let file = TestFile::new(&format!("change-{codec:?}"));
        pair.command(Side::A, play(1, 200));
        pair.command(
            Side::A,
            Command::Recording(RecordingCommand::Start {
                op: OpId(2),
                spec: spec(&file, Channels::Dual, Tracks::Both),
            }),
        );
        let mut hum = Hum::new(Codec::Pcmu, 440.0);
        for _ in 0..50 {
            hum.say(&mut pair, Side::A);
            pair.advance(20);
        }
        pair.offer(Side::A, media);
        pair.a.payload_type = pair.a.negotiation.plan().unwrap().audio.payload_type;
        let mut hum = Hum::new(codec, 440.0);
        for _ in 0..50 {
            hum.say(&mut pair, Side::A);
            pair.advance(20);
        }
        pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(2) }));
        pair.advance(20);
        assert_eq!(file.samples().len(), 100 * 320, "{codec:?}");
        for channel in 0..2 {
            let (all, silent) = loud_and_silent(&file, channel, 2);
            assert!(all >= 98 && silent <= 2, "{silent} of {all} silent, side {channel}, {codec:?}");
        }
    }
}

#[test]
fn a_short_prompt_between_relayed_packets_is_recorded_unchanged() {
    let mut pair = MediaPair::between(OPUS, OPUS);
    let file = TestFile::new("short-prompt");
    pair.bridge();
    let mut b = Hum::new(Codec::Opus, 440.0);
    for _ in 0..20 {
        b.say(&mut pair, Side::B);
        pair.advance(20);
    }
    pair.command(
        Side::A,
        Command::Recording(RecordingCommand::Start {
            op: OpId(2),
            spec: spec(&file, Channels::Mono, Tracks::Outbound),
        }),
    );
    for frame in 0..40 {
        if frame == 10 {
            pair.command(
                Side::A,
                Command::Play {
                    op: OpId(1),
                    audio: Arc::new(Audio::new(vec![0; 640])),
                    loops: NonZeroU32::new(1),
                    elapsed: std::time::Duration::ZERO,
                },
            );
        }
        b.say(&mut pair, Side::B);
        pair.advance(20);
    }
    pair.command(Side::A, Command::Recording(RecordingCommand::Stop { op: OpId(2) }));
    pair.advance(20);
    let (all, silent) = loud_and_silent(&file, 0, 1);
    assert!((3..=5).contains(&silent), "{silent} of {all}");
}

#[test]
fn a_leg_with_many_bridges_is_recorded_with_about_its_length() {
    let mut pair = MediaPair::new();
    let file = TestFile::new("regrouped");
    pair.command(
        Side::B,
        Command::Recording(RecordingCommand::Start { op: OpId(2), spec: spec(&file, Channels::Mono, Tracks::Both) }),
    );
    let mut keys = Vec::new();
    for key in 3..9 {
        let session = MediaSession::new(LegId(key), 3, Arc::new(|_, _| Ok(())), true);
        pair.core.insert(Box::new(session));
        keys.push(LegId(key));
    }
    let began = pair.now();
    for round in 0..24usize {
        // B is the session that changes its group.
        let with = pair.b.key;
        pair.command_of(keys[round % keys.len()], Command::Bridge { with });
        pair.advance(95 + round as u64 % 17);
    }
    let talked = pair.now() - began;
    pair.command(Side::B, Command::Recording(RecordingCommand::Stop { op: OpId(2) }));
    pair.advance(20);
    let recorded = file.samples().len() as u64 / 8;
    // If each of the 24 moves shifted the clock by 10 ms in the same direction, the sum would be 240 ms.
    assert!(milliseconds(recorded).abs_diff(talked) <= milliseconds(40), "{recorded} of {talked:?}");
}

#[test]
fn any_commands_plans_and_packets_in_any_order_keep_the_invariants() {
    const MEDIA: [&str; 7] = [
        G722,
        OPUS,
        "m=audio 4000 RTP/AVP 96 0\r\na=rtpmap:96 L16/16000\r\n",
        "m=audio 4000 RTP/AVP 8 0 9 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:60\r\n",
        "m=audio 4000 RTP/AVP 0 13\r\na=ptime:10\r\n",
        "m=audio 4000 RTP/AVP 0 111\r\na=rtpmap:111 opus/48000/2\r\na=sendonly\r\n",
        "m=audio 4000 RTP/AVP 9 0\r\na=inactive\r\n",
    ];
    for seed in 1..=SEEDS {
        let mut state = seed;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut pair = MediaPair::new();
        let file = TestFile::new("any");
        let mut readers = Vec::new();
        for _ in 0..400 {
            let side = if random(2) == 0 { Side::A } else { Side::B };
            let op = OpId(random(3).into());
            let track = [Tracks::Inbound, Tracks::Outbound, Tracks::Both][random(3) as usize];
            match random(40) {
                0 => pair.bridge(),
                1 => pair.command(side, Command::Unbridge),
                2 => pair.command(side, Command::Mute { inbound: random(2) == 0 }),
                3 => pair.command(side, Command::Suppress { direction: track, on: random(3) > 0 }),
                4 => pair.command(
                    side,
                    Command::Recording(RecordingCommand::Start { op, spec: spec(&file, Channels::Dual, track) }),
                ),
                5 => pair.command(side, Command::Recording(RecordingCommand::Stop { op })),
                6 => pair.command(side, Command::Recording(RecordingCommand::Pause { op, silence: random(2) == 0 })),
                7 => pair.command(side, Command::Recording(RecordingCommand::Resume { op })),
                8 => {
                    let (sink, reader) = tap(8, TapCodec::Native);
                    readers.push(reader);
                    pair.command(side, Command::Tap { op, tracks: track, sink });
                }
                9 => pair.command(side, Command::Untap { op }),
                10 => pair.command(side, play(op.0, 7)),
                11 => pair.command(side, Command::SendDigits { op, digits: "5#".into(), duration_ms: 100 }),
                12 => pair.command(side, Command::Echo(random(3) == 0)),
                13 => pair.command(side, Command::DetectMachine { op, spec: Box::default() }),
                14 => pair.command(side, Command::Stop { op }),
                15 | 16 => pair.offer(side, MEDIA[random(7) as usize]),
                17 => readers.clear(),
                _ => {}
            }
            for _ in 0..random(4) {
                let party = if side == Side::A { &mut pair.a } else { &mut pair.b };
                let number = [party.payload_type, 0, 8, 9, 13, 96, 101, 111][random(8) as usize];
                let length = [0, 1, 4, 60, 80, 160, 320, 640, 1_500][random(9) as usize];
                let mut packet = party.next(number, &vec![random(256) as u8; length]);
                party.timestamp = party.timestamp.wrapping_add([0, 80, 160, 960, 1 << 31][random(5) as usize]);
                if random(20) == 0 {
                    party.sequence = random(65_536) as u16;
                }
                if random(20) == 0 {
                    packet[11] = random(4) as u8;
                }
                pair.send(side, Flow::Rtp, packet, milliseconds(random(60).into()));
            }
            pair.advance(random(45).into());
        }
        pair.close(Side::A);
        pair.close(Side::B);
        pair.advance(200);
        assert_eq!(pair.over.len(), 2);
    }
}

#[test]
fn a_far_end_gets_silence_while_the_bridged_leg_is_muted_in_any_codec() {
    for (media, codec) in [(G722, Codec::G722), (OPUS, Codec::Opus)] {
        let mut pair = MediaPair::between(media, media);
        pair.bridge();
        let mut a = Hum::new(codec, 440.0);
        for frame in 0..40 {
            if frame == 20 {
                pair.command(Side::A, Command::Mute { inbound: true });
                pair.heard(Side::B);
            }
            a.say(&mut pair, Side::A);
            pair.advance(20);
        }
        let heard = pair.heard(Side::B).len();
        assert!((19..=21).contains(&heard), "{heard} packets, {codec:?}");
    }
}

#[test]
fn a_leg_with_echo_gets_no_audio_of_its_bridge() {
    for media in ["m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n", G722] {
        let mut pair = MediaPair::with(media);
        pair.bridge();
        pair.talk(10, 0x33, 0xD5);
        pair.command(Side::A, Command::Echo(true));
        pair.talk(2, 0x33, 0xD5);
        drop((pair.heard(Side::A), pair.heard(Side::B)));
        pair.talk(20, 0x33, 0x20);
        let heard = pair.heard(Side::A);
        assert_eq!(heard.len(), 20, "{media}");
        assert!(heard.iter().all(|sent| sent.payload() == [0x33; 160]), "{media}");
        // In the meantime the engine sends silence to the other leg.
        let heard = pair.heard(Side::B);
        assert_eq!(heard.len(), 20, "{media}");
        assert!(heard.iter().all(|sent| sent.payload() == [0xD5; 160]), "{media}");
    }
}

#[test]
fn packets_longer_than_maxptime_of_the_bridged_leg_are_divided() {
    for (longest, arrive) in [
        ("", 480),
        ("a=maxptime:60\r\n", 480),
        ("a=maxptime:40\r\n", 160),
        ("a=maxptime:20\r\n", 160),
        ("a=maxptime:10\r\n", 80),
    ] {
        let mut pair =
            MediaPair::between("m=audio 4000 RTP/AVP 0\r\n", &format!("m=audio 4000 RTP/AVP 0\r\n{longest}"));
        pair.bridge();
        for _ in 0..20 {
            let packet = pair.a.next(0, &[0x11; 480]);
            pair.a.timestamp = pair.a.timestamp.wrapping_add(480);
            pair.send(Side::A, Flow::Rtp, packet, NOW);
            pair.advance(60);
        }
        let sent: Vec<Sent> = pair.heard(Side::B).into_iter().filter(is_loud).collect();
        assert!(sent.iter().all(|sent| sent.payload().len() == arrive), "{longest}");
        assert!(sent.len() * arrive >= 17 * 480, "{longest}: {}", sent.len());
    }
}

#[test]
fn no_packet_is_longer_than_maxptime_and_no_audio_is_lost() {
    let g711 = "m=audio 4000 RTP/AVP 0\r\n";
    let l16 = "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 L16/16000\r\n";
    for (media, longest, octets, units) in [
        (g711, 20, 160, 160),
        (g711, 19, 80, 80),
        (g711, 10, 80, 80),
        (g711, 5, 40, 40),
        (g711, 1, 40, 40),
        ("m=audio 4000 RTP/AVP 9\r\n", 10, 80, 80),
        (l16, 10, 320, 160),
    ] {
        let mut pair = MediaPair::between(g711, &format!("{media}a=ptime:20\r\na=maxptime:{longest}\r\n"));
        pair.bridge();
        pair.talk(50, 0x11, 0x22);
        let sent: Vec<Sent> = pair.heard(Side::B);
        assert!(sent.len() >= 45 * 160 / units as usize, "{media} {longest}: {}", sent.len());
        for pair in sent.windows(2) {
            let [one, next] = pair else { unreachable!() };
            assert_eq!(one.payload().len(), octets, "{media} {longest}");
            assert_eq!(next.header().sequence, one.header().sequence.wrapping_add(1));
            assert_eq!(next.header().timestamp, one.header().timestamp.wrapping_add(units), "{media} {longest}");
        }
    }
}

#[test]
fn a_far_end_with_a_new_nat_port_exchanges_audio_again_after_a_second() {
    for kernel in [false, true] {
        let media = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        let mut pair = if kernel { MediaPair::with_kernel(media, media) } else { MediaPair::between(media, media) };
        pair.bridge();
        pair.talk(100, 0x11, 0x22);
        assert_eq!(pair.is_offloaded(Side::A), kernel);
        pair.heard(Side::A);
        pair.heard(Side::B);
        let moved: SocketAddr = "127.0.0.2:61000".parse().unwrap();
        let stranger: SocketAddr = "127.0.0.66:4000".parse().unwrap();
        let (mut until_heard, mut until_hears) = (None, None);
        for frame in 0..100 {
            let packet = pair.a.next(0, &[0x11; 160]);
            pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
            // A stranger sprays packets all the time, and does not know the SSRC.
            let mut sprayed = packet.clone();
            sprayed[8..12].copy_from_slice(&[9, 9, 9, 9]);
            pair.send_from(Side::A, Flow::Rtp, stranger, sprayed, NOW);
            pair.send_from(Side::A, Flow::Rtp, moved, packet, NOW);
            pair.send_audio(Side::B, 0x22, NOW);
            pair.advance(20);
            if pair.heard(Side::B).iter().any(is_loud) {
                until_heard.get_or_insert(frame);
            }
            let to_a = pair.heard(Side::A);
            assert!(to_a.iter().all(|sent| sent.to != stranger));
            if to_a.iter().any(|sent| sent.to == moved) {
                until_hears.get_or_insert(frame);
            }
        }
        for (what, frame) in [("heard", until_heard), ("hears", until_hears)] {
            assert!(frame.is_some_and(|frame| (45..=60).contains(&frame)), "kernel: {kernel}; {what}: {frame:?}");
        }
    }
}
