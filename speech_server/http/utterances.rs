//! Cuts a stream of audio into utterances, at pauses. This code reads no clock: the audio is the time.

/// Length of a window of voice activity, in ms.
pub(super) const WINDOW_MS: usize = 32;
/// A window with this probability of speech begins an utterance, if the window before it has it too.
const SPEECH: f32 = 0.5;
/// A window below this probability is a part of a pause.
const PAUSE: f32 = 0.35;
/// Audio before the first window of speech that belongs to the utterance, in ms. Voice activity misses soft begins.
const BEFORE_MS: usize = 400;
/// A pause of this length (96 ms) is probably the end.
const EARLY: usize = 3;
/// Length of the longest utterance, in s. Then it is cut, because Whisper takes 30 s.
const LONGEST: usize = 28;

/// The change by a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// The speech goes on after what looked like an end.
    GoesOn,
    /// The utterance has ended.
    Ends,
    /// The utterance is too long, and is cut here. The speech goes on.
    IsCut,
}

/// The state of a stream.
pub(super) struct Utterances {
    /// Samples of a window.
    pub(super) window: usize,
    rate: usize,
    /// Windows of silence that end an utterance.
    endpointing: usize,
    audio: Vec<i16>,
    is_speech: bool,
    loud: usize,
    quiet: usize,
    /// Number of samples of the stream.
    samples: usize,
    /// Number of the utterances that have ended or were cut.
    ended: u64,
}

impl Utterances {
    /// `rate` is in Hz, `endpointing` is the length of the pause that ends an utterance, in ms.
    pub(super) fn new(rate: u32, endpointing: usize) -> Self {
        let rate = rate as usize;
        Self {
            window: rate * WINDOW_MS / 1000,
            rate,
            endpointing: endpointing.div_ceil(WINDOW_MS).clamp(2, 300),
            audio: Vec::new(),
            is_speech: false,
            loud: 0,
            quiet: 0,
            samples: 0,
            ended: 0,
        }
    }

    /// Adds a window with its probability of speech.
    pub(super) fn push(&mut self, window: &[i16], probability: f32) -> Change {
        self.audio.extend(window);
        self.samples += window.len();
        if !self.is_speech {
            self.loud = if probability >= SPEECH { self.loud + 1 } else { 0 };
            if self.loud < 2 {
                let kept = self.rate * BEFORE_MS / 1000;
                self.audio.drain(..self.audio.len().saturating_sub(kept));
                return Change::Nothing;
            }
            (self.is_speech, self.quiet) = (true, 0);
            return Change::Nothing;
        }
        let was_quiet = self.quiet;
        self.quiet = if probability < PAUSE { self.quiet + 1 } else { 0 };
        if self.quiet >= self.endpointing {
            Change::Ends
        } else if self.audio.len() >= LONGEST * self.rate {
            Change::IsCut
        } else if self.quiet == 0 && was_quiet >= EARLY {
            Change::GoesOn
        } else {
            Change::Nothing
        }
    }

    /// Whether there is speech.
    pub(super) fn is_speech(&self) -> bool {
        self.is_speech
    }

    /// Whether the utterance has probably ended, so that the audio so far is worth to be recognised.
    pub(super) fn has_probably_ended(&self) -> bool {
        self.is_speech && self.quiet >= EARLY
    }

    /// Whether the speaker has paused for a moment.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet > 1
    }

    /// The audio of the utterance so far.
    pub(super) fn audio(&self) -> &[i16] {
        &self.audio
    }

    /// The number of this utterance.
    pub(super) fn number(&self) -> u64 {
        self.ended
    }

    /// The time of the stream at the begin of this audio, and its length, in s.
    pub(super) fn times(&self) -> (f64, f64) {
        let seconds = |samples: usize| samples as f64 / self.rate as f64;
        (seconds(self.samples - self.audio.len().min(self.samples)), seconds(self.audio.len()))
    }

    /// Length of the stream, in s.
    pub(super) fn seconds(&self) -> f64 {
        self.samples as f64 / self.rate as f64
    }

    /// Ends the utterance and returns its audio. `None` without speech.
    pub(super) fn end(&mut self) -> Option<Vec<i16>> {
        if !self.is_speech {
            return None;
        }
        (self.is_speech, self.loud, self.quiet) = (false, 0, 0);
        self.ended += 1;
        Some(std::mem::take(&mut self.audio))
    }

    /// Cuts the utterance here and returns its audio. The speech goes on.
    pub(super) fn cut(&mut self) -> Vec<i16> {
        self.quiet = 0;
        self.ended += 1;
        std::mem::take(&mut self.audio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: [i16; 256] = [7; 256];

    fn push(utterances: &mut Utterances, probability: f32, count: usize) -> Vec<Change> {
        (0..count).map(|_| utterances.push(&WINDOW, probability)).filter(|change| *change != Change::Nothing).collect()
    }

    #[test]
    fn an_utterance_has_the_audio_before_it_and_ends_with_a_pause() {
        let mut utterances = Utterances::new(8_000, 300);
        assert_eq!(push(&mut utterances, 0.0, 50), []);
        assert!(!utterances.is_speech() && utterances.audio().len() == 3_200);
        assert_eq!(push(&mut utterances, 0.9, 20), []);
        assert!(utterances.is_speech());
        assert_eq!(push(&mut utterances, 0.1, 10), [Change::Ends]);
        let (begin, length) = utterances.times();
        assert!((begin - 51.0 * 0.032 + 0.4).abs() < 0.001 && (length - 1.328).abs() < 0.001, "{begin} {length}");
        assert_eq!(utterances.end().unwrap().len(), 3_200 + 29 * 256);
        assert_eq!(utterances.end(), None);
    }

    #[test]
    fn a_short_pause_does_not_end_an_utterance() {
        let mut utterances = Utterances::new(8_000, 500);
        push(&mut utterances, 0.9, 20);
        assert_eq!(push(&mut utterances, 0.1, 2), []);
        assert!(!utterances.has_probably_ended());
        assert_eq!(push(&mut utterances, 0.1, 6), []);
        assert!(utterances.has_probably_ended());
        assert_eq!(push(&mut utterances, 0.9, 3), [Change::GoesOn]);
        assert!(!utterances.has_probably_ended());
        assert_eq!(push(&mut utterances, 0.1, 15), []);
        assert_eq!(push(&mut utterances, 0.1, 1), [Change::Ends]);
    }

    #[test]
    fn one_loud_window_is_no_speech() {
        let mut utterances = Utterances::new(8_000, 300);
        push(&mut utterances, 0.9, 1);
        push(&mut utterances, 0.0, 1);
        push(&mut utterances, 0.9, 1);
        assert!(!utterances.is_speech());
    }

    #[test]
    fn speech_without_a_pause_is_cut_and_goes_on() {
        let mut utterances = Utterances::new(8_000, 300);
        let changes: Vec<Change> = (0..30 * 32).map(|_| utterances.push(&WINDOW, 0.9)).collect();
        let at = changes.iter().position(|change| *change == Change::IsCut).unwrap();
        assert_eq!(at + 1, 28 * 8_000 / 256);
        assert!(utterances.cut().len() >= 28 * 8_000 && utterances.is_speech() && utterances.audio().is_empty());
    }
}
