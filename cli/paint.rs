//! Colours for terminal output. Text has colours only on a terminal that is not `dumb`, and only if
//! `NO_COLOR` is not set (no-color.org).

use std::fmt::Display;
use std::io::IsTerminal;

use tandem_settings::printable::{printable, printable_json};

/// The style of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
    Bad,
    /// The style for the kind of a line, or for a name.
    Accent,
}

/// Adds colours to text, or leaves the text unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Returns a `Paint` for text that is written to this stream.
    pub fn for_stream(stream: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: stream.is_terminal() && !refused && !dumb }
    }

    /// Returns a `Paint` for standard output.
    pub fn stdout() -> Self {
        Self::for_stream(&std::io::stdout())
    }

    /// Returns a `Paint` without colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { on: false }
    }

    /// Returns a text in a style. Control characters are escaped, so that text from outside cannot control the terminal.
    pub fn text(self, style: Style, text: &str) -> String {
        let text = printable(text).into_owned();
        match style {
            _ if text.is_empty() => text,
            Style::Plain => text,
            Style::Bold => self.bold(text),
            Style::Dim => self.dim(text),
            Style::Good => self.green(text),
            Style::Warning => self.yellow(text),
            Style::Bad => self.red(text),
            Style::Accent => self.cyan(text),
        }
    }

    /// Returns a text in green. Green means success, for example an answer, the status 200 or the expected text.
    pub fn green(self, text: impl Display) -> String {
        self.with("32", text)
    }

    /// Returns a text in red. Red means a failure or a refusal.
    pub fn red(self, text: impl Display) -> String {
        self.with("31", text)
    }

    /// Returns a text in yellow. Yellow means advice.
    pub fn yellow(self, text: impl Display) -> String {
        self.with("33", text)
    }

    /// Returns a text in cyan. Cyan means speech or digits from the other side.
    pub fn cyan(self, text: impl Display) -> String {
        self.with("36", text)
    }

    /// Returns a text in blue. Blue means speech or digits from this side.
    pub fn blue(self, text: impl Display) -> String {
        self.with("34", text)
    }

    /// Returns a dimmed text. Times and details are dimmed.
    pub fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// Returns a text in bold. The most important text is bold.
    pub fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Returns a text from outside, in a form that cannot control the terminal.
pub fn harmless(text: &str) -> String {
    printable(text).into_owned()
}

/// Returns lines from outside, in a form that cannot control the terminal. The line breaks stay.
pub fn harmless_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Returns JSON of the same meaning, whose texts cannot control the terminal.
pub fn harmless_json(json: &str) -> String {
    printable_json(json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_coloured_on_a_terminal_only() {
        assert_eq!(Paint { on: true }.green("200"), "\x1b[32m200\x1b[0m");
        assert_eq!(Paint { on: false }.green("200"), "200");
    }

    #[test]
    fn a_style_has_its_colour_and_control_characters_are_escaped() {
        assert_eq!(Paint::plain().text(Style::Bad, "x"), "x");
        assert_eq!(Paint { on: true }.text(Style::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Paint { on: true }.text(Style::Plain, "a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(Paint { on: true }.text(Style::Bad, ""), "");
    }
}
