//! The call queues of the server: the waiting legs, the order of these legs, and the agents that request a caller. An
//! agent is a live leg that takes the first caller of a queue. The order of a queue exists only in memory (table.rs). The
//! database stores the id, the name and the size of each queue (changes.rs). The server reads these values at the start.
//!
//! ```text
//!   EnterQueue ──► enter ──► Place (kept with the leg)    DequeueFirst ──► take ──► AgentRequest (kept with the leg)
//!                              \-- dropped: the leg has left                 \-- dropped: the agent wants no caller
//!   the first waiting leg and the first agent are paired (Pair) once, whichever came first; the server connects them. If
//!   that fails, each goes back to its old position.
//! ```
//!
//! In a cluster, one node owns the name of a queue (names.rs), and the order is in the memory of this node. Legs of other
//! nodes take part over the bus (elsewhere.rs, guests.rs). A request reserves the leg on which it works (reservation.rs).
//!
//! Limits: an account has at most [`MAX_QUEUES`] queues, and each queue accepts at most [`MAX_QUEUE_SIZE`] legs.
//! Further queues and legs are refused.
#![forbid(unsafe_code)]

mod changes;
mod elsewhere;
mod guests;
mod names;
mod reservation;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::queue::{NotQueued, QueuePosition};
use tandem_cluster::Cluster;
use tandem_host::clock;
use tandem_id::{AccountName, LegId, QueueId};
use tandem_store::Store;
use tokio::runtime::Handle;

pub use changes::{Opened, QueueFailure};
pub use reservation::Reservation;

use elsewhere::Elsewhere;
use table::{Agent, Caller, CallerState, Hold, Name, QueueTable, Ticket};

/// Maximum number of queues of one account. Further queues are refused.
pub const MAX_QUEUES: usize = 1_000;
/// Upper limit for the size of a queue, as a number of legs.
pub const MAX_QUEUE_SIZE: u32 = 5_000;
/// Default size of a queue, as a number of legs.
pub const DEFAULT_QUEUE_SIZE: u32 = 1_000;

/// Maximum time for which a leg is reserved for a request of another node, or after the order to leave its queue.
const RESERVED: Duration = Duration::from_secs(15);

/// The stored settings of a queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queue {
    pub id: QueueId,
    /// The account that owns the queue.
    pub account: AccountName,
    /// Name of the queue. The name is unique within the account.
    pub name: Arc<str>,
    /// Maximum number of waiting legs.
    pub max_size: u32,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

impl Queue {
    fn full_name(&self) -> Name {
        (self.account.clone(), Arc::clone(&self.name))
    }
}

/// A snapshot of a queue with its waiting legs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueSnapshot {
    /// The settings of the queue.
    pub queue: Queue,
    /// Number of waiting legs.
    pub waiting: usize,
    /// The waiting legs, in the order of their arrival. Legs that are being connected to an agent are not included. If
    /// another node of the cluster has the queue, the list is empty.
    #[serde(skip)]
    pub members: Vec<Member>,
    /// Average waiting time of the waiting legs. Zero if no leg waits.
    pub average: Duration,
}

/// A leg that waits in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The waiting leg.
    pub leg: LegId,
    /// Time at which the leg entered the queue.
    pub since: Timestamp,
    /// Position in the queue. The first leg has position 1.
    pub position: usize,
}

impl Member {
    /// Returns the time for which the leg has waited.
    pub fn waited(&self, now: Timestamp) -> Duration {
        between(self.since, now)
    }
}

/// The reason why a queue cannot be created, changed or deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum QueueError {
    /// No queue has this id.
    #[error("there is no such queue")]
    Unknown,
    /// Another queue of the account has this name.
    #[error("another queue has this name")]
    NameTaken,
    /// The account already has the maximum number of queues.
    #[error("the account has {MAX_QUEUES} queues already, the maximum")]
    TooMany,
    /// The queue has waiting legs.
    #[error("calls wait in the queue")]
    InUse,
    /// In a cluster: the node of the queue, or the database that knows this node, did not answer.
    #[error("the node of the queue, or the database, did not answer")]
    NoOwner,
}

