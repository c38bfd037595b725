//! Legs of different nodes of a cluster that are bridged: by a request, or because an agent takes a caller out of a queue.
//! Each node adds a remote leg to the call of its own leg ([`tandem_call::remote_leg`]). The two remote legs are connected:
//! the signals go over the bus, one after the other, and the audio goes by RTP from node to node.
//!
//! ```text
//!   node A, which asks                           node B
//!   Message::JoinRemote ──► remote leg ── Join, Signalled ──bus──► remote leg ◄── Message::JoinedBy
//!                               ▲ ◄───────────── Signalled ──bus──     ▲
//!                               └────────────────── RTP ───────────────┘
//! ```
//!
//! A connection has the id of the remote leg of the node that asks. If a signal is lost, it is sent again until the other
//! node answers or is gone. When a node is gone, the remote legs that are connected to it end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tandem_call::Target;
use tandem_call::command::{Accepted, Refused, Request};
use tandem_call::leg::LegInfo;
use tandem_call::output::LegEvent;
use tandem_cluster::{ANSWER_TIME, Question};
use tandem_id::node::NodeTag;
use tandem_id::{LegId, QueueId};
use tandem_leg::signal::{SignalEnd, SignalEndCause, SignalEvent};
use tandem_legs::internal::{Deliver, InternalSignalling, Receiver};
use tandem_queues::Pair;
use tandem_store::nodes::NodeRow;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::inbox::Message;
use crate::registry::Registry;

/// Maximum number of signals of one connection that wait for the other node. A further signal is dropped. The end of the
/// connection is never dropped.
const SIGNALS: usize = 64;

/// Maximum time for the attempts to join a leg of another node, before the last attempt.
const JOIN_TIME: Duration = ANSWER_TIME.saturating_mul(2);

/// Maximum time for the node of an agent to connect the agent with a caller. This node may have to ask a third node for the
/// state of the caller, and to join it.
const CONNECT_TIME: Duration = ANSWER_TIME.saturating_mul(5);

/// Pause before a question is repeated to a node that did not answer.
const REPEAT: Duration = Duration::from_millis(500);

/// The connections of the remote legs of this node, by id. The limits of calls bound the number.
#[derive(Default)]
pub(crate) struct RemoteLegs(Mutex<HashMap<LegId, Connection>>);

struct Connection {
    /// The other node.
    epoch: i64,
    /// Receives the signals of the other node. `None` while the call of the asked leg has not agreed yet.
    receiver: Option<Receiver>,
}

/// The state of a connection for which another node asks.
enum Asked {
    /// Nothing is known of the connection.
    New,
    /// The call of the asked leg has not agreed yet.
    Pending,
    Joined,
}

/// Asks for a leg of the asked node.
#[derive(Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) leg: LegId,
    /// The leg of the asking node.
    pub(crate) with: LegInfo,
    /// The id of the connection.
    pub(crate) connection: LegId,
    /// The asking node.
    epoch: i64,
    /// The offer of RTP (SDP).
    offer: String,
    pub(crate) how: JoinHow,
}

/// The way in which the asked leg is joined.
#[derive(Serialize, Deserialize)]
pub(crate) enum JoinHow {
    /// The leg leaves the queue. It first runs the whisper document.
    Dequeue { queue: QueueId, whisper: Option<Target> },
    /// By a request to the other leg. `if_free` refuses a leg that is bridged with a third leg.
    Bridge { if_free: bool },
}

impl Question for Join {
    const NAME: &'static str = "leg-join";
    type Answer = Result<(), Refused>;
}

impl Join {
    pub(crate) fn offer(&self) -> Bytes {
        Bytes::copy_from_slice(self.offer.as_bytes())
    }
}

/// A signal of one remote leg to the other.
#[derive(Serialize, Deserialize)]
struct Signalled {
    connection: LegId,
    event: SignalEvent,
}

impl Question for Signalled {
    const NAME: &'static str = "leg-signal";
    /// Whether the node has the connection.
    type Answer = bool;
}

/// Asks the node of an agent to connect the agent with a caller.
#[derive(Serialize, Deserialize)]
struct Connect {
    agent: LegId,
    caller: LegId,
    queue: QueueId,
}

impl Question for Connect {
    const NAME: &'static str = "queue-connect";
    type Answer = Result<(), NotConnected>;
}

/// Tells an agent that it gets no caller.
#[derive(Serialize, Deserialize)]
struct RefuseAgent {
    agent: LegId,
}

impl Question for RefuseAgent {
    const NAME: &'static str = "queue-refuse";
    type Answer = ();
}

