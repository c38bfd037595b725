//! Answering-machine detection on an outbound leg: its parameters and its results.
//!
//! ```text
//!   answered --DetectMachine--> listening --Human | Fax | Silence | NotSure--------------------> over
//!                                   \------Machine--(only the first result was requested)------> over
//!                                             \----- greeting goes on ----- GreetingEnded -----> over
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::call::Call;
use crate::event::{EventKind, MachineFacts};
use crate::id::{LegId, OpId};
use crate::output::LegCommand;
use crate::program::Signal;

/// Parameters of a detection, and who receives its result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineDetection {
    /// The result with which the detection ends.
    pub until: Until,
    /// Maximum time until the first result; after it the result is [`DetectionResult::NotSure`].
    pub verdict_within: Duration,
    /// Silence after the answer for this long gives [`DetectionResult::Silence`].
    pub initial_silence: Duration,
    /// Whether initial silence gives [`DetectionResult::Machine`] instead.
    pub silence_is_machine: bool,
    /// Longest greeting of a person; more speech is the greeting of a machine.
    pub greeting: Duration,
    /// Silence of this length after a shorter greeting gives [`DetectionResult::Human`].
    pub after_greeting_silence: Duration,
    /// The silence that ends a word.
    pub between_words_silence: Duration,
    /// Maximum number of words of a person's greeting; more words give [`DetectionResult::Machine`].
    pub words: Option<u16>,
    /// Maximum length of a word; a longer word gives [`DetectionResult::Machine`].
    pub word: Option<Duration>,
    /// Audio with a lower mean amplitude is silence; 0 to 32,767.
    pub silence_threshold: u16,
    /// Silence of this length ends a machine's greeting.
    pub greeting_end_silence: Duration,
    /// Maximum time from `Machine` to the end of the greeting.
    pub greeting_end_within: Duration,
    /// Whether the leg's program waits for the last result. Otherwise it runs meanwhile.
    pub holds: bool,
    /// The callback that receives the last result.
    pub callback: Option<Callback>,
    /// The dialect's name of the detection mode. It is returned with the result and not interpreted.
    pub mode: &'static str,
}

/// The result with which a detection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// The first result.
    Verdict,
    /// After `Machine`, the end of the greeting: a beep, or silence.
    GreetingEnd,
    /// After `Machine`, the beep; silence does not end the greeting.
    Beep,
}

impl MachineDetection {
    /// Creates a detection from the four durations that documents and REST parameters have. The leg's program does not
    /// wait for the result, and there is no callback.
    pub fn new(
        until: Until,
        within: Duration,
        greeting: Duration,
        after_greeting: Duration,
        initial_silence: Duration,
    ) -> Self {
        Self {
            until,
            verdict_within: within,
            initial_silence,
            silence_is_machine: false,
            greeting,
            after_greeting_silence: after_greeting,
            between_words_silence: Duration::from_millis(50),
            words: None,
            word: None,
            silence_threshold: 64,
            greeting_end_silence: after_greeting,
            greeting_end_within: within,
            holds: false,
            callback: None,
            mode: "",
        }
    }

    /// Returns whether this result is the last one.
    pub fn ends_with(&self, verdict: DetectionResult) -> bool {
        verdict != DetectionResult::Machine || self.until == Until::Verdict
    }
}

/// Result of a detection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DetectionResult {
    /// A person.
    Human,
    /// A machine; its greeting has started.
    Machine,
    /// A machine; its greeting has ended, so a message can be left.
    GreetingEnded(GreetingEnd),
    /// A fax machine.
    Fax,
    /// Silence after the answer.
    Silence,
    /// No decision in time.
    NotSure,
}

/// How the end of a greeting was detected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum GreetingEnd {
    /// By a beep.
    Beep,
    /// By silence.
    Silence,
    /// Not detected: the time limit passed.
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
    /// The result.
    pub verdict: DetectionResult,
    /// Time from the start of the detection, at the answer or by request, to the result.
    pub after: Duration,
}

/// A detection that runs on a leg.
#[derive(Debug)]
pub(crate) struct Detecting {
    op: OpId,
    spec: Box<MachineDetection>,
    /// Whether what follows the answer still waits for this detection.
    pub(crate) holds: bool,
}

impl Call {
    /// Starts a detection on a leg. It replaces an earlier one.
    pub(crate) fn detect_machine(&mut self, leg: LegId, spec: Box<MachineDetection>) -> OpId {
        let op = self.new_op();
        self.order(leg, LegCommand::DetectMachine { op, spec: spec.clone() });
        if let Some(party) = self.party_mut(leg) {
            let holds = spec.holds;
            party.detecting = Some(Detecting { op, spec, holds });
        }
        op
    }

    /// Handles a detection result. The last result resumes what waited for it.
    pub(crate) fn machine_detected(&mut self, leg: LegId, op: OpId, verdict: DetectionResult, after: Duration) {
        let Some(party) = self.party_mut(leg) else { return };
        let Some(detecting) = party.detecting.as_mut().filter(|detecting| detecting.op == op) else { return };
        let facts = MachineFacts { verdict, after, spec: detecting.spec.clone() };
        let over = facts.spec.ends_with(verdict);
        let held = over && detecting.holds && party.sending_digits.is_none();
        if over {
            party.detecting = None;
        }
        Arc::make_mut(&mut party.info).answered_by = Some(AnsweredBy { verdict, after });
        self.emit(leg, EventKind::MachineDetected(facts.clone()));
        if held {
            self.proceed(leg);
        }
        if over {
            self.signal(leg, Signal::Detected { op, facts: Box::new(facts) });
        }
    }
}