/// A waiting leg and an agent that will be connected. Until the connection succeeds or fails, neither leg is paired
/// with another leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The waiting leg.
    pub caller: LegId,
    pub agent: LegId,
    /// The queue of the waiting leg, as its call knows it.
    pub queue: QueueId,
    /// The queue of this node in which the leg waits.
    own_queue: QueueId,
    hold: Hold,
    /// The entry of the agent.
    request: Ticket,
}

/// All queues of the server. Cheap to clone.
#[derive(Clone)]
pub struct Queues(Arc<Shared>);

struct Shared {
    table: Mutex<QueueTable>,
    store: Store,
    cluster: Cluster,
    elsewhere: Mutex<Elsewhere>,
    /// Guards may be dropped outside of the runtime.
    runtime: Handle,
    /// Connects a pair.
    connect: OnceLock<Box<dyn Fn(Pair) + Send + Sync>>,
    /// Held while this node takes a name.
    naming: tokio::sync::Mutex<()>,
    /// Held during a change of a queue, so that the database gets the changes in their order.
    changing: tokio::sync::Mutex<()>,
    /// Held while the stored queues are read again, so that an older read does not replace a later one.
    reloading: tokio::sync::Mutex<()>,
}

/// A leg's membership in a queue. The leg leaves the queue when this value is dropped.
pub struct QueueMembership {
    queues: Queues,
    queue: QueueId,
    ticket: Ticket,
}

/// An agent's request for the first leg in a queue. When this value is dropped, the request ends.
pub struct AgentRequest {
    queues: Queues,
    ticket: Ticket,
}

/// The result after a leg has entered a queue.
pub struct EnterResult {
    /// The membership of the leg in the queue.
    pub membership: QueueMembership,
    /// The queue that the leg entered.
    pub queue: Queue,
    /// The next pair of a waiting leg and an agent, if an agent was waiting.
    pub pair: Option<Pair>,
}

impl Queues {
    /// Sets the function that connects a pair, and starts to answer the questions of other nodes. Only the first function
    /// is used. The function is called when a pair becomes possible without a call of this node: because a leg of another
    /// node enters the queue, because this node takes over a queue, because a queue gets another name, or because a reservation
    /// ends.
    pub fn connect_with(&self, connect: impl Fn(Pair) + Send + Sync + 'static) {
        if self.0.connect.set(Box::new(connect)).is_ok() && self.0.cluster.is_on() {
            self.serve_other_nodes();
        }
    }

    fn connect(&self, pair: Option<Pair>) {
        if let (Some(pair), Some(connect)) = (pair, self.0.connect.get()) {
            connect(pair);
        }
    }

    /// Whether another node of the cluster may have the queue with this name.
    fn may_be_elsewhere(&self, table: &QueueTable, name: &Name) -> bool {
        self.0.cluster.is_on() && !table.owns(name)
    }

    fn membership(&self, queue: QueueId, caller: &Caller) -> QueueMembership {
        QueueMembership { queues: self.clone(), queue, ticket: caller.ticket }
    }

    // The following functions are for calls.

    /// Adds a leg to the account's queue with this name. Creates the queue if the queue does not exist. For this leg,
    /// `max_size` can be a lower limit than the size of the queue. Returns `None` if another node of the cluster may have the
    /// queue; then [`Queues::arrive`] adds the leg.
    ///
    /// # Errors
    /// Returns [`NotQueued`] if the queue is full or cannot be created.
    pub fn enter(
        &self,
        account: &AccountName,
        name: &Arc<str>,
        max_size: Option<u32>,
        leg: LegId,
        now: Timestamp,
    ) -> Option<Result<EnterResult, NotQueued>> {
        let name = (account.clone(), Arc::clone(name));
        let caller = Caller::new(leg, now);
        let entered = {
            let mut table = self.0.table.lock();
            if self.may_be_elsewhere(&table, &name) {
                return None;
            }
            let entered = table.enter(&name, max_size, caller, now);
            entered.map(|found| (table.pair(found.queue.id), found))
        };
        Some(entered.map(|(pair, found)| {
            self.keep_new(&found);
            EnterResult { membership: self.membership(found.queue.id, &caller), queue: found.queue, pair }
        }))
    }

