//! Packet loss concealment after ITU-T G.711 Appendix I. The last pitch periods are repeated in place of missing audio:
//! first one period, and up to three periods in a longer gap. The concealed audio fades out from 10 ms to 60 ms after
//! the start of the gap. After the gap, a cross-fade leads to the received audio.
//!
//! Unlike the appendix, this concealment adds no delay. The appendix delays all audio by 3.75 ms, so that it can remove
//! the discontinuity at the start of a gap. Here the discontinuity decays over a quarter of a pitch period.

use super::ring::{Position, Ring};

/// The number of gaps that are remembered. A slow reader can be behind a fast reader by at most this number of gaps.
const GAPS: usize = 8;
/// The highest number of different pitch periods that are repeated in a gap.
const WAVES: usize = 3;
/// The number of samples that are produced in one piece.
const PIECE: usize = 160;
/// The highest pitch of a voice, in Hz.
const SHORTEST_A_SECOND: usize = 200;
/// The longest pitch period in ms, for the lowest pitch of 66.7 Hz.
const LONGEST_MS: usize = 15;

/// Conceals the gaps of one stream.
#[derive(Debug)]
pub(super) struct Concealer {
    /// The number of samples per ms.
    ms: usize,
    /// The audio before the gap.
    history: Box<[i16]>,
    pitch: usize,
    /// The difference between the last sample before the gap and the first repeated sample.
    step: i32,
    /// The number of samples produced in this gap.
    age: usize,
    /// The position at which the concealment of the current gap would continue.
    next: Position,
    gaps: [Gap; GAPS],
    newest: usize,
    /// The number of samples produced in all gaps.
    pub(super) made: u64,
}

/// A part of the stream with concealed audio. The part is remembered for a reader that passes the end of the part
/// later.
#[derive(Debug, Clone, Copy, Default)]
struct Gap {
    start: Position,
    end: Position,
    /// The pitch period in samples. 0 means that the concealment is silence.
    pitch: usize,
    age: usize,
}

/// A cross-fade from concealed audio to received audio. During the fade the concealed audio continues.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fade {
    source: Position,
    pitch: usize,
    length: usize,
    done: usize,
}

impl Concealer {
    pub(super) fn new(rate: u32) -> Concealer {
        let ms = rate as usize / 1_000;
        // The history holds three and a quarter of the longest pitch periods, which last 48.75 ms.
        let history = vec![0; (WAVES * 4 + 1) * LONGEST_MS * ms / 4].into();
        let gaps = [Gap::default(); GAPS];
        Concealer { ms, history, pitch: 1, step: 0, age: 0, next: Position::MIN, gaps, newest: 0, made: 0 }
    }

    /// Conceals the audio in `from..to`. `begins` says that the audio right before `from` was received. Returns the
    /// position at which the concealment becomes silent, at most `to`.
    pub(super) fn fill(&mut self, ring: &mut Ring, from: Position, to: Position, begins: bool) -> Position {
        if begins {
            self.begin(ring, from);
        } else if from != self.next {
            // The reader has moved within a gap. The pitch periods continue where they ended.
            if from.abs_diff(self.next) > (60 * self.ms) as u64 {
                return from;
            }
            self.remember(Gap { start: from, end: from, pitch: self.pitch, age: self.age });
        }
        let mut at = from;
        let mut piece = [0; PIECE];
        while at < to && self.age < 60 * self.ms {
            let count = PIECE.min((to - at) as usize).min(60 * self.ms - self.age);
            let Some(piece) = piece.get_mut(..count) else { break };
            for sample in &mut *piece {
                *sample = self.sample();
                self.age += 1;
            }
            ring.write_synthesised(at, piece);
            self.made += count as u64;
            at += count as i64;
        }
        self.next = at;
        if let Some(gap) = self.gaps.get_mut(self.newest) {
            gap.end = at;
            gap.age = self.age;
        }
        at
    }

    /// Records that audio begins at `at` within a talkspurt. The gap before it may have become silent.
    pub(super) fn resumed(&mut self, at: Position) {
        self.remember(Gap { start: at - 1, end: at, pitch: 0, age: 0 });
    }

