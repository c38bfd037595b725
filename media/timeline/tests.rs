use super::*;

const FRAME: usize = 160;

/// Numbers that look random and are the same every time.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(1_000) < percent * 10
    }
}

/// A peer and what lies between: packets in order of arrival.
struct Way {
    packets: Vec<(u32, u32, Vec<u8>)>,
}

fn stamp(timestamp: u32, arrival: u32) -> Stamp {
    Stamp { timestamp, marker: false, arrival }
}

/// Samples that can be told apart: a voice-like wave whose octets are exact in both directions.
fn spoken(count: usize) -> Vec<i16> {
    let mut octets = vec![0; count];
    let samples: Vec<i16> = (0..count)
        .map(|at| {
            let phase = at as f32 * 118.0 / 8_000.0;
            let swell = 1.0 + 0.5 * (at as f32 / 3_000.0).sin();
            ((-phase.fract() * 5.0).exp() * (phase.fract() * 35.0).sin() * 8_000.0 * swell) as i16
        })
        .collect();
    Law::Mu.encode(&samples, &mut octets);
    let mut exact = vec![0; count];
    Law::Mu.decode(&octets, &mut exact);
    exact
}

fn encoded(samples: &[i16]) -> Vec<u8> {
    let mut octets = vec![0; samples.len()];
    Law::Mu.encode(samples, &mut octets);
    octets
}

impl Way {
    /// `samples` in packets of `length`, each `late(number)` samples late, or lost.
    fn new(samples: &[i16], length: usize, mut late: impl FnMut(usize) -> Option<u32>) -> Way {
        let mut packets: Vec<_> = samples
            .chunks(length)
            .enumerate()
            .filter_map(|(number, part)| {
                let at = (number * length) as u32;
                Some((at + late(number)?, at, encoded(part)))
            })
            .collect();
        packets.sort_by_key(|(arrival, ..)| *arrival);
        Way { packets }
    }

    /// Plays it into the timeline, a tick every 20 ms at `phase`, and gives what the reader heard.
    fn heard(&self, timeline: &mut Timeline, reader: &mut Reader, phase: u32, ticks: u32) -> Vec<i16> {
        let mut heard = Vec::new();
        let mut packets = self.packets.iter().peekable();
        for tick in 0..ticks {
            let now = tick * FRAME as u32 + phase;
            while let Some((arrival, timestamp, octets)) = packets.next_if(|(arrival, ..)| *arrival <= now) {
                timeline.write_octets(stamp(timestamp.wrapping_add(4_294_900_000), *arrival), Law::Mu, octets);
            }
            let mut frame = [0; FRAME];
            timeline.read_samples(reader, now, &mut frame);
            heard.extend(frame);
        }
        heard
    }
}

