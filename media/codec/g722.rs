//! ITU-T G.722 at 64 kbit/s. Audio at 16 kHz is split into two bands. Each band is coded with backward-adaptive ADPCM.
//!
//! ```text
//!                 .- 0 to 4 kHz, 8,000 per second: 6 bits -.
//!  16 kHz -> QMF -+                                        +-> one octet per pair of samples -> ... and back
//!                 '- 4 to 8 kHz, 8,000 per second: 2 bits -'
//! ```
//!
//! The adaptation uses only the transmitted code. In the low band it uses only the upper 4 bits of the code. So encoder
//! and decoder always have the same state. A network may use the lower bits of the low band for data (modes 2 and 3 of
//! the recommendation). [`Decoder`] supports these modes. The output equals the ITU-T test sequences bit for bit.

/// Samples per octet.
pub(super) const SAMPLES_PER_OCTET: usize = 2;

/// The mode of operation, which says how many bits of an octet are audio (G.722 §1.1). RTP always uses mode 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "RTP carries mode 1 alone; the ITU's sequences are decoded in all"))]
pub(super) enum Mode {
    /// 64 kbit/s: all eight bits are audio.
    One,
    /// 56 kbit/s: the lowest bit is data.
    Two,
    /// 48 kbit/s: the two lowest bits are data.
    Three,
}

/// A G.722 encoder.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    low: Band,
    high: Band,
    /// The last samples, oldest first.
    past: [i16; HISTORY],
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder { low: Band::default(), high: Band::default(), past: [0; HISTORY] }
    }
}

impl Encoder {
    /// Encodes each pair of samples at 16,000 Hz into one octet, until one of the slices ends. Returns the number of
    /// octets written.
    pub(super) fn encode(&mut self, samples: &[i16], octets: &mut [u8]) -> usize {
        let mut written = 0;
        let mut window = [0; HISTORY + BLOCK * 2];
        for (samples, octets) in samples.chunks(BLOCK * 2).zip(octets.chunks_mut(BLOCK)) {
            let (past, fresh) = window.split_at_mut(HISTORY);
            past.copy_from_slice(&self.past);
            fresh.iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
            let pairs = (samples.len() / 2).min(octets.len());
            let mut bands = [[0i16; 2]; BLOCK];
            for (bands, taps) in bands.iter_mut().zip(window.array_windows().step_by(2)).take(pairs) {
                *bands = split(taps);
            }
            for (octet, [low, high]) in octets.iter_mut().zip(bands).take(pairs) {
                *octet = (self.high.encode_high(high.into()) << 6 | self.low.encode_low(low.into())) as u8;
            }
            if let Some(last) = window.get(pairs * 2..).and_then(|rest| rest.first_chunk()) {
                self.past = *last;
            }
            written += pairs;
        }
        written
    }
}

/// A G.722 decoder.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    low: Band,
    high: Band,
    /// The output levels of the low band, indexed by all audio bits of a low-band code. The adaptation uses only the
    /// upper 4 bits of the code.
    fine: &'static [i16; 64],
    /// The last values of the decoded bands, oldest first. The first array contains the sums of both bands, and the
    /// second array contains the differences.
    past: [[i16; HISTORY / 2]; 2],
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new(Mode::One)
    }
}

impl Decoder {
    /// A decoder in its initial state.
    pub(super) fn new(mode: Mode) -> Decoder {
        let fine = match mode {
            Mode::One => &FINE_6,
            Mode::Two => &FINE_5,
            Mode::Three => &FINE_4,
        };
        Decoder { low: Band::default(), high: Band::default(), fine, past: [[0; HISTORY / 2]; 2] }
    }

    /// Decodes each octet into two samples at 16,000 Hz, until one of the slices ends. Returns the number of samples
    /// written.
    pub(super) fn decode(&mut self, octets: &[u8], samples: &mut [i16]) -> usize {
        let mut written = 0;
        let mut windows = [[0; HISTORY / 2 + BLOCK]; 2];
        for (octets, samples) in octets.chunks(BLOCK).zip(samples.chunks_mut(BLOCK * 2)) {
            let pairs = octets.len().min(samples.len() / 2);
            let [sums, differences] = &mut windows;
            let [past_sums, past_differences] = &mut self.past;
            let (head, fresh_sums) = sums.split_at_mut(HISTORY / 2);
            head.copy_from_slice(past_sums);
            let (head, fresh_differences) = differences.split_at_mut(HISTORY / 2);
            head.copy_from_slice(past_differences);
            for ((octet, sum), difference) in octets.iter().zip(fresh_sums).zip(fresh_differences).take(pairs) {
                let low = self.low.decode_low(i32::from(*octet & 0x3F), self.fine);
                let high = self.high.decode_high(i32::from(*octet >> 6));
                *sum = (low + high) as i16;
                *difference = (low - high) as i16;
            }
            let taps = differences.array_windows().zip(sums.array_windows());
            for (pair, (differences, sums)) in samples.chunks_exact_mut(2).zip(taps).take(pairs) {
                pair.copy_from_slice(&[join(differences, &QMF_ODD), join(sums, &QMF_EVEN)]);
            }
            let last = |window: &[i16]| window.get(pairs..).and_then(|rest| rest.first_chunk()).copied();
            if let (Some(last_sums), Some(last_differences)) = (last(sums), last(differences)) {
                (*past_sums, *past_differences) = (last_sums, last_differences);
            }
            written += pairs * 2;
        }
        written
    }
}

