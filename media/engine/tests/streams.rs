//! The audio of taps and sources.

use super::codecs::{G722, Hum, L16};
use super::*;
use crate::codec::g711::Law;
use crate::codec::{Codec, SampleRate};
use crate::{ByteOrder, SourceCodec, SourceRate};

#[test]
fn a_tap_gets_a_frame_of_each_direction_every_20_ms_also_in_silence() {
    let mut pair = MediaPair::new();
    let (sink, mut reader) = tap(1_000, TapCodec::Native);
    pair.command(Side::A, Command::Tap { op: OpId(1), tracks: Tracks::Both, sink });
    pair.advance(100);
    pair.talk(10, 0x10, 0xD5);
    pair.advance(100);
    let frames: Vec<_> = std::iter::from_fn(|| reader.pop()).collect();
    let inbound: Vec<_> = frames.iter().filter(|frame| frame.track == crate::Track::Inbound).collect();
    assert_eq!((frames.len(), inbound.len()), (40, 20));
    for (place, frame) in inbound.iter().enumerate() {
        assert_eq!((frame.timestamp_ms, frame.rtp_timestamp), (place as u64 * 20, place as u32 * 160));
    }
    let first = inbound.iter().position(|frame| frame.audio() == [0x10; 160]).unwrap();
    assert!((5..=7).contains(&first), "{first}");
    assert_eq!(inbound.iter().filter(|frame| frame.audio() == [0x10; 160]).count(), 10);
    assert!(
        frames.iter().filter(|frame| frame.track == crate::Track::Outbound).all(|frame| frame.audio() == [0xFF; 160])
    );
    pair.command(Side::A, Command::Untap { op: OpId(1) });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(reader.poll_next(&mut context), std::task::Poll::Ready(None));
}

#[test]
fn a_tap_that_is_not_read_drops_frames_and_reports_it() {
    let mut pair = MediaPair::new();
    let (sink, reader) = tap(10, TapCodec::Pcmu);
    pair.command(Side::A, Command::Tap { op: OpId(7), tracks: Tracks::Inbound, sink });
    pair.advance(2_200);
    assert_eq!(reader.dropped(), 100);
    let reported: Vec<u32> = pair
        .events(Side::A)
        .iter()
        .filter_map(|(_, event)| {
            if let Event::StreamOverflow { op: OpId(7), dropped_ms } = event { Some(*dropped_ms) } else { None }
        })
        .collect();
    assert!(!reported.is_empty() && reported.len() <= 3, "{reported:?}");
}

#[test]
fn marks_are_reported_after_their_audio_and_at_once_without_audio() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(10));
    pair.command(Side::A, Command::Source { op: OpId(3), source });
    writer.mark("none".into());
    pair.advance(20);
    // The stream is 100 ms in pieces of odd lengths, a mark, 60 ms, and another mark.
    for length in [7, 193, 400, 200] {
        writer.audio(Bytes::from(vec![0x10; length])).unwrap();
    }
    writer.mark("first".into());
    writer.audio(Bytes::from(vec![0x11; 480])).unwrap();
    writer.mark("second".into());
    assert_eq!(writer.queued(), milliseconds(160));
    pair.advance(300);
    let heard = pair.heard(Side::A);
    let left =
        |octet: u8| heard.iter().filter(|sent| sent.payload()[0] == octet).map(|sent| sent.at).collect::<Vec<_>>();
    assert_eq!((left(0x10).len(), left(0x11).len()), (5, 3));
    let marks: Vec<(Duration, String)> = pair
        .events(Side::A)
        .into_iter()
        .filter_map(|(at, event)| {
            if let Event::MarkReached { op: OpId(3), name } = event { Some((at, name.to_string())) } else { None }
        })
        .collect();
    assert!(marks[0].0 <= milliseconds(20));
    assert_eq!(marks[0].1, "none");
    let played = |octet: u8| *left(octet).last().unwrap() + milliseconds(20);
    assert_eq!(marks[1..], [(played(0x10), "first".to_owned()), (played(0x11), "second".to_owned())]);
}

