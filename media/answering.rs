//! Answering machine detection: whether a person or a machine has answered, and when the machine's greeting has ended.
//!
//! ```text
//!              word                 silence, few words          -> Human
//!   Listening -------> Greeting --- much speech, many words ----> Machine ---- beep, silence, time --> GreetingEnded
//!       |                  \------- beep after it --------------> Machine, GreetingEnded
//!       |--- nothing: Silence         time: NotSure
//!       \--- 1,100 or 2,100 Hz: Fax
//! ```
//!
//! A person says a few words and waits. A machine talks for longer. For each frame, the detection knows only whether
//! the frame is speech and whether the frame is a single tone. The result therefore depends on durations and counts
//! ([`MachineDetection`]). This module is pure.

mod beep;
pub(crate) mod listener;

use std::time::Duration;

use crate::codec::SampleRate;
use crate::vad::Activity;
use beep::{PROGRESS_HERTZ, Run, Sound, ToneDetector};

/// The number of active frames that count as a word. 5 frames last 100 ms, which is longer than a click or a cough.
const WORD: u32 = 5;
/// The longest pause that still counts as speech, in frames. 10 frames last 200 ms.
const SHORT_PAUSE: u32 = 10;
/// The range for the length of a beep, in frames. 4 frames last 80 ms, and 250 frames last 5 s. The minimum is less
/// than 100 ms, because a beep of 100 ms may not start at a frame boundary.
const BEEP: std::ops::RangeInclusive<u16> = 4..=250;
/// The range for the frequency of a beep in Hz.
const BEEP_HERTZ: std::ops::RangeInclusive<f32> = 400.0..=2_500.0;
/// The maximum length, in frames, of a beep whose frequency is also a frequency of ringing, busy or dial tones. A
/// longer tone at such a frequency is a progress tone.
const PROGRESS: u16 = 17;
/// The frequency in Hz of the tone that a calling fax machine sends (ITU-T T.30 §4.3.3.3). The tone has 1,100 Hz and
/// lasts 0.5 s. `CALLING` is the range for the length of this tone in frames.
const CALLING_HERTZ: std::ops::RangeInclusive<f32> = 1_062.0..=1_138.0;
const CALLING: std::ops::RangeInclusive<u16> = 21..=29;
/// The frequency in Hz of the tone that a called fax machine sends (ITU-T T.30 §4.3.3.2, V.8). The tone has 2,100 Hz
/// and lasts 2.6 s or more. A tone that lasts for `CALLED` frames is a fax tone and not a beep. After speech, the tone
/// must last for `CALLED_AFTER_SPEECH` frames.
const CALLED_HERTZ: std::ops::RangeInclusive<f32> = 2_080.0..=2_120.0;
const CALLED: u16 = 25;
const CALLED_AFTER_SPEECH: u16 = 75;

