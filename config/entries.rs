//! The entries that people have made in the web console, joined with the configuration of the file. They are decoded and checked
//! like entries of the file.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tandem_settings::entry::{Entry, EntryFault, EntryList, Fields, ShownEntry};
use toml::{Table, Value};

use crate::decode::decode_element;
use crate::document::Document;
use crate::error::{Fault, Origin};
use crate::{Config, check};

/// The words for the configuration file in messages, because the web console does not know its path.
const FILE: &str = "the configuration file";
/// Keys that name files of the server. Only the configuration file may have them, so that nobody reads such a file by the web
/// console.
const FILES: [&str; 2] = ["prompt_file", "ca_file"];

/// The text and the variables from which a configuration was read.
#[derive(Clone, Default)]
pub(crate) struct Source {
    text: Arc<str>,
    environment: Arc<[(String, String)]>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(..)")
    }
}

impl Source {
    pub(crate) fn new(text: &str, environment: &[(String, String)]) -> Self {
        Self { text: text.into(), environment: environment.into() }
    }

    /// Parses the source again. The source has no faults, because the server runs with it.
    fn document(&self) -> Document {
        let mut document = Document::parse(&self.text).unwrap_or_default();
        document.overlay(self.environment.iter().cloned());
        document
    }
}

impl Config {
    /// Returns this configuration with more entries, and all faults of the result. The origin of a fault of an entry is
    /// [`Origin::Entry`] with the index of the entry. A configuration with faults must not be used.
    pub fn with_entries(&self, entries: &[Entry]) -> (Self, Vec<Fault>) {
        let (mut config, mut document, mut faults) = (self.clone(), self.source.document(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            config.add(&mut document, index, entry, &mut faults);
        }
        config.complete();
        let notes = check::check(&config, &document, &mut faults);
        config.notes = notes.iter().map(|note| note.line(Some(FILE))).collect();
        (config, faults)
    }

    fn add(&mut self, document: &mut Document, index: usize, entry: &Entry, faults: &mut Vec<Fault>) {
        fn push<T: DeserializeOwned>(
            to: &mut Vec<T>,
            document: &mut Document,
            entry: (usize, &Entry),
            faults: &mut Vec<Fault>,
        ) {
            let (index, Entry { list, fields }) = entry;
            let place = (list.word(), to.len());
            document.put_element(place, Value::Table(table(fields)), Origin::Entry(index));
            let path = format!("{}[{}]", place.0, place.1);
            let mut fault = |key: &str, message: &str| {
                faults.push(Fault {
                    origin: Origin::Entry(index),
                    path: format!("{path}.{key}"),
                    message: message.to_owned(),
                });
            };
            for key in FILES.into_iter().filter(|key| fields.contains_key(*key)) {
                fault(key, "names a file of the server; only the configuration file may have this key");
            }
            if fields.get("twiml").and_then(Json::as_str).is_some_and(|document| document.contains("file:")) {
                fault("twiml", "plays a file of the server; only the configuration file may have such a document");
            }
            to.extend(decode_element(document, place, faults));
        }
        let with_index = (index, entry);
        match entry.list {
            EntryList::Applications => push(&mut self.applications, document, with_index, faults),
            EntryList::Agents => push(&mut self.agents, document, with_index, faults),
            EntryList::Trunks => push(&mut self.trunks, document, with_index, faults),
            EntryList::Endpoints => push(&mut self.endpoints, document, with_index, faults),
            EntryList::Numbers => push(&mut self.numbers, document, with_index, faults),
        }
    }

    /// Returns the entries of a list in the file and in the environment.
    pub fn entries(&self, list: EntryList) -> Vec<ShownEntry> {
        let document = self.source.document();
        let shown = |index: usize| {
            let Json::Object(fields) = json(document.element(list.word(), index)?) else { return None };
            let entry = Entry { list, fields };
            let origin = document.origin(&format!("{}[{index}]", list.word()));
            let line = if let Origin::Line(line) = origin { Some(line) } else { None };
            let source = if matches!(origin, Origin::Variable(_)) { "environment" } else { "file" };
            Some(ShownEntry { source, line, ..shown(&entry) })
        };
        (0..document.length(list.word())).filter_map(shown).collect()
    }
}

/// Returns an entry of the web console as it is shown.
pub fn shown(entry: &Entry) -> ShownEntry {
    ShownEntry {
        id: None,
        name: entry.name().to_owned(),
        account: entry.account(),
        source: "console",
        line: None,
        fields: entry.masked(),
        text: text(entry),
        faults: Vec::new(),
    }
}

/// Returns an entry as text for the configuration file, without secrets.
pub fn text(entry: &Entry) -> String {
    let list = Value::Array(vec![Value::Table(table(&entry.masked()))]);
    Table::from_iter([(entry.list.word().to_owned(), list)]).to_string()
}

/// Returns the faults of the entry with this index with the keys of the entry. Faults of other entries and of the file have no
/// key. Their messages say the place.
pub fn faults_of(faults: &[Fault], index: usize) -> Vec<EntryFault> {
    let shown = |fault: &Fault| match &fault.origin {
        Origin::Entry(at) if *at == index => {
            EntryFault { key: fault.entry_key().map(str::to_owned), message: fault.message.clone() }
        }
        _ => EntryFault { key: None, message: fault.line(Some(FILE)) },
    };
    faults.iter().map(shown).collect()
}

/// Returns the fields as TOML. `null` is not in the result, because TOML has no such value.
fn table(fields: &Fields) -> Table {
    fields.iter().filter_map(|(key, value)| Some((key.clone(), toml(value)?))).collect()
}

fn toml(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), Value::Integer)
        }
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().filter_map(toml).collect()),
        Json::Object(fields) => Value::Table(table(fields)),
    })
}

