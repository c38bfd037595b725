//! Who reads a timeline, and how it keeps its distance: at once where there is nothing to hear or hardly anything; within
//! speech by a sample more or less in some frames for drift, in each for more, and by pitch waves for much.

use super::conceal::{Fade, mix, pitch};
use super::ring::{Position, Ring};
use crate::codec::LONGEST_FRAME;

/// Milliseconds a reader may be off its distance before it moves.
const DEAD_BAND_MS: f32 = 2.0;
/// How much farther behind than need be a live reader stays.
const SPARE_MS: i64 = 10;
/// Frames for each sample, while speech is read that is less than [`NEAR_MS`] off: 1,600 millionths, which nobody hears and no
/// clock drifts by. Recorders are in no hurry.
const CALM: u8 = 4;
const RECORDERS_CALM: u8 = 8;
const NEAR_MS: i64 = 8;
/// What is farther off is made good by whole pitch waves.
const FAR_MS: i64 = 40;
/// The same for a live reader that is nearer to the wire than packets come.
const LIVE_NEAR_MS: i64 = 20;
/// The same for a live reader that waits longer than need be while somebody talks.
const LIVE_FAR_MS: i64 = 100;
/// What is farther off still is jumped over.
const JUMP_MS: i64 = 300;
/// Frames after which it is known how late packets come: then a recorder takes its place at once, rather than by a sample
/// now and then for the next ten seconds.
const SETTLED: u8 = 50;
/// Length of the blend at a jump.
const BLEND_MS: usize = 5;
/// What is added to it has no fraction left, and lies in the low bits: `round` is a call, and casts go one by one.
const WHOLE: f32 = 12_582_912.0;
/// Mean level under which a frame can be left out: about -50 dBFS.
const QUIET: u32 = 100;

/// One that reads a timeline. It has its own place there; [`super::Timeline::read_samples`] moves it on.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Milliseconds behind the wire, for one that does not adapt.
    pub(super) fixed_ms: Option<u16>,
    /// What it reads next; `None` before anything came.
    pub(super) at: Option<Position>,
    /// Making good: 1 goes ahead, -1 falls back.
    correcting: i64,
    /// Frames since the last sample of that.
    calm: u8,
    /// Frames read; no more are counted than fit.
    read: u8,
    /// What was made up and goes on under what came.
    pub(super) fade: Option<Fade>,
    /// The last sample given was made up, or silence in its stead.
    pub(super) starved: bool,
}

/// How the next frame is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// As it is.
    Exact,
    /// So many samples more than a frame into a frame.
    Stretch(i64),
    /// From so many samples on, with a blend.
    Jump(i64),
}

impl Reader {
    /// A constant time behind the wire, for recordings: packets that are late by up to 20 ms less find their place.
    pub fn fixed(milliseconds: u16) -> Reader {
        Reader { fixed_ms: Some(milliseconds), at: None, correcting: 0, calm: 0, read: 0, fade: None, starved: false }
    }

    /// As near to the wire as the jitter lets it: 30 to 200 ms. Grows when packets come too late, shrinks slowly.
    pub fn adaptive() -> Reader {
        Reader { fixed_ms: None, ..Reader::fixed(0) }
    }

    /// Decides on the next frame of `count` samples, when it should be at `goal`. `ms`: samples of a millisecond.
    #[inline]
    pub(super) fn steer(&mut self, ring: &Ring, goal: Position, count: usize, ms: usize) -> Step {
        let Some(at) = self.at else {
            self.at = Some(goal);
            return Step::Exact;
        };
        self.read = self.read.saturating_add(1);
        let off = goal - at;
        if self.correcting == 0 && off.unsigned_abs() as f32 <= DEAD_BAND_MS * ms as f32 {
            return Step::Exact;
        }
        self.correct(ring, at, goal, count, ms)
    }

    #[cold]
    fn correct(&mut self, ring: &Ring, at: Position, goal: Position, count: usize, ms: usize) -> Step {
        let (off, unit, live) = (goal - at, (ms / 8) as i64, self.fixed_ms.is_none());
        let in_ms = off / ms as i64;
        if self.correcting == 0 && live && (0..SPARE_MS).contains(&in_ms) {
            return Step::Exact;
        }
        if off.signum() != self.correcting && self.correcting != 0 || off == 0 {
            self.correcting = 0;
            return Step::Exact;
        }
        if !ring.is_here(at, 1) {
            // Nothing to hear here, so nothing is lost by being elsewhere.
            self.correcting = 0;
            self.at = Some(goal);
            return Step::Exact;
        }
        self.correcting = off.signum();
        if in_ms.abs() >= JUMP_MS {
            self.correcting = 0;
            return Step::Jump(off);
        }
        if !live && self.read <= SETTLED {
            self.correcting = 0;
            return if self.read == SETTLED { Step::Jump(off) } else { Step::Exact };
        }
        // Whether somebody talks is looked at only where something would be done about it: it takes decoding a frame.
        self.calm += 1;
        let calm = if live { CALM } else { RECORDERS_CALM };
        if self.calm < calm && in_ms.abs() < NEAR_MS {
            return Step::Exact;
        }
        self.calm = 0;
        if ring.is_here(at, count) && is_quiet(ring, at, count) {
            let most = count as i64 / 2;
            return Step::Jump(off.clamp(-most, most));
        }
        let far = match (live, off > 0) {
            (false, _) => FAR_MS,
            (true, true) => LIVE_FAR_MS,
            (true, false) => LIVE_NEAR_MS,
        };
        if in_ms.abs() >= far
            && let Some(wave) = wave(ring, at, ms)
        {
            return Step::Jump(wave * off.signum());
        }
        Step::Stretch(off.signum() * unit.min(off.abs()))
    }
}

