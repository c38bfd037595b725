//! Decodes the untyped document into a [`Config`] and collects all errors.
//!
//! serde stops at the first error. Therefore `decode` reports the faulty value and removes it from the document. If the
//! key is required, `decode` replaces the faulty value by a valid value instead. Then `decode` decodes again, until
//! there are no more errors. A long list has many errors at most in its elements, so each element is repaired on its
//! own: an error in one of 100,000 numbers does not decode the other numbers again.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use tandem_accounts::Account;
use tandem_http::OriginConfig;
use tandem_routing::number_pool::Block;
use tandem_settings::{Application, EndpointConfig, NumberConfig, TrunkConfig};
use toml::Value;

use crate::Config;
use crate::document::Document;
use crate::error::Fault;

/// Keys whose values must not appear in messages.
const SECRETS: [&str; 11] = [
    "auth_token",
    "api_key",
    "signing_seed",
    "api_token",
    "signing_key",
    "password",
    "inbound_password",
    "url",
    "encryption_key",
    "tts_key",
    "stt_key",
];

/// Keys that must be above the first table of the file.
const TOP: [&str; 2] = ["data_dir", "drain_timeout"];

/// Maximum number of faults. Decoding and checking stop at this number, because nobody would read a longer list.
pub(crate) const MAX_FAULTS: usize = 500;

/// Values that replace the missing or wrong value of a required key: first an empty text, then a telephone number that
/// can be called.
const STAND_INS: [&str; 2] = ["", "0"];

/// Returns the configuration. Each key with a fault has its default in this configuration. Adds the faults to `faults`,
/// at most one for each key.
pub(crate) fn decode(document: &mut Document, faults: &mut Vec<Fault>) -> Config {
    if let Ok(config) = whole(document) {
        return config;
    }
    let mut repair = Repair { document, faults, stand_ins: HashMap::new() };
    repair.elements::<Account>("accounts");
    repair.elements::<TrunkConfig>("trunks");
    repair.elements::<Application>("applications");
    repair.elements::<NumberConfig>("numbers");
    repair.elements::<Block>("number_pool");
    repair.elements::<EndpointConfig>("endpoints");
    repair.elements::<OriginConfig>("origins");
    repair.until_decoded(whole).unwrap_or_default()
}

/// Decodes one element of a list at the top of the document. Adds its faults to `faults`. Returns `None` if the element cannot be
/// repaired.
pub(crate) fn decode_element<T: DeserializeOwned>(
    document: &mut Document,
    (list, index): (&str, usize),
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let path = format!("{list}[{index}]");
    let mut repair = Repair { document, faults, stand_ins: HashMap::new() };
    let decoded = repair.until_decoded(|document| match document.element(list, index) {
        Some(element) => decoded(&path, element.clone()).map(Some),
        None => Ok(None),
    });
    decoded.flatten()
}

/// The path of a value that cannot be decoded, and the message of serde.
type Wrong = (String, String);

fn whole(document: &Document) -> Result<Config, Wrong> {
    decoded("", Value::Table(document.table.clone()))
}

/// Decodes a value. `at` is the path of the value.
fn decoded<T: DeserializeOwned>(at: &str, value: Value) -> Result<T, Wrong> {
    serde_path_to_error::deserialize(value).map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
        let mut path = at.to_owned();
        write_path(&mut path, error.path());
        (path, error.inner().message().to_owned())
    })
}

/// The repair of a document with faults.
struct Repair<'a> {
    document: &'a mut Document,
    faults: &'a mut Vec<Fault>,
    stand_ins: HashMap<String, std::slice::Iter<'static, &'static str>>,
}

