//! Tests of the whole engine on a virtual clock.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::command::{Channels, OpId, RecordSpec, RecordingCommand, Track, Tracks};
use crate::dtmf::DtmfMethod;
use crate::event::{FinishReason, RecordingReason};
use crate::quality::Impairment;
use crate::rtp::rtcp::{self, RtcpItem};
use crate::testing::{MediaPair, Sent, Side, TestFile};
use crate::{Audio, TapCodec, Tone, source, tap};

mod alignment;
mod any_moment;
mod codecs;
mod encrypted;
mod hold;
mod hostile;
mod machines;
mod offload;
mod recordings;
mod rooms;
mod sources;
mod streams;
mod suppression;
mod unlucky;
mod webrtc;

const NOW: Duration = Duration::ZERO;

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn tone(frames: usize) -> Arc<Audio> {
    Arc::new(Audio::new(vec![8_031; frames * 160]))
}

fn play(op: u64, frames: usize) -> Command {
    Command::Play { op: OpId(op), audio: tone(frames), loops: NonZeroU32::new(1), elapsed: Duration::ZERO }
}

fn spec(file: &TestFile, channels: Channels, track: Tracks) -> RecordSpec {
    RecordSpec { track, ..RecordSpec::new(&file.0, channels) }
}

fn is_loud(sent: &Sent) -> bool {
    sent.payload().iter().any(|octet| *octet != 0xFF && *octet != 0xD5)
}

/// Asserts that the sequence numbers have no gap and that the timestamps never go back.
fn assert_one_line(sent: &[Sent]) {
    for pair in sent.windows(2) {
        let (before, after) = (pair[0].header(), pair[1].header());
        assert_eq!(after.sequence, before.sequence.wrapping_add(1));
        assert_eq!(after.ssrc, before.ssrc);
        assert!(after.timestamp.wrapping_sub(before.timestamp) < 0x8000_0000, "timestamps go back");
    }
}

fn finished(op: u64, reason: FinishReason) -> Event {
    Event::Finished { op: OpId(op), reason }
}

#[test]
fn a_bridge_relays_packets_with_the_codec_and_sequence_of_the_other_leg() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.advance(100);
    pair.heard(Side::A);
    pair.heard(Side::B);
    pair.talk(50, 0x10, 0x20);
    let (a, b) = (pair.heard(Side::A), pair.heard(Side::B));
    let (a_loud, b_loud): (Vec<&Sent>, Vec<&Sent>) =
        (a.iter().filter(|sent| is_loud(sent)).collect(), b.iter().filter(|sent| is_loud(sent)).collect());
    assert_eq!((a_loud.len(), b_loud.len()), (50, 50));
    // While packets of the other leg arrive, the engine adds no silence of its own.
    assert!(a.len() <= 51 && b.len() <= 51, "{} {}", a.len(), b.len());
    assert_one_line(&a);
    assert_one_line(&b);
    assert!(
        a_loud
            .iter()
            .all(|sent| sent.header().payload_type == 0
                && sent.payload() == [crate::codec::g711::ALAW_TO_ULAW[0x20]; 160])
    );
    assert!(
        b_loud
            .iter()
            .all(|sent| sent.header().payload_type == 8
                && sent.payload() == [crate::codec::g711::ULAW_TO_ALAW[0x10]; 160])
    );
    assert!(b_loud[0].header().marker && !b_loud[1].header().marker);
    assert_eq!(b_loud[0].to, pair.b.address);
}

#[test]
fn a_leg_gets_a_packet_after_a_second_if_the_bridged_leg_never_sends() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.advance(900);
    assert!(pair.heard(Side::A).is_empty() && pair.heard(Side::B).is_empty());
    pair.advance(1_300);
    assert_eq!((pair.heard(Side::A).len(), pair.heard(Side::B).len()), (3, 3));
}

#[test]
fn a_leg_without_any_sent_packet_closes_without_a_bye() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.advance(400);
    pair.close(Side::A);
    assert!(matches!(pair.events(Side::A).last(), Some((_, Event::Closed { .. }))), "it waits for nothing");
    assert!(pair.heard(Side::A).is_empty() && pair.reports(Side::A).is_empty());
}

