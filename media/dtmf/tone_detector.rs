//! Detects digits as tones in the audio (ITU-T Q.23), with the requirements of a receiver by ITU-T Q.24.
//!
//! ```text
//!  8 kHz -> blocks of 5 ms -> correlated with the 8 frequencies -> the last six: which two, how exact, how pure?
//!                                                             \-> the last three: does the digit continue?
//! ```
//!
//! Short blocks that are added with their phases give more information than a Goertzel filter of the whole length: the
//! phases show the exact frequency. A tone that deviates by 1.5 % loses no energy, and one that deviates by 3.5 % is
//! refused. Digits differ from speech in purity: in a digit, two tones contain most of the energy of 30 ms in three
//! successive windows. Voices do not.

#![expect(clippy::indexing_slicing, reason = "by tone and block, whose numbers are ours: none comes from the samples")]

use std::f32::consts::{PI, TAU};

use super::{COLUMNS, KEYS, ROWS};

const TONES: usize = 8;
/// The frequencies of rows, then columns, in Hz.
const HERTZ: [u16; TONES] = {
    let ([a, b, c, d], [e, f, g, h]) = (ROWS, COLUMNS);
    [a, b, c, d, e, f, g, h]
};
/// Samples of a block (5 ms), and blocks per second.
const BLOCK: usize = 40;
const BLOCKS_A_SECOND: u16 = 200;
/// The number of blocks that are examined for a digit: 30 ms.
const WINDOW: usize = 6;
/// The number of blocks that show whether the digit continues: 15 ms. An interruption of 10 ms never fills two
/// successive windows of this length.
const LATEST: usize = 3;
/// The number of successive windows, one block apart, that must contain the same digit. With [`PURITY`], a tone of 40
/// ms always satisfies this, and a tone of 23 ms never does.
const AGREEING: u8 = 3;
/// The number of blocks without the digit after which it has ended.
const MISSING: u8 = 3;
/// The part of a window's energy that both tones together must have.
const PURITY: f32 = 0.75;
/// The largest relative frequency deviation of a tone. It is between the 1.5 % that must be accepted and the 3.5 % that
/// must be refused.
const DEVIATION: f32 = 0.021;
/// The power ratio of column to row: -10 dB to +6 dB.
const TWIST: std::ops::RangeInclusive<f32> = 0.1..=4.0;
/// The mean square of the weakest pair: about -39 dBm0, with each tone at -42 dBm0.
const WEAKEST: f32 = 170.0 * 170.0;
/// A tone whose power falls below this part of its former power is missing: -11 dB.
const FALLEN: f32 = 0.08;

/// Detects digits in the audio of one direction. It takes 450 octets, and 0.3 us of CPU time for 20 ms.
#[derive(Debug)]
pub struct ToneDetector {
    blocks: [Block; WINDOW],
    /// The number of the block, modulo one second, in which every frequency has whole periods.
    place: u16,
    candidate: Option<Key>,
    agreeing: u8,
    pressed: Option<Pressed>,
}

/// The correlation of a block with each tone; phases are relative to the start of the second.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    re: [f32; TONES],
    im: [f32; TONES],
    /// The energy without frequencies that are too low for speech.
    energy: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    row: usize,
    column: usize,
}

/// A window that contains a digit.
#[derive(Debug, Clone, Copy)]
struct Found {
    key: Key,
    /// The mean squares of row and column tone.
    power: [f32; 2],
}

#[derive(Debug)]
struct Pressed {
    key: Key,
    power: [f32; 2],
    missing: u8,
}

impl Default for ToneDetector {
    fn default() -> ToneDetector {
        ToneDetector { blocks: [Block::default(); WINDOW], place: 0, candidate: None, agreeing: 0, pressed: None }
    }
}

impl ToneDetector {
    /// Handles the next 20 ms at 8,000 Hz (160 samples; samples beyond a multiple of 40 are ignored). Returns each
    /// digit (`0`-`9`, `*`, `#`, `A`-`D`) once, in the frame that contains its 37th millisecond or in the next one.
    ///
    /// It detects tones of at least 40 ms with pauses of 40 ms, from -39 dBm0 for the pair, with a frequency deviation
    /// of up to 1.5 %, and with the column up to 6 dB above or 9 dB below the row. It bridges interruptions of 10 ms.
    /// It refuses tones of 23 ms and a deviation of 3.5 % (ITU-T Q.24 table A-1).
    pub fn handle_frame(&mut self, samples: &[i16]) -> Option<char> {
        let (blocks, _) = samples.as_chunks::<BLOCK>();
        let mut told = None;
        for block in blocks {
            self.blocks.rotate_left(1);
            self.blocks[WINDOW - 1] = Block::of(block, self.place);
            self.place = (self.place + 1) % BLOCKS_A_SECOND;
            told = told.or(self.step());
        }
        told
    }