/// Reads a frame `more` samples longer than `out` into it. False, and nothing done, when not all of it is there.
pub(super) fn stretch(ring: &Ring, at: Position, more: i64, out: &mut [i16]) -> bool {
    let length = out.len() as i64 + more;
    // One sample before and two after, which the curve through four points needs.
    let count = (length + 3) as usize;
    let mut from = [0i16; LONGEST_FRAME + LONGEST_FRAME / 80];
    let Some(from) = from.get_mut(..count).filter(|_| ring.is_here(at - 1, count)) else { return false };
    ring.read_samples(at - 1, from);
    let mut around = [0.0; LONGEST_FRAME + LONGEST_FRAME / 80];
    around.iter_mut().zip(&*from).for_each(|(around, sample)| *around = f32::from(*sample));
    // In runs over which the place in `from` goes with the index, so that vectors of them are worked on.
    let (frame, mut done, mut behind) = (out.len() as i64, 0, 0);
    while done < frame {
        let end = match more.signum() {
            1 => ((behind + 1) * frame + more - 1) / more,
            -1 => -behind * frame / -more + 1,
            _ => frame,
        };
        let run = out.get_mut(done as usize..end.min(frame) as usize).unwrap_or_default();
        let around = around.get((done + behind) as usize..).unwrap_or_default().array_windows();
        let (first, step) = ((done * more - behind * frame) as f32 / frame as f32, more as f32 / frame as f32);
        for ((sample, [a, b, c, d]), index) in run.iter_mut().zip(around).zip(0i16..) {
            let part = first + f32::from(index) * step;
            // Catmull-Rom: linear interpolation would dull what lies above 2 kHz.
            let curve =
                b + 0.5 * part * (c - a + part * (2.0 * a - 5.0 * b + 4.0 * c - d + part * (3.0 * (b - c) + d - a)));
            *sample = (curve.clamp(-32_768.0, 32_767.0) + WHOLE).to_bits() as i16;
        }
        (done, behind) = (end, behind + more.signum());
    }
    true
}

/// Blends out of what would have been read at `at` into what was read elsewhere.
pub(super) fn blend(ring: &Ring, at: Position, ms: usize, out: &mut [i16]) {
    let length = BLEND_MS * ms;
    let mut old = [0i16; BLEND_MS * 48];
    let Some(old) = old.get_mut(..length) else { return };
    ring.read_known(at, old);
    for (index, (sample, old)) in out.iter_mut().zip(old).enumerate() {
        *sample = mix(*old, *sample, index + 1, length + 1);
    }
}

/// The length of a pitch wave at `at`, when there is enough to tell.
fn wave(ring: &Ring, at: Position, ms: usize) -> Option<i64> {
    let mut around = [0i16; 25 * 48];
    let around = around.get_mut(..25 * ms)?;
    let from = at - 15 * ms as i64;
    if !ring.is_here(from, around.len()) {
        return None;
    }
    ring.read_samples(from, around);
    Some(pitch(around, 10 * ms, ms) as i64)
}

fn is_quiet(ring: &Ring, at: Position, count: usize) -> bool {
    let mut frame = [0i16; LONGEST_FRAME];
    let Some(frame) = frame.get_mut(..count) else { return false };
    ring.read_known(at, frame);
    let sum: u32 = frame.iter().map(|sample| u32::from(sample.unsigned_abs())).sum();
    sum <= QUIET * count as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::SampleRate;

    #[test]
    fn a_frame_that_is_made_shorter_or_longer_lies_on_the_curve_through_what_came() {
        let wave = |place: f64| 12_000.0 * (place * 0.11).sin() + 9_000.0 * (place * 0.37).cos();
        for (rate, more) in [(SampleRate::Hz8000, 1), (SampleRate::Hz16000, 2), (SampleRate::Hz48000, 6)] {
            let mut ring = Ring::samples(rate);
            let came: Vec<i16> = (0..2 * rate.frame()).map(|place| wave(place as f64) as i16).collect();
            ring.write_samples(0, &came);
            for more in [more, -more] {
                let mut frame = vec![0; rate.frame()];
                assert!(stretch(&ring, 100, more, &mut frame));
                let step = (frame.len() as i64 + more) as f64 / frame.len() as f64;
                for (index, sample) in frame.iter().enumerate() {
                    let exact = wave(100.0 + index as f64 * step);
                    assert!((f64::from(*sample) - exact).abs() < 60.0, "{rate:?} {more} {index}: {sample}, {exact}");
                }
            }
        }
        let mut loud = Ring::samples(SampleRate::Hz8000);
        loud.write_samples(0, &[0, 0, i16::MAX, i16::MAX, 0, 0, i16::MIN, i16::MIN].repeat(30));
        let mut frame = [0; 160];
        assert!(stretch(&loud, 2, 1, &mut frame));
        let turned = |pair: &&[i16; 2]| pair[0].abs_diff(pair[1]) > 33_000;
        assert_eq!(frame.array_windows().find(turned), None, "overshoots are cut off, not turned round");
    }
}
