//! The stored queues: reads at the start, and the creation, the change and the deletion of a queue.
//!
//! In a cluster, only the owner of a name changes its queue. It frees the name after the database has the change. A node
//! that takes a name reads the stored queue with this name. So no two queues get the same name.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_cluster::{CHANGE_TIME, Cluster, REPEAT};
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
        })))
    }

    /// Reads the stored queues again, because another node has changed them. A queue in which legs wait stays, although it
    /// was deleted.
    pub async fn reload(&self) -> Result<(), StoreError> {
        let known = self.0.table.lock().stored_ids();
        let stored = resources::all(&self.0.store, KIND).await?.into_iter().map(Queue::from).collect();
        self.0.table.lock().replace(&known, stored);
        Ok(())
    }

    /// Stores a queue that was created for a leg.
    pub(super) fn keep_new(&self, found: &Found) {
        if found.is_new {
            let (queues, queue) = (self.clone(), found.queue.clone());
            self.0.runtime.spawn(async move {
                match keep(&queues.0.store, &queue).await {
                    Ok(()) => queues.0.table.lock().stored(queue.id),
                    Err(error) => tracing::error!(%error, queue = %queue.name, "queue not stored"),
                }
            });
        }
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
            if let Err(error) = keep(&self.0.store, &found.queue).await {
                // No client knows the new queue yet. If calls wait in it, it stays.
                let _ = self.0.table.lock().remove(&name.0, id);
                self.free_unused(name);
                return Some(Err(StoreFailed::from(error).into()));
            }
            self.0.table.lock().stored(id);
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
        let _one_at_a_time = self.0.changing.lock().await;
        let before = self.hold(account, id).await?;
        let new = name.map(Arc::from).filter(|name| *name != before.name).map(|name| (account.clone(), name));
        if let Some(new) = &new {
            self.hold_name(new).await?;
        }
        let done = self.change_here(&before, new.as_ref(), max_size).await;
        if let Some(new) = new {
            self.free_unused(&before.full_name());
            self.free_unused(&new);
        }
        done
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
        let _one_at_a_time = self.0.changing.lock().await;
        let queue = self.hold(account, id).await?;
        self.0.table.lock().remove(account, id)?;
        let forgotten = forget(&self.0.store, &queue).await;
        self.free_unused(&queue.full_name());
        Ok(forgotten.map_err(StoreFailed::from)?)
    }

    /// Makes sure that this node owns the queue, so that no other node changes it. Returns the queue.
    async fn hold(&self, account: &AccountName, id: QueueId) -> Result<Queue, QueueError> {
        let find = || self.0.table.lock().of_account(account, id).map(|live| live.queue.clone());
        let queue = find().ok_or(QueueError::Unknown)?;
        if let Place::At(_) = self.place(&queue.full_name()).await? {
            return Err(QueueError::NoOwner);
        }
        // Another node may have changed or deleted the queue just now.
        let held = match find() {
            Some(now) if now.name == queue.name => return Ok(now),
            Some(_) => Err(QueueError::NoOwner),
            None => Err(QueueError::Unknown),
        };
        self.free_unused(&queue.full_name());
        held
    }
}
