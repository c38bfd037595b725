use super::super::tests::{Noise, voice};
use super::*;

const RATES: [SampleRate; 3] = [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000];

fn codecs() -> impl Iterator<Item = Codec> {
    [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus].into_iter().chain(RATES.map(Codec::L16))
}

#[test]
fn every_codec_encodes_and_decodes_a_frame() {
    for codec in codecs() {
        let mut encoder = Encoder::new(codec, codec.sample_rate());
        let mut decoder = Decoder::new(codec, codec.sample_rate());
        let rate = encoder.rate();
        assert_eq!((rate, decoder.rate()), (codec.sample_rate(), rate));
        let (mut payload, mut samples) = ([0; LONGEST_PAYLOAD], [0; LONGEST_PACKET]);
        for frame in voice(rate.hertz()).chunks_exact(rate.frame()) {
            let written = encoder.encode(frame, &mut payload);
            match codec {
                Codec::Pcmu | Codec::Pcma | Codec::G722 => assert_eq!(written, 160),
                Codec::Opus => assert!((1..200).contains(&written)),
                Codec::L16(rate) => assert_eq!(written, rate.frame() * 2),
            }
            assert_eq!(decoder.decode(&payload[..written], &mut samples), Ok(rate.frame()), "{codec:?}");
            if let Codec::L16(_) = codec {
                assert_eq!(samples[..rate.frame()], *frame);
            }
        }
    }
}

#[test]
fn only_opus_decodes_at_any_requested_rate() {
    for (codec, rate) in codecs().flat_map(|codec| RATES.map(|rate| (codec, rate))) {
        let own = if codec == Codec::Opus { rate } else { codec.sample_rate() };
        assert_eq!((Encoder::new(codec, rate).rate(), Decoder::new(codec, rate).rate()), (own, own));
    }
}

#[test]
fn payloads_are_decoded_up_to_120_ms_and_up_to_the_buffers_length() {
    let mut samples = [0; LONGEST_PACKET];
    for codec in codecs().filter(|codec| *codec != Codec::Opus) {
        let mut decoder = Decoder::new(codec, codec.sample_rate());
        let frame = codec.sample_rate().frame();
        let octets = match codec {
            Codec::G722 => frame / 2,
            Codec::L16(_) => frame * 2,
            _ => frame,
        };
        assert_eq!(decoder.decode(&vec![0; octets / 8], &mut samples), Ok(frame / 8));
        assert_eq!(decoder.decode(&vec![0; octets * 6], &mut samples), Ok(frame * 6));
        assert_eq!(decoder.decode(&vec![0; octets * 6 + 2], &mut samples), Err(Malformed));
        assert_eq!(decoder.decode(&vec![0; octets], &mut samples[..frame - 1]), Err(Malformed));
        assert_eq!(decoder.decode(&vec![0; octets], &mut samples[..frame]), Ok(frame));
        assert_eq!(decoder.decode(&[], &mut samples), Err(Malformed));
        assert_eq!(decoder.decode(&[0, 0], &mut []), Err(Malformed));
        let odd = decoder.decode(&[0; 3], &mut samples);
        assert_eq!(odd.is_err(), matches!(codec, Codec::L16(_)));
    }
}

#[test]
fn only_opus_conceals_a_lost_packet_itself() {
    for codec in codecs() {
        let mut decoder = Decoder::new(codec, codec.sample_rate());
        let mut samples = vec![7; codec.sample_rate().frame()];
        let untouched = samples.clone();
        assert!(!decoder.recover(&[0x55; 160], &mut samples));
        assert_eq!(samples, untouched);
        assert_eq!(decoder.conceal(&mut samples), codec == Codec::Opus);
        assert_eq!(samples == untouched, codec != Codec::Opus);
    }
}

#[test]
fn any_payload_gives_an_error_or_samples() {
    let mut noise = Noise(5);
    let mut samples = [0; LONGEST_PACKET];
    for codec in codecs() {
        let mut decoder = Decoder::new(codec, codec.sample_rate());
        for _ in 0..500 {
            let length = noise.next() as usize % 1_500;
            let payload = noise.octets(length);
            let room = noise.next() as usize % LONGEST_PACKET;
            if let Ok(written) = decoder.decode(&payload, &mut samples[..room]) {
                assert!(written > 0 && written <= room.min(decoder.rate().frame() * 6), "{codec:?}");
            }
        }
    }
}
