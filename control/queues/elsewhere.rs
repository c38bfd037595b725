//! The legs of this node in queues of other nodes of a cluster.
//!
//! ```text
//!   this node has the leg                          another node owns the name of the queue (guests.rs)
//!   QueueMembership ──► Away ── Enter, Wait, Leave ──bus──►  entry in the table ──► Pair, connected by the server there
//!   AgentRequest    ──► Away ── Register, Leave ─────bus──►  entry
//! ```
//!
//! The tickets of the guards are the keys of the entries at both nodes. When the owner dies, the entries of all its guests
//! are registered again at the next owner, with their old times: the order stays. An order for an entry is repeated until the
//! owner answers or is gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tandem_call::queue::{NotQueued, QueuePosition};
use tandem_cluster::{ANSWER_TIME, AskError, CHANGE_TIME, REPEAT};
use tandem_host::clock;
use tandem_id::node::NodeTag;
use tandem_id::{AccountName, LegId, QueueId};
use tandem_store::nodes::NodeRow;
use tokio::time::Instant;

use super::guests::{Enter, EnterRefused, Entered, Leave, PositionOf, Register, Reserve, SizesOf, Wait};
use super::names::Place;
use super::table::{Agent, Caller, CallerState, Name, Ticket};
use super::{EnterResult, Queue, QueueError, QueueSnapshot, Queues, Reservation};

/// Maximum time for which a leg looks for the node of its queue. A dead node has another owner for its queues after 4 s.
const ARRIVAL: Duration = Duration::from_secs(6);

/// Maximum time for the position of a leg in a queue of another node.
const POSITION_TIME: Duration = Duration::from_millis(250);

/// Maximum number of entries in one question.
const BATCH: usize = 500;

/// The legs of this node that are in queues of other nodes, or that look for the node of their queue.
#[derive(Default)]
pub(super) struct Elsewhere {
    waits: HashMap<Ticket, Away>,
    /// The names for which a task registers entries.
    registering: HashSet<Name>,
}

/// A leg of this node in a queue of another node. Its guard exists as long as this value.
struct Away {
    name: Name,
    entry: Entry,
    /// The node that has, or may have, the entry.
    at: Option<i64>,
    /// Whether the entry must still be registered.
    is_pending: bool,
}

enum Entry {
    /// A waiting leg, and its queue. There is no queue while the leg enters.
    Caller(Caller, Option<Queue>),
    Agent(Agent),
}

/// An entry in a question to register it.
struct Sent {
    ticket: Ticket,
    /// The number of its orders to wait.
    orders: u32,
    /// Whether the asked node may have the entry already.
    is_repeated: bool,
}

impl Away {
    fn since(&self) -> Timestamp {
        match &self.entry {
            Entry::Caller(caller, _) => caller.since,
            Entry::Agent(agent) => agent.since,
        }
    }
}

impl Elsewhere {
    /// Returns the entries of this name that must be registered, in the order of their times.
    fn pending(&self, name: &Name) -> Vec<Ticket> {
        let pending = self.waits.iter().filter(|(_, away)| away.is_pending && away.name == *name);
        let mut pending: Vec<_> = pending.map(|(ticket, away)| (away.since(), *ticket)).collect();
        pending.sort_by_key(|(since, _)| *since);
        pending.into_iter().map(|(_, ticket)| ticket).collect()
    }

    fn caller_mut(&mut self, ticket: Ticket) -> Option<(&mut Caller, bool)> {
        let away = self.waits.get_mut(&ticket)?;
        match &mut away.entry {
            Entry::Caller(caller, _) => Some((caller, away.is_pending)),
            Entry::Agent(_) => None,
        }
    }
}

impl Queues {
    /// Adds a leg to the account's queue with this name, at whatever node of the cluster the queue is. Otherwise like
    /// [`Queues::enter`]. If another node has the queue, the leg is not paired before [`QueueMembership::ready`] is called.
    ///
    /// [`QueueMembership::ready`]: super::QueueMembership::ready
    pub async fn arrive(
        &self,
        account: &AccountName,
        name: &Arc<str>,
        max_size: Option<u32>,
        leg: LegId,
    ) -> Result<EnterResult, NotQueued> {
        let (until, full_name) = (Instant::now() + ARRIVAL, (account.clone(), Arc::clone(name)));
        loop {
            match self.place(&full_name).await {
                Ok(Place::Here) => {
                    if let Some(entered) = self.enter(account, name, max_size, leg, clock::time()) {
                        if entered.is_err() {
                            self.free_unused(&full_name);
                        }
                        return entered;
                    }
                }
                Ok(Place::At(node)) => {
                    if let Some(entered) = self.enter_at(&node, &full_name, max_size, leg).await {
                        return entered;
                    }
                }
                Err(_) => return Err(NotQueued::NoOwner),
            }
            if Instant::now() >= until {
                return Err(NotQueued::NoOwner);
            }
            tokio::time::sleep(REPEAT / 4).await;
        }
    }

