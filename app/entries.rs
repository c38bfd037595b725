//! The entries of the configuration that people make in the web console. They are in the database. The server joins them with the
//! configuration of the file at its start, at a reload, and when they change.

use jiff::Timestamp;
use tandem_config::entries::{faults_of, shown, text};
use tandem_config::{Config, Origin};
use tandem_id::AccountName;
use tandem_settings::entry::{Entry, EntryChange, EntryChanged, EntryFault, EntryList, EntryRefused, ShownEntry};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

use crate::Server;
use crate::configured::agents_and_stir;

/// The resource kind of the entries.
const ENTRY: Kind<Entry> = Kind::new("entry");
/// Maximum number of entries. Applications that need more numbers make them with the API.
const MAX_ENTRIES: usize = 2_000;

/// Reads all entries, in the order in which they refer to each other.
pub(crate) async fn load(store: &Store) -> Result<Vec<Resource<Entry>>, StoreError> {
    let mut entries = resources::all(store, ENTRY).await?;
    let place = |entry: &Resource<Entry>| EntryList::ALL.iter().position(|list| *list == entry.details.list);
    entries.sort_by_key(|entry| (place(entry), entry.created_at, entry.id));
    Ok(entries)
}

/// The configuration of the file together with the entries.
pub(crate) struct Joined {
    /// The configuration. It has no faults.
    pub(crate) config: Config,
    /// The entries in it.
    used: Vec<Resource<Entry>>,
    /// The entries that are not in it, and the reason.
    left_out: Vec<(Resource<Entry>, String)>,
}

impl Joined {
    /// Logs the entries that are left out.
    pub(crate) fn log(self) -> Config {
        for (row, why) in &self.left_out {
            let (list, name) = (row.details.list.word(), row.details.name());
            tracing::warn!("the entry {name:?} in {list} of the web console is not used: {why}; change it there");
        }
        self.config
    }
}

/// Joins the configuration of the file with the entries. Leaves out entries with faults. An entry gets a fault when the
/// configuration file changes, for example if both have a trunk with the same name.
pub(crate) fn join(base: &Config, mut entries: Vec<Resource<Entry>>) -> Joined {
    let mut left_out = Vec::new();
    while !entries.is_empty() {
        let details: Vec<Entry> = entries.iter().map(|row| row.details.clone()).collect();
        let (config, faults) = base.with_entries(&details);
        let unbuilt = if faults.is_empty() { unbuilt(&config) } else { None };
        if faults.is_empty() && unbuilt.is_none() {
            return Joined { config, used: entries, left_out };
        }
        let is_outside = !faults.iter().any(|fault| matches!(fault.origin, Origin::Entry(_)));
        if is_outside {
            // The fault cannot be assigned to an entry, so no entry is used.
            let why = unbuilt.or_else(|| faults.first().map(|fault| fault.message.clone())).unwrap_or_default();
            left_out.extend(entries.drain(..).map(|row| (row, why.clone())));
            break;
        }
        let mut kept = Vec::new();
        for (index, row) in entries.into_iter().enumerate() {
            match faults.iter().find(|fault| fault.origin == Origin::Entry(index)) {
                Some(fault) => {
                    let key = fault.entry_key().map_or_else(String::new, |key| format!("{key}: "));
                    left_out.push((row, format!("{key}{}", fault.message)));
                }
                None => kept.push(row),
            }
        }
        entries = kept;
    }
    Joined { config: base.clone(), used: Vec::new(), left_out }
}

/// Returns the reason why the parts of the server cannot be built from these settings.
fn unbuilt(config: &Config) -> Option<String> {
    agents_and_stir(config).err().map(|error| error.to_string())
}

impl Server {
    /// Returns the entries of a list: those of the file, then those of the web console.
    pub(super) async fn entries(&self, list: EntryList) -> Result<Vec<ShownEntry>, String> {
        let base = self.base.load_full();
        let stored = load(&self.store).await.map_err(|error| error.to_string())?;
        let left_out = join(&base, stored.clone()).left_out;
        let stored = stored.iter().filter(|row| row.details.list == list).map(|row| {
            let faults =
                left_out.iter().filter(|(left_out, _)| left_out.id == row.id).map(|(_, why)| why.clone()).collect();
            ShownEntry { id: Some(format!("{:032x}", row.id)), faults, ..shown(&row.details) }
        });
        Ok(base.entries(list).into_iter().chain(stored).collect())
    }

