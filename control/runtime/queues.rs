//! The queues of the server: who waits in which, in what order, and who waits for whom. The order lives here only; that a queue
//! exists, its name and its size are in the database too, and are read from there at the start.
//!
//! ```text
//!   EnterQueue ──► enter ──► Place (in the leg's hands)         TakeFromQueue ──► take ──► Taking (in the leg's hands)
//!                              \-- dropped: no longer in line                       \-- dropped: wants nobody any more
//!   the first who waits and the first who wants somebody are paired (Pair), once, whoever comes later; the call's task brings
//!   them into one call. What does not come about puts either back where it stood.
//! ```
//!
//! Bounded: an account has at most [`MOST_QUEUES`] queues, each takes at most [`MOST_WAITING`] legs; who comes then is refused.
//! Who wants somebody is a live leg.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::id::{LegId, QueueId};
use tandem_call::queue::{NotQueued, QueueStanding};
use tandem_store::resources::{self, Kind, Resource};
use tandem_store::{Store, StoreError};

/// Queues of one account; requests for further ones are refused.
pub const MOST_QUEUES: usize = 1_000;
/// The most legs that a queue may be set to take.
pub const MOST_WAITING: u32 = 5_000;
/// How many a queue takes unless it is told otherwise.
pub const DEFAULT_MOST: u32 = 1_000;

/// Account and name.
type Name = (Arc<str>, Arc<str>);

/// What is kept of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// Whose it is.
    pub account: Arc<str>,
    /// Its name, the only one of its account.
    pub name: Arc<str>,
    /// How many it takes.
    pub most: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A queue and those in it at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// It.
    pub queue: Queue,
    /// Those who wait, first come first.
    pub members: Vec<Member>,
    /// How long they have waited, on average; zero if there are none.
    pub average: Duration,
}

/// One who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Which leg.
    pub leg: LegId,
    /// Since when.
    pub since: Timestamp,
    /// From 1.
    pub position: usize,
}

impl Member {
    /// How long it has waited.
    pub fn waited(&self, now: Timestamp) -> Duration {
        between(self.since, now)
    }
}

/// Why a queue cannot be made, changed or deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// There is none of that id.
    Unknown,
    /// Another one has that name.
    NameTaken,
    /// The account has as many as it may.
    TooMany,
    /// Somebody waits in it.
    InUse,
}

/// Somebody who waits and somebody who wants one, to be brought together. Nobody else is given either meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// Who waits.
    pub waiter: LegId,
    /// Who takes it.
    pub taker: LegId,
    /// In which queue.
    pub queue: QueueId,
    name: Name,
}

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Queues(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    queues: HashMap<QueueId, Line>,
    names: HashMap<Name, QueueId>,
    takers: HashMap<Name, VecDeque<Taker>>,
}

struct Line {
    queue: Queue,
    waiters: VecDeque<Waiter>,
}

struct Waiter {
    leg: LegId,
    since: Timestamp,
    /// Somebody is being given it.
    called: bool,
}

struct Taker {
    leg: LegId,
    /// It is being given somebody.
    paired: bool,
}

/// A leg's place in a queue; dropped, it is in line no longer.
pub struct Place {
    queues: Queues,
    queue: QueueId,
    leg: LegId,
}

/// A leg's wish for whoever is first in a queue; dropped, it wants nobody any more.
pub struct Taking {
    queues: Queues,
    name: Name,
    leg: LegId,
}

/// What came of entering a queue.
pub struct Entered {
    /// The place.
    pub place: Place,
    /// The queue.
    pub queue: Queue,
    /// It was made for this: it is to be kept.
    pub new: bool,
    /// Somebody was waiting for this.
    pub pair: Option<Pair>,
}

/// What a queue keeps beside the columns.
#[derive(Serialize, Deserialize)]
struct Details {
    most: u32,
}

const KIND: Kind<Details> = Kind::new("queue");

/// Keeps a queue for the next start.
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
    // It claims nothing, so it is always taken.
    resources::put(store, KIND, &row).await.map(|_| ())
}

/// Forgets a queue.
pub async fn forget(store: &Store, queue: &Queue) -> Result<(), StoreError> {
    resources::delete(store, KIND, &queue.account, queue.id.0).await.map(|_| ())
}

impl Queues {
    /// Those that were kept, with nobody in them.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let mut books = Books::default();
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

    // ----- calls --------------------------------------------------------------------------------------------------

