//! What is wrong with a configuration, and where.

use std::fmt;

/// Everything that is wrong, in the order of the file.
#[derive(Debug)]
pub struct Errors {
    file: Option<String>,
    faults: Vec<Fault>,
    notes: Vec<String>,
}

impl Errors {
    pub(crate) fn new(file: Option<String>, mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (&a.origin, &a.path).cmp(&(&b.origin, &b.path)));
        Self { file, faults, notes: Vec::new() }
    }

    pub(crate) fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// What is no error and yet worth reading, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Each fault.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for Errors {
    /// A line a fault: `tandem.toml:12: trunks[0].account: there is no account "acm"; did you mean "acme"?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.faults.iter().map(|fault| fault.line(self.file.as_deref())).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Errors {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it was written.
    pub origin: Origin,
    /// The key, e.g. `numbers[2].voice_url`; empty when the file is no TOML.
    pub path: String,
    /// What is wrong and what would be right. Never holds a secret.
    pub message: String,
}

impl Fault {
    /// One line: where, which key, what. `file` is what the configuration was read from.
    pub(crate) fn line(&self, file: Option<&str>) -> String {
        let file = file.unwrap_or("the defaults");
        let place = match &self.origin {
            Origin::Line(line) => format!("{file}:{line}: "),
            Origin::Variable(name) => format!("{name}: "),
            Origin::Whole => format!("{file}: "),
        };
        let key = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{place}{key}{}", self.message)
    }

    pub(crate) fn unreadable(reason: &str) -> Self {
        Self { origin: Origin::Whole, path: String::new(), message: format!("cannot be read: {reason}") }
    }
}

/// Where a key was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: it concerns a default, or the file as a whole.
    Whole,
    /// A line of the file, from 1.
    Line(usize),
    /// A variable of the environment.
    Variable(String),
}
