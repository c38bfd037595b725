//! Far ends with several sources (SSRCs): telephone-events beside the audio, a second audio source, and timestamps with
//! a new origin. The bridged leg hears one stream with one clock (RFC 3550 §5.1), and each telephone-event has one
//! timestamp (RFC 4733 §2.2).

use super::*;
use crate::rtp::Header;
use crate::rtp::dtmf::Detector;

const EVENTS_SSRC: u32 = 0xBB;
const OTHER_SSRC: u32 = 0xCC;

/// A source of A's far end with its own SSRC and sequence numbers.
struct Source {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
}

impl Source {
    fn new(ssrc: u32) -> Source {
        Source { ssrc, sequence: 65_530, timestamp: 0xFFFF_FF00 }
    }

    fn send(&mut self, pair: &mut MediaPair, payload_type: u8, marker: bool, payload: &[u8]) {
        let header = Header {
            marker,
            payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            payload: 12..12 + payload.len(),
        };
        let mut packet = vec![0; 12];
        header.write(&mut packet);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        pair.send(Side::A, Flow::Rtp, packet, NOW);
    }

    fn send_event(&mut self, pair: &mut MediaPair, event: u8, marker: bool, end: bool, duration: u16) {
        let [high, low] = duration.to_be_bytes();
        self.send(pair, 101, marker, &[event, if end { 0x8A } else { 10 }, high, low]);
    }

    fn send_audio(&mut self, pair: &mut MediaPair, octet: u8) {
        self.send(pair, 0, false, &[octet; 160]);
        self.timestamp = self.timestamp.wrapping_add(160);
    }
}

/// Returns the digits that a far end detects in the packets that it gets.
fn digits(sent: &[Sent], payload_type: u8) -> String {
    let mut detector = Detector::default();
    sent.iter()
        .filter(|sent| sent.header().payload_type == payload_type)
        .filter_map(|sent| detector.handle(&sent.header(), sent.payload(), 8_000))
        .map(|(digit, _)| digit)
        .collect()
}

/// The timestamps of the telephone-events, one for each event.
fn event_timestamps(sent: &[Sent], payload_type: u8) -> Vec<u32> {
    let mut timestamps: Vec<u32> = sent
        .iter()
        .map(Sent::header)
        .filter(|header| header.payload_type == payload_type)
        .map(|header| header.timestamp)
        .collect();
    timestamps.dedup();
    timestamps
}

/// Asserts that all packets have successive sequence numbers, that the audio has no marker after the first packet, and
/// that the timestamps of the audio follow each other.
fn assert_audio_is_undisturbed(sent: &[Sent], payload_type: u8) {
    for two in sent.windows(2) {
        assert_eq!(two[1].header().sequence, two[0].header().sequence.wrapping_add(1));
    }
    let audio: Vec<Header> =
        sent.iter().map(Sent::header).filter(|header| header.payload_type == payload_type).collect();
    for two in audio.windows(2) {
        assert_eq!(two[1].timestamp.wrapping_sub(two[0].timestamp), 160);
        assert!(!two[1].marker);
    }
}

/// Presses the digits 1, 2 and 3, each with five updates and three ends. The events have an SSRC of their own. `between`
/// is called before each packet.
fn press_123(pair: &mut MediaPair, events: &mut Source, mut between: impl FnMut(&mut MediaPair, usize)) {
    let mut number = 0;
    for event in [1, 2, 3] {
        for packet in 0..8u16 {
            between(pair, number);
            number += 1;
            let (end, duration) = (packet >= 5, 160 * (packet + 1).min(6));
            events.send_event(pair, event, packet == 0, end, duration);
            pair.advance(20);
        }
        events.timestamp = events.timestamp.wrapping_add(4_000);
        for _ in 0..10 {
            between(pair, usize::MAX);
            pair.advance(20);
        }
    }
}