    /// Returns the cross-fade to received audio for a reader whose concealed audio ended at `at`.
    pub(super) fn fade(&self, at: Position) -> Option<Fade> {
        let newest_first = (0..GAPS).map(|back| (self.newest + GAPS - back) % GAPS);
        let gap = newest_first.filter_map(|index| self.gaps.get(index)).find(|gap| gap.start < at && at <= gap.end)?;
        // The length is a quarter of a pitch period, plus 4 ms for each 10 ms of the gap after the first 10 ms. It is
        // at most 10 ms.
        let more = gap.age.saturating_sub(10 * self.ms) * 2 / 5;
        let length = (gap.pitch.max(10 * self.ms) / 4 + more).min(10 * self.ms);
        Some(Fade { source: at, pitch: gap.pitch, length, done: 0 })
    }

    fn begin(&mut self, ring: &Ring, at: Position) {
        ring.read_known(at - self.history.len() as i64, &mut self.history);
        self.pitch = pitch(&self.history, 20 * self.ms, self.ms);
        let end = self.history.len();
        let back = |count: usize| self.history.get(end - count).copied().map_or(0, i32::from);
        self.step = back(1) - back(self.pitch + 1);
        self.age = 0;
        self.remember(Gap { start: at, end: at, pitch: self.pitch, age: 0 });
    }

    fn remember(&mut self, gap: Gap) {
        self.newest = (self.newest + 1) % GAPS;
        if let Some(place) = self.gaps.get_mut(self.newest) {
            *place = gap;
        }
    }

    /// Returns the concealed sample at `age`.
    fn sample(&self) -> i16 {
        let (age, ten, quarter) = (self.age, 10 * self.ms, (self.pitch / 4).max(1));
        let waves = (age / ten + 1).min(WAVES);
        let mut value = self.wave(waves);
        let since = age - (waves - 1) * ten;
        if waves > 1 && since < quarter {
            let before = self.wave(waves - 1);
            value = before + (value - before) * since as i32 / quarter as i32;
        }
        if age < quarter {
            value += self.step * (quarter - age) as i32 / quarter as i32;
        }
        // After the first 10 ms, the gain drops by a fifth in each 10 ms.
        let gain = (60 * self.ms - age).min(50 * self.ms) as i32;
        (value * gain / (50 * self.ms) as i32).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    }

    /// Returns the sample at `age` of a signal that repeats the last `waves` pitch periods. The signal has no
    /// discontinuity between the repetitions.
    fn wave(&self, waves: usize) -> i32 {
        let (period, quarter, end) = (waves * self.pitch, (self.pitch / 4).max(1), self.history.len());
        let back = period - self.age % period;
        let at = |back: usize| self.history.get(end - back.min(end)).copied().map_or(0, i32::from);
        let value = at(back);
        if back > quarter {
            return value;
        }
        let weight = (quarter + 1 - back) as i32;
        value + (at(back + period) - value) * weight / (quarter as i32 + 1)
    }
}

impl Fade {
    /// Applies the cross-fade to the samples that follow. Returns the rest of the fade for later samples.
    pub(super) fn apply(mut self, ring: &Ring, samples: &mut [i16]) -> Option<Fade> {
        for sample in samples {
            if self.done >= self.length {
                return None;
            }
            let mut under = [0];
            if self.pitch > 0 {
                let back = self.pitch - self.done % self.pitch;
                ring.read_samples(self.source - back as i64, &mut under);
            }
            *sample = mix(under[0], *sample, self.done + 1, self.length + 1);
            self.done += 1;
        }
        (self.done < self.length).then_some(self)
    }
}

/// Mixes two samples. The second sample has the weight `part / whole`, and the first sample has the rest.
pub(super) fn mix(first: i16, second: i16, part: usize, whole: usize) -> i16 {
    let (first, second) = (i32::from(first), i32::from(second));
    (first + (second - first) * part as i32 / whole.max(1) as i32) as i16
}

