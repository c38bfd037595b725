use super::super::tests::{Noise, fidelity, recorded_voice, voice};
use super::*;

const RATES: [SampleRate; 3] = [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000];

fn packets(rate: SampleRate, speech: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(rate);
    let mut octets = [0; 1_275];
    let mut packet = |frame| {
        let written = encoder.encode(frame, &mut octets);
        octets[..written].to_vec()
    };
    speech.chunks_exact(rate.frame()).map(&mut packet).collect()
}

#[test]
fn speech_is_decoded_at_every_rate() {
    for rate in RATES {
        let speech = voice(rate.hertz());
        let packets = packets(rate, &speech);
        let mut decoder = Decoder::new(rate);
        let mut heard = vec![0; speech.len()];
        for (packet, samples) in packets.iter().zip(heard.chunks_exact_mut(rate.frame())) {
            assert_eq!(decoder.decode(packet, samples), Some(rate.frame()));
        }
        let max_lag = rate.frame();
        let (decibels, lag) = fidelity(&speech[..heard.len() - max_lag], &heard, max_lag);
        let octets: usize = packets.iter().map(Vec::len).sum();
        println!("{rate:?}: {decibels:.1} dB after {lag} samples, {} bit/s", octets * 8 * 50 / packets.len());
        assert!(decibels > 10.0, "{rate:?}: {decibels} dB");
    }
}

#[test]
fn a_lost_packet_is_recovered_from_the_next() {
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000] {
        let speech = match recorded_voice() {
            Some(speech) if rate == SampleRate::Hz16000 => speech,
            _ => voice(rate.hertz()),
        };
        let packets = packets(rate, &speech);
        let mut whole = Decoder::new(rate);
        let (mut recovering, mut concealing) = (Decoder::new(rate), Decoder::new(rate));
        let (mut lossless, mut recovered, mut concealed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut with, mut lost) = (0, 0);
        let mut samples = vec![0; rate.frame()];
        for (place, packet) in packets.iter().enumerate() {
            assert_eq!(whole.decode(packet, &mut samples), Some(rate.frame()));
            let is_lost = place % 7 == 3;
            if is_lost {
                lossless.extend_from_slice(&samples);
                lost += 1;
            }
            if is_lost && let Some(next) = packets.get(place + 1) {
                if recovering.recover(next, &mut samples) {
                    with += 1;
                } else {
                    assert!(recovering.conceal(&mut samples));
                }
                recovered.extend_from_slice(&samples);
                assert!(concealing.conceal(&mut samples));
                concealed.extend_from_slice(&samples);
            } else {
                recovering.decode(packet, &mut samples).unwrap();
                concealing.decode(packet, &mut samples).unwrap();
            }
        }
        let (by_redundancy, _) = fidelity(&lossless, &recovered, 0);
        let (by_guess, _) = fidelity(&lossless, &concealed, 0);
        println!("{rate:?}: {with} of {lost} recovered, {by_redundancy:.1} dB instead of {by_guess:.1}");
        assert!(with * 5 > lost * 2, "{rate:?}: {with} of {lost}");
        assert!(by_redundancy > by_guess + 3.0, "{rate:?}: {by_redundancy} dB, {by_guess} dB");
    }
}

#[test]
fn in_band_redundancy_is_detected_only_in_packets_that_have_it() {
    let speech = voice(16_000);
    for (redundancy, expected) in [(true, true), (false, false)] {
        let mut encoder = Encoder::new(SampleRate::Hz16000);
        encoder.0.set_inband_fec(redundancy).unwrap();
        let mut seen = 0;
        for frame in speech.chunks_exact(640) {
            let mut octets = [0; 1_275];
            let written = encoder.encode(frame, &mut octets);
            seen += usize::from(carries_redundancy(&octets[..written]));
        }
        assert_eq!(seen > 10, expected, "{seen} packets");
    }
    assert!(!carries_redundancy(&[]));
    for toc in 0..=255 {
        assert!(!carries_redundancy(&[toc]));
        assert!(toc < 128 || !carries_redundancy(&[toc, 0x40, 0x40, 0x40, 0x40]));
    }
    // These packets contain one SILK frame of 20 ms, two frames with different lengths, or a frame after a padding
    // length of more than one octet.
    assert!(carries_redundancy(&[0b0000_1000, 0x40]) && !carries_redundancy(&[0b0000_1000, 0xBF]));
    assert!(carries_redundancy(&[0b0000_1010, 1, 0x40, 0]) && carries_redundancy(&[0b0000_1010, 252, 0, 0x40]));
    assert!(carries_redundancy(&[0b0000_1011, 0xC2, 255, 1, 1, 0x40]) && carries_redundancy(&[0b0000_1011, 2, 0x40]));
    // These packets contain three SILK frames in 60 ms, or a redundant frame in the side channel.
    assert!(carries_redundancy(&[0b0001_1000, 0x10]) && !carries_redundancy(&[0b0001_1000, 0x40]));
    assert!(carries_redundancy(&[0b0000_1100, 0x10]) && !carries_redundancy(&[0b0000_1100, 0x20]));
}

