//! The vocabulary of Whisper: a file with one token in each line. A token is a sequence of octets. The file writes each octet as
//! a character that can be printed (the "byte-level" form of GPT-2).

use std::collections::HashMap;
use std::path::Path;

use super::ct2::ModelError;

/// Maximum number of tokens in the file.
const MAX_TOKENS: usize = 100_000;

/// The tokens of a model.
pub struct Vocabulary {
    /// The octets of each token of text. A control token (`<|endoftext|>`) has the octets of its name.
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    /// The end of the text. Tokens below it are text, tokens above it are control tokens.
    pub end: u32,
    /// The begin of a transcript.
    pub start: u32,
    /// The begin of the text before the transcript: the hints.
    pub previous: u32,
    /// The task: to write the words in the language of the speaker. Models for English only have no tasks.
    pub transcribe: Option<u32>,
    /// The audio has no speech.
    pub no_speech: u32,
    /// The transcript has no times.
    pub no_times: u32,
    /// The first time, 0.00 s. Each further token is 0.02 s later.
    pub times: u32,
    /// The languages and their tokens. Models for English only have none.
    pub languages: Vec<(String, u32)>,
}

impl Vocabulary {
    /// Reads a file `vocabulary.txt`.
    ///
    /// # Errors
    /// [`ModelError`] if the file cannot be read or is not the vocabulary of Whisper.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// [`ModelError::Format`] if it is not the vocabulary of Whisper.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let octets: HashMap<char, u8> = (0..=u8::MAX).map(|octet| (printed(octet), octet)).collect();
        let mut tokens = Vec::new();
        for line in text.lines().take(MAX_TOKENS) {
            let token: Option<Vec<u8>> = line.chars().map(|character| octets.get(&character).copied()).collect();
            // The names of control tokens are printable, and so the same in both forms.
            tokens
                .push(token.ok_or_else(|| ModelError::Format(format!("the token {line:?} has an unknown character")))?);
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in (0_u32..).zip(&tokens) {
            ids.entry(token.clone()).or_insert(id);
        }
        let find = |names: &[&str]| names.iter().find_map(|name| ids.get(name.as_bytes()).copied());
        let need = |names: &[&str]| {
            find(names).ok_or_else(|| ModelError::Format(format!("the vocabulary has no token {}", names.join(" or "))))
        };
        let end = need(&["<|endoftext|>"])?;
        let start = need(&["<|startoftranscript|>"])?;
        let no_times = need(&["<|notimestamps|>"])?;
        let is_multilingual = end > 50_256;
        let transcribe = if is_multilingual { find(&["<|transcribe|>"]) } else { None };
        let after_start = tokens.iter().enumerate().skip(start as usize + 1);
        let languages =
            after_start.take_while(|(_, token)| token.as_slice() != b"<|translate|>").filter_map(|(id, token)| {
                let name = std::str::from_utf8(token).ok()?.strip_prefix("<|")?.strip_suffix("|>")?;
                Some((name.to_owned(), u32::try_from(id).ok()?))
            });
        let languages = if is_multilingual { languages.collect() } else { Vec::new() };
        let previous = need(&["<|startofprev|>"])?;
        let no_speech = need(&["<|nospeech|>", "<|nocaptions|>"])?;
        Ok(Self { end, start, previous, transcribe, no_speech, no_times, times: no_times + 1, languages, tokens, ids })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns the octets of a token. Control tokens and unknown tokens have none.
    pub fn octets(&self, token: u32) -> &[u8] {
        if token >= self.end { &[] } else { self.tokens.get(token as usize).map_or(&[], Vec::as_slice) }
    }

    /// Returns the text of tokens. Octets that are not UTF-8 become U+FFFD.
    pub fn text(&self, tokens: &[u32]) -> String {
        let octets: Vec<u8> = tokens.iter().flat_map(|token| self.octets(*token)).copied().collect();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// Returns the tokens of a text.
    pub fn tokens_of(&self, text: &str) -> Vec<u32> {
        pieces(text).flat_map(|piece| self.merged(piece.as_bytes())).collect()
    }

    /// Joins octets to the tokens of a piece of text. The pair whose token has the lowest number is joined first.
    fn merged(&self, octets: &[u8]) -> Vec<u32> {
        // The places where the parts begin, and the end.
        let mut edges: Vec<usize> = (0..=octets.len()).collect();
        let id = |begin: usize, end: usize| self.ids.get(octets.get(begin..end)?).copied();
        loop {
            let pairs = edges.windows(3).enumerate().filter_map(|(index, edges)| match edges {
                [begin, _, end] => Some((id(*begin, *end)?, index)),
                _ => None,
            });
            let Some((_, index)) = pairs.min() else { break };
            edges.remove(index + 1);
        }
        let parts = edges.iter().zip(edges.iter().skip(1));
        parts.filter_map(|(begin, end)| id(*begin, *end)).filter(|id| *id < self.end).collect()
    }
}

/// Cuts a text at the begins of words, numbers and punctuation. The space before a word is a part of the word.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let kind = |character: char| match character {
        character if character.is_alphabetic() => 1,
        character if character.is_numeric() => 2,
        character if character.is_whitespace() => 3,
        _ => 4,
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut characters = rest.char_indices().peekable();
        let (_, first) = characters.next()?;
        let mut now = kind(first);
        if first == ' '
            && let Some((_, second)) = characters.peek()
        {
            now = kind(*second);
        }
        let end = characters.find(|(_, character)| kind(*character) != now).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// Returns the character that stands for an octet.
fn printed(octet: u8) -> char {
    let is_printable = |octet: u8| matches!(octet, 33..=126 | 161..=172 | 174..=255);
    if is_printable(octet) {
        char::from(octet)
    } else {
        // The other octets get the characters from U+0100 on, in their order.
        let index = (0..octet).filter(|other| !is_printable(*other)).count();
        u32::try_from(index).ok().and_then(|index| char::from_u32(0x100 + index)).unwrap_or('\u{fffd}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary with the octets and a few words.
    fn vocabulary() -> Vocabulary {
        let mut lines: Vec<String> = (0..=255).map(|octet| printed(octet).to_string()).collect();
        lines.extend(["he", "ll", "hell", "hello", "Ġw", "or", "Ġwor", "ld", "Ġworld"].map(str::to_owned));
        lines.extend(["<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|nospeech|>"].map(str::to_owned));
        lines.extend(["<|notimestamps|>", "<|0.00|>"].map(str::to_owned));
        Vocabulary::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn a_text_becomes_the_longest_tokens_and_the_same_text_again() {
        let vocabulary = vocabulary();
        let tokens = vocabulary.tokens_of("hello world");
        assert_eq!(tokens, [259, 264]);
        assert_eq!(vocabulary.text(&tokens), "hello world");
        for text in ["hello, 1234 wörld!", "  two  spaces ", "日本", "", &"long".repeat(1_000)] {
            assert_eq!(vocabulary.text(&vocabulary.tokens_of(text)), text);
        }
    }

    #[test]
    fn control_tokens_have_no_text_and_are_in_no_text() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.text(&[vocabulary.start, 256, vocabulary.end]), "he");
        assert!(vocabulary.tokens_of("<|endoftext|>").iter().all(|token| *token < vocabulary.end));
        assert_eq!(vocabulary.times, vocabulary.no_times + 1);
    }

    #[test]
    fn a_file_without_the_control_tokens_is_an_error() {
        assert!(Vocabulary::parse("a\nb\nc").is_err());
        assert!(Vocabulary::parse("").is_err());
    }
}
