//! The order of the queues, without I/O: the waiting legs, the agents, and the names that this node owns.
//!
//! Each waiting leg and each agent is an entry with a ticket. The entries may belong to legs of other nodes of a cluster.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tandem_call::queue::{NotQueued, QueuePosition};
use tandem_events::{Bus, Event, QueueChange, QueueEvent, Topic};
use tandem_id::node::NodeTag;
use tandem_id::{AccountName, LegId, QueueId};

use super::{DEFAULT_QUEUE_SIZE, MAX_QUEUES, Member, Pair, Queue, QueueError, QueueSnapshot, average};

/// Name of the account, and name of the queue.
pub(super) type Name = (AccountName, Arc<str>);

/// The random number of an entry. The node of the entry's leg makes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Ticket(pub(super) u64);

/// A leg in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Caller {
    pub(super) ticket: Ticket,
    pub(super) leg: LegId,
    pub(super) since: Timestamp,
    pub(super) state: CallerState,
    /// The number of orders to wait that the entry has had ([`QueueTable::order_to_wait`]).
    pub(super) orders: u32,
    /// The queue that the leg has entered, as its call knows it. Another owner of the name may have another queue in its
    /// place. `None` before the leg has entered.
    pub(super) queue: Option<QueueId>,
    /// The number of the hold that reserves the leg. 0 if its own node says that the leg is reserved.
    #[serde(skip)]
    pub(super) hold: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum CallerState {
    /// The node of the leg does not know yet that the leg has entered the queue. So the leg is not paired yet.
    Arriving,
    Waiting,
    /// The leg is reserved, for example because the leg is being connected to an agent.
    Called,
}

impl Caller {
    /// A leg that enters a queue.
    pub(super) fn new(leg: LegId, since: Timestamp) -> Self {
        let ticket = Ticket(rand::random());
        Self { ticket, leg, since, state: CallerState::Waiting, orders: 0, queue: None, hold: 0 }
    }
}

/// The reservation of a leg by a pair or by a request. When it ends, the leg waits again, unless it is reserved anew by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hold {
    ticket: Ticket,
    number: u64,
}

/// An agent that wants a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Agent {
    pub(super) ticket: Ticket,
    pub(super) leg: LegId,
    pub(super) since: Timestamp,
    /// Whether the agent is being connected.
    paired: bool,
}

impl Agent {
    pub(super) fn new(leg: LegId, since: Timestamp) -> Self {
        Self { ticket: Ticket(rand::random()), leg, since, paired: false }
    }
}

/// The queue of an entry of a waiting leg, or the name for which an agent waits.
#[derive(Clone)]
enum Spot {
    Caller(QueueId),
    Agent(Name),
}

pub(super) struct LiveQueue {
    pub(super) queue: Queue,
    callers: VecDeque<Caller>,
    /// Whether the database has the queue.
    is_stored: bool,
}

/// A queue, and whether it was created just now.
pub(super) struct Found {
    pub(super) queue: Queue,
    pub(super) is_new: bool,
}

#[derive(Default)]
pub(super) struct QueueTable {
    events: Bus,
    queues: HashMap<QueueId, LiveQueue>,
    names: HashMap<Name, QueueId>,
    agents: HashMap<Name, VecDeque<Agent>>,
    spots: HashMap<Ticket, Spot>,
    /// The names that this node owns in a cluster, with their ids in the database. If the server is alone, the map is empty.
    owned: HashMap<Name, u128>,
    /// The names whose queues are being changed or deleted. The database does not have the change yet.
    changing: HashSet<Name>,
    /// The number of the last hold.
    holds: u64,
    /// Whether a task stores the new queues.
    is_storing: bool,
}

impl QueueTable {
    pub(super) fn new(events: Bus) -> Self {
        Self { events, ..Self::default() }
    }

    // Queues.

    /// Adds a queue that the database has.
    pub(super) fn add_stored(&mut self, queue: Queue) {
        self.add(queue, true);
    }

    fn add(&mut self, queue: Queue, is_stored: bool) {
        self.names.insert(queue.full_name(), queue.id);
        self.queues.insert(queue.id, LiveQueue { queue, callers: VecDeque::new(), is_stored });
    }