#[test]
fn a_clear_ends_audio_within_a_frame_and_reports_the_marks_in_order() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::A, Duration::from_secs(10));
    pair.command(Side::A, Command::Source { op: OpId(3), source });
    for name in ["one", "two", "three"] {
        writer.audio(Bytes::from(vec![0x2A; 8_000])).unwrap();
        writer.mark(name.into());
    }
    pair.advance(200);
    pair.heard(Side::A);
    let cleared = pair.now();
    writer.clear();
    writer.audio(Bytes::from(vec![0x33; 160])).unwrap();
    writer.mark("after".into());
    pair.advance(100);
    let heard = pair.heard(Side::A);
    let after = crate::codec::g711::ALAW_TO_ULAW[0x33];
    assert!(is_loud(&heard[0]) && heard[0].payload()[0] == after && heard[0].at - cleared <= milliseconds(20));
    assert!(heard[1..].iter().all(|sent| !is_loud(sent)));
    let marks: Vec<String> = pair
        .events(Side::A)
        .into_iter()
        .filter_map(
            |(_, event)| if let Event::MarkReached { name, .. } = event { Some(name.to_string()) } else { None },
        )
        .collect();
    assert_eq!(marks, ["one", "two", "three", "after"]);
    assert_eq!(writer.queued(), Duration::ZERO);
}

#[test]
fn a_thousand_cleared_marks_and_a_full_sink_do_not_end_the_session() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(100));
    pair.command(Side::A, Command::Source { op: OpId(3), source });
    for name in 0..1_000 {
        writer.audio(Bytes::from(vec![0x2A; 160])).unwrap();
        writer.mark(name.to_string().into());
    }
    pair.set_full(Side::A, true);
    writer.clear();
    pair.advance(1_000);
    assert!(pair.events(Side::A).is_empty());
    pair.set_full(Side::A, false);
    pair.advance(20);
    assert!(pair.events(Side::A).len() <= 64);
    pair.advance(1_000);
    let last = pair.events(Side::A).pop().unwrap().1;
    assert_eq!(last, Event::MarkReached { op: OpId(3), name: "999".into() });
}

#[test]
fn a_stream_writer_too_far_ahead_is_refused() {
    let (_source, writer) = source(Law::Mu, Duration::from_secs(1));
    writer.audio(Bytes::from(vec![0; 8_000])).unwrap();
    assert_eq!(writer.audio(Bytes::from_static(&[0])), Err(crate::Overflow));
    let (_source, writer) = source(Law::Mu, Duration::from_secs(1));
    let taken = (0..100_000).take_while(|_| writer.audio(Bytes::from_static(&[0])).is_ok()).count();
    assert!(taken < 1_000, "{taken}");
    writer.mark("still".into());
}

#[test]
fn a_prompt_has_priority_over_a_stream_and_the_stream_continues_afterwards() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(10));
    pair.command(Side::A, Command::Source { op: OpId(3), source });
    writer.audio(Bytes::from(vec![0x11; 1_600])).unwrap();
    pair.advance(100);
    pair.command(Side::A, play(1, 5));
    pair.advance(300);
    let heard = pair.heard(Side::A);
    let kinds: Vec<u8> = heard.iter().map(|sent| sent.payload()[0]).collect();
    assert_eq!(kinds.iter().filter(|octet| **octet == 0x11).count(), 10);
    assert_eq!(kinds[..5], [0x11; 5]);
    assert!(kinds[5..10].iter().all(|octet| *octet != 0x11 && *octet != 0xFF));
    assert_eq!(kinds[10..15], [0x11; 5]);
}

