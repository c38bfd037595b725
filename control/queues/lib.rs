//! The call queues of the server: the waiting legs, the order of these legs, and the agents that request a caller. An
//! agent is a live leg that takes the first caller of a queue. The order of a queue exists only in memory. The database
//! stores the id, the name and the size of each queue. The server reads these values at the start.
//!
//! ```text
//!   EnterQueue ──► enter ──► Place (kept with the leg)    DequeueFirst ──► take ──► AgentRequest (kept with the leg)
//!                              \-- dropped: the leg has left                 \-- dropped: the agent wants no caller
//!   the first waiting leg and the first agent are paired (Pair) once, whichever came first; the call's task moves them
//!   into one call. If that fails, each goes back to its old position.
//! ```
//!
//! Limits: an account has at most [`MAX_QUEUES`] queues, and each queue accepts at most [`MAX_QUEUE_SIZE`] legs.
//! Further queues and legs are refused.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::queue::{NotQueued, QueuePosition};
use tandem_events::{Bus, Event, QueueChange, QueueEvent, Topic};
use tandem_id::{AccountName, LegId, QueueId};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

/// Maximum number of queues of one account. Further queues are refused.
pub const MAX_QUEUES: usize = 1_000;
/// Upper limit for the size of a queue, as a number of legs.
pub const MAX_QUEUE_SIZE: u32 = 5_000;
/// Default size of a queue, as a number of legs.
pub const DEFAULT_QUEUE_SIZE: u32 = 1_000;

/// Name of the account, and name of the queue.
type Name = (AccountName, Arc<str>);

/// The stored settings of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
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

/// A snapshot of a queue with its waiting legs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueSnapshot {
    /// The settings of the queue.
    pub queue: Queue,
    /// The waiting legs, in the order of their arrival. Legs that are being connected to an agent are not included.
    pub members: Vec<Member>,
    /// Average waiting time of the waiting legs. Zero if no leg waits.
    pub average: Duration,
}

/// A leg that waits in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
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
}

/// A waiting leg and an agent that will be connected. Until the connection succeeds or fails, neither leg is paired
/// with another leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The waiting leg.
    pub caller: LegId,
    pub agent: LegId,
    /// The queue of the waiting leg.
    pub queue: QueueId,
    name: Name,
}

/// All queues of the server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Queues(Arc<Mutex<QueueTable>>);

#[derive(Default)]
struct QueueTable {
    events: Bus,
    queues: HashMap<QueueId, LiveQueue>,
    names: HashMap<Name, QueueId>,
    agents: HashMap<Name, VecDeque<WaitingAgent>>,
}

struct LiveQueue {
    queue: Queue,
    callers: VecDeque<WaitingCaller>,
}

struct WaitingCaller {
    leg: LegId,
    since: Timestamp,
    /// Whether the leg is reserved, for example because the leg is being connected to an agent.
    called: bool,
}

struct WaitingAgent {
    leg: LegId,
    /// Whether the agent is being connected.
    paired: bool,
}

/// A leg's membership in a queue. The leg leaves the queue when this value is dropped.
pub struct QueueMembership {
    queues: Queues,
    queue: QueueId,
    leg: LegId,
}

/// An agent's request for the first leg in a queue. When this value is dropped, the request ends.
pub struct AgentRequest {
    queues: Queues,
    name: Name,
    leg: LegId,
}

/// The result after a leg has entered a queue.
pub struct EnterResult {
    /// The membership of the leg in the queue.
    pub membership: QueueMembership,
    /// The queue that the leg entered.
    pub queue: Queue,
    /// Whether the queue was created for this leg and must be stored.
    pub new: bool,
    /// The next pair of a waiting leg and an agent, if an agent was waiting.
    pub pair: Option<Pair>,
}

/// The settings of a queue that the database stores as JSON.
#[derive(Serialize, Deserialize)]
struct Details {
    #[serde(rename = "most")]
    max_size: u32,
}

const KIND: Kind<Details> = Kind::new("queue");

