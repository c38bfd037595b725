//! Speech attributes that documents and requests share.

use tandem_call::recording::Track;

/// Default language.
pub const LANGUAGE: &str = "en-US";
/// Default transcription engine. Events name it; it selects nothing.
pub const ENGINE: &str = "google";
/// Default speech model. See [`ENGINE`].
pub const MODEL: &str = "telephony";
/// Names of the directions in transcriptions.
pub const TRACKS: [(&str, Track); 3] = super::verb::stream::TRACKS;
/// Maximum number of hints, and of characters in a hint. Further hints and longer ones are ignored.
const MAX_HINTS: usize = 500;
const MAX_HINT: usize = 100;

/// Reads a comma-separated list of hints. Tokens for classes of words (`$OOV_CLASS_...`) are dropped, because only
/// their own provider knows them.
pub fn hints(text: &str) -> Vec<String> {
    let hints = text.split(',').map(str::trim).filter(|hint| !hint.is_empty() && !hint.starts_with('$'));
    hints.filter(|hint| hint.chars().count() <= MAX_HINT).take(MAX_HINTS).map(str::to_owned).collect()
}

/// Returns the name under which the recogniser knows a model: `nova-2` for the engine `deepgram`, or for the model
/// `deepgram_nova-2`. Returns `None` for the models of other providers, which the recogniser does not have.
pub fn model(engine: &str, model: &str) -> Option<String> {
    let own = model.strip_prefix("deepgram_").or_else(|| engine.eq_ignore_ascii_case("deepgram").then_some(model));
    own.filter(|model| !model.is_empty() && *model != MODEL).map(str::to_owned)
}
