//! What types cannot say: that names exist, that addresses are ours to take, that settings agree with each other.

mod agents;
mod gateways;
mod origins;
mod registrar;
mod resources;
mod siprec;
mod surfaces;

use tandem_accounts::DEFAULT_ACCOUNT;

use crate::Config;
use crate::decode::nearest;
use crate::document::Document;
use crate::error::Fault;

/// Adds everything that is wrong with `config` to `faults`; a key that has a fault already gets no second one. Answers with
/// notes: what is right and has no effect yet.
pub(crate) fn check(config: &Config, document: &Document, faults: &mut Vec<Fault>) -> Vec<Fault> {
    let unread = faults.len();
    let mut report = Report { document, faults, unread, notes: Vec::new() };
    surfaces::check(config, &mut report);
    registrar::check(config, &mut report);
    resources::check(config, &mut report);
    report.notes
}

/// Collects faults at paths.
struct Report<'a> {
    document: &'a Document,
    faults: &'a mut Vec<Fault>,
    /// The first so many faults are of values that could not be read: what is there now is not what was meant.
    unread: usize,
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

    /// Whether the key has a fault, or what it is part of could not be read.
    fn is_faulty(&self, path: &str) -> bool {
        self.is_unread(path) || self.faults.iter().any(|fault| fault.path == path)
    }

    fn is_unread(&self, path: &str) -> bool {
        self.faults.iter().take(self.unread).any(|fault| {
            path.strip_prefix(fault.path.as_str()).is_some_and(|rest| {
                !fault.path.is_empty() && (rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
            })
        })
    }

    /// Notes the second of two that may not be equal.
    fn unique<K: std::hash::Hash + Eq>(&mut self, what: &str, keys: impl IntoIterator<Item = (String, K)>) {
        let mut seen = std::collections::HashMap::new();
        for (path, key) in keys {
            if self.is_unread(&path) {
                continue;
            }
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

    /// Notes a name that nothing has. What stands in `{what}s` is `known`.
    fn exists(&mut self, path: String, what: &str, name: &str, known: &[&str]) {
        if known.contains(&name) || self.is_incomplete(&format!("{what}s")) {
            return;
        }
        let mut right: Vec<&str> = known.iter().copied().filter(|name| is_name(name)).collect();
        right.sort_unstable();
        right.dedup();
        let help = match (nearest(name, &right), what) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, "account") if right == [DEFAULT_ACCOUNT] => format!(
                "add [[accounts]] as in tandem.example.toml, or use \"{DEFAULT_ACCOUNT}\", which the server creates when no account is configured"
            ),
            (None, _) if right.is_empty() => format!("there are no {what}s at all"),
            (None, _) => format!("there are \"{}\"", right.join("\", \"")),
        };
        self.fault(path, format!("there is no {what} {name:?}; {help}"));
    }

    /// Whether names of this list could not be read: then nobody knows what is missing in it.
    fn is_incomplete(&self, list: &str) -> bool {
        self.faults.iter().take(self.unread).any(|fault| match fault.path.strip_prefix(list) {
            Some(rest) => rest.split_once(']').is_none_or(|(_, key)| matches!(key, "" | ".name" | ".id")),
            None => false,
        })
    }
}

/// Whether accounts, trunks and users of endpoints may be called so.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
}