/// The goal of a detection, and its thresholds and time limits.
///
/// | field | Twilio | Telnyx `answering_machine_detection_config` |
/// |---|---|---|
/// | `until` | `Enable`: verdict; `DetectMessageEnd`: greeting's end | `detect`: verdict; `greeting_end`, `detect_words`: greeting's end; `detect_beep`, `premium`: beep |
/// | `first_result_timeout` | `MachineDetectionTimeout` | `total_analysis_time_millis` |
/// | `initial_silence` | `MachineDetectionSilenceTimeout` | `initial_silence_millis` |
/// | `silence_is_machine` | false | true, but false for `premium` |
/// | `greeting` | `MachineDetectionSpeechThreshold` | `greeting_duration_millis` |
/// | `after_greeting_silence` | `MachineDetectionSpeechEndThreshold` | `after_greeting_silence_millis` |
/// | `between_words_silence` | default | `between_words_silence_millis` |
/// | `words` | none | `maximum_number_of_words` |
/// | `word` | none | `maximum_word_length_millis` |
/// | `silence_threshold` | default | `silence_threshold` |
/// | `greeting_end_silence` | `MachineDetectionSpeechEndThreshold` | `greeting_silence_duration_millis` |
/// | `greeting_end_timeout` | as `total_timeout` | `greeting_total_analysis_time_millis` |
/// | `total_timeout` | `MachineDetectionTimeout` | the two times together |
///
/// Times are rounded up to 20 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDetection {
    /// The event at which the detection ends.
    pub until: Until,
    /// The maximum time until a decision. After this time the result is [`DetectionResult::NotSure`]. There is one
    /// exception: if the far end is talking and has talked for half of `greeting`, the result is `Machine`.
    pub first_result_timeout: Duration,
    /// The maximum time until the first word. If no word comes within this time, the result is
    /// [`DetectionResult::Silence`].
    pub initial_silence: Duration,
    /// Whether the result after `initial_silence` is `Machine` instead of `Silence`.
    pub silence_is_machine: bool,
    /// The maximum length of the speech with which a person answers. Longer speech is the greeting of a machine. A
    /// pause of up to 200 ms is part of the speech. A longer pause ends the speech.
    pub greeting: Duration,
    /// The duration of silence after which the result is a person. The speech before this silence must be shorter than
    /// `greeting`.
    pub after_greeting_silence: Duration,
    /// The silence that ends a word.
    pub between_words_silence: Duration,
    /// The maximum number of words with which a person answers. More words are a machine's greeting. A word lasts at
    /// least 100 ms.
    pub words: Option<u16>,
    /// The maximum length of one word with which a person answers. A longer word is a machine's greeting or music.
    pub word: Option<Duration>,
    /// The minimum mean amplitude of a frame that counts as speech. The maximum amplitude is 32,767. A quieter frame
    /// counts as silence.
    pub silence_threshold: u16,
    /// The silence that ends a machine's greeting.
    pub greeting_end_silence: Duration,
    /// The maximum time from the result `Machine` to the end of the greeting. After this time the detection ends with
    /// [`GreetingEnd::Other`].
    pub greeting_end_timeout: Duration,
    /// The maximum time of the whole detection. The time counts from the command to the end of the greeting.
    pub total_timeout: Duration,
}

/// The event at which a detection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The detection ends with the first result.
    FirstResult,
    /// After `Machine`, the detection continues until the greeting ends with a beep or with silence.
    GreetingEnd,
    /// After `Machine`, the detection continues until the beep. Silence does not end the greeting.
    Beep,
}

impl Default for MachineDetection {
    fn default() -> MachineDetection {
        MachineDetection {
            until: Until::FirstResult,
            first_result_timeout: Duration::from_secs(30),
            initial_silence: Duration::from_secs(5),
            silence_is_machine: false,
            greeting: Duration::from_millis(2_400),
            after_greeting_silence: Duration::from_millis(1_200),
            between_words_silence: Duration::from_millis(50),
            words: None,
            word: None,
            silence_threshold: 64,
            greeting_end_silence: Duration::from_millis(1_200),
            greeting_end_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(30),
        }
    }
}

/// A result of the detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectionResult {
    /// A person has answered. This is the last result.
    Human,
    /// A machine has answered, and the machine's greeting is playing. `GreetingEnded` follows, unless
    /// [`Until::FirstResult`] was requested.
    Machine,
    /// The machine's greeting has ended, so the caller can leave a message. This is the last result.
    GreetingEnded {
        /// The reason why the greeting ended.
        by: GreetingEnd,
    },
    /// A fax machine has answered. This is the last result.
    Fax,
    /// The detection time expired before a decision. This is the last result.
    NotSure,
    /// The far end has not spoken. This is the last result.
    Silence,
}

/// The reasons why a greeting can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GreetingEnd {
    /// The greeting ended with a beep, and the beep has ended too.
    Beep,
    /// The greeting ended with silence for `greeting_end_silence`.
    Silence,
    /// The time for the greeting's end expired.
    Other,
}