#[test]
fn a_leg_gets_a_packet_every_500_ms_after_the_bridged_leg_was_silent_for_two_seconds() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(50, 0x10, 0x20);
    pair.heard(Side::B);
    pair.advance(1_900);
    assert_eq!(pair.heard(Side::B).len(), 0, "a pause in speech is left as it is");
    pair.advance(5_100);
    let mut heard = pair.heard(Side::B);
    assert!((9..=11).contains(&heard.len()), "{}", heard.len());
    assert!(!heard.iter().any(is_loud));
    pair.talk(50, 0x10, 0x20);
    let spoken = pair.heard(Side::B);
    assert!(spoken.iter().filter(|sent| is_loud(sent)).count() >= 49);
    heard.extend(spoken);
    assert_one_line(&heard);
}

#[test]
fn timestamps_advance_evenly_across_reports() {
    let mut pair = MediaPair::new();
    pair.advance(100);
    pair.heard(Side::A);
    pair.command(Side::A, play(1, 600));
    pair.advance(11_000);
    assert!(!pair.reports(Side::A).is_empty());
    for (frame, two) in pair.heard(Side::A).windows(2).enumerate() {
        assert_eq!(two[1].header().timestamp.wrapping_sub(two[0].header().timestamp), 160, "after frame {frame}");
    }
}

#[test]
fn loss_and_reordering_are_visible_to_the_bridged_far_end() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(2, 0x10, 0x20);
    pair.heard(Side::B);
    pair.lose(Side::A);
    pair.send_audio(Side::A, 0x11, milliseconds(30));
    pair.send_audio(Side::A, 0x12, NOW);
    pair.advance(60);
    let heard = pair.heard(Side::B);
    let sequences: Vec<u16> =
        heard.iter().map(|sent| sent.header().sequence.wrapping_sub(heard[0].header().sequence)).collect();
    assert_eq!(sequences, [0, u16::MAX]);
    pair.close(Side::A);
    pair.advance(40);
    let events = pair.events(Side::A);
    let Some((_, Event::Closed { stats, .. })) = events.last() else { panic!("{events:?}") };
    assert_eq!((stats.lost, stats.packets_in), (1, 4));
}

#[test]
fn csrcs_extensions_and_padding_are_not_relayed() {
    let mut pair = MediaPair::new();
    pair.bridge();
    let mut packet = vec![0xB1, 0, 0, 7, 0, 0, 0, 160, 1, 2, 3, 4, 9, 9, 9, 9, 0xBE, 0xDE, 0, 1, 5, 5, 5, 5];
    packet.extend([0x10; 160]);
    packet.extend([0, 0, 0, 4]);
    pair.send(Side::A, Flow::Rtp, packet, NOW);
    pair.advance(4);
    let heard: Vec<Sent> = pair.heard(Side::B).into_iter().filter(is_loud).collect();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].packet.len(), 172);
    assert_eq!(heard[0].packet[0], 0x80);
}

#[test]
fn a_leg_gets_one_rtp_stream_through_silence_and_prompts() {
    let mut pair = MediaPair::new();
    pair.advance(200);
    pair.command(Side::A, play(1, 10));
    pair.advance(400);
    pair.command(Side::A, play(2, 5));
    pair.advance(400);
    let heard = pair.heard(Side::A);
    assert_eq!(heard.len(), 50);
    assert_one_line(&heard);
    for place in heard.windows(2) {
        assert_eq!(place[1].header().timestamp, place[0].header().timestamp.wrapping_add(160));
        assert_eq!(place[1].at - place[0].at, milliseconds(20));
    }
    assert_eq!(heard.iter().filter(|sent| is_loud(sent)).count(), 15);
    assert!(heard[0].header().marker);
    let events: Vec<Event> = pair.events(Side::A).into_iter().map(|(_, event)| event).collect();
    assert_eq!(events, [finished(1, FinishReason::Completed), finished(2, FinishReason::Completed)]);
}

#[test]
fn a_prompt_ends_20_ms_after_its_last_frame_was_sent() {
    let mut pair = MediaPair::new();
    pair.command(Side::A, play(1, 3));
    pair.advance(200);
    let last = pair.heard(Side::A).iter().rfind(|sent| is_loud(sent)).unwrap().at;
    let (at, event) = pair.events(Side::A).remove(0);
    assert_eq!(event, finished(1, FinishReason::Completed));
    assert_eq!(at, last + milliseconds(20));
}