/// Asks for the state of a live leg.
#[derive(Serialize, Deserialize)]
struct LiveLeg {
    leg: LegId,
}

impl Question for LiveLeg {
    const NAME: &'static str = "leg";
    type Answer = Option<LegInfo>;
}

/// The reason why an agent and a caller are not connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum NotConnected {
    /// The agent has ended.
    NoAgent,
    /// The caller has ended, or the calls cannot be joined.
    NotJoined,
    /// A node did not answer.
    NoAnswer,
}

/// The new connection of a remote leg.
pub(crate) struct NewConnection {
    receiver: Receiver,
    /// The signals for the other node.
    events: mpsc::Receiver<SignalEvent>,
}

/// The reason why a leg of this node is joined with a leg of another node.
pub(crate) enum RemoteWish {
    /// The leg is an agent, and takes the other leg out of this queue.
    Dequeue(QueueId),
    /// The leg performs this request to bridge it with the other leg.
    Bridge(Box<Request>),
}

impl Registry {
    /// Answers the questions of other nodes.
    pub(crate) fn serve_remote_legs(&self) {
        let cluster = &self.services().cluster;
        let registry = self.clone();
        cluster.answer(move |signalled: Signalled| std::future::ready(registry.receive(signalled)));
        let registry = self.clone();
        cluster.answer(move |join: Join| {
            let registry = registry.clone();
            // The order of questions counts: the end of the connection may be the next one.
            let asked = registry.is_asked(join.connection, join.epoch);
            async move { registry.answer_join(join, asked).await }
        });
        let registry = self.clone();
        cluster.answer(move |refuse: RefuseAgent| {
            registry.refuse_agent(refuse.agent);
            std::future::ready(())
        });
        let registry = self.clone();
        cluster.answer(move |asked: LiveLeg| {
            let leg = registry.live().get(asked.leg).map(|leg| (*leg).clone());
            std::future::ready(leg)
        });
        let registry = self.clone();
        cluster.answer(move |connect: Connect| {
            let registry = registry.clone();
            async move { registry.connect_agent(connect.agent, connect.caller, connect.queue).await }
        });
    }

    /// Opens the connection of the new remote leg `own`, which stands for the leg `shown` of another node. Returns the
    /// signalling of the remote leg too.
    pub(crate) fn new_connection(&self, own: LegId, shown: LegId) -> (InternalSignalling, NewConnection) {
        let (sender, events) = mpsc::channel(SIGNALS);
        let registry = self.clone();
        let deliver: Deliver = Arc::new(move |leg, event| registry.signal(leg, event));
        let (signalling, receiver) = InternalSignalling::to_other_node(&deliver, (own, shown), move |event| {
            if let Err(error) = sender.try_send(event) {
                tracing::warn!(leg = %shown, "a signal for a leg of another node was dropped: {error}");
            }
        });
        (signalling, NewConnection { receiver, events })
    }

    /// Asks the other node for its leg, and then carries the signals. `offer` is that of the remote leg with the id
    /// `connection`.
    pub(crate) async fn join_other_node(
        &self,
        node: NodeRow,
        (connection, new): (LegId, NewConnection),
        (leg, with, offer): (LegId, Arc<LegInfo>, Bytes),
        how: JoinHow,
    ) -> Result<(), Refused> {
        let NewConnection { receiver, events } = new;
        let epoch = self.services().cluster.epoch().unwrap_or_default();
        let offer = String::from_utf8_lossy(&offer).into_owned();
        let join = Join { leg, with: (*with).clone(), connection, epoch, offer, how };
        let entry = Connection { epoch: node.epoch, receiver: Some(receiver.clone()) };
        self.remotes().0.lock().insert(connection, entry);
        let answer = self.ask_to_join(&node, &join).await;
        if answer.is_err() {
            receiver.receive(over());
        }
        tokio::spawn(self.clone().carry(node, connection, receiver, events));
        match answer {
            // The other leg has asked for this one, and the two are bridged by that request.
            Err(Refused::AlreadyRunning) => Ok(()),
            answer => answer,
        }
    }

    /// Asks another node to join its leg. If the answer is lost, asks again: the node joins the leg only once.
    async fn ask_to_join(&self, node: &NodeRow, join: &Join) -> Result<(), Refused> {
        let (cluster, until) = (&self.services().cluster, Instant::now() + JOIN_TIME);
        loop {
            let answer = cluster.ask(node, join).await.unwrap_or_else(|error| {
                tracing::warn!("node {}: leg {} is not joined yet: {error}", node.name, join.leg);
                Err(Refused::NoAnswer)
            });
            let is_last = Instant::now() >= until || cluster.other(node.epoch).is_none();
            if answer != Err(Refused::NoAnswer) || is_last {
                return answer;
            }
            tokio::time::sleep(REPEAT / 2).await;
        }
    }

