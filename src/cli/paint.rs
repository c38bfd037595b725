//! Colours for terminal output. Text has colours only on a terminal, and only if `NO_COLOR` is not set (no-color.org).

use std::fmt::Display;
use std::io::IsTerminal;

/// Adds colours to text, or leaves the text unchanged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Returns a `Paint` for text that is written to this stream.
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        Self { on: stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Returns a text in green. Green means success, for example an answer, the status 200 or the expected text.
    pub(crate) fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// Returns a text in red. Red means a failure or a refusal.
    pub(crate) fn red(self, text: impl Display) -> String {
        self.with("31", text)
    }

    /// Returns a text in yellow. Yellow means advice.
    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }

    /// Returns a text in cyan. Cyan means speech or digits from the other side.
    pub(crate) fn cyan(self, text: impl Display) -> String {
        self.with("36", text)
    }

    /// Returns a text in blue. Blue means speech or digits from this side.
    pub(crate) fn blue(self, text: impl Display) -> String {
        self.with("34", text)
    }

    /// Returns a dimmed text. Times and details are dimmed.
    pub(crate) fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// Returns a text in bold. The most important text is bold.
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Replaces the control characters of a text from outside, so that the text cannot control the terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_painted_on_a_terminal_only_and_never_obeyed_by_it() {
        assert_eq!(Paint { on: true }.green("200"), "\x1b[32m200\x1b[0m");
        assert_eq!(Paint { on: false }.green("200"), "200");
        assert_eq!(harmless("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
