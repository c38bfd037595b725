//! The call queues of the server: which legs wait in which queue, their order, and the agents that want a caller. An
//! agent is a live leg that takes the first caller of a queue. The order of a queue exists only in memory. The id, name
//! and size of a queue are also in the database, and are read from there at the start.
//!
//! ```text
//!   EnterQueue ──► enter ──► Place (kept with the leg)    DequeueFirst ──► take ──► AgentRequest (kept with the leg)
//!                              \-- dropped: the leg has left                 \-- dropped: the agent wants no caller
//!   the first waiting leg and the first agent are paired (Pair) once, whichever came first; the call's task moves them
//!   into one call. If that fails, each goes back to its old position.
//! ```
//!
//! Limits: an account has at most [`MOST_QUEUES`] queues, and each accepts at most [`MOST_WAITING`] legs; further ones
//! are refused.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::id::{LegId, QueueId};
use tandem_call::queue::{NotQueued, QueuePosition};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

/// Maximum number of queues of one account; requests for further ones are refused.
pub const MOST_QUEUES: usize = 1_000;
/// Upper limit for the size of a queue, in legs.
pub const MOST_WAITING: u32 = 5_000;
/// Default size of a queue, in legs.
pub const DEFAULT_MOST: u32 = 1_000;

/// Account and name of a queue.
type Name = (Arc<str>, Arc<str>);

/// The stored settings of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// The queue's id.
    pub id: QueueId,
    /// The account that owns the queue.
    pub account: Arc<str>,
    /// Name, unique within the account.
    pub name: Arc<str>,
    /// Maximum number of waiting legs.
    pub most: u32,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// A queue with its waiting legs at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueSnapshot {
    /// The settings of the queue.
    pub queue: Queue,
    /// The waiting legs, first come first.
    pub members: Vec<Member>,
    /// Average waiting time of the waiting legs; zero if there are none.
    pub average: Duration,
}

/// A leg that waits in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The waiting leg.
    pub leg: LegId,
    /// Time at which it entered the queue.
    pub since: Timestamp,
    /// Position in the queue, from 1.
    pub position: usize,
}

impl Member {
    /// Returns how long the leg has waited.
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
    /// The account has reached its limit of queues.
    #[error("the account has {MOST_QUEUES} queues already, the maximum")]
    TooMany,
    /// Legs wait in the queue.
    #[error("calls wait in the queue")]
    InUse,
}

/// A waiting leg and an agent that are to be connected. Neither is paired again meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The waiting leg.
    pub waiter: LegId,
    /// The leg of the agent.
    pub taker: LegId,
    /// The queue of the waiting leg.
    pub queue: QueueId,
    name: Name,
}

/// All queues of the server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Queues(Arc<Mutex<QueueTable>>);

#[derive(Default)]
struct QueueTable {
    queues: HashMap<QueueId, LiveQueue>,
    names: HashMap<Name, QueueId>,
    takers: HashMap<Name, VecDeque<WaitingAgent>>,
}

struct LiveQueue {
    queue: Queue,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    leg: LegId,
    since: Timestamp,
    /// Whether the leg is being connected.
    called: bool,
}

struct WaitingAgent {
    leg: LegId,
    /// Whether the agent is being connected.
    paired: bool,
}

/// A leg's place in a queue. Dropping it removes the leg from the queue.
pub struct QueueMembership {
    queues: Queues,
    queue: QueueId,
    leg: LegId,
}

/// An agent's request for the first leg of a queue. Dropping it withdraws the request.
pub struct AgentRequest {
    queues: Queues,
    name: Name,
    leg: LegId,
}

/// The result of entering a queue.
pub struct Entered {
    /// The place in the queue.
    pub place: QueueMembership,
    /// The queue that was entered.
    pub queue: Queue,
    /// Whether the queue was created for this leg and must be stored.
    pub new: bool,
    /// The pair with an agent that was waiting.
    pub pair: Option<Pair>,
}

/// The settings of a queue that are stored as JSON.
#[derive(Serialize, Deserialize)]
struct Details {
    most: u32,
}

const KIND: Kind<Details> = Kind::new("queue");

