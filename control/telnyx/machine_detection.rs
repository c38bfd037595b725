//! Telnyx's modes of answering machine detection, and Telnyx's words for the results of the detection.

use tandem_call::event::MachineFacts;
use tandem_call::machine_detection::{DetectionResult, GreetingEnd};

/// The values of `answering_machine_detection`, except `disabled`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Premium,
    Detect,
    DetectBeep,
    DetectWords,
    GreetingEnd,
}

const MODES: [(&str, Mode); 5] = [
    ("premium", Mode::Premium),
    ("detect", Mode::Detect),
    ("detect_beep", Mode::DetectBeep),
    ("detect_words", Mode::DetectWords),
    ("greeting_end", Mode::GreetingEnd),
];

impl Mode {
    pub(super) fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("detect", |(name, _)| name)
    }
}

/// The event type, and the value of `result` in the event. `None` if this mode does not report the detection result.
pub(super) fn event_type_and_result(facts: &MachineFacts) -> Option<(&'static str, &'static str)> {
    let mode = MODES.iter().find(|(name, _)| *name == facts.spec.mode).map_or(Mode::Detect, |(_, mode)| *mode);
    if mode == Mode::Premium {
        return Some(match facts.result {
            // The audio does not show whether a residence or a business answered.
            DetectionResult::Human => (PREMIUM, "human_residence"),
            DetectionResult::Machine => (PREMIUM, "machine"),
            DetectionResult::Silence => (PREMIUM, "silence"),
            DetectionResult::Fax => (PREMIUM, "fax_detected"),
            DetectionResult::NotSure => (PREMIUM, "not_sure"),
            DetectionResult::GreetingEnded(GreetingEnd::Beep) => {
                ("call.machine.premium.greeting.ended", "beep_detected")
            }
            DetectionResult::GreetingEnded(_) => ("call.machine.premium.greeting.ended", "no_beep_detected"),
        });
    }
    let ended = |result| Some(("call.machine.greeting.ended", result));
    match facts.result {
        DetectionResult::Human => Some((STANDARD, "human")),
        DetectionResult::Machine => Some((STANDARD, "machine")),
        DetectionResult::Silence | DetectionResult::Fax | DetectionResult::NotSure => Some((STANDARD, "not_sure")),
        DetectionResult::GreetingEnded(GreetingEnd::Beep) => ended("beep_detected"),
        DetectionResult::GreetingEnded(_) if mode == Mode::DetectBeep => None,
        DetectionResult::GreetingEnded(GreetingEnd::Silence) => ended("ended"),
        DetectionResult::GreetingEnded(GreetingEnd::Time) => ended("not_sure"),
    }
}

const STANDARD: &str = "call.machine.detection.ended";
const PREMIUM: &str = "call.machine.premium.detection.ended";
