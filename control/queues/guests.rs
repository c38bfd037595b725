//! The legs of other nodes of a cluster in the queues of this node, and other questions about the queues of this node. The
//! table does not know whether an entry belongs to a leg of another node.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::queue::{NotQueued, QueuePosition};
use tandem_cluster::Question;
use tandem_host::clock;
use tandem_id::{AccountName, LegId, QueueId};
use tandem_store::StoreFailed;

use super::changes::Opened;
use super::table::{Agent, Caller, CallerState, Name, Ticket};
use super::{Member, Queue, QueueError, QueueFailure, Queues, Reservation};

/// A leg of the asking node enters a queue.
#[derive(Serialize, Deserialize)]
pub(super) struct Enter {
    pub(super) account: AccountName,
    pub(super) name: Arc<str>,
    pub(super) max_size: Option<u32>,
    pub(super) leg: LegId,
    pub(super) ticket: Ticket,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Entered {
    pub(super) queue: Queue,
    /// Time at which the leg entered the queue.
    pub(super) since: Timestamp,
}

/// The reason why a leg of another node did not enter a queue.
#[derive(Serialize, Deserialize)]
pub(super) enum EnterRefused {
    /// This node does not own the name.
    NotMine,
    Refused(NotQueued),
}

impl Question for Enter {
    const NAME: &'static str = "queue-enter";
    type Answer = Result<Entered, EnterRefused>;
}

/// Legs of the asking node wait in a queue since an earlier time, because the node of the queue is gone. Or agents want legs of
/// the queue.
#[derive(Serialize, Deserialize)]
pub(super) struct Register {
    pub(super) account: AccountName,
    pub(super) name: Arc<str>,
    /// The queue in which the legs have waited.
    pub(super) queue: Option<Queue>,
    pub(super) callers: Vec<Caller>,
    pub(super) agents: Vec<Agent>,
}

impl Question for Register {
    const NAME: &'static str = "queue-register";
    /// `false` if this node does not own the name, or does not know the asking node yet.
    type Answer = bool;
}

/// A leg leaves its queue, or an agent wants no leg any more.
#[derive(Serialize, Deserialize)]
pub(super) struct Leave {
    pub(super) ticket: Ticket,
}

impl Question for Leave {
    const NAME: &'static str = "queue-leave";
    type Answer = ();
}

/// The node of a leg is ready for an agent, or the connection to an agent has failed.
#[derive(Serialize, Deserialize)]
pub(super) struct Wait {
    pub(super) ticket: Ticket,
    /// The number of such orders for this leg.
    pub(super) number: u32,
}

impl Question for Wait {
    const NAME: &'static str = "queue-wait";
    /// `false` if the leg is not in a queue of this node.
    type Answer = bool;
}

/// Asks for the position of a leg.
#[derive(Serialize, Deserialize)]
pub(super) struct PositionOf {
    pub(super) ticket: Ticket,
}

impl Question for PositionOf {
    const NAME: &'static str = "queue-position";
    type Answer = Option<QueuePosition>;
}

/// Asks for the numbers of waiting legs in the queues of an account.
#[derive(Serialize, Deserialize)]
pub(super) struct SizesOf {
    pub(super) account: AccountName,
}

/// The legs that wait in a queue of this node.
#[derive(Serialize, Deserialize)]
pub(super) struct Size {
    pub(super) queue: QueueId,
    pub(super) waiting: usize,
    pub(super) average: Duration,
}

impl Question for SizesOf {
    const NAME: &'static str = "queue-sizes";
    /// The queues in which legs wait.
    type Answer = Vec<Size>;
}

/// The asking node wants a name for a queue.
#[derive(Serialize, Deserialize)]
pub(super) struct GiveUp {
    pub(super) account: AccountName,
    pub(super) name: Arc<str>,
}

impl Question for GiveUp {
    const NAME: &'static str = "queue-give-up";
    /// `false` if a queue or an agent has the name.
    type Answer = bool;
}

/// Asks for a queue. This node creates the queue if it does not exist.
#[derive(Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) account: AccountName,
    pub(super) name: Arc<str>,
    pub(super) max_size: u32,
}

/// The reason why there is no queue.
#[derive(Serialize, Deserialize)]
pub(super) enum OpenRefused {
    /// This node does not own the name.
    NotMine,
    Refused(QueueError),
    /// The database does not answer.
    NotStored,
}

impl Question for Open {
    const NAME: &'static str = "queue-open";
    type Answer = Result<Opened, OpenRefused>;
}

/// Reserves the first waiting leg of a queue.
#[derive(Serialize, Deserialize)]
pub(super) struct Reserve {
    pub(super) account: AccountName,
    pub(super) name: Arc<str>,
}

impl Question for Reserve {
    const NAME: &'static str = "queue-reserve";
    type Answer = Option<Member>;
}

