//! Measures a timeline on frames of 20 ms. Each frame is written, and read by a recorder, a live reader or both. Run:
//! `cargo bench -p tandem-media --bench jitter`.

mod measure;

use std::hint::black_box;

use tandem_media::g711::Law;
use tandem_media::{Reader, SampleRate, Stamp, Timeline};

/// The number of frames of speech. After these frames the speech repeats.
const FRAMES: u32 = 500;
/// The percentages of packets lost.
const LOSS: [u32; 2] = [0, 3];

fn main() {
    let recorder = || vec![Reader::fixed(140)];
    let live = || vec![Reader::adaptive()];
    let both = || vec![Reader::adaptive(), Reader::fixed(140)];
    g711("G.711: write", Vec::new, Law::Mu, false);
    g711("G.711: write, recorder", recorder, Law::Mu, false);
    g711("G.711: write, recorder of octets", recorder, Law::Mu, true);
    g711("G.711: write, live", live, Law::Mu, false);
    g711("G.711: write, live of octets", live, Law::Mu, true);
    g711("G.711: write, live, recorder", both, Law::Mu, false);
    g711("G.711: write in the other law, recorder", recorder, Law::A, false);
    linear("16 kHz: write, live, recorder", SampleRate::Hz16000, both);
    linear("48 kHz: write, live, recorder", SampleRate::Hz48000, both);
}

fn g711(what: &str, readers: fn() -> Vec<Reader>, law: Law, octets: bool) {
    let speech: Vec<u8> = (0..FRAMES * 160).map(|at| ((at * 7_919) >> 5) as u8).collect();
    let mut frames = ([0i16; 160], [0u8; 160]);
    row(
        what,
        || (Timeline::octets(Law::Mu), readers()),
        |(timeline, readers), number, lost| {
            let (now, at) = (number.wrapping_mul(160), (number % FRAMES * 160) as usize);
            if let (false, Some(payload)) = (lost, speech.get(at..at + 160)) {
                timeline.write_octets(Stamp { timestamp: now, marker: false, arrival: now }, law, black_box(payload));
            }
            for reader in readers {
                if octets {
                    black_box(timeline.read_octets(reader, now, Law::Mu, black_box(&mut frames.1)));
                } else {
                    black_box(timeline.read_samples(reader, now, black_box(&mut frames.0)));
                }
            }
        },
    );
}

fn linear(what: &str, rate: SampleRate, readers: fn() -> Vec<Reader>) {
    let speech: Vec<i16> = (0..rate.frame() as i32).map(|at| (at * 7_919 % 20_011) as i16).collect();
    let mut frame = vec![0; rate.frame()];
    row(
        what,
        || (Timeline::samples(rate, rate.hertz()), readers()),
        |(timeline, readers), number, lost| {
            if !lost {
                let timestamp = number.wrapping_mul(rate.frame() as u32);
                let stamp = Stamp { timestamp, marker: false, arrival: number.wrapping_mul(160) };
                timeline.write_samples(stamp, black_box(&speech));
            }
            for reader in readers {
                black_box(timeline.read_samples(reader, number.wrapping_mul(160), black_box(&mut frame)));
            }
        },
    );
}

fn row<T>(what: &str, new: impl Fn() -> T, mut work: impl FnMut(&mut T, u32, bool)) {
    for percent in LOSS {
        let (mut subject, mut number) = (new(), 0u32);
        measure::case(&format!("{what}, {percent} % lost"), 1, || {
            // The lost packets have irregular distances and are spread evenly over the whole run.
            let lost = number.wrapping_mul(0x9E37_79B9) < u32::MAX / 100 * percent;
            work(&mut subject, number, lost);
            number = number.wrapping_add(1);
        });
    }
}