fn json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Boolean(value) => Json::from(*value),
        Value::Datetime(time) => Json::from(time.to_string()),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = r#"
[[accounts]]
name = "acme"
twilio = { account_sid = "AC00000000000000000000000000000001", auth_token = "0123456789abcdef0123456789abcdef" }

[[trunks]]
name = "carrier"
uri = "sip:127.0.0.1:5070"
password = "secret"
username = "us"

[[numbers]]
number = "+15551230001"
provider = "twilio"
voice_url = "http://127.0.0.1:9000/voice"
"#;

    fn entry(list: EntryList, fields: Json) -> Entry {
        let Json::Object(fields) = fields else { panic!("no object") };
        Entry { list, fields }
    }

    fn file() -> Config {
        Config::read(TEXT, []).unwrap().0
    }

    /// The faults of these entries, as `index key: message`.
    fn faults(entries: &[Entry]) -> Vec<String> {
        let faults = file().with_entries(entries).1;
        let line = |fault: &Fault| format!("{:?} {}: {}", fault.origin, fault.path, fault.message);
        faults.iter().map(line).collect()
    }

    #[test]
    fn an_entry_works_like_an_entry_of_the_file() {
        let entries = [
            entry(
                EntryList::Agents,
                json!({ "name": "desk", "prompt": "Hi", "model": { "url": "http://a/v1", "key": "k" } }),
            ),
            entry(
                EntryList::Trunks,
                json!({ "name": "backup", "uri": "sip:127.0.0.1:5071", "prefixes": ["+49"], "max_calls": 5 }),
            ),
            entry(EntryList::Numbers, json!({ "number": "+15551230002", "account": "acme", "agent": "desk" })),
        ];
        let (config, faults) = file().with_entries(&entries);
        assert_eq!(faults, []);
        assert_eq!((config.trunks.len(), config.numbers.len(), config.agents.len()), (2, 2, 1));
        assert_eq!(config.trunks[1].max_calls, Some(5));
    }

    #[test]
    fn faults_of_an_entry_name_its_keys_and_faults_elsewhere_name_their_place() {
        let trunk = |fields| entry(EntryList::Trunks, fields);
        let found = faults(&[trunk(json!({ "name": "carrier", "uri": "sip:127.0.0.1:5071", "max_cals": 5 }))]);
        assert!(
            found.iter().any(|fault| fault.starts_with("Entry(0) trunks[1].max_cals: ") && fault.contains("max_calls")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|fault| fault.starts_with("Entry(0) trunks[1].name: ") && fault.contains("line 7")),
            "{found:?}"
        );
        let found = faults(&[entry(EntryList::Numbers, json!({ "account": "acme", "agent": "nobody" }))]);
        assert!(found.iter().any(|fault| fault.starts_with("Entry(0) numbers[1].number: is missing")), "{found:?}");
        assert!(
            found.iter().any(|fault| fault.contains("there is no agent \"nobody\"") || fault.contains("nobody")),
            "{found:?}"
        );
        let shown = faults_of(&file().with_entries(&[trunk(json!({ "name": "a b", "uri": "sip:x" }))]).1, 0);
        assert!(shown.iter().any(|fault| fault.key.as_deref() == Some("name")), "{shown:?}");
    }

    #[test]
    fn an_entry_names_no_file_of_the_server() {
        let model = json!({ "url": "http://a/v1" });
        let found =
            faults(&[entry(EntryList::Agents, json!({ "name": "a", "prompt_file": "/etc/shadow", "model": model }))]);
        assert!(found.iter().any(|fault| fault.contains("agents[0].prompt_file: names a file")), "{found:?}");
        let document = "<Response><Play>file:/etc/shadow</Play></Response>";
        let found = faults(&[entry(
            EntryList::Numbers,
            json!({ "number": "+15551230002", "account": "acme", "twiml": document }),
        )]);
        assert!(found.iter().any(|fault| fault.contains("numbers[1].twiml: plays a file")), "{found:?}");
    }

    #[test]
    fn entries_of_the_file_are_shown_with_their_lines_and_without_secrets() {
        let shown = file().entries(EntryList::Trunks);
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].name.as_str(), shown[0].source, shown[0].line), ("carrier", "file", Some(6)));
        assert!(
            shown[0].text.contains("[[trunks]]") && shown[0].text.contains("password = \"***\""),
            "{}",
            shown[0].text
        );
        assert!(!format!("{shown:?}").contains("secret"));
    }
}
