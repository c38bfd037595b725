//! The speech input of `Gather`, and the element `Transcription`.

use std::time::Duration;

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::GatherSpeech;
use tandem_call::recognition::RecognitionSpec;
use tandem_call::recording::Track;
use tandem_call::transcription::TranscriptionSpec;
use tandem_call::{Callback, StatusEvent};

use crate::code;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;
use crate::speech::{self, ENGINE, LANGUAGE, MODEL, TRACKS};

const SPEECH_TIMEOUT: u32 = 13327;
const MAX_SPEECH_TIME: u32 = 13328;
const AUTO_WITHOUT_MODEL: u32 = 13335;
/// Default maximum duration of speech in a `Gather`.
const LONGEST: Duration = Duration::from_secs(60);

/// Reads the speech input of a `Gather`. `digits` says whether the `Gather` also collects digits.
pub(super) fn gather(
    reader: &mut Reader<'_>,
    element: &Element,
    timeout: Duration,
    digits: bool,
) -> Result<Box<GatherSpeech>, FetchFailure> {
    let model = own(element, "speechModel");
    let pause = match element.attribute("speechTimeout").map(str::trim) {
        Some("auto") => {
            if model.as_deref().is_none_or(|model| model == "default") {
                reader.warn(
                    AUTO_WITHOUT_MODEL,
                    "<Gather> speechTimeout=\"auto\" requires a speechModel; it is accepted anyway",
                );
            }
            None
        }
        _ => Some(reader.seconds(element, "speechTimeout", 1..=3600, SPEECH_TIMEOUT).unwrap_or(timeout)),
    };
    let partials = reader.callback(element, "partialResultCallback", &[], &[StatusEvent::Completed], code::SCHEMA)?;
    let recognition = RecognitionSpec {
        language: Some(own(element, "language").unwrap_or_else(|| LANGUAGE.to_owned())),
        hints: speech::hints(element.attribute("hints").unwrap_or_default()),
        model: speech::model("", model.as_deref().unwrap_or_default()),
        partials: true,
        no_profanity: reader.flag(element, "profanityFilter", true, code::SCHEMA),
        punctuation: true,
        at_pauses: false,
        digits: speech::expects_digits(
            element.attribute("hints").unwrap_or_default(),
            model.as_deref().unwrap_or_default(),
        ),
    };
    let max_duration = reader.seconds(element, "maxSpeechTime", 1..=3600, MAX_SPEECH_TIME).unwrap_or(LONGEST);
    Ok(Box::new(GatherSpeech { recognition, pause, max_duration, partials, digits }))
}

/// Reads a `Transcription` in a `Start`.
pub(super) fn transcription(reader: &mut Reader<'_>, element: &Element) -> Result<TranscriptionSpec, FetchFailure> {
    for child in element.elements() {
        match reader.rule_in(child, element) {
            Some(rule) if rule.meaning == Meaning::Part => {}
            Some(_) => reader.misplaced(child, element),
            None => {}
        }
    }
    let method = reader.method(element, "statusCallbackMethod", code::SCHEMA);
    let target = reader.target(element.attribute("statusCallbackUrl"), method, code::BAD_URL)?;
    let engine = own(element, "transcriptionEngine").unwrap_or_else(|| ENGINE.to_owned());
    let model = own(element, "speechModel").unwrap_or_else(|| MODEL.to_owned());
    let recognition = RecognitionSpec {
        language: Some(own(element, "languageCode").unwrap_or_else(|| LANGUAGE.to_owned())),
        hints: speech::hints(element.attribute("hints").unwrap_or_default()),
        model: speech::model(&engine, &model),
        partials: reader.flag(element, "partialResults", false, code::SCHEMA),
        no_profanity: reader.flag(element, "profanityFilter", true, code::SCHEMA),
        punctuation: reader.flag(element, "enableAutomaticPunctuation", true, code::SCHEMA),
        ..RecognitionSpec::default()
    };
    Ok(TranscriptionSpec {
        name: own(element, "name"),
        track: reader.word(element, "track", &TRACKS, Track::Both, code::SCHEMA),
        recognition,
        labels: (own(element, "inboundTrackLabel"), own(element, "outboundTrackLabel")),
        engine: (engine, model),
        at_end: false,
        if_none_runs: false,
        callback: target.map(|target| Callback::new(target, vec![StatusEvent::Completed])),
    })
}

fn own(element: &Element, name: &str) -> Option<String> {
    element.attribute(name).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
}
