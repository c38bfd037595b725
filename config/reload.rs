//! Reload of the configuration: decides which new settings take effect without a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use tandem_accounts::Account;
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

/// Maximum number of removed entries of one table whose names the note about a reload has.
const SHOWN: usize = 5;

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

    /// Returns the reason why a reload with the new configuration `new` must be an accident: the new configuration has
    /// none of the accounts of this configuration any more, or nothing that this configuration serves. An empty or
    /// truncated file is such a configuration, and also the file of another server. After such a reload, the server would
    /// refuse every request of its operator.
    pub fn refusal_of(&self, new: &Config) -> Option<String> {
        let served = |config: &Config| tables(config).iter().any(|(_, names)| !names.is_empty());
        let why = match self.accounts.is_empty() {
            false if new.accounts.is_empty() => {
                "the file has no [[accounts]] any more; an empty or truncated file is not applied"
            }
            false if !self.keeps_an_account(new) => {
                "the file has none of the present accounts any more (neither a name nor a login); the file of another \
                 server is not applied"
            }
            true if served(self) && !served(new) => {
                "the file has no accounts, trunks, applications, numbers, endpoints and agents any more; an empty or \
                 truncated file is not applied"
            }
            _ => return None,
        };
        Some(format!("{why}. To run with this file, restart the server"))
    }

    /// Whether an account of this configuration is also in `new`, with its name or with one of its logins.
    fn keeps_an_account(&self, new: &Config) -> bool {
        let ids = |account: &Account| {
            let twilio = account.twilio.as_ref().map(|own| own.account_sid.clone());
            let telnyx = account.telnyx.as_ref().map(|own| own.api_key.clone());
            let signalwire = account.signalwire.as_ref().map(|own| own.project_id.clone());
            [Some(account.name.to_string()), twilio, telnyx, signalwire]
        };
        let kept: BTreeSet<String> = new.accounts.iter().flat_map(ids).flatten().collect();
        self.accounts.iter().flat_map(ids).flatten().any(|id| kept.contains(&id))
    }

    /// Returns what this configuration has and the new configuration `new` does not have, for example `2 trunks (carrier,
    /// backup), 1 number (+15551230001)`. A file whose end is lost is valid, so the operator must see these names. Returns
    /// `None` if `new` has everything.
    pub fn removed_by(&self, new: &Config) -> Option<String> {
        let removed = tables(self).into_iter().zip(tables(new)).filter_map(|((kind, old), (_, new))| {
            let removed_names: Vec<_> = old.difference(&new).map(String::as_str).collect();
            let shown = removed_names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
            let more = if removed_names.len() > SHOWN {
                format!(" and {} more", removed_names.len() - SHOWN)
            } else {
                String::new()
            };
            let plural = if removed_names.len() == 1 { "" } else { "s" };
            (!removed_names.is_empty()).then(|| format!("{} {kind}{plural} ({shown}{more})", removed_names.len()))
        });
        let removed: Vec<_> = removed.collect();
        (!removed.is_empty()).then(|| removed.join(", "))
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

/// The names of the entries of each table of entries. The first member of a row is the kind of the entries, in the
/// singular.
fn tables(config: &Config) -> [(&'static str, BTreeSet<String>); 8] {
    fn names(list: impl Iterator<Item = impl ToString>) -> BTreeSet<String> {
        list.map(|name| name.to_string()).collect()
    }
    let Config { accounts, trunks, applications, numbers, number_pool, endpoints, agents, siprec, .. } = config;
    [
        ("account", names(accounts.iter().map(|account| &account.name))),
        ("trunk", names(trunks.iter().map(|trunk| &trunk.name))),
        ("application", names(applications.iter().map(|application| &application.id))),
        ("number", names(numbers.iter().map(|entry| &entry.number))),
        ("pool number", names(number_pool.iter().map(|block| &block.number))),
        ("phone", names(endpoints.iter().map(|phone| &phone.username))),
        ("agent", names(agents.iter().map(|agent| &agent.name))),
        ("recording server", names(siprec.iter().map(|server| &server.name))),
    ]
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