/// Stores a queue for the next start.
pub async fn keep(store: &Store, queue: &Queue) -> Result<(), StoreError> {
    let row = Resource {
        id: queue.id.0,
        account: queue.account.to_string(),
        parent: None,
        name: queue.name.to_string(),
        claim: None,
        details: Details { most: queue.most },
        created_at: queue.created_at,
        updated_at: queue.updated_at,
    };
    // The row claims nothing, so the result is always the same.
    resources::put(store, KIND, &row).await.map(|_| ())
}

/// Deletes a queue from the database.
pub async fn forget(store: &Store, queue: &Queue) -> Result<(), StoreError> {
    resources::delete(store, KIND, &queue.account, queue.id.0).await.map(|_| ())
}

impl Queues {
    /// Reads the stored queues; no legs wait in them.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let mut books = QueueTable::default();
        for row in resources::all(store, KIND).await? {
            books.add(Queue {
                id: QueueId(row.id),
                account: row.account.into(),
                name: row.name.into(),
                most: row.details.most,
                created_at: row.created_at,
                updated_at: row.updated_at,
            });
        }
        Ok(Self(Arc::new(Mutex::new(books))))
    }

    // Operations for calls.

    /// Adds a leg to the account's queue of this name, which is created if missing. `most` can lower the queue's limit
    /// for this leg.
    ///
    /// # Errors
    /// [`NotQueued`] if the queue is full or cannot be created.
    pub fn enter(
        &self,
        account: &Arc<str>,
        name: &Arc<str>,
        most: Option<u32>,
        leg: LegId,
        now: Timestamp,
    ) -> Result<Entered, NotQueued> {
        let mut books = self.0.lock();
        let known = books.names.get(&(Arc::clone(account), Arc::clone(name))).copied();
        let id = match known {
            Some(id) => id,
            None => books.make(account, name, DEFAULT_MOST, now).map_err(|_| NotQueued::TooManyQueues)?,
        };
        let line = books.queues.get_mut(&id).ok_or(NotQueued::TooManyQueues)?;
        let limit = most.unwrap_or(u32::MAX).min(line.queue.most);
        if line.waiting().count() >= limit as usize {
            return Err(NotQueued::Full);
        }
        line.waiters.push_back(Waiter { leg, since: now, called: false });
        let queue = line.queue.clone();
        let pair = books.pair(id);
        Ok(Entered {
            place: QueueMembership { queues: self.clone(), queue: id, leg },
            queue,
            new: known.is_none(),
            pair,
        })
    }

    /// Registers an agent for the first leg in the account's queue of this name, now or later.
    pub fn take(&self, account: &Arc<str>, name: &Arc<str>, leg: LegId) -> (AgentRequest, Option<Pair>) {
        let name = (Arc::clone(account), Arc::clone(name));
        let mut books = self.0.lock();
        books.takers.entry(name.clone()).or_default().push_back(WaitingAgent { leg, paired: false });
        let pair = books.names.get(&name).copied().and_then(|id| books.pair(id));
        (AgentRequest { queues: self.clone(), name, leg }, pair)
    }

    /// Returns both legs of a pair that could not be connected to their positions, except for one that has gone.
    /// Returns the next possible pair. The second value is `true` if both legs are still there: then the agent can be
    /// given no caller.
    pub fn part(&self, pair: &Pair, taker_is_gone: bool) -> (Option<Pair>, bool) {
        let mut books = self.0.lock();
        let waits = books.wait_again(pair.queue, pair.waiter);
        let taker = books.takers.get_mut(&pair.name).and_then(|all| all.iter_mut().find(|one| one.leg == pair.taker));
        let wants = match taker {
            Some(taker) if !waits && !taker_is_gone => {
                taker.paired = false;
                true
            }
            Some(_) => !taker_is_gone,
            None => false,
        };
        (books.pair(pair.queue), waits && wants)
    }

    // Operations for requests.

    /// Returns the queues of an account, newest first.
    pub fn list(&self, account: &str, now: Timestamp) -> Vec<QueueSnapshot> {
        let books = self.0.lock();
        let own = books.queues.values().filter(|line| *line.queue.account == *account);
        let mut all: Vec<_> = own.map(|line| line.snapshot(now)).collect();
        all.sort_by_key(|one| std::cmp::Reverse((one.queue.created_at, one.queue.id)));
        all
    }

    /// Returns a queue of an account by its id.
    pub fn get(&self, account: &str, id: QueueId, now: Timestamp) -> Option<QueueSnapshot> {
        let books = self.0.lock();
        books.queues.get(&id).filter(|line| *line.queue.account == *account).map(|line| line.snapshot(now))
    }

    /// Returns a queue of an account by its name.
    pub fn named(&self, account: &str, name: &str, now: Timestamp) -> Option<QueueSnapshot> {
        let books = self.0.lock();
        let id = books.names.get(&(account.into(), name.into()))?;
        books.queues.get(id).map(|line| line.snapshot(now))
    }

    /// Returns the position of a leg in a queue; `None` if it does not wait there, or is being connected.
    pub fn standing(&self, id: QueueId, leg: LegId, now: Timestamp) -> Option<QueuePosition> {
        let books = self.0.lock();
        let line = books.queues.get(&id)?;
        let members: Vec<_> = line.waiting().collect();
        let own = members.iter().find(|member| member.leg == leg)?;
        Some(QueuePosition {
            queue: id,
            position: own.position,
            size: members.len(),
            most: line.queue.most,
            waited: own.waited(now),
            average: average(&members, now),
        })
    }

    /// Creates a queue.
    ///
    /// # Errors
    /// [`QueueError::NameTaken`], [`QueueError::TooMany`].
    pub fn create(
        &self,
        account: &Arc<str>,
        name: &str,
        most: u32,
        now: Timestamp,
    ) -> Result<QueueSnapshot, QueueError> {
        let mut books = self.0.lock();
        let name: Arc<str> = name.into();
        if books.names.contains_key(&(Arc::clone(account), Arc::clone(&name))) {
            return Err(QueueError::NameTaken);
        }
        let id = books.make(account, &name, most, now)?;
        books.queues.get(&id).map(|line| line.snapshot(now)).ok_or(QueueError::Unknown)
    }

    /// Changes the name and the size of a queue. Legs that wait stay in the queue, even if its new size is smaller.
    /// Agents request a queue by name, so a renamed queue serves the agents of its new name.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], [`QueueError::NameTaken`].
    pub fn change(
        &self,
        account: &str,
        id: QueueId,
        name: Option<&str>,
        most: Option<u32>,
        now: Timestamp,
    ) -> Result<(QueueSnapshot, Option<Pair>), QueueError> {
        let mut books = self.0.lock();
        let before = books.queues.get(&id).filter(|line| *line.queue.account == *account).ok_or(QueueError::Unknown)?;
        let (owner, old) = (Arc::clone(&before.queue.account), Arc::clone(&before.queue.name));
        let new: Arc<str> = name.map_or_else(|| Arc::clone(&old), Into::into);
        if *new != *old {
            if books.names.contains_key(&(Arc::clone(&owner), Arc::clone(&new))) {
                return Err(QueueError::NameTaken);
            }
            books.names.remove(&(Arc::clone(&owner), old));
            books.names.insert((owner, Arc::clone(&new)), id);
        }
        let line = books.queues.get_mut(&id).ok_or(QueueError::Unknown)?;
        line.queue.name = new;
        line.queue.most = most.unwrap_or(line.queue.most);
        line.queue.updated_at = now;
        let snapshot = line.snapshot(now);
        Ok((snapshot, books.pair(id)))
    }

    /// Deletes a queue that is empty.
    ///
    /// # Errors
    /// [`QueueError::Unknown`], [`QueueError::InUse`].
    pub fn delete(&self, account: &str, id: QueueId) -> Result<Queue, QueueError> {
        let mut books = self.0.lock();
        let line = books.queues.get(&id).filter(|line| *line.queue.account == *account).ok_or(QueueError::Unknown)?;
        // A leg that is being connected counts too, because it may have to wait again.
        if !line.waiters.is_empty() {
            return Err(QueueError::InUse);
        }
        let queue = line.queue.clone();
        books.queues.remove(&id);
        books.names.remove(&(Arc::clone(&queue.account), Arc::clone(&queue.name)));
        Ok(queue)
    }

    /// Reserves a waiting leg, or the first one (`None`). It is not paired until [`Queues::wait_again`].
    pub fn call(&self, account: &str, id: QueueId, leg: Option<LegId>) -> Option<Member> {
        let mut books = self.0.lock();
        let line = books.queues.get_mut(&id).filter(|line| *line.queue.account == *account)?;
        let member = line.waiting().find(|member| leg.is_none_or(|leg| leg == member.leg))?;
        if let Some(waiter) = line.waiters.iter_mut().find(|waiter| waiter.leg == member.leg) {
            waiter.called = true;
        }
        Some(member)
    }

    /// Returns a reserved leg to its position. Returns the pair that is now possible. Does nothing if the leg has left.
    pub fn wait_again(&self, id: QueueId, leg: LegId) -> Option<Pair> {
        let mut books = self.0.lock();
        books.wait_again(id, leg);
        books.pair(id)
    }
}

