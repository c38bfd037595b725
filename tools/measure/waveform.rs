//! Finds the sounds in a waveform by their energy, with hysteresis relative to the noise of the line. The method knows
//! nothing about voices: it also finds tones and music, and it needs no training.
//!
//! ```text
//!   samples ─► level of 10 ms, every 5 ms ─► noise: a low percentile of ±4 s ─► sounds: above noise + 6 dB,
//!                                                                             for 40 ms above noise + 10 dB
//! ```

/// Samples per second.
pub(super) const RATE: usize = 8_000;
/// Number of samples between two measurements of the level, 5 ms.
const STEP: usize = RATE / 200;
/// Number of samples of a measurement, 10 ms. A deep voice has at least one period in this time.
const WINDOW: usize = 2 * STEP;
/// Duration of a step, in ms.
const STEP_MS: usize = 5;
/// Number of measurements before and after a measurement that decide about its noise, 4 s each.
const AROUND: usize = 4_000 / STEP_MS;
/// Part of these measurements that are at most as loud as the noise. Speech pauses for a larger part of the time.
const QUIET_PART: f32 = 0.15;
/// Limits of the noise, in dBov. The lower limit holds on a digital line, whose silence has no level. The upper limit
/// holds if there is no pause within 8 s, for example in a tone.
const NOISE: (f32, f32) = (-65.0, -40.0);
/// Levels above the noise, in dB: at which a sound is certain, and below which it has ended.
const CERTAIN: f32 = 10.0;
const OVER: f32 = 6.0;
/// Minimum time above the level `CERTAIN`. A click is shorter.
const SHORTEST_MS: usize = 40;
/// Longest gap within a sound. The silence before a plosive is shorter.
const GAP_MS: usize = 60;
/// Level of digital silence, in dBov.
const SILENCE: f32 = -100.0;

/// A sound. The times are ms from the first sample of the waveform.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sound {
    pub(super) began: usize,
    pub(super) ended: usize,
}

/// Returns the sounds of a waveform in their order. The times are accurate to 10 ms for a sound that begins at its full
/// level, and to 40 ms for a sound whose level rises slowly.
pub(super) fn sounds(samples: &[i16]) -> Vec<Sound> {
    let levels = levels(samples);
    let noises = noises(&levels);
    let mut sounds = Vec::new();
    let mut current: Option<Candidate> = None;
    for (step, (level, noise)) in levels.iter().zip(&noises).enumerate() {
        let at = step * STEP_MS;
        if *level >= noise + OVER {
            let candidate = current.get_or_insert(Candidate { began: at, ended: at, certain_ms: 0 });
            candidate.ended = at + 2 * STEP_MS;
            candidate.certain_ms += if *level >= noise + CERTAIN { STEP_MS } else { 0 };
        } else if let Some(candidate) = current
            && at > candidate.ended + GAP_MS
        {
            sounds.extend(candidate.sound());
            current = None;
        }
    }
    sounds.extend(current.and_then(Candidate::sound));
    sounds
}

#[derive(Clone, Copy)]
struct Candidate {
    began: usize,
    ended: usize,
    certain_ms: usize,
}

impl Candidate {
    fn sound(self) -> Option<Sound> {
        (self.certain_ms >= SHORTEST_MS).then_some(Sound { began: self.began, ended: self.ended })
    }
}

/// Returns the level of each measurement, in dBov (RFC 6465 §3), without the offset of the line.
fn levels(samples: &[i16]) -> Vec<f32> {
    let level = |window: &[i16]| {
        let count = window.len() as f32;
        let mean = window.iter().map(|sample| f32::from(*sample)).sum::<f32>() / count;
        let power = window.iter().map(|sample| (f32::from(*sample) - mean).powi(2)).sum::<f32>() / count;
        (10.0 * (power / 32_768.0_f32.powi(2)).log10()).max(SILENCE)
    };
    samples.windows(WINDOW).step_by(STEP).map(level).collect()
}

/// Returns the noise at each measurement, in dBov.
fn noises(levels: &[f32]) -> Vec<f32> {
    // The number of measurements of each whole dB within the window.
    let mut counts = [0_usize; 101];
    let place = |level: &f32| (-*level).clamp(0.0, 100.0) as usize;
    let mut noises = Vec::with_capacity(levels.len());
    let (mut from, mut to) = (0, 0);
    for step in 0..levels.len() {
        while let Some(level) = levels.get(to).filter(|_| to <= step + AROUND) {
            if let Some(count) = counts.get_mut(place(level)) {
                *count += 1;
            }
            to += 1;
        }
        while let Some(level) = levels.get(from).filter(|_| from + AROUND < step) {
            if let Some(count) = counts.get_mut(place(level)) {
                *count -= 1;
            }
            from += 1;
        }
        let wanted = ((to - from) as f32 * QUIET_PART).ceil() as usize;
        let mut seen = 0;
        let decibels = counts.iter().enumerate().rev().find_map(|(decibels, count)| {
            seen += count;
            (seen >= wanted.max(1)).then_some(decibels)
        });
        noises.push((-(decibels.unwrap_or(100) as f32)).clamp(NOISE.0, NOISE.1));
    }
    noises
}

/// The reaction of the far end to a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    /// It began to speak this time after the end of the question, in ms.
    After(usize),
    /// It already spoke at the end of the question.
    Early,
    /// It was silent.
    Missing,
}

/// Returns the reaction to a question that ended at `question_ended`. A sound that begins at `until` or later is no answer.
pub(super) fn answer_after(received: &[Sound], question_ended: usize, until: usize) -> Answer {
    let is_in_time = |sound: &&Sound| sound.ended > question_ended && sound.began < until;
    let Some(answer) = received.iter().find(is_in_time) else { return Answer::Missing };
    answer.began.checked_sub(question_ended).map_or(Answer::Early, Answer::After)
}

/// The reaction of the far end to an interruption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stop {
    /// It was silent when the interruption began.
    WasSilent,
    /// It fell silent this time after the beginning of the interruption, in ms.
    After(usize),
    /// It went on.
    WentOn,
}

/// Longest pause of a far end that still speaks, in ms.
const PAUSE_MS: usize = 250;

/// Returns what the far end did when it was interrupted from `began` to `ended`. A sound that begins while the interruption
/// lasts is a part of the interrupted speech. `until` is the time, in ms, after which the far end has not stopped.
pub(super) fn stop_after(received: &[Sound], began: usize, ended: usize, until: usize) -> Stop {
    let spoke = |sound: &&Sound| sound.began < began && sound.ended + PAUSE_MS > began;
    if !received.iter().any(|sound| spoke(&sound)) {
        return Stop::WasSilent;
    }
    let last = received.iter().filter(|sound| sound.began < ended).map(|sound| sound.ended).max().unwrap_or_default();
    if last >= until { Stop::WentOn } else { Stop::After(last.saturating_sub(began)) }
}

#[cfg(test)]
mod tests;