    /// Applies the entries that another node has changed.
    pub(super) async fn read_entries(&self) -> Result<(), String> {
        let base = self.base.load_full();
        let applied = self.reload((*base).clone()).await;
        self.calls.services().reloaded();
        applied.map(drop).map_err(|error| format!("{error:#}"))
    }

    /// Makes, changes, removes or checks an entry. A change takes effect at once. If it cannot take effect, nothing changes.
    pub(super) async fn change_entry(&self, change: EntryChange) -> Result<EntryChanged, EntryRefused> {
        let failed = |error: StoreError| EntryRefused::Failed(error.to_string());
        let stored = load(&self.store).await.map_err(failed)?;
        let earlier = change.id.map(|id| stored.iter().find(|row| row.id == id).cloned().ok_or(EntryRefused::Unknown));
        let earlier = earlier.transpose()?;
        if earlier.is_none() && stored.len() >= MAX_ENTRIES {
            return Err(EntryRefused::TooMany(MAX_ENTRIES));
        }
        let is_foreign = |entry: &Entry| change.owner.is_some() && entry.account() != change.owner;
        if earlier.as_ref().is_some_and(|earlier| is_foreign(&earlier.details)) {
            return Err(EntryRefused::Unknown);
        }
        let entry = change.entry.map(|entry| entry.with_secrets_of(earlier.as_ref().map(|earlier| &earlier.details)));
        if entry.as_ref().is_some_and(is_foreign) {
            let message = format!("must be {:?}, your account", change.owner.as_ref().map_or("", AccountName::as_str));
            return Err(EntryRefused::Faults(vec![EntryFault { key: Some("account".to_owned()), message }]));
        }
        let base = self.base.load_full();
        let mut others = join(&base, stored).used;
        others.retain(|row| change.id != Some(row.id));
        let notes = check(&base, &others, entry.as_ref()).map_err(EntryRefused::Faults)?;
        let new = entry.map(|entry| match &earlier {
            Some(row) => Resource { details: entry, updated_at: Timestamp::now(), ..row.clone() },
            None => Resource::new(&AccountName::server(), "", entry),
        });
        let id = new.as_ref().or(earlier.as_ref()).map_or(0, |row| row.id);
        let text = new.as_ref().map_or_else(String::new, |row| text(&row.details));
        if !change.is_check {
            self.keep(id, new.as_ref()).await.map_err(failed)?;
            if let Err(error) = self.reload((*base).clone()).await {
                self.keep(id, earlier.as_ref()).await.map_err(failed)?;
                return Err(EntryRefused::Failed(format!("{error:#}")));
            }
            self.calls.services().reloaded();
        }
        Ok(EntryChanged { id, text, notes })
    }

    /// Stores an entry. `None` removes it.
    async fn keep(&self, id: u128, row: Option<&Resource<Entry>>) -> Result<(), StoreError> {
        match row {
            Some(row) => resources::put(&self.store, ENTRY, row).await.map(drop),
            None => resources::delete(&self.store, ENTRY, &AccountName::server(), id).await.map(drop),
        }
    }
}

/// Checks the configuration with the other entries and a new one. Without a new one, other entries may miss the removed entry.
/// Returns the notes that only the new entry causes.
fn check(base: &Config, others: &[Resource<Entry>], entry: Option<&Entry>) -> Result<Vec<String>, Vec<EntryFault>> {
    let mut entries: Vec<Entry> = others.iter().map(|row| row.details.clone()).collect();
    let known = base.with_entries(&entries).0.notes;
    entries.extend(entry.cloned());
    let (config, faults) = base.with_entries(&entries);
    if !faults.is_empty() {
        return Err(faults_of(&faults, others.len()));
    }
    if let Some(message) = unbuilt(&config) {
        return Err(vec![EntryFault { key: None, message }]);
    }
    Ok(config.notes.into_iter().filter(|note| !known.contains(note)).collect())
}
