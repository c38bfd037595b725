//! Speech recognition: the parameters of a recogniser and its results.

use serde::{Deserialize, Serialize};

/// Parameters of a recognition. A recogniser applies those that it supports.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecognitionSpec {
    /// BCP 47 tag of the spoken language; the recogniser chooses if `None`.
    pub language: Option<String>,
    /// Words and phrases that are likely to occur.
    pub hints: Vec<String>,
    /// The recogniser's name of the model to use; the configured model if `None`.
    pub model: Option<String>,
    /// Report words before they are final.
    pub partials: bool,
    /// Mask profanity.
    pub no_profanity: bool,
    /// Add punctuation.
    pub punctuation: bool,
    /// Report the final words after every pause as soon as they are known, even if there are none. Speech after the
    /// pause is a separate utterance. If the speaker continues within half a second and before the words are known,
    /// they are reported after the next pause.
    #[serde(default)]
    pub at_pauses: bool,
}

/// An event of a recognition. `Began` and `Paused` alternate, starting with `Began`. Words are reported when they are
/// known, sometimes long after the pause.
#[derive(Clone, PartialEq, Debug)]
pub enum RecognitionEvent {
    /// Speech started.
    Began,
    /// Speech stopped: reported about 200 ms after the last sound.
    Paused,
    /// The current utterance as recognised so far.
    Partial(RecognisedText),
    /// The complete utterance; the following words belong to the next one. Empty if the sound was only noise.
    Final(RecognisedText),
}

/// Recognised text.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RecognisedText {
    /// The part that will not change.
    pub stable: String,
    /// The part that may still change; empty in a final utterance.
    pub unstable: String,
    /// Probability that `unstable` stays as it is, 0 to 1.
    pub stability: Option<f32>,
    /// Confidence of the recogniser, 0 to 1; `None` if the recogniser does not report it.
    pub confidence: Option<f32>,
    /// The detected language, if the recogniser reports it.
    pub language: Option<String>,
}

impl RecognisedText {
    /// Returns the stable and the unstable part together.
    pub fn text(&self) -> String {
        joined(&self.stable, &self.unstable)
    }
}

/// Joins two parts of a sentence, with a space between them if neither is empty.
pub fn joined(one: &str, other: &str) -> String {
    let (one, other) = (one.trim(), other.trim());
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other.to_owned(),
        (_, true) => one.to_owned(),
        _ => format!("{one} {other}"),
    }
}
