use super::*;

fn packet(sequence: u16, timestamp: u32, marker: bool) -> Header {
    Header { marker, payload_type: 101, sequence, timestamp, ssrc: 1, payload: 12..16 }
}

fn payload(event: u8, end: bool, duration: u16) -> [u8; 4] {
    let [high, low] = duration.to_be_bytes();
    [event, if end { 0x8A } else { 0x0A }, high, low]
}

#[test]
fn a_digit_is_reported_once_at_its_first_packet() {
    let mut detector = Detector::default();
    assert_eq!(detector.handle(&packet(1, 1_000, true), &payload(5, false, 160), 8_000), Some(('5', 20)));
    for (sequence, duration) in [(2, 320), (3, 480)] {
        assert_eq!(detector.handle(&packet(sequence, 1_000, false), &payload(5, false, duration), 8_000), None);
    }
    for sequence in 4..7 {
        assert_eq!(detector.handle(&packet(sequence, 1_000, false), &payload(5, true, 640), 8_000), None);
    }
    assert_eq!(detector.handle(&packet(9, 3_000, true), &payload(5, false, 160), 8_000), Some(('5', 20)));
}

#[test]
fn a_digit_with_a_lost_start_is_reported_at_its_retransmitted_end() {
    let mut detector = Detector::default();
    assert_eq!(detector.handle(&packet(6, 1_000, false), &payload(11, true, 800), 8_000), Some(('#', 100)));
    assert_eq!(detector.handle(&packet(7, 1_000, false), &payload(11, true, 800), 8_000), None);
}

#[test]
fn a_late_packet_of_an_earlier_digit_is_not_a_digit() {
    let mut detector = Detector::default();
    assert!(detector.handle(&packet(1, 1_000, true), &payload(1, false, 160), 8_000).is_some());
    assert!(detector.handle(&packet(8, 3_000, true), &payload(2, false, 160), 8_000).is_some());
    assert_eq!(detector.handle(&packet(7, 1_000, false), &payload(1, true, 800), 8_000), None);
}

#[test]
fn a_digit_of_more_than_eight_seconds_is_one_digit() {
    let mut detector = Detector::default();
    assert!(detector.handle(&packet(1, 0, true), &payload(1, false, 160), 8_000).is_some());
    assert!(detector.handle(&packet(2, 0, false), &payload(1, false, u16::MAX), 8_000).is_none());
    assert!(detector.handle(&packet(3, 65_535, false), &payload(1, false, 160), 8_000).is_none());
}

#[test]
fn the_digit_budget_permits_sixteen_digits_and_then_one_per_40_ms() {
    let mut budget = DigitBudget::default();
    assert_eq!((0..100).filter(|_| budget.take()).count(), 16);
    let second = (0..50).filter(|_| {
        budget.tick();
        budget.take()
    });
    assert_eq!(second.count(), 25);
    (0..1_000).for_each(|_| budget.tick());
    assert_eq!((0..100).filter(|_| budget.take()).count(), 16);
}

#[test]
fn a_sent_digit_has_rising_durations_and_three_end_packets() {
    let mut sender = DigitSender::new("1w#", 100);
    let mut frames = Vec::new();
    loop {
        match sender.next_frame(8_000) {
            DigitFrame::Done => break,
            frame => frames.push(frame),
        }
    }
    let durations: Vec<u16> = frames
        .iter()
        .filter_map(|frame| match frame {
            DigitFrame::Event { event: 1, duration, .. } => Some(*duration),
            _ => None,
        })
        .collect();
    assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800, 800]);
    let ends = frames.iter().filter(|frame| matches!(frame, DigitFrame::Event { end: true, event: 11, .. }));
    assert_eq!(ends.count(), 3);
    let gaps = frames.iter().filter(|frame| **frame == DigitFrame::Gap).count();
    assert!(gaps >= 25 + 3, "{gaps} gaps");
}

/// Returns the packets of one digit as the engine sends them. The first packet has `sequence` and `timestamp`.
fn digit_packets(
    key: &str,
    milliseconds: u16,
    clock_rate: u32,
    sequence: u16,
    timestamp: u32,
) -> Vec<(Header, [u8; 4])> {
    let mut sender = DigitSender::new(key, milliseconds);
    let mut packets = Vec::new();
    while let DigitFrame::Event { event, end, duration, offset, first } = sender.next_frame(clock_rate) {
        let header = packet(sequence.wrapping_add(packets.len() as u16), timestamp.wrapping_add(offset), first);
        packets.push((header, payload(event, end, duration)));
    }
    packets
}

fn detect(packets: &[(Header, [u8; 4])], clock_rate: u32) -> Vec<(char, u32)> {
    let mut detector = Detector::default();
    packets.iter().filter_map(|(header, payload)| detector.handle(header, payload, clock_rate)).collect()
}

#[test]
fn a_digit_is_reported_once_whichever_packets_are_lost() {
    let all = digit_packets("5", 80, 8_000, 100, u32::MAX - 300);
    assert_eq!(all.len(), 7);
    for lost in 0..(1u32 << all.len()) - 1 {
        let arrived = all.iter().enumerate().filter(|(index, _)| lost >> index & 1 == 0);
        let arrived: Vec<_> = arrived.map(|(_, packet)| packet.clone()).collect();
        assert_eq!(detect(&arrived, 8_000).len(), 1, "lost {lost:b}");
    }
}

#[test]
fn reordered_and_duplicate_packets_are_one_digit() {
    let all = digit_packets("5", 60, 8_000, 65_533, 77);
    for first in 0..all.len() {
        for second in 0..all.len() {
            let mut shuffled = all.clone();
            shuffled.swap(first, second);
            shuffled.push(all[first].clone());
            shuffled.insert(0, all[second].clone());
            assert_eq!(detect(&shuffled, 8_000).len(), 1);
        }
    }
}

