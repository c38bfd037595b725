//! Splits a text into sentences and clauses. The phonemes of a clause come from espeak-ng; the mark after the clause tells the
//! voice the melody.

/// The longest clause in characters. espeak-ng splits a longer line itself.
const LONGEST: usize = 400;

/// A part of a sentence without punctuation, and the mark after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) text: String,
    /// `.`, `!` or `?` at the end of a sentence, else `,`, `;` or `:`.
    pub(super) mark: char,
}

impl Clause {
    pub(super) fn ends_sentence(&self) -> bool {
        matches!(self.mark, '.' | '!' | '?')
    }
}

/// The mark of a character, if the character ends a clause. The characters of other scripts become those that voices know.
fn mark(c: char) -> Option<char> {
    match c {
        '.' | '\u{2026}' | '\u{3002}' | '\u{0964}' | '\u{06d4}' => Some('.'),
        '!' | '\u{ff01}' => Some('!'),
        '?' | '\u{ff1f}' | '\u{061f}' => Some('?'),
        ',' | '\u{3001}' | '\u{ff0c}' | '\u{060c}' | '\u{2014}' | '(' | ')' | '[' | ']' => Some(','),
        ';' | '\u{ff1b}' | '\u{061b}' => Some(';'),
        ':' | '\u{ff1a}' => Some(':'),
        _ => None,
    }
}

/// Whether a mark is a part of a number or a word: `3.5`, `5:30`, `1,200`, `example.com`.
fn is_inside(c: char, before: Option<char>, after: Option<char>) -> bool {
    matches!(c, '.' | ',' | ':')
        && before.is_some_and(char::is_alphanumeric)
        && after.is_some_and(char::is_alphanumeric)
        && (before.is_some_and(|c| c.is_ascii_digit()) == after.is_some_and(|c| c.is_ascii_digit()))
}

/// Splits a text. A clause has at least one letter or digit. A line ends a sentence.
pub(super) fn split(text: &str) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    let mut current = String::new();
    let mut characters = text.chars().peekable();
    let mut before = None;
    while let Some(c) = characters.next() {
        let after = characters.peek().copied();
        let found = if c == '\n' { Some('.') } else { mark(c).filter(|_| !is_inside(c, before, after)) };
        match found {
            Some(mark) => end(&mut clauses, &mut current, mark),
            None if c.is_whitespace() || c.is_control() => {
                if current.chars().count() >= LONGEST {
                    end(&mut clauses, &mut current, ',');
                }
                current.push(' ');
            }
            None => current.push(c),
        }
        before = Some(c);
    }
    end(&mut clauses, &mut current, '.');
    // The end of the text is the end of a sentence, also after a comma.
    if let Some(last) = clauses.last_mut().filter(|last| !last.ends_sentence()) {
        last.mark = '.';
    }
    clauses
}

/// Ends the current clause with a mark. If there is no clause, the mark belongs to the one before: `?!`, `...`, `),`.
fn end(clauses: &mut Vec<Clause>, current: &mut String, mark: char) {
    let text = std::mem::take(current).split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().any(char::is_alphanumeric) {
        for part in cut(&text) {
            clauses.push(Clause { text: part, mark: ',' });
        }
        if let Some(last) = clauses.last_mut() {
            last.mark = mark;
        }
    } else if let Some(last) = clauses.last_mut() {
        let is_stronger =
            matches!(mark, '.' | '!' | '?') && (!last.ends_sentence() || (last.mark == '.' && mark == '?'));
        if is_stronger {
            last.mark = mark;
        }
    }
}

/// Cuts a text without spaces, which can be longer than the limit.
fn cut(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(2 * LONGEST).map(|chunk| chunk.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &str) -> Vec<(String, char)> {
        split(text).into_iter().map(|clause| (clause.text, clause.mark)).collect()
    }

    fn one(text: &str, mark: char) -> (String, char) {
        (text.to_owned(), mark)
    }

    #[test]
    fn sentences_and_clauses_keep_their_marks() {
        assert_eq!(
            marks("Hello, Ann. Are you there?"),
            [one("Hello", ','), one("Ann", '.'), one("Are you there", '?')]
        );
        assert_eq!(marks("Wait: one; two!"), [one("Wait", ':'), one("one", ';'), one("two", '!')]);
        assert_eq!(marks("One\nTwo\n"), [one("One", '.'), one("Two", '.')]);
    }

    #[test]
    fn marks_inside_numbers_and_words_end_nothing() {
        assert_eq!(marks("3.5 at 5:30 of 1,200"), [one("3.5 at 5:30 of 1,200", '.')]);
        assert_eq!(marks("It is 5."), [one("It is 5", '.')]);
    }

    #[test]
    fn several_marks_are_one() {
        assert_eq!(marks("What?! Well... (yes)."), [one("What", '?'), one("Well", '.'), one("yes", '.')]);
        assert_eq!(marks("Well,"), [one("Well", '.')]);
        assert_eq!(marks("No!?"), [one("No", '!')]);
    }

    #[test]
    fn a_text_without_words_has_no_clauses() {
        assert_eq!(marks(""), []);
        assert_eq!(marks(" ... ?! \n -- "), []);
    }

    #[test]
    fn a_long_text_is_split_at_a_space_or_anywhere() {
        let clauses = split(&"word ".repeat(1000));
        assert!(clauses.len() > 10 && clauses.iter().all(|clause| clause.text.len() <= LONGEST + 5));
        let clauses = split(&"x".repeat(10_000));
        assert!(clauses.iter().all(|clause| clause.text.len() <= 2 * LONGEST));
        assert_eq!(clauses.iter().map(|clause| clause.text.len()).sum::<usize>(), 10_000);
    }

    #[test]
    fn punctuation_of_other_scripts_is_known() {
        assert_eq!(marks("你好。你呢？"), [one("你好", '.'), one("你呢", '?')]);
    }
}
