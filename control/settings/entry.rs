//! Entries of the configuration that people make in the web console. Such an entry has the keys of the configuration file, so
//! the same code decodes, checks and applies it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_id::AccountName;

/// A list of the configuration whose entries can be made in the web console.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryList {
    /// `[[applications]]`
    Applications,
    /// `[[agents]]`
    Agents,
    /// `[[trunks]]`
    Trunks,
    /// `[[endpoints]]`
    Endpoints,
    /// `[[numbers]]`
    Numbers,
}

impl EntryList {
    /// All lists. An entry refers only to entries of lists before its own.
    pub const ALL: [Self; 5] = [Self::Applications, Self::Agents, Self::Trunks, Self::Endpoints, Self::Numbers];

    /// The name of the list in the configuration file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Applications => "applications",
            Self::Agents => "agents",
            Self::Trunks => "trunks",
            Self::Endpoints => "endpoints",
            Self::Numbers => "numbers",
        }
    }

    /// The key whose value names an entry.
    pub fn name_key(self) -> &'static str {
        match self {
            Self::Applications => "id",
            Self::Agents | Self::Trunks => "name",
            Self::Endpoints => "username",
            Self::Numbers => "number",
        }
    }
}

/// The keys of an entry with their values. The keys and the values are those of the configuration file.
pub type Fields = Map<String, Value>;

/// An entry of a list of the configuration.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The list.
    pub list: EntryList,
    /// The keys with their values, secrets included.
    pub fields: Fields,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} {:?})", self.list.word(), self.name())
    }
}

/// The text that stands for a secret.
pub const MASK: &str = "***";
/// The keys whose values are secret.
const SECRETS: [&str; 3] = ["password", "inbound_password", "key"];
/// Maximum number of levels of a value. The checks of an entry report deeper values as unknown keys.
const DEEPEST: usize = 8;

impl Entry {
    /// The name of the entry. Empty if the entry has none.
    pub fn name(&self) -> &str {
        self.fields.get(self.list.name_key()).and_then(Value::as_str).unwrap_or_default()
    }

    /// The account of the entry. `None` if the entry belongs to the server.
    pub fn account(&self) -> Option<AccountName> {
        self.fields.get("account").and_then(Value::as_str).map(AccountName::new)
    }

    /// Returns the fields with [`MASK`] in place of each secret.
    pub fn masked(&self) -> Fields {
        let mut fields = self.fields.clone();
        mask(&mut fields, false, DEEPEST);
        fields
    }

    /// Replaces each [`MASK`] by the secret of an earlier version of the entry. Removes the keys without such a secret, so that
    /// the mask never becomes a password.
    pub fn with_secrets_of(mut self, earlier: Option<&Self>) -> Self {
        restore(&mut self.fields, earlier.map(|earlier| &earlier.fields), false, DEEPEST);
        self
    }
}

/// The key of the header fields of a request. All their values are secret.
const HEADERS: &str = "headers";

fn mask(fields: &mut Fields, all: bool, levels: usize) {
    for (key, value) in fields {
        match value {
            Value::String(text) if all || SECRETS.contains(&&**key) => MASK.clone_into(text),
            Value::Object(inner) if levels > 0 => mask(inner, key == HEADERS, levels - 1),
            Value::Array(items) if levels > 0 => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|inner| mask(inner, false, levels - 1));
            }
            _ => {}
        }
    }
}

fn restore(fields: &mut Fields, earlier: Option<&Fields>, all: bool, levels: usize) {
    let is_masked = |key: &str, value: &Value| (all || SECRETS.contains(&key)) && value.as_str() == Some(MASK);
    let masked = fields.iter().filter(|(key, value)| is_masked(key, value)).map(|(key, _)| key.clone());
    for key in masked.collect::<Vec<_>>() {
        match earlier.and_then(|earlier| earlier.get(&key)) {
            Some(secret) => fields.insert(key, secret.clone()),
            None => fields.remove(&key),
        };
    }
    for (key, value) in fields.iter_mut().filter(|_| levels > 0) {
        let before = earlier.and_then(|earlier| earlier.get(key));
        match value {
            Value::Object(inner) => restore(inner, before.and_then(Value::as_object), key == HEADERS, levels - 1),
            Value::Array(items) => {
                for (index, inner) in items.iter_mut().enumerate() {
                    let before = before.and_then(|before| before.get(index)).and_then(Value::as_object);
                    inner.as_object_mut().into_iter().for_each(|inner| restore(inner, before, false, levels - 1));
                }
            }
            _ => {}
        }
    }
}

/// A request to make, change, remove or only check an entry.
#[derive(Clone, Debug)]
pub struct EntryChange {
    /// The entry to change or to remove. `None` makes a new entry.
    pub id: Option<u128>,
    /// The entry. `None` removes it.
    pub entry: Option<Entry>,
    /// If set, the old and the new entry must belong to this account.
    pub owner: Option<AccountName>,
    /// Whether the entry is only checked.
    pub is_check: bool,
}

/// The result of a change of an entry.
#[derive(Clone, Debug)]
pub struct EntryChanged {
    /// The id of the entry.
    pub id: u128,
    /// The entry as text for the configuration file, without secrets. Empty for a removed entry.
    pub text: String,
    /// Notes about settings that are valid but dangerous or without effect.
    pub notes: Vec<String>,
}

/// A fault of an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EntryFault {
    /// The key in the entry, for example `model.url`. `None` for a fault of the whole entry or of another place.
    pub key: Option<String>,
    /// The fault, and a valid value.
    pub message: String,
}

/// The reason why an entry was not changed.
#[derive(Clone, Debug)]
pub enum EntryRefused {
    /// The configuration with the change is not valid.
    Faults(Vec<EntryFault>),
    /// There is no entry with this id, or it belongs to another account.
    Unknown,
    /// The server has the maximum number of entries.
    TooMany(usize),
    /// The change was valid but could not be stored or applied.
    Failed(String),
}

/// An entry as the web console shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ShownEntry {
    /// The id, as 32 hex digits. `None` for an entry of the configuration file, which is changed only there.
    pub id: Option<String>,
    /// The name of the entry.
    pub name: String,
    /// The account of the entry. `None` if the entry belongs to the server.
    pub account: Option<AccountName>,
    /// The source: `file`, `environment` or `console`.
    pub source: &'static str,
    /// The line in the configuration file.
    pub line: Option<usize>,
    /// The keys with their values. Secrets are masked.
    pub fields: Fields,
    /// The entry as text for the configuration file, without secrets.
    pub text: String,
    /// The reasons why the server does not use the entry. Such an entry was valid before the configuration file changed.
    pub faults: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(fields: Value) -> Entry {
        let Value::Object(fields) = fields else { panic!("no object") };
        Entry { list: EntryList::Agents, fields }
    }

    #[test]
    fn a_masked_entry_shows_no_secret_and_gets_its_secrets_back() {
        let tools = json!([{ "name": "a", "headers": { "X-Api-Key": "Bearer one" } }]);
        let entry = agent(json!({ "name": "desk", "model": { "url": "http://a/", "key": "sk-1" }, "tools": tools }));
        let shown = agent(Value::Object(entry.masked()));
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("sk-1") && !text.contains("Bearer one"), "{text}");
        assert!(!format!("{entry:?}").contains("sk-1"));
        assert_eq!(shown.clone().with_secrets_of(Some(&entry)), entry);
        let made = shown.with_secrets_of(None);
        assert_eq!(made.fields.get("model"), Some(&json!({ "url": "http://a/" })), "a mask is no secret");
    }
}
