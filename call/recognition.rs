//! Speech recognition: the parameters of a recogniser and its results.

use serde::{Deserialize, Serialize};

/// Parameters of a recognition. A recogniser ignores parameters that it does not support.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecognitionSpec {
    /// BCP 47 tag of the spoken language. If `None`, the recogniser chooses the language.
    pub language: Option<String>,
    /// Words and phrases that the speaker is likely to say.
    pub hints: Vec<String>,
    /// The name that the recogniser uses for the model. If `None`, the configured model is used.
    pub model: Option<String>,
    /// Whether words are reported before they are final.
    pub partials: bool,
    /// Whether profanity in the recognised words is masked.
    pub no_profanity: bool,
    /// Whether punctuation is added to the recognised words.
    pub punctuation: bool,
    /// Whether the recogniser reports the final words after every pause, as soon as the words are known. If there are
    /// no words, the recogniser reports an empty text. Speech after the pause is a separate utterance. If the speaker
    /// continues within half a second and before the words are known, the words are reported only after the next pause.
    #[serde(default)]
    pub at_pauses: bool,
    /// Whether the speaker is likely to say digits, such as an account number. The recogniser then prefers digits to
    /// words that sound alike.
    #[serde(default)]
    pub digits: bool,
}

/// An event of a recognition. `Began` and `Paused` alternate, and `Began` is the first of them. Words are reported when
/// they are known. This may be long after the pause.
#[derive(Clone, PartialEq, Debug)]
pub enum RecognitionEvent {
    /// Speech started.
    Began,
    /// Speech stopped. This event comes about 200 ms after the last sound.
    Paused,
    /// The words of the current utterance that are recognised so far. The text is empty if the recogniser withdraws its
    /// words.
    Partial(RecognisedText),
    /// The words of a complete utterance. Later words belong to the next utterance. The text is empty if the sound was
    /// only noise.
    Final(RecognisedText),
}

/// Returns the number as a person writes it: 0.97 and not 0.9700000286102296, which is the nearest `f32` to 0.97. JSON
/// and forms that show an `f32` use this function.
pub fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

/// Recognised text.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RecognisedText {
    /// The part of the text that will not change.
    pub stable: String,
    /// The part of the text that may still change. Empty in a final utterance.
    pub unstable: String,
    /// Probability that `unstable` will not change, 0 to 1.
    pub stability: Option<f32>,
    /// Confidence of the recogniser in the text, 0 to 1. `None` if the recogniser does not report a confidence.
    pub confidence: Option<f32>,
    /// The detected language, if the recogniser reports a language.
    pub language: Option<String>,
    /// Probability that the speaker has finished, 0 to 1, if the recogniser estimates this at a pause.
    #[serde(default)]
    pub end_of_turn: Option<f32>,
}

impl RecognisedText {
    /// Returns the whole text: the stable part and then the unstable part.
    pub fn text(&self) -> String {
        joined(&self.stable, &self.unstable)
    }

    /// Returns the confidence with 6 decimals. The conversion of an `f32` alone would add digits that the recogniser did
    /// not report, such as 0.9700000286.
    pub fn decimal_confidence(&self) -> Option<f64> {
        self.confidence.map(|confidence| (f64::from(confidence) * 1e6).round() / 1e6)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_number_has_the_digits_of_the_f32() {
        for (number, expected) in [(0.97_f32, 0.97), (0.9, 0.9), (0.1 + 0.2, 0.3), (1.0, 1.0), (0.0, 0.0), (4.41, 4.41)]
        {
            assert_eq!(decimal(number).to_string(), f64::to_string(&expected));
        }
        assert!(decimal(f32::NAN).is_nan());
    }
}
