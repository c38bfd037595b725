//! The language of an agent that has several: the model writes the code of a language in brackets, and this filter finds the codes.
//! This module is pure: it has no I/O and reads no clock.

use tandem_dialect::agent::AgentLanguage;

/// Maximum length of a code with its brackets, in octets. A longer text in brackets is no code.
const LONGEST: usize = 16;

/// A part of the model's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SpokenPart {
    /// The following text is in the language with this code.
    Language(String),
    /// Text to speak.
    Text(String),
}

/// A filter for text that arrives in pieces. With fewer than two languages, all text passes unchanged.
#[derive(Debug, Default)]
pub(super) struct LanguageFilter {
    codes: Vec<String>,
    /// The beginning of text that may be a code.
    bracket: String,
    /// Whether the next space is dropped, because it follows a code.
    drops_space: bool,
}

impl LanguageFilter {
    pub(super) fn new(languages: &[AgentLanguage]) -> Self {
        let codes = if languages.len() < 2 { &[] } else { languages };
        Self { codes: codes.iter().map(|language| language.code.clone()).collect(), ..Self::default() }
    }

    /// Adds to a prompt how the model selects a language.
    pub(super) fn prompt(mut prompt: String, languages: &[AgentLanguage]) -> String {
        let [first, _, ..] = languages else { return prompt };
        let shown = |language: &AgentLanguage| match language.name.is_empty() {
            true => format!("[{}]", language.code),
            false => format!("[{}] {}", language.code, language.name),
        };
        let list = languages.iter().map(shown).collect::<Vec<_>>().join(", ");
        prompt.push_str(&format!(
            "\n\nYou speak these languages: {list}. Answer in the language of the caller. Begin each answer with the code of its \
             language in brackets, for example [{}], and write the code again before each change of the language.",
            first.code
        ));
        prompt
    }

    /// Takes the next piece of text.
    pub(super) fn push(&mut self, piece: &str) -> Vec<SpokenPart> {
        if self.codes.is_empty() {
            return vec![SpokenPart::Text(piece.to_owned())];
        }
        let (mut parts, mut text) = (Vec::new(), String::new());
        for character in piece.chars() {
            match character {
                '[' => text.push_str(&std::mem::replace(&mut self.bracket, "[".to_owned())),
                ']' if !self.bracket.is_empty() => {
                    let inner = self.bracket.get(1..).unwrap_or_default();
                    match self.code(inner) {
                        Some(code) => {
                            parts.push(SpokenPart::Text(std::mem::take(&mut text)));
                            parts.push(SpokenPart::Language(code));
                            self.drops_space = true;
                        }
                        None => {
                            text.push_str(&self.bracket);
                            text.push(']');
                        }
                    }
                    self.bracket.clear();
                }
                _ if !self.bracket.is_empty() => {
                    self.bracket.push(character);
                    if self.bracket.len() > LONGEST {
                        text.push_str(&std::mem::take(&mut self.bracket));
                    }
                }
                ' ' if self.drops_space => {}
                _ => {
                    self.drops_space = false;
                    text.push(character);
                }
            }
        }
        parts.push(SpokenPart::Text(text));
        parts
    }

    /// Returns the remaining text after the last piece.
    pub(super) fn rest(&mut self) -> Option<SpokenPart> {
        self.drops_space = false;
        let rest = std::mem::take(&mut self.bracket);
        (!rest.is_empty()).then_some(SpokenPart::Text(rest))
    }

    /// Returns the language that a text in brackets means: a known code, or a code with the same primary language.
    fn code(&self, text: &str) -> Option<String> {
        let same = self.codes.iter().find(|code| code.eq_ignore_ascii_case(text));
        let near = || self.codes.iter().find(|code| !text.is_empty() && primary(code) == primary(text));
        same.or_else(near).cloned()
    }
}

/// Whether the languages differ in more than their countries and voices.
pub(super) fn are_several(languages: &[AgentLanguage]) -> bool {
    let [first, others @ ..] = languages else { return false };
    others.iter().any(|other| primary(&other.code) != primary(&first.code))
}

/// The language of a tag, without its country: `en` of `en-US`.
fn primary(code: &str) -> String {
    code.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> Vec<AgentLanguage> {
        ["en-US", "es"].map(|code| AgentLanguage { code: code.to_owned(), ..AgentLanguage::default() }).into()
    }

    fn parts(pieces: &[&str]) -> String {
        let mut filter = LanguageFilter::new(&languages());
        let mut parts: Vec<_> = pieces.iter().flat_map(|piece| filter.push(piece)).collect();
        parts.extend(filter.rest());
        let shown = |part: SpokenPart| match part {
            SpokenPart::Language(code) => format!("<{code}>"),
            SpokenPart::Text(text) => text,
        };
        parts.into_iter().map(shown).collect()
    }

    #[test]
    fn voices_and_countries_make_no_other_language() {
        let of = |codes: &[&str]| {
            let language = |code: &&str| AgentLanguage { code: (*code).to_owned(), ..AgentLanguage::default() };
            are_several(&codes.iter().map(language).collect::<Vec<_>>())
        };
        assert!(!of(&[]) && !of(&["en-US"]) && !of(&["en-US", "en-US", "EN_gb"]));
        assert!(of(&["en-US", "en-GB", "es"]));
    }

    #[test]
    fn a_code_in_brackets_selects_the_language_of_the_following_text() {
        assert_eq!(parts(&["[e", "s] Ho", "la. [en", "-us]Hello."]), "<es>Hola. <en-US>Hello.");
        assert_eq!(parts(&["[es-MX] Hola"]), "<es>Hola");
    }

    #[test]
    fn other_text_in_brackets_is_spoken() {
        assert_eq!(parts(&["see [1] and [not a language] [x"]), "see [1] and [not a language] [x");
        assert_eq!(parts(&["[] [[es]Hola"]), "[] [<es>Hola");
    }

    #[test]
    fn an_agent_with_one_language_has_no_codes() {
        let one = &languages()[..1];
        assert_eq!(LanguageFilter::new(one).push("[en-US] a"), [SpokenPart::Text("[en-US] a".to_owned())]);
        assert_eq!(LanguageFilter::prompt("You are.".to_owned(), one), "You are.");
        assert!(LanguageFilter::prompt(String::new(), &languages()).contains("[en-US], [es]"));
    }
}