/// Stores a queue, so that it exists after a restart.
pub async fn keep(store: &Store, queue: &Queue) -> Result<(), StoreError> {
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
pub async fn forget(store: &Store, queue: &Queue) -> Result<(), StoreError> {
    resources::delete(store, KIND, &queue.account, queue.id.0).await.map(|_| ())
}

impl Queues {
    /// Reads the stored queues. No legs wait in these queues. Later changes of queues are published to `events`.
    pub async fn load(store: &Store, events: Bus) -> Result<Self, StoreError> {
        let mut table = QueueTable { events, ..QueueTable::default() };
        resources::all(store, KIND).await?.into_iter().map(Queue::from).for_each(|queue| table.add(queue));
        Ok(Self(Arc::new(Mutex::new(table))))
    }

    /// Reads the stored queues again, because another node has changed them. A queue in which legs wait stays, although it
    /// was deleted.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let stored: Vec<Queue> = resources::all(store, KIND).await?.into_iter().map(Queue::from).collect();
        let mut table = self.0.lock();
        let is_gone =
            |live: &LiveQueue| live.callers.is_empty() && stored.iter().all(|queue| queue.id != live.queue.id);
        let gone: Vec<Queue> =
            table.queues.values().filter(|live| is_gone(live)).map(|live| live.queue.clone()).collect();
        for queue in gone {
            table.publish(queue.id, QueueChange::Deleted);
            table.queues.remove(&queue.id);
            table.names.remove(&(queue.account, queue.name));
        }
        for queue in stored {
            let id = queue.id;
            let known = table.queues.get_mut(&id).map(|live| std::mem::replace(&mut live.queue, queue.clone()));
            match known {
                Some(known) if known == queue => {}
                Some(known) => {
                    table.names.remove(&(known.account, known.name));
                    table.names.insert((queue.account, queue.name), id);
                    table.publish(id, QueueChange::Changed);
                }
                None => {
                    table.add(queue);
                    table.publish(id, QueueChange::Created);
                }
            }
        }
        Ok(())
    }

    // The following functions are for calls.

    /// Adds a leg to the account's queue with this name. Creates the queue if the queue does not exist. For this leg,
    /// `max_size` can be a lower limit than the size of the queue.
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
    ) -> Result<EnterResult, NotQueued> {
        let mut table = self.0.lock();
        let known = table.names.get(&(account.clone(), Arc::clone(name))).copied();
        let id = match known {
            Some(id) => id,
            None => table.make(account, name, DEFAULT_QUEUE_SIZE, now).map_err(|_| NotQueued::TooManyQueues)?,
        };
        let live = table.queues.get_mut(&id).ok_or(NotQueued::TooManyQueues)?;
        let limit = max_size.unwrap_or(u32::MAX).min(live.queue.max_size);
        if live.waiting().count() >= limit as usize {
            return Err(NotQueued::Full);
        }
        live.callers.push_back(WaitingCaller { leg, since: now, called: false });
        let queue = live.queue.clone();
        table.publish(id, QueueChange::Waits(leg));
        let pair = table.pair(id);
        Ok(EnterResult {
            membership: QueueMembership { queues: self.clone(), queue: id, leg },
            queue,
            new: known.is_none(),
            pair,
        })
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
        let mut table = self.0.lock();
        let id = *table.names.get(&(account.clone(), Arc::clone(name))).ok_or(QueueError::Unknown)?;
        let live = table.queues.get_mut(&id).ok_or(QueueError::Unknown)?;
        let position = live.callers.partition_point(|caller| caller.since <= since);
        live.callers.insert(position, WaitingCaller { leg, since, called });
        table.publish(id, if called { QueueChange::Called(leg) } else { QueueChange::Waits(leg) });
        let pair = table.pair(id);
        Ok((QueueMembership { queues: self.clone(), queue: id, leg }, pair))
    }

    /// Registers an agent for the first leg in the account's queue with this name. The agent may have to wait for the
    /// leg.
    pub fn take(&self, account: &AccountName, name: &Arc<str>, leg: LegId) -> (AgentRequest, Option<Pair>) {
        let name = (account.clone(), Arc::clone(name));
        let mut table = self.0.lock();
        table.agents.entry(name.clone()).or_default().push_back(WaitingAgent { leg, paired: false });
        table.publish_agents(&name);
        let pair = table.names.get(&name).copied().and_then(|id| table.pair(id));
        (AgentRequest { queues: self.clone(), name, leg }, pair)
    }

    /// Handles a pair that could not be connected. If the caller is still in the queue, the caller returns to the old
    /// position. If the caller has gone and the agent has not gone, the agent waits again. The first returned value is
    /// the next possible pair. The second returned value is `true` if both legs still exist. In this case the agent
    /// does not receive a caller.
    pub fn unpair(&self, pair: &Pair, agent_is_gone: bool) -> (Option<Pair>, bool) {
        let mut table = self.0.lock();
        let waits = table.wait_again(pair.queue, pair.caller);
        let agent = table.agents.get_mut(&pair.name).and_then(|all| all.iter_mut().find(|one| one.leg == pair.agent));
        let wants = match agent {
            Some(agent) if !waits && !agent_is_gone => {
                agent.paired = false;
                true
            }
            Some(_) => !agent_is_gone,
            None => false,
        };
        (table.pair(pair.queue), waits && wants)
    }

    // The following functions are for requests of applications.

    /// Returns the queues of an account, newest queue first.
    pub fn list(&self, account: &AccountName, now: Timestamp) -> Vec<QueueSnapshot> {
        self.of(|one| one == account, now)
    }

    /// Returns the queues of these accounts, newest queue first.
    pub fn of(&self, selects: impl Fn(&AccountName) -> bool, now: Timestamp) -> Vec<QueueSnapshot> {
        let table = self.0.lock();
        let own = table.queues.values().filter(|live| selects(&live.queue.account));
        let mut all: Vec<_> = own.map(|live| live.snapshot(now)).collect();
        all.sort_by_key(|one| std::cmp::Reverse((one.queue.created_at, one.queue.id)));
        all
    }

    /// Returns the agents that wait for a caller of the account's queue with this name, in the order of their requests.
    pub fn agents(&self, account: &AccountName, name: &Arc<str>) -> Vec<LegId> {
        let table = self.0.lock();
        let waiting = table.agents.get(&(account.clone(), Arc::clone(name))).into_iter().flatten();
        waiting.filter(|agent| !agent.paired).map(|agent| agent.leg).collect()
    }

    /// Returns a queue of an account by its id.
    pub fn get(&self, account: &AccountName, id: QueueId, now: Timestamp) -> Option<QueueSnapshot> {
        let table = self.0.lock();
        table.queues.get(&id).filter(|live| live.queue.account == *account).map(|live| live.snapshot(now))
    }

    pub fn named(&self, account: &AccountName, name: &str, now: Timestamp) -> Option<QueueSnapshot> {
        let table = self.0.lock();
        let id = table.names.get(&(account.clone(), name.into()))?;
        table.queues.get(id).map(|live| live.snapshot(now))
    }

    /// Returns the position of a leg in a queue. Returns `None` if the leg does not wait in the queue or is being
    /// connected.
    pub fn position(&self, id: QueueId, leg: LegId, now: Timestamp) -> Option<QueuePosition> {
        let table = self.0.lock();
        let live = table.queues.get(&id)?;
        let members: Vec<_> = live.waiting().collect();
        let own = members.iter().find(|member| member.leg == leg)?;
        Some(QueuePosition {
            queue: id,
            position: own.position,
            size: members.len(),
            max_size: live.queue.max_size,
            waited: own.waited(now),
            average: average(&members, now),
        })
    }

    /// Creates a queue.
    ///
    /// # Errors
    /// Returns [`QueueError::NameTaken`] or [`QueueError::TooMany`].
    pub fn create(
        &self,
        account: &AccountName,
        name: &str,
        max_size: u32,
        now: Timestamp,
    ) -> Result<QueueSnapshot, QueueError> {
        let mut table = self.0.lock();
        let name: Arc<str> = name.into();
        if table.names.contains_key(&(account.clone(), Arc::clone(&name))) {
            return Err(QueueError::NameTaken);
        }
        let id = table.make(account, &name, max_size, now)?;
        table.queues.get(&id).map(|live| live.snapshot(now)).ok_or(QueueError::Unknown)
    }

    /// Changes the name and the size of a queue. All waiting legs stay in the queue, even if the new size is smaller.
    /// Agents request a queue by its name. So after a change of the name, the queue serves the agents that request the
    /// new name.
    ///
    /// # Errors
    /// Returns [`QueueError::Unknown`] or [`QueueError::NameTaken`].
    pub fn change(
        &self,
        account: &AccountName,
        id: QueueId,
        name: Option<&str>,
        max_size: Option<u32>,
        now: Timestamp,
    ) -> Result<(QueueSnapshot, Option<Pair>), QueueError> {
        let mut table = self.0.lock();
        let before = table.queues.get(&id).filter(|live| live.queue.account == *account).ok_or(QueueError::Unknown)?;
        let (owner, old) = (before.queue.account.clone(), Arc::clone(&before.queue.name));
        let new: Arc<str> = name.map_or_else(|| Arc::clone(&old), Into::into);
        if *new != *old {
            if table.names.contains_key(&(owner.clone(), Arc::clone(&new))) {
                return Err(QueueError::NameTaken);
            }
            table.names.remove(&(owner.clone(), old));
            table.names.insert((owner, Arc::clone(&new)), id);
        }
        let live = table.queues.get_mut(&id).ok_or(QueueError::Unknown)?;
        live.queue.name = new;
        live.queue.max_size = max_size.unwrap_or(live.queue.max_size);
        live.queue.updated_at = now;
        let snapshot = live.snapshot(now);
        table.publish(id, QueueChange::Changed);
        Ok((snapshot, table.pair(id)))
    }

    /// Deletes an empty queue.
    ///
    /// # Errors
    /// Returns [`QueueError::Unknown`] or [`QueueError::InUse`].
    pub fn delete(&self, account: &AccountName, id: QueueId) -> Result<Queue, QueueError> {
        let mut table = self.0.lock();
        let live = table.queues.get(&id).filter(|live| live.queue.account == *account).ok_or(QueueError::Unknown)?;
        // A leg that is being connected counts as waiting, because the leg may have to wait again.
        if !live.callers.is_empty() {
            return Err(QueueError::InUse);
        }
        let queue = live.queue.clone();
        table.publish(id, QueueChange::Deleted);
        table.queues.remove(&id);
        table.names.remove(&(queue.account.clone(), Arc::clone(&queue.name)));
        Ok(queue)
    }

    /// Reserves the given waiting leg, or the first waiting leg if `leg` is `None`. The leg is not paired until
    /// [`Queues::wait_again`] is called.
    pub fn call(&self, account: &AccountName, id: QueueId, leg: Option<LegId>) -> Option<Member> {
        let mut table = self.0.lock();
        let live = table.queues.get_mut(&id).filter(|live| live.queue.account == *account)?;
        let member = live.waiting().find(|member| leg.is_none_or(|leg| leg == member.leg))?;
        if let Some(caller) = live.callers.iter_mut().find(|caller| caller.leg == member.leg) {
            caller.called = true;
        }
        table.publish(id, QueueChange::Called(member.leg));
        Some(member)
    }

    /// Returns a reserved leg to its position. Returns the pair that is possible now. Does nothing if the leg has left
    /// the queue.
    pub fn wait_again(&self, id: QueueId, leg: LegId) -> Option<Pair> {
        let mut table = self.0.lock();
        table.wait_again(id, leg);
        table.pair(id)
    }
}

