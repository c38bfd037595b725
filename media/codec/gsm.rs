//! GSM full rate (ETSI EN 300 961, "GSM 06.10"): a decoder of frames of 160 samples at 8,000 Hz.
//!
//! The decoder is used only for files. Calls never negotiate GSM. The arithmetic follows the recommendation, so the
//! samples are bit-exact. The names come from clause 5.3 of the recommendation.

/// The number of samples in a frame of 20 ms.
pub(crate) const FRAME: usize = 160;
/// The number of octets of a frame in a `.gsm` file. A frame consists of the 4 bits `1101` and then 260 bits. The most
/// significant bit comes first.
pub(crate) const OCTETS: usize = 33;
/// The number of octets of a pair of frames in a WAV file (format 49). A pair consists of 520 bits. The least
/// significant bit comes first.
pub(crate) const PAIR_OCTETS: usize = 65;

/// The number of bits of each log area ratio. There are eight log area ratios.
const LAR_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];
/// The constants for the quantisation of the log area ratios. They are B, MIC and INVA of table 5.1.
const LAR_TABLE: [(i16, i16, i16); 8] = [
    (0, -32, 13_107),
    (0, -32, 13_107),
    (2_048, -16, 13_107),
    (-2_560, -16, 13_107),
    (94, -8, 19_223),
    (-1_792, -8, 17_476),
    (-341, -4, 31_454),
    (-1_144, -4, 29_708),
];
/// The gains of the long-term predictor: table 5.3b.
const QLB: [i16; 4] = [3_277, 11_469, 21_299, 32_767];
/// The normalised direct mantissas: table 5.6.
const FAC: [i16; 8] = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767];
/// The longest lag of the long-term predictor in samples.
const LONGEST_LAG: usize = 120;
/// The number of samples in a sub-frame.
const SUBFRAME: usize = 40;

/// The decoder of one stream. It keeps state between frames.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    /// The last 120 samples of the reconstructed residual, followed by space for a sub-frame.
    residual: [i16; LONGEST_LAG + SUBFRAME],
    lag: usize,
    ratios: [i16; 8],
    lattice: [i16; 9],
    emphasis: i16,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { residual: [0; LONGEST_LAG + SUBFRAME], lag: SUBFRAME, ratios: [0; 8], lattice: [0; 9], emphasis: 0 }
    }
}

impl Decoder {
    /// Decodes a frame of a `.gsm` file.
    pub(crate) fn frame(&mut self, octets: &[u8; OCTETS]) -> [i16; FRAME] {
        let mut bits = Bits { octets, at: 4, lowest_first: false };
        self.decode(&mut bits)
    }

    /// Decodes two frames of a WAV file.
    pub(crate) fn pair(&mut self, octets: &[u8; PAIR_OCTETS]) -> [[i16; FRAME]; 2] {
        let mut bits = Bits { octets, at: 0, lowest_first: true };
        [self.decode(&mut bits), self.decode(&mut bits)]
    }

    fn decode(&mut self, bits: &mut Bits<'_>) -> [i16; FRAME] {
        let coded = LAR_BITS.map(|width| bits.take(width));
        let mut samples = [0; FRAME];
        for part in samples.as_chunks_mut::<SUBFRAME>().0 {
            *part = self.excitation(bits);
        }
        self.synthesise(coded, &mut samples);
        for sample in &mut samples {
            // De-emphasis, upscaling and truncation (5.3.7).
            self.emphasis = sample.saturating_add(times(self.emphasis, 28_180));
            *sample = self.emphasis.saturating_add(self.emphasis) & !7;
        }
        samples
    }

    /// Returns a sub-frame of the short-term residual. The function adds the regular pulses (5.3.1) and the long-term
    /// prediction (5.3.2).
    fn excitation(&mut self, bits: &mut Bits<'_>) -> [i16; SUBFRAME] {
        let lag = usize::from(bits.take(7).unsigned_abs());
        let gain = QLB.get(usize::from(bits.take(2).unsigned_abs())).copied().unwrap_or_default();
        let grid = usize::from(bits.take(2).unsigned_abs());
        let (exponent, mantissa) = block_maximum(bits.take(6));
        let mut pulses = [0; SUBFRAME];
        let factor = FAC.get(mantissa).copied().unwrap_or_default();
        let shift = 6 - exponent;
        let rounding = if shift > 0 { 1 << (shift - 1) } else { 0 };
        for pulse in 0..13 {
            let value = (bits.take(3) * 2 - 7) << 12;
            // The grid starts at position 0 to 3, so the last pulse is at most the 40th sample.
            if let Some(place) = pulses.get_mut(grid + 3 * pulse) {
                *place = times(factor, value).saturating_add(rounding) >> shift;
            }
        }
        if (SUBFRAME..=LONGEST_LAG).contains(&lag) {
            self.lag = lag;
        }
        let mut out = [0; SUBFRAME];
        for (at, (place, pulse)) in out.iter_mut().zip(pulses).enumerate() {
            let now = LONGEST_LAG + at;
            let predicted = self.residual.get(now - self.lag).map_or(0, |before| times(gain, *before));
            *place = pulse.saturating_add(predicted);
            if let Some(kept) = self.residual.get_mut(now) {
                *kept = *place;
            }
        }
        self.residual.copy_within(SUBFRAME.., 0);
        out
    }