fn audio_of_a(pair: &mut MediaPair) {
    pair.send_audio(Side::A, 0x11, NOW);
    pair.send_audio(Side::B, 0x22, NOW);
}

fn detected_digits(pair: &mut MediaPair, side: Side) -> String {
    let digit = |(_, event)| if let Event::Dtmf { digit, .. } = event { Some(digit) } else { None };
    pair.events(side).into_iter().filter_map(digit).collect()
}

#[test]
fn events_beside_the_audio_are_relayed_as_one_event_each_and_do_not_change_the_audio() {
    for kernel in [false, true] {
        let media = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        let other = "m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\n";
        let mut pair = if kernel { MediaPair::with_kernel(media, other) } else { MediaPair::between(media, other) };
        pair.bridge();
        pair.talk(60, 0x11, 0x22);
        assert_eq!(pair.is_offloaded(Side::A), kernel);
        pair.heard(Side::B);
        press_123(&mut pair, &mut Source::new(EVENTS_SSRC), |pair, _| audio_of_a(pair));
        assert_eq!(detected_digits(&mut pair, Side::A), "123");
        pair.talk(60, 0x11, 0x22);
        let sent = pair.heard(Side::B);
        assert_eq!(digits(&sent, 96), "123", "kernel: {kernel}");
        let starts = event_timestamps(&sent, 96);
        let apart: Vec<u32> = starts.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
        assert_eq!(apart, [4_000, 4_000]);
        assert_audio_is_undisturbed(&sent, 0);
        assert_eq!(sent.len(), 54 + 24 + 60);
        pair.close(Side::A);
        let events = pair.events(Side::A);
        let Some((_, Event::Closed { stats, .. })) = events.last() else { panic!("{events:?}") };
        assert_eq!((stats.lost, stats.jitter_ms, stats.burst_ratio), (0, 0.0, 1.0));
    }
}

#[test]
fn the_rest_of_a_digit_that_began_before_the_bridge_is_not_relayed() {
    let media = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let mut pair = MediaPair::between(media, media);
    let mut events = Source::new(EVENTS_SSRC);
    for packet in 0..8u16 {
        if packet == 2 {
            pair.bridge();
        }
        events.send_event(&mut pair, 1, packet == 0, packet >= 5, 160 * (packet + 1).min(6));
        pair.advance(20);
    }
    assert_eq!(detected_digits(&mut pair, Side::A), "1");
    assert_eq!(digits(&pair.heard(Side::B), 101), "");
    events.timestamp = events.timestamp.wrapping_add(4_000);
    press_123(&mut pair, &mut events, |_, _| {});
    assert_eq!(detected_digits(&mut pair, Side::A), "123");
    assert_eq!(digits(&pair.heard(Side::B), 101), "123");
}

#[test]
fn the_rest_of_a_digit_that_began_before_the_end_of_a_bridge_is_sent_by_the_echo() {
    let media = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let mut pair = MediaPair::between(media, media);
    pair.bridge();
    let mut events = Source::new(EVENTS_SSRC);
    for packet in 0..8u16 {
        if packet == 2 {
            pair.command(Side::A, Command::Unbridge);
            pair.command(Side::A, Command::Echo(true));
        }
        events.send_event(&mut pair, 1, packet == 0, packet >= 5, 160 * (packet + 1).min(6));
        pair.advance(20);
    }
    assert_eq!(detected_digits(&mut pair, Side::A), "1");
    assert_eq!(digits(&pair.heard(Side::A), 101), "1");
}