#[test]
fn a_new_prompt_replaces_the_current_one_and_stop_ends_it_within_a_frame() {
    let mut pair = MediaPair::new();
    let forever = Command::Play { op: OpId(1), audio: tone(1), loops: None, elapsed: Duration::ZERO };
    pair.command(Side::A, forever);
    pair.advance(1_000);
    pair.command(Side::A, Command::Tone { op: OpId(2), tone: Tone::Ringback(crate::Country::Us) });
    pair.advance(100);
    pair.heard(Side::A);
    pair.command(Side::A, Command::Stop { op: OpId(1) });
    pair.command(Side::A, Command::Stop { op: OpId(2) });
    pair.advance(100);
    assert!(pair.heard(Side::A).iter().all(|sent| !is_loud(sent)));
    let events: Vec<Event> = pair.events(Side::A).into_iter().map(|(_, event)| event).collect();
    assert_eq!(events, [finished(1, FinishReason::Stopped), finished(2, FinishReason::Stopped)]);
}

#[test]
fn a_far_end_that_requests_40_ms_gets_packets_of_40_ms() {
    let mut pair = MediaPair::with("m=audio 4000 RTP/AVP 0\r\na=ptime:40\r\n");
    pair.command(Side::A, play(1, 4));
    pair.advance(400);
    let heard = pair.heard(Side::A);
    assert_eq!(heard.len(), 10);
    assert!(heard.iter().all(|sent| sent.payload().len() == 320));
    assert_one_line(&heard);
    assert_eq!(heard[1].header().timestamp.wrapping_sub(heard[0].header().timestamp), 320);
}

#[test]
fn during_hold_a_prompt_advances_but_is_not_sent() {
    let mut pair = MediaPair::new();
    pair.command(Side::A, play(1, 20));
    pair.advance(100);
    pair.offer(Side::A, "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n");
    pair.heard(Side::A);
    pair.advance(200);
    assert!(pair.heard(Side::A).is_empty());
    pair.offer(Side::A, "m=audio 4000 RTP/AVP 0\r\n");
    pair.advance(200);
    let heard = pair.heard(Side::A);
    assert_eq!(heard.len(), 10);
    assert!(heard[0].header().marker);
    assert_eq!(heard.iter().filter(|sent| is_loud(sent)).count(), 5);
}

#[test]
fn digits_are_relayed_with_the_other_payload_type_and_reported_once_despite_loss() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(2, 0x10, 0x20);
    pair.heard(Side::B);
    for (number, event) in [1u8, 1, 11].into_iter().enumerate() {
        for part in 0..8u16 {
            let end = part >= 5;
            let [high, low] = (160 * part.min(5) + 160).to_be_bytes();
            let mut packet = pair.a.next(101, &[event, if end { 0x8A } else { 0x0A }, high, low]);
            if part == 0 {
                packet[1] |= 0x80;
            }
            // One packet of each digit is lost, each time a different one. Of the second digit, only the last end
            // packet arrives.
            if part as usize != number && !(number == 1 && part < 7) {
                pair.send(Side::A, Flow::Rtp, packet, NOW);
            }
            pair.advance(20);
        }
        pair.a.timestamp = pair.a.timestamp.wrapping_add(1_600);
    }
    let keys: Vec<char> = pair
        .events(Side::A)
        .iter()
        .filter_map(|(_, event)| if let Event::Dtmf { digit, .. } = event { Some(*digit) } else { None })
        .collect();
    assert_eq!(keys, ['1', '1', '#']);
    let heard = pair.heard(Side::B);
    assert_eq!(heard.len(), 7 + 1 + 7);
    assert!(heard.iter().all(|sent| sent.header().payload_type == 96 && sent.payload().len() == 4));
}