impl Repair<'_> {
    /// Repairs each element of a list at the top of the document.
    fn elements<T: DeserializeOwned>(&mut self, list: &str) {
        let mut index = 0;
        // A repair may remove the list.
        while index < self.document.length(list) {
            let path = format!("{list}[{index}]");
            let done = self.until_decoded(|document| match document.element(list, index) {
                Some(element) => decoded::<T>(&path, element.clone()).map(drop),
                None => Ok(()),
            });
            if done.is_none() {
                return;
            }
            index += 1;
        }
    }

    /// Decodes and repairs until there are no more errors. Returns `None` if a repair is not possible, or if there are
    /// too many faults.
    fn until_decoded<T>(&mut self, decode: impl Fn(&Document) -> Result<T, Wrong>) -> Option<T> {
        loop {
            match decode(self.document) {
                Ok(value) => return Some(value),
                Err((at, message)) => self.repair(&at, &message)?,
            }
        }
    }

    fn repair(&mut self, at: &str, message: &str) -> Option<()> {
        let Self { document, faults, stand_ins } = self;
        if faults.len() >= MAX_FAULTS {
            return None;
        }
        let (path, message, missing) = match missing_field(message) {
            Some(key) if at.is_empty() => (key.to_owned(), "is missing".to_owned(), true),
            Some(key) => (format!("{at}.{key}"), "is missing".to_owned(), true),
            None => match document.try_next_reading(at, message.to_owned()) {
                Ok(()) => return Some(()),
                Err(message) => (at.to_owned(), explain(at, &message, document.text(at)), false),
            },
        };
        // A second error at the same path is caused by a value that this function inserted or removed.
        let again = faults.iter().any(|fault| fault.path == path);
        if !again {
            faults.push(Fault { origin: document.origin(&path), path: path.clone(), message });
        }
        let repaired = if missing || again {
            match stand_ins.entry(path.clone()).or_insert_with(|| STAND_INS.iter()).next() {
                Some(text) => document.put(&path, text),
                None => document.remove(path.rsplit_once('.').map_or("", |(table, _)| table)),
            }
        } else {
            document.remove(&path)
        };
        repaired.then_some(())
    }
}

/// Adds a path to the path of the value in which the path begins.
fn write_path(text: &mut String, path: &serde_path_to_error::Path) {
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Returns the error message and the expected form of the value. The message never contains the value of a secret.
/// `given` is the configured value if this value is text.
fn explain(path: &str, message: &str, given: Option<String>) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    if message.starts_with("unknown field") {
        let known = quoted(message).skip(1).collect::<Vec<_>>();
        if path != key && TOP.contains(&key) {
            return format!("unknown key here; move {key} above the first [table] of the file");
        }
        return match nearest(key, &known) {
            Some(near) => format!("unknown key; did you mean \"{near}\"?"),
            None => format!("unknown key; this table has {}", known.join(", ")),
        };
    }
    if message.starts_with("unknown variant") {
        let known = quoted(message).skip(1).collect::<Vec<_>>();
        let given = quoted(message).next().unwrap_or_default();
        let near = nearest(given, &known).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        return format!("{given:?} is not one of \"{}\"{near}", known.join("\", \""));
    }
    let expected = message.rsplit_once(", expected ").map(|(_, expected)| in_words(expected));
    if SECRETS.contains(&key) {
        return format!("wrong value (not shown): expected {}", expected.as_deref().unwrap_or("other text"));
    }
    match (expected, given) {
        (Some(expected), Some(text)) if is_literal(&text) => format!("expected {expected}, without quotes: {text}"),
        (Some(expected), Some(text)) => format!("expected {expected}, not {text:?}"),
        (Some(expected), None) if expected == "a list in [ ]" && written(message) == "a table" => {
            format!("expected {expected}, not a table; a list of tables is written [[{path}]]")
        }
        (Some(expected), None) => format!("expected {expected}, not {}", written(message)),
        (None, Some(text)) if message == "invalid socket address syntax" => {
            format!("{text:?} is not \"ADDRESS:PORT\", such as \"127.0.0.1:8080\" or \"[::1]:8080\"")
        }
        (None, Some(text)) if message == "invalid IP address syntax" => {
            format!("{text:?} is not an IP address, such as \"127.0.0.1\" or \"::1\"")
        }
        (None, _) => message.to_owned(),
    }
}

/// Returns a description of a type that serde expected. A person who does not know Rust can understand the description.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "a boolean" => "true or false",
        "a string" | "string" => "text in quotes",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        other => other,
    }
    .to_owned()
}

/// Returns the part of serde's message that describes the configured value.
fn written(message: &str) -> &str {
    match quoted(message).next() {
        Some(value) => value,
        None if message.contains(": sequence,") => "a list",
        None if message.contains(": map,") => "a table",
        None => "this",
    }
}

/// Returns whether the text would be an integer or a boolean without its quotes.
fn is_literal(text: &str) -> bool {
    text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()
}

/// Returns the texts between backquotes, in the order of the message.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// Returns the known word that is most similar to `given`, or `None` if no known word is similar enough.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let longest = (given.len() / 3).max(1);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), *word))
        .filter(|(distance, _)| *distance <= longest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
