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

/// Whether the character changes the order of other characters, ends a line, or is invisible, so that two different texts
/// look the same: the marks, embeddings, overrides and isolates of bidirectional text (UAX #9), the line and paragraph
/// separators, the soft hyphen, and characters without a width. The joiners U+200C and U+200D are no marks, because scripts
/// and emoji need them.
fn is_mark(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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

/// Returns a line of the log whose escape sequences are already escaped, and which has colours. A line break in it is
/// escaped too, so that no text from outside looks like a line of the log.
pub fn printable_line(line: &str) -> Cow<'_, str> {
    let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
    // The parts between the escape characters of the colours.
    let parts: Vec<_> = line.split('\u{1b}').map(printable).collect();
    Cow::Owned(parts.join("\u{1b}") + end)
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
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
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
        assert_eq!(printable("a\u{2028}b\u{200b}\u{ad}\u{feff}"), "a\\u{2028}b\\u{200b}\\u{ad}\\u{feff}");
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_line_of_the_log_keeps_its_colours_and_stays_one_line() {
        assert_eq!(printable_line("\u{1b}[31ma\u{202e}b\u{1b}[0m\n"), "\u{1b}[31ma\\u{202e}b\u{1b}[0m\n");
        assert_eq!(printable_line("a\r\nINFO b\n"), "a\\r\\nINFO b\n");
    }

    #[test]
    fn escaped_json_has_the_same_meaning() {
        let json = "{\n\t\"a\": \"x\u{9b}\u{202e}\u{7f}\u{e0041}\"\n}";
        assert_eq!(printable_json(json), "{\n\t\"a\": \"x\\u009b\\u202e\\u007f\\udb40\\udc41\"\n}");
        assert!(matches!(printable_json("{\n}"), Cow::Borrowed(_)));
    }
}