#[test]
fn sent_digits_are_rfc_4733_events_of_the_same_digits() {
    let mut pair = MediaPair::new();
    pair.advance(100);
    pair.heard(Side::A);
    let digits = "19#".to_owned();
    pair.command(Side::A, Command::SendDigits { op: OpId(1), digits, duration_ms: 100 });
    pair.advance(1_000);
    let heard = pair.heard(Side::A);
    for pair in heard.windows(2) {
        assert_eq!(pair[1].header().sequence, pair[0].header().sequence.wrapping_add(1));
    }
    let mut detector = crate::rtp::dtmf::Detector::default();
    let events: Vec<&Sent> = heard.iter().filter(|sent| sent.header().payload_type == 101).collect();
    let keys: Vec<char> = events
        .iter()
        .filter_map(|sent| detector.handle(&sent.header(), sent.payload(), 8_000))
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, ['1', '9', '#']);
    assert_eq!(events.iter().filter(|sent| sent.header().marker).count(), 3);
    assert_eq!(events.iter().filter(|sent| sent.payload()[1] & 0x80 != 0).count(), 9);
    assert_eq!(pair.events(Side::A).pop().unwrap().1, finished(1, FinishReason::Completed));
    // After the digits, the audio continues with the clock's timestamp, and its first packet has the marker of a new
    // talkspurt.
    let after = heard.iter().rev().take_while(|sent| sent.header().payload_type == 0).last().unwrap();
    assert!(after.header().marker);
}

#[test]
fn without_telephone_events_digits_are_sent_as_tones() {
    let mut pair = MediaPair::with("m=audio 4000 RTP/AVP 0\r\n");
    pair.command(Side::A, Command::SendDigits { op: OpId(1), digits: "5".to_owned(), duration_ms: 100 });
    pair.advance(500);
    let heard = pair.heard(Side::A);
    assert!(heard.iter().all(|sent| sent.header().payload_type == 0));
    assert_eq!(heard.iter().filter(|sent| is_loud(sent)).count(), 5);
}

#[test]
fn digits_above_the_rate_limit_are_dropped_and_counted() {
    let mut pair = MediaPair::new();
    for _ in 0..150 {
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        let event_packet = pair.a.next(101, &[5, 0x8A, 0, 160]);
        pair.send(Side::A, Flow::Rtp, event_packet, NOW);
    }
    pair.advance(20);
    pair.close(Side::A);
    pair.advance(40);
    let events = pair.events(Side::A);
    let reported = events.iter().filter(|(_, event)| matches!(event, Event::Dtmf { digit: '5', .. })).count();
    assert_eq!(reported, 16);
    assert!(matches!(events.last(), Some((_, Event::Closed { stats, .. })) if stats.dropped_digits == 134));
}

#[test]
fn an_echo_sends_the_far_end_its_own_packets() {
    let mut pair = MediaPair::new();
    pair.command(Side::A, Command::Echo(true));
    pair.talk(10, 0x33, 0xD5);
    let heard: Vec<Sent> = pair.heard(Side::A).into_iter().filter(is_loud).collect();
    assert_eq!(heard.len(), 10);
    assert!(heard.iter().all(|sent| sent.payload() == [0x33; 160]));
}

#[test]
fn a_muted_leg_is_relayed_as_silence_and_its_digits_are_reported() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.command(Side::A, Command::Mute { inbound: true });
    pair.talk(5, 0x10, 0x20);
    let event_packet = pair.a.next(101, &[5, 10, 0, 160]);
    pair.send(Side::A, Flow::Rtp, event_packet, NOW);
    pair.advance(20);
    assert!(pair.heard(Side::B).iter().all(|sent| !is_loud(sent)));
    assert!(
        pair.events(Side::A)
            .iter()
            .any(|(_, event)| *event == Event::Dtmf { digit: '5', duration_ms: 20, method: DtmfMethod::Event })
    );
}

#[test]
fn unknown_sources_are_dropped_after_the_latch_and_a_new_offer_reopens_it() {
    let mut pair = MediaPair::new();
    pair.command(Side::A, Command::Echo(true));
    let nat: SocketAddr = "127.0.0.2:9999".parse().unwrap();
    let unknown: SocketAddr = "127.0.0.66:4000".parse().unwrap();
    let say = |pair: &mut MediaPair, from, octet| {
        pair.heard(Side::A);
        let packet = pair.a.next(0, &[octet; 160]);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        pair.send_from(Side::A, Flow::Rtp, from, packet, NOW);
        pair.advance(20);
        pair.heard(Side::A).into_iter().filter(is_loud).map(|sent| sent.to).collect::<Vec<_>>()
    };
    assert_eq!(say(&mut pair, nat, 0x10), [nat]);
    assert!(say(&mut pair, unknown, 0x11).is_empty());
    assert_eq!(say(&mut pair, nat, 0x10), [nat]);
    pair.offer(
        Side::A,
        "m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n",
    );
    assert!(say(&mut pair, unknown, 0x11).is_empty(), "the same plan again opens nothing");
    pair.offer(Side::A, "m=audio 4000 RTP/AVP 0\r\n");
    assert_eq!(say(&mut pair, unknown, 0x11), [nat], "it is heard; ours go where the far end was until it sends again");
    let counts = pair.core.counts;
    assert_eq!(counts.dropped, 2);
}

