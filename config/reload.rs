//! Reload of the configuration: decides which new settings take effect without a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use toml::{Table, Value};

use crate::Config;

/// Tables and keys that take effect at a reload, except the keys in `SOCKETS`.
const AT_ONCE: [&str; 18] = [
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
    "webhooks.ca_file",
];
/// Keys of `[sip]` that take effect only at a restart.
const SOCKETS: [&str; 7] = ["listen", "advertise", "nameservers", "trace_mib", "hep", "hep_id", "hep_password"];

/// The keys that were set, and a hash of each value. Two hashes are enough to compare two values, and a hash does not
/// reveal a secret.
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
    /// Returns the configuration that is in effect after a reload with the new configuration `new`. The result also
    /// records which keys were set. If a key needs a restart, this record keeps the key's old hash.
    pub fn replaced_by(&self, new: Config) -> Config {
        let mut written = new.written.0;
        written.retain(|key, _| applies_at_once(key));
        let fixed = self.written.0.iter().filter(|(key, _)| !applies_at_once(key));
        written.extend(fixed.map(|(key, hash)| (key.clone(), *hash)));
        Config { data_dir: self.data_dir.clone(), written: Written(written), ..new }
    }

    /// Returns the reason why a reload with the new configuration `new` must be an accident: the new configuration has no
    /// account any more, or nothing that this configuration serves. An empty or truncated file is such a configuration.
    /// After such a reload, the server would refuse every request of its operator.
    pub fn refusal_of(&self, new: &Config) -> Option<String> {
        let resources = |config: &Config| {
            let Config { accounts, trunks, applications, numbers, endpoints, agents, siprec, .. } = config;
            accounts.len()
                + trunks.len()
                + applications.len()
                + numbers.len()
                + endpoints.len()
                + agents.len()
                + siprec.len()
        };
        let lost = match (self.accounts.len(), resources(self)) {
            (1.., _) if new.accounts.is_empty() => "[[accounts]]",
            (_, 1..) if resources(new) == 0 => "accounts, trunks, applications, numbers, endpoints and agents",
            _ => return None,
        };
        Some(format!(
            "the file has no {lost} any more; an empty or truncated file is not applied. To run with this file, restart the \
             server"
        ))
    }

    /// Returns the keys that have different values in `self` and in `new`, and that take effect only at a restart. A
    /// key that is set in only one of the two configurations counts as different.
    pub fn needs_restart(&self, new: &Config) -> Vec<String> {
        let (old, new) = (&self.written.0, &new.written.0);
        let mut keys: Vec<String> =
            old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
        keys.retain(|key| !applies_at_once(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn applies_at_once(key: &str) -> bool {
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
