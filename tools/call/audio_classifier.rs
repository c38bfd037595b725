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
/// Minimum part of the energy that the one or two tones must have in every measurement before a tone is reported. The
/// first formant of a sung or synthetic vowel can have 95 % of the energy for 160 ms.
const PURE: f64 = 0.97;
/// Minimum part of the energy that the tones must have in the measurements that continue a reported tone.
const TONAL: f64 = 0.85;
/// Maximum difference between the measurements of a tone that is not reported yet: of the frequency in Hz, and of the
/// level in dB. The pitch and the level of a voice do not stay within these limits.
const STEADY: (f64, f64) = (5.0, 1.5);
/// Maximum part of the first tone's energy at twice its frequency. A voice has harmonics, and a tone has none.
const HARMONIC: f64 = 0.005;
/// Minimum part of the first tone's energy that a second tone must have. A weaker second tone is noise.
const SECOND: f64 = 0.1;
/// Maximum distance of the ratio of two frequencies from a whole number. Two harmonics have such a ratio.
const RATIO: f64 = 0.05;
/// Maximum difference between two measurements of the same reported tone, in Hz.
const SAME: f64 = 15.0;
/// Duration of silence that ends a segment of speech or sound, in ms.
const PAUSE: u64 = 500;
/// Number of consecutive measurements that must find a tone before the tone is reported. There is one measurement every
/// 40 ms, so the tone must last 240 ms. In 65 minutes of speech of 220 voices, no more than 3 consecutive measurements
/// found a tone.
const MIN_MEASUREMENTS: u8 = 5;
/// Time from the start of a tone to its detection, in ms. This time consists of the first window and the measurements
/// that follow.
const FOUND_AFTER: u64 = 240;
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
    /// The current tone, and the number of consecutive measurements that found this tone.
    tone: Option<(Measurement, u8)>,
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
            self.tone = self.find_tone().and_then(|found| match self.tone {
                Some((tone, measurements @ MIN_MEASUREMENTS..)) if tone.goes_on(&found) => Some((tone, measurements)),
                Some((tone, measurements)) if found.is_pure && tone.is_steady(&found) => Some((tone, measurements + 1)),
                _ => found.is_pure.then_some((found, 1)),
            });
        }
        let kind = match self.tone {
            Some((tone, MIN_MEASUREMENTS..)) => Some(Kind::Tone(tone.hertz)),
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

    /// Returns the one or two tones of the window. Returns `None` if too much of the energy is outside of them.
    fn find_tone(&self) -> Option<Measurement> {
        let shaped: Vec<f64> =
            self.window.iter().zip(&self.wave).map(|(sample, wave)| sample * (0.5 - 0.5 * wave)).collect();
        let power: Vec<f64> = BINS.map(|bin| self.power(&shaped, bin)).collect();
        let total: f64 = power.iter().sum();
        let (hertz, first) = strongest(&power)?;
        let mut rest = power.clone();
        rest.get_mut(around(hertz, &power))?.fill(0.0);
        let (other, second) = strongest(&rest)?;
        if total <= 0.0 || first + second < TONAL * total {
            return None;
        }
        let other = (first < PURE * total && second > SECOND * first).then_some(other);
        let in_tones = first + if other.is_some() { second } else { 0.0 };
        let harmonic: f64 = power.get(around(2.0 * hertz, &power)).unwrap_or_default().iter().sum();
        // Two harmonics of a voice are not two tones.
        let ratio = other.map_or(1.5, |other| other.max(hertz) / other.min(hertz));
        let is_pure = in_tones >= PURE * total && harmonic <= HARMONIC * first && (ratio - ratio.round()).abs() > RATIO;
        Some(Measurement { hertz, other, level: 10.0 * total.log10(), is_pure })
    }

    /// Returns the energy of the window in this frequency bin.
    fn power(&self, shaped: &[f64], bin: usize) -> f64 {
        let (mut real, mut imaginary) = (0.0, 0.0);
        let (mut cosine, mut sine) = (0, WINDOW / 4 * 3);
        for sample in shaped {
            real += sample * self.wave.get(cosine).unwrap_or(&0.0);
            imaginary += sample * self.wave.get(sine).unwrap_or(&0.0);
            cosine = (cosine + bin) % WINDOW;
            sine = (sine + bin) % WINDOW;
        }
        real * real + imaginary * imaginary
    }
}