#[test]
fn a_tap_of_a_wideband_leg_has_its_upper_frequencies() {
    for (codec, media) in [(Codec::G722, G722), (Codec::L16(SampleRate::Hz16000), L16)] {
        let mut pair = MediaPair::with(media);
        let (sink, mut reader) = tap(200, TapCodec::L16Wide(ByteOrder::Little));
        pair.command(Side::A, Command::Tap { op: OpId(1), tracks: Tracks::Inbound, sink });
        let (narrow, mut narrow_reader) = tap(200, TapCodec::Pcmu);
        pair.command(Side::A, Command::Tap { op: OpId(2), tracks: Tracks::Inbound, sink: narrow });
        // The far end sends a tone above the telephone band.
        let mut hum = Hum::new(codec, 6_000.0);
        for _ in 0..60 {
            hum.say(&mut pair, Side::A);
            pair.advance(20);
        }
        let frames: Vec<_> = std::iter::from_fn(|| reader.pop()).collect();
        let last = frames.last().unwrap();
        assert_eq!((last.codec, last.audio().len()), (Codec::L16(SampleRate::Hz16000), 640));
        assert_eq!(last.rtp_timestamp, (frames.len() as u32 - 1) * 320);
        let samples = last.audio().chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
        let loudest = samples.map(i16::unsigned_abs).max().unwrap();
        assert!((6_500..9_500).contains(&loudest), "{codec:?}: {loudest}");
        // The other tap gets the same frames at 8,000 Hz. At this rate the tone cannot exist.
        let narrow: Vec<_> = std::iter::from_fn(|| narrow_reader.pop()).collect();
        assert_eq!(narrow.len(), frames.len());
        let octets = narrow.last().unwrap().audio();
        let loudest = octets.iter().map(|octet| crate::g711::ULAW_TO_LINEAR[usize::from(*octet)].unsigned_abs()).max();
        assert!(octets.len() == 160 && loudest < Some(400), "{codec:?}: {loudest:?}");
    }
}

#[test]
fn a_leg_of_g711_is_tapped_as_samples_of_either_rate() {
    let mut pair = MediaPair::new();
    let taps = [TapCodec::L16(ByteOrder::Big), TapCodec::L16Wide(ByteOrder::Big), TapCodec::Native];
    let mut readers: Vec<_> = (1..)
        .zip(taps)
        .map(|(op, codec)| {
            let (sink, reader) = tap(200, codec);
            pair.command(Side::A, Command::Tap { op: OpId(op), tracks: Tracks::Both, sink });
            reader
        })
        .collect();
    pair.talk(40, 0x10, 0xD5);
    let original = crate::g711::ULAW_TO_LINEAR[0x10];
    let last = |reader: &mut crate::TapReader| {
        let frames: Vec<_> =
            std::iter::from_fn(|| reader.pop()).filter(|frame| frame.track == Track::Inbound).collect();
        assert_eq!(frames.len(), 40);
        frames.last().unwrap().clone()
    };
    let samples =
        |octets: &[u8]| octets.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>();
    let narrow = last(&mut readers[0]);
    assert_eq!((narrow.codec, samples(narrow.audio())), (Codec::L16(SampleRate::Hz8000), vec![original; 160]));
    let wide = last(&mut readers[1]);
    let heard = samples(wide.audio());
    assert_eq!((wide.codec, heard.len()), (Codec::L16(SampleRate::Hz16000), 320));
    assert!(heard.iter().all(|sample| sample.abs_diff(original) < 300), "{original}: {heard:?}");
    let native = last(&mut readers[2]);
    assert_eq!((native.codec, native.audio()), (Codec::Pcmu, &[0x10; 160][..]));
}

