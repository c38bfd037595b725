//! Answering machine detection: whether a person or a machine has answered, and when a machine's greeting has ended.
//!
//! ```text
//!              word                 silence, few words          -> Human
//!   Listening -------> Greeting --- much speech, many words ----> Machine ---- beep, silence, time --> GreetingEnded
//!       |                  \------- beep after it --------------> Machine, GreetingEnded
//!       |--- nothing: Silence         time: NotSure
//!       \--- 1,100 or 2,100 Hz: Fax
//! ```
//!
//! A person says a few words and waits; a machine talks for longer. For each frame the detection knows only whether it
//! is speech and whether it is a single tone, so durations and counts decide: see [`MachineDetection`]. Pure.

mod beep;
pub(crate) mod listener;

use std::time::Duration;

use crate::codec::SampleRate;
use crate::vad::Activity;
use beep::{PROGRESS_HERTZ, Run, Sound, ToneDetector};

/// The number of active frames that make a word: 100 ms. A click or a cough is shorter.
const WORD: u32 = 5;
/// The longest pause in frames that still counts as speech: 200 ms.
const BREATH: u32 = 10;
/// The length of a beep in frames: 80 ms (a beep of 100 ms may not start at a frame boundary) to 5 s.
const BEEP: std::ops::RangeInclusive<u16> = 4..=250;
/// The frequency of a beep in Hz.
const BEEP_HERTZ: std::ops::RangeInclusive<f32> = 400.0..=2_500.0;
/// A tone with the frequency of a ringing, busy or dial tone that is longer than this number of frames is a progress
/// tone and not a beep.
const PROGRESS: u16 = 17;
/// The tone of a calling fax machine (ITU-T T.30 §4.3.3.3): 1,100 Hz for 0.5 s.
const CALLING_HERTZ: std::ops::RangeInclusive<f32> = 1_062.0..=1_138.0;
const CALLING: std::ops::RangeInclusive<u16> = 21..=29;
/// The tone of a called fax machine (ITU-T T.30 §4.3.3.2, V.8): 2,100 Hz for 2.6 s or more. A tone of so many frames is
/// not a beep; after speech it must be longer.
const CALLED_HERTZ: std::ops::RangeInclusive<f32> = 2_080.0..=2_120.0;
const CALLED: u16 = 25;
const CALLED_AFTER_SPEECH: u16 = 75;

/// The goal of a detection, and its thresholds and time limits.
///
/// | field | Twilio | Telnyx `answering_machine_detection_config` |
/// |---|---|---|
/// | `until` | `Enable`: verdict; `DetectMessageEnd`: greeting's end | `detect`: verdict; `greeting_end`, `detect_words`: greeting's end; `detect_beep`, `premium`: beep |
/// | `verdict_within` | `MachineDetectionTimeout` | `total_analysis_time_millis` |
/// | `initial_silence` | `MachineDetectionSilenceTimeout` | `initial_silence_millis` |
/// | `silence_is_machine` | false | true, but false for `premium` |
/// | `greeting` | `MachineDetectionSpeechThreshold` | `greeting_duration_millis` |
/// | `after_greeting_silence` | `MachineDetectionSpeechEndThreshold` | `after_greeting_silence_millis` |
/// | `between_words_silence` | default | `between_words_silence_millis` |
/// | `words` | none | `maximum_number_of_words` |
/// | `word` | none | `maximum_word_length_millis` |
/// | `silence_threshold` | default | `silence_threshold` |
/// | `greeting_end_silence` | `MachineDetectionSpeechEndThreshold` | `greeting_silence_duration_millis` |
/// | `greeting_end_within` | as `whole` | `greeting_total_analysis_time_millis` |
/// | `whole` | `MachineDetectionTimeout` | the two times together |
///
/// Times are rounded up to 20 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDetection {
    /// The event at which the detection ends.
    pub until: Until,
    /// After this time without a decision the result is [`MachineVerdict::NotSure`], or `Machine` if the far end is
    /// talking and has talked for half of `greeting`.
    pub verdict_within: Duration,
    /// After this time without a word the result is [`MachineVerdict::Silence`].
    pub initial_silence: Duration,
    /// The result after `initial_silence` is `Machine` instead.
    pub silence_is_machine: bool,
    /// More speech than this is a machine's greeting. Pauses of up to 200 ms count as speech, longer ones do not.
    pub greeting: Duration,
    /// After less speech than `greeting`, this silence means that a person has answered.
    pub after_greeting_silence: Duration,
    /// The silence that ends a word.
    pub between_words_silence: Duration,
    /// More words than this are a machine's greeting. A word has at least 100 ms.
    pub words: Option<u16>,
    /// A longer word is a machine's greeting (or music).
    pub word: Option<Duration>,
    /// A frame with a lower mean amplitude (of 32,767) counts as silence, whatever it contains.
    pub silence_threshold: u16,
    /// The silence that ends a machine's greeting.
    pub greeting_end_silence: Duration,
    /// The longest time from the result `Machine` to the greeting's end. After it, the end is [`GreetingEnd::Other`].
    pub greeting_end_within: Duration,
    /// The longest time of the whole detection, from the command to the greeting's end.
    pub whole: Duration,
}