    /// Applies the short-term synthesis filter (5.3.3 to 5.3.6). The filter's coefficients change gradually from the
    /// last frame to this frame.
    fn synthesise(&mut self, coded: [i16; 8], samples: &mut [i16; FRAME]) {
        let mut ratios = [0i16; 8];
        for ((ratio, code), (b, mic, inva)) in ratios.iter_mut().zip(coded).zip(LAR_TABLE) {
            let value = times(inva, ((code + mic) << 10).saturating_sub(b << 1));
            *ratio = value.saturating_add(value);
        }
        let before = std::mem::replace(&mut self.ratios, ratios);
        let mut rest = samples.as_mut_slice();
        for (length, old, new) in [(13, 3, 1), (14, 2, 2), (13, 1, 3), (120, 0, 4)] {
            let mut reflections = [0; 8];
            for ((reflection, before), now) in reflections.iter_mut().zip(before).zip(ratios) {
                *reflection = reflection_coefficient(quarters(before, old).saturating_add(quarters(now, new)));
            }
            let Some((part, further)) = rest.split_at_mut_checked(length) else { return };
            for sample in part {
                *sample = self.filter(&reflections, *sample);
            }
            rest = further;
        }
    }

    fn filter(&mut self, reflections: &[i16; 8], residual: i16) -> i16 {
        let mut sample = residual;
        for (at, reflection) in reflections.iter().enumerate().rev() {
            let [here, next, ..] = self.lattice.get_mut(at..).unwrap_or_default() else { continue };
            sample = sample.saturating_sub(times(*reflection, *here));
            *next = here.saturating_add(times(*reflection, sample));
        }
        self.lattice[0] = sample;
        sample
    }
}

/// Returns the exponent and the mantissa of the largest pulse of a sub-frame (5.3.1).
fn block_maximum(code: i16) -> (i16, usize) {
    let mut exponent = if code > 15 { (code >> 3) - 1 } else { 0 };
    let mut mantissa = code - (exponent << 3);
    if mantissa == 0 {
        return (-4, 7);
    }
    while mantissa <= 7 {
        mantissa = mantissa << 1 | 1;
        exponent -= 1;
    }
    (exponent, usize::from((mantissa - 8).unsigned_abs()))
}

/// Returns `count` quarters of a log area ratio. One quarter and two quarters are rounded separately, as 5.3.4 demands.
fn quarters(ratio: i16, count: u8) -> i16 {
    match count {
        0 => 0,
        1 => ratio >> 2,
        2 => ratio >> 1,
        3 => (ratio >> 2).saturating_add(ratio >> 1),
        _ => ratio,
    }
}

/// Returns the reflection coefficient of a log area ratio (5.3.5).
fn reflection_coefficient(ratio: i16) -> i16 {
    let size = ratio.saturating_abs();
    let value = match size {
        ..11_059 => size << 1,
        11_059..20_070 => size + 11_059,
        _ => (size >> 2).saturating_add(26_112),
    };
    if ratio < 0 { -value } else { value }
}

/// Returns the rounded product of two fractions.
fn times(a: i16, b: i16) -> i16 {
    let product = (i32::from(a) * i32::from(b) + 16_384) >> 15;
    // Only the product of -1 and -1 does not fit into 16 bits.
    i16::try_from(product).unwrap_or(i16::MAX)
}

/// Reads fields of a few bits.
struct Bits<'a> {
    octets: &'a [u8],
    at: usize,
    lowest_first: bool,
}

impl Bits<'_> {
    /// Returns the next `width` bits, at most 7. After the end of the data the bits are zero.
    fn take(&mut self, width: u32) -> i16 {
        let mut value = 0;
        for place in 0..width {
            let octet = self.octets.get(self.at / 8).copied().unwrap_or_default();
            let within = self.at % 8;
            self.at += 1;
            if self.lowest_first {
                value |= i16::from(octet >> within & 1) << place;
            } else {
                value = value << 1 | i16::from(octet >> (7 - within) & 1);
            }
        }
        value
    }
}
