//! The output of a call. Each event of the call is one line on the terminal and one line of the report.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use tokio::time::Instant;

use tandem_cli::paint::{Paint, harmless};

/// The kind of a line. The kind determines the colour of the first word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tone {
    /// A line about a success.
    Good,
    /// A line about a failure.
    Bad,
    /// A line about audio or digits from the other side.
    Received,
    /// A line about audio or digits from this side.
    Sent,
    /// Any other line. The line has no colour.
    Plain,
}

/// Prints the lines to standard output, or to standard error if the option `--json` is set.
pub(super) struct Lines {
    paint: Paint,
    json: bool,
    /// Start of the call. The times of the lines are relative to this instant.
    began: Instant,
    /// The text that the user is typing. This text is shown below the lines.
    draft: Option<String>,
    /// All lines that have been printed, for the report.
    entries: Vec<Value>,
}

/// Maximum number of lines in the report. Later lines are only printed.
const MAX_ENTRIES: usize = 10_000;

impl Lines {
    pub(super) fn new(json: bool, began: Instant) -> Self {
        let paint = if json { Paint::for_stream(&std::io::stderr()) } else { Paint::stdout() };
        Self { paint, json, began, draft: None, entries: Vec::new() }
    }

    /// Returns the seconds since the start of the call.
    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Prints a line with the current time.
    pub(super) fn print(&mut self, tone: Tone, what: &str, detail: &str) {
        self.print_at(self.now(), tone, what, detail);
    }

    /// Prints a line with the time `at`.
    pub(super) fn print_at(&mut self, at: f64, tone: Tone, what: &str, detail: &str) {
        let (detail, paint) = (harmless(detail), self.paint);
        let name = format!("{what:<9}");
        let name = match tone {
            Tone::Good => paint.green(name),
            Tone::Bad => paint.red(name),
            Tone::Received => paint.cyan(name),
            Tone::Sent => paint.blue(name),
            Tone::Plain => name,
        };
        self.write(&format!("{}  {name}  {detail}", paint.dim(format!("{at:8.2}"))));
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(json!({"at": rounded(at), "what": what, "detail": detail}));
        }
    }

    /// Prints a line of advice. The line has no time.
    pub(super) fn advise(&mut self, text: &str) {
        let text = self.paint.yellow(harmless(text));
        self.write(&format!("          {text}"));
    }

    /// Prints a less important line. The line has no time.
    pub(super) fn note(&mut self, text: &str) {
        let text = self.paint.dim(harmless(text));
        self.write(&format!("          {text}"));
    }

    /// Shows `draft`, the text that the user is typing, below the lines. With `None`, removes this text from the
    /// terminal.
    pub(super) fn show_draft(&mut self, draft: Option<String>) {
        self.draft = draft;
        if self.is_live() {
            self.put(&format!("\r\x1b[2K{}", self.prompt()));
        }
    }

    /// Removes the line that the user is typing.
    pub(super) fn clear(&mut self) {
        if self.draft.take().is_some() && self.is_live() {
            self.put("\r\x1b[2K");
        }
    }

    /// Returns the lines for the report.
    pub(super) fn take_entries(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.entries)
    }

    fn prompt(&self) -> String {
        self.draft.as_ref().map(|draft| format!("{} {}", self.paint.dim(">"), harmless(draft))).unwrap_or_default()
    }

    fn is_live(&self) -> bool {
        if self.json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() }
    }

    fn write(&self, line: &str) {
        match self.is_live() && self.draft.is_some() {
            true => self.put(&format!("\r\x1b[2K{line}\n{}", self.prompt())),
            false => self.put(&format!("{line}\n")),
        }
    }

    fn put(&self, text: &str) {
        // A closed pipe is ignored, so that the call continues and the exit code remains correct.
        match self.json {
            true => drop(std::io::stderr().write_all(text.as_bytes())),
            false => tandem_cli::print(format_args!("{text}")),
        }
    }
}

/// Rounds to hundredths of a second.
pub(super) fn rounded(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}
