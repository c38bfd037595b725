//! Text from outside, in a form that a terminal only shows. A SIP header, a model or an application can put control
//! characters into its text. A terminal obeys some of them, and a bidirectional override hides which text is whose.
//!
//! Every text from outside that reaches a terminal passes through this module: the event log, the ladder, the commands
//! and the server's own log.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal could do something else with this character than to show it: control characters (C0, DEL, C1) and
/// [marks](is_mark).
fn is_active(character: char) -> bool {
    character.is_control() || is_mark(character)
}

/// Whether the character changes the order of other characters, or ends a line: the marks, embeddings, overrides and
/// isolates of bidirectional text (UAX #9), and the line and paragraph separators.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the text with its active characters escaped: `\n`, `\t`, `\r`, or the number of the character as in
/// `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' | '\t' | '\r' => shown.extend(character.escape_default()),
            active if is_active(active) => shown.extend(active.escape_unicode()),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// Returns a text whose control characters are already escaped, and which has colours.
pub fn printable_marks(text: &str) -> Cow<'_, str> {
    if !text.contains(is_mark) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_mark(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Returns JSON that means the same. The active characters in its texts are escaped as JSON has it.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let is_layout = |character| matches!(character, '\n' | '\t' | '\r');
    if !json.contains(|character| is_active(character) && !is_layout(character)) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 8);
    for character in json.chars() {
        if is_active(character) && !is_layout(character) {
            // Writing to a String cannot fail. All active characters have four digits at most.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_external_text_are_escaped() {
        assert_eq!(printable("Grüße, 你好 👩‍👩‍👧 שלום"), "Grüße, 你好 👩‍👩‍👧 שלום");
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\td\0\u{7f}"), "a\\u{1b}[2Jb\\r\\nc\\td\\u{0}\\u{7f}");
        assert_eq!(printable("\u{9b}2J"), "\\u{9b}2J");
        assert_eq!(printable("a\u{202e}b\u{2066}c\u{2069}\u{200f}"), "a\\u{202e}b\\u{2066}c\\u{2069}\\u{200f}");
        assert_eq!(printable("a\u{2028}b"), "a\\u{2028}b");
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn colour_codes_of_the_server_are_kept() {
        assert_eq!(printable_marks("\u{1b}[31ma\u{202e}b\u{1b}[0m\n"), "\u{1b}[31ma\\u{202e}b\u{1b}[0m\n");
    }

    #[test]
    fn escaped_json_has_the_same_meaning() {
        let json = "{\n\t\"a\": \"x\u{9b}\u{202e}\u{7f}\"\n}";
        assert_eq!(printable_json(json), "{\n\t\"a\": \"x\\u009b\\u202e\\u007f\"\n}");
        assert!(matches!(printable_json("{\n}"), Cow::Borrowed(_)));
    }
}