#[test]
fn samples_of_every_rate_are_played_at_their_pitch() {
    for (rate, hertz) in [
        (SourceRate::Hz8000, 8_000),
        (SourceRate::Hz16000, 16_000),
        (SourceRate::Hz22050, 22_050),
        (SourceRate::Hz24000, 24_000),
        (SourceRate::Hz48000, 48_000),
    ] {
        for order in [ByteOrder::Big, ByteOrder::Little] {
            let mut pair = MediaPair::new();
            let (source, writer) = source(SourceCodec::L16(rate, order), Duration::from_secs(10));
            pair.command(Side::A, Command::Source { op: OpId(3), source });
            // The stream is 1 s of a tone of 500 Hz. Its pieces are neither whole frames nor whole samples.
            let octets: Vec<u8> = (0..hertz)
                .flat_map(|at| {
                    let sample = ((at as f32 * 500.0 / hertz as f32 * std::f32::consts::TAU).sin() * 8_000.0) as i16;
                    if order == ByteOrder::Big { sample.to_be_bytes() } else { sample.to_le_bytes() }
                })
                .collect();
            octets.chunks(333).for_each(|piece| writer.audio(Bytes::copy_from_slice(piece)).unwrap());
            writer.mark("end".into());
            assert_eq!(writer.queued(), Duration::from_secs(1));
            pair.advance(1_200);
            let table = &crate::g711::ULAW_TO_LINEAR;
            let heard: Vec<i16> = pair
                .heard(Side::A)
                .iter()
                .flat_map(|sent| sent.payload().iter().map(|octet| table[usize::from(*octet)]).collect::<Vec<_>>())
                .collect();
            let middle = &heard[1_600..1_600 + 4_000];
            let crossings = middle.windows(2).filter(|two| two[0] < 0 && two[1] >= 0).count();
            assert!(crossings.abs_diff(250) <= 1, "{crossings} waves in half a second at {hertz} Hz, {order:?}");
            let loudest = middle.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            assert!((7_500..8_700).contains(&loudest), "{loudest} at {hertz} Hz");
            let reported =
                pair.events(Side::A).into_iter().find(|(_, event)| matches!(event, Event::MarkReached { .. }));
            assert!(reported.is_some_and(|(at, _)| at.abs_diff(milliseconds(1_020)) <= milliseconds(40)));
        }
    }
}

const PCMU: &str = "m=audio 4000 RTP/AVP 0\r\n";

#[test]
fn a_session_plays_the_tap_of_another_session() {
    let mut pair = MediaPair::between(PCMU, PCMU);
    let (sink, reader) = tap(50, TapCodec::Native);
    pair.command(Side::A, Command::Tap { op: OpId(1), tracks: Tracks::Inbound, sink });
    pair.command(Side::B, Command::Source { op: OpId(1), source: crate::StreamSource::copying(reader) });
    pair.advance(100);
    pair.heard(Side::B);
    pair.talk(25, 0x10, 0xD5);
    pair.advance(200);
    let heard = pair.heard(Side::B);
    let copied: Vec<Duration> = heard.iter().filter(|sent| sent.payload() == [0x10; 160]).map(|sent| sent.at).collect();
    assert_eq!(copied.len(), 25, "every frame once, as it came");
    assert!(copied.is_sorted_by(|one, next| *next - *one == milliseconds(20)), "{copied:?}");
    assert!(heard.iter().all(|sent| sent.payload()[0] != 0xD5), "no packet of its own audio");
}

#[test]
fn a_tap_copy_that_was_not_sent_for_a_while_continues_with_current_audio() {
    let mut pair = MediaPair::between(PCMU, PCMU);
    let (sink, reader) = tap(50, TapCodec::Native);
    pair.command(Side::A, Command::Tap { op: OpId(1), tracks: Tracks::Inbound, sink });
    // These 500 ms are not played.
    pair.talk(25, 0x10, 0xD5);
    pair.command(Side::B, Command::Source { op: OpId(1), source: crate::StreamSource::copying(reader) });
    pair.heard(Side::B);
    pair.talk(25, 0x20, 0xD5);
    pair.advance(200);
    let heard = pair.heard(Side::B);
    let count = |octet: u8| heard.iter().filter(|sent| sent.payload() == [octet; 160]).count();
    assert!(count(0x10) <= 7, "{} frames of what had passed", count(0x10));
    assert_eq!(count(0x20), 25);
}