impl Queues {
    /// Answers the questions of other nodes. The bus keeps the order of the questions of a node only for answers that need no
    /// time, so a leg never leaves before it enters.
    pub(super) fn serve_other_nodes(&self) {
        let cluster = &self.0.cluster;
        let weak = Arc::downgrade(&self.0);
        let own = move || weak.upgrade().map(Queues);
        let queues = own.clone();
        cluster.answer(move |enter: Enter| {
            std::future::ready(queues().map_or(Err(EnterRefused::NotMine), |queues| queues.admit(enter)))
        });
        let queues = own.clone();
        cluster.answer(move |register: Register| {
            std::future::ready(queues().is_some_and(|queues| queues.admit_again(register)))
        });
        let queues = own.clone();
        cluster.answer(move |leave: Leave| {
            if let Some(queues) = queues() {
                let name = queues.0.table.lock().leave(leave.ticket);
                if let Some(name) = name {
                    queues.free_unused(&name);
                }
            }
            std::future::ready(())
        });
        let queues = own.clone();
        cluster.answer(move |wait: Wait| {
            std::future::ready(queues().is_some_and(|queues| queues.let_wait(wait.ticket, wait.number)))
        });
        let queues = own.clone();
        cluster.answer(move |asked: PositionOf| {
            let position = queues().and_then(|queues| queues.0.table.lock().position_of(asked.ticket, clock::time()));
            std::future::ready(position)
        });
        let queues = own.clone();
        cluster.answer(move |asked: SizesOf| {
            std::future::ready(queues().map_or_else(Vec::new, |queues| queues.sizes(&asked.account)))
        });
        let queues = own.clone();
        cluster.answer(move |asked: GiveUp| {
            std::future::ready(queues().is_some_and(|queues| queues.give_up((asked.account, asked.name))))
        });
        let queues = own.clone();
        cluster.answer(move |asked: Reserve| {
            // The other node may not receive the answer, or may die.
            let reserved = queues().and_then(|queues| queues.call_first_here(&asked.account, &asked.name));
            std::future::ready(reserved.map(Reservation::leaves))
        });
        cluster.answer(move |asked: Open| {
            let queues = own();
            async move {
                match queues {
                    Some(queues) => queues.open_for((asked.account, asked.name), asked.max_size).await,
                    None => Err(OpenRefused::NotMine),
                }
            }
        });
    }

    /// Whether the leg is of another living node. An entry of a dead node would stay for ever.
    fn is_of_living_node(&self, leg: LegId) -> bool {
        self.0.cluster.other_owner_of(leg.0).is_some()
    }

    /// Adds a leg of another node to a queue of this node.
    fn admit(&self, enter: Enter) -> Result<Entered, EnterRefused> {
        let Enter { account, name, max_size, leg, ticket } = enter;
        let (name, since) = ((account, name), clock::time());
        let caller = Caller { ticket, state: CallerState::Arriving, ..Caller::new(leg, since) };
        let found = {
            let mut table = self.0.table.lock();
            if !table.owns(&name) {
                drop(table);
                self.check_name(name);
                return Err(EnterRefused::NotMine);
            }
            // The legs of a dead node leave under this lock.
            if !self.is_of_living_node(leg) {
                return Err(EnterRefused::NotMine);
            }
            table.enter(&name, max_size, caller, since)
        };
        let found = found.map_err(|why| {
            self.free_unused(&name);
            EnterRefused::Refused(why)
        })?;
        self.keep_new(&found);
        Ok(Entered { queue: found.queue, since })
    }

    /// Adds legs of another node that wait since an earlier time, and agents of another node.
    fn admit_again(&self, register: Register) -> bool {
        let Register { account, name, queue, callers, agents } = register;
        let name = (account, name);
        let (found, id) = {
            let mut table = self.0.table.lock();
            if !table.owns(&name) {
                drop(table);
                self.check_name(name);
                return false;
            }
            // This node may not know the other node yet. Then the question is repeated.
            let is_known = |leg: LegId| self.is_of_living_node(leg);
            if !callers.iter().all(|caller| is_known(caller.leg)) || !agents.iter().all(|agent| is_known(agent.leg)) {
                return false;
            }
            let found = queue.map(|queue| table.bring(&name, queue));
            if let Some(found) = &found {
                for caller in callers {
                    table.enter_again(found.queue.id, caller);
                }
            }
            for agent in agents {
                table.take_again(&name, agent);
            }
            let id = found.as_ref().map(|found| found.queue.id).or_else(|| table.id_of(&name));
            (found, id)
        };
        if let Some(found) = found {
            self.keep_new(&found);
        }
        self.connect_all(id);
        self.free_unused(&name);
        true
    }

    /// Lets a leg of another node wait. Returns `false` if the leg is in no queue of this node.
    fn let_wait(&self, ticket: Ticket, number: u32) -> bool {
        let (is_known, pair) = {
            let mut table = self.0.table.lock();
            let id = table.order_to_wait(ticket, number);
            (id.is_some(), id.and_then(|id| table.pair(id)))
        };
        self.connect(pair);
        is_known
    }

    fn sizes(&self, account: &AccountName) -> Vec<Size> {
        let waited = self.list(account, clock::time()).into_iter().filter(|one| one.waiting > 0);
        waited.map(|one| Size { queue: one.queue.id, waiting: one.waiting, average: one.average }).collect()
    }

    /// Gives up a name if neither a queue nor an agent has it.
    fn give_up(&self, name: Name) -> bool {
        let is_own = self.0.table.lock().owns(&name);
        if !is_own {
            self.check_name(name);
            return true;
        }
        self.free_unused(&name);
        !self.0.table.lock().owns(&name)
    }

    async fn open_for(&self, name: Name, max_size: u32) -> Result<Opened, OpenRefused> {
        match self.open_here(&name, max_size).await {
            Some(Ok(opened)) => Ok(opened),
            Some(Err(QueueFailure::Refused(why))) => Err(OpenRefused::Refused(why)),
            Some(Err(QueueFailure::Store(
                StoreFailed::Away | StoreFailed::TooManyReads | StoreFailed::ReadTooSlow,
            ))) => Err(OpenRefused::NotStored),
            None => {
                self.check_name(name);
                Err(OpenRefused::NotMine)
            }
        }
    }
}