/// The tones in one window.
#[derive(Clone, Copy, Debug)]
struct Measurement {
    /// The frequency of the stronger tone, in Hz.
    hertz: f64,
    /// The frequency of the weaker tone in Hz, if there are two.
    other: Option<f64>,
    /// The level, in dB.
    level: f64,
    /// Whether the window can begin a tone. If not, the window can only continue a tone.
    is_pure: bool,
}

impl Measurement {
    /// Returns whether `next` has the same frequencies and the same level.
    fn is_steady(&self, next: &Self) -> bool {
        let (hertz, level) = STEADY;
        let near = |one: f64, other: f64| (one - other).abs() <= hertz;
        // Either of two tones of equal strength can be the stronger tone in a measurement.
        let same = match (self.other, next.other) {
            (None, None) => near(self.hertz, next.hertz),
            (Some(own), Some(other)) => {
                near(self.hertz, next.hertz) && near(own, other) || near(self.hertz, other) && near(own, next.hertz)
            }
            _ => false,
        };
        same && (self.level - next.level).abs() <= level
    }

    /// Returns whether `next` continues this tone, which has been reported.
    fn goes_on(&self, next: &Self) -> bool {
        let own = [Some(self.hertz), self.other];
        own.into_iter().flatten().any(|own| (own - next.hertz).abs() <= SAME)
    }
}

/// Returns the indexes of the bins that contain the energy of a tone with this frequency, in Hz.
fn around(hertz: f64, power: &[f64]) -> std::ops::Range<usize> {
    let bin = ((hertz / BIN).round() as usize).saturating_sub(BINS.start);
    let end = (bin + 3).min(power.len());
    bin.saturating_sub(2).min(end)..end
}