/// The event at which a detection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The first result.
    Verdict,
    /// After `Machine`, the end of the greeting: a beep, or silence.
    GreetingEnd,
    /// After `Machine`, the beep; silence does not end the greeting.
    Beep,
}

impl Default for MachineDetection {
    fn default() -> MachineDetection {
        MachineDetection {
            until: Until::Verdict,
            verdict_within: Duration::from_secs(30),
            initial_silence: Duration::from_secs(5),
            silence_is_machine: false,
            greeting: Duration::from_millis(2_400),
            after_greeting_silence: Duration::from_millis(1_200),
            between_words_silence: Duration::from_millis(50),
            words: None,
            word: None,
            silence_threshold: 64,
            greeting_end_silence: Duration::from_millis(1_200),
            greeting_end_within: Duration::from_secs(30),
            whole: Duration::from_secs(30),
        }
    }
}

/// A result of the detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineVerdict {
    /// A person has answered. This is the last result.
    Human,
    /// A machine has answered and its greeting is playing. `GreetingEnded` follows, unless [`Until::Verdict`] was
    /// requested.
    Machine,
    /// The machine's greeting has ended: a message can be left. This is the last result.
    GreetingEnded {
        /// The reason for which the greeting ended.
        by: GreetingEnd,
    },
    /// A fax machine has answered. This is the last result.
    Fax,
    /// The time has expired without a decision. This is the last result.
    NotSure,
    /// The far end has not spoken. This is the last result.
    Silence,
}

/// The reasons for which a greeting can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GreetingEnd {
    /// A beep, which has ended too.
    Beep,
    /// Silence for `greeting_end_silence`.
    Silence,
    /// The time has expired.
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
    /// The number of frames handled.
    elapsed: u32,
    /// The number of active frames in the current word.
    word: u32,
    words: u32,
    /// The number of frames of speech.
    spoken: u32,
    /// The number of frames since the last active one.
    pause: u32,
}

/// The spec with times in frames, and the level in dBov.
#[derive(Debug)]
struct Figures {
    verdict_within: u32,
    initial_silence: u32,
    greeting: u32,
    after_greeting_silence: u32,
    between_words_silence: u32,
    words: u32,
    word: u32,
    silence_threshold: f32,
    greeting_end_silence: u32,
    greeting_end_within: u32,
    whole: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No word yet.
    Listening,
    /// A person or a machine is talking.
    Greeting,
    /// The result `Machine` was reported at frame `since`. If `then` is set, the next frame reports this end of the
    /// greeting.
    Machine { since: u32, then: Option<GreetingEnd> },
    /// The last result was reported.
    Over,
}

impl AnsweringMachine {
    /// A detection on frames at `rate`.
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