    /// Notes that the database has a queue.
    pub(super) fn stored(&mut self, id: QueueId) {
        if let Some(live) = self.queues.get_mut(&id) {
            live.is_stored = true;
        }
    }

    /// Returns a queue that the database does not have yet. `None` if there is none with this id.
    pub(super) fn unstored(&self, id: QueueId) -> Option<Queue> {
        self.get(id).filter(|live| !live.is_stored).map(|live| live.queue.clone())
    }

    /// Begins a task that stores new queues. Returns `false` if there is one already.
    pub(super) fn begin_to_store(&mut self) -> bool {
        !std::mem::replace(&mut self.is_storing, true)
    }

    /// Returns the queues that the database does not have yet. If there are none, the task that stores them ends.
    pub(super) fn next_to_store(&mut self) -> Vec<QueueId> {
        let unstored = self.queues.values().filter(|live| !live.is_stored);
        let unstored: Vec<_> = unstored.map(|live| live.queue.id).collect();
        self.is_storing = !unstored.is_empty();
        unstored
    }

    /// Returns the queue with this name. Creates the queue if it does not exist.
    pub(super) fn open(&mut self, name: &Name, max_size: u32, now: Timestamp) -> Result<Found, QueueError> {
        if let Some(live) = self.id_of(name).and_then(|id| self.get(id)) {
            return Ok(Found { queue: live.queue.clone(), is_new: false });
        }
        if self.names.keys().filter(|(of, _)| *of == name.0).count() >= MAX_QUEUES {
            return Err(QueueError::TooMany);
        }
        let ((account, name), id) = (name.clone(), QueueId::new(now, &mut rand::rng()));
        let queue = Queue { id, account, name, max_size, created_at: now, updated_at: now };
        self.add(queue.clone(), false);
        self.publish(id, QueueChange::Created);
        Ok(Found { queue, is_new: true })
    }

    /// Changes the name and the size of a queue. Returns the queue after the change.
    pub(super) fn change(
        &mut self,
        account: &AccountName,
        id: QueueId,
        name: Option<&Arc<str>>,
        max_size: Option<u32>,
        now: Timestamp,
    ) -> Result<Queue, QueueError> {
        let live = self.of_account(account, id).ok_or(QueueError::Unknown)?;
        let before = live.queue.clone();
        let name = name.unwrap_or(&before.name);
        if *name != before.name && self.names.contains_key(&(account.clone(), Arc::clone(name))) {
            return Err(QueueError::NameTaken);
        }
        // Another node takes the queue with the latest change, and the clocks of two nodes may differ.
        let after = before.updated_at.checked_add(SignedDuration::from_micros(1)).unwrap_or(now);
        let max_size = max_size.unwrap_or(before.max_size);
        let changed = Queue { name: Arc::clone(name), max_size, updated_at: now.max(after), ..before.clone() };
        self.put(changed.clone());
        Ok(changed)
    }

    /// Replaces the settings of a queue.
    pub(super) fn put(&mut self, queue: Queue) {
        let (id, name) = (queue.id, queue.full_name());
        let Some(live) = self.queues.get_mut(&id) else { return };
        let before = std::mem::replace(&mut live.queue, queue).full_name();
        if self.names.get(&before) == Some(&id) {
            self.names.remove(&before);
        }
        self.names.insert(name, id);
        self.publish(id, QueueChange::Changed);
    }

    /// Deletes a queue in which nobody waits. A leg that is being connected counts as waiting, because the leg may have to
    /// wait again.
    pub(super) fn remove(&mut self, account: &AccountName, id: QueueId) -> Result<Queue, QueueError> {
        let live = self.of_account(account, id).ok_or(QueueError::Unknown)?;
        if !live.callers.is_empty() {
            return Err(QueueError::InUse);
        }
        let queue = live.queue.clone();
        self.publish(id, QueueChange::Deleted);
        self.queues.remove(&id);
        let name = queue.full_name();
        if self.names.get(&name) == Some(&id) {
            self.names.remove(&name);
        }
        Ok(queue)
    }

