//! Replaces words in a text before the voice speaks it. This module is pure.

use tandem_dialect::agent::Pronunciation;

/// Replaces each whole word or sequence of words that a rule names. The rules apply in their order, each to the result of the earlier
/// rules. A text that has become four times as long is not changed further. So the result has at most eight times the length of the
/// text, plus one replacement.
pub(super) fn spoken(text: &str, rules: &[Pronunciation]) -> String {
    let longest = text.len().saturating_mul(4);
    rules.iter().fold(text.to_owned(), |text, rule| match text.len() > longest {
        true => text,
        false => replaced(&text, rule, longest),
    })
}

fn replaced(text: &str, rule: &Pronunciation, longest: usize) -> String {
    if rule.replace.is_empty() {
        return text.to_owned();
    }
    let mut result = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = starts(rest, rule).filter(|_| is_edge(before, &rule.replace) && result.len() <= longest);
        match after {
            Some(after) => {
                result.push_str(&rule.with);
                before = rule.replace.chars().next_back();
                rest = after;
            }
            None => {
                result.push(first);
                before = Some(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    result
}

/// Returns the text after the words of the rule, if the text starts with them and they end at the end of a word.
fn starts<'a>(text: &'a str, rule: &Pronunciation) -> Option<&'a str> {
    let mut left = text.chars();
    for wanted in rule.replace.chars() {
        let own = left.next()?;
        let same = own == wanted || rule.ignore_case && own.to_lowercase().eq(wanted.to_lowercase());
        if !same {
            return None;
        }
    }
    let last = rule.replace.chars().next_back()?;
    let goes_on = left.clone().next().is_some_and(char::is_alphanumeric) && last.is_alphanumeric();
    (!goes_on).then_some(left.as_str())
}

/// Whether a word may start after this character.
fn is_edge(before: Option<char>, word: &str) -> bool {
    !(before.is_some_and(char::is_alphanumeric) && word.chars().next().is_some_and(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(replace: &str, with: &str, ignore_case: bool) -> Pronunciation {
        Pronunciation { replace: replace.to_owned(), with: with.to_owned(), ignore_case }
    }

    #[test]
    fn whole_words_are_replaced_and_parts_of_words_are_not() {
        let rules = [rule("SQL", "sequel", false), rule("st.", "street", true)];
        assert_eq!(
            spoken("SQL, MySQL and SQLite in Main St. now", &rules),
            "sequel, MySQL and SQLite in Main street now"
        );
        assert_eq!(spoken("sql", &rules), "sql");
        assert_eq!(spoken("the sql", &[rule("SQL", "sequel", true)]), "the sequel");
    }

    #[test]
    fn rules_cannot_make_a_text_grow_without_bound() {
        let rules: Vec<_> = (0..20).map(|_| rule("a", &"a ".repeat(50), false)).collect();
        let text = "a ".repeat(50);
        assert!(spoken(&text, &rules).len() <= 8 * text.len() + 100);
        assert_eq!(spoken("a", &[rule("", "x", false)]), "a");
    }
}