/// The number of sample pairs that are processed together. They last 20 ms.
const BLOCK: usize = 160;
/// The number of taps of the quadrature mirror filter (G.722 table 11). The next constant, `HISTORY`, is the number of
/// past samples that the filter needs with each new pair.
const TAPS: usize = 24;
const HISTORY: usize = TAPS - 2;

/// The even taps of the filter. The odd taps are the same values in reverse order.
const QMF_EVEN: [i16; TAPS / 2] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
const QMF_ODD: [i16; TAPS / 2] = reversed(QMF_EVEN);
/// The taps for the low band. The next constant, `QMF_HIGH`, has the taps for the high band. They are the same taps,
/// but every second tap is negated.
const QMF_LOW: [i16; TAPS] = interleaved(1);
const QMF_HIGH: [i16; TAPS] = interleaved(-1);

/// Returns the low-band sample and the high-band sample of the newest pair, computed from the last 24 samples.
fn split(taps: &[i16; TAPS]) -> [i16; 2] {
    let [mut low, mut high] = [0; 2];
    for ((sample, in_low), in_high) in taps.iter().zip(&QMF_LOW).zip(&QMF_HIGH) {
        low += i32::from(*sample) * i32::from(*in_low);
        high += i32::from(*sample) * i32::from(*in_high);
    }
    [low, high].map(|sum| (sum >> 14).clamp(-16_384, 16_383) as i16)
}

/// Returns one output sample, computed from the sums or from the differences of the bands.
fn join(taps: &[i16; TAPS / 2], filter: &[i16; TAPS / 2]) -> i16 {
    let sum: i32 = taps.iter().zip(filter).map(|(sample, tap)| i32::from(*sample) * i32::from(*tap)).sum();
    saturated(sum >> 11) as i16
}

/// The adaptive predictor and quantiser of one band (G.722 §3.6, §6.2.1).
#[derive(Debug, Clone, Default)]
struct Band {
    /// The logarithm of the quantiser's scale, in 1/2048 of an octave.
    scale: i32,
    /// The prediction of the next sample. The next field, `from_zeros`, is the part of the prediction that comes from
    /// the zeros.
    prediction: i32,
    from_zeros: i32,
    /// The predictor's two poles in Q14.
    poles: [i32; 2],
    /// The last reconstructed sample.
    reconstructed: i32,
    /// The signs of the last two partially reconstructed samples. A sign is -1 for a negative sample and 0 for any
    /// other sample.
    negative: [i32; 2],
    /// The predictor's zeros in Q14. The next field, `differences`, has the last differences, newest first. Both arrays
    /// use six values. They have eight values to fill a vector register.
    zeros: [i16; 8],
    differences: [i16; 8],
}

impl Band {
    /// Encodes a sample of the low band into six bits.
    #[inline(always)]
    fn encode_low(&mut self, sample: i32) -> i32 {
        let error = saturated(sample - self.prediction);
        let sign = error >> 15;
        let step = at(&LOW_STEP, self.scale >> 6);
        let code = at(&LOW_CODE, (sign & 32) | quantise(error ^ sign, step));
        self.adapt_low(code >> 2, step);
        code
    }

    /// Encodes a sample of the high band into two bits.
    #[inline(always)]
    fn encode_high(&mut self, sample: i32) -> i32 {
        let error = saturated(sample - self.prediction);
        let sign = error >> 15;
        let step = at(&HIGH_STEP, self.scale >> 6);
        let small = i32::from((error ^ sign) < (564 * step) >> 12);
        let code = small | (!sign & 2);
        self.adapt_high(code, step);
        code
    }

    #[inline(always)]
    fn decode_low(&mut self, code: i32, fine: &[i16; 64]) -> i32 {
        let step = at(&LOW_STEP, self.scale >> 6);
        let sample = self.prediction + ((step * at(fine, code)) >> 15);
        self.adapt_low(code >> 2, step);
        sample.clamp(-16_384, 16_383)
    }