    /// Returns the ids of the queues that the database has.
    pub(super) fn stored_ids(&self) -> HashSet<QueueId> {
        self.queues.values().filter(|live| live.is_stored).map(|live| live.queue.id).collect()
    }

    /// Takes over the stored queues, which another node may have changed. `known` are the queues of which this table knew
    /// before the read that they are stored. A queue in which legs wait stays, although it was deleted.
    pub(super) fn replace(&mut self, known: &HashSet<QueueId>, stored: Vec<Queue>) {
        let ids: HashSet<QueueId> = stored.iter().map(|queue| queue.id).collect();
        let gone = known.iter().filter(|id| !ids.contains(*id)).filter_map(|id| self.queues.get(id));
        let gone: Vec<_> = gone.map(|live| (live.queue.account.clone(), live.queue.id)).collect();
        for (account, id) in gone {
            // The others are in use.
            let _ = self.remove(&account, id);
        }
        for queue in stored {
            // All changes of a queue whose name this node owns are made here.
            let is_own = self.owned.contains_key(&queue.full_name());
            match self.queues.get(&queue.id) {
                Some(live) if live.queue.updated_at < queue.updated_at => self.put(queue),
                Some(_) => self.stored(queue.id),
                None if is_own => {}
                None => {
                    let id = queue.id;
                    self.add_stored(queue);
                    self.publish(id, QueueChange::Created);
                }
            }
        }
    }

    // Names of a cluster.

    pub(super) fn owns(&self, name: &Name) -> bool {
        self.owned.contains_key(name)
    }

    /// Notes that this node has taken a name. `id` has the name in the database, and `stored` is the stored queue with the
    /// name.
    pub(super) fn settle(&mut self, name: &Name, id: u128, stored: Option<Queue>) {
        self.owned.insert(name.clone(), id);
        self.see(self.id_of(name), stored);
    }

    /// Takes over a stored queue. Another node may have changed or deleted it just now. `before` is the queue of this table
    /// in its place: with the same name, or with the same id.
    pub(super) fn see(&mut self, before: Option<QueueId>, stored: Option<Queue>) {
        let before = before.filter(|id| stored.as_ref().is_none_or(|stored| stored.id != *id));
        let before = before.and_then(|id| self.queues.get(&id)).filter(|live| live.is_stored);
        if let Some((account, id)) = before.map(|live| (live.queue.account.clone(), live.queue.id)) {
            // It stays if it is in use.
            let _ = self.remove(&account, id);
        }
        let Some(stored) = stored else { return };
        match self.queues.get(&stored.id) {
            Some(live) if live.queue.updated_at < stored.updated_at => self.put(stored),
            Some(_) => {}
            None => {
                let id = stored.id;
                self.add_stored(stored);
                self.publish(id, QueueChange::Created);
            }
        }
    }

    /// Gives up a name if neither a queue nor agents have it, and if no queue with this name is being changed. Returns its id
    /// in the database.
    pub(super) fn drop_unused(&mut self, name: &Name) -> Option<u128> {
        let is_used = self.names.contains_key(name) || self.agents.contains_key(name) || self.changing.contains(name);
        if is_used { None } else { self.owned.remove(name) }
    }

    /// Notes that queues with these names are being changed. One change is made at a time.
    pub(super) fn begin_change(&mut self, names: &[Name]) {
        self.changing.extend(names.iter().cloned());
    }

    pub(super) fn end_change(&mut self, names: &[Name]) {
        for name in names {
            self.changing.remove(name);
        }
    }

    /// A node of a cluster is gone: its legs leave the queues. Returns the names that they had used.
    pub(super) fn node_left(&mut self, tag: NodeTag) -> Vec<Name> {
        let is_gone = |leg: LegId| NodeTag::of_id(leg.0) == tag;
        let callers = self.queues.values().flat_map(|live| &live.callers).map(|caller| (caller.ticket, caller.leg));
        let agents = self.agents.values().flatten().map(|agent| (agent.ticket, agent.leg));
        let gone: Vec<Ticket> =
            callers.chain(agents).filter(|(_, leg)| is_gone(*leg)).map(|(ticket, _)| ticket).collect();
        gone.into_iter().filter_map(|ticket| self.leave(ticket)).collect()
    }