    /// Adds a leg to a queue of another node. Returns `None` if the owner of the name moves just now, or does not answer.
    async fn enter_at(
        &self,
        node: &NodeRow,
        name: &Name,
        max_size: Option<u32>,
        leg: LegId,
    ) -> Option<Result<EnterResult, NotQueued>> {
        let caller = Caller { state: CallerState::Arriving, ..Caller::new(leg, clock::time()) };
        let ticket = caller.ticket;
        let entry = Entry::Caller(caller, None);
        let away = Away { name: name.clone(), entry, at: Some(node.epoch), is_pending: false };
        self.0.elsewhere.lock().waits.insert(ticket, away);
        // If this future is dropped, or if the answer is lost, the leg leaves the queue.
        let mut membership = self.membership(QueueId(0), &caller);
        let asked = Enter { account: name.0.clone(), name: Arc::clone(&name.1), max_size, leg, ticket };
        match self.0.cluster.ask(node, &asked).await {
            Ok(Ok(Entered { queue, since })) => {
                membership.queue = queue.id;
                self.has_entered(ticket, node.epoch, &queue, since);
                Some(Ok(EnterResult { membership, queue, pair: None }))
            }
            Ok(Err(refused)) => {
                self.0.elsewhere.lock().waits.remove(&ticket);
                match refused {
                    EnterRefused::NotMine => None,
                    EnterRefused::Refused(why) => Some(Err(why)),
                }
            }
            Err(error) => {
                tracing::warn!("node {}: queue {}: {error}", node.name, name.1);
                match error {
                    // The node may be dead: then another node takes the name.
                    AskError::NoAnswer(_) | AskError::NoNode => None,
                    AskError::BusAway | AskError::TooLarge | AskError::Unreadable(_) => Some(Err(NotQueued::NoOwner)),
                }
            }
        }
    }

    fn has_entered(&self, ticket: Ticket, epoch: i64, queue: &Queue, at: Timestamp) {
        let mut elsewhere = self.0.elsewhere.lock();
        let Some(away) = elsewhere.waits.get_mut(&ticket) else { return };
        if let Entry::Caller(caller, known) = &mut away.entry {
            (caller.since, caller.queue, *known) = (at, Some(queue.id), Some(queue.clone()));
        }
        // From now on, the end of the node is handled by `node_left`.
        let is_dead = self.0.cluster.other(epoch).is_none();
        if is_dead {
            away.is_pending = true;
            let name = away.name.clone();
            drop(elsewhere);
            self.register(name);
        }
    }

    /// Registers an agent at the node of the queue.
    pub(super) fn take_elsewhere(&self, name: Name, agent: Agent) {
        let away = Away { name: name.clone(), entry: Entry::Agent(agent), at: None, is_pending: true };
        self.0.elsewhere.lock().waits.insert(agent.ticket, away);
        self.register(name);
    }

    /// Ends the entry of a guard, if it is at another node or looks for one.
    pub(super) fn leave_elsewhere(&self, ticket: Ticket) -> bool {
        if !self.0.cluster.is_on() {
            return false;
        }
        let away = self.0.elsewhere.lock().waits.remove(&ticket);
        if let Some(epoch) = away.as_ref().and_then(|away| away.at) {
            self.tell_leave(epoch, ticket);
        }
        away.is_some()
    }

    /// Tells a node that an entry is over.
    fn tell_leave(&self, epoch: i64, ticket: Ticket) {
        let cluster = self.0.cluster.clone();
        self.0.runtime.spawn(async move {
            if let Some(node) = cluster.other(epoch) {
                cluster.repeat(&node, &Leave { ticket }).await;
            }
        });
    }

    /// Registers the pending entries of a name at the owner of the name. There is one task for each name.
    fn register(&self, name: Name) {
        if self.0.elsewhere.lock().registering.insert(name.clone()) {
            let queues = self.clone();
            self.0.runtime.spawn(async move {
                while queues.has_pending(&name) {
                    let pause = match queues.place(&name).await {
                        Ok(Place::Here) => queues.bring_here(&name),
                        Ok(Place::At(node)) => queues.register_at(&node, &name).await,
                        Err(_) => REPEAT,
                    };
                    tokio::time::sleep(pause).await;
                }
            });
        }
    }