impl QueueTable {
    fn add(&mut self, queue: Queue) {
        self.names.insert((queue.account.clone(), Arc::clone(&queue.name)), queue.id);
        self.queues.insert(queue.id, LiveQueue { queue, callers: VecDeque::new() });
    }

    fn make(
        &mut self,
        account: &AccountName,
        name: &Arc<str>,
        max_size: u32,
        now: Timestamp,
    ) -> Result<QueueId, QueueError> {
        if self.names.keys().filter(|(of, _)| of == account).count() >= MAX_QUEUES {
            return Err(QueueError::TooMany);
        }
        let (account, name) = (account.clone(), Arc::clone(name));
        let id = QueueId::new(now, &mut rand::rng());
        self.add(Queue { id, account, name, max_size, created_at: now, updated_at: now });
        self.publish(id, QueueChange::Created);
        Ok(id)
    }

    fn publish(&self, id: QueueId, change: QueueChange) {
        let Some(live) = self.queues.get(&id) else { return };
        let Queue { account, name, .. } = &live.queue;
        self.events.publish(Topic::new(tandem_events::Kind::Queue, account), || {
            let (account, name, waiting) = (account.clone(), Arc::clone(name), live.waiting().count());
            Event::Queue(QueueEvent { account, queue: id, name, waiting, change })
        });
    }

