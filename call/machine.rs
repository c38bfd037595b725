//! Answering-machine detection: what is to be found out about who answered a leg that we called, and what was.
//!
//! ```text
//!   answered --DetectMachine--> listening --Human | Fax | Silence | NotSure--------------------> over
//!                                   \------Machine--(only the verdict was asked for)-----------> over
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

/// What to find out, by which figures, and who waits for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineDetection {
    /// When it is over.
    pub until: Until,
    /// Undecided for so long: [`Verdict::NotSure`].
    pub verdict_within: Duration,
    /// No word for so long: [`Verdict::Silence`].
    pub initial_silence: Duration,
    /// Then it is taken for a machine instead.
    pub silence_is_machine: bool,
    /// More speech than this is a machine's greeting.
    pub greeting: Duration,
    /// Silence after less speech than that, which makes it a person's.
    pub after_greeting_silence: Duration,
    /// Silence that ends a word.
    pub between_words_silence: Duration,
    /// More words than this are a machine's.
    pub words: Option<u16>,
    /// A longer word is a machine's.
    pub word: Option<Duration>,
    /// Audio of a lower mean amplitude (of 32,767) is silence.
    pub silence_threshold: u16,
    /// Silence after a machine's greeting that is its end.
    pub greeting_end_silence: Duration,
    /// From the verdict `Machine` to the greeting's end at most.
    pub greeting_end_within: Duration,
    /// Its document waits for the last verdict; otherwise the leg goes on meanwhile.
    pub holds: bool,
    /// Told of the last verdict.
    pub callback: Option<Callback>,
    /// The name that its dialect has for it; it is handed back with what was found out, and not looked at.
    pub mode: &'static str,
}

/// How far a detection goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// To the first verdict.
    Verdict,
    /// After `Machine`, to the greeting's end: a beep, or silence.
    GreetingEnd,
    /// After `Machine`, to the beep; silence does not end the greeting.
    Beep,
}

impl MachineDetection {
    /// By the four figures that documents and forms know; it holds nothing up and is told to nobody.
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

    /// Whether nothing follows this verdict.
    pub fn ends_with(&self, verdict: Verdict) -> bool {
        verdict != Verdict::Machine || self.until == Until::Verdict
    }
}

/// Who answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// A person.
    Human,
    /// A machine, whose greeting has begun.
    Machine,
    /// A machine, whose greeting is over: a message can be left.
    GreetingEnded(GreetingEnd),
    /// A fax machine.
    Fax,
    /// Nobody said anything.
    Silence,
    /// It could not be told in time.
    NotSure,
}

/// What showed that a greeting is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum GreetingEnd {
    /// Its beep.
    Beep,
    /// Silence after it.
    Silence,
    /// Nothing: the time was up.
    Time,
}

impl fmt::Display for Verdict {
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

/// Who answered a leg, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnsweredBy {
    /// Who.
    pub verdict: Verdict,
    /// How long after the answer that was known.
    pub after: Duration,
}

/// A detection under way on a leg.
#[derive(Debug)]
pub(crate) struct Detecting {
    op: OpId,
    spec: Box<MachineDetection>,
    /// What was to follow the answer still waits.
    pub(crate) holds: bool,
}

impl Call {
    /// An earlier detection of the leg ends.
    pub(crate) fn detect_machine(&mut self, leg: LegId, spec: Box<MachineDetection>) -> OpId {
        let op = self.new_op();
        self.order(leg, LegCommand::DetectMachine { op, spec: spec.clone() });
        if let Some(party) = self.party_mut(leg) {
            let holds = spec.holds;
            party.detecting = Some(Detecting { op, spec, holds });
        }
        op
    }

    /// A verdict. What waited for the last one goes on.
    pub(crate) fn machine_detected(&mut self, leg: LegId, op: OpId, verdict: Verdict, after: Duration) {
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
