//! Finds steady tones: one sinusoid, or the sum of two (ringing, busy, dial tones, DTMF, beeps, test tones).
//!
//! Each sample of such a sum is the same linear combination of four earlier samples. For noise, and for the many
//! harmonics of a voice or of an engine, there is no such combination. The search needs 100 ms with one combination:
//! in 20 ms, a rumble or a vowel can look like two sinusoids.
//!
//! | Sound (real street, voices of eight languages, synthetic noises) | Lowest part of the energy that is not predicted |
//! |---|---|
//! | one sinusoid in G.711, at any level | below 0.002 |
//! | two sinusoids in G.711, also 25 Hz apart | below 0.045 |
//! | a sinusoid 15 dB above white noise | 0.06 |
//! | speech | 0.04, usually above 0.1 |
//! | noise, 100 Hz wide | 0.16 |
//! | street, engines, fans, other noise | above 0.2 |

use std::collections::VecDeque;

/// The distances of the earlier samples from which a sample is predicted. Over 7 ms, low noise cannot be predicted.
const DISTANCES: [usize; 4] = [60, 63, 70, 81];
const COUNT: usize = DISTANCES.len();
/// The number of successive frames of a tone that are predicted together. They last 100 ms.
pub(super) const TONE_FRAMES: u64 = 5;
/// The largest part of the energy of a tone that is not predicted.
const MAX_ERROR: f64 = 0.05;
/// The lowest number of changes of the sign in a frame of a tone. Tones of telephones are above 250 Hz. Rumble and hum,
/// which are below, can be predicted too.
const MIN_CROSSINGS: usize = 9;

/// The sums over a frame of the products of the earlier samples and, at the end, of the sample itself.
type Products = [[f64; COUNT + 1]; COUNT + 1];

/// Finds the tones in the frames of one channel.
#[derive(Default)]
pub(super) struct ToneFinder {
    /// The products of the last successive loud frames, at most [`TONE_FRAMES`].
    frames: VecDeque<Products>,
}

impl ToneFinder {
    /// Handles the next frame. Returns whether the last 100 ms are a steady tone.
    pub(super) fn handle_frame(&mut self, samples: &[i16], loud: bool) -> bool {
        let crossings = samples.iter().zip(samples.iter().skip(1)).filter(|(one, next)| (**one < 0) != (**next < 0));
        if !loud || crossings.count() < MIN_CROSSINGS {
            self.frames.clear();
            return false;
        }
        if self.frames.len() as u64 == TONE_FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(products(samples));
        self.frames.len() as u64 == TONE_FRAMES && is_predicted(&self.frames)
    }
}

fn products(samples: &[i16]) -> Products {
    let mut products = Products::default();
    let furthest = DISTANCES.into_iter().max().unwrap_or_default();
    for (now, sample) in samples.iter().enumerate().skip(furthest) {
        let mut values = [f64::from(*sample); COUNT + 1];
        for (value, distance) in values.iter_mut().zip(DISTANCES) {
            *value = samples.get(now - distance).map_or(0.0, |sample| f64::from(*sample));
        }
        for (row, one) in products.iter_mut().zip(values) {
            row.iter_mut().zip(values).for_each(|(sum, other)| *sum += one * other);
        }
    }
    products
}

/// Whether one linear combination of the earlier samples predicts the samples of all frames.
#[expect(clippy::indexing_slicing, reason = "all indices are at most the number of distances")]
fn is_predicted(frames: &VecDeque<Products>) -> bool {
    let mut sums = Products::default();
    for frame in frames {
        for (row, more) in sums.iter_mut().zip(frame) {
            row.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
    let energy = sums[COUNT][COUNT];
    // After the elimination of the earlier samples, the last product is the energy of the prediction error.
    for at in 0..COUNT {
        let pivot = sums[at];
        // Two of the four earlier samples are enough for one sinusoid. The others then have no energy of their own.
        if pivot[at] <= energy * 1e-9 {
            continue;
        }
        for row in sums.iter_mut().skip(at + 1) {
            let factor = row[at] / pivot[at];
            row.iter_mut().zip(pivot).for_each(|(value, by)| *value -= factor * by);
        }
    }
    sums[COUNT][COUNT] < energy * MAX_ERROR
}