    fn publish_agents(&self, name: &Name) {
        if let Some(id) = self.names.get(name) {
            self.publish(*id, QueueChange::Agents);
        }
    }

    fn wait_again(&mut self, id: QueueId, leg: LegId) -> bool {
        let live = self.queues.get_mut(&id);
        let caller = live.and_then(|live| live.callers.iter_mut().find(|caller| caller.leg == leg));
        let Some(caller) = caller else { return false };
        if std::mem::take(&mut caller.called) {
            self.publish(id, QueueChange::Waits(leg));
        }
        true
    }

    fn pair(&mut self, id: QueueId) -> Option<Pair> {
        let live = self.queues.get_mut(&id)?;
        let name = (live.queue.account.clone(), Arc::clone(&live.queue.name));
        let caller = live.callers.iter_mut().find(|caller| !caller.called)?;
        let agent = self.agents.get_mut(&name)?.iter_mut().find(|agent| !agent.paired)?;
        (caller.called, agent.paired) = (true, true);
        let pair = Pair { caller: caller.leg, agent: agent.leg, queue: id, name };
        self.publish(id, QueueChange::Called(pair.caller));
        Some(pair)
    }
}

impl LiveQueue {
    fn waiting(&self) -> impl Iterator<Item = Member> {
        let waiting = self.callers.iter().filter(|caller| !caller.called);
        waiting.enumerate().map(|(index, caller)| Member { leg: caller.leg, since: caller.since, position: index + 1 })
    }

