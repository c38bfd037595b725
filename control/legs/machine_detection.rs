//! Conversion of answering-machine detection between the types of the call model and the types of the media engine.

use tandem_call::machine_detection::{DetectionResult, GreetingEnd, MachineDetection, Until};
use tandem_media as media;

/// Converts the settings of a detection to the type of the media engine.
pub fn detection(spec: &MachineDetection) -> media::MachineDetection {
    media::MachineDetection {
        until: match spec.until {
            Until::Verdict => media::Until::Verdict,
            Until::GreetingEnd => media::Until::GreetingEnd,
            Until::Beep => media::Until::Beep,
        },
        verdict_within: spec.verdict_within,
        initial_silence: spec.initial_silence,
        silence_is_machine: spec.silence_is_machine,
        greeting: spec.greeting,
        after_greeting_silence: spec.after_greeting_silence,
        between_words_silence: spec.between_words_silence,
        words: spec.words,
        word: spec.word,
        silence_threshold: spec.silence_threshold,
        greeting_end_silence: spec.greeting_end_silence,
        greeting_end_within: spec.greeting_end_within,
        whole: spec.verdict_within.saturating_add(spec.greeting_end_within),
    }
}

/// Converts a detection result of the media engine to the type of the call model.
pub(crate) fn detection_result(verdict: media::MachineVerdict) -> DetectionResult {
    match verdict {
        media::MachineVerdict::Human => DetectionResult::Human,
        media::MachineVerdict::Machine => DetectionResult::Machine,
        media::MachineVerdict::Fax => DetectionResult::Fax,
        media::MachineVerdict::Silence => DetectionResult::Silence,
        media::MachineVerdict::NotSure => DetectionResult::NotSure,
        media::MachineVerdict::GreetingEnded { by } => DetectionResult::GreetingEnded(match by {
            media::GreetingEnd::Beep => GreetingEnd::Beep,
            media::GreetingEnd::Silence => GreetingEnd::Silence,
            media::GreetingEnd::Other => GreetingEnd::Time,
        }),
    }
}
