//! Detects digits as tones in the audio (ITU-T Q.23). The detector meets the requirements of ITU-T Q.24 for a receiver.
//!
//! ```text
//!  8 kHz -> blocks of 5 ms -> correlated with the 8 frequencies -> the last six: which two, how exact, how pure?
//!                                                             \-> the last three: does the digit continue?
//! ```
//!
//! For each tone, the detector adds the results of short blocks as complex numbers, which include the phase. The phase
//! shows the exact frequency. A Goertzel filter over the whole window does not show the exact frequency. A tone that deviates by 1.5 % loses no energy, and a tone that
//! deviates by 3.5 % is refused. A digit is purer than speech. In a digit, two tones contain most of the energy of
//! three successive windows of 30 ms. Voices do not have this purity.

#![expect(clippy::indexing_slicing, reason = "by tone and block, whose numbers are ours: none comes from the samples")]

use std::f32::consts::{PI, TAU};

use serde::{Deserialize, Serialize};

use super::{COLUMNS, DIGITS, ROWS};

const TONES: usize = 8;
/// The frequencies of the rows in Hz, followed by the frequencies of the columns.
const HERTZ: [u16; TONES] = {
    let ([a, b, c, d], [e, f, g, h]) = (ROWS, COLUMNS);
    [a, b, c, d, e, f, g, h]
};
/// The number of samples in a block. They last 5 ms. The next constant, `BLOCKS_A_SECOND`, is the number of blocks in a
/// second.
const BLOCK: usize = 40;
const BLOCKS_A_SECOND: u16 = 200;
/// The number of blocks that are examined for a digit. They last 30 ms.
const WINDOW: usize = 6;
/// The number of blocks that show whether the digit continues. They last 15 ms. An interruption of 10 ms never fills
/// two successive windows of this length.
const LATEST: usize = 3;
/// The number of successive windows that must contain the same digit. Each window starts one block after the previous
/// window. This number and [`PURITY`] together have the effect that every tone of 40 ms is detected, and no tone of 23
/// ms.
const AGREEING: u8 = 3;
/// The number of successive blocks without the digit after which the digit has ended.
const MISSING: u8 = 3;
/// The part of a window's energy (0 to 1) that both tones together must have.
const PURITY: f32 = 0.75;
/// The largest relative frequency deviation of a tone. The limit is between 1.5 %, which must be accepted, and 3.5 %,
/// which must be refused.
const DEVIATION: f32 = 0.021;
/// The accepted ratio of the column's power to the row's power. The ratio may be -10 dB to +6 dB.
const TWIST: std::ops::RangeInclusive<f32> = 0.1..=4.0;
/// The mean square of the weakest accepted pair of tones. It is about -39 dBm0. Each of its two tones then has -42
/// dBm0.
const WEAKEST: f32 = 170.0 * 170.0;
/// The part of a tone's former power below which the tone counts as missing. The value is -11 dB.
const FALLEN: f32 = 0.08;

/// Detects digits in the audio of one direction. The detector takes 450 octets, and needs 0.3 us of CPU time for 20 ms
/// of audio.
#[derive(Debug)]
pub struct ToneDetector {
    blocks: [Block; WINDOW],
    /// The number of the next block within the current second. Every frequency has whole periods in one second.
    block_number: u16,
    candidate: Option<DigitTones>,
    agreeing: u8,
    current: Option<CurrentDigit>,
}

/// The correlation of a block with each tone. Phases are relative to the start of the second.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    re: [f32; TONES],
    im: [f32; TONES],
    /// The energy of the block, without frequencies that are too low for speech.
    energy: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DigitTones {
    row: usize,
    column: usize,
}

/// A digit that a window contains.
#[derive(Debug, Clone, Copy)]
struct Found {
    tones: DigitTones,
    /// The mean squares of the row's tone and of the column's tone.
    power: [f32; 2],
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CurrentDigit {
    tones: DigitTones,
    power: [f32; 2],
    missing: u8,
}

impl Default for ToneDetector {
    fn default() -> ToneDetector {
        ToneDetector {
            blocks: [Block::default(); WINDOW],
            block_number: 0,
            candidate: None,
            agreeing: 0,
            current: None,
        }
    }
}

impl ToneDetector {
    /// The digit that lasts now.
    pub(super) fn current(&self) -> Option<CurrentDigit> {
        self.current.clone()
    }

    /// Creates a detector that has already reported the digit `current`.
    pub(super) fn resume(current: Option<CurrentDigit>) -> ToneDetector {
        ToneDetector { current, ..ToneDetector::default() }
    }

