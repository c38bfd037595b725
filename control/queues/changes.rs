//! The stored queues: reads at the start, and the creation, the change and the deletion of a queue.
//!
//! In a cluster, only the owner of a name changes its queue. It frees the name after the database has the change. A node
//! that takes a name reads the stored queue with this name. So no two queues get the same name.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_cluster::{CHANGE_TIME, Cluster, NAME_TIME, REPEAT};
use tandem_events::Bus;
use tandem_host::clock;
use tandem_id::{AccountName, QueueId};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError, StoreFailed};
use tokio::runtime::Handle;

use super::elsewhere::Elsewhere;
use super::guests::{Open, OpenRefused};
use super::names::{ATTEMPTS, Place};
use super::table::{Found, Name, QueueTable};
use super::{Queue, QueueError, QueueSnapshot, Queues, Shared};

/// The reason why a queue was not created, changed or deleted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum QueueFailure {
    /// The operation on the queue is not possible. The value is the reason.
    #[error(transparent)]
    Refused(#[from] QueueError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A queue that was looked for by its name, and created if it did not exist.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// The queue. If another node of the cluster has the queue, the members are not named.
    pub queue: QueueSnapshot,
    /// Whether the queue was created just now.
    pub is_new: bool,
}

/// The settings of a queue that the database stores as JSON.
#[derive(Serialize, Deserialize)]
struct Details {
    #[serde(rename = "most")]
    max_size: u32,
}

const KIND: Kind<Details> = Kind::new("queue");

/// Stores a queue, so that it exists after a restart.
async fn keep(store: &Store, queue: &Queue) -> Result<(), StoreError> {
    let row = Resource {
        id: queue.id.0,
        account: queue.account.clone(),
        parent: None,
        name: queue.name.to_string(),
        claim: None,
        details: Details { max_size: queue.max_size },
        created_at: queue.created_at,
        updated_at: queue.updated_at,
    };
    // The row has no `claim`, so no conflict is possible.
    resources::put(store, KIND, &row).await.map(|_| ())
}

impl From<Resource<Details>> for Queue {
    fn from(row: Resource<Details>) -> Self {
        Self {
            id: QueueId(row.id),
            account: row.account,
            name: row.name.into(),
            max_size: row.details.max_size,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Deletes a queue from the database.
async fn forget(store: &Store, queue: &Queue) -> Result<(), StoreError> {
    resources::delete(store, KIND, &queue.account, queue.id.0).await.map(|_| ())
}

/// Returns the stored queue with this name.
pub(super) async fn stored(store: &Store, (account, name): &Name) -> Result<Option<Queue>, StoreError> {
    Ok(resources::newest(store, KIND, account, name).await?.map(Queue::from))
}

/// Returns the stored queue with this id.
pub(super) async fn stored_with(store: &Store, id: QueueId) -> Result<Option<Queue>, StoreError> {
    Ok(resources::find(store, KIND, id.0).await?.map(Queue::from))
}

impl Queues {
    /// Reads the stored queues. No legs wait in these queues. Later changes of queues are published to `events`.
    pub async fn load(store: &Store, events: Bus, cluster: Cluster) -> Result<Self, StoreError> {
        let mut table = QueueTable::new(events);
        resources::all(store, KIND).await?.into_iter().map(Queue::from).for_each(|queue| table.add_stored(queue));
        Ok(Self(Arc::new(Shared {
            table: Mutex::new(table),
            store: store.clone(),
            cluster,
            elsewhere: Mutex::new(Elsewhere::default()),
            runtime: Handle::current(),
            connect: OnceLock::new(),
            naming: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
        })))
    }

    /// Reads the stored queues again, because another node has changed them. A queue in which legs wait stays, although it
    /// was deleted.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.reloading.lock().await;
        let known = self.0.table.lock().stored_ids();
        let stored = resources::all(&self.0.store, KIND).await?.into_iter().map(Queue::from).collect();
        self.0.table.lock().replace(&known, stored);
        Ok(())
    }

    /// Does the same as [`Self::reload`] in a limited time. Returns whether the queues were read.
    pub(super) async fn reload_in_time(&self) -> bool {
        match tokio::time::timeout(NAME_TIME, self.reload()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the stored queues were not read again");
                false
            }
            Err(_) => false,
        }
    }

    /// Stores a queue that was created for a leg.
    pub(super) fn keep_new(&self, found: &Found) {
        if found.is_new {
            self.keep_unstored();
        }
    }

    /// Stores all new queues. Repeats this until each is stored or deleted. There is one task, so that a request about a queue
    /// waits for at most one of them if the database is away.
    fn keep_unstored(&self) {
        if !self.0.table.lock().begin_to_store() {
            return;
        }
        let queues = self.clone();
        self.0.runtime.spawn(async move {
            loop {
                let unstored = queues.0.table.lock().next_to_store();
                if unstored.is_empty() {
                    return;
                }
                let mut have_failed = false;
                for id in unstored {
                    if let Err(error) = queues.store_new(id).await {
                        tracing::error!(%error, queue = ?id, "queue not stored yet");
                        have_failed = true;
                    }
                }
                if have_failed {
                    tokio::time::sleep(REPEAT).await;
                }
            }
        });
    }

    /// Stores a queue as it is now, if it exists and is not stored yet.
    async fn store_new(&self, id: QueueId) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.changing.lock().await;
        let unstored = self.0.table.lock().unstored(id);
        let Some(queue) = unstored else { return Ok(()) };
        keep(&self.0.store, &queue).await?;
        self.0.table.lock().stored(id);
        Ok(())
    }