#[test]
fn an_event_stays_one_event_with_any_packets_between_its_packets() {
    type Between = fn(&mut MediaPair, usize);
    let cases: [(&str, Between); 10] = [
        ("nothing", |_, _| {}),
        ("sparse updates", |pair, number| pair.advance(if number == usize::MAX { 0 } else { 700 })),
        ("silence of 3 s after the second packet", |pair, number| {
            pair.advance(if number % 8 == 2 { 3_000 } else { 0 });
        }),
        ("a prompt", |pair, number| {
            audio_of_a(pair);
            if number % 8 == 3 {
                pair.command(Side::B, play(number as u64, 2));
                pair.talk(4, 0x11, 0x22);
            }
        }),
        ("a prompt that lasts over two digits", |pair, number| {
            audio_of_a(pair);
            if number == 3 {
                pair.command(Side::B, play(number as u64, 25));
            }
        }),
        ("a stream of prompts", |pair, number| {
            audio_of_a(pair);
            pair.command(Side::B, play(number as u64, 2));
        }),
        ("a recording", |pair, number| {
            audio_of_a(pair);
            let file = TestFile::new("sources");
            let spec = spec(&file, Channels::Dual, Tracks::Both);
            match number % 8 {
                1 => pair.command(Side::B, Command::Recording(RecordingCommand::Start { op: OpId(900), spec })),
                4 => pair.command(Side::B, Command::Recording(RecordingCommand::Stop { op: OpId(900) })),
                _ => {}
            }
        }),
        ("a mute that ends", |pair, number| {
            audio_of_a(pair);
            if number % 8 == 2 {
                pair.command(Side::A, Command::Mute { inbound: true });
                pair.talk(2, 0x11, 0x22);
                pair.command(Side::A, Command::Mute { inbound: false });
            }
        }),
        ("another bridge", |pair, number| {
            audio_of_a(pair);
            if number % 8 == 2 {
                pair.command(Side::A, Command::Unbridge);
                pair.advance(20);
                pair.bridge();
            }
        }),
        ("a report", |pair, number| {
            audio_of_a(pair);
            if number % 8 == 2 {
                pair.talk(400, 0x11, 0x22);
            }
        }),
    ];
    for (ssrc, own) in [(EVENTS_SSRC, true), (0xAA, false)] {
        for (name, between) in cases {
            // B gets relayed packets, or frames because its codec differs.
            for media in ["m=audio 4000 RTP/AVP 8 96\r\n", "m=audio 4000 RTP/AVP 9 96\r\n"] {
                let other = format!("{media}a=rtpmap:96 telephone-event/8000\r\n");
                let media = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
                let mut pair = MediaPair::between(media, &other);
                pair.bridge();
                pair.talk(20, 0x11, 0x22);
                pair.heard(Side::B);
                let mut events = Source::new(ssrc);
                if !own {
                    // The events have the SSRC and the sequence numbers of the audio, and replace it.
                    (events.sequence, events.timestamp) = (pair.a.sequence, pair.a.timestamp);
                    let mut number = 0;
                    for event in [1, 2, 3] {
                        events.timestamp = pair.a.timestamp;
                        for packet in 0..8u16 {
                            between(&mut pair, number);
                            number += 1;
                            events.sequence = pair.a.sequence;
                            pair.a.sequence = pair.a.sequence.wrapping_add(1);
                            events.send_event(&mut pair, event, packet == 0, packet >= 5, 160 * (packet + 1).min(6));
                            pair.advance(20);
                        }
                        pair.a.timestamp = pair.a.timestamp.wrapping_add(4_000);
                        pair.advance(200);
                    }
                } else {
                    press_123(&mut pair, &mut events, between);
                }
                let case = format!("{name}; own SSRC: {own}; {other}");
                assert_eq!(detected_digits(&mut pair, Side::A), "123", "{case}");
                let sent = pair.heard(Side::B);
                assert_eq!(digits(&sent, 96), "123", "{case}");
                assert_eq!(event_timestamps(&sent, 96).len(), 3, "{case}");
                for two in sent.windows(2) {
                    let ahead = two[1].header().sequence.wrapping_sub(two[0].header().sequence);
                    assert!((1..=4).contains(&ahead), "{case}: {ahead}");
                }
            }
        }
    }
}

