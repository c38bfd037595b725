//! The log of a tested call: everything that happened, with its time on the virtual clock.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_id::LegId;

use super::expectation::Action;

/// One line of the log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Duration,
    /// The party that the line is about. Empty for the application.
    pub(super) party: String,
    pub(super) text: String,
    /// The part that an expectation can find.
    pub(super) fact: Fact,
}

/// A fact that an expectation can find.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// Only for people.
    Note,
    /// A party begins to hear speech.
    Speech(LegId),
    /// A party begins to hear a tone of this frequency in Hz.
    Tone(LegId, f64),
    /// A party hears these digits.
    Keys(LegId, String),
    /// The application did this. The texts are its name and its address.
    Action(Action, Vec<String>),
    /// The call of the caller has ended with this status.
    End(&'static str),
}

impl Entry {
    /// Returns the line for a transcript.
    pub(super) fn line(&self) -> String {
        let gap = if self.party.is_empty() { "" } else { " " };
        format!("{:9.3}  {}{gap}{}", self.at.as_secs_f64(), self.party, self.text)
    }

    pub(super) fn report(&self) -> Value {
        json!({ "at": self.at.as_secs_f64(), "party": self.party, "text": self.text })
    }
}

/// Returns the time that a voice needs for a text: 0.4 s a word, and at least 0.5 s.
pub(super) fn speaking_time(text: &str) -> Duration {
    let words = u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX);
    Duration::from_millis(400).saturating_mul(words.min(100_000)).max(Duration::from_millis(500))
}

/// Returns SSML without its elements.
pub(super) fn without_markup(text: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for one in text.chars() {
        match one {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                plain.push(' ');
            }
            one if !inside => plain.push(one),
            _ => {}
        }
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_needs_time_by_its_words_and_ssml_has_only_its_words() {
        assert_eq!(speaking_time("one two three"), Duration::from_millis(1200));
        assert_eq!(speaking_time(""), Duration::from_millis(500));
        assert_eq!(without_markup("Hello <break time=\"1s\"/>there <emphasis>you</emphasis>"), "Hello there you");
    }
}