    fn snapshot(&self, now: Timestamp) -> QueueSnapshot {
        let members: Vec<_> = self.waiting().collect();
        QueueSnapshot { queue: self.queue.clone(), average: average(&members, now), members }
    }
}

impl QueueMembership {
    /// Returns the position of the leg. Returns `None` while the leg is being connected.
    pub fn position(&self, now: Timestamp) -> Option<QueuePosition> {
        self.queues.position(self.queue, self.leg, now)
    }

    /// Returns the leg to its position after a failed connection. Returns the pair that is possible now.
    pub fn wait_again(&self) -> Option<Pair> {
        self.queues.wait_again(self.queue, self.leg)
    }
}

impl Drop for QueueMembership {
    fn drop(&mut self) {
        let mut table = self.queues.0.lock();
        if let Some(live) = table.queues.get_mut(&self.queue) {
            live.callers.retain(|caller| caller.leg != self.leg);
            table.publish(self.queue, QueueChange::Left(self.leg));
        }
    }
}

impl Drop for AgentRequest {
    fn drop(&mut self) {
        let mut table = self.queues.0.lock();
        if let Some(agents) = table.agents.get_mut(&self.name) {
            // The oldest request of the leg is removed, because the leg may have made another request before this
            // request is dropped.
            if let Some(place) = agents.iter().position(|agent| agent.leg == self.leg) {
                agents.remove(place);
            }
            if agents.is_empty() {
                table.agents.remove(&self.name);
            }
        }
        table.publish_agents(&self.name);
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
