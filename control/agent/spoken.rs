//! Filters a model's text for speech. The filter removes formatting marks, emoji and `<think>` sections. This module is
//! pure: it has no I/O and reads no clock.

/// Maximum length of a tag in octets. If a text after `<` is longer, the text is not a tag, and the agent says the
/// text.
const LONGEST_TAG: usize = 200;

/// A filter for text that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct SpokenFilter {
    /// The beginning of text that may be a tag.
    tag: String,
    /// Whether the text is inside `<think>`.
    thinks: bool,
    /// The last character that the filter has passed on.
    before: Option<char>,
    /// Whether the last character was an underscore. An underscore belongs to a word only if a letter or digit follows.
    underscore: bool,
}

impl SpokenFilter {
    /// Takes the next piece of text. Returns the text to speak.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let mut spoken = String::with_capacity(piece.len());
        for character in piece.chars() {
            if self.tag.is_empty() && character != '<' {
                self.pass(character, &mut spoken);
                continue;
            }
            self.tag.push(character);
            let second = self.tag.chars().nth(1);
            let is_tag = second.is_none_or(|second| second.is_alphabetic() || second == '/');
            if character == '>' && is_tag {
                match self.tag.as_str() {
                    "<think>" | "<thinking>" => self.thinks = true,
                    "</think>" | "</thinking>" => self.thinks = false,
                    // A tag between two words, such as <br>, separates them.
                    tag if !is_in_word(tag) => self.pass(' ', &mut spoken),
                    _ => {}
                }
                self.tag.clear();
            } else if !is_tag || self.tag.len() > LONGEST_TAG {
                // The text is a less-than sign and not a tag.
                let text = std::mem::take(&mut self.tag);
                text.chars().for_each(|character| self.pass(character, &mut spoken));
            }
        }
        spoken
    }

    /// Returns the remaining text after the last piece.
    pub(super) fn rest(&mut self) -> String {
        let mut spoken = String::new();
        let text = std::mem::take(&mut self.tag);
        if !text.starts_with("<think") {
            text.chars().for_each(|character| self.pass(character, &mut spoken));
        }
        (self.thinks, self.underscore) = (false, false);
        spoken
    }

    fn pass(&mut self, character: char, spoken: &mut String) {
        if self.thinks || is_picture(character) {
            return;
        }
        if std::mem::take(&mut self.underscore) && character.is_alphanumeric() {
            spoken.push('_');
        }
        let line_begins = self.before.is_none_or(|before| before == '\n');
        match character {
            '*' | '`' | '#' | '~' | '|' | '•' => return,
            '-' | '>' if line_begins => return,
            '_' => {
                self.underscore = self.before.is_some_and(char::is_alphanumeric);
                return;
            }
            ' ' if line_begins => return,
            _ => spoken.push(character),
        }
        self.before = Some(character);
    }
}

/// Whether this tag of HTML may begin or end within a word.
fn is_in_word(tag: &str) -> bool {
    let name = tag.trim_start_matches(['<', '/']).split([' ', '/', '>']).next().unwrap_or_default();
    ["a", "b", "code", "em", "i", "span", "strong", "sub", "sup", "u"].iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_picture(character: char) -> bool {
    matches!(character as u32, 0x2600..=0x27BF | 0x1F000..=0x1FAFF | 0xFE0F | 0x200D | 0x2190..=0x21FF | 0x2B00..=0x2BFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(text: &str) -> String {
        let mut filter = SpokenFilter::default();
        let whole: String = text.chars().map(|one| filter.push(&one.to_string())).collect();
        whole + &filter.rest()
    }

    #[test]
    fn formatting_emoji_and_reasoning_are_not_spoken() {
        assert_eq!(
            spoken("<think>He wants *tea*.</think>We have **tea** 🍵 and `snake_case`."),
            "We have tea  and snake_case."
        );
        assert_eq!(spoken("# Menu\n- tea\n- 5 < 6 and a - b\n_really_"), "Menu\ntea\n5 < 6 and a - b\nreally");
        assert_eq!(spoken("<b>Now</b> <"), "Now <");
        assert_eq!(spoken("<think>never ends"), "");
        assert_eq!(spoken("tea<br/>or<BR>milk, <b>n</b>ow"), "tea or milk, now");
    }
}
