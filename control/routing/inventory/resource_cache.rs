//! The resources of one kind, in the database and in memory.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tandem_id::AccountName;
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

use super::MAX_ROWS;

/// A kind of resource that belongs to an account.
pub trait InventoryItem: Serialize + DeserializeOwned {
    /// The name of the kind in the database.
    const WORD: &'static str;
    /// Maximum number of resources of this kind in one account. All of them are in memory.
    const MOST: usize = MAX_ROWS;

    /// Returns the key of a resource. The key is unique in the server.
    fn key(row: &Resource<Self>) -> String
    where
        Self: Sized;
}

/// All resources of one kind, by id and by key.
#[derive(Debug)]
pub struct ResourceCache<T> {
    rows: RwLock<Rows<T>>,
    /// This lock is held while a change is written to the database and then to memory. So the database and the memory
    /// have the changes in the same order.
    changing: tokio::sync::Mutex<()>,
    listener: Listener,
}

/// The receiver of the changes.
#[derive(Default)]
struct Listener(OnceLock<Box<Listen>>);

/// A function that takes the account of a change.
type Listen = dyn Fn(&AccountName) + Send + Sync;

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    fn changed(&self, account: &AccountName) {
        if let Some(listener) = self.0.get() {
            listener(account);
        }
    }
}

#[derive(Debug)]
struct Rows<T> {
    by_id: HashMap<u128, Arc<Resource<T>>>,
    ids: HashMap<String, u128>,
    of_account: HashMap<AccountName, HashSet<u128>>,
}

/// The reason why a resource was not stored.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Another resource already has this key.
    #[error("it is already in use")]
    Taken,
    /// The account already has the maximum number of resources of this kind.
    #[error("the account has the maximum number of them already")]
    Full,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<T> Default for ResourceCache<T> {
    fn default() -> Self {
        let rows = Rows { by_id: HashMap::new(), ids: HashMap::new(), of_account: HashMap::new() };
        Self { rows: RwLock::new(rows), changing: tokio::sync::Mutex::new(()), listener: Listener::default() }
    }
}

impl<T: InventoryItem> ResourceCache<T> {
    /// Calls this function with the account after each later change. The function must not wait. Further calls have no
    /// effect.
    pub fn on_change(&self, listener: impl Fn(&AccountName) + Send + Sync + 'static) {
        // An error means that there is a listener already.
        let _ = self.listener.0.set(Box::new(listener));
    }

    /// Loads all resources of this kind from the database.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let shelf = Self::default();
        for row in resources::all(store, Kind::new(T::WORD)).await? {
            shelf.rows.write().add(row);
        }
        Ok(shelf)
    }

    /// Reads all resources of this kind from the database again, because another node has changed them.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let _one_at_a_time = self.changing.lock().await;
        let stored = resources::all(store, Kind::<T>::new(T::WORD)).await?;
        let mut changed = HashSet::new();
        {
            let mut rows = self.rows.write();
            let ids: HashSet<u128> = stored.iter().map(|row| row.id).collect();
            let gone: Vec<u128> = rows.by_id.keys().filter(|id| !ids.contains(id)).copied().collect();
            changed.extend(gone.into_iter().filter_map(|id| rows.remove(id)).map(|row| row.account.clone()));
            for row in stored {
                let is_known = rows.by_id.get(&row.id).is_some_and(|known| known.updated_at == row.updated_at);
                if !is_known {
                    let (row, replaced) = rows.add(row);
                    changed.extend(replaced.map(|replaced| replaced.account.clone()));
                    changed.insert(row.account.clone());
                }
            }
        }
        changed.iter().for_each(|account| self.listener.changed(account));
        Ok(())
    }

    /// Returns the resource with this key. The resource may belong to any account.
    pub fn find(&self, key: &str) -> Option<Arc<Resource<T>>> {
        let rows = self.rows.read();
        rows.ids.get(key).and_then(|id| rows.by_id.get(id)).cloned()
    }

    /// Returns the resource with this key, if it belongs to the account.
    pub fn find_own(&self, account: &AccountName, key: &str) -> Option<Arc<Resource<T>>> {
        self.find(key).filter(|row| row.account == *account)
    }

    /// Calls a function with each resource of all accounts. The order is not defined. The function must not wait.
    pub fn for_each(&self, mut see: impl FnMut(&Resource<T>)) {
        self.rows.read().by_id.values().for_each(|row| see(row));
    }

    /// Returns the keys of the resources of all accounts. The order is not defined.
    pub fn keys(&self) -> Vec<String> {
        self.some_keys(usize::MAX)
    }

    /// Returns the keys of at most `max` resources of all accounts. The order is not defined.
    pub fn some_keys(&self, max: usize) -> Vec<String> {
        self.rows.read().ids.keys().take(max).cloned().collect()
    }

    /// Returns the resources of an account, newest resource first.
    pub fn all(&self, account: &AccountName) -> Vec<Arc<Resource<T>>> {
        let rows = self.rows.read();
        let own = rows.of_account.get(account).into_iter().flatten();
        let mut own: Vec<_> = own.filter_map(|id| rows.by_id.get(id)).cloned().collect();
        own.sort_unstable_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
        own
    }

    /// Adds a resource, or replaces the resource with the same id. The change goes first to the database and then to
    /// memory.
    pub async fn put(&self, store: &Store, mut row: Resource<T>) -> Result<Arc<Resource<T>>, InventoryError> {
        row.claim = Some(format!("{} {}", T::WORD, T::key(&row)));
        let _one_at_a_time = self.changing.lock().await;
        let more = |rows: &Rows<T>| {
            let had = rows.by_id.get(&row.id).is_some_and(|had| had.account == row.account);
            !had && rows.of_account.get(&row.account).is_some_and(|own| own.len() >= T::MOST)
        };
        if more(&self.rows.read()) {
            return Err(InventoryError::Full);
        }
        match resources::put(store, Kind::new(T::WORD), &row).await? {
            true => {
                let (row, replaced) = self.rows.write().add(row);
                if let Some(replaced) = replaced.filter(|replaced| replaced.account != row.account) {
                    self.listener.changed(&replaced.account);
                }
                self.listener.changed(&row.account);
                Ok(row)
            }
            false => Err(InventoryError::Taken),
        }
    }

    /// Deletes a resource. Returns `false` if the account has no resource with this id.
    pub async fn delete(&self, store: &Store, account: &AccountName, id: u128) -> Result<bool, StoreError> {
        let _one_at_a_time = self.changing.lock().await;
        let deleted = resources::delete(store, Kind::<T>::new(T::WORD), account, id).await?;
        if deleted {
            self.rows.write().remove(id);
            self.listener.changed(account);
        }
        Ok(deleted)
    }
}

impl<T: InventoryItem> Rows<T> {
    /// Adds a row. Returns the row and the row with the same id that it replaces.
    fn add(&mut self, row: Resource<T>) -> (Arc<Resource<T>>, Option<Arc<Resource<T>>>) {
        let replaced = self.remove(row.id);
        let row = Arc::new(row);
        self.ids.insert(T::key(&row), row.id);
        self.of_account.entry(row.account.clone()).or_default().insert(row.id);
        self.by_id.insert(row.id, Arc::clone(&row));
        (row, replaced)
    }

    fn remove(&mut self, id: u128) -> Option<Arc<Resource<T>>> {
        let row = self.by_id.remove(&id)?;
        self.ids.remove(&T::key(&row));
        if let Some(own) = self.of_account.get_mut(&row.account) {
            own.remove(&id);
            if own.is_empty() {
                self.of_account.remove(&row.account);
            }
        }
        Some(row)
    }
}
