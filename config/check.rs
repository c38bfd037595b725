//! Checks of a decoded configuration. The types cannot make these checks: names must exist, addresses must be usable,
//! and settings must agree with each other.

mod agents;
mod cluster;
mod gateways;
mod origins;
mod registrar;
mod resources;
mod siprec;
mod surfaces;
mod trunks;

pub(crate) use resources::documents;

use std::collections::HashMap;
use std::path::Path;

use tandem_accounts::DEFAULT_ACCOUNT;
use tandem_id::AccountName;

use crate::Config;
use crate::decode::{MAX_FAULTS, nearest};
use crate::document::Document;
use crate::error::Fault;
use resources::Names;

/// Maximum number of names that a message lists.
const MAX_NAMES: usize = 20;

/// Adds every problem of `config` to `faults`, at most one fault for each key. Returns the notes about settings that
/// are valid but dangerous or without effect.
pub(crate) fn check(config: &Config, document: &Document, faults: &mut Vec<Fault>) -> Vec<Fault> {
    let unread = faults.len();
    let mut report = Report { document, faults, unread, notes: Vec::new() };
    surfaces::check(config, &mut report);
    registrar::check(config, &mut report);
    cluster::check(config, &mut report);
    let names = Names::of(config);
    resources::check(config, &names, &mut report);
    trunks::check(config, &names, &mut report);
    agents::check(config, &mut report);
    gateways::check(config, &names, &mut report);
    siprec::check(config, &names, &mut report);
    origins::check(config, &names, &mut report);
    report.notes
}

/// Collects the faults and the notes, each with the path of its key.
struct Report<'a> {
    document: &'a Document,
    faults: &'a mut Vec<Fault>,
    /// Number of faults about values that could not be read. These faults are at the start of `faults`. In the checked
    /// configuration, the keys of these values have their default.
    unread: usize,
    notes: Vec<Fault>,
}

impl Report<'_> {
    fn fault(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if self.faults.len() < MAX_FAULTS && !self.is_faulty(&path) {
            self.faults.push(Fault { origin: self.document.origin(&path), path, message: message.into() });
        }
    }

    /// Checks that a folder exists or that the server can create it: the nearest part of the path that exists is a folder.
    fn folder(&mut self, path: &str, folder: &Path) {
        let there = folder.ancestors().find_map(|part| Some((part, std::fs::metadata(part).ok()?)));
        if let Some((part, _)) = there.filter(|(_, metadata)| !metadata.is_dir()) {
            self.fault(path, format!("{} is not a folder", part.display()));
        }
    }

    fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        self.notes.push(Fault { origin: self.document.origin(&path), path, message: message.into() });
    }

    /// Returns whether the key has a fault. A key inside a value that could not be read also counts as a key with a
    /// fault.
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

    /// Adds a fault for every key whose value is the same as the value of an earlier key.
    fn unique<K: std::hash::Hash + Eq>(&mut self, what: &str, keys: impl IntoIterator<Item = (String, K)>) {
        let mut seen = HashMap::new();
        for (path, key) in keys {
            if self.is_unread(&path) {
                continue;
            }
            match seen.get(&key) {
                Some(first) => {
                    let first: &String = first;
                    let place = match self.document.origin(first) {
                        crate::Origin::Line(line) => format!("{first} on line {line}"),
                        _ => first.clone(),
                    };
                    self.fault(path, format!("{what} is taken by {place}"));
                }
                None => drop(seen.insert(key, path)),
            }
        }
    }

    /// Adds a fault if the account that owns an object does not exist, or if the key is missing although there are
    /// several accounts.
    fn owner<V>(&mut self, path: String, account: &AccountName, accounts: &HashMap<&str, V>) {
        if account.is_server() && accounts.len() > 1 {
            let mut names: Vec<&str> = accounts.keys().copied().collect();
            names.sort_unstable();
            names.truncate(MAX_NAMES);
            let names = names.join("\", \"");
            self.fault(path, format!("is missing: there are several accounts, \"{names}\""));
        } else {
            self.exists(path, "account", account.as_str(), accounts);
        }
    }

    /// Adds a fault if `name` is not in `known`. `known` contains the names in the configuration list that is called
    /// `what` with an `s`.
    fn exists<V>(&mut self, path: String, what: &str, name: &str, known: &HashMap<&str, V>) {
        if known.contains_key(name) || self.faults.len() >= MAX_FAULTS || self.is_incomplete(&format!("{what}s")) {
            return;
        }
        let mut right: Vec<&str> = known.keys().copied().filter(|name| is_name(name)).collect();
        right.sort_unstable();
        let help = match (nearest(name, &right), what) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, "account") if right == [DEFAULT_ACCOUNT] => format!(
                "add [[accounts]] as in tandem.example.toml, or use \"{DEFAULT_ACCOUNT}\", which the server creates when no account is configured"
            ),
            (None, _) if right.is_empty() => format!("there are no {what}s at all"),
            (None, _) if right.len() > MAX_NAMES => {
                let (first, others) = right.split_at(MAX_NAMES);
                format!("there are \"{}\" and {} others", first.join("\", \""), others.len())
            }
            (None, _) => format!("there are \"{}\"", right.join("\", \"")),
        };
        self.fault(path, format!("there is no {what} {name:?}; {help}"));
    }

    /// Returns whether some names in this list could not be read. If true, the complete set of names is not known.
    fn is_incomplete(&self, list: &str) -> bool {
        self.faults.iter().take(self.unread).any(|fault| match fault.path.strip_prefix(list) {
            Some(rest) => rest.split_once(']').is_none_or(|(_, key)| matches!(key, "" | ".name" | ".id")),
            None => false,
        })
    }
}

/// Returns whether the text is a valid name: 1 to 64 letters, digits, `-`, `_` and `.`. This rule applies to the names
/// of accounts and trunks, and to the user names of endpoints.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
}
