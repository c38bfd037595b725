//! The errors of a configuration and the places of these errors.

use std::fmt;

/// All errors of a configuration, in the order of the file.
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

    /// Returns one line for each note. A note is about a setting that is valid but dangerous or without effect.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the faults, in the order of the file.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for Errors {
    /// Writes one line for each fault, for example `tandem.toml:12: trunks[0].account: there is no account "acm"; did
    /// you mean "acme"?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.faults.iter().map(|fault| fault.line(self.file.as_deref())).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Errors {}

/// One error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The place where the key was set.
    pub origin: Origin,
    /// The key, for example `numbers[2].voice_url`. The path is empty if the file is not valid TOML.
    pub path: String,
    /// A description of the error and of a valid value. The message never contains a secret.
    pub message: String,
}

impl Fault {
    /// Returns one line with the place, the key and the message. `file` is the path of the configuration file.
    pub fn line(&self, file: Option<&str>) -> String {
        let file = file.unwrap_or("the defaults");
        let place = match &self.origin {
            Origin::Line(line) => format!("{file}:{line}: "),
            Origin::Variable(name) => format!("{name}: "),
            Origin::Entry(_) => "the web console: ".to_owned(),
            Origin::WholeFile => format!("{file}: "),
        };
        let key = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{place}{key}{}", self.message)
    }

    /// Returns the key within an entry of a list: `voice_url` for `numbers[2].voice_url`. `None` for a fault of the whole entry.
    pub fn entry_key(&self) -> Option<&str> {
        self.path.split_once("].").map(|(_, key)| key)
    }

    pub(crate) fn unreadable(reason: &str) -> Self {
        Self { origin: Origin::WholeFile, path: String::new(), message: format!("cannot be read: {reason}") }
    }
}

/// The place where a key was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The key was not set. The fault is about a default value, or about the file as a whole.
    WholeFile,
    /// The key was set in this line of the file. The first line has the number 1.
    Line(usize),
    /// The key was set by the environment variable with this name.
    Variable(String),
    /// The key is in the entry of the web console with this index.
    Entry(usize),
}
