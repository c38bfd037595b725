//! Colours for people: only on a terminal, and not where `NO_COLOR` is set (no-color.org).

use std::fmt::Display;
use std::io::IsTerminal;

/// Paints, or leaves the text as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For what is written to this stream.
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        Self { on: stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// Good: answered, 200, what was expected came.
    pub(crate) fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// Bad: refused, failed.
    pub(crate) fn red(self, text: impl Display) -> String {
        self.with("31", text)
    }

    /// Advice.
    pub(crate) fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }

    /// What the other side says.
    pub(crate) fn cyan(self, text: impl Display) -> String {
        self.with("36", text)
    }

    /// What we say.
    pub(crate) fn blue(self, text: impl Display) -> String {
        self.with("34", text)
    }

    /// Times, and what matters less.
    pub(crate) fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// What matters most.
    pub(crate) fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Text from outside, without what a terminal would obey.
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
