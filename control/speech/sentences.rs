//! Where a text can be cut without anybody hearing it. Pure.

/// Shorter pieces are spoken together with the next one, octets.
const LEAST: usize = 20;

/// The sentences of a text, in order, spaces around them left out. Every word is in one of them.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut rest = text.trim();
    while let Some(end) = first_end(rest) {
        let (sentence, after) = rest.split_at(end);
        sentences.push(sentence.trim());
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        sentences.push(rest);
    }
    sentences
}

/// Behind the first mark that ends a sentence and has a space behind it; marks of Chinese and Japanese need none.
fn first_end(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let next = characters.peek().map(|(_, next)| *next);
        let ends = match character {
            '.' | '!' | '?' | ':' | ';' | '…' => next.is_some_and(char::is_whitespace),
            '。' | '！' | '？' | '\n' => next.is_some(),
            _ => false,
        };
        if ends && end >= LEAST {
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_behind_its_sentences_and_loses_no_word() {
        assert_eq!(
            split(" Thank you for calling. How can I help you today?  Bye. "),
            ["Thank you for calling.", "How can I help you today?", "Bye."]
        );
        assert_eq!(split("Dr. Who costs 3.50 in all. Yes."), ["Dr. Who costs 3.50 in all.", "Yes."]);
        assert_eq!(split("您好,感谢您的来电。请问有什么可以帮您?"), ["您好,感谢您的来电。", "请问有什么可以帮您?"]);
        assert_eq!(split("one"), ["one"]);
        assert!(split(" \n ").is_empty());
    }
}