    /// Stands in line in the account's queue of that name, which is made if there is none. Not if `most` wait there already.
    ///
    /// # Errors
    /// [`NotQueued`]: it is full, or cannot be made.
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
        Ok(Entered { place: Place { queues: self.clone(), queue: id, leg }, queue, new: known.is_none(), pair })
    }

    /// Wants whoever is first in the account's queue of that name, now or later.
    pub fn take(&self, account: &Arc<str>, name: &Arc<str>, leg: LegId) -> (Taking, Option<Pair>) {
        let name = (Arc::clone(account), Arc::clone(name));
        let mut books = self.0.lock();
        books.takers.entry(name.clone()).or_default().push_back(Taker { leg, paired: false });
        let pair = books.names.get(&name).copied().and_then(|id| books.pair(id));
        (Taking { queues: self.clone(), name, leg }, pair)
    }

    /// The two could not be brought together. Each is back where it stood, unless it has gone; the next pair that may be. If
    /// both are still there, the second value is the one who takes: it can be given nobody.
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

    // ----- requests -----------------------------------------------------------------------------------------------

    /// Those of an account, newest first.
    pub fn list(&self, account: &str, now: Timestamp) -> Vec<Snapshot> {
        let books = self.0.lock();
        let own = books.queues.values().filter(|line| *line.queue.account == *account);
        let mut all: Vec<_> = own.map(|line| line.snapshot(now)).collect();
        all.sort_by_key(|one| std::cmp::Reverse((one.queue.created_at, one.queue.id)));
        all
    }

    /// One of an account's.
    pub fn get(&self, account: &str, id: QueueId, now: Timestamp) -> Option<Snapshot> {
        let books = self.0.lock();
        books.queues.get(&id).filter(|line| *line.queue.account == *account).map(|line| line.snapshot(now))
    }

    /// The account's one of that name.
    pub fn named(&self, account: &str, name: &str, now: Timestamp) -> Option<Snapshot> {
        let books = self.0.lock();
        let id = books.names.get(&(account.into(), name.into()))?;
        books.queues.get(id).map(|line| line.snapshot(now))
    }

    /// How a leg stands in a queue; `None` if it does not, or its turn has come.
    pub fn standing(&self, id: QueueId, leg: LegId, now: Timestamp) -> Option<QueueStanding> {
        let books = self.0.lock();
        let line = books.queues.get(&id)?;
        let members: Vec<_> = line.waiting().collect();
        let own = members.iter().find(|member| member.leg == leg)?;
        Some(QueueStanding {
            queue: id,
            position: own.position,
            size: members.len(),
            most: line.queue.most,
            waited: own.waited(now),
            average: average(&members, now),
        })
    }

    /// Makes one.
    ///
    /// # Errors
    /// [`Unfit::NameTaken`], [`Unfit::TooMany`].
    pub fn create(&self, account: &Arc<str>, name: &str, most: u32, now: Timestamp) -> Result<Snapshot, Unfit> {
        let mut books = self.0.lock();
        let name: Arc<str> = name.into();
        if books.names.contains_key(&(Arc::clone(account), Arc::clone(&name))) {
            return Err(Unfit::NameTaken);
        }
        let id = books.make(account, &name, most, now)?;
        books.queues.get(&id).map(|line| line.snapshot(now)).ok_or(Unfit::Unknown)
    }

    /// Changes one. Who waits in it stays, also if it takes fewer now; who wants somebody from it asks by its name.
    ///
    /// # Errors
    /// [`Unfit::Unknown`], [`Unfit::NameTaken`].
    pub fn change(
        &self,
        account: &str,
        id: QueueId,
        name: Option<&str>,
        most: Option<u32>,
        now: Timestamp,
    ) -> Result<(Snapshot, Option<Pair>), Unfit> {
        let mut books = self.0.lock();
        let before = books.queues.get(&id).filter(|line| *line.queue.account == *account).ok_or(Unfit::Unknown)?;
        let (owner, old) = (Arc::clone(&before.queue.account), Arc::clone(&before.queue.name));
        let new: Arc<str> = name.map_or_else(|| Arc::clone(&old), Into::into);
        if *new != *old {
            if books.names.contains_key(&(Arc::clone(&owner), Arc::clone(&new))) {
                return Err(Unfit::NameTaken);
            }
            books.names.remove(&(Arc::clone(&owner), old));
            books.names.insert((owner, Arc::clone(&new)), id);
        }
        let line = books.queues.get_mut(&id).ok_or(Unfit::Unknown)?;
        line.queue.name = new;
        line.queue.most = most.unwrap_or(line.queue.most);
        line.queue.updated_at = now;
        let snapshot = line.snapshot(now);
        Ok((snapshot, books.pair(id)))
    }

    /// Deletes one in which nobody waits.
    ///
    /// # Errors
    /// [`Unfit::Unknown`], [`Unfit::InUse`].
    pub fn delete(&self, account: &str, id: QueueId) -> Result<Queue, Unfit> {
        let mut books = self.0.lock();
        let line = books.queues.get(&id).filter(|line| *line.queue.account == *account).ok_or(Unfit::Unknown)?;
        // Nor anybody who is about to be taken: it might have to wait again.
        if !line.waiters.is_empty() {
            return Err(Unfit::InUse);
        }
        let queue = line.queue.clone();
        books.queues.remove(&id);
        books.names.remove(&(Arc::clone(&queue.account), Arc::clone(&queue.name)));
        Ok(queue)
    }

    /// One who waits, or the first (`None`), is given to nobody else until it has left or [`Queues::wait_again`].
    pub fn call(&self, account: &str, id: QueueId, leg: Option<LegId>) -> Option<Member> {
        let mut books = self.0.lock();
        let line = books.queues.get_mut(&id).filter(|line| *line.queue.account == *account)?;
        let member = line.waiting().find(|member| leg.is_none_or(|leg| leg == member.leg))?;
        if let Some(waiter) = line.waiters.iter_mut().find(|waiter| waiter.leg == member.leg) {
            waiter.called = true;
        }
        Some(member)
    }

    /// It could not be taken and stands where it stood; who is to be brought together then. Nothing if it has left.
    pub fn wait_again(&self, id: QueueId, leg: LegId) -> Option<Pair> {
        let mut books = self.0.lock();
        books.wait_again(id, leg);
        books.pair(id)
    }
}