/// Where `part` is in `whole`, to the bit.
fn find(whole: &[i16], part: &[i16]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

fn readers() -> [Reader; 2] {
    [recorder(), Reader::adaptive()]
}

#[test]
fn a_steady_peer_is_copied_to_the_bit_whatever_its_packets_length_and_the_ticks_phase() {
    let samples = spoken(16_000);
    for length in [80, 160, 240, 320, 480, 960] {
        for phase in [0, 7, 80, 159] {
            for mut reader in readers() {
                let mut timeline = Timeline::octets(Law::Mu);
                let heard = Way::new(&samples, length, |_| Some(0)).heard(&mut timeline, &mut reader, phase, 115);
                let from = find(&heard, &samples[..200]).unwrap();
                let whole = samples.len().min(heard.len() - from);
                assert!(whole >= 15_000);
                assert_eq!(heard[from..from + whole], samples[..whole], "{length} {phase}");
                assert!(heard[..from].iter().all(|sample| *sample == 0));
                // From the packet's arrival to where its first sample is heard.
                let behind = if reader.fixed_ms.is_some() { 1_120 } else { 240 };
                assert!(from as u32 + phase == behind, "{from} {phase}");
                assert_eq!((timeline.quality().jumps, timeline.quality().stretches), (0, 0));
            }
        }
    }
}

#[test]
fn packets_out_of_order_and_twice_are_put_right_for_the_recorder() {
    let samples = spoken(16_000);
    let mut random = Random::new(1);
    let mut way = Way::new(&samples, 160, |number| Some(if number == 0 { 0 } else { random.below(900) as u32 }));
    let again = way.packets.clone();
    way.packets.extend(again.into_iter().map(|(arrival, timestamp, octets)| (arrival + 100, timestamp, octets)));
    way.packets.sort_by_key(|(arrival, ..)| *arrival);
    let mut timeline = Timeline::octets(Law::Mu);
    let (mut live, mut fixed) = (Reader::adaptive(), recorder());
    let mut heard = Vec::new();
    let mut packets = way.packets.iter().peekable();
    for tick in 0..115u32 {
        let now = tick * FRAME as u32;
        while let Some((arrival, timestamp, octets)) = packets.next_if(|(arrival, ..)| *arrival <= now) {
            timeline.write_octets(stamp(*timestamp, *arrival), Law::Mu, octets);
        }
        let mut frame = [0; FRAME];
        timeline.read_samples(&mut live, now, &mut frame);
        timeline.read_samples(&mut fixed, now, &mut frame);
        heard.extend(frame);
    }
    let from = find(&heard, &samples[..200]).unwrap();
    assert_eq!(heard[from..from + 16_000], samples[..16_000]);
}

/// An hour of a peer whose clock differs by `drift` millionths; 3 % are lost, each packet is up to `jitter` samples late.
/// Gives the farthest that the recorder's frames were from the wire, in samples.
fn farthest_off(drift: i64, jitter: u64) -> i64 {
    let mut timeline = Timeline::octets(Law::Mu);
    let mut reader = recorder();
    let mut random = Random::new(drift.unsigned_abs());
    let sent = |number: i64| number * 160 + number * 160 * drift / 1_000_000;
    let (mut number, mut worst, mut count) = (0, 0, 0);
    let mut late: std::collections::VecDeque<(u32, u32)> = std::collections::VecDeque::new();
    for tick in 0..180_000u32 {
        let now = tick * FRAME as u32;
        while sent(number) <= i64::from(now) {
            if !random.chance(3) {
                // The first is not, so that places in the stream are the peer's time.
                let delay = if number == 0 { 0 } else { random.below(jitter + 1) as u32 };
                late.push_back((sent(number) as u32 + delay, number as u32 * 160));
            }
            number += 1;
        }
        late.make_contiguous().sort_unstable();
        while let Some((arrival, timestamp)) = late.pop_front_if(|(arrival, _)| *arrival <= now) {
            timeline.write_octets(stamp(timestamp, arrival), Law::Mu, &[0x30; FRAME]);
        }
        let mut frame = [0; FRAME];
        timeline.read_samples(&mut reader, now, &mut frame);
        count += frame.len();
        if tick > 300 {
            // What is read next was on the wire when, by the peer's clock?
            let at = reader.at.unwrap();
            let wire = at + at * drift / 1_000_000;
            worst = worst.max((wire - (i64::from(now) + 160 - 1_120)).abs());
        }
    }
    assert_eq!(count, 180_000 * FRAME);
    assert!(timeline.quality().stretches > 0 && timeline.quality().jumps == 0, "{:?}", timeline.quality());
    worst
}

#[test]
fn an_hour_of_drift_with_jitter_and_loss_leaves_a_recording_within_5_ms_of_the_wire() {
    for (drift, jitter) in [(100, 0), (-100, 160), (300, 160), (-300, 240)] {
        let worst = farthest_off(drift, jitter);
        println!("{drift} ppm, {} ms of jitter: at most {:.2} ms off", jitter / 8, worst as f32 / 8.0);
        assert!(worst < 40, "{worst} samples at {drift} ppm");
    }
}

#[test]
fn octets_are_read_as_they_came_or_in_the_other_law() {
    let samples = spoken(4_000);
    for law in [Law::Mu, Law::A] {
        let mut timeline = Timeline::octets(Law::Mu);
        let mut reader = Reader::adaptive();
        let mut heard = Vec::new();
        for tick in 0..28u32 {
            let now = tick * 160;
            if let Some(part) = samples.chunks(160).nth(tick as usize) {
                // The first packet is marked, and from the tenth on the peer speaks A-law.
                let mut octets = encoded(part);
                let from = if tick < 10 { Law::Mu } else { Law::A };
                Law::Mu.transcode(from, &mut octets);
                timeline.write_octets(Stamp { timestamp: now, marker: tick == 0, arrival: now }, from, &octets);
            }
            let mut frame = [0; FRAME];
            let makeup = timeline.read_octets(&mut reader, now, law, &mut frame);
            assert_eq!(makeup.is_nothing(), tick == 0, "{tick}");
            heard.extend(frame);
        }
        let mut expected = encoded(&samples[..1_600]);
        Law::Mu.transcode(law, &mut expected);
        assert_eq!(heard[240..240 + 1_600], expected);
        let mut decoded = vec![0; 2_000];
        law.decode(&heard[240 + 1_600..240 + 3_600], &mut decoded);
        let off = decoded.iter().zip(&samples[1_600..]).map(|(one, other)| (one - other).abs()).max().unwrap();
        assert!(off <= 512, "{off}");
    }
}

#[test]
fn a_resting_peer_is_heard_as_its_comfort_noise_and_the_next_word_is_copied_to_the_bit() {
    let samples = spoken(1_600);
    let mut timeline = Timeline::octets(Law::Mu);
    let mut reader = Reader::adaptive();
    let mut heard = Vec::new();
    for tick in 0..110u32 {
        let now = tick * 160;
        match tick {
            0..10 => {
                let part = &samples[tick as usize * 160..][..160];
                timeline.write_octets(stamp(now, now), Law::Mu, &encoded(part));
            }
            10 | 50 => timeline.write_comfort_noise(stamp(now, now), if tick == 10 { 40 } else { 60 }),
            80..90 => {
                let part = &samples[(tick as usize - 80) * 160..][..160];
                timeline.write_octets(stamp(now, now), Law::Mu, &encoded(part));
            }
            _ => {}
        }
        let mut frame = [0; FRAME];
        let makeup = timeline.read_samples(&mut reader, now, &mut frame);
        if (15..75).contains(&tick) {
            assert_eq!(makeup.comfort, 160, "{tick}");
        }
        heard.extend(frame);
    }
    assert_eq!(heard[240..240 + 1_600], samples);
    assert_eq!(heard[240 + 80 * 160..240 + 90 * 160], samples);
    let level = |from: usize, to: usize| {
        let part = &heard[240 + from * 160..240 + to * 160];
        let power = part.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>() / part.len() as f32;
        10.0 * (power / 32_768f32.powi(2)).log10()
    };
    assert!((level(10, 50) + 40.0).abs() < 0.5, "{}", level(10, 50));
    assert!((level(50, 80) + 60.0).abs() < 1.5, "{}", level(50, 80));
    assert_eq!(timeline.quality().delay_ms, 30);
}

#[test]
fn what_is_missing_fades_and_a_peer_that_has_stopped_is_silent_and_known_to_be() {
    let samples = spoken(8_000);
    let mut timeline = Timeline::octets(Law::Mu);
    let mut reader = recorder();
    let mut makeups = Vec::new();
    let mut heard = Vec::new();
    for tick in 0..60u32 {
        if tick < 20 {
            let part = &samples[tick as usize * 160..][..160];
            timeline.write_octets(stamp(tick * 160, tick * 160), Law::Mu, &encoded(part));
        }
        let mut frame = [0; FRAME];
        makeups.push(timeline.read_samples(&mut reader, tick * 160, &mut frame));
        heard.extend(frame);
    }
    let end = 1_120 + 20 * 160;
    assert_eq!(heard[1_120..end], samples[..20 * 160]);
    let energy = |from: usize| heard[from..from + 80].iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
    assert!(energy(end) > 0.5 * energy(end - 80));
    for part in 1..6 {
        assert!(energy(end + part * 80) < energy(end + part * 80 - 80), "{part}");
    }
    assert!(heard[end + 480..].iter().all(|sample| *sample == 0));
    let concealed: u32 = makeups.iter().map(|makeup| u32::from(makeup.concealed)).sum();
    assert_eq!((concealed, timeline.quality().concealed_ms), (480, 60));
    assert!(makeups[..7].iter().chain(&makeups[31..]).all(|makeup| makeup.is_nothing()));
}

#[test]
fn wideband_with_another_clock_is_copied_to_the_bit() {
    for (rate, clock_rate) in
        [(SampleRate::Hz16000, 8_000), (SampleRate::Hz16000, 48_000), (SampleRate::Hz48000, 48_000)]
    {
        let frame = rate.frame();
        let samples: Vec<i16> = (0..frame as i32 * 40).map(|at| (at * 7_919 % 20_011) as i16).collect();
        let mut timeline = Timeline::samples(rate, clock_rate);
        let mut reader = Reader::adaptive();
        let mut heard = Vec::new();
        for tick in 0..45u32 {
            if let Some(part) = samples.chunks(frame).nth(tick as usize) {
                timeline.write_samples(stamp((tick * clock_rate / 50).wrapping_sub(5_000), tick * 160 + 60), part);
            }
            let mut out = vec![0; frame];
            timeline.read_samples(&mut reader, tick * 160 + 100, &mut out);
            heard.extend(out);
        }
        let from = find(&heard, &samples[..frame]).unwrap();
        assert_eq!(heard[from..from + 40 * frame], samples, "{rate:?} {clock_rate}");
    }
}