#[test]
fn malformed_packets_and_unknown_payload_types_are_counted_and_dropped() {
    let mut pair = MediaPair::new();
    pair.bridge();
    for packet in
        [vec![], vec![0x80], vec![0xFF; 200], vec![0; 12], [&[0x80, 18][..], &[0; 30]].concat(), vec![0x80, 200, 0, 90]]
    {
        pair.send(Side::A, Flow::Rtp, packet.clone(), NOW);
        pair.send(Side::A, Flow::Rtcp, packet, NOW);
    }
    pair.advance(20);
    assert!(pair.core.counts.malformed >= 8, "{:?}", pair.core.counts);
    assert_eq!(pair.core.counts.relayed, 0);
    assert!(pair.events(Side::A).is_empty());
    pair.talk(1, 0x10, 0x20);
    assert_eq!(pair.core.counts.relayed, 2);
}

#[test]
fn a_report_does_not_change_the_timestamps() {
    let mut pair = MediaPair::new();
    pair.advance(11_000);
    assert_eq!(pair.reports(Side::A).len(), 2);
    let heard = pair.heard(Side::A);
    assert_eq!(heard.len(), 550);
    for place in heard.windows(2) {
        assert_eq!(place[1].header().timestamp, place[0].header().timestamp.wrapping_add(160));
    }
}

#[test]
fn sent_reports_contain_loss_and_the_far_ends_reports_give_the_round_trip() {
    let mut pair = MediaPair::new();
    pair.talk(100, 0x10, 0x20);
    pair.lose(Side::A);
    pair.talk(200, 0x10, 0x20);
    let mut reports = pair.reports(Side::A);
    assert!((1..=3).contains(&reports.len()), "every 2.5 to 7.5 s, the first in half that");
    reports.drain(..reports.len() - 1);
    assert_eq!(reports[0].to, "127.0.0.2:4001".parse::<SocketAddr>().unwrap());
    let mut items = Vec::new();
    assert!(rtcp::read(&reports[0].packet, 0xAA, |one| items.push(one)));
    let [RtcpItem::SenderReport { ssrc, ntp_middle }, RtcpItem::ReportBlock(block)] = items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(block.cumulative_lost, 1);
    // The far end replies 8 s later and states a delay of 7.9 s. So the round trip takes 100 ms.
    let elapsed = pair.now() - reports[0].at;
    pair.advance(8_000 - elapsed.as_millis() as u64);
    let block = crate::rtp::receiver::ReportBlock {
        ssrc,
        fraction_lost: 0,
        cumulative_lost: 5,
        highest_sequence: 0,
        jitter: 0,
        last_sr: ntp_middle,
        delay_since_sr: 65_536 * 79 / 10,
    };
    let mut packet = [0; rtcp::LONGEST];
    let length = rtcp::write_report(0xAA, None, Some(block), false, &mut packet);
    pair.send(Side::A, Flow::Rtcp, packet[..length].to_vec(), NOW);
    pair.advance(1);
    pair.close(Side::A);
    pair.advance(40);
    let Some((_, Event::Closed { stats, .. })) = pair.events(Side::A).pop() else { panic!() };
    assert!((stats.round_trip_ms.unwrap() - 100.0).abs() < 3.0, "{stats:?}");
    assert_eq!((stats.lost, stats.lost_by_far_end), (1, Some(5)));
    assert!(stats.mos.unwrap() > 4.0);
}