/// A running detection.
#[derive(Debug)]
pub(crate) struct AnsweringMachine {
    figures: Figures,
    until: Until,
    silence_is_machine: bool,
    tones: ToneDetector,
    phase: Phase,
    /// The number of frames that the detection has handled.
    elapsed: u32,
    /// The number of active frames in the current word.
    word: u32,
    words: u32,
    /// The number of frames of speech.
    spoken: u32,
    /// The number of frames since the last active frame.
    pause: u32,
}

/// The thresholds of the detection. Times are in frames, and the silence threshold is in dBov.
#[derive(Debug)]
struct Figures {
    first_result_timeout: u32,
    initial_silence: u32,
    greeting: u32,
    after_greeting_silence: u32,
    between_words_silence: u32,
    words: u32,
    word: u32,
    silence_threshold: f32,
    greeting_end_silence: u32,
    greeting_end_timeout: u32,
    total_timeout: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The far end has not spoken a word yet.
    Listening,
    /// A person or a machine is talking.
    Greeting,
    /// The result `Machine` was reported at frame `since`. If `then` is set, the greeting ends at the next frame, and
    /// `then` is the reason.
    Machine { since: u32, then: Option<GreetingEnd> },
    /// The last result was reported.
    Over,
}

impl AnsweringMachine {
    /// Creates a detection for frames at `rate`.
    pub(crate) fn new(spec: &MachineDetection, rate: SampleRate) -> AnsweringMachine {
        AnsweringMachine {
            figures: Figures::new(spec),
            until: spec.until,
            silence_is_machine: spec.silence_is_machine,
            tones: ToneDetector::new(rate),
            phase: Phase::Listening,
            elapsed: 0,
            word: 0,
            words: 0,
            spoken: 0,
            pause: 0,
        }
    }

    /// Sets the sample rate of the following frames.
    pub(crate) fn set_rate(&mut self, rate: SampleRate) {
        self.tones = ToneDetector::new(rate);
    }

