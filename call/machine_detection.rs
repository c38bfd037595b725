//! Answering-machine detection on an outbound leg: its parameters and its results.
//!
//! ```text
//!   answered --DetectMachine--> listening --Human | Fax | Silence | NotSure--------------------> over
//!                                   \------Machine--(only the first result was requested)------> over
//!                                             \----- greeting continues --- GreetingEnded -----> over
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::call::Call;
use crate::event::{EventKind, MachineFacts};
use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::program::Input;
use crate::resume::Standing;
use tandem_id::{LegId, OpId};

/// Parameters of a detection, with the callback that receives the result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MachineDetection {
    /// The result with which the detection ends.
    pub until: Until,
    /// Maximum time until the first result. After this time the result is [`DetectionResult::NotSure`].
    pub first_result_timeout: Duration,
    /// Length of silence right after the answer that gives the result [`DetectionResult::Silence`].
    pub initial_silence: Duration,
    /// Whether silence after the answer gives the result [`DetectionResult::Machine`]. Otherwise it gives the result
    /// `Silence`.
    pub silence_is_machine: bool,
    /// Maximum length of a person's greeting. A longer greeting is the greeting of a machine.
    pub greeting: Duration,
    /// Length of silence after a person's greeting that gives the result [`DetectionResult::Human`].
    pub after_greeting_silence: Duration,
    /// Length of the silence that ends a word.
    pub between_words_silence: Duration,
    /// Maximum number of words in a person's greeting. More words give [`DetectionResult::Machine`].
    pub words: Option<u16>,
    /// Maximum length of one word. A longer word gives [`DetectionResult::Machine`].
    pub word: Option<Duration>,
    /// Threshold of silence, 0 to 32,767. Audio with a lower mean amplitude is silence.
    pub silence_threshold: u16,
    /// Length of the silence that ends the greeting of a machine.
    pub greeting_end_silence: Duration,
    /// Maximum time from the result `Machine` to the end of the greeting.
    pub greeting_end_timeout: Duration,
    /// Whether the leg's program waits for the last result. Otherwise the program runs during the detection.
    pub holds: bool,
    /// The callback that receives the last result.
    pub callback: Option<Callback>,
    /// The name that the dialect uses for the detection mode. The server does not interpret this name and returns it
    /// with the result.
    pub mode: Cow<'static, str>,
}

/// The result with which a detection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Until {
    /// The detection ends with the first result.
    FirstResult,
    /// If the first result is `Machine`, the detection ends when the greeting ends. A beep or silence ends the
    /// greeting.
    GreetingEnd,
    /// If the first result is `Machine`, the detection ends with the beep. Silence does not end the greeting.
    Beep,
}

impl MachineDetection {
    /// Creates a detection with four durations, which an application can set in a document or in a REST request. The
    /// leg's program does not wait for the result, and no callback is set.
    pub fn new(
        until: Until,
        within: Duration,
        greeting: Duration,
        after_greeting: Duration,
        initial_silence: Duration,
    ) -> Self {
        Self {
            until,
            first_result_timeout: within,
            initial_silence,
            silence_is_machine: false,
            greeting,
            after_greeting_silence: after_greeting,
            between_words_silence: Duration::from_millis(50),
            words: None,
            word: None,
            silence_threshold: 64,
            greeting_end_silence: after_greeting,
            greeting_end_timeout: within,
            holds: false,
            callback: None,
            mode: Cow::Borrowed(""),
        }
    }

    /// Returns whether this result is the last result of the detection.
    pub fn ends_with(&self, result: DetectionResult) -> bool {
        result != DetectionResult::Machine || self.until == Until::FirstResult
    }
}

/// Result of a detection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DetectionResult {
    /// A person answered.
    Human,
    /// A machine answered, and its greeting has started.
    Machine,
    /// The greeting of the machine has ended, so a message can be left.
    GreetingEnded(GreetingEnd),
    /// A fax machine answered.
    Fax,
    /// The far end is silent after the answer.
    Silence,
    /// The detection could not decide within the time limit.
    NotSure,
}

/// The way in which the end of a greeting was detected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum GreetingEnd {
    /// A beep ended the greeting.
    Beep,
    /// Silence ended the greeting.
    Silence,
    /// The end was not detected, because the time limit passed first.
    Time,
}

impl fmt::Display for DetectionResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "a person",
            Self::Machine => "a machine",
            Self::GreetingEnded(GreetingEnd::Beep) => "a machine, after its beep",
            Self::GreetingEnded(GreetingEnd::Silence) => "a machine, silent after its greeting",
            Self::GreetingEnded(GreetingEnd::Time) => "a machine, still talking",
            Self::Fax => "a fax machine",
            Self::Silence => "silence",
            Self::NotSure => "an unknown party",
        })
    }
}

/// The latest detection result of a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnsweredBy {
    /// The detection result.
    pub verdict: DetectionResult,
    /// Time from the start of the detection to the result. A detection starts at the answer or when a request starts
    /// it.
    pub after: Duration,
}

/// A detection that runs on a leg.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Detecting {
    op: OpId,
    spec: Box<MachineDetection>,
    /// Whether the actions after the answer still wait for this detection.
    pub(crate) holds: bool,
}

impl Detecting {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        standing.command(LegCommand::DetectMachine { op: self.op, spec: self.spec.clone() });
    }
}

impl LegCx<'_> {
    /// Starts a detection. A detection that already runs on the leg is replaced.
    pub(crate) fn detect_machine(&mut self, spec: Box<MachineDetection>) -> OpId {
        let op = self.new_op();
        self.command(LegCommand::DetectMachine { op, spec: spec.clone() });
        let holds = spec.holds;
        self.leg.detecting = Some(Detecting { op, spec, holds });
        op
    }
}

impl Call {
    /// Handles a detection result. After the last result, the actions that waited for the detection continue.
    pub(crate) fn machine_detected(&mut self, leg: LegId, op: OpId, result: DetectionResult, after: Duration) {
        let Some(state) = self.leg_state_mut(leg) else { return };
        let Some(detecting) = state.detecting.as_mut().filter(|detecting| detecting.op == op) else { return };
        let facts = MachineFacts { result, after, spec: detecting.spec.clone() };
        let over = facts.spec.ends_with(result);
        let held = over && detecting.holds && state.sending_digits.is_none();
        if over {
            state.detecting = None;
        }
        Arc::make_mut(&mut state.info).answered_by = Some(AnsweredBy { verdict: result, after });
        self.emit(leg, EventKind::MachineDetected(facts.clone()));
        if held {
            self.proceed(leg);
        }
        if over {
            self.handle_input(leg, Input::Detected { op, facts: Box::new(facts) });
        }
    }
}