/// Returns the lag in samples at which the last `window` samples are most similar to earlier samples. The lag is 5 to
/// 15 ms long. `ms` is the number of samples per ms. `samples` must be at least 15 ms longer than the window.
pub(super) fn pitch(samples: &[i16], window: usize, ms: usize) -> usize {
    let (shortest, longest) = (1_000 * ms / SHORTEST_A_SECOND, LONGEST_MS * ms);
    // The first search is at 4,000 Hz. The second search is at the full rate around the first result.
    let coarse = ms / 4;
    let mut few = [0i16; 160];
    let count = ((longest + window) / coarse).min(few.len());
    let Some(few) = few.get_mut(..count) else { return shortest };
    for (out, part) in few.iter_mut().rev().zip(samples.rchunks_exact(coarse)) {
        *out = (part.iter().map(|sample| i32::from(*sample)).sum::<i32>() / coarse as i32) as i16;
    }
    let near = best(few, window / coarse, shortest / coarse, longest / coarse) * coarse;
    best(samples, window, (near + 1 - coarse).max(shortest), (near + coarse - 1).min(longest))
}

/// Returns the lag in `from..=to` with the highest normalised correlation.
fn best(samples: &[i16], window: usize, from: usize, to: usize) -> usize {
    let end = samples.len();
    let Some(last) = end.checked_sub(window).and_then(|start| samples.get(start..)) else { return from };
    let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
    // The samples are reduced to 10 bits, so that the sum of 2,048 products fits into 32 bits.
    let shift = (16 - loudest.leading_zeros()).saturating_sub(10);
    let (mut found, mut best_score) = (from, 0.0f32);
    for lag in from..=to {
        let Some(before) = end.checked_sub(window + lag).and_then(|start| samples.get(start..end - lag)) else { break };
        let (mut product, mut energy) = (0i32, 1i32);
        for (one, other) in last.iter().zip(before) {
            let (one, other) = (i32::from(one >> shift), i32::from(other >> shift));
            product += one * other;
            energy += other * other;
        }
        let score = product.max(0) as f32 * product.max(0) as f32 / energy as f32;
        if score > best_score {
            (found, best_score) = (lag, score);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::SampleRate;

    /// Returns a synthetic voice with a pitch of `hertz`: a pulse train through a resonance.
    fn voice(rate: SampleRate, hertz: f32, count: usize) -> Vec<i16> {
        let step = hertz / rate.hertz() as f32;
        (0..count)
            .map(|at| {
                let phase = (at as f32 * step).fract();
                ((-phase * 6.0).exp() * (phase * 40.0).sin() * 12_000.0) as i16
            })
            .collect()
    }

    #[test]
    fn the_pitch_is_found_at_every_rate() {
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
            let ms = rate.hertz() as usize / 1_000;
            for hertz in [70.0, 100.0, 125.0, 190.0] {
                let found = pitch(&voice(rate, hertz, 40 * ms), 20 * ms, ms) as f32;
                let expected = rate.hertz() as f32 / hertz;
                assert!((found - expected).abs() <= 1.5, "{found} for {expected} at {rate:?}");
            }
        }
    }

    #[test]
    fn a_steady_voice_continues_for_10_ms_fades_and_is_silent_after_60_ms() {
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
            let ms = rate.hertz() as usize / 1_000;
            // The pitch period is a whole number of samples, so that only the gain is different.
            let spoken = voice(rate, 100.0, 200 * ms);
            let (gap, mut ring, mut concealer) = (100 * ms, Ring::samples(rate), Concealer::new(rate.hertz()));
            ring.write_samples(0, &spoken[..gap]);
            let end = concealer.fill(&mut ring, gap as i64, (gap + 100 * ms) as i64, true);
            assert_eq!(end as usize, gap + 60 * ms, "{rate:?}");
            let mut made = vec![0; 60 * ms];
            ring.read_samples(gap as i64, &mut made);
            for (at, (made, spoken)) in made.iter().zip(&spoken[gap..]).enumerate() {
                let gain = ((60 * ms - at) as f32 / (50 * ms) as f32).min(1.0);
                let off = (f32::from(*made) - f32::from(*spoken) * gain).abs();
                assert!(off <= 400.0, "{off} at {at} of {rate:?}");
            }
        }
    }
}