    /// Whether the last result was reported.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The duration of the audio that has been handled.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(20) * self.elapsed
    }

    /// Handles the next 20 ms of audio and their voice activity. Returns a result if the audio causes a new result.
    pub(crate) fn handle_frame(&mut self, samples: &[i16], activity: Activity) -> Option<DetectionResult> {
        if self.is_over() {
            return None;
        }
        self.elapsed = self.elapsed.saturating_add(1);
        let sound = self.tones.handle_frame(samples, activity.level);
        let tone = matches!(sound, Sound::Tone(_) | Sound::Ending);
        self.count(activity.active && !tone && activity.level >= self.figures.silence_threshold);
        if self.is_fax(sound) {
            return self.finish(DetectionResult::Fax);
        }
        let beep = matches!(sound, Sound::Ended(run) if is_beep(&run));
        match self.phase {
            Phase::Listening if self.words > 0 => {
                self.phase = Phase::Greeting;
                None
            }
            Phase::Listening if self.elapsed >= self.figures.initial_silence => {
                if self.silence_is_machine {
                    self.report_machine(None)
                } else {
                    self.finish(DetectionResult::Silence)
                }
            }
            Phase::Listening if self.is_late() => self.finish(DetectionResult::NotSure),
            Phase::Greeting if beep => self.report_machine(Some(GreetingEnd::Beep)),
            Phase::Greeting if self.talks_like_a_machine() => self.report_machine(None),
            // A tone that is still sounding may be the beep.
            Phase::Greeting if !tone && self.pause >= self.figures.after_greeting_silence => {
                self.finish(DetectionResult::Human)
            }
            Phase::Greeting if self.is_late() => {
                if self.pause < SHORT_PAUSE && self.spoken >= self.figures.greeting / 2 {
                    self.report_machine(None)
                } else {
                    self.finish(DetectionResult::NotSure)
                }
            }
            Phase::Machine { then: Some(by), .. } => self.finish(DetectionResult::GreetingEnded { by }),
            Phase::Machine { .. } if beep => self.finish(DetectionResult::GreetingEnded { by: GreetingEnd::Beep }),
            Phase::Machine { since, .. } => {
                let silent = self.until == Until::GreetingEnd && !tone;
                if silent && self.pause >= self.figures.greeting_end_silence {
                    self.finish(DetectionResult::GreetingEnded { by: GreetingEnd::Silence })
                } else if self.elapsed - since >= self.figures.greeting_end_timeout
                    || self.elapsed >= self.figures.total_timeout
                {
                    self.finish(DetectionResult::GreetingEnded { by: GreetingEnd::Other })
                } else {
                    None
                }
            }
            Phase::Listening | Phase::Greeting | Phase::Over => None,
        }
    }

    /// Counts the words and measures the duration of each word.
    fn count(&mut self, speaks: bool) {
        if !speaks {
            self.pause = self.pause.saturating_add(1);
            if self.pause >= self.figures.between_words_silence {
                self.word = 0;
            }
            return;
        }
        if self.pause <= SHORT_PAUSE && self.spoken > 0 {
            self.spoken = self.spoken.saturating_add(self.pause);
        } else if self.words == 0 {
            // The earlier active frames were too few for a word.
            self.spoken = 0;
        }
        self.pause = 0;
        self.spoken = self.spoken.saturating_add(1);
        self.word = self.word.saturating_add(1);
        if self.word == WORD {
            self.words = self.words.saturating_add(1);
        }
    }

    fn talks_like_a_machine(&self) -> bool {
        self.spoken > self.figures.greeting || self.words > self.figures.words || self.word > self.figures.word
    }

    fn is_late(&self) -> bool {
        self.elapsed >= self.figures.first_result_timeout.min(self.figures.total_timeout)
    }

    fn is_fax(&self, sound: Sound) -> bool {
        let fresh = self.words == 0;
        match sound {
            Sound::Tone(run) => {
                let enough = if fresh { CALLED } else { CALLED_AFTER_SPEECH };
                CALLED_HERTZ.contains(&run.hertz) && run.frames >= enough
            }
            // After speech, a tone of this frequency is a beep.
            Sound::Ended(run) => fresh && CALLING_HERTZ.contains(&run.hertz) && CALLING.contains(&run.frames),
            Sound::Other | Sound::Ending => false,
        }
    }

    fn report_machine(&mut self, then: Option<GreetingEnd>) -> Option<DetectionResult> {
        self.phase = match self.until {
            Until::FirstResult => Phase::Over,
            Until::GreetingEnd | Until::Beep => Phase::Machine { since: self.elapsed, then },
        };
        self.pause = 0;
        Some(DetectionResult::Machine)
    }

    fn finish(&mut self, result: DetectionResult) -> Option<DetectionResult> {
        self.phase = Phase::Over;
        Some(result)
    }
}

fn is_beep(run: &Run) -> bool {
    BEEP.contains(&run.frames)
        && BEEP_HERTZ.contains(&run.hertz)
        && !(PROGRESS_HERTZ.contains(&run.hertz) && run.frames > PROGRESS)
}

impl Figures {
    fn new(spec: &MachineDetection) -> Figures {
        let frames = |time: Duration| u32::try_from(time.as_millis().div_ceil(20)).unwrap_or(u32::MAX);
        // The mean amplitude of speech is about 0.8 of its root mean square.
        let amplitude = f32::from(spec.silence_threshold) / 0.8 / 32_768.0;
        Figures {
            first_result_timeout: frames(spec.first_result_timeout),
            initial_silence: frames(spec.initial_silence),
            greeting: frames(spec.greeting),
            after_greeting_silence: frames(spec.after_greeting_silence),
            between_words_silence: frames(spec.between_words_silence).max(1),
            words: spec.words.map_or(u32::MAX, u32::from),
            word: spec.word.map_or(u32::MAX, frames),
            silence_threshold: 20.0 * amplitude.log10(),
            greeting_end_silence: frames(spec.greeting_end_silence),
            greeting_end_timeout: frames(spec.greeting_end_timeout),
            total_timeout: frames(spec.total_timeout),
        }
    }
}

#[cfg(test)]
mod tests;