#[test]
fn a_digit_of_eight_seconds_has_the_segments_that_its_clock_rate_needs() {
    for (clock_rate, segments) in [(8_000, 1), (16_000, 2), (48_000, 6)] {
        let all = digit_packets("7", 8_000, clock_rate, 1, 5_000);
        let mut starts: Vec<u32> = all.iter().map(|(header, _)| header.timestamp).collect();
        starts.dedup();
        assert_eq!(starts.len(), segments);
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 65_535));
        // The digit ends with the last segment.
        let (header, [_, flags, high, low]) = all.last().unwrap();
        let end = header.timestamp - 5_000 + u32::from(u16::from_be_bytes([*high, *low]));
        assert_eq!((end, flags & 0x80), (8 * clock_rate, 0x80));
        assert_eq!(detect(&all, clock_rate), [('7', 20)]);
        // Every third packet is lost, including packets at the boundaries of segments.
        for first in 0..3 {
            let arrived = all.iter().enumerate().filter(|(at, _)| at % 3 != first);
            let arrived: Vec<_> = arrived.map(|(_, one)| one.clone()).collect();
            assert_eq!(detect(&arrived, clock_rate).len(), 1, "{clock_rate} {first}");
        }
    }
}

#[test]
fn durations_are_reported_in_milliseconds() {
    for clock_rate in [8_000u32, 16_000, 48_000] {
        let mut detector = Detector::default();
        let duration = (clock_rate / 10) as u16;
        assert_eq!(detector.handle(&packet(1, 9, true), &payload(3, true, duration), clock_rate), Some(('3', 100)));
    }
}

#[test]
fn a_repeated_digit_is_reported_twice_even_if_only_end_packets_arrive() {
    let ends = |sequence, timestamp| digit_packets("4", 40, 8_000, sequence, timestamp).split_off(2);
    let twice: Vec<_> = ends(10, 1_000).into_iter().chain(ends(17, 1_000 + 640)).collect();
    assert_eq!(detect(&twice, 8_000), [('4', 40), ('4', 40)]);
}

#[test]
fn digits_shorter_than_40_ms_are_reported() {
    let mut detector = Detector::default();
    for repetition in 0..5u16 {
        let timestamp = 1_000 + u32::from(repetition) * 320;
        let header = packet(repetition * 2, timestamp, true);
        assert_eq!(detector.handle(&header, &payload(9, false, 80), 8_000), Some(('9', 10)));
        assert_eq!(detector.handle(&packet(repetition * 2 + 1, timestamp, false), &payload(9, true, 160), 8_000), None);
    }
}

#[test]
fn changed_or_repeated_timestamps_of_some_devices_give_the_right_digits() {
    // This device changes the timestamp with each packet, even in the retransmitted end packets.
    let mut detector = Detector::default();
    let durations = [160, 320, 480, 640, 640, 640];
    let reported = durations.iter().enumerate().filter(|(index, duration)| {
        let header = packet(*index as u16, 1_000 + *index as u32 * 160, *index == 0);
        detector.handle(&header, &payload(2, *index > 2, **duration), 8_000).is_some()
    });
    assert_eq!(reported.count(), 1);
    // This device never changes the timestamp.
    let twice: Vec<_> =
        digit_packets("1", 60, 8_000, 50, 9).into_iter().chain(digit_packets("1", 60, 8_000, 60, 9)).collect();
    assert_eq!(self::detect(&twice, 8_000).len(), 2);
    let two: Vec<_> =
        digit_packets("1", 60, 8_000, 50, 9).into_iter().chain(digit_packets("2", 60, 8_000, 60, 9)).collect();
    assert_eq!(self::detect(&two, 8_000), [('1', 20), ('2', 20)]);
}

#[test]
fn a_restarted_timestamp_or_a_new_source_does_not_hide_a_digit() {
    let (before, after) = (digit_packets("1", 60, 8_000, 50, 40_000), digit_packets("1", 60, 8_000, 60, 100));
    let both: Vec<_> = before.iter().chain(&after).cloned().collect();
    assert_eq!(detect(&both, 8_000).len(), 2);
    let mut other = before.clone();
    other.iter_mut().for_each(|(header, _)| header.ssrc = 2);
    let both: Vec<_> = before.into_iter().chain(other).collect();
    assert_eq!(detect(&both, 8_000).len(), 2);
}

#[test]
fn flash_and_other_events_are_not_reported_and_the_volume_is_ignored() {
    for event in 16..=255 {
        assert_eq!(Detector::default().handle(&packet(1, 1, true), &payload(event, false, 160), 8_000), None);
    }
    for volume in 0..64 {
        let reported = Detector::default().handle(&packet(1, 1, true), &[10, volume, 0, 160], 8_000);
        assert_eq!(reported, Some(('*', 20)));
    }
    for short in [&[][..], &[1], &[1, 0, 0]] {
        assert_eq!(Detector::default().handle(&packet(1, 1, true), short, 8_000), None);
    }
}

#[test]
fn a_relayed_duration_is_converted_between_clocks() {
    for (from, to, duration, expected) in
        [(8_000, 48_000, 160, 960), (48_000, 8_000, 960, 160), (8_000, 48_000, 20_000, u16::MAX), (8_000, 8_000, 7, 7)]
    {
        let mut payload = payload(5, true, duration);
        rescale(&mut payload, from, to);
        assert_eq!(payload, self::payload(5, true, expected));
    }
    rescale(&mut [1, 2], 8_000, 48_000);
}
