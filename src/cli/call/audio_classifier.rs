//! Classifies received audio as speech, tones, other sounds and silence. The classifier takes frames and returns
//! segments, without I/O.
//!
//! ```text
//!   frame (20 ms) ─┬─► voice activity ────────────────┐
//!                  └─► spectrum of 80 ms, every 40 ms ─┴─► speech, tone, sound or silence ─► segments
//! ```

use std::f64::consts::TAU;

use tandem_media::{SampleRate, VoiceActivity};

/// Number of samples in each measurement of tones. These samples last 80 ms. This duration is enough to distinguish two
/// tones that differ by 40 Hz.
const WINDOW: usize = 640;
/// Width of a frequency bin, in Hz.
const BIN: f64 = 8_000.0 / WINDOW as f64;
/// The range of frequency bins that covers the telephone band.
const BINS: std::ops::Range<usize> = 14..276;
/// Minimum part of the energy that the one or two strongest tones must have. If their part is smaller, the audio is not
/// a tone.
const TONAL: f64 = 0.85;
/// Maximum difference between two measurements of the same tone, in Hz.
const SAME: f64 = 15.0;
/// Duration of silence that ends a segment of speech or sound, in ms.
const PAUSE: u64 = 500;
/// Number of consecutive measurements that must find a tone before the tone is reported. There is one measurement every
/// 40 ms.
const MIN_MEASUREMENTS: u8 = 3;
/// Time from the start of a tone to its detection, in ms. This time consists of half of the first window and the two
/// measurements that follow.
const FOUND_AFTER: u64 = 120;
/// Minimum durations of speech, of a tone and of a sound, in ms. Shorter segments are not reported.
const SHORTEST: [u64; 3] = [120, 80, 200];
/// Maximum level of a silent frame, in dBov.
const QUIET: f32 = -55.0;

/// The kind of a piece of audio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Speech.
    Speech,
    /// A steady tone with this frequency, in Hz. If there are two tones, this is the frequency of the stronger tone.
    Tone(f64),
    /// Any other sound, such as music or noise.
    Sound,
}

/// A piece of audio of one kind. All times are media times, in ms since the start of the first frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Segment {
    /// Kind of the audio in this segment.
    pub(super) kind: Kind,
    /// Time at which the segment started.
    pub(super) began: u64,
    /// Time at the end of the last frame that belongs to the segment.
    pub(super) until: u64,
}

impl Segment {
    /// Returns the duration of the part of the segment after `since`, in ms.
    pub(super) fn after(&self, since: u64) -> u64 {
        self.until.saturating_sub(self.began.max(since))
    }

    fn is_long_enough(&self) -> bool {
        let [speech, tone, sound] = SHORTEST;
        let minimum = match self.kind {
            Kind::Speech => speech,
            Kind::Tone(_) => tone,
            Kind::Sound => sound,
        };
        self.until - self.began >= minimum
    }
}

/// Classifies the audio of one stream at 8,000 Hz.
pub(super) struct AudioClassifier {
    voice: VoiceActivity,
    /// The samples of the last 80 ms.
    window: Vec<f64>,
    /// A cosine table of `WINDOW` values that cover one period.
    wave: Vec<f64>,
    /// Media time at the end of the last frame, in ms.
    now: u64,
    frames: u64,
    /// The frequency of the current tone in Hz, and the number of consecutive measurements that found this tone.
    tone: Option<(f64, u8)>,
    current: Option<Segment>,
    quiet_since: u64,
}

impl AudioClassifier {
    pub(super) fn new() -> Self {
        Self {
            voice: VoiceActivity::new(SampleRate::Hz8000),
            window: vec![0.0; WINDOW],
            wave: (0..WINDOW).map(|index| (TAU * index as f64 / WINDOW as f64).cos()).collect(),
            now: 0,
            frames: 0,
            tone: None,
            current: None,
            quiet_since: 0,
        }
    }

