//! The element `ConversationRelay` in a `Connect`. The caller talks with an application that reads and writes text.

use tandem_call::conversation::{ConversationSpec, ConversationTarget, Inputs, LanguageSettings, Sensitivity};
use tandem_call::fetch::FetchFailure;

use super::stream;
use crate::element::Element;
use crate::flavour::Meaning;
use crate::reader::Reader;

/// Error number of an unusable attribute value.
const BAD_VALUE: u32 = 64101;
/// Maximum number of hints per language.
const MAX_HINTS: usize = 500;
/// Inputs of the caller that may interrupt the server's speech.
const INPUTS: [(&str, Inputs); 6] = [
    ("none", Inputs::NONE),
    ("dtmf", Inputs { digits: true, speech: false }),
    ("speech", Inputs { digits: false, speech: true }),
    ("any", Inputs::ANY),
    ("true", Inputs::ANY),
    ("false", Inputs::NONE),
];
const SENSITIVITIES: [(&str, Sensitivity); 3] =
    [("low", Sensitivity::Low), ("medium", Sensitivity::Medium), ("high", Sensitivity::High)];

/// Reads a `ConversationRelay`. If the element has no usable URL, warns and returns `None`.
pub(crate) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Option<ConversationSpec>, FetchFailure> {
    let text = element.attribute("url").map(str::trim).unwrap_or_default();
    if text.is_empty() {
        reader.warn(BAD_VALUE, format!("<{}> without a url was skipped", element.name));
        return Ok(None);
    }
    let Some(url) = reader.websocket_url(text)? else { return Ok(None) };
    let language = word(element, "language").unwrap_or(reader.defaults().conversation_language);
    let mut languages = Vec::new();
    for child in element.elements() {
        let Some(rule) = reader.rule_in(child, element) else { continue };
        match (rule.meaning, rule.name, word(child, "code")) {
            (Meaning::Part, "Language", Some(code)) => languages.push((code.to_owned(), language_settings(child))),
            (Meaning::Part, "Language", None) => reader.warn(BAD_VALUE, "<Language> without a code was skipped"),
            (Meaning::Part, "Parameter", _) => {}
            _ => reader.misplaced(child, element),
        }
    }
    let parameters = stream::parameters(reader, element);
    let events: Vec<&str> =
        ["debug", "events"].iter().filter_map(|name| element.attribute(name)).flat_map(words).collect();
    let mut inputs = |name, default| reader.word(element, name, &INPUTS, default, BAD_VALUE);
    let (greeting_interrupted_by, interrupted_by) =
        (inputs("welcomeGreetingInterruptible", Inputs::ANY), inputs("interruptible", Inputs::ANY));
    let reports = inputs("reportInputDuringAgentSpeech", Inputs::NONE);
    Ok(Some(ConversationSpec {
        with: ConversationTarget::Application(url),
        id: None,
        parameters,
        greeting: element.attribute("welcomeGreeting").filter(|text| !text.trim().is_empty()).map(str::to_owned),
        greeting_interrupted_by,
        speech_language: word(element, "ttsLanguage").unwrap_or(language).to_owned(),
        recognition_language: word(element, "transcriptionLanguage").unwrap_or(language).to_owned(),
        default_language_settings: language_settings(element),
        languages,
        interrupted_by,
        reports,
        sensitivity: reader.word(element, "interruptSensitivity", &SENSITIVITIES, Sensitivity::High, BAD_VALUE),
        words_decide_interruption: reader.flag(element, "ignoreBackchannel", false, BAD_VALUE),
        digits: reader.flag(element, "dtmfDetection", false, BAD_VALUE),
        preemptible: reader.flag(element, "preemptible", false, BAD_VALUE),
        partials: reader.flag(element, "partialPrompts", reader.defaults().partial_prompts, BAD_VALUE),
        no_profanity: reader.flag(element, "profanityFilter", reader.defaults().masks_profanity, BAD_VALUE),
        reports_speakers: events.contains(&"speaker-events"),
        reports_played: events.contains(&"tokens-played"),
    }))
}

/// Reads the voice, the speech model and the hints for a language.
fn language_settings(element: &Element) -> LanguageSettings {
    let hints =
        element.attribute("hints").unwrap_or_default().split(',').map(str::trim).filter(|hint| !hint.is_empty());
    LanguageSettings {
        voice: word(element, "voice").map(str::to_owned),
        model: word(element, "speechModel").map(str::to_owned),
        hints: hints.take(MAX_HINTS).map(str::to_owned).collect(),
    }
}

fn word<'e>(element: &'e Element, name: &str) -> Option<&'e str> {
    element.attribute(name).map(str::trim).filter(|word| !word.is_empty())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty())
}