    /// Whether entries of this name must be registered. If not, the task of the name ends.
    fn has_pending(&self, name: &Name) -> bool {
        let mut elsewhere = self.0.elsewhere.lock();
        let has_pending = elsewhere.waits.values().any(|away| away.is_pending && away.name == *name);
        if !has_pending {
            elsewhere.registering.remove(name);
        }
        has_pending
    }

    /// Moves the pending entries of a name into the table of this node, which has taken the name. Returns the pause before
    /// the next attempt.
    fn bring_here(&self, name: &Name) -> Duration {
        let (mut brought, mut found_queues) = (Vec::new(), Vec::new());
        {
            let mut elsewhere = self.0.elsewhere.lock();
            let mut table = self.0.table.lock();
            if !table.owns(name) {
                return REPEAT / 4;
            }
            for ticket in elsewhere.pending(name) {
                let Some(away) = elsewhere.waits.remove(&ticket) else { continue };
                brought.extend(away.at.map(|epoch| (epoch, ticket)));
                match away.entry {
                    Entry::Caller(caller, Some(queue)) => {
                        let found = table.bring(name, queue);
                        table.enter_again(found.queue.id, caller);
                        found_queues.push(found);
                    }
                    Entry::Caller(_, None) => {}
                    Entry::Agent(agent) => table.take_again(name, agent),
                }
            }
        }
        for (epoch, ticket) in brought {
            self.tell_leave(epoch, ticket);
        }
        let mut ids: HashSet<QueueId> = found_queues.iter().map(|found| found.queue.id).collect();
        ids.extend(self.0.table.lock().id_of(name));
        for found in found_queues {
            self.keep_new(&found);
        }
        self.connect_all(ids);
        self.free_unused(name);
        Duration::ZERO
    }

    /// Connects all pairs that are possible in these queues.
    pub(super) fn connect_all(&self, ids: impl IntoIterator<Item = QueueId>) {
        for id in ids {
            loop {
                let pair = self.0.table.lock().pair(id);
                if pair.is_none() {
                    break;
                }
                self.connect(pair);
            }
        }
    }