    // Waiting legs.

    /// Adds a leg to the queue with this name. Creates the queue if it does not exist.
    pub(super) fn enter(
        &mut self,
        name: &Name,
        max_size: Option<u32>,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Found, NotQueued> {
        let found = self.open(name, DEFAULT_QUEUE_SIZE, now).map_err(|_| NotQueued::TooManyQueues)?;
        let id = found.queue.id;
        let live = self.queues.get_mut(&id).ok_or(NotQueued::TooManyQueues)?;
        let limit = max_size.unwrap_or(u32::MAX).min(live.queue.max_size);
        if live.waiting().count() >= limit as usize {
            return Err(NotQueued::Full);
        }
        live.callers.push_back(Caller { queue: Some(id), ..caller });
        self.spots.insert(caller.ticket, Spot::Caller(id));
        self.publish(id, QueueChange::Waits(caller.leg));
        Ok(found)
    }

    /// Adds a leg that waited before a restart, or at a node that is gone. The leg gets the position of its arrival, even if
    /// the queue is full. A leg that is known, because an answer to its node was lost, gets the state that it has now.
    pub(super) fn enter_again(&mut self, id: QueueId, caller: Caller) {
        if self.spots.contains_key(&caller.ticket) {
            if caller.state == CallerState::Waiting {
                self.order_to_wait(caller.ticket, caller.orders);
            }
            return;
        }
        let Some(live) = self.queues.get_mut(&id) else { return };
        let position = live.callers.partition_point(|one| one.since <= caller.since);
        live.callers.insert(position, caller);
        self.spots.insert(caller.ticket, Spot::Caller(id));
        let is_called = caller.state == CallerState::Called;
        self.publish(id, if is_called { QueueChange::Called(caller.leg) } else { QueueChange::Waits(caller.leg) });
    }

    /// Returns the queue for legs that waited in `queue`, which had this name, at a node that is gone.
    pub(super) fn bring(&mut self, name: &Name, queue: Queue) -> Found {
        let known = self.id_of(name).unwrap_or(queue.id);
        if let Some(live) = self.get(known) {
            return Found { queue: live.queue.clone(), is_new: false };
        }
        let (account, name) = name.clone();
        let queue = Queue { account, name, ..queue };
        self.add(queue.clone(), false);
        self.publish(queue.id, QueueChange::Created);
        Found { queue, is_new: true }
    }

    /// Removes an entry. Returns the name of its queue.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Name> {
        match self.spots.remove(&ticket)? {
            Spot::Caller(id) => {
                let live = self.queues.get_mut(&id)?;
                let place = live.callers.iter().position(|caller| caller.ticket == ticket)?;
                let left = live.callers.remove(place)?;
                let name = live.queue.full_name();
                self.publish(id, QueueChange::Left(left.leg));
                Some(name)
            }
            Spot::Agent(name) => {
                let agents = self.agents.get_mut(&name)?;
                agents.retain(|agent| agent.ticket != ticket);
                if agents.is_empty() {
                    self.agents.remove(&name);
                }
                self.publish_agents(&name);
                Some(name)
            }
        }
    }

    /// Lets a leg wait, because its node is ready for an agent, or because its connection has failed. `number` is the number
    /// of such orders for this entry: an order that was repeated has no effect. Returns the queue, or `None` if there is no
    /// such entry.
    pub(super) fn order_to_wait(&mut self, ticket: Ticket, number: u32) -> Option<QueueId> {
        let Some(Spot::Caller(id)) = self.spots.get(&ticket) else { return None };
        let id = *id;
        let caller = self.queues.get_mut(&id)?.callers.iter_mut().find(|caller| caller.ticket == ticket)?;
        if caller.orders < number {
            caller.orders = number;
            let before = std::mem::replace(&mut caller.state, CallerState::Waiting);
            let leg = caller.leg;
            if before == CallerState::Called {
                self.publish(id, QueueChange::Waits(leg));
            }
        }
        Some(id)
    }