    #[inline(always)]
    fn decode_high(&mut self, code: i32) -> i32 {
        let step = at(&HIGH_STEP, self.scale >> 6);
        let sample = self.prediction + ((step * at(&HIGH_LEVEL, code)) >> 15);
        self.adapt_high(code, step);
        sample.clamp(-16_384, 16_383)
    }

    /// Adapts the scale and the predictor to the upper four bits of a code of the low band.
    #[inline(always)]
    fn adapt_low(&mut self, code: i32, step: i32) {
        self.scale = (((self.scale * 127) >> 7) + at(&LOW_GROWTH, code)).clamp(0, 18_432);
        self.predict((step * at(&LOW_LEVEL, code)) >> 15);
    }

    #[inline(always)]
    fn adapt_high(&mut self, code: i32, step: i32) {
        self.scale = (((self.scale * 127) >> 7) + at(&HIGH_GROWTH, code)).clamp(0, 22_528);
        self.predict((step * at(&HIGH_LEVEL, code)) >> 15);
    }

    /// Advances the predictor by one quantised difference. The function adapts the poles and the zeros, and then
    /// computes the next prediction (G.722 §6.2.1.3 and following, block 4).
    #[inline(always)]
    fn predict(&mut self, difference: i32) {
        let reconstructed = saturated(self.prediction + difference);
        let negative = saturated(self.from_zeros + difference) >> 15;
        let [last_negative, older_negative] = self.negative;
        let [first, second] = self.poles;

        // Adapt the poles. The signs of successive partially reconstructed samples give the direction, and limits keep
        // the filter stable.
        let turned = negative ^ last_negative;
        let lean = saturated(first << 2);
        let lean = if turned == 0 { saturated(-lean) } else { lean };
        let pull = if negative == older_negative { 128 } else { -128 };
        let second_next = (pull + (lean >> 7) + ((second * 32_512) >> 15)).clamp(-12_288, 12_288);
        let push = if turned == 0 { 192 } else { -192 };
        let limit = 15_360 - second_next;
        let first_next = (push + ((first * 32_640) >> 15)).clamp(-limit, limit);

        // Adapt the zeros. Each zero decays by 1/256. Then the zero increases by 1/128 if its difference has the sign
        // of the new difference. Otherwise the zero decreases by 1/128. No sum here exceeds 16 bits.
        let newest = difference as i16;
        let nudge = if newest == 0 { 0 } else { 128 };
        for (zero, past) in self.zeros.iter_mut().zip(&self.differences) {
            let against = (past ^ newest) >> 15;
            let leaked = (i32::from(*zero) * 255) >> 8;
            *zero = leaked as i16 + ((nudge ^ against) - against);
        }
        let [d0, d1, d2, d3, d4, d5, d6, _] = self.differences;
        self.differences = [newest, d0, d1, d2, d3, d4, d5, d6];

        // A quantised difference is below 2^14, so twice its value needs no saturation. The sums need saturation.
        let mut products = [0i16; 8];
        for ((product, zero), difference) in products.iter_mut().zip(&self.zeros).zip(&self.differences) {
            *product = ((i32::from(*zero) * i32::from(*difference)) >> 14) as i16;
        }
        let [p1, p2, p3, p4, p5, p6, ..] = products;
        let from_zeros = [p5, p4, p3, p2, p1].into_iter().fold(p6, i16::saturating_add);

        let newer = (first_next * saturated(reconstructed * 2)) >> 15;
        let older = (second_next * saturated(self.reconstructed * 2)) >> 15;
        self.from_zeros = i32::from(from_zeros);
        self.prediction = saturated(saturated(newer + older) + self.from_zeros);
        self.poles = [first_next, second_next];
        self.negative = [negative, last_negative];
        self.reconstructed = reconstructed;
    }
}

/// Returns the number, 1 to 30, of the quantiser interval in which a low-band magnitude (0 to 32,767) lies.
#[inline(always)]
fn quantise(magnitude: i32, step: i32) -> i32 {
    let (magnitude, step) = (magnitude as i16, step as u32);
    // Compare the magnitude with all limits, eight at a time and without branches. This is faster than a search.
    let mut lanes = [-2i16, 0, 0, 0, 0, 0, 0, 0];
    for limits in LOW_LIMITS.as_chunks::<8>().0 {
        for (lane, limit) in lanes.iter_mut().zip(limits) {
            *lane -= (((u32::from(*limit) * step) >> 16) as i16 - 1 - magnitude) >> 15;
        }
    }
    lanes.into_iter().map(i32::from).sum()
}

#[inline(always)]
const fn saturated(value: i32) -> i32 {
    if value > 32_767 {
        32_767
    } else if value < -32_768 {
        -32_768
    } else {
        value
    }
}