#[test]
fn every_packet_length_is_decoded_at_every_rate() {
    let speech = voice(48_000);
    for (tenths, samples) in [(25, 120), (50, 240), (100, 480), (200, 960), (400, 1_920), (600, 2_880), (1_200, 5_760)]
    {
        let mut encoder = Encoder::new(SampleRate::Hz48000);
        let mut octets = [0; 4_000];
        for frame in speech.chunks_exact(samples).take(10) {
            let written = encoder.encode(frame, &mut octets);
            assert!(written > 0, "{tenths}");
            for rate in RATES {
                let expected = rate.frame() * tenths / 200;
                let mut heard = vec![0; expected];
                let mut decoder = Decoder::new(rate);
                assert_eq!(decoder.decode(&octets[..written], &mut heard), Some(expected), "{tenths} at {rate:?}");
                assert_eq!(decoder.decode(&octets[..written], &mut heard[1..]), None);
            }
        }
    }
}

#[test]
fn a_stereo_packet_is_decoded_as_mono() {
    let speech = voice(48_000);
    let pairs: Vec<i16> = speech.iter().flat_map(|sample| [*sample, *sample / 2]).collect();
    let mut stereo = opus::Encoder::new(48_000, Channels::Stereo, Application::Audio).unwrap();
    let mut decoder = Decoder::new(SampleRate::Hz16000);
    let mut octets = [0; 1_275];
    let mut heard = vec![0; speech.len() / 3];
    for (frame, samples) in pairs.chunks_exact(1_920).zip(heard.chunks_exact_mut(320)) {
        let written = stereo.encode(frame, &mut octets).unwrap();
        assert_eq!(decoder.decode(&octets[..written], samples), Some(320));
    }
    let loudness = |samples: &[i16]| samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
    let ratio = loudness(&heard) * 3.0 / loudness(&speech);
    assert!((0.45..0.68).contains(&ratio), "the mean of both sides has 9/16 of the louder one's power, not {ratio}");
}

#[test]
fn a_frame_with_a_length_that_opus_does_not_have_is_not_encoded() {
    let mut encoder = Encoder::new(SampleRate::Hz16000);
    let mut octets = [0; 1_275];
    for length in [0, 1, 39, 319, 321] {
        assert_eq!(encoder.encode(&vec![0; length], &mut octets), 0);
    }
    assert_eq!(encoder.encode(&[0; 320], &mut []), 0);
    assert!(encoder.encode(&[0; 320], &mut octets) > 0);
    assert!(encoder.encode(&[9; 320], &mut octets[..20]) <= 20);
}

#[test]
fn concealment_generates_only_whole_opus_steps() {
    for rate in RATES {
        let mut decoder = Decoder::new(rate);
        let step = rate.frame() / 8;
        let mut samples = vec![0; rate.frame() * 6 + step];
        for steps in 1..=48 {
            assert!(decoder.conceal(&mut samples[..steps * step]));
        }
        for length in [0, 1, step - 1, step + 1, step * 49] {
            assert!(!decoder.conceal(&mut samples[..length]));
            assert!(!decoder.recover(&[0b0000_1000, 0x40, 0, 0], &mut samples[..length]));
        }
    }
}

#[test]
fn hostile_packets_are_refused_or_decoded_without_a_panic() {
    let speech = voice(16_000);
    let genuine = packets(SampleRate::Hz16000, &speech);
    let mut noise = Noise(11);
    for rate in RATES {
        let mut decoder = Decoder::new(rate);
        let mut samples = vec![0; rate.frame() * 6];
        assert_eq!(decoder.decode(&[], &mut samples), None);
        let mut refused = 0;
        for round in 0..3_000 {
            let mut packet = genuine[round % genuine.len()].clone();
            match round % 4 {
                0 => packet = noise.octets(1 + noise.0 as usize % 1_400),
                1 => packet.truncate(noise.next() as usize % packet.len()),
                2 => {
                    let place = noise.next() as usize % packet.len();
                    packet[place] ^= 1 << (noise.next() % 8);
                }
                _ => packet[0] = noise.next() as u8,
            }
            let room = if round % 5 == 0 { rate.frame() } else { samples.len() };
            match decoder.decode(&packet, &mut samples[..room]) {
                Some(written) => assert!(written > 0 && written <= room),
                None => refused += 1,
            }
            if round % 3 == 0 {
                decoder.recover(&packet, &mut samples[..rate.frame()]);
                decoder.conceal(&mut samples[..rate.frame()]);
            }
        }
        assert!((100..2_900).contains(&refused), "{refused} refused");
        // The decoder still decodes valid packets after the damaged packets.
        let heard = &mut samples[..rate.frame()];
        assert!(genuine.iter().all(|packet| decoder.decode(packet, heard) == Some(rate.frame())));
    }
}