    /// Registers the pending entries of a name at another node. Returns the pause before the next attempt.
    async fn register_at(&self, node: &NodeRow, name: &Name) -> Duration {
        let (asked, sent) = self.registration(node.epoch, name);
        let answer = self.0.cluster.ask(node, &asked).await;
        if let Err(error) = &answer {
            tracing::debug!("node {}: queue {}: {error}", node.name, name.1);
        }
        let (mut gone, mut ordered, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        {
            let mut elsewhere = self.0.elsewhere.lock();
            let is_living = self.0.cluster.other(node.epoch).is_some();
            for Sent { ticket, orders, is_repeated } in sent {
                match elsewhere.waits.get_mut(&ticket) {
                    // The guard was dropped meanwhile, perhaps before the question was sent.
                    None => gone.push(ticket),
                    Some(away) => match answer {
                        Ok(true) if is_living => {
                            away.is_pending = false;
                            if let Entry::Caller(caller, _) = &away.entry
                                && caller.orders > orders
                            {
                                ordered.push((ticket, caller.orders));
                            }
                        }
                        Ok(true) | Err(_) => {}
                        Ok(false) => {
                            away.at = None;
                            refused.extend(is_repeated.then_some(ticket));
                        }
                    },
                }
            }
        }
        // The node may have the entry from an earlier question whose answer was lost: under a name that the queue had before it
        // was renamed. The entry must be away before it is registered again, perhaps at the same node.
        join_all(refused.into_iter().map(|ticket| async move {
            self.0.cluster.repeat(node, &Leave { ticket }).await;
        }))
        .await;
        for ticket in gone {
            self.tell_leave(node.epoch, ticket);
        }
        for (ticket, number) in ordered {
            self.tell_to_wait(ticket, number);
        }
        match answer {
            Ok(true) => Duration::ZERO,
            Ok(false) => REPEAT / 4,
            Err(_) => REPEAT,
        }
    }

    /// Returns the question that registers pending entries at a node, and these entries.
    fn registration(&self, epoch: i64, name: &Name) -> (Register, Vec<Sent>) {
        let mut asked = Register {
            account: name.0.clone(),
            name: Arc::clone(&name.1),
            queue: None,
            callers: Vec::new(),
            agents: Vec::new(),
        };
        let (mut sent, mut moved) = (Vec::new(), Vec::new());
        let mut elsewhere = self.0.elsewhere.lock();
        for ticket in elsewhere.pending(name).into_iter().take(BATCH) {
            let Some(away) = elsewhere.waits.get_mut(&ticket) else { continue };
            // From now on, the guard tells this node that the entry is over.
            let before = away.at.replace(epoch);
            let is_repeated = before == Some(epoch);
            moved.extend(before.filter(|_| !is_repeated).map(|before| (before, ticket)));
            let orders = match &away.entry {
                Entry::Caller(caller, queue) => {
                    asked.queue = asked.queue.or_else(|| queue.clone());
                    asked.callers.push(*caller);
                    caller.orders
                }
                Entry::Agent(agent) => {
                    asked.agents.push(*agent);
                    0
                }
            };
            sent.push(Sent { ticket, orders, is_repeated });
        }
        drop(elsewhere);
        for (before, ticket) in moved {
            self.tell_leave(before, ticket);
        }
        (asked, sent)
    }

    /// Lets a leg that has entered a queue of another node be paired. Returns `false` if the leg is in a queue of this node.
    pub(super) fn ready_elsewhere(&self, ticket: Ticket) -> bool {
        self.order_elsewhere(ticket, |state| state == CallerState::Arriving)
    }

    /// Lets a leg in a queue of another node wait again. Returns `false` if the leg is in a queue of this node.
    pub(super) fn wait_again_elsewhere(&self, ticket: Ticket) -> bool {
        self.order_elsewhere(ticket, |_| true)
    }

    pub(super) fn called_elsewhere(&self, ticket: Ticket) {
        if let Some((caller, _)) = self.0.elsewhere.lock().caller_mut(ticket) {
            caller.state = CallerState::Called;
        }
    }

    /// Orders a leg to wait if its state is right. Returns whether the leg is in a queue of another node.
    fn order_elsewhere(&self, ticket: Ticket, is_right: impl Fn(CallerState) -> bool) -> bool {
        if !self.0.cluster.is_on() {
            return false;
        }
        let mut elsewhere = self.0.elsewhere.lock();
        let Some((caller, is_pending)) = elsewhere.caller_mut(ticket) else { return false };
        if is_right(caller.state) {
            caller.state = CallerState::Waiting;
            caller.orders += 1;
            let number = caller.orders;
            drop(elsewhere);
            // A pending entry is registered with its state.
            if !is_pending {
                self.tell_to_wait(ticket, number);
            }
        }
        true
    }

    /// Tells the node of a queue that a leg waits. Ends when the node has answered, when there is a later order, or when the
    /// entry is over or is registered again.
    fn tell_to_wait(&self, ticket: Ticket, number: u32) {
        let queues = self.clone();
        self.0.runtime.spawn(async move {
            while let Some(epoch) = queues.node_for_order(ticket, number) {
                if let Some(node) = queues.0.cluster.other(epoch) {
                    match queues.0.cluster.ask(&node, &Wait { ticket, number }).await {
                        Ok(true) => return,
                        // The node does not know the leg any more.
                        Ok(false) => return queues.register_again(ticket, epoch),
                        Err(error) => tracing::debug!("node {}: a leg in a queue: {error}", node.name),
                    }
                }
                tokio::time::sleep(REPEAT).await;
            }
        });
    }

    fn node_for_order(&self, ticket: Ticket, number: u32) -> Option<i64> {
        let mut elsewhere = self.0.elsewhere.lock();
        let (caller, is_pending) = elsewhere.caller_mut(ticket)?;
        if caller.orders != number || is_pending {
            return None;
        }
        elsewhere.waits.get(&ticket).and_then(|away| away.at)
    }

    fn register_again(&self, ticket: Ticket, epoch: i64) {
        let mut elsewhere = self.0.elsewhere.lock();
        let away = elsewhere.waits.get_mut(&ticket).filter(|away| away.at == Some(epoch));
        if let Some(away) = away {
            away.is_pending = true;
            let name = away.name.clone();
            drop(elsewhere);
            self.register(name);
        }
    }

    /// A node is gone: its legs leave the queues of this node, and the legs of this node in its queues are registered at the
    /// next owner.
    pub fn node_left(&self, node: &NodeRow) {
        if let Some(tag) = NodeTag::of_epoch(node.epoch) {
            let used = self.0.table.lock().node_left(tag);
            for name in used {
                self.free_unused(&name);
            }
        }
        let epoch = node.epoch;
        let mut elsewhere = self.0.elsewhere.lock();
        let mut has_pending = false;
        for away in elsewhere.waits.values_mut().filter(|away| away.at == Some(epoch)) {
            // A leg that enters a queue just now looks for the next owner itself.
            if !matches!(away.entry, Entry::Caller(_, None)) {
                (away.at, away.is_pending, has_pending) = (None, true, true);
            }
        }
        drop(elsewhere);
        if has_pending {
            let queues = self.clone();
            self.0.runtime.spawn(async move {
                // The dead node may have renamed a queue just now.
                if !queues.reload_in_time().await {
                    tracing::warn!("the queues of a dead node were not read again");
                }
                for name in queues.present_names() {
                    queues.register(name);
                }
            });
        }
    }

    /// Gives the pending entries the present names of their queues. Returns the names.
    fn present_names(&self) -> HashSet<Name> {
        let mut elsewhere = self.0.elsewhere.lock();
        let table = self.0.table.lock();
        let pending = elsewhere.waits.values_mut().filter(|away| away.is_pending);
        let name = |away: &mut Away| {
            if let Entry::Caller(_, Some(queue)) = &away.entry
                && let Some(live) = table.get(queue.id)
            {
                away.name = live.queue.full_name();
            }
            away.name.clone()
        };
        pending.map(name).collect()
    }

    // The following functions ask other nodes.

    /// Returns the position of a leg of this node in a queue, whatever node has the queue. `None` if the leg does not wait in
    /// the queue, if it is being connected, or if the other node does not answer within 250 ms.
    pub async fn position_of(&self, id: QueueId, leg: LegId, now: Timestamp) -> Option<QueuePosition> {
        let here = self.position(id, leg, now);
        if here.is_some() || !self.0.cluster.is_on() {
            return here;
        }
        let (ticket, epoch) = {
            let elsewhere = self.0.elsewhere.lock();
            let is_of = |away: &Away| matches!(&away.entry, Entry::Caller(caller, Some(queue)) if caller.leg == leg && queue.id == id);
            elsewhere.waits.iter().find(|(_, away)| is_of(away)).map(|(ticket, away)| (*ticket, away.at))?
        };
        let node = self.0.cluster.other(epoch?)?;
        let answer = self.0.cluster.ask_within(&node, &PositionOf { ticket }, POSITION_TIME).await;
        answer.inspect_err(|error| tracing::debug!("node {}: {error}", node.name)).ok().flatten()
    }

    /// Returns the queues of an account, newest queue first, with the numbers of the legs that wait at all nodes. Queues of a
    /// node that does not answer look empty.
    pub async fn list_everywhere(&self, account: &AccountName, now: Timestamp) -> Vec<QueueSnapshot> {
        let cluster = &self.0.cluster;
        let nodes = cluster.others();
        // Another node may have made a queue just now.
        if !nodes.is_empty() && !self.reload_in_time().await {
            tracing::warn!("a list of queues may be a second old");
        }
        let mut all = self.list(account, now);
        let asked = SizesOf { account: account.clone() };
        let sizes = join_all(nodes.iter().map(|node| async {
            let answer = cluster.ask_within(node, &asked, ANSWER_TIME).await;
            answer.unwrap_or_else(|error| {
                tracing::warn!("node {}: the sizes of its queues: {error}", node.name);
                Vec::new()
            })
        }));
        let sizes: HashMap<_, _> = sizes.await.into_iter().flatten().map(|size| (size.queue, size)).collect();
        for snapshot in &mut all {
            if let Some(size) = sizes.get(&snapshot.queue.id) {
                (snapshot.waiting, snapshot.average) = (size.waiting, size.average);
            }
        }
        all
    }

    /// Reserves the first waiting leg of the account's queue with this name, whatever node has the queue.
    ///
    /// # Errors
    /// [`QueueError::NoOwner`].
    pub async fn call_first(&self, account: &AccountName, name: &str) -> Result<Option<Reservation>, QueueError> {
        let Some(node) = self.node_of_name(Some(account), name).await? else {
            return Ok(self.call_first_here(account, name));
        };
        let asked = Reserve { account: account.clone(), name: name.into() };
        let member = self.0.cluster.ask_within(&node, &asked, CHANGE_TIME).await.map_err(|error| {
            tracing::warn!("node {}: queue {name}: {error}", node.name);
            QueueError::NoOwner
        })?;
        Ok(member.map(Reservation::elsewhere))
    }

    pub(super) fn call_first_here(&self, account: &AccountName, name: &str) -> Option<Reservation> {
        let id = self.0.table.lock().id_of(&(account.clone(), name.into()))?;
        self.call(account, id, None)
    }
}