#[test]
fn two_sources_of_events_do_not_disturb_each_other() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    pair.heard(Side::B);
    let (mut one, mut other) = (Source::new(EVENTS_SSRC), Source::new(OTHER_SSRC));
    for (packet, duration) in (0..8u16).zip([160, 320, 480, 640, 800, 960, 960, 960]) {
        audio_of_a(&mut pair);
        one.send_event(&mut pair, 1, packet == 0, packet >= 5, duration);
        other.send_event(&mut pair, 2, packet == 0, packet >= 5, duration);
        pair.advance(20);
    }
    assert_eq!(detected_digits(&mut pair, Side::A), "12");
    let sent = pair.heard(Side::B);
    assert_eq!(digits(&sent, 96), "12");
    assert_audio_is_undisturbed(&sent, 8);
}

#[test]
fn two_digits_with_one_timestamp_get_two_timestamps() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    pair.heard(Side::B);
    let mut events = Source::new(EVENTS_SSRC);
    for event in [1, 2] {
        for packet in 0..4u16 {
            events.send_event(&mut pair, event, packet == 0, packet > 1, 160 * (packet + 1));
            pair.advance(20);
        }
    }
    let sent = pair.heard(Side::B);
    assert_eq!((digits(&sent, 96).as_str(), event_timestamps(&sent, 96).len()), ("12", 2));
}

#[test]
fn events_that_the_bridged_leg_does_not_support_do_not_change_its_audio() {
    let mut pair = MediaPair::between(
        "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n",
        "m=audio 4000 RTP/AVP 0\r\n",
    );
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    pair.heard(Side::B);
    press_123(&mut pair, &mut Source::new(EVENTS_SSRC), |pair, _| audio_of_a(pair));
    let sent = pair.heard(Side::B);
    assert_eq!(sent.len(), 54);
    assert_audio_is_undisturbed(&sent, 0);
}

#[test]
fn a_prompt_to_a_bridged_leg_has_one_marker_bit() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    pair.heard(Side::B);
    pair.command(Side::B, play(1, 10));
    pair.talk(9, 0x11, 0x22);
    let sent = pair.heard(Side::B);
    assert!(sent.len() >= 9 && sent.iter().skip(2).all(|sent| !sent.header().marker));
}

/// Sends two audio sources in this order, one packet of each source every 20 ms. Returns the packets that B gets.
fn alternate(pair: &mut MediaPair, other: &mut Source, frames: usize) -> Vec<Sent> {
    for _ in 0..frames {
        pair.send_audio(Side::A, 0x11, NOW);
        other.send_audio(pair, 0x33);
        pair.send_audio(Side::B, 0x22, NOW);
        pair.advance(20);
    }
    pair.heard(Side::B)
}

#[test]
fn of_two_simultaneous_audio_sources_the_newer_is_relayed_on_one_clock() {
    for (payload_type, kernel) in [(0, false), (9, false), (0, true)] {
        let media = format!("m=audio 4000 RTP/AVP {payload_type} 96\r\na=rtpmap:96 telephone-event/8000\r\n");
        let new = if kernel { MediaPair::with_kernel } else { MediaPair::between };
        let mut pair = new("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n", &media);
        pair.bridge();
        pair.talk(if kernel { 100 } else { 50 }, 0x11, 0x22);
        assert_eq!(pair.is_offloaded(Side::A), kernel);
        let before = pair.heard(Side::B).pop().unwrap().header();
        let mut other = Source::new(OTHER_SSRC);
        let sent = alternate(&mut pair, &mut other, 200);
        let newer = sent.iter().filter(|sent| sent.payload().iter().all(|octet| *octet == 0x33)).count();
        assert!(payload_type != 0 || newer >= 185, "{newer} packets of the newer source, kernel: {kernel}");
        let last = sent.last().unwrap().header();
        let passed = last.timestamp.wrapping_sub(before.timestamp);
        assert!((31_500..=33_000).contains(&passed), "4 s are 32,000 units, not {passed}");
        assert!((199..=204).contains(&sent.len()), "{}", sent.len());
        assert!(sent.iter().filter(|sent| sent.header().marker).count() <= 3, "{media} kernel: {kernel}");
        for two in sent.windows(2) {
            assert_eq!(two[1].header().sequence, two[0].header().sequence.wrapping_add(1));
        }
        // When the newer source falls silent, the older source is heard again.
        pair.talk(50, 0x11, 0x22);
        let back = pair.heard(Side::B);
        assert!((30..=50).contains(&back.iter().filter(|sent| is_loud(sent)).count()));
        pair.close(Side::A);
        let events = pair.events(Side::A);
        let Some((_, Event::Closed { stats, .. })) = events.last() else { panic!("{events:?}") };
        assert_eq!((stats.lost, stats.packets_in), (0, if kernel { 550 } else { 500 }));
        assert!(stats.dropped_other_source >= 195, "{}", stats.dropped_other_source);
    }
}