    /// Notes that another node asks for a connection.
    fn is_asked(&self, connection: LegId, epoch: i64) -> Asked {
        match self.remotes().0.lock().entry(connection) {
            Entry::Occupied(known) if known.get().receiver.is_some() => Asked::Joined,
            Entry::Occupied(_) => Asked::Pending,
            Entry::Vacant(vacant) => {
                vacant.insert(Connection { epoch, receiver: None });
                Asked::New
            }
        }
    }

    /// Joins a leg of this node, for another node.
    async fn answer_join(&self, join: Join, asked: Asked) -> Result<(), Refused> {
        match asked {
            Asked::Joined => return Ok(()),
            Asked::Pending => return Err(Refused::NoAnswer),
            Asked::New => {}
        }
        let (connection, leg) = (join.connection, join.leg);
        let (reply, answer) = oneshot::channel();
        let answer = match self.post(leg, Message::JoinedBy { join: Box::new(join), reply }) {
            true => answer.await.unwrap_or(Err(Refused::Ended)),
            false => Err(Refused::CannotBridge),
        };
        if answer.is_err()
            && let Entry::Occupied(entry) = self.remotes().0.lock().entry(connection)
            && entry.get().receiver.is_none()
        {
            entry.remove();
        }
        answer
    }

    /// Carries the signals of a connection for which another node has asked. Returns `false` if the other node has ended the
    /// connection meanwhile.
    pub(crate) fn accept_connection(&self, join: &Join, new: NewConnection) -> bool {
        let NewConnection { receiver, events } = new;
        let Some(node) = self.services().cluster.other(join.epoch) else { return false };
        match self.remotes().0.lock().get_mut(&join.connection) {
            Some(connection) => connection.receiver = Some(receiver.clone()),
            None => return false,
        }
        tokio::spawn(self.clone().carry(node, join.connection, receiver, events));
        true
    }

    /// Gives a remote leg of this node a signal of the other node. Returns whether this node has the remote leg.
    fn receive(&self, signalled: Signalled) -> bool {
        let mut remotes = self.remotes().0.lock();
        let Some(connection) = remotes.get(&signalled.connection) else { return false };
        let Some(receiver) = connection.receiver.clone() else {
            // The other node does not wait for the call of the leg any longer.
            if matches!(signalled.event, SignalEvent::Ended(_)) {
                remotes.remove(&signalled.connection);
            }
            return false;
        };
        drop(remotes);
        receiver.receive(signalled.event);
        true
    }

    /// Carries the signals of a remote leg to the other node, and at last its end. Each is sent until the other node answers
    /// or is gone.
    async fn carry(
        self,
        node: NodeRow,
        connection: LegId,
        receiver: Receiver,
        mut events: mpsc::Receiver<SignalEvent>,
    ) {
        let cluster = &self.services().cluster;
        loop {
            // The leg is released without a last signal if its call refuses it.
            let event = events.recv().await.unwrap_or_else(over);
            let is_end = matches!(event, SignalEvent::Ended(_));
            let signalled = Signalled { connection, event };
            let is_known = cluster.repeat_after(&node, &signalled, REPEAT).await.unwrap_or_default();
            if is_end {
                break;
            }
            if !is_known {
                receiver.receive(over());
            }
        }
        self.remotes().0.lock().remove(&connection);
    }

    /// A node is gone: the remote legs that are connected to it end.
    pub(crate) fn node_of_remotes_left(&self, epoch: i64) {
        let mut remotes = self.remotes().0.lock();
        remotes.retain(|_, one| one.epoch != epoch || one.receiver.is_some());
        let gone: Vec<Receiver> =
            remotes.values().filter(|one| one.epoch == epoch).filter_map(|one| one.receiver.clone()).collect();
        drop(remotes);
        for receiver in gone {
            receiver.receive(over());
        }
    }