    /// Ends a hold: its leg returns to its position, unless something else reserves the leg now. Returns the queue of the leg,
    /// or `None` if the leg has left.
    pub(super) fn release(&mut self, hold: Hold) -> Option<QueueId> {
        let Some(Spot::Caller(id)) = self.spots.get(&hold.ticket) else { return None };
        let id = *id;
        let caller = self.queues.get_mut(&id)?.callers.iter_mut().find(|caller| caller.ticket == hold.ticket)?;
        if caller.state == CallerState::Called && caller.hold == hold.number {
            caller.state = CallerState::Waiting;
            let leg = caller.leg;
            self.publish(id, QueueChange::Waits(leg));
        }
        Some(id)
    }

    /// Returns a reserved leg with this ticket to its position. Returns the queue of the leg.
    pub(super) fn wait_again_with(&mut self, ticket: Ticket) -> Option<QueueId> {
        let orders = self.caller(ticket)?.orders;
        self.order_to_wait(ticket, orders.saturating_add(1))
    }

    /// Lets an arriving leg wait, because its call knows now that the leg has entered. Returns the queue of the leg if the leg
    /// was arriving.
    pub(super) fn ready(&mut self, ticket: Ticket) -> Option<QueueId> {
        let orders = self.caller(ticket).filter(|caller| caller.state == CallerState::Arriving)?.orders;
        self.order_to_wait(ticket, orders.saturating_add(1))
    }

    fn caller(&self, ticket: Ticket) -> Option<&Caller> {
        let Some(Spot::Caller(id)) = self.spots.get(&ticket) else { return None };
        self.queues.get(id)?.callers.iter().find(|caller| caller.ticket == ticket)
    }

    /// Reserves the given waiting leg, or the first waiting leg. The leg is not paired until the hold is released.
    pub(super) fn call(&mut self, id: QueueId, leg: Option<LegId>) -> Option<(Member, Hold)> {
        let live = self.queues.get_mut(&id)?;
        let waiting = live.callers.iter_mut().filter(|caller| caller.state != CallerState::Called).enumerate();
        let mut free = waiting.filter(|(_, caller)| caller.state == CallerState::Waiting);
        let (index, caller) = free.find(|(_, caller)| leg.is_none_or(|leg| leg == caller.leg))?;
        self.holds += 1;
        (caller.state, caller.hold) = (CallerState::Called, self.holds);
        let member = Member { leg: caller.leg, since: caller.since, position: index + 1 };
        let hold = Hold { ticket: caller.ticket, number: caller.hold };
        self.publish(id, QueueChange::Called(member.leg));
        Some((member, hold))
    }

    // Agents.

    /// Adds an agent after the others.
    pub(super) fn take(&mut self, name: &Name, agent: Agent) {
        self.agents.entry(name.clone()).or_default().push_back(agent);
        self.spots.insert(agent.ticket, Spot::Agent(name.clone()));
        self.publish_agents(name);
    }

    /// Adds an agent that waits since an earlier time. The agent gets the position of its request.
    pub(super) fn take_again(&mut self, name: &Name, agent: Agent) {
        if self.spots.contains_key(&agent.ticket) {
            return;
        }
        let agents = self.agents.entry(name.clone()).or_default();
        let position = agents.partition_point(|one| one.since <= agent.since);
        agents.insert(position, Agent { paired: false, ..agent });
        self.spots.insert(agent.ticket, Spot::Agent(name.clone()));
        self.publish_agents(name);
    }

    /// Pairs the first waiting leg with the first agent.
    pub(super) fn pair(&mut self, id: QueueId) -> Option<Pair> {
        let live = self.queues.get_mut(&id)?;
        let name = live.queue.full_name();
        let caller = live.callers.iter_mut().find(|caller| caller.state == CallerState::Waiting)?;
        let agent = self.agents.get_mut(&name)?.iter_mut().find(|agent| !agent.paired)?;
        self.holds += 1;
        (caller.state, caller.hold, agent.paired) = (CallerState::Called, self.holds, true);
        let pair = Pair {
            caller: caller.leg,
            agent: agent.leg,
            queue: caller.queue.unwrap_or(id),
            own_queue: id,
            hold: Hold { ticket: caller.ticket, number: caller.hold },
            request: agent.ticket,
        };
        self.publish(id, QueueChange::Called(pair.caller));
        Some(pair)
    }