#[test]
fn a_new_or_returning_source_is_relayed_from_its_first_packet() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    pair.heard(Side::B);
    let mut other = Source::new(OTHER_SSRC);
    for round in 0..4 {
        for _ in 0..50 {
            if round % 2 == 0 {
                other.send_audio(&mut pair, 0x33);
                pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
            } else {
                pair.send_audio(Side::A, 0x11, NOW);
            }
            pair.send_audio(Side::B, 0x22, NOW);
            pair.advance(20);
        }
        let sent = pair.heard(Side::B);
        assert_eq!(sent.len(), 50, "round {round}");
        assert!(sent[0].header().marker && sent[1..].iter().all(|sent| !sent.header().marker));
        assert_one_line(&sent);
    }
}

#[test]
fn a_single_packet_of_another_source_causes_no_loss() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    pair.heard(Side::B);
    let mut other = Source::new(OTHER_SSRC);
    for _ in 0..5 {
        other.send_audio(&mut pair, 0x33);
        pair.talk(20, 0x11, 0x22);
        let ours = crate::codec::g711::ULAW_TO_ALAW[0x11];
        assert_eq!(pair.heard(Side::B).iter().filter(|sent| sent.payload() == [ours; 160]).count(), 20);
    }
}

#[test]
fn any_number_of_sources_uses_limited_memory_and_time() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    let before = pair.heard(Side::B).pop().unwrap().header();
    for round in 0..1_000 {
        let mut source = Source::new(1_000 + round);
        source.send_audio(&mut pair, 0x33);
        source.send_event(&mut pair, (round % 10) as u8, true, true, 160);
        pair.send_audio(Side::A, 0x11, NOW);
        pair.advance(20);
    }
    let last = pair.heard(Side::B).pop().unwrap().header();
    let passed = last.timestamp.wrapping_sub(before.timestamp);
    assert!(passed < 160 * 1_200, "the clock does not run ahead: {passed}");
}

#[test]
fn timestamps_with_a_new_origin_continue_the_bridged_legs_clock_with_a_marker_bit() {
    let seconds = |seconds: i32| seconds.wrapping_mul(8_000).cast_unsigned();
    for kernel in [false, true] {
        for jump in [seconds(1_000), seconds(-1_000), seconds(3), seconds(-3), seconds(100_000), 0x8000_0000] {
            let media = "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";
            let mut pair = if kernel { MediaPair::with_kernel(media, media) } else { MediaPair::between(media, media) };
            pair.bridge();
            pair.talk(70, 0x11, 0x22);
            assert_eq!(pair.is_offloaded(Side::A), kernel);
            let before = pair.heard(Side::B).pop().unwrap().header();
            pair.a.timestamp = pair.a.timestamp.wrapping_add(jump);
            pair.talk(20, 0x11, 0x22);
            let sent = pair.heard(Side::B);
            assert_eq!(sent.len(), 20, "{jump:#x}");
            let first = sent[0].header();
            assert!(first.marker && !sent[1].header().marker, "{jump:#x} kernel: {kernel}");
            let step = first.timestamp.wrapping_sub(before.timestamp);
            assert!((160..=320).contains(&step), "{jump:#x} kernel: {kernel}: {step}");
            assert_eq!(first.sequence, before.sequence.wrapping_add(1));
        }
    }
}

