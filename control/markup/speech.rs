//! Speech attributes that documents and requests share.

use tandem_call::recording::Track;

/// Default language.
pub const LANGUAGE: &str = "en-US";
/// Default transcription engine. Events contain this name. The name does not select an engine.
pub const ENGINE: &str = "google";
/// Default speech model. Events contain this name. See [`ENGINE`].
pub const MODEL: &str = "telephony";
/// Names of the directions (tracks) in transcriptions.
pub const TRACKS: [(&str, Track); 3] = super::verb::stream::TRACKS;
/// Maximum number of hints. Further hints are ignored. Hints with more than `MAX_HINT` characters are also ignored.
const MAX_HINTS: usize = 500;
const MAX_HINT: usize = 100;

/// Reads a comma-separated list of hints. Tokens for classes of words (`$OOV_CLASS_...`) are dropped, because only the
/// provider of such a token knows its meaning.
pub fn hints(text: &str) -> Vec<String> {
    let hints = text.split(',').map(str::trim).filter(|hint| !hint.is_empty() && !hint.starts_with('$'));
    hints.filter(|hint| hint.chars().count() <= MAX_HINT).take(MAX_HINTS).map(str::to_owned).collect()
}

/// Whether a `Gather` with these hints and this model expects digits: the model is for numbers and commands, or a hint is
/// the token of a class of digits.
pub fn expects_digits(hints: &str, model: &str) -> bool {
    const CLASSES: [&str; 2] = ["$OOV_CLASS_DIGIT_SEQUENCE", "$OOV_CLASS_FULLPHONENUM"];
    model == "numbers_and_commands" || hints.split(',').any(|hint| CLASSES.contains(&hint.trim()))
}

/// Returns the name that the recogniser uses for a model. For example, the result is `nova-2` for the model `nova-2` of
/// the engine `deepgram`, and also for the model `deepgram_nova-2`. Returns `None` for the default model, and for
/// models of other providers, because the recogniser does not have the models of other providers.
pub fn model(engine: &str, model: &str) -> Option<String> {
    let own = model.strip_prefix("deepgram_").or_else(|| engine.eq_ignore_ascii_case("deepgram").then_some(model));
    own.filter(|model| !model.is_empty() && *model != MODEL).map(str::to_owned)
}
