//! The parameters `answering_machine_detection` and `answering_machine_detection_config` of dial and transfer.

use std::time::Duration;

use tandem_call::machine_detection::{MachineDetection, Until};

use super::error::ApiError;
use super::parameters::Parameters;
use crate::machine_detection::Mode;

const MODES: &[(&str, Option<Mode>)] = &[
    ("premium", Some(Mode::Premium)),
    ("detect", Some(Mode::Detect)),
    ("detect_beep", Some(Mode::DetectBeep)),
    ("detect_words", Some(Mode::DetectWords)),
    ("greeting_end", Some(Mode::GreetingEnd)),
    ("disabled", None),
];
/// Maximum value of every duration, in ms.
const LONGEST: u32 = 120_000;
const CONFIG: &str = "answering_machine_detection_config";

/// The settings of answering machine detection. `None` if the request does not enable answering machine detection.
pub(super) fn detection(parameters: Parameters<'_>) -> Result<Option<MachineDetection>, ApiError> {
    let mode = parameters.word("answering_machine_detection", MODES)?.flatten();
    let config = parameters.object(CONFIG)?;
    let figures = |mode| figures(mode, config).map_err(|error| error.within(CONFIG));
    // The configuration is checked even if the request does not enable the detection.
    let (mode, is_requested) = (mode.unwrap_or(Mode::Detect), mode.is_some());
    figures(mode).map(|spec| is_requested.then_some(spec))
}

fn figures(mode: Mode, config: Parameters<'_>) -> Result<MachineDetection, ApiError> {
    let time = |name, default| -> Result<Duration, ApiError> {
        let given = config.milliseconds(name, 1..=LONGEST)?;
        Ok(given.unwrap_or(Duration::from_millis(default)))
    };
    let premium = mode == Mode::Premium;
    let (until, end_within) = match mode {
        Mode::Detect => (Until::FirstResult, 5_000),
        Mode::GreetingEnd => (Until::GreetingEnd, 5_000),
        // In these modes, only a beep ends the detection, and greetings are long.
        Mode::DetectBeep | Mode::DetectWords | Mode::Premium => (Until::Beep, 30_000),
    };
    let standard = MachineDetection {
        until,
        first_result_timeout: time("total_analysis_time_millis", if premium { 30_000 } else { 3_500 })?,
        initial_silence: time("initial_silence_millis", 3_500)?,
        silence_is_machine: true,
        greeting: time("greeting_duration_millis", 3_500)?,
        after_greeting_silence: time("after_greeting_silence_millis", 800)?,
        between_words_silence: time("between_words_silence_millis", 50)?,
        words: config
            .integer("maximum_number_of_words", 1..=1_000)?
            .or(Some(5))
            .and_then(|words| words.try_into().ok()),
        word: Some(time("maximum_word_length_millis", 3_500)?),
        silence_threshold: config.integer("silence_threshold", 0..=32_767)?.unwrap_or(256).try_into().unwrap_or(256),
        greeting_end_silence: time("greeting_silence_duration_millis", 1_500)?,
        greeting_end_timeout: time("greeting_total_analysis_time_millis", end_within)?,
        holds: false,
        callback: None,
        mode: mode.name().into(),
    };
    if !premium {
        return Ok(standard);
    }
    // Premium mode uses two of the durations. The detector chooses the other durations.
    let MachineDetection { first_result_timeout, greeting, .. } = standard;
    let milliseconds = Duration::from_millis;
    let spec = MachineDetection::new(until, first_result_timeout, greeting, milliseconds(800), milliseconds(3_500));
    Ok(MachineDetection { greeting_end_timeout: milliseconds(end_within), mode: mode.name().into(), ..spec })
}