impl QueueTable {
    fn add(&mut self, queue: Queue) {
        self.names.insert((Arc::clone(&queue.account), Arc::clone(&queue.name)), queue.id);
        self.queues.insert(queue.id, LiveQueue { queue, waiters: VecDeque::new() });
    }

    fn make(&mut self, account: &Arc<str>, name: &Arc<str>, most: u32, now: Timestamp) -> Result<QueueId, QueueError> {
        if self.names.keys().filter(|(of, _)| of == account).count() >= MOST_QUEUES {
            return Err(QueueError::TooMany);
        }
        let (account, name) = (Arc::clone(account), Arc::clone(name));
        let id = QueueId::new(now, &mut rand::rng());
        self.add(Queue { id, account, name, most, created_at: now, updated_at: now });
        Ok(id)
    }

    fn wait_again(&mut self, id: QueueId, leg: LegId) -> bool {
        let line = self.queues.get_mut(&id);
        let waiter = line.and_then(|line| line.waiters.iter_mut().find(|waiter| waiter.leg == leg));
        waiter.map(|waiter| waiter.called = false).is_some()
    }

    fn pair(&mut self, id: QueueId) -> Option<Pair> {
        let line = self.queues.get_mut(&id)?;
        let name = (Arc::clone(&line.queue.account), Arc::clone(&line.queue.name));
        let waiter = line.waiters.iter_mut().find(|waiter| !waiter.called)?;
        let taker = self.takers.get_mut(&name)?.iter_mut().find(|taker| !taker.paired)?;
        (waiter.called, taker.paired) = (true, true);
        Some(Pair { waiter: waiter.leg, taker: taker.leg, queue: id, name })
    }
}