    /// Adds a leg that waited in the account's queue since this time, before a restart. The leg gets the position of its
    /// arrival, even if the queue is full. `called` says that an agent is taking the leg.
    ///
    /// # Errors
    /// Returns [`QueueError::Unknown`] if the queue does not exist any more.
    pub fn resume(
        &self,
        account: &AccountName,
        name: &Arc<str>,
        leg: LegId,
        since: Timestamp,
        called: bool,
    ) -> Result<(QueueMembership, Option<Pair>), QueueError> {
        let mut table = self.0.table.lock();
        let id = table.id_of(&(account.clone(), Arc::clone(name))).ok_or(QueueError::Unknown)?;
        let state = if called { CallerState::Called } else { CallerState::Waiting };
        let caller = Caller { state, ..Caller::new(leg, since) };
        table.enter_again(id, caller);
        Ok((self.membership(id, &caller), table.pair(id)))
    }

    /// Registers an agent for the first leg in the account's queue with this name. The agent may have to wait for the
    /// leg. If another node has the queue, there is no pair: the other node pairs the agent.
    pub fn take(&self, account: &AccountName, name: &Arc<str>, leg: LegId) -> (AgentRequest, Option<Pair>) {
        let name = (account.clone(), Arc::clone(name));
        let agent = Agent::new(leg, clock::time());
        let request = AgentRequest { queues: self.clone(), ticket: agent.ticket };
        let mut table = self.0.table.lock();
        if self.may_be_elsewhere(&table, &name) {
            drop(table);
            self.take_elsewhere(name, agent);
            return (request, None);
        }
        table.take(&name, agent);
        (request, table.pair_of(&name))
    }

    /// Handles a pair that could not be connected. If the caller is still in the queue, the caller returns to the old
    /// position. If the caller has gone and the agent has not gone, the agent waits again. The first returned value is
    /// the next possible pair. The second returned value is `true` if both legs still exist. In this case the agent
    /// does not receive a caller.
    pub fn unpair(&self, pair: &Pair, agent_is_gone: bool) -> (Option<Pair>, bool) {
        self.0.table.lock().unpair(pair, agent_is_gone)
    }

    /// Handles a pair whose connection is not known to have failed, because a node did not answer. If the caller is still
    /// being connected and the agent still waits, returns the same pair, which must be connected again. Otherwise the leg
    /// that is left waits again, and the function returns the next possible pair.
    pub fn pair_again(&self, pair: &Pair) -> Option<Pair> {
        self.0.table.lock().pair_again(pair)
    }

    /// Ends the membership of a leg, or the request of an agent.
    fn leave(&self, ticket: Ticket) {
        if self.leave_elsewhere(ticket) {
            return;
        }
        let name = self.0.table.lock().leave(ticket);
        if let Some(name) = name {
            self.free_unused(&name);
        }
    }

    // The following functions are for requests of applications. They concern the queues of this node: a request about a queue
    // of another node goes to this node first.

    /// Returns the queues of an account, newest queue first. The waiting legs of queues of other nodes are not counted.
    pub fn list(&self, account: &AccountName, now: Timestamp) -> Vec<QueueSnapshot> {
        self.of(|one| one == account, now)
    }

    /// Returns the queues of these accounts, newest queue first. The waiting legs of queues of other nodes are not counted.
    pub fn of(&self, selects: impl Fn(&AccountName) -> bool, now: Timestamp) -> Vec<QueueSnapshot> {
        let table = self.0.table.lock();
        let own = table.all().filter(|live| selects(&live.queue.account));
        let mut all: Vec<_> = own.map(|live| live.snapshot(now)).collect();
        all.sort_by_key(|one| std::cmp::Reverse((one.queue.created_at, one.queue.id)));
        all
    }