    /// Connects a waiting caller with the agent's leg, whatever nodes they are at. If this fails, the function tries the next
    /// pair. This node has the queue.
    pub(crate) fn connect_to_agent(&self, pair: Option<Pair>) {
        let Some(mut pair) = pair else { return };
        let registry = self.clone();
        tokio::spawn(async move {
            loop {
                let Err(why) = registry.connect_pair(&pair).await else { return };
                let queues = &registry.services().queues;
                let next = match why {
                    NotConnected::NoAnswer => {
                        // The node may be dead. Then its legs leave the queue soon.
                        tokio::time::sleep(REPEAT).await;
                        queues.pair_again(&pair)
                    }
                    _ => {
                        let (next, stuck) = queues.unpair(&pair, why == NotConnected::NoAgent);
                        if stuck {
                            registry.refuse_agent(pair.agent);
                        }
                        next
                    }
                };
                match next {
                    Some(next) => pair = next,
                    None => return,
                }
            }
        });
    }

    async fn connect_pair(&self, pair: &Pair) -> Result<(), NotConnected> {
        let cluster = &self.services().cluster;
        let Some(node) = cluster.other_owner_of(pair.agent.0) else {
            return self.connect_agent(pair.agent, pair.caller, pair.queue).await;
        };
        let connect = Connect { agent: pair.agent, caller: pair.caller, queue: pair.queue };
        cluster.ask_within(&node, &connect, CONNECT_TIME).await.unwrap_or_else(|error| {
            tracing::warn!("node {}: agent {} is not connected yet: {error}", node.name, pair.agent);
            Err(NotConnected::NoAnswer)
        })
    }

    /// Connects an agent of this node with a caller.
    async fn connect_agent(&self, agent: LegId, caller: LegId, queue: QueueId) -> Result<(), NotConnected> {
        if !self.is_live(agent) {
            return Err(NotConnected::NoAgent);
        }
        let cluster = &self.services().cluster;
        if let Some(node) = cluster.other_owner_of(caller.0) {
            let joined = self.join_remote(agent, caller, node, RemoteWish::Dequeue(queue)).await;
            return joined.map(drop).map_err(|refused| match refused {
                _ if !self.is_live(agent) => NotConnected::NoAgent,
                // A caller that has ended leaves the queue soon.
                Refused::NoAnswer | Refused::CannotBridge | Refused::Ended => NotConnected::NoAnswer,
                _ => NotConnected::NotJoined,
            });
        }
        // The node of the caller is dead, and the caller leaves the queue soon.
        if cluster.tag().is_some_and(|own| NodeTag::of_id(caller.0) != own) {
            return Err(NotConnected::NoAnswer);
        }
        // Neither leg waits for the other call: the merged call has one task.
        let merged = self.merge(agent, caller).await.is_ok();
        let called = Message::LegEvent(caller, LegEvent::Called { queue, by: agent });
        // If the task of the merged call has ended, both legs have ended.
        match merged && self.post(caller, called) {
            true => Ok(()),
            false if !self.is_live(agent) => Err(NotConnected::NoAgent),
            false => Err(NotConnected::NotJoined),
        }
    }

    /// Joins a leg of this node with a leg of another node.
    pub(crate) async fn join_remote(
        &self,
        leg: LegId,
        other: LegId,
        node: NodeRow,
        wish: RemoteWish,
    ) -> Result<Accepted, Refused> {
        let (reply, answer) = oneshot::channel();
        let info = self.leg_of_node(&node, other).await?.ok_or(Refused::CannotBridge)?;
        let message = Message::JoinRemote { leg, other: Arc::new(info), node: Box::new(node), wish, reply };
        if !self.post(leg, message) {
            return Err(Refused::Ended);
        }
        answer.await.unwrap_or(Err(Refused::Ended))
    }

    /// Asks another node for the state of a live leg. `None` if the leg is not live.
    pub(crate) async fn leg_of_node(&self, node: &NodeRow, leg: LegId) -> Result<Option<LegInfo>, Refused> {
        self.services().cluster.ask(node, &LiveLeg { leg }).await.map_err(|error| {
            tracing::warn!("node {}: the state of leg {leg}: {error}", node.name);
            Refused::NoAnswer
        })
    }

    /// Tells an agent that it gets no caller.
    fn refuse_agent(&self, agent: LegId) {
        let cluster = &self.services().cluster;
        match cluster.other_owner_of(agent.0) {
            None => drop(self.post(agent, Message::LegEvent(agent, LegEvent::DequeueFailed))),
            Some(node) => {
                let cluster = cluster.clone();
                tokio::spawn(async move { cluster.repeat(&node, &RefuseAgent { agent }).await });
            }
        }
    }
}

/// The end of a connection whose other node has ended it, refused it, or is gone.
fn over() -> SignalEvent {
    SignalEvent::Ended(Box::new(SignalEnd::of(SignalEndCause::HungUp)))
}