impl LiveQueue {
    fn waiting(&self) -> impl Iterator<Item = Member> {
        let waiting = self.waiters.iter().filter(|waiter| !waiter.called);
        waiting.enumerate().map(|(index, waiter)| Member { leg: waiter.leg, since: waiter.since, position: index + 1 })
    }

    fn snapshot(&self, now: Timestamp) -> QueueSnapshot {
        let members: Vec<_> = self.waiting().collect();
        QueueSnapshot { queue: self.queue.clone(), average: average(&members, now), members }
    }
}

impl QueueMembership {
    /// Returns the position of the leg; `None` while it is being connected.
    pub fn standing(&self, now: Timestamp) -> Option<QueuePosition> {
        self.queues.standing(self.queue, self.leg, now)
    }

    /// Returns the leg to its position after it could not be connected. Returns the pair that is now possible.
    pub fn wait_again(&self) -> Option<Pair> {
        self.queues.wait_again(self.queue, self.leg)
    }
}

impl Drop for QueueMembership {
    fn drop(&mut self) {
        let mut books = self.queues.0.lock();
        if let Some(line) = books.queues.get_mut(&self.queue) {
            line.waiters.retain(|waiter| waiter.leg != self.leg);
        }
    }
}

impl Drop for AgentRequest {
    fn drop(&mut self) {
        let mut books = self.queues.0.lock();
        if let Some(takers) = books.takers.get_mut(&self.name) {
            // Remove the oldest request, in case the leg has made another one before this one is dropped.
            if let Some(place) = takers.iter().position(|taker| taker.leg == self.leg) {
                takers.remove(place);
            }
            if takers.is_empty() {
                books.takers.remove(&self.name);
            }
        }
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
