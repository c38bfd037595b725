//! What a recogniser of speech is asked for, and what it hears.

use serde::{Deserialize, Serialize};

/// How to listen. A recogniser does what it can of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Listening {
    /// BCP 47 language that is spoken; the recogniser's own choice if `None`.
    pub language: Option<String>,
    /// Words and phrases that are likely.
    pub hints: Vec<String>,
    /// The recogniser's model, in its own words; the configured one if `None`.
    pub model: Option<String>,
    /// Words are told before they are final.
    pub partials: bool,
    /// Profanity is not spelled out.
    pub no_profanity: bool,
    /// Words come with punctuation.
    pub punctuation: bool,
    /// Every pause is followed by the final words until then as soon as the recogniser knows them, if need be by none; what is said
    /// after it is an utterance of its own. Where somebody goes on before they are known, within half a second, they come with the next pause.
    #[serde(default)]
    pub at_pauses: bool,
}

/// Something heard. `Began` and `Paused` alternate, beginning with `Began`; words follow when they are known, at times long
/// after the pause.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    /// Somebody speaks.
    Began,
    /// Nobody does any more: about 200 ms after the last sound.
    Paused,
    /// What the utterance seems to be so far.
    Partial(Words),
    /// What the utterance was; words of the next one follow. May be empty: a noise.
    Final(Words),
}

/// Words heard.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Words {
    /// Those that will not change.
    pub stable: String,
    /// Those that may still; none of a final utterance.
    pub unstable: String,
    /// How likely the unstable ones are to stay, 0 to 1.
    pub stability: Option<f32>,
    /// How sure the recogniser is, 0 to 1; not every one tells.
    pub confidence: Option<f32>,
    /// The language that was heard, if the recogniser tells.
    pub language: Option<String>,
}

impl Words {
    /// All of them.
    pub fn text(&self) -> String {
        joined(&self.stable, &self.unstable)
    }
}

/// Two pieces of a sentence, with a space between where both are something.
pub fn joined(one: &str, other: &str) -> String {
    let (one, other) = (one.trim(), other.trim());
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other.to_owned(),
        (_, true) => one.to_owned(),
        _ => format!("{one} {other}"),
    }
}
