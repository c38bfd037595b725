//! The owners of the names of queues in a cluster. The table `owned_names` has the owner of each name that is in use. A node
//! takes the name of a queue when the first leg enters the queue, when an agent wants a leg of the queue, or when a request
//! changes the queue. The node keeps the name until neither a queue nor an agent has it. If the node dies, another node takes
//! the name.

use std::future::Future;
use std::sync::Arc;

use tandem_cluster::{NAME_TIME, NameOwner, REPEAT};
use tandem_host::clock;
use tandem_id::node::NodeTag;
use tandem_id::{AccountName, QueueId};
use tandem_store::StoreError;
use tandem_store::nodes::NodeRow;
use tandem_store::owned_names::{self, Named};

use super::changes;
use super::guests::GiveUp;
use super::table::Name;
use super::{Queue, QueueError, Queues};

/// Maximum number of attempts to find the node of a name that moves just now.
pub(super) const ATTEMPTS: usize = 4;

/// The node of a queue.
pub(super) enum Place {
    /// This node. It may give the name up at once, if nothing has the name.
    Here,
    /// Another node.
    At(Box<NodeRow>),
}

impl Queues {
    /// Finds the node that owns a name. Takes the name if no living node has it.
    pub(super) async fn place(&self, name: &Name) -> Result<Place, QueueError> {
        if !self.0.cluster.is_on() || self.0.table.lock().owns(name) {
            return Ok(Place::Here);
        }
        in_time(self.take_name(name)).await?.ok_or(QueueError::NoOwner)
    }

    /// Does the work of [`Self::place`]. Returns `None` if this node may not take names now.
    async fn take_name(&self, name: &Name) -> Result<Option<Place>, StoreError> {
        let (store, cluster) = (&self.0.store, &self.0.cluster);
        // Most names of other nodes are found without a write.
        if let Some(node) = self.other_owner(name).await? {
            return Ok(Some(Place::At(node)));
        }
        let _naming = self.0.naming.lock().await;
        // Another task may have taken the name meanwhile.
        if self.0.table.lock().owns(name) {
            return Ok(Some(Place::Here));
        }
        let new = QueueId::new(clock::time(), &mut rand::rng()).0;
        match cluster.take_name(Named::Queue, (&name.0, &name.1), new).await? {
            NameOwner::This => {
                let stored = changes::stored(store, name).await?;
                self.0.table.lock().settle(name, new, stored);
                Ok(Some(Place::Here))
            }
            NameOwner::Other(node, _) => Ok(Some(Place::At(node))),
            NameOwner::Unknown(_) => Ok(None),
        }
    }

    /// Returns the other living node that owns a name.
    async fn other_owner(&self, (account, name): &Name) -> Result<Option<Box<NodeRow>>, StoreError> {
        let owner = owned_names::find(&self.0.store, Named::Queue, account, name).await?;
        Ok(owner.and_then(|id| self.0.cluster.other_owner_of(id)).map(Box::new))
    }

    /// Makes sure that this node owns a new name of a queue. Another node gives it up only if nothing has the name there.
    pub(super) async fn hold_name(&self, name: &Name) -> Result<(), QueueError> {
        for _ in 0..ATTEMPTS {
            let Place::At(node) = self.place(name).await? else { return Ok(()) };
            let asked = GiveUp { account: name.0.clone(), name: Arc::clone(&name.1) };
            match self.0.cluster.ask(&node, &asked).await {
                Ok(true) => {}
                Ok(false) => return Err(QueueError::NameTaken),
                Err(error) => {
                    tracing::warn!("node {}: queue {}: {error}", node.name, name.1);
                    return Err(QueueError::NoOwner);
                }
            }
            tokio::time::sleep(REPEAT / 4).await;
        }
        Err(QueueError::NoOwner)
    }

    /// Frees a name in the database if neither a queue nor an agent has it.
    pub(super) fn free_unused(&self, name: &Name) {
        if self.0.cluster.is_on()
            && let Some(id) = self.0.table.lock().drop_unused(name)
        {
            let store = self.0.store.clone();
            self.0.runtime.spawn(async move {
                // A name that is not freed is freed when another node asks for it.
                if let Err(error) = owned_names::free(&store, Named::Queue, id).await {
                    tracing::warn!(%error, "the name of a queue is not free yet");
                }
            });
        }
    }

    /// Another node has asked for a name that this node does not own. If the database says that this node owns the name, for
    /// example because an answer of the database was lost, this node takes or frees the name.
    pub(super) fn check_name(&self, name: Name) {
        let queues = self.clone();
        self.0.runtime.spawn(async move {
            let (account, text) = &name;
            let owner = owned_names::find(&queues.0.store, Named::Queue, account, text).await;
            let is_own = |id: u128| Some(NodeTag::of_id(id)) == queues.0.cluster.tag();
            if matches!(owner, Ok(Some(id)) if is_own(id)) && matches!(queues.place(&name).await, Ok(Place::Here)) {
                queues.free_unused(&name);
            }
        });
    }

    /// Returns the other node that answers requests about the queue with this id. If it is this node, this node knows the
    /// queue as the database has it.
    ///
    /// # Errors
    /// [`QueueError::NoOwner`] if the database does not answer.
    pub async fn node_of(&self, id: QueueId) -> Result<Option<NodeRow>, QueueError> {
        if !self.0.cluster.is_on() || self.owns(id) {
            return Ok(None);
        }
        in_time(async {
            // The table may be a second old.
            let stored = changes::stored_with(&self.0.store, id).await?;
            if self.owns(id) {
                return Ok(None);
            }
            let name = stored.as_ref().map(Queue::full_name);
            self.0.table.lock().see(Some(id), stored);
            match name {
                Some(name) => Ok(self.other_owner(&name).await?.map(|node| *node)),
                // The node that has just made the queue.
                None => Ok(self.0.cluster.other_owner_of(id.0)),
            }
        })
        .await
    }

    fn owns(&self, id: QueueId) -> bool {
        let table = self.0.table.lock();
        table.get(id).is_some_and(|live| table.owns(&live.queue.full_name()))
    }

    /// Returns the other node that answers requests about the queue with this name. If it is this node, this node knows the
    /// queue as the database has it. The request of an unknown account is refused by any node.
    ///
    /// # Errors
    /// [`QueueError::NoOwner`] if the database does not answer.
    pub async fn node_of_name(&self, account: Option<&AccountName>, name: &str) -> Result<Option<NodeRow>, QueueError> {
        let Some(account) = account.filter(|_| self.0.cluster.is_on()) else { return Ok(None) };
        let name: Name = (account.clone(), name.into());
        if self.0.table.lock().owns(&name) {
            return Ok(None);
        }
        in_time(async {
            if let Some(node) = self.other_owner(&name).await? {
                return Ok(Some(*node));
            }
            let stored = changes::stored(&self.0.store, &name).await?;
            let mut table = self.0.table.lock();
            if !table.owns(&name) {
                let before = table.id_of(&name);
                table.see(before, stored);
            }
            Ok(None)
        })
        .await
    }
}

/// Waits for the database.
async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, QueueError> {
    match tokio::time::timeout(NAME_TIME, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the node of a queue is not known");
            Err(QueueError::NoOwner)
        }
        Err(_) => {
            tracing::warn!("the node of a queue is not known: the database does not answer");
            Err(QueueError::NoOwner)
        }
    }
}
