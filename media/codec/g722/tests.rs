use super::super::tests::{Noise, fidelity, recorded_voice, samples, shared, voice};
use super::*;

fn encode(samples: &[i16]) -> Vec<u8> {
    let mut octets = vec![0; samples.len() / 2];
    let mut encoder = Encoder::default();
    for (frame, octets) in samples.chunks(320).zip(octets.chunks_mut(160)) {
        assert_eq!(encoder.encode(frame, octets), frame.len() / 2);
    }
    octets
}

fn decode(mode: Mode, octets: &[u8]) -> Vec<i16> {
    let mut samples = vec![0; octets.len() * 2];
    assert_eq!(Decoder::new(mode).decode(octets, &mut samples), samples.len());
    samples
}

/// The FNV-1a hash of the octets.
fn digest(octets: impl IntoIterator<Item = u8>) -> u64 {
    octets.into_iter().fold(0xCBF2_9CE4_8422_2325, |sum, octet| (sum ^ u64::from(octet)).wrapping_mul(0x100_0000_01B3))
}

#[test]
fn the_itu_sequences_are_matched_bit_for_bit_in_every_mode() {
    let (Some(input), Some(mut code)) = (shared("g722/inpsp.bin"), shared("g722/codsp.cod")) else { return };
    // The ITU file stores the code in 16-bit words in little-endian order.
    code.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    assert!(encode(&samples(&input)) == code, "encoder");
    for (mode, name) in
        [(Mode::One, "g722/outsp1.bin"), (Mode::Two, "g722/outsp2.bin"), (Mode::Three, "g722/outsp3.bin")]
    {
        let Some(output) = shared(name) else { return };
        assert!(decode(mode, &code) == samples(&output), "decoder, mode {mode:?}");
    }
}

/// Compares the output of this code with an output that was recorded earlier. At that time, this code matched the ITU
/// sequences. The input is triangles with noise, up to clipping. This test works without the ITU files.
#[test]
fn known_audio_gives_the_known_code_and_decodes_to_the_known_audio() {
    let mut noise = Noise(722);
    let input: Vec<i16> = (0..16_000i32)
        .map(|n| {
            let loudness = n / 4_000 * 10_900;
            let triangle = (n * (n / 1_000 + 1) % 200 - 100).abs() - 50;
            let breath = noise.next() as i32 % (loudness / 8 + 16);
            (triangle * loudness / 50 + breath).clamp(-32_768, 32_767) as i16
        })
        .collect();
    let code = encode(&input);
    let audio = [Mode::One, Mode::Two, Mode::Three]
        .map(|mode| digest(decode(mode, &code).into_iter().flat_map(i16::to_le_bytes)));
    assert_eq!(code[..16], [250, 122, 222, 180, 116, 180, 178, 158, 152, 238, 184, 92, 156, 111, 238, 114]);
    assert_eq!(digest(code), 5_708_341_736_252_505_055);
    assert_eq!(audio, [12_409_347_362_868_164_531, 8_631_411_108_404_818_874, 14_493_890_971_316_648_315]);
}

#[test]
fn decoded_speech_has_a_delay_of_22_samples() {
    for (what, speech, least) in [("made", Some(voice(16_000)), 15.0), ("recorded", recorded_voice(), 15.0)] {
        let Some(speech) = speech else { continue };
        let heard = decode(Mode::One, &encode(&speech));
        let (decibels, lag) = fidelity(&speech[..heard.len() - 40], &heard, 40);
        println!("{what} speech: {decibels:.1} dB after {lag} samples");
        assert_eq!(lag, 22);
        assert!(decibels > least, "{what}: {decibels} dB");
    }
}

#[test]
fn the_result_does_not_depend_on_the_frame_boundaries() {
    let speech = voice(16_000);
    let whole = encode(&speech);
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::default();
    let (mut code, mut heard) = (Vec::new(), Vec::new());
    let mut rest = &speech[..];
    for pairs in [1, 2, 7, 80, 159, 160, 161, 500].iter().cycle() {
        let Some((piece, after)) = rest.split_at_checked(pairs * 2) else { break };
        rest = after;
        let mut octets = vec![0; *pairs];
        assert_eq!(encoder.encode(piece, &mut octets), *pairs);
        let mut samples = vec![0; pairs * 2];
        assert_eq!(decoder.decode(&octets, &mut samples), pairs * 2);
        code.extend(octets);
        heard.extend(samples);
    }
    assert!(code == whole[..code.len()]);
    assert!(heard == decode(Mode::One, &whole)[..heard.len()]);
}

#[test]
fn input_beyond_the_output_buffer_is_ignored() {
    let mut encoder = Encoder::default();
    let mut octets = [0; 2];
    assert_eq!(encoder.encode(&[], &mut octets), 0);
    assert_eq!(encoder.encode(&[1], &mut octets), 0);
    assert_eq!(encoder.encode(&[1; 3], &mut octets), 1);
    assert_eq!(encoder.encode(&[1; 9], &mut octets), 2);
    let mut decoder = Decoder::default();
    let mut samples = [0; 3];
    assert_eq!(decoder.decode(&[], &mut samples), 0);
    assert_eq!(decoder.decode(&[1; 9], &mut samples), 2);
    assert_eq!(decoder.decode(&[1; 9], &mut samples[..1]), 0);
}

/// The test profile checks for arithmetic overflow. Octets that no encoder produces must not cause an overflow. The
/// loudest audio must not cause an overflow either.
#[test]
fn any_octets_and_any_audio_are_processed_without_a_panic() {
    let mut noise = Noise(3);
    for _ in 0..50 {
        let mut decoder = Decoder::new(Mode::Two);
        let mut samples = [0; 320];
        let pattern = noise.octets(1 + noise.0 as usize % 5);
        for round in 0..40 {
            let octets =
                if round % 4 == 0 { noise.octets(160) } else { pattern.iter().copied().cycle().take(160).collect() };
            assert_eq!(decoder.decode(&octets, &mut samples), 320);
        }
        let mut encoder = Encoder::default();
        let mut octets = [0; 160];
        let stretch = 1 + noise.next() as usize % 12;
        for round in 0..40 {
            let loud = |place: usize| if (place / stretch).is_multiple_of(2) { i16::MAX } else { i16::MIN };
            let frame: Vec<i16> =
                (0..320).map(|place| if round % 4 == 0 { noise.next() as i16 } else { loud(place) }).collect();
            assert_eq!(encoder.encode(&frame, &mut octets), 160);
        }
    }
}
