//! What taps get and sources play.

use super::*;
use crate::codec::g711::Law;

#[test]
fn a_tap_has_a_frame_every_20_ms_of_each_side_silence_included() {
    let mut pair = MediaPair::new();
    let (sink, mut reader) = tap(1_000, TapCodec::Native);
    pair.command(Who::A, Command::Tap { op: OpId(1), tracks: Tracks::Both, sink });
    pair.advance(100);
    pair.talk(10, 0x10, 0xD5);
    pair.advance(100);
    let frames: Vec<_> = std::iter::from_fn(|| reader.pop()).collect();
    let inbound: Vec<_> = frames.iter().filter(|frame| frame.track == crate::Track::Inbound).collect();
    assert_eq!((frames.len(), inbound.len()), (40, 20));
    for (place, frame) in inbound.iter().enumerate() {
        assert_eq!((frame.timestamp_ms, frame.rtp_timestamp), (place as u64 * 20, place as u32 * 160));
    }
    let first = inbound.iter().position(|frame| frame.payload == [0x10; 160]).unwrap();
    assert!((5..=7).contains(&first), "{first}");
    assert_eq!(inbound.iter().filter(|frame| frame.payload == [0x10; 160]).count(), 10);
    assert!(
        frames.iter().filter(|frame| frame.track == crate::Track::Outbound).all(|frame| frame.payload == [0xFF; 160])
    );
    pair.command(Who::A, Command::Untap { op: OpId(1) });
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(reader.poll_next(&mut context), std::task::Poll::Ready(None));
}

#[test]
fn a_tap_that_is_not_read_drops_and_tells() {
    let mut pair = MediaPair::new();
    let (sink, reader) = tap(10, TapCodec::Pcmu);
    pair.command(Who::A, Command::Tap { op: OpId(7), tracks: Tracks::Inbound, sink });
    pair.advance(2_200);
    assert_eq!(reader.dropped(), 100);
    let told: Vec<u32> = pair
        .events(Who::A)
        .iter()
        .filter_map(|(_, event)| {
            if let Event::StreamOverflow { op: OpId(7), dropped_ms } = event { Some(*dropped_ms) } else { None }
        })
        .collect();
    assert!(!told.is_empty() && told.len() <= 3, "{told:?}");
}

#[test]
fn marks_come_back_when_their_audio_has_been_played_and_at_once_when_nothing_waits() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(10));
    pair.command(Who::A, Command::Source { op: OpId(3), source });
    writer.mark("none".into());
    pair.advance(20);
    // 100 ms in odd pieces, then a mark, then 60 ms, then a mark.
    for length in [7, 193, 400, 200] {
        writer.audio(Bytes::from(vec![0x10; length])).unwrap();
    }
    writer.mark("first".into());
    writer.audio(Bytes::from(vec![0x11; 480])).unwrap();
    writer.mark("second".into());
    assert_eq!(writer.queued(), milliseconds(160));
    pair.advance(300);
    let heard = pair.heard(Who::A);
    let left =
        |octet: u8| heard.iter().filter(|sent| sent.payload()[0] == octet).map(|sent| sent.at).collect::<Vec<_>>();
    assert_eq!((left(0x10).len(), left(0x11).len()), (5, 3));
    let marks: Vec<(Duration, String)> = pair
        .events(Who::A)
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
fn clear_cuts_within_a_frame_and_fires_the_marks_in_order() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::A, Duration::from_secs(10));
    pair.command(Who::A, Command::Source { op: OpId(3), source });
    for name in ["one", "two", "three"] {
        writer.audio(Bytes::from(vec![0x2A; 8_000])).unwrap();
        writer.mark(name.into());
    }
    pair.advance(200);
    pair.heard(Who::A);
    let cleared = pair.now();
    writer.clear();
    writer.audio(Bytes::from(vec![0x33; 160])).unwrap();
    writer.mark("after".into());
    pair.advance(100);
    let heard = pair.heard(Who::A);
    let after = crate::codec::g711::ALAW_TO_ULAW[0x33];
    assert!(is_loud(&heard[0]) && heard[0].payload()[0] == after && heard[0].at - cleared <= milliseconds(20));
    assert!(heard[1..].iter().all(|sent| !is_loud(sent)));
    let marks: Vec<String> = pair
        .events(Who::A)
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
    pair.command(Who::A, Command::Source { op: OpId(3), source });
    for name in 0..1_000 {
        writer.audio(Bytes::from(vec![0x2A; 160])).unwrap();
        writer.mark(name.to_string().into());
    }
    pair.set_full(Who::A, true);
    writer.clear();
    pair.advance(1_000);
    assert!(pair.events(Who::A).is_empty());
    pair.set_full(Who::A, false);
    pair.advance(20);
    assert!(pair.events(Who::A).len() <= 64);
    pair.advance(1_000);
    let last = pair.events(Who::A).pop().unwrap().1;
    assert_eq!(last, Event::MarkReached { op: OpId(3), name: "999".into() });
}

#[test]
fn a_writer_too_far_ahead_is_refused_and_nothing_grows() {
    let (_source, writer) = source(Law::Mu, Duration::from_secs(1));
    writer.audio(Bytes::from(vec![0; 8_000])).unwrap();
    assert_eq!(writer.audio(Bytes::from_static(&[0])), Err(crate::Overflow));
    let (_source, writer) = source(Law::Mu, Duration::from_secs(1));
    let taken = (0..100_000).take_while(|_| writer.audio(Bytes::from_static(&[0])).is_ok()).count();
    assert!(taken < 1_000, "{taken}");
    writer.mark("still".into());
}

#[test]
fn a_prompt_goes_before_a_stream_and_the_stream_goes_on_after_it() {
    let mut pair = MediaPair::new();
    let (source, writer) = source(Law::Mu, Duration::from_secs(10));
    pair.command(Who::A, Command::Source { op: OpId(3), source });
    writer.audio(Bytes::from(vec![0x11; 1_600])).unwrap();
    pair.advance(100);
    pair.command(Who::A, play(1, 5));
    pair.advance(300);
    let heard = pair.heard(Who::A);
    let kinds: Vec<u8> = heard.iter().map(|sent| sent.payload()[0]).collect();
    assert_eq!(kinds.iter().filter(|octet| **octet == 0x11).count(), 10);
    assert_eq!(kinds[..5], [0x11; 5]);
    assert!(kinds[5..10].iter().all(|octet| *octet != 0x11 && *octet != 0xFF));
    assert_eq!(kinds[10..15], [0x11; 5]);
}
