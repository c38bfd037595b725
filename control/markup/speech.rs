//! Words that documents and requests share when they speak of speech.

use tandem_call::recording::Track;

/// The language if none is named.
pub const LANGUAGE: &str = "en-US";
/// The recogniser and its model if none are named: only handed back.
pub const ENGINE: &str = "google";
/// See [`ENGINE`].
pub const MODEL: &str = "telephony";
/// Directions as transcriptions call them.
pub const TRACKS: [(&str, Track); 3] = super::verb::stream::TRACKS;
/// Most hints taken, and the longest, in characters; what is beyond is passed over.
const MAX_HINTS: usize = 500;
const MAX_HINT: usize = 100;

/// A comma-separated list. Tokens that stand for classes of words (`$OOV_CLASS_...`) mean nothing elsewhere.
pub fn hints(text: &str) -> Vec<String> {
    let hints = text.split(',').map(str::trim).filter(|hint| !hint.is_empty() && !hint.starts_with('$'));
    hints.filter(|hint| hint.chars().count() <= MAX_HINT).take(MAX_HINTS).map(str::to_owned).collect()
}

/// The recogniser's own name for a model: `nova-2` of the engine `deepgram`, or of `deepgram_nova-2`. Other providers' models
/// are not ours to ask for.
pub fn model(engine: &str, model: &str) -> Option<String> {
    let own = model.strip_prefix("deepgram_").or_else(|| engine.eq_ignore_ascii_case("deepgram").then_some(model));
    own.filter(|model| !model.is_empty() && *model != MODEL).map(str::to_owned)
}
