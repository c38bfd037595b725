//! From the untyped document to a [`Config`], collecting every error on the way.
//!
//! serde stops at the first error. So the value it stumbled over is noted, taken out (or a missing one filled in), and the
//! whole is read again until it passes; a configuration is small and mistakes are few.

use serde_path_to_error::Segment;
use toml::Value;

use crate::Config;
use crate::document::Document;
use crate::error::Fault;

/// Keys whose values no message may show.
const SECRETS: [&str; 7] = ["auth_token", "api_key", "signing_seed", "api_token", "signing_key", "password", "url"];

/// After so many faults the rest would hardly be read.
const MOST_FAULTS: usize = 500;

/// The configuration with every faulty key at its default; what the faults were is added to `faults`.
pub(crate) fn decode(document: &mut Document, faults: &mut Vec<Fault>) -> Config {
    loop {
        let error = match serde_path_to_error::deserialize::<_, Config>(Value::Table(document.table.clone())) {
            Ok(config) => return config,
            Err(error) => error,
        };
        let path = path_of(error.path());
        let message = error.inner().message().to_owned();
        if let Some(key) = missing_field(&message) {
            let whole = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            // A faulty value was taken out before it is missed: one fault is enough.
            if faults.iter().all(|fault| fault.path != whole) {
                faults.push(Fault { origin: document.origin(&path), path: whole, message: "is missing".to_owned() });
            }
            if document.fill(&path, key) || document.remove(&path) {
                continue;
            }
            return Config::default();
        }
        match document.read_otherwise(&path, message) {
            Ok(()) => continue,
            Err(message) => {
                let message = explain(&path, &message);
                faults.push(Fault { origin: document.origin(&path), path: path.clone(), message });
            }
        }
        if !document.remove(&path) || faults.len() >= MOST_FAULTS {
            return Config::default();
        }
    }
}

fn path_of(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
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
    text
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// The message with what would be right, and without the value of a secret.
fn explain(path: &str, message: &str) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    if message.starts_with("unknown field") {
        let known = quoted(message).skip(1).collect::<Vec<_>>();
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
    if SECRETS.contains(&key) {
        let expected = message.rsplit_once(", expected ").map_or("other text", |(_, expected)| expected);
        return format!("the value (not shown) is wrong: expected {expected}");
    }
    message.to_owned()
}

/// What stands between backquotes, in order.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

/// The known word that `given` was probably meant to be.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let longest = (given.len() / 3).max(1);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), *word))
        .filter(|(distance, _)| *distance <= longest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
