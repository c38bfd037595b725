//! A reader of a timeline. The reader corrects its position to keep its delay. During silence and very quiet audio, the
//! reader corrects its position in one step. During speech, the reader corrects clock drift by one sample in some
//! frames, a larger deviation by one sample in each frame, and a very large deviation by whole pitch periods.

use super::conceal::{Fade, mix, pitch};
use super::ring::{Position, Ring};
use crate::codec::LONGEST_FRAME;

/// The largest deviation from the delay, in ms, at which a reader does not start a correction of its position.
const DEAD_BAND_MS: f32 = 2.0;
/// The additional delay in ms that a live reader may keep. If the delay is too long by less than this value, the reader
/// does not move forward.
const SPARE_MS: i64 = 10;
/// The number of frames between two corrections of a live reader during speech, if the deviation is less than
/// [`NEAR_MS`]. Each correction moves the reader by 1/8 ms, so the rate is 1,600 ppm. This rate is inaudible, and
/// higher than the drift of any clock. A recorder has a longer interval, because a rate of 800 ppm is sufficient for
/// it.
const CORRECTION_INTERVAL: u8 = 4;
const RECORDER_CORRECTION_INTERVAL: u8 = 8;
const NEAR_MS: i64 = 8;
/// The deviation in ms from which a recorder corrects its position by whole pitch periods.
const FAR_MS: i64 = 40;
/// The deviation in ms from which a live reader with a too short delay corrects its position by whole pitch periods.
const LIVE_NEAR_MS: i64 = 20;
/// The deviation in ms from which a live reader with a too long delay corrects its position by whole pitch periods
/// during speech.
const LIVE_FAR_MS: i64 = 100;
/// The deviation in ms from which a reader jumps to its correct position.
const JUMP_MS: i64 = 300;
/// The number of frames (1 s) after which the lateness of packets is known. After this time a recorder jumps to its
/// correct position. Without the jump, the recorder would correct its position sample by sample for the next ten
/// seconds.
const JITTER_KNOWN_FRAMES: u8 = 50;
/// The length of the cross-fade at a jump, in ms.
const BLEND_MS: usize = 5;
/// The float 1.5 * 2^23. The sum of this number and a small float has no fraction, and the low bits of the sum contain
/// the rounded integer. The compiler vectorises this addition. It does not vectorise casts, and `round` is a function
/// call.
const ROUNDING: f32 = 12_582_912.0;
/// The mean level of a quiet frame, about -50 dBFS. A reader can skip part of a frame whose level is lower.
const QUIET: u32 = 100;

/// A reader of a timeline, with its own position. [`super::Timeline::read_samples`] advances this position.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The fixed delay in ms between a packet's arrival and its reading, or `None` for a live reader.
    pub(super) fixed_ms: Option<u16>,
    /// The position of the next frame, or `None` before the first read.
    pub(super) at: Option<Position>,
    /// The direction of the current correction. The value 1 moves the reader ahead, -1 moves it back, and 0 means no
    /// correction.
    correcting: i64,
    /// The number of frames since the last correction.
    since_correction: u8,
    /// The number of frames that were read. The count stops at 255.
    read: u8,
    /// The rest of a cross-fade from concealed audio to received audio.
    pub(super) fade: Option<Fade>,
    /// Whether the last sample was not received, but concealed or silent.
    pub(super) starved: bool,
}

/// The way in which the next frame is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The frame is read unchanged.
    Exact,
    /// A longer or shorter piece of audio is converted into one frame. The value is the number of additional samples,
    /// negative for a shorter piece.
    Stretch(i64),
    /// The reader jumps ahead by this number of samples, or back if the number is negative. A cross-fade hides the
    /// jump.
    Jump(i64),
}

impl Reader {
    /// Creates a reader for recordings, which reads each packet a fixed time after the regular arrival of the packet. A
    /// recording contains each packet that is late by at most this time minus 20 ms.
    pub fn fixed(milliseconds: u16) -> Reader {
        Reader {
            fixed_ms: Some(milliseconds),
            at: None,
            correcting: 0,
            since_correction: 0,
            read: 0,
            fade: None,
            starved: false,
        }
    }

