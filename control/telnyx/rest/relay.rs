//! Conversation Relay: `conversation_relay_start`, and `conversation_relay_config` of `answer` and `dial`. The caller
//! talks with an application that reads and writes text over a WebSocket.

use serde_json::Value;
use tandem_call::conversation::{ConversationSpec, ConversationTarget, Inputs, LanguageSettings};

use super::error::ApiError;
use super::parameters::Parameters;

/// Maximum length of the greeting, in characters.
const LONGEST: usize = 3_000;
/// Maximum number of languages.
const MAX_LANGUAGES: usize = 100;
/// Maximum number of parameters for the application.
const MAX_PARAMETERS: usize = 100;
/// Maximum number of words and phrases that the caller is likely to say, for each language.
const MAX_HINTS: usize = 500;
const SOCKET: &[&str] = &["ws", "wss"];
const ENGINES: &[&str] =
    &["Google", "Telnyx", "Deepgram", "Azure", "xAI", "AssemblyAI", "Speechmatics", "Soniox", "A", "B"];
/// The inputs of the caller that interrupt the speech.
const INTERRUPTIBLE: &[(&str, Inputs)] = &[
    ("none", Inputs::NONE),
    ("any", Inputs::ANY),
    ("speech", Inputs { digits: false, speech: true }),
    ("dtmf", Inputs { digits: true, speech: false }),
];

/// Parses the parameters of `conversation_relay_start`.
pub(super) fn start(parameters: Parameters<'_>) -> Result<ConversationSpec, ApiError> {
    // Telnyx publishes this parameter as not supported here.
    parameters.refuse_filled(&["transcription"])?;
    let nested = parameters.object("conversation_relay_settings")?;
    let inner =
        |result: Result<Option<String>, ApiError>| result.map_err(|error| error.within("conversation_relay_settings"));
    let url = parameters.url("url", SOCKET)?.or(parameters.url("conversation_relay_url", SOCKET)?);
    let url = url.or(inner(nested.url("url", SOCKET))?).ok_or_else(|| ApiError::missing("url"))?;
    let digits = match (parameters.get("dtmf_detection"), parameters.get("conversation_relay_dtmf_detection")) {
        (Some(_), _) => parameters.flag("dtmf_detection")?,
        (None, Some(_)) => parameters.flag("conversation_relay_dtmf_detection")?,
        (None, None) => nested.flag("dtmf_detection")?,
    };
    let assistant = parameters.object("assistant")?.object("dynamic_variables")?;
    spec(parameters, nested, assistant, url, digits)
}

/// Parses the object `conversation_relay_config`. `None` if there is no such object.
pub(super) fn config(parameters: Parameters<'_>) -> Result<Option<ConversationSpec>, ApiError> {
    const NAME: &str = "conversation_relay_config";
    if parameters.get(NAME).is_none() {
        return Ok(None);
    }
    let config = parameters.object(NAME)?;
    let parse = || {
        let url = config.url("url", SOCKET)?.ok_or_else(|| ApiError::missing("url"))?;
        let digits = config.flag("dtmf_detection")?;
        let nothing = config.object("")?;
        spec(config, nothing, nothing, url, digits)
    };
    parse().map(Some).map_err(|error: ApiError| error.within(NAME))
}