    /// Returns the agents that wait for a caller of the account's queue with this name, in the order of their requests.
    pub fn agents(&self, account: &AccountName, name: &Arc<str>) -> Vec<LegId> {
        self.0.table.lock().agents(&(account.clone(), Arc::clone(name)))
    }

    /// Returns a queue of an account by its id.
    pub fn get(&self, account: &AccountName, id: QueueId, now: Timestamp) -> Option<QueueSnapshot> {
        self.0.table.lock().of_account(account, id).map(|live| live.snapshot(now))
    }

    pub fn named(&self, account: &AccountName, name: &str, now: Timestamp) -> Option<QueueSnapshot> {
        let table = self.0.table.lock();
        let id = table.id_of(&(account.clone(), name.into()))?;
        table.get(id).map(|live| live.snapshot(now))
    }

    /// Returns the position of a leg in a queue of this node. Returns `None` if the leg does not wait in the queue or is
    /// being connected.
    pub fn position(&self, id: QueueId, leg: LegId, now: Timestamp) -> Option<QueuePosition> {
        self.0.table.lock().position(id, leg, now)
    }

    /// Reserves the given waiting leg, or the first waiting leg if `leg` is `None`. The leg is not paired until the reservation
    /// is dropped.
    pub fn call(&self, account: &AccountName, id: QueueId, leg: Option<LegId>) -> Option<Reservation> {
        let mut table = self.0.table.lock();
        table.of_account(account, id)?;
        let called = table.call(id, leg);
        drop(table);
        called.map(|(member, hold)| Reservation::here(self, member, hold))
    }
}

impl QueueMembership {
    /// Returns the queue that the leg entered.
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// Returns the position of the leg in a queue of this node. Returns `None` while the leg is being connected, and if
    /// another node has the queue: [`Queues::position_of`] asks this node.
    pub fn position(&self, now: Timestamp) -> Option<QueuePosition> {
        self.queues.0.table.lock().position_of(self.ticket, now)
    }

    /// Lets a leg that has entered a queue of another node be paired. The call of the leg must know before that the leg has
    /// entered the queue. If the other node has died meanwhile, the leg may be in a queue of this node now, and is paired here.
    /// Has no effect on a leg that has entered a queue of this node, which can be paired at once.
    pub fn ready(&self) {
        if self.queues.ready_elsewhere(self.ticket) {
            return;
        }
        let pair = {
            let mut table = self.queues.0.table.lock();
            table.ready(self.ticket).and_then(|id| table.pair(id))
        };
        self.queues.connect(pair);
    }

    /// Notes that an agent takes the leg. If the node of the queue dies now, the leg is not paired again until
    /// [`Self::wait_again`] is called. Has no effect in a queue of this node, which knows this.
    pub fn called(&self) {
        self.queues.called_elsewhere(self.ticket);
    }

    /// Returns the leg to its position after a failed connection. Returns the pair that is possible now. If another node has
    /// the queue, there is no pair: the other node pairs the leg.
    pub fn wait_again(&self) -> Option<Pair> {
        if self.queues.wait_again_elsewhere(self.ticket) {
            return None;
        }
        let mut table = self.queues.0.table.lock();
        let id = table.wait_again_with(self.ticket)?;
        table.pair(id)
    }
}

impl Drop for QueueMembership {
    fn drop(&mut self) {
        self.queues.leave(self.ticket);
    }
}

impl Drop for AgentRequest {
    fn drop(&mut self) {
        self.queues.leave(self.ticket);
    }
}

fn average(members: &[Member], now: Timestamp) -> Duration {
    let sum: Duration = members.iter().map(|member| member.waited(now)).sum();
    u32::try_from(members.len()).ok().filter(|count| *count > 0).map_or(Duration::ZERO, |count| sum / count)
}

fn between(from: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