/// Returns an entry of a table whose length is a power of two. The index is reduced modulo the length.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "the mask keeps it inside")]
const fn at<const N: usize>(table: &[i16; N], place: i32) -> i32 {
    const { assert!(N.is_power_of_two()) };
    table[place as usize & (N - 1)] as i32
}

/// The decision limits of the low band's quantiser, times 16, so that the upper half of a 32-bit product can be
/// compared with them. The first three limits are zero, so every magnitude reaches them. Their purpose is to fill the
/// vector.
#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
static LOW_LIMITS: [u16; 32] = {
    const LIMITS: [u16; 32] = [
        0, 0, 0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121,
        1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
    ];
    let mut limits = LIMITS;
    let mut place = 0;
    while place < 32 {
        limits[place] = LIMITS[place] << 4;
        place += 1;
    }
    limits
};

/// The six-bit code of the low band. The index consists of the sign (bit 5, which is set for a negative value) and the
/// interval.
#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
static LOW_CODE: [i16; 64] = {
    let mut codes = [0; 64];
    let mut interval = 1;
    while interval <= 30 {
        codes[interval] = 62 - interval as i16;
        codes[interval | 32] = if interval <= 2 { 64 } else { 34 } - interval as i16;
        interval += 1;
    }
    codes
};

/// The output levels of the low band, indexed by the upper four bits of the code. The adaptation uses these levels.
/// They are also the output of mode 3.
static LOW_LEVEL: [i16; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// The output levels of the low band in mode 3, indexed by all six bits of the code. This table ignores the two lowest
/// bits. The next table, `FINE_5`, is for mode 2 and ignores the lowest bit. `FINE_6` is for mode 1 and uses all bits.
static FINE_4: [i16; 64] = spread(LOW_LEVEL);
static FINE_5: [i16; 64] = spread([
    -280, -280, -23352, -17560, -14120, -11664, -9752, -8184, -6864, -5712, -4696, -3784, -2960, -2208, -1520, -880,
    23352, 17560, 14120, 11664, 9752, 8184, 6864, 5712, 4696, 3784, 2960, 2208, 1520, 880, 280, -280,
]);
static FINE_6: [i16; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576,
    -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040,
    -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// The change of the low band's scale, indexed by the upper four bits of the code.
static LOW_GROWTH: [i16; 16] = [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// The output level of the high band, indexed by the code. The next table, `HIGH_GROWTH`, has the change of the high
/// band's scale.
static HIGH_LEVEL: [i16; 4] = [-7408, -1616, 7408, 1616];
static HIGH_GROWTH: [i16; 4] = [798, -214, 798, -214];

/// The linear scale of the low band's quantiser, indexed by the logarithmic scale divided by 64. The next table,
/// `HIGH_STEP`, is for the high band.
static LOW_STEP: [i16; 512] = steps(8);
static HIGH_STEP: [i16; 512] = steps(10);

/// Expands `table` to six-bit codes. The lowest bits of a code are ignored.
#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
const fn spread<const N: usize>(table: [i16; N]) -> [i16; 64] {
    let mut fine = [0; 64];
    let mut code = 0;
    while code < 64 {
        fine[code] = table[code * N / 64];
        code += 1;
    }
    fine
}

#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
const fn steps(shift: usize) -> [i16; 512] {
    // 2048 times the powers of two in steps of 1/32 octave, truncated to integers.
    const OCTAVE: [i16; 32] = [
        2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960,
        3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
    ];
    let mut steps = [0; 512];
    let mut place = 0;
    while place <= (shift + 1) * 32 {
        // The scale has at most `shift + 1` octaves. At this limit the result is 2^14.
        let octave = place / 32;
        let mantissa = OCTAVE[place % 32];
        steps[place] = if octave <= shift { mantissa >> (shift - octave) } else { mantissa << (octave - shift) } << 2;
        place += 1;
    }
    steps
}

#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
const fn reversed(taps: [i16; TAPS / 2]) -> [i16; TAPS / 2] {
    let mut backwards = [0; TAPS / 2];
    let mut tap = 0;
    while tap < TAPS / 2 {
        backwards[tap] = taps[TAPS / 2 - 1 - tap];
        tap += 1;
    }
    backwards
}

#[expect(clippy::indexing_slicing, reason = "const evaluation: an index out of range would not compile")]
const fn interleaved(sign: i16) -> [i16; TAPS] {
    let mut taps = [0; TAPS];
    let mut tap = 0;
    while tap < TAPS / 2 {
        taps[tap * 2] = QMF_EVEN[tap] * sign;
        taps[tap * 2 + 1] = QMF_ODD[tap];
        tap += 1;
    }
    taps
}

#[cfg(test)]
mod tests;