/// The conversation. A parameter in `top` takes precedence over the same parameter in `nested`. `variables` are values
/// for the application, in addition to `custom_parameters`.
fn spec(
    top: Parameters<'_>,
    nested: Parameters<'_>,
    variables: Parameters<'_>,
    url: String,
    digits: bool,
) -> Result<ConversationSpec, ApiError> {
    // The server has its own speech engines.
    top.text("tts_provider")?;
    top.text("provider")?;
    top.object("structured_provider")?;
    top.object("voice_settings")?;
    let interruptions = top.object("interruption_settings")?;
    let interrupted_by =
        first_word(&[(top, "interruptible"), (interruptions, "interruptible"), (nested, "interruptible")])?;
    let by_default = if interruptions.flag_or("enable", true)? { Inputs::ANY } else { Inputs::NONE };
    let interrupted_by = interrupted_by.unwrap_or(by_default);
    let greeting_interrupted_by = first_word(&[
        (top, "interruptible_greeting"),
        (interruptions, "interruptible_greeting"),
        (interruptions, "welcome_greeting_interruptible"),
        (nested, "interruptible_greeting"),
    ])?;
    let language = top.text("language")?.filter(|language| !language.is_empty()).unwrap_or("en");
    let languages = if top.get("languages").is_some() { languages(top)? } else { languages(nested)? };
    let mut parameters = Vec::new();
    for values in [variables, top.object("custom_parameters")?] {
        for (name, value) in values.0 {
            parameters.retain(|(known, _)| known != name);
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            parameters.push((name.clone(), text));
        }
    }
    if parameters.len() > MAX_PARAMETERS {
        return Err(ApiError::bad_value("custom_parameters", format!("At most {MAX_PARAMETERS} values may be given.")));
    }
    Ok(ConversationSpec {
        parameters,
        greeting: top.sized("greeting", 0..=LONGEST)?.filter(|text| !text.trim().is_empty()).map(str::to_owned),
        greeting_interrupted_by: greeting_interrupted_by.unwrap_or(by_default),
        speech_language: language.to_owned(),
        recognition_language: language.to_owned(),
        default_language_settings: settings(top)?,
        languages,
        interrupted_by,
        digits,
        partials: true,
        ..ConversationSpec::new(ConversationTarget::Application(url))
    })
}

/// The first of these parameters that is present.
fn first_word(places: &[(Parameters<'_>, &str)]) -> Result<Option<Inputs>, ApiError> {
    for (parameters, name) in places {
        if let Some(inputs) = parameters.word(name, INTERRUPTIBLE)? {
            return Ok(Some(inputs));
        }
    }
    Ok(None)
}

/// The settings of each language in `languages`.
fn languages(parameters: Parameters<'_>) -> Result<Vec<(String, LanguageSettings)>, ApiError> {
    const NAME: &str = "languages";
    let Some(value) = parameters.get(NAME) else { return Ok(Vec::new()) };
    let all = value.as_array().ok_or_else(|| ApiError::wrong_type(NAME, "array"))?;
    if all.len() > MAX_LANGUAGES {
        return Err(ApiError::bad_value(NAME, format!("At most {MAX_LANGUAGES} languages may be given.")));
    }
    let one = |entry: &Value| {
        let entry = entry.as_object().map(Parameters).ok_or_else(|| ApiError::wrong_type(NAME, "array"))?;
        entry.text("tts_provider")?;
        entry.text("transcription_provider")?;
        entry.object("voice_settings")?;
        Ok((entry.required("language")?.to_owned(), settings(entry)?))
    };
    all.iter().map(one).collect::<Result<_, _>>().map_err(|error: ApiError| error.within(NAME))
}

/// The voice, the model of the recogniser and the hints.
fn settings(parameters: Parameters<'_>) -> Result<LanguageSettings, ApiError> {
    let engine = parameters.check("transcription_engine", ENGINES)?;
    let config = parameters.object("transcription_engine_config")?;
    let model = config.text("transcription_model")?.or(parameters.text("speech_model")?);
    // Only the model names of Deepgram apply to this server's recogniser.
    let is_ours = engine == Some("Deepgram") || model.is_some_and(|model| model.starts_with("deepgram/"));
    let model = model.filter(|_| is_ours).map(|model| model.trim_start_matches("deepgram/").to_owned());
    let hints = config.get("hints").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let boosted = config.object("keywords_boosting")?.0.keys().map(String::as_str);
    Ok(LanguageSettings {
        voice: parameters.text("voice")?.map(str::to_owned),
        model,
        hints: hints.chain(boosted).take(MAX_HINTS).map(str::to_owned).collect(),
    })
}