    /// Creates a reader with the smallest delay that the jitter permits, 30 to 200 ms. The delay grows when packets
    /// arrive too late, and shrinks slowly.
    pub fn adaptive() -> Reader {
        Reader { fixed_ms: None, ..Reader::fixed(0) }
    }

    /// Decides how the next frame of `count` samples is read. `goal` is the position that the frame should have. `ms`
    /// is the number of samples per ms.
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
        if !ring.is_received(at, 1) {
            // There is no audio at this position, so the move loses nothing.
            self.correcting = 0;
            self.at = Some(goal);
            return Step::Exact;
        }
        self.correcting = off.signum();
        if in_ms.abs() >= JUMP_MS {
            self.correcting = 0;
            return Step::Jump(off);
        }
        if !live && self.read <= JITTER_KNOWN_FRAMES {
            self.correcting = 0;
            return if self.read == JITTER_KNOWN_FRAMES { Step::Jump(off) } else { Step::Exact };
        }
        // The test for speech needs to decode a frame, so it is done only if the result matters.
        self.since_correction += 1;
        let interval = if live { CORRECTION_INTERVAL } else { RECORDER_CORRECTION_INTERVAL };
        if self.since_correction < interval && in_ms.abs() < NEAR_MS {
            return Step::Exact;
        }
        self.since_correction = 0;
        if ring.is_received(at, count) && is_quiet(ring, at, count) {
            let limit = count as i64 / 2;
            return Step::Jump(off.clamp(-limit, limit));
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

/// Reads `more` samples more than `out` has (fewer if negative), and converts them into a frame in `out`. If part of
/// these samples was not received, returns false and changes nothing.
pub(super) fn stretch(ring: &Ring, at: Position, more: i64, out: &mut [i16]) -> bool {
    let length = out.len() as i64 + more;
    // The interpolation uses four points: one sample before the frame and two samples after it are needed.
    let count = (length + 3) as usize;
    let mut from = [0i16; LONGEST_FRAME + LONGEST_FRAME / 80];
    let Some(from) = from.get_mut(..count).filter(|_| ring.is_received(at - 1, count)) else { return false };
    ring.read_samples(at - 1, from);
    let mut around = [0.0; LONGEST_FRAME + LONGEST_FRAME / 80];
    around.iter_mut().zip(&*from).for_each(|(around, sample)| *around = f32::from(*sample));
    // The loop works in runs. In a run, the position in `from` is the index plus a constant, so that the compiler can
    // vectorise the run.
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
            // This is a Catmull-Rom interpolation. A linear interpolation would weaken frequencies above 2 kHz.
            let curve =
                b + 0.5 * part * (c - a + part * (2.0 * a - 5.0 * b + 4.0 * c - d + part * (3.0 * (b - c) + d - a)));
            *sample = (curve.clamp(-32_768.0, 32_767.0) + ROUNDING).to_bits() as i16;
        }
        (done, behind) = (end, behind + more.signum());
    }
    true
}

/// Cross-fades from the audio at `at` to the audio in `out`.
pub(super) fn blend(ring: &Ring, at: Position, ms: usize, out: &mut [i16]) {
    let length = BLEND_MS * ms;
    let mut old = [0i16; BLEND_MS * 48];
    let Some(old) = old.get_mut(..length) else { return };
    ring.read_known(at, old);
    for (index, (sample, old)) in out.iter_mut().zip(old).enumerate() {
        *sample = mix(*old, *sample, index + 1, length + 1);
    }
}

/// Returns the length of the pitch period at `at` in samples, or `None` if not enough audio was received.
fn wave(ring: &Ring, at: Position, ms: usize) -> Option<i64> {
    let mut around = [0i16; 25 * 48];
    let around = around.get_mut(..25 * ms)?;
    let from = at - 15 * ms as i64;
    if !ring.is_received(from, around.len()) {
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
    fn a_stretched_frame_lies_on_the_curve_through_its_samples() {
        let wave = |place: f64| 12_000.0 * (place * 0.11).sin() + 9_000.0 * (place * 0.37).cos();
        for (rate, more) in [(SampleRate::Hz8000, 1), (SampleRate::Hz16000, 2), (SampleRate::Hz48000, 6)] {
            let mut ring = Ring::samples(rate);
            let received: Vec<i16> = (0..2 * rate.frame()).map(|place| wave(place as f64) as i16).collect();
            ring.write_samples(0, &received);
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
