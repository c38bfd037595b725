//! Answering-machine detection: whether a person or a machine has answered, and when a machine's greeting is over.
//!
//! ```text
//!              word                 silence, few words          -> Human
//!   Listening -------> Greeting --- much speech, many words ----> Machine ---- beep, silence, time --> GreetingEnded
//!       |                  \------- beep after it --------------> Machine, GreetingEnded
//!       |--- nothing: Silence         time: NotSure
//!       \--- 1,100 or 2,100 Hz: Fax
//! ```
//!
//! A person says little and waits; a machine talks. All that is known of a frame is whether it is speech and whether
//! it is one tone, so the figures decide: see [`MachineDetection`]. Pure.

mod beep;
pub(crate) mod listener;

use std::time::Duration;

use crate::codec::SampleRate;
use crate::vad::Activity;
use beep::{PROGRESS_HERTZ, Run, Sound, ToneDetector};

/// Active frames that make a word, 100 ms: a click or a cough has fewer.
const WORD: u32 = 5;
/// Frames between words that still count as talking: 200 ms.
const BREATH: u32 = 10;
/// Frames of a beep: 80 ms (100 ms that do not begin with a frame) to 5 s.
const BEEP: std::ops::RangeInclusive<u16> = 4..=250;
/// A beep's frequency, Hz.
const BEEP_HERTZ: std::ops::RangeInclusive<f32> = 400.0..=2_500.0;
/// What is as low as ringing, busy and dial tones and lasts longer is one of them.
const PROGRESS: u16 = 17;
/// A calling fax machine (ITU-T T.30 §4.3.3.3): 1,100 Hz, 0.5 s.
const CALLING_HERTZ: std::ops::RangeInclusive<f32> = 1_062.0..=1_138.0;
const CALLING: std::ops::RangeInclusive<u16> = 21..=29;
/// A called one (ITU-T T.30 §4.3.3.2, V.8): 2,100 Hz for 2.6 s and more; so many frames tell it from a beep.
const CALLED_HERTZ: std::ops::RangeInclusive<f32> = 2_080.0..=2_120.0;
const CALLED: u16 = 25;
const CALLED_AFTER_SPEECH: u16 = 75;

/// What to find out, and by which figures.
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
    /// When it is over.
    pub until: Until,
    /// Undecided for so long: [`MachineVerdict::NotSure`], or `Machine` when the peer talks and has done so for half of
    /// `greeting`.
    pub verdict_within: Duration,
    /// No word for so long: [`MachineVerdict::Silence`].
    pub initial_silence: Duration,
    /// Then it is taken for a machine instead.
    pub silence_is_machine: bool,
    /// More speech than this is a machine's greeting. Pauses of up to 200 ms count as speech, longer ones do not.
    pub greeting: Duration,
    /// Silence after less speech than that, which makes it a person's.
    pub after_greeting_silence: Duration,
    /// Silence that ends a word.
    pub between_words_silence: Duration,
    /// More words than this are a machine's. A word has at least 100 ms.
    pub words: Option<u16>,
    /// A longer word is a machine's (or music).
    pub word: Option<Duration>,
    /// A frame whose mean amplitude (of 32,767) is lower is silence, whatever is in it.
    pub silence_threshold: u16,
    /// Silence after a machine's greeting that is its end.
    pub greeting_end_silence: Duration,
    /// From the verdict `Machine` to the greeting's end at most; then the end is [`GreetingEnd::Other`].
    pub greeting_end_within: Duration,
    /// Of verdict and greeting together.
    pub whole: Duration,
}

/// How far a detection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To the first verdict.
    Verdict,
    /// After `Machine`, to the greeting's end: a beep, or silence.
    GreetingEnd,
    /// After `Machine`, to the beep; silence does not end the greeting.
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

/// What was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineVerdict {
    /// A person. The last verdict.
    Human,
    /// A machine's greeting has begun. `GreetingEnded` follows unless only the verdict was asked for.
    Machine,
    /// The machine's greeting is over: a message can be left. The last verdict.
    GreetingEnded {
        /// What showed it.
        by: GreetingEnd,
    },
    /// A fax machine. The last verdict.
    Fax,
    /// Time is over. The last verdict.
    NotSure,
    /// Nobody said anything. The last verdict.
    Silence,
}

/// What ended a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GreetingEnd {
    /// A tone, which is over.
    Beep,
    /// `greeting_end_silence` passed.
    Silence,
    /// Time was over.
    Other,
}

/// A detection at work.
#[derive(Debug)]
pub(crate) struct AnsweringMachine {
    figures: Figures,
    until: Until,
    silence_is_machine: bool,
    tones: ToneDetector,
    phase: Phase,
    /// Frames heard.
    elapsed: u32,
    /// Active frames of the present word.
    word: u32,
    words: u32,
    /// Frames of speech.
    spoken: u32,
    /// Frames since the last active one.
    pause: u32,
}

/// The spec in frames, and the level in dBov.
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
    /// Nobody has said a word.
    Listening,
    /// Somebody or something talks.
    Greeting,
    /// It was a machine, decided at that frame; this verdict is told with the next frame.
    Machine { since: u32, then: Option<GreetingEnd> },
    /// The last verdict has been told.
    Over,
}

impl AnsweringMachine {
    /// For frames at `rate`.
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

    /// Frames come at another rate from now on.
    pub(crate) fn set_rate(&mut self, rate: SampleRate) {
        self.tones = ToneDetector::new(rate);
    }

    /// Whether the last verdict has been told.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// How much it has heard.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(20) * self.elapsed
    }

    /// Takes the next 20 ms and what is known of them.
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

    /// Counts words and how long they took.
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
            // What was before was not a word.
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
            // After speech it is a beep of that frequency.
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