    /// Runs a change of queues to its end, although the client that waits for it may disconnect.
    async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, QueueFailure>> + Send + 'static,
    ) -> Result<T, QueueFailure> {
        // The task fails only if the server ends.
        self.0.runtime.spawn(change).await.unwrap_or_else(|_| Err(QueueError::NoOwner.into()))
    }

    /// Creates a queue. `max_size` is the maximum number of waiting legs.
    ///
    /// # Errors
    /// Among others, [`QueueError::NameTaken`] and [`QueueError::TooMany`].
    pub async fn create(
        &self,
        account: &AccountName,
        name: &str,
        max_size: u32,
    ) -> Result<QueueSnapshot, QueueFailure> {
        let Opened { queue, is_new } = self.open(account, name, max_size).await?;
        if is_new { Ok(queue) } else { Err(QueueError::NameTaken.into()) }
    }

    /// Returns the queue with this name, whatever node has it. Creates the queue with this maximum size if it does not exist.
    pub async fn open(&self, account: &AccountName, name: &str, max_size: u32) -> Result<Opened, QueueFailure> {
        let name: Name = (account.clone(), name.into());
        for _ in 0..ATTEMPTS {
            match self.place(&name).await? {
                Place::Here => {
                    if let Some(opened) = self.open_here(&name, max_size).await {
                        return opened;
                    }
                }
                Place::At(node) => {
                    let asked = Open { account: name.0.clone(), name: Arc::clone(&name.1), max_size };
                    match self.0.cluster.ask_within(&node, &asked, CHANGE_TIME).await {
                        Ok(Ok(opened)) => return Ok(opened),
                        Ok(Err(OpenRefused::NotMine)) => {}
                        Ok(Err(OpenRefused::Refused(why))) => return Err(why.into()),
                        Ok(Err(OpenRefused::NotStored)) => return Err(StoreFailed::Away.into()),
                        Err(error) => {
                            tracing::warn!("node {}: queue {}: {error}", node.name, name.1);
                            return Err(QueueError::NoOwner.into());
                        }
                    }
                }
            }
            tokio::time::sleep(REPEAT / 4).await;
        }
        Err(QueueError::NoOwner.into())
    }

    /// Does the same as [`Self::open`] for a queue of this node. Returns `None` if this node has given the name up.
    pub(super) async fn open_here(&self, name: &Name, max_size: u32) -> Option<Result<Opened, QueueFailure>> {
        let now = clock::time();
        let found = {
            let mut table = self.0.table.lock();
            if self.may_be_elsewhere(&table, name) {
                return None;
            }
            table.open(name, max_size, now)
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                self.free_unused(name);
                return Some(Err(why.into()));
            }
        };
        let id = found.queue.id;
        if found.is_new {
            let (queues, name) = (self.clone(), name.clone());
            let stored = self.to_the_end(async move {
                let Err(error) = queues.store_new(id).await else { return Ok(()) };
                // No client knows the new queue yet. If calls wait in it, it stays.
                let removed = queues.0.table.lock().remove(&name.0, id);
                match removed {
                    Ok(queue) => queues.free_unused(&queue.full_name()),
                    Err(_) => queues.keep_unstored(),
                }
                Err(StoreFailed::from(error).into())
            });
            if let Err(why) = stored.await {
                return Some(Err(why));
            }
        }
        let nobody = || QueueSnapshot { queue: found.queue, waiting: 0, members: Vec::new(), average: Duration::ZERO };
        let live = self.0.table.lock().get(id).map(|live| live.snapshot(now));
        Some(Ok(Opened { queue: live.unwrap_or_else(nobody), is_new: found.is_new }))
    }

    /// Changes the name and the size of a queue. All waiting legs stay in the queue, even if the new size is smaller.
    /// Agents request a queue by its name. So after a change of the name, the queue serves the agents that request the
    /// new name.
    ///
    /// # Errors
    /// Among others, [`QueueError::Unknown`] and [`QueueError::NameTaken`]. In a cluster, agents that wait for the new name
    /// at another node also have this name.
    pub async fn change(
        &self,
        account: &AccountName,
        id: QueueId,
        name: Option<&str>,
        max_size: Option<u32>,
    ) -> Result<QueueSnapshot, QueueFailure> {
        let (queues, account) = (self.clone(), account.clone());
        let name: Option<Name> = name.map(|name| (account.clone(), name.into()));
        self.to_the_end(async move {
            let _one_at_a_time = queues.0.changing.lock().await;
            let _used = queues.use_names(&account, id, name.as_ref())?;
            let before = queues.hold(&account, id).await?;
            let new = name.filter(|(_, name)| *name != before.name);
            if let Some(new) = &new {
                queues.hold_name(new).await?;
            }
            queues.change_here(&before, new.as_ref(), max_size).await
        })
        .await
    }

    async fn change_here(
        &self,
        before: &Queue,
        name: Option<&Name>,
        max_size: Option<u32>,
    ) -> Result<QueueSnapshot, QueueFailure> {
        let (id, now) = (before.id, clock::time());
        let changed = {
            let mut table = self.0.table.lock();
            let mut names = std::iter::once(before.full_name()).chain(name.cloned());
            if names.any(|name| self.may_be_elsewhere(&table, &name)) {
                return Err(QueueError::NoOwner.into());
            }
            table.change(&before.account, id, name.map(|(_, name)| name), max_size, now)?
        };
        if let Err(error) = keep(&self.0.store, &changed).await {
            self.0.table.lock().put(before.clone());
            return Err(StoreFailed::from(error).into());
        }
        let (snapshot, pair) = {
            let mut table = self.0.table.lock();
            table.stored(id);
            let snapshot = table.get(id).map(|live| live.snapshot(now)).ok_or(QueueError::Unknown)?;
            (snapshot, table.pair(id))
        };
        // An agent may wait for a caller under the new name.
        self.connect(pair);
        Ok(snapshot)
    }

    /// Deletes an empty queue.
    ///
    /// # Errors
    /// Among others, [`QueueError::Unknown`] and [`QueueError::InUse`].
    pub async fn delete(&self, account: &AccountName, id: QueueId) -> Result<(), QueueFailure> {
        let (queues, account) = (self.clone(), account.clone());
        self.to_the_end(async move {
            let _one_at_a_time = queues.0.changing.lock().await;
            let _used = queues.use_names(&account, id, None)?;
            let queue = queues.hold(&account, id).await?;
            queues.0.table.lock().remove(&account, id)?;
            Ok(forget(&queues.0.store, &queue).await.map_err(StoreFailed::from)?)
        })
        .await
    }

    /// Keeps the name of a queue, and its new name, in use for a change of the queue.
    fn use_names(&self, account: &AccountName, id: QueueId, new: Option<&Name>) -> Result<UsedNames<'_>, QueueError> {
        let mut table = self.0.table.lock();
        let before = table.of_account(account, id).ok_or(QueueError::Unknown)?.queue.full_name();
        let names: Vec<Name> = std::iter::once(before).chain(new.cloned()).collect();
        table.begin_change(&names);
        Ok(UsedNames { queues: self, names })
    }

    /// Makes sure that this node owns the queue, so that no other node changes it. Returns the queue.
    async fn hold(&self, account: &AccountName, id: QueueId) -> Result<Queue, QueueError> {
        let find = || self.0.table.lock().of_account(account, id).map(|live| live.queue.clone());
        let queue = find().ok_or(QueueError::Unknown)?;
        if let Place::At(_) = self.place(&queue.full_name()).await? {
            return Err(QueueError::NoOwner);
        }
        // Another node may have changed or deleted the queue just now.
        match find() {
            Some(now) if now.name == queue.name => Ok(now),
            Some(_) => Err(QueueError::NoOwner),
            None => Err(QueueError::Unknown),
        }
    }
}

/// The names that a change of a queue concerns. This node gives none of them up before the database has the change.
struct UsedNames<'a> {
    queues: &'a Queues,
    names: Vec<Name>,
}

impl Drop for UsedNames<'_> {
    fn drop(&mut self) {
        self.queues.0.table.lock().end_change(&self.names);
        for name in &self.names {
            self.queues.free_unused(name);
        }
    }
}