    /// Handles the next 20 ms at 8,000 Hz, which are 160 samples. Samples beyond a multiple of 40 are ignored. Returns
    /// each digit (`0`-`9`, `*`, `#`, `A`-`D`) once: in the frame that contains the digit's 37th millisecond, or in the
    /// next frame.
    ///
    /// The detector accepts tones of at least 40 ms with pauses of 40 ms. The pair must have at least -39 dBm0. The
    /// frequencies may deviate by up to 1.5 %. The column may be up to 6 dB above or 9 dB below the row. An
    /// interruption of 10 ms does not end a digit. Tones of 23 ms and tones with a deviation of 3.5 % are refused
    /// (ITU-T Q.24 table A-1).
    pub fn handle_frame(&mut self, samples: &[i16]) -> Option<char> {
        let (blocks, _) = samples.as_chunks::<BLOCK>();
        let mut digit = None;
        for block in blocks {
            self.blocks.rotate_left(1);
            self.blocks[WINDOW - 1] = Block::of(block, self.block_number);
            self.block_number = (self.block_number + 1) % BLOCKS_A_SECOND;
            digit = digit.or(self.step());
        }
        digit
    }

    /// Handles the newest block. Returns a digit that begins.
    fn step(&mut self) -> Option<char> {
        let found = self.find();
        self.release();
        let Some(Found { tones, power }) = found else {
            self.candidate = None;
            return None;
        };
        if self.candidate.replace(tones) != Some(tones) {
            self.agreeing = 0;
        }
        self.agreeing = self.agreeing.saturating_add(1);
        if self.agreeing < AGREEING {
            return None;
        }
        let known = self.current.as_ref().is_some_and(|current| current.tones == tones);
        self.current = Some(CurrentDigit { tones, power, missing: 0 });
        (!known).then_some(DIGITS[tones.row][tones.column])
    }

    /// Detects the end of the current digit.
    fn release(&mut self) {
        let Some(current) = &mut self.current else { return };
        let latest = &self.blocks[WINDOW - LATEST..];
        let DigitTones { row, column } = current.tones;
        let is_missing = [row, ROWS.len() + column].into_iter().zip(current.power).any(|(tone, power)| {
            let (re, im) = latest.iter().fold((0.0, 0.0), |(re, im), block| (re + block.re[tone], im + block.im[tone]));
            let length = (LATEST * BLOCK) as f32;
            2.0 * (re * re + im * im) / (length * length) < power * FALLEN
        });
        current.missing = if is_missing { current.missing + 1 } else { 0 };
        if current.missing >= MISSING {
            self.current = None;
        }
    }

    /// Returns the digit that the window contains, if any.
    fn find(&self) -> Option<Found> {
        let length = (WINDOW * BLOCK) as f32;
        let energy = self.blocks.iter().map(|block| block.energy).sum::<f32>();
        if energy < WEAKEST * length {
            return None;
        }
        // Two parts of 20 ms start 10 ms apart. Their sum gives the strength of a tone, and their phase difference
        // gives its frequency.
        let [a, b, c, d, e, f] = &self.blocks;
        let middle = c.with(d);
        let (early, late) = (a.with(b).with(&middle), middle.with(e).with(f));
        let strength = early.strength(late.strength([0.0; TONES]));
        let best =
            |range: std::ops::Range<usize>| range.max_by(|a, b| strength[*a].total_cmp(&strength[*b])).unwrap_or(0);
        let (row, column) = (best(0..4), best(4..8));
        // The tones are too weak at any exact frequency. Most windows of speech return here.
        let half = ((WINDOW - 2) * BLOCK) as f32;
        if strength[row] + strength[column] < 0.3 * energy * half * half / length {
            return None;
        }
        let low = self.measure(row, &early, &late)?;
        let high = self.measure(column, &early, &late)?;
        let pure = (low + high) * length >= PURITY * energy;
        if !pure || !TWIST.contains(&(high / low)) {
            return None;
        }
        let tones = DigitTones { row, column: column - ROWS.len() };
        Some(Found { tones, power: [low, high] })
    }

