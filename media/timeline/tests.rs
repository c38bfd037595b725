use super::*;

const FRAME: usize = 160;

/// Pseudo-random numbers. The sequence of numbers is the same in each run.
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

/// The packets of a far end in the order of their arrival.
pub(super) struct DelayedPackets {
    packets: Vec<(u32, u32, Vec<u8>)>,
}

fn stamp(timestamp: u32, arrival: u32) -> Stamp {
    Stamp { timestamp, marker: false, arrival }
}

/// Returns a voice-like wave without repetitions. Encoding and decoding do not change its samples.
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

impl DelayedPackets {
    /// Splits `samples` into packets of `length` samples. `late(n)` is the time in samples by which packet n arrives
    /// late. If `late(n)` is `None`, packet n is lost.
    pub(super) fn new(samples: &[i16], length: usize, mut late: impl FnMut(usize) -> Option<u32>) -> DelayedPackets {
        let mut packets: Vec<_> = samples
            .chunks(length)
            .enumerate()
            .filter_map(|(number, part)| {
                let at = (number * length) as u32;
                Some((at + late(number)?, at, encoded(part)))
            })
            .collect();
        packets.sort_by_key(|(arrival, ..)| *arrival);
        DelayedPackets { packets }
    }

    /// Passes the packets to the timeline and runs `ticks` ticks. There is a tick every 20 ms, and `phase` is the time
    /// of the first tick in samples. Returns the audio that the reader gets.
    pub(super) fn heard(&self, timeline: &mut Timeline, reader: &mut Reader, phase: u32, ticks: u32) -> Vec<i16> {
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

/// Returns the position in `whole` at which exactly the samples of `part` begin.
fn find(whole: &[i16], part: &[i16]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

fn readers() -> [Reader; 2] {
    [recorder(), Reader::adaptive()]
}

#[test]
fn steady_packets_of_any_length_and_phase_are_copied_bit_exactly() {
    let samples = spoken(16_000);
    for length in [80, 160, 240, 320, 480, 960] {
        for phase in [0, 7, 80, 159] {
            for mut reader in readers() {
                let mut timeline = Timeline::octets(Law::Mu);
                let heard =
                    DelayedPackets::new(&samples, length, |_| Some(0)).heard(&mut timeline, &mut reader, phase, 115);
                let from = find(&heard, &samples[..200]).unwrap();
                let whole = samples.len().min(heard.len() - from);
                assert!(whole >= 15_000);
                assert_eq!(heard[from..from + whole], samples[..whole], "{length} {phase}");
                assert!(heard[..from].iter().all(|sample| *sample == 0));
                // This is the delay from the arrival of a packet to the playout of its first sample.
                let behind = if reader.fixed_ms.is_some() { 1_120 } else { 240 };
                assert!(from as u32 + phase == behind, "{from} {phase}");
                assert_eq!((timeline.quality().jumps, timeline.quality().stretches), (0, 0));
            }
        }
    }
}

#[test]
fn reordered_and_duplicate_packets_are_recorded_in_order() {
    let samples = spoken(16_000);
    let mut random = Random::new(1);
    let mut packets =
        DelayedPackets::new(&samples, 160, |number| Some(if number == 0 { 0 } else { random.below(900) as u32 }));
    let again = packets.packets.clone();
    packets.packets.extend(again.into_iter().map(|(arrival, timestamp, octets)| (arrival + 100, timestamp, octets)));
    packets.packets.sort_by_key(|(arrival, ..)| *arrival);
    let mut timeline = Timeline::octets(Law::Mu);
    let (mut live, mut fixed) = (Reader::adaptive(), recorder());
    let mut heard = Vec::new();
    let mut packets = packets.packets.iter().peekable();
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

/// Simulates one hour with a far end whose clock is `drift` ppm slow. 3 % of the packets are lost, and each packet is
/// up to `jitter` samples late. Returns the largest error of the recorder's delay, in samples.
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
                // The first packet is not late, so that positions in the stream equal the far end's time.
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
            // This is the time, on the far end's clock, at which the reader's next sample was on the wire.
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
fn an_hour_of_drift_jitter_and_loss_shifts_a_recording_by_at_most_8_ms() {
    for (drift, jitter) in [(100, 0), (-100, 160), (300, 160), (-300, 240)] {
        let worst = farthest_off(drift, jitter);
        println!("{drift} ppm, {} ms of jitter: at most {:.2} ms off", jitter / 8, worst as f32 / 8.0);
        assert!(worst < 64, "{worst} samples at {drift} ppm");
    }
}

#[test]
fn a_recorder_with_late_first_packets_settles_after_a_second() {
    let samples = spoken(32_000);
    let mut timeline = Timeline::octets(Law::Mu);
    let mut reader = recorder();
    let packets = DelayedPackets::new(&samples, 160, |number| Some(if number < 20 { 48 } else { 0 }));
    let heard = packets.heard(&mut timeline, &mut reader, 0, 200);
    assert_eq!((timeline.quality().jumps, timeline.quality().stretches), (1, 0));
    // After the jump, the audio is the same as if no packet had been late.
    let from = find(&heard, &samples[16_000..16_200]).unwrap();
    assert_eq!(from, 16_000 + 1_120);
    assert_eq!(heard[from..from + 12_000], samples[16_000..28_000]);
}

#[test]
fn octets_are_read_unchanged_or_in_the_other_law() {
    let samples = spoken(4_000);
    for law in [Law::Mu, Law::A] {
        let mut timeline = Timeline::octets(Law::Mu);
        let mut reader = Reader::adaptive();
        let mut heard = Vec::new();
        for tick in 0..28u32 {
            let now = tick * 160;
            if let Some(part) = samples.chunks(160).nth(tick as usize) {
                // The first packet has a marker. From the tenth packet on, the far end sends A-law.
                let mut octets = encoded(part);
                let from = if tick < 10 { Law::Mu } else { Law::A };
                Law::Mu.transcode(from, &mut octets);
                timeline.write_octets(Stamp { timestamp: now, marker: tick == 0, arrival: now }, from, &octets);
            }
            let mut frame = [0; FRAME];
            let composition = timeline.read_octets(&mut reader, now, law, &mut frame);
            assert_eq!(composition.is_silent(), tick == 0, "{tick}");
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
fn a_pause_is_filled_with_comfort_noise_and_later_speech_is_bit_exact() {
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
        let composition = timeline.read_samples(&mut reader, now, &mut frame);
        if (15..75).contains(&tick) {
            assert_eq!(composition.comfort, 160, "{tick}");
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
fn missing_audio_fades_and_a_stopped_far_end_is_reported_as_silent() {
    let samples = spoken(8_000);
    let mut timeline = Timeline::octets(Law::Mu);
    let mut reader = recorder();
    let mut compositions = Vec::new();
    let mut heard = Vec::new();
    for tick in 0..60u32 {
        if tick < 20 {
            let part = &samples[tick as usize * 160..][..160];
            timeline.write_octets(stamp(tick * 160, tick * 160), Law::Mu, &encoded(part));
        }
        let mut frame = [0; FRAME];
        compositions.push(timeline.read_samples(&mut reader, tick * 160, &mut frame));
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
    let concealed: u32 = compositions.iter().map(|composition| u32::from(composition.concealed)).sum();
    assert_eq!((concealed, timeline.quality().concealed_ms), (480, 60));
    assert!(compositions[..7].iter().chain(&compositions[31..]).all(|composition| composition.is_silent()));
}

#[test]
fn wideband_audio_with_another_clock_rate_is_copied_bit_exactly() {
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

#[test]
fn an_adaptive_readers_delay_follows_the_jitter() {
    let samples = spoken(160 * 3_000);
    for (jitter, max) in [(0, 30), (240, 60), (480, 90), (960, 150)] {
        let mut random = Random::new(jitter + 1);
        let packets = DelayedPackets::new(&samples, 160, |_| Some(random.below(jitter + 1) as u32));
        let mut timeline = Timeline::octets(Law::Mu);
        let mut reader = Reader::adaptive();
        packets.heard(&mut timeline, &mut reader, 50, 1_000);
        let early = timeline.quality();
        let mut again = Timeline::octets(Law::Mu);
        let heard = packets.heard(&mut again, &mut Reader::adaptive(), 50, 3_000);
        assert_eq!(heard.len(), 3_000 * FRAME);
        let all = again.quality();
        let (late, concealed) = (all.late - early.late, all.concealed_ms - early.concealed_ms);
        println!("{} ms of jitter: {all:?}; after 20 s {late} late, {concealed} ms concealed", jitter / 8);
        assert!(all.delay_ms <= max, "{all:?}");
        assert!(late <= 40 && concealed <= 800, "{late} {concealed}");
    }
}

#[test]
fn a_live_readers_delay_falls_after_the_jitter_ends() {
    let samples: Vec<i16> = spoken(160 * 3_000)
        .into_iter()
        .enumerate()
        .map(|(at, one)| if at / 8_000 % 3 == 0 { one / 256 } else { one })
        .collect();
    let mut random = Random::new(5);
    let packets =
        DelayedPackets::new(&samples, 160, |number| Some(if number < 500 { random.below(640) as u32 } else { 0 }));
    let (mut timeline, mut reader) = (Timeline::octets(Law::Mu), Reader::adaptive());
    packets.heard(&mut timeline, &mut reader, 50, 500);
    let during = timeline.quality().delay_ms;
    let (mut timeline, mut reader) = (Timeline::octets(Law::Mu), Reader::adaptive());
    packets.heard(&mut timeline, &mut reader, 50, 3_000);
    let after = timeline.quality();
    println!("{during} ms, then {after:?}");
    assert!(during >= 80 && after.delay_ms <= 45);
}

/// Runs a timeline for `ticks` ticks. `send` writes to the timeline. Returns the audio of a recorder, and the
/// composition of each frame.
fn recorded(ticks: u32, mut send: impl FnMut(&mut Timeline, u32, u32)) -> (Vec<i16>, Vec<FrameComposition>, Timeline) {
    let (mut timeline, mut reader) = (Timeline::octets(Law::Mu), recorder());
    let (mut heard, mut compositions) = (Vec::new(), Vec::new());
    for tick in 0..ticks {
        send(&mut timeline, tick, tick * 160 + 30);
        let mut frame = [0; FRAME];
        compositions.push(timeline.read_samples(&mut reader, tick * 160 + 60, &mut frame));
        heard.extend(frame);
    }
    (heard, compositions, timeline)
}

#[test]
fn a_new_timestamp_origin_is_followed_at_once_if_ahead_and_at_the_third_packet_if_behind() {
    for (jump, lost) in [(0x8000_0000u32 - 5_000, 0), (4_000, 0), (u32::MAX - 80_000, 2), (u32::MAX - 2_400, 2)] {
        let samples = spoken(160 * 60);
        let (heard, ..) = recorded(70, |timeline, tick, now| {
            let Some(part) = samples.chunks(160).nth(tick as usize) else { return };
            let timestamp = (tick * 160).wrapping_add(if tick < 30 { 7 } else { jump });
            timeline.write_octets(stamp(timestamp, now), Law::Mu, &encoded(part));
        });
        let from = find(&heard, &samples[..160]).unwrap();
        assert_eq!(heard[from..from + 30 * 160], samples[..30 * 160]);
        let lost = 30 + lost + usize::from(lost > 0);
        assert_eq!(heard[from + lost * 160..from + 60 * 160], samples[lost * 160..], "{jump}");
    }
}

#[test]
fn a_far_end_with_constant_timestamps_during_pauses_is_played_afterwards() {
    for marker in [false, true] {
        let samples = spoken(160 * 40);
        let (heard, compositions, _) = recorded(150, |timeline, tick, now| {
            let number = if tick < 20 { tick } else { tick.wrapping_sub(100) };
            let Some(part) = samples.chunks(160).nth(number as usize).filter(|_| !(20..120).contains(&tick)) else {
                return;
            };
            let stamp = Stamp { timestamp: number * 160, marker: marker && tick == 120, arrival: now };
            timeline.write_octets(stamp, Law::Mu, &encoded(part));
        });
        let from = find(&heard, &samples[..160]).unwrap() + 100 * 160;
        let first = if marker { 20 } else { 23 };
        assert_eq!(heard[from + first * 160..from + 40 * 160], samples[first * 160..], "{marker}");
        assert!(compositions[31..120].iter().all(|composition| composition.is_silent()));
    }
}

#[test]
fn another_ssrc_continues_at_the_media_clock() {
    let samples = spoken(160 * 60);
    let (heard, ..) = recorded(70, |timeline, tick, now| {
        let Some(part) = samples.chunks(160).nth(tick as usize) else { return };
        if tick == 30 {
            timeline.restart();
        }
        let timestamp = if tick < 30 { tick * 160 } else { (tick * 160).wrapping_sub(800) };
        timeline.write_octets(stamp(timestamp, now), Law::Mu, &encoded(part));
    });
    let from = find(&heard, &samples[..160]).unwrap();
    assert_eq!(heard[from..from + 60 * 160], samples);
}

#[test]
fn packets_delayed_together_lose_only_late_audio_and_cause_no_shift() {
    // No packet arrives for 400 ms. Then all packets arrive at once.
    let samples = spoken(160 * 100);
    let packets = DelayedPackets::new(&samples, 160, |number| {
        Some(if (30..50).contains(&number) { (50 - number as u32) * 160 } else { 0 })
    });
    let mut timeline = Timeline::octets(Law::Mu);
    let heard = packets.heard(&mut timeline, &mut recorder(), 0, 108);
    let from = find(&heard, &samples[..160]).unwrap();
    assert_eq!(heard[from..from + 30 * 160], samples[..30 * 160]);
    assert_eq!(heard[from + 46 * 160..from + 100 * 160], samples[46 * 160..]);
}

#[test]
fn a_longer_network_delay_is_followed() {
    for more in [400, 800, 2_400] {
        let samples = spoken(160 * 1_000);
        let packets = DelayedPackets::new(&samples, 160, |number| Some(if number < 100 { 0 } else { more }));
        let mut timeline = Timeline::octets(Law::Mu);
        let mut reader = recorder();
        let heard = packets.heard(&mut timeline, &mut reader, 0, 1_000);
        // The recorder has the newest audio, with the delay of its arrival.
        let end = heard.len() - 1_600;
        let from = end - 1_120 - more as usize;
        assert_eq!(heard[end..end + 800], samples[from..from + 800], "{more}: {:?}", timeline.quality());
    }
}

#[test]
fn late_stamps_of_a_busy_host_shift_speech_slowly_and_silence_at_once() {
    // For 6 s the packets are 12 ms late, so that the least transit time changes. After that they are no longer late.
    let late = |number| Some(if (500..800).contains(&number) { 96 } else { 0 });
    for mut reader in readers() {
        let samples = spoken(160 * 2_000);
        let mut timeline = Timeline::octets(Law::Mu);
        let heard = DelayedPackets::new(&samples, 160, late).heard(&mut timeline, &mut reader, 0, 2_000);
        let quality = timeline.quality();
        assert_eq!((quality.jumps, quality.concealed_ms), (0, 0), "{quality:?}");
        // 12 ms in each direction are 96 corrections of one sample each.
        assert!(quality.stretches <= 2 * 96, "{quality:?}");
        let last = &samples[160 * 1_900..160 * 1_910];
        assert!(find(&heard, last).is_some(), "{quality:?}");
    }
    // If the talker pauses in the meantime, the reader moves during the pause.
    let mut samples = spoken(160 * 2_000);
    samples[160 * 650..160 * 1_050].fill(0);
    let mut timeline = Timeline::octets(Law::Mu);
    let heard = DelayedPackets::new(&samples, 160, late).heard(&mut timeline, &mut recorder(), 0, 2_000);
    assert_eq!(timeline.quality().stretches, 0, "{:?}", timeline.quality());
    let from = find(&heard, &samples[..160]).unwrap();
    assert_eq!(heard[from..from + 160 * 640], samples[..160 * 640]);
    assert_eq!(heard[from + 160 * 1_050..from + 160 * 1_900], samples[160 * 1_050..160 * 1_900]);
}

#[test]
fn a_session_that_moves_to_a_worker_with_another_clock_continues() {
    for other in [0u32.wrapping_sub(800_000), 800_000, 0u32.wrapping_sub(20), 20] {
        let samples = spoken(160 * 100);
        let (mut timeline, mut reader) = (Timeline::octets(Law::Mu), recorder());
        let mut heard = Vec::new();
        for (tick, part) in (0..).zip(samples.chunks(160)) {
            let now = (tick * 160u32).wrapping_add(if tick < 50 { 0 } else { other });
            timeline.write_octets(stamp(tick * 160, now), Law::Mu, &encoded(part));
            let mut frame = [0; FRAME];
            timeline.read_samples(&mut reader, now, &mut frame);
            heard.extend(frame);
        }
        // If the new clock is only slightly different, small corrections follow it, so some packets are changed.
        let whole = (80..91).any(|number| find(&heard, &samples[160 * number..160 * (number + 1)]).is_some());
        assert!(whole, "{other}: {:?}", timeline.quality());
    }
}

#[test]
fn pauses_of_the_sender_are_silent_and_not_concealed() {
    let samples = spoken(160 * 20);
    let (heard, compositions, timeline) =
        recorded(60, |timeline, tick, now| match samples.chunks(160).nth(tick as usize % 30) {
            Some(part) => timeline.write_octets(stamp(tick * 160, now), Law::Mu, &encoded(part)),
            None => timeline.start_pause(None),
        });
    let from = find(&heard, &samples[..160]).unwrap();
    assert_eq!(heard[from..from + 20 * 160], samples);
    assert!(heard[from + 20 * 160..from + 30 * 160].iter().all(|sample| *sample == 0));
    assert_eq!(heard[from + 30 * 160..from + 50 * 160], samples);
    assert_eq!(timeline.quality().concealed_ms, 0);
    assert!(compositions[35].is_silent());
}

#[test]
fn any_timestamps_and_clocks_give_whole_frames() {
    let mut random = Random::new(3);
    for rate in
        [None, Some((SampleRate::Hz16000, 8_000)), Some((SampleRate::Hz48000, 48_000)), Some((SampleRate::Hz48000, 1))]
    {
        let mut timeline = rate.map_or(Timeline::octets(Law::A), |(rate, clock)| Timeline::samples(rate, clock));
        let frame = rate.map_or(160, |(rate, _)| rate.frame());
        let mut readers = [recorder(), Reader::adaptive(), Reader::fixed(0), Reader::fixed(u16::MAX)];
        let (mut now, mut timestamp) = (0u32, 0u32);
        for step in 0..20_000u32 {
            let wild = step / 1_000 % 2 == 0;
            now = if wild && random.chance(5) {
                random.below(1 << 32) as u32
            } else {
                now.wrapping_add(random.below(200) as u32)
            };
            timestamp =
                if wild { random.below(1 << 32) as u32 } else { timestamp.wrapping_add(random.below(400) as u32) };
            let stamp = Stamp { timestamp, marker: random.chance(10), arrival: now };
            let length = random.below(3_000) as usize * usize::from(random.chance(90));
            match random.below(20) {
                0 => timeline.write_comfort_noise(stamp, random.below(256) as u8),
                1 => timeline.start_pause(None),
                2 => timeline.restart(),
                3..10 => timeline.write_octets(stamp, Law::Mu, &vec![step as u8; length]),
                10..14 => timeline.write_samples(stamp, &vec![step as i16; length]),
                which => {
                    let reader = &mut readers[which as usize % 4];
                    let mut out = vec![0; frame];
                    let composition = if random.chance(50) {
                        timeline.read_samples(reader, now, &mut out)
                    } else {
                        timeline.read_octets(reader, now, Law::A, &mut vec![0; frame])
                    };
                    assert!(usize::from(composition.present + composition.concealed + composition.comfort) <= frame);
                }
            }
        }
    }
}