    /// Pairs the first waiting leg of the queue with this name with the first agent.
    pub(super) fn pair_of(&mut self, name: &Name) -> Option<Pair> {
        self.id_of(name).and_then(|id| self.pair(id))
    }

    /// Handles a pair that could not be connected; see [`super::Queues::unpair`].
    pub(super) fn unpair(&mut self, pair: &Pair, agent_is_gone: bool) -> (Option<Pair>, bool) {
        let waits = self.release(pair.hold).is_some();
        let wants = match self.agent(pair) {
            Some(agent) if !waits && !agent_is_gone => {
                agent.paired = false;
                true
            }
            Some(_) => !agent_is_gone,
            None => false,
        };
        (self.pair(pair.own_queue), waits && wants)
    }

    /// Handles a pair of which it is not known whether it was connected; see [`super::Queues::pair_again`].
    pub(super) fn pair_again(&mut self, pair: &Pair) -> Option<Pair> {
        let is_held = |caller: &Caller| caller.state == CallerState::Called && caller.hold == pair.hold.number;
        let is_called = self.caller(pair.hold.ticket).is_some_and(is_held);
        let is_paired = self.agent(pair).is_some_and(|agent| agent.paired);
        if is_called && is_paired {
            return Some(pair.clone());
        }
        self.release(pair.hold);
        if let Some(agent) = self.agent(pair) {
            agent.paired = false;
        }
        self.pair(pair.own_queue)
    }

    fn agent(&mut self, pair: &Pair) -> Option<&mut Agent> {
        let Some(Spot::Agent(name)) = self.spots.get(&pair.request) else { return None };
        self.agents.get_mut(name)?.iter_mut().find(|agent| agent.ticket == pair.request)
    }

    /// Returns the agents that wait for a caller, in the order of their requests.
    pub(super) fn agents(&self, name: &Name) -> Vec<LegId> {
        let waiting = self.agents.get(name).into_iter().flatten();
        waiting.filter(|agent| !agent.paired).map(|agent| agent.leg).collect()
    }

    // Reads.

    pub(super) fn id_of(&self, name: &Name) -> Option<QueueId> {
        self.names.get(name).copied()
    }

    pub(super) fn get(&self, id: QueueId) -> Option<&LiveQueue> {
        self.queues.get(&id)
    }

    pub(super) fn of_account(&self, account: &AccountName, id: QueueId) -> Option<&LiveQueue> {
        self.get(id).filter(|live| live.queue.account == *account)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &LiveQueue> {
        self.queues.values()
    }

    /// Returns the position of a leg. `None` if the leg does not wait in the queue, or is being connected. If another queue is
    /// now in the place of the queue that the leg has entered, both are its queue.
    pub(super) fn position(&self, id: QueueId, leg: LegId, now: Timestamp) -> Option<QueuePosition> {
        let has = |live: &&LiveQueue| live.callers.iter().any(|one| one.leg == leg && one.queue == Some(id));
        let live = self.queues.get(&id).or_else(|| self.queues.values().find(has))?;
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

    /// Returns the position of the leg with this ticket.
    pub(super) fn position_of(&self, ticket: Ticket, now: Timestamp) -> Option<QueuePosition> {
        let Some(Spot::Caller(id)) = self.spots.get(&ticket) else { return None };
        self.position(*id, self.caller(ticket)?.leg, now)
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
}

impl LiveQueue {
    fn waiting(&self) -> impl Iterator<Item = Member> {
        let waiting = self.callers.iter().filter(|caller| caller.state != CallerState::Called);
        waiting.enumerate().map(|(index, caller)| Member { leg: caller.leg, since: caller.since, position: index + 1 })
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> QueueSnapshot {
        let members: Vec<_> = self.waiting().collect();
        let average: Duration = average(&members, now);
        QueueSnapshot { queue: self.queue.clone(), waiting: members.len(), average, members }
    }
}