impl Books {
    fn add(&mut self, queue: Queue) {
        self.names.insert((Arc::clone(&queue.account), Arc::clone(&queue.name)), queue.id);
        self.queues.insert(queue.id, Line { queue, waiters: VecDeque::new() });
    }

    fn make(&mut self, account: &Arc<str>, name: &Arc<str>, most: u32, now: Timestamp) -> Result<QueueId, Unfit> {
        if self.names.keys().filter(|(of, _)| of == account).count() >= MOST_QUEUES {
            return Err(Unfit::TooMany);
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

    /// The first who waits, and the first who wants somebody.
    fn pair(&mut self, id: QueueId) -> Option<Pair> {
        let line = self.queues.get_mut(&id)?;
        let name = (Arc::clone(&line.queue.account), Arc::clone(&line.queue.name));
        let waiter = line.waiters.iter_mut().find(|waiter| !waiter.called)?;
        let taker = self.takers.get_mut(&name)?.iter_mut().find(|taker| !taker.paired)?;
        (waiter.called, taker.paired) = (true, true);
        Some(Pair { waiter: waiter.leg, taker: taker.leg, queue: id, name })
    }
}

impl Line {
    fn waiting(&self) -> impl Iterator<Item = Member> {
        let waiting = self.waiters.iter().filter(|waiter| !waiter.called);
        waiting.enumerate().map(|(index, waiter)| Member { leg: waiter.leg, since: waiter.since, position: index + 1 })
    }

    fn snapshot(&self, now: Timestamp) -> Snapshot {
        let members: Vec<_> = self.waiting().collect();
        Snapshot { queue: self.queue.clone(), average: average(&members, now), members }
    }
}

impl Place {
    /// How it stands; `None` once its turn has come.
    pub fn standing(&self, now: Timestamp) -> Option<QueueStanding> {
        self.queues.standing(self.queue, self.leg, now)
    }

    /// Its turn is over again: it stands where it stood. Who is to be brought together then.
    pub fn wait_again(&self) -> Option<Pair> {
        self.queues.wait_again(self.queue, self.leg)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut books = self.queues.0.lock();
        if let Some(line) = books.queues.get_mut(&self.queue) {
            line.waiters.retain(|waiter| waiter.leg != self.leg);
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut books = self.queues.0.lock();
        if let Some(takers) = books.takers.get_mut(&self.name) {
            // The oldest, should it have asked again before this is dropped.
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
#[path = "queues_tests.rs"]
mod tests;