#[test]
fn a_pause_whose_timestamps_advance_keeps_its_length() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    let before = pair.heard(Side::B).pop().unwrap().header();
    pair.a.timestamp = pair.a.timestamp.wrapping_add(1_500 * 8);
    pair.advance(1_500);
    pair.talk(1, 0x11, 0x22);
    let after = pair.heard(Side::B).pop().unwrap().header();
    assert_eq!(after.timestamp.wrapping_sub(before.timestamp), 1_520 * 8);
}

#[test]
fn packets_that_were_delayed_together_have_no_new_timestamp_origin() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(20, 0x11, 0x22);
    let before = pair.heard(Side::B).pop().unwrap().header();
    for frame in 0..75u64 {
        pair.send_audio(Side::A, 0x11, milliseconds(1_500 - frame * 20));
        pair.advance(20);
    }
    pair.talk(20, 0x11, 0x22);
    let last = pair.heard(Side::B).pop().unwrap().header();
    assert_eq!(last.timestamp.wrapping_sub(before.timestamp), 95 * 160);
}

#[test]
fn events_that_the_far_end_encrypts_with_a_separate_ssrc_stay_one_event_each() {
    use crate::rtp::srtp::{Keys, LONGEST_TRAILER, Srtp as Protector};
    use crate::sdp::{Protection, RANDOM, Srtp};
    let mut pair = MediaPair::new();
    pair.a.negotiation.set_srtp(Srtp::Required, Some(&[7; RANDOM]));
    let key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n";
    pair.offer(Side::A, &format!("m=audio 4000 RTP/SAVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n{key}"));
    let Protection::Keyed(keys) = pair.a.negotiation.plan().unwrap().transport.protection.clone() else {
        panic!("no keys")
    };
    let Keys { send, receive, mki } = *keys;
    // One context for each SSRC, because an encrypting context has one SSRC.
    let context = || Protector::new(Keys { send: receive.clone(), receive: send.clone(), mki }).unwrap();
    let (mut of_audio, mut of_events) = (context(), context());
    let send = |pair: &mut MediaPair, far_end: &mut Protector, mut packet: Vec<u8>| {
        let length = packet.len();
        packet.resize(length + LONGEST_TRAILER, 0);
        let length = far_end.protect(&mut packet, length).unwrap();
        packet.truncate(length);
        pair.send(Side::A, Flow::Rtp, packet, NOW);
    };
    pair.bridge();
    for packet in 0..60u16 {
        let audio = pair.a.next(0, &[0x11; 160]);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        send(&mut pair, &mut of_audio, audio);
        if packet >= 20 {
            let (event, part) = ((packet - 20) / 10, (packet - 20) % 10);
            let mut event_packet =
                pair.a.next(101, &[event as u8, if part > 6 { 0x8A } else { 10 }, 0, 1 + part as u8]);
            pair.a.sequence = pair.a.sequence.wrapping_sub(1);
            event_packet[2..4].copy_from_slice(&packet.to_be_bytes());
            event_packet[4..8].copy_from_slice(&(u32::from(event) * 1_600).to_be_bytes());
            event_packet[8..12].copy_from_slice(&EVENTS_SSRC.to_be_bytes());
            send(&mut pair, &mut of_events, event_packet);
        }
        pair.send_audio(Side::B, 0x22, NOW);
        pair.advance(20);
    }
    assert_eq!(detected_digits(&mut pair, Side::A), "0123");
    let sent = pair.heard(Side::B);
    assert_eq!(digits(&sent, 96), "0123");
    assert_audio_is_undisturbed(&sent, 8);
}