#[test]
fn the_quality_over_time_shows_when_packets_were_lost() {
    let mut pair = MediaPair::new();
    for second in 0..20 {
        for frame in 0..50 {
            // In the seconds 10 to 14, each fifth packet of A is lost.
            match (10..15).contains(&second) && frame % 5 == 0 {
                true => pair.lose(Side::A),
                false => pair.send_audio(Side::A, 0x10, NOW),
            }
            pair.advance(20);
        }
    }
    pair.close(Side::A);
    pair.advance(40);
    let Some((_, Event::Closed { stats, series })) = pair.events(Side::A).pop() else { panic!() };
    let sum = |of: fn(&crate::QualityPoint) -> u32| u64::from(series.iter().map(of).sum::<u32>());
    assert_eq!((sum(|point| point.packets), sum(|point| point.lost)), (stats.packets_in, stats.lost));
    assert_eq!(stats.lost, 50);
    let [first, .., last] = &series[..] else { panic!("{series:?}") };
    assert!((4..=12).contains(&series.len()) && last.packets > 0, "{series:?}");
    assert_eq!(first.lost, 0);
    let worst = series.iter().max_by_key(|point| point.lost).unwrap();
    assert!(worst.mos.unwrap() + 0.3 < first.mos.unwrap(), "{series:?}");
}

#[test]
fn a_session_reports_its_statistics_on_request() {
    let mut pair = MediaPair::new();
    pair.send_audio(Side::A, 0x10, NOW);
    pair.advance(20);
    pair.command(Side::A, Command::ReportStats);
    pair.advance(20);
    let stats: Vec<u64> = pair
        .events(Side::A)
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Stats { stats, .. } => Some(stats.packets_in),
            _ => None,
        })
        .collect();
    assert_eq!(stats, [1]);
}

#[test]
fn missing_audio_is_reported_after_two_seconds_and_its_return_too() {
    let gaps = |pair: &mut MediaPair| -> Vec<Event> {
        let is_gap = |event: &Event| matches!(event, Event::AudioMissing { .. } | Event::AudioResumed);
        pair.events(Side::A).into_iter().map(|(_, event)| event).filter(is_gap).collect()
    };
    let quiet = |pair: &mut MediaPair, frames: usize| (0..frames).for_each(|_| pair.advance(20));
    let mut pair = MediaPair::new();
    quiet(&mut pair, 200);
    assert_eq!(gaps(&mut pair), [], "a leg that only rings need not send");
    pair.command(Side::A, Command::ExpectAudio);
    let signalled = Some(pair.address(Side::A));
    quiet(&mut pair, 90);
    assert_eq!(gaps(&mut pair), [], "1.8 s");
    quiet(&mut pair, 20);
    assert_eq!(gaps(&mut pair), [Event::AudioMissing { ever: false, signalled }]);
    quiet(&mut pair, 200);
    assert_eq!(gaps(&mut pair), [], "once");
    pair.send_audio(Side::A, 0x10, NOW);
    pair.advance(20);
    assert_eq!(gaps(&mut pair), [Event::AudioResumed]);
    quiet(&mut pair, 120);
    assert_eq!(gaps(&mut pair), [Event::AudioMissing { ever: true, signalled }]);
}

#[test]
fn loss_is_reported_once_per_direction_and_lowers_both_mos_values() {
    let mut pair = MediaPair::new();
    pair.bridge();
    for _ in 0..250 {
        // One of ten packets from A is lost.
        pair.talk(9, 0x10, 0x20);
        pair.lose(Side::A);
        pair.send_audio(Side::B, 0x20, NOW);
        pair.advance(20);
    }
    let impaired = |events: Vec<(Duration, Event)>| -> Vec<Event> {
        events.into_iter().map(|(_, event)| event).filter(|event| matches!(event, Event::Impaired { .. })).collect()
    };
    let reported = impaired(pair.events(Side::A));
    let [Event::Impaired { cause: Impairment::Loss, value }] = reported[..] else { panic!("{reported:?}") };
    assert!((8.0..12.0).contains(&value), "{value} %");
    assert_eq!(impaired(pair.events(Side::B)), []);

    let about = |ssrc, from| {
        let block = crate::rtp::receiver::ReportBlock {
            ssrc,
            fraction_lost: 51,
            cumulative_lost: 500,
            highest_sequence: 0,
            jitter: 40,
            last_sr: 0,
            delay_since_sr: 0,
        };
        let mut packet = [0; rtcp::LONGEST];
        let length = rtcp::write_report(from, None, Some(block), false, &mut packet);
        packet[..length].to_vec()
    };
    let mut ssrc = None;
    assert!(rtcp::read(&pair.reports(Side::B)[0].packet, 0, |items| {
        if let RtcpItem::SenderReport { ssrc: one, .. } = items {
            ssrc = Some(one);
        }
    }));
    // B reports that a fifth of our packets is lost. The engine ignores a report from a stranger and a report about
    // another stream.
    pair.send(Side::B, Flow::Rtcp, about(ssrc.unwrap() ^ 1, 0xBB), NOW);
    let unknown = "127.0.0.9:4001".parse().unwrap();
    pair.send_from(Side::B, Flow::Rtcp, unknown, about(ssrc.unwrap(), 0xAA), NOW);
    pair.advance(1);
    assert_eq!(impaired(pair.events(Side::B)), []);
    pair.send(Side::B, Flow::Rtcp, about(ssrc.unwrap(), 0xAA), NOW);
    pair.advance(1);
    let reported = impaired(pair.events(Side::B));
    assert!(matches!(reported[..], [Event::Impaired { cause: Impairment::LossByFarEnd, .. }]), "{reported:?}");

    let mut stats = [Side::A, Side::B].map(|side| {
        pair.close(side);
        pair.advance(40);
        let Some((_, Event::Closed { stats, .. })) = pair.events(side).pop() else { panic!() };
        stats
    });
    let [a, b] = &mut stats;
    assert_eq!((b.dropped_rtcp, b.dropped_unknown_source, b.jitter_by_far_end_ms), (1, 1, Some(5.0)));
    assert!(a.mos.unwrap() < 3.6 && a.mos_by_far_end.is_none(), "{a:?}");
    assert!(b.mos.unwrap() > 4.3 && b.mos_by_far_end.unwrap() < 3.2, "{b:?}");
}

