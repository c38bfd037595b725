//! Conversion of answering-machine detection between the types of the call model and the types of the media engine.

use tandem_call::machine_detection::{DetectionResult, GreetingEnd, MachineDetection, Until};
use tandem_media as media;

/// Converts the settings of a detection to the type of the media engine.
pub fn detection(spec: &MachineDetection) -> media::MachineDetection {
    media::MachineDetection {
        until: match spec.until {
            Until::FirstResult => media::Until::FirstResult,
            Until::GreetingEnd => media::Until::GreetingEnd,
            Until::Beep => media::Until::Beep,
        },
        first_result_timeout: spec.first_result_timeout,
        initial_silence: spec.initial_silence,
        silence_is_machine: spec.silence_is_machine,
        greeting: spec.greeting,
        after_greeting_silence: spec.after_greeting_silence,
        between_words_silence: spec.between_words_silence,
        words: spec.words,
        word: spec.word,
        silence_threshold: spec.silence_threshold,
        greeting_end_silence: spec.greeting_end_silence,
        greeting_end_timeout: spec.greeting_end_timeout,
        total_timeout: spec.first_result_timeout.saturating_add(spec.greeting_end_timeout),
    }
}

/// Converts a detection result of the media engine to the type of the call model.
pub(crate) fn detection_result(result: media::DetectionResult) -> DetectionResult {
    match result {
        media::DetectionResult::Human => DetectionResult::Human,
        media::DetectionResult::Machine => DetectionResult::Machine,
        media::DetectionResult::Fax => DetectionResult::Fax,
        media::DetectionResult::Silence => DetectionResult::Silence,
        media::DetectionResult::NotSure => DetectionResult::NotSure,
        media::DetectionResult::GreetingEnded { by } => DetectionResult::GreetingEnded(match by {
            media::GreetingEnd::Beep => GreetingEnd::Beep,
            media::GreetingEnd::Silence => GreetingEnd::Silence,
            media::GreetingEnd::Other => GreetingEnd::Time,
        }),
    }
}
