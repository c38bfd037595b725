//! Decides what the caller's words mean for turn-taking. This module is pure: it has no I/O and reads no clock. The
//! comparison of words ignores case, punctuation and surrounding spaces.

use std::time::Duration;

/// Words that a listener says only to show attention, in English, German, French, Spanish, Italian, Portuguese and
/// Dutch.
const AGREEMENT: [&str; 62] = [
    "ok", "okay", "yes", "yeah", "yep", "yup", "mhm", "mm", "mmm", "hm", "hmm", "mm-hmm", "mmhmm", "uh", "uh-huh",
    "uhhuh", "aha", "ah", "oh", "right", "sure", "alright", "exactly", "great", "good", "fine", "perfect", "true",
    "indeed", "ja", "jo", "genau", "gut", "klar", "stimmt", "aha", "achso", "oui", "ouais", "daccord", "d'accord",
    "bien", "voilà", "si", "sí", "vale", "claro", "bueno", "sì", "certo", "va", "bene", "sim", "certo", "tá", "goed",
    "oké", "precies", "i", "see", "got", "it",
];
/// Words after which a speaker usually continues.
const UNFINISHED: [&str; 56] = [
    "um", "uhm", "uh", "er", "erm", "ehm", "äh", "ähm", "euh", "eh", "and", "or", "but", "so", "because", "if", "when",
    "that", "the", "a", "an", "my", "your", "to", "of", "for", "with", "in", "on", "at", "from", "is", "und", "oder",
    "aber", "weil", "wenn", "dass", "der", "die", "das", "ein", "eine", "mein", "et", "ou", "mais", "le", "la", "un",
    "une", "y", "o", "pero", "el", "que",
];
/// Short answers that are complete.
const COMPLETE_ANSWERS: [&str; 16] = [
    "yes", "no", "yeah", "nope", "yep", "ok", "okay", "sure", "thanks", "ja", "nein", "oui", "non", "si", "sí", "hello",
];

/// Probability below which the caller has probably not finished, and above which he probably has.
const END_OF_TURN: (f32, f32) = (0.3, 0.7);

/// Returns the length of the pause after which the turn of the calling party is complete. `text` is the last recognised text.
/// `end_of_turn` is the recogniser's probability that the caller has finished. Words that need a continuation, and digits, take
/// precedence over a high probability.
pub(crate) fn wait_after(text: &str, end_of_turn: Option<f32>) -> Duration {
    let wait = wait_after_words(text);
    match end_of_turn {
        Some(probability) if probability < END_OF_TURN.0 => wait.max(Duration::from_millis(1_000)),
        Some(probability) if probability > END_OF_TURN.1 && wait <= Duration::from_millis(300) => {
            Duration::from_millis(50)
        }
        _ => wait,
    }
}

fn wait_after_words(text: &str) -> Duration {
    let text = text.trim();
    let last = text.split_whitespace().next_back().map(bare).unwrap_or_default();
    let only = bare(text);
    Duration::from_millis(if UNFINISHED.contains(&last.as_str()) || text.ends_with([',', '-', '…']) {
        1_000
    } else if last.chars().any(|one| one.is_ascii_digit()) || last.chars().count() == 1 && last != "i" {
        600
    } else if text.ends_with(['.', '?', '!', '。', '？', '！']) || COMPLETE_ANSWERS.contains(&only.as_str()) {
        50
    } else {
        300
    })
}

/// Whether the words only show that the caller listens: one to three words, all from `AGREEMENT`.
pub fn is_agreement(text: &str) -> bool {
    let words: Vec<String> = text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect();
    (1..=3).contains(&words.len()) && words.iter().all(|word| AGREEMENT.contains(&word.as_str()))
}

/// Whether the words are an echo of the agent. An echo consists of two or more words that occur, in the same order, in
/// the text that the agent says.
pub fn is_echo<'a>(text: &str, says: impl Iterator<Item = &'a str>) -> bool {
    let plain = |text: &str| text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let transcript = plain(text);
    let spoken: Vec<String> = says.flat_map(plain).collect();
    transcript.len() >= 2 && spoken.windows(transcript.len()).any(|part| part == transcript)
}

/// Returns a word in lower case, without surrounding punctuation.
fn bare(word: &str) -> String {
    word.trim_matches(|one: char| !one.is_alphanumeric()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_the_end_of_a_turn_depends_on_its_last_words() {
        let wait = |text: &str| wait_after(text, None).as_millis();
        assert_eq!(wait("I would like to"), 1_000);
        assert_eq!(wait("My number is, um."), 1_000, "some engines put a full stop behind everything");
        assert_eq!(wait("It is 4 5 6"), 600);
        assert_eq!(wait("with an S."), 600, "spelled letters");
        assert_eq!(wait("What are your hours?"), 50);
        assert_eq!(wait("Yeah"), 50);
        assert_eq!(wait("tomorrow at noon please"), 300);
    }

    #[test]
    fn a_recogniser_that_estimates_the_end_of_a_turn_makes_the_wait_longer_or_shorter() {
        let wait = |text: &str, probability| wait_after(text, Some(probability)).as_millis();
        assert_eq!(wait("tomorrow at noon please", 0.9), 50);
        assert_eq!(wait("tomorrow at noon please", 0.5), 300);
        assert_eq!(wait("What are your hours?", 0.1), 1_000);
        assert_eq!(wait("I would like to", 0.9), 1_000, "the words need a continuation");
        assert_eq!(wait("It is 4 5 6", 0.9), 600, "more digits may follow");
    }

    #[test]
    fn words_of_agreement_are_recognised() {
        for text in ["Mhm.", "yeah", "Okay, great.", "I see.", "Ja, genau"] {
            assert!(is_agreement(text), "{text}");
        }
        for text in ["", "no", "yes but", "stop", "okay okay okay okay", "actually"] {
            assert!(!is_agreement(text), "{text}");
        }
    }

    #[test]
    fn a_transcript_of_the_agents_own_words_is_an_echo() {
        let says = || ["We are open from nine to five. ", "Anything else?"].into_iter();
        assert!(is_echo("Open from nine", says()));
        assert!(is_echo("five anything", says()));
        assert!(!is_echo("open", says()), "one word may be an answer");
        assert!(!is_echo("open on Sunday", says()));
    }
}