    /// Handles the newest block.
    fn step(&mut self) -> Option<char> {
        let found = self.find();
        self.release();
        let Some(Found { key, power }) = found else {
            self.candidate = None;
            return None;
        };
        if self.candidate.replace(key) != Some(key) {
            self.agreeing = 0;
        }
        self.agreeing = self.agreeing.saturating_add(1);
        if self.agreeing < AGREEING {
            return None;
        }
        let known = self.pressed.as_ref().is_some_and(|pressed| pressed.key == key);
        self.pressed = Some(Pressed { key, power, missing: 0 });
        (!known).then_some(KEYS[key.row][key.column])
    }

    /// Detects the end of the current digit.
    fn release(&mut self) {
        let Some(pressed) = &mut self.pressed else { return };
        let latest = &self.blocks[WINDOW - LATEST..];
        let Key { row, column } = pressed.key;
        let gone = [row, ROWS.len() + column].into_iter().zip(pressed.power).any(|(tone, power)| {
            let (re, im) = latest.iter().fold((0.0, 0.0), |(re, im), block| (re + block.re[tone], im + block.im[tone]));
            let length = (LATEST * BLOCK) as f32;
            2.0 * (re * re + im * im) / (length * length) < power * FALLEN
        });
        pressed.missing = if gone { pressed.missing + 1 } else { 0 };
        if pressed.missing >= MISSING {
            self.pressed = None;
        }
    }

    /// The digit in the window.
    fn find(&self) -> Option<Found> {
        let length = (WINDOW * BLOCK) as f32;
        let energy = self.blocks.iter().map(|block| block.energy).sum::<f32>();
        if energy < WEAKEST * length {
            return None;
        }
        // Two stretches of 20 ms, 10 ms apart: their sum gives the strength of a tone, their phase difference its
        // frequency.
        let [a, b, c, d, e, f] = &self.blocks;
        let middle = c.with(d);
        let (early, late) = (a.with(b).with(&middle), middle.with(e).with(f));
        let strength = early.strength(late.strength([0.0; TONES]));
        let best =
            |range: std::ops::Range<usize>| range.max_by(|a, b| strength[*a].total_cmp(&strength[*b])).unwrap_or(0);
        let (row, column) = (best(0..4), best(4..8));
        // Too weak, whatever the exact frequency; most windows of speech return here.
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
        let key = Key { row, column: column - ROWS.len() };
        Some(Found { key, power: [low, high] })
    }

    /// The tone's power in the window, at its exact frequency. `None` if its deviation is too large.
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
            // Earlier blocks are rotated once for each block that follows.
            (re, im) = (re * cos - im * sin + block.re[tone], re * sin + im * cos + block.im[tone]);
        }
        // Within a block the deviation reduces the correlation a little: the first terms of the sinc function.
        let loss = PI * deviation / f32::from(BLOCKS_A_SECOND);
        let length = (WINDOW * BLOCK) as f32;
        Some(2.0 * (re * re + im * im) / (length * length) * (1.0 + loss * loss / 3.0))
    }
}

impl Block {
    fn of(samples: &[i16; BLOCK], place: u16) -> Block {
        let (mut re, mut im) = ([0.0f32; TONES], [0.0f32; TONES]);
        let (mut energy, mut sum, mut slope) = (0.0, 0.0, 0.0);
        let (early, late) = samples.split_at(BLOCK / 2);
        // Relative to the middle of the block, cosines are even and sines are odd. Folding the block there halves the
        // work.
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
        // Hum and rumble have low frequencies. Within 5 ms they are nearly a straight line, whose energy is subtracted.
        let length = BLOCK as f32;
        let rumble = sum * sum / length + slope * slope * 12.0 / (length * (length * length - 1.0));
        for tone in 0..TONES {
            // The rotation since the start of the second: a whole number of 1/200 turns.
            let turn = u32::from(HERTZ[tone]) * u32::from(place) % u32::from(BLOCKS_A_SECOND);
            let (cos, sin) = TURNS[turn as usize];
            (re[tone], im[tone]) = (re[tone] * cos + im[tone] * sin, im[tone] * cos - re[tone] * sin);
        }
        Block { re, im, energy: energy / 2.0 - rumble }
    }

    /// Both blocks as one longer block; its energy is not valid.
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

/// The tones at one distance from a block's middle.
struct Wave {
    cos: [f32; TONES],
    sin: [f32; TONES],
    /// The distance in samples.
    at: f32,
}

static WAVES: [Wave; BLOCK / 2] = waves();
/// Cosine and sine of each 1/200 turn.
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

/// Cosine and sine of `part / whole` turns, by their series, because the standard library's functions are not const.
const fn circle(part: usize, whole: usize) -> (f32, f32) {
    // The angle is within half a turn in both directions, where the series is more precise than an f32.
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
