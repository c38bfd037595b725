//! Splits text that arrives in pieces into phrases, so that a voice can start early. A phrase ends after a sentence. In
//! a long sentence, a phrase also ends after a clause. This module is pure.

/// Minimum length of a phrase in characters, so that `Dr. ` or `1. ` does not count as a phrase.
const SHORTEST: usize = 8;
/// Minimum length in characters of a phrase that ends after a clause.
const LONG: usize = 60;
/// Minimum length in characters of a phrase that ends at an arbitrary space.
const LONGEST: usize = 400;
/// Maximum length in characters of markup that stays in one phrase.
const LONGEST_MARKUP: usize = 4_000;

/// The text that is not spoken yet. Its length is at most `LONGEST_MARKUP` characters plus one piece.
#[derive(Debug, Default)]
pub(super) struct Phrases {
    pending: String,
}

impl Phrases {
    /// Takes a piece of text. Returns the complete phrases. All returned phrases and the result of [`Self::rest`]
    /// together are exactly the whole text.
    pub(super) fn push(&mut self, piece: &str) -> Vec<String> {
        self.pending.push_str(piece);
        let mut phrases = Vec::new();
        while let Some(end) = boundary(&self.pending) {
            let rest = self.pending.split_off(end);
            phrases.push(std::mem::replace(&mut self.pending, rest));
        }
        phrases
    }

    /// Returns the remaining text after the last piece.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then_some(rest)
    }
}

/// Returns the end of the first phrase, as an offset in octets. The space after the phrase belongs to the phrase.
fn boundary(text: &str) -> Option<usize> {
    let mut markup = Markup::default();
    let (mut space, mut before) = (None, ' ');
    for (count, (at, character)) in text.char_indices().enumerate() {
        markup.take(character);
        let open = markup.is_open();
        if character.is_whitespace() && !open {
            let sentence = count > SHORTEST && (matches!(before, '.' | '!' | '?' | '…') || character == '\n');
            let clause = count > LONG && matches!(before, ',' | ';' | ':' | '–' | '—');
            if sentence || clause {
                return Some(at + character.len_utf8());
            }
            space = Some(at + character.len_utf8());
        }
        // Scripts that use these punctuation marks have no spaces.
        if matches!(character, '。' | '！' | '？') && !open {
            return Some(at + character.len_utf8());
        }
        if (count >= LONGEST && !open) || count >= LONGEST_MARKUP {
            return Some(space.unwrap_or(at + character.len_utf8()));
        }
        if !character.is_whitespace() {
            before = character;
        }
    }
    None
}

/// Tracks whether the text is inside a tag or an SSML element.
#[derive(Default)]
struct Markup {
    /// The first character and the latest character of the tag that is being read.
    tag: Option<(char, char)>,
    depth: u32,
}

impl Markup {
    fn take(&mut self, character: char) {
        match (self.tag, character) {
            (None, '<') => self.tag = Some(('<', '<')),
            (Some(('<', _)), first) if first.is_alphabetic() || first == '/' => self.tag = Some((first, first)),
            // The text is a less-than sign and not a tag.
            (Some(('<', _)), _) => self.tag = None,
            (Some((first, last)), '>') => {
                self.tag = None;
                self.depth = match (first, last) {
                    ('/', _) => self.depth.saturating_sub(1),
                    (_, '/') => self.depth,
                    _ => self.depth + 1,
                };
            }
            (Some((first, _)), last) => self.tag = Some((first, last)),
            (None, _) => {}
        }
    }

    fn is_open(&self) -> bool {
        self.tag.is_some() || self.depth > 0
    }
}

/// Whether a text contains markup.
pub(super) fn is_markup(text: &str) -> bool {
    let mut markup = Markup::default();
    text.chars().any(|character| {
        let was_in_tag = markup.tag.is_some_and(|(first, _)| first != '<');
        markup.take(character);
        was_in_tag && markup.tag.is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(pieces: &[&str]) -> Vec<String> {
        let mut phrases = Phrases::default();
        let mut all: Vec<_> = pieces.iter().flat_map(|piece| phrases.push(piece)).collect();
        all.extend(phrases.rest());
        assert_eq!(all.concat(), pieces.concat(), "nothing is lost");
        all
    }

    #[test]
    fn a_sentence_is_complete_when_the_next_sentence_begins() {
        let mut all = Phrases::default();
        assert!(all.push("Good").is_empty());
        assert!(all.push(" morning.").is_empty());
        assert_eq!(all.push(" How"), ["Good morning. "]);
        assert_eq!(all.push(" are you? Well?"), ["How are you? "]);
        assert_eq!(all.rest().as_deref(), Some("Well?"));
        assert_eq!(all.rest(), None);
    }

    #[test]
    fn decimal_numbers_and_titles_do_not_end_a_sentence() {
        assert_eq!(phrases(&["It costs 3.50 in all."]).len(), 1);
        assert_eq!(phrases(&["Dr. Who is in. Wait."]), ["Dr. Who is in. ", "Wait."]);
    }

    #[test]
    fn long_sentences_are_split_between_clauses_and_longer_sentences_between_words() {
        let long = "This is a sentence that goes on for a good while before it comes to a comma, and then goes on";
        assert_eq!(phrases(&[long]).len(), 2);
        let endless = "word ".repeat(200);
        let cut = phrases(&[&endless]);
        assert!(cut.len() > 2 && cut.iter().all(|phrase| phrase.ends_with(' ')));
        assert!(phrases(&[&"x".repeat(2_000)]).len() > 2);
        assert_eq!(phrases(&["今日は。元気ですか？はい"]), ["今日は。", "元気ですか？", "はい"]);
    }

    #[test]
    fn ssml_is_not_split_within_an_element() {
        let one = "<prosody rate=\"slow\">One thing. Another thing.</prosody>";
        assert_eq!(phrases(&[one, " And plain. Text"]), [&format!("{one} And plain. "), "Text"]);
        assert_eq!(phrases(&["Wait here <break time=\"1s\"/> a bit. Go on"]).len(), 2);
        assert_eq!(phrases(&["It is 3 < 4 and so on. Go on"]).len(), 2);
        assert!(is_markup("a <break/> b") && is_markup(one) && !is_markup("3 < 4 > 2") && !is_markup("a < b"));
    }
}