    /// The duration of the audio handled.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(20) * self.elapsed
    }

    /// Handles the next 20 ms and their voice activity. Returns a result if there is a new one.
    pub(crate) fn handle_frame(&mut self, samples: &[i16], activity: Activity) -> Option<MachineVerdict> {
        if self.is_over() {
            return None;
        }
        self.elapsed = self.elapsed.saturating_add(1);
        let sound = self.tones.handle_frame(samples, activity.level);
        let tone = matches!(sound, Sound::Tone(_) | Sound::Ending);
        self.count(activity.active && !tone && activity.level >= self.figures.silence_threshold);
        if self.is_fax(sound) {
            return self.last(MachineVerdict::Fax);
        }
        let beep = matches!(sound, Sound::Ended(run) if is_beep(&run));
        match self.phase {
            Phase::Listening if self.words > 0 => {
                self.phase = Phase::Greeting;
                None
            }
            Phase::Listening if self.elapsed >= self.figures.initial_silence => {
                if self.silence_is_machine {
                    self.machine(None)
                } else {
                    self.last(MachineVerdict::Silence)
                }
            }
            Phase::Listening if self.is_late() => self.last(MachineVerdict::NotSure),
            Phase::Greeting if beep => self.machine(Some(GreetingEnd::Beep)),
            Phase::Greeting if self.talks_like_a_machine() => self.machine(None),
            // A tone that has begun may be the beep.
            Phase::Greeting if !tone && self.pause >= self.figures.after_greeting_silence => {
                self.last(MachineVerdict::Human)
            }
            Phase::Greeting if self.is_late() => {
                if self.pause < BREATH && self.spoken >= self.figures.greeting / 2 {
                    self.machine(None)
                } else {
                    self.last(MachineVerdict::NotSure)
                }
            }
            Phase::Machine { then: Some(by), .. } => self.last(MachineVerdict::GreetingEnded { by }),
            Phase::Machine { .. } if beep => self.last(MachineVerdict::GreetingEnded { by: GreetingEnd::Beep }),
            Phase::Machine { since, .. } => {
                let silent = self.until == Until::GreetingEnd && !tone;
                if silent && self.pause >= self.figures.greeting_end_silence {
                    self.last(MachineVerdict::GreetingEnded { by: GreetingEnd::Silence })
                } else if self.elapsed - since >= self.figures.greeting_end_within || self.elapsed >= self.figures.whole
                {
                    self.last(MachineVerdict::GreetingEnded { by: GreetingEnd::Other })
                } else {
                    None
                }
            }
            Phase::Listening | Phase::Greeting | Phase::Over => None,
        }
    }

    /// Counts words and their duration.
    fn count(&mut self, speaks: bool) {
        if !speaks {
            self.pause = self.pause.saturating_add(1);
            if self.pause >= self.figures.between_words_silence {
                self.word = 0;
            }
            return;
        }
        if self.pause <= BREATH && self.spoken > 0 {
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
        self.elapsed >= self.figures.verdict_within.min(self.figures.whole)
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

    fn machine(&mut self, then: Option<GreetingEnd>) -> Option<MachineVerdict> {
        self.phase = match self.until {
            Until::Verdict => Phase::Over,
            Until::GreetingEnd | Until::Beep => Phase::Machine { since: self.elapsed, then },
        };
        self.pause = 0;
        Some(MachineVerdict::Machine)
    }

    fn last(&mut self, verdict: MachineVerdict) -> Option<MachineVerdict> {
        self.phase = Phase::Over;
        Some(verdict)
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
            verdict_within: frames(spec.verdict_within),
            initial_silence: frames(spec.initial_silence),
            greeting: frames(spec.greeting),
            after_greeting_silence: frames(spec.after_greeting_silence),
            between_words_silence: frames(spec.between_words_silence).max(1),
            words: spec.words.map_or(u32::MAX, u32::from),
            word: spec.word.map_or(u32::MAX, frames),
            silence_threshold: 20.0 * amplitude.log10(),
            greeting_end_silence: frames(spec.greeting_end_silence),
            greeting_end_within: frames(spec.greeting_end_within),
            whole: frames(spec.whole),
        }
    }
}

#[cfg(test)]
mod tests;