    /// Returns the tone's power in the window at the tone's exact frequency, or `None` if the deviation is too large.
    fn measure(&self, tone: usize, early: &Block, late: &Block) -> Option<f32> {
        let (a, b, c, d) = (early.re[tone], early.im[tone], late.re[tone], late.im[tone]);
        // The phase advance from one block to the next.
        let turn = (d * a - c * b).atan2(c * a + d * b) / 2.0;
        let deviation = turn / TAU * f32::from(BLOCKS_A_SECOND);
        let hertz = f32::from(HERTZ[tone]);
        if deviation.abs() > hertz * DEVIATION {
            return None;
        }
        let (sin, cos) = turn.sin_cos();
        let (mut re, mut im) = (0.0, 0.0);
        for block in &self.blocks {
            // The sum of the earlier blocks is rotated once for each further block.
            (re, im) = (re * cos - im * sin + block.re[tone], re * sin + im * cos + block.im[tone]);
        }
        // The deviation reduces the correlation within a block a little. This is the start of the series of the sinc
        // function.
        let loss = PI * deviation / f32::from(BLOCKS_A_SECOND);
        let length = (WINDOW * BLOCK) as f32;
        Some(2.0 * (re * re + im * im) / (length * length) * (1.0 + loss * loss / 3.0))
    }
}

impl Block {
    fn of(samples: &[i16; BLOCK], block_number: u16) -> Block {
        let (mut re, mut im) = ([0.0f32; TONES], [0.0f32; TONES]);
        let (mut energy, mut sum, mut slope) = (0.0, 0.0, 0.0);
        let (early, late) = samples.split_at(BLOCK / 2);
        // Relative to the middle of the block, cosines are even functions and sines are odd functions. The block is
        // folded at the middle, which halves the work.
        for ((early, late), wave) in early.iter().rev().zip(late).zip(&WAVES) {
            let (early, late) = (f32::from(*early), f32::from(*late));
            let (even, odd) = (late + early, late - early);
            for tone in 0..TONES {
                re[tone] += even * wave.cos[tone];
                im[tone] -= odd * wave.sin[tone];
            }
            energy += even * even + odd * odd;
            sum += even;
            slope += odd * wave.at;
        }
        // Hum and rumble have low frequencies. Within 5 ms they are nearly a straight line. The energy of this line is
        // subtracted.
        let length = BLOCK as f32;
        let rumble = sum * sum / length + slope * slope * 12.0 / (length * (length * length - 1.0));
        for tone in 0..TONES {
            // The rotation since the start of the second. The rotation is a whole number of 1/200 turns.
            let turn = u32::from(HERTZ[tone]) * u32::from(block_number) % u32::from(BLOCKS_A_SECOND);
            let (cos, sin) = TURNS[turn as usize];
            (re[tone], im[tone]) = (re[tone] * cos + im[tone] * sin, im[tone] * cos - re[tone] * sin);
        }
        Block { re, im, energy: energy / 2.0 - rumble }
    }

    /// Returns both blocks as one longer block. The energy of the result is not valid.
    fn with(&self, other: &Block) -> Block {
        let mut both = *self;
        for tone in 0..TONES {
            both.re[tone] += other.re[tone];
            both.im[tone] += other.im[tone];
        }
        both
    }

    /// Adds each tone's power to `to`.
    fn strength(&self, mut to: [f32; TONES]) -> [f32; TONES] {
        for (to, (re, im)) in to.iter_mut().zip(self.re.iter().zip(&self.im)) {
            *to += re * re + im * im;
        }
        to
    }
}

/// The value of each tone at one distance from the middle of a block.
struct Wave {
    cos: [f32; TONES],
    sin: [f32; TONES],
    /// The distance in samples.
    at: f32,
}

static WAVES: [Wave; BLOCK / 2] = waves();
/// The cosine and sine of each 1/200 turn.
static TURNS: [(f32, f32); BLOCKS_A_SECOND as usize] = turns();

const fn waves() -> [Wave; BLOCK / 2] {
    let mut waves = [const { Wave { cos: [0.0; TONES], sin: [0.0; TONES], at: 0.0 } }; BLOCK / 2];
    let mut sample = 0;
    while sample < waves.len() {
        let halves = 2 * sample + 1;
        waves[sample].at = halves as f32 / 2.0;
        let mut tone = 0;
        while tone < TONES {
            (waves[sample].cos[tone], waves[sample].sin[tone]) = circle(halves * HERTZ[tone] as usize, 16_000);
            tone += 1;
        }
        sample += 1;
    }
    waves
}

const fn turns() -> [(f32, f32); BLOCKS_A_SECOND as usize] {
    let mut turns = [(0.0, 0.0); BLOCKS_A_SECOND as usize];
    let mut turn = 0;
    while turn < turns.len() {
        turns[turn] = circle(turn, BLOCKS_A_SECOND as usize);
        turn += 1;
    }
    turns
}

/// Returns the cosine and sine of `part / whole` turns. They are computed as series, because the standard library's
/// functions are not const.
const fn circle(part: usize, whole: usize) -> (f32, f32) {
    // The angle is at most half a turn in either direction. In this range the series is more precise than an f32.
    let turn = (part % whole) as f64 / whole as f64;
    let angle = (if turn > 0.5 { turn - 1.0 } else { turn }) * std::f64::consts::TAU;
    let (mut cos, mut sin) = (0.0, 0.0);
    let (mut term, mut n) = (1.0, 0);
    while n < 28 {
        match n % 4 {
            0 => cos += term,
            1 => sin += term,
            2 => cos -= term,
            _ => sin -= term,
        }
        n += 1;
        term *= angle / n as f64;
    }
    (cos as f32, sin as f32)
}

#[cfg(test)]
mod tests;