#[test]
fn events_wait_for_a_full_sink_in_order_and_too_many_close_the_session() {
    let mut pair = MediaPair::new();
    pair.set_full(Side::A, true);
    pair.command(Side::A, play(1, 1));
    pair.advance(100);
    pair.command(Side::A, play(2, 1));
    pair.advance(100);
    assert!(pair.events(Side::A).is_empty());
    pair.set_full(Side::A, false);
    pair.advance(40);
    let events: Vec<Event> = pair.events(Side::A).into_iter().map(|(_, event)| event).collect();
    assert_eq!(events, [finished(1, FinishReason::Completed), finished(2, FinishReason::Completed)]);

    pair.set_full(Side::A, true);
    for op in 0..300 {
        pair.command(Side::A, play(op, 1));
    }
    pair.advance(40);
    pair.heard(Side::A);
    pair.advance(200);
    assert!(pair.heard(Side::A).is_empty(), "closed");
    pair.set_full(Side::A, false);
    pair.advance(40);
    assert!(matches!(pair.events(Side::A).last(), Some((_, Event::Closed { .. }))));
    assert_eq!(pair.over, [pair.a.key]);
}

#[test]
fn a_closed_leg_sends_a_bye_frees_its_ports_and_the_bridged_leg_gets_silence() {
    let mut pair = MediaPair::new();
    pair.bridge();
    pair.talk(10, 0x10, 0x20);
    pair.close(Side::A);
    let mut items = Vec::new();
    let reports = pair.reports(Side::A);
    assert!(rtcp::read(&reports.last().unwrap().packet, 0, |one| items.push(one)));
    assert!(items.contains(&RtcpItem::Bye));
    pair.heard(Side::B);
    pair.advance(100);
    let heard = pair.heard(Side::B);
    assert_eq!(heard.len(), 5);
    assert!(heard.iter().all(|sent| !is_loud(sent)));
    assert!(!pair.core.has(pair.a.key) && pair.core.has(pair.b.key));
}

#[test]
fn a_remote_far_end_cannot_direct_our_audio_to_this_host() {
    let mut pair = MediaPair::new();
    let (key, plan) = pair.plan(Side::A);
    let to = "127.0.0.1:6000".parse().unwrap();
    let transport = crate::sdp::TransportPlan { remote: Some(to), remote_rtcp: None, waits: true, ..plan.transport };
    let plan = MediaPlan { transport, ..plan };
    pair.apply(key, plan.clone());
    pair.apply(key, plan);
    pair.command(Side::A, play(1, 50));
    pair.advance(1_000);
    assert_eq!(pair.heard(Side::A).len(), 0);
    let refused: Vec<_> = pair.events(Side::A).into_iter().map(|(_, event)| event).collect();
    assert_eq!(refused.iter().filter(|event| **event == Event::TargetRefused { to }).count(), 1, "{refused:?}");
}
