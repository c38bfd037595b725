//! What types cannot say: that names exist, that addresses are ours to take, that settings agree with each other.

mod resources;
mod surfaces;

use crate::Config;
use crate::decode::nearest;
use crate::document::Document;
use crate::error::Fault;

/// Adds everything that is wrong with `config` to `faults`; a key that has a fault already gets no second one. Answers with
/// notes: what is right and has no effect yet.
pub(crate) fn check(config: &Config, document: &Document, faults: &mut Vec<Fault>) -> Vec<Fault> {
    let mut report = Report { document, faults, notes: Vec::new() };
    surfaces::check(config, &mut report);
    resources::check(config, &mut report);
    report.notes
}

/// Collects faults at paths.
struct Report<'a> {
    document: &'a Document,
    faults: &'a mut Vec<Fault>,
    notes: Vec<Fault>,
}

impl Report<'_> {
    fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if !self.is_faulty(&path) {
            self.faults.push(Fault { origin: self.document.origin(&path), path, message: message.into() });
        }
    }

    fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        self.notes.push(Fault { origin: self.document.origin(&path), path, message: message.into() });
    }

    /// Whether the key, or what it is part of, has a fault.
    fn is_faulty(&self, path: &str) -> bool {
        self.faults.iter().any(|fault| {
            path.strip_prefix(fault.path.as_str()).is_some_and(|rest| {
                !fault.path.is_empty() && (rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
            })
        })
    }

    /// Notes the second of two that may not be equal.
    fn unique<K: std::hash::Hash + Eq>(&mut self, what: &str, keys: impl IntoIterator<Item = (String, K)>) {
        let mut seen = std::collections::HashMap::new();
        for (path, key) in keys {
            match seen.get(&key) {
                Some(first) => {
                    let first: &String = first;
                    let place = match self.document.origin(first) {
                        crate::Origin::Line(line) => format!("{first} on line {line}"),
                        crate::Origin::Variable(_) | crate::Origin::Whole => first.clone(),
                    };
                    self.fault(path, format!("{what} is taken by {place}"));
                }
                None => drop(seen.insert(key, path)),
            }
        }
    }

    /// Notes a name that nothing has.
    fn exists(&mut self, path: String, what: &str, name: &str, known: &[&str]) {
        if known.contains(&name) {
            return;
        }
        let help = match (nearest(name, known), known) {
            (Some(near), _) => format!("; did you mean \"{near}\"?"),
            (None, []) => format!("; there are no {what}s at all"),
            (None, known) => format!("; there are \"{}\"", known.join("\", \"")),
        };
        self.fault(path, format!("there is no {what} {name:?}{help}"));
    }
}