    /// Handles the next frame. `now` is the media time at the end of this frame, in ms. Returns a segment if the frame
    /// ended a segment.
    pub(super) fn handle_frame(&mut self, now: u64, samples: &[i16]) -> Option<Segment> {
        self.now = now;
        self.frames += 1;
        let activity = self.voice.handle_frame(samples);
        self.window.drain(..samples.len().min(WINDOW));
        self.window.extend(samples.iter().map(|sample| f64::from(*sample)));
        let loud = activity.level > QUIET;
        if !loud {
            self.tone = None;
        } else if self.frames.is_multiple_of(2) {
            self.tone = self.find_tone().map(|hertz| match self.tone {
                Some((before, measurements)) if (before - hertz).abs() <= SAME => {
                    (hertz, measurements.saturating_add(1))
                }
                _ => (hertz, 1),
            });
        }
        let kind = match self.tone {
            Some((hertz, MIN_MEASUREMENTS..)) => Some(Kind::Tone(hertz)),
            // A vowel can resemble a tone for a short time, so the classifier waits for further measurements.
            Some(_) => return None,
            None if activity.active => Some(Kind::Speech),
            None if loud && activity.sound => Some(Kind::Sound),
            None => None,
        };
        self.join(kind)
    }

    /// Returns the current segment if it has reached its minimum duration.
    pub(super) fn current(&self) -> Option<&Segment> {
        self.current.as_ref().filter(|segment| segment.is_long_enough())
    }

    /// Returns the time at which the current silence started, in ms, or `None` if there is no silence.
    pub(super) fn quiet_since(&self) -> Option<u64> {
        self.current
            .is_none()
            .then_some(self.quiet_since)
            .or_else(|| self.current.as_ref().filter(|segment| segment.until < self.now).map(|segment| segment.until))
    }

    /// Returns the media time at the end of the last frame, in ms.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Ends the stream. Returns the last segment if it has reached its minimum duration.
    pub(super) fn finish(&mut self) -> Option<Segment> {
        self.current.take().filter(Segment::is_long_enough)
    }

    fn join(&mut self, kind: Option<Kind>) -> Option<Segment> {
        let now = self.now;
        let fresh = |kind| {
            let since = if matches!(kind, Kind::Tone(_)) { FOUND_AFTER } else { 20 };
            Segment { kind, began: now.saturating_sub(since), until: now }
        };
        let Some(kind) = kind else {
            let over = self.current.take_if(|current| match current.kind {
                Kind::Tone(_) => true,
                _ => now - current.until >= PAUSE,
            })?;
            self.quiet_since = over.until;
            return Some(over).filter(Segment::is_long_enough);
        };
        match (&mut self.current, kind) {
            (Some(current), kind) if same(current.kind, kind) => {
                current.until = now;
                None
            }
            // If a segment of sound contains speech, the whole segment becomes speech. A sound within speech belongs to
            // the segment of speech.
            (Some(current), Kind::Speech) if current.kind == Kind::Sound => {
                *current = Segment { kind: Kind::Speech, until: now, ..*current };
                None
            }
            (Some(current), Kind::Sound) if current.kind == Kind::Speech => {
                current.until = now;
                None
            }
            (current, kind) => current.replace(fresh(kind)).filter(Segment::is_long_enough),
        }
    }