/// Returns the frequency of the strongest tone in Hz, and its energy.
fn strongest(power: &[f64]) -> Option<(f64, f64)> {
    let (bin, _) = power.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1))?;
    let bins = bin.saturating_sub(2)..(bin + 3).min(power.len());
    let energy: f64 = power.get(bins.clone())?.iter().sum();
    // If the frequency lies between two bins, the energy is in both bins. The frequency is the weighted mean of the
    // bins.
    let weighted: f64 = bins.filter_map(|bin| Some(bin as f64 * power.get(bin)?)).sum();
    let bin = if energy > 0.0 { weighted / energy } else { bin as f64 };
    Some(((bin + BINS.start as f64) * BIN, energy))
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
    fn a_tone_is_reported_with_its_frequency_and_its_duration() {
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
    fn two_consecutive_tones_are_separate_and_silence_is_measured() {
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
    fn noise_is_no_tone_and_silence_is_no_sound() {
        let found = heard(&[vec![0; 8_000], noise(2_000, 6_000.0), vec![0; 8_000]].concat());
        assert!(found.iter().all(|segment| !matches!(segment.kind, Kind::Tone(_))), "{found:?}");
        assert!(heard(&vec![0; 80_000]).is_empty());
    }

    /// Returns the tones among the segments of these samples, as text for messages.
    fn tones(samples: &[i16]) -> Vec<Segment> {
        heard(samples).into_iter().filter(|segment| matches!(segment.kind, Kind::Tone(_))).collect()
    }

    #[test]
    fn a_pair_of_tones_and_a_short_beep_are_tones() {
        for pair in [[350.0, 440.0], [480.0, 620.0], [400.0, 450.0], [697.0, 1_336.0]] {
            let sum: Vec<i16> = tone(pair[0], 300).iter().zip(tone(pair[1], 300)).map(|(a, b)| (a + b) / 2).collect();
            let found = tones(&[vec![0; 2_000], sum, vec![0; 8_000]].concat());
            assert_eq!(found.len(), 1, "{pair:?}: {found:?}");
        }
        for hertz in [254.0, 440.0, 1_000.0, 1_400.0] {
            let beep: Vec<i16> = tone(hertz, 300).iter().zip(noise(300, 600.0)).map(|(a, b)| a + b).collect();
            let found = tones(&[vec![0; 2_000], beep, vec![0; 8_000]].concat());
            assert_eq!(found.len(), 1, "{hertz}: {found:?}");
        }
    }

    /// Returns a sung vowel: the harmonics of a pitch, weighted by one formant. The pitch changes by `vibrato`, a part
    /// of the pitch, five times a second.
    fn vowel(pitch: f64, formant: f64, vibrato: f64, ms: usize) -> Vec<i16> {
        let mut phase = 0.0;
        let sample = |index: usize| {
            let swing = (TAU * 5.0 * index as f64 / 8_000.0).sin();
            phase += TAU * pitch * (1.0 + vibrato * swing) / 8_000.0;
            let harmonics = (1..=(3_400.0 / pitch) as usize).map(|harmonic| {
                let distance = (harmonic as f64 * pitch - formant) / 80.0;
                (phase * harmonic as f64).sin() / (harmonic as f64).powf(1.2) / (1.0 + distance * distance).sqrt()
            });
            (harmonics.sum::<f64>() * 9_000.0) as i16
        };
        (0..ms * 8).map(sample).collect()
    }

    #[test]
    fn a_long_vowel_is_no_tone() {
        for pitch in [95.0, 140.0, 196.0, 220.0, 254.0, 292.0, 330.0, 430.0] {
            for formant in [pitch, 2.0 * pitch, 300.0, 360.0, 520.0, 700.0] {
                for vibrato in [0.0, 0.01, 0.04] {
                    let found = tones(&vowel(pitch, formant, vibrato, 1_500));
                    assert!(found.is_empty(), "pitch {pitch}, formant {formant}, vibrato {vibrato}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_tone_with_rising_pitch_is_no_tone() {
        // A glide of 200 Hz in a second, as at the end of a question.
        let mut phase = 0.0;
        let glide = |index: usize| {
            phase += TAU * (220.0 + 200.0 * index as f64 / 8_000.0) / 8_000.0;
            (phase.sin() * 8_000.0) as i16
        };
        assert!(tones(&(0..8_000).map(glide).collect::<Vec<_>>()).is_empty());
    }

    /// Reads the samples of a WAV file with one channel and reduces them to 8,000 Hz.
    fn recorded(octets: &[u8]) -> Vec<i16> {
        let audio = tandem_media::read_wav(octets).expect("a WAV file");
        audio.samples().to_vec()
    }

    #[test]
    fn speech_of_every_installed_voice_is_no_tone() {
        const TEXT: &str = "Please listen carefully, as our menu has changed. Who knew you would be so cool? Mmm, aaah, oooh. \
                            We are the moon. An application error has occurred. Goodbye.";
        let mut voices = 0;
        let variants =
            ["", "+f1", "+f2", "+f3", "+f4", "+m3", "+anika", "+anikaRobot", "+robosoft6", "+Marco", "+whisper"];
        let espeak = variants
            .map(|variant| ("espeak-ng", vec!["--stdout".to_owned(), format!("-ven{variant}"), TEXT.to_owned()]));
        let pitch = ["0", "80", "99"]
            .map(|pitch| ("espeak-ng", ["--stdout", "-ven+f3", "-p", pitch, TEXT].map(str::to_owned).to_vec()));
        let flite = ["kal", "kal16", "rms", "slt", "awb"]
            .map(|voice| ("flite", ["-voice", voice, "-t", TEXT, "-o", "/dev/stdout"].map(str::to_owned).to_vec()));
        for (program, arguments) in espeak.into_iter().chain(pitch).chain(flite) {
            let Ok(run) = std::process::Command::new(program).args(&arguments).output() else { continue };
            if run.stdout.len() < 44 {
                continue;
            }
            let found = tones(&recorded(&run.stdout));
            assert!(found.is_empty(), "{program} {arguments:?}: {found:?}");
            voices += 1;
        }
        if voices == 0 {
            tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
        }
    }
}
