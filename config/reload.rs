//! What of another configuration holds without a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use toml::{Table, Value};

use crate::Config;

/// Tables of the file that hold as soon as they are read.
const AT_ONCE: [&str; 17] = [
    "accounts",
    "trunks",
    "applications",
    "numbers",
    "number_pool",
    "twilio.strict_caller_id",
    "endpoints",
    "agents",
    "siprec",
    "sip",
    "stir",
    "origins",
    "ice",
    "speech",
    "log.level",
    "drain_timeout",
    "media.endpoint_srtp",
];
/// Keys of `[sip]` that do not.
const SOCKETS: [&str; 7] = ["listen", "advertise", "nameservers", "trace_mib", "hep", "hep_id", "hep_password"];

/// The keys that were written, each with a hash of its value: secrets among them are not kept twice.
#[derive(Clone, Default)]
pub(crate) struct Written(BTreeMap<String, u64>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}

impl Written {
    pub(crate) fn of(table: &Table) -> Self {
        let mut keys = BTreeMap::new();
        collect("", table, &mut keys);
        Self(keys)
    }
}

impl Config {
    /// What holds once `new` has been read: of what needs a restart, what was there before.
    pub fn replaced_by(&self, new: Config) -> Config {
        let mut written = new.written.0;
        written.retain(|key, _| holds_at_once(key));
        let fixed = self.written.0.iter().filter(|(key, _)| !holds_at_once(key));
        written.extend(fixed.map(|(key, hash)| (key.clone(), *hash)));
        Config { data_dir: self.data_dir.clone(), written: Written(written), ..new }
    }

    /// The keys that are other in `new`, or are only in one of both, and hold after a restart only.
    pub fn needs_restart(&self, new: &Config) -> Vec<String> {
        let (old, new) = (&self.written.0, &new.written.0);
        let mut keys: Vec<String> =
            old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
        keys.retain(|key| !holds_at_once(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn holds_at_once(key: &str) -> bool {
    let within = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    AT_ONCE.iter().any(|table| within(table)) && !SOCKETS.iter().any(|one| within(&format!("sip.{one}")))
}

fn collect(path: &str, table: &Table, keys: &mut BTreeMap<String, u64>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(table) => collect(&path, table, keys),
            value => {
                let mut hasher = DefaultHasher::new();
                format!("{value:?}").hash(&mut hasher);
                keys.insert(path, hasher.finish());
            }
        }
    }
}