    /// Returns the frequency of the strongest tone in Hz. Returns `None` if too much of the energy is outside the one
    /// or two strongest tones.
    fn find_tone(&self) -> Option<f64> {
        let shaped: Vec<f64> =
            self.window.iter().zip(&self.wave).map(|(sample, wave)| sample * (0.5 - 0.5 * wave)).collect();
        let power: Vec<f64> = BINS
            .map(|bin| {
                let (mut real, mut imaginary) = (0.0, 0.0);
                let (mut cosine, mut sine) = (0, WINDOW / 4 * 3);
                for sample in &shaped {
                    real += sample * self.wave.get(cosine).unwrap_or(&0.0);
                    imaginary += sample * self.wave.get(sine).unwrap_or(&0.0);
                    cosine = (cosine + bin) % WINDOW;
                    sine = (sine + bin) % WINDOW;
                }
                real * real + imaginary * imaginary
            })
            .collect();
        let total: f64 = power.iter().sum();
        let strongest = |power: &[f64]| {
            let (bin, _) = power.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1))?;
            Some(bin)
        };
        let around = |bin: usize| bin.saturating_sub(2)..(bin + 3).min(power.len());
        let first = strongest(&power)?;
        let mut rest = power.clone();
        rest.get_mut(around(first))?.fill(0.0);
        let second = strongest(&rest)?;
        let of_first: f64 = power.get(around(first))?.iter().sum();
        let of_second: f64 = rest.get(around(second))?.iter().sum();
        if total <= 0.0 || of_first + of_second < TONAL * total {
            return None;
        }
        // If the frequency lies between two bins, the energy is in both bins. The frequency is the weighted mean of the
        // bins.
        let weighted: f64 = around(first).filter_map(|bin| Some(bin as f64 * power.get(bin)?)).sum();
        Some((weighted / of_first + BINS.start as f64) * BIN)
    }
}

fn same(one: Kind, other: Kind) -> bool {
    match (one, other) {
        (Kind::Tone(one), Kind::Tone(other)) => (one - other).abs() <= SAME,
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of samples in a frame.
    const FRAME: usize = 160;

    fn tone(hertz: f64, ms: usize) -> Vec<i16> {
        let sample = |index: usize| (TAU * hertz * index as f64 / 8_000.0).sin() * 8_000.0;
        (0..ms * 8).map(|index| sample(index) as i16).collect()
    }

    fn heard(samples: &[i16]) -> Vec<Segment> {
        let mut classifier = AudioClassifier::new();
        let mut found = Vec::new();
        for (number, frame) in samples.chunks_exact(FRAME).enumerate() {
            found.extend(classifier.handle_frame((number as u64 + 1) * 20, frame));
        }
        found.extend(classifier.finish());
        found
    }

    fn noise(ms: usize, level: f64) -> Vec<i16> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state >> 8) / f64::from(1 << 24) - 0.5) * 2.0 * level
        };
        (0..ms * 8).map(|_| next() as i16).collect()
    }

    #[test]
    fn a_tone_is_told_with_its_frequency_and_its_length() {
        for hertz in [350.0, 440.0, 697.0, 1_000.0, 2_100.0, 3_000.0] {
            let samples = [vec![0; 4_000], tone(hertz, 1_000), vec![0; 8_000]].concat();
            let found = heard(&samples);
            let [Segment { kind: Kind::Tone(measured), began, until }] = found[..] else {
                panic!("{hertz}: {found:?}")
            };
            assert!((measured - hertz).abs() < 5.0, "{hertz}: {measured}");
            assert!(began.abs_diff(500) <= 80 && until.abs_diff(1_500) <= 80, "{began} {until}");
        }
    }

    #[test]
    fn two_tones_in_a_row_are_two_and_silence_is_counted() {
        let samples = [tone(440.0, 600), tone(880.0, 600), vec![0; 16_000]].concat();
        let mut classifier = AudioClassifier::new();
        let mut tones = 0;
        for (number, frame) in samples.chunks_exact(FRAME).enumerate() {
            let over = classifier.handle_frame((number as u64 + 1) * 20, frame);
            tones += usize::from(over.is_some_and(|over| matches!(over.kind, Kind::Tone(_))));
        }
        assert_eq!(tones, 2);
        assert!(
            classifier.quiet_since().is_some_and(|since| since.abs_diff(1_200) <= 80),
            "{:?}",
            classifier.quiet_since()
        );
    }

    #[test]
    fn noise_is_no_tone_and_silence_is_nothing() {
        let found = heard(&[vec![0; 8_000], noise(2_000, 6_000.0), vec![0; 8_000]].concat());
        assert!(found.iter().all(|segment| !matches!(segment.kind, Kind::Tone(_))), "{found:?}");
        assert!(heard(&vec![0; 80_000]).is_empty());
    }
}
